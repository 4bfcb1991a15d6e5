//! The operations of a directory, the same in SQLite and in PostgreSQL (P11, P15).
//!
//! Each behaviour is a function in the table [`BEHAVIOURS`], which runs on both databases, each time on a new one.

#![cfg(feature = "database")]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;
mod faults;
mod file;
mod nodes;
mod records;
mod resolution;

use std::panic::AssertUnwindSafe;

use common::{Database, Databases};

type Behaviour = fn(Database) -> std::pin::Pin<Box<dyn Future<Output = ()>>>;

/// Names the functions and converts them to one type.
macro_rules! behaviours {
    ($($module:ident :: $name:ident),* $(,)?) => {
        [$((stringify!($name), (|database| Box::pin($module::$name(database))) as Behaviour)),*]
    };
}

const BEHAVIOURS: [(&str, Behaviour); 28] = behaviours![
    records::a_new_catalog_holds_the_default_tier_and_the_built_in_policy,
    records::every_kind_is_made_read_changed_and_deleted,
    records::an_id_left_out_is_made_and_any_text_is_an_id,
    records::every_faulty_field_is_told,
    records::references_lead_somewhere,
    records::what_is_in_use_is_not_deleted,
    resolution::another_secret_than_before_is_refused,
    records::an_id_is_given_once,
    records::users_of_two_tenants_may_have_one_id,
    records::a_stale_version_changes_nothing,
    records::a_patch_sets_what_it_has_and_null_is_not_left_out,
    records::pages_give_each_record_once_and_filters_choose,
    records::every_change_is_in_the_audit_log,
    records::export_and_import_give_the_same_directory,
    records::an_import_is_all_or_nothing,
    records::concurrent_writers_lose_no_update,
    resolution::the_tier_is_the_keys_else_the_users_else_the_tenants_else_default,
    resolution::users_with_one_id_in_two_tenants_are_two,
    resolution::a_key_is_kept_as_a_hash_and_shown_once,
    resolution::revoked_and_expired_keys_say_so,
    resolution::an_empty_directory_is_not_asked,
    resolution::a_warm_subject_asks_no_database_and_a_cold_one_asks_once,
    resolution::uses_are_recorded_in_batches,
    resolution::dates_follow_a_clock_that_is_set,
    resolution::a_row_that_cannot_be_read_harms_no_other_subject,
    resolution::an_old_answer_is_refreshed_beside_its_use,
    nodes::an_invalid_content_is_refused_and_the_valid_one_stays,
    nodes::other_nodes_converge_by_polling_alone,
];

#[test]
fn behaviours_hold_in_sqlite() {
    check_all(&Databases::sqlite());
}

#[test]
fn behaviours_hold_in_postgresql() {
    check_all(&Databases::postgresql());
}

/// Runs every behaviour, each on a new database, and reports which failed.
fn check_all(databases: &Databases) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut broken = Vec::new();
    for (name, behaviour) in BEHAVIOURS {
        let database = databases.new_database();
        let run = AssertUnwindSafe(|| runtime.block_on(behaviour(database)));
        if std::panic::catch_unwind(run).is_err() {
            broken.push(name);
        }
    }
    assert!(broken.is_empty(), "do not hold: {broken:?}");
}
