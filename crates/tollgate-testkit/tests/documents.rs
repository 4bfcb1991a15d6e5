//! Checks that the documents agree with the tree: crates, paths, dependencies and links.
//!
//! In `docs/ARCHITECTURE.md` the crates are the headings of its section "Crates", and the dependencies are the rows of
//! the table in "Dependencies between crates". A path is any `code` with a slash that begins with an entry of the repository, or of the
//! crate in whose section it is.

#![cfg(test)]

mod markdown;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};
use markdown::Document;

const SERVER: &str = "tollgate-server";
const CORE: &str = "tollgate-core";
/// Crates for tests and measurements: nothing that ships depends on them.
const NEVER_SHIPPED: [&str; 2] = ["tollgate-testkit", "tollgate-bench"];

/// Third-party crates that only these crates may use, so that their use does not spread.
const RESTRICTED_DEPENDENCIES: [(&str, &[&str]); 13] = [
    ("axum", &["tollgate-server", "tollgate-bench"]),
    ("clap", &["tollgate-server", "tollgate-simulate", "tollgate-verify", "tollgate-bench"]),
    ("governor", &["tollgate-bench"]),
    (
        "hyper",
        &[
            "tollgate-gateway",
            "tollgate-otlp",
            "tollgate-server",
            "tollgate-verify",
            "tollgate-bench",
        ],
    ),
    ("quick_cache", &["tollgate-catalog"]),
    ("notify", &["tollgate-catalog"]),
    ("opentelemetry", &["tollgate-otlp"]),
    ("opentelemetry-proto", &["tollgate-otlp", "tollgate-testkit"]),
    ("pyo3", &["tollgate-python"]),
    ("redis", &["tollgate-redis", "tollgate-bench"]),
    (
        "serde_json",
        &[
            "tollgate",
            "tollgate-gateway",
            "tollgate-server",
            "tollgate-simulate",
            "tollgate-verify",
            "tollgate-bench",
        ],
    ),
    ("sqlx", &["tollgate-catalog"]),
    ("tonic", &["tollgate-grpc", "tollgate-bench"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn architecture() -> Document {
    Document::read(&root().join("docs/ARCHITECTURE.md"))
}

type Names = BTreeSet<String>;

/// The dependencies of each crate of the workspace, except dev-dependencies.
fn dependencies() -> BTreeMap<String, Names> {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata");
    let packages = metadata.packages.into_iter().map(|package| {
        let shipped = package.dependencies.into_iter().filter(|dependency| {
            matches!(dependency.kind, DependencyKind::Normal | DependencyKind::Build)
        });
        (package.name.to_string(), shipped.map(|dependency| dependency.name).collect())
    });
    packages.collect()
}

fn is_ours(name: &str) -> bool {
    name == "tollgate" || name.starts_with("tollgate-")
}

/// The dependencies of each crate on other crates of the workspace.
fn arrows() -> BTreeMap<String, Names> {
    let mut arrows = dependencies();
    for names in arrows.values_mut() {
        names.retain(|name| is_ours(name));
    }
    arrows
}

#[test]
fn the_architecture_describes_every_crate_and_no_other() {
    let described: Vec<_> = architecture().headings_in("Crates");
    let crates: Vec<_> = arrows().into_keys().collect();
    let mut sorted = described.clone();
    sorted.sort();
    assert_eq!(
        sorted, crates,
        "the headings of \"Crates\" in docs/ARCHITECTURE.md, and the workspace"
    );
}

#[test]
fn the_architecture_draws_the_arrows_of_the_manifests() {
    let drawn: BTreeMap<String, Names> = architecture()
        .table_in("Dependencies between crates")
        .into_iter()
        .map(|row| {
            let [from, to] = &row[..] else { panic!("{row:?} does not have two cells") };
            (from.join(""), to.iter().cloned().collect())
        })
        .collect();
    let arrows = arrows();
    for (from, to) in &arrows {
        let row = drawn.get(from);
        assert_eq!(
            row,
            Some(to),
            "{from}: its row of \"Dependencies between crates\" in docs/ARCHITECTURE.md, its manifest"
        );
    }
    assert_eq!(
        drawn.len(),
        arrows.len(),
        "\"Dependencies between crates\" has a row that belongs to no crate"
    );
}

#[test]
fn the_architecture_names_only_paths_that_exist() {
    let root = root();
    let mut paths = 0;
    for (heading, code) in architecture().codes() {
        let crate_root = root.join("crates").join(&heading);
        let bases: &[&Path] = if is_ours(&heading) { &[&crate_root, &root] } else { &[&root] };
        let Some((first, _)) = code.split_once('/') else { continue };
        if first.is_empty() || !bases.iter().any(|base| base.join(first).is_dir()) {
            continue;
        }
        paths += 1;
        let exists = bases.iter().any(|base| base.join(&code).exists());
        assert!(
            exists,
            "docs/ARCHITECTURE.md, section {heading:?}, names {code}, which does not exist"
        );
    }
    assert!(paths > 20, "only {paths} paths found: are they still written as `code`?");
}

#[test]
fn the_arrows_keep_the_layers() {
    let arrows = arrows();
    assert!(arrows[CORE].is_empty(), "core depends on {:?}", arrows[CORE]);
    for (from, to) in &arrows {
        assert!(!to.contains(SERVER), "{from} depends on the server");
        for name in NEVER_SHIPPED {
            assert!(!to.contains(name), "{from} depends on {name} outside of its tests");
        }
    }
    for only_core in ["tollgate-store", "tollgate-catalog", "tollgate-http"] {
        assert_eq!(arrows[only_core], Names::from([CORE.to_owned()]), "{only_core}");
    }
}

#[test]
fn heavy_dependencies_stay_in_their_crates() {
    let dependencies = dependencies();
    for (heavy, allowed) in RESTRICTED_DEPENDENCIES {
        let users: Vec<_> =
            dependencies.iter().filter(|(_, names)| names.contains(heavy)).collect();
        assert!(!users.is_empty(), "no crate uses {heavy} any more: remove it from this list");
        for (user, _) in users {
            assert!(
                allowed.contains(&user.as_str()),
                "{user} depends on {heavy}; accepted: {allowed:?}"
            );
        }
    }
}

/// Every Markdown file of the repository, except build output and installed packages.
fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "node_modules" {
                documents(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

#[test]
fn relative_links_lead_to_a_file_and_a_heading() {
    let mut files = Vec::new();
    documents(&root(), &mut files);
    let mut links = 0;
    for file in files {
        let document = Document::read(&file);
        for link in
            document.links().filter(|link| !link.contains("://") && !link.starts_with("mailto:"))
        {
            links += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { file.clone() } else { file.with_file_name(path) };
            assert!(target.exists(), "{}: nothing is at {link}", file.display());
            if !anchor.is_empty() {
                let anchors = Document::read(&target).anchors();
                let known = anchors.contains(anchor);
                assert!(known, "{}: {link} leads to no heading of {anchors:?}", file.display());
            }
        }
    }
    assert!(links > 20, "only {links} links found");
}

#[test]
fn every_decision_is_in_the_list_of_decisions() {
    let folder = root().join("docs/decisions");
    let listed = Document::read(&folder.join("README.md"));
    let listed: Names = listed.links().map(str::to_owned).collect();
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let files: Names = files
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name != "README.md")
        .collect();
    assert_eq!(listed, files);
}
