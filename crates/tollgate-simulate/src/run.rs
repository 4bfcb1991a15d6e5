//! The use case: takes a trace, makes a report and files.

use std::io::{self, Write};
use std::path::Path;

use tollgate_core::{Check, Clock, Decision, MonotonicClock, Plan, PolicySet, Reason, Timestamp};

use crate::decisions::DecisionsFile;
use crate::leases::Leases;
use crate::output::OutputFile;
use crate::progress::Progress;
use crate::report::{Inputs, Outcome, Report, Times, TraceInputs};
use crate::tally::Tally;
use crate::trace::{Population, TraceCheck, TraceFormat, TraceReader};
use crate::verify::Verifier;
use crate::{Replay, SimulateArgs, SimulateError, Source};

/// Runs the simulation of `args` with its policy file or catalog file, and writes the requested files.
pub fn run(args: &SimulateArgs) -> Result<Report, SimulateError> {
    simulate_with(args, &Source::of_args(args)?)
}

/// Runs the simulation of `args` with `policies` and checks as the trace gives them, and writes the requested files.
pub fn simulate(args: &SimulateArgs, policies: PolicySet) -> Result<Report, SimulateError> {
    simulate_with(args, &Source::policies(policies))
}

/// Runs the simulation of `args` with `source`, and writes the requested files.
pub fn simulate_with(args: &SimulateArgs, source: &Source) -> Result<Report, SimulateError> {
    refuse_overwriting(args)?;
    let population = Population::of(args.users, args.seed);
    let mut trace = TraceReader::open_argument(&args.trace, args.format, population)?;
    refuse_idle_flags(args.users, args.seed, trace.format())?;
    if args.verify && trace.has_request_ids() {
        return Err(SimulateError::Flag {
            flag: "--verify",
            problem: "the reference model knows no request ids".to_owned(),
            accepted: "only for traces without the column requestId",
        });
    }
    let (has_outputs, has_caps) = trace.has_outputs_and_caps();
    if args.leases && !has_outputs {
        return Err(SimulateError::Flag {
            flag: "--leases",
            problem: "the trace does not say how much output the answers had".to_owned(),
            accepted: "the format azure-llm-2023, or a csv with the column outputTokens",
        });
    }
    let leases = args.lease_options();
    let leases = leases.map(|options| Leases::new(source.snapshot.policies(), options, has_caps));
    let report_file = create("--report", args.report.as_deref())?;
    let decisions_file = create("--decisions", args.decisions.as_deref())?;
    let mut decisions_file = decisions_file.map(DecisionsFile::new).transpose()?;
    let mut verifier = args.verify.then(|| Verifier::new(source.snapshot.policies().policies()));

    let outcome = replay(&mut trace, source, decisions_file.as_mut(), verifier.as_mut(), leases)?;

    let drawn = (trace.format() == TraceFormat::AzureLlm2023).then_some(population);
    let inputs = Inputs {
        trace: TraceInputs::new(&trace.name(), &trace, drawn),
        policies_file: source.name.clone(),
        verified: args.verify,
        lease_options: args.lease_options(),
    };
    let report = Report::new(inputs, &outcome);
    write_files(report_file, &report, decisions_file)?;
    Ok(report)
}

/// Decides every check of `trace`, in order.
fn replay<'p>(
    trace: &mut TraceReader,
    source: &'p Source,
    decisions_file: Option<&mut DecisionsFile>,
    verifier: Option<&mut Verifier>,
    leases: Option<Leases<'p>>,
) -> Result<Outcome<'p>, SimulateError> {
    let wall_clock = MonotonicClock::new();
    let start = wall_clock.now();
    let mut progress = Progress::new(trace.total_bytes());
    let policies = source.snapshot.policies();
    let mut pass = Pass {
        source,
        replay: Replay::new(policies),
        tally: Tally::new(policies),
        times: Times::default(),
        decisions_file,
        verifier,
        leases,
    };
    while let Some(traced) = trace.next_check()? {
        pass.take(&traced)?;
        progress.add_check(trace.bytes_read());
    }
    if let Some(leases) = &mut pass.leases {
        leases.finish();
    }
    let wall_ns = wall_clock.now().as_ns().saturating_sub(start.as_ns());
    let Pass { replay, tally, mut times, leases, .. } = pass;
    times.reordered = trace.reordered();
    Ok(Outcome { tally, times, store: replay.store_stats(), leases, wall_ns })
}

/// One pass over a trace.
struct Pass<'p, 'w> {
    source: &'p Source,
    replay: Replay<'p>,
    tally: Tally<'p>,
    times: Times,
    decisions_file: Option<&'w mut DecisionsFile>,
    verifier: Option<&'w mut Verifier>,
    leases: Option<Leases<'p>>,
}

impl Pass<'_, '_> {
    fn take(&mut self, traced: &TraceCheck) -> Result<(), SimulateError> {
        let now = self.replay.advance_to(traced.at);
        let check = traced.check();
        if traced.is_complete() {
            return self.decide(now, traced, &check, None);
        }
        let source = self.source;
        source.complete(&check, |check, refused| self.decide(now, traced, check, refused))?
    }

    /// Decides `check`, which `traced` became, unless it is `refused` before any limit.
    fn decide(
        &mut self,
        now: Timestamp,
        traced: &TraceCheck,
        check: &Check<'_>,
        refused: Option<Reason>,
    ) -> Result<(), SimulateError> {
        self.times.add(traced.at);
        if let Some(reason) = refused {
            return self.count(now, traced.line, &Plan::new(), &Decision::refused(reason));
        }
        if let Some(leases) = &mut self.leases {
            leases.take(now, traced, check);
        }
        let (plan, decision) = self.replay.decide(check);
        if let Some(verifier) = &mut self.verifier {
            verifier.verify(traced, check, &decision).map_err(SimulateError::Difference)?;
        }
        self.count(now, traced.line, &plan, &decision)
    }

    fn count(
        &mut self,
        now: Timestamp,
        line: u64,
        plan: &Plan<'_>,
        decision: &Decision,
    ) -> Result<(), SimulateError> {
        self.tally.add(now, plan, decision);
        match &mut self.decisions_file {
            Some(file) => file.add(line, decision),
            None => Ok(()),
        }
    }
}

fn create(flag: &'static str, path: Option<&Path>) -> Result<Option<OutputFile>, SimulateError> {
    path.map(|path| OutputFile::create(flag, path)).transpose()
}

/// Both files get their final names after both are complete.
fn write_files(
    report_file: Option<OutputFile>,
    report: &Report,
    decisions_file: Option<DecisionsFile>,
) -> Result<(), SimulateError> {
    let report_file = report_file.map(|mut file| {
        let written = serde_json::to_writer_pretty(&mut file, report)
            .map_err(io::Error::from)
            .and_then(|()| file.write_all(b"\n"));
        written.map_err(|source| SimulateError::write(file.path(), source))?;
        file.stage()
    });
    let decisions_file = decisions_file.map(|file| file.finish()?.stage());
    let staged = [report_file.transpose()?, decisions_file.transpose()?];
    staged.into_iter().flatten().try_for_each(crate::output::StagedFile::publish)
}

/// A flag without an effect is a mistake.
pub(crate) fn refuse_idle_flags(
    users: Option<u32>,
    seed: Option<u64>,
    format: TraceFormat,
) -> Result<(), SimulateError> {
    let drawing = [("--users", users.is_some()), ("--seed", seed.is_some())];
    match drawing.iter().find(|(_, given)| *given) {
        Some((flag, _)) if format == TraceFormat::Csv => Err(SimulateError::Flag {
            flag,
            problem: "a csv trace names its users itself".to_owned(),
            accepted: "only with the format azure-llm-2023",
        }),
        _ => Ok(()),
    }
}

/// An output must not replace an input or the other output.
fn refuse_overwriting(args: &SimulateArgs) -> Result<(), SimulateError> {
    let catalog_file = args.catalog.as_deref().and_then(|url| url.strip_prefix("file:"));
    let catalog_file = catalog_file.map(std::path::PathBuf::from);
    let paths = [
        ("--trace", Some(&args.trace)),
        ("--policies", args.policies.as_ref()),
        ("--catalog", catalog_file.as_ref()),
        ("--report", args.report.as_ref()),
        ("--decisions", args.decisions.as_ref()),
    ];
    let mut known: Vec<(&str, std::path::PathBuf)> = Vec::new();
    for (flag, path) in paths.into_iter().filter_map(|(flag, path)| Some((flag, path?))) {
        let path = std::fs::canonicalize(path)
            .or_else(|_| std::path::absolute(path))
            .unwrap_or_else(|_| path.clone());
        let is_output = matches!(flag, "--report" | "--decisions");
        match known.iter().find(|(_, other)| is_output && *other == path) {
            Some((other, _)) => {
                let problem = format!("{} is the file of {other}", path.display());
                let accepted = "a different file";
                return Err(SimulateError::Flag { flag, problem, accepted });
            }
            None => known.push((flag, path)),
        }
    }
    Ok(())
}
