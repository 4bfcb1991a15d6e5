//! How much does an exact limit cost in Redis, compared with the usual sorted set?
//!
//! - *Redis time* of an admitted check, as Redis itself counts it (`INFO commandstats`), with 100 and with 100,000
//!   admissions in one log.
//! - *Memory* of a key (`MEMORY USAGE`) with 100, 1,000 and 100,000 admissions.
//! - *Checks a second* through the library, compared with the bare script sent by a plain client, 16 at a time.
//! - *Redis time of each operation* on a log of costs above 1, with 100 and with 100,000 admissions in it
//!   (`operations`): one at a time and 64 at once, a change, and denials.
//!
//! - *Redis time of a lease* compared with an admission (`leases`).
//!
//! All contenders use the same server, in turns; in between, it is emptied.

mod leases;
mod operations;
pub(crate) mod server;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tollgate_core::{Amount, Charge, Limit, Per, Policy, PolicyId, Subject, Window};
use tollgate_redis::{RedisOptions, RedisStore};
use tollgate_store::Store;

use crate::report::{Bound, Goal, Measurements, Section};
use crate::stopwatch::to_f64;
use server::{Client, Server, write_command};

const BARE: &str = "bare sorted set";
const OURS: &str = "tollgate";
const BARE_SCRIPT: &str = include_str!("bare.lua");
const WINDOW: Duration = Duration::from_hours(1);
/// How many requests the plain client sends at once, as in `redis-benchmark -P 16`.
const PIPELINE: usize = 16;
/// How many checks the library has in flight at a time, over its one connection.
const UNDER_WAY: usize = 64;

const TIME_100: &str = "Redis µs an admission, 100 in a log";
const TIME_100_000: &str = "Redis µs an admission, 100,000 in a log";
const GROWTH: &str = "the same, 100,000 over 100";
const BYTES_100: &str = "bytes of a key, 100 admissions";
const BYTES_1_000: &str = "bytes of a key, 1,000 admissions";
const BYTES_100_000: &str = "bytes of a key, 100,000 admissions";
const RATE: &str = "1,000 checks a second";

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    rounds: u32,
    /// Keys that get 100 admissions each.
    keys: u64,
    /// Admissions of the longest log.
    longest: u64,
}

impl Plan {
    /// The figures of `docs/BENCHMARKS.md`.
    pub fn full(rounds: u32) -> Self {
        Self { rounds, keys: 1_000, longest: 100_000 }
    }

    /// Just enough to run every line.
    pub fn smoke() -> Self {
        Self { rounds: 1, keys: 2, longest: 400 }
    }
}

/// One contender on one server.
struct Bench {
    port: u16,
    client: Client,
    runtime: tokio::runtime::Runtime,
    store: RedisStore,
}

/// Runs the benchmark.
pub fn run(plan: &Plan) -> Result<Section, String> {
    let server = Server::start()?;
    let mut client = Client::connect(server.port())?;
    let version = client.version()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let url = format!("redis://127.0.0.1:{}", server.port());
    let mut options = RedisOptions::default();
    options.deadline = Duration::from_secs(30);
    let url = url.parse().map_err(|error| format!("{url}: {error}"))?;
    let store = RedisStore::new(&url, &options).map_err(|error| error.to_string())?;
    let mut bench = Bench { port: server.port(), client, runtime, store };
    let mut measurements = Measurements::in_unit("as said");
    for _ in 0..plan.rounds {
        for contender in [BARE, OURS] {
            bench.short_logs(plan, contender, &mut measurements)?;
            bench.long_log(plan, contender, &mut measurements)?;
        }
        bench.operations(plan, &mut measurements)?;
        bench.leases(plan, &mut measurements)?;
    }
    Ok(Section {
        title: format!("An exact limit in Redis {version}"),
        measurements,
        goals: goals(),
    })
}

fn goals() -> Vec<Goal> {
    let ours = |question, bound| Goal { question, contender: OURS, bound };
    vec![
        ours(TIME_100, Bound::AtMostRatio { ratio: 0.6, of: BARE }),
        ours(GROWTH, Bound::AtMost(1.6)),
        ours(BYTES_100, Bound::AtMost(1.7 * 1_024.0)),
        ours(RATE, Bound::AtLeastRatio { ratio: 0.8, of: BARE }),
    ]
    .into_iter()
    .chain(operations::goals())
    .chain(leases::goals())
    .collect()
}

impl Bench {
    fn reset(&mut self) -> Result<(), String> {
        self.client.ask(&[b"FLUSHALL"])?;
        self.client.ask(&[b"CONFIG", b"RESETSTAT"]).map(drop)
    }

    /// 100 admissions for each key, all keys in turn.
    fn short_logs(
        &mut self,
        plan: &Plan,
        contender: &str,
        into: &mut Measurements,
    ) -> Result<(), String> {
        self.reset()?;
        let start = quanta::Instant::now();
        let key = self.fill(contender, 100, 0..100 * plan.keys, plan.keys)?;
        let seconds = start.elapsed().as_secs_f64();
        let us = self.client.script_us()? / to_f64(100 * plan.keys);
        into.add(TIME_100, contender, us);
        into.add(RATE, contender, to_f64(100 * plan.keys) / seconds / 1_000.0);
        into.add(BYTES_100, contender, self.bytes(&key)?);
        Ok(())
    }

    /// One log that grows to its limit; only its last tenth is measured.
    fn long_log(
        &mut self,
        plan: &Plan,
        contender: &str,
        into: &mut Measurements,
    ) -> Result<(), String> {
        self.reset()?;
        let (middle, last) = (plan.longest / 100, plan.longest - plan.longest / 10);
        let key = self.fill(contender, plan.longest, 0..middle, 1)?;
        into.add(BYTES_1_000, contender, self.bytes(&key)?);
        self.fill(contender, plan.longest, middle..last, 1)?;
        self.client.ask(&[b"CONFIG", b"RESETSTAT"])?;
        self.fill(contender, plan.longest, last..plan.longest, 1)?;
        let us = self.client.script_us()? / to_f64(plan.longest - last);
        into.add(TIME_100_000, contender, us);
        let short_us = into.median(TIME_100, contender).unwrap_or(f64::NAN);
        into.add(GROWTH, contender, us / short_us);
        into.add(BYTES_100_000, contender, self.bytes(&key)?);
        Ok(())
    }

    /// The bytes of a key, including its hash if it has one.
    fn bytes(&mut self, key: &str) -> Result<f64, String> {
        let mut bytes = 0.0;
        for key in [key.to_owned(), format!("{key}b")] {
            let parts: [&[u8]; 5] = [b"MEMORY", b"USAGE", key.as_bytes(), b"SAMPLES", b"0"];
            let answer = self.client.ask(&parts)?;
            let number = String::from_utf8_lossy(&answer);
            // A missing key has no size.
            if !number.is_empty() {
                let known: Result<f64, _> = number.parse();
                bytes += known.map_err(|_| format!("MEMORY USAGE {key}: {number}"))?;
            }
        }
        Ok(bytes)
    }

    /// Makes the admissions `numbers`, key after key; returns one of the keys.
    fn fill(
        &mut self,
        contender: &str,
        limit: u64,
        numbers: std::ops::Range<u64>,
        keys: u64,
    ) -> Result<String, String> {
        if contender == BARE {
            self.fill_bare(limit, numbers, keys)
        } else {
            self.runtime.block_on(fill_ours(&self.store, limit, numbers, keys))
        }
    }

    fn fill_bare(
        &mut self,
        limit: u64,
        numbers: std::ops::Range<u64>,
        keys: u64,
    ) -> Result<String, String> {
        let mut client = Client::connect(self.port)?;
        let digest = client.ask(&[b"SCRIPT", b"LOAD", BARE_SCRIPT.as_bytes()])?;
        let (limit, window_us) = (limit.to_string(), WINDOW.as_micros().to_string());
        let (mut batch, mut batched) = (Vec::new(), 0);
        let last = numbers.end - 1;
        for number in numbers {
            // As long as Tollgate's keys; the members are half as long as a UUID without dashes.
            let (key, member) = (format!("tg:{:027}", number % keys), format!("{number:016x}"));
            let arguments: [&[u8]; 3] = [limit.as_bytes(), window_us.as_bytes(), member.as_bytes()];
            let [limit, window_us, member] = arguments;
            let parts = [b"EVALSHA", &digest[..], b"1", key.as_bytes(), limit, window_us, member];
            write_command(&mut batch, &parts);
            batched += 1;
            if batched == PIPELINE || number == last {
                client.ask_all(&batch, batched)?;
                batch.clear();
                batched = 0;
            }
        }
        Ok(format!("tg:{:027}", 0))
    }
}

async fn fill_ours(
    store: &RedisStore,
    limit: u64,
    numbers: std::ops::Range<u64>,
    keys: u64,
) -> Result<String, String> {
    let limit = limit_of(limit)?;
    let key = store.key(&limit, &Subject::new("0", "model"));
    let mut workers = JoinSet::new();
    // Each task sends every n-th check.
    for worker in 0..UNDER_WAY {
        let (store, limit, numbers) = (store.clone(), Arc::clone(&limit), numbers.clone());
        workers.spawn(async move {
            for number in numbers.skip(worker).step_by(UNDER_WAY) {
                let user = (number % keys).to_string();
                let subject = Subject::new(&user, "model");
                let charge = Charge { limit: &limit, subject: &subject, cost: Amount::ONE };
                let charged =
                    store.charge(&[charge], None).await.map_err(|error| error.to_string())?;
                if !charged.verdicts[0].allowed {
                    return Err(format!("check {number} was denied"));
                }
            }
            Ok(())
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.map_err(|error| error.to_string())??;
    }
    Ok(key)
}

fn limit_of(amount: u64) -> Result<Arc<Limit>, String> {
    let per = Per::from_scope("USER_MODEL").ok_or("no such scope")?;
    let id = PolicyId::new("default").map_err(|problem| problem.to_string())?;
    let window = Window::new(WINDOW).ok_or("no such window")?;
    let policy = Policy::new(id, per, Amount::new(amount), window);
    Limit::of(&policy).map(Arc::new).ok_or("the policy limits nothing".to_owned())
}
