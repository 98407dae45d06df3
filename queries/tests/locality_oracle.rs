//! Packages reuse, working_set and relation against brute force, over random reference strings in real datasets of several
//! files that interleave.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{START, batches, numbers, reference, rows as text};
use pgtrace_sql::session::Session;
use proptest::prelude::*;
use serde_json::json;

/// A reference: capture, pid, object, page, and how far the clock moves.
type Step = (u64, u64, u64, u64, i64);

/// One capture's reference string: (seq, ts, pid, object, page).
type Reference = (u64, i64, u64, u64, u64);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (1..=2u64, 100..=102u64, 1..=3u64, 0..6u64, 0i64..40);
    prop::collection::vec(step, 1..150)
}

fn strings(steps: &[Step]) -> BTreeMap<String, Vec<Reference>> {
    let mut strings: BTreeMap<String, Vec<Reference>> = BTreeMap::new();
    for &(capture, pid, object, page, tick) in steps {
        let string = strings.entry(format!("c{capture}")).or_default();
        let ts = string.last().map_or(0, |r| r.1) + tick;
        string.push((string.len() as u64, ts, pid, object, page));
    }
    strings
}

fn write(root: &std::path::Path, strings: &BTreeMap<String, Vec<Reference>>) {
    let row = |capture: &String, &(seq, ts, pid, object, page): &Reference| {
        reference(&json!({
            "capture_id": capture, "seq": seq, "ts": ts, "pid": pid, "object_id": object, "page": page,
            "path": format!("/f{object}"),
        }))
    };
    let rows: Vec<_> = strings
        .iter()
        .flat_map(|(c, s)| s.iter().map(move |r| row(c, r)))
        .collect();
    let mut made = common::Fabricator::new(root);
    made.refs(&rows, 40);
    made.captures(&rows, 3);
    made.commit();
}

/// Distance of each reference, by an LRU stack.
fn distances(string: &[Reference]) -> Vec<Option<u64>> {
    let mut stack: Vec<(u64, u64)> = Vec::new();
    let distance = |r: &Reference| {
        let page = (r.3, r.4);
        let depth = stack.iter().rev().position(|p| *p == page);
        stack.retain(|p| *p != page);
        stack.push(page);
        depth.map(|d| d as u64)
    };
    string.iter().map(distance).collect()
}

/// Misses of an LRU-managed memory of `size` pages, by doing it.
fn simulated(string: &[Reference], size: usize) -> f64 {
    let mut memory: Vec<(u64, u64)> = Vec::new();
    let mut misses = 0;
    for r in string {
        let page = (r.3, r.4);
        let known = memory.len();
        memory.retain(|p| *p != page);
        misses += usize::from(memory.len() == known);
        memory.push(page);
        if memory.len() > size {
            memory.remove(0);
        }
    }
    misses as f64
}

async fn column(session: &Session, sql: &str, name: &str) -> Vec<f64> {
    numbers(&batches(session, sql).await, name)
}

fn close(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(
        found.len(),
        expected.len(),
        "{what}: {found:?} {expected:?}"
    );
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!(
            f.is_nan() && e.is_nan() || (f - e).abs() < 1e-9 * e.abs().max(1.0),
            "{what}, row {i}: {f}, expected {e}"
        );
    }
}

async fn check_capture(session: &Session, capture: &str, condition: &str, string: &[Reference]) {
    let quoted = condition.replace('\'', "''");
    let ask = |view: &str, tail: &str| {
        format!("SELECT * FROM {view} WHERE capture_id = '{capture}' ORDER BY {tail}")
    };
    let of = |name: &str| format!("{name}('{quoted}')");

    let found = column(
        session,
        &ask(&of("reuse_distance"), "seq"),
        "reuse_distance",
    )
    .await;
    let expected: Vec<f64> = distances(string)
        .iter()
        .map(|d| d.map_or(f64::NAN, |d| d as f64))
        .collect();
    close(&found, &expected, "reuse_distance");

    let curve = batches(session, &ask(&of("mrc"), "pages")).await;
    let (sizes, misses, ratios) = (
        numbers(&curve, "pages"),
        numbers(&curve, "misses"),
        numbers(&curve, "miss_ratio"),
    );
    for size in 0..20 {
        let at = sizes.iter().rposition(|s| *s <= f64::from(size));
        let expected = simulated(string, size as usize);
        match at {
            Some(at) => {
                assert_eq!(misses[at], expected, "misses with {size} pages");
                close(
                    &[ratios[at]],
                    &[expected / string.len() as f64],
                    "miss_ratio",
                );
            }
            None => assert!(string.is_empty()),
        }
    }
    close(
        &column(
            session,
            &ask(&format!("mrc_sampled(1, '{quoted}')"), "pages"),
            "miss_ratio",
        )
        .await,
        &ratios,
        "mrc_sampled(1)",
    );

    let mut counted: BTreeMap<Option<u64>, f64> = BTreeMap::new();
    for distance in distances(string) {
        *counted
            .entry(distance.map(|d| if d == 0 { 0 } else { 1 << d.ilog2() }))
            .or_default() += 1.0;
    }
    let mut expected: Vec<f64> = counted
        .iter()
        .filter(|(d, _)| d.is_some())
        .map(|(_, n)| *n)
        .collect();
    expected.extend(counted.get(&None));
    close(
        &column(
            session,
            &ask(&of("reuse_histogram"), "bucket_low NULLS LAST"),
            "refs",
        )
        .await,
        &expected,
        "reuse_histogram",
    );

    let distinct = |part: &[Reference]| {
        part.iter()
            .map(|r| (r.3, r.4))
            .collect::<BTreeSet<_>>()
            .len() as f64
    };
    let curve = batches(session, &ask(&of("wss_curve"), "window_refs")).await;
    let mean = |length: &f64| {
        let window = |t: usize| &string[(t + 1).saturating_sub(*length as usize)..=t];
        (0..string.len()).map(|t| distinct(window(t))).sum::<f64>() / string.len() as f64
    };
    let expected: Vec<f64> = numbers(&curve, "window_refs").iter().map(mean).collect();
    close(&numbers(&curve, "pages"), &expected, "wss_curve");

    let expected: Vec<f64> = string.chunks(7).map(distinct).collect();
    close(
        &column(
            session,
            &ask(&format!("working_set(7, '{quoted}')"), "from_seq"),
            "pages",
        )
        .await,
        &expected,
        "working_set(7)",
    );
    let mut windows: BTreeMap<i64, Vec<Reference>> = BTreeMap::new();
    for r in string {
        windows
            .entry((START + r.1).div_euclid(100))
            .or_default()
            .push(*r);
    }
    let expected: Vec<f64> = windows.values().map(|w| distinct(w)).collect();
    let timed = batches(
        session,
        &ask(&format!("working_set('0.0001ms', '{quoted}')"), "from_seq"),
    )
    .await;
    close(&numbers(&timed, "pages"), &expected, "working_set in ns");
    let whole = string.len() as f64;
    assert_eq!(numbers(&timed, "refs").iter().sum::<f64>(), whole);
    // The example's loss spans the capture.
    assert!(numbers(&timed, "lost").iter().all(|lost| *lost == 3.0));

    let merged: Vec<u64> = string.iter().map(|r| r.3).filter(|o| *o <= 2).collect();
    let switches = merged.windows(2).filter(|w| w[0] != w[1]).count() as f64;
    let sql = format!(
        "SELECT switches, refs_a, refs_b FROM relation('/f1', 2, '{quoted}') WHERE capture_id = '{capture}'"
    );
    let found = batches(session, &sql).await;
    if merged.is_empty() {
        assert!(numbers(&found, "switches").is_empty());
    } else {
        assert_eq!(numbers(&found, "switches"), [switches]);
        let refs = |object: u64| merged.iter().filter(|o| **o == object).count() as f64;
        assert_eq!(
            (numbers(&found, "refs_a"), numbers(&found, "refs_b")),
            (vec![refs(1)], vec![refs(2)])
        );
    }
}

async fn check(steps: &[Step]) {
    let strings = strings(steps);
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &strings);
    let session = common::open(folder.path()).await;
    for (capture, string) in &strings {
        check_capture(&session, capture, "true", string).await;
        let part: Vec<Reference> = string
            .iter()
            .filter(|r| r.2 != 101 && r.3 != 3)
            .copied()
            .collect();
        check_capture(&session, capture, "pid <> 101 AND path <> '/f3'", &part).await;
    }
    // A view is its function without arguments, for all captures.
    let bare = text(&session, "SELECT * FROM mrc").await;
    assert_eq!(bare, text(&session, "SELECT * FROM mrc('true')").await);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5, failure_persistence: None, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn views_equal_brute_force(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(check(&steps));
    }
}

#[tokio::test]
async fn wrong_arguments_say_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &strings(&[(1, 100, 1, 0, 1)]));
    let session = common::open(folder.path()).await;
    let wrong = [
        ("mrc('pid = ')", "condition \"pid = \""),
        ("mrc('pid = 1; DROP TABLE refs')", "behind it"),
        ("mrc('pidd = 1')", "pidd"),
        ("mrc(1)", "condition is of type text, found 1"),
        ("mrc('true', 2)", "at most 1 arguments: mrc([condition])"),
        (
            "mrc_sampled()",
            "mrc_sampled needs rate: mrc_sampled(rate, [condition])",
        ),
        ("mrc_sampled(0)", "a rate is above 0 and at most 1, found 0"),
        ("mrc_sampled('a')", "rate is of type double"),
        ("mrc_fixed(0)", "a sample has 1 to"),
        ("working_set('1 parsec')", "a window is a time"),
        ("working_set(0)", "it would be empty"),
        ("working_set('1.5')", "a window is a time"),
        ("relation_matrix(1)", "a matrix has 2 to"),
        ("relation('/a', '/a')", "found one twice"),
    ];
    for (call, words) in wrong {
        let error = session.query(&format!("SELECT * FROM {call}")).await.err();
        let error = error
            .unwrap_or_else(|| panic!("{call} is taken"))
            .to_string();
        assert!(error.contains(words), "{call}: {error}");
    }
}
