//! What an update does to a lease: pure, so that every store does the same.
//!
//! A lease holds *parts* in each limit: what it reserved, what an extension added, what a settlement charged above that (its
//! debt). Each part is an admission at its own time, and leaves the window a window after it.

use std::time::Duration;

use smallvec::SmallVec;

use super::{LeaseUpdate, Quality, Totals, Ttl};
use crate::{Amount, Limit, Timestamp};

/// The most parts that a lease may hold in one limit. An extension that would need one more gets none; a settlement may add
/// one more.
pub const MAX_PARTS: usize = 32;

/// What became of a lease, as far as its callers have said. Whether it has expired is a matter of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Nothing yet.
    Open,
    /// It was settled. A later settlement with a higher sequence number corrects it.
    Settled,
    /// It was released.
    Released,
}

/// For how long a lease is known at least after it has ended or expired.
pub const KEPT_FOR: Duration = Duration::from_mins(1);

/// A lease without what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseHead {
    /// What became of it.
    pub ending: Ending,
    /// The sequence number of the last update that counted; 0 if there was none.
    pub seq: Amount,
    /// What the last extension was told: whether the caller may go on.
    pub proceed: bool,
    /// Its time to live from the last extension.
    pub ttl: Ttl,
    /// When it expires, by the clock of the store.
    pub expires_at: Timestamp,
}

impl LeaseHead {
    /// A lease that was just reserved.
    pub fn new(ttl: Ttl, now: Timestamp) -> Self {
        let expires_at = now.after(ttl.as_duration());
        Self { ending: Ending::Open, seq: Amount::ZERO, proceed: true, ttl, expires_at }
    }

    /// Whether it is alive, so that its slots are taken.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.ending == Ending::Open && now < self.expires_at
    }

    /// Until when it is known while it is open: at least a minute after it expires, and as long as anything of it counts that
    /// was charged before. `longest_life` is that of its limits, except those of concurrency.
    pub fn kept_until(&self, longest_life: Duration) -> Timestamp {
        self.expires_at.after(longest_life.max(KEPT_FOR))
    }

    /// What `update` does to it.
    pub fn step(&self, update: &LeaseUpdate) -> Step {
        match update {
            LeaseUpdate::Release => match self.ending {
                Ending::Open => Step::End(Ending::Released),
                Ending::Settled => Step::Refused,
                Ending::Released => Step::Nothing,
            },
            _ if self.ending == Ending::Released => Step::Refused,
            LeaseUpdate::Extend { seq, .. } | LeaseUpdate::Settle { seq, .. }
                if *seq <= self.seq =>
            {
                Step::Nothing
            }
            LeaseUpdate::Extend { .. } if self.ending == Ending::Settled => Step::Refused,
            LeaseUpdate::Extend { ttl, .. } => Step::Extend(ttl.unwrap_or(self.ttl)),
            LeaseUpdate::Settle { .. } => Step::End(Ending::Settled),
        }
    }
}

/// What an update does to a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, because it came before. The answer is the state of the lease.
    Nothing,
    /// Nothing, because the lease has ended otherwise.
    Refused,
    /// Changes its holds, and lets it live for so long from now. If it holds a slot and has expired, it needs a free one.
    Extend(Ttl),
    /// Changes its holds and frees its slots.
    End(Ending),
}

/// What an update does to one hold of a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldChange {
    /// What the hold comes to, by reducing parts or by charging what is missing now, whether or not there is room.
    pub total: u64,
    /// What is admitted above that, if there is room in this and all other limits.
    pub wanted: u64,
}

/// The effect of `update` on a hold of `total` in `limit`. Call it only if [`LeaseHead::step`] lets the update through.
pub fn change(update: &LeaseUpdate, limit: &Limit, total: u64) -> HoldChange {
    let named = |totals: &Totals| limit.total_of(totals).map(Amount::get);
    let (total, wanted) = match update {
        LeaseUpdate::Release => (0, 0),
        LeaseUpdate::Settle { usage, quality: Quality::Exact, .. } => {
            (named(usage).unwrap_or(total), 0)
        }
        LeaseUpdate::Settle { usage, quality: Quality::LowerBound, .. } => {
            (total.max(named(usage).unwrap_or(0)), 0)
        }
        LeaseUpdate::Extend { observed, wanted, .. } => {
            let total = total.max(named(observed).unwrap_or(0));
            (total, named(wanted).unwrap_or(0).saturating_sub(total))
        }
    };
    HoldChange { total, wanted }
}

/// The costs of the parts of a hold after it was reduced to `total`: the newest parts are given back first. More than the parts
/// have in all changes none.
pub fn reduced(parts: impl IntoIterator<Item = u64>, total: u64) -> SmallVec<[u64; 2]> {
    let mut left = total;
    let take = |part: u64| {
        let kept = part.min(left);
        left -= kept;
        kept
    };
    parts.into_iter().map(take).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Per, Policy, PolicyId, TokenKind, Unit, Weight, Weights};

    fn limit(unit: Unit) -> Limit {
        weighted(unit, Weights::default())
    }

    fn weighted(unit: Unit, weights: Weights) -> Limit {
        let (id, per) = (PolicyId::new("p").unwrap(), Per::from_scope("GLOBAL").unwrap());
        let policy = Policy::new(id, per, Some(Amount::MAX), crate::policy::DEFAULT_WINDOW);
        Limit::of(&Policy { unit, weights, ..policy }).unwrap()
    }

    fn amount(amount: u64) -> Amount {
        Amount::new(amount).unwrap()
    }

    fn tokens(total: u64) -> Totals {
        Totals::none().with(Unit::Tokens, amount(total))
    }

    fn settle(seq: u64, total: u64) -> LeaseUpdate {
        LeaseUpdate::Settle { seq: amount(seq), usage: tokens(total), quality: Quality::Exact }
    }

    fn extend(seq: u64) -> LeaseUpdate {
        let (observed, wanted) = (tokens(10), tokens(30));
        LeaseUpdate::Extend { seq: amount(seq), ttl: None, observed, wanted }
    }

    #[test]
    fn an_update_counts_once_and_ends_a_lease_for_good() {
        let now = Timestamp::from_ms(1_000);
        let open = LeaseHead { seq: amount(5), ..LeaseHead::new(Ttl::DEFAULT, now) };
        assert!(open.is_live(now) && !open.is_live(now.after(Ttl::DEFAULT.as_duration())));
        let settled = LeaseHead { ending: Ending::Settled, ..open };
        let released = LeaseHead { ending: Ending::Released, ..open };
        assert!(!settled.is_live(now) && !released.is_live(now));
        let cases = [
            (settle(5, 1), [Step::Nothing, Step::Nothing, Step::Refused]),
            (settle(6, 1), [Step::End(Ending::Settled), Step::End(Ending::Settled), Step::Refused]),
            (extend(5), [Step::Nothing, Step::Nothing, Step::Refused]),
            (extend(6), [Step::Extend(Ttl::DEFAULT), Step::Refused, Step::Refused]),
            (LeaseUpdate::Release, [Step::End(Ending::Released), Step::Refused, Step::Nothing]),
        ];
        for (update, expected) in cases {
            assert_eq!(
                [open, settled, released].map(|head| head.step(&update)),
                expected,
                "{update:?}"
            );
        }
    }

    #[test]
    fn a_lower_bound_gives_nothing_back() {
        let bound = |total| LeaseUpdate::Settle {
            seq: Amount::ONE,
            usage: tokens(total),
            quality: Quality::LowerBound,
        };
        let totals = [
            (settle(1, 20), 20),
            (settle(1, 0), 0),
            (settle(1, 70), 70),
            (bound(20), 50),
            (bound(70), 70),
            (LeaseUpdate::Release, 0),
            (extend(1), 50),
        ];
        for (update, total) in totals {
            assert_eq!(change(&update, &limit(Unit::Tokens), 50), HoldChange { total, wanted: 0 });
        }
        let grown = change(&extend(1), &limit(Unit::Tokens), 5);
        assert_eq!(grown, HoldChange { total: 10, wanted: 20 });
        let requests = change(&settle(1, 20), &limit(Unit::Requests), 1);
        assert_eq!(requests, HoldChange { total: 1, wanted: 0 });
    }

    #[test]
    fn a_settlement_is_weighted() {
        let mut weights = Weights::default();
        weights.set(TokenKind::CachedInput, Weight::of_thousandths(100).unwrap());
        let limit = weighted(Unit::Tokens, weights);
        let usage = tokens(100).with(TokenKind::CachedInput.unit(), amount(55));
        let settle = LeaseUpdate::Settle { seq: Amount::ONE, usage, quality: Quality::Exact };
        // 45 + 5.5
        assert_eq!(change(&settle, &limit, 100), HoldChange { total: 51, wanted: 0 });
    }

    proptest! {
        #[test]
        fn the_newest_parts_are_given_back_first(
            parts in proptest::collection::vec(0..100_u64, 0..6), total in 0..400_u64,
        ) {
            let kept = reduced(parts.iter().copied(), total);
            prop_assert_eq!(kept.iter().sum::<u64>(), total.min(parts.iter().sum()));
            if let Some(first) = (0..parts.len()).find(|at| kept[*at] < parts[*at]) {
                prop_assert!(kept[first + 1..].iter().all(|part| *part == 0));
            }
        }
    }
}
