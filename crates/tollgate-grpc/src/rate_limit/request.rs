//! Reads descriptors: each is a check.
//!
//! The texts of a request are bytes until they are read here, so that a header that is not UTF-8 is a value that is not accepted,
//! and no error. Nothing is copied.

use std::borrow::Cow;
use std::net::IpAddr;

use tollgate_core::subject::{ACCEPTED_IDS, check_id};
use tollgate_core::{Amount, Attribute, Check, Cost, Subject, Unit};
use tonic::Status;

use crate::status::Problems;
use crate::undecoded::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use crate::undecoded::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use crate::undecoded::envoy::service::ratelimit::v3::RateLimitRequest;

/// The most descriptors of one request.
pub(super) const MAX_DESCRIPTORS: usize = 64;
/// The most entries of one descriptor, as many as a check has attributes over HTTP.
const MAX_ENTRIES: usize = 32;
/// The most hits of one descriptor.
const MAX_HITS: u64 = 1 << 32;

/// The attribute that has the domain of the request.
const DOMAIN: &str = "domain";
/// The entry that names a charge, so that it can be given back. It is no attribute.
const REQUEST_ID: &str = "request_id";
/// The entry that says what the hits are. It is no attribute.
const UNIT: &str = "unit";

const ACCEPTED_DESCRIPTORS: &str = "1 to 64 descriptors";
const ACCEPTED_ENTRIES: &str = "1 to 32 entries";
const ACCEPTED_HITS: &str = "0 to 4294967296";
const ACCEPTED_TEXT: &str = "text in UTF-8";
const NOT_TEXT: &str = "is not UTF-8";
const ACCEPTED_IP: &str = "an IPv4 or IPv6 address, such as 203.0.113.7 or 2001:db8::1";

// The texts above contain these numbers.
const _: () = assert!(MAX_DESCRIPTORS == 64 && MAX_ENTRIES == 32 && MAX_HITS == 4_294_967_296);

/// What happens to the hits of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hits {
    Charged,
    GivenBack,
}

/// A request that was read.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) descriptors: Vec<Descriptor<'a>>,
    hits: Hits,
}

/// A descriptor that was read.
#[derive(Debug)]
pub(super) struct Descriptor<'a> {
    domain: &'a str,
    attributes: Vec<(&'a str, Cow<'a, str>)>,
    cost: Cost,
    request_id: Option<&'a str>,
    /// What is wrong with a value.
    pub(super) refused: Option<String>,
}

/// A cost of nothing.
pub(super) fn no_hits() -> Cost {
    Cost::one_request().with(Unit::Requests, Amount::ZERO)
}

impl<'a> Asked<'a> {
    /// Reads `request`.
    ///
    /// What only the configuration of Envoy can have caused, such as a key, is an error, which names the place. What is wrong with a
    /// value is none, because clients may choose it: Envoy lets requests pass after an error, unless it is configured otherwise.
    pub(super) fn read(request: &'a RateLimitRequest) -> Result<Self, Status> {
        let mut problems = Problems::default();
        let count = request.descriptors.len();
        if count == 0 || count > MAX_DESCRIPTORS {
            let problem = format!("has {count} elements");
            problems.add(&"descriptors", &problem, ACCEPTED_DESCRIPTORS);
            return Err(problems.into_status());
        }
        let domain = domain(request, &mut problems);
        let of_request = request.hits_addend;
        let mut descriptors = Vec::with_capacity(count);
        for (place, descriptor) in request.descriptors.iter().enumerate() {
            let reader = Reader { domain, of_request, place, problems: &mut problems };
            descriptors.push(reader.read(descriptor));
        }
        let negative = request.descriptors.iter().filter(|one| one.is_negative_hits).count();
        if count > 1 && descriptors.iter().any(|one| one.request_id.is_some()) {
            let problem = "has a `request_id` beside other descriptors";
            let accepted = "a `request_id` in the only descriptor of a request";
            problems.add(&"descriptors", &problem, accepted);
        } else if count > 1 && negative > 0 {
            let problem = "has `is_negative_hits` beside other descriptors";
            let accepted = "`is_negative_hits` in the only descriptor of a request";
            problems.add(&"descriptors", &problem, accepted);
        } else if negative > 0 && descriptors.iter().all(|one| one.request_id.is_none()) {
            let problem = "is given without an entry `request_id`, so nothing says which charge is given back";
            let accepted = "an entry `request_id`, with the value that the charge had";
            problems.add(&"descriptors[0].is_negative_hits", &problem, accepted);
        }
        let hits = if negative > 0 { Hits::GivenBack } else { Hits::Charged };
        problems.or(Self { descriptors, hits })
    }

    /// What happens to the hits.
    pub(super) fn hits(&self) -> Hits {
        self.hits
    }

    /// What is wrong with the first value that is refused, if one is.
    pub(super) fn refused_value(&self) -> Option<&str> {
        self.descriptors.iter().find_map(|descriptor| descriptor.refused.as_deref())
    }

    /// The checks of the descriptors whose values are accepted.
    pub(super) fn accepted(&self) -> Vec<Check<'_>> {
        let accepted = self.descriptors.iter().filter(|one| one.refused.is_none());
        accepted.map(Descriptor::check).collect()
    }
}

impl Descriptor<'_> {
    fn check(&self) -> Check<'_> {
        let mut subject = Subject::empty();
        if !self.domain.is_empty() {
            subject.set_named(DOMAIN, self.domain);
        }
        for (name, value) in &self.attributes {
            subject.set_named(name, value);
        }
        let check = Check::of(subject).at_cost(self.cost.clone());
        Check { request_id: self.request_id, ..check }
    }
}

/// The domain; empty if there is none.
fn domain<'a>(request: &'a RateLimitRequest, problems: &mut Problems) -> &'a str {
    let Ok(domain) = str::from_utf8(&request.domain) else {
        problems.add(&"domain", &NOT_TEXT, ACCEPTED_TEXT);
        return "";
    };
    if !domain.is_empty()
        && let Err(problem) = check_id(domain)
    {
        problems.add(&"domain", &problem, ACCEPTED_IDS);
    }
    domain
}

/// Reads one descriptor.
struct Reader<'p, 'a> {
    domain: &'a str,
    /// The hits of the request; 0 if it does not say.
    of_request: u32,
    place: usize,
    problems: &'p mut Problems,
}

impl<'a> Reader<'_, 'a> {
    fn read(mut self, descriptor: &'a RateLimitDescriptor) -> Descriptor<'a> {
        let count = descriptor.entries.len();
        if count == 0 || count > MAX_ENTRIES {
            self.problem("entries", &format!("has {count} elements"), ACCEPTED_ENTRIES);
        }
        if descriptor.limit.is_some() {
            let accepted = "no limit: limits are policies, which this server has";
            self.problem("limit", &"is given", accepted);
        }
        let mut read = Descriptor {
            domain: self.domain,
            attributes: Vec::with_capacity(count),
            cost: Cost::one_request(),
            request_id: None,
            refused: None,
        };
        let mut unit = None;
        for (place, entry) in descriptor.entries.iter().take(MAX_ENTRIES).enumerate() {
            let Ok(key) = str::from_utf8(&entry.key) else {
                self.problem(&format!("entries[{place}].key"), &NOT_TEXT, ACCEPTED_TEXT);
                continue;
            };
            let is_known = match key {
                UNIT => unit.is_some(),
                REQUEST_ID => read.request_id.is_some(),
                _ => false,
            };
            if is_known {
                self.twice(place, key);
                continue;
            }
            let value = match key {
                UNIT => self.unit(place, entry).map(|known| unit = Some(known)),
                REQUEST_ID => self.id(place, key, entry).map(|id| read.request_id = Some(id)),
                _ => self.attribute(place, key, entry, &mut read),
            };
            if let Err(refused) = value {
                read.refused.get_or_insert(refused);
            }
        }
        read.cost = self.cost(descriptor, unit.unwrap_or(Unit::Requests));
        read
    }

    fn problem(&mut self, member: &str, problem: &dyn std::fmt::Display, accepted: &str) {
        let field = format!("descriptors[{}].{member}", self.place);
        self.problems.add(&field, problem, accepted);
    }

    #[cold]
    fn twice(&mut self, place: usize, key: &str) {
        let accepted = "each key once in a descriptor; `descriptor_key` of an action sets the key";
        self.problem(&format!("entries[{place}]"), &format!("({key}) is given twice"), accepted);
    }

    /// The value of an entry that must be an id, or why it is refused.
    fn id(&self, place: usize, key: &str, entry: &'a Entry) -> Result<&'a str, String> {
        let value = str::from_utf8(&entry.value);
        let value = value.map_err(|_| self.refusal(place, key, &NOT_TEXT, ACCEPTED_IDS))?;
        check_id(value).map_err(|problem| self.refusal(place, key, &problem, ACCEPTED_IDS))?;
        Ok(value)
    }

    #[cold]
    fn refusal(
        &self,
        place: usize,
        key: &str,
        problem: &dyn std::fmt::Display,
        accepted: &str,
    ) -> String {
        let descriptor = self.place;
        format!(
            "descriptors[{descriptor}].entries[{place}] ({key}) {problem}; accepted: {accepted}"
        )
    }

    /// Reads an attribute, or says why its value is refused.
    fn attribute(
        &mut self,
        place: usize,
        key: &'a str,
        entry: &'a Entry,
        read: &mut Descriptor<'a>,
    ) -> Result<(), String> {
        let Some(name) = self.name(place, key) else { return Ok(()) };
        if read.attributes.iter().any(|(known, _)| *known == name) {
            self.twice(place, key);
            return Ok(());
        }
        let mut value = Cow::Borrowed(self.id(place, key, entry)?);
        if name == "ip" {
            let address = value.parse::<IpAddr>();
            let refused = |_| self.refusal(place, key, &"is not an IP address", ACCEPTED_IP);
            value = Cow::Owned(address.map_err(refused)?.to_canonical().to_string());
        }
        read.attributes.push((name, value));
        Ok(())
    }

    /// The name of the attribute that `key` stands for.
    fn name(&mut self, place: usize, key: &'a str) -> Option<&'a str> {
        let member = || format!("entries[{place}]");
        let name = match key {
            "api_key" => "apiKey",
            "model_tier" => "modelTier",
            "remote_address" => "ip",
            _ => key,
        };
        if let Err(problem) = check_id(name) {
            self.problem(&member(), &format!("has a key that {problem}"), ACCEPTED_IDS);
            return None;
        }
        if let Some(like) = Attribute::resembled_by(name) {
            let problem = format!("({key}) resembles the attribute `{like}`, but is not the same");
            self.problem(&member(), &problem, &format!("the key `{}`", key_of(like)));
            return None;
        }
        if name == DOMAIN {
            let accepted = "the domain of the request, which is this attribute";
            self.problem(&member(), &"has the key `domain`", accepted);
            return None;
        }
        Some(name)
    }

    /// The unit that an entry names, or why its value is refused.
    fn unit(&self, place: usize, entry: &Entry) -> Result<Unit, String> {
        let refused = |problem: &dyn std::fmt::Display| {
            self.refusal(place, UNIT, problem, Unit::ACCEPTED_IN_COSTS)
        };
        let value = str::from_utf8(&entry.value).map_err(|_| refused(&NOT_TEXT))?;
        let unit = Unit::parse(value).filter(Unit::has_cost);
        unit.ok_or_else(|| refused(&format_args!("is {value:?}, which is not a unit with a cost")))
    }

    fn cost(&mut self, descriptor: &RateLimitDescriptor, unit: Unit) -> Cost {
        // Without a presence of its own, 0 on the request is the same as nothing.
        let hits = descriptor.hits_addend.unwrap_or(self.of_request.max(1).into());
        if hits > MAX_HITS {
            self.problem("hits_addend", &format!("is {hits}"), ACCEPTED_HITS);
        }
        let cost = no_hits();
        cost.with(unit, Amount::new(hits).unwrap_or(Amount::MAX))
    }
}

/// The key of an entry that stands for a built-in attribute.
fn key_of(attribute: &str) -> &str {
    match attribute {
        "apiKey" => "api_key",
        "modelTier" => "model_tier",
        other => other,
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
