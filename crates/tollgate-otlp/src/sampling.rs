//! Decides which requests are traced, and continues the traces of their callers (W3C Trace Context).

use http::{HeaderMap, HeaderName};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanContext, SpanKind, TraceContextExt, TraceId};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    IdGenerator, RandomIdGenerator, Sampler, SamplingDecision, ShouldSample,
};

use crate::config::Sampling;

pub(crate) const TRACEPARENT: &str = "traceparent";
pub(crate) const TRACESTATE: &str = "tracestate";

/// The longest `tracestate` that is passed on; the standard asks for at least this.
const MAX_TRACE_STATE_BYTES: usize = 512;

/// The place of a request in a trace.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) trace_id: TraceId,
    /// The span of the caller, if it sent one.
    pub(crate) parent: Option<SpanContext>,
}

impl Place {
    /// The place of a request with `headers`; `None` if it is not sampled.
    pub(crate) fn sampled(sampling: Sampling, headers: &HeaderMap) -> Option<Self> {
        let parent = parent(headers);
        let is_sampled = match &parent {
            Some(parent) if sampling.follows_parent => parent.is_sampled(),
            Some(parent) => is_in(sampling.ratio(), parent.trace_id()),
            None => {
                let trace_id = RandomIdGenerator::default().new_trace_id();
                let place = Self { trace_id, parent: None };
                return is_in(sampling.ratio(), trace_id).then_some(place);
            }
        };
        let parent = parent.filter(|_| is_sampled)?;
        Some(Self { trace_id: parent.trace_id(), parent: Some(parent) })
    }

    /// The `tracestate` of the caller.
    pub(crate) fn trace_state(&self) -> String {
        let state = self.parent.as_ref().map(|parent| parent.trace_state().header());
        state.filter(|state| state.len() <= MAX_TRACE_STATE_BYTES).unwrap_or_default()
    }
}

/// Whether `trace_id` is in this part of all traces.
fn is_in(ratio: f64, trace_id: TraceId) -> bool {
    let sampler = Sampler::TraceIdRatioBased(ratio);
    let result = sampler.should_sample(None, trace_id, "", &SpanKind::Server, &[], &[]);
    result.decision == SamplingDecision::RecordAndSample
}

/// The span of the caller. Fields that are malformed or given twice start a new trace, as the standard says.
fn parent(headers: &HeaderMap) -> Option<SpanContext> {
    // A name that is parsed already is found faster.
    const NAME: HeaderName = HeaderName::from_static(TRACEPARENT);
    let mut given = headers.get_all(NAME).iter();
    let (Some(traceparent), None) = (given.next(), given.next()) else { return None };
    let states = headers.get_all(TRACESTATE).iter().filter_map(|value| value.to_str().ok());
    let fields = Fields {
        traceparent: traceparent.to_str().ok()?,
        tracestate: states.collect::<Vec<_>>().join(","),
    };
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &fields);
    let span = context.span();
    let parent = span.span_context();
    parent.is_valid().then(|| parent.clone())
}

struct Fields<'a> {
    traceparent: &'a str,
    tracestate: String,
}

impl Extractor for Fields<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            TRACEPARENT => Some(self.traceparent),
            TRACESTATE => Some(&self.tracestate),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const NOT_SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    fn sampling(millionths: u32, follows_parent: bool) -> Sampling {
        Sampling { millionths, follows_parent }
    }

    #[test]
    fn the_callers_decision_counts_if_it_is_followed() {
        for (part, follows, traceparent, expected) in [
            (0, true, SAMPLED, true),
            (1_000_000, true, NOT_SAMPLED, false),
            (0, false, SAMPLED, false),
            (1_000_000, false, NOT_SAMPLED, true),
        ] {
            let headers = headers(&[(TRACEPARENT, traceparent)]);
            let place = Place::sampled(sampling(part, follows), &headers);
            assert_eq!(place.is_some(), expected, "{part} {follows} {traceparent}");
        }
    }

    #[test]
    fn a_trace_is_continued_with_its_state() {
        let fields = [(TRACEPARENT, SAMPLED), (TRACESTATE, "a=1"), (TRACESTATE, "b=2")];
        let place = Place::sampled(Sampling::default(), &headers(&fields)).unwrap();
        assert_eq!(place.trace_id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let parent = place.parent.as_ref().unwrap();
        assert_eq!(parent.span_id().to_string(), "00f067aa0ba902b7");
        assert_eq!(place.trace_state(), "a=1,b=2");
    }

    #[test]
    fn what_is_malformed_or_given_twice_starts_a_new_trace() {
        for fields in [
            &[][..],
            &[(TRACEPARENT, "")],
            &[(TRACEPARENT, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7")],
            &[(TRACEPARENT, "00-00000000000000000000000000000000-00f067aa0ba902b7-01")],
            &[(TRACEPARENT, "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")],
            &[(TRACEPARENT, SAMPLED), (TRACEPARENT, SAMPLED)],
        ] {
            let place = Place::sampled(sampling(1_000_000, true), &headers(fields)).unwrap();
            assert!(place.parent.is_none(), "{fields:?}");
            assert_ne!(place.trace_id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        }
    }

    proptest! {
        #[test]
        fn a_larger_part_has_all_traces_of_a_smaller_one(
            id in 1_u128.., smaller in 0.0..=1.0_f64, larger in 0.0..=1.0_f64,
        ) {
            let (smaller, larger) = (smaller.min(larger), smaller.max(larger));
            let id = TraceId::from(id);
            prop_assert!(!is_in(smaller, id) || is_in(larger, id));
            prop_assert!(is_in(1.0, id) && !is_in(0.0, id));
        }

        #[test]
        fn no_field_makes_it_panic(traceparent in "[ -~]{0,80}", tracestate in "[ -~]{0,80}") {
            let fields = headers(&[(TRACEPARENT, &traceparent), (TRACESTATE, &tracestate)]);
            _ = Place::sampled(Sampling::default(), &fields);
        }
    }
}
