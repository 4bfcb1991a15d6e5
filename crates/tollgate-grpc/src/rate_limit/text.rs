//! Decodes the text of a request, so that a header that is not UTF-8 is a value that is not accepted, and no error.

use tollgate_core::subject::ACCEPTED_IDS;
use tonic::Status;

use super::request::Asked;
use crate::proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use crate::proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use crate::proto::envoy::service::ratelimit::v3::RateLimitRequest;
use crate::status::Problems;
use crate::undecoded::envoy::service::ratelimit::v3::RateLimitRequest as Undecoded;

/// A request, and the places of its values that are not UTF-8.
pub(super) struct Decoded {
    pub(super) request: RateLimitRequest,
    not_text: Vec<(usize, usize)>,
}

impl Decoded {
    /// Decodes the text. What Envoy's configuration says, the domain and the keys, must be UTF-8.
    pub(super) fn new(undecoded: &Undecoded) -> Result<Self, Status> {
        let mut problems = Problems::default();
        let mut not_text = Vec::new();
        let mut configured = |bytes: &[u8], field: &dyn std::fmt::Display| {
            let text = str::from_utf8(bytes);
            if text.is_err() {
                problems.add(field, &"is not UTF-8", "text in UTF-8");
            }
            text.unwrap_or_default().to_owned()
        };
        let domain = configured(&undecoded.domain, &"domain");
        let mut descriptors = Vec::with_capacity(undecoded.descriptors.len());
        for (at, descriptor) in undecoded.descriptors.iter().enumerate() {
            let entries = descriptor.entries.iter().enumerate().map(|(place, entry)| {
                let field = format_args!("descriptors[{at}].entries[{place}].key");
                let key = configured(&entry.key, &field);
                let value = str::from_utf8(&entry.value).unwrap_or_else(|_| {
                    not_text.push((at, place));
                    ""
                });
                Entry { key, value: value.to_owned() }
            });
            descriptors.push(RateLimitDescriptor {
                entries: entries.collect(),
                limit: descriptor.limit,
                hits_addend: descriptor.hits_addend,
                is_negative_hits: descriptor.is_negative_hits,
            });
        }
        let hits_addend = undecoded.hits_addend;
        let request = RateLimitRequest { domain, descriptors, hits_addend };
        problems.or(Self { request, not_text })
    }

    /// The request that was read; its values that are not UTF-8 are refused.
    pub(super) fn read(&self) -> Result<Asked<'_>, Status> {
        let mut asked = Asked::read(&self.request)?;
        for (at, place) in &self.not_text {
            let entry = self.request.descriptors.get(*at).and_then(|of| of.entries.get(*place));
            let (Some(entry), Some(asked)) = (entry, asked.descriptors.get_mut(*at)) else {
                continue;
            };
            asked.refused = Some(format!(
                "descriptors[{at}].entries[{place}] ({}) is not UTF-8; accepted: {ACCEPTED_IDS}",
                entry.key
            ));
        }
        Ok(asked)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_value_that_is_not_utf8_is_refused_without_an_error() {
        let bytes: &[u8] = b"\x12\x0d\x0a\x0b\x0a\x05model\x12\x02\xff\xfe";
        assert!(RateLimitRequest::decode(bytes).is_err());
        let decoded = Decoded::new(&Undecoded::decode(bytes).unwrap()).unwrap();
        let asked = decoded.read().unwrap();
        let problem = asked.refused_value().unwrap();
        assert!(problem.starts_with("descriptors[0].entries[0] (model) is not UTF-8"), "{problem}");
        assert!(asked.accepted().is_empty());
    }
}
