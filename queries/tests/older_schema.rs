//! Datasets of other versions: an older schema opens, a newer one is refused; and files of several captures.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use common::{Fabricator, Row, batch, open, plain_entry, reference, rows};
use pgtrace_ingest::schema::Table;
use pgtrace_sql::session::{Options, Session};
use serde_json::json;

/// The batch as an older program would have written it: without some columns, others narrower.
fn aged(batch: &RecordBatch, without: &[&str], narrow: &[(&str, DataType)]) -> RecordBatch {
    let schema = batch.schema();
    let kept = schema.fields().iter().zip(batch.columns());
    let kept = kept.filter(|(f, _)| !without.contains(&f.name().as_str()));
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = kept
        .map(|(f, c)| {
            let to = narrow.iter().find(|(name, _)| name == f.name());
            let to = to.map_or(f.data_type(), |(_, to)| to);
            let field = Field::new(f.name(), to.clone(), f.is_nullable());
            (field, cast(c, to).unwrap())
        })
        .unzip();
    assert_eq!(fields.len() + without.len(), batch.num_columns());
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn capture(id: &str, cache_events: u64) -> Row {
    let row = json!({
        "capture_id": id, "boot_id": "b1", "kernel": "6.12.0", "page_size": 4096, "cpus": 1, "level": "full",
        "settings": "{}", "start_ts": 1, "end_ts": 2, "emitted": 9, "refs": 5, "cache_events": cache_events, "lost": 0,
        "chunks": 1, "raw_bytes": 64, "clock_monotonic_ns": 0, "clock_utc_ns": 0,
    });
    row.as_object().unwrap().clone()
}

fn refs_of(id: &str) -> Vec<Row> {
    let row = |i: u64| {
        reference(&json!({"capture_id": id, "seq": i, "page": i, "path": "/f", "major": true}))
    };
    (0..5).map(row).collect()
}

/// c1 in files of an older schema, c2 in files of today's.
fn write(root: &Path) {
    let mut made = Fabricator::new(root);
    let old = batch(Table::Captures, &[capture("c1", 4)]);
    let old = aged(
        &old,
        &["cache_events", "emitted"],
        &[("page_size", DataType::UInt16)],
    );
    made.file(
        Table::Captures,
        "captures/c1.parquet",
        &[old],
        plain_entry("c1"),
    );
    let new = batch(Table::Captures, &[capture("c2", 3)]);
    made.file(
        Table::Captures,
        "captures/c2.parquet",
        &[new],
        plain_entry("c2"),
    );
    let old = aged(&batch(Table::Refs, &refs_of("c1")), &["path", "major"], &[]);
    made.file(Table::Refs, "refs/c1.parquet", &[old], plain_entry("c1"));
    let new = batch(Table::Refs, &refs_of("c2"));
    made.file(Table::Refs, "refs/c2.parquet", &[new], plain_entry("c2"));
    made.commit();
}

#[tokio::test]
async fn what_older_files_lack_is_null_or_its_default() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let session = open(folder.path()).await;
    for (sql, expected) in [
        (
            "SELECT capture_id, cache_events, emitted, page_size FROM captures ORDER BY 1",
            vec![
                vec!["c1", "0", "NULL", "4096"],
                vec!["c2", "3", "9", "4096"],
            ],
        ),
        // Filters are evaluated inside the scan, and prune by statistics that older files have not.
        (
            "SELECT capture_id FROM captures WHERE cache_events = 0",
            vec![vec!["c1"]],
        ),
        (
            "SELECT capture_id FROM captures WHERE cache_events > 0",
            vec![vec!["c2"]],
        ),
        (
            "SELECT capture_id FROM captures WHERE emitted IS NULL",
            vec![vec!["c1"]],
        ),
        (
            "SELECT sum(refs - cache_events), count(emitted) FROM captures",
            vec![vec!["7", "1"]],
        ),
        (
            "SELECT count(*), count(path), count(major) FROM refs",
            vec![vec!["10", "5", "5"]],
        ),
        (
            "SELECT count(*) FROM refs WHERE path = '/f'",
            vec![vec!["5"]],
        ),
        (
            "SELECT count(*) FROM refs WHERE path IS NULL AND capture_id = 'c1'",
            vec![vec!["5"]],
        ),
        ("SELECT count(*) FROM refs WHERE major", vec![vec!["5"]]),
        (
            "SELECT capture_id, refs, cache_events FROM summary ORDER BY 1",
            vec![vec!["c1", "5", "0"], vec!["c2", "2", "3"]],
        ),
    ] {
        assert_eq!(rows(&session, sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn a_column_that_every_version_had_is_missed_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut made = Fabricator::new(folder.path());
    let broken = aged(
        &batch(Table::Captures, &[capture("c1", 4)]),
        &["kernel"],
        &[],
    );
    made.file(
        Table::Captures,
        "captures/c1.parquet",
        &[broken],
        plain_entry("c1"),
    );
    made.commit();
    let session = open(folder.path()).await;
    assert_eq!(rows(&session, "SELECT refs FROM captures").await, [["5"]]);
    let failed = match session.query("SELECT kernel FROM captures").await {
        Ok(stream) => futures::TryStreamExt::try_collect::<Vec<_>>(stream)
            .await
            .unwrap_err()
            .to_string(),
        Err(e) => e.to_string(),
    };
    assert!(failed.contains("kernel"), "{failed}");
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let path = folder
        .path()
        .join("_pgtrace/manifest/00000000000000000001.json");
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    manifest["schema"] = 99.into();
    fs::write(&path, manifest.to_string()).unwrap();
    let Err(error) = Session::open(folder.path().to_str().unwrap(), &Options::default()).await
    else {
        panic!("a newer schema was opened");
    };
    let error = error.to_string();
    for part in [
        "schema version 99",
        "up to",
        "use a newer pgtrace",
        "00000000000000000001.json",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_file_of_several_captures_is_not_pruned_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut made = Fabricator::new(folder.path());
    let both = batch(Table::Captures, &[capture("c1", 1), capture("c2", 2)]);
    made.file(
        Table::Captures,
        "captures/both.parquet",
        &[both],
        plain_entry(""),
    );
    let other = batch(Table::Captures, &[capture("c3", 3)]);
    made.file(
        Table::Captures,
        "captures/c3.parquet",
        &[other],
        plain_entry("c3"),
    );
    made.commit();
    let session = open(folder.path()).await;
    for (id, events) in [("c1", "1"), ("c2", "2"), ("c3", "3")] {
        let sql = format!("SELECT cache_events FROM captures WHERE capture_id = '{id}'");
        assert_eq!(rows(&session, &sql).await, [[events]], "{id}");
    }
    let all = rows(
        &session,
        "SELECT min(capture_id), max(capture_id), count(DISTINCT capture_id) FROM captures",
    )
    .await;
    assert_eq!(all, [["c1", "c3", "3"]]);
}
