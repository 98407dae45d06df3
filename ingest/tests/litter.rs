//! Killed runs leave litter, the next run removes it, and nobody's else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Fabric, Random, count, read, run, small};
use pgtrace_ingest::runs::run_of;
use pgtrace_ingest::schema::Table;

fn start(raw: &Path, to: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_pgtrace-ingest"))
        .arg(raw)
        .arg("--to")
        .arg(to)
        .args([
            "--memory",
            "24MiB",
            "--threads",
            "2",
            "--slice-rows",
            "2000",
        ])
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// All files below a folder, which may change meanwhile.
fn all(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|e| e.path());
    paths
        .flat_map(|p| if p.is_dir() { all(&p) } else { vec![p] })
        .collect()
}

/// The dataset's files are those its manifest names, its manifests, and `others`.
fn assert_clean(to: &Path, others: usize) {
    let manifest = read::manifest(to);
    let expected = manifest.known().len() + manifest.version as usize + others;
    assert_eq!(count(to), expected, "{:#?}", all(to));
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args([name, &pid]).status();
    assert!(sent.unwrap().success());
}

/// Waits until a signal has stopped every thread of `child`: `kill` is back before that.
fn stands_still(child: &Child) {
    let tasks = format!("/proc/{}/task", child.id());
    let runs = |task: fs::DirEntry| {
        // A thread that ended meanwhile runs no more. The state is the first word behind the name.
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| !rest.starts_with('T'))
    };
    while fs::read_dir(&tasks)
        .unwrap()
        .any(|task| runs(task.unwrap()))
    {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits for what `child` does; looks on while it runs.
fn wait_for<T>(child: &mut Child, mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(child.try_wait().unwrap().is_none(), "ended too soon");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn killed_runs_leave_nothing_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, to) = (folder.path().join("raw"), folder.path().join("dataset"));
    Fabric::random(1, 2, 60_000, 30, 8).write(&raw);
    let mut random = Random(7);
    let mut littered = 0;
    for trial in 0..12 {
        let before = all(&to.join("_pgtrace/runs"));
        let mut child = start(&raw, &to);
        // From its marker on, or from its first file on: there is much to do after either.
        let own = wait_for(&mut child, || {
            let markers = all(&to.join("_pgtrace/runs"));
            let mut new = markers.into_iter().filter(|m| !before.contains(m));
            Some(new.next()?.file_stem()?.to_str()?.to_string())
        });
        let files = || {
            let of = |path: &PathBuf| path.to_str().is_some_and(|p| p.contains(&own));
            all(&to.join("refs")).into_iter().find(of)
        };
        if trial % 2 == 0 {
            wait_for(&mut child, files);
        }
        std::thread::sleep(Duration::from_millis(random.below(40)));
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "killed before its end");
        littered += usize::from(files().is_some());
    }
    assert!(littered >= 6, "{littered}");
    let report = run(&[raw], &to, &small()).unwrap();
    assert_eq!(read::refs(&to).len(), 60_000, "{report}");
    assert_eq!(report.cleaned.failed, 0);
    assert_clean(&to, 0);
    assert!(
        fs::read_dir(to.join("_pgtrace/runs"))
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn two_live_runs_leave_each_other_alone() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("dataset");
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    Fabric::random(1, 2, 60_000, 30, 8).write(&one);
    Fabric::random(2, 2, 5000, 3, 9).write(&two);
    let mut child = start(&one, &to);
    wait_for(&mut child, || all(&to.join("refs")).pop());
    // It stands still, alive, in the midst of its files.
    signal(&child, "-STOP");
    stands_still(&child);
    let before = all(&to.join("refs"));
    assert_eq!(read::manifest(&to).rows(Table::Refs), 0);
    run(&[two], &to, &small()).unwrap();
    assert!(before.iter().all(|file| file.exists()));
    assert_eq!(read::manifest(&to).rows(Table::Refs), 5000);
    signal(&child, "-CONT");
    assert!(child.wait().unwrap().code() == Some(0));
    assert_eq!(read::refs(&to).len(), 65_000);
    assert_clean(&to, 0);
}

#[test]
fn what_is_removed_and_what_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("dataset");
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    Fabric::random(1, 2, 5000, 3, 8).write(&one);
    Fabric::random(2, 2, 5000, 3, 9).write(&two);
    run(&[one], &to, &small()).unwrap();
    let put = |path: &str| {
        let path = to.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "x").unwrap();
        path
    };
    let dead = [
        "_pgtrace/runs/aaaaaaaaaaaa.json",
        "refs/uid=9/pid=9/slice=000000/12345678-aaaaaaaaaaaa-000000.parquet",
        "refs/uid=9/pid=9/slice=000000/12345678-aaaaaaaaaaaa-000001.parquet#1",
        "marks/12345678-aaaaaaaaaaaa.2.parquet#3",
        "objects/12345678-aaaaaaaaaaaa.parquet",
        "_pgtrace/manifest/00000000000000000003.json#1",
    ]
    .map(put);
    // Of a run without a marker, and of nobody.
    let others = [
        "refs/uid=9/12345678-bbbbbbbbbbbb-000000.parquet",
        "refs/notes.txt",
        "_pgtrace/manifest/README",
    ]
    .map(put);
    // One that a dead run had committed before it died.
    let committed = read::manifest(&to).files(Table::Refs)[0].path.clone();
    put(&format!(
        "_pgtrace/runs/{}.json",
        run_of(&committed).unwrap()
    ));
    run(&[two], &to, &small()).unwrap();
    for path in dead {
        assert!(!path.exists(), "{}", path.display());
    }
    assert!(
        !to.join("refs/uid=9/pid=9").exists(),
        "no empty folder stays"
    );
    for path in &others {
        assert!(path.exists(), "{}", path.display());
    }
    assert_eq!(read::refs(&to).len(), 10_000);
    assert_clean(&to, others.len());
}

#[test]
fn old_manifests_go_and_the_newest_stay() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("dataset");
    let raw = folder.path().join("raw");
    Fabric::random(1, 2, 1000, 3, 8).write(&raw);
    let at_once = pgtrace_ingest::pipeline::Options {
        keep_old: Duration::ZERO,
        ..small()
    };
    run(std::slice::from_ref(&raw), &to, &at_once).unwrap();
    let file = |version: u64| {
        to.join("_pgtrace/manifest")
            .join(format!("{version:020}.json"))
    };
    let text = fs::read_to_string(file(2)).unwrap();
    for version in 3..=150 {
        fs::write(
            file(version),
            text.replace("\"version\": 2", &format!("\"version\": {version}")),
        )
        .unwrap();
    }
    run(std::slice::from_ref(&raw), &to, &small()).unwrap();
    assert!(file(1).exists(), "younger than an hour");
    run(&[raw], &to, &at_once).unwrap();
    let left: Vec<u64> = (1..=150).filter(|&v| file(v).exists()).collect();
    assert_eq!(left, (51..=150).collect::<Vec<_>>());
    assert_eq!(read::refs(&to).len(), 1000);
}
