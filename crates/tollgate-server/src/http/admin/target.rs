//! What a call is about: the records that its path names, and the parameters of its query.

use std::collections::BTreeMap;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use tollgate_catalog::directory::{Id, Kind, PageRequest};

use super::super::problem::Problem;
use super::collection::Collection;

/// The records of a kind: `/admin/users`.
pub(super) struct Of(pub(super) Kind);

/// One record: `/admin/users/alice`.
pub(super) struct At {
    pub(super) kind: Kind,
    pub(super) id: String,
}

/// The path of a policy that is a path by itself too, and so has no parameters.
const POLICY_VALIDATE: &str = "/admin/policies/validate";

fn kind_at(segment: &str) -> Result<Kind, Problem> {
    Collection::at(segment).map(|found| found.kind).ok_or_else(Problem::not_found)
}

impl<S: Send + Sync> FromRequestParts<S> for Of {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        // What is no UTF-8 names nothing.
        let Path(segment) = path.map_err(|_| Problem::not_found())?;
        kind_at(&segment).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for At {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        if parts.uri.path() == POLICY_VALIDATE {
            return Ok(Self { kind: Kind::Policy, id: "validate".to_owned() });
        }
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((segment, id)) = path.map_err(|_| Problem::not_found())?;
        Ok(Self { kind: kind_at(&segment)?, id })
    }
}

/// The parameters of a query, each taken once; what is left over is unknown.
pub(super) struct Parameters(BTreeMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let accepted = "parameters in the encoding of forms";
        let Query(given) = query.map_err(|_| Problem::invalid_query("query", accepted))?;
        let mut parameters = BTreeMap::new();
        for (name, value) in given {
            if parameters.contains_key(&name) {
                return Err(Problem::invalid_query(&name, "each parameter once"));
            }
            parameters.insert(name, value);
        }
        Ok(Self(parameters))
    }
}

impl Parameters {
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    pub(super) fn id(&mut self, name: &'static str) -> Result<Option<Id>, Problem> {
        let id = self.take(name).map(|id| Id::new(&id));
        id.transpose().map_err(|_| Problem::invalid_query(name, "an id"))
    }

    /// The page that `cursor` and `limit` name.
    pub(super) fn page(&mut self) -> Result<PageRequest, Problem> {
        let cursor = self.id("cursor")?.map(|cursor| cursor.as_str().to_owned());
        let Some(limit) = self.take("limit") else {
            return Ok(PageRequest { cursor, ..PageRequest::default() });
        };
        Ok(PageRequest { cursor, items: items(&limit, PageRequest::MAX_ITEMS)? })
    }

    /// The most items of a list, which `limit` names: `default` unless given, and at most `max`.
    pub(super) fn items(&mut self, default: usize, max: usize) -> Result<usize, Problem> {
        self.take("limit").map_or(Ok(default), |limit| items(&limit, max))
    }

    pub(super) fn end(self, accepted: &'static str) -> Result<(), Problem> {
        match self.0.into_keys().next() {
            Some(name) => Err(Problem::invalid_query(&name, accepted)),
            None => Ok(()),
        }
    }
}

/// The number of items that `limit` says, from 1 to `max`.
fn items(limit: &str, max: usize) -> Result<usize, Problem> {
    // `parse` takes a plus sign too.
    let digits = Some(limit).filter(|limit| limit.bytes().all(|byte| byte.is_ascii_digit()));
    let items = digits.and_then(|digits| digits.parse().ok());
    let items = items.filter(|items| (1..=max).contains(items));
    items.ok_or_else(|| Problem::invalid_query("limit", format!("an integer from 1 to {max}")))
}
