//! `_page_gaps(condition)`: what each page's references say of its gaps.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue};
use pgtrace_locality::gaps::Gaps;
use pgtrace_locality::index::PageKey;

use super::inputs::Inputs;
use super::memory::Memory;
use super::names::Names;
use super::pages::{PageTable, Summary};
use super::pass::{Pass, Stretched, fold, in_stretches};
use super::references::Rows;
use super::texts::Texts;
use super::{BATCH, Operator, Output, no_arguments, time};

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

    fn put(&self, words: &mut [Vec<u64>]) {
        words
            .iter_mut()
            .zip(self.to_words())
            .for_each(|(column, word)| column.push(word));
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
        &["ts", "object_id", "page", "path", "object_kind"]
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
            id: Arc::clone(capture),
            table: PageTable::new(&extents, memory),
            names: Names::default(),
            schema: self.schema(),
        })
    }
}

struct Capture {
    id: Arc<str>,
    table: PageTable<Gaps>,
    names: Names,
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
        self.table.room(range.len(), memory, self.names.bytes())?;
        let (seqs, times) = (&rows.seq[range.clone()], &rows.ts[range.clone()]);
        let (objects, pages) = (&rows.object_id[range.clone()], &rows.page[range.clone()]);
        let names = &mut self.names;
        self.table.references(objects, pages, |i, object, gaps| {
            names.meet(object, rows, range.start + i);
            gaps.add(seqs[i], times[i]);
        });
        Ok(true)
    }

    fn end(self, output: &mut Output, memory: &Memory) -> Result<bool> {
        let mut writer = Writer::new(
            &self.id,
            self.table.index.objects().to_vec(),
            &self.names,
            self.schema,
        );
        let beside = self.names.bytes() + writer.objects.len() * 8;
        let wanted = self.table.finish(
            memory,
            beside,
            &mut |known, later| known.join(later),
            &mut |key, gaps| {
                writer.page(key, gaps);
                Ok(writer.refs.len() < BATCH || output.give(writer.batch()?))
            },
        )?;
        Ok(wanted && output.give(writer.batch()?))
    }
}

impl Stretched for Capture {
    fn join(stretches: Vec<Self>, memory: &Memory) -> Result<Option<Self>> {
        fold(stretches, |whole: &mut Self, later| {
            let beside = whole.names.bytes() + later.names.bytes();
            let mut join = |known: &mut Gaps, later: &Gaps| known.join(later);
            let slots = whole
                .table
                .join(later.table, 0, memory, beside, &mut join)?;
            whole.names.join(later.names, &slots);
            Ok(())
        })
    }
}

/// Gathers a batch of pages.
struct Writer<'a> {
    objects: Vec<u64>,
    names: &'a Names,
    schema: SchemaRef,
    capture: &'a str,
    object_id: Vec<u64>,
    paths: Texts,
    kinds: Texts,
    page: Vec<u64>,
    refs: Vec<i64>,
    first_seq: Vec<u64>,
    last_seq: Vec<u64>,
    first_ts: Vec<i64>,
    last_ts: Vec<i64>,
    inverse_sum: Vec<f64>,
    sum_ns: Vec<u64>,
    inverse_sum_ns: Vec<f64>,
}

impl<'a> Writer<'a> {
    fn new(capture: &'a str, objects: Vec<u64>, names: &'a Names, schema: SchemaRef) -> Self {
        Self {
            objects,
            names,
            schema,
            capture,
            object_id: Vec::new(),
            paths: Texts::default(),
            kinds: Texts::default(),
            page: Vec::new(),
            refs: Vec::new(),
            first_seq: Vec::new(),
            last_seq: Vec::new(),
            first_ts: Vec::new(),
            last_ts: Vec::new(),
            inverse_sum: Vec::new(),
            sum_ns: Vec::new(),
            inverse_sum_ns: Vec::new(),
        }
    }

    fn page(&mut self, key: PageKey, gaps: &Gaps) {
        self.object_id.push(self.objects[key.object as usize]);
        self.paths.push(key.object, self.names.path(key.object));
        self.kinds.push(key.object, self.names.kind(key.object));
        self.page.push(key.page);
        self.refs.push(gaps.refs as i64);
        self.first_seq.push(gaps.first_seq);
        self.last_seq.push(gaps.last_seq);
        self.first_ts.push(gaps.first_ts);
        self.last_ts.push(gaps.last_ts);
        self.inverse_sum.push(gaps.inverse_sum);
        self.sum_ns.push(gaps.sum_ns);
        self.inverse_sum_ns.push(gaps.inverse_sum_ns);
    }

    fn batch(&mut self) -> Result<RecordBatch> {
        use std::mem::take;
        let numbers = |column: &mut Vec<u64>| Arc::new(UInt64Array::from(take(column))) as ArrayRef;
        let times = |column: &mut Vec<i64>| {
            Arc::new(TimestampNanosecondArray::from(take(column)).with_timezone("UTC")) as ArrayRef
        };
        let doubles =
            |column: &mut Vec<f64>| Arc::new(Float64Array::from(take(column))) as ArrayRef;
        let columns = vec![
            Texts::same(self.capture, self.page.len()),
            numbers(&mut self.object_id),
            self.paths.take(),
            self.kinds.take(),
            numbers(&mut self.page),
            Arc::new(Int64Array::from(take(&mut self.refs))),
            numbers(&mut self.first_seq),
            numbers(&mut self.last_seq),
            times(&mut self.first_ts),
            times(&mut self.last_ts),
            doubles(&mut self.inverse_sum),
            numbers(&mut self.sum_ns),
            doubles(&mut self.inverse_sum_ns),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}
