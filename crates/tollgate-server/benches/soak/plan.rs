//! The plan of a soak.

use std::env;
use std::time::Duration;

/// The duration, the rate, and the interval of faults.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// How long checks are sent.
    pub(crate) load: Duration,
    /// The time from the start of one fault to the start of the next.
    pub(crate) fault_every: Duration,
    /// Checks a second, of all clients together.
    pub(crate) checks_per_second: u32,
}

impl Plan {
    /// An hour, a fault a minute, 300 checks a second, unless environment variables change it.
    pub(crate) fn from_environment() -> Result<Self, String> {
        let plan = Self {
            load: Duration::from_secs(number("SOAK_SECONDS", 3_600)?.into()),
            fault_every: Duration::from_secs(number("SOAK_FAULT_SECONDS", 60)?.into()),
            checks_per_second: number("SOAK_CHECKS_PER_SECOND", 300)?,
        };
        if plan.fault_every < Self::LEAST_BETWEEN_FAULTS {
            return Err(format!(
                "SOAK_FAULT_SECONDS is {}; accepted: {} or more, so that a fault is over before the next",
                plan.fault_every.as_secs(),
                Self::LEAST_BETWEEN_FAULTS.as_secs()
            ));
        }
        Ok(plan)
    }

    /// The longest fault and the time to recover from it.
    const LEAST_BETWEEN_FAULTS: Duration = Duration::from_secs(12);
}

fn number(name: &str, otherwise: u32) -> Result<u32, String> {
    match env::var(name) {
        Err(_) => Ok(otherwise),
        Ok(text) => match text.parse() {
            Ok(number @ 1..=1_000_000) => Ok(number),
            _ => Err(format!("{name} is {text:?}; accepted: a whole number from 1 to 1000000")),
        },
    }
}
