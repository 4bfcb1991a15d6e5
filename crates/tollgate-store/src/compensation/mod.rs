//! Charges a check whose limits cannot be charged at one moment, and gives back what was charged if it is not admitted.
//!
//! A store charges each *group* of limits at one moment, such as those in one slot of a Redis Cluster, and implements
//! [`GroupedCheck`]. [`charge_groups`] charges one group after the other. If a group denies or fails, it refunds what
//! the groups before it charged, whatever happens to the caller, the connection or the server meanwhile. Between a charge
//! and its refund another check may be denied too early, but no limit is exceeded. Groups
//! that [record denied costs](GroupedCheck::records_denied) are charged in any case and not refunded. A charge that stays although its check
//! was not admitted is reported to the observer, and leaves with its window.
//!
//! This module must not know how a group is charged or where it lies.

mod refund;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::background::Background;
use crate::{CallObserver, StoreError, StoreErrorKind};
use refund::{MAX_ANSWER_WAIT, Refund, Unknown, left_unknown};

/// The callback for charges that stay in the store.
pub type ChargeObserver = Option<Arc<dyn CallObserver>>;

/// A check whose limits lie in several groups, with everything that is needed to decide it after its caller has gone.
pub trait GroupedCheck: Send + Sync + 'static {
    /// The store's answer for one group.
    type Answer: Send + 'static;
    /// What one limit was charged, in the form in which the store can refund it.
    type Admission: Send + Sync + 'static;
    /// How far a call has come, for the error when its time is up.
    type Progress: Default + Send + Sync + 'static;

    /// The number of groups. Each is named by its index.
    fn groups(&self) -> usize;

    /// Whether the check has a request id, by which its charges are found if it is sent again.
    fn has_request_id(&self) -> bool;

    /// For how long any charge of the check may count.
    fn longest_life(&self) -> Duration;

    /// How long a call of a check may take.
    fn timeout(&self) -> Duration;

    /// Whether an enforced limit of `group` denies.
    fn denies(&self, group: usize, answer: &Self::Answer) -> bool;

    /// Whether the limits of `group` are charged even if the check is denied (R19). [`GroupedCheck::charged`] has nothing of them
    /// to refund.
    fn records_denied(&self, group: usize) -> bool;

    /// What the limits of `group` were charged and is to be refunded if the check is denied, without costs of 0.
    fn charged(&self, group: usize, answer: &Self::Answer) -> Vec<ChargedLimit<Self::Admission>>;

    /// Charges all of `group` or nothing. After `deadline` nothing may be sent or charged, but the answer may come later.
    fn charge(
        &self,
        group: usize,
        deadline: Instant,
        progress: &Arc<Self::Progress>,
    ) -> impl Future<Output = Result<Self::Answer, StoreError>> + Send;

    /// The answer that [`GroupedCheck::charge`] would give now; changes nothing and ends at `deadline`.
    fn peek(
        &self,
        group: usize,
        deadline: Instant,
    ) -> impl Future<Output = Result<Self::Answer, StoreError>> + Send;

    /// The error of a charge that has not been answered at its deadline, and what the store does about such a call.
    fn too_late(&self, progress: &Self::Progress) -> StoreError;

    /// Sets the cost of `admission` to 0, and forgets the request id, because the answer to it was never sent. It is no
    /// error if the admission no longer exists. Fails after `patience`.
    fn refund(
        &self,
        admission: &Self::Admission,
        patience: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What one limit was charged.
#[derive(Debug)]
pub struct ChargedLimit<A> {
    /// Names it for [`GroupedCheck::refund`].
    pub admission: A,
    /// For how long it may count.
    pub life: Duration,
    /// Whether a refund may be repeated if nobody knows whether it succeeded: it finds this admission at most once, and
    /// never another.
    pub may_be_repeated: bool,
}

/// The answers of all groups.
#[derive(Debug)]
pub struct GroupAnswers<A> {
    /// By group. After a denial the further groups were only peeked at, except those that record denied costs.
    pub answers: Vec<A>,
    /// Whether a group denied, so that nothing stays charged except what is recorded in any case.
    pub denied: bool,
}

/// Charges all groups of `check` or nothing, within [`GroupedCheck::timeout`]. Work that outlives the call is counted by
/// `background`, and `observer` is told of charges that stay.
///
/// It must run to its end: a caller that may go away wraps it in [`Outliving`](crate::background::Outliving).
pub async fn charge_groups<G: GroupedCheck>(
    check: Arc<G>,
    background: &Arc<Background>,
    observer: ChargeObserver,
) -> Result<GroupAnswers<G::Answer>, StoreError> {
    let deadline = Instant::now() + check.timeout();
    Compensation { check, background: Arc::clone(background), observer }.charge(deadline).await
}

/// One check that is being charged, or refunded.
struct Compensation<G> {
    check: Arc<G>,
    background: Arc<Background>,
    observer: ChargeObserver,
}

impl<G> Clone for Compensation<G> {
    fn clone(&self) -> Self {
        let Self { check, background, observer } = self;
        Self {
            check: Arc::clone(check),
            background: Arc::clone(background),
            observer: observer.clone(),
        }
    }
}

impl<G: GroupedCheck> Compensation<G> {
    /// Charges one group after the other.
    async fn charge(&self, deadline: Instant) -> Result<GroupAnswers<G::Answer>, StoreError> {
        let groups = self.check.groups();
        let mut answers = Vec::with_capacity(groups);
        let mut denied = false;
        for group in 0..groups {
            let answer = if denied && !self.check.records_denied(group) {
                self.check.peek(group, deadline).await
            } else {
                self.charge_group(group, deadline).await
            };
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    if !denied {
                        self.give_back(&answers).detach_all();
                    }
                    return Err(error);
                }
            };
            if !denied && self.check.denies(group, &answer) {
                denied = true;
                wait_for_refunds(self.give_back(&answers), deadline).await;
            }
            answers.push(answer);
        }
        Ok(GroupAnswers { answers, denied })
    }

    /// Charges one group. If the answer comes after the deadline, a background task waits for it and refunds the charge.
    async fn charge_group(&self, group: usize, deadline: Instant) -> Result<G::Answer, StoreError> {
        let progress = Arc::<G::Progress>::default();
        let (check, of_task) = (Arc::clone(&self.check), Arc::clone(&progress));
        let mut charging =
            tokio::spawn(async move { check.charge(group, deadline, &of_task).await });
        match tokio::time::timeout_at(deadline, &mut charging).await {
            Ok(Ok(answer)) => answer.inspect_err(|error| left_unknown(error, &self.observer)),
            Ok(Err(error)) => {
                let context = "the task that asked the store failed";
                let error = StoreError::new(StoreErrorKind::Unexpected, context).caused_by(error);
                left_unknown(&error, &self.observer);
                Err(error.after_send())
            }
            Err(_) => {
                let error = self.check.too_late(&progress);
                self.give_back_late(group, charging);
                Err(error)
            }
        }
    }

    /// Refunds what was charged to the groups that have an entry in `answers`, in separate tasks.
    fn give_back(&self, answers: &[G::Answer]) -> JoinSet<()> {
        let mut refunds = JoinSet::new();
        for (group, answer) in answers.iter().enumerate() {
            self.give_back_group(group, answer, &self.observer, &mut refunds);
        }
        refunds
    }

    fn give_back_group(
        &self,
        group: usize,
        answer: &G::Answer,
        observer: &ChargeObserver,
        refunds: &mut JoinSet<()>,
    ) {
        for charged in self.check.charged(group, answer) {
            let refund = Refund::new(Arc::clone(&self.check), charged, observer.clone());
            // If too many wait, the refund is dropped and so counted as left.
            if let Some(running) = self.background.begin_waiting() {
                refunds.spawn(async move {
                    refund.run().await;
                    drop(running);
                });
            }
        }
    }

    /// Waits for the late answer to the charge of `group` and refunds what it charged. With a request id the charge is
    /// kept for a retry with the same id.
    fn give_back_late(&self, group: usize, charging: JoinHandle<Result<G::Answer, StoreError>>) {
        let unknown = Unknown::new(self.observer.clone());
        let Some(running) = self.background.begin_waiting() else { return };
        let this = self.clone();
        tokio::spawn(async move {
            let patience = this.check.longest_life().min(MAX_ANSWER_WAIT);
            match tokio::time::timeout(patience, charging).await {
                Ok(Ok(Ok(answer))) if !this.check.has_request_id() => {
                    let observer = unknown.known();
                    let mut refunds = JoinSet::new();
                    this.give_back_group(group, &answer, &observer, &mut refunds);
                    // Not held while the refunds run.
                    drop(answer);
                    refunds.join_all().await;
                }
                Ok(Ok(Err(error))) if !error.may_have_charged() => drop(unknown.known()),
                _ => {}
            }
            drop(running);
        });
    }
}

/// Waits for `refunds`, so that a caller that gets a denial finds the refunded room. The refunds continue after the
/// deadline.
async fn wait_for_refunds(mut refunds: JoinSet<()>, deadline: Instant) {
    let all = async { while refunds.join_next().await.is_some() {} };
    // Wait at most half of the remaining time, and leave the rest for the groups that have not been asked yet.
    let until = Instant::now() + deadline.saturating_duration_since(Instant::now()) / 2;
    let _ = tokio::time::timeout_at(until, all).await;
    refunds.detach_all();
}

#[cfg(test)]
mod tests;
