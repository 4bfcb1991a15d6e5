//! A span as the bytes of its message, written while it is made.
//!
//! A message in memory has some forty parts, each allocated where the request is answered and freed where it is sent. That took
//! most of the time that telemetry costs.

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

/// What a span has when it begins.
#[derive(Debug)]
pub(crate) struct SpanHead<'a> {
    pub(crate) trace_id: TraceId,
    pub(crate) trace_state: &'a str,
    pub(crate) span_id: SpanId,
    pub(crate) parent: Option<SpanId>,
    pub(crate) flags: u32,
    pub(crate) name: &'a str,
    pub(crate) kind: SpanKind,
    pub(crate) start_ns: u64,
}

/// A span that has not ended. The numbers are those of the fields of `opentelemetry.proto.trace.v1.Span`.
#[derive(Debug, Default)]
pub(crate) struct EncodedSpan {
    bytes: Vec<u8>,
    start_ns: u64,
    has_failed: bool,
}

/// What most spans need.
const USUAL_BYTES: usize = 512;

impl EncodedSpan {
    pub(crate) fn begin(head: &SpanHead<'_>) -> Self {
        let mut bytes = Vec::with_capacity(USUAL_BYTES);
        put_bytes(1, &head.trace_id.to_bytes(), &mut bytes);
        put_bytes(2, &head.span_id.to_bytes(), &mut bytes);
        if !head.trace_state.is_empty() {
            put_bytes(3, head.trace_state.as_bytes(), &mut bytes);
        }
        if let Some(parent) = head.parent {
            put_bytes(4, &parent.to_bytes(), &mut bytes);
        }
        put_bytes(5, head.name.as_bytes(), &mut bytes);
        encode_key(6, WireType::Varint, &mut bytes);
        encode_varint(u64::from(head.kind as u32), &mut bytes);
        put_fixed(7, head.start_ns, &mut bytes);
        encode_key(16, WireType::ThirtyTwoBit, &mut bytes);
        bytes.extend_from_slice(&head.flags.to_le_bytes());
        Self { bytes, start_ns: head.start_ns, has_failed: false }
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) {
        let length = value.len() as u64;
        self.attribute(key, 1 + encoded_len_varint(length) + value.len());
        put_bytes(1, value.as_bytes(), &mut self.bytes);
    }

    pub(crate) fn boolean(&mut self, key: &str, value: bool) {
        self.attribute(key, 2);
        encode_key(2, WireType::Varint, &mut self.bytes);
        self.bytes.push(u8::from(value));
    }

    /// A number above the largest of OTLP is written as that.
    pub(crate) fn integer(&mut self, key: &str, value: u64) {
        let value = value.min(i64::MAX.unsigned_abs());
        self.attribute(key, 1 + encoded_len_varint(value));
        encode_key(3, WireType::Varint, &mut self.bytes);
        encode_varint(value, &mut self.bytes);
    }

    /// The beginning of an attribute whose value takes so many bytes.
    fn attribute(&mut self, key: &str, value_bytes: usize) {
        let key_bytes = 1 + encoded_len_varint(key.len() as u64) + key.len();
        let value_field = 1 + encoded_len_varint(value_bytes as u64) + value_bytes;
        encode_key(9, WireType::LengthDelimited, &mut self.bytes);
        encode_varint((key_bytes + value_field) as u64, &mut self.bytes);
        put_bytes(1, key.as_bytes(), &mut self.bytes);
        encode_key(2, WireType::LengthDelimited, &mut self.bytes);
        encode_varint(value_bytes as u64, &mut self.bytes);
    }

    /// It has failed with this error.
    pub(crate) fn failed(&mut self, error: &str) {
        self.text("error.type", error);
        self.has_failed = true;
    }

    /// The whole message of a span that ends now. The clock may have been set back meanwhile.
    pub(crate) fn end(mut self, now_ns: u64) -> Vec<u8> {
        put_fixed(8, now_ns.max(self.start_ns), &mut self.bytes);
        if self.has_failed {
            encode_key(15, WireType::LengthDelimited, &mut self.bytes);
            encode_varint(2, &mut self.bytes);
            encode_key(3, WireType::Varint, &mut self.bytes);
            encode_varint(u64::from(StatusCode::Error as u32), &mut self.bytes);
        }
        self.bytes
    }
}

/// A field of text, bytes or a message.
pub(crate) fn put_bytes(field: u32, value: &[u8], bytes: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, bytes);
    encode_varint(value.len() as u64, bytes);
    bytes.extend_from_slice(value);
}

fn put_fixed(field: u32, value: u64, bytes: &mut Vec<u8>) {
    encode_key(field, WireType::SixtyFourBit, bytes);
    bytes.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
    use opentelemetry_proto::tonic::trace::v1::{Span, Status};
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    #[derive(Clone, Debug)]
    enum Attribute {
        Text(String),
        Boolean(bool),
        Integer(u64),
    }

    fn attribute() -> impl Strategy<Value = (String, Attribute)> {
        let value = prop_oneof![
            ".{0,200}".prop_map(Attribute::Text),
            any::<bool>().prop_map(Attribute::Boolean),
            prop_oneof![any::<u64>(), 0..1_000_u64].prop_map(Attribute::Integer),
        ];
        (".{0,150}", value)
    }

    fn expected(key: &str, value: &Attribute) -> KeyValue {
        let value = match value {
            Attribute::Text(text) => Value::StringValue(text.clone()),
            Attribute::Boolean(flag) => Value::BoolValue(*flag),
            Attribute::Integer(number) => {
                Value::IntValue(i64::try_from(*number).unwrap_or(i64::MAX))
            }
        };
        let value = Some(AnyValue { value: Some(value) });
        KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
    }

    proptest! {
        /// The reference is the code that `prost` has made from the protocol.
        #[test]
        fn the_bytes_are_those_of_the_message(
            trace_id: u128, span_id: u64, parent: Option<u64>, flags: u32, name in ".{0,200}",
            trace_state in "[a-z=1]{0,20}", start_ns: u64, end_ns: u64, fails: bool,
            attributes in prop::collection::vec(attribute(), 0..8),
        ) {
            let trace_id = TraceId::from(trace_id);
            let span_id = SpanId::from(span_id);
            let parent = parent.map(SpanId::from);
            let head = SpanHead {
                trace_id, trace_state: &trace_state, span_id, parent, flags, name: &name,
                kind: SpanKind::Client, start_ns,
            };
            let mut encoded = EncodedSpan::begin(&head);
            for (key, value) in &attributes {
                match value {
                    Attribute::Text(text) => encoded.text(key, text),
                    Attribute::Boolean(flag) => encoded.boolean(key, *flag),
                    Attribute::Integer(number) => encoded.integer(key, *number),
                }
            }
            let mut all: Vec<_> = attributes.iter().map(|(key, value)| expected(key, value)).collect();
            if fails {
                encoded.failed("timeout");
                all.push(expected("error.type", &Attribute::Text("timeout".to_owned())));
            }
            let span = Span::decode(&*encoded.end(end_ns)).unwrap();
            let status = Status { code: StatusCode::Error.into(), ..Status::default() };
            prop_assert_eq!(span, Span {
                trace_id: trace_id.to_bytes().to_vec(),
                span_id: span_id.to_bytes().to_vec(),
                trace_state,
                parent_span_id: parent.map(|id| id.to_bytes().to_vec()).unwrap_or_default(),
                flags,
                name,
                kind: SpanKind::Client.into(),
                start_time_unix_nano: start_ns,
                end_time_unix_nano: end_ns.max(start_ns),
                attributes: all,
                status: fails.then_some(status),
                ..Span::default()
            });
        }
    }
}
