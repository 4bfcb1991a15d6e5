//! Classifies errors of Redis and says what an operator can do about each kind.

use redis::{ErrorKind, RedisError, ServerErrorKind};
use tollgate_store::{StoreError, StoreErrorKind};

use crate::link::Link;
use crate::login::without_arguments;
use crate::url::shown;

/// The beginning of the scripts' error about a key that holds a foreign value.
const FOREIGN_KEY: &str = "TOLLGATE the key ";

/// The beginning of an error of Lua itself, as opposed to one of a command or one that a script raises.
const LUA: &str = "user_script:";

/// How the different server versions report that the script's user lacks a right.
const MISSING_RIGHT: [&str; 3] = ["NOPERM", "ACL failure", "The user executing the script can't"];

/// The kind of `error`.
pub(crate) fn kind_of(error: &RedisError) -> StoreErrorKind {
    match error.kind() {
        ErrorKind::AuthenticationFailed => return StoreErrorKind::Unauthenticated,
        ErrorKind::Server(kind) => match kind {
            ServerErrorKind::BusyLoading => return StoreErrorKind::Loading,
            ServerErrorKind::ClusterDown => return StoreErrorKind::ClusterDown,
            ServerErrorKind::MasterDown => return StoreErrorKind::PrimaryLost,
            ServerErrorKind::ReadOnly => return StoreErrorKind::ReadOnly,
            ServerErrorKind::NoPerm => return StoreErrorKind::Forbidden,
            // The scripts return it if the hash of a log is missing. If retries do not find it, it was evicted or
            // deleted.
            ServerErrorKind::TryAgain if is_part_missing(error) => {
                return StoreErrorKind::ForeignKey;
            }
            ServerErrorKind::TryAgain
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask
            | ServerErrorKind::NoScript => return StoreErrorKind::Unavailable,
            _ => {}
        },
        ErrorKind::Extension => {}
        ErrorKind::Parse => return StoreErrorKind::Unexpected,
        ErrorKind::UnexpectedReturnType => return StoreErrorKind::Unreadable,
        _ => return StoreErrorKind::Unavailable,
    }
    let text = error.to_string();
    match error.code() {
        Some("NOAUTH" | "WRONGPASS") => StoreErrorKind::Unauthenticated,
        Some("NOPERM") => StoreErrorKind::Forbidden,
        Some("MISCONF") => StoreErrorKind::NotPersisting,
        Some("OOM") => StoreErrorKind::OutOfMemory,
        Some("NOREPLICAS") => StoreErrorKind::TooFewReplicas,
        Some("BUSY") => StoreErrorKind::Busy,
        Some("WRONGTYPE" | "TOLLGATE") => StoreErrorKind::ForeignKey,
        // Older versions do not pass on the kind of an error in a script.
        _ if text.contains(FOREIGN_KEY) || text.contains("WRONGTYPE ") => {
            StoreErrorKind::ForeignKey
        }
        // The scripts do the same for every key, so what one of the keys holds has led to it. Lua errors come before
        // the first write.
        _ if is_lua_error(error) => StoreErrorKind::ForeignKey,
        _ if text.contains("unknown command") => StoreErrorKind::Unsupported,
        // If the user lacks a right for a command in a script, the server reports a script error.
        _ if MISSING_RIGHT.iter().any(|said| text.contains(said)) => StoreErrorKind::Forbidden,
        _ => StoreErrorKind::Unexpected,
    }
}

fn is_lua_error(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.starts_with(LUA))
}

/// Whether a script reports that the older part of a log is missing.
pub(crate) fn is_part_missing(error: &RedisError) -> bool {
    error.to_string().contains("the older part of the log")
}

/// Whether a script says which key led to `error`.
fn names_its_key(error: &RedisError) -> bool {
    error.to_string().contains("the key ") || is_part_missing(error)
}

/// Whether the server answered with an error, so that it did not run the command or failed in it.
pub(crate) fn was_refused(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::AuthenticationFailed
    )
}

/// Converts `error` of `link` for the caller. `keys` are those of the call.
pub(crate) fn store_error(link: &Link, error: &RedisError, keys: &[&str]) -> StoreError {
    let place = format!("Redis at {}", shown(&link.address));
    let kind = kind_of(error);
    let refused = was_refused(error);
    let context = match kind {
        StoreErrorKind::Unreadable => {
            format!("{place} returned a reply that Tollgate cannot parse")
        }
        StoreErrorKind::Unexpected if !refused => {
            format!("{place} does not speak the Redis protocol")
        }
        StoreErrorKind::ForeignKey if !names_its_key(error) => {
            format!("{place} holds an unexpected value under {}", named(keys))
        }
        _ if refused => format!("{place} refused the call"),
        _ => format!("{place} did not answer"),
    };
    let store_error =
        StoreError::new(kind, context).within(link.domain).caused_by(without_arguments(error));
    with_remedy(if refused { store_error } else { store_error.after_send() })
}

/// The keys of a call, one of which led to an error.
pub(crate) fn named(keys: &[&str]) -> String {
    match keys {
        [key] => format!("the key {key}"),
        _ => format!("one of the keys {}", keys.join(", ")),
    }
}

/// Adds what an operator can do about this kind of error to `error`.
pub(crate) fn with_remedy(error: StoreError) -> StoreError {
    match remedy(error.kind()) {
        Some(remedy) => error.with_remedy(remedy),
        None => error,
    }
}

fn remedy(kind: StoreErrorKind) -> Option<&'static str> {
    Some(match kind {
        StoreErrorKind::Unavailable => {
            "check that Redis is running, that this node can reach it, and that it is not overloaded"
        }
        StoreErrorKind::Unauthenticated => {
            "check the user and the password in the URL of the store"
        }
        StoreErrorKind::Forbidden => {
            "grant the rights that docs/REDIS.md lists to the user of the store's URL"
        }
        StoreErrorKind::Unsupported => {
            "allow EVALSHA, SCRIPT LOAD and the commands that docs/REDIS.md lists; Redis 7.0 or later is needed"
        }
        StoreErrorKind::ReadOnly => {
            "point the URL of the store at the primary; behind Sentinels or in a Cluster, Tollgate finds the new primary automatically"
        }
        StoreErrorKind::Loading => "wait until Redis has loaded its data",
        StoreErrorKind::ClusterDown => {
            "some slots of the Cluster have no primary: check CLUSTER INFO and restart or replace the failed servers"
        }
        StoreErrorKind::PrimaryLost => "check the primary of this replica",
        StoreErrorKind::NotPersisting => {
            "check the disk of Redis: it accepts no writes while it cannot save them"
        }
        StoreErrorKind::OutOfMemory => {
            "raise maxmemory, or find out what else uses the memory of this Redis"
        }
        StoreErrorKind::TooFewReplicas => "bring the replicas back, or lower min-replicas-to-write",
        StoreErrorKind::Busy => {
            "stop the script that is running in Redis, for example with SCRIPT KILL"
        }
        StoreErrorKind::Unexpected => {
            "check that every node runs the same version and that nothing else writes under the prefix"
        }
        StoreErrorKind::ForeignKey => {
            "delete the key, or change the prefix of the other program that writes it"
        }
        StoreErrorKind::Unreadable => {
            "delete the keys of the check; if all checks fail, check that no proxy changes the replies of Redis"
        }
        _ => return None,
    })
}
