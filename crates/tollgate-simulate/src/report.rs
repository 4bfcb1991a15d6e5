//! The report: its content, and its form as JSON. `Display` writes it for people.

use std::collections::BTreeMap;

use serde::Serialize;
use tollgate_core::{Amount, Timestamp};
use tollgate_store::memory::MemoryStoreStats;

use crate::leases::{LeaseOptions, Leases, Reservation, Strategy};
use crate::seconds::Seconds;
use crate::tally::{Key, MostDenied, PolicyTally, Tally};
use crate::trace::{Population, TraceReader, rfc_3339};

/// The result of a simulation. As long as no key is evicted, everything except `timing` depends only on the trace, the
/// policies and the seed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The trace that was replayed.
    pub trace: TraceReport,
    /// The policy file or the catalog; `None` for the default policy.
    pub policies_file: Option<String>,
    /// The number of checks in the trace.
    pub checks: u64,
    /// The number of admitted checks.
    pub admitted: u64,
    /// The number of denied checks.
    pub denied: u64,
    /// The number of denials by reason.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Each enabled policy that limits, in the order of the policies.
    pub policies: Vec<PolicyReport>,
    /// The key with the most denials; `None` without a denial.
    pub worst_key: Option<WorstKey>,
    /// The same trace with leases; left out unless it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leases: Option<LeasesReport>,
    /// The keys with usage at the end.
    pub keys_held: u64,
    /// The keys that the store's cap evicted before they were idle; 0 unless the trace has millions of them.
    pub keys_evicted: u64,
    /// Whether each decision was recomputed with the reference model and is equal.
    pub verified: bool,
    /// How long it took.
    pub timing: Timing,
}

/// The trace of a [`Report`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceReport {
    /// The file.
    pub file: String,
    /// The name of its format.
    pub format: &'static str,
    /// Whether the format was taken from the header.
    pub format_guessed: bool,
    /// The number of users to which its requests were assigned; `None` if the trace itself names users.
    pub users: Option<u32>,
    /// The seed for that; `None` if the trace itself names users.
    pub seed: Option<u64>,
    /// The time of the earliest line; `None` for a trace without checks.
    pub earliest_at: Option<String>,
    /// The time of the latest line.
    pub latest_at: Option<String>,
    /// From the earliest to the latest line.
    pub duration_seconds: Seconds,
    /// The time that passed on the virtual clock: the same.
    pub virtual_seconds: Seconds,
    /// The lines with a time before that of an earlier line; they were decided in the order of their times.
    pub lines_reordered: u64,
}

/// The results of one policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyReport {
    /// The policy.
    pub policy_id: String,
    /// What it counts per.
    pub scope: String,
    /// Its unit.
    pub unit: String,
    /// Its algorithm.
    pub algorithm: &'static str,
    /// Its mode.
    pub mode: &'static str,
    /// Its limit; the capacity of a token bucket.
    pub limit: u64,
    /// What a token bucket gets back in the window; left out for other algorithms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refill: Option<u64>,
    /// The window; of a calendar, as long as a period usually is; null for concurrency.
    pub window_seconds: Option<Seconds>,
    /// The period of a calendar; left out for other algorithms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calendar: Option<&'static str>,
    /// The time zone of the calendar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<&'static str>,
    /// The checks to which it applied.
    pub checks: u64,
    /// Those that were admitted.
    pub admitted: u64,
    /// Those that it denied; a check that two policies deny counts for both.
    pub denied: u64,
    /// The denied checks with this policy as headline; each denied check counts for one policy.
    pub headline_denials: u64,
    /// The checks that a shadow policy would have denied.
    pub would_deny: u64,
    /// Its highest usage; `None` if nothing was charged.
    pub peak: Option<PeakReport>,
}

/// The highest usage of a policy's limits.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeakReport {
    /// The usage.
    pub count: u64,
    /// The share of the limit, in thousandths rounded down.
    pub per_mille: u64,
    /// The key with this usage.
    pub key: KeyReport,
    /// When it was first reached.
    pub at: String,
}

/// The key with the most denials.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorstKey {
    /// The policy that was the headline of these denials.
    pub policy_id: String,
    /// The denied key.
    pub key: KeyReport,
    /// The number of denials.
    pub denied: u64,
}

/// The trace, replayed with leases: each line reserves its output tokens, and settles them when its answer has ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeasesReport {
    /// The lines that say how much output they had: the others are left out.
    pub lines: u64,
    /// The output tokens of these lines.
    pub output_tokens: u64,
    /// How fast answers without a duration are written, in tokens per second.
    pub tokens_per_second: u32,
    /// What each reservation comes to.
    pub reservations: Vec<ReservationReport>,
}

/// The leases with one way to reserve.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReservationReport {
    /// `fixed`, `cap` (that of the client) or `learned`.
    pub reservation: &'static str,
    /// The fixed reservation, also where there is no cap or nothing was learned yet.
    pub reserve: u64,
    /// Which part of the answers a learned reservation is enough for; left out for the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantile: Option<f64>,
    /// The admitted lines.
    pub admitted: u64,
    /// The denied lines.
    pub denied: u64,
    /// The output tokens that the admitted lines reserved.
    pub reserved_tokens: u64,
    /// Those that they used.
    pub used_tokens: u64,
    /// The admitted lines that used no more than they had reserved.
    pub within: u64,
    /// The tokens that were used above reservations.
    pub over_tokens: u64,
    /// The highest usage above a limit; `None` if there was none.
    pub worst_debt: Option<DebtReport>,
}

/// Usage above a limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DebtReport {
    /// The policy that sets the limit.
    pub policy_id: String,
    /// By how much the usage was above it.
    pub amount: u64,
    /// When.
    pub at: String,
}

impl LeasesReport {
    fn new(leases: &Leases<'_>, options: LeaseOptions) -> Self {
        let reservation = |strategy: &Strategy<'_>| {
            let outcome = &strategy.outcome;
            let is_learned = strategy.reservation == Reservation::Learned;
            ReservationReport {
                reservation: match strategy.reservation {
                    Reservation::Fixed => "fixed",
                    Reservation::Cap => "cap",
                    Reservation::Learned => "learned",
                },
                reserve: options.reserve.get(),
                quantile: is_learned.then_some(options.quantile),
                admitted: outcome.admitted,
                denied: outcome.denied,
                reserved_tokens: outcome.reserved,
                used_tokens: outcome.used,
                within: outcome.within,
                over_tokens: outcome.over,
                worst_debt: outcome.worst_debt.as_ref().map(|(amount, policy_id, at)| DebtReport {
                    policy_id: policy_id.clone(),
                    amount: *amount,
                    at: rfc_3339(*at),
                }),
            }
        };
        Self {
            lines: leases.lines,
            output_tokens: leases.demand,
            tokens_per_second: options.tokens_per_second,
            reservations: leases.strategies.iter().map(reservation).collect(),
        }
    }
}

/// The values of a key by the names of their attributes; empty for a global limit.
pub type KeyReport = BTreeMap<String, String>;

/// How long a simulation took.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timing {
    /// From the first line read to the last decision, in real time.
    pub wall_seconds: Seconds,
    /// The rate of checks in that time.
    pub checks_per_second: u64,
}

/// The times of the checks in a trace.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    /// The earliest and the latest time; `None` without checks.
    span: Option<(Timestamp, Timestamp)>,
    /// The lines that were put in order.
    pub(crate) reordered: u64,
}

impl Times {
    /// Adds a line with the time `at`.
    pub(crate) fn add(&mut self, at: Timestamp) {
        let (earliest, latest) = self.span.unwrap_or((at, at));
        self.span = Some((earliest.min(at), latest.max(at)));
    }
}

/// A trace, for a report.
pub(crate) struct TraceInputs {
    file: String,
    format: &'static str,
    format_guessed: bool,
    users: Option<u32>,
    seed: Option<u64>,
}

impl TraceInputs {
    /// The trace called `file`, of whose requests the users and models were drawn from `drawn`, if they were.
    pub(crate) fn new(file: &str, trace: &TraceReader, drawn: Option<Population>) -> Self {
        Self {
            file: file.to_owned(),
            format: trace.format().name(),
            format_guessed: trace.is_format_guessed(),
            users: drawn.map(|population| population.users),
            seed: drawn.map(|population| population.seed),
        }
    }
}

/// The input of a simulation, for its report.
pub(crate) struct Inputs {
    pub(crate) trace: TraceInputs,
    pub(crate) policies_file: Option<String>,
    pub(crate) verified: bool,
    pub(crate) lease_options: Option<LeaseOptions>,
}

/// The result of a replay.
pub(crate) struct Outcome<'p> {
    pub(crate) tally: Tally<'p>,
    pub(crate) times: Times,
    pub(crate) store: MemoryStoreStats,
    pub(crate) leases: Option<Leases<'p>>,
    pub(crate) wall_ns: u64,
}

impl Report {
    pub(crate) fn new(inputs: Inputs, outcome: &Outcome<'_>) -> Self {
        let Outcome { tally, times, store, leases, wall_ns } = outcome;
        let leases = leases.as_ref().zip(inputs.lease_options);
        Self {
            trace: TraceReport::new(&inputs.trace, times),
            policies_file: inputs.policies_file,
            checks: tally.checks,
            admitted: tally.admitted,
            denied: tally.checks - tally.admitted,
            reasons: tally.reasons.clone(),
            policies: tally.policies.iter().map(PolicyReport::new).collect(),
            worst_key: tally.most_denied().map(|most| WorstKey::new(&most)),
            leases: leases.map(|(leases, options)| LeasesReport::new(leases, options)),
            keys_held: store.keys,
            keys_evicted: store.evicted,
            verified: inputs.verified,
            timing: Timing::new(tally.checks, *wall_ns),
        }
    }
}

impl TraceReport {
    pub(crate) fn new(inputs: &TraceInputs, times: &Times) -> Self {
        let (earliest, latest) = times.span.unwrap_or_default();
        let at = |moment| times.span.map(|_| rfc_3339(moment));
        Self {
            file: inputs.file.clone(),
            format: inputs.format,
            format_guessed: inputs.format_guessed,
            users: inputs.users,
            seed: inputs.seed,
            earliest_at: at(earliest),
            latest_at: at(latest),
            duration_seconds: Seconds::from_ns(latest.as_ns() - earliest.as_ns()),
            virtual_seconds: Seconds::from_ns(latest.as_ns() - earliest.as_ns()),
            lines_reordered: times.reordered,
        }
    }
}

impl PolicyReport {
    fn new(tally: &PolicyTally<'_>) -> Self {
        let limit = tally.limit;
        let calendar = limit.counting().calendar();
        let peak = tally.peak.as_ref().map(|peak| PeakReport {
            count: peak.count,
            per_mille: per_mille(peak.count, limit.amount().get()),
            key: key_report(&peak.key),
            at: rfc_3339(peak.at),
        });
        Self {
            policy_id: limit.policy_id().to_string(),
            scope: limit.scope().to_owned(),
            unit: limit.unit().to_string(),
            algorithm: limit.counting().name(),
            mode: limit.mode().name(),
            limit: limit.amount().get(),
            refill: limit.counting().refill().map(Amount::get),
            window_seconds: limit
                .counting()
                .window()
                .map(|window| Seconds::from_ns(window.as_ns())),
            calendar: calendar.map(|(calendar, _)| calendar.name()),
            time_zone: calendar.map(|(_, zone)| zone.name()),
            checks: tally.checks,
            admitted: tally.admitted,
            denied: tally.denied(),
            headline_denials: tally.headline_denials,
            would_deny: tally.would_deny(),
            peak,
        }
    }
}

impl WorstKey {
    fn new(most: &MostDenied<'_>) -> Self {
        let policy_id = most.limit.policy_id().to_string();
        Self { policy_id, key: key_report(&most.key), denied: most.denied }
    }
}

impl Timing {
    pub(crate) fn new(checks: u64, wall_ns: u64) -> Self {
        let per_second = u128::from(checks) * 1_000_000_000 / u128::from(wall_ns.max(1));
        Self {
            wall_seconds: Seconds::from_ns(wall_ns),
            checks_per_second: u64::try_from(per_second).unwrap_or(u64::MAX),
        }
    }
}

fn key_report(key: &Key) -> KeyReport {
    key.iter().cloned().collect()
}

/// `part` of `whole` in thousandths, rounded down; 0 of nothing.
pub(crate) fn per_mille(part: u64, whole: u64) -> u64 {
    let per_mille = u128::from(part) * 1_000 / u128::from(whole.max(1));
    u64::try_from(per_mille).unwrap_or(u64::MAX)
}
