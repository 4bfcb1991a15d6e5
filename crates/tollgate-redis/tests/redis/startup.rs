//! A problem that only a wrong configuration can cause is distinguished from an unavailable Redis, and reported with
//! its remedy.

use std::time::Duration;

use tollgate_redis::{RedisOptions, RedisStore, StartProblem};
use tollgate_testkit::redis::{RedisCluster, RedisSentinels, RedisServer};

use crate::support::{RUNTIME, store_at};

/// A password that no message may show; it contains characters that are special in URLs.
const SECRET: &str = "QZXQ@:/?#%ZQX";
const ENCODED: &str = "QZXQ%40%3A%2F%3F%23%25ZQX";

/// The problem that the start finds at `url`, if any.
fn found(url: &str) -> Result<(), StartProblem> {
    RUNTIME.block_on(store_at(url).check_start())
}

/// The start at `url` fails with a message that contains all `parts` and nothing secret.
fn refused(url: &str, parts: &[&str]) {
    let Err(StartProblem::Misconfigured(problem)) = found(url) else {
        panic!("{url}: {:?}", found(url))
    };
    let said = format!("{problem} {problem:?}");
    for part in parts {
        assert!(said.contains(part), "{url}: no {part:?} in {said}");
    }
    for secret in ["QZX", "ZQX"] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[test]
fn a_login_that_is_refused_stops_the_start() {
    let server = RedisServer::start_with(&["--requirepass", SECRET]);
    let at = format!("127.0.0.1:{}", server.port());
    let put_in = "put it into the URL: redis://[USER]:PASSWORD@…";
    refused(&format!("redis://{at}"), &[&at, "requires a password (NOAUTH)", put_in]);
    let correct = "correct the user or the password in the URL: redis://[USER]:PASSWORD@…";
    refused(&format!("redis://:QZXQ@{at}"), &[&at, "WRONGPASS", correct]);
    refused(&format!("redis://QZXQ:ZQX@{at}"), &["WRONGPASS"]);
    refused(&format!("redis://{ENCODED}@{at}"), &["WRONGPASS"]);
    found(&format!("redis://:{ENCODED}@{at}")).unwrap();
    found(&format!("redis://default:{SECRET}@{at}")).unwrap();
    let open = RedisServer::start();
    let at = format!("127.0.0.1:{}", open.port());
    refused(&format!("redis://:{ENCODED}@{at}"), &[correct, "or remove both"]);
    refused(&format!("redis://h:{ENCODED}@{at}"), &["WRONGPASS"]);
}

/// Redis repeats the arguments of a command that it does not know.
#[test]
fn a_renamed_command_stops_the_start() {
    let server = RedisServer::start_with(&["--rename-command", "EVALSHA", ""]);
    refused(&server.url(), &["does not know the command EVALSHA", "rename-command"]);
    let server = RedisServer::start_with(&["--rename-command", "SCRIPT", "S"]);
    refused(&server.url(), &["does not know the command SCRIPT LOAD"]);
    let server = RedisServer::start_with(&["--rename-command", "PEXPIRE", ""]);
    refused(&server.url(), &["does not know the command PEXPIRE"]);
    let renamed = ["--rename-command", "AUTH", "", "--rename-command", "HELLO", ""];
    let server = RedisServer::start_with(&renamed);
    refused(&format!("redis://:{ENCODED}@127.0.0.1:{}", server.port()), &["WRONGPASS"]);
}

/// `-@scripting`, and rights to other keys only.
#[test]
fn a_user_without_rights_stops_the_start() {
    let server = RedisServer::start();
    let user = |rights: &[&str]| {
        let mut command = vec!["ACL", "SETUSER", "u", "reset", "on", ">p"];
        command.extend(rights);
        server.command(&command);
        format!("redis://u:p@127.0.0.1:{}", server.port())
    };
    let url = user(&["~*", "&*", "+@all", "-@scripting"]);
    let remedy = "ACL SETUSER u +script|load +evalsha";
    refused(&url, &["does not allow its user SCRIPT LOAD, EVALSHA (NOPERM)", remedy]);
    let url = user(&["~other:*", "&*", "+@all"]);
    refused(&url, &["its keys", "ACL SETUSER u ~tg:*"]);
    let url = user(&["~*", "+@all"]);
    refused(&url, &["its channel", "ACL SETUSER u &tg:*"]);
    let url = user(&["~*", "&*", "+@all", "-select"]);
    refused(&format!("{url}/1"), &["SELECT", "ACL SETUSER u +select"]);
    let url = user(&["~*", "&*", "+@all", "-get", "-hset"]);
    refused(&url, &["GET, HSET", "ACL SETUSER u +get +hset"]);
    assert_eq!(server.command(&["DBSIZE"]), ["0"]);
}

/// C15 and similar cases: each deployment configured as each other.
#[test]
fn another_deployment_stops_the_start() {
    let (single, cluster, sentinels) =
        (RedisServer::start(), RedisCluster::of(3, 0), RedisSentinels::start());
    let at = |port: u16| format!("127.0.0.1:{port}");
    let (plain, node) = (at(single.port()), at(cluster.nodes()[1].port()));
    let sentinel = sentinels.url();
    let sentinel = sentinel.strip_prefix("redis-sentinel://").unwrap().split(',').next().unwrap();
    let to_cluster = format!("use redis-cluster://{node} in place of redis://");
    refused(&format!("redis://{node}"), &["this is a Cluster", &to_cluster]);
    refused(&format!("redis://{node}/3"), &["this is a Cluster", &to_cluster]);
    refused(&format!("redis://:{ENCODED}@{node}"), &["this is a Cluster", &to_cluster]);
    refused(&format!("valkey://{node}"), &["use valkey-cluster://"]);
    let to_single = format!("use redis://{plain} in place of redis-cluster://");
    refused(&format!("redis-cluster://{plain}"), &["cluster-enabled no", &to_single]);
    refused(&format!("redis-sentinel://{plain}/m"), &["not a Sentinel", "26379"]);
    let to_sentinel = format!("use redis-sentinel://{sentinel}/MASTER in place of redis://");
    refused(&format!("redis://{sentinel}"), &["this is a Sentinel", &to_sentinel]);
    refused(&format!("redis://{sentinel}/2"), &["this is a Sentinel"]);
    refused(&format!("redis://:{ENCODED}@{sentinel}"), &["this is a Sentinel"]);
    refused(&format!("redis-cluster://{sentinel}"), &["this is a Sentinel"]);
    let unknown = ["monitors no master called \"none\"", "it knows: main"];
    refused(&format!("redis-sentinel://{sentinel}/none"), &unknown);
    refused(&format!("redis://{plain}/99"), &["has no database 99", "databases"]);
    found(&cluster.url()).unwrap();
    found(&sentinels.url()).unwrap();
    found(&format!("redis://{plain}/3")).unwrap();
}

/// A Sentinel has its own users, and so has the primary that it names.
#[test]
fn sentinels_have_a_login_of_their_own() {
    let sentinels = RedisSentinels::start();
    for sentinel in sentinels.sentinels() {
        sentinel.command(&["ACL", "SETUSER", "s", "on", &format!(">{SECRET}"), "+@all"]);
        sentinel.command(&["ACL", "SETUSER", "default", "off"]);
    }
    let url = sentinels.url();
    refused(&url, &["the Sentinel at", "NOAUTH", "sentinel_password=PASSWORD"]);
    refused(
        &format!("{url}?sentinel_password=QZXQ"),
        &["the Sentinel at", "WRONGPASS", "correct the options sentinel_user"],
    );
    found(&format!("{url}?sentinel_user=s&sentinel_password={ENCODED}")).unwrap();
    sentinels.primary.command(&["CONFIG", "SET", "requirepass", SECRET]);
    let with_sentinels = format!("{url}?sentinel_user=s&sentinel_password={ENCODED}");
    refused(&with_sentinels, &["Redis at", "NOAUTH"]);
    found(&with_sentinels.replace("://", &format!("://:{ENCODED}@"))).unwrap();
}

#[test]
fn a_unix_socket_is_connected_to() {
    let (server, socket) = RedisServer::start_with_socket();
    for scheme in ["unix", "redis+unix", "valkey+unix"] {
        found(&format!("{scheme}://{}?db=3", socket.display())).unwrap();
    }
    server.command(&["CONFIG", "SET", "requirepass", SECRET]);
    refused(&format!("unix://{}", socket.display()), &["server.sock", "NOAUTH"]);
    found(&format!("unix://:{ENCODED}@{}", socket.display())).unwrap();
    let away = found(&format!("unix://{}.none", socket.display()));
    assert!(matches!(away, Err(StartProblem::Unavailable(_))), "{away:?}");
}

/// Problems that may go away do not stop the start: a refused connection, no answer, a replica, a server that is
/// loading.
#[test]
fn a_redis_that_is_away_is_no_wrong_configuration() {
    let server = RedisServer::start();
    let of = format!("127.0.0.1 {}", server.port());
    let replica = RedisServer::start_with(&["--replicaof", &of]);
    let told = found(&replica.url()).unwrap_err();
    assert!(matches!(told, StartProblem::Unavailable(_)), "{told:?}");
    assert!(told.to_string().contains("is a replica"), "{told}");
    let options = RedisOptions::default();
    let store = |url: &str| RedisStore::new(&url.parse().unwrap(), &options).unwrap();
    let silent = store(&server.url());
    server.pause();
    let told = RUNTIME.block_on(silent.check_start()).unwrap_err();
    assert!(matches!(told, StartProblem::Unavailable(_)), "{told:?}");
    server.resume();
    server.kill();
    let told = RUNTIME.block_on(store(&server.url()).check_start()).unwrap_err();
    assert!(matches!(told, StartProblem::Unavailable(_)), "{told:?}");
    let told = found(&format!("redis://:{ENCODED}@no-such-host.invalid")).unwrap_err();
    assert!(matches!(told, StartProblem::Unavailable(_)), "{told:?}");
    assert!(!told.to_string().contains("QZX"), "{told}");
}

/// A Redis that would evict limits in force is reported, whether or not it has a `maxmemory`.
#[test]
fn a_redis_that_evicts_is_named() {
    let server = RedisServer::start();
    let policy_is_named = |policy: &str| {
        server.command(&["CONFIG", "SET", "maxmemory-policy", policy]);
        let warnings = RUNTIME.block_on(store_at(&server.url()).examine()).unwrap();
        warnings.len() == 1 && warnings[0].to_string().contains(policy)
    };
    assert!(policy_is_named("volatile-ttl"));
    server.command(&["CONFIG", "SET", "maxmemory", "100mb"]);
    assert!(policy_is_named("allkeys-lru"));
    assert!(!policy_is_named("noeviction"));
}

/// Whatever slots a node of a Cluster owns, the examination finds a key for one of them (it tries up to a million).
#[test]
fn a_primary_of_few_slots_is_looked_at() {
    let cluster = RedisCluster::of(3, 0);
    let store = store_at(&cluster.url());
    let warnings = RUNTIME.block_on(async {
        tokio::time::timeout(Duration::from_mins(1), store.examine()).await.unwrap()
    });
    assert_eq!(warnings.unwrap(), []);
    for node in cluster.nodes() {
        assert_eq!(node.command(&["DBSIZE"]), ["0"]);
    }
}
