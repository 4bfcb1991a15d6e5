//! Parses a batch of checks.

use serde::de::{MapAccess, SeqAccess};
use tollgate_service::MAX_BATCH_CHECKS;

use super::super::client::Client;
use super::super::json::{Container, Name, Path, Problems, Read, Scalar, Value};
use super::{CheckReader, CheckRequest};

const ACCEPTED_BATCH: &str = "an object with the member checks, an array of at most 1000 checks";
const ACCEPTED_CHECKS: &str = "an array of at most 1000 checks";

// The texts above contain this number.
const _: () = assert!(MAX_BATCH_CHECKS == 1_000);

/// Parses a batch: an object whose member `checks` is an array of checks.
pub(super) struct BatchReader<'p, 'de> {
    problems: &'p mut Problems,
    client: Option<Client>,
    checks: Option<Vec<CheckRequest<'de>>>,
    seen: bool,
}

const CHECKS: Path<'static> = Path::Member(&Path::Body, "checks");

impl<'p, 'de> BatchReader<'p, 'de> {
    pub(super) fn new(problems: &'p mut Problems, client: Option<Client>) -> Self {
        Self { problems, client, checks: None, seen: false }
    }

    /// The checks, if `value` is a batch.
    pub(super) fn finish(self, value: &Value<'de>) -> Option<Vec<CheckRequest<'de>>> {
        if *value != Value::Object {
            self.problems.add(Path::Body, value.is(), ACCEPTED_BATCH);
        } else if !self.seen {
            self.problems.add(CHECKS, "is missing", ACCEPTED_CHECKS);
        }
        self.checks
    }
}

impl<'de> Container<'de> for BatchReader<'_, 'de> {
    fn object<A: MapAccess<'de>>(&mut self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key_seed(Name)? {
            if name != "checks" || self.seen {
                let problem = if name == "checks" { "is given twice" } else { "is unknown" };
                self.problems.add(Path::Member(&Path::Body, &name), problem, ACCEPTED_BATCH);
                members.next_value_seed(Read(&mut Scalar))?;
                continue;
            }
            self.seen = true;
            let mut reader =
                ChecksReader { problems: self.problems, client: self.client, checks: Vec::new() };
            let value = members.next_value_seed(Read(&mut reader))?;
            let checks = reader.checks;
            if value == Value::Array {
                self.checks = Some(checks);
            } else {
                self.problems.add(CHECKS, value.is(), ACCEPTED_CHECKS);
            }
        }
        Ok(())
    }
}

/// Parses the array of checks of a batch.
struct ChecksReader<'p, 'de> {
    problems: &'p mut Problems,
    client: Option<Client>,
    checks: Vec<CheckRequest<'de>>,
}

impl<'de> Container<'de> for ChecksReader<'_, 'de> {
    fn array<A: SeqAccess<'de>>(&mut self, mut elements: A) -> Result<(), A::Error> {
        let mut count = 0;
        loop {
            if count == MAX_BATCH_CHECKS {
                break;
            }
            let mut reader =
                CheckReader::new(Path::Element(&CHECKS, count), self.problems, self.client);
            let Some(value) = elements.next_element_seed(Read(&mut reader))? else { return Ok(()) };
            self.checks.extend(reader.finish(&value));
            count += 1;
        }
        while elements.next_element_seed(Read(&mut Scalar))?.is_some() {
            count += 1;
        }
        if count > MAX_BATCH_CHECKS {
            self.problems.add(CHECKS, format!("has {count} elements"), ACCEPTED_CHECKS);
        }
        Ok(())
    }
}
