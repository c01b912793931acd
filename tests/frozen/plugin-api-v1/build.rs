//! The layout check at load compares the names of the packages that define the boundary: this copy
//! must be taken for the original.

fn main() {
    println!("cargo::rustc-env=CARGO_PKG_NAME=rex-plugin-api");
    println!("cargo::rerun-if-changed=build.rs");
}
