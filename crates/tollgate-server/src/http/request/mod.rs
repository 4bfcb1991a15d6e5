//! Parses the bodies of checks and of updates of leases into the types of the use cases.

mod attributes;
mod batch;
mod cost;
mod update;

use std::borrow::Cow;
use std::net::IpAddr;

use serde::de::{DeserializeSeed, MapAccess};
use tollgate_core::subject::{ACCEPTED_IDS, check_id};
use tollgate_core::{Attribute, Check, Cost, Subject, Ttl};

use self::attributes::{Attributes, AttributesReader};
use self::batch::BatchReader;
use self::cost::AmountsReader;
pub(super) use self::update::{ExtensionRequest, SettlementRequest};
use super::client::Client;
use super::json::{Container, Name, Path, Problems, Read, Scalar, Value, read_body};
use super::problem::Problem;

/// The most attributes of one check.
pub(super) const MAX_ATTRIBUTES: usize = 32;
/// The most units of one cost.
pub(super) const MAX_COST_UNITS: usize = 16;

const ACCEPTED_CHECK: &str = "an object with the members userId, modelId, tenantId, apiKey, service, ip, \
     attributes, cost, requestId, each optional";
const ACCEPTED_RESERVATION: &str = "an object with the members userId, modelId, tenantId, apiKey, service, ip, \
     attributes, cost, requestId, ttlMs, inputBytes, each optional";
const ACCEPTED_SUBJECT: &str =
    "at least one of userId, modelId, tenantId, apiKey, service, ip, attributes";
const ACCEPTED_IP: &str = "an IPv4 or IPv6 address, such as 203.0.113.7 or 2001:db8::1";
const ONCE: &str = "each member once";

// The texts of the parsers contain these numbers.
const _: () = assert!(MAX_ATTRIBUTES == 32 && MAX_COST_UNITS == 16);

/// A parsed check; its strings are borrowed from the body unless they contain escapes.
#[derive(Debug, PartialEq)]
pub(super) struct CheckRequest<'de> {
    user_id: Option<Cow<'de, str>>,
    model_id: Option<Cow<'de, str>>,
    tenant_id: Option<Cow<'de, str>>,
    api_key: Option<Cow<'de, str>>,
    service: Option<Cow<'de, str>>,
    ip: Option<Cow<'de, str>>,
    attributes: Attributes<'de>,
    cost: Cost,
    request_id: Option<Cow<'de, str>>,
    /// Only of a reservation.
    ttl: Option<Ttl>,
    /// Only of a reservation: how long its input is; 0 if it does not say.
    input_bytes: u64,
}

impl<'de> CheckRequest<'de> {
    /// Parses the body of a check. A check without an address has that of `client`.
    pub(super) fn parse(body: &'de [u8], client: Option<Client>) -> Result<Self, Problem> {
        read_body(body, |from, problems| {
            let mut reader = CheckReader::new(Path::Body, problems, client);
            let value = Read(&mut reader).deserialize(from)?;
            Ok(reader.finish(&value))
        })
    }

    /// Parses the body of a reservation: a check that may have the members `ttlMs` and `inputBytes`.
    pub(super) fn parse_reservation(
        body: &'de [u8],
        client: Option<Client>,
    ) -> Result<Self, Problem> {
        read_body(body, |from, problems| {
            let mut reader = CheckReader::new(Path::Body, problems, client);
            reader.is_reservation = true;
            let value = Read(&mut reader).deserialize(from)?;
            Ok(reader.finish(&value))
        })
    }

    /// Parses the body of a batch of checks. Those without an address have that of `client`.
    pub(super) fn parse_batch(
        body: &'de [u8],
        client: Option<Client>,
    ) -> Result<Vec<Self>, Problem> {
        read_body(body, |from, problems| {
            let mut reader = BatchReader::new(problems, client);
            let value = Read(&mut reader).deserialize(from)?;
            Ok(reader.finish(&value))
        })
    }

    /// How long the lease is to live.
    pub(super) fn ttl(&self) -> Ttl {
        self.ttl.unwrap_or_default()
    }

    /// How many bytes the input has; 0 if it does not say.
    pub(super) fn input_bytes(&self) -> u64 {
        self.input_bytes
    }

    /// The check for the use case.
    #[inline]
    pub(super) fn check(&self) -> Check<'_> {
        let mut subject = Subject::empty();
        let built_in = [
            (&Attribute::User, &self.user_id),
            (&Attribute::Model, &self.model_id),
            (&Attribute::Tenant, &self.tenant_id),
            (&Attribute::ApiKey, &self.api_key),
            (&Attribute::Service, &self.service),
            (&Attribute::Ip, &self.ip),
        ];
        for (attribute, value) in built_in {
            if let Some(value) = value {
                subject.set(attribute, value);
            }
        }
        for (name, value) in &self.attributes {
            subject.set_named(name, value);
        }
        let check = Check::of(subject).at_cost(self.cost.clone());
        Check { request_id: self.request_id.as_deref(), ..check }
    }
}

/// Parses a check: an object with the members of [`ACCEPTED_CHECK`].
struct CheckReader<'p, 'de> {
    path: Path<'p>,
    client: Option<Client>,
    /// Whether it may have the members of a reservation.
    is_reservation: bool,
    problems: &'p mut Problems,
    /// One bit for each parsed member, to refuse duplicates.
    seen: u16,
    /// How many problems were found before this check.
    problems_before: usize,
    user_id: Option<Cow<'de, str>>,
    model_id: Option<Cow<'de, str>>,
    tenant_id: Option<Cow<'de, str>>,
    api_key: Option<Cow<'de, str>>,
    service: Option<Cow<'de, str>>,
    ip: Option<Cow<'de, str>>,
    attributes: Attributes<'de>,
    cost: Cost,
    request_id: Option<Cow<'de, str>>,
    ttl: Option<Ttl>,
    input_bytes: u64,
}

/// The members of a check, in the order of their bits in [`CheckReader::seen`]. The last two are only of a reservation.
const CHECK_MEMBERS: [&str; 11] = [
    "userId",
    "modelId",
    "tenantId",
    "apiKey",
    "service",
    "ip",
    "attributes",
    "cost",
    "requestId",
    TTL,
    INPUT_BYTES,
];
const TTL: &str = "ttlMs";
const INPUT_BYTES: &str = "inputBytes";

impl<'p, 'de> CheckReader<'p, 'de> {
    fn new(path: Path<'p>, problems: &'p mut Problems, client: Option<Client>) -> Self {
        Self {
            path,
            client,
            is_reservation: false,
            problems_before: problems.count(),
            problems,
            seen: 0,
            user_id: None,
            model_id: None,
            tenant_id: None,
            api_key: None,
            service: None,
            ip: None,
            attributes: Vec::new(),
            cost: Cost::one_request(),
            request_id: None,
            ttl: None,
            input_bytes: 0,
        }
    }

    fn accepted(&self) -> &'static str {
        if self.is_reservation { ACCEPTED_RESERVATION } else { ACCEPTED_CHECK }
    }

    fn member<A: MapAccess<'de>>(&mut self, name: &str, from: &mut A) -> Result<(), A::Error> {
        let path = Path::Member(&self.path, name);
        let index = CHECK_MEMBERS.iter().position(|known| *known == name);
        let is_known = self.is_reservation || !matches!(name, TTL | INPUT_BYTES);
        let Some(index) = index.filter(|_| is_known) else {
            let accepted = self.accepted();
            self.problems.add(path, "is unknown", accepted);
            return from.next_value_seed(Read(&mut Scalar)).map(drop);
        };
        if self.seen & (1 << index) != 0 {
            self.problems.add(path, "is given twice", ONCE);
            return from.next_value_seed(Read(&mut Scalar)).map(drop);
        }
        self.seen |= 1 << index;
        let problems = &mut *self.problems;
        match name {
            "userId" => self.user_id = optional_id(path, from, problems)?,
            "modelId" => self.model_id = optional_id(path, from, problems)?,
            "tenantId" => self.tenant_id = optional_id(path, from, problems)?,
            "apiKey" => self.api_key = optional_id(path, from, problems)?,
            "service" => self.service = optional_id(path, from, problems)?,
            "ip" => self.ip = optional_ip(path, from, problems)?,
            "attributes" => self.attributes = AttributesReader::read(path, from, problems)?,
            "cost" => {
                self.cost = AmountsReader::read(path, from, problems, Cost::one_request())?;
            }
            TTL => self.ttl = update::optional_ttl(path, from, problems)?,
            INPUT_BYTES => self.input_bytes = cost::optional_amount(path, from, problems)?.get(),
            _ => self.request_id = optional_id(path, from, problems)?,
        }
        Ok(())
    }

    /// The check, if `value` is one.
    fn finish(mut self, value: &Value<'de>) -> Option<CheckRequest<'de>> {
        if *value != Value::Object {
            let accepted = self.accepted();
            self.problems.add(self.path, value.is(), accepted);
            return None;
        }
        if let (None, Some(Client(address))) = (&self.ip, self.client) {
            self.ip = Some(Cow::Owned(address.to_string()));
        }
        let ids = [&self.user_id, &self.model_id, &self.tenant_id, &self.api_key, &self.service];
        let has_subject = ids.into_iter().chain([&self.ip]).any(Option::is_some);
        if !has_subject && self.attributes.is_empty() {
            // If a member has a problem, it may have been meant to name one.
            if self.problems.count() == self.problems_before {
                self.problems.add(self.path, "names no subject", ACCEPTED_SUBJECT);
            }
            return None;
        }
        Some(CheckRequest {
            user_id: self.user_id,
            model_id: self.model_id,
            tenant_id: self.tenant_id,
            api_key: self.api_key,
            service: self.service,
            ip: self.ip,
            attributes: self.attributes,
            cost: self.cost,
            request_id: self.request_id,
            ttl: self.ttl,
            input_bytes: self.input_bytes,
        })
    }
}

impl<'de> Container<'de> for CheckReader<'_, 'de> {
    fn object<A: MapAccess<'de>>(&mut self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key_seed(Name)? {
            self.member(&name, &mut members)?;
        }
        Ok(())
    }
}

/// An id; `null` means the same as no value.
fn optional_id<'de, A: MapAccess<'de>>(
    path: Path<'_>,
    from: &mut A,
    problems: &mut Problems,
) -> Result<Option<Cow<'de, str>>, A::Error> {
    let value = from.next_value_seed(Read(&mut Scalar))?;
    Ok(if value == Value::Null { None } else { id(path, value, problems) })
}

fn id<'de>(path: Path<'_>, value: Value<'de>, problems: &mut Problems) -> Option<Cow<'de, str>> {
    let Value::Text(text) = value else {
        problems.add(path, value.is(), ACCEPTED_IDS);
        return None;
    };
    if let Err(problem) = check_id(&text) {
        problems.add(path, problem.to_string(), ACCEPTED_IDS);
        return None;
    }
    Some(text)
}

fn optional_ip<'de, A: MapAccess<'de>>(
    path: Path<'_>,
    from: &mut A,
    problems: &mut Problems,
) -> Result<Option<Cow<'de, str>>, A::Error> {
    Ok(match from.next_value_seed(Read(&mut Scalar))? {
        Value::Null => None,
        Value::Text(text) => match text.parse::<IpAddr>() {
            // The parser accepts an IPv4 address only in its canonical form.
            Ok(IpAddr::V4(_)) => Some(text),
            Ok(address @ IpAddr::V6(_)) => Some(Cow::Owned(address.to_canonical().to_string())),
            Err(_) => {
                problems.add(path, "is not an IP address", ACCEPTED_IP);
                None
            }
        },
        other => {
            problems.add(path, other.is(), ACCEPTED_IP);
            None
        }
    })
}
