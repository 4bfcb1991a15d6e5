//! A limit for each user and one for each model, by the model's tier: `cargo run --example multi_tier`.

use std::error::Error;
use std::io;

use tollgate::{MultiTierRateLimiter, Quota};

fn main() -> Result<(), Box<dyn Error>> {
    run(&mut io::stdout().lock())
}

/// Three users share a model; each may send 2 requests, and all together 3.
pub(crate) fn run(out: &mut impl io::Write) -> Result<(), Box<dyn Error>> {
    let limiter = MultiTierRateLimiter::builder(Quota::per_hour(100), Quota::per_hour(10_000))
        .tier("premium", Quota::per_hour(2), Quota::per_hour(3))
        .tier("small", Quota::per_minute(1_000), Quota::per_minute(50_000))
        .model("gpt-4", "premium")
        .model("gpt-4-mini", "small")
        .build()?;
    for user in ["alice", "alice", "alice", "bob", "carol"] {
        let (allowed, reason) = limiter.allow(user, "gpt-4");
        let answer = if allowed { "allowed" } else { "denied" };
        writeln!(out, "{user} asks for gpt-4: {answer}, {reason}")?;
    }
    let (allowed, reason) = limiter.allow("alice", "gpt-4-mini");
    writeln!(out, "alice asks for gpt-4-mini: {allowed}, {reason}")?;
    writeln!(out, "gpt-4 was used {} times", limiter.model_request_count("gpt-4"))?;
    Ok(())
}
