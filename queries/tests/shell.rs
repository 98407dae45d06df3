//! The interactive shell in a real pseudo-terminal, which a Python script drives.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::process::Command;

use common::reference;
use serde_json::json;

#[test]
fn the_shell_in_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<_> = (0..3u64).map(|i| reference(&json!({"seq": i}))).collect();
    common::dataset(folder.path(), &rows, 7);
    let files = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shell.py");
    let done = Command::new("python3")
        .args([script, env!("CARGO_BIN_EXE_pgtrace-sql")])
        .args([folder.path(), files.path()])
        .output()
        .unwrap();
    let text = [done.stdout, done.stderr]
        .map(|t| String::from_utf8_lossy(&t).into_owned())
        .concat();
    assert!(done.status.success(), "{text}");
}
