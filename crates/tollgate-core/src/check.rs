//! A check: one question to the limiter.

use crate::{Cost, PriorityClass, Subject};

/// One question: may `subject` pass now, at `cost`?
#[derive(Clone, Debug)]
pub struct Check<'a> {
    /// Who and what it is about.
    pub subject: Subject<'a>,
    /// How much of each unit it asks for.
    pub cost: Cost,
    /// What tells this check from every other one of the caller's: sent again, for example after a lost answer,
    /// it is charged once (R12). `None`: each time is a check of its own.
    pub request_id: Option<&'a str>,
    /// How important it is where a policy keeps room by [`Shares`](crate::Shares).
    pub priority: PriorityClass,
}

impl<'a> Check<'a> {
    /// A check of one request by `user` for `model`.
    pub fn new(user: &'a str, model: &'a str) -> Self {
        Self::of(Subject::new(user, model))
    }

    /// A check of one request by `subject`.
    pub fn of(subject: Subject<'a>) -> Self {
        Self {
            subject,
            cost: Cost::one_request(),
            request_id: None,
            priority: PriorityClass::default(),
        }
    }

    /// The same check at `cost`.
    #[must_use]
    pub fn at_cost(mut self, cost: Cost) -> Self {
        self.cost = cost;
        self
    }

    /// The same check, in this priority class.
    #[must_use]
    pub fn with_priority(mut self, priority: PriorityClass) -> Self {
        self.priority = priority;
        self
    }

    /// The same check, charged once however often it is sent with this id (R12).
    #[must_use]
    pub fn with_request_id(mut self, request_id: &'a str) -> Self {
        self.request_id = Some(request_id);
        self
    }
}
