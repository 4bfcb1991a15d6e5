//! What the examination at the start finds.

use std::io::{Read, Write};
use std::net::TcpListener;

use tollgate_memcached::MemcachedStore;
use tollgate_store::StartProblem;
use tollgate_testkit::memcached::MemcachedServer;
use tollgate_testkit::redis::RedisServer;

use crate::support::{RUNTIME, store_at};

fn problem(store: &MemcachedStore) -> String {
    match RUNTIME.block_on(store.check_start()) {
        Err(StartProblem::Misconfigured(problem)) => problem.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_memcached_that_evicts_nothing_is_well() {
    let server = MemcachedServer::start();
    let warnings = RUNTIME.block_on(store_at(&server.url()).examine()).unwrap();
    assert_eq!(warnings, []);
}

#[test]
fn eviction_that_is_switched_on_is_a_warning() {
    let server = MemcachedServer::start_with(&[]);
    let warnings = RUNTIME.block_on(store_at(&server.url()).examine()).unwrap();
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(warning.to_string().contains("-M"), "{warning}");
}

#[test]
fn settings_that_the_store_cannot_work_with_are_refused() {
    for (arguments, remedy) in [(["-C", "-M"], "without -C"), (["-I", "512k"], "-I 1m")] {
        let server = MemcachedServer::start_with(&arguments);
        let problem = problem(&store_at(&server.url()));
        assert!(problem.contains(remedy), "{problem}");
    }
}

/// Redis, and something that answers nobody's commands.
#[test]
fn something_else_is_refused() {
    let redis = RedisServer::start();
    let url = format!("memcached://127.0.0.1:{}", redis.port());
    let problem = problem(&store_at(&url));
    assert!(problem.contains("does not speak memcached's protocol"), "{problem}");
}

/// An older memcached stores, but does not tell the number of what it stored.
#[test]
fn a_memcached_that_is_too_old_is_refused() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("memcached://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut bytes = [0; 4_096];
            while let Ok(read @ 1..) = stream.read(&mut bytes) {
                let answer: &[u8] = match &bytes[..read] {
                    [b's', b't', ..] => b"STAT version 1.6.0\r\nSTAT time 1\r\nEND\r\n",
                    [b'm', b's', ..] => b"HD\r\n",
                    _ => b"EN\r\n",
                };
                if stream.write_all(answer).is_err() {
                    break;
                }
            }
        }
    });
    let problem = problem(&store_at(&url));
    assert!(problem.contains("1.6.0") && problem.contains("1.6.18"), "{problem}");
}

#[test]
fn nobody_there_is_no_misconfiguration() {
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let found = RUNTIME.block_on(store_at(&format!("memcached://127.0.0.1:{port}")).check_start());
    assert!(matches!(found, Err(StartProblem::Unavailable(_))), "{found:?}");
}

#[test]
fn nodes_compare_what_they_must_have_in_common() {
    const LIFE: std::time::Duration = std::time::Duration::from_mins(1);
    let server = MemcachedServer::start();
    let [here, there] = [(); 2].map(|()| store_at(&server.url()));
    let agrees = |store: &MemcachedStore, value| {
        RUNTIME.block_on(store.agrees("secret", value, LIFE)).unwrap()
    };
    assert!(agrees(&here, "a") && agrees(&there, "a"));
    assert!(!agrees(&there, "b") && agrees(&here, "a"));
}
