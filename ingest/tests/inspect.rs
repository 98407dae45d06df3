//! `inspect` against its own plain lines: what a filter shows is what the lines say, whatever the options.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{Fabric, page_ref};
use serde_json::Value;

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/demo")
}

fn inspect(raw: &[PathBuf], options: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_pgtrace-ingest"));
    program.arg("inspect").args(raw).args(options);
    program.output().unwrap()
}

/// Lines of a run that ends well.
fn lines(raw: &[PathBuf], options: &[&str]) -> Vec<String> {
    let out = inspect(raw, options);
    let error = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{options:?}: {error}");
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().map(Into::into).collect()
}

/// The lines of records of plain output, copies left out: they stand in blocks called so.
fn plain(raw: &[PathBuf]) -> Vec<String> {
    let mut copies = false;
    let mut records = Vec::new();
    for line in lines(raw, &[]) {
        match line.split(' ').next().unwrap() {
            "block" => copies = line.starts_with("block repeated"),
            "chunk" | "recording" | "" => {}
            _ if line.starts_with('{') || copies => {}
            _ => records.push(line),
        }
    }
    records
}

fn files() -> Vec<PathBuf> {
    (0..2)
        .map(|cpu| demo().join(format!("cpu00{cpu}-000000.pgt")))
        .collect()
}

/// What stands behind a word of a line.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let mut words = line.split(' ');
    words.find(|w| *w == name)?;
    words.next()
}

/// The number of the object that a line is about; in a line that begins so, the word stands twice.
fn object(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once(' ')?;
    number(rest, "object")
}

/// Says where two lists of lines begin to differ, not all of both.
fn same<A: AsRef<str>, B: AsRef<str>>(shown: &[A], wanted: &[B], what: &str) {
    for (i, (a, b)) in shown.iter().zip(wanted).enumerate() {
        assert_eq!(a.as_ref(), b.as_ref(), "{what}: line {i}");
    }
    assert_eq!(shown.len(), wanted.len(), "{what}");
}

fn number(line: &str, name: &str) -> Option<u64> {
    let text = field(line, name)?;
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[test]
fn filters_show_what_the_lines_say() {
    let all = plain(&files());
    assert_eq!(all.len(), 29_419 + 1532, "as the totals say");
    let kind = |l: &str| l.split(' ').next().unwrap().to_string();
    type Test = Box<dyn Fn(&str) -> bool>;
    let cases: Vec<(Vec<&str>, Test)> = vec![
        (
            vec!["--kind", "process,exit"],
            Box::new(move |l| ["process", "exit"].contains(&kind(l).as_str())),
        ),
        (
            vec!["--pid", "154"],
            Box::new(|l| number(l, "pid") == Some(154)),
        ),
        (
            vec!["--pid", "154,149", "--kind", "ref"],
            Box::new(|l| {
                l.starts_with("ref ") && [Some(149), Some(154)].contains(&number(l, "pid"))
            }),
        ),
        (
            vec!["--tid", "149"],
            Box::new(|l| number(l, "tid") == Some(149)),
        ),
        (
            vec!["--uid", "0", "--kind", "ref"],
            Box::new(|l| l.starts_with("ref ")),
        ),
        (vec!["--uid", "1"], Box::new(|_| false)),
        (vec!["--object", "31"], Box::new(|l| object(l) == Some(31))),
        (
            vec!["--event", "lookup"],
            Box::new(|l| l.starts_with("ref ") && l.contains(" lookup ")),
        ),
        (
            vec!["--event", "fault,lookup"],
            Box::new(|l| l.contains(" lookup ") || l.contains(" fault ")),
        ),
        (
            vec!["--cpu", "1"],
            Box::new(|l| number(l, "cpu") == Some(1)),
        ),
        (
            vec!["--seq", "100:199"],
            Box::new(|l| number(l, "seq").is_some_and(|s| (100..=199).contains(&s))),
        ),
        (
            vec!["--seq", "13000:"],
            Box::new(|l| number(l, "seq").is_some_and(|s| s >= 13000)),
        ),
        (
            vec!["--from", "10844528320", "--to", "10844889190"],
            Box::new(|l| {
                number(l, "time_ns").is_some_and(|t| (10_844_528_320..10_844_889_190).contains(&t))
            }),
        ),
        // The recording begins where its first chunk does.
        (
            vec!["--from", "2s", "--to", "2500ms"],
            Box::new(|l| {
                number(l, "time_ns").is_some_and(|t| {
                    (8_838_545_760 + 2_000_000_000..8_838_545_760 + 2_500_000_000).contains(&t)
                })
            }),
        ),
        (
            vec!["--kind", "ref", "--addr", "0x7fd6cd000000-0x7fd6cd280000"],
            Box::new(|l| {
                l.starts_with("ref ")
                    && number(l, "addr")
                        .is_some_and(|a| (0x7fd6_cd00_0000..0x7fd6_cd28_0000).contains(&a))
            }),
        ),
    ];
    for (options, test) in cases {
        let wanted: Vec<&String> = all.iter().filter(|l| test(l)).collect();
        let shown = lines(&files(), &options);
        same(&shown, &wanted, &format!("{options:?}"));
        // Something to be seen, but for the user that is nobody.
        assert!(!wanted.is_empty() || options[1] == "1", "{options:?}");
    }
    // Mappings that overlap the addresses.
    let overlaps = |l: &str| {
        let area = l.split(' ').find_map(|w| {
            let (a, b) = w.strip_prefix("0x")?.split_once("-0x")?;
            let hex = |text| u64::from_str_radix(text, 16).ok();
            hex(a).zip(hex(b))
        });
        l.starts_with("mapping ") && area.is_some_and(|(a, b)| a < 0x40_2000 && b > 0x40_1fff)
    };
    let wanted: Vec<&String> = all.iter().filter(|l| overlaps(l)).collect();
    let area = ["--kind", "mapping", "--addr", "0x401fff-0x402000"];
    same(&lines(&files(), &area), &wanted, "--addr");
    assert!(!wanted.is_empty());
    let none = lines(
        &files(),
        &[
            "--kind",
            "mapping",
            "--addr",
            "0x485000-0x485001",
            "--object",
            "31",
        ],
    );
    assert!(none.is_empty());
}

#[test]
fn paths_name_objects() {
    let all = plain(&files());
    let objects: BTreeSet<u64> = all
        .iter()
        .filter(|l| l.starts_with("object ") && l.contains("Some(\"/data/"))
        .filter_map(|l| object(l))
        .collect();
    let wanted: Vec<&String> = all
        .iter()
        .filter(|l| l.starts_with("ref ") && object(l).is_some_and(|o| objects.contains(&o)))
        .collect();
    let shown = lines(&[demo()], &["--path", "/data/*", "--kind", "ref"]);
    same(&shown, &wanted, "--path");
    assert!(wanted.len() > 10_000);
    let named = lines(
        &[demo()],
        &["--path", "*sort.tmp", "--kind", "ref", "--names"],
    );
    // As README.md's answer says.
    assert_eq!(named.len(), 2080);
    assert!(
        named
            .iter()
            .all(|l| l.ends_with(" comm \"db-sort\" path \"/data/sort.tmp\"")),
        "{}",
        named[0]
    );
}

#[test]
fn merged_is_the_same_in_order_of_time() {
    let mut wanted = plain(&files());
    let key = |l: &String| (number(l, "time_ns").unwrap(), number(l, "cpu").unwrap());
    let shown = lines(&[demo()], &["--merge"]);
    assert!(shown.is_sorted_by_key(key));
    // A channel's own order stays.
    let of = |lines: &[String], cpu| -> Vec<String> {
        let refs = lines
            .iter()
            .filter(|l| l.starts_with("ref ") && number(l, "cpu") == Some(cpu));
        refs.cloned().collect()
    };
    assert_eq!(of(&shown, 1), of(&wanted, 1));
    let mut sorted = shown.clone();
    sorted.sort();
    wanted.sort();
    assert_eq!(sorted, wanted);
    assert_eq!(lines(&[demo()], &["--merge", "--limit", "7"]), shown[..7]);

    // Many blocks and chunks, repeated names, CPUs that take turns.
    let folder = tempfile::tempdir().unwrap();
    let mut fabric = Fabric::random(3, 3, 5000, 3, 9);
    (fabric.block, fabric.chunk) = (100, 4);
    fabric.write(folder.path());
    let raw = [folder.path().to_path_buf()];
    let mut shown = lines(&raw, &["--merge"]);
    assert!(shown.is_sorted_by_key(key));
    shown.sort();
    let mut wanted = plain(&raw);
    wanted.sort();
    assert_eq!(shown, wanted);
}

#[test]
fn ndjson_says_what_the_lines_say() {
    let all = plain(&files());
    let shown = lines(&files(), &["--format", "ndjson"]);
    assert_eq!(shown.len(), all.len());
    for (json, line) in shown.iter().zip(&all) {
        let json: Value = serde_json::from_str(json).unwrap();
        assert_eq!(json["kind"], line.split(' ').next().unwrap());
        for (key, name) in [
            ("cpu", "cpu"),
            ("seq", "seq"),
            ("time_ns", "time_ns"),
            ("pid", "pid"),
            ("object_id", "object"),
            ("page", "page"),
        ] {
            if let Some(n) = number(line, name) {
                assert_eq!(json[key].as_u64(), Some(n), "{key}: {json} {line}");
            }
        }
        if json["kind"] == "ref" {
            let (addr, ip) = (
                number(line, "addr").filter(|a| *a != 0),
                number(line, "ip").filter(|a| *a != 0),
            );
            assert_eq!(
                (json["addr"].as_u64(), json["ip"].as_u64()),
                (addr, ip),
                "{line}"
            );
            assert!(line.contains(&format!(" {} ", json["event"].as_str().unwrap())));
            assert!(json["comm"].is_string());
        }
    }
}

#[test]
fn a_folder_has_a_head() {
    let shown = lines(&[demo()], &["--summary"]);
    let text = shown.join("\n");
    for words in [
        "recording 7524c27e-509e-46ec-9055-cd0a8b6337f9",
        "kernel 6.1.0-56-amd64",
        "2 of CPUs 0,1, 2.0 MB",
        "\"clean_ms\":100",
        "refs channel 29,419 emitted 0 lost; names channel 1,532 emitted 0 lost; ended by command (exit 0)",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for line in plain(&files()) {
        *counts
            .entry(line.split(' ').next().unwrap().into())
            .or_default() += 1;
    }
    let json = lines(&[demo()], &["--summary", "--format", "ndjson"]);
    assert_eq!(json.len(), 1);
    let json: Value = serde_json::from_str(&json[0]).unwrap();
    assert_eq!(json["records"], serde_json::to_value(&counts).unwrap());
    // Then all of it follows; a file has no head.
    let whole = lines(&[demo()], &[]);
    assert_eq!(whole[..shown.len()], shown);
    assert_eq!(whole[shown.len()..], lines(&files(), &[]));
    assert!(lines(&files(), &[])[0].starts_with("chunk "));
}

#[test]
fn damage_ends_with_1_whatever_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = Fabric::random(3, 1, 500, 3, 9)
        .write(folder.path())
        .remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() - 9000;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    for options in [
        &[][..],
        &["--summary"],
        &["--merge"],
        &["--format", "ndjson"],
        &["--kind", "ref"],
    ] {
        let out = inspect(&[folder.path().into()], options);
        assert_eq!(out.status.code(), Some(1), "{options:?}");
        assert!(
            String::from_utf8_lossy(&out.stdout).contains("damage"),
            "{options:?}"
        );
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut fabric = Fabric::new(4, 1);
    (0..20_000).for_each(|i| fabric.cpus[0].push_ref(page_ref(1000 + i, 1, 1, i)));
    fabric.write(folder.path());
    let program = env!("CARGO_BIN_EXE_pgtrace-ingest");
    for options in ["", "--merge", "--format ndjson", "--kind ref", "--names"] {
        let raw = folder.path().display();
        let script = format!("set -o pipefail; {program} inspect {raw} {options} | head -1");
        let out = Command::new("bash").args(["-c", &script]).output().unwrap();
        let error = String::from_utf8_lossy(&out.stderr);
        assert_eq!(
            (out.status.code(), error.as_ref()),
            (Some(0), ""),
            "{options}"
        );
    }
}

#[test]
fn values_that_cannot_be_are_refused_clearly() {
    for (options, words) in [
        (["--kind", "refs"], "expected one of ref, process"),
        (
            ["--event", "faults"],
            "expected one of fault, retouch, lookup, insert, evict, found \"faults\"",
        ),
        (["--pid", "x"], "invalid value 'x' for '--pid <N>'"),
        (
            ["--addr", "0x2000-0x1000"],
            "expected a first address below the second",
        ),
        (
            ["--addr", "5"],
            "expected two addresses like 0x7f0000000000-0x7f0000010000, found \"5\"",
        ),
        (
            ["--from", "2 parsecs"],
            "expected a time after the start like 2s or 500ms",
        ),
        (
            ["--seq", "9:5"],
            "expected a first number that is not above the second",
        ),
        (["--cpu", "70000"], "70000"),
        (["--limit", "many"], "--limit"),
    ] {
        let out = inspect(&files(), &options);
        let error = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{options:?}: {error}");
        assert!(error.contains(words), "{options:?}: {error}");
        assert!(out.stdout.is_empty());
    }
}
