//! `cargo run --release -p tollgate-bench -- BENCHMARK`; [`tollgate_bench::options::USAGE`] lists the benchmarks.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line")]

use std::process::ExitCode;

use tollgate_bench::machine::Machine;
use tollgate_bench::options::{Benchmark, Options, USAGE};
use tollgate_bench::report::Report;
use tollgate_bench::sibling::{self, Sibling};
use tollgate_bench::{
    gateway, grpc, http, keyed, leases, memcached, memory, policies, redis, snapshots, split,
};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let mut report = Report { machine: Machine::here(), sections: Vec::new() };
    if options.runs(Benchmark::Keyed) {
        report.sections.push(keyed::run(&keyed::Plan::full(options.rounds)));
    }
    if options.runs(Benchmark::Memory) {
        let child = Sibling::MEMORY_CHILD.built()?;
        report.sections.push(memory::run(&memory::Plan::full(), &child)?);
    }
    if options.runs(Benchmark::Leases) {
        report.sections.push(leases::run(&leases::Plan::full(options.rounds))?);
    }
    if options.runs(Benchmark::Snapshots) {
        report.sections.push(snapshots::run(&snapshots::Plan::full(options.rounds))?);
    }
    if options.runs(Benchmark::Policies) {
        report.sections.push(policies::run(&policies::Plan::full(options.rounds))?);
    }
    if options.runs(Benchmark::Http) {
        let (tollgate, bare) = (Sibling::TOLLGATE.built()?, Sibling::BARE_SERVER.built()?);
        report.sections.push(http::run(&http::Plan::full(options.rounds), &tollgate, &bare)?);
    }
    if options.runs(Benchmark::Grpc) {
        let (tollgate, bare) = (Sibling::TOLLGATE.built()?, Sibling::BARE_GRPC.built()?);
        report.sections.push(grpc::run(&http::Plan::full(options.rounds), &tollgate, &bare)?);
    }
    if options.runs(Benchmark::Redis) {
        report.sections.push(redis::run(&redis::Plan::full(options.rounds))?);
    }
    if options.runs(Benchmark::Memcached) {
        report.sections.push(memcached::run(&memcached::Plan::full(options.rounds))?);
    }
    if options.runs(Benchmark::Split) {
        report.sections.push(split::run(&split::Plan::full(options.rounds))?);
    }
    if options.runs(Benchmark::HttpRedis) {
        let (tollgate, bare) = (Sibling::TOLLGATE.built()?, Sibling::BARE_SERVER.built()?);
        let plan = http::Plan::full(options.rounds);
        report.sections.push(http::over_redis::run(&plan, &tollgate, &bare)?);
    }
    if options.runs(Benchmark::HttpCatalog) {
        let tollgate = Sibling::TOLLGATE.built()?;
        let plan = http::Plan::full(options.rounds);
        report.sections.push(http::over_catalog::run(&plan, &tollgate)?);
    }
    if options.runs(Benchmark::Telemetry) {
        let tollgate = Sibling::TOLLGATE.built()?;
        let (plan, before) = (http::Plan::full(options.rounds), options.before.as_deref());
        report.sections.push(http::telemetry::run(&plan, &tollgate, before)?);
    }
    if options.runs(Benchmark::Outage) {
        let tollgate = Sibling::TOLLGATE.built()?;
        let plan = http::outage::Plan::lasting(options.seconds);
        report.sections.push(http::outage::run(&plan, &tollgate)?);
    }
    if options.runs(Benchmark::Gateway) {
        let programs = gateway::Programs {
            tollgate: Sibling::TOLLGATE.built()?,
            proxy: Sibling::BARE_PROXY.built()?,
            model: Sibling::MOCK_MODEL.built()?,
        };
        report.sections.push(gateway::run(&gateway::Plan::full(options.rounds), &programs)?);
    }
    let mut peers = None;
    if options.runs(Benchmark::GatewayPeers) {
        let programs = gateway::Programs {
            tollgate: Sibling::TOLLGATE.built()?,
            proxy: Sibling::BARE_PROXY.built()?,
            model: Sibling::MOCK_MODEL.built()?,
        };
        let installed = options.peers.clone().map_or_else(sibling::target_directory, Ok)?;
        let plan = gateway::Plan::peers(options.rounds);
        let outcome = gateway::peers::run(&plan, &programs, &installed)?;
        peers = Some(outcome.to_markdown());
        report.sections.push(outcome.section);
    }
    println!("{}", report.to_markdown());
    if let Some(peers) = peers {
        println!("{peers}");
    }
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        std::fs::write(path, json).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}
