//! Markers in an object store: alive while renewed, and never two minds about who is dead.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use futures::TryStreamExt;
use object_store::{ObjectStoreExt, PutPayload};

use super::*;
use crate::manifest::{FileEntry, RetiredFile};
use crate::schema::Table;

/// Times a thousandth of the real ones.
const PACE: Pace = Pace {
    renew: Duration::from_millis(30),
    dead: Duration::from_millis(600),
};

/// A dataset in memory: clones share it.
async fn dataset() -> Dataset {
    let new = Manifest::new(Vec::new(), 100);
    Dataset::create_or_open("memory:///a/b", new).await.unwrap()
}

async fn begin(dataset: &mut Dataset, pace: Pace) -> (Marker, Cleaned) {
    Marker::begin_at(dataset, "test", KEEP_OLD, pace)
        .await
        .unwrap()
}

async fn put(dataset: &Dataset, path: &str) {
    let at = dataset.path(path);
    dataset
        .store()
        .put(&at, PutPayload::from_static(b"x"))
        .await
        .unwrap();
}

async fn exists(dataset: &Dataset, path: &str) -> bool {
    dataset.store().head(&dataset.path(path)).await.is_ok()
}

fn entry(path: &str) -> FileEntry {
    FileEntry {
        path: path.into(),
        bytes: 1,
        rows: 1,
        capture_id: "c".into(),
        seq: None,
        ts: None,
        uid: None,
        pid: None,
        objects: Vec::new(),
        events: Vec::new(),
    }
}

/// A pace at which a marker is not renewed, as if its run had been killed or slept.
fn asleep() -> Pace {
    Pace {
        renew: Duration::from_secs(3600),
        ..PACE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_marker_is_alive_and_a_silent_one_is_dead() {
    let mut data = dataset().await;
    let (alive, _) = begin(&mut data, PACE).await;
    let (silent, _) = begin(&mut data, asleep()).await;
    let file = |m: &Marker| format!("refs/uid=1/{}-000000.parquet", m.file_name("c-a/pture"));
    let (ours, dead, committed) = (file(&alive), file(&silent), file(&silent));
    for path in [&ours, &dead, &committed] {
        put(&data, path).await;
    }
    let mut next = data.manifest().next();
    next.tables.insert(Table::Refs, vec![entry(&committed)]);
    silent.commit(&mut data, next).await.unwrap();
    tokio::time::sleep(PACE.dead + Duration::from_millis(300)).await;

    let (third, cleaned) = begin(&mut data, PACE).await;
    assert_eq!(
        (cleaned.dead_runs, cleaned.litter, cleaned.failed),
        (1, 1, 0)
    );
    assert!(exists(&data, &ours).await && exists(&data, &committed).await);
    assert!(!exists(&data, &dead).await);
    // The one that slept finds out before it does harm.
    let next = data.manifest().next();
    let error = silent.commit(&mut data, next).await.unwrap_err();
    assert!(
        matches!(error, DatasetError::TakenForDead { .. }),
        "{error}"
    );
    let next = data.manifest().next();
    alive.commit(&mut data, next).await.unwrap();
    for marker in [alive, third, silent] {
        marker.end().await;
    }
    let left = data.store().list(Some(&data.path(FOLDER)));
    assert_eq!(left.try_collect::<Vec<_>>().await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_commits_in_time_cannot_be_taken_for_dead() {
    let mut data = dataset().await;
    let (sleeper, _) = begin(&mut data, asleep()).await;
    tokio::time::sleep(PACE.dead + Duration::from_millis(300)).await;
    // It wakes and renews first: whoever looked before, looks at an old version of the marker.
    let next = data.manifest().next();
    sleeper.commit(&mut data, next).await.unwrap();
    let (other, cleaned) = begin(&mut data, PACE).await;
    assert_eq!(cleaned.dead_runs, 0);
    sleeper.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_takes_a_dead_marker() {
    let mut data = dataset().await;
    let (dead, _) = begin(&mut data, asleep()).await;
    tokio::time::sleep(PACE.dead + Duration::from_millis(300)).await;
    // It stays in the store: a killed run does not end.
    drop(dead);
    let (mut one, mut two) = (data.clone(), data.clone());
    let (a, b) = tokio::join!(begin(&mut one, PACE), begin(&mut two, PACE));
    assert_eq!(a.1.dead_runs + b.1.dead_runs, 1);
    let (_, later) = begin(&mut data, PACE).await;
    assert_eq!(later.dead_runs, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_takes_its_files_away() {
    let mut data = dataset().await;
    let (marker, _) = begin(&mut data, PACE).await;
    let path = format!("objects/{}.parquet", marker.file_name(""));
    put(&data, &path).await;
    put(&data, "objects/other.parquet").await;
    marker.abandon(&mut data).await;
    assert!(!exists(&data, &path).await);
    assert!(exists(&data, "objects/other.parquet").await);
    let left = data.store().list(Some(&data.path(FOLDER)));
    assert_eq!(left.try_collect::<Vec<_>>().await.unwrap().len(), 0);
}

#[tokio::test]
async fn retired_files_go_and_what_is_named_stays() {
    let mut data = dataset().await;
    for path in ["refs/old", "refs/young", "refs/named"] {
        put(&data, path).await;
    }
    let now = cleanup::now();
    let retired = |path: &str, since| RetiredFile {
        path: path.into(),
        bytes: 1,
        since,
    };
    let mut next = data.manifest().next();
    next.tables.insert(Table::Refs, vec![entry("refs/named")]);
    next.retired = vec![
        retired("refs/old", now - 7200),
        retired("refs/young", now - 60),
        // A clock that was set back.
        retired("refs/future", now + 7200),
        // No program writes this; if one did, what is named must stay.
        retired("refs/named", now - 7200),
        // Removed by a run that did not come to say so.
        retired("refs/gone", now - 7200),
    ];
    data.commit(next).await.unwrap();
    let (_marker, cleaned) = begin(&mut data, PACE).await;
    assert_eq!(cleaned.retired, 2);
    assert!(!exists(&data, "refs/old").await);
    assert!(exists(&data, "refs/young").await && exists(&data, "refs/named").await);
    let left = data.manifest().retired.iter().map(|r| r.path.as_str());
    assert_eq!(
        left.collect::<Vec<_>>(),
        ["refs/young", "refs/future", "refs/named"]
    );
}

#[tokio::test]
async fn an_answer_that_was_lost_is_no_conflict() {
    let mut data = dataset().await;
    let mut again = data.clone();
    let mut next = data.manifest().next();
    next.tables
        .insert(Table::Refs, vec![entry("refs/a-run-000000.parquet")]);
    data.commit(next.clone()).await.unwrap();
    // The same put again, as a client does that never heard of the first.
    again.commit(next.clone()).await.unwrap();
    next.tables.clear();
    let error = again.commit(next).await.unwrap_err();
    assert!(matches!(error, DatasetError::Conflict { .. }));
}

#[test]
fn whose_a_file_is() {
    for (path, run) in [
        ("refs/uid=1/12345678-abc-000001.parquet", Some("abc")),
        ("refs/uid=1/12345678-abc.3-000001.parquet#2", Some("abc")),
        ("marks/12345678-abc.parquet", Some("abc")),
        ("marks/12345678-abc.2.parquet", Some("abc")),
        ("notes.txt", None),
        ("a-.parquet", None),
        ("", None),
    ] {
        assert_eq!(run_of(path), run, "{path}");
    }
}
