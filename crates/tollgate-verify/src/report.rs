//! What was found.

use std::fmt;

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

/// A promise that is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Promise {
    /// A subject is admitted exactly up to its limit, however many checks come at once.
    Limit,
    /// A denial is not charged.
    Denials,
    /// A denial announces the shortest wait after which the check is admitted.
    Retry,
    /// No interval of a window's length holds more than the limit, wherever it begins.
    Window,
    /// The nodes share what they count.
    Nodes,
}

impl Promise {
    /// The promise in words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Limit => {
                "a subject is admitted exactly up to its limit, however many checks come at once"
            }
            Self::Denials => "denials cost nothing",
            Self::Retry => "retryAfterMs is the shortest wait after which the check is admitted",
            Self::Window => "no interval of a window's length holds more than the limit",
            Self::Nodes => "the nodes share their counts",
        }
    }
}

/// What became of a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Nothing speaks against it.
    Kept,
    /// Answers came that break it.
    Broken,
    /// It was not tested, or not finely enough.
    NotTested,
}

/// A promise, what became of it, and why.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The promise.
    pub promise: Promise,
    /// What became of it.
    pub outcome: Outcome,
    /// What was seen, in words.
    pub detail: String,
}

/// The result of a run. As JSON, it begins with its [outcome](Report::outcome).
#[derive(Clone, Debug)]
pub struct Report {
    /// The addresses that were asked.
    pub servers: Vec<String>,
    /// The policy whose limit was tested.
    pub policy_id: String,
    /// The limit of that policy.
    pub limit: u64,
    /// The length of its window in milliseconds.
    pub window_ms: u64,
    /// How many checks were sent.
    pub checks: u64,
    /// How long the run took, in milliseconds.
    pub took_ms: u64,
    /// A finding for each promise.
    pub findings: Vec<Finding>,
}

impl Report {
    /// `Broken` if any promise is, else `NotTested` if any is.
    pub fn outcome(&self) -> Outcome {
        let has = |outcome| self.findings.iter().any(|finding| finding.outcome == outcome);
        match () {
            () if has(Outcome::Broken) => Outcome::Broken,
            () if has(Outcome::NotTested) => Outcome::NotTested,
            () => Outcome::Kept,
        }
    }

    /// The report as JSON.
    pub fn to_json(&self) -> String {
        // Numbers, texts and names of variants: nothing that JSON cannot hold.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The exit code of the process: 0 if every promise is kept, 1 if one is broken, 3 if one was not tested.
    pub fn exit_code(&self) -> u8 {
        match self.outcome() {
            Outcome::Kept => 0,
            Outcome::Broken => 1,
            Outcome::NotTested => 3,
        }
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { servers, policy_id, limit, window_ms, checks, took_ms, findings } = self;
        let mut report = serializer.serialize_struct("Report", 8)?;
        report.serialize_field("outcome", &self.outcome())?;
        report.serialize_field("servers", servers)?;
        report.serialize_field("policyId", policy_id)?;
        report.serialize_field("limit", limit)?;
        report.serialize_field("windowMs", window_ms)?;
        report.serialize_field("checks", checks)?;
        report.serialize_field("tookMs", took_ms)?;
        report.serialize_field("findings", findings)?;
        report.end()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { servers, policy_id, limit, window_ms, checks, took_ms, findings } = self;
        writeln!(
            f,
            "{}: policy {policy_id}, {limit} requests in {} s; {checks} checks in {:.1} s",
            servers.join(", "),
            seconds(*window_ms),
            seconds(*took_ms),
        )?;
        for Finding { promise, outcome, detail } in findings {
            let outcome = match outcome {
                Outcome::Kept => "kept      ",
                Outcome::Broken => "BROKEN    ",
                Outcome::NotTested => "not tested",
            };
            writeln!(f, "{outcome}  {}: {detail}", promise.text())?;
        }
        f.write_str(match self.outcome() {
            Outcome::Kept => "every promise is kept\n",
            Outcome::Broken => "a promise is broken\n",
            Outcome::NotTested => "no promise is broken, but not all were tested\n",
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use super::*;

    fn finding(promise: Promise, outcome: Outcome) -> Finding {
        Finding { promise, outcome, detail: "seen".to_owned() }
    }

    fn report(findings: Vec<Finding>) -> Report {
        let servers = vec!["http://h".to_owned()];
        let policy_id = "p".to_owned();
        Report { servers, policy_id, limit: 40, window_ms: 2_000, checks: 9, took_ms: 1, findings }
    }

    #[test]
    fn the_outcome_of_a_run_is_its_worst_one() {
        use Outcome::{Broken, Kept, NotTested};
        for (outcomes, name, code) in [
            (&[Kept, Kept][..], "kept", 0),
            (&[Kept, NotTested], "notTested", 3),
            (&[NotTested, Broken, Kept], "broken", 1),
        ] {
            let findings = outcomes.iter().map(|outcome| finding(Promise::Limit, *outcome));
            let report = report(findings.collect());
            let json: Value = serde_json::from_str(&report.to_json()).unwrap();
            assert_eq!((json["outcome"].as_str(), report.exit_code()), (Some(name), code));
        }
    }

    fn keys(map: &Map<String, Value>) -> Vec<&str> {
        map.keys().map(String::as_str).collect()
    }

    /// The report has the fields that the document shows.
    #[test]
    fn the_document_shows_the_json() {
        let document = include_str!("../../../docs/INTEGRATION.md");
        let (_, section) = document.split_once("### Verify a running deployment\n").unwrap();
        let (_, block) = section.split_once("```json\n").unwrap();
        let shown: Value = serde_json::from_str(block.split_once("```").unwrap().0).unwrap();
        let report = report(vec![finding(Promise::Limit, Outcome::Kept)]);
        let json: Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(keys(json.as_object().unwrap()), keys(shown.as_object().unwrap()));
        let finding = |value: &Value| value["findings"][0].as_object().cloned().unwrap();
        assert_eq!(keys(&finding(&json)), keys(&finding(&shown)));
        assert_eq!(json["findings"][0]["promise"], shown["findings"][0]["promise"]);
    }
}
