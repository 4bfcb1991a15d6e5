//! The spans of use cases, such as a check.

use tollgate_core::Decision;
use tollgate_service::{Tracer, UseCaseSpan};
use tollgate_store::StoreError;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::exporter::Otlp;
use crate::request::{ChildSpan, current};

impl Tracer for Otlp {
    #[inline]
    fn begin(&self, use_case: &'static str) -> Option<Box<dyn UseCaseSpan>> {
        let span = current()?.child(use_case, SpanKind::Internal)?;
        Some(Box::new(span.around_others()))
    }
}

impl UseCaseSpan for ChildSpan {
    fn decided(&mut self, decision: &Decision) {
        self.span.boolean("tollgate.allowed", decision.allowed());
        if let Some(headline) = decision.headline() {
            self.span.text("tollgate.policy", headline.limit.policy_id().as_str());
        }
        if let Some(reason) = decision.reason() {
            self.span.text("tollgate.reason", reason.name());
        }
        if let Some(wait) = decision.retry_after_ms().filter(|_| !decision.allowed()) {
            self.span.integer("tollgate.retry_after_ms", wait);
        }
        if decision.degraded() {
            self.span.boolean("tollgate.degraded", true);
        }
    }

    fn decided_many(&mut self, decisions: usize) {
        self.span.integer("tollgate.checks", decisions as u64);
    }

    fn failed(&mut self, error: &StoreError) {
        self.span.failed(error.kind().name());
    }
}
