//! What `export` writes: that no view is forgotten, and that texts for DuckDB are called as ours are. Answers are compared in
//! real engines: `notebooks/test_exports.py`.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::Path;

use pgtrace_ingest::dataset::Dataset;
use pgtrace_ingest::schema::Table;
use pgtrace_sql::export::{delta, duckdb};
use pgtrace_sql::views;
use serde_json::{Value, json};

async fn dataset(folder: &Path) -> Dataset {
    let rows: Vec<_> = (0..4)
        .map(|i| common::reference(&json!({"seq": i, "page": i, "path": "/a"})))
        .collect();
    common::dataset(folder, &rows, 0);
    Dataset::open(folder.to_str().unwrap()).await.unwrap()
}

#[tokio::test]
async fn every_view_is_in_the_script_or_in_the_list() {
    let folder = tempfile::tempdir().unwrap();
    let script = duckdb::script(&dataset(folder.path()).await).unwrap();
    for view in views::all().unwrap() {
        let name = &view.name;
        let created = |kind: &str| script.contains(&format!("CREATE OR REPLACE {kind} {name}"));
        let excepted = duckdb::NOT_REACHED
            .iter()
            .any(|(n, why)| n == name && !why.is_empty());
        let in_script = created("MACRO") || created("VIEW");
        assert!(
            in_script != excepted,
            "{name}: in the script: {in_script}, in NOT_REACHED: {excepted}"
        );
        if in_script && !view.arguments.is_empty() {
            let arguments = view.arguments.iter().map(|a| match &a.default {
                Some(default) => format!("\"{}\" := {default}", a.name),
                None => format!("\"{}\"", a.name),
            });
            let arguments = arguments.collect::<Vec<_>>().join(", ");
            let head = format!("CREATE OR REPLACE MACRO {name}({arguments}) AS TABLE");
            assert!(script.contains(&head), "expected {head}");
        }
    }
    for (name, _) in duckdb::NOT_REACHED {
        let known = views::all().unwrap();
        assert!(known.iter().any(|v| v.name == name), "{name} is no view");
    }
    // Functions that are no .sql have a text for DuckDB, too.
    for name in ["cut", "cut_seq"] {
        assert!(
            script.contains(&format!("CREATE OR REPLACE MACRO {name}(")),
            "{name}"
        );
    }
    for table in Table::ALL {
        assert!(
            script.contains(&format!("CREATE OR REPLACE VIEW {table} AS")),
            "{table}"
        );
    }
}

#[tokio::test]
async fn a_log_names_the_files_and_one_of_many_exports_writes_it() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path()).await;
    let tries = (0..6).map(|_| delta::export(&dataset, Table::Refs));
    let done = futures::future::join_all(tries).await;
    let written = done.iter().filter(|d| d.as_ref().unwrap().written).count();
    assert_eq!(written, 1, "{done:?}");
    let log = folder.path().join("refs/_delta_log");
    let names: Vec<_> = std::fs::read_dir(&log)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["00000000000000000000.json"]);
    let text = std::fs::read_to_string(log.join(&names[0])).unwrap();
    let actions: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let added: Vec<_> = actions
        .iter()
        .filter_map(|a| a["add"]["path"].as_str())
        .collect();
    let named = dataset.manifest().files(Table::Refs).iter();
    let named: Vec<_> = named
        .map(|f| f.path.strip_prefix("refs/").unwrap())
        .collect();
    assert_eq!(added, named);
}

#[tokio::test]
async fn a_file_that_is_gone_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path()).await;
    let file = &dataset.manifest().files(Table::Refs)[0].path;
    std::fs::remove_file(folder.path().join(file)).unwrap();
    let error = delta::export(&dataset, Table::Refs)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains(file) && error.contains("missing"), "{error}");
}
