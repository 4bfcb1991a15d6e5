//! A policy file as a read-only directory: to change it, edit the file.

use tollgate_core::Policy;

use crate::directory::{
    Actor, Address, Change, ChangeFilter, Created, Directory, DirectoryError, Filter, Imported,
    Kind, Page, PageRequest, Record, Records, Stored, Version,
};
use crate::document::Node;
use crate::snapshot::{Snapshot, SnapshotReader};

/// A directory over the snapshots of a reader: those of a file, or of policies without a catalog.
#[derive(Clone, Debug)]
pub struct SnapshotDirectory(SnapshotReader);

impl From<SnapshotReader> for SnapshotDirectory {
    fn from(reader: SnapshotReader) -> Self {
        Self(reader)
    }
}

impl Directory for SnapshotDirectory {
    async fn list(
        &self,
        kind: Kind,
        filter: &Filter,
        page: &PageRequest,
    ) -> Result<Page<Stored>, DirectoryError> {
        let snapshot = self.0.snapshot();
        let place =
            |address: Address<'_>| (address.id.to_owned(), address.tenant.map(str::to_owned));
        let after = page.cursor.as_deref().map(|cursor| place(Address::parse(cursor)));
        let mut records: Vec<_> = records(&snapshot, kind)
            .into_iter()
            .filter(|record| after.as_ref().is_none_or(|after| place(Address::of(record)) > *after))
            .filter(|record| filter.matches(record))
            .collect();
        records.sort_by_cached_key(|record| place(Address::of(record)));
        let has_more = records.len() > page.bounded_items();
        records.truncate(page.bounded_items());
        let last = records.last().filter(|_| has_more);
        let next_cursor = last.map(|record| Address::of(record).to_string());
        let version = Version(snapshot.version());
        let items = records.into_iter().map(|record| Stored { record, version }).collect();
        Ok(Page { items, next_cursor })
    }

    async fn get(&self, kind: Kind, id: &str) -> Result<Stored, DirectoryError> {
        let snapshot = self.0.snapshot();
        let address = Address::parse(id);
        let record = record(&snapshot, kind, address)?
            .ok_or_else(|| DirectoryError::NotFound { kind, id: address.id.to_owned() })?;
        Ok(Stored { record, version: Version(snapshot.version()) })
    }

    async fn create(&self, _: &Actor, _: Kind, _: &Node) -> Result<Created, DirectoryError> {
        Err(DirectoryError::ReadOnly)
    }

    async fn replace(
        &self,
        _: &Actor,
        _: Kind,
        _: &str,
        _: Option<Version>,
        _: &Node,
    ) -> Result<Stored, DirectoryError> {
        Err(DirectoryError::ReadOnly)
    }

    async fn patch(
        &self,
        _: &Actor,
        _: Kind,
        _: &str,
        _: Option<Version>,
        _: &Node,
    ) -> Result<Stored, DirectoryError> {
        Err(DirectoryError::ReadOnly)
    }

    async fn delete(
        &self,
        _: &Actor,
        _: Kind,
        _: &str,
        _: Option<Version>,
    ) -> Result<(), DirectoryError> {
        Err(DirectoryError::ReadOnly)
    }

    /// Always empty: there is no audit log of a file.
    async fn changes(
        &self,
        _: &ChangeFilter,
        _: &PageRequest,
    ) -> Result<Page<Change>, DirectoryError> {
        Ok(Page { items: Vec::new(), next_cursor: None })
    }

    async fn export(&self) -> Result<Node, DirectoryError> {
        let snapshot = self.0.snapshot();
        let mut all = Records::default();
        for kind in Kind::ALL {
            let mut records = records(&snapshot, kind);
            // Policies keep the order of the file; the other kinds have no order.
            if kind != Kind::Policy {
                records.sort_by_cached_key(|record| {
                    let Address { id, tenant } = Address::of(record);
                    (id.to_owned(), tenant.map(str::to_owned))
                });
            }
            for record in records {
                all.add(record);
            }
        }
        Ok(all.into_document())
    }

    async fn import(&self, _: &Actor, _: &Node) -> Result<Imported, DirectoryError> {
        Err(DirectoryError::ReadOnly)
    }

    fn is_writable(&self) -> bool {
        false
    }
}

/// The records of `kind`, in no order; policies in that of the file.
fn records(snapshot: &Snapshot, kind: Kind) -> Vec<Record> {
    let listed = snapshot.listed();
    match kind {
        Kind::Tier => listed.tiers.values().cloned().map(Record::Tier).collect(),
        Kind::ModelTier => listed.model_tiers.values().cloned().map(Record::ModelTier).collect(),
        Kind::Model => listed.models.values().cloned().map(Record::Model).collect(),
        Kind::Tenant => listed.tenants.values().cloned().map(Record::Tenant).collect(),
        Kind::User => listed.users.values().flatten().cloned().map(Record::User).collect(),
        Kind::ApiKey => Vec::new(),
        Kind::Policy => {
            snapshot.policies().policies().iter().cloned().map(Record::Policy).collect()
        }
    }
}

/// The record of `kind` at `address`, if it exists. Fails if the id of a user without its tenant is that of several.
fn record(
    snapshot: &Snapshot,
    kind: Kind,
    address: Address<'_>,
) -> Result<Option<Record>, DirectoryError> {
    let (listed, id) = (snapshot.listed(), address.id);
    Ok(match kind {
        Kind::Tier => listed.tiers.get(id).cloned().map(Record::Tier),
        Kind::ModelTier => listed.model_tiers.get(id).cloned().map(Record::ModelTier),
        Kind::Model => listed.models.get(id).cloned().map(Record::Model),
        Kind::Tenant => listed.tenants.get(id).cloned().map(Record::Tenant),
        Kind::User => {
            let users = listed.users.get(id).map(Vec::as_slice).unwrap_or_default();
            if let (None, [first, _, ..]) = (address.tenant, users) {
                let tenants = users.iter().map(|user| user.tenant_id.clone()).take(3).collect();
                return Err(DirectoryError::Ambiguous { kind, id: first.id.clone(), tenants });
            }
            listed.user(address.tenant, id).cloned().map(Record::User)
        }
        Kind::ApiKey => None,
        Kind::Policy => {
            let is_it = |policy: &&Policy| policy.id.as_str() == id;
            snapshot.policies().policies().iter().find(is_it).cloned().map(Record::Policy)
        }
    })
}
