//! The header fields that pass between a client and an upstream.

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap,
    HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RETRY_AFTER, SERVER,
    SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
};

use crate::config::{Dialect, UpstreamKey};

/// Fields of one connection (RFC 9110, section 7.6.1), besides those that `Connection` names.
const OF_A_CONNECTION: [HeaderName; 8] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Fields of a client that an upstream does not get: they are between the client and the gateway, or written anew.
const NOT_SENT: [HeaderName; 14] = [
    ACCEPT_ENCODING,
    AUTHORIZATION,
    CONTENT_LENGTH,
    COOKIE,
    EXPECT,
    HOST,
    X_API_KEY,
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("openai-organization"),
    HeaderName::from_static("openai-project"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-real-ip"),
];

/// Fields of an upstream that a client does not get: they describe the operator's account there, or are written anew.
const NOT_RETURNED: [HeaderName; 8] = [
    RETRY_AFTER,
    SERVER,
    SET_COOKIE,
    WWW_AUTHENTICATE,
    HeaderName::from_static("anthropic-organization-id"),
    HeaderName::from_static("openai-organization"),
    HeaderName::from_static("openai-project"),
    HeaderName::from_static("retry-after-ms"),
];

/// The beginnings of others.
const NOT_RETURNED_PREFIXES: [&str; 4] =
    ["anthropic-ratelimit-", "x-ratelimit-", "ratelimit", "x-tollgate-"];

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");

/// What an upstream gets of a client's fields, with the upstream's `key`.
pub(super) fn for_upstream(
    client: &HeaderMap,
    dialect: Dialect,
    key: Option<&UpstreamKey>,
) -> HeaderMap {
    let named = named_by_connection(client);
    let passes = |name: &HeaderName| {
        !OF_A_CONNECTION.contains(name)
            && !NOT_SENT.contains(name)
            && !named.contains(name)
            && !name.as_str().starts_with("x-tollgate-")
    };
    let mut fields = filtered(client, passes);
    // A compressed answer could not be metered.
    fields.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if dialect == Dialect::Anthropic && !fields.contains_key(ANTHROPIC_VERSION) {
        fields.insert(ANTHROPIC_VERSION, HeaderValue::from_static("2023-06-01"));
    }
    if let Some(key) = key {
        let (name, text) = match dialect {
            Dialect::OpenAi => (AUTHORIZATION, format!("Bearer {}", key.reveal())),
            Dialect::Anthropic => (X_API_KEY, key.reveal().to_owned()),
        };
        // The configuration accepts only keys that are valid values.
        if let Ok(mut value) = HeaderValue::try_from(text) {
            value.set_sensitive(true);
            fields.insert(name, value);
        }
    }
    fields
}

/// What a client gets of an upstream's fields.
pub(super) fn for_client(upstream: &HeaderMap) -> HeaderMap {
    let named = named_by_connection(upstream);
    let passes = |name: &HeaderName| {
        let text = name.as_str();
        !OF_A_CONNECTION.contains(name)
            && !NOT_RETURNED.contains(name)
            && !named.contains(name)
            && !NOT_RETURNED_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
    };
    filtered(upstream, passes)
}

fn filtered(fields: &HeaderMap, passes: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(fields.len() + 2);
    for (name, value) in fields {
        if passes(name) {
            kept.append(name, value.clone());
        }
    }
    kept
}

/// The fields that `Connection` declares to be of this connection only.
fn named_by_connection(fields: &HeaderMap) -> Vec<HeaderName> {
    let values = fields.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(','));
    names.filter_map(|name| name.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::dialect::denial::{RETRY_AFTER_MS, SHOULD_RETRY, TICKET, limit_names};
    use crate::proxy::OWN_FIELDS;

    const INTEGRATION: &str = include_str!("../../../../docs/INTEGRATION.md");

    /// The fields in the first column of the table below `heading`; not those that end with `*`.
    fn documented(heading: &str) -> BTreeSet<String> {
        let (_, rest) = INTEGRATION.split_once(heading).expect(heading);
        let rows = rest.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
        let cells = rows.map_while(|line| line.strip_prefix("| ")?.split(" | ").next());
        let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
        let names = names.map(|name| name.split(':').next().unwrap_or(name).to_owned());
        names.filter(|name| !name.ends_with('*')).collect()
    }

    fn texts(names: impl IntoIterator<Item = HeaderName>) -> BTreeSet<String> {
        names.into_iter().map(|name| name.as_str().to_owned()).collect()
    }

    #[test]
    fn the_documents_have_every_field_of_requests_and_answers() {
        let requests = NOT_SENT.into_iter().chain(OF_A_CONNECTION);
        let requests = requests.chain([TICKET, ANTHROPIC_VERSION]);
        assert_eq!(documented("**Header fields of requests.**"), texts(requests));
        let answers = NOT_RETURNED.into_iter().chain(OWN_FIELDS).chain(limit_names());
        let answers = answers.chain([TICKET, RETRY_AFTER_MS, SHOULD_RETRY]);
        let of_http = ["ratelimit", "ratelimit-policy"].map(HeaderName::from_static);
        assert_eq!(documented("**Header fields of answers.**"), texts(answers.chain(of_http)));
    }

    fn fields(pairs: &[(&str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| {
                (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
            })
            .collect()
    }

    fn names(fields: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn an_upstream_gets_its_own_key_and_nothing_of_the_connection() {
        let client = fields(&[
            ("authorization", "Bearer client"),
            ("x-api-key", "client"),
            ("connection", "keep-alive, X-Private"),
            ("x-private", "1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("cookie", "a=b"),
            ("host", "gateway"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-tollgate-ticket", "t"),
            ("accept-encoding", "gzip"),
            ("content-type", "application/json"),
            ("openai-beta", "assistants=v2"),
        ]);
        let key = UpstreamKey::new("upstream");
        let openai = for_upstream(&client, Dialect::OpenAi, Some(&key));
        assert_eq!(
            names(&openai),
            ["accept-encoding", "authorization", "content-type", "openai-beta"]
        );
        assert_eq!(openai["authorization"], "Bearer upstream");
        assert!(openai["authorization"].is_sensitive());
        assert_eq!(openai["accept-encoding"], "identity");
        let anthropic = for_upstream(&client, Dialect::Anthropic, Some(&key));
        assert_eq!(anthropic["x-api-key"], "upstream");
        assert_eq!(anthropic["anthropic-version"], "2023-06-01");
        assert!(!anthropic.contains_key("authorization"));
        let without = for_upstream(&client, Dialect::OpenAi, None);
        assert!(!without.contains_key("authorization"));
    }

    #[test]
    fn a_client_learns_nothing_about_the_operators_account() {
        let upstream = fields(&[
            ("content-type", "text/event-stream"),
            ("content-length", "5"),
            ("x-request-id", "r"),
            ("set-cookie", "a=b"),
            ("openai-organization", "org"),
            ("x-ratelimit-remaining-tokens", "7"),
            ("anthropic-ratelimit-tokens-limit", "7"),
            ("ratelimit-policy", "7"),
            ("retry-after", "7"),
            ("keep-alive", "timeout=5"),
            ("connection", "close"),
        ]);
        assert_eq!(
            names(&for_client(&upstream)),
            ["content-length", "content-type", "x-request-id"]
        );
    }
}
