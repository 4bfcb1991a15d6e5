//! The schema of a comparison of policies, which `tollgate-simulate` makes.

#![expect(dead_code, reason = "these types only describe JSON that other code reads and writes")]

use std::collections::BTreeMap;

use utoipa::ToSchema;

/// What to compare.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WhatIf, rename_all = "camelCase", examples(json!({
    "policies": "policies: [{id: per-minute, scope: USER, limit: 3, window: 1m}]",
    "trace": "timestamp,userId,modelId\n0,ann,gpt-4\n1,ann,gpt-4\n"
})))]
pub(super) struct WhatIfBody {
    /// The text of a policy file with policies and no other records. They take the place of all policies in force.
    policies: String,
    /// The format of `policies`: `yaml`, `json` or `toml` [default: yaml].
    #[schema(nullable = false)]
    format: Option<String>,
    /// The text of a trace; without it, the traffic that this server records.
    trace: Option<String>,
    /// The format of `trace`: `csv` or `azure-llm-2023`; by default its header determines it.
    #[schema(nullable = false)]
    trace_format: Option<String>,
    /// The number of users to draw for an azure-llm-2023 trace [default: 100].
    #[schema(minimum = 1, maximum = 1_000_000)]
    users: Option<u32>,
    /// The seed for drawing them [default: 1].
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    seed: Option<u64>,
}

/// A number for the policies in force, `old`, and one for the others, `new`.
#[derive(ToSchema)]
#[schema(as = ComparedNumber)]
struct NumberPair {
    old: u64,
    new: u64,
}

/// What two sets of policies decide differently: those in force, `old`, and others, `new`.
#[derive(ToSchema)]
#[schema(as = Comparison, rename_all = "camelCase", examples(json!({
 "trace": {
  "file": "the uploaded trace",
  "format": "csv",
  "formatGuessed": true,
  "users": null,
  "seed": null,
  "earliestAt": "1970-01-01T00:00:00Z",
  "latestAt": "1970-01-01T00:00:01Z",
  "durationSeconds": 1,
  "virtualSeconds": 1,
  "linesReordered": 0
 },
 "isCut": false,
 "policyFiles": {
  "old": "in force",
  "new": "candidate"
 },
 "checks": 2,
 "allowed": {
  "old": 2,
  "new": 1
 },
 "tokens": {
  "old": 0,
  "new": 0
 },
 "lost": 1,
 "gained": 0,
 "firstChange": {
  "at": "1970-01-01T00:00:01Z",
  "line": 3,
  "subject": {
   "model": "gpt-4",
   "user": "ann"
  },
  "old": {
   "allowed": true,
   "policyId": null,
   "reason": null
  },
  "new": {
   "allowed": false,
   "policyId": "per-minute",
   "reason": "limit_exceeded"
  }
 },
 "policies": [
  {
   "policyId": "default",
   "status": "removed",
   "checks": {
    "old": 2,
    "new": 0
   },
   "refused": {
    "old": 0,
    "new": 0
   },
   "lost": 0,
   "gained": 0
  },
  {
   "policyId": "per-minute",
   "status": "added",
   "checks": {
    "old": 0,
    "new": 2
   },
   "refused": {
    "old": 0,
    "new": 1
   },
   "lost": 1,
   "gained": 0
  }
 ],
 "subjects": [
  {
   "kind": "user",
   "count": 1,
   "checks": {
    "losing": 1,
    "gaining": 0
   },
   "tokens": {
    "losing": 0,
    "gaining": 0
   },
   "mixed": 0,
   "losers": [
    {
     "subject": {
      "user": "ann"
     },
     "checks": 2,
     "allowed": {
      "old": 2,
      "new": 1
     },
     "tokens": {
      "old": 0,
      "new": 0
     },
     "lost": 1,
     "gained": 0,
     "firstChangeAt": "1970-01-01T00:00:01Z"
    }
   ],
   "gainers": [],
   "mixedSubjects": [],
   "checksBeyond": 0
  }
 ],
 "timeline": {
  "startAt": "1970-01-01T00:00:00Z",
  "stepSeconds": 1,
  "steps": [
   {
    "checks": 1,
    "allowed": {
     "old": 1,
     "new": 1
    }
   },
   {
    "checks": 1,
    "allowed": {
     "old": 1,
     "new": 0
    }
   }
  ]
 },
 "keysEvicted": {
  "old": 0,
  "new": 0
 },
 "timing": {
  "wallSeconds": 0.001,
  "checksPerSecond": 2000
 }
})))]
pub(super) struct ComparisonBody {
    /// The traffic.
    trace: ComparedTrace,
    /// Whether the end of the traffic was left out because it has too many checks.
    is_cut: bool,
    /// What the policies are called.
    policy_files: ComparedNames,
    /// The number of checks.
    checks: u64,
    /// Those that are allowed.
    allowed: NumberPair,
    /// The tokens of these: `tokens`, or what `input_tokens` and `output_tokens` come to.
    tokens: NumberPair,
    /// The checks that only the policies in force allow.
    lost: u64,
    /// The checks that only the other policies allow.
    gained: u64,
    /// The first check that is lost or gained; null if none is.
    #[schema(required = true)]
    first_change: Option<ComparedDecision>,
    /// The policies of both sets.
    policies: Vec<ComparedPolicy>,
    /// Users, API keys, tenants and models.
    subjects: Vec<ComparedSubjects>,
    /// What is allowed over time; null without a check.
    #[schema(required = true)]
    timeline: Option<ComparedTimeline>,
    /// The keys whose usage was forgotten because there were too many.
    keys_evicted: NumberPair,
    /// How long it took.
    timing: ComparedTiming,
}

/// What the policies in force, `old`, and the others, `new`, are called.
#[derive(ToSchema)]
struct ComparedNames {
    #[schema(required = true)]
    old: Option<String>,
    #[schema(required = true)]
    new: Option<String>,
}

/// How long a comparison took.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct ComparedTiming {
    /// From the first check to the last decision, in real time.
    wall_seconds: f64,
    /// The rate of checks in that time.
    checks_per_second: u64,
}

/// The traffic of a comparison.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct ComparedTrace {
    /// What it is.
    file: String,
    /// Its format.
    format: String,
    /// Whether the format was taken from the header.
    format_guessed: bool,
    /// The number of users to which its requests were assigned; null if it names users itself.
    #[schema(required = true)]
    users: Option<u32>,
    /// The seed for that; null if it names users itself.
    #[schema(required = true)]
    seed: Option<u64>,
    /// The time of the earliest check; null without one.
    #[schema(required = true)]
    earliest_at: Option<String>,
    /// The time of the latest check.
    #[schema(required = true)]
    latest_at: Option<String>,
    /// From the earliest to the latest check.
    duration_seconds: f64,
    /// The time that passed on the virtual clock: the same.
    virtual_seconds: f64,
    /// The checks with a time before that of an earlier line; they were decided in the order of their times.
    lines_reordered: u64,
}

/// A check that only one set of policies allows.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct ComparedDecision {
    /// Its time.
    at: String,
    /// Its line in the trace, from 1.
    line: u64,
    /// Who sent it, by the names of attributes.
    subject: BTreeMap<String, String>,
    /// What the policies in force decide.
    old: ComparedVerdict,
    /// What the other policies decide.
    new: ComparedVerdict,
}

/// What one set of policies decides.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct ComparedVerdict {
    allowed: bool,
    /// The policy that denies; null if none does.
    #[schema(required = true)]
    policy_id: Option<String>,
    /// Why it is denied; null if it is not.
    #[schema(required = true)]
    reason: Option<String>,
}

/// What a policy did in both sets.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct ComparedPolicy {
    policy_id: String,
    /// `same`, `changed`, `added` or `removed`.
    status: String,
    /// The checks to which it applied.
    checks: NumberPair,
    /// Those that it denied, or in shadow mode would have denied.
    refused: NumberPair,
    /// The lost checks that it denies.
    lost: u64,
    /// The gained checks that it denied.
    gained: u64,
}

/// The subjects of a kind.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct ComparedSubjects {
    /// `user`, `apiKey`, `tenant` or `model`.
    kind: String,
    /// How many are counted one by one.
    count: u64,
    /// How many are allowed fewer checks, and how many more.
    checks: ComparedSubjectCounts,
    /// How many are allowed fewer tokens, and how many more.
    tokens: ComparedSubjectCounts,
    /// How many are allowed fewer checks and more tokens, or the reverse.
    mixed: u64,
    /// The 20 that lose the most: checks or tokens, and gain neither.
    losers: Vec<ComparedSubject>,
    /// The 20 that gain the most: checks or tokens, and lose neither.
    gainers: Vec<ComparedSubject>,
    /// 20 of those that lose one and gain the other.
    mixed_subjects: Vec<ComparedSubject>,
    /// The checks of subjects that are not counted one by one.
    checks_beyond: u64,
}

/// How many subjects are allowed less, and how many more.
#[derive(ToSchema)]
struct ComparedSubjectCounts {
    losing: u64,
    gaining: u64,
}

/// What a subject is allowed.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct ComparedSubject {
    /// Who it is, by the names of attributes.
    subject: BTreeMap<String, String>,
    checks: u64,
    allowed: NumberPair,
    tokens: NumberPair,
    lost: u64,
    gained: u64,
    /// When its first check was lost or gained; null if none was.
    #[schema(required = true)]
    first_change_at: Option<String>,
}

/// What is allowed over time.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct ComparedTimeline {
    /// When the first step begins.
    start_at: String,
    /// The length of a step.
    step_seconds: f64,
    steps: Vec<ComparedStep>,
}

/// The checks of a step.
#[derive(ToSchema)]
struct ComparedStep {
    checks: u64,
    allowed: NumberPair,
}
