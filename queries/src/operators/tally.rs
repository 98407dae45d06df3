//! `_tally(condition, by)`: references and distinct pages of each object (`'object'`), or of each object as each process
//! referenced it (`'process'`). What `GROUP BY` with `count(DISTINCT ..)` would keep in memory is a spilling table of pages.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use pgtrace_locality::index::{TOGETHER, page_hash};

use super::inputs::Inputs;
use super::memory::Memory;
use super::pages::{PageTable, Summary};
use super::pass::{Pass, Stretched, fold, in_stretches};
use super::references::{Done, Rows, text};
use super::texts::Texts;
use super::{BATCH, Operator, Output, is_wanted};

pub(crate) const NAME: &str = "_tally";

pub(crate) fn make(arguments: &[ScalarValue]) -> Result<Arc<dyn Operator>> {
    match arguments {
        [by] if by.try_as_str() == Some(Some("object")) => {
            Ok(Arc::new(Tally { by_process: false }))
        }
        [by] if by.try_as_str() == Some(Some("process")) => {
            Ok(Arc::new(Tally { by_process: true }))
        }
        _ => plan_err!("{NAME} takes a condition and 'object' or 'process'"),
    }
}

#[derive(Debug)]
struct Tally {
    by_process: bool,
}

/// Whether a page was referenced.
#[derive(Clone, Copy, Default)]
struct Seen(bool);

impl Summary for Seen {
    const WORDS: usize = 0;

    #[inline]
    fn known(&self) -> bool {
        self.0
    }

    fn words(&self) -> impl IntoIterator<Item = u64> {
        []
    }

    fn take(_: &dyn Fn(usize) -> u64) -> Self {
        Self(true)
    }
}

impl Operator for Tally {
    fn name(&self) -> &'static str {
        NAME
    }

    fn schema(&self) -> SchemaRef {
        let field = |name: &str, kind: DataType, null| Field::new(name, kind, null);
        let mut fields = vec![
            field("capture_id", DataType::Utf8View, false),
            field("upid", DataType::UInt64, false),
            field("pid", DataType::UInt32, false),
            field("comm", DataType::Utf8View, true),
            field("object_id", DataType::UInt64, false),
            field("path", DataType::Utf8View, true),
            field("object_kind", DataType::Utf8View, true),
        ];
        fields.extend(
            COUNTS
                .iter()
                .map(|(name, _)| field(name, DataType::Int64, false)),
        );
        Arc::new(Schema::new(fields))
    }

    fn reads(&self) -> &'static [&'static str] {
        &[
            "object_id",
            "page",
            "upid",
            "pid",
            "comm",
            "path",
            "object_kind",
            "event",
            "access",
            "major",
        ]
    }

    fn reads_for(&self, wanted: &[usize]) -> Vec<&'static str> {
        let schema = self.schema();
        let wants = |name: &str| is_wanted(&schema, wanted, name);
        let needed = |name: &str| match name {
            "page" => wants("pages"),
            "access" => wants("reads") || wants("writes") || wants("execs"),
            "event" => wants("faults"),
            "major" => wants("majors"),
            "upid" => self.by_process || wants("upid"),
            "object_id" => true,
            name => wants(name),
        };
        let reads = self.reads().iter().copied();
        reads.filter(|name| needed(name)).collect()
    }

    fn splits_by(&self) -> &'static [&'static str] {
        match self.by_process {
            true => &["capture_id", "object_id", "path", "object_kind", "upid"],
            false => &["capture_id", "object_id", "path", "object_kind"],
        }
    }

    fn in_stretches(&self) -> bool {
        true
    }

    fn run(&self, input: &mut Inputs, output: &mut Output, memory: &Memory) -> Result<()> {
        let extents = match self.by_process {
            true => Arc::default(), // the same page once a process
            false => input.extents(),
        };
        in_stretches(input, output, memory, |capture, _, memory| Capture {
            id: Arc::clone(capture),
            by_process: self.by_process,
            keys: HashMap::new(),
            tallies: Vec::new(),
            recent: Box::new([None; RECENT]),
            table: PageTable::new(&extents, memory),
            bytes: 0,
            schema: self.schema(),
        })
    }
}

/// What is counted of a key. Of process and names, what the first reference says.
struct One {
    upid: u64,
    pid: u32,
    comm: Option<String>,
    object_id: u64,
    path: Option<String>,
    kind: Option<String>,
    refs: i64,
    pages: i64,
    reads: i64,
    writes: i64,
    execs: i64,
    faults: i64,
    majors: i64,
}

impl One {
    #[inline]
    fn add(&mut self, rows: &Rows, row: usize) {
        self.refs += 1;
        match rows.access.as_ref().map(|access| access.of(row)) {
            Some(Done::Read) => self.reads += 1,
            Some(Done::Write) => self.writes += 1,
            Some(Done::Exec) => self.execs += 1,
            _ => {}
        }
        let fault = rows.fault.as_ref().is_some_and(|fault| fault.of(row));
        let major = |major: &arrow::array::BooleanArray| major.is_valid(row) && major.value(row);
        self.faults += i64::from(fault);
        self.majors += i64::from(rows.major.as_ref().is_some_and(major));
    }

    fn join(&mut self, later: &One) {
        self.refs += later.refs;
        self.reads += later.reads;
        self.writes += later.writes;
        self.execs += later.execs;
        self.faults += later.faults;
        self.majors += later.majors;
    }
}

type Count = (&'static str, fn(&One) -> i64);

const COUNTS: [Count; 7] = [
    ("refs", |one| one.refs),
    ("pages", |one| one.pages),
    ("reads", |one| one.reads),
    ("writes", |one| one.writes),
    ("execs", |one| one.execs),
    ("faults", |one| one.faults),
    ("majors", |one| one.majors),
];

/// An object, and a process or 0.
type Key = (u64, u64);

/// A trace goes to and fro between a few keys.
const RECENT: usize = 256;

struct Capture {
    id: Arc<str>,
    by_process: bool,
    /// (object, process or 0) to its place among the tallies.
    keys: HashMap<Key, u32>,
    tallies: Vec<One>,
    /// Keys met lately, by a few bits of their hash.
    recent: Box<[Option<(Key, u32)>; RECENT]>,
    /// Pages of keys: of objects by their ids, or of places, as if each were an object.
    table: PageTable<Seen>,
    /// Bytes of keys and tallies.
    bytes: usize,
    schema: SchemaRef,
}

impl Capture {
    #[inline]
    fn place(&mut self, rows: &Rows, row: usize) -> u32 {
        let key = (
            rows.object_id[row],
            if self.by_process { rows.upid[row] } else { 0 },
        );
        let at = page_hash(key.0, key.1) as usize % RECENT;
        match self.recent[at] {
            Some((recent, place)) if recent == key => place,
            _ => {
                let place = self.find(key, rows, row);
                self.recent[at] = Some((key, place));
                place
            }
        }
    }

    fn find(&mut self, key: Key, rows: &Rows, row: usize) -> u32 {
        let next = self.tallies.len() as u32;
        let place = *self.keys.entry(key).or_insert(next);
        if place == next {
            let owned = |column| text(column, row).map(str::to_owned);
            let one = One {
                // A column that nobody wants was not read.
                upid: rows.upid.get(row).copied().unwrap_or_default(),
                pid: rows.pid.get(row).copied().unwrap_or_default(),
                comm: owned(rows.comm.as_ref()),
                object_id: key.0,
                path: owned(rows.path.as_ref()),
                kind: owned(rows.object_kind.as_ref()),
                refs: 0,
                pages: 0,
                reads: 0,
                writes: 0,
                execs: 0,
                faults: 0,
                majors: 0,
            };
            self.bytes += 2 * size_of::<One>() + 64 + one.path.as_ref().map_or(0, String::len);
            self.tallies.push(one);
        }
        place
    }

    fn batch(&self, part: &[One]) -> Result<RecordBatch> {
        let texts = |value: fn(&One) -> Option<&str>| {
            let mut texts = Texts::default();
            part.iter()
                .enumerate()
                .for_each(|(i, one)| texts.push(i as u32, value(one)));
            texts.take()
        };
        let numbers = |value: fn(&One) -> u64| {
            Arc::new(UInt64Array::from_iter_values(part.iter().map(value))) as ArrayRef
        };
        let mut columns = vec![
            Texts::same(&self.id, part.len()),
            numbers(|one| one.upid),
            Arc::new(UInt32Array::from_iter_values(
                part.iter().map(|one| one.pid),
            )),
            texts(|one| one.comm.as_deref()),
            numbers(|one| one.object_id),
            texts(|one| one.path.as_deref()),
            texts(|one| one.kind.as_deref()),
        ];
        columns.extend(COUNTS.iter().map(|(_, count)| {
            Arc::new(Int64Array::from_iter_values(part.iter().map(count))) as ArrayRef
        }));
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

impl Pass for Capture {
    fn stretch(
        &mut self,
        rows: &Rows,
        range: Range<usize>,
        _: &mut Output,
        memory: &Memory,
    ) -> Result<bool> {
        let pages = if rows.page.is_empty() { 0 } else { range.len() };
        self.table.room(pages, memory, self.bytes)?;
        let mut keys = [0u64; TOGETHER];
        for from in range.clone().step_by(keys.len()) {
            let part = from..(from + keys.len()).min(range.end);
            let keys = &mut keys[..part.len()];
            for (key, row) in keys.iter_mut().zip(part.clone()) {
                let place = self.place(rows, row);
                self.tallies[place as usize].add(rows, row);
                *key = match self.by_process {
                    true => u64::from(place),
                    false => rows.object_id[row],
                };
            }
            if let Some(pages) = rows.page.get(part) {
                self.table
                    .references(keys, pages, |_, _, seen| seen.0 = true);
            }
        }
        Ok(true)
    }

    fn end(mut self, output: &mut Output, memory: &Memory) -> Result<bool> {
        let table = std::mem::replace(&mut self.table, PageTable::new(&[], memory));
        let (tallies, keys) = (&mut self.tallies, &self.keys);
        // The key's place, by slot of the table.
        let objects = table.index.objects().iter();
        let places: Vec<Option<u32>> = match self.by_process {
            true => objects.map(|place| u32::try_from(*place).ok()).collect(),
            false => objects.map(|id| keys.get(&(*id, 0)).copied()).collect(),
        };
        table.finish(memory, self.bytes, &mut |_, _| {}, &mut |key, _| {
            if let Some(place) = places[key.object as usize] {
                tallies[place as usize].pages += 1;
            }
            Ok(true)
        })?;
        for part in self.tallies.chunks(BATCH) {
            if !output.give(self.batch(part)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Stretched for Capture {
    fn join(stretches: Vec<Self>, memory: &Memory) -> Result<Option<Self>> {
        fold(stretches, |whole: &mut Self, mut later| {
            let found: HashMap<u32, Key> = later
                .keys
                .into_iter()
                .map(|(key, place)| (place, key))
                .collect();
            let mut places = Vec::with_capacity(later.tallies.len());
            for (place, one) in later.tallies.into_iter().enumerate() {
                let key = found.get(&(place as u32)).copied().unwrap_or_default();
                let next = whole.tallies.len() as u32;
                let place = *whole.keys.entry(key).or_insert(next);
                places.push(place);
                match whole.tallies.get_mut(place as usize) {
                    Some(known) => known.join(&one),
                    None => whole.tallies.push(one),
                }
            }
            whole.bytes += later.bytes;
            if whole.by_process {
                later
                    .table
                    .index
                    .rename(|place| u64::from(places[place as usize]));
            }
            let mut join = |known: &mut Seen, _: &Seen| known.0 = true;
            whole
                .table
                .join(later.table, 0, memory, whole.bytes, &mut join)?;
            Ok(())
        })
    }
}
