//! `make soak`: hours of checks over a real Redis through release servers, with a fault every minute; then a verdict.
//!
//! Two nodes share one Redis and deny every check that it does not decide (`--on-store-error deny`), so that every
//! limit must hold exactly, whatever the fault. The judge uses only what the clients recorded; the memory and file
//! descriptors are those that the kernel reports, and the keys those in Redis. The exit code is 1 if a line of the
//! verdict fails.
//!
//! `SOAK_SECONDS` (3600), `SOAK_FAULT_SECONDS` (60) and `SOAK_CHECKS_PER_SECOND` (300) change the plan.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command whose output is its purpose"
)]

mod faults;
mod judge;
mod keys;
mod limits;
mod load;
mod node;
mod plan;
mod resources;

use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use faults::Store;
use judge::Finding;
use keys::Keys;
use limits::LONGEST_WINDOW;
use node::Node;
use plan::Plan;
use resources::{ResourceSampler, Sample};

const NODES: usize = 2;
/// How long a node may take to reach its store.
const START: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// After two of the longest windows and a second, no key is left (P8); Redis removes expired keys within another.
const DRAIN: Duration = Duration::from_secs(2 * LONGEST_WINDOW.as_secs() + 3);

fn main() -> ExitCode {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let verdict = runtime
        .map_err(|error| format!("the runtime: {error}"))
        .and_then(|runtime| runtime.block_on(soak()));
    match verdict {
        Ok(findings) => show(&findings),
        Err(problem) => {
            eprintln!("soak: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn soak() -> Result<Vec<Finding>, String> {
    let plan = Plan::from_environment()?;
    let mut store = Store::start();
    let nodes =
        (0..NODES).map(|_| Node::start(&store.proxy.url())).collect::<Result<Vec<_>, String>>()?;
    for node in &nodes {
        until_ready(node).await?;
    }
    let pids: Vec<_> = nodes.iter().map(Node::pid).collect();
    let idle = resources::sample(&pids, Duration::ZERO).ok_or("a node has ended")?;
    println!(
        "soak: {} checks/s for {} s, a fault every {} s",
        plan.checks_per_second,
        plan.load.as_secs(),
        plan.fault_every.as_secs()
    );

    let start = Instant::now();
    let watch = ResourceSampler::start(pids.clone(), start);
    let mut keys: Vec<(Duration, Keys)> = Vec::new();
    let mut unseen = Vec::new();
    let note_keys = |server: &_, fault: faults::Fault| {
        println!("{:>6} s  {}", start.elapsed().as_secs(), fault.name());
        match keys::look(server) {
            Ok(seen) => keys.push((start.elapsed(), seen)),
            Err(problem) => unseen.push(format!("after {}: {problem}", fault.name())),
        }
    };
    let (records, periods) = tokio::join!(
        load::run(plan, &nodes, start),
        faults::run(plan, &mut store, &nodes, start, note_keys)
    );
    let samples = watch.end()?;
    sleep(DRAIN).await;
    let left = keys::look(&store.server)?;
    let rested = resources::sample(&pids, start.elapsed()).ok_or("a node has ended")?;

    let mut findings = judge::limits(&records, &periods, start);
    findings.extend(judge::answers(&records, &periods, start, &samples, plan.load, NODES));
    findings.extend(held(&samples, idle, rested, plan.load));
    findings.extend(kept(&keys, &unseen, &left, plan.load));
    findings.push(faults_made(&periods));
    findings.push(panics(&nodes));
    Ok(findings)
}

async fn until_ready(node: &Node) -> Result<(), String> {
    let start = Instant::now();
    while start.elapsed() < START {
        let (_, said) = load::get(node.address, "/readyz").await?;
        if said.contains(r#""status":"ready""#) {
            return Ok(());
        }
        sleep(LOOK_EVERY).await;
    }
    Err(format!("a node did not reach its store within {START:?}"))
}

fn held(samples: &[Sample], idle: Sample, rested: Sample, end: Duration) -> Vec<Finding> {
    let of = |value: fn(&Sample) -> u64| -> Vec<_> {
        samples.iter().map(|sample| (sample.at, value(sample))).collect()
    };
    // Connections from a node to Redis in addition to those that it had at first.
    let most_open = idle.descriptors + 4;
    vec![
        judge::flat("memory of a node", "KiB", &of(|one| one.resident_kib), 8 * 1_024, end),
        judge::flat("descriptors of a node", "open", &of(|one| one.descriptors), 8, end),
        Finding::judged(
            "descriptors of a node when all clients have gone",
            format!("{} → {}", idle.descriptors, rested.descriptors),
            format!("≤ {most_open}"),
            rested.descriptors <= most_open,
        ),
    ]
}

fn kept(keys: &[(Duration, Keys)], unseen: &[String], left: &Keys, end: Duration) -> Vec<Finding> {
    let of = |value: fn(&Keys) -> u64| -> Vec<_> {
        keys.iter().map(|(at, keys)| (*at, value(keys))).collect()
    };
    let immortal: Vec<_> = keys.iter().flat_map(|(_, keys)| &keys.immortal).collect();
    let first = immortal.first().map(|key| format!(" ({key})")).unwrap_or_default();
    vec![
        judge::flat("keys in Redis", "keys", &of(|one| one.count), 100, end),
        judge::flat("memory of Redis", "bytes", &of(|one| one.memory_bytes), 1 << 20, end),
        Finding::judged(
            format!("P8: keys without a life of at most {} s", 2 * LONGEST_WINDOW.as_secs() + 1),
            format!("{} in {} looks{first}", immortal.len(), keys.len()),
            "0",
            immortal.is_empty() && !keys.is_empty(),
        ),
        Finding::judged(
            "looks at the keys that failed",
            unseen.join("; "),
            "none",
            unseen.is_empty(),
        ),
        Finding::judged(
            format!("keys left {} s after the last check", DRAIN.as_secs()),
            left.count.to_string(),
            "0",
            left.count == 0,
        ),
    ]
}

fn faults_made(periods: &[faults::Period]) -> Finding {
    let kinds = faults::Fault::ALL
        .iter()
        .filter(|kind| periods.iter().any(|period| period.fault == **kind))
        .count();
    let found = format!("{} of {kinds} kinds", periods.len());
    Finding::judged("faults made", found, "1 or more", !periods.is_empty())
}

fn panics(nodes: &[Node]) -> Finding {
    let said: Vec<_> = nodes.iter().flat_map(|node| node.logged("panicked")).collect();
    let first = said.first().map(|line| format!(": {line}")).unwrap_or_default();
    Finding::judged("panics in the logs", format!("{}{first}", said.len()), "0", said.is_empty())
}

fn show(findings: &[Finding]) -> ExitCode {
    let width = |text: fn(&Finding) -> &str| {
        findings.iter().map(|one| text(one).chars().count()).max().unwrap_or_default().min(60)
    };
    let (question, found) = (width(|one| &one.question), width(|one| &one.found));
    println!();
    for finding in findings {
        let verdict = match finding.passed {
            Some(true) => "ok  ",
            Some(false) => "FAIL",
            None => "    ",
        };
        println!(
            "{verdict}  {:question$}  {:found$}  {}",
            finding.question, finding.found, finding.accepted
        );
    }
    let failed = findings.iter().filter(|finding| finding.passed == Some(false)).count();
    println!();
    if failed == 0 {
        println!("soak passed");
        ExitCode::SUCCESS
    } else {
        println!("soak FAILED: {failed} lines");
        ExitCode::FAILURE
    }
}
