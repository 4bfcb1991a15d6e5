//! The API key of a request.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tollgate_catalog::Standing;
use tollgate_core::Reason;
use tollgate_core::subject::check_id;
use tollgate_service::{Caller, RateLimitService};
use tollgate_store::Store;

use crate::dialect::denial::Denial;

/// The API key that `fields` have, as `Authorization: Bearer` or as `x-api-key`.
pub(super) fn key_in(fields: &HeaderMap) -> Result<&str, Denial> {
    let value = |name: &str| fields.get(name).map(|value| value.to_str().unwrap_or_default());
    let bearer = value(AUTHORIZATION.as_str()).map(|value| {
        let (scheme, token) = value.split_once(' ').unwrap_or_default();
        if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { "" }
    });
    let key = bearer.or_else(|| value("x-api-key")).ok_or(Denial::NoApiKey)?;
    // A key that cannot be one is not looked up.
    if check_id(key).is_ok() { Ok(key) } else { Err(Denial::ApiKey(Reason::ApiKeyUnknown)) }
}

/// The owner of `key`, which must be active.
pub(super) async fn caller_of<S: Store>(
    service: &RateLimitService<S>,
    key: &str,
) -> Result<Caller, Denial> {
    let caller = service.caller(key).await;
    match caller.standing {
        Standing::Active => Ok(caller),
        Standing::Unknown => Err(Denial::ApiKey(Reason::ApiKeyUnknown)),
        Standing::Unanswered => Err(Denial::CatalogUnavailable),
        Standing::Revoked => Err(Denial::ApiKey(Reason::ApiKeyRevoked)),
        Standing::Expired => Err(Denial::ApiKey(Reason::ApiKeyExpired)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Case<'a> = (&'a [(&'static str, &'a str)], Result<&'a str, Denial>);

    #[test]
    fn a_key_is_taken_from_either_field() {
        let unknown = Err(Denial::ApiKey(Reason::ApiKeyUnknown));
        let cases: [Case<'_>; 7] = [
            (&[("authorization", "Bearer tg_1")], Ok("tg_1")),
            (&[("authorization", "bearer  tg_1 ")], Ok("tg_1")),
            (&[("x-api-key", "tg_1")], Ok("tg_1")),
            (&[], Err(Denial::NoApiKey)),
            (&[("authorization", "Basic dTpw")], unknown.clone()),
            (&[("authorization", "Bearer ")], unknown.clone()),
            (&[("authorization", "Bearer"), ("x-api-key", "tg_1")], unknown),
        ];
        for (pairs, expected) in cases {
            let mut fields = HeaderMap::new();
            for (name, value) in pairs {
                fields.insert(*name, value.parse().unwrap());
            }
            assert_eq!(key_in(&fields), expected, "{pairs:?}");
        }
    }
}
