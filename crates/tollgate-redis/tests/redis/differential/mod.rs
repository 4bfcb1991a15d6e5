//! The Lua scripts do the same as the ways of counting in `tollgate-core`: both get the same operations, in virtual time,
//! on real servers, and every answer is compared.
//!
//! `make soak` runs ten million operations: `TOLLGATE_DIFFERENTIAL_OPERATIONS` sets how many.

mod constants;
mod leases;
mod model;
mod phases;
mod run;

use std::cell::RefCell;
use std::env;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, FileFailurePersistence, TestError, TestRunner};
use tollgate_redis::RedisStore;
use tollgate_testkit::property::REGRESSIONS;

use crate::conformance::{CLUSTER_STORE, SERVER_STORE, apart};
use constants::Crossed;
use phases::{Course, course};
use run::Run;

/// Operations of one run of the tests.
const OPERATIONS: u64 = 100_000;

fn operations() -> u64 {
    let set = env::var("TOLLGATE_DIFFERENTIAL_OPERATIONS").ok();
    set.and_then(|number| number.parse().ok()).unwrap_or(OPERATIONS)
}

/// Runs random sequences until enough operations were compared. A sequence that fails is minimized, printed, and kept
/// among the regressions.
fn compare(
    name: &'static str,
    store: &RedisStore,
    operations: u64,
    courses: impl Strategy<Value = Course>,
) -> Crossed {
    let (done, crossed) = (RefCell::new(0), RefCell::new(Crossed::default()));
    while *done.borrow() < operations {
        let config = Config {
            cases: 1,
            max_shrink_iters: 400,
            failure_persistence: Some(Box::new(FileFailurePersistence::Direct(REGRESSIONS))),
            test_name: Some(name),
            ..Config::default()
        };
        let result = TestRunner::new(config).run(&courses, |course| {
            let mut run = Run::new(&apart(store), &course);
            let outcome = run.play(&course);
            *done.borrow_mut() += run.operations;
            crossed.borrow_mut().add(&run.crossed);
            outcome
        });
        match result {
            Ok(()) => {}
            Err(TestError::Fail(reason, course)) => panic!("{name}: {reason}\nfor {course:#?}"),
            Err(TestError::Abort(reason)) => panic!("{name}: {reason}"),
        }
    }
    crossed.into_inner()
}

/// On one server. The operations must cross every constant of the scripts, from both sides.
#[test]
fn scripts_and_model_agree_on_one_server() {
    let name = "scripts_and_model_agree_on_one_server";
    let mut crossed = compare(name, &SERVER_STORE, operations(), course(true, 24));
    for course in [
        run::long_course(),
        run::course_of_years(),
        run::course_far_from_the_hint(),
        run::course_of_calendars(),
        run::course_to_the_greatest_usage(),
        run::course_over_the_limits(),
    ] {
        let mut run = Run::new(&apart(&SERVER_STORE), &course);
        if let Err(reason) = run.play(&course) {
            panic!("{reason}\nfor {course:#?}");
        }
        crossed.add(&run.crossed);
    }
    crossed.add(&leases::crossed_by_slots());
    crossed.assert_all();
}

/// On a Cluster, where the limits of a check are in several slots and are charged one after the other.
#[test]
fn scripts_and_model_agree_on_a_cluster() {
    let name = "scripts_and_model_agree_on_a_cluster";
    compare(name, &CLUSTER_STORE, operations() / 10, course(false, 16));
}
