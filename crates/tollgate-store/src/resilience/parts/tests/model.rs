//! A slow, obvious store over a network that delays, fails and loses answers, in virtual time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use tokio::time::Instant;
use tollgate_core::{Amount, Timestamp};

use super::super::*;
use crate::{Part, StoreErrorKind, Taken, key_bytes};

/// The virtual time of tokio, by a clock that may run too fast or too slow, from any start.
#[derive(Clone, Copy, Debug)]
pub(super) struct VirtualClock {
    start: Instant,
    offset_ns: u64,
    ppm: i64,
}

impl VirtualClock {
    pub(super) fn new(start: Instant, offset_ns: u64, ppm: i64) -> Self {
        Self { start, offset_ns, ppm }
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let elapsed = i128::try_from(self.start.elapsed().as_nanos()).unwrap();
        let shown = elapsed + elapsed * i128::from(self.ppm) / 1_000_000;
        Timestamp::from_ns(self.offset_ns + u64::try_from(shown).unwrap())
    }
}

/// What the network does with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    Works,
    LosesCall,
    LosesAnswer,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    number: u64,
    at_ns: u64,
    cost: u64,
}

/// A log that keeps every admission, over a network.
#[derive(Debug)]
pub(super) struct Model {
    clock: VirtualClock,
    logs: Mutex<HashMap<Vec<u8>, Vec<Entry>>>,
    next_number: AtomicU64,
    /// How long a call and its answer take, in milliseconds, and what becomes of them: in turns.
    delays: Vec<u64>,
    network: Mutex<Vec<Network>>,
    calls: AtomicU64,
    /// When checks were admitted here, and their costs.
    pub(super) admitted: Mutex<Vec<(u64, u64)>>,
}

impl Model {
    pub(super) fn new(clock: VirtualClock, delays: Vec<u64>, network: Vec<Network>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            logs: Mutex::default(),
            next_number: AtomicU64::new(0),
            delays,
            network: Mutex::new(network),
            calls: AtomicU64::new(0),
            admitted: Mutex::default(),
        })
    }

    fn logs(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Vec<Entry>>> {
        self.logs.lock().unwrap()
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    pub(super) fn set_network(&self, network: Vec<Network>) {
        *self.network.lock().unwrap() = network;
    }

    pub(super) fn usage(&self, limit: &Limit, subject: &Subject<'_>) -> u64 {
        let window_ns = limit.counting().window().unwrap().as_ns();
        let now = self.clock.now().as_ns();
        let logs = self.logs();
        let log = logs.get(&key_bytes(limit, subject)).into_iter().flatten();
        log.filter(|entry| now < entry.at_ns + window_ns).map(|entry| entry.cost).sum()
    }

    fn verdict(&self, charge: &Charge<'_>) -> Verdict {
        let usage = self.usage(charge.limit, charge.subject);
        let amount = charge.limit.amount().get();
        let allowed = usage + charge.cost.get().max(1) <= amount;
        let wait = if allowed { Wait::None } else { Wait::Ns(1) };
        Verdict::new(allowed, usage, wait, charge.limit.counting().window().unwrap().as_ns())
    }

    /// Charges all or nothing, and returns the numbers of the entries.
    fn decide(&self, charges: &[Charge<'_>]) -> (Verdicts, Vec<Option<u64>>) {
        let mut verdicts: Verdicts = charges.iter().map(|charge| self.verdict(charge)).collect();
        let mut numbers = vec![None; charges.len()];
        if admits(charges, &verdicts) {
            let parts = charges.iter().zip(&mut verdicts).zip(&mut numbers);
            for ((charge, verdict), number) in parts.filter(|((_, one), _)| one.allowed) {
                let entry = Entry {
                    number: self.next_number.fetch_add(1, Ordering::SeqCst),
                    at_ns: self.clock.now().as_ns(),
                    cost: charge.cost.get(),
                };
                let key = key_bytes(charge.limit, charge.subject);
                self.logs().entry(key).or_default().push(entry);
                verdict.usage += entry.cost;
                *number = Some(entry.number);
            }
        }
        (verdicts, numbers)
    }

    /// Runs `call` at the other end of the network.
    async fn over_network<T>(&self, call: impl FnOnce() -> T) -> Result<T, StoreError> {
        let number = usize::try_from(self.calls.fetch_add(1, Ordering::SeqCst)).unwrap();
        let delay = |at: usize| self.delays[at % self.delays.len()];
        let network = {
            let network = self.network.lock().unwrap();
            network[number % network.len()]
        };
        let error = || StoreError::new(StoreErrorKind::Unavailable, "as it was told");
        tokio::time::sleep(Duration::from_millis(delay(2 * number))).await;
        if network == Network::LosesCall {
            return Err(error());
        }
        let answer = call();
        tokio::time::sleep(Duration::from_millis(delay(2 * number + 1))).await;
        if network == Network::LosesAnswer { Err(error().after_send()) } else { Ok(answer) }
    }
}

impl Store for Model {
    async fn charge(&self, charges: &[Charge<'_>], _: Option<&str>) -> Result<Charged, StoreError> {
        let decide = || {
            let (verdicts, _) = self.decide(charges);
            if admits(charges, &verdicts) {
                let first = charges[0].cost.get();
                self.admitted.lock().unwrap().push((self.clock.now().as_ns(), first));
            }
            verdicts
        };
        self.over_network(decide).await.map(Charged::from)
    }

    async fn peek(&self, charges: &[Charge<'_>]) -> Result<Charged, StoreError> {
        let look = || charges.iter().map(|charge| self.verdict(charge)).collect::<Verdicts>();
        self.over_network(look).await.map(Charged::from)
    }

    async fn reset(&self, limit: &Limit, subject: &Subject<'_>) -> Result<(), StoreError> {
        self.over_network(|| self.logs().remove(&key_bytes(limit, subject))).await.map(drop)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { parts: true, ..Capabilities::NONE }
    }

    async fn take(&self, charge: &Charge<'_>) -> Result<Taken, StoreError> {
        let take = || {
            let (verdicts, numbers) = self.decide(std::slice::from_ref(charge));
            let part = numbers[0].map(|number| Part {
                domain: FaultDomain::WHOLE,
                size: charge.cost,
                token: [&number.to_le_bytes(), &key_bytes(charge.limit, charge.subject)[..]]
                    .concat(),
            });
            Taken { verdict: verdicts[0], part }
        };
        self.over_network(take).await
    }

    async fn give_back(&self, part: &Part, unused: Amount) -> Result<(), StoreError> {
        let give_back = || {
            let (number, key) = part.token.split_first_chunk().unwrap();
            let number = u64::from_le_bytes(*number);
            let mut logs = self.logs();
            let entry = logs.get_mut(key).and_then(|log| {
                log.iter_mut().find(|entry| entry.number == number && entry.cost == part.size.get())
            });
            if let Some(entry) = entry {
                entry.cost -= unused.get();
            }
        };
        self.over_network(give_back).await
    }
}

/// Notes what is spent from parts, and when, by the clock of the store.
#[derive(Debug)]
pub(super) struct Notes {
    clock: VirtualClock,
    pub(super) spent: Mutex<Vec<(u64, u64)>>,
    pub(super) units: Mutex<HashMap<PartEvent, u64>>,
}

impl Notes {
    pub(super) fn new(clock: VirtualClock) -> Arc<Self> {
        Arc::new(Self { clock, spent: Mutex::default(), units: Mutex::default() })
    }

    pub(super) fn units(&self, event: PartEvent) -> u64 {
        self.units.lock().unwrap().get(&event).copied().unwrap_or_default()
    }

    /// What is in hand, or on its way.
    pub(super) fn unspent(&self) -> u64 {
        let gone = [PartEvent::Spent, PartEvent::GivenBack, PartEvent::Left];
        let came = self.units(PartEvent::Taken) + self.units(PartEvent::PutBack);
        came - gone.map(|event| self.units(event)).iter().sum::<u64>()
    }
}

impl StoreObserver for Notes {
    fn parts_changed(&self, event: PartEvent, units: u64) {
        *self.units.lock().unwrap().entry(event).or_default() += units;
        if event == PartEvent::Spent {
            self.spent.lock().unwrap().push((self.clock.now().as_ns(), units));
        }
    }
}
