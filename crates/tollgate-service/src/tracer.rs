//! Where use cases begin and end, for distributed traces.
//!
//! This crate knows neither a protocol of traces nor the request that called a use case: a [`Tracer`] finds it.

use std::fmt;
use std::sync::Arc;

use tollgate_core::Decision;
use tollgate_store::StoreError;

/// Records use cases. It is asked while callers wait, so it must not block.
pub trait Tracer: fmt::Debug + Send + Sync + 'static {
    /// `use_case` begins on this thread; `None` if the request that called it is not traced.
    fn begin(&self, use_case: &'static str) -> Option<Box<dyn UseCaseSpan>>;
}

/// A use case that is traced. It ends when this is dropped.
pub trait UseCaseSpan: fmt::Debug + Send {
    /// It has made `decision`.
    fn decided(&mut self, decision: &Decision);

    /// It has made so many decisions.
    fn decided_many(&mut self, decisions: usize);

    /// No decision was possible.
    fn failed(&mut self, error: &StoreError);
}

/// A use case that may be traced.
#[derive(Debug)]
pub(crate) struct Traced(Option<Box<dyn UseCaseSpan>>);

impl Traced {
    #[inline]
    pub(crate) fn begin(tracer: Option<&Arc<dyn Tracer>>, use_case: &'static str) -> Self {
        Self(tracer.and_then(|tracer| tracer.begin(use_case)))
    }

    /// Ends with this decision, with none, or with an error.
    #[inline]
    pub(crate) fn end(self, result: Result<Option<&Decision>, &StoreError>) {
        let Some(mut span) = self.0 else { return };
        match result {
            Ok(Some(decision)) => span.decided(decision),
            Ok(None) => {}
            Err(error) => span.failed(error),
        }
    }

    /// Ends with so many decisions.
    pub(crate) fn end_many(self, decisions: usize) {
        if let Some(mut span) = self.0 {
            span.decided_many(decisions);
        }
    }
}
