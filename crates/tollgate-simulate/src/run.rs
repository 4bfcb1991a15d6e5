//! The use case: takes a trace, makes a report and files.

use std::io::{self, Write};
use std::path::Path;

use tollgate_core::{Clock, MonotonicClock, PolicySet};

use crate::decisions::DecisionsFile;
use crate::output::OutputFile;
use crate::progress::Progress;
use crate::report::{Inputs, Outcome, Report, Times};
use crate::tally::Tally;
use crate::trace::{Population, TraceCheck, TraceFormat, TraceReader};
use crate::verify::Verifier;
use crate::{Replay, SimulateArgs, SimulateError};

/// Runs the simulation of `args` with the policies of its file, and writes the requested files.
pub fn run(args: &SimulateArgs) -> Result<Report, SimulateError> {
    let policies = match &args.policies {
        Some(path) => tollgate_catalog::policy_file::load(path).map_err(SimulateError::Policies)?,
        None => PolicySet::new(Vec::new()).map_err(SimulateError::PolicySet)?,
    };
    simulate(args, &policies)
}

/// Runs the simulation of `args` with `policies`, and writes the requested files.
pub fn simulate(args: &SimulateArgs, policies: &PolicySet) -> Result<Report, SimulateError> {
    refuse_overwriting(args)?;
    let population = Population {
        users: args.users.unwrap_or(Population::default().users),
        seed: args.seed.unwrap_or(Population::default().seed),
    };
    let mut trace = TraceReader::open(&args.trace, args.format, population)?;
    refuse_idle_flags(args, trace.format())?;
    let report_file = create("--report", args.report.as_deref())?;
    let decisions_file = create("--decisions", args.decisions.as_deref())?;
    let mut decisions_file = decisions_file.map(DecisionsFile::new).transpose()?;
    let mut verifier = args.verify.then(|| Verifier::new(policies.policies()));

    let outcome = replay(&mut trace, policies, decisions_file.as_mut(), verifier.as_mut())?;

    let drawn = (trace.format() == TraceFormat::AzureLlm2023).then_some(population);
    let inputs = Inputs {
        trace_file: args.trace.display().to_string(),
        format: trace.format().name(),
        format_guessed: trace.is_format_guessed(),
        users: drawn.map(|population| population.users),
        seed: drawn.map(|population| population.seed),
        policies_file: args.policies.as_ref().map(|path| path.display().to_string()),
        verified: args.verify,
    };
    let report = Report::new(inputs, &outcome);
    write_files(report_file, &report, decisions_file)?;
    Ok(report)
}

/// Decides every check of `trace`, in order.
fn replay<'p>(
    trace: &mut TraceReader,
    policies: &'p PolicySet,
    decisions_file: Option<&mut DecisionsFile>,
    verifier: Option<&mut Verifier>,
) -> Result<Outcome<'p>, SimulateError> {
    let wall_clock = MonotonicClock::new();
    let start = wall_clock.now();
    let mut progress = Progress::new(trace.total_bytes());
    let mut pass = Pass {
        replay: Replay::new(policies),
        tally: Tally::new(policies),
        times: Times::default(),
        decisions_file,
        verifier,
    };
    while let Some(traced) = trace.next_check()? {
        pass.take(&traced)?;
        progress.add_check(trace.bytes_read());
    }
    let wall_ns = wall_clock.now().as_ns().saturating_sub(start.as_ns());
    let Pass { replay, tally, times, .. } = pass;
    Ok(Outcome { tally, times, store: replay.store_stats(), wall_ns })
}

/// One pass over a trace.
struct Pass<'p, 'w> {
    replay: Replay<'p>,
    tally: Tally<'p>,
    times: Times,
    decisions_file: Option<&'w mut DecisionsFile>,
    verifier: Option<&'w mut Verifier>,
}

impl Pass<'_, '_> {
    fn take(&mut self, traced: &TraceCheck<'_>) -> Result<(), SimulateError> {
        let now = self.replay.advance_to(traced.at);
        let (plan, decision) = self.replay.decide(&traced.check);
        self.times.add(traced.at, now);
        self.tally.add(now, &plan, &decision);
        if let Some(file) = &mut self.decisions_file {
            file.add(&decision)?;
        }
        match &mut self.verifier {
            Some(verifier) => verifier.verify(traced, &decision).map_err(SimulateError::Difference),
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
fn refuse_idle_flags(args: &SimulateArgs, format: TraceFormat) -> Result<(), SimulateError> {
    let drawing = [("--users", args.users.is_some()), ("--seed", args.seed.is_some())];
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
    let paths = [
        ("--trace", Some(&args.trace)),
        ("--policies", args.policies.as_ref()),
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
