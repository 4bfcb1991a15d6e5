//! The generated code is that of the `.proto` files.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use prost::Message as _;
use prost_types::FileDescriptorSet;
use prost_types::field_descriptor_proto::Type;

const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
const GENERATED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/generated");
const FILES: [&str; 2] = ["envoy/service/ratelimit/v3/rls.proto", "tollgate/v1/tollgate.proto"];
/// What the server reads of Envoy, apart from `GENERATED`, and the messages that it shares with it.
const UNDECODED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/generated/undecoded");
const SAME: [(&str, &str); 4] = [
    (".envoy.config", "crate::proto::envoy::config"),
    (".envoy.type", "crate::proto::envoy::r#type"),
    (
        ".envoy.service.ratelimit.v3.RateLimitResponse",
        "crate::proto::envoy::service::ratelimit::v3::RateLimitResponse",
    ),
    (
        ".envoy.extensions.common.ratelimit.v3.RateLimitDescriptor.RateLimitOverride",
        "crate::proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::RateLimitOverride",
    ),
];
/// Set to write the code instead of comparing it.
const WRITE: &str = "TOLLGATE_WRITE_GENERATED";

fn files_in(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let entries = entries.filter(|entry| entry.file_type().unwrap().is_file());
    let name = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap();
    entries.map(|entry| (name(&entry), fs::read(entry.path()).unwrap())).collect()
}

/// Generates the messages of Envoy's requests again, for the server only, with bytes in place of text: on the wire both are the
/// same, and a header that is not UTF-8 is not refused before a handler sees it.
fn generate_undecoded(descriptors: &FileDescriptorSet, folder: &Path) {
    let is_read = |name: &str| {
        name.ends_with("/rls.proto") || name.ends_with("/common/ratelimit/v3/ratelimit.proto")
    };
    let mut read = descriptors.clone();
    for file in read.file.iter_mut().filter(|file| is_read(file.name())) {
        let nested = file.message_type.iter_mut().flat_map(|message| {
            message
                .field
                .iter_mut()
                .chain(message.nested_type.iter_mut().flat_map(|one| &mut one.field))
        });
        nested
            .filter(|field| field.r#type() == Type::String)
            .for_each(|field| field.set_type(Type::Bytes));
    }
    read.file.retain(|file| file.package().starts_with("envoy."));
    let generator = tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .include_file("mod.rs")
        .out_dir(folder);
    SAME.iter()
        .fold(generator, |generator, (proto, rust)| generator.extern_path(*proto, *rust))
        .compile_fds(read)
        .unwrap();
}

#[test]
fn the_generated_code_is_current() {
    let made = tempfile::tempdir().unwrap();
    let descriptors = protox::compile(FILES, [PROTO]).unwrap();
    tonic_prost_build::configure()
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .bytes(".envoy")
        .include_file("mod.rs")
        .out_dir(made.path())
        .compile_fds(descriptors.clone())
        .unwrap();
    let undecoded = tempfile::tempdir().unwrap();
    generate_undecoded(&descriptors, undecoded.path());
    // Comments are only for the code.
    let mut bare = descriptors;
    for file in &mut bare.file {
        file.source_code_info = None;
    }
    fs::write(made.path().join("descriptors.bin"), bare.encode_to_vec()).unwrap();
    for (made, known) in [(made.path(), GENERATED), (undecoded.path(), UNDECODED)] {
        assert_same(&files_in(made), Path::new(known));
    }
}

/// Asserts that the folder `known` has the files `made`, or writes them.
fn assert_same(made: &BTreeMap<String, Vec<u8>>, known: &Path) {
    if std::env::var_os(WRITE).is_some() {
        fs::create_dir_all(known).unwrap();
        for (name, bytes) in made {
            fs::write(known.join(name), bytes).unwrap();
        }
    }
    let known = files_in(known);
    let names = |files: &BTreeMap<_, _>| files.keys().cloned().collect::<Vec<String>>();
    assert_eq!(names(&known), names(made));
    for (name, bytes) in made {
        assert!(known[name] == *bytes, "{name} is old; {WRITE}=1 writes it");
    }
}
