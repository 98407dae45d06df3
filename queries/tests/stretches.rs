//! A capture worked on in stretches by several threads gives what one thread gives, which the oracles check.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::num::NonZeroUsize;
use std::path::Path;

use common::{Row, reference};
use pgtrace_sql::session::{Options, Session};
use serde_json::json;

/// Enough for three stretches.
const REFS: u64 = 200_000;
const THREADS: usize = 3;

const VIEWS: [&str; 16] = [
    "page_irf",
    "page_irf('pid = 101')",
    "object_irf",
    "irf_histogram",
    "reuse_histogram",
    "mrc",
    "mrc('page % 7 < 3')",
    "mrc_sampled(0.2)",
    "mrc_aet",
    "wss_curve",
    "working_set('1ms')",
    "working_set('70ms', 'pid = 101')",
    "wss_percentiles('3ms')",
    "hot_files",
    "hot_processes",
    "hot_pages",
];

/// Scans, and pages at random; two processes in turns. `apart`: how far pages lie from one another. `back`: where the
/// clock steps back by 2.5 ms.
fn rows(apart: u64, back: &[u64]) -> Vec<Row> {
    let random = |seq: u64| seq.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    let row = |seq: u64| {
        let page = if seq % 5 < 2 {
            seq / 5 % 4000
        } else {
            random(seq) % 9000
        };
        let steps = back.iter().filter(|at| **at <= seq).count() as u64;
        let ts = seq * 1000 + 100_000_000 - steps * 2_500_000;
        reference(&json!({
            "seq": seq, "ts": ts, "pid": if random(seq).is_multiple_of(3) { 101 } else { 100 }, "object_id": 1 + page % 3,
            "path": format!("/data/{}", page % 3), "page": page * apart, "access": if seq.is_multiple_of(4) { "write" } else { "read" },
            "event": if seq.is_multiple_of(9) { "retouch" } else { "fault" }, "major": seq.is_multiple_of(11),
        }))
    };
    (0..REFS).map(row).collect()
}

async fn session(root: &Path, threads: usize) -> Session {
    let options = Options {
        memory: 256 << 20,
        spill_dir: None,
        threads: NonZeroUsize::new(threads).unwrap(),
    };
    let session = common::open_with(root, &options).await;
    // Small files are left as they are otherwise, where large ones may be divided by the planner, too.
    let set = "SET datafusion.optimizer.repartition_file_min_size = 0";
    let set = session.context().sql(set).await.unwrap();
    set.collect().await.unwrap();
    session
}

async fn answer(session: &Session, sql: &str) -> Vec<Vec<String>> {
    let frame = session.context().sql(sql).await.unwrap();
    let mut rows = common::text_rows(&frame.collect().await.unwrap());
    rows.sort();
    rows
}

/// Equal but for the order in which numbers were added up.
fn same(a: &str, b: &str) -> bool {
    a == b
        || match (a.parse::<f64>(), b.parse::<f64>()) {
            (Ok(a), Ok(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()),
            _ => false,
        }
}

async fn compare(root: &Path, pages: &str) {
    let (one, several) = (session(root, 1).await, session(root, THREADS).await);
    let plan = answer(&several, "EXPLAIN SELECT * FROM mrc")
        .await
        .concat()
        .concat();
    assert!(plan.contains(&format!("{THREADS} stretches")), "{plan}");
    assert!(plan.contains(pages), "{plan}");
    let plan = answer(&one, "EXPLAIN SELECT * FROM mrc")
        .await
        .concat()
        .concat();
    assert!(plan.contains("1 stretches"), "{plan}");
    for view in VIEWS {
        let sql = format!("SELECT * FROM {view}");
        let (expected, found) = (answer(&one, &sql).await, answer(&several, &sql).await);
        assert!(!expected.is_empty(), "{view}");
        assert_eq!(expected.len(), found.len(), "{view}");
        for (expected, found) in expected.iter().zip(&found) {
            let equal = expected.iter().zip(found).all(|(a, b)| same(a, b));
            assert!(equal, "{view}:\n{expected:?}\n{found:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stretches_give_what_one_pass_gives() {
    let folder = tempfile::tempdir().unwrap();
    common::dataset(folder.path(), &rows(1, &[]), 5);
    compare(folder.path(), "pages in place").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_far_apart_are_hashed() {
    let folder = tempfile::tempdir().unwrap();
    common::dataset(folder.path(), &rows(1 << 30, &[]), 0);
    compare(folder.path(), "pages hashed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_steps_back_at_a_cut_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let cuts: Vec<u64> = (1..THREADS as u64)
        .map(|i| i * ((REFS - 1) / THREADS as u64))
        .collect();
    common::dataset(folder.path(), &rows(1, &cuts), 0);
    compare(folder.path(), "pages in place").await;
}

/// Several passes take more memory than one: where it does not suffice for them, it does for one.
#[tokio::test(flavor = "multi_thread")]
async fn memory_for_one_pass_suffices() {
    let folder = tempfile::tempdir().unwrap();
    common::dataset(folder.path(), &rows(1 << 30, &[]), 0);
    let misses = "SELECT * FROM _misses('')";
    let (mut answers, mut refusals) = (0, 0);
    for kib in [8192, 4096, 3072, 2048, 1536, 1024, 768, 512] {
        let answer = async |threads| {
            let options = Options {
                memory: kib << 10,
                spill_dir: None,
                threads: NonZeroUsize::new(threads).unwrap(),
            };
            let session = common::open_with(folder.path(), &options).await;
            let frame = session.context().sql(misses).await.unwrap();
            frame
                .collect()
                .await
                .map(|batches| common::text_rows(&batches))
        };
        match answer(1).await {
            Ok(expected) => {
                assert_eq!(answer(THREADS).await.unwrap(), expected, "{kib} KiB");
                answers += 1;
            }
            Err(_) => refusals += 1,
        }
    }
    assert!(answers > 1 && refusals > 0, "{answers} {refusals}");
}
