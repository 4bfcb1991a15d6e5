//! The counts of live and expired leases against a model that knows every lease.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;
use tollgate_core::{Amount, LeaseUpdate, ManualClock, Quality, Totals, Ttl};

use super::{MemoryStore, MemoryStoreOptions};
use crate::{LeaseId, LeaseRequest};

#[derive(Clone, Debug)]
enum Step {
    Reserve { ttl_ms: u64 },
    Extend { lease: usize },
    Settle { lease: usize },
    Release { lease: usize },
    Advance { ms: u64 },
    Note { most: usize },
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    let lease = || 0..12_usize;
    prop_oneof![
        3 => (1..5_u64).prop_map(|n| Step::Reserve { ttl_ms: 1_000 * n }),
        3 => lease().prop_map(|lease| Step::Extend { lease }),
        1 => lease().prop_map(|lease| Step::Settle { lease }),
        1 => lease().prop_map(|lease| Step::Release { lease }),
        3 => prop_oneof![4 => 0..3_000_u64, 1 => 55_000..70_000_u64].prop_map(|ms| Step::Advance { ms }),
        1 => (0..3_usize).prop_map(|most| Step::Note { most }),
        1 => Just(Step::Sweep),
    ]
}

/// A lease as the model knows it.
struct Known {
    id: LeaseId,
    ttl_ms: u64,
    expires_at: u64,
    seq: u64,
    is_open: bool,
    /// How often it expired, with the present time not counted.
    expired_before: u64,
}

impl Known {
    /// An open lease is forgotten a minute after it has expired.
    fn is_known(&self, now: u64) -> bool {
        self.is_open && now < self.expires_at + 60_000
    }

    fn is_expired(&self, now: u64) -> bool {
        self.is_open && now >= self.expires_at
    }
}

proptest! {
    #[test]
    fn live_and_expired_leases_are_counted_exactly(
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let clock = ManualClock::default();
        let store = MemoryStore::with_clock(clock.clone(), &MemoryStoreOptions::default());
        let (mut now, mut leases, mut announced) = (0, Vec::<Known>::new(), Vec::new());
        for step in steps {
            match step {
                Step::Reserve { ttl_ms } => {
                    let request = LeaseRequest::new(&[], Ttl::from_ms(ttl_ms).unwrap());
                    let id = store.reserve(&request).lease.unwrap().id;
                    let expires_at = now + ttl_ms;
                    let (seq, is_open, expired_before) = (0, true, 0);
                    leases.push(Known { id, ttl_ms, expires_at, seq, is_open, expired_before });
                }
                Step::Extend { lease } => {
                    let Some(lease) = leases.get_mut(lease) else { continue };
                    lease.seq += 1;
                    let (observed, wanted) = (Totals::none(), Totals::none());
                    let seq = Amount::new(lease.seq).unwrap();
                    let extend = LeaseUpdate::Extend { seq, ttl: None, observed, wanted };
                    store.update_lease(&lease.id, &extend);
                    if lease.is_known(now) {
                        lease.expired_before += u64::from(lease.is_expired(now));
                        lease.expires_at = now + lease.ttl_ms;
                    }
                }
                Step::Settle { lease } | Step::Release { lease } => {
                    let Some(lease) = leases.get_mut(lease) else { continue };
                    lease.seq += 1;
                    let update = match step {
                        Step::Release { .. } => LeaseUpdate::Release,
                        _ => LeaseUpdate::Settle {
                            seq: Amount::new(lease.seq).unwrap(),
                            usage: Totals::none(),
                            quality: Quality::Exact,
                        },
                    };
                    store.update_lease(&lease.id, &update);
                    if lease.is_known(now) {
                        lease.expired_before += u64::from(lease.is_expired(now));
                        lease.is_open = false;
                    }
                }
                Step::Advance { ms } => {
                    clock.advance(Duration::from_millis(ms));
                    now += ms;
                }
                Step::Note { most } => {
                    let found = store.expired_leases(most);
                    prop_assert!(found.len() <= most);
                    for lease in found {
                        let known = leases.iter().find(|known| known.id == lease.id).unwrap();
                        prop_assert!(known.is_expired(now));
                        prop_assert_eq!(lease.since.as_millis(), u128::from(now - known.expires_at));
                        announced.push((lease.id, known.expires_at));
                    }
                }
                Step::Sweep => store.sweep(),
            }
            let live = leases.iter().filter(|lease| lease.is_open && !lease.is_expired(now)).count();
            let expired: u64 = leases
                .iter()
                .map(|lease| lease.expired_before + u64::from(lease.is_expired(now)))
                .sum();
            let stats = store.stats();
            prop_assert_eq!((stats.live_leases, stats.expired_leases), (live as u64, expired));
        }
        let all = announced.len();
        prop_assert_eq!(announced.into_iter().collect::<HashSet<_>>().len(), all, "each once");
    }
}
