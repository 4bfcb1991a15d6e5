//! Parses the cost of a check.

use serde::de::MapAccess;
use tollgate_core::{Amount, Cost, Unit};

use super::super::json::{Container, Name, Path, Problems, Read, Scalar, Value};
use super::{MAX_COST_UNITS, ONCE};

const ACCEPTED_COST: &str = "an object of at most 16 integers by unit";
const ACCEPTED_AMOUNT: &str =
    "an integer from 0 to 9007199254740991, written without a fraction or an exponent";

// The text above contains this number.
const _: () = assert!(Amount::MAX.get() == 9_007_199_254_740_991);

/// Parses `cost`: an object of amounts by unit.
pub(super) struct CostReader<'p> {
    path: Path<'p>,
    problems: &'p mut Problems,
    cost: Cost,
}

impl<'p> CostReader<'p> {
    pub(super) fn read<'de, A: MapAccess<'de>>(
        path: Path<'p>,
        from: &mut A,
        problems: &'p mut Problems,
    ) -> Result<Cost, A::Error> {
        let mut reader = Self { path, problems, cost: Cost::one_request() };
        match from.next_value_seed(Read(&mut reader))? {
            Value::Object | Value::Null => {}
            other => reader.problems.add(path, other.is(), ACCEPTED_COST),
        }
        Ok(reader.cost)
    }

    fn amount(&mut self, path: Path<'_>, value: &Value<'_>) -> Option<Amount> {
        let problem = match value {
            Value::Integer(value) => match Amount::new(*value) {
                Some(amount) => return Some(amount),
                None => "is too large",
            },
            Value::OtherNumber => "is not a whole number in plain digits, or is too large",
            other => other.is(),
        };
        self.problems.add(path, problem, ACCEPTED_AMOUNT);
        None
    }
}

impl<'de> Container<'de> for CostReader<'_> {
    fn object<A: MapAccess<'de>>(&mut self, mut members: A) -> Result<(), A::Error> {
        let mut count = 0;
        let mut seen: Vec<Unit> = Vec::new();
        while let Some(name) = members.next_key_seed(Name)? {
            let value = members.next_value_seed(Read(&mut Scalar))?;
            count += 1;
            if count > MAX_COST_UNITS {
                continue;
            }
            let own_path = self.path;
            let path = Path::Member(&own_path, &name);
            let amount = self.amount(path, &value);
            match Unit::parse(&name) {
                None => self.problems.add(path, "is not a unit", Unit::ACCEPTED_IN_COSTS),
                Some(unit) if !unit.has_cost() => {
                    self.problems.add(path, Unit::NO_COST, Unit::ACCEPTED_IN_COSTS);
                }
                Some(unit) if seen.contains(&unit) => {
                    self.problems.add(path, "is given twice", ONCE);
                }
                Some(unit) => {
                    if let Some(amount) = amount {
                        self.cost.set(unit.clone(), amount);
                    }
                    seen.push(unit);
                }
            }
        }
        if count > MAX_COST_UNITS {
            self.problems.add(self.path, format!("has {count} members"), ACCEPTED_COST);
        }
        Ok(())
    }
}
