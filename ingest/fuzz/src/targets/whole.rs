//! A recording through the whole pipeline into a dataset, twice.

use pgtrace_ingest::manifest::Manifest;
use pgtrace_ingest::pipeline::{Options, ingest};
use pgtrace_ingest::schema::Table;

use super::plan::plan;
use super::recording::write;

/// Values as odd as they may be become rows, and as many as were read.
pub(super) fn ingested(data: &[u8]) {
    let chunks = plan(data);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let paths = write(&chunks, folder.path());
    let dataset = folder.path().join("dataset");
    let to = dataset.to_str().expect("a path that is text");
    let options = Options {
        memory: 64 << 20,
        threads: 1,
        slice_rows: Some(64),
        ..Options::default()
    };
    let report = ingest(&paths, to, &options, &|_| {}).expect("damage is no error");
    let [capture] = &report.captures[..] else {
        panic!("one recording: {}", report.captures.len());
    };
    assert!(!report.to_string().is_empty());
    let newest = format!("_pgtrace/manifest/{}", Manifest::file_name(2));
    let json = std::fs::read(dataset.join(newest)).expect("the first commit's manifest");
    let manifest = Manifest::from_json(&json).expect("a good manifest");
    assert_eq!(manifest.rows(Table::Refs), capture.rows);
    assert_eq!(manifest.rows(Table::Captures), 1);
    for file in manifest.tables.values().flatten() {
        let meta = std::fs::metadata(dataset.join(&file.path)).expect("a file of the dataset");
        assert_eq!(meta.len(), file.bytes, "{}", file.path);
    }
    let again = ingest(&paths, to, &options, &|_| {}).expect("the same once more");
    assert_eq!(
        (again.already, again.captures.len()),
        (chunks.len() as u64, 0)
    );
}
