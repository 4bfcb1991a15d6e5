//! The configuration of the LiteLLM proxy, and its keys, teams and users as its API lists them.
//!
//! The models' limits are in `model_list`. Keys, teams and users are in LiteLLM's database; they are read from lists
//! called `keys`, `teams` and `users`, in the configuration or in a file of their own.

use std::collections::BTreeMap;

use tollgate_catalog::Position;
use tollgate_catalog::document::{Entry, Node, Value};

use crate::ImportError;
use crate::attributes::{beginning, exactly};
use crate::fields::{Fields, scalar};
use crate::litellm_holder::{self, Holder};
use crate::rule::{Limit, Rule, Rules, Test};

/// Limits are per minute.
pub(crate) const MINUTE_SECONDS: u64 = 60;

pub(crate) const NO_MONEY: &str = "Tollgate counts requests and tokens, not money";
pub(crate) const NO_CONCURRENCY: &str =
    "a policy limits what passes in a window, not how many requests are in flight";

/// The two limits of every record: the ending of its field, of the id of its policy, and its unit.
pub(crate) const RATES: [(&str, &str, Option<&str>); 2] =
    [("rpm", "rpm", None), ("tpm", "tpm", Some("tokens"))];

/// Adds the rules of `document` to `rules`.
pub(crate) fn rules(document: &Node, rules: &mut Rules) -> Result<(), ImportError> {
    if let Value::List(records) = &document.value {
        // What `/key/list` and `/team/list` answer.
        return records.iter().try_for_each(|record| {
            litellm_holder::add(Holder::of_fields(Fields::of(record, "")?), record, rules)
        });
    }
    let root = Fields::of(document, "")?;
    let known = ["model_list", "keys", "teams", "users"];
    if !root.iter().any(|entry| known.contains(&&*entry.key) || entry.key.ends_with("_settings")) {
        let accepted = "model_list, keys, teams, users, or a list of keys or teams";
        return Err(ImportError::at(root.position, "", "has no limits of LiteLLM", accepted));
    }
    for entry in root.iter() {
        let holder = match entry.key.as_str() {
            "model_list" => continue,
            "keys" => Holder::Key,
            "teams" => Holder::Team,
            "users" => Holder::User,
            section => {
                settings(section, entry, rules)?;
                continue;
            }
        };
        for record in root.list(&entry.key)? {
            litellm_holder::add(holder, record, rules)?;
        }
    }
    models(root.list("model_list")?, rules)
}

/// Reports the settings of a section.
fn settings(section: &str, entry: &Entry, rules: &mut Rules) -> Result<(), ImportError> {
    let why_of_section = match section {
        "router_settings" => "Tollgate decides whether a request passes, not where it goes",
        "general_settings" => "it belongs to LiteLLM's server",
        "litellm_settings" => "it belongs to LiteLLM's calls",
        _ => "this import does not know it",
    };
    if !section.ends_with("_settings") || entry.node.value == Value::Null {
        rules.leave_out(entry.key_position, section, why_of_section);
        return Ok(());
    }
    for field in Fields::of(&entry.node, section)?.iter() {
        let what = format!("{section}.{}", field.key);
        rules.leave_out(field.key_position, what, reason(&field.key).unwrap_or(why_of_section));
    }
    Ok(())
}

/// Why a setting is not carried over, if its name says what it limits.
pub(crate) fn reason(field: &str) -> Option<&'static str> {
    if field.contains("budget") || field == "spend" {
        Some(NO_MONEY)
    } else if field.contains("parallel") {
        Some(NO_CONCURRENCY)
    } else if field.contains("generate_params") || field.contains("internal_user_params") {
        Some("new keys and users get the limits of their tier: write a policy that matches it")
    } else {
        None
    }
}

/// One limit of the deployments of a model.
#[derive(Default)]
struct Sum {
    total: u64,
    position: Option<Position>,
    /// A deployment without this limit.
    unlimited: Option<Position>,
    given: usize,
    is_readable: bool,
}

/// Adds the limits of the deployments in `items`: those of one model together are the model's limit.
fn models(items: &[Node], rules: &mut Rules) -> Result<(), ImportError> {
    let mut models: BTreeMap<(usize, &str), [Sum; 2]> = BTreeMap::new();
    let mut order: Vec<&str> = Vec::new();
    for item in items {
        let fields = Fields::of(item, "model_list")?;
        let Some(name) = fields.text("model_name")? else {
            let message = "is missing";
            return Err(ImportError::at(item.position, "model_list.model_name", message, "a name"));
        };
        let place = order.iter().position(|known| *known == name).unwrap_or_else(|| {
            order.push(name);
            order.len() - 1
        });
        let sums = models.entry((place, name)).or_default();
        let parameters = match fields.get("litellm_params") {
            Some(entry) => Some(Fields::of(&entry.node, "litellm_params")?),
            None => None,
        };
        for (sum, (field, ..)) in sums.iter_mut().zip(RATES) {
            let given = parameters.and_then(|fields| fields.get(field)).or(fields.get(field));
            sum.add(given, item.position, rules);
        }
        let of_calls = parameters.iter().flat_map(Fields::iter).map(|entry| (entry, None));
        let of_model = fields.iter().map(|entry| (entry, unread(entry)));
        for (entry, why) in of_calls.chain(of_model) {
            if let Some(why) = reason(&entry.key).or(why) {
                rules.leave_out(entry.key_position, format!("{} of {name}", entry.key), why);
            }
        }
    }
    for ((_, name), sums) in &models {
        for (sum, (_, ending, unit)) in sums.iter().zip(RATES) {
            if sum.given == 0 {
                continue;
            }
            if let Some(position) = sum.unlimited {
                let what = format!("{ending} of {name}");
                let why = "a deployment of the model has none, so the model has no limit";
                rules.leave_out(Some(position), what, why);
                continue;
            }
            if sum.is_readable {
                rules_of_model(name, sum, ending, unit, rules);
            }
        }
    }
    Ok(())
}

/// Why `entry` of a model is not carried over; `None` if it is read.
fn unread(entry: &Entry) -> Option<&'static str> {
    let is_rate = || RATES.iter().any(|(rate, ..)| *rate == entry.key);
    match entry.key.as_str() {
        "model_name" | "litellm_params" => None,
        _ if is_rate() || entry.node.value == Value::Null => None,
        "model_info" => Some("it describes a deployment; a policy knows a model by its name only"),
        _ => Some("this import does not know it"),
    }
}

impl Sum {
    fn add(&mut self, given: Option<&Entry>, of: Option<Position>, rules: &mut Rules) {
        let Some(entry) = given else {
            self.unlimited = self.unlimited.or(of);
            return;
        };
        if self.given == 0 {
            self.position = entry.node.position;
            self.is_readable = true;
        }
        self.given += 1;
        let amount = scalar(&entry.node).and_then(|text| text.parse::<u64>().ok());
        if let Some(amount) = amount {
            self.total = self.total.saturating_add(amount);
        } else {
            self.is_readable = false;
            let why = "it is no whole number here, so the model's limit is left out";
            rules.leave_out(entry.node.position, entry.key.clone(), why);
        }
    }
}

fn rules_of_model(
    name: &str,
    sum: &Sum,
    ending: &str,
    unit: Option<&'static str>,
    rules: &mut Rules,
) {
    // The deployments behind a name with an asterisk share their limits, whichever model is asked for.
    let (condition, per) = match name.strip_suffix('*') {
        Some(prefix) => (beginning(prefix), Vec::new()),
        None => (exactly(name), vec!["model".to_owned()]),
    };
    let limit = Node { position: sum.position, value: Value::Number(sum.total.to_string()) };
    let rule = Rule {
        id: rules.id(&format!("model/{name}/{ending}")),
        per,
        conditions: vec![("model".to_owned(), Test::AnyOf(vec![condition]))],
        unit,
        limit: Limit::Of { limit, window_seconds: MINUTE_SECONDS },
        shadow: false,
        overrides: Vec::new(),
        position: sum.position,
    };
    rules.add(rule);
}
