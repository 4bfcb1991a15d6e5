//! One round of measurements of one path to the model.

use std::time::Duration;

use super::Plan;
use super::load::{Load, Outcome, Work};
use super::servers::Contender;
use crate::http::server::Server;
use crate::stopwatch::to_f64;

/// The connections that ask as fast as they can.
const BUSY: u32 = 16;
/// The connections at a fixed rate.
const PACED: u32 = 32;
/// A rate is measured if it is at most this share of what the contender answers at most.
const SHARE_OF_MOST: f64 = 0.8;

/// What was measured in a round.
pub(super) struct Figures {
    pub(super) per_second: f64,
    /// `None` for the model itself, which has no core of its own; so are all figures of the server.
    pub(super) cpu_per_request_us: Option<f64>,
    pub(super) cpu_per_chunk_us: Option<f64>,
    pub(super) paced: Vec<Paced>,
    pub(super) open: Vec<Open>,
}

/// Latencies at a fixed rate.
pub(super) struct Paced {
    /// Requests a second.
    pub(super) rate: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

/// Open streams.
pub(super) struct Open {
    pub(super) streams: u32,
    /// The median until the first byte of a body.
    pub(super) first_byte_ms: f64,
    pub(super) memory_mb: Option<f64>,
}

/// All measurements of one round. Rates that are too high for the contender are left out if `skips`.
pub(super) async fn measure(
    plan: &Plan,
    contender: &Contender<'_>,
    skips: bool,
) -> Result<Figures, String> {
    let per_request = |cpu: Duration, count: u64| cpu.as_secs_f64() * 1e6 / to_f64(count);
    let (answers, cpu) = measure_load(plan, contender, BUSY, None, Work::WHOLE).await?;
    let per_second = to_f64(answers.requests()) / answers.elapsed.as_secs_f64();
    let cpu_per_request_us = cpu.map(|cpu| per_request(cpu, answers.requests()));
    let (streams, cpu) = measure_load(plan, contender, BUSY, None, Work::LONG_STREAM).await?;
    let cpu_per_chunk_us = cpu.map(|cpu| per_request(cpu, streams.events));
    let mut paced = Vec::new();
    for &rate in plan.rates {
        if skips && rate > per_second * SHARE_OF_MOST {
            continue;
        }
        let (answers, _) = measure_load(plan, contender, PACED, Some(rate), Work::WHOLE).await?;
        let (p50_ms, p99_ms) = (answers.latency_ms(50), answers.latency_ms(99));
        paced.push(Paced { rate, p50_ms, p99_ms });
    }
    let mut open = Vec::new();
    for streams in plan.streams {
        open.push(measure_open(plan, contender, streams).await?);
    }
    Ok(Figures { per_second, cpu_per_request_us, cpu_per_chunk_us, paced, open })
}

/// Keeps `streams` open, and measures beside them.
pub(super) async fn measure_open(
    plan: &Plan,
    contender: &Contender<'_>,
    streams: u32,
) -> Result<Open, String> {
    let mut load = Load::start(contender.target, streams, None, Work::SLOW_STREAM).await?;
    tokio::time::sleep(plan.warm_up).await;
    load.begin_measuring();
    tokio::time::sleep(plan.measured).await;
    let memory_mb = contender.server.map(Server::resident_mb).transpose()?;
    let first_byte_ms = load.finish().await?.first_byte_ms(50);
    Ok(Open { streams, first_byte_ms, memory_mb })
}

/// The answers, and the CPU time of the server.
async fn measure_load(
    plan: &Plan,
    contender: &Contender<'_>,
    connections: u32,
    per_second: Option<f64>,
    work: Work,
) -> Result<(Outcome, Option<Duration>), String> {
    let mut load = Load::start(contender.target, connections, per_second, work).await?;
    tokio::time::sleep(plan.warm_up).await;
    load.begin_measuring();
    let before = contender.server.map(Server::cpu_time).transpose()?;
    tokio::time::sleep(plan.measured).await;
    let after = contender.server.map(Server::cpu_time).transpose()?;
    let outcome = load.finish().await?;
    let cpu = after.zip(before).map(|(after, before)| after.saturating_sub(before));
    Ok((outcome, cpu))
}
