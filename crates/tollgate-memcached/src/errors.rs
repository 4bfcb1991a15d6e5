//! Classifies what memcached answers, and says what an operator can do about each kind.

use tollgate_store::{StoreError, StoreErrorKind};

/// The kind of a refusal: a line that begins with `ERROR`, `CLIENT_ERROR` or `SERVER_ERROR`.
pub(crate) fn kind_of(refusal: &str) -> StoreErrorKind {
    let says = |text: &str| refusal.contains(text);
    if says("open connections") {
        StoreErrorKind::Unavailable
    } else if says("out of memory") {
        StoreErrorKind::OutOfMemory
    } else if says("unauthenticated") {
        StoreErrorKind::Unauthenticated
    } else if refusal == "ERROR" || says("invalid flag") || says("unknown command") {
        StoreErrorKind::Unsupported
    } else {
        StoreErrorKind::Unexpected
    }
}

/// The error of a command that memcached at `place` refused.
pub(crate) fn refused(place: &str, refusal: &str) -> StoreError {
    let context = format!("memcached at {place} refused the command");
    with_remedy(StoreError::new(kind_of(refusal), context).caused_by(refusal.to_owned()))
}

/// The error of a key whose value Tollgate did not write.
pub(crate) fn foreign(place: &str, key: &str) -> StoreError {
    let context = format!("memcached at {place} holds an unexpected value under the key {key}");
    with_remedy(StoreError::new(StoreErrorKind::ForeignKey, context))
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
            "check that memcached is running, that this node can reach it, and that it is not overloaded"
        }
        StoreErrorKind::Unauthenticated => {
            "start memcached without authentication (-S or -Y) and let only Tollgate's nodes reach it: Tollgate does not log in"
        }
        StoreErrorKind::Unsupported => "use memcached 1.6.18 or later, started without -C",
        StoreErrorKind::OutOfMemory => {
            "give memcached more memory (-m), or keep other data elsewhere"
        }
        StoreErrorKind::Unexpected => {
            "check that the URL of the store leads to a memcached, and that every node runs the same version"
        }
        StoreErrorKind::ForeignKey => {
            "delete the key, or give the other program that writes it another prefix"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_classified() {
        for (line, kind) in [
            ("SERVER_ERROR out of memory storing object", StoreErrorKind::OutOfMemory),
            ("SERVER_ERROR out of memory writing get response", StoreErrorKind::OutOfMemory),
            ("CLIENT_ERROR unauthenticated", StoreErrorKind::Unauthenticated),
            ("ERROR", StoreErrorKind::Unsupported),
            ("CLIENT_ERROR invalid flag", StoreErrorKind::Unsupported),
            ("ERROR Too many open connections", StoreErrorKind::Unavailable),
            ("SERVER_ERROR object too large for cache", StoreErrorKind::Unexpected),
        ] {
            assert_eq!(kind_of(line), kind, "{line}");
            assert!(refused("h:1", line).remedy().is_some(), "{line}");
        }
    }
}
