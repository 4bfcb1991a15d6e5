//! P8, and a constant number of keys: the data in Redis expires.

use tollgate_testkit::redis::RedisServer;

use crate::limits::LONGEST_WINDOW;

/// Counts all keys, and those that expire too late or never. Redis runs it at one instant.
const LOOK: &str = r"
local bad = {}
local keys = redis.call('KEYS', '*')
for _, key in ipairs(keys) do
    local life = redis.call('PTTL', key)
    if life < 0 or life > tonumber(ARGV[1]) then bad[#bad + 1] = key .. ' ' .. life end
end
return {#keys, redis.call('INFO', 'memory'):match('used_memory:(%d+)'), bad}";

/// The keys of Redis at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    pub(crate) count: u64,
    pub(crate) memory_bytes: u64,
    /// Keys without an expiry, or with one later than two windows and a second.
    pub(crate) immortal: Vec<String>,
}

pub(crate) fn look(server: &RedisServer) -> Result<Keys, String> {
    let bound_ms = (2 * LONGEST_WINDOW.as_millis() + 1_000).to_string();
    let mut said = server.try_command(&["EVAL", LOOK, "0", &bound_ms])?.into_iter();
    let mut number =
        || said.next().and_then(|text| text.parse().ok()).ok_or("Redis said no number");
    Ok(Keys { count: number()?, memory_bytes: number()?, immortal: said.collect() })
}
