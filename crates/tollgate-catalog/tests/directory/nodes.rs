//! Several nodes on one database, and how they handle invalid data in it (P11).

use std::time::Duration;

use tollgate_catalog::directory::Kind;
use tollgate_catalog::{Asked, Snapshot};
use tollgate_testkit::postgres::PostgresServer;

use crate::common::{DEADLINE, Database, Databases, Node, Told};

const POLICY: &str = r#"{"id":"p","scope":"USER","limit":10,"windowSeconds":60}"#;
const RECORDS: [(Kind, &str); 4] = [
    (Kind::Tier, r#"{"id":"gold"}"#),
    (Kind::Tenant, r#"{"id":"a"}"#),
    (Kind::User, r#"{"id":"u","tenantId":"a"}"#),
    (Kind::Policy, POLICY),
];

/// The limit of the policy `p`.
fn limit_of_p(snapshot: &Snapshot) -> u64 {
    let policies = snapshot.policies().policies().iter();
    let mut found = policies.filter(|policy| policy.id.as_str() == "p");
    found.next().unwrap().limit.unwrap().get()
}

/// Asserts that a change of users and of policies on one node reaches another, which has cached the old ones.
async fn assert_converges(one: &Node, other: &Node) {
    one.create_all(&RECORDS).await;
    let told = async |version| {
        while other.version() != version {
            assert!(matches!(other.next_told().await, Told::Published(_)));
        }
    };
    told(one.version()).await;
    let user = Asked { user: Some("u"), ..Asked::default() };
    let resolved = async |tier: &str| {
        while other.resolve(user).await.tier.as_str() != tier {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, resolved("default")).await.unwrap();
    one.patch(Kind::User, "u", r#"{"tier":"gold"}"#).await;
    tokio::time::timeout(DEADLINE, resolved("gold")).await.expect("the user's tier arrives");
    one.patch(Kind::Policy, "p", r#"{"limit":20}"#).await;
    told(one.version()).await;
    let snapshot = other.catalog.reader().snapshot();
    assert_eq!(limit_of_p(&snapshot), 20);
}

pub(crate) async fn other_nodes_converge_by_polling_alone(database: Database) {
    let one = database.open().await;
    let other = database.open_with(|options| options.poll_every = Duration::from_millis(20)).await;
    assert_converges(&one, &other).await;
}

#[tokio::test]
async fn other_nodes_converge_by_notification_alone() {
    let database = Databases::postgresql().new_database();
    let one = database.open().await;
    let other = database.open_with(|options| options.notifications = true).await;
    wait_for_listeners(&database, 1).await;
    assert_converges(&one, &other).await;
}

/// The connection that listens is cut: it is made again, and missed changes are found.
#[tokio::test]
async fn a_listener_that_is_cut_off_listens_again() {
    let database = Databases::postgresql().new_database();
    let one = database.open().await;
    let other = database
        .open_with(|options| {
            options.notifications = true;
            options.retry_every = Duration::from_millis(20);
        })
        .await;
    wait_for_listeners(&database, 1).await;
    let server: &PostgresServer = database.server.as_ref().unwrap();
    server.sql(
        &database.url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'",
    );
    wait_for_listeners(&database, 1).await;
    assert_converges(&one, &other).await;
}

async fn wait_for_listeners(database: &Database, count: u32) {
    let server = database.server.as_ref().unwrap();
    let listening = async {
        let count_them =
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND state = 'idle'";
        while server.sql(&database.url, count_them) != count.to_string() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, listening).await.expect("the other node listens");
}

/// Another program writes invalid rows directly: they are refused and reported once, with every problem; valid data
/// stays in force.
pub(crate) async fn an_invalid_content_is_refused_and_the_valid_one_stays(database: Database) {
    let writer = database.open().await;
    let node = database.open_with(|options| options.poll_every = Duration::from_millis(20)).await;
    writer.create(Kind::Policy, POLICY).await;
    assert_eq!(node.next_told().await, Told::Published(2));

    let mut raised = 2;
    let mut write = async |document: &str| {
        raised += 1;
        let write = format!("UPDATE policies SET document = '{document}' WHERE id = 'p'");
        let raise =
            format!("UPDATE catalog_state SET version = {raised}, snapshot_version = {raised}");
        // Both in one transaction, so that no reader sees only one of them.
        database.sql(&format!("BEGIN; {write}; {raise}; COMMIT")).await;
        raised
    };
    write(r#"{"id":"p","scope":"USR","limit":-1,"windowSeconds":60}"#).await;
    let Told::Refused(why) = node.next_told().await else { panic!("no refusal") };
    assert!(why.contains("policies[\"p\"].scope: \"USR\" is not a scope"), "{why}");
    assert!(why.contains("policies[\"p\"].limit: -1 is negative"), "{why}");
    assert_eq!(node.version(), 2);
    assert_eq!(limit_of_p(&node.catalog.reader().snapshot()), 10);
    write("{").await;
    assert!(matches!(node.next_told().await, Told::Refused(_)));
    let version = write(r#"{"id":"p","scope":"USER","limit":30,"windowSeconds":60}"#).await;
    assert_eq!(node.next_told().await, Told::Published(version));
    assert_eq!(limit_of_p(&node.catalog.reader().snapshot()), 30);
}
