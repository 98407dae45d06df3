//! What is known of the recordings in the dataset that is read: clocks, totals, and who is whose parent.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{Result, internal_err};
use pgtrace_ingest::derive::Origin;
use pgtrace_ingest::schema::Table;

use super::held::Kin;
use crate::session::Session;

/// One recording.
#[derive(Clone, Debug, Default)]
pub(super) struct Recording {
    pub(super) kin: Kin,
    pub(super) cache_events: u64,
    /// Rows of `refs`, as the manifest says.
    pub(super) refs: u64,
    origin: Origin,
}

/// All of them, by id.
#[derive(Clone, Debug, Default)]
pub(super) struct Recordings {
    by_id: BTreeMap<String, Recording>,
    none: Recording,
}

impl Recordings {
    /// Reads `captures`, `processes` and `objects`, as far as they are needed.
    pub(super) async fn load(session: &Session) -> Result<Self> {
        let mut by_id: BTreeMap<String, Recording> = BTreeMap::new();
        for entry in &session.dataset().manifest().captures {
            let of = by_id.entry(entry.capture_id.clone()).or_default();
            of.refs = entry.refs;
            of.origin.capture_id = entry.capture_id.clone();
            of.origin.lost = entry.lost;
        }
        let columns = ["clock_monotonic_ns", "clock_utc_ns", "cache_events"];
        each(session, Table::Captures, &columns, &mut by_id, |of, row| {
            of.origin.clock = (row.u64(0), row.u64(1));
            of.cache_events = row.u64(2);
        })
        .await?;
        let columns = ["upid", "pid", "ppid", "start_ts"];
        each(
            session,
            Table::Processes,
            &columns,
            &mut by_id,
            |of, row| {
                of.kin
                    .process(row.u64(0), row.u32(1), row.u32(2), row.i64(3));
            },
        )
        .await?;
        let columns = ["object_id", "upid"];
        each(session, Table::Objects, &columns, &mut by_id, |of, row| {
            of.kin.object(row.u64(0), row.u64(1));
        })
        .await?;
        Ok(Self {
            by_id,
            none: Recording::default(),
        })
    }

    /// What is known of one; of one that no table tells of, nothing.
    pub(super) fn of(&self, capture_id: &str) -> &Recording {
        self.by_id.get(capture_id).unwrap_or(&self.none)
    }

    /// What files of it say of it.
    pub(super) fn origin(&self, capture_id: &str) -> Origin {
        Origin {
            capture_id: capture_id.into(),
            ..self.of(capture_id).origin.clone()
        }
    }

    /// Ids, in order.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.by_id.keys().map(String::as_str)
    }
}

/// Numbers of a row, by their place among the columns asked for.
struct Row<'a> {
    columns: &'a [Int64Array],
    row: usize,
}

impl Row<'_> {
    fn i64(&self, column: usize) -> i64 {
        let column = self.columns.get(column).filter(|c| c.is_valid(self.row));
        column.map_or(0, |c| c.value(self.row))
    }

    fn u64(&self, column: usize) -> u64 {
        self.i64(column) as u64
    }

    fn u32(&self, column: usize) -> u32 {
        u32::try_from(self.u64(column)).unwrap_or(0)
    }
}

/// Gives each row of a table to `see`, with its recording.
async fn each(
    session: &Session,
    table: Table,
    columns: &[&str],
    by_id: &mut BTreeMap<String, Recording>,
    mut see: impl FnMut(&mut Recording, Row<'_>),
) -> Result<()> {
    let mut names = vec!["capture_id"];
    names.extend(columns);
    let rows = session.context().table(table.name()).await?;
    let mut batches = rows.select_columns(&names)?.execute_stream().await?;
    while let Some(batch) = futures::StreamExt::next(&mut batches).await {
        let batch = batch?;
        let ids = texts(&batch, "capture_id")?;
        let columns = batch.columns().iter().skip(1).map(|column| {
            // 64 bits, whatever they mean: as signed ones.
            let bits: Int64Array = match column.as_primitive_opt::<arrow::datatypes::UInt64Type>() {
                Some(unsigned) => bits(unsigned),
                None => cast(column, &DataType::Int64)?.as_primitive().clone(),
            };
            Ok(bits)
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        for (row, id) in ids.iter().enumerate() {
            let id = id.unwrap_or_default();
            let row = Row {
                columns: &columns,
                row,
            };
            match by_id.get_mut(id) {
                Some(of) => see(of, row),
                None => see(by_id.entry(id.into()).or_default(), row),
            }
        }
    }
    Ok(())
}

fn bits(unsigned: &UInt64Array) -> Int64Array {
    unsigned.iter().map(|v| v.map(|v| v as i64)).collect()
}

/// A column of texts, as such.
pub(super) fn texts(batch: &RecordBatch, name: &str) -> Result<StringArray> {
    let Some(column) = batch.column_by_name(name) else {
        return internal_err!("no column {name}");
    };
    let texts = cast(column, &DataType::Utf8)?;
    match texts.as_string_opt::<i32>() {
        Some(texts) => Ok(texts.clone()),
        None => internal_err!("column {name} holds no text"),
    }
}
