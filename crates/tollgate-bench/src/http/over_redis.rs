//! How much does the server cost over Redis, compared with the simplest one that could replace it?
//!
//! `tollgate serve` with its usage in Redis is compared with an axum handler that runs the usual sorted-set script
//! through redis-rs and answers a fixed JSON of the same size. The server and Redis share one core, the load generator
//! has another. First 50 connections send requests as fast as they are answered: the peak. Then as many send 80 % of
//! that rate, by a schedule that does not wait for answers, and the latencies count from when a request was due. Last,
//! one connection sends batches of 1,000 checks of random users, one after the other.

use std::path::Path;

use super::load::{self, Load};
use super::server::Server;
use super::{BARE, Plan, TOLLGATE};
use crate::cores::{CORE_OF_LOAD, CORE_OF_SERVERS, Pinned};
use crate::redis::server::Server as Redis;
use crate::report::{Bound, Goal, Measurements, Section};
use crate::stopwatch::to_f64;

const PER_SECOND: &str = "requests per second, as fast as it goes";
const P99: &str = "99th percentile at 80 % of that, ms";
const BATCH_MS: &str = "a batch of 1,000 checks, ms";
/// The batches of one round.
const BATCHES: usize = 41;
/// The fraction of its peak at which a server's latency is measured.
const PART_OF_PEAK: f64 = 0.8;
const CONNECTIONS: u32 = 50;

/// Measures both servers, the programs `tollgate` and `bare`, by `plan`, with 50 connections.
pub fn run(plan: &Plan, tollgate: &Path, bare: &Path) -> Result<Section, String> {
    let redis = Redis::start()?;
    let _pinned = Pinned::all_threads_of(redis.pid(), CORE_OF_SERVERS)?;
    let _load = Pinned::all_threads_of(std::process::id(), CORE_OF_LOAD)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the load generator's runtime: {error}"))?;
    let url = format!("redis://127.0.0.1:{}", redis.port());
    let serve = ["serve", "--http", "127.0.0.1:0", "--store", &url];
    let tollgate = Server::start_on_core(TOLLGATE, CORE_OF_SERVERS, tollgate, &serve, &[])?;
    let body = runtime.block_on(load::ask_once(tollgate.address()))?;
    let bare = Server::start_on_core(BARE, CORE_OF_SERVERS, bare, &[&body, &url], &[])?;
    let mut measured = Measurements::in_unit("median");
    for round in 0..plan.rounds {
        super::progress(round, plan.rounds);
        for server in [&bare, &tollgate] {
            let seed = u64::from(round) * 2;
            let peak = runtime.block_on(measure(plan, server, seed, None))?;
            let rate = to_f64(peak.requests) / peak.elapsed.as_secs_f64();
            measured.add(PER_SECOND, server.name(), rate);
            // At least one a second: on a busy machine a short round may end before the first answer.
            let pace = Some((rate * PART_OF_PEAK).max(1.0));
            let paced = runtime.block_on(measure(plan, server, seed + 1, pace))?;
            measured.add(P99, server.name(), paced.latency_us(99) / 1e3);
        }
        let batches = runtime.block_on(load::ask_batches(tollgate.address(), BATCHES))?;
        measured.add(BATCH_MS, TOLLGATE, batches.latency_us(50) / 1e3);
    }
    Ok(Section {
        title: format!("http-redis: the same over Redis, {CONNECTIONS} connections, one core"),
        measurements: measured,
        goals: vec![
            Goal {
                question: PER_SECOND,
                contender: TOLLGATE,
                bound: Bound::AtLeastRatio { ratio: 0.9, of: BARE },
            },
            Goal { question: P99, contender: TOLLGATE, bound: Bound::AtMost(5.0) },
            Goal { question: BATCH_MS, contender: TOLLGATE, bound: Bound::AtMost(10.0) },
        ],
    })
}

async fn measure(
    plan: &Plan,
    server: &Server,
    seed: u64,
    pace: Option<f64>,
) -> Result<load::Outcome, String> {
    let mut load = Load::start_paced(server.address(), CONNECTIONS, seed, pace).await?;
    tokio::time::sleep(plan.warm_up).await;
    load.begin_measuring();
    tokio::time::sleep(plan.measured).await;
    load.finish().await
}
