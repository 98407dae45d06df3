//! Which rows of the other tables belong to rows of `refs`, so that no name is lost and no loss forgotten.
//!
//! * `processes`: those that references name, the owner (or first user) of each object that is kept, and their parents.
//! * `objects`: those that references name. `mappings`: those of a process and an object that references name.
//! * `losses`: those that may lie in the time asked for; of a loss nobody knows whose references it took.
//! * `marks`: of the time asked for; of what a filter leaves, those of its processes and objects, and those of the
//!   recorder. What holds at its begin is told before it: levels, policies, clocks, and what processes are.
//! * Of a recording of which every reference is kept, all names are.

use std::collections::{BTreeMap, HashSet};

use arrow::array::{
    Array, AsArray, BooleanArray, RecordBatch, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{TimestampNanosecondType, UInt64Type};
use datafusion::common::{Result, internal_err};
use pgtrace_ingest::schema::Table;

use super::held::Of;
use super::recordings::texts;

/// Kinds of marks that say what holds from then on.
const STANDING: [&str; 6] = ["level", "policy", "clock", "attach", "fork", "exec"];

/// From a time on, and before another, in ns since 1970 UTC; `None`: open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) from: Option<i64>,
    pub(super) to: Option<i64>,
}

impl Window {
    /// What lies in both.
    pub(super) fn within(self, other: Window) -> Window {
        Window {
            from: self.from.max(other.from),
            to: match (self.to, other.to) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
        }
    }

    fn begins_by(self, ts: i64) -> bool {
        self.from.is_none_or(|from| from <= ts)
    }

    fn ends_after(self, ts: i64) -> bool {
        self.to.is_none_or(|to| ts < to)
    }
}

/// What is kept of one recording.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    pub(super) window: Window,
    /// All names are kept.
    pub(super) all_names: bool,
    /// All marks of the time are kept, whosever they are.
    pub(super) all_marks: bool,
    /// What references name, and marks where all are kept.
    pub(super) of: Of,
    /// Processes with a row.
    pub(super) processes: HashSet<u64>,
}

/// What is kept, by recording: of one that is not here, nothing.
pub(super) type Rules = BTreeMap<String, Kept>;

/// Columns of a table that decide.
pub(super) fn deciding(table: Table) -> &'static [&'static str] {
    match table {
        Table::Refs | Table::Captures => &["capture_id"],
        Table::Processes => &["capture_id", "upid"],
        Table::Objects => &["capture_id", "object_id"],
        Table::Mappings => &["capture_id", "upid", "object_id"],
        Table::Losses => &[
            "capture_id",
            "from_ts",
            "to_ts",
            "count",
            "cause",
            "channel",
        ],
        Table::Marks => &["capture_id", "ts", "kind", "upid", "object_id"],
    }
}

fn numbers<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a UInt64Array> {
    let column = batch.column_by_name(name);
    match column.and_then(|c| c.as_primitive_opt::<UInt64Type>()) {
        Some(column) => Ok(column),
        None => internal_err!("no column {name} of 64-bit numbers"),
    }
}

fn times<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a TimestampNanosecondArray> {
    let column = batch.column_by_name(name);
    match column.and_then(|c| c.as_primitive_opt::<TimestampNanosecondType>()) {
        Some(column) => Ok(column),
        None => internal_err!("no column {name} of times"),
    }
}

fn value(column: &UInt64Array, row: usize) -> Option<u64> {
    column.is_valid(row).then(|| column.value(row))
}

fn moment(column: &TimestampNanosecondArray, row: usize) -> Option<i64> {
    column.is_valid(row).then(|| column.value(row))
}

/// A column of numbers, empty where the table has none.
struct Names<'a> {
    upids: Option<&'a UInt64Array>,
    objects: Option<&'a UInt64Array>,
}

/// For each row of a batch of `table`, whether it is kept.
pub(super) fn kept(rules: &Rules, table: Table, batch: &RecordBatch) -> Result<BooleanArray> {
    let ids = texts(batch, "capture_id")?;
    let known: Vec<Option<&Kept>> = {
        let mut last: Option<(&str, Option<&Kept>)> = None;
        let of = ids.iter().map(|id| {
            let id = id.unwrap_or_default();
            match last {
                Some((known, kept)) if known == id => kept,
                _ => {
                    let kept = rules.get(id);
                    last = Some((id, kept));
                    kept
                }
            }
        });
        of.collect()
    };
    let each = |keep: &dyn Fn(usize, &Kept) -> bool| -> BooleanArray {
        let rows = known.iter().enumerate();
        rows.map(|(row, of)| Some(of.is_some_and(|of| keep(row, of))))
            .collect()
    };
    Ok(match table {
        Table::Refs | Table::Captures => each(&|_, _| true),
        Table::Processes => {
            let upids = numbers(batch, "upid")?;
            each(&|row, of| of.all_names || of.processes.contains(&upids.value(row)))
        }
        Table::Objects => {
            let objects = numbers(batch, "object_id")?;
            each(&|row, of| of.all_names || of.of.objects.contains(&objects.value(row)))
        }
        Table::Mappings => {
            let (upids, objects) = (numbers(batch, "upid")?, numbers(batch, "object_id")?);
            each(&|row, of| {
                let (upid, object) = (upids.value(row), objects.value(row));
                of.all_names || of.of.processes.contains(&upid) && of.of.objects.contains(&object)
            })
        }
        Table::Losses => {
            let (from, to) = (times(batch, "from_ts")?, times(batch, "to_ts")?);
            each(&|row, of| {
                moment(from, row).is_none_or(|ts| of.window.ends_after(ts))
                    && moment(to, row).is_none_or(|ts| of.window.begins_by(ts))
            })
        }
        Table::Marks => {
            let (ts, kinds) = (times(batch, "ts")?, texts(batch, "kind")?);
            let names = Names {
                upids: Some(numbers(batch, "upid")?),
                objects: Some(numbers(batch, "object_id")?),
            };
            each(&|row, of| {
                of.window.ends_after(ts.value(row))
                    && (of.window.begins_by(ts.value(row)) || STANDING.contains(&kinds.value(row)))
                    && (of.all_marks || names.concern(row, &of.of))
            })
        }
    })
}

impl Names<'_> {
    fn concern(&self, row: usize, of: &Of) -> bool {
        let known = |column: Option<&UInt64Array>, set: &HashSet<u64>| {
            let value = column.and_then(|c| value(c, row));
            value.is_none_or(|v| set.contains(&v))
        };
        known(self.upids, &of.processes) && known(self.objects, &of.objects)
    }
}

/// Adds what the marks of a batch that are kept name.
pub(super) fn learn_marks(rules: &mut Rules, batch: &RecordBatch) -> Result<()> {
    let kept = kept(rules, Table::Marks, batch)?;
    let ids = texts(batch, "capture_id")?;
    let (upids, objects) = (numbers(batch, "upid")?, numbers(batch, "object_id")?);
    for row in (0..batch.num_rows()).filter(|&row| kept.value(row)) {
        if let Some(of) = rules.get_mut(ids.value(row)) {
            of.of.processes.extend(value(upids, row));
            of.of.objects.extend(value(objects, row));
        }
    }
    Ok(())
}

/// Adds up what the losses of a batch that are kept took of `refs`, by recording.
pub(super) fn add_losses(
    rules: &Rules,
    batch: &RecordBatch,
    lost: &mut BTreeMap<String, u64>,
) -> Result<()> {
    let kept = kept(rules, Table::Losses, batch)?;
    let (ids, causes, channels) = (
        texts(batch, "capture_id")?,
        texts(batch, "cause")?,
        texts(batch, "channel")?,
    );
    let counts = numbers(batch, "count")?;
    for row in (0..batch.num_rows()).filter(|&row| kept.value(row)) {
        // What was overwritten was given up on purpose.
        if channels.value(row) == "refs" && causes.value(row) != "overwritten" {
            let count = value(counts, row).unwrap_or(0);
            let sum = lost.entry(ids.value(row).to_owned()).or_default();
            *sum = sum.saturating_add(count);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows() {
        let all = Window::default();
        assert!(all.begins_by(i64::MIN) && all.ends_after(i64::MAX));
        let window = |from, to| Window { from, to };
        let one = window(Some(5), Some(9));
        assert!(one.begins_by(5) && !one.begins_by(4));
        assert!(one.ends_after(8) && !one.ends_after(9));
        assert_eq!(all.within(one), one);
        assert_eq!(one.within(window(Some(7), None)), window(Some(7), Some(9)));
        assert_eq!(one.within(window(None, Some(6))), window(Some(5), Some(6)));
    }
}
