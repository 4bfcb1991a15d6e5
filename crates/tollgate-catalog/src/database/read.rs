//! The database as a directory: reading.

use super::feed;
use super::find::find;
use super::rows::{self, signed};
use super::session::Argument;
use super::write::Writer;
use super::{DatabaseCatalog, statements};
use crate::directory::{
    Actor, Address, Change, ChangeFilter, Created, Directory, DirectoryError, Filter, Imported,
    Kind, Page, PageRequest, Records, Stored, Unavailable, Version,
};
use crate::document::Node;
use crate::problem::{DocumentProblem, Problems};

impl DatabaseCatalog {
    /// The result of `call`, unless it takes too long; then it is cancelled, and its transaction rolled back.
    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, DirectoryError>> + Send,
    ) -> Result<T, DirectoryError> {
        let what = "the database did not answer in time; try again";
        tokio::time::timeout(self.core.options.call_timeout, call)
            .await
            .unwrap_or_else(|_| Err(Unavailable::new(what, None).into()))
    }
}

impl Directory for DatabaseCatalog {
    async fn list(
        &self,
        kind: Kind,
        filter: &Filter,
        page: &PageRequest,
    ) -> Result<Page<Stored>, DirectoryError> {
        let Some(statement) = statements::list(kind, filter) else {
            return Ok(Page { items: Vec::new(), next_cursor: None });
        };
        self.in_time(async {
            let items = page.bounded_items();
            let after = Address::parse(page.cursor.as_deref().unwrap_or_default());
            // One item more than is returned shows whether there are more.
            let mut arguments: Vec<Argument<'_>> =
                vec![after.id.into(), signed(items as u64 + 1).into()];
            let values: Vec<_> = statements::filter_values(filter).collect();
            arguments.extend(values.iter().map(|value| Argument::from(&**value)));
            if kind == Kind::User {
                arguments.push(after.tenant.unwrap_or_default().into());
            }
            let mut transaction = self.core.pool.begin_reading().await?;
            let rows = transaction.connection().rows(statement, &arguments).await?;
            let mut stored =
                rows.iter().map(|row| rows::stored(kind, row)).collect::<sqlx::Result<Vec<_>>>()?;
            let has_more = stored.len() > items;
            stored.truncate(items);
            let last = stored.last().filter(|_| has_more);
            let next_cursor = last.map(|stored| Address::of(&stored.record).to_string());
            Ok(Page { items: stored, next_cursor })
        })
        .await
    }

    async fn get(&self, kind: Kind, id: &str) -> Result<Stored, DirectoryError> {
        let address = Address::parse(id);
        self.in_time(async {
            let mut transaction = self.core.pool.begin_reading().await?;
            let found = find(&mut transaction.connection(), kind, address).await?;
            found.ok_or_else(|| DirectoryError::NotFound { kind, id: address.id.to_owned() })
        })
        .await
    }

    async fn create(
        &self,
        actor: &Actor,
        kind: Kind,
        body: &Node,
    ) -> Result<Created, DirectoryError> {
        self.in_time(async {
            let mut writer = Writer::begin(&self.core, actor).await?;
            let created = writer.create(kind, body).await?;
            writer.commit().await?;
            Ok(created)
        })
        .await
    }

    async fn replace(
        &self,
        actor: &Actor,
        kind: Kind,
        id: &str,
        expected: Option<Version>,
        body: &Node,
    ) -> Result<Stored, DirectoryError> {
        self.in_time(async {
            let mut writer = Writer::begin(&self.core, actor).await?;
            let stored = writer.replace(kind, id, expected, body).await?;
            writer.commit().await?;
            Ok(stored)
        })
        .await
    }

    async fn patch(
        &self,
        actor: &Actor,
        kind: Kind,
        id: &str,
        expected: Option<Version>,
        body: &Node,
    ) -> Result<Stored, DirectoryError> {
        self.in_time(async {
            let mut writer = Writer::begin(&self.core, actor).await?;
            let stored = writer.patch(kind, id, expected, body).await?;
            writer.commit().await?;
            Ok(stored)
        })
        .await
    }

    async fn delete(
        &self,
        actor: &Actor,
        kind: Kind,
        id: &str,
        expected: Option<Version>,
    ) -> Result<(), DirectoryError> {
        self.in_time(async {
            let mut writer = Writer::begin(&self.core, actor).await?;
            writer.delete(kind, id, expected).await?;
            writer.commit().await
        })
        .await
    }

    async fn changes(
        &self,
        filter: &ChangeFilter,
        page: &PageRequest,
    ) -> Result<Page<Change>, DirectoryError> {
        let before = cursor(page.cursor.as_deref())?;
        self.in_time(async {
            let items = page.bounded_items();
            let mut arguments: Vec<Argument<'_>> =
                vec![before.into(), signed(items as u64 + 1).into()];
            arguments.extend(filter.kind.map(|kind| Argument::from(kind.name())));
            let ids = [&filter.record_id, &filter.actor];
            arguments.extend(ids.into_iter().flatten().map(|id| Argument::from(id.as_str())));
            let mut transaction = self.core.pool.begin_reading().await?;
            let rows =
                transaction.connection().rows(statements::changes(filter), &arguments).await?;
            let mut changes = rows.iter().map(rows::change).collect::<sqlx::Result<Vec<_>>>()?;
            let has_more = changes.len() > items;
            changes.truncate(items);
            let next_cursor =
                changes.last().filter(|_| has_more).map(|change| change.id.to_string());
            Ok(Page { items: changes, next_cursor })
        })
        .await
    }

    async fn export(&self) -> Result<Node, DirectoryError> {
        self.in_time(async {
            let mut transaction = self.core.pool.begin_reading().await?;
            let mut records = Records::default();
            for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::ApiKey) {
                feed::read_all(&mut transaction.connection(), kind, &mut records).await?;
            }
            Ok(records.into_document())
        })
        .await
    }

    async fn import(&self, actor: &Actor, document: &Node) -> Result<Imported, DirectoryError> {
        self.in_time(async {
            let mut writer = Writer::begin(&self.core, actor).await?;
            let imported = writer.import(document).await?;
            writer.commit().await?;
            Ok(imported)
        })
        .await
    }

    fn is_writable(&self) -> bool {
        true
    }
}

/// The number of the last change on the page before.
fn cursor(cursor: Option<&str>) -> Result<i64, DirectoryError> {
    let Some(cursor) = cursor else { return Ok(i64::MAX) };
    // `parse` would also accept a sign.
    let digits = Some(cursor).filter(|cursor| cursor.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| {
        let problem = DocumentProblem {
            position: None,
            path: "cursor".to_owned(),
            message: "is not a cursor of the audit log".to_owned(),
            accepted: "`nextCursor` of the previous page".to_owned(),
        };
        Problems::of("", vec![problem], 0).into()
    })
}
