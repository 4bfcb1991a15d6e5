//! One check: grouped by the slots of its limits, each group decided by one script, all charged or none (R3).

use std::borrow::Borrow;
use std::collections::HashSet;
use std::sync::Arc;

use smallvec::SmallVec;
use tokio::time::Instant;
use tollgate_core::counting::Verdict;
use tollgate_core::{Amount, Charge, Clock, Limit, Mode, OverLimit, Subject, Timestamp, Window};
use tollgate_store::compensation::{ChargeObserver, charge_groups};
use tollgate_store::{StoreError, StoreErrorKind, Verdicts, key_bytes};

use crate::call::{Answered, Invocation, Progress};
use crate::combiner::Entrance;
use crate::errors;
use crate::key::{Once, due_key, slot};
use crate::link::Link;
use crate::script::{CHARGE, CHARGE_AND_REFUND};
use crate::spread_check::SpreadCheck;
use crate::store::RedisStore;
use crate::url::shown;
use crate::wire::{self, Ask, EntryId, IfDenied, LimitReply, ScriptReply, Times};

/// How often a call is sent whose periods do not contain the server's time. It is decided the second time, unless the
/// server's clock is set meanwhile.
const MAX_PERIOD_ATTEMPTS: u32 = 4;

/// One call of the script that decides checks.
pub(crate) struct ChargeCall<'a> {
    pub(crate) questions: &'a [&'a Question],
    /// The keys of all questions.
    pub(crate) keys: &'a [&'a str],
    pub(crate) slot: u16,
    /// Nothing is sent after this time.
    pub(crate) deadline: Option<Instant>,
}

/// What the script returned for the limits of one group.
pub(crate) type GroupReply = Vec<LimitReply>;

/// A check with everything that is needed to decide it after its caller has gone.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) groups: Vec<Group>,
    limits: usize,
    pub(crate) longest: Option<Window>,
}

/// The limits of a check that lie in one slot.
///
/// If a check has limits in several slots, those that record denied costs (R19) are groups of their own, because the others
/// are refunded and their request id is forgotten.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) slot: u16,
    /// Whether all its limits, of a check with several groups, record denied costs.
    pub(crate) records_denied: bool,
    pub(crate) parts: SmallVec<[Part; 4]>,
    pub(crate) once_key: Option<String>,
}

/// What a check charges to one limit.
#[derive(Debug)]
pub(crate) struct Part {
    /// Its index in the check.
    pub(crate) place: usize,
    pub(crate) key: String,
    pub(crate) limit: Arc<Limit>,
    pub(crate) cost: Amount,
    /// Its key in announcements, for the refund. Empty if a check has only one group, because then nothing is refunded.
    pub(crate) name: Vec<u8>,
}

impl RedisStore {
    /// Charges all of `plan` or nothing, except what is recorded of a denied check (R19). If a group denies or fails, what earlier groups charged is refunded, even if
    /// the caller has gone.
    pub(crate) async fn charge_plan(
        &self,
        plan: Plan,
        observer: ChargeObserver,
    ) -> Result<Decided, StoreError> {
        let plan = Arc::new(plan);
        if plan.groups.len() > 1 {
            let check = SpreadCheck { store: self.clone(), plan: Arc::clone(&plan) };
            let charged = charge_groups(Arc::new(check), &self.background, observer).await?;
            return Ok(plan.decided(&charged.answers, charged.denied));
        }
        let deadline = Instant::now() + self.deadline;
        let progress = Arc::<Progress>::default();
        let call = self.ask(&plan, 0, true, deadline, &progress);
        let said = [self.until(deadline, &progress, true, call).await?];
        let refused = plan.refuses(0, &said[0]);
        Ok(plan.decided(&said, refused))
    }

    /// The verdicts that [`RedisStore::charge_plan`] would give now; changes nothing.
    pub(crate) async fn peek_plan(&self, plan: Plan) -> Result<Verdicts, StoreError> {
        let deadline = Instant::now() + self.deadline;
        let plan = Arc::new(plan);
        let mut said: Vec<GroupReply> = Vec::with_capacity(plan.groups.len());
        for group in 0..plan.groups.len() {
            said.push(self.peek_group(&plan, group, deadline).await?);
        }
        Ok(plan.decided(&said, true).verdicts())
    }

    /// What one group says now.
    pub(crate) async fn peek_group(
        &self,
        plan: &Arc<Plan>,
        group: usize,
        deadline: Instant,
    ) -> Result<GroupReply, StoreError> {
        let progress = Arc::<Progress>::default();
        let call = self.ask(plan, group, false, deadline, &progress);
        self.until(deadline, &progress, false, call).await
    }

    /// The arguments that change the admission `id` from one cost to another.
    pub(crate) fn settlement(
        &self,
        id: EntryId,
        (old, new): (Amount, Amount),
        name: Vec<u8>,
    ) -> [Vec<u8>; 4] {
        let mut change = Vec::with_capacity(49);
        wire::push_change(&mut change, id, [old.get(), new.get()]);
        let time = wire::time(self.test_clock.as_ref().map(Clock::now));
        [time, change, self.channel().into_bytes(), name]
    }

    /// `charges` with everything that is needed after their caller has gone.
    pub(crate) fn plan(&self, charges: &[Charge<'_>], request_id: Option<&str>) -> Plan {
        let mut plan = self.unnamed_plan(charges);
        if plan.groups.len() > 1 {
            plan.groups = plan.groups.into_iter().flat_map(Group::split).collect();
            // Last, so that an error of the others leaves nothing recorded.
            plan.groups.sort_by_key(|group| group.records_denied);
            plan.name_limits(charges);
        }
        if let Some(request_id) = request_id {
            self.name_requests(&mut plan, charges, request_id, |group| {
                if group.records_denied { Once::RecordedDenial } else { Once::Check }
            });
        }
        plan
    }

    /// The same for a reservation: denied costs are not recorded, and every limit has its name in announcements.
    pub(crate) fn lease_plan(&self, charges: &[Charge<'_>], request_id: Option<&str>) -> Plan {
        let mut plan = self.unnamed_plan(charges);
        plan.name_limits(charges);
        if let Some(request_id) = request_id {
            self.name_requests(&mut plan, charges, request_id, |_| Once::Lease);
        }
        plan
    }

    fn name_requests(
        &self,
        plan: &mut Plan,
        charges: &[Charge<'_>],
        request_id: &str,
        once: impl Fn(&Group) -> Once,
    ) {
        let all: Vec<_> = charges.iter().map(|charge| self.keys.of_charge(charge)).collect();
        for group in &mut plan.groups {
            let Some(neighbour) = group.parts.first() else { continue };
            let key = self.keys.of_request(request_id, &all, &neighbour.key, once(group));
            group.once_key = Some(key);
        }
    }

    fn unnamed_plan(&self, charges: &[Charge<'_>]) -> Plan {
        let mut groups: Vec<Group> = Vec::with_capacity(1);
        for (place, charge) in charges.iter().enumerate() {
            let key = self.keys.of_charge(charge);
            let slot = if self.topology.is_cluster() { slot(&key) } else { 0 };
            let limit = Arc::clone(charge.limit);
            let part = Part { place, key, limit, cost: charge.cost, name: Vec::new() };
            match groups.iter_mut().find(|group| group.slot == slot) {
                Some(group) => group.parts.push(part),
                None => groups.push(Group {
                    slot,
                    records_denied: false,
                    parts: std::iter::once(part).collect(),
                    once_key: None,
                }),
            }
        }
        let longest = charges.iter().filter_map(|charge| charge.limit.counting().window()).max();
        Plan { groups, limits: charges.len(), longest }
    }

    /// Asks the script about one group. Nothing is sent or charged after `deadline`.
    pub(crate) async fn ask(
        &self,
        plan: &Arc<Plan>,
        group: usize,
        charging: bool,
        deadline: Instant,
        progress: &Arc<Progress>,
    ) -> Result<GroupReply, StoreError> {
        let question = Question { plan: Arc::clone(plan), group, charging, deadline };
        // A check that meets no limit needs no call.
        if question.group().is_none() {
            return Ok(GroupReply::new());
        }
        // With a test clock each call has its own time, so checks are not combined.
        if self.topology.is_cluster() || self.test_clock.is_some() {
            return self.ask_alone(&question, progress).await;
        }
        match self.combiner.enter() {
            Entrance::Alone(_while_asking) => self.ask_alone(&question, progress).await,
            Entrance::Together => self.ask_together(question, progress).await,
        }
    }

    /// Asks the script about one group in a separate call.
    pub(crate) async fn ask_alone(
        &self,
        question: &Question,
        progress: &Arc<Progress>,
    ) -> Result<GroupReply, StoreError> {
        let Some(group) = question.group() else { return Ok(GroupReply::new()) };
        let keys: SmallVec<[&str; 4]> = question.keys().collect();
        let call = ChargeCall {
            questions: &[question],
            keys: &keys,
            slot: group.slot,
            deadline: Some(question.deadline),
        };
        let tracked = [Arc::clone(progress)];
        let answered = self
            .invoke_charge(&call, &tracked, |answer: &Vec<u8>| wire::time_of_other_period(answer));
        let Answered { answer, link, sent } = answered.await?;
        self.note_time(&link, question, &answer, sent);
        match question.read(&answer) {
            Some(ScriptReply::LimitReply(said)) => Ok(said),
            Some(ScriptReply::Late) => Err(late(&link)),
            Some(ScriptReply::Undecided) | None => Err(unreadable(&link, question)),
        }
    }

    /// Runs the script on `call`. It is sent again with other periods if `other_period` finds the server's time in the
    /// answer: then nothing was decided.
    pub(crate) async fn invoke_charge<T: redis::FromRedisValue>(
        &self,
        call: &ChargeCall<'_>,
        waiting: &[Arc<Progress>],
        other_period: impl Fn(&T) -> Option<Timestamp>,
    ) -> Result<Answered<T>, StoreError> {
        let request = |link: &Link, told| self.request(call.questions, link, told);
        let mut due: Vec<String> =
            call.questions.iter().flat_map(|question| question.due_keys()).collect();
        due.sort_unstable();
        due.dedup();
        let count = [due.len().to_string().into_bytes()];
        let keys: Vec<&str> =
            call.keys.iter().copied().chain(due.iter().map(String::as_str)).collect();
        let has_due = !due.is_empty();
        let invocation = Invocation {
            script: Some(if has_due { &CHARGE_AND_REFUND } else { &CHARGE }),
            slot: call.slot,
            keys: if has_due { &keys } else { call.keys },
            operation: None,
            arguments: if has_due { &count } else { &[] },
            deadline: call.deadline,
        };
        self.invoke_in_period(&invocation, &request, waiting, other_period).await
    }

    /// Runs `invocation` with what `request` returns for a server and for the time that it told, if that was not in the periods
    /// of the last request.
    pub(crate) async fn invoke_in_period<T: redis::FromRedisValue>(
        &self,
        invocation: &Invocation<'_>,
        request: &(dyn Fn(&Link, Option<Timestamp>) -> Vec<u8> + Sync),
        waiting: &[impl Borrow<Progress>],
        other_period: impl Fn(&T) -> Option<Timestamp>,
    ) -> Result<Answered<T>, StoreError> {
        let (mut told, mut attempts) = (None, 0);
        loop {
            let operation = |link: &Link| request(link, told);
            let invocation = Invocation { operation: Some(&operation), ..*invocation };
            let answered = self.invoke::<T>(&invocation, waiting).await?;
            told = other_period(&answered.answer);
            attempts += 1;
            if told.is_none() || attempts == MAX_PERIOD_ATTEMPTS {
                return Ok(answered);
            }
        }
    }

    /// Passes the server's time in `answer` on to the link.
    pub(crate) fn note_time(&self, link: &Link, question: &Question, answer: &[u8], sent: Instant) {
        // The answer to a repeated request id contains an old time, and a test clock is not the server's.
        if question.once().is_none()
            && self.test_clock.is_none()
            && question.group().map(|group| group.parts.len()).map(wire::answer_bytes)
                == Some(answer.len())
            && let Some(told) = wire::told_time(answer)
        {
            link.note_time(told, sent, Instant::now());
        }
    }

    /// The request for `questions`. Its deadlines use the clock of the server of `link`.
    ///
    /// `told` is the server's time that it answered to the last one, if that did not have its periods.
    pub(crate) fn request(
        &self,
        questions: &[&Question],
        link: &Link,
        told: Option<Timestamp>,
    ) -> Vec<u8> {
        let test = self.test_clock.as_ref().map(Clock::now);
        // The packed request depends on the limit and the cost, never on the subject.
        let nobody = Subject::new("", "");
        let charges: SmallVec<[SmallVec<[Charge<'_>; 4]>; 1]> =
            questions.iter().map(|question| question.charges(&nobody)).collect();
        let come_again = come_again(questions);
        let asks =
            questions.iter().zip(&charges).enumerate().map(|(at, (question, charges))| Ask {
                charges,
                come_again: come_again.get(at).map_or(&[], |flags| flags),
                charging: question.charging,
                once: question.once(),
                over_limit: IfDenied::AsLimits,
                of_lease: false,
                // The latest time, by the server's clock, at which the script may still charge: `None` if it is not
                // known or a test sets the time. If the script runs later, it charges nothing and says so.
                not_after: match test {
                    None if question.charging => link.latest_charge_time(question.deadline),
                    _ => None,
                },
            });
        let asks: SmallVec<[Ask<'_>; 1]> = asks.collect();
        wire::request(&asks, &self.times(link, told))
    }

    /// The times for a request to the server of `link`, which told its time if the last one did not have its periods.
    pub(crate) fn times(&self, link: &Link, told: Option<Timestamp>) -> Times {
        let test = self.test_clock.as_ref().map(Clock::now);
        let hint = self.hint.now();
        let server_time = told.or_else(|| match test {
            None => link.latest_charge_time(Instant::now()),
            Some(_) => None,
        });
        Times { test, hint, server: server_time.unwrap_or(hint) }
    }

    /// Charges `checks` one after the other in one script call, and returns for each the ids by which its admissions
    /// can be changed. There are at most [`wire::MAX_CHECKS`], and all must belong to the same server. For tests of the
    /// scripts.
    #[doc(hidden)]
    pub async fn charge_many_with_ids(
        &self,
        checks: &[&[Charge<'_>]],
    ) -> Result<Vec<Vec<(Verdict, EntryId)>>, StoreError> {
        let deadline = Instant::now() + self.deadline;
        let questions = checks.iter().map(|charges| {
            let plan = Arc::new(self.plan(charges, None));
            (Question { plan, group: 0, charging: true, deadline }, Arc::new(Progress::default()))
        });
        let questions: Vec<_> = questions.collect();
        let asked: Vec<_> =
            questions.iter().map(|(question, progress)| (question, progress)).collect();
        let (_, answers) = self.invoke_together(&asked).await?;
        let read = answers.iter().zip(&questions).map(|(answer, (question, _))| {
            match answer.as_deref().and_then(|answer| question.read(answer)) {
                Some(ScriptReply::LimitReply(said)) => {
                    let refused = question.plan.refuses(0, &said);
                    let decided = question.plan.decided(std::slice::from_ref(&said), refused);
                    let verdicts = decided.verdicts();
                    Ok(verdicts.into_iter().zip(said.iter().map(|one| one.id)).collect())
                }
                other => {
                    let context = format!("a script returned {other:?}");
                    Err(StoreError::new(StoreErrorKind::Unexpected, context))
                }
            }
        });
        read.collect()
    }
}

/// A question about one group of a check.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    plan: Arc<Plan>,
    group: usize,
    pub(crate) charging: bool,
    /// Nothing is sent or charged after this time.
    pub(crate) deadline: Instant,
}

impl Question {
    fn group(&self) -> Option<&Group> {
        self.plan.groups.get(self.group)
    }

    pub(crate) fn slot(&self) -> u16 {
        self.group().map_or(0, |group| group.slot)
    }

    fn once_key(&self) -> Option<&str> {
        self.group()?.once_key.as_deref().filter(|_| self.charging)
    }

    fn once(&self) -> Option<Window> {
        self.once_key().and(self.plan.longest)
    }

    /// The keys of the limits, followed by that of the request id.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.limit_keys().chain(self.once_key())
    }

    fn limit_keys(&self) -> impl Iterator<Item = &str> {
        let parts = self.group().into_iter().flat_map(|group| &group.parts);
        parts.map(|part| part.key.as_str())
    }

    /// The keys of what expired leases give back.
    fn due_keys(&self) -> impl Iterator<Item = String> {
        let parts = self.group().into_iter().flat_map(|group| &group.parts);
        parts.filter(|part| part.limit.refunds_expired()).map(|part| due_key(&part.key))
    }

    fn charges<'a>(&'a self, subject: &'a Subject<'a>) -> SmallVec<[Charge<'a>; 4]> {
        let parts = self.group().into_iter().flat_map(|group| &group.parts);
        parts.map(|part| part.charge(subject)).collect()
    }

    /// Parses `answer`; `None` if it is malformed.
    pub(crate) fn read(&self, answer: &[u8]) -> Option<ScriptReply> {
        let nobody = Subject::new("", "");
        wire::answer(answer, &self.charges(&nobody))
    }
}

/// For each limit of each check: whether a later check uses the same key. Empty for a single check.
fn come_again(questions: &[&Question]) -> Vec<SmallVec<[bool; 4]>> {
    if questions.len() < 2 {
        return Vec::new();
    }
    let mut later = HashSet::with_capacity(questions.len());
    let mut flags: Vec<SmallVec<[bool; 4]>> = questions
        .iter()
        .rev()
        .map(|question| question.limit_keys().map(|key| !later.insert(key)).collect())
        .collect();
    flags.reverse();
    flags
}

/// The error of a call that Redis ran too late to charge.
pub(crate) fn late(link: &Link) -> StoreError {
    let place = shown(&link.address);
    let context = format!("Redis at {place} ran the call after its deadline; nothing was charged");
    errors::with_remedy(StoreError::new(StoreErrorKind::Unavailable, context)).within(link.domain)
}

/// The error of a call whose answer does not fit `question`: one of its keys is damaged.
pub(crate) fn unreadable(link: &Link, question: &Question) -> StoreError {
    unreadable_keys(link, &question.keys().collect::<Vec<_>>(), question.charging)
}

/// The same for any call over `keys`.
pub(crate) fn unreadable_keys(link: &Link, keys: &[&str], charging: bool) -> StoreError {
    let place = shown(&link.address);
    let context = format!(
        "the script in Redis at {place} returned numbers that contradict each other, from {}",
        errors::named(keys)
    );
    let error = StoreError::new(StoreErrorKind::Unreadable, context).within(link.domain);
    let error = errors::with_remedy(error);
    if charging { error.after_send() } else { error }
}

impl Group {
    /// The limits that record nothing of a denied check, and those that do.
    fn split(self) -> impl Iterator<Item = Self> {
        let (slot, parts) = (self.slot, self.parts);
        let (recording, others): (SmallVec<_>, SmallVec<_>) =
            parts.into_iter().partition(|part| part.limit.over_limit() == OverLimit::Charge);
        let groups = [(false, others), (true, recording)].into_iter();
        groups.filter(|(_, parts)| !parts.is_empty()).map(move |(records_denied, parts)| Self {
            slot,
            records_denied,
            parts,
            once_key: None,
        })
    }
}

impl Part {
    pub(crate) fn charge<'a>(&'a self, subject: &'a Subject<'a>) -> Charge<'a> {
        Charge { limit: &self.limit, subject, cost: self.cost }
    }
}

impl Plan {
    fn name_limits(&mut self, charges: &[Charge<'_>]) {
        for part in self.groups.iter_mut().flat_map(|group| &mut group.parts) {
            let charge = &charges[part.place];
            part.name = key_bytes(charge.limit, charge.subject);
        }
    }

    /// Whether an enforced limit of `group` denies.
    pub(crate) fn refuses(&self, group: usize, said: &[LimitReply]) -> bool {
        let parts = self.groups.get(group).map_or(&[][..], |group| group.parts.as_slice());
        parts
            .iter()
            .zip(said)
            .any(|(part, one)| part.limit.mode() == Mode::Enforce && !one.before.allowed)
    }

    /// What `said` decides, in the order of the check. It is `refused` if the check is denied, and also after a peek.
    pub(crate) fn decided(&self, said: &[GroupReply], refused: bool) -> Decided {
        let mut places: SmallVec<[(usize, LimitReply); 4]> = SmallVec::with_capacity(self.limits);
        for (group, said) in self.groups.iter().zip(said) {
            places.extend(group.parts.iter().map(|part| part.place).zip(said.iter().copied()));
        }
        places.sort_unstable_by_key(|(place, _)| *place);
        Decided { limits: places.into_iter().map(|(_, one)| one).collect(), refused }
    }
}

/// A check that was decided.
pub(crate) struct Decided {
    /// What the scripts returned, in the order of the check.
    pub(crate) limits: SmallVec<[LimitReply; 4]>,
    /// Whether nothing stays charged but what is recorded of a denied check.
    pub(crate) refused: bool,
}

impl Decided {
    /// The verdicts in the order of the check. If it is refused, they are those before the charge, or after what is recorded of
    /// a denied check.
    pub(crate) fn verdicts(&self) -> Verdicts {
        let verdict = |one: &LimitReply| {
            if self.refused || !one.before.allowed {
                one.recorded.unwrap_or(one.before)
            } else {
                one.after
            }
        };
        self.limits.iter().map(verdict).collect()
    }
}
