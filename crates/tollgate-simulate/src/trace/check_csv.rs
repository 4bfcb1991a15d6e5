//! `csv`: the header names the fields of a check, and each line is one check.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tollgate_core::subject::{ACCEPTED_IDS, check_id};
use tollgate_core::{Amount, Attribute, PriorityClass, Timestamp, Unit};

use super::check::TraceCheck;
use super::records::RecordReader;
use super::{parse_amount, time};
use crate::error::{LineProblem, shown};

/// The column with the time.
pub(super) const TIMESTAMP: &str = "timestamp";

/// The columns with named attributes.
const ATTRIBUTES: [(&str, Attribute); 7] = [
    ("userId", Attribute::User),
    ("modelId", Attribute::Model),
    ("tenantId", Attribute::Tenant),
    ("apiKey", Attribute::ApiKey),
    ("service", Attribute::Service),
    ("tier", Attribute::Tier),
    ("modelTier", Attribute::ModelTier),
];

/// The column with the id of an API key, which a catalog would not find by it.
const API_KEY_ID: &str = "apiKeyId";

const ACCEPTED_SUBJECT: &str =
    "at least one of userId, modelId, tenantId, apiKey, apiKeyId, service, ip and attributes";

const ACCEPTED: &str = "`timestamp` (required), `userId`, `modelId`, `tenantId`, `apiKey` (the key) or `apiKeyId` (its \
     id), `service`, `ip`, `tier`, `modelTier`, `priority`, `userTenantId`, `hashedIds`, `requestId`, `cost.<unit>`, `outputTokens`, `maxOutputTokens`, `durationMs`, `attributes.<name>`, `costs` and \
     `attributes` (JSON objects), each once";

pub(crate) const ACCEPTED_IPS: &str = "an IPv4 or IPv6 address, such as 203.0.113.7 or 2001:db8::1";

#[derive(PartialEq, Eq)]
enum Field {
    Timestamp,
    Ip,
    Attribute(Attribute),
    Cost(Unit),
    RequestId,
    Priority,
    UserTenant,
    /// What an answer really used, the client's cap, and how long it took.
    Output,
    Cap,
    Duration,
    /// Says by its name that ids are hashed; the cells mean nothing.
    HashedIds,
    /// A JSON object with custom attributes.
    Attributes,
    /// A JSON object with amounts by unit.
    Costs,
}

struct Column {
    name: String,
    field: Field,
}

/// The columns of a trace, in order.
pub(super) struct CheckColumns {
    columns: Vec<Column>,
}

impl CheckColumns {
    /// The columns that `header` names.
    pub(super) fn parse(header: &[&str]) -> Result<Self, LineProblem> {
        if !header.contains(&TIMESTAMP) {
            let problem = format!("has no column `{TIMESTAMP}`");
            return Err(LineProblem::new("header", problem, ACCEPTED));
        }
        let mut columns: Vec<Column> = Vec::with_capacity(header.len());
        for name in header {
            let field = parse_field(name)?;
            if columns.iter().any(|column| column.field == field) {
                let problem = format!("has the column {} twice", shown(name));
                return Err(LineProblem::new("header", problem, ACCEPTED));
            }
            columns.push(Column { name: (*name).to_owned(), field });
        }
        let names_subject =
            |field: &Field| matches!(field, Field::Attribute(_) | Field::Ip | Field::Attributes);
        if !columns.iter().any(|column| names_subject(&column.field)) {
            let problem = "has no column for a subject";
            return Err(LineProblem::new("header", problem, ACCEPTED_SUBJECT));
        }
        Ok(Self { columns })
    }

    /// Whether its lines say how much output the answers had, and whether they name the clients' caps.
    pub(super) fn has_outputs_and_caps(&self) -> (bool, bool) {
        let has = |field: &Field| self.columns.iter().any(|column| column.field == *field);
        (has(&Field::Output), has(&Field::Cap))
    }

    /// Whether checks may have request ids.
    pub(super) fn has_request_ids(&self) -> bool {
        self.columns.iter().any(|column| column.field == Field::RequestId)
    }

    /// The check in `record`.
    pub(super) fn check<R>(&self, record: &RecordReader<R>) -> Result<TraceCheck, LineProblem> {
        record.expect_len(self.columns.len())?;
        let mut check = TraceCheck::at(Timestamp::default());
        for (index, column) in self.columns.iter().enumerate() {
            let (text, name) = (record.field(index, &column.name)?, &column.name);
            if text.is_empty() && column.field != Field::Timestamp {
                continue;
            }
            match &column.field {
                Field::Timestamp => check.at = time::parse(name, text)?,
                Field::Output => check.output = Some(parse_amount(name, text)?),
                Field::Cap => check.cap = Some(parse_amount(name, text)?),
                Field::Duration => {
                    let ms = parse_amount(name, text)?.get();
                    check.lasts = Some(Duration::from_millis(ms));
                }
                Field::Cost(unit) => check.cost.set(unit.clone(), parse_amount(name, text)?),
                Field::Ip => check.set(Attribute::Ip, parse_ip(name, text)?),
                Field::Attribute(attribute) => {
                    check.set(attribute.clone(), checked_id(name, text)?);
                }
                Field::RequestId => check.request_id = Some(checked_id(name, text)?.to_owned()),
                Field::UserTenant => {
                    check.user_tenant = Some(checked_id(name, text)?.to_owned());
                }
                Field::HashedIds => {}
                Field::Priority => check.priority = Some(parse_priority(name, text)?),
                Field::Attributes => add_attributes(&mut check, name, text)?,
                Field::Costs => add_costs(&mut check, name, text)?,
            }
        }
        if check.attributes.is_empty() {
            return Err(LineProblem::new("line", "names no subject", ACCEPTED_SUBJECT));
        }
        Ok(check)
    }
}

fn checked_id<'t>(column: &str, text: &'t str) -> Result<&'t str, LineProblem> {
    check_id(text)
        .map(|()| text)
        .map_err(|problem| LineProblem::new(column, problem.to_string(), ACCEPTED_IDS))
}

fn parse_priority(column: &str, text: &str) -> Result<PriorityClass, LineProblem> {
    PriorityClass::parse(text).ok_or_else(|| {
        let accepted = PriorityClass::ALL.map(PriorityClass::name).join(", ");
        LineProblem::new(column, format!("is {}", shown(text)), accepted)
    })
}

fn json<T: serde::de::DeserializeOwned>(
    column: &str,
    text: &str,
    accepted: &str,
) -> Result<T, LineProblem> {
    serde_json::from_str(text)
        .map_err(|_| LineProblem::new(column, format!("is {}", shown(text)), accepted))
}

fn add_attributes(check: &mut TraceCheck, column: &str, text: &str) -> Result<(), LineProblem> {
    let accepted = "a JSON object of texts by the names of custom attributes";
    for (name, value) in json::<BTreeMap<String, String>>(column, text, accepted)? {
        let attribute = custom(&name).ok_or_else(|| {
            LineProblem::new(column, format!("names the attribute {}", shown(&name)), accepted)
        })?;
        check.set(attribute, checked_id(column, &value)?);
    }
    Ok(())
}

fn add_costs(check: &mut TraceCheck, column: &str, text: &str) -> Result<(), LineProblem> {
    let accepted = "a JSON object of whole numbers by units";
    for (unit, amount) in json::<BTreeMap<String, u64>>(column, text, accepted)? {
        let (Some(known), Some(amount)) = (Unit::parse(&unit), Amount::new(amount)) else {
            let problem = format!("has the cost {} of {}", amount, shown(&unit));
            return Err(LineProblem::new(column, problem, accepted));
        };
        if !known.has_cost() {
            let problem = format!("names {}, which {}", shown(&unit), Unit::NO_COST);
            return Err(LineProblem::new(column, problem, accepted));
        }
        check.cost.set(known, amount);
    }
    Ok(())
}

/// The attribute called `name`, if the API accepts it among the custom ones.
pub(crate) fn custom(name: &str) -> Option<Attribute> {
    if Attribute::resembled_by(name).is_some() {
        return None;
    }
    // Of the built-in attributes, it accepts these two.
    Attribute::parse(name).filter(|attribute| {
        matches!(attribute, Attribute::Custom(_) | Attribute::Tier | Attribute::ModelTier)
    })
}

fn parse_ip(column: &str, text: &str) -> Result<String, LineProblem> {
    address(text)
        .ok_or_else(|| LineProblem::new(column, format!("is {}", shown(text)), ACCEPTED_IPS))
}

/// The address in `text` as limits count it: an address is one key, however it is written. Of an IPv4 address only one
/// form is accepted.
pub(crate) fn address(text: &str) -> Option<String> {
    Some(match text.parse().ok()? {
        IpAddr::V4(_) => text.to_owned(),
        IpAddr::V6(address) => address.to_canonical().to_string(),
    })
}

fn parse_field(name: &str) -> Result<Field, LineProblem> {
    if name == TIMESTAMP {
        return Ok(Field::Timestamp);
    }
    match name {
        "ip" => return Ok(Field::Ip),
        // The id of a key fills the same attribute as the key itself.
        API_KEY_ID => return Ok(Field::Attribute(Attribute::ApiKey)),
        "requestId" => return Ok(Field::RequestId),
        "outputTokens" => return Ok(Field::Output),
        "maxOutputTokens" => return Ok(Field::Cap),
        "durationMs" => return Ok(Field::Duration),
        "priority" => return Ok(Field::Priority),
        "userTenantId" => return Ok(Field::UserTenant),
        "hashedIds" => return Ok(Field::HashedIds),
        "attributes" => return Ok(Field::Attributes),
        "costs" => return Ok(Field::Costs),
        _ => {}
    }
    if let Some((_, attribute)) = ATTRIBUTES.iter().find(|(column, _)| *column == name) {
        return Ok(Field::Attribute(attribute.clone()));
    }
    if let Some(unit) = name.strip_prefix("cost.") {
        let refuse = || {
            let why = match Unit::parse(unit) {
                Some(_) => format!("of a unit that {}", Unit::NO_COST),
                None => "with an invalid unit".to_owned(),
            };
            let problem = format!("has the column {} {why}", shown(name));
            LineProblem::new("header", problem, format!("`cost.` and {}", Unit::ACCEPTED_IN_COSTS))
        };
        return Unit::parse(unit).filter(Unit::has_cost).map(Field::Cost).ok_or_else(refuse);
    }
    if let Some(attribute) = name.strip_prefix("attributes.") {
        return custom(attribute).map(Field::Attribute).ok_or_else(|| refuse_attribute(name));
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
         `ip` and those that resemble a built-in one (`Service`, `api_key`)"
    );
    LineProblem::new("header", problem, accepted)
}
