//! Envoy's requests with bytes in place of text, generated from `proto`.

#![allow(clippy::pedantic, missing_docs, unreachable_pub, reason = "generated code")]

include!("generated/undecoded/mod.rs");
