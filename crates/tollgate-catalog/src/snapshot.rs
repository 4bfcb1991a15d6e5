//! What is in force, published as a whole and read without a lock: the policies, and the records that they refer to.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tollgate_core::PolicySet;

use crate::directory::{
    DEFAULT_TIER, Id, Kind, Model, ModelTier, PriorityClass, Records, Tenant, Tier, User,
};
use crate::validate::{CatalogWarning, DeclaredIds};

/// The policies, tiers and models in force from one change of the catalog to the next.
#[derive(Debug)]
pub struct Snapshot {
    version: u64,
    policies: Arc<PolicySet>,
    listed: Arc<Listed>,
    warnings: Arc<[CatalogWarning]>,
}

impl Snapshot {
    /// What about its policies and records is worth a second look.
    pub fn warnings(&self) -> &[CatalogWarning] {
        &self.warnings
    }

    /// The number of this set. It grows with each change, but not always by one: for a database it is the number of the
    /// change, the same on all nodes; for a file it counts the changes that this process saw.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The policies.
    pub fn policies(&self) -> &Arc<PolicySet> {
        &self.policies
    }

    /// The same records with `policies` in place of its own, for a comparison.
    #[must_use]
    pub fn with_policies(&self, policies: PolicySet) -> Self {
        Self {
            version: self.version,
            policies: Arc::new(policies),
            listed: Arc::clone(&self.listed),
            warnings: Arc::from([]),
        }
    }

    /// The records that are held in memory besides the policies.
    pub fn listed(&self) -> &Listed {
        &self.listed
    }
}

/// The records that are held in memory completely, by their ids.
#[derive(Debug)]
pub struct Listed {
    pub(crate) default_tier: Id,
    pub(crate) tiers: HashMap<Id, Tier>,
    pub(crate) model_tiers: HashMap<Id, ModelTier>,
    pub(crate) models: HashMap<Id, Model>,
    /// Only those of a file; a database may have too many.
    pub(crate) tenants: HashMap<Id, Tenant>,
    /// Only those of a file.
    /// By their ids; several tenants may have a user with the same one.
    pub(crate) users: HashMap<Id, Vec<User>>,
}

impl Listed {
    /// The ids of its tiers and model tiers, and of the tenants and users of a file.
    pub fn declared(&self) -> DeclaredIds {
        let mut declared = DeclaredIds::default();
        let users = self.users.keys().map(|id| (Kind::User, id));
        let tenants = self.tenants.keys().map(|id| (Kind::Tenant, id));
        let model_tiers = self.model_tiers.keys().map(|id| (Kind::ModelTier, id));
        let tiers = self.tiers.keys().map(|id| (Kind::Tier, id));
        for (kind, id) in tiers.chain(model_tiers).chain(tenants).chain(users) {
            declared.add(kind, id.as_str());
        }
        declared
    }

    /// The priority class of the tier `tier`: `standard` if it does not exist (any more).
    #[inline]
    pub fn priority(&self, tier: &str) -> PriorityClass {
        self.tiers.get(tier).map(|tier| tier.priority).unwrap_or_default()
    }

    /// The user `id` of `tenant`, or of the only tenant that has one.
    pub(crate) fn user(&self, tenant: Option<&str>, id: &str) -> Option<&User> {
        let users = self.users.get(id)?;
        match (tenant, &users[..]) {
            (Some(tenant), users) => users.iter().find(|user| user.tenant_id.as_str() == tenant),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }

    /// The model tier of the model `model`, if it is known.
    #[inline]
    pub fn model_tier(&self, model: &str) -> Option<&Id> {
        self.models.get(model).map(|model| &model.model_tier)
    }
}

impl From<Records> for Listed {
    fn from(records: Records) -> Self {
        fn by_id<T>(items: Vec<T>, id: impl Fn(&T) -> &Id) -> HashMap<Id, T> {
            items.into_iter().map(|item| (id(&item).clone(), item)).collect()
        }
        let mut users: HashMap<Id, Vec<User>> = HashMap::new();
        for user in records.users {
            users.entry(user.id.clone()).or_default().push(user);
        }
        Self {
            default_tier: Id::checked(DEFAULT_TIER),
            tiers: by_id(records.tiers, |tier| &tier.id),
            model_tiers: by_id(records.model_tiers, |model_tier| &model_tier.id),
            models: by_id(records.models, |model| &model.id),
            tenants: by_id(records.tenants, |tenant| &tenant.id),
            users,
        }
    }
}

/// What a catalog has loaded and compiled, but not published yet.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) policies: PolicySet,
    pub(crate) listed: Listed,
    pub(crate) warnings: Vec<CatalogWarning>,
}

/// Reads the snapshot in force. Clones read the same one.
///
/// A decision takes one snapshot and uses it throughout, so that it never mixes two versions (P11).
#[derive(Clone, Debug)]
pub struct SnapshotReader(Arc<ArcSwap<Snapshot>>);

impl SnapshotReader {
    /// A reader whose snapshot never changes, for policies without a catalog.
    pub fn fixed(policies: PolicySet) -> Self {
        let loaded = Loaded { policies, listed: Records::default().into(), warnings: Vec::new() };
        Publisher::new(1, loaded).reader()
    }

    /// The snapshot in force, for one decision. Hold the guard only briefly; to keep a snapshot, use
    /// [`SnapshotReader::snapshot`].
    #[inline]
    pub fn current(&self) -> Guard<Arc<Snapshot>> {
        self.0.load()
    }

    /// The snapshot in force, to keep.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }
}

/// A reader whose snapshot never changes.
impl From<Arc<Snapshot>> for SnapshotReader {
    fn from(snapshot: Arc<Snapshot>) -> Self {
        Self(Arc::new(ArcSwap::new(snapshot)))
    }
}

/// Publishes snapshots; there is one for each catalog.
#[derive(Debug)]
pub(crate) struct Publisher {
    current: Arc<ArcSwap<Snapshot>>,
}

impl Publisher {
    /// Publishes `loaded` as the first version, `version`.
    pub(crate) fn new(version: u64, loaded: Loaded) -> Self {
        Self { current: Arc::new(ArcSwap::from_pointee(snapshot(version, loaded))) }
    }

    pub(crate) fn reader(&self) -> SnapshotReader {
        SnapshotReader(Arc::clone(&self.current))
    }

    /// The published version.
    pub(crate) fn version(&self) -> u64 {
        self.current.load().version
    }

    /// Publishes `loaded` as `version`, and returns the snapshot. It takes `&mut` because only one caller may publish.
    pub(crate) fn publish(&mut self, version: u64, loaded: Loaded) -> Arc<Snapshot> {
        let next = Arc::new(snapshot(version, loaded));
        self.current.store(Arc::clone(&next));
        next
    }
}

fn snapshot(version: u64, loaded: Loaded) -> Snapshot {
    let Loaded { policies, listed, warnings } = loaded;
    let (policies, listed) = (Arc::new(policies), Arc::new(listed));
    Snapshot { version, policies, listed, warnings: warnings.into() }
}
