//! The rights that a user of Redis needs: one list, which the guide shows and the start verifies.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind};

use crate::script::PROBE;
use crate::url::{Deployment, RedisUrl};

/// Stands for the key in the arguments of [`IN_SCRIPTS`].
const THE_KEY: &str = "KEY";
/// Stands for the channel.
const THE_CHANNEL: &str = "CHANNEL";

/// The commands of the scripts, with arguments to try them. In this order no key remains: first commands that read or
/// delete; then commands that fail because of their arguments once they are permitted; then a key that expires after a
/// second, which is deleted.
const IN_SCRIPTS: [(&str, &[&str]); 20] = [
    ("time", &[]),
    ("get", &[THE_KEY]),
    ("getrange", &[THE_KEY, "0", "0"]),
    ("hget", &[THE_KEY, "f"]),
    ("hlen", &[THE_KEY]),
    ("hmget", &[THE_KEY, "f"]),
    ("hdel", &[THE_KEY, "f"]),
    ("zcard", &[THE_KEY]),
    ("zcount", &[THE_KEY, "0", "0"]),
    ("zrange", &[THE_KEY, "0", "0"]),
    ("zrem", &[THE_KEY, "m"]),
    ("zremrangebyrank", &[THE_KEY, "0", "0"]),
    ("pexpire", &[THE_KEY, "1000"]),
    ("publish", &[THE_CHANNEL, ""]),
    ("setrange", &[THE_KEY, "-1", "x"]),
    ("hset", &[THE_KEY, "f", "v", "no value"]),
    ("zadd", &[THE_KEY, "no number", "m"]),
    ("set", &[THE_KEY, "x", "PX", "1000"]),
    ("unlink", &[THE_KEY]),
    ("del", &[THE_KEY]),
];
/// The other commands on a connection.
const ON_CONNECTIONS: [&str; 6] = ["evalsha", "script|load", "subscribe", "info", "ping", "scan"];
/// The commands needed in a Cluster.
const IN_CLUSTERS: [&str; 2] = ["cluster|slots", "asking"];
/// The commands needed at a primary that Sentinels name.
const BEHIND_SENTINELS: [&str; 1] = ["role"];
/// The commands needed for a database other than 0.
const IN_DATABASES: [&str; 1] = ["select"];

/// The least rights that a user needs for the store at `url`, in the syntax of `ACL SETUSER`.
pub fn least_rights(url: &RedisUrl) -> String {
    let mut commands: Vec<&str> = ON_CONNECTIONS.to_vec();
    commands.extend(IN_SCRIPTS.map(|(name, _)| name));
    commands.extend(more_commands(url));
    let commands: Vec<_> = commands.iter().map(|command| format!("+{command}")).collect();
    let (keys, channels) = (Lack::Keys.right(&url.prefix), Lack::Channels.right(&url.prefix));
    format!("{keys} {channels} -@all {}", commands.join(" "))
}

fn more_commands(url: &RedisUrl) -> Vec<&'static str> {
    let mut more: Vec<&str> = match url.deployment {
        Deployment::Single => Vec::new(),
        Deployment::Sentinel { .. } => BEHIND_SENTINELS.to_vec(),
        Deployment::Cluster => IN_CLUSTERS.to_vec(),
    };
    if url.database != 0 {
        more.extend(IN_DATABASES);
    }
    more
}

/// A right that a user lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    Command(String),
    Keys,
    Channels,
}

impl Lack {
    /// What a user who ran `command` lacks, according to `error`; `None` if the error is about something else.
    ///
    /// Redis and Valkey report it with an error code for a single command, and in words without a code from within a
    /// script.
    pub(crate) fn of(command: &str, error: &str) -> Option<Self> {
        const TOLD_BY: [&str; 3] = ["NOPERM", "ACL failure in script", "The user executing the"];
        if !TOLD_BY.iter().any(|told| error.contains(told)) {
            return None;
        }
        // Check this first, because the name of a user may contain the other words.
        Some(if error.contains("to run the '") || error.contains("can't run this") {
            Self::Command(command.to_owned())
        } else if error.contains("channel") {
            Self::Channels
        } else if error.contains("key") {
            Self::Keys
        } else {
            Self::Command(command.to_owned())
        })
    }

    /// The words of `ACL SETUSER` that grant it.
    pub(crate) fn right(&self, prefix: &str) -> String {
        match self {
            Self::Command(name) => format!("+{name}"),
            Self::Keys => format!("~{}*", pattern(prefix)),
            Self::Channels => format!("&{}*", pattern(prefix)),
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(name) => f.write_str(&name.to_uppercase().replace('|', " ")),
            Self::Keys => f.write_str("its keys"),
            Self::Channels => f.write_str("its channel"),
        }
    }
}

/// `text` as a glob pattern that matches only itself.
pub(crate) fn pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// An unused key with `prefix`. It is random, so that two nodes that start at once do not use the same one.
pub(crate) fn probe_key(prefix: &str, number: u32) -> String {
    let random = RandomState::new().hash_one(number);
    format!("{prefix}probe-{random:016x}")
}

/// The arguments with which [`PROBE`] tries everything on a key that nobody uses.
pub(crate) fn probe_arguments(key: &str, channel: &str) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (name, arguments) in IN_SCRIPTS {
        all.push((1 + arguments.len()).to_string().into_bytes());
        all.push(name.into());
        all.extend(arguments.iter().map(|argument| match *argument {
            THE_KEY => key.into(),
            THE_CHANNEL => channel.into(),
            other => other.into(),
        }));
    }
    all
}

/// The command that tries everything on `key`, which nobody else uses.
pub(crate) fn probe(key: &str, channel: &str) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(&PROBE.digest).arg(1).arg(key).arg(probe_arguments(key, channel));
    command
}

/// The command that loads [`probe`].
pub(crate) fn load_probe() -> Cmd {
    let mut command = redis::cmd("SCRIPT");
    command.arg("LOAD").arg(PROBE.text);
    command
}

/// What the answer of [`probe`] says is missing or unknown.
pub(crate) fn lacks(answer: &[String]) -> (Vec<Lack>, Vec<String>) {
    let (mut lacks, mut unknown) = (Vec::new(), Vec::new());
    for told in answer.chunks_exact(2) {
        let (name, error) = (&told[0], &told[1]);
        if let Some(lack) = Lack::of(name, error) {
            if !lacks.contains(&lack) {
                lacks.push(lack);
            }
        } else if error.contains("command called from script") {
            unknown.push(name.clone());
        }
    }
    (lacks, unknown)
}

/// Whether Redis does not know a command, because it was renamed or comes from a later version.
pub(crate) fn is_unknown_command(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::ResponseError)
        && error.to_string().contains("unknown command")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const GUIDE: &str = include_str!("../../../docs/REDIS.md");
    const SCRIPTS: [&str; 20] = [
        include_str!("../lua/layout.lua"),
        include_str!("../lua/hash.lua"),
        include_str!("../lua/long.lua"),
        include_str!("../lua/request.lua"),
        include_str!("../lua/tally.lua"),
        include_str!("../lua/counter.lua"),
        include_str!("../lua/bucket.lua"),
        include_str!("../lua/calendar.lua"),
        include_str!("../lua/decide.lua"),
        include_str!("../lua/charge.lua"),
        include_str!("../lua/change_tally.lua"),
        include_str!("../lua/change_log.lua"),
        include_str!("../lua/change_rare.lua"),
        include_str!("../lua/change.lua"),
        include_str!("../lua/settle.lua"),
        include_str!("../lua/reset.lua"),
        include_str!("../lua/slots.lua"),
        include_str!("../lua/reserve.lua"),
        include_str!("../lua/update_lease.lua"),
        include_str!("../lua/probe.lua"),
    ];

    fn rights(url: &str) -> BTreeSet<String> {
        let rights = least_rights(&url.parse().unwrap());
        rights.split_whitespace().map(str::to_owned).collect()
    }

    /// The line in the guide has the rights that the start verifies.
    #[test]
    fn the_guide_gives_the_least_rights() {
        let (_, line) = GUIDE.split_once("ACL SETUSER tollgate on >PASSWORD").unwrap();
        let (line, rest) = line.split_once("```").unwrap();
        let told: BTreeSet<String> = line.split_whitespace().map(str::to_owned).collect();
        assert_eq!(told, rights("redis://h"));
        let more = |url| -> Vec<_> { rights(url).difference(&told).cloned().collect() };
        for url in ["redis-cluster://h", "redis-sentinel://h/m", "redis://h/1"] {
            let more = more(url);
            assert!(!more.is_empty(), "{url}");
            for right in more {
                assert!(rest.contains(&format!("`{right}`")), "{right} in docs/REDIS.md");
            }
        }
    }

    /// If a script used another command, it would fail for a user with the least rights.
    #[test]
    fn the_scripts_do_nothing_else() {
        let known = IN_SCRIPTS.map(|(name, _)| name);
        let mut found = 0;
        for script in SCRIPTS {
            // `call('GET', …)` and `redis.pcall("GET", …)`, or `{ 'GET', … }` for later.
            let calls = script.split("call(").skip(1).chain(script.split("{ ").skip(1));
            for call in calls {
                let Some(quote) = call.chars().next().filter(|c| matches!(c, '\'' | '"')) else {
                    continue;
                };
                let name = call[1..].split(quote).next().unwrap();
                // Not the name of a field.
                if !name.chars().all(|c| c.is_ascii_uppercase()) {
                    continue;
                }
                let name = name.to_lowercase();
                assert!(known.contains(&&*name), "{name}");
                found += 1;
            }
        }
        assert!(found > 20, "{found} calls");
    }

    #[test]
    fn what_is_missing_is_read_from_the_words_of_both_servers() {
        let command = Some(Lack::Command("get".to_owned()));
        let cases = [
            ("NOPERM this user has no permissions to run the 'get' command", command.clone()),
            ("NOPERM User monkey has no permissions to run the 'get' command", command.clone()),
            (
                "ERR The user executing the script can't run this command or subcommand",
                command.clone(),
            ),
            (
                "ERR ACL failure in script: User u has no permissions to run the 'get' command",
                command,
            ),
            (
                "ERR The user executing the script can't access at least one of the keys mentioned",
                Some(Lack::Keys),
            ),
            ("NOPERM No permissions to access a key", Some(Lack::Keys)),
            (
                "NOPERM this user has no permissions to access one of the keys used as arguments",
                Some(Lack::Keys),
            ),
            (
                "ERR The user executing the script can't publish to the channel mentioned",
                Some(Lack::Channels),
            ),
            ("ERR ACL failure in script: No permissions to access a channel", Some(Lack::Channels)),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Lack::of("get", text), expected, "{text}");
        }
        assert_eq!(Lack::Keys.right("a*[b]"), r"~a\*\[b\]*");
    }
}
