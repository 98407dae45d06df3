//! Recompiles the crate when a view is added: `include_dir` only watches files it already knows.
fn main() {
    println!("cargo:rerun-if-changed=sql");
}
