//! Checks by outcome, policy and reason.
//!
//! The counters of each policy are created when its snapshot is put in force. A decision finds them by the address of
//! its limit in the snapshot, so no label is hashed or compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use tollgate_catalog::Snapshot;
use tollgate_core::{Decision, Limit, Mode, Reason};

use super::totals::PolicyTotals;

/// The most policies with their own series; the others are counted together as [`OTHER_POLICIES`].
///
/// With five series per policy, all metrics but those of a gateway stay within 500 series, whatever the policies (P10).
const MAX_LABELLED_POLICIES: usize = 48;
/// The label of policies without their own series.
const OTHER_POLICIES: &str = "(other)";
/// The label of decisions without a binding limit.
const NO_POLICY: &str = "(none)";

/// Counts decisions.
#[derive(Debug, Default)]
pub(super) struct PolicyCounters(ArcSwap<Table>);

/// The counters of one version of the policies; by default of no policies.
#[derive(Debug, Default)]
struct Table {
    /// The addresses of the snapshot's limits, sorted, and the counters of each.
    by_address: Vec<(usize, Arc<Outcomes>)>,
    by_policy: BTreeMap<Box<str>, Arc<Outcomes>>,
    /// The policies of `by_policy` in shadow mode.
    in_shadow: BTreeSet<Box<str>>,
    other: Arc<Outcomes>,
    none: Arc<Outcomes>,
    /// Keeps the limits at their addresses.
    snapshot: Option<Arc<Snapshot>>,
}

/// The outcomes of checks that one policy bound.
#[derive(Debug, Default)]
struct Outcomes {
    allowed: Counter,
    /// In the order of [`Reason::OF_LIMITS`]; without a policy, of [`Reason::OF_API_KEYS`].
    denied: [Counter; Reason::OF_LIMITS.len()],
    /// While the policy is in shadow mode: what it allowed, and what it would have denied.
    shadow: [Counter; 2],
}

impl PolicyCounters {
    /// Creates the counters for the policies of `snapshot`, unless newer ones are in force; policies that stay keep
    /// their counters.
    pub(super) fn policies_in_force(&self, snapshot: &Arc<Snapshot>) {
        self.0.rcu(|table| {
            if table.version() < snapshot.version() {
                Arc::new(table.followed_by(snapshot))
            } else {
                Arc::clone(table)
            }
        });
    }

    /// The version of the policies in force; 0 before the first.
    pub(super) fn policies_version(&self) -> u64 {
        self.0.load().version()
    }

    /// The decisions so far, by policy.
    pub(super) fn totals(&self) -> Vec<PolicyTotals> {
        let table = self.0.load();
        let none = (NO_POLICY, &*table.none);
        let all = table.all().filter(|(policy, _)| !table.shadows(policy)).chain([none]);
        all.map(|(policy, outcomes)| PolicyTotals {
            policy: policy.into(),
            allowed: outcomes.allowed.get(),
            denied: outcomes.denied.iter().map(Counter::get).sum(),
        })
        .collect()
    }

    /// Counts `decision`.
    #[inline]
    pub(super) fn count(&self, decision: &Decision) {
        let table = self.0.load();
        for status in decision.limits() {
            // A shadow limit is never the headline of a denial (R10).
            if status.limit.mode() == Mode::Shadow {
                table.of(&status.limit).shadow[usize::from(!status.allowed)].inc();
            }
        }
        let outcomes = match decision.headline() {
            Some(status) => table.of(&status.limit),
            None => &table.none,
        };
        match decision.reason() {
            None => _ = outcomes.allowed.inc(),
            Some(reason) => {
                let index = |reasons: &[Reason]| reasons.iter().position(|known| *known == reason);
                let index = index(&Reason::OF_LIMITS).or_else(|| index(&Reason::OF_API_KEYS));
                if let Some(denied) = index.and_then(|index| outcomes.denied.get(index)) {
                    denied.inc();
                }
            }
        }
    }
}

impl Table {
    fn version(&self) -> u64 {
        self.snapshot.as_ref().map_or(0, |snapshot| snapshot.version())
    }

    fn followed_by(&self, snapshot: &Arc<Snapshot>) -> Self {
        let mut by_policy = BTreeMap::new();
        let (mut by_address, mut in_shadow) = (Vec::new(), BTreeSet::new());
        for limits in snapshot.policies().limits_of_classes() {
            let Some(limit) = limits.last() else { continue };
            let id = limit.policy_id().as_str();
            let outcomes = if by_policy.len() < MAX_LABELLED_POLICIES {
                let outcomes = self.by_policy.get(id).cloned().unwrap_or_default();
                by_policy.insert(id.into(), Arc::clone(&outcomes));
                if limit.mode() == Mode::Shadow {
                    in_shadow.insert(id.into());
                }
                outcomes
            } else {
                Arc::clone(&self.other)
            };
            by_address.extend(limits.iter().map(|limit| (address(limit), Arc::clone(&outcomes))));
        }
        by_address.sort_unstable_by_key(|(address, _)| *address);
        // All classes without a share use the same limit.
        by_address.dedup_by_key(|(address, _)| *address);
        Self {
            by_address,
            by_policy,
            in_shadow,
            other: Arc::clone(&self.other),
            none: Arc::clone(&self.none),
            snapshot: Some(Arc::clone(snapshot)),
        }
    }

    #[inline]
    fn of(&self, limit: &Arc<Limit>) -> &Outcomes {
        match self.by_address.binary_search_by_key(&address(limit), |(address, _)| *address) {
            Ok(index) => &self.by_address[index].1,
            // A decision of a version that has just been replaced, or is just being put in force.
            Err(_) => self.by_policy.get(limit.policy_id().as_str()).unwrap_or(&self.other),
        }
    }

    fn shadows(&self, policy: &str) -> bool {
        self.in_shadow.contains(policy)
    }

    fn all(&self) -> impl Iterator<Item = (&str, &Outcomes)> {
        let named = self.by_policy.iter().map(|(id, outcomes)| (&**id, &**outcomes));
        named.chain([(OTHER_POLICIES, &*self.other)])
    }
}

fn address(limit: &Arc<Limit>) -> usize {
    Arc::as_ptr(limit).addr()
}

impl Collector for PolicyCounters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let table = self.0.load();
        let mut metric = encoder.encode_descriptor(
            "checks",
            "Checks by outcome, by the policy that bound them and by the reason of a denial",
            None,
            MetricType::Counter,
        )?;
        let mut encode = |policy: &str, outcome: &str, reason: &str, counter: &Counter| {
            let labels = [("outcome", outcome), ("policy", policy), ("reason", reason)];
            counter.encode(metric.encode_family(&labels)?)
        };
        encode(NO_POLICY, "allowed", "", &table.none.allowed)?;
        for (reason, denied) in Reason::OF_API_KEYS.iter().zip(&table.none.denied) {
            encode(NO_POLICY, "denied", reason.name(), denied)?;
        }
        for (policy, outcomes) in table.all().filter(|(policy, _)| !table.shadows(policy)) {
            encode(policy, "allowed", "", &outcomes.allowed)?;
            for (reason, denied) in Reason::OF_LIMITS.iter().zip(&outcomes.denied) {
                encode(policy, "denied", reason.name(), denied)?;
            }
        }
        let mut metric = encoder.encode_descriptor(
            "shadow_decisions",
            "Decisions of policies in shadow mode, which are not enforced",
            None,
            MetricType::Counter,
        )?;
        for (policy, outcomes) in table.all() {
            let [allowed, would_deny] = &outcomes.shadow;
            for (outcome, counter) in [("allowed", allowed), ("would_deny", would_deny)] {
                if table.shadows(policy) {
                    let labels = [("outcome", outcome), ("policy", policy)];
                    counter.encode(metric.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}
