//! Who an API key belongs to, for callers that must know it before they reserve.

use tollgate_catalog::Standing;
use tollgate_catalog::directory::Id;
use tollgate_core::{Attribute, Check, PriorityClass, Subject};
use tollgate_store::Store;

use crate::rate_limit::RateLimitService;

/// The owner of an API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Whether the key is valid. Only an [active](Standing::Active) one has an owner.
    pub standing: Standing,
    /// The tenant of the key.
    pub tenant: Option<Id>,
    /// The priority class of its tier.
    pub priority: PriorityClass,
}

impl<S: Store> RateLimitService<S> {
    /// The owner of `api_key`, in clear text. Without a catalog, no key is known. Waits only for records of a database that are
    /// not cached.
    pub async fn caller(&self, api_key: &str) -> Caller {
        let Some(directory) = self.directory() else {
            let priority = PriorityClass::default();
            return Caller { standing: Standing::Unknown, tenant: None, priority };
        };
        let snapshot = self.policies().current();
        let check = Check::of(Subject::empty().with(&Attribute::ApiKey, api_key));
        let resolution = directory.resolve(&snapshot, &check).await.resolution;
        let standing = resolution.api_key.map_or(Standing::Unknown, |key| key.standing);
        Caller { standing, tenant: resolution.tenant, priority: resolution.priority }
    }
}
