//! Refunds of charges whose check was not admitted, whatever happens to the caller, the connection or the server
//! meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tollgate_core::{Amount, Limit};
use tollgate_store::{CallObserver, ChargeLeft, StoreError};

use crate::call::Progress;
use crate::check::{GroupReply, Plan};
use crate::script::SETTLE;
use crate::store::RedisStore;
use crate::wire::EntryId;

/// How often one refund is tried.
const MAX_ATTEMPTS: u32 = 4_096;
/// The first wait between two attempts; it doubles each time
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// up to this maximum, so a server that is available again is asked within it.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// The longest wait for the answer to one attempt, or for a late answer to a charge. A stopped server answers when it
/// continues.
const MAX_ANSWER_WAIT: Duration = Duration::from_mins(1);

/// How long the refund of a check with a request id is tried. If the same id is sent again, it uses the existing
/// charges, and a later refund must not remove them.
const REQUEST_ID_WAIT: Duration = Duration::from_secs(1);

/// The callback for charges that stay in the store.
pub(crate) type Observer = Option<Arc<dyn CallObserver>>;

/// One admission to refund. If it is dropped before it was refunded, it is counted as left.
struct Refund {
    store: RedisStore,
    observer: Observer,
    limit: Arc<Limit>,
    slot: u16,
    /// The key of the limit, and that of the request id if there is one.
    keys: (String, Option<String>),
    arguments: [Vec<u8>; 3],
    /// Whether the refund may be repeated if nobody knows whether it succeeded. An entry of a log has a number, so it
    /// is found at most once. The count of a counter has none.
    may_be_repeated: bool,
    /// The reason to report if the charge stays.
    left: Option<ChargeLeft>,
}

impl Drop for Refund {
    fn drop(&mut self) {
        if let Some(left) = self.left
            && let Some(observer) = &self.observer
        {
            observer.charge_left(left);
        }
    }
}

impl Refund {
    /// Retries until the server has refunded it, it has left its window, or nobody knows whether it was refunded. In
    /// the last case, repeating the refund of a counter could remove another check's charge.
    async fn run(mut self) {
        let began = Instant::now();
        let life = self.limit.longest_life();
        let give_up_after = if self.keys.1.is_some() { REQUEST_ID_WAIT.min(life) } else { life };
        let mut wait = FIRST_WAIT;
        for _ in 0..MAX_ATTEMPTS {
            match self.attempt(life).await {
                Ok(_) => {
                    self.left = None;
                    return;
                }
                Err(error) if error.may_have_charged() && !self.may_be_repeated => {
                    self.left = Some(ChargeLeft::AnswerLost);
                    return;
                }
                Err(error) if error.kind().concerns_one_check() => return,
                Err(_) if began.elapsed() >= life => {
                    // It has left its window.
                    self.left = None;
                    return;
                }
                Err(_) if began.elapsed() >= give_up_after => return,
                Err(_) => {}
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(MAX_WAIT);
        }
    }

    async fn attempt(&self, life: Duration) -> Result<i64, StoreError> {
        let keys = [Some(self.keys.0.as_str()), self.keys.1.as_deref()];
        let keys: Vec<&str> = keys.into_iter().flatten().collect();
        let progress = Progress::default();
        let call = self.store.run::<i64>(&SETTLE, self.slot, &keys, &self.arguments, &progress);
        // Not less than a check waits, however short the window is: then the connection is closed, which others use.
        let patience = life.max(self.store.deadline).min(MAX_ANSWER_WAIT);
        tokio::time::timeout(patience, call)
            .await
            .unwrap_or_else(|_| Err(self.store.too_late(&progress, true)))
    }
}

impl RedisStore {
    /// Refunds what was charged to the groups of `plan` that have an entry in `said`, in separate tasks. Until then
    /// another check may be denied too early, but no limit is exceeded.
    pub(crate) fn give_back(
        &self,
        plan: &Plan,
        said: &[GroupReply],
        observer: &Observer,
    ) -> JoinSet<()> {
        let mut refunds = JoinSet::new();
        for (group, said) in plan.groups.iter().zip(said) {
            for (part, one) in group.parts.iter().zip(said) {
                if !one.before.allowed || part.cost == Amount::ZERO {
                    continue;
                }
                let refund = Refund {
                    store: self.clone(),
                    observer: observer.clone(),
                    limit: Arc::clone(&part.limit),
                    slot: group.slot,
                    keys: (part.key.clone(), group.once_key.clone()),
                    arguments: self.settlement(
                        one.id,
                        (part.cost, Amount::ZERO),
                        part.name.clone(),
                    ),
                    may_be_repeated: matches!(one.id, EntryId::Log(_)),
                    left: Some(ChargeLeft::NotRefunded),
                };
                // If too many wait, the refund is dropped and so counted as left.
                if let Some(running) = self.background.begin_waiting() {
                    refunds.spawn(async move {
                        refund.run().await;
                        drop(running);
                    });
                }
            }
        }
        refunds
    }

    /// Waits for the late answer to the charge of a group and refunds what it charged. With a request id the charge is
    /// kept for a retry with the same id.
    pub(crate) fn give_back_late(
        &self,
        plan: Arc<Plan>,
        group: usize,
        asked: JoinHandle<Result<GroupReply, StoreError>>,
        observer: Observer,
    ) {
        let unknown = Unknown(observer);
        let Some(running) = self.background.begin_waiting() else { return };
        let store = self.clone();
        tokio::spawn(async move {
            let lives = plan.groups.iter().flat_map(|group| &group.parts);
            let life = lives.map(|part| part.limit.longest_life()).max().unwrap_or_default();
            let answer = tokio::time::timeout(life.min(MAX_ANSWER_WAIT), asked).await;
            match answer {
                Ok(Ok(Ok(said))) if plan.groups[group].once_key.is_none() => {
                    let observer = unknown.known();
                    let mut all = vec![GroupReply::new(); group];
                    all.push(said);
                    store.give_back(&plan, &all, &observer).join_all().await;
                }
                Ok(Ok(Err(error))) if !error.may_have_charged() => drop(unknown.known()),
                _ => {}
            }
            drop(running);
        });
    }
}

/// A charge of which nobody knows whether it was made. If it is dropped before that is known, it is counted as left.
struct Unknown(Observer);

impl Unknown {
    fn known(mut self) -> Observer {
        self.0.take()
    }
}

impl Drop for Unknown {
    fn drop(&mut self) {
        if let Some(observer) = &self.0 {
            observer.charge_left(ChargeLeft::AnswerLost);
        }
    }
}

/// Counts a charge of which nobody knows whether it was made.
pub(crate) fn left_unknown(error: &StoreError, observer: &Observer) {
    if error.may_have_charged() {
        drop(Unknown(observer.clone()));
    }
}
