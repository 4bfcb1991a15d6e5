//! `tollgate policies diff`: replays a trace through two sets of policies and says who would lose or gain.
//!
//! Both sets decide every check of the trace, each with a store of its own, on one virtual clock. Memory grows with the
//! number of keys and of subjects, for which there are bounds, not with the number of checks.

mod args;
mod report;
mod report_text;
mod side;
mod subjects;
mod timeline;

use std::ops::ControlFlow;
use std::path::Path;

use tollgate_core::{Clock, MonotonicClock};
use tollgate_service::UnknownApiKeys;

pub use args::DiffArgs;
pub use report::{
    ChangeReport, ComparisonReport, LosingGaining, Pair, PolicyDiffReport, PolicyStatus,
    SideReport, StepReport, SubjectKindReport, SubjectReport, TimelineReport,
};
use side::{Sides, Verdict};
use subjects::{SubjectNames, Subjects};
use timeline::Timeline;

use crate::progress::Progress;
use crate::report::{Times, TraceInputs};
use crate::trace::{Population, STDIN, TraceCheck, TraceFormat, TraceReader};
use crate::{SimulateError, Source};

/// The bounds of a comparison.
#[derive(Clone, Copy, Debug)]
pub struct CompareOptions {
    /// How many losers and winners of each kind the report names, at most.
    pub top: usize,
    /// How many subjects of each kind are counted one by one; further ones are counted together.
    pub max_subjects: usize,
    /// How many checks are decided; the rest of the trace is left out.
    pub max_checks: u64,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self { top: 10, max_subjects: 500_000, max_checks: u64::MAX }
    }
}

/// Compares the policy files of `args` on its trace, or says what is wrong with each of the three.
pub fn diff(args: &DiffArgs) -> Result<ComparisonReport, Vec<SimulateError>> {
    let old = policies("OLD", &args.old, args.unknown_api_keys());
    let new = policies("NEW", &args.new, args.unknown_api_keys());
    let population = Population::of(args.users, args.seed);
    match (old, new, open(args, population)) {
        (Ok(old), Ok(new), Ok(mut trace)) => {
            replay(args, (&old, &new), &mut trace, population).map_err(|error| vec![error])
        }
        (old, new, trace) => {
            let trace = trace.and_then(read_to_the_end);
            Err([old.err(), new.err(), trace.err()].into_iter().flatten().collect())
        }
    }
}

fn policies(
    argument: &'static str,
    file: &Path,
    unknown: UnknownApiKeys,
) -> Result<Source, SimulateError> {
    if file == Path::new(STDIN) {
        return Err(SimulateError::Flag {
            flag: argument,
            problem: "cannot be standard input".to_owned(),
            accepted: "a policy file; only --trace takes `-`",
        });
    }
    let source = Source::file(file, unknown);
    let mut source =
        source.map_err(|error| error.named_by(argument, "the path of a policy file"))?;
    if source.snapshot.policies().is_default() {
        source.name = source.name.map(|name| format!("{name} (the built-in default)"));
    }
    Ok(source)
}

fn open(args: &DiffArgs, population: Population) -> Result<TraceReader, SimulateError> {
    let trace = TraceReader::open_argument(&args.trace, args.format, population)?;
    crate::run::refuse_idle_flags(args.users, args.seed, trace.format())?;
    Ok(trace)
}

/// Finds the first bad line of `trace`, or that it has no check.
fn read_to_the_end(mut trace: TraceReader) -> Result<(), SimulateError> {
    let mut checks = 0_u64;
    while trace.next_check()?.is_some() {
        checks += 1;
    }
    refuse_without_checks(&trace.name(), checks)
}

/// Without a check, nothing would be compared, and a script would take that for "no decision differs".
fn refuse_without_checks(trace: &str, checks: u64) -> Result<(), SimulateError> {
    if checks > 0 { Ok(()) } else { Err(SimulateError::NoChecks { trace: trace.to_owned() }) }
}

fn replay(
    args: &DiffArgs,
    sources: (&Source, &Source),
    trace: &mut TraceReader,
    population: Population,
) -> Result<ComparisonReport, SimulateError> {
    let name = trace.name();
    let mut progress = Progress::new(trace.total_bytes());
    let options = CompareOptions { top: args.top(), ..CompareOptions::default() };
    compare(sources, (&name, trace, population), options, |bytes_read| {
        progress.add_check(bytes_read);
        ControlFlow::Continue(())
    })
}

/// Compares two sets of policies, the old and the new one, on a trace with its name and its population. Calls `go_on` after
/// each check with the bytes read, and ends with [`SimulateError::Stopped`] if it says so. A trace without checks is refused.
pub fn compare(
    (old, new): (&Source, &Source),
    (name, trace, population): (&str, &mut TraceReader, Population),
    options: CompareOptions,
    mut go_on: impl FnMut(u64) -> ControlFlow<()>,
) -> Result<ComparisonReport, SimulateError> {
    let wall_clock = MonotonicClock::new();
    let start = wall_clock.now();
    let mut comparison = Comparison::new(old, new, options);
    let mut is_cut = false;
    while let Some(traced) = trace.next_check()? {
        if comparison.checks == options.max_checks {
            is_cut = true;
            break;
        }
        comparison.take(&traced)?;
        if go_on(trace.bytes_read()).is_break() {
            return Err(SimulateError::Stopped);
        }
    }
    refuse_without_checks(name, comparison.checks)?;
    comparison.times.reordered = trace.reordered();
    let wall_ns = wall_clock.now().as_ns().saturating_sub(start.as_ns());
    let drawn = (trace.format() == TraceFormat::AzureLlm2023).then_some(population);
    let inputs = TraceInputs::new(name, trace, drawn);
    Ok(comparison.report(&inputs, is_cut, wall_ns))
}

/// What differs so far.
struct Comparison<'s> {
    sides: Sides<'s>,
    options: CompareOptions,
    checks: u64,
    /// The checks that only the old policies allow, and those that only the new ones allow.
    lost: u64,
    gained: u64,
    tokens: Pair<u64>,
    first: Option<FirstChange>,
    subjects: Subjects,
    timeline: Timeline,
    times: Times,
}

/// The first check that only one of the sides allows.
struct FirstChange {
    check: TraceCheck,
    names: SubjectNames,
    old: Verdict,
    new: Verdict,
}

impl<'s> Comparison<'s> {
    fn new(old: &'s Source, new: &'s Source, options: CompareOptions) -> Self {
        Self {
            sides: Sides::new(old, new),
            options,
            checks: 0,
            lost: 0,
            gained: 0,
            tokens: Pair::default(),
            first: None,
            subjects: Subjects::new(options.max_subjects),
            timeline: Timeline::default(),
            times: Times::default(),
        }
    }

    /// Decides `traced` with both sets of policies.
    fn take(&mut self, traced: &TraceCheck) -> Result<(), SimulateError> {
        self.times.add(traced.at);
        self.checks += 1;
        let subjects = &mut self.subjects;
        let (old, indices) = self.sides.old.decide(traced, |check| subjects.find(check))?;
        let (new, ()) = self.sides.new.decide(traced, |_| ())?;
        let (was, is) = (old.allowed, new.allowed);
        let tokens = traced.tokens();
        let allowed = Pair { old: u64::from(was), new: u64::from(is) };
        self.tokens.old = self.tokens.old.saturating_add(tokens * allowed.old);
        self.tokens.new = self.tokens.new.saturating_add(tokens * allowed.new);
        self.lost += u64::from(was && !is);
        self.gained += u64::from(is && !was);
        self.timeline.add(traced.at, allowed);
        self.subjects.add(&indices, traced.at, allowed, tokens);
        if was != is {
            self.sides.blame(&old, &new);
            if self.first.is_none() {
                let names = self.subjects.names(&indices);
                self.first = Some(FirstChange { check: traced.clone(), names, old, new });
            }
        }
        Ok(())
    }
}
