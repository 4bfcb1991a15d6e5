//! The description that a server gives in its answer to `HELLO`, which needs no right and works on every server.

use redis::Value;

/// The mode of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Standalone,
    Cluster,
    Sentinel,
}

/// The answer of a server; fields that it does not report are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) mode: Option<Mode>,
    pub(crate) is_replica: bool,
    /// `redis` or `valkey`, and the version.
    pub(crate) server: String,
    pub(crate) version: String,
}

impl Hello {
    /// Parses the answer of `HELLO`, in either protocol version.
    pub(crate) fn read(answer: &Value) -> Self {
        let mut hello = Self::default();
        let mut take = |name: &Value, value: &Value| {
            let (Some(name), Some(value)) = (text(name), text(value)) else { return };
            match name {
                "server" => value.clone_into(&mut hello.server),
                "version" => value.clone_into(&mut hello.version),
                "role" => hello.is_replica = matches!(value, "replica" | "slave"),
                "mode" => {
                    hello.mode = match value {
                        "standalone" => Some(Mode::Standalone),
                        "cluster" => Some(Mode::Cluster),
                        "sentinel" => Some(Mode::Sentinel),
                        _ => None,
                    }
                }
                _ => {}
            }
        };
        match answer {
            Value::Map(fields) => fields.iter().for_each(|(name, value)| take(name, value)),
            Value::Array(fields) => {
                fields.chunks_exact(2).for_each(|field| take(&field[0], &field[1]));
            }
            _ => {}
        }
        hello
    }

    /// Whether it is a Redis that is too old for the scripts. Every version of Valkey is new enough.
    pub(crate) fn is_too_old(&self) -> bool {
        const OLDEST: u32 = 7;
        let major = self.version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        self.server == "redis" && major.is_some_and(|major| major < OLDEST)
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_redis_is_known_and_no_valkey_is_old() {
        let old = |server: &str, version: &str| {
            let (server, version) = (server.to_owned(), version.to_owned());
            Hello { server, version, ..Hello::default() }.is_too_old()
        };
        assert!(old("redis", "6.2.14"));
        assert!(!old("redis", "7.0.15") && !old("redis", "255.255.255") && !old("redis", ""));
        assert!(!old("valkey", "1.0.0"));
    }
}
