//! Time zones by their IANA names, from the database that is part of the program.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::AtomicU64;
use std::sync::{LazyLock, OnceLock};

use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::Calendar;

/// A time zone of the IANA database. All nodes of one version have the same database, whatever the system has.
#[derive(Clone, Copy)]
pub struct Zone(&'static ZoneData);

/// What is known of a time zone.
pub(crate) struct ZoneData {
    name: Box<str>,
    pub(crate) time_zone: TimeZone,
    /// The period of each [`Calendar`] that was asked for last, as `calendar.rs` packs it. It only saves time.
    pub(crate) latest_periods: [AtomicU64; Calendar::ALL.len()],
}

impl ZoneData {
    fn new(name: &str, time_zone: TimeZone) -> Self {
        Self { name: name.into(), time_zone, latest_periods: Default::default() }
    }
}

static UTC: LazyLock<ZoneData> = LazyLock::new(|| ZoneData::new("UTC", TimeZone::UTC));

/// The name of a zone, and the zone once it was asked for; `None` if its data cannot be parsed.
type NamedZone = (Box<str>, OnceLock<Option<ZoneData>>);

/// Every zone, in alphabetical order of the names.
static ZONES: LazyLock<Vec<NamedZone>> = LazyLock::new(|| {
    let database = TimeZoneDatabase::bundled();
    let mut names: Vec<Box<str>> = database.available().map(|name| name.as_str().into()).collect();
    names.sort_unstable();
    names.into_iter().map(|name| (name, OnceLock::new())).collect()
});

impl Zone {
    /// What [`Zone::named`] accepts, for messages.
    pub const ACCEPTED: &str =
        "the name of a zone of the IANA database, such as `Europe/Berlin` or `UTC`";

    /// Coordinated Universal Time, whose days have 24 hours.
    pub fn utc() -> Self {
        Self(&UTC)
    }

    /// The zone called `name`, which is spelled as in the database.
    pub fn named(name: &str) -> Option<Self> {
        if name == Self::utc().name() {
            return Some(Self::utc());
        }
        let place = ZONES.binary_search_by(|(other, _)| (**other).cmp(name)).ok()?;
        let parsed = ZONES[place].1.get_or_init(|| {
            let time_zone = TimeZoneDatabase::bundled().get(name).ok()?;
            Some(ZoneData::new(name, time_zone))
        });
        parsed.as_ref().map(Self)
    }

    /// The names of all zones, in alphabetical order.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ZONES.iter().map(|(name, _)| &**name)
    }

    /// The name, as in policies.
    pub fn name(self) -> &'static str {
        &self.0.name
    }

    pub(crate) fn data(self) -> &'static ZoneData {
        self.0
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Zone {}

impl Hash for Zone {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_zone_of_the_database_is_found_by_its_name() {
        assert!(Zone::names().count() > 400);
        for name in Zone::names() {
            assert_eq!(Zone::named(name).unwrap().name(), name);
        }
        assert_eq!(Zone::named("UTC"), Some(Zone::utc()));
        for unknown in ["", "utc", "europe/berlin", "Europe/Atlantis", "+01:00"] {
            assert_eq!(Zone::named(unknown), None, "{unknown}");
        }
    }
}
