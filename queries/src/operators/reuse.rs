//! `_reuse_distances(condition)`, `_reuse_counts(condition)`, `_misses(condition)`: exact reuse distances, one a reference,
//! counted, and as misses of LRU-managed memories.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue};
use pgtrace_locality::order::PageOrder;
use pgtrace_locality::recency::known;
use pgtrace_locality::reuse::Distances;

use super::inputs::Inputs;
use super::memory::Memory;
use super::pass::{Pass, Place, Stretched, in_stretches};
use super::references::Rows;
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
        match self {
            Reuse::Distances => &["seq", "object_id", "page"],
            Reuse::Counts | Reuse::Misses => &["object_id", "page"],
        }
    }

    fn in_stretches(&self) -> bool {
        // Single distances are given in order, with those of references whose predecessor is in another stretch.
        *self != Reuse::Distances
    }

    fn run(&self, input: &mut Inputs, output: &mut Output, memory: &Memory) -> Result<()> {
        let extents = input.extents();
        in_stretches(input, output, memory, |capture, place, memory| {
            let fits = memory.hold(PageOrder::bytes_of(&extents));
            Capture {
                reuse: *self,
                order: PageOrder::new(if fits { &extents } else { &[] }, place == Place::Later),
                counted: Distances::default(),
                place,
                credit: 0,
                rows: Numbers::new(Arc::clone(capture), self.schema()),
            }
        })
    }
}

struct Capture {
    reuse: Reuse,
    order: PageOrder,
    counted: Distances,
    place: Place,
    /// Further pages that memory is held for.
    credit: usize,
    rows: Numbers,
}

impl Capture {
    /// Holds memory for `more` pages. There is no cheaper way to exact distances than to know all pages.
    fn room(&mut self, more: usize, memory: &Memory) -> Result<()> {
        if self.credit < more {
            let step = more.max(self.order.pages() / 32).max(4096);
            let pages = self.order.pages() + step;
            let counted = if self.reuse == Reuse::Distances {
                0
            } else {
                Distances::bytes_of(pages)
            };
            let bytes = self.order.bytes_after(step) + counted;
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
        if self.reuse != Reuse::Distances {
            let (counted, later) = (&mut self.counted, self.place == Place::Later);
            let (objects, pages) = (&rows.object_id[range.clone()], &rows.page[range]);
            self.order.references(objects, pages, |_, distances| {
                counted.add_all(distances, !later);
            });
            return Ok(true);
        }
        for from in range.clone().step_by(BATCH) {
            let part = from..(from + BATCH).min(range.end);
            let (objects, pages) = (&rows.object_id[part.clone()], &rows.page[part.clone()]);
            let (seqs, rows) = (&rows.seq[part], &mut self.rows);
            self.order.references(objects, pages, |first, distances| {
                for (i, distance) in (first..).zip(distances) {
                    let distance = known(*distance);
                    rows.add(&[Some(seqs[i]), Some(objects[i]), Some(pages[i]), distance]);
                }
            });
            if self.rows.full() && !output.give(self.rows.batch()?) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn end(self, output: &mut Output, _: &Memory) -> Result<bool> {
        let Self {
            reuse,
            order,
            counted,
            rows: mut numbers,
            ..
        } = self;
        drop(order);
        let refs = counted.refs();
        let first = (counted.first() > 0).then(|| [None, Some(counted.first()), None]);
        // One by one: a curve may have as many points as there are pages.
        let rows: Box<dyn Iterator<Item = [Option<u64>; 3]>> = match reuse {
            Reuse::Distances => Box::new(std::iter::empty()),
            Reuse::Counts => {
                let counts = counted.counts();
                let counts = counts.map(|(distance, n)| [Some(distance), Some(n), None]);
                Box::new(counts.chain(first))
            }
            Reuse::Misses => Box::new(
                counted
                    .misses()
                    .map(|(pages, misses)| [Some(pages), Some(misses), Some(refs)]),
            ),
        };
        let width = reuse.columns().len();
        for row in rows {
            numbers.add(&row[..width]);
            if numbers.full() && !output.give(numbers.batch()?) {
                return Ok(false);
            }
        }
        Ok(output.give(numbers.batch()?))
    }
}

impl Stretched for Capture {
    fn join(stretches: Vec<Self>, memory: &Memory) -> Result<Option<Self>> {
        let bytes = |stretch: &Self| stretch.order.bytes() + stretch.counted.bytes();
        let held: usize = stretches.iter().map(bytes).sum();
        let pages: usize = stretches.iter().map(|stretch| stretch.order.pages()).sum();
        // Names of hashed pages, and counts of longer distances.
        memory.need(held + pages * 16, "the orders of stretches")?;
        let (mut orders, mut whole) = (Vec::new(), None);
        for stretch in stretches {
            orders.push(stretch.order);
            let next = Capture {
                order: PageOrder::new(&[], false),
                ..stretch
            };
            match &mut whole {
                None => whole = Some(next),
                Some(whole) => whole.counted.merge(&next.counted),
            }
        }
        if let Some(whole) = &mut whole {
            PageOrder::join(&mut orders, |distance| whole.counted.add(distance));
        }
        Ok(whole)
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
