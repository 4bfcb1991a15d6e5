//! Envoy's requests with bytes in place of text, generated from `proto`.

#![expect(clippy::allow_attributes, clippy::pedantic, unreachable_pub, reason = "generated code")]

include!("generated/undecoded/mod.rs");
