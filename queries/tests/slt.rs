//! Every view's worked example: `sql/PACKAGE/NAME.slt`, beside the view.
//!
//! The first lines of an .slt choose its data: `# data: NAME` is NAME.csv in the same folder (columns of
//! `refs`), `# lost: N` adds a loss of N references. `PGTRACE_ACCEPT=1 cargo test -p pgtrace-sql --test slt`
//! rewrites the expected rows; check the new ones by hand, that is what they are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use arrow::datatypes::DataType;
use async_trait::async_trait;
use futures::TryStreamExt;
use pgtrace_sql::Error;
use pgtrace_sql::session::Session;
use sqllogictest::{
    AsyncDB, DBOutput, DefaultColumnType, Runner, default_normalizer, default_validator,
};

struct Database(Session);

#[async_trait]
impl AsyncDB for Database {
    type Error = Error;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Error> {
        let stream = self.0.query(sql).await?;
        let kind = |t: &DataType| match t {
            t if t.is_integer() => DefaultColumnType::Integer,
            t if t.is_floating() => DefaultColumnType::FloatingPoint,
            _ => DefaultColumnType::Text,
        };
        let types = stream
            .schema()
            .fields()
            .iter()
            .map(|f| kind(f.data_type()))
            .collect();
        let batches: Vec<_> = stream.try_collect().await?;
        Ok(DBOutput::Rows {
            types,
            rows: common::text_rows(&batches),
        })
    }

    async fn shutdown(&mut self) {}
}

fn directive<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let lines = text.lines().map_while(|l| l.strip_prefix('#'));
    lines
        .filter_map(|l| l.trim().strip_prefix(name)?.strip_prefix(": "))
        .next()
}

fn examples() -> Vec<PathBuf> {
    let sql = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    let packages = fs::read_dir(sql).unwrap().map(|p| p.unwrap().path());
    let files = packages.flat_map(|p| fs::read_dir(p).unwrap().map(|f| f.unwrap().path()));
    let mut found: Vec<_> = files
        .filter(|f| f.extension().is_some_and(|e| e == "slt"))
        .collect();
    found.sort();
    found
}

async fn check(example: &Path, accept: bool) -> Result<(), String> {
    let text = fs::read_to_string(example).unwrap();
    let data = directive(&text, "data").ok_or("needs `# data: NAME` in its first lines")?;
    let csv = example.with_file_name(format!("{data}.csv"));
    let csv = fs::read_to_string(&csv).map_err(|e| format!("{}: {e}", csv.display()))?;
    let lost = directive(&text, "lost").map_or(0, |n| n.parse().unwrap());

    let folder = tempfile::tempdir().unwrap();
    common::dataset(folder.path(), &common::rows_from_csv(&csv), lost);
    let root = folder.path().to_owned();
    let mut runner = Runner::new(|| async { Ok(Database(common::open(&root).await)) });
    runner.with_column_validator(sqllogictest::strict_column_validator);
    if accept {
        let done = runner.update_test_file(
            example,
            " ",
            default_validator,
            default_normalizer,
            sqllogictest::default_column_validator,
        );
        return done.await.map_err(|e| e.to_string());
    }
    runner
        .run_file_async(example)
        .await
        .map_err(|e| e.display(false).to_string())
}

#[tokio::test]
async fn every_view_gives_its_worked_example() {
    let accept = std::env::var_os("PGTRACE_ACCEPT").is_some();
    let mut failed = Vec::new();
    for example in examples() {
        if let Err(e) = check(&example, accept).await {
            failed.push(format!("{}\n{e}", example.display()));
        }
    }
    assert!(
        failed.is_empty(),
        "{}\n\nIf the new rows are right: PGTRACE_ACCEPT=1 cargo test -p pgtrace-sql --test slt",
        failed.join("\n\n")
    );
}
