//! The scripts, put together from the files of `lua/`, and their digests.

use std::sync::LazyLock;

/// A script and the digest that Redis knows it by.
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

/// Decides and charges.
pub(crate) static CHARGE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("../lua/head.lua"),
        // Parameters, not upvalues: to make a function costs as much again for each upvalue that it has.
        "local function make_other(call, pack, unpack, STAMPS, FIRST_BYTES, HEADER_BYTES, CHUNK_ENTRIES, ",
        "charging, now_s, now_ns)\n",
        include_str!("../lua/log.lua"),
        include_str!("../lua/other.lua"),
        "end\n",
        include_str!("../lua/charge.lua"),
    ))
});

/// Changes or takes back one admission.
pub(crate) static SETTLE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        "local call, pack, unpack = redis.call, struct.pack, struct.unpack\n",
        "local STAMPS, FIRST_BYTES, HEADER_BYTES, CHUNK_ENTRIES = 4294967296, 1024, 32, 64\n",
        include_str!("../lua/log.lua"),
        include_str!("../lua/settle.lua"),
    ))
});

/// Forgets the usage of one limit.
pub(crate) static RESET: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("../lua/reset.lua")));
