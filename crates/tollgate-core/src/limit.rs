//! Limits: compiled policies, and what one check charges them.

use std::sync::Arc;

use crate::{Algorithm, Amount, Mode, Per, Policy, PolicyId, Subject, Unit, Window};

/// A policy that limits, compiled: all that a store needs to decide, but the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    policy_id: PolicyId,
    per: Per,
    scope: Box<str>,
    unit: Unit,
    algorithm: Algorithm,
    mode: Mode,
    amount: Amount,
    window: Window,
}

impl Limit {
    /// The limit that `policy` sets; `None` if it exempts.
    pub fn of(policy: &Policy) -> Option<Self> {
        Some(Self {
            policy_id: policy.id.clone(),
            per: policy.per.clone(),
            scope: policy.per.scope().into(),
            unit: policy.unit.clone(),
            algorithm: policy.algorithm,
            mode: policy.mode,
            amount: policy.limit?,
            window: policy.window,
        })
    }

    /// The policy it comes from.
    pub fn policy_id(&self) -> &PolicyId {
        &self.policy_id
    }

    /// The attributes whose values make its key.
    #[inline]
    pub fn per(&self) -> &Per {
        &self.per
    }

    /// The short name of `per` ([`Per::scope`]).
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// What it counts.
    pub fn unit(&self) -> &Unit {
        &self.unit
    }

    /// How it counts.
    #[inline]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether it denies.
    #[inline]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The most of its unit in a window.
    #[inline]
    pub fn amount(&self) -> Amount {
        self.amount
    }

    /// Its window.
    #[inline]
    pub fn window(&self) -> Window {
        self.window
    }
}

/// What one check charges one limit.
#[derive(Clone, Copy, Debug)]
pub struct Charge<'a> {
    /// The limit charged.
    pub limit: &'a Arc<Limit>,
    /// Whose usage it is; has every attribute of the limit's `per`.
    pub subject: &'a Subject<'a>,
    /// How much, in the limit's unit.
    pub cost: Amount,
}

impl<'a> Charge<'a> {
    /// The values that, in this order and each with its length, make the limit's key within its policy (R8).
    #[inline]
    pub fn key_values(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let subject = self.subject;
        self.limit.per.attributes().iter().filter_map(move |attribute| subject.get(attribute))
    }
}
