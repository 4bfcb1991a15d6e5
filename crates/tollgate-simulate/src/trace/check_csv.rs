//! `csv`: the header names the fields of a check, and each line is one check.

use std::net::IpAddr;

use tollgate_core::subject::{ACCEPTED_IDS, check_id};
use tollgate_core::{Attribute, Check, Cost, Subject, Timestamp, Unit};

use super::records::RecordReader;
use super::{parse_amount, time};
use crate::error::{LineProblem, shown};

/// The column with the time.
pub(super) const TIMESTAMP: &str = "timestamp";

/// The columns with named attributes; the first two are required.
const ATTRIBUTES: [(&str, Attribute); 7] = [
    ("userId", Attribute::User),
    ("modelId", Attribute::Model),
    ("tenantId", Attribute::Tenant),
    ("apiKey", Attribute::ApiKey),
    ("service", Attribute::Service),
    ("tier", Attribute::Tier),
    ("modelTier", Attribute::ModelTier),
];

const REQUIRED: [&str; 3] = [TIMESTAMP, "userId", "modelId"];

const ACCEPTED: &str = "`timestamp`, `userId`, `modelId` (all three required), `tenantId`, `apiKey`, `service`, `ip`, \
     `tier`, `modelTier`, `cost.<unit>`, `attributes.<name>`, each once";

const ACCEPTED_IPS: &str = "an IPv4 or IPv6 address, such as 203.0.113.7 or 2001:db8::1";

#[derive(PartialEq, Eq)]
enum Field {
    Timestamp,
    Ip,
    Attribute(Attribute),
    Cost(Unit),
}

struct Column {
    name: String,
    field: Field,
    required: bool,
}

/// The columns of a trace, in order.
pub(super) struct CheckColumns {
    columns: Vec<Column>,
    /// The IPv6 address of the last check in canonical form: an address is one key, however it is written.
    ipv6: String,
}

impl CheckColumns {
    /// The columns that `header` names.
    pub(super) fn parse(header: &[&str]) -> Result<Self, LineProblem> {
        if let Some(missing) = REQUIRED.iter().find(|required| !header.contains(required)) {
            let problem = format!("has no column `{missing}`");
            return Err(LineProblem::new("header", problem, ACCEPTED));
        }
        let mut columns: Vec<Column> = Vec::with_capacity(header.len());
        for name in header {
            let field = parse_field(name)?;
            if columns.iter().any(|column| column.field == field) {
                let problem = format!("has the column {} twice", shown(name));
                return Err(LineProblem::new("header", problem, ACCEPTED));
            }
            let required = REQUIRED.contains(name);
            columns.push(Column { name: (*name).to_owned(), field, required });
        }
        Ok(Self { columns, ipv6: String::new() })
    }

    /// The check in `record`.
    pub(super) fn check<'a, R>(
        &'a mut self,
        record: &'a RecordReader<R>,
    ) -> Result<(Timestamp, Check<'a>), LineProblem> {
        record.expect_len(self.columns.len())?;
        let (mut at, mut subject, mut cost) =
            (Timestamp::default(), Subject::empty(), Cost::one_request());
        let mut ip = None;
        for (index, column) in self.columns.iter().enumerate() {
            let text = record.field(index, &column.name)?;
            if text.is_empty() && !column.required {
                continue;
            }
            match &column.field {
                Field::Timestamp => at = time::parse(&column.name, text)?,
                Field::Cost(unit) => cost.set(unit.clone(), parse_amount(&column.name, text)?),
                Field::Ip => ip = Some((text, parse_ip(&column.name, text)?)),
                Field::Attribute(attribute) => {
                    let refused = |problem| {
                        LineProblem::new(&column.name, format!("{problem}"), ACCEPTED_IDS)
                    };
                    check_id(text).map_err(refused)?;
                    subject.set(attribute, text);
                }
            }
        }
        match ip {
            None => {}
            Some((text, IpAddr::V4(_))) => subject.set(&Attribute::Ip, text),
            Some((_, IpAddr::V6(address))) => {
                self.ipv6 = address.to_canonical().to_string();
                subject.set(&Attribute::Ip, &self.ipv6);
            }
        }
        Ok((at, Check::of(subject).at_cost(cost)))
    }
}

/// The address in `text`; an IPv4 address has only one accepted form.
fn parse_ip(column: &str, text: &str) -> Result<IpAddr, LineProblem> {
    let refused = |_| LineProblem::new(column, format!("is {}", shown(text)), ACCEPTED_IPS);
    text.parse().map_err(refused)
}

fn parse_field(name: &str) -> Result<Field, LineProblem> {
    if name == TIMESTAMP {
        return Ok(Field::Timestamp);
    }
    if name == "ip" {
        return Ok(Field::Ip);
    }
    if let Some((_, attribute)) = ATTRIBUTES.iter().find(|(column, _)| *column == name) {
        return Ok(Field::Attribute(attribute.clone()));
    }
    if let Some(unit) = name.strip_prefix("cost.") {
        let refuse = || {
            let problem = format!("has the column {} with an invalid unit", shown(name));
            LineProblem::new("header", problem, format!("`cost.` and {}", Unit::ACCEPTED))
        };
        return Unit::parse(unit).map(Field::Cost).ok_or_else(refuse);
    }
    if let Some(custom) = name.strip_prefix("attributes.") {
        return match Attribute::parse(custom) {
            // Of the built-in attributes, the API accepts these two among the custom ones.
            Some(attribute @ (Attribute::Custom(_) | Attribute::Tier | Attribute::ModelTier)) => {
                Ok(Field::Attribute(attribute))
            }
            _ => Err(refuse_attribute(name)),
        };
    }
    Err(LineProblem::new("header", format!("has the unknown column {}", shown(name)), ACCEPTED))
}

fn refuse_attribute(name: &str) -> LineProblem {
    let problem = format!(
        "has the column {}, which names no attribute without a column of its own",
        shown(name)
    );
    let accepted = format!(
        "`attributes.` and a name of {ACCEPTED_IDS} other than `tenant`, `user`, `apiKey`, `model`, `service`, \
         `ip`"
    );
    LineProblem::new("header", problem, accepted)
}
