//! `tollgate verify` against real servers whose stores have a fault each: every fault is seen through the HTTP interface.

use std::collections::HashMap;
use std::future::{Future, pending, ready};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tollgate_core::counting::{Verdict, Wait};
use tollgate_core::{Charge, Clock as _, Limit, ManualClock, Subject, Timestamp};
use tollgate_store::{Charged, Store, StoreError};
use tollgate_verify::{Outcome, Promise, Report};

use crate::support::Fixture;
use crate::verify::{POLICY, verify};

const WINDOW: Duration = Duration::from_secs(2);
const NS_PER_MS: u64 = 1_000_000;
/// How long a check takes: no part of a millisecond, so that waits have fractions.
const A_CHECK: Duration = Duration::from_nanos(137_777);

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    AdmitsOneTooMany,
    ChargesDenials,
    /// Usage is cleared at each multiple of the window.
    ForgetsAtTheEdge,
    RoundsTheRetryTimeDown,
    CountsPerNode,
}

/// The obvious store for requests in a sliding window of [`WINDOW`]: a list of admissions for each subject.
struct FaultyStore {
    fault: Fault,
    clock: ManualClock,
    admissions: Mutex<HashMap<String, Vec<Timestamp>>>,
}

impl FaultyStore {
    fn decide(&self, charge: &Charge<'_>, subject: &Subject<'_>, spends: bool) -> Verdict {
        let now = self.clock.now();
        let one_more = u64::from(self.fault == Fault::AdmitsOneTooMany);
        let limit = charge.limit.amount().get() + one_more;
        let edge = now.as_ns() / ns(WINDOW) * ns(WINDOW);
        let forgets = self.fault == Fault::ForgetsAtTheEdge;
        let mut admissions = self.admissions.lock().unwrap();
        let list = admissions.entry(format!("{subject:?}")).or_default();
        list.retain(|one| one.after(WINDOW) > now && !(forgets && one.as_ns() < edge));
        let allowed = (list.len() as u64) < limit;
        let wait_ns = list.first().map_or(0, |first| ns(first.after(WINDOW).since(now)));
        if spends && (allowed || self.fault == Fault::ChargesDenials) {
            list.push(now);
        }
        let usage = list.len() as u64;
        let reset_ns = list.last().map_or(0, |last| ns(last.after(WINDOW).since(now)));
        let wait = match self.fault {
            _ if allowed => Wait::None,
            // The server rounds up what is left of a millisecond; nothing is.
            Fault::RoundsTheRetryTimeDown => Wait::Ns((wait_ns / NS_PER_MS * NS_PER_MS).max(1)),
            _ => Wait::Ns(wait_ns),
        };
        Verdict::new(allowed, usage, wait, reset_ns)
    }

    fn decide_all(&self, charges: &[Charge<'_>], spends: bool) -> Charged {
        self.clock.advance(A_CHECK);
        let verdicts = charges.iter().map(|charge| self.decide(charge, charge.subject, spends));
        Charged::from(verdicts.collect::<tollgate_store::Verdicts>())
    }
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}

impl Store for FaultyStore {
    fn charge(
        &self,
        charges: &[Charge<'_>],
        _: Option<&str>,
    ) -> impl Future<Output = Result<Charged, StoreError>> + Send {
        ready(Ok(self.decide_all(charges, true)))
    }

    fn peek(
        &self,
        charges: &[Charge<'_>],
    ) -> impl Future<Output = Result<Charged, StoreError>> + Send {
        ready(Ok(self.decide_all(charges, false)))
    }

    fn reset(
        &self,
        _: &Limit,
        _: &Subject<'_>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        ready(Ok(()))
    }
}

/// What `verify` says of two servers over one store with `fault`, or over one each.
async fn report_of(fault: Fault) -> Report {
    // Not at a multiple of a window, so that nothing is aligned by accident.
    let clock = ManualClock::at(Timestamp::from_ns(1_800_000_001_234_567_891));
    let store = || {
        let admissions = Mutex::default();
        Arc::new(FaultyStore { fault, clock: clock.clone(), admissions })
    };
    let shared = store();
    let mut servers = Vec::new();
    for _ in 0..2 {
        let store = if fault == Fault::CountsPerNode { store() } else { Arc::clone(&shared) };
        let server = Fixture::start_with_asked_store(POLICY, store, clock.clone()).await;
        servers.push(server);
    }
    verify(&[&servers[0], &servers[1]], None, pending).await.unwrap()
}

fn broken(report: &Report) -> Vec<Promise> {
    let broken = report.findings.iter().filter(|finding| finding.outcome == Outcome::Broken);
    broken.map(|finding| finding.promise).collect()
}

#[tokio::test]
async fn each_planted_fault_is_found_through_http() {
    for (fault, expected) in [
        (Fault::AdmitsOneTooMany, Promise::Limit),
        (Fault::ChargesDenials, Promise::Denials),
        (Fault::ForgetsAtTheEdge, Promise::Window),
        (Fault::RoundsTheRetryTimeDown, Promise::Retry),
        (Fault::CountsPerNode, Promise::Nodes),
    ] {
        let report = report_of(fault).await;
        assert!(broken(&report).contains(&expected), "{fault:?}: {report}");
        assert_eq!(report.exit_code(), 1, "{fault:?}: {report}");
    }
}

/// The same store without a fault keeps every promise, so what is found above is the fault.
#[tokio::test]
async fn nothing_is_found_of_the_store_without_a_fault() {
    let report = report_of(Fault::None).await;
    assert_eq!((report.outcome(), report.exit_code()), (Outcome::Kept, 0), "{report}");
    assert_eq!(report.findings.len(), 5, "{report}");
}
