//! Named admin tokens with roles.
//!
//! No message shows any part of an entry: if its parts are in the wrong order, any of them may be the token.

use tollgate_catalog::directory::Actor;

use super::Secret;

/// The name for the token of `TOLLGATE_ADMIN_TOKEN`, or for the generated one.
pub(crate) const ADMIN: &str = "admin";
/// The name for the token of `TOLLGATE_ADMIN_READ_TOKEN`.
pub(crate) const ADMIN_READ: &str = "admin-read";
/// The most named tokens: a token in a request is compared with all of them.
const MAX_NAMED_TOKENS: usize = 1_000;

/// The accepted form of named tokens.
pub(super) const ACCEPTED: &str = "NAME:ROLE:TOKEN, several with commas or white space between: a name other than \
     `admin` and `admin-read`, the role `read` or `write`, and at least 16 bytes of token, which nobody else has";

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reading.
    Read,
    /// Reading and changing.
    Write,
}

/// A token for the admin calls, and its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminToken {
    /// The owner's name in the audit log. Several tokens may have the same name.
    pub actor: Actor,
    /// What it allows.
    pub role: Role,
    /// The token.
    pub token: Secret,
}

/// The tokens in `text`, which must differ from `others`; or the problems of its entries.
pub(super) fn parse(text: &str, others: &[&Secret]) -> Result<Vec<AdminToken>, Vec<String>> {
    let separates = |c: char| c == ',' || c.is_whitespace();
    let entries: Vec<_> = text.split(separates).filter(|entry| !entry.is_empty()).collect();
    if entries.is_empty() {
        return Err(vec!["has no token".to_owned()]);
    }
    if entries.len() > MAX_NAMED_TOKENS {
        let count = entries.len();
        return Err(vec![format!("has {count} tokens; accepted: at most {MAX_NAMED_TOKENS}")]);
    }
    let (mut tokens, mut problems) = (Vec::<AdminToken>::new(), Vec::new());
    for (index, given) in entries.into_iter().enumerate() {
        let is_taken = |token: &Secret| {
            others.contains(&token) || tokens.iter().any(|known| known.token == *token)
        };
        match entry(given).and_then(|one| {
            if is_taken(&one.token) { Err("its token is used twice") } else { Ok(one) }
        }) {
            Ok(one) => tokens.push(one),
            Err(problem) => problems.push(format!("entry {}: {problem}", index + 1)),
        }
    }
    if problems.is_empty() { Ok(tokens) } else { Err(problems) }
}

fn entry(given: &str) -> Result<AdminToken, &'static str> {
    let mut parts = given.splitn(3, ':');
    let (Some(name), Some(role), Some(token)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("it is not NAME:ROLE:TOKEN");
    };
    if [ADMIN, ADMIN_READ].contains(&name) {
        return Err("its name is reserved for the token in another variable");
    }
    let role = match role {
        "read" => Role::Read,
        "write" => Role::Write,
        _ => return Err("its role is neither `read` nor `write`"),
    };
    if token.len() < Secret::MIN_BYTES {
        return Err("its token is too short");
    }
    let actor = Actor::new(name).map_err(|_| "its name is empty, too long or not printable")?;
    Ok(AdminToken { actor, role, token: Secret::new(token) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parsed tokens (name, role and token), or the problems.
    fn check(text: &str, expected: Result<&[(&str, Role, &str)], &[&str]>) {
        let other = Secret::new("the-token-of-another");
        let read = parse(text, &[&other]);
        let found = match &read {
            Ok(tokens) => Ok(tokens
                .iter()
                .map(|one| (one.actor.name(), one.role, one.token.reveal()))
                .collect::<Vec<_>>()),
            Err(problems) => Err(problems.iter().map(String::as_str).collect::<Vec<_>>()),
        };
        let found = found.as_ref().map(Vec::as_slice).map_err(Vec::as_slice);
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn each_entry_is_a_name_a_role_and_a_token() {
        use Role::{Read, Write};
        let alice = ("alice", Write, "0123456789abcdef");
        let bob = ("bob@acme", Read, "a:token:with:colons");
        check("alice:write:0123456789abcdef", Ok(&[alice]));
        check(
            " alice:write:0123456789abcdef,\n\tbob@acme:read:a:token:with:colons\n,",
            Ok(&[alice, bob]),
        );
        let second = ("alice", Read, "fedcba9876543210");
        check("alice:write:0123456789abcdef alice:read:fedcba9876543210", Ok(&[alice, second]));
    }

    #[test]
    fn every_wrong_entry_is_told_by_its_number() {
        check("", Err(&["has no token"]));
        check(" ,\n", Err(&["has no token"]));
        check(
            "0123456789abcdef,a:read:short,b:admin:0123456789abcdef,:read:0123456789abcdef",
            Err(&[
                "entry 1: it is not NAME:ROLE:TOKEN",
                "entry 2: its token is too short",
                "entry 3: its role is neither `read` nor `write`",
                "entry 4: its name is empty, too long or not printable",
            ]),
        );
        let own = "its name is reserved for the token in another variable";
        check(
            "admin:write:0123456789abcdef admin-read:read:0123456789abcdef",
            Err(&[&format!("entry 1: {own}"), &format!("entry 2: {own}")]),
        );
        check(
            "a:read:the-token-of-another b:read:0123456789abcdef c:write:0123456789abcdef",
            Err(&["entry 1: its token is used twice", "entry 3: its token is used twice"]),
        );
        let many = "a:read:0123456789abcdef ".repeat(1_001);
        check(&many, Err(&["has 1001 tokens; accepted: at most 1000"]));
    }
}
