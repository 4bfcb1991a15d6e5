//! Validates one policy: every field, so that all problems are listed at once.

use std::collections::HashMap;

use tollgate_core::policy::ACCEPTED_POLICY_IDS;
use tollgate_core::{
    Amount, Attribute, FailureMode, Ipv6Prefix, Mode, OnExpire, OverLimit, Per, Policy, PolicyId,
    Reach, Shares, Unit, Visibility,
};

use super::counting::counting;
use super::number::{self, ACCEPTED_LIMITS};
use super::report::{At, Fields, Names, Report, did_you_mean, shown};
use super::{attributes, conditions, overrides, reserve, shares, split, weights};
use crate::document::{Entry, Node, Value};
use crate::problem::Position;

/// The fields of a policy, in the order in which messages list them.
const FIELDS: [&str; 26] = [
    "id",
    "scope",
    "per",
    "ipv6Prefix",
    "match",
    "ignoreCase",
    "unit",
    "weights",
    "limit",
    "burst",
    "exempt",
    "shares",
    "split",
    "windowSeconds",
    "calendar",
    "timeZone",
    "window",
    "algorithm",
    "overrides",
    "mode",
    "overLimit",
    "onExpire",
    "reserve",
    "visibility",
    "onStoreError",
    "enabled",
];

/// A limit that exempts, for TOML, which has no null.
const EXEMPT: &str = "exempt";
/// The only value of `exempt`.
pub(crate) const EXEMPT_FROM_ALL: &str = "all";
const ACCEPTED_EXEMPTIONS: &str = "`all`, which exempts from every limit; `limit: null` exempts from those with the same `per`, \
     `unit` and window";

/// The name in metrics for policies without their own series, and for decisions without a policy.
const RESERVED_IDS: [&str; 2] = ["(none)", "(other)"];

/// The meaning of the field `limit`.
#[derive(Clone, Copy)]
pub(super) enum Ceiling {
    Of(Amount),
    Exempt,
}

impl Ceiling {
    pub(super) fn amount(self) -> Option<Amount> {
        match self {
            Self::Of(amount) => Some(amount),
            Self::Exempt => None,
        }
    }
}

/// Validates policies, and remembers their ids.
#[derive(Default)]
pub(super) struct PolicyValidator {
    pub(super) report: Report,
    /// The first policy with each id: its index and its position.
    ids: HashMap<PolicyId, (usize, Option<Position>)>,
}

impl PolicyValidator {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// The same, adding to an existing `report`.
    pub(super) fn reporting_to(report: Report) -> Self {
        Self { report, ids: HashMap::new() }
    }

    /// The policy at `at`, number `index` of its list; `None` if anything is wrong with it.
    pub(super) fn policy(&mut self, at: &At<'_>, index: usize, node: &Node) -> Option<Policy> {
        let Value::Map(entries) = &node.value else {
            self.report.mismatch(at, &node.value, "a map with the fields of a policy");
            return None;
        };
        let fields = self.report.fields(at, entries, &FIELDS);
        // Do not use `?` before every field has been validated.
        let id = self.id(at, index, fields);
        let exempts_all = self.exempt(at, fields);
        let per = self.per(at, fields);
        let ipv6_prefix = self.ipv6_prefix(at, fields, per.as_ref());
        let conditions = conditions::conditions(&mut self.report, at, fields);
        if let (Some(per), Some(conditions)) = (&per, &conditions) {
            conditions::contradictions(&mut self.report, at, fields, per, conditions);
        }
        let ignore_case = self.report.flag(at, fields, "ignoreCase", false);
        let unit = self.unit(at, fields);
        let limit = self.limit(at, fields);
        let weights = weights::weights(&mut self.report, at, fields, unit.as_ref(), limit);
        let shares = match fields.get("shares") {
            Some(entry) => self.shares(at, entry, limit),
            None => Some(Shares::default()),
        };
        let counts_nothing = matches!(limit, Some(Ceiling::Exempt | Ceiling::Of(Amount::ZERO)))
            || fields.get("exempt").is_some();
        let counted = counting(&mut self.report, at, fields, unit.as_ref(), limit, counts_nothing);
        let windows = ["windowSeconds", "window", "calendar"];
        let own_window = windows.into_iter().find_map(|field| fields.get(field));
        let reach = match (exempts_all, own_window) {
            (Some(true), _) => Reach::EveryLimit,
            (_, None) if counts_nothing => Reach::EveryWindow,
            _ => Reach::OwnWindow,
        };
        let overrides = overrides::overrides(&mut self.report, at, fields);
        let mode = self.report.named(at, fields, "mode", &MODES, Mode::default());
        let over_limit = self.over_limit(at, fields, limit);
        let on_expire = self.on_expire(at, fields, limit);
        let reserve = reserve::rules(&mut self.report, at, fields, limit);
        let visibility =
            self.report.named(at, fields, "visibility", &VISIBILITIES, Visibility::default());
        let on_store_error = self.report.named(at, fields, "onStoreError", &FAILURE_MODES, None);
        let enabled = self.report.flag(at, fields, "enabled", true);
        let beside = split::Beside {
            counting: counted.map(|(counting, _)| counting),
            limit: counted.and_then(|(_, limit)| limit),
            over_limit,
        };
        let split = split::split(&mut self.report, at, fields, &beside);
        let (counting, limit) = counted?;
        Some(Policy {
            // A wrong exemption was reported; it must not become another policy.
            id: exempts_all.and(id)?,
            per: per?,
            ipv6_prefix: ipv6_prefix?,
            conditions: conditions?,
            ignore_case: ignore_case?,
            unit: unit?,
            weights: weights?,
            limit,
            shares: shares?,
            split: split.ok()?,
            counting,
            reach,
            overrides: overrides?,
            mode: mode?,
            over_limit: over_limit?,
            on_expire: on_expire?,
            reserve: reserve?,
            visibility: visibility?,
            on_store_error: on_store_error?,
            enabled: enabled?,
        })
    }

    fn id(&mut self, at: &At<'_>, index: usize, fields: Fields<'_>) -> Option<PolicyId> {
        let Some(entry) = fields.get("id") else {
            self.report.problem(&at.missing("id"), "is missing", ACCEPTED_POLICY_IDS);
            return None;
        };
        let at = at.field(entry);
        let text = self.report.text(&at, &entry.node.value, ACCEPTED_POLICY_IDS)?;
        let id = match PolicyId::new(text) {
            Ok(id) => id,
            Err(problem) => {
                let message = format!("{} {problem}", shown(&entry.node.value));
                self.report.problem(&at, message, ACCEPTED_POLICY_IDS);
                return None;
            }
        };
        if RESERVED_IDS.contains(&id.as_str()) {
            let message = format!("{} is reserved for metrics", shown(&entry.node.value));
            self.report.problem(&at, message, ACCEPTED_POLICY_IDS);
            return None;
        }
        if let Some((first, position)) = self.ids.get(&id) {
            let on_line = position.map(|at| format!(", on line {}", at.line)).unwrap_or_default();
            let message =
                format!("{} is the id of policies[{first}]{on_line}", shown(&entry.node.value));
            self.report.problem(&at, message, "a different id for each policy");
            return None;
        }
        self.ids.insert(id.clone(), (index, entry.node.position));
        Some(id)
    }

    /// Whether the policy exempts from every limit.
    fn exempt(&mut self, at: &At<'_>, fields: Fields<'_>) -> Option<bool> {
        let Some(entry) = fields.get("exempt") else { return Some(false) };
        let at = at.field(entry);
        let text = self.report.text(&at, &entry.node.value, ACCEPTED_EXEMPTIONS)?;
        if text == EXEMPT_FROM_ALL {
            return Some(true);
        }
        let message = format!("{} is no such exemption", shown(&entry.node.value));
        self.report.problem(&at, message, ACCEPTED_EXEMPTIONS);
        None
    }

    /// What the limits are counted per: exactly one of `scope` and `per`, or neither if it exempts from every limit.
    fn per(&mut self, at: &At<'_>, fields: Fields<'_>) -> Option<Per> {
        match (fields.get("scope"), fields.get("per")) {
            (None, None) if fields.get("exempt").is_some() => Per::new(Vec::new()),
            (None, None) => {
                let accepted =
                    format!("`scope` ({}) or `per` (a list of attributes)", Per::ACCEPTED_SCOPES);
                self.report.problem(&at.missing("scope"), "is missing, and so is `per`", accepted);
                None
            }
            (Some(scope), None) => self.scope(&at.field(scope), &scope.node.value),
            (None, Some(per)) => self.per_attributes(&at.field(per), &per.node.value),
            (Some(scope), Some(per)) => {
                self.scope(&at.field(scope), &scope.node.value);
                self.per_attributes(&at.field(per), &per.node.value);
                // If both are given, report the later one.
                let (later, earlier) =
                    if scope.key_position > per.key_position { (scope, per) } else { (per, scope) };
                let message = format!("is given beside `{}`", earlier.key);
                self.report.problem(&at.key(later), message, "only one of `scope` and `per`");
                None
            }
        }
    }

    /// How much of an IPv6 address counts; only for policies that count per address.
    fn ipv6_prefix(
        &mut self,
        at: &At<'_>,
        fields: Fields<'_>,
        per: Option<&Per>,
    ) -> Option<Ipv6Prefix> {
        let Some(entry) = fields.get("ipv6Prefix") else { return Some(Ipv6Prefix::default()) };
        if per.is_some_and(|per| !per.attributes().contains(&Attribute::Ip)) {
            let message = "is given, but the policy does not count per `ip`";
            self.report.problem(&at.key(entry), message, "it only beside `ip` in `per`");
            return None;
        }
        let value = &entry.node.value;
        let bits = match value {
            Value::Number(number) => number.parse().ok().and_then(Ipv6Prefix::new),
            _ => None,
        };
        if bits.is_none() {
            let message = format!("is {}", shown(value));
            self.report.problem(&at.field(entry), message, Ipv6Prefix::ACCEPTED);
        }
        bits
    }

    fn scope(&mut self, at: &At<'_>, value: &Value) -> Option<Per> {
        let name = self.report.text(at, value, Per::ACCEPTED_SCOPES)?;
        let per = Per::from_scope(name);
        if per.is_none() {
            let scopes: Vec<_> = Per::ACCEPTED_SCOPES.split(", ").collect();
            let message = format!("{} is not a scope{}", shown(value), did_you_mean(name, &scopes));
            self.report.problem(at, message, Per::ACCEPTED_SCOPES);
        }
        per
    }

    fn per_attributes(&mut self, at: &At<'_>, value: &Value) -> Option<Per> {
        let Value::List(items) = value else {
            let accepted = format!("a list of attributes: {}", attributes::accepted());
            self.report.mismatch(at, value, accepted);
            return None;
        };
        if items.len() > Per::MAX_ATTRIBUTES {
            let message = format!("has {} attributes", items.len());
            self.report.problem(at, message, format!("at most {}", Per::MAX_ATTRIBUTES));
            return None;
        }
        let mut found = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let at = at.item(index, item);
            let accepted = attributes::accepted();
            let Some(name) = self.report.text(&at, &item.value, &accepted) else { continue };
            match attributes::parse(name) {
                Ok(attribute) if found.contains(&attribute) => {
                    let message = format!("{} is given twice", shown(&item.value));
                    self.report.problem(&at, message, "each attribute once");
                }
                Ok(attribute) => found.push(attribute),
                Err(problem) => {
                    let message = format!("{} {problem}", shown(&item.value));
                    self.report.problem(&at, message, accepted);
                }
            }
        }
        // If one had a problem, fewer were found.
        if found.len() == items.len() { Per::new(found) } else { None }
    }

    fn unit(&mut self, at: &At<'_>, fields: Fields<'_>) -> Option<Unit> {
        let Some(entry) = fields.get("unit") else { return Some(Unit::Requests) };
        let at = at.field(entry);
        let name = self.report.text(&at, &entry.node.value, Unit::ACCEPTED)?;
        let unit = Unit::parse(name);
        if unit.is_none() {
            let message = format!("{} is not a unit", shown(&entry.node.value));
            self.report.problem(&at, message, Unit::ACCEPTED);
        }
        unit
    }

    fn limit(&mut self, at: &At<'_>, fields: Fields<'_>) -> Option<Ceiling> {
        let exempts_all = fields.get("exempt").is_some();
        let Some(entry) = fields.get("limit") else {
            if exempts_all {
                return Some(Ceiling::Exempt);
            }
            self.report.problem(&at.missing("limit"), "is missing", ACCEPTED_LIMITS);
            return None;
        };
        let at = at.field(entry);
        match &entry.node.value {
            Value::Number(_) if exempts_all => {
                self.report.problem(&at, "is given beside `exempt`", "null, or no `limit`");
                None
            }
            Value::Null => Some(Ceiling::Exempt),
            Value::String(text) if text == EXEMPT => Some(Ceiling::Exempt),
            Value::Number(text) => match number::amount(text) {
                Ok(amount) => Some(Ceiling::Of(amount)),
                Err(problem) => {
                    self.report.problem(&at, problem, ACCEPTED_LIMITS);
                    None
                }
            },
            other => {
                self.report.mismatch(&at, other, ACCEPTED_LIMITS);
                None
            }
        }
    }

    fn over_limit(
        &mut self,
        at: &At<'_>,
        fields: Fields<'_>,
        limit: Option<Ceiling>,
    ) -> Option<OverLimit> {
        let over_limit =
            self.report.named(at, fields, "overLimit", &OVER_LIMITS, OverLimit::default());
        if let (Some(OverLimit::Charge), Some(Ceiling::Exempt), Some(entry)) =
            (over_limit, limit, fields.get("overLimit"))
        {
            let message =
                "is `charge` beside a limit of null, which exempts and so records nothing";
            self.report.problem(&at.key(entry), message, "`charge` beside a limit, or `deny`");
            return None;
        }
        over_limit
    }

    fn on_expire(
        &mut self,
        at: &At<'_>,
        fields: Fields<'_>,
        limit: Option<Ceiling>,
    ) -> Option<OnExpire> {
        let on_expire = self.report.named(at, fields, "onExpire", &ON_EXPIRE, OnExpire::default());
        if let (Some(OnExpire::Refund), Some(Ceiling::Exempt), Some(entry)) =
            (on_expire, limit, fields.get("onExpire"))
        {
            let message = "is `refund` beside a limit of null, which exempts and so holds nothing";
            self.report.problem(&at.key(entry), message, "`refund` beside a limit, or `keep`");
            return None;
        }
        on_expire
    }

    fn shares(&mut self, at: &At<'_>, entry: &Entry, limit: Option<Ceiling>) -> Option<Shares> {
        if matches!(limit, Some(Ceiling::Exempt)) {
            let message = "cannot be combined with a limit of null, which exempts";
            self.report.problem(&at.key(entry), message, "shares of a limit, or none");
        }
        shares::shares(&mut self.report, at, entry)
    }
}

const MODES: Names<Mode> = Names {
    parse: Mode::parse,
    known: &[Mode::Enforce.name(), Mode::Shadow.name()],
    accepted: Mode::ACCEPTED,
};

const OVER_LIMITS: Names<OverLimit> = Names {
    parse: OverLimit::parse,
    known: &[OverLimit::Deny.name(), OverLimit::Charge.name()],
    accepted: OverLimit::ACCEPTED,
};

const ON_EXPIRE: Names<OnExpire> = Names {
    parse: OnExpire::parse,
    known: &[OnExpire::Keep.name(), OnExpire::Refund.name()],
    accepted: OnExpire::ACCEPTED,
};

const VISIBILITIES: Names<Visibility> = Names {
    parse: Visibility::parse,
    known: &[Visibility::Public.name(), Visibility::Private.name()],
    accepted: Visibility::ACCEPTED,
};

const FAILURE_MODES: Names<Option<FailureMode>> = Names {
    parse: |name| FailureMode::parse(name).map(Some),
    known: &[FailureMode::Allow.name(), FailureMode::Deny.name(), FailureMode::Local.name()],
    accepted: FailureMode::ACCEPTED,
};
