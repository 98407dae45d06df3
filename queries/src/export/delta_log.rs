//! The log of a Delta table, read back.

use std::collections::BTreeSet;

use datafusion::object_store::{Error as StoreError, ObjectStore, ObjectStoreExt};
use futures::TryStreamExt;
use pgtrace_ingest::dataset::{Dataset, DatasetError};
use pgtrace_ingest::schema::Table;
use serde_json::Value;

use crate::Error;

/// What our commits say of who wrote them.
pub(super) const WRITER: &str = "pgtrace-sql";

/// Folder of a table's log within the dataset.
pub(super) fn folder(table: Table) -> String {
    format!("{table}/_delta_log")
}

/// Name of the file of a version.
pub(super) fn file_name(version: u64) -> String {
    format!("{version:020}.json")
}

/// What a log says.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// The version to come.
    pub(super) next: u64,
    /// The newest metaData; null: none.
    pub(super) metadata: Value,
    /// Files of the table, as the log writes their paths.
    pub(super) files: BTreeSet<String>,
}

impl Log {
    /// Reads the log of `table` from its first version on.
    ///
    /// # Errors
    /// The store fails, or the log is not one that we wrote: it is left alone then.
    pub(super) async fn read(dataset: &Dataset, table: Table) -> Result<Log, Error> {
        let failed = |cause: StoreError| DatasetError::Store {
            location: dataset.location().into(),
            cause,
        };
        let folder = folder(table);
        let listed: Vec<_> = dataset
            .store()
            .list(Some(&dataset.path(&folder)))
            .try_collect()
            .await
            .map_err(failed)?;
        let names: BTreeSet<String> = listed
            .iter()
            .filter_map(|meta| Some(meta.location.filename()?.to_owned()))
            .filter(|name| name.len() == file_name(0).len() && name.ends_with(".json"))
            .collect();
        let mut log = Log::default();
        for name in names {
            let place = format!("{folder}/{name}");
            if name != file_name(log.next) {
                let expected = file_name(log.next);
                return Err(not_ours(&place, &format!("expected {expected} before it")));
            }
            let got = dataset.store().get(&dataset.path(&place)).await;
            let bytes = got.map_err(failed)?.bytes().await.map_err(failed)?;
            log.take(&place, &String::from_utf8_lossy(&bytes))?;
        }
        Ok(log)
    }

    /// Takes one version's actions.
    fn take(&mut self, place: &str, text: &str) -> Result<(), Error> {
        let mut ours = false;
        for line in text.lines().filter(|line| !line.is_empty()) {
            let action: Value = serde_json::from_str(line)
                .map_err(|e| not_ours(place, &format!("expected JSON, found {e}")))?;
            let writer = action["commitInfo"]["engineInfo"].as_str();
            ours |= writer.is_some_and(|writer| writer.starts_with(WRITER));
            if action["metaData"].is_object() {
                self.metadata = action["metaData"].clone();
            }
            if let Some(path) = action["add"]["path"].as_str() {
                self.files.insert(path.to_owned());
            }
            if let Some(path) = action["remove"]["path"].as_str() {
                self.files.remove(path);
            }
        }
        self.next += 1;
        match ours {
            true => Ok(()),
            false => Err(not_ours(place, "another program wrote it")),
        }
    }
}

fn not_ours(place: &str, detail: &str) -> Error {
    Error::Delta {
        place: place.to_owned(),
        detail: format!(
            "{detail}; a log that is not pgtrace-sql's alone is left as it is (remove the folder _delta_log to export anew)"
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OURS: &str = r#"{"commitInfo":{"engineInfo":"pgtrace-sql/1"}}"#;

    #[test]
    fn versions_add_up() {
        let mut log = Log::default();
        let first = format!(
            "{OURS}\n{}\n{}\n{}\n",
            r#"{"metaData":{"id":"i"}}"#, r#"{"add":{"path":"a"}}"#, r#"{"add":{"path":"b"}}"#
        );
        log.take("0", &first).unwrap();
        let second = format!("{OURS}\n{}\n", r#"{"remove":{"path":"a"}}"#);
        log.take("1", &second).unwrap();
        assert_eq!((log.next, log.files.len()), (2, 1));
        assert_eq!(log.metadata["id"], "i");
        assert!(log.files.contains("b"));
    }

    #[test]
    fn others_logs_are_told() {
        let others = r#"{"commitInfo":{"engineInfo":"delta-rs:1"}}"#;
        for (text, words) in [
            (others, "another program"),
            ("{", "JSON"),
            ("", "another program"),
        ] {
            let error = Log::default().take("refs/_delta_log/x", text).unwrap_err();
            let error = error.to_string();
            assert!(
                error.contains(words) && error.contains("refs/_delta_log/x"),
                "{error}"
            );
        }
    }
}
