//! One check: each limit has a key of its own, which is charged at one moment. All are charged or none (R3): what was
//! charged is refunded if a later limit denies (`tollgate_store::compensation`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;
use tollgate_core::{Charge, Limit, Mode, Timestamp, Window};
use tollgate_store::compensation::{ChargeObserver, ChargedLimit, GroupedCheck, charge_groups};
use tollgate_store::{StoreError, StoreErrorKind, Verdicts};

use crate::driver::{Operation, Part, Progress};
use crate::errors;
use crate::key::{KeyId, RequestDigest, request_digest};
use crate::state::{Answer, KeyState, Receipt};
use crate::store::Shared;

/// A check with everything that is needed to decide it after its caller has gone.
#[derive(Debug)]
pub(crate) struct Plan {
    /// In the order in which they are charged: first those that are known to deny, so that nothing is refunded because of them;
    /// last those that record denied costs, so that an error of the others leaves nothing recorded.
    limits: SmallVec<[PlannedLimit; 2]>,
}

/// One limit of a check.
#[derive(Debug)]
struct PlannedLimit {
    /// Its index in the check.
    place: usize,
    key: KeyId,
    part: Part,
}

impl Shared {
    /// `charges` with everything that is needed after their caller has gone.
    pub(crate) fn plan(&self, charges: &[Charge<'_>], request_id: Option<&str>) -> Plan {
        let keys: SmallVec<[KeyId; 2]> = charges.iter().map(KeyId::of_charge).collect();
        let longest = charges.iter().filter_map(|charge| charge.limit.counting().window()).max();
        let life = longest.map_or(Duration::ZERO, Window::as_duration);
        let request = request_id.map(|request_id| (request_digest(request_id, &keys), life));
        let limits = charges.iter().zip(&keys).enumerate().map(|(place, (charge, key))| {
            let part = Part {
                limit: Arc::clone(charge.limit),
                cost: charge.cost,
                is_recorded_if_denied: charge.is_recorded_if_denied(),
                is_denied: false,
                request,
            };
            PlannedLimit { place, key: *key, part }
        });
        let mut limits: SmallVec<[PlannedLimit; 2]> = limits.collect();
        if limits.len() > 1 {
            let rank = |one: &PlannedLimit| {
                let is_known = !one.part.is_recorded_if_denied && self.known_denial(one).is_some();
                (one.part.is_recorded_if_denied, !is_known)
            };
            limits.sort_by_cached_key(rank);
        }
        Plan { limits }
    }

    /// Charges all of `plan` or nothing, except what is recorded of a denied check (R19).
    pub(crate) async fn charge_plan(
        self: Arc<Self>,
        plan: Plan,
        observer: ChargeObserver,
    ) -> Result<Verdicts, StoreError> {
        let background = Arc::clone(&self.background);
        let deadline = Instant::now() + self.deadline;
        let check = SpreadCheck { shared: self, plan, is_denied: AtomicBool::new(false) };
        if check.plan.limits.len() != 1 {
            let check = Arc::new(check);
            let charged = charge_groups(Arc::clone(&check), &background, observer).await?;
            return Ok(check.plan.verdicts(&charged.answers, charged.denied));
        }
        let progress = Arc::default();
        let call = check.charge(0, deadline, &progress);
        let answer = tokio::time::timeout_at(deadline, call).await;
        let answer = answer.unwrap_or_else(|_| Err(check.too_late(&progress)))?;
        let denied = check.denies(0, &answer);
        Ok(check.plan.verdicts(&[answer], denied))
    }

    /// The verdicts that [`Shared::charge_plan`] would give now; changes nothing.
    pub(crate) async fn peek_plan(self: Arc<Self>, plan: Plan) -> Result<Verdicts, StoreError> {
        let deadline = Instant::now() + self.deadline;
        let mut answers = Vec::with_capacity(plan.limits.len());
        for limit in &plan.limits {
            answers.push(self.peek(limit, deadline).await?);
        }
        Ok(plan.verdicts(&answers, true))
    }

    async fn peek(
        self: &Arc<Self>,
        limit: &PlannedLimit,
        deadline: Instant,
    ) -> Result<Answer, StoreError> {
        let progress = Arc::default();
        let peek = Operation::Peek(limit.part.clone());
        let call = self.operate(limit.key, peek, deadline, &progress);
        let answer = tokio::time::timeout_at(deadline, call).await;
        answered(answer.unwrap_or_else(|_| Err(self.too_late(&progress)))?)
    }

    /// The answer of a limit that is known to deny. It is certain: other admissions only add to the usage, and what gives usage
    /// back is announced. A check with a request id may have been admitted before, and what records denied costs
    /// must be stored.
    fn known_denial(&self, limit: &PlannedLimit) -> Option<Answer> {
        let Part { limit: of, is_recorded_if_denied, request, .. } = &limit.part;
        if request.is_some() || *is_recorded_if_denied || of.mode() != Mode::Enforce {
            return None;
        }
        self.known_answer(limit, |state, now| !state.must_store_denial(of, now))
            .filter(|answer| !answer.before.allowed)
    }

    /// The answer of a limit by the value that this node saw last, if that `is_enough`.
    fn known_answer(
        &self,
        limit: &PlannedLimit,
        is_enough: impl Fn(&KeyState, Timestamp) -> bool,
    ) -> Option<Answer> {
        if !self.known.hears() {
            return None;
        }
        let state = self.known.get(&limit.key).0?.state;
        let now = self.now();
        let answer = || Answer::of(state.evaluate(&limit.part.limit, now, limit.part.cost));
        is_enough(&state, now).then(answer)
    }

    /// The error of an operation whose time is up.
    pub(crate) fn too_late(&self, progress: &Progress) -> StoreError {
        let (place, waited_ms) = (&self.link.place, self.deadline.as_millis());
        if progress.is_contended() {
            let context = format!(
                "other nodes changed the same key each time that this one tried, for {waited_ms} ms"
            );
            return StoreError::new(StoreErrorKind::NotAsked, context);
        }
        let context = format!("memcached at {place} did not answer within {waited_ms} ms");
        let error = errors::with_remedy(StoreError::new(StoreErrorKind::Unavailable, context));
        if progress.is_changing() { error.after_send() } else { error }
    }
}

fn answered(answer: Option<Answer>) -> Result<Answer, StoreError> {
    let missing = || StoreError::new(StoreErrorKind::Unexpected, "a decision has no verdict");
    answer.ok_or_else(missing)
}

impl Plan {
    /// The verdicts in the order of the check. If it is denied, they are those before the charge, or after what is recorded of a
    /// denied check.
    fn verdicts(&self, answers: &[Answer], denied: bool) -> Verdicts {
        let verdict = |answer: &Answer| {
            if denied || !answer.before.allowed {
                answer.recorded.unwrap_or(answer.before)
            } else {
                answer.after
            }
        };
        let mut placed: SmallVec<[_; 4]> =
            self.limits.iter().map(|limit| limit.place).zip(answers.iter().map(verdict)).collect();
        placed.sort_unstable_by_key(|(place, _)| *place);
        placed.into_iter().map(|(_, verdict)| verdict).collect()
    }
}

/// A check that `tollgate_store::compensation` charges: each limit is a group.
struct SpreadCheck {
    shared: Arc<Shared>,
    plan: Plan,
    /// Whether a limit has denied it.
    is_denied: AtomicBool,
}

/// What is to be refunded to one key.
pub(crate) struct Refunding {
    key: KeyId,
    limit: Arc<Limit>,
    receipt: Option<Receipt>,
    request: Option<RequestDigest>,
}

impl SpreadCheck {
    fn limit(&self, group: usize) -> Result<&PlannedLimit, StoreError> {
        let missing = || StoreError::new(StoreErrorKind::Unexpected, "there is no such limit");
        self.plan.limits.get(group).ok_or_else(missing)
    }
}

impl GroupedCheck for SpreadCheck {
    type Answer = Answer;
    type Admission = Refunding;
    type Progress = Progress;

    fn groups(&self) -> usize {
        self.plan.limits.len()
    }

    fn has_request_id(&self) -> bool {
        self.plan.limits.iter().any(|limit| limit.part.request.is_some())
    }

    fn longest_life(&self) -> Duration {
        let lives = self.plan.limits.iter().map(|limit| limit.part.limit.longest_life());
        lives.max().unwrap_or_default()
    }

    fn timeout(&self) -> Duration {
        self.shared.deadline
    }

    fn denies(&self, group: usize, answer: &Answer) -> bool {
        let enforces = |limit: &PlannedLimit| limit.part.limit.mode() == Mode::Enforce;
        let denies = !answer.before.allowed && self.plan.limits.get(group).is_some_and(enforces);
        // Relaxed: the groups are asked one after the other, each in a task that is awaited.
        self.is_denied.fetch_or(denies, Ordering::Relaxed);
        denies
    }

    fn records_denied(&self, group: usize) -> bool {
        self.plan.limits.get(group).is_some_and(|limit| limit.part.is_recorded_if_denied)
    }

    fn charged(&self, group: usize, answer: &Answer) -> Vec<ChargedLimit<Refunding>> {
        let Some(PlannedLimit { key, part, .. }) = self.plan.limits.get(group) else {
            return Vec::new();
        };
        let changed = answer.receipt.is_some() || answer.is_remembered;
        if answer.recorded.is_some() || !changed {
            return Vec::new();
        }
        let request = part.request.map(|(request, _)| request);
        let life = part.limit.longest_life();
        let limit = Arc::clone(&part.limit);
        vec![ChargedLimit {
            admission: Refunding { key: *key, limit, receipt: answer.receipt, request },
            life,
            may_be_repeated: answer.receipt.is_none_or(|receipt| receipt.may_be_repeated()),
        }]
    }

    async fn charge(
        &self,
        group: usize,
        deadline: Instant,
        progress: &Arc<Progress>,
    ) -> Result<Answer, StoreError> {
        let limit = self.limit(group)?;
        if let Some(denial) = self.shared.known_denial(limit) {
            // Relaxed: the number is independent.
            self.shared.denied_locally.fetch_add(1, Ordering::Relaxed);
            return Ok(denial);
        }
        let is_denied = self.is_denied.load(Ordering::Relaxed);
        let charge = Operation::Charge(Part { is_denied, ..limit.part.clone() });
        answered(self.shared.operate(limit.key, charge, deadline, progress).await?)
    }

    /// Only for what a denied check shows of its other limits: the usage that this node saw last is enough.
    async fn peek(&self, group: usize, deadline: Instant) -> Result<Answer, StoreError> {
        let limit = self.limit(group)?;
        match self.shared.known_answer(limit, |_, _| true) {
            Some(answer) => Ok(answer),
            None => self.shared.peek(limit, deadline).await,
        }
    }

    fn too_late(&self, progress: &Progress) -> StoreError {
        self.shared.too_late(progress)
    }

    async fn refund(&self, refunding: &Refunding, patience: Duration) -> Result<(), StoreError> {
        let Refunding { key, limit, receipt, request } = refunding;
        let refund =
            Operation::Refund { limit: Arc::clone(limit), receipt: *receipt, request: *request };
        let (deadline, progress) = (Instant::now() + patience, Arc::default());
        let call = self.shared.operate(*key, refund, deadline, &progress);
        let answer = tokio::time::timeout_at(deadline, call).await;
        answer.unwrap_or_else(|_| Err(self.shared.too_late(&progress))).map(|_| ())
    }
}
