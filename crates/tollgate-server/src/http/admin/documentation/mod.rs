//! What the OpenAPI document says of the calls below `/admin`.
//!
//! The calls for records are alike for every kind: [`operations`] makes them from the table of lists, [`records`] their
//! schemas from the table of [`fields`]. A call by itself is described by the attribute on its handler, where it says
//! only what it alone answers. What every call answers, such as 401, and the token that it wants, is added to both here.

pub(super) mod answers;
mod fields;
mod operations;
pub(super) mod records;

use axum::http::Method;
use utoipa::Modify;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, OpenApi, PathItem};

use super::collection::Collection;
use crate::config::Role;

/// The tag of the calls that change and show the catalog.
pub(super) const CATALOG_TAG: &str = "policies and directory";
const SECURITY_SCHEME: &str = "adminToken";

/// Adds the calls for records, and what all calls below `/admin` have in common.
pub(crate) struct AdminDocumentation;

impl Modify for AdminDocumentation {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_with(Components::new);
        components.add_security_scheme(SECURITY_SCHEME, token());
        for collection in &Collection::ALL {
            components.schemas.extend(records::schemas(collection.kind));
        }
        let of_records = Collection::ALL.iter().flat_map(operations::of);
        for (path, item) in of_records.collect::<Vec<_>>() {
            document.paths.paths.insert(path, item);
        }
        for (path, item) in &mut document.paths.paths {
            if path.starts_with("/admin/") {
                complete(path, item);
            }
        }
        in_order_of_tags(document);
    }
}

/// The token that every call below `/admin` wants.
fn token() -> SecurityScheme {
    let description = "An admin token that the server was started with (`TOLLGATE_ADMIN_TOKEN`, \
         `TOLLGATE_ADMIN_TOKENS`), or the one printed at its start. One of the role `read` is for the calls that change \
         nothing.";
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description));
    SecurityScheme::Http(scheme.build())
}

/// Adds to each operation at `path` what the guard and the reader of bodies answer.
fn complete(path: &str, item: &mut PathItem) {
    let operations = [
        (Method::GET, &mut item.get),
        (Method::POST, &mut item.post),
        (Method::PUT, &mut item.put),
        (Method::PATCH, &mut item.patch),
        (Method::DELETE, &mut item.delete),
    ];
    for (method, operation) in operations {
        let Some(Operation { request_body, responses, security, .. }) = operation else { continue };
        *security = Some(vec![SecurityRequirement::new(SECURITY_SCHEME, [] as [&str; 0])]);
        let reads_body = request_body.is_some();
        let changes = Role::needed(&method, path) == Role::Write;
        for (status, answer) in answers::common(reads_body, changes) {
            responses.responses.entry(status).or_insert(answer);
        }
    }
}

/// Puts the paths in the order of their tags, and leaves those of one tag as they are.
fn in_order_of_tags(document: &mut OpenApi) {
    let tags: Vec<_> = document.tags.iter().flatten().map(|tag| tag.name.clone()).collect();
    let rank = |item: &PathItem| {
        let operation = item.get.as_ref().or(item.post.as_ref());
        let tag = operation.and_then(|operation| operation.tags.as_ref()?.first());
        tags.iter().position(|known| Some(known) == tag)
    };
    let paths = std::mem::take(&mut document.paths.paths);
    let mut ranked: Vec<_> = paths.into_iter().collect();
    ranked.sort_by_key(|(_, item)| rank(item));
    document.paths.paths = ranked.into_iter().collect();
}
