//! Changes of what one admission of one key was charged: `lua/change.lua`.

use tollgate_core::{Amount, Charge};
use tollgate_store::{StoreError, key_bytes};

use crate::call::Progress;
use crate::key::slot;
use crate::script::SETTLE;
use crate::store::RedisStore;
use crate::wire::EntryId;

impl RedisStore {
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

    pub(crate) async fn change_cost(
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
