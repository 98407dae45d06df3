//! `_page_gaps(condition)`: what each page's references say of its gaps.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue};
use pgtrace_locality::gaps::Gaps;
use pgtrace_locality::index::{Extent, PageKey};

use super::inputs::Inputs;
use super::memory::Memory;
use super::names::Names;
use super::pages::{PageTable, Summary};
use super::pass::{Pass, Stretched, fold, in_stretches};
use super::references::Rows;
use super::texts::Texts;
use super::{BATCH, Operator, Output, is_wanted, no_arguments, time};

pub(crate) const NAME: &str = "_page_gaps";

pub(crate) fn make(arguments: &[ScalarValue]) -> Result<Arc<dyn Operator>> {
    no_arguments(NAME, arguments)?;
    Ok(Arc::new(PageGaps))
}

#[derive(Debug)]
struct PageGaps;

impl Summary for Gaps {
    const WORDS: usize = Gaps::WORDS;

    #[inline]
    fn known(&self) -> bool {
        self.refs > 0
    }

    fn words(&self) -> impl IntoIterator<Item = u64> {
        self.to_words()
    }

    fn take(words: &dyn Fn(usize) -> u64) -> Self {
        Self::from_words(std::array::from_fn(words))
    }
}

impl Operator for PageGaps {
    fn name(&self) -> &'static str {
        NAME
    }

    fn schema(&self) -> SchemaRef {
        let field =
            |name: &str, kind| Field::new(name, kind, name == "path" || name == "object_kind");
        Arc::new(Schema::new(vec![
            field("capture_id", DataType::Utf8View),
            field("object_id", DataType::UInt64),
            field("path", DataType::Utf8View),
            field("object_kind", DataType::Utf8View),
            field("page", DataType::UInt64),
            field("refs", DataType::Int64),
            field("first_seq", DataType::UInt64),
            field("last_seq", DataType::UInt64),
            field("first_ts", time()),
            field("last_ts", time()),
            field("inverse_sum", DataType::Float64),
            field("sum_ns", DataType::UInt64),
            field("inverse_sum_ns", DataType::Float64),
        ]))
    }

    fn reads(&self) -> &'static [&'static str] {
        &["seq", "ts", "object_id", "page", "path", "object_kind"]
    }

    fn reads_for(&self, wanted: &[usize]) -> Vec<&'static str> {
        let schema = self.schema();
        let needed = |name: &str| match name {
            "path" | "object_kind" => is_wanted(&schema, wanted, name),
            _ => true,
        };
        let reads = self.reads().iter().copied();
        reads.filter(|name| needed(name)).collect()
    }

    fn splits_by(&self) -> &'static [&'static str] {
        // Gaps are counted in the capture's own seq, so another page's references do not matter.
        &["capture_id", "object_id", "page", "path", "object_kind"]
    }

    fn in_stretches(&self) -> bool {
        true
    }

    fn run(&self, input: &mut Inputs, output: &mut Output, memory: &Memory) -> Result<()> {
        let extents = input.extents();
        in_stretches(input, output, memory, |capture, _, memory| Capture {
            pages: Pages::new(capture, &extents, memory),
            schema: self.schema(),
        })
    }
}

/// What is known of each page of a capture, and the names of its objects.
pub(super) struct Pages<S> {
    pub(super) capture: Arc<str>,
    pub(super) table: PageTable<S>,
    pub(super) names: Names,
}

impl<S: Summary> Pages<S> {
    pub(super) fn new(capture: &Arc<str>, extents: &[Extent], memory: &Memory) -> Self {
        Self {
            capture: Arc::clone(capture),
            table: PageTable::new(extents, memory),
            names: Names::default(),
        }
    }

    /// Takes the next references: `add` gets what is known of the page, and which of them it is.
    ///
    /// # Errors
    /// When there is neither memory nor disk.
    pub(super) fn stretch(
        &mut self,
        rows: &Rows,
        range: Range<usize>,
        memory: &Memory,
        mut add: impl FnMut(&mut S, usize),
    ) -> Result<()> {
        self.table.room(range.len(), memory, self.names.bytes())?;
        let (objects, pages) = (&rows.object_id[range.clone()], &rows.page[range.clone()]);
        let names = &mut self.names;
        self.table.references(objects, pages, |i, object, known| {
            names.meet(object, rows, range.start + i);
            add(known, i);
        });
        Ok(())
    }

    /// Puts a later stretch behind this.
    ///
    /// # Errors
    /// When there is neither memory nor disk.
    pub(super) fn join(
        &mut self,
        later: Self,
        memory: &Memory,
        mut join: impl FnMut(&mut S, &S),
    ) -> Result<()> {
        let beside = self.names.bytes() + later.names.bytes();
        let slots = self.table.join(later.table, 0, memory, beside, &mut join)?;
        self.names.join(later.names, &slots);
        Ok(())
    }
}

struct Capture {
    pages: Pages<Gaps>,
    schema: SchemaRef,
}

impl Pass for Capture {
    fn stretch(
        &mut self,
        rows: &Rows,
        range: Range<usize>,
        _: &mut Output,
        memory: &Memory,
    ) -> Result<bool> {
        let (seqs, times) = (&rows.seq[range.clone()], &rows.ts[range.clone()]);
        let add = |gaps: &mut Gaps, i: usize| gaps.add(seqs[i], times[i]);
        self.pages.stretch(rows, range, memory, add).map(|()| true)
    }

    fn end(self, output: &mut Output, memory: &Memory) -> Result<bool> {
        let columns = 0..self.schema.fields().len();
        let Pages {
            capture,
            table,
            names,
        } = self.pages;
        let mut writer = Writer {
            objects: table.index.objects().to_vec(),
            names: &names,
            capture: &capture,
            wanted: columns.map(|column| output.wants(column)).collect(),
            schema: self.schema,
            keys: Vec::with_capacity(BATCH),
            gaps: Vec::with_capacity(BATCH),
        };
        let beside = names.bytes() + writer.objects.len() * 8;
        let wanted = table.finish(
            memory,
            beside,
            &mut |known, later| known.join(later),
            &mut |key, gaps| {
                writer.keys.push(key);
                writer.gaps.push(*gaps);
                Ok(writer.keys.len() < BATCH || output.give(writer.batch()?))
            },
        )?;
        Ok(wanted && output.give(writer.batch()?))
    }
}

impl Stretched for Capture {
    fn join(stretches: Vec<Self>, memory: &Memory) -> Result<Option<Self>> {
        fold(stretches, |whole: &mut Self, later| {
            whole.pages.join(later.pages, memory, Gaps::join)
        })
    }
}

/// Gathers a batch of pages: of the columns that are wanted, what is in them.
struct Writer<'a> {
    objects: Vec<u64>,
    names: &'a Names,
    schema: SchemaRef,
    capture: &'a str,
    wanted: Vec<bool>,
    keys: Vec<PageKey>,
    gaps: Vec<Gaps>,
}

impl<'a> Writer<'a> {
    fn batch(&mut self) -> Result<RecordBatch> {
        let rows = self.keys.len();
        let (keys, gaps, names) = (&self.keys, &self.gaps, self.names);
        // Nobody looks at the others: they are zeros.
        let numbers = |wanted: bool, value: &dyn Fn(&PageKey, &Gaps) -> u64| {
            let column = match wanted {
                true => {
                    UInt64Array::from_iter_values(keys.iter().zip(gaps).map(|(k, g)| value(k, g)))
                }
                false => UInt64Array::from(vec![0; rows]),
            };
            Arc::new(column) as ArrayRef
        };
        let times = |wanted: bool, value: fn(&Gaps) -> i64| {
            let times = match wanted {
                true => TimestampNanosecondArray::from_iter_values(gaps.iter().map(value)),
                false => TimestampNanosecondArray::from(vec![0; rows]),
            };
            Arc::new(times.with_timezone("UTC")) as ArrayRef
        };
        let doubles = |wanted: bool, value: fn(&Gaps) -> f64| {
            let column = match wanted {
                true => Float64Array::from_iter_values(gaps.iter().map(value)),
                false => Float64Array::from(vec![0.0; rows]),
            };
            Arc::new(column) as ArrayRef
        };
        let texts = |wanted: bool, value: &dyn Fn(u32) -> Option<&'a str>| {
            let mut texts = Texts::default();
            match wanted {
                true => keys
                    .iter()
                    .for_each(|k| texts.push(k.object, value(k.object))),
                false => (0..rows).for_each(|_| texts.push(0, None)),
            }
            texts.take()
        };
        let w = &self.wanted;
        let capture = match w[0] {
            true => Texts::same(self.capture, rows),
            false => Texts::empty(rows),
        };
        let columns = vec![
            capture,
            numbers(w[1], &|key, _| self.objects[key.object as usize]),
            texts(w[2], &|slot| names.path(slot)),
            texts(w[3], &|slot| names.kind(slot)),
            numbers(w[4], &|key, _| key.page),
            Arc::new(Int64Array::from_iter_values(
                gaps.iter().map(|g| g.refs as i64),
            )),
            numbers(w[6], &|_, gaps| gaps.first_seq),
            numbers(w[7], &|_, gaps| gaps.last_seq),
            times(w[8], |gaps| gaps.first_ts),
            times(w[9], |gaps| gaps.last_ts),
            doubles(w[10], |gaps| gaps.inverse_sum),
            numbers(w[11], &|_, gaps| gaps.sum_ns),
            doubles(w[12], |gaps| gaps.inverse_sum_ns),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        self.keys.clear();
        self.gaps.clear();
        Ok(batch)
    }
}
