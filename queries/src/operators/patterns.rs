//! `_patterns(condition, window)`: what each object's references follow, window after window, or (window null) altogether.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use pgtrace_locality::patterns::{Report, Verdict};

use super::inputs::Inputs;
use super::memory::Memory;
use super::pass::{Pass, each_capture};
use super::references::{Rows, text};
use super::texts::Texts;
use super::touches::{self, Objects};
use super::windows::Length;
use super::{BATCH, Operator, Output};

pub(crate) const NAME: &str = "_patterns";

pub(crate) fn make(arguments: &[ScalarValue]) -> Result<Arc<dyn Operator>> {
    let [window] = arguments else {
        return plan_err!("{NAME} takes a condition and a window");
    };
    let length = if window.is_null() {
        None
    } else {
        Some(Length::of(window)?)
    };
    Ok(Arc::new(Patterns(length)))
}

/// Length of a window; `None`: all references are one.
#[derive(Debug)]
struct Patterns(Option<Length>);

/// A figure of a verdict: its column, and what it is.
type Figure<T> = (&'static str, fn(&Verdict) -> Option<T>);

const WHOLE: [Figure<i64>; 5] = [
    ("stride", |v| v.figures.stride),
    ("direction", |v| v.figures.direction.map(i64::from)),
    ("period_pages", |v| v.figures.period_pages.map(|p| p as i64)),
    ("period_refs", |v| v.figures.period_refs.map(|p| p as i64)),
    ("streams", |v| Some(v.stream_count() as i64)),
];

const REAL: [Figure<f64>; 8] = [
    ("first_share", |v| Some(v.figures.first_share)),
    ("stride_share", |v| Some(v.figures.stride_share)),
    ("follow_share", |v| v.figures.follow_share),
    ("mean_rank", |v| v.figures.mean_rank),
    ("shuffled_rank", |v| v.figures.shuffled_rank),
    ("top_share", |v| Some(v.figures.top_share)),
    ("second_share", |v| v.figures.second_share),
    ("popularity_ratio", |v| v.figures.popularity_ratio),
];

impl Operator for Patterns {
    fn name(&self) -> &'static str {
        NAME
    }

    fn schema(&self) -> SchemaRef {
        let field = |name: &str, kind: DataType, null| Field::new(name, kind, null);
        let mut fields = vec![
            field("capture_id", DataType::Utf8View, false),
            field("object_id", DataType::UInt64, false),
            field("path", DataType::Utf8View, true),
            field("from_seq", DataType::UInt64, false),
            field("to_seq", DataType::UInt64, false),
            field("refs", DataType::UInt64, false),
            field("pages", DataType::UInt64, false),
            field("pattern", DataType::Utf8View, false),
            field("confidence", DataType::Float64, false),
        ];
        fields.extend(
            WHOLE
                .iter()
                .map(|(name, _)| field(name, DataType::Int64, true)),
        );
        fields.extend(
            REAL.iter()
                .map(|(name, _)| field(name, DataType::Float64, true)),
        );
        for class in ["read", "write"] {
            fields.push(field(&format!("{class}_pattern"), DataType::Utf8View, true));
            fields.push(field(
                &format!("{class}_confidence"),
                DataType::Float64,
                true,
            ));
        }
        Arc::new(Schema::new(fields))
    }

    fn reads(&self) -> &'static [&'static str] {
        const READS: [&str; 8] = {
            let [a, b, c, d] = touches::COLUMNS;
            [a, b, c, d, "seq", "ts", "object_id", "path"]
        };
        &READS
    }

    fn splits_by(&self) -> &'static [&'static str] {
        match self.0 {
            // A window of references holds other ones when an object is left out.
            Some(Length::Refs(_)) => &["capture_id"],
            _ => &["capture_id", "object_id", "path"],
        }
    }

    fn run(&self, input: &mut Inputs, output: &mut Output, memory: &Memory) -> Result<()> {
        each_capture(input, output, memory, |capture| Capture {
            id: Arc::clone(capture),
            length: self.0,
            objects: Objects::default(),
            paths: std::collections::HashMap::new(),
            open: None,
            done: Vec::new(),
            schema: self.schema(),
        })
    }
}

struct Window {
    to_ts: i64,
    from_seq: u64,
    to_seq: u64,
    refs: u64,
}

struct Found {
    object_id: u64,
    path: Option<String>,
    from_seq: u64,
    to_seq: u64,
    report: Report,
}

struct Capture {
    id: Arc<str>,
    length: Option<Length>,
    objects: Objects<u64>,
    paths: std::collections::HashMap<u64, Option<String>>,
    open: Option<Window>,
    done: Vec<Found>,
    schema: SchemaRef,
}

impl Capture {
    fn within(&self, ts: i64) -> bool {
        let goes_on = |window: &Window| {
            self.length
                .is_none_or(|length| length.goes_on(window.to_ts, window.refs, ts))
        };
        self.open.as_ref().is_some_and(goes_on)
    }

    /// Ends the open window: the verdicts.
    fn close(&mut self) {
        let Some(Window {
            from_seq, to_seq, ..
        }) = self.open.take()
        else {
            return;
        };
        let paths = std::mem::take(&mut self.paths);
        for (object_id, classifier) in std::mem::take(&mut self.objects).by {
            let path = paths.get(&object_id).cloned().flatten();
            self.done.push(Found {
                object_id,
                path,
                from_seq,
                to_seq,
                report: classifier.finish(),
            });
        }
    }

    fn give(&mut self, output: &mut Output) -> Result<bool> {
        let found = std::mem::take(&mut self.done);
        for part in found.chunks(BATCH) {
            if !output.give(self.batch(part)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn batch(&self, part: &[Found]) -> Result<RecordBatch> {
        let numbers = |value: fn(&Found) -> u64| {
            Arc::new(UInt64Array::from_iter_values(part.iter().map(value))) as ArrayRef
        };
        let mut paths = Texts::default();
        for (i, one) in part.iter().enumerate() {
            paths.push(i as u32, one.path.as_deref());
        }
        // Names of patterns are few: a name's place in memory tells it apart.
        let names = |of: fn(&Report) -> Option<&Verdict>| {
            let mut names = Texts::default();
            for one in part {
                let pattern = of(&one.report).map(|v| v.pattern);
                names.push(pattern.map_or(0, |p| p as u32), pattern.map(|p| p.name()));
            }
            names.take()
        };
        let sure = |of: fn(&Report) -> Option<&Verdict>| {
            Arc::new(
                part.iter()
                    .map(|one| of(&one.report).map(|v| v.confidence))
                    .collect::<Float64Array>(),
            ) as ArrayRef
        };
        let mut columns = vec![
            Texts::same(&self.id, part.len()),
            numbers(|f| f.object_id),
            paths.take(),
            numbers(|f| f.from_seq),
            numbers(|f| f.to_seq),
            numbers(|f| f.report.all.figures.refs),
            numbers(|f| f.report.all.figures.pages),
            names(|r| Some(&r.all)),
            sure(|r| Some(&r.all)),
        ];
        columns.extend(WHOLE.iter().map(|(_, of)| {
            Arc::new(
                part.iter()
                    .map(|one| of(&one.report.all))
                    .collect::<Int64Array>(),
            ) as ArrayRef
        }));
        columns.extend(REAL.iter().map(|(_, of)| {
            Arc::new(
                part.iter()
                    .map(|one| of(&one.report.all))
                    .collect::<Float64Array>(),
            ) as ArrayRef
        }));
        columns.extend([names(|r| r.reads.as_ref()), sure(|r| r.reads.as_ref())]);
        columns.extend([names(|r| r.writes.as_ref()), sure(|r| r.writes.as_ref())]);
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
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
        for row in range {
            let (ts, seq) = (rows.ts[row], rows.seq[row]);
            if !self.within(ts) {
                self.close();
                let to_ts = self.length.map_or(ts, |length| length.bounds(ts).1);
                self.open = Some(Window {
                    to_ts,
                    from_seq: seq,
                    to_seq: seq,
                    refs: 0,
                });
            }
            if let Some(window) = &mut self.open {
                window.refs += 1;
                window.to_seq = seq;
            }
            let object = rows.object_id[row];
            self.objects.push(object, &touches::touch(rows, row));
            self.paths
                .entry(object)
                .or_insert_with(|| text(rows.path.as_ref(), row).map(str::to_owned));
        }
        memory.need(
            self.objects.bytes() + self.paths.len() * 200 + self.done.len() * size_of::<Found>(),
            "the references of one window (a shorter one takes less)",
        )?;
        Ok(self.done.len() < BATCH || self.give(output)?)
    }

    fn end(mut self, output: &mut Output, _: &Memory) -> Result<bool> {
        self.close();
        self.give(output)
    }
}
