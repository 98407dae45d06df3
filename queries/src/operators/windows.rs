//! `_windows(condition, window)`: the distinct pages of one window after the other.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampNanosecondArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue, plan_datafusion_err, plan_err};
use pgtrace_capture::units;
use pgtrace_locality::index::PageIndex;

use super::memory::Memory;
use super::pass::{Pass, each_capture};
use super::references::{References, Rows};
use super::table::text;
use super::texts::Texts;
use super::{BATCH, Operator, Output, time};

pub(crate) const NAME: &str = "_windows";

/// How long a window is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Length {
    /// On the clock; windows begin at whole multiples of it since 1970.
    Ns(i64),
    /// In references of the dataset.
    Refs(u64),
}

impl Length {
    /// A number is references, a text with a unit time: `'100ms'`, `1000`, `'1000'`.
    ///
    /// # Errors
    /// Says what it cannot read.
    pub(crate) fn of(value: &ScalarValue) -> Result<Self> {
        let wrong = |why: &str| {
            plan_datafusion_err!(
                "a window is a time ('100ms', '1s') or a number of references (1000), found {value}{why}"
            )
        };
        let words = match text(value) {
            Ok(words) => words.trim().to_owned(),
            Err(_) => value.to_string(),
        };
        if let Ok(refs) = words.parse::<u64>() {
            return if refs > 0 {
                Ok(Self::Refs(refs))
            } else {
                Err(wrong(": it would be empty"))
            };
        }
        let time = units::time(&words).map_err(|e| wrong(&format!(": {e}")))?;
        match i64::try_from(time.as_nanos()) {
            Ok(ns) if ns > 0 && words.ends_with(char::is_alphabetic) => Ok(Self::Ns(ns)),
            _ => Err(wrong("")),
        }
    }

    /// Begin and end (exclusive) of the window that a reference at `ts` begins; the end of one of references is not
    /// known before it is over.
    pub(crate) fn bounds(self, ts: i64) -> (i64, i64) {
        match self {
            Self::Ns(ns) => {
                let from = ts.div_euclid(ns) * ns;
                (from, from.saturating_add(ns))
            }
            Self::Refs(_) => (ts, ts),
        }
    }

    /// Whether a reference at `ts` belongs to the open window, which ends at `to_ts` and has `refs` references.
    pub(crate) fn goes_on(self, to_ts: i64, refs: u64, ts: i64) -> bool {
        match self {
            // Two CPUs' clocks may step back a little: what belongs to a window that is over counts to this one.
            Self::Ns(_) => ts < to_ts,
            Self::Refs(most) => refs < most,
        }
    }
}

pub(crate) fn make(arguments: &[ScalarValue]) -> Result<Arc<dyn Operator>> {
    let [window] = arguments else {
        return plan_err!("{NAME} takes a condition and a window");
    };
    Ok(Arc::new(Windows(Length::of(window)?)))
}

#[derive(Debug)]
struct Windows(Length);

impl Operator for Windows {
    fn name(&self) -> &'static str {
        NAME
    }

    fn schema(&self) -> SchemaRef {
        let time = time();
        let field = |name: &str, kind: &DataType| Field::new(name, kind.clone(), false);
        Arc::new(Schema::new(vec![
            field("capture_id", &DataType::Utf8View),
            field("from_ts", &time),
            field("to_ts", &time),
            field("from_seq", &DataType::UInt64),
            field("to_seq", &DataType::UInt64),
            field("refs", &DataType::UInt64),
            field("pages", &DataType::UInt64),
        ]))
    }

    fn reads(&self) -> &'static [&'static str] {
        &["ts", "object_id", "page"]
    }

    fn run(&self, input: &mut References, output: &mut Output, memory: &Memory) -> Result<()> {
        each_capture(input, output, memory, |capture| Capture {
            id: Arc::clone(capture),
            length: self.0,
            index: PageIndex::new(),
            seen: Vec::new(),
            number: 0,
            open: None,
            done: Vec::new(),
            credit: 0,
            schema: self.schema(),
        })
    }
}

#[derive(Clone, Copy)]
struct Window {
    from_ts: i64,
    to_ts: i64,
    from_seq: u64,
    to_seq: u64,
    refs: u64,
    pages: u64,
}

struct Capture {
    id: Arc<str>,
    length: Length,
    index: PageIndex,
    /// Number of the window that a page was last seen in, by page.
    seen: Vec<u32>,
    number: u32,
    open: Option<Window>,
    done: Vec<Window>,
    /// Further pages that memory is held for.
    credit: usize,
    schema: SchemaRef,
}

impl Capture {
    /// Holds memory for `more` pages. Pages of windows that are over can be forgotten, those of this one cannot.
    fn room(&mut self, more: usize, memory: &Memory) -> Result<()> {
        if self.credit < more {
            let step = more.max(4096);
            let bytes = |index: &PageIndex, seen: &Vec<u32>| {
                let after = (seen.len() + step).next_power_of_two().max(seen.capacity());
                index.bytes_after(step) + 4 * after
            };
            if !memory.hold(bytes(&self.index, &self.seen)) {
                self.forget();
                memory.need(
                    bytes(&self.index, &self.seen),
                    "the pages of one window (a shorter one takes less)",
                )?;
            }
            self.credit = step;
        }
        self.credit -= more;
        Ok(())
    }

    /// Forgets the pages that are not of the open window.
    fn forget(&mut self) {
        let mut index = PageIndex::new();
        for &object in self.index.objects() {
            index.object(object);
        }
        for (id, key) in self.index.keys() {
            if self.seen[id as usize] == self.number {
                index.id_in(key.object, key.page);
            }
        }
        self.seen = vec![self.number; index.pages()];
        self.index = index;
    }

    /// Ends the open window, begins one at `row`.
    #[cold]
    fn begin(&mut self, rows: &Rows, row: usize) {
        self.done.extend(self.open.take());
        self.number += 1;
        let (ts, seq) = (rows.ts[row], rows.seq[row]);
        let (from_ts, to_ts) = self.length.bounds(ts);
        self.open = Some(Window {
            from_ts,
            to_ts,
            from_seq: seq,
            to_seq: seq,
            refs: 0,
            pages: 0,
        });
    }

    fn give(&mut self, output: &mut Output) -> Result<bool> {
        let times = |value: fn(&Window) -> i64| {
            let times = TimestampNanosecondArray::from_iter_values(self.done.iter().map(value));
            Arc::new(times.with_timezone("UTC")) as ArrayRef
        };
        let numbers = |value: fn(&Window) -> u64| {
            Arc::new(UInt64Array::from_iter_values(self.done.iter().map(value))) as ArrayRef
        };
        let columns = vec![
            Texts::same(&self.id, self.done.len()),
            times(|w| w.from_ts),
            times(|w| w.to_ts),
            numbers(|w| w.from_seq),
            numbers(|w| w.to_seq),
            numbers(|w| w.refs),
            numbers(|w| w.pages),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        self.done.clear();
        Ok(output.give(batch))
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
        for row in range {
            let goes_on = |w: &Window| self.length.goes_on(w.to_ts, w.refs, rows.ts[row]);
            let within = self.open.as_ref().is_some_and(goes_on);
            if !within {
                self.begin(rows, row);
            }
            let id = self.index.id(rows.object_id[row], rows.page[row]) as usize;
            if id >= self.seen.len() {
                self.seen.push(0);
            }
            let new = self.seen[id] != self.number;
            self.seen[id] = self.number;
            if let Some(window) = &mut self.open {
                window.refs += 1;
                window.pages += u64::from(new);
                window.to_seq = rows.seq[row];
                if let Length::Refs(_) = self.length {
                    window.to_ts = window.to_ts.max(rows.ts[row]);
                }
            }
        }
        Ok(self.done.len() < BATCH || self.give(output)?)
    }

    fn end(mut self, output: &mut Output, _: &Memory) -> Result<bool> {
        self.done.extend(self.open.take());
        self.give(output)
    }
}
