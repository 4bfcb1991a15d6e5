//! The compensation against a check that behaves as the test says, in virtual time.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

use super::*;
use crate::background::{MAX_WAITING, Outliving};
use crate::{CallEnd, ChargeLeft, FaultDomain};

const TIMEOUT: Duration = Duration::from_millis(100);
const LIFE: Duration = Duration::from_secs(20);

/// How a group answers a charge.
#[derive(Clone, Copy, Debug)]
enum Charge {
    Admits,
    Denies,
    /// It charges nothing.
    Fails,
    /// It may have charged.
    LosesTheAnswer,
    /// It admits after this time.
    AdmitsAfter(Duration),
    FailsAfter(Duration),
    /// It charges and never answers.
    Hangs,
}

/// How a group answers one attempt to refund.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Refunds,
    RefundsAfter(Duration),
    Fails,
    GetsLost,
    HasForeignKey,
}

/// A group. It refunds at once when its answers are used up.
struct Group {
    charge: Charge,
    refunds: Mutex<VecDeque<Answer>>,
    may_be_repeated: bool,
    records_denied: bool,
    /// What is charged now, and how often it was peeked at and asked for a refund.
    usage: AtomicI64,
    peeks: AtomicI64,
    attempts: AtomicI64,
}

struct Scripted {
    groups: Vec<Group>,
    has_request_id: bool,
    life: Duration,
}

// SeqCst in all of this: tests expect to see what the tasks did.
impl Scripted {
    fn new(charges: &[Charge]) -> Self {
        let group = |charge: &Charge| Group {
            charge: *charge,
            refunds: Mutex::default(),
            may_be_repeated: true,
            records_denied: false,
            usage: AtomicI64::new(0),
            peeks: AtomicI64::new(0),
            attempts: AtomicI64::new(0),
        };
        Self { groups: charges.iter().map(group).collect(), has_request_id: false, life: LIFE }
    }

    /// The same check, with these answers to the refund of the first group.
    fn refunding(mut self, answers: impl IntoIterator<Item = Answer>) -> Self {
        self.groups[0].refunds = Mutex::new(answers.into_iter().collect());
        self
    }

    fn usage(&self) -> Vec<i64> {
        self.groups.iter().map(|group| group.usage.load(Ordering::SeqCst)).collect()
    }

    fn attempts(&self) -> i64 {
        self.groups[0].attempts.load(Ordering::SeqCst)
    }
}

fn failure() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "as it was told")
}

impl GroupedCheck for Scripted {
    /// Whether it admits.
    type Answer = bool;
    /// The group.
    type Admission = usize;
    type Progress = ();

    fn groups(&self) -> usize {
        self.groups.len()
    }

    fn has_request_id(&self) -> bool {
        self.has_request_id
    }

    fn longest_life(&self) -> Duration {
        self.life
    }

    fn timeout(&self) -> Duration {
        TIMEOUT
    }

    fn denies(&self, _: usize, admits: &bool) -> bool {
        !admits
    }

    fn charged(&self, group: usize, admits: &bool) -> Vec<ChargedLimit<usize>> {
        let Group { may_be_repeated, records_denied, .. } = self.groups[group];
        let charged = ChargedLimit { admission: group, life: self.life, may_be_repeated };
        (*admits && !records_denied).then_some(charged).into_iter().collect()
    }

    fn records_denied(&self, group: usize) -> bool {
        self.groups[group].records_denied
    }

    async fn charge(&self, group: usize, _: Instant, _: &Arc<()>) -> Result<bool, StoreError> {
        let group = &self.groups[group];
        let admit = || {
            group.usage.fetch_add(1, Ordering::SeqCst);
            Ok(true)
        };
        match group.charge {
            Charge::Admits => admit(),
            Charge::Denies => Ok(false),
            Charge::Fails => Err(failure()),
            Charge::LosesTheAnswer => admit().and(Err(failure().after_send())),
            Charge::AdmitsAfter(time) => {
                sleep(time).await;
                admit()
            }
            Charge::FailsAfter(time) => {
                sleep(time).await;
                Err(failure())
            }
            Charge::Hangs => {
                let _ = admit();
                std::future::pending().await
            }
        }
    }

    async fn peek(&self, group: usize, _: Instant) -> Result<bool, StoreError> {
        self.groups[group].peeks.fetch_add(1, Ordering::SeqCst);
        match self.groups[group].charge {
            Charge::Fails => Err(failure()),
            charge => Ok(!matches!(charge, Charge::Denies)),
        }
    }

    fn too_late(&self, (): &()) -> StoreError {
        failure().after_send()
    }

    async fn refund(&self, group: &usize, patience: Duration) -> Result<(), StoreError> {
        assert!(patience >= TIMEOUT, "a refund waits no less than a check");
        let group = &self.groups[*group];
        group.attempts.fetch_add(1, Ordering::SeqCst);
        let answer = group.refunds.lock().unwrap().pop_front().unwrap_or(Answer::Refunds);
        match answer {
            Answer::Refunds => {}
            Answer::RefundsAfter(time) => sleep(time).await,
            Answer::Fails => return Err(failure()),
            Answer::GetsLost => return Err(failure().after_send()),
            Answer::HasForeignKey => {
                return Err(StoreError::new(StoreErrorKind::ForeignKey, "as it was told"));
            }
        }
        group.usage.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Keeps the charges that were reported as left.
#[derive(Debug, Default)]
struct Left(Mutex<Vec<ChargeLeft>>);

impl CallObserver for Left {
    fn call_ended(&self, _: &[(FaultDomain, u64)], _: CallEnd<'_>) {}

    fn charge_left(&self, why: ChargeLeft) {
        self.0.lock().unwrap().push(why);
    }
}

/// A check that is charged, its background and its observer.
struct Case {
    check: Arc<Scripted>,
    background: Arc<Background>,
    left: Arc<Left>,
}

impl Case {
    fn new(check: Scripted) -> Self {
        Self { check: Arc::new(check), background: Arc::default(), left: Arc::default() }
    }

    fn charge(
        &self,
    ) -> impl Future<Output = Result<GroupAnswers<bool>, StoreError>> + Send + use<> {
        let check = Arc::clone(&self.check);
        let (background, left) = (Arc::clone(&self.background), Arc::clone(&self.left));
        async move { charge_groups(check, &background, Some(left)).await }
    }

    fn left(&self) -> Vec<ChargeLeft> {
        self.left.0.lock().unwrap().clone()
    }

    /// Waits for all background work: what is charged then, and what was reported as left.
    async fn end(&self) -> (Vec<i64>, Vec<ChargeLeft>) {
        self.background.finish().await;
        (self.check.usage(), self.left())
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_that_every_group_admits_stays_charged() {
    let case = Case::new(Scripted::new(&[Charge::Admits, Charge::AdmitsAfter(TIMEOUT / 2)]));
    let charged = case.charge().await.unwrap();
    assert_eq!((charged.answers, charged.denied), (vec![true, true], false));
    assert_eq!(case.end().await, (vec![1, 1], vec![]));
}

/// The caller that gets the denial already finds the room of the first group; the third is only peeked at.
#[tokio::test(start_paused = true)]
async fn a_denial_in_the_second_group_refunds_the_first() {
    let case = Case::new(
        Scripted::new(&[Charge::Admits, Charge::Denies, Charge::Admits])
            .refunding([Answer::RefundsAfter(TIMEOUT / 4)]),
    );
    let charged = case.charge().await.unwrap();
    assert_eq!((charged.answers, charged.denied), (vec![true, false, true], true));
    assert_eq!(case.check.usage(), [0, 0, 0]);
    assert_eq!(case.check.groups[2].peeks.load(Ordering::SeqCst), 1);
    assert_eq!(case.end().await, (vec![0, 0, 0], vec![]));
}

/// A slow refund gets half of the time that is left; it continues after the answer.
#[tokio::test(start_paused = true)]
async fn a_denial_does_not_wait_for_a_slow_refund() {
    let case = Case::new(
        Scripted::new(&[Charge::Admits, Charge::Denies]).refunding([Answer::RefundsAfter(LIFE)]),
    );
    let began = Instant::now();
    assert!(case.charge().await.unwrap().denied);
    assert_eq!(began.elapsed().as_millis(), TIMEOUT.as_millis() / 2);
    assert_eq!(case.check.usage(), [1, 0]);
    assert_eq!(case.end().await, (vec![0, 0], vec![]));
}

/// If the group after a denial fails, the charges have been refunded already.
#[tokio::test(start_paused = true)]
async fn a_failure_after_a_denial_refunds_once() {
    let case = Case::new(Scripted::new(&[Charge::Admits, Charge::Denies, Charge::Fails]));
    assert!(case.charge().await.is_err());
    assert_eq!(case.end().await, (vec![0, 0, 0], vec![]));
    assert_eq!(case.check.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_the_second_group_refunds_the_first() {
    let case = Case::new(Scripted::new(&[Charge::Admits, Charge::Fails, Charge::Admits]));
    assert!(!case.charge().await.unwrap_err().may_have_charged());
    assert_eq!(case.end().await, (vec![0, 0, 0], vec![]));
}

/// Nobody knows whether the second group was charged, so it is reported.
#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_reported_and_refunds_the_first_group() {
    let case = Case::new(Scripted::new(&[Charge::Admits, Charge::LosesTheAnswer]));
    assert!(case.charge().await.unwrap_err().may_have_charged());
    assert_eq!(case.end().await, (vec![0, 1], vec![ChargeLeft::AnswerLost]));
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_awaited_and_refunded() {
    let case = Case::new(Scripted::new(&[Charge::Admits, Charge::AdmitsAfter(LIFE / 2)]));
    let began = Instant::now();
    assert!(case.charge().await.unwrap_err().may_have_charged());
    assert_eq!(began.elapsed(), TIMEOUT, "the caller does not wait for it");
    assert_eq!(case.end().await, (vec![0, 0], vec![]));
    assert!(began.elapsed() >= LIFE / 2);
}

/// The caller may send the id again, and then the charge of the second group counts.
#[tokio::test(start_paused = true)]
async fn a_late_answer_to_a_request_id_stays_and_is_reported() {
    let mut check = Scripted::new(&[Charge::Admits, Charge::AdmitsAfter(LIFE / 2)]);
    check.has_request_id = true;
    let case = Case::new(check);
    assert!(case.charge().await.is_err());
    assert_eq!(case.end().await, (vec![0, 1], vec![ChargeLeft::AnswerLost]));
}

#[tokio::test(start_paused = true)]
async fn a_late_failure_that_charged_nothing_is_not_reported() {
    let case = Case::new(Scripted::new(&[Charge::Admits, Charge::FailsAfter(LIFE / 2)]));
    assert!(case.charge().await.is_err());
    assert_eq!(case.end().await, (vec![0, 0], vec![]));
}

/// An answer is awaited until the charge has left its window, and for a minute at most.
#[tokio::test(start_paused = true)]
async fn an_answer_that_never_comes_is_reported() {
    for (life, awaited) in [(LIFE, LIFE), (LIFE * 100, MAX_ANSWER_WAIT)] {
        let mut check = Scripted::new(&[Charge::Admits, Charge::Hangs]);
        check.life = life;
        let case = Case::new(check);
        let began = Instant::now();
        assert!(case.charge().await.is_err());
        assert_eq!(case.left(), []);
        assert_eq!(case.end().await, (vec![0, 1], vec![ChargeLeft::AnswerLost]));
        assert_eq!(began.elapsed(), TIMEOUT + awaited);
    }
}

/// A server that is available again is asked within a second.
#[tokio::test(start_paused = true)]
async fn a_refund_is_retried_until_the_store_answers() {
    let check = Scripted::new(&[Charge::Admits, Charge::Fails]);
    let case = Case::new(check.refunding([Answer::Fails; 9]));
    let began = Instant::now();
    assert!(case.charge().await.is_err());
    assert_eq!(case.end().await, (vec![0, 0], vec![]));
    assert_eq!(case.check.attempts(), 10);
    // 50, 100, 200, 400, 800 and then 1,000 ms.
    assert_eq!(began.elapsed().as_millis(), 1_550 + 4 * 1_000);
}

/// How the refund of the first group ends: its answers, whether it may be repeated, whether the check has a request id;
/// then the attempts, what stays charged and what is reported.
#[tokio::test(start_paused = true)]
async fn a_refund_ends_when_it_cannot_or_need_not_succeed() {
    use ChargeLeft::{AnswerLost, NotRefunded};
    let cases = [
        ("its window has passed", vec![Answer::Fails; 99], true, false, (25, 1, None)),
        (
            "the id may be sent again",
            vec![Answer::Fails; 99],
            true,
            true,
            (6, 1, Some(NotRefunded)),
        ),
        ("the key is foreign", vec![Answer::HasForeignKey], true, false, (1, 1, Some(NotRefunded))),
        ("it can be repeated", vec![Answer::GetsLost; 3], true, false, (4, 0, None)),
        ("it cannot", vec![Answer::GetsLost; 3], false, false, (1, 1, Some(AnswerLost))),
        ("nothing was sent", vec![Answer::Fails; 3], false, false, (4, 0, None)),
    ];
    for (why, answers, may_be_repeated, has_request_id, (attempts, usage, left)) in cases {
        let mut check = Scripted::new(&[Charge::Admits, Charge::Fails]).refunding(answers);
        check.groups[0].may_be_repeated = may_be_repeated;
        check.has_request_id = has_request_id;
        let case = Case::new(check);
        assert!(case.charge().await.is_err());
        let ended = case.end().await;
        assert_eq!(ended, (vec![usage, 0], left.into_iter().collect()), "{why}");
        assert_eq!(case.check.attempts(), attempts, "{why}");
    }
}

/// The caller goes away while the second group is asked; the first is refunded nevertheless.
#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_leaves_nothing_charged() {
    for (second, usage) in
        [(Charge::AdmitsAfter(TIMEOUT / 2), vec![1, 1]), (Charge::Hangs, vec![0, 1])]
    {
        let case = Case::new(Scripted::new(&[Charge::Admits, second]));
        let call = Outliving::new(&case.background, case.charge());
        assert!(tokio::time::timeout(TIMEOUT / 10, call).await.is_err());
        assert_eq!(case.check.usage()[0], 1);
        let (ended, _) = case.end().await;
        assert_eq!(ended, usage, "{second:?}");
    }
}

/// At a shutdown the store waits for refunds; what is interrupted nevertheless is reported.
#[test]
fn a_shutdown_reports_what_it_interrupts() {
    let runtime = || -> Runtime {
        Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
    };
    for (second, left) in [
        (Charge::Fails, vec![ChargeLeft::NotRefunded]),
        (Charge::Hangs, vec![ChargeLeft::AnswerLost, ChargeLeft::NotRefunded]),
    ] {
        let check = Scripted::new(&[Charge::Admits, second]);
        let case = Case::new(check.refunding([Answer::RefundsAfter(LIFE)]));
        let runtime = runtime();
        runtime.block_on(async {
            assert!(case.charge().await.is_err());
            // The tasks have begun.
            sleep(TIMEOUT).await;
        });
        assert_eq!(case.left(), []);
        drop(runtime);
        let mut reported = case.left();
        reported.sort_by_key(|why| why.name());
        assert_eq!(reported, left, "{second:?}");
    }
}

/// More refunds than the bound are not attempted: they are reported at once.
#[tokio::test(start_paused = true)]
async fn refunds_above_the_bound_are_reported() {
    for second in [Charge::Fails, Charge::Hangs] {
        let case = Case::new(Scripted::new(&[Charge::Admits, second]));
        let waiting: Vec<_> = (0..MAX_WAITING).map(|_| case.background.begin_waiting()).collect();
        assert!(case.charge().await.is_err());
        assert_eq!((case.check.usage()[0], case.check.attempts()), (1, 0));
        let mut reported = case.left();
        reported.sort_by_key(|why| why.name());
        let expected = match second {
            Charge::Hangs => vec![ChargeLeft::AnswerLost, ChargeLeft::NotRefunded],
            _ => vec![ChargeLeft::NotRefunded],
        };
        assert_eq!(reported, expected, "{second:?}");
        drop(waiting);
    }
}

/// R19: a group that records denied costs is charged after a denial, and keeps its charge when a later group denies.
#[tokio::test(start_paused = true)]
async fn a_group_that_records_denied_costs_keeps_its_charge() {
    let cases = [
        ([Charge::Denies, Charge::Admits, Charge::Admits], vec![0, 0, 1]),
        ([Charge::Admits, Charge::Denies, Charge::Admits], vec![0, 0, 1]),
        ([Charge::Admits, Charge::Admits, Charge::Denies], vec![0, 0, 0]),
    ];
    for (charges, usage) in cases {
        let mut check = Scripted::new(&charges);
        check.groups[2].records_denied = true;
        let case = Case::new(check);
        let charged = case.charge().await.unwrap();
        assert!(charged.denied, "{charges:?}");
        assert_eq!(case.check.usage(), usage, "{charges:?}");
        assert_eq!(case.check.groups[2].peeks.load(Ordering::SeqCst), 0, "{charges:?}");
    }
    // It may also come first.
    let mut check = Scripted::new(&[Charge::Admits, Charge::Admits, Charge::Denies]);
    check.groups[0].records_denied = true;
    let case = Case::new(check);
    assert!(case.charge().await.unwrap().denied);
    assert_eq!((case.check.usage(), case.check.attempts()), (vec![1, 0, 0], 0));
}
