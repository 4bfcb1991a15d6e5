//! What a server says of itself when it is greeted: `HELLO` needs no right and answers everywhere.

use redis::Value;

/// How a server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Standalone,
    Cluster,
    Sentinel,
}

/// What a server says of itself; nothing of what it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) mode: Option<Mode>,
    pub(crate) is_replica: bool,
    /// `redis` or `valkey`, and the version.
    pub(crate) server: String,
    pub(crate) version: String,
}

impl Hello {
    /// Reads the answer of `HELLO`, in either protocol.
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

    /// Whether it is a Redis that lacks what the scripts need. Valkey began with what they need.
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
