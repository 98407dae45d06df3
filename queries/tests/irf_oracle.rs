//! Package irf against brute force, over random reference strings in real datasets of several files.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;

use common::{Row, batches, numbers, reference, text_rows};
use pgtrace_sql::session::Session;
use proptest::prelude::*;
use serde_json::json;

const EVENTS: [&str; 5] = ["fault", "retouch", "lookup", "insert", "evict"];

/// One record: capture, pid, object, page, event, and how far the clock moves (it may step back).
type Step = (u64, u64, u64, u64, usize, i64);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (
        1..=2u64,
        100..=102u64,
        1..=3u64,
        0..4u64,
        0..EVENTS.len(),
        -5i64..200,
    );
    prop::collection::vec(step, 1..120)
}

/// Rows of `refs`, their seq dense within each capture.
fn rows(steps: &[Step]) -> Vec<Row> {
    let mut next: BTreeMap<u64, (u64, i64)> = BTreeMap::new();
    let row = |&(capture, pid, object, page, event, tick): &Step| {
        let (seq, ts) = next.entry(capture).or_insert((0, 1000));
        *ts += tick;
        let row = reference(&json!({
            "capture_id": format!("c{capture}"), "seq": *seq, "ts": *ts, "pid": pid, "object_id": object,
            "path": if object == 3 { None } else { Some(format!("/f{object}")) },
            "page": page, "event": EVENTS[event],
        }));
        *seq += 1;
        row
    };
    steps.iter().map(row).collect()
}

/// (capture, object, page) to the seq and ts of its references.
type Pages = BTreeMap<Page, References>;
type Page = (String, u64, u64);
type References = Vec<(u64, i64)>;

fn pages(rows: &[Row]) -> Pages {
    let mut pages = Pages::new();
    for row in rows
        .iter()
        .filter(|r| ["fault", "retouch", "lookup"].contains(&r["event"].as_str().unwrap()))
    {
        let number = |name: &str| row[name].as_u64().unwrap();
        let key = (
            row["capture_id"].as_str().unwrap().to_owned(),
            number("object_id"),
            number("page"),
        );
        pages
            .entry(key)
            .or_default()
            .push((number("seq"), row["ts"].as_i64().unwrap()));
    }
    pages
}

/// gap_mean, irf_rate, irf_mean_inverse, irf_readme of gaps.
fn figures(gaps: &[f64]) -> [f64; 4] {
    let count = gaps.len() as f64;
    let sum: f64 = gaps.iter().sum();
    let inverse: f64 = gaps.iter().map(|d| 1.0 / d).sum();
    [
        sum / count,
        count / sum,
        inverse / count,
        inverse / (count + 1.0),
    ]
}

/// The eight figures of a page, first by seq and then by ns.
fn page_figures(references: &[(u64, i64)]) -> Vec<f64> {
    let by_seq: Vec<f64> = references
        .windows(2)
        .map(|w| (w[1].0 - w[0].0) as f64)
        .collect();
    let by_ns: Vec<f64> = references
        .windows(2)
        .map(|w| (w[1].1 - w[0].1).max(1) as f64)
        .collect();
    [figures(&by_seq), figures(&by_ns)].concat()
}

const FIGURES: [&str; 8] = [
    "gap_mean",
    "irf_rate",
    "irf_mean_inverse",
    "irf_readme",
    "gap_mean_ns",
    "irf_rate_ns",
    "irf_mean_inverse_ns",
    "irf_readme_ns",
];

fn close(found: f64, expected: f64) -> bool {
    found.is_nan() && expected.is_nan()
        || (found - expected).abs() <= 1e-9 * expected.abs().max(1.0)
}

/// Compares the named columns of a result with `expected`, one row each.
async fn compare(session: &Session, sql: &str, columns: &[String], expected: &[Vec<f64>]) {
    let result = batches(session, sql).await;
    for (i, name) in columns.iter().enumerate() {
        let found = numbers(&result, name);
        assert_eq!(found.len(), expected.len(), "rows of {sql}");
        for (row, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!(
                close(*found, expected[i]),
                "{name} in row {row}: {found}, expected {}",
                expected[i]
            );
        }
    }
}

async fn check(steps: &[Step]) {
    let rows = rows(steps);
    let folder = tempfile::tempdir().unwrap();
    let mut made = common::Fabricator::new(folder.path());
    made.refs(&rows, 25); // several files a capture and process
    made.captures(&rows, 9);
    made.commit();
    let session = common::open(folder.path()).await;
    let pages = pages(&rows);
    let again: BTreeMap<_, _> = pages.iter().filter(|(_, r)| r.len() >= 2).collect();

    let sql = "SELECT * FROM page_irf ORDER BY capture_id, object_id, page";
    let columns = ["object_id", "page", "refs"]
        .iter()
        .chain(&FIGURES)
        .map(|c| (*c).to_owned())
        .collect::<Vec<_>>();
    let expected: Vec<Vec<f64>> = again
        .iter()
        .map(|((_, object, page), r)| {
            [
                vec![*object as f64, *page as f64, r.len() as f64],
                page_figures(r),
            ]
            .concat()
        })
        .collect();
    compare(&session, sql, &columns, &expected).await;
    let paths = text_rows(
        &batches(
            &session,
            "SELECT DISTINCT object_id, path FROM page_irf ORDER BY 1",
        )
        .await,
    );
    for row in paths {
        assert_eq!(
            row[1],
            if row[0] == "3" {
                "NULL".to_owned()
            } else {
                format!("/f{}", row[0])
            }
        );
    }

    check_objects(&session, &pages).await;
    check_histogram(&session, &again).await;
}

async fn check_objects(session: &Session, pages: &Pages) {
    let mut objects: BTreeMap<(&str, u64), Vec<&References>> = BTreeMap::new();
    for ((capture, object, _), references) in pages {
        objects
            .entry((capture, *object))
            .or_default()
            .push(references);
    }
    let mut columns: Vec<String> = ["pages", "pages_once", "refs", "lost"]
        .map(str::to_owned)
        .to_vec();
    columns.extend(
        FIGURES
            .iter()
            .flat_map(|f| [(*f).to_owned(), format!("{f}_weighted")]),
    );
    let expected = objects.values().map(|of| {
        let again: Vec<_> = of.iter().filter(|r| r.len() >= 2).collect();
        let refs: usize = of.iter().map(|r| r.len()).sum();
        let mut row = vec![
            of.len() as f64,
            (of.len() - again.len()) as f64,
            refs as f64,
            9.0,
        ];
        for i in 0..FIGURES.len() {
            let figures: Vec<(f64, f64)> = again
                .iter()
                .map(|r| (page_figures(r)[i], r.len() as f64))
                .collect();
            let weights: f64 = figures.iter().map(|(_, w)| w).sum();
            row.push(figures.iter().map(|(f, _)| f).sum::<f64>() / figures.len() as f64);
            row.push(figures.iter().map(|(f, w)| f * w).sum::<f64>() / weights);
        }
        row
    });
    let expected: Vec<Vec<f64>> = expected.collect();
    compare(
        session,
        "SELECT * FROM object_irf ORDER BY capture_id, object_id",
        &columns,
        &expected,
    )
    .await;
}

async fn check_histogram(session: &Session, again: &BTreeMap<&Page, &References>) {
    let mut buckets: BTreeMap<(&str, u64, i32), f64> = BTreeMap::new();
    for ((capture, object, _), references) in again {
        let gap = page_figures(references)[0];
        let magnitude = (0..64).find(|k| gap < 2f64.powi(k + 1)).unwrap();
        *buckets.entry((capture, *object, magnitude)).or_default() += 1.0;
    }
    let columns = [
        "object_id",
        "bucket_low",
        "bucket_high",
        "gap_low",
        "gap_high",
        "pages",
        "lost",
    ];
    let expected: Vec<Vec<f64>> = buckets
        .iter()
        .map(|((_, object, k), pages)| {
            let k = *k;
            vec![
                *object as f64,
                0.5f64.powi(k + 1),
                0.5f64.powi(k),
                2f64.powi(k),
                2f64.powi(k + 1),
                *pages,
                9.0,
            ]
        })
        .collect();
    let sql = "SELECT * FROM irf_histogram ORDER BY capture_id, object_id, gap_low";
    compare(session, sql, &columns.map(str::to_owned), &expected).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn package_irf_equals_brute_force(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(check(&steps));
    }
}
