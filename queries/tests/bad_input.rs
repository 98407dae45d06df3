//! What is wrong is said clearly: what, where, and what to do. Exit code 2, nothing on stdout.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{pgtrace_sql, reference};
use serde_json::json;
use tempfile::TempDir;

fn dataset() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<_> = (0..2000u64)
        .map(|i| reference(&json!({"seq": i, "pid": 1 + i % 2, "page": i * i % 977})))
        .collect();
    common::dataset(folder.path(), &rows, 0);
    folder
}

fn data_file(data: &TempDir, pid: u32) -> PathBuf {
    data.path()
        .join(format!("refs/uid=1000/pid={pid}/slice=000000/c1-0.parquet"))
}

/// Runs and returns stderr, which must hold all of `words`.
fn fails(dataset: &Path, args: &[&str], words: &[&str]) -> String {
    let done = pgtrace_sql().arg(dataset).args(args).output().unwrap();
    let err = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(2), "{args:?}: {err}");
    assert!(
        done.stdout.is_empty(),
        "{}",
        String::from_utf8_lossy(&done.stdout)
    );
    for word in words {
        assert!(err.contains(word), "no {word:?} in: {err}");
    }
    assert!(
        err.starts_with("pgtrace-sql: ") && !err.contains("panicked") && !err.contains("backtrace"),
        "{err}"
    );
    err
}

#[test]
fn no_such_dataset() {
    let folder = tempfile::tempdir().unwrap();
    fails(
        &folder.path().join("nowhere"),
        &["-c", "SELECT 1"],
        &["nowhere", "no such dataset"],
    );
}

#[test]
fn a_folder_or_file_that_is_no_dataset() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("letter.txt"), "hello").unwrap();
    fails(
        folder.path(),
        &["-c", "SELECT 1"],
        &["not a pgtrace dataset"],
    );
    fails(
        &folder.path().join("letter.txt"),
        &["-c", "SELECT 1"],
        &["letter.txt"],
    );
}

#[test]
fn a_newer_dataset() {
    let data = dataset();
    let manifest = fs::read_dir(data.path().join("_pgtrace/manifest"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"format\": 1", "\"format\": 99")).unwrap();
    fails(
        data.path(),
        &["-c", "SELECT 1"],
        &["99", "too new", "newer pgtrace"],
    );
    fs::write(&manifest, &text[..text.len() / 2]).unwrap();
    fails(
        data.path(),
        &["-c", "SELECT 1"],
        &["damaged manifest", ".json"],
    );
}

#[test]
fn a_missing_data_file_is_named() {
    let data = dataset();
    fs::remove_file(data_file(&data, 2)).unwrap();
    fails(
        data.path(),
        &["-c", "SELECT sum(page) FROM refs"],
        &["refs/uid=1000/pid=2/slice=000000/c1-0.parquet", "missing"],
    );
}

#[test]
fn a_truncated_data_file_is_named() {
    for keep in [0, 3, 100, usize::MAX] {
        let data = dataset();
        let file = data_file(&data, 1);
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..keep.min(bytes.len() - 1)]).unwrap();
        fails(
            data.path(),
            &["-c", "SELECT sum(page) FROM refs"],
            &["pid=1/slice=000000/c1-0.parquet", "damaged"],
        );
    }
}

#[test]
fn damage_inside_a_data_file_never_panics_and_its_error_names_the_file() {
    let whole = dataset();
    let bytes = fs::read(data_file(&whole, 1)).unwrap();
    for i in 0..24 {
        let data = dataset();
        let mut bytes = bytes.clone();
        let at = bytes.len() * i / 24;
        bytes.iter_mut().skip(at).take(8).for_each(|b| *b = 0xA5);
        fs::write(data_file(&data, 1), bytes).unwrap();
        let done = pgtrace_sql()
            .arg(data.path())
            .args(["-c", "SELECT * FROM refs"])
            .output()
            .unwrap();
        let err = String::from_utf8(done.stderr).unwrap();
        assert!(
            matches!(done.status.code(), Some(0 | 2)),
            "byte {at}: {:?} {err}",
            done.status
        );
        assert!(!err.contains("panicked"), "byte {at}: {err}");
        if done.status.code() == Some(2) {
            assert!(err.contains("c1-0.parquet"), "byte {at}: {err}");
        }
    }
}

#[test]
fn bad_sql() {
    let data = dataset();
    for (sql, words) in [
        (
            "SELEC 1",
            ["syntax error", "SELEC", "did you mean SELECT?"].as_slice(),
        ),
        ("SELECT 1 FROM", &["syntax error", "    |              ^\n"]),
        (
            "SELECT seq FORM refs",
            &["syntax error", "           ^^^^", "did you mean FROM?"],
        ),
        (
            "SELECT * FROM refs WERE pid = 1",
            &["                   ^^^^", "did you mean WHERE?"],
        ),
        (
            "SELECT * FROM refs r GRUOP BY pid",
            &["did you mean GROUP?"],
        ),
        (
            "SELECT sequence FROM refs",
            &["sequence", "       ^^^^^^^^", "did you mean seq?"],
        ),
        (
            "SELECT r.pge\nFROM refs r",
            &["  1 | SELECT r.pge", "         ^^^\n", "did you mean page?"],
        ),
        (
            "SELECT 1\nFROM refs WHERE path = \"/a\"",
            &["  2 | FROM", "single quotes: '/a'"],
        ),
        (
            "SELECT nofunction(seq) FROM refs",
            &["no function nofunction", "       ^^^^^^^^^^"],
        ),
        ("SELECT cuont(seq) FROM refs", &["did you mean count?"]),
        (
            "SELECT * FROM generate_seres(1, 2)",
            &["did you mean generate_series?"],
        ),
        (
            "SELECT page FROM refs a, refs b",
            &["mbiguous", "       ^^^^", "alias before it"],
        ),
        (
            "SELECT 'open",
            &["syntax error", "nterminated string", "       ^^^^^"],
        ),
    ] {
        fails(data.path(), &["-c", sql], words);
    }
}

#[test]
fn an_unknown_view_suggests_the_right_one() {
    let data = dataset();
    fails(
        data.path(),
        &["-c", "SELECT * FROM page_ifr"],
        &["page_ifr", "did you mean page_irf?"],
    );
    fails(
        data.path(),
        &["-c", "SELECT * FROM hotfiles"],
        &["did you mean hot_files?"],
    );
    fails(
        data.path(),
        &["-c", "SELECT * FROM zzzzzzzz"],
        &["zzzzzzzz", "SHOW TABLES"],
    );
}

#[test]
fn tables_cannot_be_changed() {
    let data = dataset();
    fails(
        data.path(),
        &["-c", "INSERT INTO losses SELECT * FROM losses"],
        &["losses", "only reads"],
    );
    for change in ["DELETE FROM refs", "UPDATE refs SET page = 1"] {
        fails(data.path(), &["-c", change], &["refs", "only reads"]);
    }
}

#[test]
fn wrong_options() {
    let data = dataset();
    for (args, word) in [
        (["--memory", "much"], "256MiB"),
        (["--threads", "0"], "threads"),
        (["--format", "xml"], "ndjson"),
        (["-f", "/no/such.sql"], "/no/such.sql"),
    ] {
        let done = pgtrace_sql()
            .arg(data.path())
            .args(args)
            .args(["-c", "SELECT 1"])
            .output()
            .unwrap();
        let err = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(2), "{err}");
        assert!(
            err.contains(word) && done.stdout.is_empty(),
            "{args:?}: {err}"
        );
    }
}

#[test]
fn a_spill_folder_that_cannot_be_used() {
    let data = dataset();
    fails(
        data.path(),
        &["--spill-dir", "/no/such/dir", "-c", "SELECT 1"],
        &["/no/such/dir", "--spill-dir"],
    );
    let file = data.path().join("file");
    fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    fails(
        data.path(),
        &["--spill-dir", file, "-c", "SELECT 1"],
        &[file, "Not a directory"],
    );
}

/// A file-size limit stands for a full disk: writing fails all the same.
#[test]
fn a_full_spill_folder() {
    let data = dataset();
    let sql = "SELECT * FROM generate_series(1, 3000000) AS a(v) ORDER BY v * 7919 % 3000017 DESC";
    let script = format!(
        "trap '' XFSZ; ulimit -f 64; exec '{}' '{}' --memory 16MiB --threads 1 --format csv -c '{sql}'",
        env!("CARGO_BIN_EXE_pgtrace-sql"),
        data.path().display()
    );
    let done = std::process::Command::new("bash")
        .args(["-c", &script])
        .output()
        .unwrap();
    let err = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(2), "{err}");
    assert!(
        err.contains("no room to spill in") && err.contains("--spill-dir"),
        "{err}"
    );
}

#[test]
fn too_little_memory_says_so() {
    let data = dataset();
    let sql = "SELECT * FROM page_irf ORDER BY irf_rate";
    fails(data.path(), &["--memory", "20k", "-c", sql], &["--memory"]);
}
