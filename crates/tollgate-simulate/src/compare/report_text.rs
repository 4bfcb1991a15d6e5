//! The report of a comparison for people.

use std::fmt;

use super::report::{
    ChangeReport, ComparisonReport, LosingGaining, Pair, PolicyDiffReport, SideReport,
    SubjectKindReport, SubjectReport,
};
use crate::report_text::{grouped, share, shown_key, write_table, write_trace};

/// What the columns of the tables say.
const COLUMNS: &str = "\
applied       the checks to which the policy applied, by the old and by the new policies
denied        of these, those that it denied, or in shadow mode would have denied
lost          checks that only the old policies allow; in the first table, those that this policy denies in the new set
gained        checks that only the new policies allow; in the first table, those that this policy denied in the old set
allowed       the checks of the subject that are allowed, by the old and by the new policies
tokens        the tokens of these checks
first change  when its first check was lost or gained";

impl fmt::Display for ComparisonReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_trace(f, &self.trace)?;
        if self.is_cut {
            writeln!(f, "cut        only the first {} checks were decided", grouped(self.checks))?;
        }
        let name = |name: &Option<String>| name.clone().unwrap_or("the default policy".to_owned());
        writeln!(f, "old        {}", name(&self.policy_files.old))?;
        writeln!(f, "new        {}", name(&self.policy_files.new))?;
        let allowed = self.allowed;
        let (old, new) = (share(allowed.old, self.checks), share(allowed.new, self.checks));
        let checks = grouped(self.checks);
        writeln!(
            f,
            "checks     {checks}: allowed {old} by old, {new} by new: {}",
            signed(allowed)
        )?;
        let (old, new) = (grouped(self.tokens.old), grouped(self.tokens.new));
        writeln!(f, "tokens     allowed {old} by old, {new} by new: {}", signed(self.tokens))?;
        let (lost, gained) = (grouped(self.lost), grouped(self.gained));
        writeln!(f, "decisions  {lost} checks lost, {gained} gained")?;
        if let Some(change) = &self.first_change {
            writeln!(f, "first      {change}")?;
        }
        if self.keys_evicted != Pair::default() {
            let (old, new) = (grouped(self.keys_evicted.old), grouped(self.keys_evicted.new));
            writeln!(f, "evicted    {old} keys by old, {new} by new: their usage was forgotten")?;
        }
        write_policies(f, &self.policies)?;
        self.subjects.iter().try_for_each(|kind| write_kind(f, kind))?;
        writeln!(f, "\n{COLUMNS}")?;
        let (wall, rate) = (self.timing.wall_seconds, grouped(self.timing.checks_per_second));
        writeln!(f, "\ncompared in {wall}, {rate} checks/s")
    }
}

impl fmt::Display for ChangeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, line, who) = (&self.at, self.line, shown_key(&self.subject));
        write!(f, "{at}, line {line}, {who}: {} by old, {} by new", self.old, self.new)
    }
}

impl fmt::Display for SideReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.policy_id, self.reason) {
            _ if self.allowed => f.write_str("allowed"),
            (Some(policy_id), _) => write!(f, "denied ({policy_id})"),
            (None, reason) => write!(f, "denied ({})", reason.unwrap_or_default()),
        }
    }
}

fn write_policies(f: &mut fmt::Formatter<'_>, policies: &[PolicyDiffReport]) -> fmt::Result {
    let header = ["policy", "is", "applied old", "new", "denied old", "new", "lost", "gained"];
    let rows = policies.iter().map(|policy| {
        let PolicyDiffReport { policy_id, status, checks, refused, lost, gained } = policy;
        let numbers = [checks.old, checks.new, refused.old, refused.new, *lost, *gained];
        let [old_checks, new_checks, old_refused, new_refused, lost, gained] = numbers.map(grouped);
        let (id, is) = (policy_id.clone(), status.name().to_owned());
        [id, is, old_checks, new_checks, old_refused, new_refused, lost, gained]
    });
    write_table(f, header, rows.collect(), 2..=7)
}

fn write_kind(f: &mut fmt::Formatter<'_>, kind: &SubjectKindReport) -> fmt::Result {
    if kind.count == 0 {
        return Ok(());
    }
    write!(f, "\n{}: {} in all", kind.kind, grouped(kind.count))?;
    for (what, LosingGaining { losing, gaining }) in
        [("checks", kind.checks), ("tokens", kind.tokens)]
    {
        write!(f, "; {what}: {} lose, {} gain", grouped(losing), grouped(gaining))?;
    }
    match kind.mixed {
        0 => writeln!(f)?,
        mixed => writeln!(f, "; {} of them lose one and gain the other", grouped(mixed))?,
    }
    if kind.checks_beyond > 0 {
        let checks = grouped(kind.checks_beyond);
        writeln!(f, "{checks} checks of others are not counted one by one: there are too many")?;
    }
    let SubjectKindReport { losers, gainers, mixed_subjects, .. } = kind;
    let rows = losers.iter().chain(gainers).chain(mixed_subjects);
    let rows: Vec<_> = rows.map(subject_row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let header = [
        kind.kind.as_str(),
        "checks",
        "allowed old",
        "new",
        "change",
        "tokens old",
        "new",
        "change",
        "lost",
        "gained",
        "first change",
    ];
    write_table(f, header, rows, 1..=9)
}

fn subject_row(row: &SubjectReport) -> [String; 11] {
    let SubjectReport { subject, checks, allowed, tokens, lost, gained, first_change_at } = row;
    [
        shown_key(subject),
        grouped(*checks),
        grouped(allowed.old),
        grouped(allowed.new),
        signed(*allowed),
        grouped(tokens.old),
        grouped(tokens.new),
        signed(*tokens),
        grouped(*lost),
        grouped(*gained),
        first_change_at.clone().unwrap_or_default(),
    ]
}

/// By how much the new number is more or less, with its sign.
fn signed(pair: Pair<u64>) -> String {
    let size = grouped(pair.new.abs_diff(pair.old));
    match pair.new.cmp(&pair.old) {
        std::cmp::Ordering::Less => format!("-{size}"),
        std::cmp::Ordering::Equal => size,
        std::cmp::Ordering::Greater => format!("+{size}"),
    }
}
