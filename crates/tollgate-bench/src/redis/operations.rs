//! The cost in Redis of each operation on one log, depending on the log's length.

use std::sync::Arc;

use tollgate_core::{Amount, Charge, Limit, Subject};
use tollgate_redis::EntryId;
use tollgate_store::Store;

use super::{Bench, Plan, limit_of};
use crate::report::{Bound, Goal, Measurements};
use crate::stopwatch::to_f64;

/// The cost of each admission.
const COST: u64 = 3;
/// The number of checks in one call.
const AT_ONCE: usize = 64;
/// How many operations of each kind are measured.
const OPERATIONS: u64 = 2_000;
/// The number of keys for operations on short logs, so that the logs stay short.
const SHORT_KEYS: u64 = 500;

const ALONE: &str = "Redis µs an admission, one at a time";
const TOGETHER: &str = "Redis µs an admission, 64 at once";
const EACH_ITS_OWN: &str = "Redis µs an admission, 64 at once, each in its own log";
const CHANGE: &str = "Redis µs a change of a cost";
const DENIAL_1: &str = "Redis µs a denial of cost 1";
const DENIAL_2: &str = "Redis µs a denial of cost 2";

/// The lengths of the logs, as contenders.
const LENGTHS: [&str; 2] = ["100 in a log", "100,000 in a log"];

/// The goals for the operations.
pub(super) fn goals() -> Vec<Goal> {
    let [short, long] = LENGTHS;
    let goal = |question, contender, bound| Goal { question, contender, bound };
    let of = |ratio, of| Bound::AtMostRatio { ratio, of };
    vec![
        goal(ALONE, long, of(1.6, short)),
        goal(TOGETHER, short, Bound::AtMost(2.8)),
        goal(TOGETHER, long, of(1.6, short)),
        goal(EACH_ITS_OWN, short, Bound::AtMost(2.8)),
        goal(RATIO_OF_CHANGE, short, Bound::AtMost(1.3)),
        goal(RATIO_OF_CHANGE, long, Bound::AtMost(2.0)),
        goal(RATIO_OF_DENIALS, short, Bound::AtMost(2.0)),
        goal(RATIO_OF_DENIALS, long, Bound::AtMost(2.0)),
    ]
}

const RATIO_OF_CHANGE: &str = "a change over an admission, one at a time";
const RATIO_OF_DENIALS: &str = "a denial of cost 2 over one of cost 1";

/// Logs of one length.
struct Logs {
    limit: Arc<Limit>,
    users: Vec<String>,
    /// The admissions of each user.
    ids: Vec<Vec<EntryId>>,
}

impl Bench {
    pub(super) fn operations(
        &mut self,
        plan: &Plan,
        into: &mut Measurements,
    ) -> Result<(), String> {
        let keys = SHORT_KEYS.min(plan.keys);
        for (length, keys, contender) in
            [(100.min(plan.longest), keys, LENGTHS[0]), (plan.longest, 1, LENGTHS[1])]
        {
            self.reset()?;
            let mut logs = self.filled(length, keys)?;
            let alone = self.timed(|bench, number| bench.admit(&mut logs, number, 1))?;
            let together = self.timed(|bench, number| bench.admit(&mut logs, number, AT_ONCE))?;
            into.add(ALONE, contender, alone);
            into.add(TOGETHER, contender, together);
            if contender == LENGTHS[0] {
                let each = self.timed(|bench, number| bench.admit_to_each(&mut logs, number))?;
                into.add(EACH_ITS_OWN, contender, each);
            }
            let change = self.timed(|bench, number| bench.change(&logs, number))?;
            into.add(CHANGE, contender, change);
            into.add(RATIO_OF_CHANGE, contender, change / alone);
            let one = self.timed(|bench, number| bench.deny(&logs, number, 1))?;
            let two = self.timed(|bench, number| bench.deny(&logs, number, 2))?;
            into.add(DENIAL_1, contender, one);
            into.add(DENIAL_2, contender, two);
            into.add(RATIO_OF_DENIALS, contender, two / one);
        }
        Ok(())
    }

    /// Redis's time per operation; `run` returns how many operations a call makes.
    fn timed(
        &mut self,
        mut run: impl FnMut(&mut Self, u64) -> Result<usize, String>,
    ) -> Result<f64, String> {
        self.client.ask(&[b"CONFIG", b"RESETSTAT"])?;
        let (mut made, mut call) = (0, 0);
        while made < OPERATIONS {
            made += run(self, call)? as u64;
            call += 1;
        }
        Ok(self.client.script_us()? / to_f64(made))
    }

    /// Logs of `length` admissions each.
    fn filled(&mut self, length: u64, keys: u64) -> Result<Logs, String> {
        let limit = limit_of(Amount::MAX.get())?;
        let users: Vec<_> = (0..keys).map(|key| key.to_string()).collect();
        let mut logs = Logs { limit, ids: vec![Vec::new(); users.len()], users };
        for key in 0..keys {
            let mut left = usize::try_from(length).unwrap_or(usize::MAX);
            while left > 0 {
                left -= self.admit(&mut logs, key, left.min(AT_ONCE))?;
            }
        }
        Ok(logs)
    }

    /// Admits `many` checks of one key in one call.
    fn admit(&mut self, logs: &mut Logs, number: u64, many: usize) -> Result<usize, String> {
        let key = logs.key(number);
        let subject = Subject::new(&logs.users[key], "model");
        let charge = [Charge { limit: &logs.limit, subject: &subject, cost: cost(COST) }];
        let checks = vec![&charge[..]; many];
        let asked = self.store.charge_many_with_ids(&checks);
        let said = self.runtime.block_on(asked).map_err(|error| error.to_string())?;
        let ids = said.into_iter().flatten();
        logs.ids[key].extend(ids.filter(|(verdict, _)| verdict.allowed).map(|(_, id)| id));
        Ok(many)
    }

    /// Admits one check of each of [`AT_ONCE`] keys in one call.
    fn admit_to_each(&mut self, logs: &mut Logs, number: u64) -> Result<usize, String> {
        let keys: Vec<_> =
            (0..AT_ONCE as u64).map(|at| logs.key(number * AT_ONCE as u64 + at)).collect();
        let subjects: Vec<_> =
            keys.iter().map(|key| Subject::new(&logs.users[*key], "model")).collect();
        let limit = &logs.limit;
        let charges: Vec<_> =
            subjects.iter().map(|subject| [Charge { limit, subject, cost: cost(COST) }]).collect();
        let checks: Vec<&[Charge<'_>]> = charges.iter().map(<[_; 1]>::as_slice).collect();
        let asked = self.store.charge_many_with_ids(&checks);
        let said = self.runtime.block_on(asked).map_err(|error| error.to_string())?;
        for (key, (_, id)) in keys.into_iter().zip(said.into_iter().flatten()) {
            logs.ids[key].push(id);
        }
        Ok(AT_ONCE)
    }

    /// Changes the cost of an admission that was not changed before.
    fn change(&mut self, logs: &Logs, number: u64) -> Result<usize, String> {
        let key = logs.key(number);
        let turn = usize::try_from(number).unwrap_or(usize::MAX) / logs.users.len();
        // Spread over the whole log; 37 has no factor in common with most lengths.
        let ids = &logs.ids[key];
        let id = ids[(turn * 37 + turn * 37 / ids.len()) % ids.len()];
        let subject = Subject::new(&logs.users[key], "model");
        let charge = Charge { limit: &logs.limit, subject: &subject, cost: cost(COST) };
        let call = self.store.change_admission(&charge, id, cost(COST + 1));
        let changed = self.runtime.block_on(call).map_err(|error| error.to_string())?;
        if changed { Ok(1) } else { Err(format!("change {number} found nothing")) }
    }

    /// Denies a check for which there is no room.
    fn deny(&mut self, logs: &Logs, number: u64, amount: u64) -> Result<usize, String> {
        let key = logs.key(number);
        let subject = Subject::new(&logs.users[key], "model");
        let used = logs.ids[key].len() as u64 * COST;
        let full = Arc::new(logs.limit.with_amount(cost(used.saturating_sub(1))));
        let charge = [Charge { limit: &full, subject: &subject, cost: cost(amount) }];
        let call = self.store.charge(&charge, None);
        let charged = self.runtime.block_on(call).map_err(|error| error.to_string())?;
        if charged.verdicts[0].allowed { Err(format!("{number} was admitted")) } else { Ok(1) }
    }
}

impl Logs {
    fn key(&self, number: u64) -> usize {
        usize::try_from(number).unwrap_or(usize::MAX) % self.users.len()
    }
}

fn cost(amount: u64) -> Amount {
    Amount::new(amount).unwrap_or(Amount::MAX)
}
