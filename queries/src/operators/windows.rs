//! `_windows(condition, window)`: the distinct pages of one window after the other, and what was lost in it.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampNanosecondArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue, plan_datafusion_err, plan_err};
use pgtrace_capture::units;
use pgtrace_locality::index::{PageIndex, TOGETHER};

use super::inputs::Inputs;
use super::losses::{self, Losses};
use super::memory::Memory;
use super::pages;
use super::pass::{Pass, Place, Stretched, in_stretches};
use super::references::Rows;
use super::table::text;
use super::texts::Texts;
use super::{BATCH, Operator, Output, is_wanted, time};

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
                "a window is a time ('100ms', '1s') or a number of references (1000), found {value}{why}; a condition comes after it"
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
            field("lost", &DataType::UInt64),
        ]))
    }

    fn reads(&self) -> &'static [&'static str] {
        &["seq", "ts", "object_id", "page"]
    }

    fn reads_for(&self, wanted: &[usize]) -> Vec<&'static str> {
        let schema = self.schema();
        let seq = ["from_seq", "to_seq"];
        let seq = seq.iter().any(|name| is_wanted(&schema, wanted, name));
        let reads = self.reads().iter().copied();
        reads.filter(|name| *name != "seq" || seq).collect()
    }

    fn beside(&self) -> Option<&'static str> {
        Some(losses::SQL)
    }

    fn in_stretches(&self) -> bool {
        // Where a window of so many references ends follows from all references before.
        matches!(self.0, Length::Ns(_))
    }

    fn run(&self, input: &mut Inputs, output: &mut Output, memory: &Memory) -> Result<()> {
        let (extents, losses) = (input.extents(), Losses::of(input.beside())?);
        in_stretches(input, output, memory, |capture, place, memory| {
            let index = pages::index(&extents, memory, size_of::<u32>());
            Capture {
                id: Arc::clone(capture),
                length: self.0,
                losses: losses.get(&**capture).cloned().unwrap_or_default(),
                place,
                seen: vec![0; index.pages()],
                index,
                number: 0,
                leading: Vec::new(),
                open: None,
                done: Vec::new(),
                credit: 0,
                schema: self.schema(),
            }
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

/// The `seq` of a row; 0 where nobody wants it.
fn seq(rows: &Rows, row: usize) -> u64 {
    rows.seq.get(row).copied().unwrap_or_default()
}

/// Where the first of `times` from `end` on is. Few calls find one in their first thousands: so many are compared at once
/// as the processor can.
fn first_from(times: &[i64], end: i64) -> Option<usize> {
    const AT_ONCE: usize = 256;
    let any = |part: &[i64]| part.iter().fold(false, |any, ts| any | (*ts >= end));
    let part = times.chunks(AT_ONCE).position(any)?;
    let from = part * AT_ONCE;
    let within = times[from..].iter().position(|ts| *ts >= end)?;
    Some(from + within)
}

struct Capture {
    id: Arc<str>,
    length: Length,
    losses: Arc<Losses>,
    place: Place,
    index: PageIndex,
    /// Number of the window that a page was last seen in, by page.
    seen: Vec<u32>,
    number: u32,
    /// Object and page of each page of the first window of a later stretch: the window may have begun before it.
    leading: Vec<(u64, u64)>,
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
            let leading = match self.place {
                Place::Later if self.number <= 1 => (self.leading.len() + step).next_power_of_two(),
                _ => self.leading.capacity(),
            };
            let beside = leading * 16 + self.done.capacity() * size_of::<Window>();
            let bytes = |index: &PageIndex, seen: &Vec<u32>| {
                let after = match index.is_dense() {
                    true => seen.capacity(),
                    false => (seen.len() + step).next_power_of_two().max(seen.capacity()),
                };
                index.bytes_after(step) + 4 * after + beside
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
    fn begin(&mut self, rows: &Rows, row: usize) -> Window {
        self.done.extend(self.open.take());
        self.number += 1;
        let (ts, seq) = (rows.ts[row], seq(rows, row));
        let (from_ts, to_ts) = self.length.bounds(ts);
        *self.open.insert(Window {
            from_ts,
            to_ts,
            from_seq: seq,
            to_seq: seq,
            refs: 0,
            pages: 0,
        })
    }

    /// Counts rows that all belong to the open window.
    fn references(&mut self, rows: &Rows, range: Range<usize>) {
        let keeps = self.place == Place::Later && self.number == 1;
        let mut ids = [0u32; TOGETHER];
        let mut pages = 0;
        for from in range.clone().step_by(TOGETHER) {
            let part = from..(from + TOGETHER).min(range.end);
            let ids = &mut ids[..part.len()];
            for (id, row) in ids.iter_mut().zip(part.clone()) {
                *id = self.index.id(rows.object_id[row], rows.page[row]);
                if *id as usize >= self.seen.len() {
                    self.seen.push(0);
                }
            }
            // Apart from what finds ids: the processor then waits for all of these together.
            for (&id, row) in ids.iter().zip(part) {
                let new = self.seen[id as usize] != self.number;
                self.seen[id as usize] = self.number;
                pages += u64::from(new);
                if new && keeps {
                    self.leading.push((rows.object_id[row], rows.page[row]));
                }
            }
        }
        if let Some(window) = &mut self.open {
            window.refs += range.len() as u64;
            window.pages += pages;
            window.to_seq = seq(rows, range.end - 1);
            if let Length::Refs(_) = self.length {
                let latest = rows.ts[range].iter().copied().max();
                window.to_ts = window.to_ts.max(latest.unwrap_or(window.to_ts));
            }
        }
    }

    fn give(&mut self, output: &mut Output) -> Result<bool> {
        let times = |value: fn(&Window) -> i64| {
            let times = TimestampNanosecondArray::from_iter_values(self.done.iter().map(value));
            Arc::new(times.with_timezone("UTC")) as ArrayRef
        };
        let numbers = |value: fn(&Window) -> u64| {
            Arc::new(UInt64Array::from_iter_values(self.done.iter().map(value))) as ArrayRef
        };
        let lost = self
            .done
            .iter()
            .map(|w| self.losses.within(w.from_ts, w.to_ts));
        let columns = vec![
            Texts::same(&self.id, self.done.len()),
            times(|w| w.from_ts),
            times(|w| w.to_ts),
            numbers(|w| w.from_seq),
            numbers(|w| w.to_seq),
            numbers(|w| w.refs),
            numbers(|w| w.pages),
            Arc::new(UInt64Array::from_iter_values(lost)),
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
        let mut row = range.start;
        while row < range.end {
            let goes_on = |w: &Window| self.length.goes_on(w.to_ts, w.refs, rows.ts[row]);
            let open = self.open.as_ref().filter(|w| goes_on(w)).copied();
            let window = open.unwrap_or_else(|| self.begin(rows, row));
            let left = &rows.ts[row..range.end];
            let refs = match self.length {
                Length::Ns(_) => first_from(left, window.to_ts),
                Length::Refs(most) => usize::try_from(most - window.refs).ok(),
            };
            let refs = refs.unwrap_or(left.len()).clamp(1, left.len());
            self.references(rows, row..row + refs);
            row += refs;
        }
        if self.place == Place::Whole && self.done.len() >= BATCH {
            return self.give(output);
        }
        Ok(true)
    }

    fn end(mut self, output: &mut Output, _: &Memory) -> Result<bool> {
        self.done.extend(self.open.take());
        self.give(output)
    }
}

impl Capture {
    /// Puts a later stretch behind this. `false`: it began with a clock that had stepped back into a window before, so where
    /// its windows end would have been another matter in one pass.
    fn follow(&mut self, mut later: Self) -> bool {
        later.done.extend(later.open.take());
        let mut windows = std::mem::take(&mut later.done).into_iter().peekable();
        let (Some(open), Some(first)) = (&mut self.open, windows.peek()) else {
            return false;
        };
        if first.from_ts < open.to_ts {
            if first.to_ts != open.to_ts {
                return false;
            }
            let mut pages = 0;
            for &(object_id, page) in &later.leading {
                let id = self.index.id(object_id, page) as usize;
                if id >= self.seen.len() {
                    self.seen.push(0);
                }
                pages += u64::from(self.seen[id] != self.number);
                self.seen[id] = self.number;
            }
            open.refs += first.refs;
            open.pages += pages;
            open.to_seq = first.to_seq;
            windows.next();
        }
        if windows.peek().is_none() {
            return true;
        }
        self.done.extend(self.open.take());
        self.done.extend(windows);
        self.open = self.done.pop();
        (self.index, self.seen, self.number) = (later.index, later.seen, later.number);
        true
    }
}

impl Stretched for Capture {
    fn join(stretches: Vec<Self>, _: &Memory) -> Result<Option<Self>> {
        let mut stretches = stretches.into_iter();
        let mut whole = stretches.next();
        for later in stretches {
            whole = whole.and_then(|mut whole| whole.follow(later).then_some(whole));
        }
        Ok(whole)
    }
}
