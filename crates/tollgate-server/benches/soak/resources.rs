//! The resources of the nodes and Redis, sampled once a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::time::Instant;

use crate::node::{descriptors, resident_kib};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long one sleep is meant to take; the additional time shows how busy the machine is.
const NAP: Duration = Duration::from_millis(10);

/// One sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    /// Of the node with the most memory, in KiB.
    pub(crate) resident_kib: u64,
    /// Of the node with the most descriptors.
    pub(crate) descriptors: u64,
    /// The longest delay of a sleep since the sample before; it does not depend on the nodes.
    pub(crate) overslept: Duration,
}

/// Samples until it is told to end.
#[derive(Debug)]
pub(crate) struct ResourceSampler {
    ends: Arc<AtomicBool>,
    looking: JoinHandle<Vec<Sample>>,
}

impl ResourceSampler {
    pub(crate) fn start(pids: Vec<u32>, start: Instant) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let looking = thread::spawn(move || {
            let mut samples = Vec::new();
            // Relaxed: the flag orders nothing else.
            while !told.load(Ordering::Relaxed) {
                let overslept = nap_for(LOOK_EVERY);
                let sample = sample(&pids, start.elapsed());
                samples.extend(sample.map(|sample| Sample { overslept, ..sample }));
            }
            samples
        });
        Self { ends, looking }
    }

    pub(crate) fn end(self) -> Result<Vec<Sample>, String> {
        // Relaxed: the flag orders nothing else.
        self.ends.store(true, Ordering::Relaxed);
        self.looking.join().map_err(|_| "looking at the processes failed".to_owned())
    }
}

/// Sleeps in short steps; returns the longest delay of one.
fn nap_for(time: Duration) -> Duration {
    let start = Instant::now();
    let mut most = Duration::ZERO;
    while start.elapsed() < time {
        let asleep = Instant::now();
        thread::sleep(NAP);
        most = most.max(asleep.elapsed().saturating_sub(NAP));
    }
    most
}

/// The largest value of any node; `None` if one has ended.
pub(crate) fn sample(pids: &[u32], at: Duration) -> Option<Sample> {
    let resident: Option<Vec<_>> = pids.iter().map(|pid| resident_kib(*pid)).collect();
    let open: Option<Vec<_>> = pids.iter().map(|pid| descriptors(*pid)).collect();
    Some(Sample {
        at,
        resident_kib: resident?.into_iter().max()?,
        descriptors: open?.into_iter().max()?,
        overslept: Duration::ZERO,
    })
}
