//! The command: formats, order of statements, streams, exit codes.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use common::{pgtrace_sql, reference};
use serde_json::{Value, json};
use tempfile::TempDir;

fn dataset(lost: u64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let row = |i: u64| {
        reference(
            &json!({"seq": i, "page": i, "path": if i == 1 { None } else { Some("/a, \"b\"") }}),
        )
    };
    common::dataset(folder.path(), &(0..3).map(row).collect::<Vec<_>>(), lost);
    folder
}

/// stdout and stderr of a run that must end with `code`.
fn run(data: &TempDir, args: &[&str], stdin: &str, code: i32) -> (String, String) {
    let done = pgtrace_sql()
        .arg(data.path())
        .args(args)
        .write_stdin(stdin)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    assert_eq!(done.status.code(), Some(code), "{args:?}\n{out}\n{err}");
    (out, err)
}

const SQL: &str = "SELECT seq, path FROM refs ORDER BY seq";

#[test]
fn a_table_for_people() {
    let (out, err) = run(&dataset(0), &["-c", SQL], "", 0);
    let expected = "\
+-----+---------+
| seq | path    |
+-----+---------+
| 0   | /a, \"b\" |
| 1   |         |
| 2   | /a, \"b\" |
+-----+---------+
";
    assert_eq!((out.as_str(), err.as_str()), (expected, ""));
}

#[test]
fn csv_has_one_header_and_quotes() {
    let (out, _) = run(&dataset(0), &["--format", "csv", "-c", SQL], "", 0);
    assert_eq!(
        out,
        "seq,path\n0,\"/a, \"\"b\"\"\"\n1,\n2,\"/a, \"\"b\"\"\"\n"
    );
    let (out, _) = run(
        &dataset(0),
        &[
            "--format",
            "csv",
            "-c",
            "SELECT seq FROM refs WHERE seq > 9",
        ],
        "",
        0,
    );
    assert_eq!(out, "seq\n");
}

#[test]
fn json_and_ndjson_hold_the_same_objects() {
    let expected = json!([{"seq": 0, "path": "/a, \"b\""}, {"seq": 1, "path": null}, {"seq": 2, "path": "/a, \"b\""}]);
    let (out, _) = run(&dataset(0), &["--format", "json", "-c", SQL], "", 0);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), expected);
    let (out, _) = run(&dataset(0), &["--format", "ndjson", "-c", SQL], "", 0);
    let lines: Vec<Value> = out
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(Value::from(lines), expected);
    let (out, _) = run(
        &dataset(0),
        &[
            "--format",
            "json",
            "-c",
            "SELECT seq FROM refs WHERE seq > 9",
        ],
        "",
        0,
    );
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), json!([]));
}

#[test]
fn long_results_are_whole_in_every_format() {
    let data = dataset(0);
    let sql = "SELECT value FROM generate_series(1, 25000)";
    let lines = |format: &str| run(&data, &["--format", format, "-c", sql], "", 0).0;
    assert_eq!(lines("csv").lines().count(), 25_001);
    assert_eq!(lines("ndjson").lines().count(), 25_000);
    assert_eq!(
        serde_json::from_str::<Vec<Value>>(&lines("json"))
            .unwrap()
            .len(),
        25_000
    );
    let rows = lines("table")
        .lines()
        .filter(|l| l.contains(|c: char| c.is_ascii_digit()))
        .count();
    assert_eq!(rows, 25_000);
}

#[test]
fn statements_run_in_the_order_given_and_stop_at_the_first_error() {
    let data = dataset(0);
    let file = data.path().join("two.sql");
    std::fs::write(
        &file,
        "-- first; not here\nCREATE VIEW v AS SELECT 'x;y' AS two;\nSELECT two FROM v;",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let args = [
        "--format",
        "csv",
        "-c",
        "SELECT 1 AS one",
        "-f",
        file,
        "-c",
        "SELECT 3 AS three; SELECT 4 AS four",
    ];
    assert_eq!(
        run(&data, &args, "", 0).0,
        "one\n1\ntwo\nx;y\nthree\n3\nfour\n4\n"
    );

    let args = [
        "--format",
        "csv",
        "-c",
        "SELECT 1 AS a",
        "-c",
        "SELECT nope",
        "-c",
        "SELECT 2 AS b",
    ];
    let (out, err) = run(&data, &args, "", 2);
    assert_eq!(out, "a\n1\n");
    assert!(err.contains("nope"), "{err}");

    std::fs::write(file, "SELECT 1; SELEC 2").unwrap();
    let (_, err) = run(&data, &["-f", file], "", 2);
    assert!(err.contains("two.sql, statement 2"), "{err}");
}

#[test]
fn without_a_terminal_sql_comes_from_stdin() {
    let (out, err) = run(
        &dataset(0),
        &["--format", "csv"],
        "SELECT 1 AS a;\nSELECT 2 AS b",
        0,
    );
    assert_eq!((out.as_str(), err.as_str()), ("a\n1\nb\n2\n", ""));
}

#[test]
fn losses_are_mentioned_on_stderr_once_and_are_no_failure() {
    let (out, err) = run(
        &dataset(3),
        &[
            "--format",
            "csv",
            "-c",
            "SELECT 1 AS a",
            "-c",
            "SELECT 2 AS b",
        ],
        "",
        0,
    );
    assert_eq!(out, "a\n1\nb\n2\n");
    assert_eq!(
        err,
        "note: this dataset has 3 lost references (SELECT * FROM losses)\n"
    );
}

#[test]
fn a_closed_pipe_is_no_error() {
    for format in ["csv", "table", "json", "ndjson"] {
        let data = dataset(0);
        let mut child = Command::new(env!("CARGO_BIN_EXE_pgtrace-sql"))
            .arg(data.path())
            .args([
                "--format",
                format,
                "-c",
                "SELECT value FROM generate_series(1, 100000000)",
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut first)
            .unwrap(); // and closes it
        let done = child.wait_with_output().unwrap();
        let err = String::from_utf8(done.stderr).unwrap();
        assert_eq!(
            (done.status.code(), err.as_str()),
            (Some(0), ""),
            "{format}"
        );
    }
}

#[test]
fn views_can_be_listed_and_described_in_sql() {
    let data = dataset(0);
    let (out, _) = run(&data, &["--format", "csv", "-c", "SHOW TABLES"], "", 0);
    for name in ["refs", "losses", "hot_files", "page_irf"] {
        assert!(out.contains(&format!(",{name},")), "{name} in {out}");
    }
    let (out, _) = run(
        &data,
        &["--format", "csv", "-c", "DESCRIBE page_irf"],
        "",
        0,
    );
    assert!(out.contains("irf_readme_ns,Float64"), "{out}");
}

#[test]
fn the_spill_folder_is_removed_at_the_end() {
    let spill = tempfile::tempdir().unwrap();
    let args = [
        "--spill-dir",
        spill.path().to_str().unwrap(),
        "-c",
        "SELECT * FROM page_irf",
    ];
    run(&dataset(0), &args, "", 0);
    assert_eq!(std::fs::read_dir(spill.path()).unwrap().count(), 0);
}

#[test]
fn help_shows_an_example() {
    let help = pgtrace_sql().arg("--help").output().unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(text.contains("pgtrace-sql trace.ds -c 'SELECT"), "{text}");
    assert!(text.contains("[default: 1GiB]"), "{text}");
}
