//! How to test code with limits without waiting for a window: `cargo run --example manual_clock`.

use std::error::Error;
use std::io;
use std::time::Duration;

use tollgate::{Clock, ManualClock, RateLimiter};

/// The code under test accepts a limiter with any clock.
fn answer<C: Clock>(limiter: &RateLimiter<C>, user: &str) -> &'static str {
    if limiter.allow(user, "gpt-4") { "here you are" } else { "come back later" }
}

fn main() -> Result<(), Box<dyn Error>> {
    run(&mut io::stdout().lock())
}

/// Moves through one window.
pub(crate) fn run(out: &mut impl io::Write) -> Result<(), Box<dyn Error>> {
    let clock = ManualClock::default();
    let limiter =
        RateLimiter::builder(1, Duration::from_hours(1)).build_with_clock(clock.clone())?;
    writeln!(out, "at 0:00:00 {}", answer(&limiter, "alice"))?;
    clock.advance(Duration::from_secs(3_599));
    writeln!(out, "at 0:59:59 {}", answer(&limiter, "alice"))?;
    clock.advance(Duration::from_secs(1));
    writeln!(out, "at 1:00:00 {}", answer(&limiter, "alice"))?;
    Ok(())
}
