//! Changes: each in one transaction, with its entry in the history and the version that it raises.

use tollgate_core::Timestamp;

use super::body;
use super::failure::{Failure, unavailable};
use super::feed::{self, Versions};
use super::rows::{self, Made, as_ms, signed};
use super::session::{Pool, Transaction};
use super::{Core, statements};
use crate::api_key::Secret;
use crate::directory::{
    Action, Actor, Created, DEFAULT_TIER, DirectoryError, Imported, Kind, Record, Records, Stored,
    Unavailable, Version,
};
use crate::document::{Node, to_json};
use crate::problem::{Problem, Problems};
use crate::validate::{self, Reference, reference_fields, references, unknown_reference};

/// A transaction that changes records.
pub(super) struct Writer<'c> {
    core: &'c Core,
    transaction: Transaction,
    actor: &'c Actor,
    now: Timestamp,
    versions: Versions,
    /// The versions before.
    began: Versions,
    touches_policies: bool,
    /// The turn among the changes of this node.
    turn: tokio::sync::MutexGuard<'c, ()>,
}

impl<'c> Writer<'c> {
    /// Waits for the turn to change something.
    pub(super) async fn begin(core: &'c Core, actor: &'c Actor) -> Result<Self, DirectoryError> {
        let turn = core.writing.lock().await;
        core.place.check()?;
        let mut transaction = core.pool.begin_writing().await?;
        let row = transaction.connection().row(statements::TAKE_TURN, &[]).await;
        let versions = feed::versions_of(row)?;
        let now = core.options.clock.now();
        Ok(Self {
            core,
            transaction,
            actor,
            now,
            versions,
            began: versions,
            touches_policies: false,
            turn,
        })
    }

    /// Makes it all true, or fails and leaves all as it was.
    pub(super) async fn commit(mut self) -> Result<(), DirectoryError> {
        if self.versions == self.began {
            return Ok(());
        }
        if self.touches_policies {
            self.check_policies().await?;
        }
        let Versions { version, snapshot_version } = self.versions;
        let versions = [signed(version).into(), signed(snapshot_version).into()];
        self.transaction.connection().execute(statements::SET_VERSIONS, &versions).await?;
        if matches!(self.core.pool, Pool::Postgres(_)) {
            self.transaction.connection().row(statements::NOTIFY, &[]).await?;
        }
        self.core.place.check()?;
        self.transaction.commit().await?;
        drop(self.turn);
        // Checks of this node obey before the call returns. What fails or takes too long here is followed up by
        // polling: the change is made.
        let following = self.core.feed.follow(self.core);
        _ = tokio::time::timeout(self.core.options.lock_timeout, following).await;
        Ok(())
    }

    /// Judges all policies together, as every node will when it loads them.
    async fn check_policies(&mut self) -> Result<(), Failure> {
        let mut records = Records::default();
        feed::read_all(&mut self.transaction.connection(), Kind::Policy, &mut records).await?;
        feed::policy_set(&mut records)?;
        Ok(())
    }

    /// The record of `kind` with the id `id`, if there is one.
    async fn find(&mut self, kind: Kind, id: &str) -> Result<Option<Stored>, DirectoryError> {
        let row = self.transaction.connection().row(statements::get(kind), &[id.into()]).await?;
        Ok(row.map(|row| rows::stored(kind, &row)).transpose()?)
    }

    /// The record that is to be changed, in the version that it is meant for.
    async fn current(
        &mut self,
        kind: Kind,
        id: &str,
        expected: Option<Version>,
    ) -> Result<Stored, DirectoryError> {
        let not_found = || DirectoryError::NotFound { kind, id: id.to_owned() };
        let id = body::id_of(kind, id)?;
        let stored = self.find(kind, id.as_str()).await?.ok_or_else(not_found)?;
        if expected.is_some_and(|expected| expected != stored.version) {
            return Err(DirectoryError::Stale { kind, id, current: stored.version });
        }
        Ok(stored)
    }

    pub(super) async fn create(
        &mut self,
        kind: Kind,
        body: &Node,
    ) -> Result<Created, DirectoryError> {
        let body = body::with_id(body).map_err(no_random)?;
        let mut record = validate::record("", kind, &body)?;
        if self.find(kind, record.id()).await?.is_some() {
            return Err(DirectoryError::Duplicate { kind, id: body::id_of(kind, record.id())? });
        }
        self.check_references(&record, &body).await?;
        let secret = match &mut record {
            Record::ApiKey(api_key) => {
                let secret = Secret::random().map_err(no_random)?;
                secret.prefix().clone_into(&mut api_key.prefix);
                Some(secret)
            }
            _ => None,
        };
        let stored = self.insert(record, secret.as_ref()).await?;
        Ok(Created { stored, secret })
    }

    pub(super) async fn replace(
        &mut self,
        kind: Kind,
        id: &str,
        expected: Option<Version>,
        body: &Node,
    ) -> Result<Stored, DirectoryError> {
        let current = self.current(kind, id, expected).await?;
        let body = body::replacement(&current.record, body)?;
        self.put(current, &body).await
    }

    pub(super) async fn patch(
        &mut self,
        kind: Kind,
        id: &str,
        expected: Option<Version>,
        patch: &Node,
    ) -> Result<Stored, DirectoryError> {
        let current = self.current(kind, id, expected).await?;
        let body = body::patched(&current.record, patch)?;
        self.put(current, &body).await
    }

    pub(super) async fn delete(
        &mut self,
        kind: Kind,
        id: &str,
        expected: Option<Version>,
    ) -> Result<(), DirectoryError> {
        let current = self.current(kind, id, expected).await?;
        let id = body::id_of(kind, id)?;
        if kind == Kind::Tier && id.as_str() == DEFAULT_TIER {
            return Err(DirectoryError::InUse { kind, id, by: None });
        }
        for from in Kind::ALL {
            self.check_unused(kind, &id, from).await?;
        }
        // The hash is gone with the row.
        let cached_as = self.cached_as(&current.record).await?;
        let arguments = [id.as_str().into()];
        let delete = statements::table(kind).delete;
        let deleted = self.transaction.connection().execute(delete, &arguments).await;
        deleted.map_err(|error| in_use(error, kind, &id))?;
        self.record_change(Action::Delete, &cached_as, Some(&current.record), None).await?;
        Ok(())
    }

    /// Fails if a record of `from` refers to the record of `kind` with the id `id`.
    async fn check_unused(
        &mut self,
        kind: Kind,
        id: &crate::directory::Id,
        from: Kind,
    ) -> Result<(), DirectoryError> {
        for (field, _) in reference_fields(from).iter().filter(|(_, to)| *to == kind) {
            let Some(statement) = statements::referrer(from, field) else { continue };
            let row = self.transaction.connection().row(statement, &[id.as_str().into()]).await?;
            if let Some(row) = row {
                let by = Some((from, rows::id(&row, 0)?));
                return Err(DirectoryError::InUse { kind, id: id.clone(), by });
            }
        }
        Ok(())
    }

    /// Makes or replaces every record of `document`.
    pub(super) async fn import(&mut self, document: &Node) -> Result<Imported, DirectoryError> {
        let records = validate::records("", Some(document), validate::Scope::Anywhere)?;
        let (mut imported, mut problems) = (Imported::default(), Vec::new());
        for record in records.into_records() {
            match self.import_record(record, &mut imported).await {
                Ok(()) => {}
                // One missing tenant should not hide another.
                Err(DirectoryError::Invalid(found)) => problems.extend(found.iter().cloned()),
                Err(error) => return Err(error),
            }
        }
        if problems.is_empty() { Ok(imported) } else { Err(Problems::of("", problems, 0).into()) }
    }

    async fn import_record(
        &mut self,
        record: Record,
        imported: &mut Imported,
    ) -> Result<(), DirectoryError> {
        let (kind, node) = (record.kind(), record.to_node());
        let place = format!("{}[{:?}]", kind.list_name(), record.id());
        let checked = self.check_references(&record, &node).await.map_err(|error| match error {
            DirectoryError::Invalid(problems) => {
                let at = |problem: &Problem| Problem {
                    path: format!("{place}.{}", problem.path),
                    ..problem.clone()
                };
                Problems::of("", problems.iter().map(at).collect(), 0).into()
            }
            other => other,
        });
        match self.find(kind, record.id()).await? {
            None => {
                checked?;
                self.insert(record, None).await?;
                imported.created += 1;
            }
            Some(stored) if stored.record == record => imported.unchanged += 1,
            Some(stored) => {
                checked?;
                self.update(stored, record).await?;
                imported.updated += 1;
            }
        }
        Ok(())
    }

    /// Replaces `current` by the record in `body`.
    async fn put(&mut self, current: Stored, body: &Node) -> Result<Stored, DirectoryError> {
        let kind = current.record.kind();
        let mut record = validate::record("", kind, body)?;
        if let (Record::ApiKey(new), Record::ApiKey(old)) = (&mut record, &current.record) {
            new.prefix.clone_from(&old.prefix);
            new.last_used_at = old.last_used_at;
        }
        self.check_references(&record, body).await?;
        // What changes nothing is no change.
        if record == current.record {
            return Ok(current);
        }
        self.update(current, record).await
    }

    /// Reports every reference of `record`, which was written as `body`, that leads to nothing.
    async fn check_references(
        &mut self,
        record: &Record,
        body: &Node,
    ) -> Result<(), DirectoryError> {
        let mut problems = Vec::new();
        for reference in references(record) {
            if let Some(why) = self.refused(record, reference).await? {
                problems.push(unknown_reference(body, reference, &why));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(Problems::of("", problems, 0).into()) }
    }

    /// What is wrong with a reference, if anything.
    async fn refused(
        &mut self,
        record: &Record,
        reference: Reference<'_>,
    ) -> Result<Option<String>, DirectoryError> {
        let found = self.find(reference.to, reference.id.as_str()).await?;
        Ok(match (record, found.map(|found| found.record)) {
            (_, None) => Some(format!("is no {}", reference.to)),
            (Record::ApiKey(api_key), Some(Record::User(user)))
                if user.tenant_id != api_key.tenant_id =>
            {
                Some("is a user of another tenant".to_owned())
            }
            _ => None,
        })
    }

    async fn insert(
        &mut self,
        record: Record,
        secret: Option<&Secret>,
    ) -> Result<Stored, DirectoryError> {
        let hash = secret.map(|secret| self.core.hasher.hash(secret.reveal()).to_hex());
        let cached_as = hash.clone().unwrap_or_else(|| record.id().to_owned());
        let version = self.record_change(Action::Create, &cached_as, None, Some(&record)).await?;
        let document = to_json(&record.to_node());
        let made = Made { hash: hash.as_deref().unwrap_or_default() };
        let arguments = rows::arguments(&record, Some(made), &document, version);
        let insert = statements::table(record.kind()).insert;
        self.transaction.connection().execute(insert, &arguments).await?;
        Ok(Stored { record, version })
    }

    async fn update(&mut self, current: Stored, record: Record) -> Result<Stored, DirectoryError> {
        let cached_as = self.cached_as(&record).await?;
        let (before, after) = (Some(&current.record), Some(&record));
        let version = self.record_change(Action::Update, &cached_as, before, after).await?;
        let document = to_json(&record.to_node());
        let arguments = rows::arguments(&record, None, &document, version);
        let update = statements::table(record.kind()).update;
        let updated = self.transaction.connection().execute(update, &arguments).await;
        // All that the record refers to was found, so it is what refers to it: a user's keys hold its tenant.
        let id = body::id_of(record.kind(), record.id())?;
        updated.map_err(|error| in_use(error, record.kind(), &id))?;
        Ok(Stored { record, version })
    }

    /// What the caches know `record` by.
    async fn cached_as(&mut self, record: &Record) -> Result<String, DirectoryError> {
        if record.kind() != Kind::ApiKey {
            return Ok(record.id().to_owned());
        }
        let arguments = [record.id().into()];
        let row = self.transaction.connection().row(statements::HASH_OF_KEY, &arguments).await?;
        Ok(row.map(|row| row.text(0)).transpose()?.unwrap_or_default())
    }

    /// Adds an entry to the history and gives its number.
    async fn record_change(
        &mut self,
        action: Action,
        cached_as: &str,
        before: Option<&Record>,
        after: Option<&Record>,
    ) -> Result<Version, DirectoryError> {
        let Some(record) = after.or(before) else { return Ok(Version(self.versions.version)) };
        let kind = record.kind();
        self.versions.version += 1;
        if kind.is_in_snapshot() {
            self.versions.snapshot_version = self.versions.version;
        }
        self.touches_policies |= kind == Kind::Policy;
        let json = |record: &Record| to_json(&record.to_node());
        let (before, after) = (before.map(json), after.map(json));
        let arguments = [
            signed(self.versions.version).into(),
            as_ms(self.now).into(),
            self.actor.name().into(),
            action.name().into(),
            kind.name().into(),
            record.id().into(),
            cached_as.into(),
            before.as_deref().into(),
            after.as_deref().into(),
        ];
        self.transaction.connection().execute(statements::ADD_CHANGE, &arguments).await?;
        Ok(Version(self.versions.version))
    }
}

/// A foreign key that a deleted or moved record would break means that it is in use.
fn in_use(error: sqlx::Error, kind: Kind, id: &crate::directory::Id) -> DirectoryError {
    let is_foreign_key =
        error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_foreign_key_violation);
    if is_foreign_key {
        DirectoryError::InUse { kind, id: id.clone(), by: None }
    } else {
        unavailable(error).into()
    }
}

fn no_random(error: getrandom::Error) -> DirectoryError {
    let what = "the system gives no random numbers";
    DirectoryError::Unavailable(Unavailable::new(what, Some(Box::new(error))))
}
