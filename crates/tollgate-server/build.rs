//! Rebuilds the crate when the console was rebuilt, because its files are part of the binary.

fn main() {
    println!("cargo::rerun-if-changed=../../console/dist");
}
