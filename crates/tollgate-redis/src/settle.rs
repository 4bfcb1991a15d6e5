//! Receipts, and changes of what they name. `lua/change.lua` changes one admission of one key.

use futures_util::future::join_all;
use tollgate_core::counting::log::Admission;
use tollgate_core::{Amount, Attribute, Charge, Timestamp};
use tollgate_store::{Held, Receipt, Settled, StoreError, key_bytes};

use crate::call::Progress;
use crate::check::Decided;
use crate::key::slot;
use crate::script::SETTLE;
use crate::store::RedisStore;
use crate::wire::EntryId;

/// The kinds of admissions in a receipt.
const LOG: u8 = 1;
const COUNTER: u8 = 2;
const BUCKET: u8 = 3;
const CALENDAR: u8 = 4;
/// The kind; which part of the key is the user, or [`NO_USER`]; and two numbers that name the admission in its key.
const ADMISSION_BYTES: usize = 18;
const NO_USER: u8 = u8::MAX;

impl Decided {
    /// Names what the check of `charges` was charged. For a request id that was seen before, these are the admissions and
    /// the costs of the first time, which Redis keeps with the first answer.
    pub(crate) fn receipt(&self, charges: &[Charge<'_>]) -> Receipt {
        let mut receipt = Receipt::none();
        if self.refused {
            return receipt;
        }
        for (place, (charge, one)) in charges.iter().zip(&self.limits).enumerate() {
            let cost = one.after.usage.saturating_sub(one.before.usage);
            let cost = Amount::new(cost).unwrap_or(Amount::ZERO);
            if one.before.allowed && cost != Amount::ZERO {
                receipt.add(place, charge, cost, &admission(charge, one.id));
            }
        }
        receipt
    }
}

fn admission(charge: &Charge<'_>, id: EntryId) -> [u8; ADMISSION_BYTES] {
    let (kind, numbers) = match id {
        EntryId::Log(Admission { number, stamp }) => (LOG, [number, stamp]),
        EntryId::Counter { start } => (COUNTER, [start.as_ns(), 0]),
        EntryId::Bucket { at } => (BUCKET, [at.as_ns(), 0]),
        EntryId::Calendar { start } => (CALENDAR, [start.as_ns(), 0]),
    };
    // The first part of a key is the id of the policy.
    let per = charge.limit.per().attributes();
    let user = per.iter().position(|attribute| *attribute == Attribute::User);
    let user = user.and_then(|at| u8::try_from(at + 1).ok()).unwrap_or(NO_USER);
    let mut bytes = [0; ADMISSION_BYTES];
    (bytes[0], bytes[1]) = (kind, user);
    bytes[2..10].copy_from_slice(&numbers[0].to_le_bytes());
    bytes[10..].copy_from_slice(&numbers[1].to_le_bytes());
    bytes
}

/// The part of the key that is the user, if the limit is per user, and the admission; `None` if this store did not write
/// it.
fn read<'a>(held: &Held<'a>) -> Option<(Option<&'a [u8]>, EntryId)> {
    let bytes: [u8; ADMISSION_BYTES] = held.admission().try_into().ok()?;
    let number = |at: usize| -> Option<u64> {
        let number = u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?);
        (number <= Amount::MAX.get() || bytes[0] != LOG).then_some(number)
    };
    let id = match bytes[0] {
        LOG => EntryId::Log(Admission { number: number(2)?, stamp: number(10)? }),
        COUNTER => EntryId::Counter { start: Timestamp::from_ns(number(2)?) },
        BUCKET => EntryId::Bucket { at: Timestamp::from_ns(number(2)?) },
        CALENDAR => EntryId::Calendar { start: Timestamp::from_ns(number(2)?) },
        _ => return None,
    };
    let user = match bytes[1] {
        NO_USER => None,
        at => Some(held.parts().nth(usize::from(at))?),
    };
    Some((user, id))
}

impl RedisStore {
    /// The key in Redis of what `held` names, and its admission there.
    pub(crate) fn find(&self, held: &Held<'_>) -> Option<(String, EntryId)> {
        let (user, id) = read(held)?;
        Some((self.keys.of_bytes(&held.key_bytes(), user), id))
    }

    /// Changes each charge that `receipt` names to the cost at its place.
    pub(crate) async fn settle_all(
        &self,
        receipt: &Receipt,
        costs: &[Amount],
    ) -> Result<Settled, StoreError> {
        let change = async |held: Held<'_>| match costs.get(held.place()) {
            None => Ok(Some(held.cost())),
            Some(cost) => Ok(self.settle_held(&held, *cost).await?.then_some(*cost)),
        };
        let changes = join_all(receipt.held().map(change)).await;
        let is_changed =
            |change: &Result<Option<Amount>, StoreError>| matches!(change, Ok(Some(_)));
        let some_changed = changes.iter().any(is_changed);
        let mut settled = Settled::default();
        for (held, change) in receipt.held().zip(changes) {
            match change {
                Ok(Some(cost)) => settled.receipt.add_held(&held, cost),
                Ok(None) => settled.not_found.push(held.place()),
                Err(error) if some_changed => return Err(error.after_send()),
                Err(error) => return Err(error),
            }
        }
        Ok(settled)
    }

    /// False if it was not found.
    async fn settle_held(&self, held: &Held<'_>, cost: Amount) -> Result<bool, StoreError> {
        let Some((key, id)) = self.find(held) else { return Ok(false) };
        self.change_cost(&key, id, (held.cost(), cost), held.key_bytes()).await
    }

    /// Changes what one admission was charged; `false` if it was not found. For tests of the scripts.
    #[doc(hidden)]
    pub async fn change_admission(
        &self,
        charge: &Charge<'_>,
        id: EntryId,
        new_cost: Amount,
    ) -> Result<bool, StoreError> {
        let name = key_bytes(charge.limit, charge.subject);
        let key = self.keys.of_charge(charge);
        self.change_cost(&key, id, (charge.cost, new_cost), name).await
    }

    async fn change_cost(
        &self,
        key: &str,
        id: EntryId,
        costs: (Amount, Amount),
        name: Vec<u8>,
    ) -> Result<bool, StoreError> {
        let arguments = self.settlement(id, costs, name);
        let (slot, progress) = (slot(key), Progress::default());
        let keys = [key];
        let call = self.run::<i64>(&SETTLE, slot, &keys, &arguments, &progress);
        Ok(self.in_time(&progress, true, call).await? == 1)
    }
}
