//! Parses the bodies of updates of leases: extensions, settlements and batches of settlements.

use std::borrow::Cow;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess};
use tollgate_core::{Amount, LeaseUpdate, Quality, Totals, Ttl};
use tollgate_service::MAX_BATCH_SETTLEMENTS;

use super::super::json::{Container, Name, Path, Problems, Read, Scalar, Value, read_body};
use super::super::problem::Problem;
use super::ONCE;
use super::cost::AmountsReader;

const ACCEPTED_EXTENSION: &str =
    "an object with the member seq and optionally ttlMs, observed, wanted";
const ACCEPTED_SETTLEMENT: &str =
    "an object with the members seq and usage, and optionally quality";
const ACCEPTED_BATCHED: &str =
    "an object with the members leaseId, seq and usage, and optionally quality";
const ACCEPTED_BATCH: &str =
    "an object with the member settlements, an array of at most 1000 settlements";
const ACCEPTED_SETTLEMENTS: &str = "an array of at most 1000 settlements";
const ACCEPTED_SEQ: &str = "an integer from 1 to 9007199254740991, higher with each update of the lease and the same \
     when one is sent again";
const ACCEPTED_USAGE: &str = "an object of at most 16 integers by unit: what was used in all";
const ACCEPTED_LEASE_ID: &str = "the id of a lease, as a string";

// The texts above contain this number.
const _: () = assert!(MAX_BATCH_SETTLEMENTS == 1_000);

const SETTLEMENTS: Path<'static> = Path::Member(&Path::Body, "settlements");

/// A parsed extension.
#[derive(Debug, PartialEq)]
pub(in super::super) struct ExtensionRequest {
    seq: Amount,
    ttl: Option<Ttl>,
    observed: Totals,
    wanted: Totals,
}

impl ExtensionRequest {
    /// Parses the body of an extension.
    pub(in super::super) fn parse(body: &[u8]) -> Result<Self, Problem> {
        read_body(body, |from, problems| {
            let mut reader = UpdateReader::new(UpdateKind::Extension, Path::Body, problems);
            let value = Read(&mut reader).deserialize(from)?;
            let Some(update) = reader.finish(&value) else { return Ok(None) };
            let UpdateReader { ttl, observed, wanted, .. } = reader;
            Ok(Some(Self { seq: update, ttl, observed, wanted }))
        })
    }

    /// The update for the use case.
    pub(in super::super) fn into_update(self) -> LeaseUpdate {
        let Self { seq, ttl, observed, wanted } = self;
        LeaseUpdate::Extend { seq, ttl, observed, wanted }
    }
}

/// A parsed settlement.
#[derive(Debug, PartialEq)]
pub(in super::super) struct SettlementRequest<'de> {
    /// As it was sent; empty if the path names the lease.
    pub(in super::super) lease_id: Cow<'de, str>,
    pub(in super::super) seq: Amount,
    pub(in super::super) usage: Totals,
    pub(in super::super) quality: Quality,
}

impl<'de> SettlementRequest<'de> {
    /// The same as an update of the lease.
    pub(in super::super) fn to_update(&self) -> LeaseUpdate {
        let Self { seq, quality, .. } = *self;
        LeaseUpdate::Settle { seq, usage: self.usage.clone(), quality }
    }

    /// Parses the body of a settlement of one lease, which its path names.
    pub(in super::super) fn parse(body: &'de [u8]) -> Result<Self, Problem> {
        read_body(body, |from, problems| {
            let mut reader = UpdateReader::new(UpdateKind::Settlement, Path::Body, problems);
            let value = Read(&mut reader).deserialize(from)?;
            Ok(reader.settlement(&value))
        })
    }

    /// Parses the body of a batch of settlements.
    pub(in super::super) fn parse_batch(body: &'de [u8]) -> Result<Vec<Self>, Problem> {
        read_body(body, |from, problems| {
            let mut reader = BatchReader { problems, settlements: None, seen: false };
            let value = Read(&mut reader).deserialize(from)?;
            Ok(reader.finish(&value))
        })
    }
}

/// An optional time to live; `null` means the same as no value.
pub(super) fn optional_ttl<'de, A: MapAccess<'de>>(
    path: Path<'_>,
    from: &mut A,
    problems: &mut Problems,
) -> Result<Option<Ttl>, A::Error> {
    let problem = match from.next_value_seed(Read(&mut Scalar))? {
        Value::Null => return Ok(None),
        Value::Integer(ms) => match Ttl::from_ms(ms) {
            Some(ttl) => return Ok(Some(ttl)),
            None => "is out of range",
        },
        Value::OtherNumber => "is not a whole number in plain digits, or is too large",
        other => other.is(),
    };
    problems.add(path, problem, Ttl::ACCEPTED);
    Ok(None)
}

/// What is parsed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UpdateKind {
    Extension,
    Settlement,
    /// An element of a batch.
    Batched,
}

impl UpdateKind {
    const fn members(self) -> &'static [&'static str] {
        match self {
            Self::Extension => &["seq", "ttlMs", "observed", "wanted"],
            Self::Settlement => &["seq", "usage", "quality"],
            Self::Batched => &["seq", "usage", "quality", "leaseId"],
        }
    }

    const fn accepted(self) -> &'static str {
        match self {
            Self::Extension => ACCEPTED_EXTENSION,
            Self::Settlement => ACCEPTED_SETTLEMENT,
            Self::Batched => ACCEPTED_BATCHED,
        }
    }
}

/// Parses an update: an object with the members of its kind.
struct UpdateReader<'p, 'de> {
    kind: UpdateKind,
    path: Path<'p>,
    problems: &'p mut Problems,
    /// One bit for each parsed member, to refuse duplicates.
    seen: u8,
    seq: Option<Amount>,
    ttl: Option<Ttl>,
    observed: Totals,
    wanted: Totals,
    usage: Totals,
    quality: Quality,
    lease_id: Option<Cow<'de, str>>,
}

impl<'p, 'de> UpdateReader<'p, 'de> {
    fn new(kind: UpdateKind, path: Path<'p>, problems: &'p mut Problems) -> Self {
        Self {
            kind,
            path,
            problems,
            seen: 0,
            seq: None,
            ttl: None,
            observed: Totals::none(),
            wanted: Totals::none(),
            usage: Totals::none(),
            quality: Quality::default(),
            lease_id: None,
        }
    }

    fn member<A: MapAccess<'de>>(&mut self, name: &str, from: &mut A) -> Result<(), A::Error> {
        let path = Path::Member(&self.path, name);
        let Some(index) = self.kind.members().iter().position(|known| *known == name) else {
            self.problems.add(path, "is unknown", self.kind.accepted());
            return from.next_value_seed(Read(&mut Scalar)).map(drop);
        };
        if self.seen & (1 << index) != 0 {
            self.problems.add(path, "is given twice", ONCE);
            return from.next_value_seed(Read(&mut Scalar)).map(drop);
        }
        self.seen |= 1 << index;
        let problems = &mut *self.problems;
        let totals = |from: &mut A, problems: &mut Problems| {
            AmountsReader::read(path, from, problems, Totals::none())
        };
        match name {
            "seq" => self.seq = seq(path, from, problems)?,
            "ttlMs" => self.ttl = optional_ttl(path, from, problems)?,
            "observed" => self.observed = totals(from, problems)?,
            "wanted" => self.wanted = totals(from, problems)?,
            "usage" => {
                self.usage = AmountsReader::read_required(path, from, problems, Totals::none())?;
            }
            "quality" => self.quality = quality(path, from, problems)?,
            _ => self.lease_id = lease_id(path, from, problems)?,
        }
        Ok(())
    }

    /// The sequence number, if `value` is an update with all the members that it needs.
    fn finish(&mut self, value: &Value<'de>) -> Option<Amount> {
        if *value != Value::Object {
            self.problems.add(self.path, value.is(), self.kind.accepted());
            return None;
        }
        let needed = [
            ("leaseId", ACCEPTED_LEASE_ID, self.kind == UpdateKind::Batched),
            ("seq", ACCEPTED_SEQ, true),
            ("usage", ACCEPTED_USAGE, self.kind != UpdateKind::Extension),
        ];
        for (name, accepted, _) in needed.into_iter().filter(|(_, _, is_needed)| *is_needed) {
            let index = self.kind.members().iter().position(|known| *known == name);
            if index.is_some_and(|index| self.seen & (1 << index) == 0) {
                self.problems.add(Path::Member(&self.path, name), "is missing", accepted);
            }
        }
        self.seq
    }

    /// The settlement, if `value` is one.
    fn settlement(mut self, value: &Value<'de>) -> Option<SettlementRequest<'de>> {
        let seq = self.finish(value)?;
        let lease_id = self.lease_id.unwrap_or_default();
        Some(SettlementRequest { lease_id, seq, usage: self.usage, quality: self.quality })
    }
}

impl<'de> Container<'de> for UpdateReader<'_, 'de> {
    fn object<A: MapAccess<'de>>(&mut self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key_seed(Name)? {
            self.member(&name, &mut members)?;
        }
        Ok(())
    }
}

fn seq<'de, A: MapAccess<'de>>(
    path: Path<'_>,
    from: &mut A,
    problems: &mut Problems,
) -> Result<Option<Amount>, A::Error> {
    let problem = match from.next_value_seed(Read(&mut Scalar))? {
        Value::Integer(0) => "is 0",
        Value::Integer(seq) => match Amount::new(seq) {
            Some(seq) => return Ok(Some(seq)),
            None => "is too large",
        },
        Value::OtherNumber => "is not a whole number in plain digits, or is too large",
        other => other.is(),
    };
    problems.add(path, problem, ACCEPTED_SEQ);
    Ok(None)
}

fn quality<'de, A: MapAccess<'de>>(
    path: Path<'_>,
    from: &mut A,
    problems: &mut Problems,
) -> Result<Quality, A::Error> {
    let problem = match from.next_value_seed(Read(&mut Scalar))? {
        Value::Null => return Ok(Quality::default()),
        Value::Text(text) => match Quality::parse(&text) {
            Some(quality) => return Ok(quality),
            None => "is not a quality",
        },
        other => other.is(),
    };
    problems.add(path, problem, Quality::ACCEPTED);
    Ok(Quality::default())
}

fn lease_id<'de, A: MapAccess<'de>>(
    path: Path<'_>,
    from: &mut A,
    problems: &mut Problems,
) -> Result<Option<Cow<'de, str>>, A::Error> {
    match from.next_value_seed(Read(&mut Scalar))? {
        Value::Text(text) => return Ok(Some(text)),
        other => problems.add(path, other.is(), ACCEPTED_LEASE_ID),
    }
    Ok(None)
}

/// Parses a batch: an object whose member `settlements` is an array of settlements.
struct BatchReader<'p, 'de> {
    problems: &'p mut Problems,
    settlements: Option<Vec<SettlementRequest<'de>>>,
    seen: bool,
}

impl<'de> BatchReader<'_, 'de> {
    /// The settlements, if `value` is a batch.
    fn finish(self, value: &Value<'de>) -> Option<Vec<SettlementRequest<'de>>> {
        if *value != Value::Object {
            self.problems.add(Path::Body, value.is(), ACCEPTED_BATCH);
        } else if !self.seen {
            self.problems.add(SETTLEMENTS, "is missing", ACCEPTED_SETTLEMENTS);
        }
        self.settlements
    }
}

impl<'de> Container<'de> for BatchReader<'_, 'de> {
    fn object<A: MapAccess<'de>>(&mut self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key_seed(Name)? {
            let is_known = name == "settlements";
            if !is_known || self.seen {
                let problem = if is_known { "is given twice" } else { "is unknown" };
                self.problems.add(Path::Member(&Path::Body, &name), problem, ACCEPTED_BATCH);
                members.next_value_seed(Read(&mut Scalar))?;
                continue;
            }
            self.seen = true;
            let mut reader = SettlementsReader { problems: self.problems, settlements: Vec::new() };
            let value = members.next_value_seed(Read(&mut reader))?;
            let settlements = reader.settlements;
            if value == Value::Array {
                self.settlements = Some(settlements);
            } else {
                self.problems.add(SETTLEMENTS, value.is(), ACCEPTED_SETTLEMENTS);
            }
        }
        Ok(())
    }
}

/// Parses the array of settlements of a batch.
struct SettlementsReader<'p, 'de> {
    problems: &'p mut Problems,
    settlements: Vec<SettlementRequest<'de>>,
}

impl<'de> Container<'de> for SettlementsReader<'_, 'de> {
    fn array<A: SeqAccess<'de>>(&mut self, mut elements: A) -> Result<(), A::Error> {
        let mut count = 0;
        while count < MAX_BATCH_SETTLEMENTS {
            let path = Path::Element(&SETTLEMENTS, count);
            let mut reader = UpdateReader::new(UpdateKind::Batched, path, self.problems);
            let Some(value) = elements.next_element_seed(Read(&mut reader))? else { return Ok(()) };
            self.settlements.extend(reader.settlement(&value));
            count += 1;
        }
        while elements.next_element_seed(Read(&mut Scalar))?.is_some() {
            count += 1;
        }
        if count > MAX_BATCH_SETTLEMENTS {
            self.problems.add(SETTLEMENTS, format!("has {count} elements"), ACCEPTED_SETTLEMENTS);
        }
        Ok(())
    }
}
