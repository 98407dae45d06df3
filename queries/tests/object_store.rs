//! Datasets in an object store, on a real S3-compatible server: the answers are those of the same dataset in a folder, and
//! what goes wrong is said by its URL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../ingest/tests/common/s3.rs"]
mod s3;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use s3::{Bucket, Fate, Proxy, command_at, said, server};
use tempfile::TempDir;

const SQL: &str = env!("CARGO_BIN_EXE_pgtrace-sql");

/// pgtrace-ingest: the variable PGTRACE_INGEST names it, or it stands beside pgtrace-sql.
fn ingest() -> PathBuf {
    let named = std::env::var_os("PGTRACE_INGEST").map(PathBuf::from);
    let program = named.unwrap_or_else(|| Path::new(SQL).with_file_name("pgtrace-ingest"));
    assert!(
        program.exists(),
        "no pgtrace-ingest at {}: cargo test --workspace builds it",
        program.display()
    );
    program
}

/// What a program said, and its exit code. It is patient: a busy machine's server may be late.
fn run(program: impl AsRef<OsStr>, args: &[&str]) -> (i32, String) {
    let mut command = command_at(program, server(), "60s");
    said(command.args(args).output().unwrap())
}

/// pgtrace-sql, which must succeed.
fn sql(args: &[&str]) -> String {
    let (code, words) = run(SQL, args);
    assert_eq!(code, 0, "{args:?}\n{words}");
    words
}

/// pgtrace-sql, which must fail, and say all of these.
fn refused(args: &[&str], because: &[&str]) {
    let (code, words) = run(SQL, args);
    assert_eq!(code, 2, "{args:?}\n{words}");
    for because in because {
        assert!(words.contains(because), "{because}: {words}");
    }
    for raw in ["<?xml", "<Error>", "DataFusion"] {
        assert!(!words.contains(raw), "{words}");
    }
}

/// A recording in a bucket, and the same in a folder: three processes, two slices.
struct Twice {
    bucket: Bucket,
    _folder: TempDir,
    near: String,
    far: String,
}

impl Twice {
    fn new(bucket: &str) -> Self {
        let bucket = Bucket::new(bucket);
        let folder = tempfile::tempdir().unwrap();
        let near = folder.path().join("ds").to_str().unwrap().to_owned();
        let far = bucket.url("ds");
        let csv = folder.path().join("table.csv");
        std::fs::write(&csv, table()).unwrap();
        for to in [&near, &far] {
            let csv = csv.to_str().unwrap();
            let args = [csv, "--from", "csv", "--to", to, "--slice-rows", "1000"];
            let (code, words) = run(ingest(), &args);
            assert_eq!(code, 0, "{words}");
        }
        Self {
            bucket,
            _folder: folder,
            near,
            far,
        }
    }

    /// Both answer the same, and each answer has rows. One run for all: opening a dataset takes most of the time.
    fn same(&self, questions: &[&str]) {
        // Answers are told apart by what is asked between them.
        let between = ["-c", "SELECT 1 AS next"];
        let asked = questions
            .iter()
            .flat_map(|q| [["-c", q], between])
            .flatten();
        let asked: Vec<&str> = asked.collect();
        let ask = |place: &str| {
            let answers = sql(&[&[place, "--format", "csv"], &asked[..]].concat());
            let answers = answers.split("next\n1\n");
            answers.map(str::to_owned).collect::<Vec<_>>()
        };
        let (near, far) = (ask(&self.near), ask(&self.far));
        assert_eq!(near.len(), questions.len() + 1);
        for (i, question) in questions.iter().enumerate() {
            assert!(near[i].lines().count() > 1, "{question}\n{}", near[i]);
            assert_eq!(near[i], far[i], "{question}");
        }
    }
}

/// 2000 references of three processes to two files and memory of their own, some pages again and again.
fn table() -> String {
    let mut text = String::from("ts,pid,path,page,addr,event,access\n");
    for i in 0..2000_u64 {
        let path = ["/db/a", "/db/b=1 %", ""][(i % 3) as usize];
        let page = if i % 2 == 0 { i % 40 } else { i };
        let addr = 0x7000_0000 + page * 4096;
        let (ts, pid) = (i * 1_000_000, 100 + i / 3 % 3);
        let event = ["fault", "retouch"][usize::from(i >= 40)];
        text += &format!("{ts},{pid},{path},{page},{addr},{event},read\n");
    }
    text
}

#[test]
fn answers_are_those_of_the_same_dataset_in_a_folder() {
    let twice = Twice::new("answers");
    twice.same(&[
        "SELECT * FROM refs ORDER BY seq",
        "SELECT * FROM captures",
        "SELECT * FROM processes ORDER BY upid",
        "SELECT * FROM objects ORDER BY object_id",
        "SELECT * FROM summary",
        "SELECT * FROM page_irf ORDER BY object_id, page",
        "SELECT * FROM mrc ORDER BY pages",
        "SELECT * FROM working_set('100') ORDER BY from_ts",
        "SELECT * FROM hot_files('pid = 101') ORDER BY object_id",
        "SELECT count(*), min(seq), max(seq) FROM cut('500ms', '1s')",
        "SELECT * FROM cut_seq(700, 1200) ORDER BY seq",
        "SELECT seq, page FROM refs WHERE path = '/db/b=1 %' AND pid = 102 ORDER BY seq DESC LIMIT 7",
        "SELECT count(*) FROM refs WHERE pid = 100 AND seq >= 1500",
    ]);
    // Without the last slash and with it, and however the scheme is written.
    let slash = format!("{}/", twice.far);
    let capital = twice.far.replacen("s3", "S3", 1);
    for place in [&slash, &capital] {
        let rows = sql(&[
            place,
            "--format",
            "csv",
            "-c",
            "SELECT count(*) FROM losses",
        ]);
        assert!(rows.ends_with("\n0\n"), "{rows}");
    }
}

#[test]
fn cut_and_filter_write_to_a_store_and_split_does_not() {
    let twice = Twice::new("derived");
    let rows = |place: &str| {
        let all = "SELECT * EXCLUDE (capture_id) FROM refs ORDER BY seq";
        sql(&[place, "--format", "csv", "-c", all])
    };
    let at = |name: &str| twice.bucket.url(name);
    let folder = tempfile::tempdir().unwrap();
    let here = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let ways: [&[&str]; 2] = [
        &["cut", "--seq", "300..1100"],
        &["filter", "--path", "/db/*", "--pid", "101"],
    ];
    for (i, args) in ways.iter().enumerate() {
        // From and to each of the two.
        let name = |way: &str| format!("{way}{i}");
        let results = [
            (&twice.near, here(&name("nn"))),
            (&twice.near, at(&name("nf"))),
            (&twice.far, here(&name("fn"))),
            (&twice.far, at(&name("ff"))),
        ];
        let mut first = None;
        for (from, to) in &results {
            sql(&[args, &[from.as_str(), "--to", to][..]].concat());
            let found = rows(to);
            assert!(found.lines().count() > 1, "{args:?}");
            assert_eq!(*first.get_or_insert(found.clone()), found, "{args:?} {to}");
        }
        let far = &results[3].1;
        let (code, words) = run(ingest(), &["verify", far]);
        assert_eq!(code, 0, "{words}");
        // A place that is taken stays as it is.
        refused(
            &[args, &[&twice.far, "--to", far][..]].concat(),
            &[far, "is not empty"],
        );
    }
    let split = ["split", &twice.far, "--by", "pid", "--to"];
    refused(
        &[&split[..], &[&at("parts")]].concat(),
        &[&at("parts"), "only be written to a local folder"],
    );
    assert!(twice.bucket.list("parts").is_empty(), "nothing was begun");
    let parts = here("parts");
    sql(&[&split[..], &[&parts]].concat());
    let part = format!("{parts}/pid=101");
    let question = "SELECT count(*) FROM refs WHERE pid = 101";
    let count = |place: &str| sql(&[place, "--format", "csv", "-c", question]);
    assert_eq!(count(&part), count(&twice.far));
}

#[test]
fn statements_write_to_and_read_from_stores() {
    let twice = Twice::new("copied");
    let result = twice.bucket.url("out/irf.parquet");
    let copy = format!("COPY (SELECT * FROM page_irf) TO '{result}'");
    let table = format!("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '{result}'");
    let count = "SELECT (SELECT count(*) FROM t) = (SELECT count(*) FROM page_irf) AS same";
    // The dataset is in another store than the result, or in the same.
    for place in [&twice.near, &twice.far] {
        let args = [
            place, "--format", "csv", "-c", &copy, "-c", &table, "-c", count,
        ];
        let words = sql(&args);
        assert!(words.ends_with("same\ntrue\n"), "{words}");
    }
    refused(
        &[&twice.far, "-o", &result, "-c", "SELECT 1"],
        &[&result, "expected a file", "COPY"],
    );
    let copy = "COPY (SELECT 1) TO 's3://nowhere/x.parquet'";
    refused(&[&twice.near, "-c", copy], &["nowhere", "NoSuchBucket"]);
    let copy = "COPY (SELECT 1) TO 'ftp://nowhere/x.parquet'";
    refused(&[&twice.near, "-c", copy], &["ftp://nowhere", "s3://"]);
}

#[test]
fn what_is_not_there_is_said() {
    let twice = Twice::new("missing");
    let ask = |place: &str, because: &[&str]| {
        refused(&[place, "-c", "SELECT 1"], &[&[place], because].concat());
    };
    ask(
        &twice.bucket.url("other"),
        &["not a pgtrace dataset", "no manifest in _pgtrace/manifest/"],
    );
    let no_bucket = [
        "expected a bucket that is there, found none",
        "NoSuchBucket",
    ];
    ask("s3://nowhere/ds", &no_bucket);
    ask("s3:///ds", &["expected a path, or a URL like s3://"]);
    let to = ["cut", &twice.far, "--to", "s3://nowhere/ds"];
    refused(&to, &[&["s3://nowhere/ds"][..], &no_bucket].concat());
    refused(
        &[
            "filter",
            &twice.bucket.url("other"),
            "--to",
            "s3://nowhere/ds",
        ],
        &[&twice.bucket.url("other"), "not a pgtrace dataset"],
    );
    let within = twice.bucket.url("ds/part");
    refused(
        &["cut", &twice.far, "--to", &within],
        &[&within, "lies in the dataset"],
    );
    // A store that stops to answer while rows are read: the file is named.
    let deaf = Proxy::new(
        |_, method, path| match method == "GET" && path.contains("/refs/") {
            true => Fate::Status(503),
            false => Fate::Through,
        },
    );
    let mut asked = command_at(SQL, deaf.at, "1s");
    asked.args([
        &twice.far,
        "-c",
        "SELECT max(page) FROM refs WHERE pid = 100",
    ]);
    let (code, words) = said(asked.output().unwrap());
    assert_eq!(code, 2, "{words}");
    assert!(words.contains("refs/") && words.contains("503"), "{words}");
    assert!(!words.contains(&usize::MAX.to_string()), "{words}");
}
