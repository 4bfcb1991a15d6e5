//! Runs every benchmark, and checks that it measures every question of its goals. The results are not checked.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tollgate_bench::report::Section;
use tollgate_bench::sibling::Sibling;
use tollgate_bench::{
    gateway, grpc, http, keyed, leases, memcached, memory, policies, redis, snapshots, split,
};

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

#[test]
fn memory_runs() {
    let child = Path::new(env!("CARGO_BIN_EXE_tollgate-bench-memory"));
    check_every_goal_was_measured(&memory::run(&memory::Plan::smoke(), child).unwrap());
}

#[test]
fn leases_runs() {
    check_every_goal_was_measured(&leases::run(&leases::Plan::smoke()).unwrap());
}

#[test]
fn snapshots_runs() {
    check_every_goal_was_measured(&snapshots::run(&snapshots::Plan::smoke()).unwrap());
}

#[test]
fn split_runs() {
    check_every_goal_was_measured(&split::run(&split::Plan::smoke()).unwrap());
}

#[test]
fn memcached_runs() {
    check_every_goal_was_measured(&memcached::run(&memcached::Plan::smoke()).unwrap());
}

#[test]
fn policies_runs() {
    check_every_goal_was_measured(&policies::run(&policies::Plan::smoke()).unwrap());
}

#[test]
fn http_runs() {
    // The tests of the workspace have built it, with features that building it here alone would change.
    let tollgate = Sibling::TOLLGATE.found().or_else(|_| Sibling::TOLLGATE.built()).unwrap();
    let bare = Path::new(env!("CARGO_BIN_EXE_tollgate-bench-bare"));
    check_every_goal_was_measured(&http::run(&http::Plan::smoke(), &tollgate, bare).unwrap());
}

#[test]
fn grpc_runs() {
    let tollgate = Sibling::TOLLGATE.found().or_else(|_| Sibling::TOLLGATE.built()).unwrap();
    let bare = Path::new(env!("CARGO_BIN_EXE_tollgate-bench-bare-grpc"));
    check_every_goal_was_measured(&grpc::run(&http::Plan::smoke(), &tollgate, bare).unwrap());
}

#[test]
fn http_redis_runs() {
    let tollgate = Sibling::TOLLGATE.found().or_else(|_| Sibling::TOLLGATE.built()).unwrap();
    let bare = Path::new(env!("CARGO_BIN_EXE_tollgate-bench-bare"));
    let plan = http::Plan::smoke();
    check_every_goal_was_measured(&http::over_redis::run(&plan, &tollgate, bare).unwrap());
}

#[test]
fn http_catalog_runs() {
    let tollgate = Sibling::TOLLGATE.found().or_else(|_| Sibling::TOLLGATE.built()).unwrap();
    let plan = http::Plan::smoke();
    check_every_goal_was_measured(&http::over_catalog::run(&plan, &tollgate).unwrap());
}

#[test]
fn telemetry_runs() {
    let tollgate = Sibling::TOLLGATE.found().or_else(|_| Sibling::TOLLGATE.built()).unwrap();
    let plan = http::Plan::smoke();
    check_every_goal_was_measured(&http::telemetry::run(&plan, &tollgate, None).unwrap());
}

#[test]
fn outage_runs() {
    let tollgate = Sibling::TOLLGATE.found().or_else(|_| Sibling::TOLLGATE.built()).unwrap();
    let plan = http::outage::Plan::smoke();
    check_every_goal_was_measured(&http::outage::run(&plan, &tollgate).unwrap());
}

#[test]
fn redis_runs() {
    check_every_goal_was_measured(&redis::run(&redis::Plan::smoke()).unwrap());
}

#[test]
fn gateway_runs() {
    let built = |sibling: Sibling| sibling.found().or_else(|_| sibling.built()).unwrap();
    let programs = gateway::Programs {
        tollgate: built(Sibling::TOLLGATE),
        proxy: env!("CARGO_BIN_EXE_tollgate-bench-proxy").into(),
        model: built(Sibling::MOCK_MODEL),
    };
    check_every_goal_was_measured(&gateway::run(&gateway::Plan::smoke(), &programs).unwrap());
}

/// A mock model stands in for the one peer that is installed.
#[test]
fn gateway_peers_runs() {
    let built = |sibling: Sibling| sibling.found().or_else(|_| sibling.built()).unwrap();
    let programs = gateway::Programs {
        tollgate: built(Sibling::TOLLGATE),
        proxy: env!("CARGO_BIN_EXE_tollgate-bench-proxy").into(),
        model: built(Sibling::MOCK_MODEL),
    };
    let plan = gateway::Plan::smoke();
    let installed = tempfile::tempdir().unwrap();
    std::fs::write(installed.path().join("portkey.unavailable"), "no network\n").unwrap();
    let none = gateway::peers::run(&plan, &programs, installed.path()).unwrap_err();
    assert!(none.contains("no peer runs"), "{none}");

    let stand_in = installed.path().join("vllm-router/bin/vllm-router");
    std::fs::create_dir_all(stand_in.parent().unwrap()).unwrap();
    // Its arguments begin with `--host 127.0.0.1 --port PORT`.
    let script =
        format!("#!/bin/sh\nexec {} --listen \"$2:$4\"\n", programs.model.to_string_lossy());
    std::fs::write(&stand_in, script).unwrap();
    std::fs::set_permissions(&stand_in, std::fs::Permissions::from_mode(0o755)).unwrap();
    let outcome = gateway::peers::run(&plan, &programs, installed.path()).unwrap();
    for question in [
        "CPU per streamed chunk, µs",
        "added median at 100 requests/s, ms",
        "added to the first byte with 2 open streams, ms",
        "memory with 4 open streams, MB",
    ] {
        for contender in ["tollgate gateway", "vllm-router"] {
            let median = outcome.section.measurements.median(question, contender);
            assert!(median.is_some_and(f64::is_finite), "{question}, {contender}: {median:?}");
        }
    }
    let [litellm, portkey] = outcome.missing.as_slice() else { panic!("{:?}", outcome.missing) };
    assert!(litellm.contains("litellm/bin/litellm: is missing"), "{litellm}");
    assert_eq!(portkey, "Portkey gateway is not measured: it could not be installed: no network");
    let ratios = outcome.to_markdown();
    assert!(ratios.starts_with("| tollgate gateway to"), "{ratios}");
}
