//! Who may use the admin calls: the bearer of a token, compared in constant time, and guessed at only slowly.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, Method, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tollgate_core::{Amount, Attribute, Check, Limit, Per, Policy, PolicyId, Subject, Window};
use tollgate_store::MemoryStore;
use tollgate_store::memory::MemoryStoreOptions;

use super::super::problem::Problem;
use crate::config::Secret;

/// Wrong tokens that one address may give in [`GUESSES_WINDOW`].
const GUESSES: u64 = 10;
const GUESSES_WINDOW: Duration = Duration::from_mins(1);
/// The most addresses whose guesses are remembered.
const MAX_GUESSERS: usize = 100_000;

/// Calls that only look although they have a body.
const LOOKS: [&str; 2] = ["/admin/explain", "/admin/policies/validate"];

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// To look.
    Read,
    /// To look and to change.
    Write,
}

impl Role {
    /// The role that a call of `method` at `path` takes.
    pub(super) fn needed(method: &Method, path: &str) -> Self {
        match *method {
            Method::GET | Method::HEAD => Self::Read,
            Method::POST if LOOKS.contains(&path) => Self::Read,
            _ => Self::Write,
        }
    }
}

/// Lets the bearers of tokens in. Wrong tokens are limited by Tollgate's own store, exactly.
pub(crate) struct Guard {
    write: [u8; 32],
    read: Option<[u8; 32]>,
    guesses: MemoryStore,
    limit: Arc<Limit>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

impl Guard {
    /// A guard for these tokens; `None` if its own limit cannot be made, which its constants rule out.
    pub(crate) fn new(write: &Secret, read: Option<&Secret>) -> Option<Self> {
        let (id, per) = (PolicyId::new("admin-guesses").ok()?, Per::from_scope("IP")?);
        let policy = Policy::new(id, per, Amount::new(GUESSES), Window::new(GUESSES_WINDOW)?);
        let options = MemoryStoreOptions::default().max_keys(MAX_GUESSERS);
        Some(Self {
            write: digest(write.reveal()),
            read: read.map(|token| digest(token.reveal())),
            guesses: MemoryStore::with_clock(tollgate_core::MonotonicClock::new(), &options),
            limit: Arc::new(Limit::of(&policy)?),
        })
    }

    /// The role of who sends `headers` from `peer`, if it is enough for a call that takes `needed`.
    pub(crate) fn admit(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
        needed: Role,
    ) -> Result<Role, Problem> {
        let peer = peer.to_canonical().to_string();
        let subject = Subject::empty().with(&Attribute::Ip, &peer);
        let guess = Check::of(subject);
        let charge = [tollgate_core::Charge {
            limit: &self.limit,
            subject: &guess.subject,
            cost: Amount::ONE,
        }];
        // Who has guessed too often is not listened to, right or wrong.
        if let Some(verdict) = self.guesses.peek(&charge).first().filter(|one| !one.allowed) {
            return Err(Problem::too_many_guesses(verdict.wait));
        }
        let token = bearer(headers).ok_or_else(Problem::unauthorized)?;
        let token = digest(token);
        let is = |known: &[u8; 32]| bool::from(known.ct_eq(&token));
        // Both are compared, whichever fits.
        let (writes, reads) = (is(&self.write), self.read.as_ref().is_some_and(is));
        if !writes && !reads {
            self.guesses.charge(&charge);
            return Err(Problem::unauthorized());
        }
        match (writes, needed) {
            (true, _) => Ok(Role::Write),
            (false, Role::Read) => Ok(Role::Read),
            (false, Role::Write) => Err(Problem::forbidden()),
        }
    }
}

/// As long for every token, so that comparing two takes the same time whatever they are.
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

    fn ask(guard: &Guard, peer: u8, token: &str, needed: Role) -> Result<Role, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(token).unwrap());
        let peer = IpAddr::from([127, 0, 0, peer]);
        guard.admit(&headers, peer, needed).map_err(|problem| problem.status().as_u16())
    }

    /// A call that changes nothing is for everyone who may look, whatever its method.
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

    /// P15: a token of its role and no other is let in; who guesses is soon not listened to, and others are.
    #[test]
    fn only_a_token_lets_in_and_guesses_are_limited() {
        let guard = Guard::new(&Secret::new("w".repeat(16)), Some(&Secret::new("r".repeat(16))));
        let guard = guard.unwrap();
        let (write, read) = (format!("Bearer {}", "w".repeat(16)), "bearer rrrrrrrrrrrrrrrr");
        assert_eq!(ask(&guard, 1, &write, Role::Write), Ok(Role::Write));
        assert_eq!(ask(&guard, 1, read, Role::Read), Ok(Role::Read));
        assert_eq!(ask(&guard, 1, read, Role::Write), Err(403));
        for token in ["Basic abc", "Bearer", "Bearer  "] {
            assert_eq!(ask(&guard, 1, token, Role::Read), Err(401), "{token}");
        }
        for _ in 0..GUESSES {
            let _ = ask(&guard, 2, "Bearer wwwwwwwwwwwwwwwwx", Role::Read);
        }
        assert_eq!(ask(&guard, 2, &write, Role::Read), Err(429), "right or wrong");
        assert_eq!(ask(&guard, 3, &write, Role::Read), Ok(Role::Write));
    }
}
