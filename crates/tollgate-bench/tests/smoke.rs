//! Every benchmark runs and measures what its goals speak of. What it measures is no test.

use tollgate_bench::keyed;
use tollgate_bench::report::Section;

fn check_every_goal_was_measured(section: &Section) {
    for goal in &section.goals {
        let median = section.measurements.median(goal.question, goal.contender);
        assert!(median.is_some_and(f64::is_finite), "{goal:?}: {median:?}");
    }
}

#[test]
fn keyed_runs() {
    check_every_goal_was_measured(&keyed::run(&keyed::Plan::smoke()));
}
