//! Why a store could not decide.

use std::error::Error;
use std::fmt;

use crate::FaultDomain;

/// The kind of a failure.
///
/// A kind concerns either the store, so that other checks fail as well, or [one check](Self::concerns_one_check) only,
/// because of what its keys hold. A breaker opens for the former and never for the latter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store cannot be reached, or did not answer in time.
    Unavailable,
    /// The store was not asked: it has just failed and the breaker is open, or this node had no time to ask it.
    NotAsked,
    /// The store requires a user and a password, or refuses those that it was given.
    Unauthenticated,
    /// The user of this node lacks a right that the store needs.
    Forbidden,
    /// The store does not know a command that is needed: scripting is disabled, or the version is too old.
    Unsupported,
    /// The server accepts no writes: it is a replica now.
    ReadOnly,
    /// The server is still loading its data.
    Loading,
    /// The Cluster, or the part of it that holds the key, is down.
    ClusterDown,
    /// A replica has lost its primary.
    PrimaryLost,
    /// The server accepts no writes because it cannot persist them.
    NotPersisting,
    /// The server has no memory left for writes.
    OutOfMemory,
    /// The server has fewer replicas than it needs to accept writes.
    TooFewReplicas,
    /// The server is busy with a long script and answers nothing else.
    Busy,
    /// A script failed, or the store answered with an error that this version does not know.
    Unexpected,
    /// A key of this check holds a value that Tollgate did not write. It is left unchanged.
    ForeignKey,
    /// The answer to this check cannot be parsed.
    Unreadable,
}

impl StoreErrorKind {
    /// Every kind.
    pub const ALL: [Self; 16] = [
        Self::Unavailable,
        Self::NotAsked,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::Unsupported,
        Self::ReadOnly,
        Self::Loading,
        Self::ClusterDown,
        Self::PrimaryLost,
        Self::NotPersisting,
        Self::OutOfMemory,
        Self::TooFewReplicas,
        Self::Busy,
        Self::Unexpected,
        Self::ForeignKey,
        Self::Unreadable,
    ];

    /// The name, as in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::NotAsked => "not_asked",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Unsupported => "unsupported",
            Self::ReadOnly => "read_only",
            Self::Loading => "loading",
            Self::ClusterDown => "cluster_down",
            Self::PrimaryLost => "primary_lost",
            Self::NotPersisting => "not_persisting",
            Self::OutOfMemory => "out_of_memory",
            Self::TooFewReplicas => "too_few_replicas",
            Self::Busy => "busy",
            Self::Unexpected => "unexpected",
            Self::ForeignKey => "foreign_key",
            Self::Unreadable => "unreadable",
        }
    }

    /// Whether one such failure proves that the server refuses every admission: it says so itself.
    pub const fn refuses_every_check(self) -> bool {
        matches!(
            self,
            Self::Unauthenticated
                | Self::Forbidden
                | Self::Unsupported
                | Self::ReadOnly
                | Self::Loading
                | Self::NotPersisting
                | Self::OutOfMemory
                | Self::TooFewReplicas
                | Self::Busy
        )
    }

    /// Whether calls that do not need what is missing still succeed, so that one of them does not prove that the store works
    /// again: only a [probe](crate::Store::probe) does, because it tries everything that calls need.
    pub const fn spares_some_calls(self) -> bool {
        matches!(self, Self::Forbidden | Self::Unsupported)
    }

    /// Whether the failure is caused by the keys of the failed check, so that other checks can be decided.
    pub const fn concerns_one_check(self) -> bool {
        matches!(self, Self::ForeignKey | Self::Unreadable)
    }
}

/// A store could not decide a check. (A denial is not an error.)
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    context: String,
    may_have_charged: bool,
    fault_domain: Option<FaultDomain>,
    remedy: Option<&'static str>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// An error of `kind`; `context` says what was being done.
    pub fn new(kind: StoreErrorKind, context: impl Into<String>) -> Self {
        Self {
            kind,
            context: context.into(),
            may_have_charged: false,
            fault_domain: None,
            remedy: None,
            source: None,
        }
    }

    /// The same error for a call whose charge may have been recorded.
    #[must_use]
    pub fn after_send(mut self) -> Self {
        self.may_have_charged = true;
        self
    }

    /// The same error, limited to one part of the store.
    #[must_use]
    pub fn within(mut self, fault_domain: FaultDomain) -> Self {
        self.fault_domain = Some(fault_domain);
        self
    }

    /// The same error with what an operator can do about it.
    #[must_use]
    pub fn with_remedy(mut self, remedy: &'static str) -> Self {
        self.remedy = Some(remedy);
        self
    }

    /// The same error with its cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// A copy of the error for another check that failed with it. The text of the cause becomes part of its own text.
    #[must_use]
    pub fn repeated(&self) -> Self {
        let context = match &self.source {
            Some(source) => format!("{}: {source}", self.context),
            None => self.context.clone(),
        };
        let Self { kind, may_have_charged, fault_domain, remedy, .. } = *self;
        Self { kind, context, may_have_charged, fault_domain, remedy, source: None }
    }

    /// The kind of the failure.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether the charge may have been recorded although no answer came.
    pub fn may_have_charged(&self) -> bool {
        self.may_have_charged
    }

    /// The part of the store that failed; `None` if it is not known.
    pub fn fault_domain(&self) -> Option<FaultDomain> {
        self.fault_domain
    }

    /// What an operator can do about it, if that is known.
    pub fn remedy(&self) -> Option<&'static str> {
        self.remedy
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
