//! The messages and services, generated from `proto` (its README says how).

#![expect(clippy::allow_attributes, clippy::pedantic, missing_docs, reason = "generated code")]

include!("generated/mod.rs");

/// All files of `proto`, as a `FileDescriptorSet`, for reflection.
pub(crate) const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");
