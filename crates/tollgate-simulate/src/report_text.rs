//! The report for people.

use std::fmt;
use std::ops::RangeInclusive;

use crate::report::{KeyReport, LeasesReport, PolicyReport, Report, TraceReport, per_mille};

/// What the columns of the tables say.
const COLUMNS: &str = "\
checks        to which the policy applied; 0 means that it matched none, or that others overrode it
admitted      of these, admitted by all limits that they met
denied        of these, denied by this policy; a check that several policies deny counts for each
would deny    of these, those that the policy would deny if it were enforced; only in shadow mode
peak usage    the most that one key had in a window; in a token bucket, the most that was missing
of its limit  that usage as a part of the limit, or of the bucket
whose         the key with that usage
when          when it was first reached";

/// What the columns of the table of leases say.
const LEASE_COLUMNS: &str = "\
reserved      the output tokens that the admitted lines reserved, and those that they used
of reserved   the used ones as a part of the reserved ones; the rest was kept from others until the answer ended
enough        the admitted lines that used no more than they had reserved
over          the tokens used above reservations
worst debt    the highest usage above a limit that this led to";

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_trace(f, &self.trace)?;
        let policies = self.policies_file.as_deref().unwrap_or("the default policy");
        writeln!(f, "policies   {policies}")?;
        let (admitted, denied) =
            (share(self.admitted, self.checks), share(self.denied, self.checks));
        writeln!(f, "checks     {}: admitted {admitted}, denied {denied}", grouped(self.checks))?;
        let reasons = self.reasons.iter().filter(|(_, denied)| **denied > 0);
        let reasons: Vec<_> =
            reasons.map(|(reason, denied)| format!("{reason} {}", grouped(*denied))).collect();
        if !reasons.is_empty() {
            writeln!(f, "denied by  {}", reasons.join(", "))?;
        }
        if let Some(worst) = &self.worst_key {
            let (key, denied) = (shown_key(&worst.key), grouped(worst.denied));
            writeln!(f, "worst key  {key}: {denied} denials by {}", worst.policy_id)?;
        }
        if self.keys_evicted > 0 {
            let evicted = grouped(self.keys_evicted);
            writeln!(f, "evicted    {evicted} keys at the store's cap: their usage was forgotten")?;
        }
        write_policies(f, &self.policies)?;
        write_peaks(f, &self.policies)?;
        writeln!(f, "\n{COLUMNS}")?;
        if let Some(leases) = &self.leases {
            write_leases(f, leases)?;
        }
        let (wall, rate) = (self.timing.wall_seconds, grouped(self.timing.checks_per_second));
        writeln!(f, "\nreplayed in {wall}, {rate} checks/s")?;
        if self.verified {
            writeln!(
                f,
                "verified: the reference model gives the same {} decisions",
                grouped(self.checks)
            )?;
        }
        Ok(())
    }
}

pub(crate) fn write_trace(f: &mut fmt::Formatter<'_>, trace: &TraceReport) -> fmt::Result {
    let guessed = if trace.format_guessed { " by its header" } else { "" };
    write!(f, "trace      {}, {}{guessed}", trace.file, trace.format)?;
    if let (Some(users), Some(seed)) = (trace.users, trace.seed) {
        write!(f, ", {} users by seed {seed}", grouped(u64::from(users)))?;
    }
    writeln!(f)?;
    if let (Some(earliest), Some(latest)) = (&trace.earliest_at, &trace.latest_at) {
        writeln!(f, "time       {earliest} to {latest}: {}", trace.duration_seconds)?;
    }
    if trace.lines_reordered > 0 {
        let lines = grouped(trace.lines_reordered);
        writeln!(
            f,
            "order      {lines} lines are earlier than one before them; they were decided in the order of time"
        )?;
    }
    Ok(())
}

fn write_policies(f: &mut fmt::Formatter<'_>, policies: &[PolicyReport]) -> fmt::Result {
    let header = ["policy", "mode", "limit", "checks", "admitted", "denied", "would deny"];
    let rows = policies.iter().map(|policy| {
        let (unit, window) = match policy.window_seconds {
            Some(window) => (policy.unit.as_str(), format!(" in {window}")),
            None => ("leases", " at a time".to_owned()),
        };
        let amount = format!("{} {unit}", grouped(policy.refill.unwrap_or(policy.limit)));
        let limit = match (policy.calendar, policy.time_zone) {
            (Some(calendar), Some(zone)) => format!("{amount} per calendar {calendar} ({zone})"),
            _ if policy.refill.is_some() => {
                format!("{amount}{window}, {} at once", grouped(policy.limit))
            }
            _ => format!("{amount}{window}"),
        };
        let counts = [policy.checks, policy.admitted, policy.denied, policy.would_deny];
        let [checks, admitted, denied, would_deny] = counts.map(grouped);
        let (id, mode) = (policy.policy_id.clone(), policy.mode.to_owned());
        [id, mode, limit, checks, admitted, denied, would_deny]
    });
    write_table(f, header, rows.collect(), 3..=6)
}

fn write_peaks(f: &mut fmt::Formatter<'_>, policies: &[PolicyReport]) -> fmt::Result {
    let header = ["policy", "peak usage", "of its limit", "whose", "when"];
    let rows = policies.iter().filter_map(|policy| {
        let peak = policy.peak.as_ref()?;
        let (count, share) = (grouped(peak.count), percent(peak.per_mille));
        Some([policy.policy_id.clone(), count, share, shown_key(&peak.key), peak.at.clone()])
    });
    write_table(f, header, rows.collect(), 1..=2)
}

fn write_leases(f: &mut fmt::Formatter<'_>, leases: &LeasesReport) -> fmt::Result {
    let (lines, tokens) = (grouped(leases.lines), grouped(leases.output_tokens));
    write!(
        f,
        "\nleases     {lines} lines with {tokens} output tokens, settled when the answer ends"
    )?;
    writeln!(f, " (without a duration: {} tokens/s)", leases.tokens_per_second)?;
    let header = [
        "reservation",
        "admitted",
        "denied",
        "reserved",
        "used",
        "of reserved",
        "enough",
        "over",
        "worst debt",
    ];
    let rows = leases.reservations.iter().map(|one| {
        let reservation = match one.quantile {
            Some(quantile) => format!("learned, for {quantile} of the answers"),
            None if one.reservation == "cap" => "the client's cap".to_owned(),
            None => format!("fixed {}", grouped(one.reserve)),
        };
        let debt = one.worst_debt.as_ref().map_or_else(
            || "none".to_owned(),
            |debt| format!("{} of {} at {}", grouped(debt.amount), debt.policy_id, debt.at),
        );
        [
            reservation,
            grouped(one.admitted),
            grouped(one.denied),
            grouped(one.reserved_tokens),
            grouped(one.used_tokens),
            share_of_reserved(one.used_tokens, one.reserved_tokens),
            percent(per_mille(one.within, one.admitted)),
            grouped(one.over_tokens),
            debt,
        ]
    });
    write_table(f, header, rows.collect(), 1..=7)?;
    writeln!(f, "\n{LEASE_COLUMNS}")
}

/// Writes a table after an empty line, the columns `numbers` aligned to the right.
pub(crate) fn write_table<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    header: [&str; N],
    rows: Vec<[String; N]>,
    numbers: RangeInclusive<usize>,
) -> fmt::Result {
    writeln!(f)?;
    write_indented(f, 0, header, rows, &numbers.collect::<Vec<_>>())
}

/// Writes a table `indent` spaces from the left, the columns `numbers` aligned to the right.
pub(crate) fn write_indented<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    indent: usize,
    header: [&str; N],
    mut rows: Vec<[String; N]>,
    numbers: &[usize],
) -> fmt::Result {
    rows.insert(0, header.map(str::to_owned));
    let widths: [usize; N] = std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    });
    for row in &rows {
        let cells = row.iter().zip(widths).enumerate().map(|(index, (cell, width))| {
            if numbers.contains(&index) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        writeln!(f, "{:indent$}{}", "", line.trim_end())?;
    }
    Ok(())
}

pub(crate) fn shown_key(key: &KeyReport) -> String {
    if key.is_empty() {
        return "everyone".to_owned();
    }
    let values: Vec<_> = key.iter().map(|(name, value)| format!("{name}={value}")).collect();
    values.join(" ")
}

pub(crate) fn share(part: u64, whole: u64) -> String {
    // Rounded, so that the shares of a whole add up to it; a peak's share is rounded down, so that 100 % means full.
    let per_mille = per_mille(part.saturating_mul(2), whole).div_ceil(2);
    format!("{} ({})", grouped(part), percent(per_mille))
}

/// How much of what was reserved was used. Of nothing it has no share.
fn share_of_reserved(used: u64, reserved: u64) -> String {
    match (used, reserved) {
        (0, 0) => "-".to_owned(),
        (_, 0) => "none reserved".to_owned(),
        _ => percent(per_mille(used, reserved)),
    }
}

fn percent(per_mille: u64) -> String {
    format!("{}.{} %", per_mille / 10, per_mille % 10)
}

/// `number` with its digits in groups of three: `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reserved_has_no_share() {
        let cases = [(0, 0, "-"), (550, 0, "none reserved"), (0, 10, "0.0 %"), (55, 10, "550.0 %")];
        for (used, reserved, text) in cases {
            assert_eq!(share_of_reserved(used, reserved), text);
        }
    }

    #[test]
    fn digits_are_grouped_by_threes() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }
}
