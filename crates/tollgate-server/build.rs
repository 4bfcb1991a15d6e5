//! Builds anew when the console was: its files are part of the binary.

fn main() {
    println!("cargo::rerun-if-changed=../../console/dist");
}
