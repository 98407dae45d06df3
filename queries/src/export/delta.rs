//! `export delta`: a table's files as a Delta Lake table, where they are.
//!
//! A Delta table is a folder with a log, `refs/_delta_log/`; ours names the files that the manifest names. All columns are
//! inside the files, so the table has no partition columns: what the folders' names say is in the files' statistics, too.
//! A further export writes what has changed as the log's next version.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use datafusion::object_store::ObjectStore;
use futures::TryStreamExt;
use pgtrace_ingest::dataset::{Dataset, DatasetError};
use pgtrace_ingest::manifest::{FileEntry, ObjectExtent};
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
        if log.metadata["schemaString"] != schema.as_str()
            || log.metadata["configuration"] != properties(table)
        {
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
                "stats": stats(table, file).to_string(),
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

/// The table's columns, without loss. Delta has no unsigned types: each is the smallest that holds all values (addresses
/// fill 64 bits). Its timestamps are of microseconds, and readers refuse to cut ours down to them: they are ns as a number.
fn schema(table: Table) -> Value {
    let fields = table.columns().iter().map(|c| {
        let kind = match c.kind {
            Kind::Boolean => "boolean",
            Kind::UInt8 => "short",
            Kind::UInt16 => "integer",
            Kind::UInt32 => "long",
            Kind::UInt64 => "decimal(20,0)",
            Kind::Timestamp => "long",
            Kind::Text | Kind::Dictionary => "string",
        };
        // What older files lack reads as null here.
        let nullable = c.nullable || fill(table, c.name).is_some();
        let unit = match c.kind {
            Kind::Timestamp => " (ns since 1970 UTC)",
            _ => "",
        };
        json!({
            "name": c.name, "type": kind, "nullable": nullable,
            "metadata": {"comment": format!("{}{unit}", c.doc)},
        })
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
        "schemaString": schema, "partitionColumns": [], "configuration": properties(table), "createdTime": created,
    }})
}

/// Columns of `refs` that files have statistics of.
const KNOWN: &str = "capture_id,seq,ts,uid,pid,object_id,page";

/// Which columns have statistics, in the table's properties: readers (delta-rs) take a column that a file lacks them of for
/// one without a value, and leave the file out.
fn properties(table: Table) -> Value {
    match table {
        Table::Refs => json!({"delta.dataSkippingStatsColumns": KNOWN}),
        _ => json!({"delta.dataSkippingNumIndexedCols": "0"}),
    }
}

/// What the manifest knows of a file, as readers use it to leave files out. For the same reason, what it does not know may be
/// anything.
fn stats(table: Table, file: &FileEntry) -> Value {
    if table != Table::Refs || file.capture_id.is_empty() {
        return json!({"numRecords": file.rows});
    }
    let (mut least, mut greatest) = (Map::new(), Map::new());
    let mut put = |name: &str, min: Value, max: Value| {
        least.insert(name.into(), min);
        greatest.insert(name.into(), max);
    };
    put("capture_id", json!(file.capture_id), json!(file.capture_id));
    let seq = file.seq.map_or((0, u64::MAX), |s| (s.min, s.max));
    put("seq", json!(seq.0), json!(seq.1));
    let ts = file.ts.map_or((i64::MIN, i64::MAX), |s| (s.min, s.max));
    put("ts", json!(ts.0), json!(ts.1));
    for (name, span) in [("uid", file.uid), ("pid", file.pid)] {
        let span = span.map_or((0, u32::MAX), |s| (s.min, s.max));
        put(name, json!(span.0), json!(span.1));
    }
    let objects = &file.objects;
    let id = |o: &ObjectExtent| o.object_id;
    let first = objects.iter().map(id).min().unwrap_or(0);
    let last = objects.iter().map(id).max().unwrap_or(u64::MAX);
    put("object_id", json!(first), json!(last));
    let first = objects.iter().map(|o| o.min_page).min().unwrap_or(0);
    let last = objects.iter().map(|o| o.max_page).max();
    put("page", json!(first), json!(last.unwrap_or(u64::MAX)));
    let nulls: Map<String, Value> = least.keys().map(|name| (name.clone(), json!(0))).collect();
    json!({"numRecords": file.rows, "minValues": least, "maxValues": greatest, "nullCount": nulls})
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
    use pgtrace_ingest::manifest::Span;

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
                min: -1,
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
        let stats = stats(Table::Refs, &file);
        assert_eq!(stats["numRecords"], 3);
        assert_eq!(
            stats["minValues"],
            json!({"capture_id": "c", "seq": 1, "ts": -1, "uid": 0, "pid": 0, "object_id": 3, "page": 0})
        );
        assert_eq!(
            stats["maxValues"],
            json!({"capture_id": "c", "seq": u64::MAX, "ts": 2_000_001, "uid": u32::MAX, "pid": u32::MAX, "object_id": 7, "page": 6})
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
