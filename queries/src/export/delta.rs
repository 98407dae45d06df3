//! `export delta`: a table's files as a Delta Lake table, where they are.
//!
//! A Delta table is a folder with a log, `refs/_delta_log/`; ours names the files that the manifest names. All columns are
//! inside the files, so the table has no partition columns: what the folders' names say is in the files' statistics, too.
//! A further export writes what has changed as the log's next version.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::temporal_conversions::timestamp_ns_to_datetime;
use datafusion::object_store::ObjectStore;
use futures::TryStreamExt;
use pgtrace_ingest::dataset::{Dataset, DatasetError};
use pgtrace_ingest::manifest::FileEntry;
use pgtrace_ingest::schema::{Kind, Table, fill};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::delta_log::{Log, WRITER, file_name, folder};
use crate::Error;

/// Tries to be the one who writes the next version.
const TRIES: usize = 10;

/// What an export did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    /// The log's newest version.
    pub version: u64,
    /// Files that it has in addition.
    pub added: usize,
    /// Files that it has no more.
    pub removed: usize,
    /// Whether this version was written now.
    pub written: bool,
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            added,
            removed,
            written,
        } = self;
        match written {
            true => write!(
                f,
                "version {version}: {added} files added, {removed} removed"
            ),
            false => write!(f, "version {version}, nothing has changed"),
        }
    }
}

/// Brings the log of `table` to what the dataset is at the version that is open.
///
/// # Errors
/// The store fails, a file is missing, or the log is not ours.
pub async fn export(dataset: &Dataset, table: Table) -> Result<Exported, Error> {
    let times = modified(dataset, table).await?;
    let wanted: BTreeMap<String, &FileEntry> = dataset
        .manifest()
        .files(table)
        .iter()
        .map(|file| Ok((escaped(below(table, file)?), file)))
        .collect::<Result<_, Error>>()?;
    for _ in 0..TRIES {
        let log = Log::read(dataset, table).await?;
        let schema = schema(table).to_string();
        let mut actions = Vec::new();
        if log.next == 0 {
            actions.push(json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}));
        }
        if log.metadata["schemaString"] != schema.as_str() {
            actions.push(metadata(table, &schema, &log.metadata));
        }
        let gone: Vec<_> = log
            .files
            .iter()
            .filter(|path| !wanted.contains_key(*path))
            .collect();
        let new: Vec<_> = wanted
            .iter()
            .filter(|(path, _)| !log.files.contains(*path))
            .collect();
        let (added, removed) = (new.len(), gone.len());
        for path in gone {
            actions.push(
                json!({"remove": {"path": path, "deletionTimestamp": now(), "dataChange": true}}),
            );
        }
        for (path, file) in new {
            let time = times.get(&file.path).ok_or_else(|| Error::Delta {
                place: file.path.clone(),
                detail: "missing, but the manifest names it".into(),
            })?;
            actions.push(json!({"add": {
                "path": path, "partitionValues": {}, "size": file.bytes, "modificationTime": time, "dataChange": true,
                "stats": stats(file).to_string(),
            }}));
        }
        if actions.is_empty() {
            let version = log.next.saturating_sub(1);
            return Ok(Exported {
                version,
                added,
                removed,
                written: false,
            });
        }
        let commit = json!({"commitInfo": {
            "timestamp": now(), "operation": "WRITE", "operationParameters": {"mode": "Overwrite"},
            "engineInfo": format!("{WRITER}/{}", env!("CARGO_PKG_VERSION")), "datasetVersion": dataset.manifest().version,
        }});
        actions.insert(0, commit);
        let text: String = actions.iter().map(|action| format!("{action}\n")).collect();
        let path = format!("{}/{}", folder(table), file_name(log.next));
        if dataset
            .put_version(&path, log.next, text.into_bytes())
            .await?
        {
            return Ok(Exported {
                version: log.next,
                added,
                removed,
                written: true,
            });
        }
    }
    Err(Error::Delta {
        place: folder(table),
        detail: format!("other programs wrote {TRIES} versions meanwhile; try again"),
    })
}

/// When files of a table were written, in ms since 1970, by their path in the dataset.
async fn modified(dataset: &Dataset, table: Table) -> Result<BTreeMap<String, i64>, Error> {
    let prefix = dataset.path(table.name());
    let listed: Vec<_> = dataset
        .store()
        .list(Some(&prefix))
        .try_collect()
        .await
        .map_err(|cause| DatasetError::Store {
            location: dataset.location().into(),
            cause,
        })?;
    let known = listed.into_iter().filter_map(|meta| {
        let parts = meta.location.prefix_match(&prefix)?;
        let parts: Vec<_> = parts.map(|part| part.as_ref().to_owned()).collect();
        let time = meta.last_modified.timestamp_millis();
        Some((format!("{table}/{}", parts.join("/")), time))
    });
    Ok(known.collect())
}

/// A file's path within its table.
fn below(table: Table, file: &FileEntry) -> Result<&str, Error> {
    let below = file.path.strip_prefix(table.name());
    below
        .and_then(|rest| rest.strip_prefix('/'))
        .ok_or_else(|| Error::Delta {
            place: file.path.clone(),
            detail: format!(
                "is not in the folder {table}/, where a Delta table {table} would have its files"
            ),
        })
}

/// A path as the part of a URL, which it is in a log.
fn escaped(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'=' | b'.' | b'-' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The table's columns. Delta has no unsigned types: each is the smallest that holds all values, which is what Spark reads
/// such Parquet columns as, too.
fn schema(table: Table) -> Value {
    let fields = table.columns().iter().map(|c| {
        let kind = match c.kind {
            Kind::Boolean => "boolean",
            Kind::UInt8 => "short",
            Kind::UInt16 => "integer",
            Kind::UInt32 => "long",
            Kind::UInt64 => "decimal(20,0)",
            Kind::Timestamp => "timestamp",
            Kind::Text | Kind::Dictionary => "string",
        };
        // What older files lack reads as null here.
        let nullable = c.nullable || fill(table, c.name).is_some();
        json!({"name": c.name, "type": kind, "nullable": nullable, "metadata": {"comment": c.doc}})
    });
    json!({"type": "struct", "fields": fields.collect::<Vec<_>>()})
}

fn metadata(table: Table, schema: &str, old: &Value) -> Value {
    let id = old["id"]
        .as_str()
        .map_or_else(|| Uuid::new_v4().to_string(), str::to_owned);
    let created = old["createdTime"].as_i64().unwrap_or_else(now);
    json!({"metaData": {
        "id": id, "name": table.name(), "description": table.doc(), "format": {"provider": "parquet", "options": {}},
        "schemaString": schema, "partitionColumns": [], "configuration": {}, "createdTime": created,
    }})
}

/// What the manifest knows of a file, as readers use it to leave files out.
fn stats(file: &FileEntry) -> Value {
    let (mut least, mut greatest) = (Map::new(), Map::new());
    let mut put = |name: &str, min: Value, max: Value| {
        least.insert(name.into(), min);
        greatest.insert(name.into(), max);
    };
    if !file.capture_id.is_empty() {
        put("capture_id", json!(file.capture_id), json!(file.capture_id));
    }
    if let Some(seq) = file.seq {
        put("seq", json!(seq.min), json!(seq.max));
    }
    if let Some(ts) = file.ts
        && let (Some(min), Some(max)) = (time(ts.min, 0), time(ts.max, 999_999))
    {
        put("ts", min, max);
    }
    for (name, span) in [("uid", file.uid), ("pid", file.pid)] {
        if let Some(span) = span {
            put(name, json!(span.min), json!(span.max));
        }
    }
    let ids: BTreeSet<u64> = file.objects.iter().map(|o| o.object_id).collect();
    let pages = file.objects.iter().map(|o| o.min_page).min();
    let last_page = file.objects.iter().map(|o| o.max_page).max();
    if let (Some(first), Some(last), Some(page), Some(last_page)) =
        (ids.first(), ids.last(), pages, last_page)
    {
        put("object_id", json!(first), json!(last));
        put("page", json!(page), json!(last_page));
    }
    let nulls: Map<String, Value> = least.keys().map(|name| (name.clone(), json!(0))).collect();
    json!({"numRecords": file.rows, "minValues": least, "maxValues": greatest, "nullCount": nulls})
}

/// A time in whole ms, as logs have them: `more` ns later and rounded down.
fn time(ns: i64, more: i64) -> Option<Value> {
    let time = timestamp_ns_to_datetime(ns.checked_add(more)?)?;
    Some(json!(time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()))
}

/// ms since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use pgtrace_ingest::manifest::{ObjectExtent, Span};

    #[test]
    fn statistics_hold_every_value() {
        let file = FileEntry {
            rows: 3,
            capture_id: "c".into(),
            seq: Some(Span {
                min: 1,
                max: u64::MAX,
            }),
            ts: Some(Span {
                min: 1_000_999,
                max: 2_000_001,
            }),
            objects: vec![
                ObjectExtent {
                    object_id: 7,
                    min_page: 5,
                    max_page: 6,
                },
                ObjectExtent {
                    object_id: 3,
                    min_page: 0,
                    max_page: 1,
                },
            ],
            ..FileEntry::at("refs/a".into())
        };
        let stats = stats(&file);
        assert_eq!(stats["numRecords"], 3);
        assert_eq!(
            stats["minValues"],
            json!({"capture_id": "c", "seq": 1, "ts": "1970-01-01T00:00:00.001Z", "object_id": 3, "page": 0})
        );
        assert_eq!(
            stats["maxValues"],
            json!({"capture_id": "c", "seq": u64::MAX, "ts": "1970-01-01T00:00:00.003Z", "object_id": 7, "page": 6})
        );
    }

    #[test]
    fn paths_are_parts_of_urls() {
        assert_eq!(
            escaped("uid=1/a b#%é.parquet"),
            "uid=1/a%20b%23%25%C3%A9.parquet"
        );
    }
}
