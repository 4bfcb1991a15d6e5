//! Runs that end early, or whose servers stop answering: what is left in the catalog is deleted or named.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod fake_server;

use std::future::pending;
use std::time::Duration;

use fake_server::{Fake, FakeServer};
use tokio::time::Instant;
use tollgate_verify::{Verified, VerifyArgs, VerifyError};

const TOKEN: Option<&str> = Some("a-token-that-may-write");

fn args(server: &FakeServer) -> VerifyArgs {
    VerifyArgs {
        servers: vec![server.url()],
        window_seconds: Some(1),
        limit: Some(2),
        json: false,
        report: None,
    }
}

/// The failure names the policy, says how to delete it, and why it was not deleted.
fn names_the_policy(verified: &Verified, server: &FakeServer, problem: &str) {
    let failures = &verified.failures[..];
    let id = match failures {
        [VerifyError::PolicyLeft { id, .. }] => Some(id),
        _ => None,
    };
    let id = id.unwrap();
    let text = failures[0].to_string();
    let delete = format!("{}/admin/policies/{id}", server.url());
    assert_eq!(Some(id), server.fake.created().as_ref());
    for part in [&*delete, "curl -X DELETE", problem] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// A server that stops answering delays the end of an interrupted run for a few seconds only.
#[tokio::test]
async fn cleaning_up_has_a_short_bound() {
    let server = FakeServer::start(Fake::stops_answering_checks()).await;
    let mut calls = 0;
    let mut began = None;
    let interrupted = async || {
        calls += 1;
        if calls > 1 {
            return pending().await;
        }
        server.fake.checked().await;
        // From now on the time moves to the next timer whenever nothing else is left to do.
        tokio::time::pause();
        began = Some(Instant::now());
    };
    let verified = tollgate_verify::run(&args(&server), TOKEN, interrupted).await;
    assert!(began.unwrap().elapsed() <= Duration::from_secs(6), "{:?}", began.unwrap().elapsed());
    assert!(matches!(verified.result, Err(VerifyError::Interrupted)), "{verified:?}");
    assert_eq!(verified.exit_code(), 130);
    names_the_policy(&verified, &server, "not deleted within 5 s");
}

#[tokio::test]
async fn a_second_interruption_ends_a_run_at_once() {
    let server = FakeServer::start(Fake::stops_answering_checks()).await;
    let mut calls = 0;
    let interrupted = async || {
        calls += 1;
        match calls {
            1 => server.fake.checked().await,
            _ => server.fake.cleaned_up().await,
        }
    };
    let verified = tollgate_verify::run(&args(&server), TOKEN, interrupted).await;
    assert_eq!(verified.exit_code(), 130);
    names_the_policy(&verified, &server, "a second signal");
}

/// An interruption also ends the creation of a policy, which may have had an effect.
#[tokio::test]
async fn a_policy_that_may_have_been_created_is_named() {
    let server = FakeServer::start(Fake::stops_answering_creations()).await;
    let mut calls = 0;
    let interrupted = async || {
        calls += 1;
        match calls {
            1 => server.fake.creating().await,
            _ => server.fake.cleaned_up().await,
        }
    };
    let verified = tollgate_verify::run(&args(&server), TOKEN, interrupted).await;
    assert_eq!(verified.exit_code(), 130);
    names_the_policy(&verified, &server, "a second signal");
}

#[tokio::test]
async fn a_server_that_dies_leaves_a_policy_that_is_named() {
    let server = FakeServer::start(Fake::dies_at_the_first_check()).await;
    let verified = tollgate_verify::run(&args(&server), TOKEN, pending).await;
    assert!(matches!(verified.result, Err(VerifyError::Check(_))), "{verified:?}");
    assert_eq!(verified.exit_code(), 2);
    // How a call to a server that is gone fails depends on when it went.
    names_the_policy(&verified, &server, "");
}

/// The other servers have the same catalog.
#[tokio::test]
async fn the_policy_of_a_server_that_dies_is_deleted_at_another() {
    let server = FakeServer::start(Fake::dies_at_the_first_check()).await;
    let other = FakeServer::start(server.fake.beside()).await;
    let args = VerifyArgs { servers: vec![server.url(), other.url()], ..args(&server) };
    let verified = tollgate_verify::run(&args, TOKEN, pending).await;
    assert!(matches!(verified.result, Err(VerifyError::Check(_))), "{verified:?}");
    assert!(verified.failures.is_empty(), "{verified:?}");
    assert_eq!(server.fake.created(), None);
}

#[tokio::test]
async fn a_report_without_a_place_is_told_before_the_run() {
    let server = FakeServer::start(Fake::dies_at_the_first_check()).await;
    let report = Some("/nonexistent/report.json".into());
    let verified =
        tollgate_verify::run(&VerifyArgs { report, ..args(&server) }, TOKEN, pending).await;
    assert!(matches!(verified.result, Err(VerifyError::File { .. })), "{verified:?}");
    assert_eq!((verified.exit_code(), server.fake.created()), (1, None));
}

/// A run without a report leaves no new file, and does not touch an old one.
#[tokio::test]
async fn a_run_without_a_report_leaves_the_files_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let (new, old) = (folder.path().join("new.json"), folder.path().join("old.json"));
    std::fs::write(&old, "an older report").unwrap();
    for file in [&new, &old] {
        let server = FakeServer::start(Fake::refuses_creations()).await;
        let args = VerifyArgs { report: Some(file.clone()), ..args(&server) };
        let verified = tollgate_verify::run(&args, TOKEN, pending).await;
        assert!(verified.result.is_err(), "{verified:?}");
    }
    assert!(!new.exists());
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "an older report");
}

/// What a server refused was not created, so nothing is left.
#[tokio::test]
async fn a_refused_policy_is_not_left() {
    let server = FakeServer::start(Fake::refuses_creations()).await;
    let verified = tollgate_verify::run(&args(&server), TOKEN, pending).await;
    assert!(matches!(verified.result, Err(VerifyError::Admin { .. })), "{verified:?}");
    assert!(verified.failures.is_empty(), "{verified:?}");
}
