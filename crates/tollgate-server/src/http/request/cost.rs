//! Parses amounts by unit: the cost of a check, and the totals of a lease.

use serde::de::MapAccess;
use tollgate_core::{Amount, Cost, Totals, Unit};

use super::super::json::{Container, Name, Path, Problems, Read, Scalar, Value};
use super::{MAX_COST_UNITS, ONCE};

const ACCEPTED_AMOUNTS: &str = "an object of at most 16 integers by unit";
const ACCEPTED_AMOUNT: &str =
    "an integer from 0 to 9007199254740991, written without a fraction or an exponent";

// The text above contains this number.
const _: () = assert!(Amount::MAX.get() == 9_007_199_254_740_991);

/// What collects amounts by unit.
pub(super) trait Amounts {
    fn set_amount(&mut self, unit: Unit, amount: Amount);
}

impl Amounts for Cost {
    fn set_amount(&mut self, unit: Unit, amount: Amount) {
        self.set(unit, amount);
    }
}

impl Amounts for Totals {
    fn set_amount(&mut self, unit: Unit, amount: Amount) {
        self.set(unit, amount);
    }
}

/// Parses an object of amounts by unit.
pub(super) struct AmountsReader<'p, T> {
    path: Path<'p>,
    problems: &'p mut Problems,
    amounts: T,
}

impl<'p, T: Amounts> AmountsReader<'p, T> {
    /// `amounts` with what the value has; `null` means the same as no value.
    pub(super) fn read<'de, A: MapAccess<'de>>(
        path: Path<'p>,
        from: &mut A,
        problems: &'p mut Problems,
        amounts: T,
    ) -> Result<T, A::Error> {
        Self::read_value(path, from, problems, amounts, true)
    }

    /// The same for a value that must not be `null`.
    pub(super) fn read_required<'de, A: MapAccess<'de>>(
        path: Path<'p>,
        from: &mut A,
        problems: &'p mut Problems,
        amounts: T,
    ) -> Result<T, A::Error> {
        Self::read_value(path, from, problems, amounts, false)
    }

    fn read_value<'de, A: MapAccess<'de>>(
        path: Path<'p>,
        from: &mut A,
        problems: &'p mut Problems,
        amounts: T,
        may_be_null: bool,
    ) -> Result<T, A::Error> {
        let mut reader = Self { path, problems, amounts };
        match from.next_value_seed(Read(&mut reader))? {
            Value::Object => {}
            Value::Null if may_be_null => {}
            other => reader.problems.add(path, other.is(), ACCEPTED_AMOUNTS),
        }
        Ok(reader.amounts)
    }

    fn amount(&mut self, path: Path<'_>, value: &Value<'_>) -> Option<Amount> {
        amount(path, value, self.problems)
    }
}

fn amount(path: Path<'_>, value: &Value<'_>, problems: &mut Problems) -> Option<Amount> {
    let problem = match value {
        Value::Integer(value) => match Amount::new(*value) {
            Some(amount) => return Some(amount),
            None => "is too large",
        },
        Value::OtherNumber => "is not a whole number in plain digits, or is too large",
        other => other.is(),
    };
    problems.add(path, problem, ACCEPTED_AMOUNT);
    None
}

/// An amount; `null` means the same as no value, and that is 0.
pub(super) fn optional_amount<'de, A: MapAccess<'de>>(
    path: Path<'_>,
    from: &mut A,
    problems: &mut Problems,
) -> Result<Amount, A::Error> {
    let value = from.next_value_seed(Read(&mut Scalar))?;
    if value == Value::Null {
        return Ok(Amount::ZERO);
    }
    Ok(amount(path, &value, problems).unwrap_or(Amount::ZERO))
}

impl<'de, T: Amounts> Container<'de> for AmountsReader<'_, T> {
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
                        self.amounts.set_amount(unit.clone(), amount);
                    }
                    seen.push(unit);
                }
            }
        }
        if count > MAX_COST_UNITS {
            self.problems.add(self.path, format!("has {count} members"), ACCEPTED_AMOUNTS);
        }
        Ok(())
    }
}
