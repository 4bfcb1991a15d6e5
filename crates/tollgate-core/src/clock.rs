//! Time: the only module that reads a clock (R7).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment in nanoseconds since the Unix epoch, up to the year 2554.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment `ns` nanoseconds after the Unix epoch.
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// The moment `ms` milliseconds after the Unix epoch; saturates.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the Unix epoch.
    #[inline]
    pub const fn as_ns(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; nothing if it was later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// [`Timestamp::since`] in nanoseconds.
    #[inline]
    pub const fn ns_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment `duration` earlier; saturates.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(saturating_ns(duration)))
    }

    /// The moment `duration` later; saturates.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(saturating_ns(duration)))
    }
}

fn saturating_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Where a store in this process reads the time.
///
/// Threads may use their readings in another order than they read them, so a store clamps each time that it gets: its own
/// time never steps back.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }
}

/// The source of civil time, for dates that people set and times that people read.
///
/// It may step forward or back when the machine's clock is set. So use it neither for counting nor for measuring: use
/// [`Clock`], which never steps, and therefore differs from civil time after the machine's clock was set.
pub trait WallClock: Send + Sync {
    /// The civil time now.
    fn wall_time(&self) -> Timestamp;
}

impl<C: WallClock + ?Sized> WallClock for Arc<C> {
    fn wall_time(&self) -> Timestamp {
        (**self).wall_time()
    }
}

/// The system clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemWallClock;

impl WallClock for SystemWallClock {
    fn wall_time(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the clock")]
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(saturating_ns(unix))
    }
}

/// The machine's monotonic clock, aligned to the Unix epoch when it is made: later steps of the wall clock
/// do not reach it.
///
/// Reads the time-stamp counter (`quanta`, about half the cost of `Instant::now`) and once a second corrects its drift
/// from [`Instant`].
#[derive(Debug)]
pub struct MonotonicClock {
    counter: quanta::Clock,
    counter_start: u64,
    /// The nanoseconds of 2^[`SCALE_BITS`] counts. A fixed scale makes a reading cheaper than the scale of `quanta`.
    scale_ns: u64,
    start: Instant,
    unix_start_ns: u64,
    /// What to add to the counted nanoseconds to get those since the Unix epoch: the epoch's and the drift.
    offset_ns: AtomicU64,
    /// The counted nanoseconds at which the drift is corrected next.
    next_sync_ns: AtomicU64,
}

const SYNC_EVERY_NS: u64 = 1_000_000_000;

/// A scale is a nanosecond off in a second or two at most, until the drift is taken.
const SCALE_BITS: u32 = 32;

impl MonotonicClock {
    /// A clock that shows the system's time now and from here on only goes forward.
    pub fn new() -> Self {
        Self::starting_at(SystemWallClock.wall_time())
    }

    /// A clock that shows `now` now and from here on only goes forward.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn starting_at(now: Timestamp) -> Self {
        let counter = quanta::Clock::new();
        let start = Instant::now();
        let counter_start = counter.raw();
        let unix_start_ns = now.as_ns();
        Self {
            scale_ns: counter.delta_as_nanos(0, 1 << SCALE_BITS),
            counter,
            counter_start,
            start,
            unix_start_ns,
            offset_ns: AtomicU64::new(unix_start_ns),
            next_sync_ns: AtomicU64::new(SYNC_EVERY_NS),
        }
    }

    /// The nanoseconds since the clock was made, by the counter.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "good for 584 years")]
    fn counted_ns(&self) -> u64 {
        let counts = self.counter.raw().saturating_sub(self.counter_start);
        ((u128::from(counts) * u128::from(self.scale_ns)) >> SCALE_BITS) as u64
    }

    #[cold]
    fn sync(&self, counted_ns: u64, due_ns: u64) {
        // Relaxed: the exchange only elects one thread; the offset is a value by itself.
        let next_ns = counted_ns.saturating_add(SYNC_EVERY_NS);
        let elected = self.next_sync_ns.compare_exchange(
            due_ns,
            next_ns,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if elected.is_ok() {
            let counted_ns = self.counted_ns();
            let true_ns = saturating_ns(self.start.elapsed());
            let drift_ns = true_ns.wrapping_sub(counted_ns).cast_signed();
            let offset_ns = self.unix_start_ns.saturating_add_signed(drift_ns);
            // Relaxed: a reader with the old value is off by one second's drift, some microseconds.
            self.offset_ns.store(offset_ns, Ordering::Relaxed);
        }
    }
}

impl Default for MonotonicClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for MonotonicClock {
    #[inline]
    fn now(&self) -> Timestamp {
        let counted_ns = self.counted_ns();
        // Relaxed: see `sync`.
        let due_ns = self.next_sync_ns.load(Ordering::Relaxed);
        if counted_ns >= due_ns {
            self.sync(counted_ns, due_ns);
        }
        Timestamp(self.offset_ns.load(Ordering::Relaxed).saturating_add(counted_ns))
    }
}

/// A clock that only moves when it is set or advanced, for tests and replays. Clones share the time. As a [`WallClock`]
/// it steps whenever a test sets it.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> Self {
        Self(Arc::new(AtomicU64::new(now.as_ns())))
    }

    /// Moves the clock forward.
    pub fn advance(&self, duration: Duration) {
        // SeqCst: tests move the clock in one thread and expect every other to see it.
        self.0.fetch_add(saturating_ns(duration), Ordering::SeqCst);
    }

    /// Sets the clock, also back.
    pub fn set(&self, now: Timestamp) {
        // SeqCst: as in `advance`.
        self.0.store(now.as_ns(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        // SeqCst: as in `advance`.
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

impl WallClock for ManualClock {
    fn wall_time(&self) -> Timestamp {
        self.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_agrees_with_instant_after_a_sync() {
        let clock = MonotonicClock::new();
        clock.next_sync_ns.store(0, Ordering::Relaxed);
        // As if the counter had run ahead by an hour.
        let ahead_ns = clock.unix_start_ns + 3_600 * 1_000_000_000;
        clock.offset_ns.store(ahead_ns, Ordering::Relaxed);
        let now_ns = clock.now().as_ns();
        // Between two readings of the true time, however long this thread was kept waiting.
        let latest_ns = clock.unix_start_ns + saturating_ns(clock.start.elapsed());
        assert!((clock.unix_start_ns..=latest_ns).contains(&now_ns), "{now_ns} of {latest_ns}");
        assert!(clock.next_sync_ns.load(Ordering::Relaxed) >= SYNC_EVERY_NS);
    }

    #[test]
    fn moments_are_moved_and_compared_without_wrapping() {
        let (early, late) = (Timestamp::from_ms(1), Timestamp::from_ms(3));
        assert_eq!(late.since(early), Duration::from_millis(2));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.before(Duration::from_millis(2)), early);
        assert_eq!(early.before(Duration::from_secs(1)), Timestamp::default());
        assert_eq!(early.after(Duration::from_millis(2)), late);
        assert_eq!(late.after(Duration::MAX), Timestamp::from_ns(u64::MAX));
    }

    #[test]
    fn shared_clocks_tell_the_time_of_the_clock_that_is_shared() {
        let shared = Arc::new(ManualClock::at(Timestamp::from_ms(5)));
        assert_eq!(Clock::now(&shared), Timestamp::from_ms(5));
        assert_eq!(WallClock::wall_time(&shared), Timestamp::from_ms(5));
    }

    /// Between two readings of the system's clock, which nobody steps meanwhile.
    #[test]
    fn the_wall_clock_tells_the_systems_time() {
        #[expect(clippy::disallowed_methods, reason = "this is the clock")]
        let unix = || saturating_ns(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
        let (before, told, after) = (unix(), SystemWallClock.wall_time().as_ns(), unix());
        assert!((before..=after).contains(&told), "{before} {told} {after}");
    }

    /// Without a sync the counter keeps pace with the system: within a tenth, over a spin that is long enough to measure.
    #[test]
    fn the_counter_keeps_pace_with_instant() {
        let clock = MonotonicClock::new();
        while clock.start.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let least_ns = saturating_ns(clock.start.elapsed());
        let counted_ns = clock.counted_ns();
        let most_ns = saturating_ns(clock.start.elapsed());
        assert!(counted_ns >= least_ns / 10 * 9, "{counted_ns} of {least_ns}");
        assert!(counted_ns <= most_ns / 10 * 11, "{counted_ns} of {most_ns}");
    }

    #[test]
    fn clones_of_a_manual_clock_share_the_time() {
        let clock = ManualClock::at(Timestamp::from_ms(5));
        clock.clone().advance(Duration::from_millis(2));
        assert_eq!(clock.now(), Timestamp::from_ms(7));
        clock.set(Timestamp::from_ms(1));
        assert_eq!(clock.now(), Timestamp::from_ns(1_000_000));
    }
}
