//! Runs the examples that print, and compares their output.

// Tells clippy that the helpers here are tests too.
#![cfg(test)]

#[expect(dead_code, reason = "`main` is for the command line")]
#[path = "../examples/embed.rs"]
mod embed;
#[expect(dead_code, reason = "`main` is for the command line")]
#[path = "../examples/manual_clock.rs"]
mod manual_clock;
#[expect(dead_code, reason = "`main` is for the command line")]
#[path = "../examples/multi_tier.rs"]
mod multi_tier;

fn check(out: Vec<u8>, expected: &[&str]) {
    let out = String::from_utf8(out).unwrap();
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn embed_allows_three_denies_two_and_resets() {
    let mut out = Vec::new();
    embed::run(&mut out).unwrap();
    check(
        out,
        &[
            "request 1: allowed",
            "request 2: allowed",
            "request 3: allowed",
            "request 4: denied",
            "request 5: denied",
            "alice has used 3 of 3",
            "allowed again in about a minute: true",
            "after a reset: 0 of 3",
            "3 allowed, 3 denied: 50%",
        ],
    );
}

#[test]
fn manual_clock_walks_through_a_window() {
    let mut out = Vec::new();
    manual_clock::run(&mut out).unwrap();
    check(
        out,
        &["at 0:00:00 here you are", "at 0:59:59 come back later", "at 1:00:00 here you are"],
    );
}

#[test]
fn multi_tier_names_the_limit_that_refuses() {
    let mut out = Vec::new();
    multi_tier::run(&mut out).unwrap();
    check(
        out,
        &[
            "alice asks for gpt-4: allowed, within the limits",
            "alice asks for gpt-4: allowed, within the limits",
            "alice asks for gpt-4: denied, the user's limit for this model is used up",
            "bob asks for gpt-4: allowed, within the limits",
            "carol asks for gpt-4: denied, the model's limit is used up",
            "alice asks for gpt-4-mini: true, within the limits",
            "gpt-4 was used 3 times",
        ],
    );
}
