//! How much CPU time does telemetry add to a check?
//!
//! Instances of `tollgate serve` in turn, in memory and with the load of [`super`]: without telemetry, and with traces of a tenth and
//! of all requests and with metrics, which a collector in this process reads and accepts. With a program that was built before
//! telemetry, that one too, which shows what the code costs while telemetry is off.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use super::load::Load;
use super::server::Server;
use super::{Plan, measure_load, progress};
use crate::report::{Bound, Goal, Measurements, Section};
use crate::stopwatch::to_f64;

const BEFORE: &str = "before telemetry";
const OFF: &str = "off";
const TENTH: &str = "10 % of the requests";
const ALL: &str = "all requests";

const CPU_PER_CHECK: &str = "CPU time per check, µs";

/// Measures the program `tollgate` by `plan`, and `before`, if it is given.
pub fn run(plan: &Plan, tollgate: &Path, before: Option<&Path>) -> Result<Section, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the load generator's runtime: {error}"))?;
    let endpoint = collector().map_err(|error| format!("the collector: {error}"))?;
    let serve = ["serve", "--http", "127.0.0.1:0"];
    let mut servers = Vec::new();
    if let Some(before) = before {
        servers.push(Server::start(BEFORE, before, &serve)?);
    }
    servers.push(Server::start(OFF, tollgate, &serve)?);
    for (name, part) in [(TENTH, "0.1"), (ALL, "1")] {
        let on = ["--otlp-endpoint", &endpoint, "--otlp-sample", part];
        servers.push(Server::start(name, tollgate, &[&serve[..], &on].concat())?);
    }
    let mut measured = Measurements::in_unit("median");
    for round in 0..plan.rounds {
        progress(round, plan.rounds);
        for server in &servers {
            let load = Load::start(server.address(), plan.connections, u64::from(round));
            let of = runtime.block_on(async { measure_load(plan, server, load.await?).await })?;
            let us = of.cpu.as_secs_f64() * 1e6 / to_f64(of.outcome.requests);
            measured.add(CPU_PER_CHECK, server.name(), us);
        }
    }
    let goal = |contender, ratio, of| Goal {
        question: CPU_PER_CHECK,
        contender,
        bound: Bound::AtMostRatio { ratio, of },
    };
    let mut goals = vec![goal(TENTH, 1.05, OFF)];
    if before.is_some() {
        goals.push(goal(OFF, 1.01, BEFORE));
    }
    let title = format!("telemetry: POST /rate-limit/check over {} connections", plan.connections);
    Ok(Section { title, measurements: measured, goals })
}

/// The address of a collector that reads everything and accepts it, for as long as this process runs.
fn collector() -> std::io::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // An error means that the server has ended.
            thread::spawn(move || _ = accept(stream));
        }
    });
    Ok(endpoint)
}

fn accept(stream: TcpStream) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    let mut length = 0;
    while reader.read_line(&mut line)? > 0 {
        let field = line.trim_end().to_ascii_lowercase();
        if let Some(value) = field.strip_prefix("content-length: ") {
            length = value.parse().map_err(std::io::Error::other)?;
        }
        if field.is_empty() {
            std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
            writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
        }
        line.clear();
    }
    Ok(())
}
