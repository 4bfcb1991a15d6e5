//! Runs one sequence on the scripts and on the model at the same time.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use tollgate_core::counting::Verdict;
use tollgate_core::{
    Amount, Charge, Counting, Limit, ManualClock, Mode, OverLimit, Per, Policy, PolicyId, Subject,
    Timestamp, Window,
};
use tollgate_redis::{EntryId, RedisStore};
use tollgate_store::{Store, StoreError};
use tollgate_testkit::Way;
use tollgate_testkit::generate::in_zone;

use super::constants::Crossed;
use super::model::{Model, ModelId};
use super::phases::{Costs, Course, LIMITS, NewCost, Phase, Which};
use crate::support::RUNTIME;

/// The most checks of one call.
const MAX_CHECKS: usize = 64;
/// The last moment of a sequence, in 2090: seconds have 32 bits, until 2106.
const END_NS: u64 = 3_800_000_000_000_000_000;
const IDS: [&str; LIMITS] = ["a", "b", "c", "d"];
/// In a Cluster the first and the third share a slot, the others have their own.
const SCOPES: [&str; LIMITS] = ["USER", "GLOBAL", "USER_MODEL", "MODEL"];
/// The zones of calendars.
const ZONES: [&str; LIMITS] = ["UTC", "Asia/Kolkata", "Europe/Berlin", "Australia/Lord_Howe"];
const AMOUNTS: [u64; 10] =
    [1_000, 200, 2_000, 5_000, Amount::MAX.get(), Amount::MAX.get() - 1, 65, 1, 0, 1_000_000];

/// What the store returned for each limit of a check.
type Reply = Vec<(Verdict, Option<EntryId>)>;

/// A check: the index and the cost of each limit.
type Asked = Vec<(Arc<Limit>, usize, Amount)>;

/// An admission that may be changed.
#[derive(Clone, Copy, Debug)]
struct Admitted {
    store: EntryId,
    model: ModelId,
    at: Timestamp,
    cost: Amount,
    changed: bool,
}

/// A store and a model that got the same operations.
pub(super) struct Run {
    store: RedisStore,
    /// Whether checks go to several servers, so that their admissions have no ids.
    on_cluster: bool,
    clock: Arc<ManualClock>,
    now: Timestamp,
    window_ns: u64,
    limits: Vec<Arc<Limit>>,
    amounts: Vec<u64>,
    model: Model,
    admitted: Vec<Vec<Admitted>>,
    /// The time since which each log has had entries.
    log_since: Vec<Option<Timestamp>>,
    pub(super) operations: u64,
    pub(super) crossed: Crossed,
}

fn amount(value: u64) -> Amount {
    Amount::new(value.min(Amount::MAX.get())).unwrap()
}

fn limit(
    place: usize,
    amount_of: u64,
    window_ns: u64,
    way: Way,
    (mode, over_limit): (Mode, OverLimit),
) -> Arc<Limit> {
    let length = Duration::from_nanos(window_ns).clamp(Window::MIN, Window::MAX);
    let per = Per::from_scope(SCOPES[place]).unwrap();
    let id = PolicyId::new(IDS[place]).unwrap();
    let window = Window::new(length).unwrap();
    let policy = Policy::new(id, per, Amount::new(amount_of), window);
    let counting = in_zone(ZONES[place], way.over(window, policy.limit));
    let limit = Limit::of(&Policy { counting, mode, over_limit, ..policy.clone() }).unwrap();
    if limit.most_recorded() >= limit.amount() {
        return Arc::new(limit);
    }
    // A bucket that takes so long to be full is refused as a policy. In a Cluster, a denied check could charge it what it admits
    // but may not record.
    let over_limit = OverLimit::Deny;
    Arc::new(Limit::of(&Policy { counting, mode, over_limit, ..policy }).unwrap())
}

/// What `limit` does to a check besides deciding it.
fn effect(limit: &Limit) -> (Mode, OverLimit) {
    (limit.mode(), limit.over_limit())
}

impl Costs {
    fn of(self, number: usize) -> Amount {
        const LARGE: u64 = Amount::MAX.get() / 3;
        let mixed = [0, 1, 2, 3, 700, LARGE];
        amount(match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Mixed => mixed[number % mixed.len()],
            Self::Large => LARGE,
        })
    }
}

impl Run {
    pub(super) fn new(store: &RedisStore, course: &Course) -> Self {
        let now = Timestamp::from_ns(course.start_ns);
        let clock = Arc::new(ManualClock::default());
        clock.set(now);
        let on_cluster = store.is_cluster();
        let amounts: Vec<u64> =
            course.amounts.iter().map(|index| AMOUNTS[usize::from(*index)]).collect();
        let parts = [2, 1, 2, 4];
        let limits = (0..LIMITS).map(|place| {
            let counter = course.counters >> place & 1 == 1;
            let shadow = course.shadows >> place & 1 == 1;
            let charging = course.charging >> place & 1 == 1;
            limit(
                place,
                amounts[place],
                course.window_ns * parts[place] / 2,
                match (counter, place) {
                    (false, _) => Way::Log,
                    (true, 0) => Way::Counter,
                    (true, 2) => Way::Calendar,
                    (true, _) => Way::Bucket,
                },
                (
                    if shadow { Mode::Shadow } else { Mode::Enforce },
                    if charging { OverLimit::Charge } else { OverLimit::Deny },
                ),
            )
        });
        // The time hint of the scripts is the start of the sequence, which may be far from the current time.
        let hint = Arc::new(ManualClock::default());
        hint.set(now);
        Self {
            limits: limits.collect(),
            store: store.with_test_clock(clock.clone()).with_hint(hint),
            on_cluster,
            clock,
            now,
            window_ns: course.window_ns,
            amounts,
            model: Model::default(),
            admitted: vec![Vec::new(); LIMITS],
            log_since: vec![None; LIMITS],
            operations: 0,
            crossed: Crossed::default(),
        }
    }

    pub(super) fn play(&mut self, course: &Course) -> TestCaseResult {
        for (number, phase) in course.phases.iter().enumerate() {
            let outcome = self.enter(phase);
            outcome.and_then(|()| self.compare_peeks()).map_err(|error| {
                TestCaseError::fail(format!("phase {number}, {phase:?}: {error}"))
            })?;
        }
        Ok(())
    }

    fn enter(&mut self, phase: &Phase) -> TestCaseResult {
        match phase {
            Phase::Fill { limit, number, gap, costs } => {
                self.fill(*limit, *number, *gap, *costs)?;
            }
            Phase::Pause { part, ns } => {
                let part_ns = (u128::from(self.window_ns) * u128::from(*part)) >> 16;
                self.advance(u64::try_from(part_ns).unwrap(), *ns);
            }
            Phase::Leave { limit, part, late } => self.leave(*limit, *part, *late),
            Phase::OneOfEach { share } => self.one_of_each(*share)?,
            Phase::Burst { number, costs, mask, at_once } => {
                let at_once = if self.on_cluster { 1 } else { *at_once };
                let checks: Vec<_> = (0..*number)
                    .map(|turn| self.of_burst(turn, *mask, *costs, at_once > 1))
                    .collect();
                for checks in checks.chunks(at_once) {
                    self.charge(checks)?;
                }
            }
            Phase::Amounts(indices) => {
                self.amounts = indices.iter().map(|index| AMOUNTS[usize::from(*index)]).collect();
                for (place, amount_of) in self.amounts.iter().enumerate() {
                    let old = &self.limits[place];
                    let (window_ns, way) = (
                        old.counting().window().unwrap().as_ns(),
                        Way::of(old.counting()).unwrap(),
                    );
                    self.limits[place] = limit(place, *amount_of, window_ns, way, effect(old));
                }
            }
            Phase::Window { limit, eighths } => {
                let window_ns = self.window_ns / 8 * u64::from(*eighths);
                let old = &self.limits[*limit];
                let (way, effect) = (Way::of(old.counting()).unwrap(), effect(old));
                self.limits[*limit] =
                    self::limit(*limit, self.amounts[*limit], window_ns, way, effect);
            }
            Phase::Way { limit } => {
                let old = &self.limits[*limit];
                let way = match Way::of(old.counting()).unwrap() {
                    Way::Log => Way::Counter,
                    Way::Counter => Way::Bucket,
                    Way::Bucket => Way::Calendar,
                    Way::Calendar => Way::Log,
                };
                let (window_ns, effect) = (old.counting().window().unwrap().as_ns(), effect(old));
                self.limits[*limit] =
                    self::limit(*limit, self.amounts[*limit], window_ns, way, effect);
            }
            Phase::StepBack { part } => {
                let part_ns = (u128::from(self.window_ns) * u128::from(*part)) >> 16;
                let now_ns = self.now.as_ns().saturating_sub(u64::try_from(part_ns).unwrap());
                self.set(now_ns);
            }
            Phase::Change { limit, which, new, number } => {
                for turn in 0..*number {
                    self.change(*limit, *which, *new, turn)?;
                }
            }
            Phase::Reset { limit } => {
                let subject = subject();
                let call = self.store.reset(&self.limits[*limit], &subject);
                RUNTIME.block_on(call).unwrap();
                self.model.reset(IDS[*limit]);
                self.operations += 1;
            }
        }
        Ok(())
    }

    fn set(&mut self, now_ns: u64) {
        self.now = Timestamp::from_ns(now_ns.min(END_NS));
        self.clock.set(self.now);
    }

    fn advance(&mut self, by_ns: u64, more_ns: i64) {
        self.set(self.now.as_ns().saturating_add(by_ns).saturating_add_signed(more_ns));
    }

    fn fill(&mut self, place: usize, number: usize, gap: u32, costs: Costs) -> TestCaseResult {
        let gap_ns = (u128::from(self.window_ns) * u128::from(gap)) >> 16;
        let gap_ns = u64::try_from(gap_ns).unwrap();
        let at_once = if gap == 0 && !self.on_cluster { MAX_CHECKS } else { 1 };
        let mut filled = 0;
        while filled < number {
            let many = at_once.min(number - filled);
            let checks: Vec<_> = (filled..filled + many)
                .map(|turn| vec![(Arc::clone(&self.limits[place]), place, costs.of(turn))])
                .collect();
            self.charge(&checks)?;
            filled += many;
            self.advance(gap_ns, 0);
        }
        Ok(())
    }

    /// Moves the clock to the time at which a part of a log's admissions has left its window.
    fn leave(&mut self, place: usize, part: u8, late: i64) {
        let admitted = &self.admitted[place];
        if admitted.is_empty() {
            return;
        }
        let window_ns = self.limits[place].counting().window().unwrap().as_ns();
        let after = self.now.as_ns().saturating_sub(window_ns);
        let first = admitted.partition_point(|one| one.at.as_ns() <= after);
        let index = first + (admitted.len() - first) * usize::from(part) / 256;
        let one = admitted[index.min(admitted.len() - 1)];
        let leaves_ns = one.at.as_ns().saturating_add(window_ns).saturating_add_signed(late);
        self.set(leaves_ns.max(self.now.as_ns()));
    }

    /// One check of a burst. If `varied`, each check uses other limits than the one before; some have a priority class
    /// with half of each limit, and some come after a change of every window.
    fn of_burst(&self, turn: usize, mask: u8, costs: Costs, varied: bool) -> Asked {
        let turned = if varied { (mask | mask << LIMITS) >> (turn % LIMITS) } else { mask };
        let places = (0..LIMITS).filter(|place| turned >> place & 1 == 1);
        places
            .map(|place| {
                let whole = &self.limits[place];
                let whole_ns = whole.counting().window().unwrap().as_ns();
                let limit = match turn % 7 {
                    2 | 5 if varied => {
                        Arc::new(whole.with_amount(amount(whole.amount().get() / 2)))
                    }
                    4 if varied => {
                        let (way, effect) = (Way::of(whole.counting()).unwrap(), effect(whole));
                        limit(place, whole.amount().get(), whole_ns / 2 * 3, way, effect)
                    }
                    _ => Arc::clone(whole),
                };
                (limit, place, costs.of(turn))
            })
            .collect()
    }

    fn one_of_each(&mut self, share: u8) -> TestCaseResult {
        for cost in [1, 0, 1, 2, 3, 700] {
            let of_class = |limit: &Arc<Limit>| {
                let part = u128::from(limit.amount().get()) * u128::from(share) / 100;
                Arc::new(limit.with_amount(amount(u64::try_from(part).unwrap())))
            };
            let all: Vec<_> = self.limits.iter().map(of_class).enumerate().collect();
            let check: Vec<_> =
                all.iter().map(|(place, limit)| (limit.clone(), *place, amount(cost))).collect();
            self.peek(&check)?;
            self.charge(&[check])?;
            let first = vec![(all[0].1.clone(), 0, amount(cost))];
            self.charge(&[first])?;
        }
        Ok(())
    }

    /// The expected answer to a check of each limit alone.
    fn compare_peeks(&mut self) -> TestCaseResult {
        for place in 0..LIMITS {
            for cost in [1, 2] {
                let check = [(Arc::clone(&self.limits[place]), place, amount(cost))];
                self.peek(&check)?;
            }
        }
        Ok(())
    }

    fn peek(&mut self, check: &[(Arc<Limit>, usize, Amount)]) -> TestCaseResult {
        let subject = subject();
        let charges = charges(check, &subject);
        let said = RUNTIME.block_on(self.store.peek(&charges)).map_err(|error| failed(&error))?;
        let modelled = self.model.decide(self.now, &charges, false);
        self.operations += 1;
        let modelled: Vec<_> = modelled.iter().map(|(verdict, _)| *verdict).collect();
        prop_assert_eq!(said.verdicts.to_vec(), modelled, "peek {:?} at {:?}", check, self.now);
        Ok(())
    }

    /// Charges checks one after the other, at one moment and in one call.
    fn charge(&mut self, checks: &[Asked]) -> TestCaseResult {
        let subject = subject();
        let all: Vec<Vec<Charge<'_>>> =
            checks.iter().map(|check| charges(check, &subject)).collect();
        let said = self.ask(&all)?;
        for ((check, charges), said) in checks.iter().zip(&all).zip(said) {
            let held: Vec<_> = check.iter().map(|one| self.held(one.1)).collect();
            let modelled = self.model.decide(self.now, charges, true);
            self.operations += 1;
            for (((limit, place, cost), (verdict, id)), ((said, said_id), before)) in
                check.iter().zip(modelled).zip(said.into_iter().zip(held))
            {
                let context = format!("{cost} of {limit:?} at {:?}", self.now);
                prop_assert_eq!(said, verdict, "{}", context);
                if let (Some(model), Some(store)) = (id, said_id) {
                    if let (ModelId::Log(one), EntryId::Log(other)) = (model, store) {
                        prop_assert_eq!(one, other, "{}", context);
                    }
                    let one = Admitted { store, model, at: self.now, cost: *cost, changed: false };
                    self.admitted[*place].push(one);
                }
                if id.is_some() {
                    self.note_admission(*place, before, verdict.usage);
                }
            }
        }
        Ok(())
    }

    fn ask(&self, checks: &[Vec<Charge<'_>>]) -> Result<Vec<Reply>, TestCaseError> {
        if self.on_cluster {
            let charge = |charges: &Vec<Charge<'_>>| {
                let charged = RUNTIME
                    .block_on(self.store.charge(charges, None))
                    .map_err(|error| failed(&error))?;
                Ok(charged.verdicts.into_iter().map(|verdict| (verdict, None)).collect())
            };
            return checks.iter().map(charge).collect();
        }
        let slices: Vec<&[Charge<'_>]> = checks.iter().map(Vec::as_slice).collect();
        let said = RUNTIME
            .block_on(self.store.charge_many_with_ids(&slices))
            .map_err(|error| failed(&error))?;
        let optional = |said: Vec<(Verdict, EntryId)>| {
            said.into_iter().map(|(verdict, id)| (verdict, Some(id))).collect()
        };
        Ok(said.into_iter().map(optional).collect())
    }

    fn held(&self, place: usize) -> u64 {
        self.model.entries(IDS[place]) as u64
    }

    fn note_admission(&mut self, place: usize, before: u64, usage: u64) {
        let held = self.held(place);
        self.crossed.note("BLOCK", held);
        self.crossed.note("FANOUT", held / 64);
        self.crossed.note("MOST_IN_STRING", held);
        if before > 0 && held > 1 {
            self.crossed.note("MOST_DELETED", (before + 1).saturating_sub(held) / 64);
        }
        self.crossed.note("MOST_TOTAL", usage);
        if held <= 1 {
            self.log_since[place] = Some(self.now);
        } else if let Some(since) = self.log_since[place] {
            let after_us = self.now.as_ns().saturating_sub(since.as_ns()) / 1_000;
            self.crossed.note("MOST_AFTER_BASE", after_us);
        }
        if matches!(self.limits[place].counting(), Counting::Counter { .. }) {
            let since_ns = self.now.as_ns().saturating_sub(self.hint_ns());
            self.crossed.note(
                "MOST_WINDOWS",
                since_ns / self.limits[place].counting().window().unwrap().as_ns(),
            );
        }
    }

    fn change(&mut self, place: usize, which: Which, new: NewCost, turn: usize) -> TestCaseResult {
        let admitted = &self.admitted[place];
        let Some(last) = admitted.len().checked_sub(1) else { return Ok(()) };
        let index = match which {
            Which::Newest => last.saturating_sub(turn),
            // The oldest entry that is still in its window, approximately.
            Which::Oldest => {
                let window_ns = self.limits[place].counting().window().unwrap().as_ns();
                let after = self.now.as_ns().saturating_sub(window_ns);
                (admitted.partition_point(|one| one.at.as_ns() <= after) + turn).min(last)
            }
            Which::Part(part) => {
                let back = last * usize::from(part) / 256;
                last - (back + turn * 7).min(last)
            }
            Which::Changed => admitted.iter().rposition(|one| one.changed).unwrap_or(last),
        };
        let one = admitted[index];
        let new = amount(match new {
            NewCost::Nothing => 0,
            NewCost::One => 1,
            NewCost::Same => one.cost.get(),
            NewCost::OneMore => one.cost.get() + 1,
            NewCost::Tenfold => one.cost.get().saturating_mul(10),
            NewCost::Largest => Amount::MAX.get(),
        });
        let subject = subject();
        let charge = Charge { limit: &self.limits[place], subject: &subject, cost: one.cost };
        let said = RUNTIME
            .block_on(self.store.change_admission(&charge, one.store, new))
            .map_err(|error| failed(&error))?;
        let modelled = self.model.change(self.now, IDS[place], one.model, [one.cost, new]);
        self.operations += 1;
        prop_assert_eq!(said, modelled, "{:?} to {} at {:?}", one, new, self.now);
        if said {
            self.admitted[place][index] = Admitted { cost: new, changed: true, ..one };
        } else if new == Amount::MAX {
            self.crossed.note("MOST_TOTAL", Amount::MAX.get());
        }
        Ok(())
    }

    fn hint_ns(&self) -> u64 {
        self.store.hint().as_ns()
    }
}

/// No operation may fail.
fn failed(error: &StoreError) -> TestCaseError {
    TestCaseError::fail(format!("{error}: {:?}", error.source().map(ToString::to_string)))
}

fn subject() -> Subject<'static> {
    Subject::new("alice", "gpt-4")
}

fn charges<'a>(
    check: &'a [(Arc<Limit>, usize, Amount)],
    subject: &'a Subject<'a>,
) -> Vec<Charge<'a>> {
    check.iter().map(|(limit, _, cost)| Charge { limit, subject, cost: *cost }).collect()
}

/// A log of more than 65,536 entries, where the second level of sums begins a second field.
pub(super) fn long_course() -> Course {
    let fill = |number, costs| Phase::Fill { limit: 0, number, gap: 0, costs };
    let pause = Phase::Pause { part: 3_000, ns: 0 };
    let change = |which, new| Phase::Change { limit: 0, which, new, number: 5 };
    let mut phases = Vec::new();
    for _ in 0..9 {
        phases.extend([fill(30_000, Costs::One), pause.clone()]);
    }
    let all = [Which::Newest, Which::Oldest, Which::Part(128), Which::Part(250), Which::Changed];
    for which in all {
        for new in [NewCost::OneMore, NewCost::Nothing, NewCost::Tenfold] {
            phases.push(change(which, new));
        }
    }
    for part in [30, 100, 128, 250, 250] {
        phases.extend([
            Phase::OneOfEach { share: 100 },
            Phase::Leave { limit: 0, part, late: 0 },
            Phase::OneOfEach { share: 100 },
            change(Which::Part(3), NewCost::Nothing),
            change(Which::Oldest, NewCost::Nothing),
            fill(1_100, Costs::Two),
        ]);
    }
    Course {
        window_ns: 8_000_000_000,
        counters: 0,
        shadows: 0,
        charging: 0,
        amounts: vec![9, 9, 9, 9],
        start_ns: 1_700_000_000_000_000_000,
        phases,
    }
}

/// Logs that are never empty for longer than a timestamp can be after its base.
pub(super) fn course_of_years() -> Course {
    let fill = |limit, costs| Phase::Fill { limit, number: 40, gap: 40_000, costs };
    let each = Phase::OneOfEach { share: 100 };
    let change = Phase::Change { limit: 0, which: Which::Newest, new: NewCost::OneMore, number: 2 };
    Course {
        window_ns: 183 * 24 * 3_600_000_000_000,
        counters: 8,
        shadows: 0,
        charging: 0,
        amounts: vec![0, 0, 0, 0],
        start_ns: 0,
        phases: vec![
            fill(0, Costs::One),
            change.clone(),
            fill(0, Costs::Mixed),
            each.clone(),
            fill(3, Costs::One),
            each,
            change,
        ],
    }
}

/// A counter whose window is millions of windows after the time hint of the scripts.
pub(super) fn course_far_from_the_hint() -> Course {
    let fill = Phase::Fill { limit: 0, number: 9, gap: 7_000, costs: Costs::Mixed };
    let pause = Phase::Pause { part: 0, ns: 6_000_000_000_000 };
    Course {
        window_ns: 1_234_567,
        counters: 15,
        shadows: 0,
        charging: 0,
        amounts: vec![4, 0, 1, 2],
        start_ns: 1_700_000_123_456_789_123,
        phases: vec![
            fill.clone(),
            pause.clone(),
            fill.clone(),
            Phase::StepBack { part: 90_000 },
            fill,
            pause,
        ],
    }
}

/// Calendars of hours, days and longer: steps back and forth over their boundaries, changes of one and of the calendar.
pub(super) fn course_of_calendars() -> Course {
    let ways = (0..LIMITS).flat_map(|limit| {
        // A log, a counter, a bucket, and then a calendar.
        (0..3).map(move |_| Phase::Way { limit })
    });
    let mut phases: Vec<_> = ways.collect();
    let pauses = [10_000, 30_000, 65_536, 200_000].into_iter();
    for (turn, part) in pauses.chain([9_000, 33_000]).enumerate() {
        let limit = turn % LIMITS;
        phases.extend([
            Phase::Fill { limit, number: 9, gap: 7_000, costs: Costs::Mixed },
            Phase::OneOfEach { share: 50 },
            Phase::StepBack { part },
            Phase::Pause { part: part / 2, ns: 1 },
            Phase::Change { limit, which: Which::Newest, new: NewCost::OneMore, number: 3 },
            Phase::Pause { part: part / 2, ns: 1 },
            Phase::Burst { number: 40, costs: Costs::Two, mask: 15, at_once: 7 },
            Phase::Change { limit, which: Which::Part(90), new: NewCost::Nothing, number: 3 },
            Phase::Window { limit, eighths: 192 },
            Phase::Burst { number: 9, costs: Costs::One, mask: 15, at_once: 2 },
            Phase::Pause { part, ns: -1 },
            Phase::Window { limit, eighths: 8 },
            Phase::Amounts(vec![1, 6, 3, 9]),
            Phase::Burst { number: 9, costs: Costs::Two, mask: 15, at_once: 1 },
            // The oldest are of periods that are over.
            Phase::Change { limit, which: Which::Part(250), new: NewCost::Nothing, number: 3 },
        ]);
    }
    Course {
        window_ns: 3_600_000_000_000,
        counters: 0,
        shadows: 8,
        charging: 4,
        amounts: vec![6, 1, 4, 0],
        // A day before Europe set its clocks back.
        start_ns: 1_698_447_123_456_789_123,
        phases,
    }
}

/// Denied costs that are recorded: in short and long logs, in every other way of counting, and up to the greatest amount.
pub(super) fn course_over_the_limits() -> Course {
    let mut phases = Vec::new();
    for limit in 0..LIMITS {
        for _ in 0..4 {
            let fill = |number, costs| Phase::Fill { limit, number, gap: 0, costs };
            phases.extend([
                fill(500, Costs::One),
                Phase::OneOfEach { share: 50 },
                Phase::Burst { number: 40, costs: Costs::Two, mask: 15, at_once: 7 },
                Phase::Pause { part: 20_000, ns: 1 },
                fill(70, Costs::Two),
                Phase::StepBack { part: 9_000 },
                Phase::Leave { limit, part: 100, late: 0 },
                Phase::OneOfEach { share: 100 },
                fill(4, Costs::Large),
                Phase::OneOfEach { share: 100 },
                Phase::Window { limit, eighths: 12 },
                Phase::Burst { number: 9, costs: Costs::Mixed, mask: 15, at_once: 3 },
                Phase::Pause { part: 200_000, ns: -1 },
                Phase::Way { limit },
            ]);
        }
    }
    Course {
        window_ns: 8_000_000_000,
        counters: 0,
        shadows: 2,
        charging: 7,
        amounts: vec![6, 1, 8, 0],
        start_ns: 1_700_000_000_000_000_000,
        phases,
    }
}

/// Usage up to the greatest amount, and changes that would exceed it.
pub(super) fn course_to_the_greatest_usage() -> Course {
    let fill = |number, costs| Phase::Fill { limit: 0, number, gap: 0, costs };
    let change = |new| Phase::Change { limit: 0, which: Which::Newest, new, number: 2 };
    Course {
        window_ns: 8_000_000_000,
        counters: 0,
        shadows: 0,
        charging: 0,
        amounts: vec![4, 4, 4, 4],
        start_ns: 1_700_000_000_000_000_000,
        phases: vec![
            fill(3, Costs::Large),
            change(NewCost::Largest),
            change(NewCost::One),
            fill(70, Costs::One),
            change(NewCost::Largest),
        ],
    }
}
