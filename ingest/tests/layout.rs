//! The folders of a new dataset where nobody says which: those that its first recordings ask for, for good.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Fabric, read};
use pgtrace_ingest::manifest::PartitionKey::{self, Pid, Slice, Uid};
use pgtrace_ingest::schema::Table;

/// Ingests with the program; gives the dataset's folders and what was said.
fn ingest(raw: &[&Path], to: &Path, options: &[&str]) -> (Vec<PartitionKey>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgtrace-ingest"));
    command.args(raw).arg("--to").arg(to).args(options);
    let out = command.output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    let refused = said.contains("keeps its layout");
    assert_eq!(out.status.success(), !refused, "{said}");
    (read::manifest(to).partition_by, said)
}

fn folders(dataset: &Path) -> Vec<PathBuf> {
    let manifest = read::manifest(dataset);
    let files = manifest.files(Table::Refs).iter();
    files
        .map(|f| PathBuf::from(&f.path).parent().unwrap().to_path_buf())
        .collect()
}

#[test]
fn very_many_processes_get_no_folders_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (few, many) = (at("raw/few"), at("raw/many"));
    Fabric::random(1, 2, 2_000, 256, 3).write(&few);
    Fabric::random(2, 2, 2_000, 257, 4).write(&many);

    let (to, as_asked) = (at("few"), at("as-asked"));
    assert_eq!(ingest(&[&few], &to, &[]).0, [Uid, Pid, Slice]);
    assert!(folders(&to).len() > 200);
    let asked = ingest(&[&many], &as_asked, &["--partition-by", "uid,pid,slice"]);
    assert_eq!(asked.0, [Uid, Pid, Slice]);
    // It is fixed, whatever comes later.
    let auto = ["--partition-by", "auto"];
    assert_eq!(ingest(&[&many], &to, &auto).0, [Uid, Pid, Slice]);

    let to = at("many");
    assert_eq!(ingest(&[&many], &to, &auto).0, [Uid, Slice]);
    assert_eq!(folders(&to), [Path::new("refs/uid=1000/slice=000000")]);
    assert_eq!(read::refs(&to), read::refs(&as_asked));
    assert_eq!(ingest(&[&few], &to, &[]).0, [Uid, Slice]);
    let (_, said) = ingest(&[&few], &to, &["--partition-by", "uid,pid,slice"]);
    assert!(said.contains("partitioned by uid,slice"), "{said}");

    // One of several recordings is enough, wherever it stands.
    for (name, raw) in [("first", [&*many, &*few]), ("last", [&*few, &*many])] {
        assert_eq!(ingest(&raw, &at(name), &[]).0, [Uid, Slice], "{name}");
        assert_eq!(read::manifest(&at(name)).rows(Table::Refs), 4_000);
    }
}

#[test]
fn keys_that_are_none_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("raw");
    Fabric::random(1, 1, 10, 1, 3).write(&raw);
    for keys in ["comm", "uid,auto", ""] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgtrace-ingest"));
        command.arg(&raw).arg("--to").arg(folder.path().join("to"));
        let out = command.args(["--partition-by", keys]).output().unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{keys:?}: {said}");
        assert!(said.contains("some of uid,pid,slice"), "{keys:?}: {said}");
    }
}
