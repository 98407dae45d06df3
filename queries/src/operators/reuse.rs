//! `_reuse_distances(condition)`, `_reuse_counts(condition)`, `_misses(condition)`: exact reuse distances, one a reference,
//! counted, and as misses of LRU-managed memories.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue};
use pgtrace_locality::index::PageIndex;
use pgtrace_locality::recency::Recency;
use pgtrace_locality::reuse::Distances;

use super::memory::Memory;
use super::pass::{Pass, each_capture};
use super::references::{References, Rows};
use super::texts::Texts;
use super::{BATCH, Operator, Output, no_arguments};

pub(crate) const DISTANCES: &str = "_reuse_distances";
pub(crate) const COUNTS: &str = "_reuse_counts";
pub(crate) const MISSES: &str = "_misses";

pub(crate) fn distances(arguments: &[ScalarValue]) -> Result<Arc<dyn Operator>> {
    no_arguments(DISTANCES, arguments)?;
    Ok(Arc::new(Reuse::Distances))
}

pub(crate) fn counts(arguments: &[ScalarValue]) -> Result<Arc<dyn Operator>> {
    no_arguments(COUNTS, arguments)?;
    Ok(Arc::new(Reuse::Counts))
}

pub(crate) fn misses(arguments: &[ScalarValue]) -> Result<Arc<dyn Operator>> {
    no_arguments(MISSES, arguments)?;
    Ok(Arc::new(Reuse::Misses))
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Reuse {
    Distances,
    Counts,
    Misses,
}

impl Reuse {
    /// Names of the numbers behind capture_id, and whether they may be null.
    fn columns(self) -> &'static [(&'static str, bool)] {
        match self {
            Reuse::Distances => &[
                ("seq", false),
                ("object_id", false),
                ("page", false),
                ("reuse_distance", true),
            ],
            Reuse::Counts => &[("reuse_distance", true), ("refs", false)],
            Reuse::Misses => &[("pages", false), ("misses", false), ("refs", false)],
        }
    }
}

impl Operator for Reuse {
    fn name(&self) -> &'static str {
        match self {
            Reuse::Distances => DISTANCES,
            Reuse::Counts => COUNTS,
            Reuse::Misses => MISSES,
        }
    }

    fn schema(&self) -> SchemaRef {
        let mut fields = vec![Field::new("capture_id", DataType::Utf8View, false)];
        fields.extend(
            self.columns()
                .iter()
                .map(|(name, null)| Field::new(*name, DataType::UInt64, *null)),
        );
        Arc::new(Schema::new(fields))
    }

    fn reads(&self) -> &'static [&'static str] {
        &["object_id", "page"]
    }

    fn run(&self, input: &mut References, output: &mut Output, memory: &Memory) -> Result<()> {
        each_capture(input, output, memory, |capture| Capture {
            reuse: *self,
            index: PageIndex::new(),
            recency: Recency::new(),
            counted: Distances::default(),
            credit: 0,
            rows: Numbers::new(Arc::clone(capture), self.schema()),
        })
    }
}

struct Capture {
    reuse: Reuse,
    index: PageIndex,
    recency: Recency,
    counted: Distances,
    /// Further pages that memory is held for.
    credit: usize,
    rows: Numbers,
}

impl Capture {
    /// Holds memory for `more` pages. There is no cheaper way to exact distances than to know all pages.
    fn room(&mut self, more: usize, memory: &Memory) -> Result<()> {
        if self.credit < more {
            let step = more.max(self.index.pages() / 32).max(4096);
            let pages = self.index.pages() + step;
            let counted = if self.reuse == Reuse::Distances {
                0
            } else {
                pages.next_power_of_two() * 8
            };
            let bytes = self.index.bytes_after(step) + self.recency.bytes_after(step) + counted;
            memory.need(bytes, &format!("the order of {pages} pages"))?;
            self.credit = step;
        }
        self.credit -= more;
        Ok(())
    }
}

impl Pass for Capture {
    fn stretch(
        &mut self,
        rows: &Rows,
        range: Range<usize>,
        output: &mut Output,
        memory: &Memory,
    ) -> Result<bool> {
        self.room(range.len(), memory)?;
        let each = self.reuse == Reuse::Distances;
        for row in range {
            let (object_id, page) = (rows.object_id[row], rows.page[row]);
            let id = self.index.id(object_id, page);
            let distance = self.recency.reference(id);
            if !each {
                self.counted.add(distance);
                continue;
            }
            self.rows
                .add(&[Some(rows.seq[row]), Some(object_id), Some(page), distance]);
            if self.rows.full() && !output.give(self.rows.batch()?) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn end(mut self, output: &mut Output, _: &Memory) -> Result<bool> {
        let refs = self.counted.refs();
        let counts = |d: &Distances| -> Vec<[Option<u64>; 3]> {
            let first = (d.first() > 0).then(|| [None, Some(d.first()), None]);
            d.counts()
                .map(|(distance, n)| [Some(distance), Some(n), None])
                .chain(first)
                .collect()
        };
        let rows = match self.reuse {
            Reuse::Distances => Vec::new(),
            Reuse::Counts => counts(&self.counted),
            Reuse::Misses => self
                .counted
                .misses()
                .map(|(pages, misses)| [Some(pages), Some(misses), Some(refs)])
                .collect(),
        };
        let width = self.reuse.columns().len();
        for row in rows {
            self.rows.add(&row[..width]);
            if self.rows.full() && !output.give(self.rows.batch()?) {
                return Ok(false);
            }
        }
        Ok(output.give(self.rows.batch()?))
    }
}

/// Rows of a capture and numbers.
pub(crate) struct Numbers {
    capture: Arc<str>,
    columns: Vec<Vec<Option<u64>>>,
    schema: SchemaRef,
}

impl Numbers {
    pub(crate) fn new(capture: Arc<str>, schema: SchemaRef) -> Self {
        let columns = vec![Vec::with_capacity(BATCH); schema.fields().len() - 1];
        Self {
            capture,
            columns,
            schema,
        }
    }

    pub(crate) fn add(&mut self, row: &[Option<u64>]) {
        self.columns
            .iter_mut()
            .zip(row)
            .for_each(|(column, value)| column.push(*value));
    }

    pub(crate) fn full(&self) -> bool {
        self.columns[0].len() >= BATCH
    }

    pub(crate) fn batch(&mut self) -> Result<RecordBatch> {
        let mut columns = vec![Texts::same(&self.capture, self.columns[0].len())];
        let taken = self.columns.iter_mut().map(std::mem::take);
        columns.extend(taken.map(|c| Arc::new(UInt64Array::from(c)) as ArrayRef));
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}
