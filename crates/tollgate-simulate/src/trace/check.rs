//! A check of a trace, which owns its values, so that it can wait for its turn.

use std::time::Duration;

use tollgate_core::{Amount, Attribute, Check, Cost, PriorityClass, Subject, Timestamp, Unit};

/// A check of a trace.
#[derive(Clone, Debug)]
pub struct TraceCheck {
    /// Its line, from 1.
    pub line: u64,
    /// Its time.
    pub at: Timestamp,
    /// The attributes of its subject, each once.
    pub(crate) attributes: Vec<(Attribute, String)>,
    /// The tenant of its user, if a server found it although the check names none.
    pub(crate) user_tenant: Option<String>,
    /// How much it asks for.
    pub(crate) cost: Cost,
    /// Its request id.
    pub(crate) request_id: Option<String>,
    /// Its priority class, if a server recorded the check. The server has completed such a check, so the catalog is not asked again.
    pub(crate) priority: Option<PriorityClass>,
    /// The output tokens that the answer really had.
    pub(crate) output: Option<Amount>,
    /// The most output tokens that the client asked for.
    pub(crate) cap: Option<Amount>,
    /// How long the answer took.
    pub(crate) lasts: Option<Duration>,
}

impl TraceCheck {
    /// A check of one request at `at`, without a subject yet.
    pub(crate) fn at(at: Timestamp) -> Self {
        let (attributes, cost) = (Vec::new(), Cost::one_request());
        Self {
            line: 0,
            at,
            attributes,
            user_tenant: None,
            cost,
            request_id: None,
            priority: None,
            output: None,
            cap: None,
            lasts: None,
        }
    }

    pub(crate) fn set(&mut self, attribute: Attribute, value: impl Into<String>) {
        match self.attributes.iter_mut().find(|(known, _)| *known == attribute) {
            Some((_, old)) => *old = value.into(),
            None => self.attributes.push((attribute, value.into())),
        }
    }

    /// The check itself.
    pub fn check(&self) -> Check<'_> {
        let mut subject = Subject::empty();
        for (attribute, value) in &self.attributes {
            subject.set(attribute, value);
        }
        if let Some(tenant) = &self.user_tenant {
            subject.set_user_tenant(tenant);
        }
        let mut check = Check::of(subject).at_cost(self.cost.clone());
        check.request_id = self.request_id.as_deref();
        check.priority = self.priority.unwrap_or_default();
        check
    }

    /// Its tokens: those that its cost names, or else its input and output tokens.
    pub(crate) fn tokens(&self) -> u64 {
        if self.cost.names(&Unit::Tokens) {
            return self.cost.of(&Unit::Tokens).get();
        }
        self.cost.of(&Unit::InputTokens).get() + self.cost.of(&Unit::OutputTokens).get()
    }

    /// Whether a server has completed it from its catalog.
    pub fn is_complete(&self) -> bool {
        self.priority.is_some()
    }
}
