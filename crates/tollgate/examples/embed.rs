//! One limit per user and model: `cargo run --example embed`.

use std::io;
use std::time::Duration;

use tollgate::RateLimiter;

fn main() -> io::Result<()> {
    run(&mut io::stdout().lock())
}

/// Sends five requests with a limit of three, and prints the results.
pub(crate) fn run(out: &mut impl io::Write) -> io::Result<()> {
    let limiter = RateLimiter::new(3, Duration::from_mins(1));
    for n in 1..=5 {
        let allowed = limiter.allow("alice", "gpt-4");
        writeln!(out, "request {n}: {}", if allowed { "allowed" } else { "denied" })?;
    }
    writeln!(out, "alice has used {} of 3", limiter.request_count("alice", "gpt-4"))?;

    let decision = limiter.check("alice", "gpt-4");
    let waits = decision.retry_after_ms().is_some_and(|ms| (59_000..=60_000).contains(&ms));
    writeln!(out, "allowed again in about a minute: {waits}")?;

    limiter.reset_user("alice");
    writeln!(out, "after a reset: {} of 3", limiter.request_count("alice", "gpt-4"))?;

    let metrics = limiter.metrics();
    let percent = 100.0 * metrics.deny_rate();
    writeln!(out, "{} allowed, {} denied: {percent:.0}%", metrics.allowed, metrics.denied)
}
