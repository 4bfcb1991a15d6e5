//! The conformance suite: one test per promise of a store, over any [`Harness`].
//!
//! A store's tests run the groups for its capabilities (see [`conformance!`](crate::conformance!)):
//!
//! | group | needs | holds the store to |
//! |---|---|---|
//! | [`contract`] | [`Harness`] | R1–R5, R8–R10 while no time passes; P2 |
//! | [`once`] | [`Harness`] | request ids that are charged once: R12, P6 |
//! | [`over_limit`] | [`Harness`] | denied costs that are recorded: R19 |
//! | [`leases`] | [`Harness`] | leases while no time passes, if the store keeps them: R13, R14, R16; P17 |
//! | [`ledger`] | [`MovableClock`] | leases over time, against the reference model: R13–R16; P7, P16 |
//! | [`lease_changes`] | [`MovableClock`] | policies that change while leases are open: R8, R14 |
//! | [`expiry`] | [`MovableClock`] | leases that give back what they hold when they expire: R15 |
//! | [`lease_records`] | [`MovableClock`] | request ids, notes and the list of leases: R12, R16 |
//! | [`isolation`] | [`Harness`] | injective keys: R8, P10 |
//! | [`concurrency`] | [`Harness`] | atomicity: R3, P1 |
//! | [`time`] | [`MovableClock`] | the reference model, to the millisecond; P1, P9, P12 |
//! | [`changes`] | [`MovableClock`] | policies that change while there is usage: R8 |
//! | [`scale`] | [`MovableClock`] | a million keys, a million entries: for stores in this process |
//! | [`bounds`] | [`BoundedKeys`] | sweeping and the cap on keys: R9, P10 |
//!
//! [`Harness`]: crate::Harness
//! [`MovableClock`]: crate::MovableClock
//! [`BoundedKeys`]: crate::BoundedKeys

pub mod bounds;
pub mod changes;
pub mod concurrency;
pub mod contract;
pub mod expiry;
pub mod isolation;
pub mod lease_changes;
pub mod lease_records;
pub mod leases;
pub mod ledger;
pub mod once;
pub mod over_limit;
pub mod scale;
pub mod time;

use std::time::Duration;

use tollgate_core::{
    Amount, Attribute, Check, Cost, Per, Policy, PolicyId, Timestamp, Unit, Window,
};

use crate::Way;

/// A window that does not end while a test runs, also with a clock that the suite cannot move.
const MONTH: Duration = Duration::from_hours(30 * 24);

/// The start of clocks that tests can move: far from the epoch, at the edge of windows of whole seconds.
const START: Timestamp = Timestamp::from_ms(1_700_000_000_000);

/// A policy over requests, without conditions.
fn policy(id: &str, per: &[Attribute], limit: u64, window: Duration) -> Policy {
    let per = Per::new(per.to_vec()).unwrap();
    Policy::new(PolicyId::new(id).unwrap(), per, Amount::new(limit), Window::new(window).unwrap())
}

/// The same policy, counting in this `way`.
fn counted_by(way: Way, policy: Policy) -> Policy {
    let window = policy.counting.window().unwrap();
    Policy { counting: way.over(window, policy.limit), ..policy }
}

/// A check by `user` for one model, at a cost in requests.
fn check_at(user: &str, cost: u64) -> Check<'_> {
    let cost = Cost::default().with(Unit::Requests, Amount::new(cost).unwrap());
    Check::new(user, "gpt-4").at_cost(cost)
}

/// Generates the tests of a store: `conformance!(MyHarness: contract, isolation, concurrency);`
///
/// Each group becomes a module with one test per promise; [`conformance`](mod@crate::conformance) lists the
/// groups and the capability that each one needs.
#[macro_export]
macro_rules! conformance {
    ($harness:ty: $($group:ident),+ $(,)?) => {
        $( $crate::conformance_group!($harness, $group); )+
    };
}

/// One group of [`conformance!`].
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_group {
    ($harness:ty, contract) => {
        $crate::conformance_tests!($harness, contract:
            a_check_that_no_limit_meets_is_allowed
            a_limit_admits_exactly_its_amount
            a_limit_of_zero_admits_nothing
            a_cost_of_zero_needs_room_and_charges_nothing
            a_cost_above_the_limit_never_fits
            the_largest_amounts_do_not_wrap
            a_denied_check_changes_nothing
            a_peek_changes_nothing
            a_shadow_limit_denies_nothing_and_charges_what_it_admits
            a_reset_forgets_one_key
            a_changed_limit_keeps_its_usage
            priority_classes_share_one_usage_and_keep_their_room
        );
    };
    ($harness:ty, once) => {
        $crate::conformance_tests!($harness, once:
            a_request_id_is_charged_once_and_gets_the_first_answer
            a_denied_request_id_is_decided_afresh
            a_request_id_keeps_its_answer_when_the_policy_changes
            a_shadow_limit_that_refuses_does_not_make_a_request_id_new
            different_checks_share_no_request_id
            request_ids_that_read_alike_are_different
            a_peek_takes_no_notice_of_request_ids
            threads_with_the_same_request_ids_charge_each_once
        );
    };
    ($harness:ty, over_limit) => {
        $crate::conformance_tests!($harness, over_limit:
            a_denied_cost_is_recorded
            the_other_limits_of_a_denied_check_record_nothing
            a_denied_and_recorded_request_id_is_recorded_once
            what_has_no_room_below_the_most_is_not_recorded
            a_shadow_limit_records_what_it_would_deny
        );
    };
    ($harness:ty, leases) => {
        $crate::conformance_tests!($harness, leases:
            a_store_says_whether_it_keeps_leases
            a_reservation_is_decided_like_a_check
            a_denied_reservation_holds_nothing
            a_settlement_counts_once_and_the_last_one_holds
            a_settlement_above_the_reservation_is_a_debt
            a_lower_bound_gives_nothing_back
            a_release_gives_everything_back
            an_extension_asks_for_more_or_gets_nothing
            slots_are_held_by_leases_and_not_by_checks
            a_unit_that_was_not_reserved_is_charged_at_the_settlement
            an_unknown_lease_changes_nothing
            a_request_id_names_a_lease_once
            a_request_id_keeps_its_lease_when_a_policy_changes
            usage_above_what_can_be_recorded_is_charged_as_far_as_it_can_be
            threads_that_settle_one_lease_settle_it_once
            threads_never_hold_more_slots_than_there_are
        );
    };
    ($harness:ty, ledger) => {
        $crate::conformance_tests!($harness, ledger:
            leases_agree_with_the_model
            a_lease_that_expires_frees_its_slot
            a_late_settlement_corrects_what_is_in_its_window
        );
    };
    ($harness:ty, lease_changes) => {
        $crate::conformance_tests!($harness, lease_changes:
            an_update_keeps_what_a_longer_window_counts
            an_update_adds_to_what_a_shorter_window_counts
            an_update_leaves_usage_alone_that_is_counted_otherwise
            an_update_does_not_bring_back_a_window
            an_update_keeps_the_refill_of_a_bucket
        );
    };
    ($harness:ty, expiry) => {
        $crate::conformance_tests!($harness, expiry:
            a_store_gives_back_or_refuses
            an_expired_lease_gives_back_what_it_holds
            whatever_asks_first_finds_the_room
            a_late_settlement_is_charged_anew
            what_has_ended_or_was_extended_does_not_expire
            what_an_expired_lease_reports_is_charged
            many_leases_expire_at_once
            a_changed_policy_loses_and_doubles_nothing
            a_reset_leaves_nothing_to_give_back
            threads_give_back_each_hold_once
        );
    };
    ($harness:ty, lease_records) => {
        $crate::conformance_tests!($harness, lease_records:
            the_request_id_of_a_released_lease_is_new
            a_repeated_reservation_says_what_became_of_its_lease
            a_reset_keeps_the_slots_of_live_leases
            a_lease_returns_its_note
            live_leases_are_listed
            a_request_id_names_a_lease_as_long_as_it_lives
        );
    };
    ($harness:ty, isolation) => {
        $crate::conformance_tests!($harness, isolation:
            keys_that_read_alike_share_no_usage
            random_keys_share_no_usage
        );
    };
    ($harness:ty, concurrency) => {
        $crate::conformance_tests!($harness, concurrency:
            threads_on_one_key_are_admitted_exactly_to_its_limit
            crossing_limits_are_charged_together
        );
    };
    ($harness:ty, time) => {
        $crate::conformance_tests!($harness, time:
            random_checks_agree_with_the_model
            random_checks_of_one_key_agree_with_the_model_when_time_steps_back
            no_window_holds_more_than_its_limit
            the_edge_of_two_windows_holds_less_than_twice_a_counters_limit
            the_edge_of_two_periods_holds_twice_a_calendars_limit
            a_wait_is_exact_for_windows_of_any_length
            a_step_back_of_the_clock_lengthens_no_wait
            a_wait_after_a_recorded_denial_is_exact
            a_request_id_is_new_after_the_longest_window_of_its_limits
        );
    };
    ($harness:ty, changes) => {
        $crate::conformance_tests!($harness, changes:
            a_changed_way_of_counting_starts_afresh
            a_changed_window_keeps_the_admissions_of_a_log
            a_longer_window_keeps_what_it_knows_until_it_leaves
            a_changed_window_of_a_counter_admits_no_more_than_its_limit
            a_changed_refill_applies_although_all_is_denied
        );
    };
    ($harness:ty, scale) => {
        $crate::conformance_tests!($harness, scale:
            a_million_keys_have_a_limit_each
            a_log_of_a_million_entries_is_exact
            a_log_of_a_million_weighted_entries_is_exact
        );
    };
    ($harness:ty, bounds) => {
        $crate::conformance_tests!($harness, bounds:
            idle_keys_are_swept
            denied_checks_and_peeks_add_no_key
            the_cap_on_keys_holds_under_a_flood_of_ids
        );
    };
}

/// The tests of one group of [`conformance!`].
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    ($harness:ty, $group:ident: $($test:ident)+) => {
        mod $group {
            use super::*;

            $(
                #[test]
                fn $test() {
                    $crate::conformance::$group::$test::<$harness>();
                }
            )+
        }
    };
}
