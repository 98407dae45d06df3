//! What RAW may be on this machine: files, folders of folders, patterns, file URLs, standard input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;

use assert_cmd::Command;
use common::{Fabric, read, run, small};

fn program(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgtrace-ingest"));
    command.current_dir(folder).args(args);
    command
}

fn said(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), words)
}

/// Two recordings: `rec/a/*.pgt` and `rec/b/c/*.pgt`, and a file that is none.
fn recordings() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let rec = folder.path().join("rec");
    for (id, place) in [(1, "a"), (2, "b/c")] {
        let mut fabric = Fabric::random(id, 2, 3_000, 2, id as u64);
        (fabric.block, fabric.chunk) = (100, 4);
        fabric.write(&rec.join(place));
    }
    std::fs::write(rec.join("notes.txt"), "not a chunk").unwrap();
    folder
}

#[test]
fn folders_patterns_and_urls_name_the_same_chunks() {
    let folder = recordings();
    let at = folder.path();
    let all = at.join("all");
    run(&[at.join("rec")], &all, &small()).unwrap();
    let rows = read::refs(&all);
    assert_eq!(rows.len(), 6_000);
    let url = format!("file://{}/rec", at.display());
    for (i, raw) in [
        &["rec"][..],
        &["rec/*/"],
        &["rec/a/*.pgt", "rec/b/c/cpu00[01]-*"],
        &["rec/**/*.pgt"],
        &["rec/[ab]"],
        &[url.as_str()],
        &[&format!("{url}/a"), &format!("{url}/b/**/*.pgt")],
    ]
    .iter()
    .enumerate()
    {
        let to = format!("ds{i}");
        let args = [raw, &["--to", &to][..]].concat();
        let (code, words) = said(&mut program(at, &args));
        assert_eq!(code, 0, "{raw:?}: {words}");
        assert!(read::refs(&at.join(to)) == rows, "{raw:?}");
    }
}

#[test]
fn a_name_with_pattern_characters_is_a_name_first() {
    let folder = recordings();
    let at = folder.path();
    std::fs::rename(at.join("rec/a"), at.join("rec/[b]")).unwrap();
    std::fs::rename(at.join("rec/b"), at.join("b")).unwrap();
    let (code, words) = said(&mut program(at, &["rec/[b]", "--to", "ds"]));
    assert_eq!(code, 0, "{words}");
    assert_eq!(read::refs(&at.join("ds")).len(), 3_000);
}

#[test]
fn what_names_nothing_is_told_and_nothing_is_begun() {
    let folder = recordings();
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    for (raw, why) in [
        ("nothing", "nothing: No such file or directory"),
        ("empty", "empty: no raw chunks (*.pgt) in this folder"),
        ("rec/x*", "rec/x*: no file fits this pattern"),
        ("rec/[", "rec/[: not a pattern: at character"),
        (
            "file://rec/a",
            "file://rec/a: a file URL needs an absolute path",
        ),
        (
            "ftp://host/x",
            "ftp://host/x: expected a path, or a URL like s3://",
        ),
        ("s3://bucket/a#b", "s3://bucket/a#b: expected a URL without"),
        (
            "s3://b*/a",
            "s3://b*/a: expected a pattern only behind the bucket",
        ),
    ] {
        let (code, words) = said(&mut program(folder.path(), &[raw, "--to", "ds"]));
        assert!(code == 2 && words.contains(why), "{raw}: {words}");
    }
    assert!(!folder.path().join("ds").exists());
}

#[test]
fn standard_input_is_the_same_as_files() {
    let folder = recordings();
    let at = folder.path();
    let raw = at.join("rec/a");
    run(std::slice::from_ref(&raw), &at.join("local"), &small()).unwrap();
    let mut files: Vec<_> = std::fs::read_dir(&raw)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.sort();
    let chunks: Vec<Vec<u8>> = files.iter().map(|f| std::fs::read(f).unwrap()).collect();

    let temp = tempfile::tempdir().unwrap();
    let mut piped = program(at, &["-", "--to", "piped"]);
    let (code, words) = said(
        piped
            .env("TMPDIR", temp.path())
            .write_stdin(chunks.concat()),
    );
    assert_eq!(code, 0, "{words}");
    assert!(read::refs(&at.join("piped")) == read::refs(&at.join("local")));
    assert!(
        std::fs::read_dir(temp.path()).unwrap().next().is_none(),
        "nothing stays"
    );
    let names = |ds: &str| read::manifest(&at.join(ds)).captures[0].chunks.clone();
    assert_eq!(names("piped"), names("local"));

    // One chunk cut off: its rest is a loss, and the next one is whole. As for files.
    let mut cut = chunks.clone();
    cut[1].truncate(chunks[1].len() * 2 / 3);
    std::fs::write(&files[1], &cut[1]).unwrap();
    run(&[raw], &at.join("cut-local"), &small()).unwrap();
    let (code, words) = said(program(at, &["-", "--to", "cut"]).write_stdin(cut.concat()));
    assert!(code == 1 && words.contains("truncated"), "{words}");
    assert!(read::refs(&at.join("cut")) == read::refs(&at.join("cut-local")));
    assert_eq!(
        read::lost_refs(&at.join("cut")),
        read::lost_refs(&at.join("cut-local"))
    );
    assert!(read::lost_refs(&at.join("cut")) > 0);

    // A header that cannot be used: told by its place; left out, the rest is there.
    let mut bad = chunks.clone();
    bad[2][60] ^= 1;
    let place = format!(
        "standard input from byte {}: byte ",
        chunks[0].len() + chunks[1].len()
    );
    let (code, words) = said(program(at, &["-", "--to", "bad"]).write_stdin(bad.concat()));
    assert!(code == 2 && words.contains(&place), "{words}");
    let (code, words) =
        said(program(at, &["-", "--to", "bad", "--keep-going"]).write_stdin(bad.concat()));
    assert!(code == 1 && words.contains(&place), "{words}");
    assert!(!read::refs(&at.join("bad")).is_empty());
}

#[test]
fn standard_input_that_holds_nothing_or_is_asked_for_twice() {
    let folder = tempfile::tempdir().unwrap();
    for (raw, bytes, why) in [
        (
            &["-"][..],
            &b""[..],
            "standard input: expected raw chunks, found nothing",
        ),
        (
            &["-"],
            b"garbage",
            "standard input from byte 0: byte 0: not a pgtrace chunk",
        ),
        (
            &["-", "-"],
            b"garbage",
            "standard input (-) can be read once only",
        ),
    ] {
        let args = [raw, &["--to", "ds"]].concat();
        let (code, words) = said(program(folder.path(), &args).write_stdin(bytes));
        assert!(code == 2 && words.contains(why), "{words}");
    }
}

#[test]
fn inspect_shows_standard_input() {
    let folder = recordings();
    let chunk = std::fs::read(folder.path().join("rec/a/cpu000-000000.pgt")).unwrap();
    let output = program(folder.path(), &["inspect", "-"])
        .write_stdin(chunk)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.starts_with("chunk standard input from byte 0 capture")
    );
}

#[test]
fn verify_and_inspect_take_what_ingest_takes() {
    let folder = recordings();
    let at = folder.path();
    run(&[at.join("rec")], &at.join("ds"), &small()).unwrap();
    let url = |path: &str| format!("file://{}/{path}", at.display());
    for (inputs, subjects) in [
        (&["rec/*/"][..], 2),
        (&[&url("rec")], 2),
        (&["rec/a/*.pgt", "ds"], 2),
        (&[&url("ds"), &url("rec/b/**/*.pgt")], 2),
    ] {
        let args = [&["verify"][..], inputs].concat();
        let output = program(at, &args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{inputs:?}: {text}");
        let titles = text
            .lines()
            .filter(|l| l.starts_with("recording ") || l.starts_with("dataset "));
        assert_eq!(titles.count(), subjects, "{inputs:?}: {text}");
    }
    let (code, words) = said(&mut program(at, &["verify", "rec/z*"]));
    assert!(code == 2 && words.contains("no file fits"), "{words}");

    let shown = |args: &[&str]| {
        let output = program(at, &[&["inspect"], args].concat())
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let whole = shown(&["rec/a", "--merge"]);
    assert!(whole.lines().filter(|l| l.starts_with("ref ")).count() == 3_000);
    assert!(shown(&["rec/a/*.pgt", "--merge"]) == whole);
    assert!(shown(&[&url("rec/a"), "--merge"]) == whole);
    let mut all = Vec::new();
    for entry in glob::glob(at.join("rec/a/*.pgt").to_str().unwrap()).unwrap() {
        all.extend(std::fs::read(entry.unwrap()).unwrap());
    }
    for (command, args) in [("inspect", &["-", "--merge"][..]), ("verify", &["-"])] {
        let mut piped = program(at, &[&[command], args].concat());
        let output = piped.write_stdin(all.clone()).output().unwrap();
        assert!(output.status.success(), "{command}");
        assert!(command == "verify" || output.stdout == whole.as_bytes());
    }
}

#[test]
fn tables_are_named_as_chunks_are() {
    let folder = recordings();
    let at = folder.path();
    std::fs::create_dir(at.join("t")).unwrap();
    for (name, page) in [("a.csv", 1), ("b.csv", 2)] {
        std::fs::write(at.join("t").join(name), format!("path,page\n/x,{page}\n")).unwrap();
    }
    std::fs::copy(at.join("rec/a/cpu000-000000.pgt"), at.join("t/c.pgt")).unwrap();
    let url = |path: &str| format!("file://{}/{path}", at.display());
    for (i, (args, captures)) in [
        (&["t/*.csv"][..], 2),
        (&["t/[ab].csv", "--from", "csv"], 2),
        (&["t/*"], 3),
        (&[&url("t/a.csv")], 1),
        (&[&url("t/*.csv"), "t/c.pgt"], 3),
        (&["t/*.pgt", "--from", "chunk"], 1),
    ]
    .into_iter()
    .enumerate()
    {
        let to = format!("tables{i}");
        let (code, words) = said(&mut program(at, &[args, &["--to", &to]].concat()));
        assert!(code < 2, "{args:?}: {words}");
        assert_eq!(
            read::manifest(&at.join(to)).captures.len(),
            captures,
            "{args:?}"
        );
    }
    let (code, words) = said(&mut program(at, &["t/*", "--from", "csv", "--to", "none"]));
    assert!(code == 2 && words.contains("c.pgt"), "{words}");
    let (code, words) = said(&mut program(at, &["t/z*", "--from", "csv", "--to", "none"]));
    assert!(code == 2 && words.contains("no file fits"), "{words}");
}
