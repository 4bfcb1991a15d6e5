//! `csv`: a header names the fields of a check, and each line is one check.

use tollgate_core::subject::{ACCEPTED_IDS, check_id};
use tollgate_core::{Attribute, Check, Cost, Subject, Timestamp, Unit};

use super::records::RecordReader;
use super::{parse_amount, time};
use crate::error::{Problem, shown};

/// The column of the time.
pub(super) const TIMESTAMP: &str = "timestamp";

/// The columns of named attributes; the first two are required.
const ATTRIBUTES: [(&str, Attribute); 8] = [
    ("userId", Attribute::User),
    ("modelId", Attribute::Model),
    ("tenantId", Attribute::Tenant),
    ("apiKey", Attribute::ApiKey),
    ("service", Attribute::Service),
    ("ip", Attribute::Ip),
    ("tier", Attribute::Tier),
    ("modelTier", Attribute::ModelTier),
];

const REQUIRED: [&str; 3] = [TIMESTAMP, "userId", "modelId"];

const ACCEPTED: &str = "`timestamp`, `userId`, `modelId` (all three required), `tenantId`, `apiKey`, `service`, `ip`, \
     `tier`, `modelTier`, `cost.<unit>`, `attributes.<name>`, each once";

enum Field {
    Timestamp,
    Attribute(Attribute),
    Cost(Unit),
}

struct Column {
    name: String,
    field: Field,
    required: bool,
}

/// The columns of a trace, in its order.
pub(super) struct CheckColumns(Vec<Column>);

impl CheckColumns {
    /// The columns that `header` names.
    pub(super) fn parse(header: &[&str]) -> Result<Self, Problem> {
        if let Some(missing) = REQUIRED.iter().find(|required| !header.contains(required)) {
            let problem = format!("has no column `{missing}`");
            return Err(Problem::new("header", problem, ACCEPTED));
        }
        let columns = header.iter().enumerate().map(|(index, name)| {
            if header[..index].contains(name) {
                let problem = format!("has the column {} twice", shown(name));
                return Err(Problem::new("header", problem, ACCEPTED));
            }
            let required = REQUIRED.contains(name);
            Ok(Column { name: (*name).to_owned(), field: parse_field(name)?, required })
        });
        columns.collect::<Result<_, _>>().map(Self)
    }

    /// The check that `record` is.
    pub(super) fn check<'a, R>(
        &'a self,
        record: &'a RecordReader<R>,
    ) -> Result<(Timestamp, Check<'a>), Problem> {
        record.expect_len(self.0.len())?;
        let (mut at, mut subject, mut cost) =
            (Timestamp::default(), Subject::empty(), Cost::one_request());
        for (index, column) in self.0.iter().enumerate() {
            let text = record.field(index, &column.name)?;
            if text.is_empty() && !column.required {
                continue;
            }
            match &column.field {
                Field::Timestamp => at = time::parse(&column.name, text)?,
                Field::Cost(unit) => cost.set(unit.clone(), parse_amount(&column.name, text)?),
                Field::Attribute(attribute) => {
                    let refused =
                        |problem| Problem::new(&column.name, format!("{problem}"), ACCEPTED_IDS);
                    check_id(text).map_err(refused)?;
                    subject.set(attribute, text);
                }
            }
        }
        Ok((at, Check { subject, cost }))
    }
}

fn parse_field(name: &str) -> Result<Field, Problem> {
    if name == TIMESTAMP {
        return Ok(Field::Timestamp);
    }
    if let Some((_, attribute)) = ATTRIBUTES.iter().find(|(column, _)| *column == name) {
        return Ok(Field::Attribute(attribute.clone()));
    }
    if let Some(unit) = name.strip_prefix("cost.") {
        let refuse = || {
            let problem = format!("has the column {}, whose unit is none", shown(name));
            Problem::new("header", problem, format!("`cost.` and {}", Unit::ACCEPTED))
        };
        return Unit::parse(unit).map(Field::Cost).ok_or_else(refuse);
    }
    if let Some(custom) = name.strip_prefix("attributes.") {
        return match Attribute::parse(custom) {
            Some(attribute @ Attribute::Custom(_)) => Ok(Field::Attribute(attribute)),
            _ => Err(refuse_attribute(name)),
        };
    }
    Err(Problem::new("header", format!("has the unknown column {}", shown(name)), ACCEPTED))
}

fn refuse_attribute(name: &str) -> Problem {
    let problem = format!("has the column {}, which names no custom attribute", shown(name));
    let accepted = format!(
        "`attributes.` and a name of {ACCEPTED_IDS} that is not built in (`tenant`, `user`, `apiKey`, `model`, \
         `modelTier`, `service`, `ip`, `tier`)"
    );
    Problem::new("header", problem, accepted)
}
