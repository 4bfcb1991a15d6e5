//! A check: one question to the limiter.

use crate::{Cost, PriorityClass, Subject};

/// One question: may `subject` pass now, at `cost`?
#[derive(Clone, Debug)]
pub struct Check<'a> {
    /// The subject of the check.
    pub subject: Subject<'a>,
    /// How much of each unit it asks for.
    pub cost: Cost,
    /// Identifies this check among all checks of the caller. If it is sent again, for example after a lost answer, it is
    /// charged once (R12). With `None`, each time it is sent is a new check.
    pub request_id: Option<&'a str>,
    /// Its importance, which matters if a policy has [`Shares`](crate::Shares).
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
