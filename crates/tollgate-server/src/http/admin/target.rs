//! The target of a call: the records that its path names, and the parameters of its query.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use tollgate_catalog::directory::{Id, Kind, PageRequest, user_address};
use tollgate_core::subject::ACCEPTED_IDS;

use super::super::problem::{FieldProblem, Problem};
use super::collection::Collection;

/// The records of a kind: `/admin/users`.
pub(super) struct Of(pub(super) &'static Collection);

/// One record: `/admin/policies/default`, or `/admin/users/alice?tenantId=acme`. No other parameter is accepted.
pub(super) struct At {
    pub(super) kind: Kind,
    /// Its address.
    pub(super) id: String,
}

/// The path of a policy called `validate`. It is a route of its own, so the router extracts no parameters from it.
const POLICY_VALIDATE: &str = "/admin/policies/validate";

fn list_at(segment: &str) -> Result<&'static Collection, Problem> {
    Collection::at(segment).ok_or_else(Problem::not_found)
}

impl<S: Send + Sync> FromRequestParts<S> for Of {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        // A path that is not UTF-8 names no record.
        let Path(segment) = path.map_err(|_| Problem::not_found())?;
        list_at(&segment).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for At {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let parameters = Parameters::from_request_parts(parts, state).await;
        if parts.uri.path() == POLICY_VALIDATE {
            NoParameters::of(parameters?)?;
            return Ok(Self { kind: Kind::Policy, id: "validate".to_owned() });
        }
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((segment, id)) = path.map_err(|_| Problem::not_found())?;
        let kind = list_at(&segment)?.kind;
        let mut parameters = parameters?;
        if kind != Kind::User {
            NoParameters::of(parameters)?;
            return Ok(Self { kind, id });
        }
        let tenant = parameters.id("tenantId");
        parameters.finish("tenantId", Some(()))?;
        let id = match tenant {
            Some(tenant) => user_address(tenant.as_str(), &id),
            None => id,
        };
        Ok(Self { kind, id })
    }
}

/// The parameters of a query, each accepted once. All problems are reported together, at the end.
pub(super) struct Parameters {
    given: BTreeMap<String, String>,
    problems: Vec<FieldProblem>,
}

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Ok(Query(all)) = query else {
            let accepted = "parameters in the encoding of forms";
            let unread = FieldProblem::new("query", "cannot be read", accepted);
            return Err(Problem::invalid_fields(vec![unread], 0));
        };
        let (mut given, mut problems) = (BTreeMap::new(), Vec::new());
        for (name, value) in all {
            match given.entry(name) {
                Entry::Vacant(free) => _ = free.insert(value),
                Entry::Occupied(taken) => {
                    let name = taken.key().clone();
                    problems.push(FieldProblem::new(name, "is given twice", "each parameter once"));
                }
            }
        }
        Ok(Self { given, problems })
    }
}

impl Parameters {
    fn refuse(
        &mut self,
        name: &str,
        problem: &'static str,
        accepted: impl Into<Cow<'static, str>>,
    ) {
        self.problems.push(FieldProblem::new(name, problem, accepted));
    }

    /// The value of `name`, parsed by `parse`; `None` if it is missing or refused.
    pub(super) fn take<T>(
        &mut self,
        name: &str,
        accepted: impl Into<Cow<'static, str>>,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = parse(&self.given.remove(name)?);
        if value.is_none() {
            self.refuse(name, "has a value that is not accepted", accepted);
        }
        value
    }

    /// The same for a required parameter.
    pub(super) fn require<T>(
        &mut self,
        name: &str,
        accepted: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        if !self.given.contains_key(name) {
            self.refuse(name, "is missing", accepted);
        }
        self.take(name, accepted, parse)
    }

    pub(super) fn id(&mut self, name: &str) -> Option<Id> {
        self.take(name, ACCEPTED_IDS, |id| Id::new(id).ok())
    }

    /// The page that `cursor` and `limit` ask for. `parse` converts a cursor of the API to a cursor of the directory.
    pub(super) fn page(&mut self, parse: impl FnOnce(&str) -> Option<String>) -> PageRequest {
        let cursor = self.take("cursor", "`nextCursor` of the previous page", parse);
        PageRequest {
            cursor,
            items: self.items(PageRequest::DEFAULT_ITEMS, PageRequest::MAX_ITEMS),
        }
    }

    /// The value of `limit`, the most items to list: by default `default`, and at most `max`.
    pub(super) fn items(&mut self, default: usize, max: usize) -> usize {
        let accepted = format!("an integer from 1 to {max}");
        let items = self.take("limit", accepted, |limit| {
            // `parse` would also accept a plus sign.
            let digits =
                Some(limit).filter(|limit| limit.bytes().all(|byte| byte.is_ascii_digit()));
            digits?.parse().ok().filter(|items| (1..=max).contains(items))
        });
        items.unwrap_or(default)
    }

    /// `value`, which was built from the parameters, unless one of them is invalid. Parameters that were not taken are
    /// reported as unknown; `accepted` lists the known ones.
    pub(super) fn finish<T>(
        mut self,
        accepted: impl Into<Cow<'static, str>>,
        value: Option<T>,
    ) -> Result<T, Problem> {
        let accepted = accepted.into();
        for name in std::mem::take(&mut self.given).into_keys() {
            self.refuse(&name, "is unknown", accepted.clone());
        }
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(Problem::invalid_fields(self.problems, 0)),
        }
    }
}

/// Extracts nothing, and refuses a query with parameters.
pub(super) struct NoParameters;

impl<S: Send + Sync> FromRequestParts<S> for NoParameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Self::of(Parameters::from_request_parts(parts, state).await?)
    }
}

impl NoParameters {
    fn of(parameters: Parameters) -> Result<Self, Problem> {
        parameters.finish("no parameters", Some(Self))
    }
}
