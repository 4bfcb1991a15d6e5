//! The results of benchmarks, compared with the project's goals; as a Markdown table and as JSON.

use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::machine::Machine;

/// All results of one run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The machine and the date.
    pub machine: Machine,
    /// One for each benchmark.
    pub sections: Vec<Section>,
}

/// The results of one benchmark.
#[derive(Debug, Serialize)]
pub struct Section {
    /// The title, with the sizes.
    pub title: String,
    /// The measurements.
    pub measurements: Measurements,
    /// The goals.
    pub goals: Vec<Goal>,
}

/// Samples by question and contender: the questions in the order of their first sample, and the contenders of each
/// likewise.
#[derive(Debug, Serialize)]
pub struct Measurements {
    unit: &'static str,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    question: String,
    contender: String,
    samples: Vec<f64>,
}

impl Measurements {
    /// No samples, of `unit`.
    pub fn in_unit(unit: &'static str) -> Self {
        Self { unit, rows: Vec::new() }
    }

    /// Adds one sample.
    pub fn add(&mut self, question: &str, contender: &str, sample: f64) {
        if let Some(known) = self.row_mut(question, contender) {
            known.samples.push(sample);
            return;
        }
        let row = Row {
            question: question.to_owned(),
            contender: contender.to_owned(),
            samples: vec![sample],
        };
        let last = self.rows.iter().rposition(|known| known.question == question);
        self.rows.insert(last.map_or(self.rows.len(), |last| last + 1), row);
    }

    fn row_mut(&mut self, question: &str, contender: &str) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.question == question && row.contender == contender)
    }

    /// The median of the samples; `None` if there are none.
    pub fn median(&self, question: &str, contender: &str) -> Option<f64> {
        let row =
            self.rows.iter().find(|row| row.question == question && row.contender == contender)?;
        Some(median(&row.samples))
    }
}

/// The median of `samples`; for an even count the mean of the middle two. NaN without samples.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.as_slice() {
        [] => f64::NAN,
        _ if sorted.len() % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// A goal of the project.
#[derive(Clone, Debug, Serialize)]
pub struct Goal {
    /// The question.
    pub question: &'static str,
    /// The contender that has to reach it.
    pub contender: &'static str,
    /// The bound.
    pub bound: Bound,
}

/// The bound for a median.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// At most this value.
    AtMost(f64),
    /// At least this value.
    AtLeast(f64),
    /// At most this share of another contender's median.
    AtMostRatio {
        /// The share.
        ratio: f64,
        /// The other contender.
        of: &'static str,
    },
    /// At least this share of another contender's median.
    AtLeastRatio {
        /// The share.
        ratio: f64,
        /// The other contender.
        of: &'static str,
    },
    /// At most so much more than another contender's median.
    AtMostAbove {
        /// How much more.
        value: f64,
        /// The other contender.
        of: &'static str,
    },
}

impl Bound {
    /// The value that is compared with the bound: `median` itself, its ratio to the other's median, or how much it is above that;
    /// and whether the goal is reached.
    fn judge(self, median: f64, other: impl Fn(&str) -> f64) -> (f64, bool) {
        match self {
            Self::AtMost(value) => (median, median <= value),
            Self::AtLeast(value) => (median, median >= value),
            Self::AtMostRatio { ratio, of } => {
                let share = median / other(of);
                (share, share <= ratio)
            }
            Self::AtLeastRatio { ratio, of } => {
                let share = median / other(of);
                (share, share >= ratio)
            }
            Self::AtMostAbove { value, of } => {
                let above = median - other(of);
                (above, above <= value)
            }
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(value) => write!(f, "≤ {value}"),
            Self::AtLeast(value) => write!(f, "≥ {value}"),
            Self::AtMostRatio { ratio, of } => write!(f, "≤ {ratio} × {of}"),
            Self::AtLeastRatio { ratio, of } => write!(f, "≥ {ratio} × {of}"),
            Self::AtMostAbove { value, of } => write!(f, "≤ {of} + {value}"),
        }
    }
}

impl Report {
    /// The report as Markdown.
    pub fn to_markdown(&self) -> String {
        let mut text = self.machine.to_markdown();
        for section in &self.sections {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "\n### {}\n\n{}", section.title, section.to_markdown());
        }
        text
    }

    /// Whether every goal is reached.
    pub fn passes(&self) -> bool {
        self.sections.iter().all(|section| section.goals.iter().all(|goal| section.judge(goal).1))
    }
}

impl Section {
    fn judge(&self, goal: &Goal) -> (f64, bool) {
        let median = |contender: &str| {
            self.measurements.median(goal.question, contender).unwrap_or(f64::NAN)
        };
        goal.bound.judge(median(goal.contender), median)
    }

    /// The medians of `contender` as multiples of those of every other contender: a Markdown table with a line for each of the
    /// `questions` that was measured, and a column for each of the `others`. A negative median has no ratio.
    pub fn ratios(&self, contender: &str, questions: &[String], others: &[&str]) -> String {
        let median = |question: &str, of: &str| self.measurements.median(question, of);
        let mut header = vec![format!("{contender} to")];
        header.extend(others.iter().map(|&other| other.to_owned()));
        let mut lines = vec![header];
        for question in questions {
            let Some(ours) = median(question, contender) else { continue };
            let mut line = vec![question.clone()];
            line.extend(others.iter().map(|other| match median(question, other) {
                Some(theirs) if ours > 0.0 && theirs > 0.0 => ratio(ours / theirs),
                _ => "–".to_owned(),
            }));
            lines.push(line);
        }
        table(&lines)
    }

    fn to_markdown(&self) -> String {
        let unit = self.measurements.unit;
        let header = ["question", "contender", unit, "least to most", "goal", "reached"];
        let mut lines = vec![header.map(str::to_owned).to_vec()];
        for row in &self.measurements.rows {
            let least = row.samples.iter().copied().fold(f64::INFINITY, f64::min);
            let most = row.samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let goal = self
                .goals
                .iter()
                .find(|goal| goal.question == row.question && goal.contender == row.contender);
            let (wanted, reached) = goal.map_or_else(Default::default, |goal| {
                let (value, passes) = self.judge(goal);
                let verdict = if passes { "yes" } else { "**no**" };
                (goal.bound.to_string(), format!("{}: {verdict}", rounded(value)))
            });
            lines.push(vec![
                row.question.clone(),
                row.contender.clone(),
                rounded(median(&row.samples)),
                format!("{} to {}", rounded(least), rounded(most)),
                wanted,
                reached,
            ]);
        }
        table(&lines)
    }
}

/// About four significant digits.
fn rounded(value: f64) -> String {
    match value.abs() {
        large if large >= 1_000.0 => format!("{value:.0}"),
        medium if medium >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// At least two significant digits.
fn ratio(value: f64) -> String {
    match value {
        tiny if tiny < 0.1 => format!("{value:.4}"),
        _ => rounded(value),
    }
}

/// A Markdown table, its columns aligned for people who read it in a terminal. All lines are as long as the first.
fn table(lines: &[Vec<String>]) -> String {
    let width = |column: usize| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..lines.first().map_or(0, Vec::len)).map(width).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (cell, &width) in line.iter().zip(&widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if number == 0 {
            for width in &widths {
                let _ = write!(text, "|{}", "-".repeat(width + 2));
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle() {
        for (samples, expected) in
            [(&[3.0, 1.0, 2.0][..], 2.0), (&[4.0, 1.0, 2.0, 3.0], 2.5), (&[7.0], 7.0)]
        {
            assert!((median(samples) - expected).abs() < 1e-9, "{samples:?}");
        }
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn ratios_are_those_of_the_medians_that_both_have() {
        let mut measurements = Measurements::in_unit("ms");
        for (question, contender, sample) in [
            ("q", "ours", 2.0),
            ("q", "slow", 8.0),
            ("q", "slower", 100.0),
            ("added", "ours", 1.0),
            ("added", "slow", -1.0),
        ] {
            measurements.add(question, contender, sample);
        }
        let section = Section { title: String::new(), measurements, goals: Vec::new() };
        let questions = ["q", "added", "not measured"].map(str::to_owned);
        let table = section.ratios("ours", &questions, &["slow", "slower"]);
        assert_eq!(
            table,
            "| ours to | slow | slower |\n|---------|------|--------|\n\
             | q       | 0.25 | 0.0200 |\n| added   | –    | –      |\n"
        );
    }

    #[test]
    fn a_goal_without_a_measurement_is_not_reached() {
        let goal = |bound| Goal { question: "q", contender: "ours", bound };
        let bounds = [
            (Bound::AtMost(2.0), true),
            (Bound::AtMost(1.9), false),
            (Bound::AtMostRatio { ratio: 0.5, of: "peer" }, true),
            (Bound::AtMostRatio { ratio: 0.4, of: "peer" }, false),
            (Bound::AtLeastRatio { ratio: 0.5, of: "peer" }, true),
            (Bound::AtLeastRatio { ratio: 0.6, of: "peer" }, false),
            (Bound::AtMostRatio { ratio: 0.5, of: "nobody" }, false),
        ];
        for (bound, expected) in bounds {
            let mut measurements = Measurements::in_unit("ns");
            measurements.add("q", "ours", 2.0);
            measurements.add("q", "peer", 4.0);
            let section = Section { title: String::new(), measurements, goals: Vec::new() };
            assert_eq!(section.judge(&goal(bound)).1, expected, "{bound}");
        }
    }
}
