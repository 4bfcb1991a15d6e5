//! Real proxies in front of the real server. `scripts/setup tests` installs them; without them these tests fail.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here fails the test"
)]

mod envoy;
mod nginx;
mod support;
