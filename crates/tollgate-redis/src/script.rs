//! The scripts, assembled from the files of `lua/`, and their digests.

use std::collections::HashMap;
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
    fn new(text: &str) -> Self {
        // Once per script and process.
        let text: &'static str = with_constants(text).leak();
        Self { text, digest: redis::Script::new(text).get_hash().to_owned() }
    }
}

/// `text` with the values of its constants in place of their names. Lua would keep them as variables, and every function that
/// uses one costs the time to find it, in every call.
fn with_constants(text: &str) -> String {
    let is_name = |name: &str| name.bytes().all(|c| c.is_ascii_uppercase() || c == b'_');
    let is_value = |value: &str| value.starts_with('\'') || value.parse::<u64>().is_ok();
    let mut constants = HashMap::new();
    let mut rest = String::with_capacity(text.len());
    for line in text.lines() {
        let defined = line.trim().strip_prefix("local ").and_then(|line| line.split_once(" = "));
        let pairs = defined.map(|(names, values)| (names.split(", "), values.split(", ")));
        match pairs {
            Some((names, values))
                if names.clone().all(is_name)
                    && values.clone().all(is_value)
                    && names.clone().count() == values.clone().count() =>
            {
                constants.extend(names.zip(values));
            }
            _ => rest.extend([line, "\n"]),
        }
    }
    let is_in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut replaced = String::with_capacity(rest.len());
    let mut left = rest.as_str();
    while let Some(start) = left.find(is_in_name) {
        let (before, from) = left.split_at(start);
        let (name, after) = from.split_at(from.find(|c| !is_in_name(c)).unwrap_or(from.len()));
        replaced.extend([before, constants.get(name).copied().unwrap_or(name)]);
        left = after;
    }
    replaced + left
}

/// What every script that decides checks begins with; `$more` is added to the functions for counters, buckets and calendars.
macro_rules! deciding {
    ($more:expr) => {
        concat!(
            include_str!("../lua/layout.lua"),
            "local function make_long()\n",
            include_str!("../lua/hash.lua"),
            include_str!("../lua/long.lua"),
            "end\n",
            include_str!("../lua/request.lua"),
            "local function make_tallies(now_s, now_ns)\n",
            include_str!("../lua/tally.lua"),
            include_str!("../lua/counter.lua"),
            include_str!("../lua/bucket.lua"),
            include_str!("../lua/calendar.lua"),
            $more,
            "end\n",
            include_str!("../lua/decide.lua"),
        )
    };
}

/// What changes counters, buckets and calendars, for [`deciding`].
macro_rules! changing_tallies {
    () => {
        concat!(
            include_str!("../lua/change_tally.lua"),
            "return read_counter, read_bucket_at, read_period, change_tally\n",
        )
    };
}

/// What changes admissions, after what [`changing_tallies`] is in.
macro_rules! changing {
    () => {
        concat!(
            "local function make_change()\n",
            include_str!("../lua/hash.lua"),
            include_str!("../lua/change_rare.lua"),
            "end\n",
            include_str!("../lua/change_log.lua"),
            include_str!("../lua/change.lua"),
        )
    };
}

/// What no other script than those of leases adds to [`deciding`].
macro_rules! only_reading {
    () => {
        "return read_counter, read_bucket_at, read_period\n"
    };
}

/// Decides and charges checks.
pub(crate) static CHARGE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(deciding!(only_reading!()), include_str!("../lua/charge.lua")))
});

/// What gives back what expired leases hold, after what [`changing_tallies`] is in.
macro_rules! refunding {
    () => {
        concat!(changing!(), include_str!("../lua/refund.lua"))
    };
}

/// The same as [`CHARGE`], for checks of limits that give back what expired leases hold.
pub(crate) static CHARGE_AND_REFUND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        deciding!(changing_tallies!()),
        refunding!(),
        include_str!("../lua/refund_first.lua"),
        include_str!("../lua/charge.lua"),
    ))
});

/// Decides a check and makes a lease of it.
pub(crate) static RESERVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        deciding!(only_reading!()),
        include_str!("../lua/slots.lua"),
        include_str!("../lua/reserve.lua"),
    ))
});

/// The same for limits that give back what expired leases hold.
pub(crate) static RESERVE_AND_REFUND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        deciding!(changing_tallies!()),
        refunding!(),
        include_str!("../lua/refund_first.lua"),
        include_str!("../lua/slots.lua"),
        include_str!("../lua/reserve.lua"),
    ))
});

/// Changes a lease.
pub(crate) static UPDATE_LEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        deciding!(changing_tallies!()),
        refunding!(),
        include_str!("../lua/slots.lua"),
        include_str!("../lua/update_lease.lua"),
    ))
});

/// Changes or refunds one admission.
pub(crate) static SETTLE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("../lua/layout.lua"),
        include_str!("../lua/request.lua"),
        "local function make_tallies(now_s, now_ns)\n",
        include_str!("../lua/tally.lua"),
        include_str!("../lua/counter.lua"),
        include_str!("../lua/bucket.lua"),
        include_str!("../lua/calendar.lua"),
        changing_tallies!(),
        "end\n",
        changing!(),
        include_str!("../lua/settle.lua"),
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
