//! How much does Envoy's call cost, compared with the simplest handler that could answer it?
//!
//! `tollgate serve --grpc`, in memory and with the default policy, and `tollgate-bench-bare-grpc`, a handler in tonic's own server that
//! decodes the same request and answers a fixed message as long as Tollgate's, run as separate processes on 127.0.0.1. One load
//! generator calls both in turn, over the same number of HTTP/2 connections with as many calls in flight on each. Users are drawn at
//! random from so many that every call is admitted.
//!
//! The goal is in *CPU time of the server per call*, with all its threads, in user and kernel mode.

mod load;

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use crate::http::Plan;
use crate::http::server::Server;
use crate::report::{Bound, Goal, Measurements, Section};
use crate::stopwatch::to_f64;
use load::Load;

const TOLLGATE: &str = "tollgate serve --grpc";
const BARE: &str = "bare tonic";

const CPU_PER_CALL: &str = "CPU time per call, µs";
const PER_SECOND: &str = "calls per second";

/// Calls in flight on each connection.
const IN_FLIGHT: u32 = 8;

/// Measures both servers, the programs `tollgate` and `bare`, by `plan`.
pub fn run(plan: &Plan, tollgate: &Path, bare: &Path) -> Result<Section, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the load generator's runtime: {error}"))?;
    let address = free_address()?;
    let arguments = ["serve", "--http", "127.0.0.1:0", "--grpc", &address.to_string()];
    let tollgate = Server::start(TOLLGATE, tollgate, &arguments)?;
    let answer = runtime.block_on(load::ask_once(address))?;
    let mut hex = String::with_capacity(2 * answer.len());
    for byte in &answer {
        // Writing to a `String` cannot fail.
        _ = write!(hex, "{byte:02x}");
    }
    let bare = Server::start(BARE, bare, &[&hex])?;
    let connections = (plan.connections / IN_FLIGHT).max(1);
    let mut measured = Measurements::in_unit("median");
    for round in 0..plan.rounds {
        progress(round, plan.rounds);
        for (server, address) in [(&bare, bare.address()), (&tollgate, address)] {
            let load = Load::start(address, connections, IN_FLIGHT, u64::from(round));
            let measure = measure(plan, server, load);
            let (calls, elapsed, cpu) = runtime.block_on(measure)?;
            let calls = to_f64(calls);
            measured.add(CPU_PER_CALL, server.name(), cpu.as_secs_f64() * 1e6 / calls);
            measured.add(PER_SECOND, server.name(), calls / elapsed.as_secs_f64());
        }
    }
    Ok(Section {
        title: format!(
            "grpc: ShouldRateLimit, {connections} connections with {IN_FLIGHT} calls in flight each, answers of {} bytes",
            answer.len()
        ),
        measurements: measured,
        goals: vec![Goal {
            question: CPU_PER_CALL,
            contender: TOLLGATE,
            bound: Bound::AtMostRatio { ratio: 1.15, of: BARE },
        }],
    })
}

/// The number of calls, how long they took, and the CPU time of the server.
async fn measure(
    plan: &Plan,
    server: &Server,
    load: impl Future<Output = Result<Load, String>>,
) -> Result<(u64, Duration, Duration), String> {
    let mut load = load.await?;
    tokio::time::sleep(plan.warm_up).await;
    load.begin_measuring();
    let cpu_before = server.cpu_time()?;
    tokio::time::sleep(plan.measured).await;
    let cpu = server.cpu_time()?.saturating_sub(cpu_before);
    let (calls, elapsed) = load.finish().await?;
    Ok((calls, elapsed, cpu))
}

/// An address of this machine that nobody uses.
fn free_address() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map_err(|error| format!("no port is free: {error}"))
}

#[expect(clippy::print_stderr, reason = "a benchmark of minutes says that it is alive")]
fn progress(round: u32, rounds: u32) {
    eprintln!("grpc: round {} of {rounds}", round + 1);
}
