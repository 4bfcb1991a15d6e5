//! How many bytes does a key take, in total?
//!
//! Each case fills one contender in a separate process (`tollgate-bench-memory`) and records:
//! - *resident*: the growth of the process, from `/proc/self/status`. It includes everything that the allocator keeps,
//!   and is what an operator pays for. The goals are compared with it.
//! - *requested*: the live bytes that the contender requested from its allocator.
//! - *peak*: the peak resident size, which may be far larger if a table is copied to grow.
//!
//! Keys are admitted in turn, each once before any is admitted again, as in real traffic: all logs grow at the same
//! time.

use std::path::Path;
use std::process::Command;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::contender::{Contender, Governor, TollgateStore};
use crate::key::Key;
use crate::naive_log::NaiveLog;
use crate::report::{Bound, Goal, Measurements, Section};
use crate::stopwatch::to_f64;

/// One case: how many keys, and how many admissions of each.
#[derive(Clone, Copy, Debug)]
struct Case {
    keys: u64,
    admissions: u64,
    /// The goal for the bytes per key.
    goal_bytes: f64,
    resident: &'static str,
    requested: &'static str,
    peak: &'static str,
}

const CASES: [Case; 2] = [
    Case {
        keys: 10_000_000,
        admissions: 1,
        goal_bytes: 87.0,
        resident: "10M keys, 1 admission each: resident",
        requested: "10M keys, 1 admission each: requested",
        peak: "10M keys, 1 admission each: peak resident",
    },
    Case {
        keys: 1_000_000,
        admissions: 100,
        goal_bytes: 520.0,
        resident: "1M keys, 100 admissions each: resident",
        requested: "1M keys, 100 admissions each: requested",
        peak: "1M keys, 100 admissions each: peak resident",
    },
];

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The number of keys is divided by this.
    divisor: u64,
}

impl Plan {
    /// The figures of `docs/BENCHMARKS.md`.
    pub fn full() -> Self {
        Self { divisor: 1 }
    }

    /// Just enough to run every line.
    pub fn smoke() -> Self {
        Self { divisor: 10_000 }
    }
}

/// The result of a child process for one case.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "a unit ends the name")]
pub struct Filled {
    /// Live bytes requested.
    requested_bytes: u64,
    /// Resident bytes.
    resident_bytes: u64,
    /// The most resident bytes at a time.
    peak_bytes: u64,
}

/// Measures every contender by `plan`, each in a process of the program `child`.
pub fn run(plan: &Plan, child: &Path) -> Result<Section, String> {
    let mut measured = Measurements::in_unit("bytes a key");
    for case in CASES {
        let keys = case.keys / plan.divisor;
        for contender in [Governor::NAME, NaiveLog::NAME, TollgateStore::NAME] {
            progress(case.resident, contender);
            let filled = fill_in_child(child, contender, keys, case.admissions)?;
            let a_key = |bytes: u64| to_f64(bytes) / to_f64(keys);
            measured.add(case.resident, contender, a_key(filled.resident_bytes));
            measured.add(case.requested, contender, a_key(filled.requested_bytes));
            measured.add(case.peak, contender, a_key(filled.peak_bytes));
        }
    }
    let goals = CASES.map(|case| Goal {
        question: case.resident,
        contender: TollgateStore::NAME,
        bound: Bound::AtMost(case.goal_bytes),
    });
    Ok(Section {
        title: "memory: bytes a key, in all, with 16-byte keys".to_owned(),
        measurements: measured,
        goals: goals.to_vec(),
    })
}

#[expect(clippy::print_stderr, reason = "a benchmark of minutes says that it is alive")]
fn progress(question: &str, contender: &str) {
    eprintln!("memory: {question}, {contender}");
}

fn fill_in_child(
    child: &Path,
    contender: &str,
    keys: u64,
    admissions: u64,
) -> Result<Filled, String> {
    let failed = |problem: String| format!("{} {contender:?}: {problem}", child.display());
    let output = Command::new(child)
        .args([contender, &keys.to_string(), &admissions.to_string()])
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))
}

/// The main function of the child: fills the contender with this name and returns the memory that it took. `allocated`
/// returns the bytes that the process has requested and not freed.
pub fn fill(
    contender: &str,
    keys: u64,
    admissions: u64,
    allocated: impl Fn() -> u64,
) -> Result<Filled, String> {
    if contender == Governor::NAME {
        fill_one::<Governor>(keys, admissions, allocated)
    } else if contender == NaiveLog::NAME {
        fill_one::<NaiveLog>(keys, admissions, allocated)
    } else if contender == TollgateStore::NAME {
        fill_one::<TollgateStore>(keys, admissions, allocated)
    } else {
        Err(format!("there is no contender {contender:?}"))
    }
}

fn fill_one<C: Contender>(
    keys: u64,
    admissions: u64,
    allocated: impl Fn() -> u64,
) -> Result<Filled, String> {
    let status = |name| status_bytes(name).map_err(|error| format!("/proc/self/status: {error}"));
    let requested_before = allocated();
    let resident_before = status("VmRSS")?;
    let limiter = C::for_keys(keys);
    let mut key = Key::new(0);
    for _ in 0..admissions {
        for index in 0..keys {
            key.set(index);
            if !limiter.allow(&key) {
                return Err(format!("key {index} was denied"));
            }
        }
    }
    let filled = Filled {
        requested_bytes: allocated().saturating_sub(requested_before),
        resident_bytes: status("VmRSS")?.saturating_sub(resident_before),
        peak_bytes: status("VmHWM")?.saturating_sub(resident_before),
    };
    match limiter.held_keys() {
        held if held == keys => Ok(filled),
        held => Err(format!("it holds {held} of {keys} keys")),
    }
}

/// A size that the kernel reports for this process.
fn status_bytes(name: &str) -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let kib = status.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        value.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other(format!("it has no {name}")))
}
