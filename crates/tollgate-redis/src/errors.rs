//! What an error of Redis means: of which kind it is, and what an operator can do about it.

use redis::{ErrorKind, RedisError, ServerErrorKind};
use tollgate_store::{StoreError, StoreErrorKind};

use crate::link::Link;
use crate::login::without_arguments;
use crate::url::shown;

/// What the scripts say of a key that holds what they did not write.
const FOREIGN_KEY: &str = "TOLLGATE the key ";

/// What servers say of a script whose user lacks a right, in their versions.
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
            // The scripts say it of a log whose hash is not there: if it does not come, it was evicted or deleted.
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
        // Older versions say of errors in scripts only that there was one.
        _ if text.contains(FOREIGN_KEY) || text.contains("WRONGTYPE ") => {
            StoreErrorKind::ForeignKey
        }
        _ if text.contains("unknown command") => StoreErrorKind::Unsupported,
        // What a user lacks of the commands in a script is an error of the script.
        _ if MISSING_RIGHT.iter().any(|said| text.contains(said)) => StoreErrorKind::Forbidden,
        _ => StoreErrorKind::Unexpected,
    }
}

/// Whether a script says that the older part of a log is not where its newer part is.
pub(crate) fn is_part_missing(error: &RedisError) -> bool {
    error.to_string().contains("the older part of the log")
}

/// Whether the server answered that it did not run the command, or failed to.
pub(crate) fn was_refused(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::AuthenticationFailed
    )
}

/// What `error` of `link` is to the caller.
pub(crate) fn store_error(link: &Link, error: &RedisError) -> StoreError {
    let place = format!("Redis at {}", shown(&link.address));
    let kind = kind_of(error);
    let refused = was_refused(error);
    let context = match kind {
        StoreErrorKind::Unreadable => format!("{place} gave an answer that cannot be read"),
        StoreErrorKind::Unexpected if !refused => format!("{place} does not speak the protocol"),
        _ if refused => format!("{place} refused the call"),
        _ => format!("{place} gave no answer"),
    };
    let store_error =
        StoreError::new(kind, context).within(link.domain).caused_by(without_arguments(error));
    with_remedy(if refused { store_error } else { store_error.after_send() })
}

/// `error` with what an operator can do about one of its kind.
pub(crate) fn with_remedy(error: StoreError) -> StoreError {
    match remedy(error.kind()) {
        Some(remedy) => error.with_remedy(remedy),
        None => error,
    }
}

fn remedy(kind: StoreErrorKind) -> Option<&'static str> {
    Some(match kind {
        StoreErrorKind::Unavailable => {
            "check that Redis runs, that this node reaches it, and that it is not overloaded"
        }
        StoreErrorKind::Unauthenticated => "set the user and the password in the URL of the store",
        StoreErrorKind::Forbidden => {
            "grant the rights that docs/REDIS.md lists to the user of the store's URL"
        }
        StoreErrorKind::Unsupported => {
            "allow EVALSHA, SCRIPT LOAD and the commands that docs/REDIS.md lists; Redis 7.0 or later is needed"
        }
        StoreErrorKind::ReadOnly => {
            "point the URL of the store at the primary; behind Sentinels or in a Cluster the new one is found by itself"
        }
        StoreErrorKind::Loading => "wait until Redis has read its data",
        StoreErrorKind::ClusterDown => "look at CLUSTER INFO: some slots have no primary",
        StoreErrorKind::PrimaryLost => "look at the primary of this replica",
        StoreErrorKind::NotPersisting => {
            "look at the disk of Redis: it accepts no writes while it cannot save them"
        }
        StoreErrorKind::OutOfMemory => "raise maxmemory, or find what else fills this Redis",
        StoreErrorKind::TooFewReplicas => "bring the replicas back, or lower min-replicas-to-write",
        StoreErrorKind::Busy => "end the script that runs in Redis: SCRIPT KILL",
        StoreErrorKind::Unexpected => {
            "check that every node runs the same version and that nothing else writes under the prefix"
        }
        StoreErrorKind::ForeignKey => {
            "delete the key, or give the other program that writes it another prefix"
        }
        StoreErrorKind::Unreadable => {
            "check that the URL names a Redis and that nothing between changes its answers"
        }
        _ => return None,
    })
}
