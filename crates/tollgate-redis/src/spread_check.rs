//! A check whose limits lie in several slots of a Cluster: how `tollgate_store::compensation` charges and refunds it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tollgate_core::Amount;
use tollgate_store::StoreError;
use tollgate_store::compensation::{ChargedLimit, GroupedCheck};

use crate::call::Progress;
use crate::check::{GroupReply, Part, Plan};
use crate::script::SETTLE;
use crate::store::RedisStore;
use crate::wire::{EntryId, LimitReply};

/// A check whose limits lie in several slots of a Cluster.
pub(crate) struct SpreadCheck {
    pub(crate) store: RedisStore,
    pub(crate) plan: Arc<Plan>,
}

/// One admission to refund.
pub(crate) struct Admission {
    slot: u16,
    /// The key of the limit, and that of the request id if there is one.
    keys: (String, Option<String>),
    arguments: [Vec<u8>; 4],
}

impl GroupedCheck for SpreadCheck {
    type Answer = GroupReply;
    type Admission = Admission;
    type Progress = Progress;

    fn groups(&self) -> usize {
        self.plan.groups.len()
    }

    fn has_request_id(&self) -> bool {
        self.plan.groups.iter().any(|group| group.once_key.is_some())
    }

    fn longest_life(&self) -> Duration {
        let parts = self.plan.groups.iter().flat_map(|group| &group.parts);
        parts.map(|part| part.limit.longest_life()).max().unwrap_or_default()
    }

    fn timeout(&self) -> Duration {
        self.store.deadline
    }

    fn denies(&self, group: usize, said: &GroupReply) -> bool {
        self.plan.refuses(group, said)
    }

    fn records_denied(&self, group: usize) -> bool {
        self.plan.groups.get(group).is_some_and(|group| group.records_denied)
    }

    fn charged(&self, group: usize, said: &GroupReply) -> Vec<ChargedLimit<Admission>> {
        let Some(group) = self.plan.groups.get(group) else { return Vec::new() };
        if group.records_denied {
            return Vec::new();
        }
        let limits = group.parts.iter().zip(said);
        let is_charged = |(part, one): &(&Part, &LimitReply)| {
            one.before.allowed && part.cost != Amount::ZERO && one.id != EntryId::Slot
        };
        let charged = limits.filter(is_charged);
        let charged = charged.map(|(part, one)| ChargedLimit {
            admission: Admission {
                slot: group.slot,
                keys: (part.key.clone(), group.once_key.clone()),
                arguments: self.store.settlement(
                    one.id,
                    (part.cost, Amount::ZERO),
                    part.name.clone(),
                ),
            },
            life: part.limit.longest_life(),
            // An entry of a log has a number, so it is found at most once. The count of a counter has none.
            may_be_repeated: matches!(one.id, EntryId::Log(_)),
        });
        charged.collect()
    }

    async fn charge(
        &self,
        group: usize,
        deadline: Instant,
        progress: &Arc<Progress>,
    ) -> Result<GroupReply, StoreError> {
        self.store.ask(&self.plan, group, true, deadline, progress).await
    }

    async fn peek(&self, group: usize, deadline: Instant) -> Result<GroupReply, StoreError> {
        self.store.peek_group(&self.plan, group, deadline).await
    }

    fn too_late(&self, progress: &Progress) -> StoreError {
        self.store.too_late(progress, true)
    }

    async fn refund(&self, admission: &Admission, patience: Duration) -> Result<(), StoreError> {
        let Admission { slot, keys, arguments } = admission;
        let keys = [Some(keys.0.as_str()), keys.1.as_deref()];
        let keys: Vec<&str> = keys.into_iter().flatten().collect();
        let progress = Progress::default();
        let call = self.store.run::<i64>(&SETTLE, *slot, &keys, arguments, &progress);
        self.store.until(Instant::now() + patience, &progress, true, call).await.map(|_| ())
    }
}
