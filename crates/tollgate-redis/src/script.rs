//! The scripts, assembled from the files of `lua/`, and their digests.

use std::sync::LazyLock;

/// A script and the digest by which Redis knows it.
#[derive(Debug)]
pub(crate) struct Script {
    /// Its text.
    pub(crate) text: &'static str,
    /// The SHA-1 of its text, in hexadecimal.
    pub(crate) digest: String,
}

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, digest: redis::Script::new(text).get_hash().to_owned() }
    }
}

/// Decides and charges checks.
pub(crate) static CHARGE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("../lua/layout.lua"),
        "local function make_long()\n",
        include_str!("../lua/hash.lua"),
        include_str!("../lua/long.lua"),
        "end\n",
        "local function make_tallies(now_s, now_ns)\n",
        include_str!("../lua/tally.lua"),
        include_str!("../lua/counter.lua"),
        include_str!("../lua/bucket.lua"),
        include_str!("../lua/calendar.lua"),
        "return read_counter, read_bucket_at, read_period\nend\n",
        include_str!("../lua/charge.lua"),
    ))
});

/// Changes or refunds one admission.
pub(crate) static SETTLE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("../lua/layout.lua"),
        include_str!("../lua/hash.lua"),
        include_str!("../lua/tally.lua"),
        include_str!("../lua/change.lua"),
    ))
});

/// Clears the usage of one limit.
pub(crate) static RESET: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("../lua/layout.lua"),
        include_str!("../lua/hash.lua"),
        include_str!("../lua/reset.lua")
    ))
});

/// Compares what all nodes must have in common.
pub(crate) static AGREE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("../lua/agree.lua")));

/// Tries commands, to find out whether the user has the rights for them.
pub(crate) static PROBE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("../lua/probe.lua")));
