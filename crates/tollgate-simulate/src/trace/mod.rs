//! Traces: checks with their times, read from a file one line at a time.
//!
//! Invariant: the server would accept every check that is returned; every other line is an error with the position, the
//! problem and what is accepted.

mod azure;
mod check;
mod check_csv;
mod records;
mod time;
mod zipf;

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use tollgate_core::{Amount, Timestamp};

use crate::SimulateError;
use crate::error::shown;
pub use crate::error::{LineProblem, TraceError};
use azure::AzureTrace;
pub use check::TraceCheck;
use check_csv::CheckColumns;
pub(crate) use check_csv::{ACCEPTED_IPS, address, custom};
use records::RecordReader;
pub(crate) use time::{parse as parse_time, rfc_3339};

/// The most users to which an azure-llm-2023 trace may be assigned.
pub const MAX_USERS: u32 = 1_000_000;

/// The argument that stands for standard input.
pub(crate) const STDIN: &str = "-";
const STDIN_NAME: &str = "standard input";

/// The format of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TraceFormat {
    /// TIMESTAMP,ContextTokens,GeneratedTokens; users and models are drawn by a seeded rule
    #[value(name = "azure-llm-2023")]
    AzureLlm2023,
    /// A header that names timestamp, userId, modelId and other fields of a check
    #[value(name = "csv")]
    Csv,
}

impl TraceFormat {
    /// The name, as in `--format`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AzureLlm2023 => "azure-llm-2023",
            Self::Csv => "csv",
        }
    }
}

/// The users and models of a trace that names none.
///
/// The rule is exact on every machine. User `k` of `1..=users` has the weight `floor(2^32 / k)`, and so has model `k`
/// of `1..=5` (Zipf's law with exponent 1). Each request, in the order of the trace, draws first its user and then its
/// model. A draw takes the next 8 bytes of the `ChaCha20` key stream (key: the seed as 8 little-endian bytes, then 24
/// zero bytes; nonce 0, counter from 0) as a little-endian integer `x`, and picks the first `k` for which the weights
/// of `1..=k` add up to more than `floor(x · total / 2^64)`. The names are `user-k` and `model-k`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Population {
    /// The number of users, 1 to [`MAX_USERS`].
    pub users: u32,
    /// The seed of the draws.
    pub seed: u64,
}

impl Default for Population {
    fn default() -> Self {
        Self { users: 100, seed: 1 }
    }
}

impl Population {
    /// The population of the flags, or the usual one.
    pub(crate) fn of(users: Option<u32>, seed: Option<u64>) -> Self {
        let usual = Self::default();
        Self { users: users.unwrap_or(usual.users), seed: seed.unwrap_or(usual.seed) }
    }
}

/// How many lines are read ahead, to put lines in the order of their times.
pub const MAX_READ_AHEAD: usize = 100_000;

/// A check that waits for its turn: first by time, then by line.
struct Waiting(Box<TraceCheck>);

impl Waiting {
    fn turn(&self) -> (Timestamp, u64) {
        (self.0.at, self.0.line)
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.turn() == other.turn()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        self.turn().cmp(&other.turn())
    }
}

/// Reads a trace one check at a time, in the order of their times and in bounded memory.
pub struct TraceReader {
    path: PathBuf,
    records: RecordReader<Box<dyn BufRead>>,
    total_bytes: Option<u64>,
    format: TraceFormat,
    guessed: bool,
    checks: Checks,
    /// At most [`MAX_READ_AHEAD`], the earliest first.
    ahead: BinaryHeap<Reverse<Waiting>>,
    is_at_end: bool,
    /// The latest time read.
    latest: Timestamp,
    /// The check that was returned last.
    last: Option<(Timestamp, u64)>,
    reordered: u64,
}

/// The state of a format for converting records to checks.
enum Checks {
    Azure(Box<AzureTrace>),
    Csv(CheckColumns),
}

impl TraceReader {
    /// Opens the trace at `path` and reads its header, which determines the format if `format` is not given.
    pub fn open(
        path: &Path,
        format: Option<TraceFormat>,
        population: Population,
    ) -> Result<Self, SimulateError> {
        let file = File::open(path).map_err(|error| SimulateError::read(path, error))?;
        let metadata = file.metadata().map_err(|error| SimulateError::read(path, error))?;
        let mut reader =
            Self::new(path, Box::new(BufReader::with_capacity(1 << 16, file)), format, population)?;
        reader.total_bytes = metadata.is_file().then_some(metadata.len());
        Ok(reader)
    }

    /// Opens what an argument of the command line names: the file at `path`, or standard input if it is `-`.
    pub fn open_argument(
        path: &Path,
        format: Option<TraceFormat>,
        population: Population,
    ) -> Result<Self, SimulateError> {
        if path != Path::new(STDIN) {
            return Self::open(path, format, population);
        }
        Self::new(Path::new(STDIN_NAME), Box::new(std::io::stdin().lock()), format, population)
    }

    /// Reads a trace from `input`; `path` is its name in messages.
    pub fn new(
        path: &Path,
        input: Box<dyn BufRead>,
        format: Option<TraceFormat>,
        population: Population,
    ) -> Result<Self, SimulateError> {
        let mut records = RecordReader::new(input);
        let (format, guessed, checks) = read_header(&mut records, format, population)
            .map_err(|error| place(path, &records, error))?;
        Ok(Self {
            path: path.to_owned(),
            records,
            total_bytes: None,
            format,
            guessed,
            checks,
            ahead: BinaryHeap::new(),
            is_at_end: false,
            latest: Timestamp::default(),
            last: None,
            reordered: 0,
        })
    }

    /// The next check in the order of times; `None` at the end of the trace. Lines of the same time keep their order.
    ///
    /// A line whose turn was more than [`MAX_READ_AHEAD`] lines ago is an error.
    pub fn next_check(&mut self) -> Result<Option<TraceCheck>, SimulateError> {
        while !self.is_at_end && self.ahead.len() < MAX_READ_AHEAD {
            match self.read()? {
                Some(check) => self.ahead.push(Reverse(Waiting(Box::new(check)))),
                None => self.is_at_end = true,
            }
        }
        let Some(Reverse(Waiting(next))) = self.ahead.pop() else { return Ok(None) };
        self.last = Some((next.at, next.line));
        Ok(Some(*next))
    }

    /// The check in the next line.
    fn read(&mut self) -> Result<Option<TraceCheck>, SimulateError> {
        match self.records.advance() {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => return Err(place(&self.path, &self.records, error)),
        }
        let Self { path, records, checks, .. } = self;
        let check = match checks {
            Checks::Azure(azure) => azure.check(records),
            Checks::Csv(columns) => columns.check(records),
        };
        let placed = |problem| place(path, records, ReadError::LineProblem(problem));
        let mut check = check.map_err(placed)?;
        check.line = records.line();
        if let Some((at, line)) = self.last.filter(|(at, _)| check.at < *at) {
            let problem = format!("is before the time of line {line}, which is {}", rfc_3339(at));
            let accepted = format!("lines at most {MAX_READ_AHEAD} lines later than their turn");
            return Err(placed(LineProblem::new("timestamp", problem, accepted)));
        }
        self.reordered += u64::from(check.at < self.latest);
        self.latest = self.latest.max(check.at);
        Ok(Some(check))
    }

    /// What the trace is called: its path, or standard input.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The lines read so far that are earlier than one before them.
    pub fn reordered(&self) -> u64 {
        self.reordered
    }

    /// Whether its lines say how much output the answers had, and whether they name the clients' caps.
    pub fn has_outputs_and_caps(&self) -> (bool, bool) {
        match &self.checks {
            Checks::Azure(_) => (true, false),
            Checks::Csv(columns) => columns.has_outputs_and_caps(),
        }
    }

    /// Whether its checks may have request ids.
    pub fn has_request_ids(&self) -> bool {
        match &self.checks {
            Checks::Azure(_) => false,
            Checks::Csv(columns) => columns.has_request_ids(),
        }
    }

    /// The format.
    pub fn format(&self) -> TraceFormat {
        self.format
    }

    /// Whether the header determined the format.
    pub fn is_format_guessed(&self) -> bool {
        self.guessed
    }

    /// The bytes read so far.
    pub fn bytes_read(&self) -> u64 {
        self.records.bytes_read()
    }

    /// The bytes of the whole trace, if it is a regular file.
    pub fn total_bytes(&self) -> Option<u64> {
        self.total_bytes
    }
}

/// Why there is no record; the reader knows where.
pub(crate) enum ReadError {
    Io(std::io::Error),
    LineProblem(LineProblem),
}

fn place<R>(path: &Path, records: &RecordReader<R>, error: ReadError) -> SimulateError {
    match error {
        ReadError::Io(source) => SimulateError::read(path, source),
        ReadError::LineProblem(problem) => {
            let (path, line) = (path.to_owned(), records.line().max(1));
            SimulateError::Trace(TraceError { path, line, problem })
        }
    }
}

fn read_header<R: BufRead>(
    records: &mut RecordReader<R>,
    format: Option<TraceFormat>,
    population: Population,
) -> Result<(TraceFormat, bool, Checks), ReadError> {
    if !records.advance()? {
        let problem =
            LineProblem::new("header", "is missing: the trace is empty", ACCEPTED_HEADERS);
        return Err(ReadError::LineProblem(problem));
    }
    let header = records.fields("header").map_err(ReadError::LineProblem)?;
    let guess = || {
        if azure::is_header(&header) {
            Ok(TraceFormat::AzureLlm2023)
        } else if header.contains(&check_csv::TIMESTAMP) {
            Ok(TraceFormat::Csv)
        } else {
            let names = shown(&header.join(","));
            Err(LineProblem::new(
                "header",
                format!("is {names}, of no known format"),
                ACCEPTED_HEADERS,
            ))
        }
    };
    let guessed = format.is_none();
    let format = format.map_or_else(guess, Ok).map_err(ReadError::LineProblem)?;
    let checks = match format {
        TraceFormat::AzureLlm2023 => azure::check_header(&header)
            .map(|()| Checks::Azure(Box::new(AzureTrace::new(population)))),
        TraceFormat::Csv => CheckColumns::parse(&header).map(Checks::Csv),
    };
    Ok((format, guessed, checks.map_err(ReadError::LineProblem)?))
}

const ACCEPTED_HEADERS: &str = "`TIMESTAMP,ContextTokens,GeneratedTokens` (azure-llm-2023), or names of columns that \
     include `timestamp` (csv)";

/// The amount written in `text`.
fn parse_amount(column: &str, text: &str) -> Result<Amount, LineProblem> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let amount = digits.then(|| text.parse().ok().and_then(Amount::new)).flatten();
    amount.ok_or_else(|| {
        let problem = if text.is_empty() {
            "is empty".to_owned()
        } else if digits {
            format!("is {}, which is too large", shown(text))
        } else {
            format!("is {}, which is not a whole number", shown(text))
        };
        LineProblem::new(column, problem, format!("an integer from 0 to {}", Amount::MAX))
    })
}
