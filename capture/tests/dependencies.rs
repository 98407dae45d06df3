#![allow(clippy::unwrap_used, reason = "tests")]
//! The recorder stays small: it never links the analytical side.

use std::process::Command;

#[test]
fn capture_links_neither_arrow_nor_tokio_nor_datafusion() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "-p",
            "pgtrace-capture",
            "-e",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(
        names.contains(&"pgtrace-capture") && names.contains(&"libc"),
        "not understood: {text}"
    );
    for name in names {
        let forbidden = [
            "arrow",
            "parquet",
            "tokio",
            "datafusion",
            "object_store",
            "pgtrace-ingest",
            "pgtrace-sql",
        ];
        assert!(
            !forbidden.iter().any(|f| name.starts_with(f)),
            "pgtrace-capture links {name}"
        );
    }
}
