//! One way to run statements on SQLite and on PostgreSQL.
//!
//! All values are texts and 64-bit integers, and parameters are `$1`, `$2`…, which both databases understand, so each
//! statement is written once. (sqlx's own `Any` driver takes no options and confuses nulls.)

use std::borrow::Cow;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};
use sqlx::{PgConnection, PgPool, Postgres, Row as _, Sqlite, SqliteConnection, SqlitePool};

/// A statement: written in this crate, with a parameter for every value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement(Cow<'static, str>);

impl From<&'static str> for Statement {
    fn from(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl Statement {
    /// A statement composed of texts of this crate.
    pub(super) fn assembled(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl SqlSafeStr for Statement {
    fn into_sql_str(self) -> SqlStr {
        match self.0 {
            Cow::Borrowed(text) => text.into_sql_str(),
            Cow::Owned(text) => AssertSqlSafe(text).into_sql_str(),
        }
    }
}

/// A parameter of a statement.
#[derive(Clone, Copy, Debug)]
pub(super) enum Argument<'a> {
    Text(&'a str),
    OptionalText(Option<&'a str>),
    Integer(i64),
    OptionalInteger(Option<i64>),
}

impl<'a> From<&'a str> for Argument<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<Option<&'a str>> for Argument<'a> {
    fn from(text: Option<&'a str>) -> Self {
        Self::OptionalText(text)
    }
}

impl From<i64> for Argument<'_> {
    fn from(integer: i64) -> Self {
        Self::Integer(integer)
    }
}

impl From<Option<i64>> for Argument<'_> {
    fn from(integer: Option<i64>) -> Self {
        Self::OptionalInteger(integer)
    }
}

/// A row of a result; columns count from 0.
pub(super) enum Row {
    Sqlite(sqlx::sqlite::SqliteRow),
    Postgres(sqlx::postgres::PgRow),
}

impl Row {
    pub(super) fn text(&self, column: usize) -> sqlx::Result<String> {
        // SQLite would decode null as an empty text.
        self.optional_text(column)?.ok_or(sqlx::Error::ColumnNotFound(format!("{column} is null")))
    }

    pub(super) fn optional_text(&self, column: usize) -> sqlx::Result<Option<String>> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }

    pub(super) fn integer(&self, column: usize) -> sqlx::Result<i64> {
        let integer = self.optional_integer(column)?;
        integer.ok_or(sqlx::Error::ColumnNotFound(format!("{column} is null")))
    }

    pub(super) fn optional_integer(&self, column: usize) -> sqlx::Result<Option<i64>> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }
}

/// A query with its arguments, for the database `$database`.
macro_rules! query {
    ($database:ty, $statement:expr, $arguments:expr) => {{
        let mut query = sqlx::query::<$database>($statement);
        for argument in $arguments {
            query = match *argument {
                Argument::Text(text) => query.bind(text),
                Argument::OptionalText(text) => query.bind(text),
                Argument::Integer(integer) => query.bind(integer),
                Argument::OptionalInteger(integer) => query.bind(integer),
            };
        }
        query
    }};
}

/// A connection, borrowed from a pool or a transaction.
pub(super) enum Connection<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

impl Connection<'_> {
    /// Runs a statement and returns how many rows it changed.
    pub(super) async fn execute(
        &mut self,
        statement: impl Into<Statement>,
        arguments: &[Argument<'_>],
    ) -> sqlx::Result<u64> {
        let statement = statement.into();
        Ok(match self {
            Self::Sqlite(connection) => query!(Sqlite, statement, arguments)
                .execute(&mut **connection)
                .await?
                .rows_affected(),
            Self::Postgres(connection) => query!(Postgres, statement, arguments)
                .execute(&mut **connection)
                .await?
                .rows_affected(),
        })
    }

    /// All rows of a result. The statement must bound their number.
    pub(super) async fn rows(
        &mut self,
        statement: impl Into<Statement>,
        arguments: &[Argument<'_>],
    ) -> sqlx::Result<Vec<Row>> {
        let statement = statement.into();
        Ok(match self {
            Self::Sqlite(connection) => {
                let rows = query!(Sqlite, statement, arguments).fetch_all(&mut **connection);
                rows.await?.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(connection) => {
                let rows = query!(Postgres, statement, arguments).fetch_all(&mut **connection);
                rows.await?.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// The first row of a result, if there is one.
    pub(super) async fn row(
        &mut self,
        statement: impl Into<Statement>,
        arguments: &[Argument<'_>],
    ) -> sqlx::Result<Option<Row>> {
        let statement = statement.into();
        Ok(match self {
            Self::Sqlite(connection) => {
                let row = query!(Sqlite, statement, arguments).fetch_optional(&mut **connection);
                row.await?.map(Row::Sqlite)
            }
            Self::Postgres(connection) => {
                let row = query!(Postgres, statement, arguments).fetch_optional(&mut **connection);
                row.await?.map(Row::Postgres)
            }
        })
    }

    /// Makes the database parse and plan a statement, without running it.
    #[cfg(test)]
    pub(super) async fn prepare(&mut self, statement: Statement) -> sqlx::Result<()> {
        use sqlx::Executor as _;
        match self {
            Self::Sqlite(connection) => {
                connection.prepare(statement.into_sql_str()).await.map(drop)
            }
            Self::Postgres(connection) => {
                connection.prepare(statement.into_sql_str()).await.map(drop)
            }
        }
    }
}

/// Connections to one database.
#[derive(Clone, Debug)]
pub(super) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Pool {
    /// The first row of a result, outside any transaction.
    pub(super) async fn row(
        &self,
        statement: &'static str,
        arguments: &[Argument<'_>],
    ) -> sqlx::Result<Option<Row>> {
        match self {
            Self::Sqlite(pool) => {
                let mut connection = pool.acquire().await?;
                Connection::Sqlite(&mut connection).row(statement, arguments).await
            }
            Self::Postgres(pool) => {
                let mut connection = pool.acquire().await?;
                Connection::Postgres(&mut connection).row(statement, arguments).await
            }
        }
    }

    /// Runs `statement` on a connection of its own and returns all rows.
    pub(super) async fn rows(
        &self,
        statement: &'static str,
        arguments: &[Argument<'_>],
    ) -> sqlx::Result<Vec<Row>> {
        match self {
            Self::Sqlite(pool) => {
                let mut connection = pool.acquire().await?;
                Connection::Sqlite(&mut connection).rows(statement, arguments).await
            }
            Self::Postgres(pool) => {
                let mut connection = pool.acquire().await?;
                Connection::Postgres(&mut connection).rows(statement, arguments).await
            }
        }
    }

    /// A transaction that reads one consistent state.
    pub(super) async fn begin_reading(&self) -> sqlx::Result<Transaction> {
        Ok(match self {
            Self::Sqlite(pool) => Transaction::Sqlite(pool.begin().await?),
            Self::Postgres(pool) => Transaction::Postgres(
                pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?,
            ),
        })
    }

    /// A transaction that writes. With SQLite it waits for its turn here, because a transaction that starts as a reader
    /// may fail to become a writer later.
    pub(super) async fn begin_writing(&self) -> sqlx::Result<Transaction> {
        Ok(match self {
            Self::Sqlite(pool) => Transaction::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(pool) => Transaction::Postgres(pool.begin().await?),
        })
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// A transaction; rolled back when it is dropped.
pub(super) enum Transaction {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

impl Transaction {
    pub(super) fn connection(&mut self) -> Connection<'_> {
        match self {
            Self::Sqlite(transaction) => Connection::Sqlite(transaction),
            Self::Postgres(transaction) => Connection::Postgres(transaction),
        }
    }

    pub(super) async fn commit(self) -> sqlx::Result<()> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::Postgres(transaction) => transaction.commit().await,
        }
    }
}
