//! What the nodes and Redis hold, looked at once a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::time::Instant;

use crate::node::{descriptors, resident_kib};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the watch sleeps: how much longer it takes says how busy the machine is.
const NAP: Duration = Duration::from_millis(10);

/// What was held at one time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    /// Of the node that holds most, in KiB.
    pub(crate) resident_kib: u64,
    /// Of the node that holds most.
    pub(crate) descriptors: u64,
    /// The most that a nap took longer than it should since the sample before: nobody here waits for the nodes.
    pub(crate) overslept: Duration,
}

/// Looks until it is told to end.
#[derive(Debug)]
pub(crate) struct Watch {
    ends: Arc<AtomicBool>,
    looking: JoinHandle<Vec<Sample>>,
}

impl Watch {
    pub(crate) fn start(pids: Vec<u32>, start: Instant) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let looking = thread::spawn(move || {
            let mut samples = Vec::new();
            // Relaxed: nothing else is told by it.
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
        // Relaxed: nothing else is told by it.
        self.ends.store(true, Ordering::Relaxed);
        self.looking.join().map_err(|_| "looking at the processes failed".to_owned())
    }
}

/// Sleeps in short naps; the most that one took too long.
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

/// What the node holds that holds most; `None` if one has ended.
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
