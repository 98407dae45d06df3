//! `_gap_histogram(condition, of)`: how many pages of each object have a mean gap of a magnitude, in references (`'refs'`) or
//! on the clock (`'ns'`). What `GROUP BY` over `_page_gaps` would give, without a row for each page.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use pgtrace_locality::gaps::Mean;

use super::inputs::Inputs;
use super::memory::Memory;
use super::page_gaps::Pages;
use super::pages::Summary;
use super::pass::{Pass, Stretched, fold, in_stretches};
use super::references::Rows;
use super::texts::Texts;
use super::{BATCH, Operator, Output, is_wanted};

pub(crate) const NAME: &str = "_gap_histogram";

pub(crate) fn make(arguments: &[ScalarValue]) -> Result<Arc<dyn Operator>> {
    match arguments {
        [of] if of.try_as_str() == Some(Some("refs")) => Ok(Arc::new(Histogram { ns: false })),
        [of] if of.try_as_str() == Some(Some("ns")) => Ok(Arc::new(Histogram { ns: true })),
        _ => plan_err!("{NAME} takes a condition and 'refs' or 'ns'"),
    }
}

#[derive(Debug)]
struct Histogram {
    ns: bool,
}

impl Operator for Histogram {
    fn name(&self) -> &'static str {
        NAME
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("capture_id", DataType::Utf8View, false),
            Field::new("object_id", DataType::UInt64, false),
            Field::new("path", DataType::Utf8View, true),
            Field::new("magnitude", DataType::Float64, false),
            Field::new("pages", DataType::Int64, false),
        ]))
    }

    fn reads(&self) -> &'static [&'static str] {
        &["seq", "ts", "object_id", "page", "path"]
    }

    fn reads_for(&self, wanted: &[usize]) -> Vec<&'static str> {
        let (schema, reads) = (self.schema(), self.reads().iter().copied());
        let needed = |name: &str| match name {
            "path" => is_wanted(&schema, wanted, "path"),
            "seq" => !self.ns,
            "ts" => self.ns,
            _ => true,
        };
        reads.filter(|name| needed(name)).collect()
    }

    fn splits_by(&self) -> &'static [&'static str] {
        &["capture_id", "object_id", "path"]
    }

    fn in_stretches(&self) -> bool {
        true
    }

    fn run(&self, input: &mut Inputs, output: &mut Output, memory: &Memory) -> Result<()> {
        let extents = input.extents();
        in_stretches(input, output, memory, |capture, _, memory| Capture {
            pages: Pages::new(capture, &extents, memory),
            ns: self.ns,
            schema: self.schema(),
        })
    }
}

impl Summary for Mean {
    const WORDS: usize = Mean::WORDS;

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

struct Capture {
    pages: Pages<Mean>,
    ns: bool,
    schema: SchemaRef,
}

/// The power of two at or below the mean gap of a page; `None`: it was referenced once.
fn magnitude(mean: &Mean) -> Option<i32> {
    mean.gap_mean().map(|mean| mean.log2().floor() as i32)
}

impl Pass for Capture {
    fn stretch(
        &mut self,
        rows: &Rows,
        range: Range<usize>,
        _: &mut Output,
        memory: &Memory,
    ) -> Result<bool> {
        let (at, pages) = (range.clone(), &mut self.pages);
        if self.ns {
            let times = &rows.ts[at];
            let add = |mean: &mut Mean, i: usize| mean.add(times[i]);
            pages.stretch(rows, range, memory, add)?;
        } else {
            // Positions of all the string's references are far below 2^63.
            let seqs = &rows.seq[at];
            let add = |mean: &mut Mean, i: usize| mean.add(seqs[i] as i64);
            pages.stretch(rows, range, memory, add)?;
        }
        Ok(true)
    }

    fn end(self, output: &mut Output, memory: &Memory) -> Result<bool> {
        let Pages {
            capture,
            table,
            names,
        } = self.pages;
        let objects = table.index.objects().to_vec();
        let mut counts: BTreeMap<(u32, i32), i64> = BTreeMap::new();
        // Pages of an object come together, and of few magnitudes.
        let mut recent: Option<((u32, i32), i64)> = None;
        let beside = names.bytes() + objects.len() * 512;
        table.finish(
            memory,
            beside,
            &mut |known, later| known.join(later),
            &mut |key, mean| {
                if let Some(magnitude) = magnitude(mean) {
                    let at = (key.object, magnitude);
                    match &mut recent {
                        Some((last, count)) if *last == at => *count += 1,
                        _ => {
                            if let Some((last, count)) = recent.replace((at, 1)) {
                                *counts.entry(last).or_default() += count;
                            }
                        }
                    }
                }
                Ok(true)
            },
        )?;
        if let Some((last, count)) = recent {
            *counts.entry(last).or_default() += count;
        }
        let rows: Vec<((u32, i32), i64)> = counts.into_iter().collect();
        for part in rows.chunks(BATCH) {
            let mut paths = Texts::default();
            part.iter()
                .for_each(|((slot, _), _)| paths.push(*slot, names.path(*slot)));
            let object_ids = part.iter().map(|((slot, _), _)| objects[*slot as usize]);
            let magnitudes = part.iter().map(|((_, magnitude), _)| f64::from(*magnitude));
            let columns: Vec<ArrayRef> = vec![
                Texts::same(&capture, part.len()),
                Arc::new(UInt64Array::from_iter_values(object_ids)),
                paths.take(),
                Arc::new(Float64Array::from_iter_values(magnitudes)),
                Arc::new(Int64Array::from_iter_values(
                    part.iter().map(|(_, pages)| *pages),
                )),
            ];
            if !output.give(RecordBatch::try_new(Arc::clone(&self.schema), columns)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Stretched for Capture {
    fn join(stretches: Vec<Self>, memory: &Memory) -> Result<Option<Self>> {
        fold(stretches, |whole: &mut Self, later| {
            whole.pages.join(later.pages, memory, Mean::join)
        })
    }
}
