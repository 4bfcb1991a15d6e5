//! How much does a check cost if the catalog knows its user, and if there are a thousand policies?
//!
//! Three instances of `tollgate serve` in turn, each with its own catalog in SQLite: an empty one; 10,000 users of 100
//! tenants, all cached, so that no check waits for the database; and the same with a thousand more policies, each for a
//! different service and tier, beside the policy that all checks meet. The load is that of [`super`], over those 10,000
//! users.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use super::load::{self, Load};
use super::server::Server;
use super::{PER_CPU_SECOND, Plan};
use crate::report::{Bound, Goal, Measurements, Section};
use crate::stopwatch::to_f64;

const EMPTY: &str = "nobody known, 1 policy";
const KNOWN: &str = "users known, 1 policy";
const MANY: &str = "users known, 1,000 policies";

const USERS: u64 = 10_000;
const TENANTS: u64 = 100;
const POLICIES: u64 = 1_000;
const TOKEN: &str = "a token for a benchmark";

/// Measures the program `tollgate` by `plan`.
pub fn run(plan: &Plan, tollgate: &Path) -> Result<Section, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the load generator's runtime: {error}"))?;
    let catalogs = [(EMPTY, 0, 1), (KNOWN, USERS, 1), (MANY, USERS, POLICIES)];
    let mut servers = Vec::new();
    for (name, users, policies) in catalogs {
        let server = Server::start_with(
            name,
            tollgate,
            &["serve", "--http", "127.0.0.1:0"],
            &[("TOLLGATE_ADMIN_TOKEN", TOKEN)],
        )?;
        import(server.address(), &catalog(users, policies))?;
        servers.push(server);
    }
    let mut measured = Measurements::in_unit("median");
    for round in 0..plan.rounds {
        super::progress(round, plan.rounds);
        for server in &servers {
            let rate = runtime.block_on(measure(plan, server, u64::from(round)))?;
            measured.add(PER_CPU_SECOND, server.name(), rate);
        }
    }
    let goal = |contender, ratio, of| Goal {
        question: PER_CPU_SECOND,
        contender,
        bound: Bound::AtLeastRatio { ratio, of },
    };
    Ok(Section {
        title: format!("http-catalog: {USERS} users of SQLite, {} connections", plan.connections),
        measurements: measured,
        goals: vec![goal(KNOWN, 0.9, EMPTY), goal(MANY, 0.5, KNOWN)],
    })
}

async fn measure(plan: &Plan, server: &Server, seed: u64) -> Result<f64, String> {
    let mut load = Load::start_among(server.address(), plan.connections, seed, USERS).await?;
    tokio::time::sleep(plan.warm_up).await;
    load.begin_measuring();
    let cpu_before = server.cpu_time()?;
    tokio::time::sleep(plan.measured).await;
    let cpu = server.cpu_time()?.saturating_sub(cpu_before);
    Ok(to_f64(load.finish().await?.requests) / cpu.as_secs_f64())
}

/// A catalog as a policy file; the first policy is the one that every check of the load meets.
fn catalog(users: u64, policies: u64) -> String {
    let mut text = String::from(r#"{"tenants":["#);
    let tenants = if users == 0 { 0 } else { TENANTS };
    // Writing to a `String` cannot fail.
    for tenant in 0..tenants {
        let comma = if tenant == 0 { "" } else { "," };
        _ = write!(text, r#"{comma}{{"id":"tenant-{tenant}"}}"#);
    }
    text.push_str(r#"],"users":["#);
    for user in 0..users {
        let comma = if user == 0 { "" } else { "," };
        let (user, tenant) = (load::user_id(user), user % TENANTS);
        _ = write!(text, r#"{comma}{{"id":"{user}","tenantId":"tenant-{tenant}"}}"#);
    }
    text.push_str(
        r#"],"policies":[{"id":"all","scope":"USER_MODEL","limit":1000000000,"windowSeconds":60}"#,
    );
    for policy in 1..policies {
        _ = write!(
            text,
            r#",{{"id":"p-{policy}","scope":"USER_MODEL","match":{{"service":"s-{policy}","tier":"t-{policy}"}},"limit":10,"windowSeconds":60}}"#
        );
    }
    text.push_str("]}");
    text
}

/// Imports `catalog` into the catalog of the server at `address`.
fn import(address: SocketAddr, catalog: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{address}: {error}");
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    let head = format!(
        "POST /admin/import HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        catalog.len()
    );
    stream.write_all(head.as_bytes()).map_err(failed)?;
    stream.write_all(catalog.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    if answer.starts_with("HTTP/1.1 200 ") { Ok(()) } else { Err(format!("{address}: {answer}")) }
}
