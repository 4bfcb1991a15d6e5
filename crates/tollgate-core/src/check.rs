//! A check: one question to the limiter.

use crate::{Cost, Subject};

/// One question: may `subject` pass now, at `cost`?
#[derive(Clone, Debug)]
pub struct Check<'a> {
    /// Who and what it is about.
    pub subject: Subject<'a>,
    /// How much of each unit it asks for.
    pub cost: Cost,
}

impl<'a> Check<'a> {
    /// A check of one request by `user` for `model`.
    pub fn new(user: &'a str, model: &'a str) -> Self {
        Self { subject: Subject::new(user, model), cost: Cost::one_request() }
    }

    /// The same check at `cost`.
    #[must_use]
    pub fn at_cost(mut self, cost: Cost) -> Self {
        self.cost = cost;
        self
    }
}
