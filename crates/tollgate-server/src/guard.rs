//! Decides who may use the admin calls: callers with a valid token. Tokens are compared in constant time, and guesses
//! are rate limited.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, Method, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tollgate_catalog::directory::Actor;
use tollgate_core::counting::Wait;
use tollgate_core::{Amount, Attribute, Charge, Limit, Per, Policy, PolicyId, Subject, Window};
use tollgate_store::MemoryStore;
use tollgate_store::memory::MemoryStoreOptions;

use crate::config::{AdminToken, Role};

/// Wrong tokens that one address may give in [`GUESSES_WINDOW`].
const GUESSES: u64 = 10;
const GUESSES_WINDOW: Duration = Duration::from_mins(1);
/// The most addresses whose wrong tokens are counted.
const MAX_GUESSERS: usize = 100_000;
/// A longer token is rejected without hashing it, unless a configured token is longer. This bounds the cost of a guess.
const MAX_TOKEN_BYTES: usize = 4 << 10;

/// The `POST` calls that change nothing.
const READ_ONLY_POSTS: [&str; 3] = ["/admin/explain", "/admin/policies/validate", "/admin/what-if"];

impl Role {
    /// The role that a call of `method` at `path` needs.
    pub(crate) fn needed(method: &Method, path: &str) -> Self {
        match *method {
            Method::GET | Method::HEAD => Self::Read,
            Method::POST if READ_ONLY_POSTS.contains(&path) => Self::Read,
            _ => Self::Write,
        }
    }
}

/// Why a call is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal {
    /// There is no token, or a wrong one.
    Unauthorized,
    /// The token may only read.
    Forbidden,
    /// Too many wrong tokens came from the address.
    TooManyGuesses(Wait),
}

/// Admits callers with a valid token, and limits wrong tokens per address, with Tollgate's own in-memory store.
///
/// A valid token is admitted however many wrong tokens came from its address: behind a proxy all callers have one
/// address, and a program with an old token must not lock out the administrators. Tokens are too long to be guessed at
/// any speed; the limit only keeps the log short and rejections cheap.
pub(crate) struct Guard {
    bearers: Vec<Bearer>,
    max_token_bytes: usize,
    guesses: MemoryStore,
    limit: Arc<Limit>,
}

/// The owner of a token.
struct Bearer {
    digest: [u8; 32],
    actor: Actor,
    role: Role,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

impl Guard {
    /// A guard for these tokens; `None` if its own limit is invalid, which its constants rule out.
    pub(crate) fn new(tokens: impl IntoIterator<Item = AdminToken>) -> Option<Self> {
        let (id, per) = (PolicyId::new("admin-guesses").ok()?, Per::from_scope("IP")?);
        let policy = Policy::new(id, per, Amount::new(GUESSES), Window::new(GUESSES_WINDOW)?);
        let options = MemoryStoreOptions::default().max_keys(MAX_GUESSERS);
        let mut max_token_bytes = MAX_TOKEN_BYTES;
        let bearer = |AdminToken { actor, role, token }: AdminToken| {
            max_token_bytes = max_token_bytes.max(token.reveal().len());
            let digest = digest(token.reveal());
            Bearer { digest, actor, role }
        };
        let bearers = tokens.into_iter().map(bearer).collect();
        Some(Self {
            bearers,
            max_token_bytes,
            guesses: MemoryStore::with_clock(tollgate_core::MonotonicClock::new(), &options),
            limit: Arc::new(Limit::of(&policy)?),
        })
    }

    /// The sender of `headers` and the role of its token, if that role is enough for a call that needs `needed`.
    pub(crate) fn admit(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
        needed: Role,
    ) -> Result<(Actor, Role), Refusal> {
        let token = bearer(headers);
        // First, so that wrong tokens never keep a valid one out.
        match token.and_then(|token| self.bearer_of(token)) {
            Some(bearer) if bearer.role == Role::Write || needed == Role::Read => {
                Ok((bearer.actor.clone(), bearer.role))
            }
            Some(_) => Err(Refusal::Forbidden),
            None => Err(self.refused(token, peer)),
        }
    }

    /// The answer to a call whose token is wrong or missing.
    #[cold]
    fn refused(&self, token: Option<&str>, peer: IpAddr) -> Refusal {
        let peer = peer.to_canonical().to_string();
        let subject = Subject::empty().with(&Attribute::Ip, &peer);
        let charge = [Charge { limit: &self.limit, subject: &subject, cost: Amount::ONE }];
        if let Some(verdict) = self.guesses.peek(&charge).first().filter(|one| !one.allowed) {
            return Refusal::TooManyGuesses(verdict.wait);
        }
        if token.is_some() { self.guessed(&charge, &peer) } else { Refusal::Unauthorized }
    }

    /// The owner of `token`. Compares all tokens even after a match, so that the time reveals nothing.
    fn bearer_of(&self, token: &str) -> Option<&Bearer> {
        if token.len() > self.max_token_bytes {
            return None;
        }
        let digest = digest(token);
        let mut found = None;
        for bearer in &self.bearers {
            if bool::from(bearer.digest.ct_eq(&digest)) {
                found = Some(bearer);
            }
        }
        found
    }

    /// Counts and logs a wrong token from `peer`. The limit on guesses also bounds the number of log lines.
    fn guessed(&self, charge: &[Charge<'_>], peer: &str) -> Refusal {
        let verdicts = self.guesses.charge(charge);
        let Some(verdict) = verdicts.first() else { return Refusal::Unauthorized };
        if !verdict.allowed {
            // Concurrent guesses from this address used the limit up first.
            return Refusal::TooManyGuesses(verdict.wait);
        }
        tracing::warn!(address = peer, "a wrong admin token was sent");
        if verdict.usage >= GUESSES {
            let seconds = GUESSES_WINDOW.as_secs();
            tracing::warn!(
                address = peer,
                guesses = GUESSES,
                seconds,
                "too many wrong admin tokens from this address; its further wrong tokens are answered with 429 for a while; a valid token is still accepted"
            );
        }
        Refusal::Unauthorized
    }
}

/// A digest has the same length for every token, so comparing two always takes the same time.
fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::config::Secret;

    fn token(name: &str, role: Role, token: &str) -> AdminToken {
        AdminToken { actor: Actor::new(name).unwrap(), role, token: Secret::new(token) }
    }

    /// The name of the admitted caller, or the status of the refusal.
    fn ask(guard: &Guard, peer: u8, token: &str, needed: Role) -> Result<String, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(token).unwrap());
        let peer = IpAddr::from([127, 0, 0, peer]);
        let admitted = guard.admit(&headers, peer, needed);
        admitted.map(|(actor, _)| actor.name().to_owned()).map_err(|refusal| match refusal {
            Refusal::Unauthorized => 401,
            Refusal::Forbidden => 403,
            Refusal::TooManyGuesses(_) => 429,
        })
    }

    /// A call that changes nothing needs only the role `read`, whatever its method.
    #[test]
    fn a_change_needs_the_role_that_writes() {
        let cases = [
            (Method::GET, "/admin/users", Role::Read),
            (Method::HEAD, "/admin/export", Role::Read),
            (Method::POST, "/admin/explain", Role::Read),
            (Method::POST, "/admin/policies/validate", Role::Read),
            (Method::DELETE, "/admin/policies/validate", Role::Write),
            (Method::POST, "/admin/usage/reset", Role::Write),
            (Method::POST, "/admin/policies", Role::Write),
            (Method::PATCH, "/admin/users/a", Role::Write),
            (Method::OPTIONS, "/admin/users", Role::Write),
        ];
        for (method, path, needed) in cases {
            assert_eq!(Role::needed(&method, path), needed, "{method} {path}");
        }
    }

    /// P15: only a token with the right role is admitted; after too many wrong tokens an address gets 429, but a valid
    /// token from it is still admitted.
    #[test]
    fn only_a_token_lets_in_and_guesses_are_limited() {
        let guard = Guard::new([
            token("writer", Role::Write, &"w".repeat(16)),
            token("reader", Role::Read, &"r".repeat(16)),
            token("alice", Role::Write, &"a".repeat(16)),
        ]);
        let guard = guard.unwrap();
        let (write, read) = (format!("Bearer {}", "w".repeat(16)), "bearer rrrrrrrrrrrrrrrr");
        let named = |name: &str| Ok(name.to_owned());
        assert_eq!(ask(&guard, 1, &write, Role::Write), named("writer"));
        assert_eq!(ask(&guard, 1, "Bearer aaaaaaaaaaaaaaaa", Role::Write), named("alice"));
        assert_eq!(ask(&guard, 1, read, Role::Read), named("reader"));
        assert_eq!(ask(&guard, 1, read, Role::Write), Err(403));
        for token in ["Basic abc", "Bearer", "Bearer  "] {
            assert_eq!(ask(&guard, 1, token, Role::Read), Err(401), "{token}");
        }
        for _ in 0..GUESSES {
            let _ = ask(&guard, 2, "Bearer wwwwwwwwwwwwwwwwx", Role::Read);
        }
        for wrong in ["Bearer wwwwwwwwwwwwwwwwy", "Bearer ", "Basic abc"] {
            assert_eq!(ask(&guard, 2, wrong, Role::Read), Err(429), "{wrong}");
        }
        for right in 0..3 * GUESSES {
            assert_eq!(ask(&guard, 2, &write, Role::Write), named("writer"), "{right}");
            assert_eq!(ask(&guard, 2, read, Role::Read), named("reader"), "{right}");
        }
        assert_eq!(ask(&guard, 2, read, Role::Write), Err(403));
        assert_eq!(ask(&guard, 2, "Bearer wwwwwwwwwwwwwwwwz", Role::Read), Err(429), "as before");
        assert_eq!(ask(&guard, 3, &write, Role::Read), named("writer"));
    }

    /// The cost of a guess does not grow with the length of the token; a configured token of any length is accepted.
    #[test]
    fn an_overlong_token_is_wrong_without_being_hashed() {
        let long = "l".repeat(2 * MAX_TOKEN_BYTES);
        let guard = Guard::new([token("long", Role::Read, &long)]).unwrap();
        assert_eq!(ask(&guard, 1, &format!("Bearer {long}"), Role::Read), Ok("long".to_owned()));
        assert!(guard.bearer_of(&long).is_some());
        assert!(guard.bearer_of(&format!("{long}l")).is_none());
        assert_eq!(ask(&guard, 1, &format!("Bearer {long}l"), Role::Read), Err(401));
    }
}
