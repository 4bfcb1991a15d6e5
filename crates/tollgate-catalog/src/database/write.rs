//! Changes: each in one transaction, together with its entry in the audit log and the version that it raises.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use tollgate_core::{Accepted, Attribute, Pattern, Policy, Timestamp};

use super::body;
use super::failure::{Failure, unavailable};
use super::feed::{self, Versions};
use super::find::find;
use super::rows::{self, Made, as_ms, signed};
use super::session::{Argument, Pool, Transaction};
use super::{Core, statements};
use crate::api_key::{ApiKeySecret, KeyHash};
use crate::directory::{
    Action, Actor, Address, Created, DEFAULT_TIER, DirectoryError, Id, Imported, Kind, Record,
    Records, Stored, Unavailable, Version, user_address,
};
use crate::document::{Node, Value, to_json};
use crate::problem::{DocumentProblem, Position, Problems};
use crate::validate::{self, Reference, reference_fields, references, references_beyond};

/// Each change waits as long as one change may take, not as long as all those before it take together.
const TURN_TIMED_OUT: &str = "other changes are waiting for the database; try again";

/// A transaction that changes records.
pub(super) struct Writer<'c> {
    core: &'c Core,
    transaction: Transaction,
    actor: &'c Actor,
    /// In civil time.
    now: Timestamp,
    versions: Versions,
    /// The versions before the change.
    began: Versions,
    touches_policies: bool,
    /// The turn among the changes of this node.
    turn: tokio::sync::MutexGuard<'c, ()>,
}

impl<'c> Writer<'c> {
    /// Waits for its turn to change something.
    pub(super) async fn begin(core: &'c Core, actor: &'c Actor) -> Result<Self, DirectoryError> {
        let turn = tokio::time::timeout(core.options.lock_timeout, core.writing.lock());
        let turn = turn.await.map_err(|_| Unavailable::new(TURN_TIMED_OUT, None))?;
        core.location.check()?;
        let mut transaction = core.pool.begin_writing().await?;
        let row = transaction.connection().row(statements::TAKE_TURN, &[]).await;
        let versions = feed::versions_of(row)?;
        let now = core.options.wall_clock.wall_time();
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

    /// Commits all of it or nothing. If the connection breaks during the commit, this fails although the change may
    /// have been made.
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
        self.core.location.check()?;
        self.transaction.commit().await?;
        drop(self.turn);
        // The change applies to checks on this node before the call returns. If this fails or takes too long, polling
        // does it: the change is committed.
        let following = self.core.feed.follow(self.core);
        _ = tokio::time::timeout(self.core.options.lock_timeout, following).await;
        Ok(())
    }

    /// Validates all policies together, as every node will when it loads them.
    async fn check_policies(&mut self) -> Result<(), Failure> {
        let mut records = Records::default();
        feed::read_all(&mut self.transaction.connection(), Kind::Policy, &mut records).await?;
        feed::policy_set(&mut records)?;
        Ok(())
    }

    /// The record of `kind` with the id `id`, if there is one.
    async fn find(
        &mut self,
        kind: Kind,
        address: Address<'_>,
    ) -> Result<Option<Stored>, DirectoryError> {
        find(&mut self.transaction.connection(), kind, address).await
    }

    /// The record to change, if it has the expected version.
    async fn current(
        &mut self,
        kind: Kind,
        id: &str,
        expected: Option<Version>,
    ) -> Result<Stored, DirectoryError> {
        let address = Address::parse(id);
        let id = body::id_of(kind, address)?;
        let not_found = || DirectoryError::NotFound { kind, id: address.id.to_owned() };
        let stored = self.find(kind, address).await?.ok_or_else(not_found)?;
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
        let mut record = self.judge(kind, &body).await?;
        // Whoever creates a policy with the id of the built-in one replaces that on purpose.
        if let Record::Policy(_) = &record
            && let Some(current) = self.find(kind, Address::of(&record)).await?
            && matches!(&current.record, Record::Policy(policy) if policy.is_built_in())
        {
            let stored = self.update(current, record).await?;
            return Ok(Created { stored, secret: None });
        }
        self.check_free(&record).await?;
        let secret = match &mut record {
            Record::ApiKey(api_key) => {
                let secret = ApiKeySecret::random().map_err(no_random)?;
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
        let id = body::id_of(kind, Address::parse(id))?;
        if kind == Kind::Tier && id.as_str() == DEFAULT_TIER {
            return Err(DirectoryError::InUse { kind, id, by: None });
        }
        for from in Kind::ALL {
            self.check_unused(&current.record, &id, from).await?;
        }
        self.check_not_needed(kind, &id).await?;
        // The hash is deleted with the row.
        let cached_as = self.cached_as(&current.record).await?;
        let address = Address::of(&current.record);
        let arguments: Vec<Argument<'_>> =
            [Some(address.id), address.tenant].into_iter().flatten().map(Argument::from).collect();
        let delete = statements::table(kind).delete;
        let deleted = self.transaction.connection().execute(delete, &arguments).await;
        deleted.map_err(|error| in_use(error, kind, &id))?;
        self.record_change(Action::Delete, &cached_as, Some(&current.record), None).await?;
        Ok(())
    }

    /// Fails if there is a record at the address of `record` already.
    async fn check_free(&mut self, record: &Record) -> Result<(), DirectoryError> {
        let (kind, address) = (record.kind(), Address::of(record));
        match self.find(kind, address).await? {
            Some(_) => Err(DirectoryError::Duplicate { kind, id: body::id_of(kind, address)? }),
            None => Ok(()),
        }
    }

    /// Fails if a record of `from` refers to `record`, whose id is `id`.
    async fn check_unused(
        &mut self,
        record: &Record,
        id: &Id,
        from: Kind,
    ) -> Result<(), DirectoryError> {
        let (kind, address) = (record.kind(), Address::of(record));
        let arguments: Vec<Argument<'_>> =
            [Some(address.id), address.tenant].into_iter().flatten().map(Argument::from).collect();
        for (field, _) in reference_fields(from).iter().filter(|(_, to)| *to == kind) {
            let Some(statement) = statements::referrer(from, field) else { continue };
            let row = self.transaction.connection().row(statement, &arguments).await?;
            if let Some(row) = row {
                let by = Some((from, rows::id(&row, 0)?));
                return Err(DirectoryError::InUse { kind, id: id.clone(), by });
            }
        }
        Ok(())
    }

    /// Fails if a policy needs the record of `kind` with the id `id`: it asks for exactly this tier or model tier, and would
    /// silently never match again, or it overrides this policy.
    async fn check_not_needed(&mut self, kind: Kind, id: &Id) -> Result<(), DirectoryError> {
        if !matches!(kind, Kind::Tier | Kind::ModelTier | Kind::ApiKey | Kind::Policy) {
            return Ok(());
        }
        let mut records = Records::default();
        feed::read_all(&mut self.transaction.connection(), Kind::Policy, &mut records).await?;
        let asks_for = |policy: &Policy, attribute| {
            policy.conditions.iter().any(|condition| {
                let Accepted::AnyOf(patterns) = &condition.accepted else { return false };
                condition.attribute == attribute
                    && patterns.iter().any(
                        |pattern| matches!(pattern, Pattern::Exact(value) if value == id.as_str()),
                    )
            })
        };
        let is_for = |policy: &&Policy| match kind {
            Kind::Tier => asks_for(policy, Attribute::Tier),
            Kind::ModelTier => asks_for(policy, Attribute::ModelTier),
            Kind::ApiKey => asks_for(policy, Attribute::ApiKey),
            _ => policy.overrides.iter().any(|overridden| overridden.as_str() == id.as_str()),
        };
        match records.policies.iter().find(is_for) {
            None => Ok(()),
            Some(policy) => {
                let by = Some((Kind::Policy, Id::checked(policy.id.as_str())));
                Err(DirectoryError::InUse { kind, id: id.clone(), by })
            }
        }
    }

    /// Creates or replaces every record of `document`.
    pub(super) async fn import(&mut self, document: &Node) -> Result<Imported, DirectoryError> {
        let records = validate::records("", Some(document), validate::Scope::Anywhere);
        let mut unknown = self.unknown(references_beyond(document)).await?;
        for policy in records.iter().flat_map(|records| &records.policies) {
            let path = format!("policies[{:?}].match.apiKey", policy.id.as_str());
            unknown.extend(self.unknown_api_keys(policy, &path).await?);
        }
        let mut imported = Imported::default();
        for record in with_problems(records, unknown)?.into_records() {
            match self.find(record.kind(), Address::of(&record)).await? {
                None => {
                    self.insert(record, None).await?;
                    imported.created += 1;
                }
                Some(stored) if stored.record == record => imported.unchanged += 1,
                Some(stored) => {
                    self.update(stored, record).await?;
                    imported.updated += 1;
                }
            }
        }
        Ok(imported)
    }

    /// Replaces `current` by the record in `body`.
    async fn put(&mut self, current: Stored, body: &Node) -> Result<Stored, DirectoryError> {
        let mut record = self.judge(current.record.kind(), body).await?;
        if let (Record::ApiKey(new), Record::ApiKey(old)) = (&mut record, &current.record) {
            new.prefix.clone_from(&old.prefix);
            new.last_used_at = old.last_used_at;
        }
        // An update without a difference is not a change.
        if record == current.record {
            return Ok(current);
        }
        self.update(current, record).await
    }

    /// The record of `kind` in `body`, or all its problems, including those of its references.
    async fn judge(&mut self, kind: Kind, body: &Node) -> Result<Record, DirectoryError> {
        let record = validate::record("", kind, body);
        let mut problems = self.unknown(references(kind, body).collect()).await?;
        if let Ok(Record::ApiKey(api_key)) = &record
            && let Some(user) = references(kind, body).find(|reference| reference.to == Kind::User)
        {
            let address = Address { tenant: Some(api_key.tenant_id.as_str()), id: user.id };
            if self.find(Kind::User, address).await?.is_none() && self.exists(&user).await? {
                problems.push(user.of_another_tenant());
            }
        }
        if let Ok(Record::Policy(policy)) = &record {
            let position = position_of(body, &["match", "apiKey"]);
            let unknown = self.unknown_api_keys(policy, "match.apiKey").await?;
            problems.extend(unknown.into_iter().map(|one| DocumentProblem { position, ..one }));
        }
        Ok(with_problems(record, problems)?)
    }

    /// A problem for each API key that `policy` asks for at `path` and that no check can have: checks have the id of a known
    /// key, and the hash of any other.
    async fn unknown_api_keys(
        &mut self,
        policy: &Policy,
        path: &str,
    ) -> Result<Vec<DocumentProblem>, DirectoryError> {
        let mut problems = Vec::new();
        let of_keys = policy.conditions.iter().filter(|one| one.attribute == Attribute::ApiKey);
        for condition in of_keys {
            let Accepted::AnyOf(patterns) = &condition.accepted else { continue };
            for pattern in patterns {
                let Pattern::Exact(id) = pattern else { continue };
                let address = Address { tenant: None, id: id.as_str() };
                if KeyHash::from_hex(id).is_none()
                    && self.find(Kind::ApiKey, address).await?.is_none()
                {
                    problems.push(DocumentProblem {
                        position: None,
                        path: path.to_owned(),
                        // It may be the key itself, which must not be shown.
                        message: "has a value that is not the id of an API key".to_owned(),
                        accepted: "ids of API keys, and the hashes under which unknown keys count"
                            .to_owned(),
                    });
                }
            }
        }
        Ok(problems)
    }

    /// A problem for each reference in `named` to a record that does not exist.
    async fn unknown(
        &mut self,
        named: Vec<Reference<'_>>,
    ) -> Result<Vec<DocumentProblem>, DirectoryError> {
        let mut looked_up = HashMap::new();
        let mut problems = Vec::new();
        // An invalid id has been reported already.
        for reference in named.iter().filter(|reference| Id::new(reference.id).is_ok()) {
            let is_known = match looked_up.entry((reference.to, reference.id)) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(place) => *place.insert(self.exists(reference).await?),
            };
            if !is_known {
                problems.push(reference.unknown());
            }
        }
        Ok(problems)
    }

    /// Whether there is a record to which `reference` may refer.
    async fn exists(&mut self, reference: &Reference<'_>) -> Result<bool, DirectoryError> {
        match self.find(reference.to, Address { tenant: None, id: reference.id }).await {
            Ok(found) => Ok(found.is_some()),
            Err(DirectoryError::Ambiguous { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn insert(
        &mut self,
        record: Record,
        secret: Option<&ApiKeySecret>,
    ) -> Result<Stored, DirectoryError> {
        let hash = secret.map(|secret| self.core.hasher.hash(secret.reveal()).to_hex());
        let cached_as = hash.clone().unwrap_or_else(|| Address::of(&record).to_string());
        let version = self.record_change(Action::Create, &cached_as, None, Some(&record)).await?;
        let document = to_json(&record.to_node());
        let made = Made { hash: hash.as_deref().unwrap_or_default() };
        let arguments = rows::arguments(&record, Some(made), &document, version);
        let insert = statements::table(record.kind()).insert;
        self.transaction.connection().execute(insert, &arguments).await?;
        Ok(Stored { record, version })
    }

    async fn update(&mut self, current: Stored, record: Record) -> Result<Stored, DirectoryError> {
        let moved_from = match (&current.record, &record) {
            (Record::User(old), Record::User(new)) if old.tenant_id != new.tenant_id => {
                self.check_free(&record).await?;
                Some(old.tenant_id.as_str())
            }
            _ => None,
        };
        let mut cached_as = self.cached_as(&record).await?;
        if let Some(tenant) = moved_from {
            cached_as = user_address(tenant, &cached_as);
        }
        let (before, after) = (Some(&current.record), Some(&record));
        let version = self.record_change(Action::Update, &cached_as, before, after).await?;
        let document = to_json(&record.to_node());
        let mut arguments = rows::arguments(&record, None, &document, version);
        arguments.extend(Address::of(&current.record).tenant.map(Argument::from));
        let update = statements::table(record.kind()).update;
        let updated = self.transaction.connection().execute(update, &arguments).await;
        // Everything that the record refers to exists, so the problem is a reference to it: a user's keys keep its
        // tenant.
        let id = body::id_of(record.kind(), Address::of(&record))?;
        updated.map_err(|error| in_use(error, record.kind(), &id))?;
        Ok(Stored { record, version })
    }

    /// The key of `record` in caches.
    async fn cached_as(&mut self, record: &Record) -> Result<String, DirectoryError> {
        if record.kind() != Kind::ApiKey {
            return Ok(Address::of(record).to_string());
        }
        let arguments = [record.id().into()];
        let row = self.transaction.connection().row(statements::HASH_OF_KEY, &arguments).await?;
        Ok(row.map(|row| row.text(0)).transpose()?.unwrap_or_default())
    }

    /// Adds an entry to the audit log and returns its number.
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

/// The value, if no problem was found here or elsewhere.
/// The position of the value at `path` in `node`.
fn position_of(node: &Node, path: &[&str]) -> Option<Position> {
    let Some((field, rest)) = path.split_first() else { return node.position };
    match &node.value {
        Value::Map(entries) => {
            let entry = entries.iter().find(|entry| entry.key == *field)?;
            position_of(&entry.node, rest)
        }
        _ => None,
    }
}

fn with_problems<T>(
    judged: Result<T, Problems>,
    others: Vec<DocumentProblem>,
) -> Result<T, Problems> {
    match judged {
        Ok(judged) if others.is_empty() => Ok(judged),
        Ok(_) => Err(Problems::of("", others, 0)),
        Err(found) => {
            let all = found.iter().cloned().chain(others).collect();
            Err(Problems::of("", all, found.omitted()))
        }
    }
}

/// If a change violates a foreign key of another record, the changed record is in use.
fn in_use(error: sqlx::Error, kind: Kind, id: &Id) -> DirectoryError {
    let is_foreign_key =
        error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_foreign_key_violation);
    if is_foreign_key {
        DirectoryError::InUse { kind, id: id.clone(), by: None }
    } else {
        unavailable(error).into()
    }
}

fn no_random(error: getrandom::Error) -> DirectoryError {
    let what = "the system's random source failed";
    DirectoryError::Unavailable(Unavailable::new(what, Some(Box::new(error))))
}
