//! The machine, the date and the versions of a measurement.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// The machine, the moment and the versions.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    cpu: String,
    cores: usize,
    memory_gib: u64,
    kernel: String,
    /// The load average of the last minute: if it is above the benchmark's own, other programs were running.
    load_average: String,
    date: String,
    versions: Vec<(String, String)>,
}

/// The packages whose versions affect the results.
const PACKAGES: [&str; 5] = ["axum", "governor", "hyper", "tokio", "tollgate-store"];

/// The file with the versions.
const LOCK_FILE: &str = include_str!("../../../Cargo.lock");

impl Machine {
    /// This machine, at this time.
    pub fn here() -> Self {
        let versions = PACKAGES.iter().filter_map(|package| {
            Some(((*package).to_owned(), locked_version(LOCK_FILE, package)?.to_owned()))
        });
        Self {
            cpu: processor(&read("/proc/cpuinfo")),
            cores: std::thread::available_parallelism().map_or(0, Into::into),
            memory_gib: memory_gib(&read("/proc/meminfo")),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: read("/proc/loadavg").split(' ').next().unwrap_or("?").to_owned(),
            date: date(seconds_since_epoch()),
            versions: versions.collect(),
        }
    }

    pub(crate) fn to_markdown(&self) -> String {
        let Self { cpu, cores, memory_gib, kernel, load_average, date, .. } = self;
        let versions: Vec<String> =
            self.versions.iter().map(|(package, version)| format!("{package} {version}")).collect();
        format!(
            "- Machine: {cpu}, {cores} cores, {memory_gib} GiB, Linux {kernel}; load average \
             {load_average} at the start\n- Date: {date}\n- Versions: {}\n",
            versions.join(", ")
        )
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| format!("unknown ({path}: {error})"))
}

/// The name of the processor, with the numbers of its generation if a virtual machine hides the name's.
fn processor(cpuinfo: &str) -> String {
    let [name, family, model] =
        ["model name", "cpu family", "model"].map(|name| field(cpuinfo, name));
    format!("{name} (family {family}, model {model})")
}

/// The first value of `name` in a file of `name : value` lines.
fn field(text: &str, name: &str) -> String {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let mut values = lines.filter(|(key, _)| key.trim() == name);
    values.next().map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
}

fn memory_gib(meminfo: &str) -> u64 {
    let total = field(meminfo, "MemTotal");
    let kib: u64 = total.trim_end_matches(" kB").parse().unwrap_or(0);
    kib.div_ceil(1 << 20)
}

fn locked_version<'a>(lock_file: &'a str, package: &str) -> Option<&'a str> {
    let name = format!("name = \"{package}\"\nversion = \"");
    let (_, rest) = lock_file.split_once(&name)?;
    rest.split('"').next()
}

#[expect(clippy::disallowed_methods, reason = "a report says when it was made")]
fn seconds_since_epoch() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The UTC date, by Howard Hinnant's `civil_from_days`.
fn date(seconds_since_epoch: u64) -> String {
    let days = seconds_since_epoch / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (1_735_689_599, "2024-12-31"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(seconds), expected);
        }
    }

    #[test]
    fn a_processor_is_told_with_its_generation() {
        let cpuinfo = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n";
        assert_eq!(processor(cpuinfo), "AMD EPYC (family 25, model 17)");
    }

    #[test]
    fn the_versions_of_the_peers_are_known() {
        assert!(locked_version(LOCK_FILE, "governor").is_some());
        assert_eq!(locked_version(LOCK_FILE, "no such package"), None);
    }
}
