//! A limit shared with servers and other processes: `cargo run --example shared --features redis -- redis://127.0.0.1:6379`. Start it
//! several times: together they get three requests a minute.

use std::error::Error;
use std::io;
use std::time::Duration;

use tollgate::shared::{ResilienceOptions, SharedLimiter};
use tollgate::{Amount, Check, Per, Policy, PolicyId, PolicySet, Window};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("name the URL of Redis")?;
    run(&url, &mut io::stdout()).await
}

/// Sends five requests with a limit of three, and prints the results.
pub(crate) async fn run(url: &str, out: &mut impl io::Write) -> Result<(), Box<dyn Error>> {
    let minute = Window::new(Duration::from_mins(1)).ok_or("not a window")?;
    let per = Per::from_scope("USER").ok_or("not a scope")?;
    // A policy with the same id in a server counts in the same window.
    let policy = Policy::new(PolicyId::new("three-a-minute")?, per, Amount::new(3), minute);
    let policies = PolicySet::new(vec![policy])?;
    let limiter = SharedLimiter::redis(url, policies, &ResilienceOptions::default()).await?;
    for n in 1..=5 {
        let decision = limiter.check(&Check::new("alice", "gpt-4")).await?;
        let answer = if decision.allowed() { "allowed" } else { "denied" };
        // Without Redis, the failure mode of each limit decides: it allows unless you choose otherwise.
        let how = if decision.degraded() { ", without Redis" } else { "" };
        writeln!(out, "request {n}: {answer}{how}")?;
    }
    Ok(())
}
