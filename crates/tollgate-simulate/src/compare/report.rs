//! The report of a comparison: its content, and its form as JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use tollgate_core::Attribute;

use super::side::{Side, Sides, Verdict};
use super::subjects::{KINDS, Kind, Sums, named};
use super::timeline::Timeline;
use super::{Comparison, FirstChange};
use crate::report::{KeyReport, Timing, TraceInputs, TraceReport};
use crate::seconds::Seconds;
use crate::tally::PolicyTally;
use crate::trace::rfc_3339;

/// A number for the old policies and one for the new ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pair<T> {
    /// By the old policies.
    pub old: T,
    /// By the new policies.
    pub new: T,
}

impl Pair<u64> {
    /// How much more the new number is; negative if it is less.
    pub fn change(self) -> i128 {
        i128::from(self.new) - i128::from(self.old)
    }
}

/// What two sets of policies decide differently on a trace.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ComparisonReport {
    /// The trace that was replayed.
    pub trace: TraceReport,
    /// Whether the end of the trace was left out because it has too many checks.
    pub is_cut: bool,
    /// What the policies are called.
    pub policy_files: Pair<Option<String>>,
    /// The number of checks.
    pub checks: u64,
    /// Those that were allowed.
    pub allowed: Pair<u64>,
    /// The tokens of these: `tokens`, or what `input_tokens` and `output_tokens` come to.
    pub tokens: Pair<u64>,
    /// The checks that the old policies allow and the new ones deny.
    pub lost: u64,
    /// The checks that the old policies deny and the new ones allow.
    pub gained: u64,
    /// The first check that is lost or gained; `None` if none is.
    pub first_change: Option<ChangeReport>,
    /// The policies of both sets: those of the old one in their order, then those that are new.
    pub policies: Vec<PolicyDiffReport>,
    /// Users, API keys, tenants and models.
    pub subjects: Vec<SubjectKindReport>,
    /// What was allowed over time.
    pub timeline: Option<TimelineReport>,
    /// The keys that the stores' cap evicted; 0 unless the trace has millions of them.
    pub keys_evicted: Pair<u64>,
    /// How long it took.
    pub timing: Timing,
}

/// A check that only one set of policies allows.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeReport {
    /// Its time.
    pub at: String,
    /// Its line in the trace, from 1.
    pub line: u64,
    /// Who sent it.
    pub subject: KeyReport,
    /// What the old policies decide.
    pub old: SideReport,
    /// What the new policies decide.
    pub new: SideReport,
}

/// What one set of policies decides.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SideReport {
    /// Whether the check may pass.
    pub allowed: bool,
    /// The policy that denies; `None` if none does.
    pub policy_id: Option<String>,
    /// Why it is denied; `None` if it is not.
    pub reason: Option<&'static str>,
}

/// How the policy of the old set differs from that of the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PolicyStatus {
    /// Both sets have it.
    Same,
    /// Both sets have a policy with this id, with other fields.
    Changed,
    /// Only the new set has it.
    Added,
    /// Only the old set has it.
    Removed,
}

impl PolicyStatus {
    /// Its name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Changed => "changed",
            Self::Added => "added",
            Self::Removed => "removed",
        }
    }
}

/// What a policy did in both sets.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyDiffReport {
    /// The policy.
    pub policy_id: String,
    /// How it differs.
    pub status: PolicyStatus,
    /// The checks to which it applied.
    pub checks: Pair<u64>,
    /// Those that it denied, or in shadow mode would have denied.
    pub refused: Pair<u64>,
    /// The lost checks that it denies in the new set as the headline of the denial.
    pub lost: u64,
    /// The gained checks that it denied in the old set as the headline of the denial.
    pub gained: u64,
}

/// The subjects of a kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubjectKindReport {
    /// `user`, `apiKey`, `tenant` or `model`.
    pub kind: String,
    /// How many are counted one by one.
    pub count: u64,
    /// How many of these are allowed fewer checks by the new policies, and how many more.
    pub checks: LosingGaining,
    /// How many are allowed fewer tokens, and how many more.
    pub tokens: LosingGaining,
    /// How many are allowed fewer checks and more tokens, or the reverse.
    pub mixed: u64,
    /// Those that lose the most: checks or tokens, and gain neither.
    pub losers: Vec<SubjectReport>,
    /// Those that gain the most: checks or tokens, and lose neither.
    pub gainers: Vec<SubjectReport>,
    /// Those that lose one and gain the other, beginning with the one that loses the most checks.
    pub mixed_subjects: Vec<SubjectReport>,
    /// The checks of subjects that are not counted one by one, because there are too many.
    pub checks_beyond: u64,
}

/// How many subjects are allowed less by the new policies, and how many more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LosingGaining {
    /// Less.
    pub losing: u64,
    /// More.
    pub gaining: u64,
}

/// What a subject is allowed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubjectReport {
    /// Who it is; a user with the tenant, if it has one.
    pub subject: KeyReport,
    /// Its checks.
    pub checks: u64,
    /// Those that were allowed.
    pub allowed: Pair<u64>,
    /// The tokens of these.
    pub tokens: Pair<u64>,
    /// Its checks that the old policies allow and the new ones deny.
    pub lost: u64,
    /// Its checks that the old policies deny and the new ones allow.
    pub gained: u64,
    /// When its first check was lost or gained; `None` if none was.
    pub first_change_at: Option<String>,
}

/// What was allowed over time.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TimelineReport {
    /// When the first step begins.
    pub start_at: String,
    /// The length of a step.
    pub step_seconds: Seconds,
    /// The steps.
    pub steps: Vec<StepReport>,
}

/// The checks of a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepReport {
    /// All of them.
    pub checks: u64,
    /// Those that were allowed.
    pub allowed: Pair<u64>,
}

impl ComparisonReport {
    /// The report as JSON.
    pub fn to_json(&self) -> String {
        // Numbers, texts and lists: nothing that JSON cannot hold.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Whether a check is allowed by only one of the sets.
    pub fn differs(&self) -> bool {
        self.lost + self.gained > 0
    }

    /// The exit code of the process: 1 if a decision differs, else 0.
    pub fn exit_code(&self) -> u8 {
        u8::from(self.differs())
    }
}

impl Comparison<'_> {
    pub(super) fn report(
        &self,
        trace: &TraceInputs,
        is_cut: bool,
        wall_ns: u64,
    ) -> ComparisonReport {
        let Sides { old, new, .. } = &self.sides;
        let kinds = KINDS.iter().zip(&self.subjects.kinds);
        ComparisonReport {
            trace: TraceReport::new(trace, &self.times),
            is_cut,
            policy_files: Pair { old: old.source.name.clone(), new: new.source.name.clone() },
            checks: self.checks,
            allowed: Pair { old: old.tally.admitted, new: new.tally.admitted },
            tokens: self.tokens,
            lost: self.lost,
            gained: self.gained,
            first_change: self.first.as_ref().map(ChangeReport::new),
            policies: policies(&self.sides),
            subjects: kinds
                .map(|(attribute, kind)| SubjectKindReport::new(attribute, kind, self.options.top))
                .collect(),
            timeline: TimelineReport::new(&self.timeline),
            keys_evicted: self.sides.evicted(),
            timing: Timing::new(self.checks, wall_ns),
        }
    }
}

impl ChangeReport {
    fn new(change: &FirstChange) -> Self {
        let names = change.names.iter();
        Self {
            at: rfc_3339(change.check.at),
            line: change.check.line,
            subject: names.map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            old: SideReport::new(&change.old),
            new: SideReport::new(&change.new),
        }
    }
}

impl SideReport {
    fn new(verdict: &Verdict) -> Self {
        Self {
            allowed: verdict.allowed,
            policy_id: verdict.policy_id.as_ref().map(ToString::to_string),
            reason: verdict.reason.map(tollgate_core::Reason::name),
        }
    }
}

fn policies(sides: &Sides<'_>) -> Vec<PolicyDiffReport> {
    let of = |side: &Side<'_>| {
        let policies = side.source.snapshot.policies().policies().to_vec();
        policies.into_iter().map(|policy| (policy.id.clone(), policy)).collect::<Vec<_>>()
    };
    let (old, new) = (of(&sides.old), of(&sides.new));
    let by_id = |policies: &[(tollgate_core::PolicyId, tollgate_core::Policy)]| {
        policies.iter().cloned().collect::<std::collections::HashMap<_, _>>()
    };
    let (old_by_id, new_by_id) = (by_id(&old), by_id(&new));
    let tallies = Pair { old: tallies(&sides.old), new: tallies(&sides.new) };
    let added = new.iter().filter(|(id, _)| !old_by_id.contains_key(id));
    old.iter()
        .chain(added)
        .map(|(id, _)| {
            let status = match (old_by_id.get(id), new_by_id.get(id)) {
                (Some(old), Some(new)) if old == new => PolicyStatus::Same,
                (Some(_), Some(_)) => PolicyStatus::Changed,
                (None, _) => PolicyStatus::Added,
                (_, None) => PolicyStatus::Removed,
            };
            let of = |tallies: &Tallies<'_>| {
                tallies.get(id.as_str()).map_or((0, 0), |tally| (tally.checks, tally.refused))
            };
            let ((old_checks, old_refused), (new_checks, new_refused)) =
                (of(&tallies.old), of(&tallies.new));
            let (lost, gained) = sides.blamed.get(id).copied().unwrap_or_default();
            PolicyDiffReport {
                policy_id: id.to_string(),
                status,
                checks: Pair { old: old_checks, new: new_checks },
                refused: Pair { old: old_refused, new: new_refused },
                lost,
                gained,
            }
        })
        .collect()
}

type Tallies<'t> = BTreeMap<&'t str, &'t PolicyTally<'t>>;

fn tallies<'t>(side: &'t Side<'_>) -> Tallies<'t> {
    let tallies = side.tally.policies.iter();
    tallies.map(|tally| (tally.limit.policy_id().as_str(), tally)).collect()
}

impl SubjectKindReport {
    fn new(attribute: &Attribute, kind: &Kind, top: usize) -> Self {
        let changed = || kind.rows.iter().map(|(name, sums)| (sums.change(), &**name, sums));
        let (mut losers, mut gainers, mut mixed) = (Vec::new(), Vec::new(), Vec::new());
        for row in changed() {
            match (row.0.0.signum(), row.0.1.signum()) {
                (0, 0) => {}
                (-1, 1) | (1, -1) => mixed.push(row),
                (-1, _) | (_, -1) => losers.push(row),
                _ => gainers.push(row),
            }
        }
        // The greatest changes first; of equal changes, in the order of names.
        losers.sort_unstable_by_key(|(change, name, _)| (*change, *name));
        gainers.sort_unstable_by_key(|(change, name, _)| (std::cmp::Reverse(*change), *name));
        mixed.sort_unstable_by_key(|(change, name, _)| (*change, *name));
        let report = |rows: &[(Change, &str, &Sums)]| {
            let rows = rows.iter().take(top);
            rows.map(|(_, name, sums)| SubjectReport::new(attribute, name, sums)).collect()
        };
        Self {
            kind: attribute.name().to_owned(),
            count: kind.rows.len() as u64,
            checks: LosingGaining::of(changed().map(|((checks, _), _, _)| checks)),
            tokens: LosingGaining::of(changed().map(|((_, tokens), _, _)| tokens)),
            mixed: mixed.len() as u64,
            losers: report(&losers),
            gainers: report(&gainers),
            mixed_subjects: report(&mixed),
            checks_beyond: kind.beyond.checks,
        }
    }
}

/// How many more checks and tokens are allowed; negative if fewer.
type Change = (i128, i128);

impl LosingGaining {
    fn of(changes: impl Iterator<Item = i128>) -> Self {
        changes.fold(Self::default(), |sum, change| Self {
            losing: sum.losing + u64::from(change < 0),
            gaining: sum.gaining + u64::from(change > 0),
        })
    }
}

impl SubjectReport {
    fn new(attribute: &Attribute, key: &str, sums: &Sums) -> Self {
        let names = named(attribute, key).into_iter();
        Self {
            subject: names.map(|(name, value)| (name.to_owned(), value)).collect(),
            checks: sums.checks,
            allowed: sums.allowed,
            tokens: sums.tokens,
            lost: sums.lost,
            gained: sums.gained,
            first_change_at: sums.first_change.map(rfc_3339),
        }
    }
}

impl TimelineReport {
    fn new(timeline: &Timeline) -> Option<Self> {
        let start = timeline.start?;
        let steps = timeline.steps.iter();
        Some(Self {
            start_at: rfc_3339(start),
            step_seconds: Seconds::from_ns(timeline.step_ns),
            steps: steps
                .map(|step| StepReport { checks: step.checks, allowed: step.allowed })
                .collect(),
        })
    }
}
