//! The leases that are alive, for administrators.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use tollgate_core::{Amount, PolicyId, Unit};
use tollgate_store::{LeaseId, LiveHold, LiveLease, Store, StoreError};

use crate::RateLimitService;
use crate::lease_note::LeaseNote;

/// How many live leases are read: the oldest.
const MAX_READ: usize = 10_000;

/// Which live leases to list: those that match every given value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveLeaseFilter {
    /// Only leases that hold something of this policy's limit.
    pub policy: Option<PolicyId>,
    /// Only leases of this tenant.
    pub tenant: Option<String>,
}

/// Live leases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedLeases {
    /// Sums of all that were read and match, those with the most leases first.
    pub groups: Vec<LeaseGroup>,
    /// The leases, the oldest first.
    pub leases: Vec<ListedLease>,
    /// Whether `groups` and `leases` have every live lease that matches.
    pub is_complete: bool,
}

/// The live leases of a tenant that hold something of a policy's limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseGroup {
    /// The policy.
    pub policy_id: PolicyId,
    /// Its unit.
    pub unit: Unit,
    /// The tenant, if the leases have one.
    pub tenant: Option<String>,
    /// How many leases there are.
    pub leases: u64,
    /// What they hold in all.
    pub reserved: u64,
    /// What their holders have reported as used so far; `None` if nobody has reported the unit.
    pub used: Option<u64>,
    /// The age of the oldest.
    pub oldest: Duration,
}

/// A live lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedLease {
    /// Its name.
    pub id: LeaseId,
    /// Whose it is.
    pub note: LeaseNote,
    /// How long ago it was reserved.
    pub age: Duration,
    /// How long it still lives unless it is extended.
    pub lives_for: Duration,
    /// What it holds.
    pub holds: Vec<ListedHold>,
}

/// What a live lease holds in one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedHold {
    /// The policy that sets the limit.
    pub policy_id: PolicyId,
    /// Its unit.
    pub unit: Unit,
    /// What is held: what was reserved and what extensions added. Of concurrency, 1.
    pub reserved: u64,
    /// What the last extension reported as used so far; `None` if it did not name the unit.
    pub used: Option<u64>,
}

impl<S: Store> RateLimitService<S> {
    /// The live leases that `filter` asks for, at most `most`, and at most `most` groups of them. Reads the oldest 10,000.
    pub async fn live_leases(
        &self,
        filter: &LiveLeaseFilter,
        most: usize,
    ) -> Result<ListedLeases, StoreError> {
        let live = self.store().live_leases(MAX_READ).await?;
        let mut leases: Vec<_> = live.leases.into_iter().map(ListedLease::from).collect();
        leases.retain(|lease| filter.takes(lease));
        let mut groups = grouped(&leases, filter.policy.as_ref());
        let is_complete = live.is_complete && leases.len() <= most && groups.len() <= most;
        leases.truncate(most);
        groups.truncate(most);
        Ok(ListedLeases { groups, leases, is_complete })
    }
}

impl LiveLeaseFilter {
    fn takes(&self, lease: &ListedLease) -> bool {
        let is_of = |policy: &PolicyId| lease.holds.iter().any(|hold| hold.policy_id == *policy);
        self.policy.as_ref().is_none_or(is_of)
            && self.tenant.as_ref().is_none_or(|tenant| lease.note.tenant.as_ref() == Some(tenant))
    }
}

impl From<LiveLease> for ListedLease {
    fn from(lease: LiveLease) -> Self {
        let LiveLease { id, note, age, lives_for, holds, .. } = lease;
        let listed = |LiveHold { policy_id, unit, charged, used }| {
            let used = used.filter(|_| unit != Unit::Concurrency);
            ListedHold { policy_id, reserved: charged, used: used.map(Amount::get), unit }
        };
        let holds = holds.into_iter().map(listed).collect();
        // Another program may have reserved it over the same store, with a note of its own.
        let note = LeaseNote::parse(&note).unwrap_or_default();
        Self { id, note, age, lives_for, holds }
    }
}

/// Sums by policy, `policy` only if there is one, and by tenant.
fn grouped(leases: &[ListedLease], policy: Option<&PolicyId>) -> Vec<LeaseGroup> {
    let mut groups: HashMap<(&PolicyId, &Unit, Option<&str>), LeaseGroup> = HashMap::new();
    for lease in leases {
        let holds = lease.holds.iter();
        for hold in holds.filter(|hold| policy.is_none_or(|only| hold.policy_id == *only)) {
            let tenant = lease.note.tenant.as_deref();
            let group = groups.entry((&hold.policy_id, &hold.unit, tenant));
            let group = group.or_insert_with(|| LeaseGroup {
                policy_id: hold.policy_id.clone(),
                unit: hold.unit.clone(),
                tenant: tenant.map(str::to_owned),
                leases: 0,
                reserved: 0,
                used: None,
                oldest: Duration::ZERO,
            });
            group.leases += 1;
            group.reserved = group.reserved.saturating_add(hold.reserved);
            if let Some(used) = hold.used {
                group.used = Some(group.used.unwrap_or(0).saturating_add(used));
            }
            group.oldest = group.oldest.max(lease.age);
        }
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by(|a, b| {
        let key = |group: &LeaseGroup| (Reverse(group.leases), Reverse(group.oldest));
        let names = |group: &LeaseGroup| (group.policy_id.clone(), group.tenant.clone());
        key(a).cmp(&key(b)).then_with(|| names(a).cmp(&names(b)))
    });
    groups
}

#[cfg(test)]
mod tests {
    use tollgate_catalog::SnapshotReader;
    use tollgate_core::{
        Attribute, Check, Cost, Counting, LeaseUpdate, ManualClock, Per, Policy, PolicySet, Totals,
        Ttl, Window,
    };
    use tollgate_store::MemoryStore;
    use tollgate_store::memory::MemoryStoreOptions;

    use super::*;

    fn policy(id: &str, unit: Unit) -> Policy {
        let window = Window::new(Duration::from_mins(1)).unwrap();
        let per = Per::from_scope("USER").unwrap();
        let id = PolicyId::new(id).unwrap();
        let policy = Policy::new(id, per, Amount::new(1_000), window);
        let counting = match unit {
            Unit::Concurrency => Counting::Concurrency,
            _ => policy.counting,
        };
        Policy { unit, counting, ..policy }
    }

    struct Bench {
        clock: ManualClock,
        service: RateLimitService<MemoryStore<ManualClock>>,
    }

    impl Bench {
        fn new() -> Self {
            let clock = ManualClock::default();
            let policies = [("slots", Unit::Concurrency), ("tokens", Unit::Tokens)];
            let policies = policies.map(|(id, unit)| policy(id, unit)).to_vec();
            let store = MemoryStore::with_clock(clock.clone(), &MemoryStoreOptions::default());
            let policies = SnapshotReader::fixed(PolicySet::new(policies).unwrap());
            Self { clock, service: RateLimitService::new(store, policies) }
        }

        /// A lease of `tenant` for 20 s, a second after the one before.
        async fn reserve(&self, user: &str, tenant: &str, tokens: u64) -> LeaseId {
            self.clock.advance(Duration::from_secs(1));
            let cost = Cost::one_request().with(Unit::Tokens, Amount::new(tokens).unwrap());
            let mut check = Check::new(user, "gpt-4").at_cost(cost);
            check.subject.set(&Attribute::Tenant, tenant);
            let ttl = Ttl::from_ms(20_000).unwrap();
            self.service.reserve(&check, ttl).await.unwrap().lease.unwrap().id
        }

        async fn list(&self, filter: LiveLeaseFilter, most: usize) -> ListedLeases {
            self.service.live_leases(&filter, most).await.unwrap()
        }
    }

    fn users(listed: &ListedLeases) -> Vec<&str> {
        listed.leases.iter().filter_map(|lease| lease.note.user.as_deref()).collect()
    }

    #[tokio::test]
    async fn live_leases_are_listed_oldest_first_with_what_was_used() {
        let bench = Bench::new();
        let first = bench.reserve("alice", "acme", 40).await;
        bench.reserve("bob", "acme", 10).await;
        bench.reserve("carol", "globex", 7).await;
        let extension = LeaseUpdate::Extend {
            seq: Amount::ONE,
            ttl: None,
            observed: Totals::none().with(Unit::Tokens, Amount::new(55).unwrap()),
            wanted: Totals::none(),
        };
        bench.service.update_lease(&first, &extension).await.unwrap().unwrap();
        bench.clock.advance(Duration::from_secs(3));
        let listed = bench.list(LiveLeaseFilter::default(), 10).await;
        assert!(listed.is_complete);
        assert_eq!(users(&listed), ["alice", "bob", "carol"]);
        let alice = &listed.leases[0];
        let times = (alice.age.as_secs(), alice.lives_for.as_secs());
        assert_eq!((&alice.id, times), (&first, (5, 17)), "extended two seconds after it began");
        let hold = |policy: &str, unit, reserved, used| ListedHold {
            policy_id: PolicyId::new(policy).unwrap(),
            unit,
            reserved,
            used,
        };
        let slot = hold("slots", Unit::Concurrency, 1, None);
        assert_eq!(alice.holds, [slot.clone(), hold("tokens", Unit::Tokens, 55, Some(55))]);
        assert_eq!(listed.leases[1].holds, [slot, hold("tokens", Unit::Tokens, 10, None)]);
        let groups: Vec<_> = listed
            .groups
            .iter()
            .map(|group| {
                let LeaseGroup { policy_id, tenant, leases, reserved, used, oldest, .. } = group;
                let tenant = tenant.as_deref().unwrap();
                (policy_id.as_str(), tenant, *leases, *reserved, *used, oldest.as_secs())
            })
            .collect();
        let expected = [
            ("slots", "acme", 2, 2, None, 5),
            ("tokens", "acme", 2, 65, Some(55), 5),
            ("slots", "globex", 1, 1, None, 3),
            ("tokens", "globex", 1, 7, None, 3),
        ];
        assert_eq!(groups, expected);
    }

    #[tokio::test]
    async fn a_list_is_narrowed_by_policy_and_tenant_and_says_when_it_is_not_complete() {
        let bench = Bench::new();
        for (user, tenant) in [("alice", "acme"), ("bob", "globex"), ("carol", "acme")] {
            bench.reserve(user, tenant, 1).await;
        }
        let filter = |policy: Option<&str>, tenant: Option<&str>| LiveLeaseFilter {
            policy: policy.map(|id| PolicyId::new(id).unwrap()),
            tenant: tenant.map(str::to_owned),
        };
        let acme = bench.list(filter(None, Some("acme")), 10).await;
        assert_eq!((users(&acme), acme.groups.len()), (vec!["alice", "carol"], 2));
        let tokens = bench.list(filter(Some("tokens"), Some("acme")), 10).await;
        assert_eq!((users(&tokens).len(), tokens.groups.len()), (2, 1));
        let none = bench.list(filter(Some("other"), None), 10).await;
        assert_eq!(none, ListedLeases { is_complete: true, ..ListedLeases::default() });
        let some = bench.list(filter(Some("tokens"), None), 2).await;
        assert_eq!((users(&some), some.is_complete), (vec!["alice", "bob"], false));
        bench.clock.advance(Duration::from_secs(18));
        let later = bench.list(LiveLeaseFilter::default(), 10).await;
        assert_eq!(users(&later), ["bob", "carol"], "alice's has expired");
    }
}
