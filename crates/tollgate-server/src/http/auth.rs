//! `/rate-limit/auth`: a check for proxies that ask another server before they pass a request on (`auth_request`,
//! `forwardAuth`, `forward_auth`, `ext_authz`).
//!
//! Such a proxy can set headers and acts on a status, but writes and reads no body. So the subject and the cost are in
//! headers of the request, and the answer is a status with headers. Some proxies keep the method of their own request, and some append
//! its path, so every method and every path below is the same call.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use axum::response::IntoResponse;
use tollgate_core::subject::{ACCEPTED_IDS, check_id};
use tollgate_core::{Amount, Attribute, Check, Clock, Cost, Subject, Unit};
use tollgate_store::Store;

use super::check::store_failed;
use super::client::Client;
use super::problem::{FieldProblem, Problem};
use super::request::MAX_COST_UNITS;
use crate::app::App;
use crate::config::AuthHeaders;
use crate::metrics::Call;

pub(super) const AUTH: &str = "/rate-limit/auth";
/// What a proxy may append to the path.
pub(super) const AUTH_ROOT: &str = "/rate-limit/auth/";
/// Any other path.
pub(super) const AUTH_BELOW: &str = "/rate-limit/auth/{*path}";

const ACCEPTED_COST: &str = "a number of requests, such as 1, or amounts by unit, such as tokens=1200 or requests=0,tokens=1200: \
     integers from 0 to 9007199254740991, at most 16 units";
const ACCEPTED_IP: &str = "an IPv4 or IPv6 address, such as 203.0.113.7 or 2001:db8::1";

// The text above contains these numbers.
const _: () = assert!(MAX_COST_UNITS == 16 && Amount::MAX.get() == 9_007_199_254_740_991);

/// Decide a check that a proxy makes before it passes a request on
///
/// The subject and the cost are in request headers, by default in those below; the setting `auth_headers` names others. Takes every
/// method, and every path below this one. The answer has no body: its status and its headers say it all.
#[utoipa::path(
    get,
    path = "/rate-limit/auth",
    tag = "rate limit",
    params(
        ("x-user-id" = Option<String>, Header, description = "The user"),
        ("x-model-id" = Option<String>, Header, description = "The model asked for"),
        ("x-tenant-id" = Option<String>, Header, description = "The tenant"),
        ("x-api-key" = Option<String>, Header, description = "The API key"),
        (
            "x-tollgate-cost" = Option<String>, Header,
            description = "A number of requests, or amounts by unit such as `requests=1,tokens=1200`; 1 request by default"
        )
    ),
    responses(super::schema::AuthAnswers)
)]
pub(super) async fn authorize<S: Store>(
    State(app): State<Arc<App<S>>>,
    request: Request<Body>,
) -> Response<Body> {
    let (head, _) = request.into_parts();
    decide(&app, &head).await.unwrap_or_else(Problem::into_response)
}

async fn decide<S: Store>(app: &App<S>, head: &Parts) -> Result<Response<Body>, Problem> {
    let started = app.clock.now();
    let client = head.extensions.get::<Client>().copied();
    let asked = AuthRequest::read(&app.auth_headers, &head.headers, client)?;
    let decision = app.service.check(&asked.check()).await;
    let decision = decision.map_err(|error| store_failed(app, &error))?;
    app.metrics.decided(&decision);
    let mut response = Response::new(Body::empty());
    if !decision.allowed() {
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    }
    tollgate_http::apply(&decision, response.headers_mut());
    app.metrics.took(Call::Auth, app.clock.now().as_ns().saturating_sub(started.as_ns()));
    Ok(response)
}

/// A check in request headers.
#[derive(Debug)]
struct AuthRequest<'a> {
    subject: Vec<(&'a Attribute, Cow<'a, str>)>,
    cost: Cost,
    request_id: Option<&'a str>,
}

impl<'a> AuthRequest<'a> {
    /// Reads the headers that `names` lists. A header without a value counts as absent, because proxies send one for a variable
    /// that is not set. Without an address, the check has that of `client`.
    fn read(
        names: &'a AuthHeaders,
        headers: &'a HeaderMap,
        client: Option<Client>,
    ) -> Result<Self, Problem> {
        let mut problems = Vec::new();
        let mut subject = Vec::new();
        for (attribute, name) in &names.subject {
            let value = match attribute {
                Attribute::Ip => address(name, headers, &mut problems),
                _ => id(name, headers, &mut problems).map(Cow::Borrowed),
            };
            subject.extend(value.map(|value| (attribute, value)));
        }
        let cost = names.cost.as_ref().and_then(|name| cost(name, headers, &mut problems));
        let request_id =
            names.request_id.as_ref().and_then(|name| id(name, headers, &mut problems));
        if !problems.is_empty() {
            return Err(Problem::malformed_auth_headers(problems));
        }
        if subject.is_empty() {
            return Err(Problem::missing_auth_headers(&names.subject_headers()));
        }
        let has_address = subject.iter().any(|(attribute, _)| **attribute == Attribute::Ip);
        if let (false, Some(Client(address))) = (has_address, client) {
            subject.push((&Attribute::Ip, Cow::Owned(address.to_string())));
        }
        Ok(Self { subject, cost: cost.unwrap_or_else(Cost::one_request), request_id })
    }

    fn check(&self) -> Check<'_> {
        let mut subject = Subject::empty();
        for (attribute, value) in &self.subject {
            subject.set(attribute, value);
        }
        let check = Check::of(subject).at_cost(self.cost.clone());
        Check { request_id: self.request_id, ..check }
    }
}

/// The value of the header `name`, if it has one.
fn text<'a>(
    name: &HeaderName,
    headers: &'a HeaderMap,
    problems: &mut Vec<FieldProblem>,
) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        problems.push(FieldProblem::new(name.as_str(), "is given twice", "each header once"));
        return None;
    }
    let Ok(value) = std::str::from_utf8(value.as_bytes()) else {
        problems.push(FieldProblem::new(name.as_str(), "is not UTF-8", "text in UTF-8"));
        return None;
    };
    Some(value).filter(|value| !value.is_empty())
}

fn id<'a>(
    name: &HeaderName,
    headers: &'a HeaderMap,
    problems: &mut Vec<FieldProblem>,
) -> Option<&'a str> {
    let value = text(name, headers, problems)?;
    if let Err(problem) = check_id(value) {
        problems.push(FieldProblem::new(name.as_str(), problem.to_string(), ACCEPTED_IDS));
        return None;
    }
    Some(value)
}

fn address<'a>(
    name: &HeaderName,
    headers: &'a HeaderMap,
    problems: &mut Vec<FieldProblem>,
) -> Option<Cow<'a, str>> {
    let value = text(name, headers, problems)?;
    let Ok(address) = value.parse::<IpAddr>() else {
        problems.push(FieldProblem::new(name.as_str(), "is not an IP address", ACCEPTED_IP));
        return None;
    };
    Some(Cow::Owned(address.to_canonical().to_string()))
}

fn cost(name: &HeaderName, headers: &HeaderMap, problems: &mut Vec<FieldProblem>) -> Option<Cost> {
    let value = text(name, headers, problems)?;
    match parse_cost(value) {
        Ok(cost) => Some(cost),
        Err(problem) => {
            problems.push(FieldProblem::new(name.as_str(), problem, ACCEPTED_COST));
            None
        }
    }
}

/// The cost that `text` says.
fn parse_cost(text: &str) -> Result<Cost, String> {
    let mut cost = Cost::one_request();
    let mut units: Vec<Unit> = Vec::new();
    for item in text.split(',') {
        let (unit, amount) = item.split_once('=').unwrap_or(("requests", item));
        let (unit, amount) = (unit.trim(), amount.trim());
        let unit = Unit::parse(unit)
            .filter(Unit::has_cost)
            .ok_or_else(|| format!("has {unit:?}, which is not a unit with a cost"))?;
        let is_integer = amount.bytes().all(|byte| byte.is_ascii_digit());
        let amount = Some(amount).filter(|_| is_integer).and_then(|text| text.parse().ok());
        let amount = amount
            .and_then(Amount::new)
            .ok_or_else(|| format!("has no accepted amount of {}", unit.name()))?;
        if units.contains(&unit) {
            return Err(format!("has {} twice", unit.name()));
        }
        units.push(unit.clone());
        cost.set(unit, amount);
    }
    if units.len() > MAX_COST_UNITS {
        return Err(format!("has {} units", units.len()));
    }
    Ok(cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_a_number_of_requests_or_amounts_by_unit() {
        let cost = |requests, tokens| {
            let mut cost = Cost::one_request();
            cost.set(Unit::Requests, Amount::new(requests).unwrap());
            cost.set(Unit::Tokens, Amount::new(tokens).unwrap());
            cost
        };
        let amounts = |text| {
            let parsed = parse_cost(text).unwrap();
            (parsed.of(&Unit::Requests), parsed.of(&Unit::Tokens))
        };
        for (text, requests, tokens) in [
            ("3", 3, 0),
            ("0", 0, 0),
            ("tokens=1200", 1, 1_200),
            ("requests=0, tokens=9007199254740991", 0, 9_007_199_254_740_991),
            (" 2 , tokens = 7 ", 2, 7),
        ] {
            let expected = cost(requests, tokens);
            let expected = (expected.of(&Unit::Requests), expected.of(&Unit::Tokens));
            assert_eq!(amounts(text), expected, "{text}");
        }
        let many: Vec<_> = (0..=MAX_COST_UNITS).map(|n| format!("u{n}=1")).collect();
        for wrong in [
            "-1",
            "+1",
            "1.5",
            "1e3",
            "tokens",
            "tokens=",
            "Tokens=1",
            "concurrency=1",
            "tokens=9007199254740992",
            "99999999999999999999",
            "1,requests=1",
            "1,",
            &many.join(","),
        ] {
            parse_cost(wrong).unwrap_err();
        }
    }
}
