//! Finds one record by its address.

use super::session::Connection;
use super::{body, rows, statements};
use crate::directory::{Address, DirectoryError, Kind, Record, Stored};

/// The record of `kind` at `address`, if it exists. Fails if the id of a user without its tenant is that of several.
pub(super) async fn find(
    connection: &mut Connection<'_>,
    kind: Kind,
    address: Address<'_>,
) -> Result<Option<Stored>, DirectoryError> {
    let id = body::id_of(kind, address)?;
    let found = match address.tenant {
        Some(tenant) => {
            let arguments = [address.id.into(), tenant.into()];
            connection.rows(statements::USER_OF_TENANT, &arguments).await?
        }
        None => connection.rows(statements::get(kind), &[address.id.into()]).await?,
    };
    let found =
        found.iter().map(|row| rows::stored(kind, row)).collect::<sqlx::Result<Vec<_>>>()?;
    if found.len() > 1 {
        let tenants = found.into_iter().filter_map(|stored| match stored.record {
            Record::User(user) => Some(user.tenant_id),
            _ => None,
        });
        return Err(DirectoryError::Ambiguous { kind, id, tenants: tenants.collect() });
    }
    Ok(found.into_iter().next())
}
