//! The generated code is that of the `.proto` files.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use prost::Message as _;

const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
const GENERATED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/generated");
const FILES: [&str; 2] = ["envoy/service/ratelimit/v3/rls.proto", "tollgate/v1/tollgate.proto"];
/// Set to write the code instead of comparing it.
const WRITE: &str = "TOLLGATE_WRITE_GENERATED";

fn files_in(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let name = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap();
    entries.map(|entry| (name(&entry), fs::read(entry.path()).unwrap())).collect()
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
    // Comments are only for the code.
    let mut bare = descriptors;
    for file in &mut bare.file {
        file.source_code_info = None;
    }
    fs::write(made.path().join("descriptors.bin"), bare.encode_to_vec()).unwrap();
    let made = files_in(made.path());
    if std::env::var_os(WRITE).is_some() {
        fs::create_dir_all(GENERATED).unwrap();
        for (name, bytes) in &made {
            fs::write(Path::new(GENERATED).join(name), bytes).unwrap();
        }
    }
    let known = files_in(Path::new(GENERATED));
    let names = |files: &BTreeMap<_, _>| files.keys().cloned().collect::<Vec<String>>();
    assert_eq!(names(&known), names(&made));
    for (name, bytes) in made {
        assert!(known[&name] == bytes, "{name} is old; {WRITE}=1 writes it");
    }
}
