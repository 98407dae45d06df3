//! The same input again, at the same time, and in another way: never a row twice, never a byte different.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};

use common::{Fabric, count, read, run, small};
use pgtrace_ingest::error::IngestError;
use pgtrace_ingest::manifest::Manifest;
use pgtrace_ingest::pipeline::Options;
use pgtrace_ingest::schema::Table;

fn recording(folder: &Path, id: u128, n: u64) -> (PathBuf, Vec<PathBuf>) {
    let raw = folder.join(format!("raw{id}"));
    let mut fabric = Fabric::random(id, 3, n, 5, id as u64);
    fabric.chunk = 4;
    let chunks = fabric.write(&raw);
    assert!(chunks.len() > 3, "more than one chunk a CPU");
    (raw, chunks)
}

/// Contents of all files the manifest names, in its order, and their folders.
fn contents(dataset: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let manifest = read::manifest(dataset);
    let files = manifest.tables.values().flatten();
    files
        .map(|f| {
            let folder = Path::new(&f.path).parent().unwrap().to_path_buf();
            (folder, std::fs::read(dataset.join(&f.path)).unwrap())
        })
        .collect()
}

#[test]
fn the_same_chunks_again_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, chunks) = recording(folder.path(), 1, 20_000);
    let to = folder.path().join("dataset");
    // The folder and one of its chunks: that chunk counts once.
    let first = run(&[raw.clone(), chunks[0].clone()], &to, &small()).unwrap();
    assert_eq!(first.captures[0].chunks, chunks.len() as u64);
    assert_eq!(first.captures[0].rows, 20_000);
    let before = (read::manifest(&to), contents(&to), count(&to));

    let again = run(&[raw], &to, &small()).unwrap();
    assert_eq!(again.already, chunks.len() as u64);
    assert!(again.captures.is_empty() && !again.has_losses());
    // One chunk of it, under another name.
    let copy = folder.path().join("copy.pgt");
    std::fs::copy(&chunks[1], &copy).unwrap();
    assert_eq!(run(&[copy], &to, &small()).unwrap().already, 1);
    assert_eq!((read::manifest(&to), contents(&to), count(&to)), before);
}

#[test]
fn a_dataset_that_keeps_nothing_of_its_chunks_takes_no_later_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, chunks) = recording(folder.path(), 2, 20_000);
    let to = folder.path().join("dataset");
    let missing = chunks.last().unwrap();
    run(&chunks[..chunks.len() - 1], &to, &small()).unwrap();
    // As an older program left it.
    let newest = to.join("_pgtrace/manifest").join(Manifest::file_name(2));
    let json: String = std::fs::read_to_string(&newest).unwrap();
    let lines = json.lines().map(|line| match line.contains("\"state\"") {
        true => "",
        false => line,
    });
    let json = lines
        .collect::<Vec<_>>()
        .join("\n")
        .replace("\"lost\": 0,", "\"lost\": 0");
    std::fs::write(&newest, json).unwrap();
    let before = (read::manifest(&to), count(&to));
    let error = run(&[raw], &to, &small()).unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, IngestError::PartlyIngested { new: 1, .. }),
        "{text}"
    );
    assert!(
        text.contains(missing.file_name().unwrap().to_str().unwrap()),
        "{text}"
    );
    assert_eq!((read::manifest(&to), count(&to)), before);
}

#[test]
fn another_recording_is_added_and_published_files_stay() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("dataset");
    let (one, _) = recording(folder.path(), 3, 12_000);
    let (two, _) = recording(folder.path(), 4, 13_000);
    run(std::slice::from_ref(&one), &to, &small()).unwrap();
    let before = contents(&to);
    // Both given: the first is in already.
    let report = run(&[one, two], &to, &small()).unwrap();
    assert!(report.already > 0 && report.captures.len() == 1);
    let after = contents(&to);
    assert!(before.iter().all(|file| after.contains(file)));
    let manifest = read::manifest(&to);
    assert_eq!(manifest.version, 3, "empty, and one commit a run");
    assert_eq!(manifest.rows(Table::Refs), 25_000);
    assert_eq!(manifest.rows(Table::Captures), 2);
}

#[test]
fn same_input_same_bytes_whatever_the_threads() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, _) = recording(folder.path(), 5, 60_000);
    let contents_of = |name: &str, threads| {
        let to = folder.path().join(name);
        let options = Options {
            threads,
            slice_rows: Some(10_000),
            max_open_files: 3,
            ..small()
        };
        run(std::slice::from_ref(&raw), &to, &options).unwrap();
        contents(&to)
    };
    let one = contents_of("one", 1);
    assert!(one.len() > 30);
    assert!(one == contents_of("again", 1), "the same run twice");
    assert!(one == contents_of("four", 4), "one thread and four");
}

#[test]
fn runs_at_the_same_time_lose_and_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("dataset");
    let (same, _) = recording(folder.path(), 6, 11_000);
    let (other, _) = recording(folder.path(), 7, 12_000);
    std::thread::scope(|scope| {
        let runs: Vec<_> = [&same, &other, &same, &same]
            .into_iter()
            .map(|raw| scope.spawn(|| run(std::slice::from_ref(raw), &to, &small())))
            .collect();
        for run in runs {
            run.join().unwrap().unwrap();
        }
    });
    let rows = read::refs(&to);
    assert_eq!(rows.len(), 23_000);
    let manifest = read::manifest(&to);
    assert_eq!(manifest.captures.len(), 2);
    // The losers' files are gone: manifests and files named are all there is.
    assert_eq!(
        count(&to),
        manifest.known().len() + manifest.version as usize
    );
}

#[test]
fn a_killed_run_shows_nothing_and_the_next_one_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, to) = (folder.path().join("raw"), folder.path().join("dataset"));
    Fabric::random(8, 2, 100_000, 30, 8).write(&raw);
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_pgtrace-ingest"))
        .arg(&raw)
        .arg("--to")
        .arg(&to)
        .args(["--memory", "24MiB", "--slice-rows", "2000"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Killed as soon as it has begun to write rows: 49 slices are still to come.
    let begun = || to.join("refs").exists() && count(&to) > 1;
    while !begun() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    assert!(
        !child.wait().unwrap().success(),
        "it was killed before its end"
    );
    let manifest = read::manifest(&to);
    assert_eq!((manifest.version, manifest.rows(Table::Refs)), (1, 0));
    assert!(count(&to) > 1, "there is litter, and nobody sees it");

    run(&[raw], &to, &small()).unwrap();
    assert_eq!(read::refs(&to).len(), 100_000);
}
