//! `serve --record`: writes the checks of this server to a file that `simulate` reads.
//!
//! A check is formatted while its caller waits, and put into a bounded queue; a thread writes the file. If the queue or
//! the file is full, the line is dropped and counted: recording never delays a check. An API key is written as the id
//! under which it counts. The line of a lease is `held` until the lease is settled, so that it says how much output the answer had.

mod held;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, Read, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tollgate_catalog::api_key::KeyHasher;
use tollgate_core::{
    Amount, Check, Clock, Decision, LeaseUpdate, Quality, Reason, Timestamp, Unit, WallClock,
};
use tollgate_service::TrafficObserver;
use tollgate_store::{Effect, LeaseId, LeaseState, LeaseStatus};

use self::held::{Answer, HeldLines};
use crate::telemetry::Chain;

/// The columns, of which every line has all.
const HEADER: &str = "timestamp,userId,modelId,tenantId,apiKeyId,service,ip,tier,modelTier,priority,requestId,attributes,costs,userTenantId,maxOutputTokens,outputTokens,durationMs\n";
/// The same with hashed ids. The last column is empty: it says that all ids of the file are hashed.
const HASHED_HEADER: &str = "timestamp,userId,modelId,tenantId,apiKeyId,service,ip,tier,modelTier,priority,requestId,attributes,costs,userTenantId,maxOutputTokens,outputTokens,durationMs,hashedIds\n";

/// The attributes with a column of their own, in the order of the columns from `userId` on.
const COLUMNS: [&str; 8] =
    ["user", "model", "tenant", "apiKey", "service", "ip", "tier", "modelTier"];
/// Of these, the ones that may name somebody.
const IDENTIFYING: [&str; 4] = ["user", "tenant", "apiKey", "ip"];

/// The most lines that wait to be written.
const MAX_QUEUED: usize = 8_192;
/// The longest line, in bytes; longer ones are dropped.
const MAX_LINE_BYTES: usize = 4_096;
/// How long a line waits before it is in the file, at most.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// The bytes of a hashed id, of which each is two characters.
const HASHED_BYTES: usize = 16;

/// What is recorded, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordConfig {
    /// The file. Lines are added if it is a recording already, of which the ids are hashed as `hash_ids` says.
    pub file: PathBuf,
    /// The part of the users whose checks are recorded, in millionths.
    pub sample_millionths: u32,
    /// The most bytes of the file.
    pub max_bytes: u64,
    /// Whether ids of users, tenants and keys, addresses and request ids are hashed, with a secret of this run.
    pub hash_ids: bool,
}

/// The counters of the recording.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordCounters {
    pub(crate) written: Counter,
    pub(crate) dropped: Counter,
}

/// Records checks. When it is dropped, the file is completed in the background.
pub(crate) struct Recorder {
    queue: SyncSender<Message>,
    sample: Sample,
    hasher: Option<KeyHasher>,
    clock: Arc<dyn WallClock>,
    /// Measures how long answers take.
    stopwatch: Arc<dyn Clock>,
    /// Set when the file takes no more lines.
    is_closed: Arc<AtomicBool>,
    counters: RecordCounters,
    file: PathBuf,
}

enum Message {
    Line(String),
    /// A line without its end, which is known when the lease ends.
    Held {
        lease: LeaseId,
        start: String,
        reserved_at: Timestamp,
    },
    /// A lease has ended: it was settled, or released because there is no answer.
    Ended {
        lease: LeaseId,
        has_answer: bool,
        output: Option<Amount>,
        at: Timestamp,
    },
    /// Write everything that came before, then answer.
    Flush(SyncSender<()>),
}

/// Picks users: all checks of one, or none, so that what a limit per user counts is complete.
struct Sample {
    keys: RandomState,
    /// A hash up to this is picked.
    at_most: u64,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl Recorder {
    /// Opens the file of `config` and starts to record.
    pub(crate) fn start(
        config: &RecordConfig,
        (clock, stopwatch): (Arc<dyn WallClock>, Arc<dyn Clock>),
        counters: RecordCounters,
    ) -> io::Result<Self> {
        let (file, bytes) = open(&config.file, config.hash_ids)?;
        let hasher = if config.hash_ids {
            let mut secret = [0; 32];
            getrandom::fill(&mut secret).map_err(io::Error::other)?;
            Some(KeyHasher::new(&secret))
        } else {
            None
        };
        let (queue, lines) = mpsc::sync_channel(MAX_QUEUED);
        let is_closed = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            file: BufWriter::new(file),
            path: config.file.clone(),
            held: HeldLines::default(),
            stopwatch: Arc::clone(&stopwatch),
            end: if config.hash_ids { ",\n" } else { "\n" },
            room: config.max_bytes.saturating_sub(bytes),
            is_closed: Arc::clone(&is_closed),
            counters: counters.clone(),
        };
        thread::Builder::new()
            .name("tollgate-record".to_owned())
            .spawn(move || writer.run(&lines))?;
        let part = u128::from(u64::MAX) * u128::from(config.sample_millionths) / 1_000_000;
        let at_most = u64::try_from(part).unwrap_or(u64::MAX);
        let sample = Sample { keys: RandomState::new(), at_most };
        Ok(Self {
            queue,
            sample,
            hasher,
            clock,
            stopwatch,
            is_closed,
            counters,
            file: config.file.clone(),
        })
    }

    /// The file.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Waits, for a bounded time, until what was recorded is in the file; of leases that are not settled, without their answers.
    /// Blocks.
    pub(crate) fn flush(&self, timeout: Duration) {
        let (done, is_done) = mpsc::sync_channel(1);
        // Without room in the queue, the file is being written anyway.
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            _ = is_done.recv_timeout(timeout);
        }
    }

    /// The line of `check` up to what its answer had. `is_leased` says whether it reserves.
    fn start_of_line(&self, check: &Check<'_>, is_leased: bool) -> String {
        let now = self.clock.wall_time().as_ns();
        let mut line = String::with_capacity(160);
        // Writing to a `String` cannot fail.
        _ = write!(line, "{}.{:09}", now / 1_000_000_000, now % 1_000_000_000);
        let value = |name: &str| {
            check.subject.attributes().find(|(known, _)| *known == name).map(|(_, value)| value)
        };
        for name in COLUMNS {
            line.push(',');
            match (value(name), &self.hasher) {
                (None, _) => {}
                (Some(value), Some(hasher)) if IDENTIFYING.contains(&name) => {
                    line.push_str(&hashed(hasher, name, value));
                }
                (Some(value), _) => push_cell(&mut line, value),
            }
        }
        line.push(',');
        line.push_str(check.priority.name());
        line.push(',');
        match (check.request_id, &self.hasher) {
            (None, _) => {}
            (Some(id), Some(hasher)) => line.push_str(&hashed(hasher, "requestId", id)),
            (Some(id), None) => push_cell(&mut line, id),
        }
        line.push(',');
        let is_custom = |(name, _): &(&str, &str)| !COLUMNS.contains(name);
        push_object(&mut line, check.subject.attributes().filter(is_custom), |value| {
            serde_json::to_string(value).unwrap_or_default()
        });
        line.push(',');
        let is_one_request = |unit: &Unit, amount: u64| *unit == Unit::Requests && amount == 1;
        let amounts = check
            .cost
            .amounts()
            .map(|(unit, amount)| (unit, amount.get()))
            .filter(|(unit, amount)| !is_one_request(unit, *amount));
        push_object(&mut line, amounts.map(|(unit, amount)| (unit.name(), amount)), |amount| {
            amount.to_string()
        });
        line.push(',');
        // The tenant that the catalog found for a user whose check names none; the user counts under it.
        let found = check.subject.user_tenant().filter(|_| value("tenant").is_none());
        match (found, &self.hasher) {
            (None, _) => {}
            (Some(tenant), Some(hasher)) => line.push_str(&hashed(hasher, "tenant", tenant)),
            (Some(tenant), None) => push_cell(&mut line, tenant),
        }
        line.push(',');
        if is_leased && check.cost.names(&Unit::OutputTokens) {
            _ = write!(line, "{}", check.cost.of(&Unit::OutputTokens).get());
        }
        line
    }

    /// Sends without waiting. That the file takes no more is only a hint here, because the thread closes it.
    fn send(&self, message: Message) {
        if self.is_closed.load(Ordering::Relaxed) || self.queue.try_send(message).is_err() {
            self.counters.dropped.inc();
        }
    }
}

impl TrafficObserver for Recorder {
    fn decided(&self, check: &Check<'_>, decision: &Decision, lease: Option<&LeaseId>) {
        // A check that is denied because of its key meets no limit, whatever the policies are.
        let is_refused =
            decision.reason().is_some_and(|reason| Reason::OF_API_KEYS.contains(&reason));
        if is_refused || !self.sample.picks(check) {
            return;
        }
        let start = self.start_of_line(check, lease.is_some());
        if start.len() > MAX_LINE_BYTES {
            self.counters.dropped.inc();
            return;
        }
        self.send(match lease {
            None => Message::Line(start),
            Some(lease) => {
                Message::Held { lease: lease.clone(), start, reserved_at: self.stopwatch.now() }
            }
        });
    }

    fn updated(&self, lease: &LeaseId, update: &LeaseUpdate, state: &LeaseState) {
        let is_first = matches!(state.was, LeaseStatus::Live | LeaseStatus::Expired);
        let (has_answer, output) = match update {
            // A lower bound is not what the answer would have had.
            LeaseUpdate::Settle { usage, quality, .. } => {
                let is_exact = *quality == Quality::Exact;
                (true, usage.of(&Unit::OutputTokens).filter(|_| is_exact))
            }
            LeaseUpdate::Release => (false, None),
            LeaseUpdate::Extend { .. } => return,
        };
        if state.effect == Effect::Changed && is_first && !self.is_closed.load(Ordering::Relaxed) {
            let (lease, at) = (lease.clone(), self.stopwatch.now());
            // If the queue is full, the line is written later, without what its answer had.
            _ = self.queue.try_send(Message::Ended { lease, has_answer, output, at });
        }
    }
}

impl Sample {
    fn picks(&self, check: &Check<'_>) -> bool {
        if self.at_most == u64::MAX {
            return true;
        }
        let who = ["user", "apiKey", "tenant", "ip"]
            .into_iter()
            .find_map(|name| check.subject.attributes().find(|(known, _)| *known == name));
        self.at_most > 0 && self.keys.hash_one(who) <= self.at_most
    }
}

/// Writes the queue to the file.
struct Writer {
    file: BufWriter<File>,
    path: PathBuf,
    held: HeldLines,
    stopwatch: Arc<dyn Clock>,
    /// What ends each line.
    end: &'static str,
    /// The bytes that may still be written.
    room: u64,
    is_closed: Arc<AtomicBool>,
    counters: RecordCounters,
}

impl Writer {
    fn run(mut self, lines: &Receiver<Message>) {
        loop {
            match lines.recv_timeout(FLUSH_EVERY) {
                Ok(Message::Line(start)) => {
                    self.held.pass();
                    self.complete(start, Answer::default());
                }
                Ok(Message::Held { lease, start, reserved_at }) => {
                    if let Some(start) = self.held.hold(lease, start, reserved_at) {
                        self.complete(start, Answer::default());
                    }
                }
                Ok(Message::Ended { lease, has_answer, output, at }) => {
                    if let Some((start, answer)) = self.held.end(&lease, has_answer, output, at) {
                        self.complete(start, answer);
                    }
                }
                Ok(Message::Flush(done)) => {
                    self.flush_all();
                    _ = done.try_send(());
                }
                Err(RecvTimeoutError::Timeout) => self.flush(),
                Err(RecvTimeoutError::Disconnected) => return self.flush_all(),
            }
            while let Some(start) = self.held.next_overdue(self.stopwatch.now()) {
                self.complete(start, Answer::default());
            }
        }
    }

    fn flush_all(&mut self) {
        while let Some(start) = self.held.next() {
            self.complete(start, Answer::default());
        }
        self.flush();
    }

    /// Writes a line with what its answer had.
    fn complete(&mut self, mut line: String, answer: Answer) {
        // Writing to a `String` cannot fail.
        line.push(',');
        if let Some(output) = answer.output {
            _ = write!(line, "{}", output.get());
        }
        line.push(',');
        if let Some(lasted) = answer.lasted {
            _ = write!(line, "{}", lasted.as_millis());
        }
        line.push_str(self.end);
        self.write(&line);
    }

    fn write(&mut self, line: &str) {
        let bytes = line.len() as u64;
        if self.is_closed.load(Ordering::Relaxed) {
            self.counters.dropped.inc();
            return;
        }
        if bytes > self.room {
            tracing::warn!(file = %self.path.display(), "the recording has reached --record-max-bytes; further checks are not recorded, limits are not affected");
            self.close();
            return;
        }
        match self.file.write_all(line.as_bytes()) {
            Ok(()) => {
                self.room -= bytes;
                self.counters.written.inc();
            }
            Err(error) => self.failed(&error),
        }
    }

    fn flush(&mut self) {
        if let Err(error) = self.file.flush() {
            self.failed(&error);
        }
    }

    fn failed(&mut self, error: &io::Error) {
        if !self.is_closed.load(Ordering::Relaxed) {
            tracing::error!(file = %self.path.display(), error = %Chain(error), "the recording cannot be written; further checks are not recorded, limits are not affected");
            self.close();
        }
    }

    /// Takes no more lines.
    fn close(&mut self) {
        self.counters.dropped.inc();
        self.is_closed.store(true, Ordering::Relaxed);
    }
}

/// The file at `path`, at its end, and its length. One without checks, which only its owner can read if it is new, gets the
/// header; any other must have the header with which ids are hashed or not, as `hash_ids` says.
///
/// A recorder adds no other ids than the header says, so the header alone tells about all lines.
fn open(path: &Path, hash_ids: bool) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    let mut file = options.read(true).append(true).create(true).mode(0o600).open(path)?;
    let bytes = file.metadata()?.len();
    let (header, other) = if hash_ids { (HASHED_HEADER, HEADER) } else { (HEADER, HASHED_HEADER) };
    let mut start = Vec::new();
    (&file).take(HASHED_HEADER.len() as u64).read_to_end(&mut start)?;
    if start.starts_with(header.as_bytes()) {
        return Ok((file, bytes));
    }
    if start == other.as_bytes() && bytes == other.len() as u64 {
        file.set_len(0)?;
    } else if start.starts_with(other.as_bytes()) {
        return Err(io::Error::other(if hash_ids {
            "it has ids in clear text; accepted with --record-hash-ids: a new file, or a recording with hashed ids"
        } else {
            "its ids are hashed; accepted without --record-hash-ids: a new file, or a recording with ids in clear text"
        }));
    } else if bytes > 0 {
        return Err(io::Error::other(
            "it exists and is no recording; accepted: a new file, or one that --record made",
        ));
    }
    file.write_all(header.as_bytes())?;
    Ok((file, header.len() as u64))
}

/// The hash of `value` of the attribute `name`. That of an address is one too, of those that are not routed.
fn hashed(hasher: &KeyHasher, name: &str, value: &str) -> String {
    let mut hash = hasher.hash(&format!("{name}\u{0}{value}")).to_hex();
    hash.truncate(2 * HASHED_BYTES);
    if name != "ip" {
        return hash;
    }
    let bits = u128::from_str_radix(&hash, 16).unwrap_or_default();
    IpAddr::V6(Ipv6Addr::from_bits(0xfd << 120 | bits >> 8)).to_string()
}

/// Adds `value` as a cell of CSV.
fn push_cell(line: &mut String, value: &str) {
    if value.contains([',', '"']) {
        line.push('"');
        line.push_str(&value.replace('"', "\"\""));
        line.push('"');
    } else {
        line.push_str(value);
    }
}

/// Adds `entries` as a JSON object in a cell; nothing if there are none.
fn push_object<'n, T>(
    line: &mut String,
    entries: impl Iterator<Item = (&'n str, T)>,
    shown: impl Fn(T) -> String,
) {
    let entries: Vec<_> = entries
        .map(|(name, value)| {
            format!("{}:{}", serde_json::to_string(name).unwrap_or_default(), shown(value))
        })
        .collect();
    if !entries.is_empty() {
        push_cell(line, &format!("{{{}}}", entries.join(",")));
    }
}
