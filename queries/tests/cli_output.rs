//! Where results go and how they are written: files, formats of columns, variables of scripts.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use common::{pgtrace_sql, reference, text_rows};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;
use tempfile::TempDir;

fn dataset() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let row = |i: u64| {
        let path = (i != 1).then_some("/a|b");
        reference(&json!({"seq": i, "page": i, "path": path}))
    };
    common::dataset(folder.path(), &(0..3).map(row).collect::<Vec<_>>(), 0);
    folder
}

/// stdout and stderr of a run that must end with `code`.
fn run(data: &TempDir, args: &[&str], code: i32) -> (Vec<u8>, String) {
    let done = pgtrace_sql().arg(data.path()).args(args).output().unwrap();
    let err = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(code), "{args:?}\n{err}");
    (done.stdout, err)
}

fn text(data: &TempDir, args: &[&str]) -> String {
    String::from_utf8(run(data, args, 0).0).unwrap()
}

const SQL: &str = "SELECT seq, path, ts FROM refs ORDER BY seq";

fn parquet_of(path: &Path) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    reader.build().unwrap().map(|b| b.unwrap()).collect()
}

fn arrow_of(bytes: &[u8]) -> Vec<RecordBatch> {
    let reader = StreamReader::try_new(bytes, None).unwrap();
    reader.map(|b| b.unwrap()).collect()
}

#[test]
fn parquet_and_arrow_hold_the_rows_of_the_text() {
    let data = dataset();
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("out.parquet");
    let name = file.to_str().unwrap();
    run(&data, &["-o", name, "-c", SQL], 0);
    let rows = text_rows(&parquet_of(&file));
    assert_eq!(rows.len(), 3);
    assert_eq!((rows[0][1].as_str(), rows[1][1].as_str()), ("/a|b", "NULL"));
    let (piped, _) = run(&data, &["--format", "parquet", "-c", SQL], 0);
    fs::write(&file, piped).unwrap();
    assert_eq!(text_rows(&parquet_of(&file)), rows);
    let (arrow, _) = run(&data, &["--format", "arrow", "-c", SQL], 0);
    assert_eq!(text_rows(&arrow_of(&arrow)), rows);
    // No rows are a file, too, with columns; many are whole.
    let sql = "SELECT seq FROM refs WHERE seq > 9";
    run(&data, &["-o", name, "-c", sql], 0);
    assert_eq!(text_rows(&parquet_of(&file)).len(), 0);
    let sql = "SELECT value FROM generate_series(1, 100000)";
    run(&data, &["-o", name, "-c", sql], 0);
    let count: usize = parquet_of(&file).iter().map(RecordBatch::num_rows).sum();
    assert_eq!(count, 100_000);
}

/// Python of `make notebooks`, where there is one.
#[test]
fn duckdb_and_pyarrow_read_what_is_written() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
    if !python.exists() {
        return; // `make interop` makes it
    }
    let data = dataset();
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    for name in ["a.parquet", "a.arrow", "a.csv"] {
        run(&data, &["-o", &path(name), "-c", SQL], 0);
    }
    let script = "
import duckdb, pyarrow.ipc, sys
parquet, arrow, csv = sys.argv[1:]
rows = duckdb.sql(f\"SELECT seq, path FROM '{parquet}' ORDER BY seq\").fetchall()
table = pyarrow.ipc.open_stream(arrow).read_all()
assert rows == [(0, '/a|b'), (1, None), (2, '/a|b')], rows
assert list(zip(*(table.column(c).to_pylist() for c in ('seq', 'path')))) == rows, table
assert duckdb.sql(f\"SELECT count(*) FROM '{csv}'\").fetchall() == [(3,)]
";
    let done = Command::new(python)
        .args(["-c", script])
        .args(["a.parquet", "a.arrow", "a.csv"].map(path))
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{err}");
}

#[test]
fn markdown_and_expanded() {
    let data = dataset();
    let sql = "SELECT seq, path FROM refs ORDER BY seq LIMIT 2";
    assert_eq!(
        text(&data, &["--format", "md", "-c", sql]),
        "| seq | path |\n| ---: | --- |\n| 0 | /a\\|b |\n| 1 |  |\n"
    );
    let sql = "SELECT 1 AS a, 'x\ny' AS long";
    assert_eq!(
        text(&data, &["--format", "expanded", "-c", sql]),
        "-[ row 1 ]--------------\na    | 1\nlong | x\n     | y\n"
    );
}

#[test]
fn plans_stand_without_a_frame() {
    let data = dataset();
    let plan = text(
        &data,
        &[
            "-c",
            "EXPLAIN ANALYZE SELECT count(*) FROM refs WHERE pid = 7",
        ],
    );
    assert!(plan.starts_with("Plan with Metrics\n  "), "{plan}");
    assert!(plan.contains("metrics=[") && !plan.contains('|'), "{plan}");
    let plan = text(&data, &["-c", "EXPLAIN SELECT count(*) FROM refs"]);
    assert!(
        plan.contains("logical_plan\n  ") && plan.contains("physical_plan\n  "),
        "{plan}"
    );
}

#[test]
fn a_file_appears_when_it_is_whole() {
    let data = dataset();
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("out.csv");
    let name = file.to_str().unwrap();
    let names = || -> Vec<PathBuf> {
        let entries = fs::read_dir(files.path()).unwrap();
        entries.map(|e| e.unwrap().path()).collect()
    };
    let late = "SELECT value, 1 / (500000 - value) AS x FROM generate_series(1, 1000000)";
    run(&data, &["-o", name, "-c", late], 2);
    assert_eq!(names(), Vec::<PathBuf>::new(), "nothing half-written");
    fs::write(&file, "old").unwrap();
    run(&data, &["-o", name, "-c", late], 2);
    assert_eq!(fs::read_to_string(&file).unwrap(), "old");
    // Several results follow each other; a statement without one leaves no trace.
    let sql = "CREATE VIEW v AS SELECT 1 AS a; SELECT a FROM v; SELECT 2 AS b";
    run(&data, &["-o", name, "-c", sql], 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), "a\n1\nb\n2\n");
    assert_eq!(names().len(), 1);
    // What is no plain file is written into, never replaced.
    run(&data, &["-o", "/dev/null", "-c", SQL], 0);
    use std::os::unix::fs::FileTypeExt;
    assert!(
        fs::metadata("/dev/null")
            .unwrap()
            .file_type()
            .is_char_device()
    );
    let link = files.path().join("link.csv");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    run(
        &data,
        &["-o", link.to_str().unwrap(), "-c", "SELECT 5 AS z"],
        0,
    );
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&file).unwrap(), "z\n5\n");
}

#[test]
fn the_format_is_what_is_asked_for_else_what_the_name_says() {
    let data = dataset();
    let files = tempfile::tempdir().unwrap();
    let written = |name: &str, more: &[&str]| {
        let path = files.path().join(name);
        let mut args = vec!["-o", path.to_str().unwrap(), "-c", "SELECT 1 AS a"];
        args.extend(more);
        run(&data, &args, 0);
        fs::read_to_string(path).unwrap()
    };
    assert_eq!(written("a.json", &[]), "[{\"a\":1}]\n");
    assert_eq!(written("a.jsonl", &[]), "{\"a\":1}\n");
    assert_eq!(written("a.md", &[]), "| a |\n| ---: |\n| 1 |\n");
    assert!(written("a.txt", &[]).starts_with("+---+"));
    assert_eq!(written("a.json", &["--format", "csv"]), "a\n1\n");
}

#[test]
fn variables_are_put_in() {
    let data = dataset();
    let sql = "SELECT :n + 1 AS a, :'who' AS b, :n::text AS c, ':n' AS d -- :nothing\n";
    let set = [
        "--set", "n=9", "--set", "n=4", "--set", "who=it's", "--format", "csv",
    ];
    let args = [set.as_slice(), &["-c", sql]].concat();
    assert_eq!(text(&data, &args), "a,b,c,d\n5,it's,4,:n\n");
    let (_, err) = run(&data, &["--set", "pids=1", "-c", "SELECT :pid"], 2);
    for word in [
        "no variable pid",
        "1 | SELECT :pid",
        "^^^^",
        "did you mean :pids?",
    ] {
        assert!(err.contains(word), "{word} in {err}");
    }
    for wrong in ["1=a", "a", "a b=c"] {
        let (_, err) = run(&data, &["--set", wrong, "-c", "SELECT 1"], 2);
        assert!(err.contains("--set"), "{err}");
    }
}

#[test]
fn scripts_may_hold_commands() {
    let data = dataset();
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("report.sql");
    let out = files.path().join("n.csv");
    let report = format!(
        "\\set n 2\n\\format csv\nSELECT :n AS n;\n\\o {}\nSELECT 3 AS n;\n\\o\n\\echo that was :n\n\\q\nSELECT nope;",
        out.display()
    );
    fs::write(&file, report).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(text(&data, &["-f", file]), "n\n2\nthat was 2\n");
    assert_eq!(fs::read_to_string(out).unwrap(), "n\n3\n");
    assert!(text(&data, &["-c", "\\views page_irf"]).contains("irf_readme"));

    fs::write(file, "SELECT 1;\n\n\\fromat csv\nSELECT 2;").unwrap();
    let (_, err) = run(&data, &["-f", file], 2);
    assert!(
        err.contains("report.sql, statement 2, line 3: unknown command \\fromat"),
        "{err}"
    );
    assert!(err.contains("did you mean \\format?"), "{err}");
    fs::write(file, "SELECT 1;\nSELECT\n  seq,\n  nope\nFROM refs;").unwrap();
    let (_, err) = run(&data, &["-f", file], 2);
    assert!(
        err.contains("report.sql, statement 2, line 4: no column nope"),
        "{err}"
    );
    assert!(err.contains("  4 |   nope\n    |   ^^^^\n"), "{err}");
}

#[test]
fn where_results_cannot_go() {
    let data = dataset();
    let files = tempfile::tempdir().unwrap();
    let folder = files.path().to_str().unwrap();
    for (file, word) in [("/no/such/out.csv", "No such file"), (folder, "directory")] {
        let (out, err) = run(&data, &["-o", file, "-c", "SELECT 1"], 2);
        assert!(
            err.contains(file) && err.contains(word) && out.is_empty(),
            "{err}"
        );
    }
    let file = files.path().join("two.parquet");
    let name = file.to_str().unwrap();
    let (_, err) = run(
        &data,
        &["-o", name, "-c", "SELECT 1 AS a; SELECT 2 AS a"],
        2,
    );
    assert!(err.contains("holds a result already"), "{err}");
    assert_eq!(parquet_of(&file)[0].num_rows(), 1);
    let (_, err) = run(&data, &["-c", "\\o |exit 3\nSELECT 1 AS a;\n\\o"], 2);
    assert!(err.contains("exit status: 3"), "{err}");
}
