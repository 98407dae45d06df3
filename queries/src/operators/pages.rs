//! What is known of each page, in memory as long as it fits, else on disk.
//!
//! Where it is known that pages lie close together, their places in an array are what numbers them, and nothing is looked
//! up. When memory is full, what is known goes to disk, divided by a hash of the page, and the pages are forgotten: the
//! next stretch of the reference string begins anew. At the end each division's parts are joined in order. So a pass
//! over references takes a bounded amount of memory, reads its input once, and writes a page once a stretch.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::common::Result;
use pgtrace_locality::index::{Extent, PageIndex, PageKey, TOGETHER, page_hash};

use super::BATCH;
use super::memory::{Memory, SpillPath};

/// What is kept of a page.
pub(crate) trait Summary: Default + Copy + Send {
    /// Whether there was a reference to the page: false of the default.
    fn known(&self) -> bool;

    /// 64-bit words that it takes in a file.
    const WORDS: usize;

    /// Counts positions, if it has any, from one that is `by` earlier.
    fn shift(&mut self, _by: u64) {}

    /// Its words.
    fn words(&self) -> impl IntoIterator<Item = u64>;

    /// Reads its words.
    fn take(words: &dyn Fn(usize) -> u64) -> Self;
}

/// Puts what a later stretch says behind what an earlier one said.
pub(crate) type Join<'a, S> = &'a mut dyn FnMut(&mut S, &S);

/// Divisions of a spilled table: pages that come to lie in memory at the same time.
const PARTS: usize = 32;
/// Divisions of divisions, at most: 32^5 is enough for any number of pages.
const LEVELS: u32 = 5;
/// Pages by which a table grows before it asks for memory again.
const STEP: usize = 4096;

/// An index of the pages: where they lie, if that is known and there is memory for all of them, at `bytes` a page.
pub(crate) fn index(extents: &[Extent], memory: &Memory, bytes: usize) -> PageIndex {
    let fits =
        |index: &PageIndex| index.is_dense() && memory.hold(index.pages() * bytes + index.bytes());
    PageIndex::dense(extents).filter(fits).unwrap_or_default()
}

/// Pages of one capture, with what is known of each.
pub(crate) struct PageTable<S> {
    pub(crate) index: PageIndex,
    states: Vec<S>,
    /// Further pages that memory is held for.
    credit: usize,
    spilled: Option<Vec<Part>>,
    /// By division, what other tables spilled before: the files, in order.
    before: Vec<Vec<Closed>>,
    level: u32,
}

impl<S: Summary> PageTable<S> {
    /// A table; `extents`: where the pages lie, if that is known.
    pub(crate) fn new(extents: &[Extent], memory: &Memory) -> Self {
        let index = index(extents, memory, size_of::<S>());
        Self {
            states: vec![S::default(); index.pages()],
            index,
            ..Self::at(0)
        }
    }

    fn at(level: u32) -> Self {
        Self {
            index: PageIndex::new(),
            states: Vec::new(),
            credit: 0,
            spilled: None,
            before: Vec::new(),
            level,
        }
    }

    /// Makes room for `more` pages; `beside` are bytes that the operator holds besides.
    ///
    /// # Errors
    /// When there is neither memory nor disk.
    #[inline]
    pub(crate) fn room(&mut self, more: usize, memory: &Memory, beside: usize) -> Result<()> {
        if self.credit < more {
            self.more_room(more.max(STEP), memory, beside)?;
        }
        self.credit -= more;
        Ok(())
    }

    #[cold]
    fn more_room(&mut self, more: usize, memory: &Memory, beside: usize) -> Result<()> {
        if !memory.hold(self.bytes_after(more) + beside) {
            if self.index.pages() > 0 && self.level < LEVELS {
                self.spill(memory)?;
            }
            memory.need(self.bytes_after(more) + beside, "the pages it is at")?;
        }
        self.credit = more;
        Ok(())
    }

    fn bytes_after(&self, more: usize) -> usize {
        let (pages, room) = (self.states.len() + more, self.states.capacity());
        let states = if pages <= room || self.index.is_dense() {
            room
        } else {
            pages.next_power_of_two()
        };
        // What is being written: a batch of each division.
        let writing = self
            .spilled
            .as_ref()
            .map_or(0, |parts| parts.len() * (64 << 10));
        self.index.bytes_after(more) + states * size_of::<S>() + writing
    }

    /// What is known of a page of the object with slot `object`.
    #[inline]
    pub(crate) fn state(&mut self, object: u32, page: u64) -> &mut S {
        let id = self.id(object, page);
        &mut self.states[id as usize]
    }

    #[inline]
    fn id(&mut self, object: u32, page: u64) -> u32 {
        let id = self.index.id_in(object, page);
        if id as usize >= self.states.len() {
            self.states.push(S::default());
        }
        id
    }

    /// Goes through references in order: `each` gets a reference's number, the slot of its object, and what is known of its
    /// page.
    #[inline]
    pub(crate) fn references(
        &mut self,
        object_ids: &[u64],
        pages: &[u64],
        mut each: impl FnMut(usize, u32, &mut S),
    ) {
        let mut found = [(0u32, 0u32); TOGETHER];
        let mut done = 0;
        for (objects, pages) in object_ids.chunks(TOGETHER).zip(pages.chunks(TOGETHER)) {
            let found = &mut found[..pages.len()];
            for (found, (object, page)) in found.iter_mut().zip(objects.iter().zip(pages)) {
                let object = self.index.object(*object);
                *found = (object, self.id(object, *page));
            }
            // Independent reads: the processor waits for all of them at once.
            let known = found
                .iter()
                .filter(|(_, id)| self.states[*id as usize].known());
            std::hint::black_box(known.count());
            for (i, (object, id)) in found.iter().enumerate() {
                each(done + i, *object, &mut self.states[*id as usize]);
            }
            done += found.len();
        }
    }

    /// Writes all pages to disk and forgets them.
    fn spill(&mut self, memory: &Memory) -> Result<()> {
        let parts = match self.spilled.take() {
            Some(parts) => parts,
            None => (0..PARTS)
                .map(|_| Part::new::<S>(memory))
                .collect::<Result<Vec<_>>>()?,
        };
        let parts = self.spilled.insert(parts);
        let mut pages = 0;
        for (id, key) in self.index.keys() {
            let state = &self.states[id as usize];
            if state.known() {
                // Tables of other stretches, where the object has another slot, divide their pages in the same way.
                let object = if self.level == 0 {
                    0
                } else {
                    u64::from(key.object)
                };
                let hash = page_hash(object, key.page) >> (self.level * 5);
                parts[hash as usize % PARTS].put(key, state)?;
                pages += 1;
            }
        }
        memory.spilled(pages, pages * (S::WORDS + 2) * 8);
        self.index.clear_pages();
        self.states = Vec::new();
        Ok(())
    }

    /// Puts behind this table one of a later stretch of the string, whose positions are counted from `from`. Gives the slot
    /// here of each object there.
    ///
    /// # Errors
    /// When there is neither memory nor disk.
    pub(crate) fn join(
        &mut self,
        mut later: Self,
        from: u64,
        memory: &Memory,
        beside: usize,
        join: Join<'_, S>,
    ) -> Result<Arc<[u32]>> {
        let objects = later.index.objects().iter();
        let slots: Arc<[u32]> = objects.map(|id| self.index.object(*id)).collect();
        if self.index.is_dense()
            && later.index.is_dense()
            && self.states.len() == later.states.len()
        {
            // Both are of the same extents.
            for (known, mut later) in self.states.iter_mut().zip(later.states) {
                if later.known() {
                    later.shift(from);
                    join(known, &later);
                }
            }
            return Ok(slots);
        }
        if later.spilled.is_some() {
            later.spill(memory)?;
            self.spill(memory)?;
            self.before.resize_with(PARTS, Vec::new);
            let parts = |table: &mut Self| table.spilled.take().into_iter().flatten();
            let (mine, theirs) = (parts(self), parts(&mut later));
            for ((before, mine), theirs) in self.before.iter_mut().zip(mine).zip(theirs) {
                before.push(Closed {
                    file: mine.close()?,
                    slots: None,
                    from: 0,
                });
                before.push(Closed {
                    file: theirs.close()?,
                    slots: Some(Arc::clone(&slots)),
                    from,
                });
            }
            return Ok(slots);
        }
        for (id, key) in later.index.keys() {
            let mut state = later.states[id as usize];
            if state.known() {
                state.shift(from);
                self.room(1, memory, later.bytes_after(0) + beside)?;
                join(self.state(slots[key.object as usize], key.page), &state);
            }
        }
        Ok(slots)
    }

    /// Gives each page to `each`, once. `false` from it: no more are wanted.
    ///
    /// # Errors
    /// Those of the disk, and of `each`.
    pub(crate) fn finish(
        mut self,
        memory: &Memory,
        beside: usize,
        join: Join<'_, S>,
        each: &mut dyn FnMut(PageKey, &S) -> Result<bool>,
    ) -> Result<bool> {
        if self.spilled.is_none() && self.before.is_empty() {
            for (id, key) in self.index.keys() {
                let state = &self.states[id as usize];
                if state.known() && !each(key, state)? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        self.spill(memory)?;
        let mut divisions = std::mem::take(&mut self.before);
        divisions.resize_with(PARTS, Vec::new);
        // All are closed first: their buffers are free for what is read now.
        for (division, part) in divisions
            .iter_mut()
            .zip(self.spilled.take().into_iter().flatten())
        {
            division.push(Closed {
                file: part.close()?,
                slots: None,
                from: 0,
            });
        }
        drop(self.index);
        for division in divisions {
            let mut table = Self::at(self.level + 1);
            for Closed { file, slots, from } in division {
                read(&file, |mut key, mut state: S| {
                    state.shift(from);
                    if let Some(slots) = &slots {
                        key.object = slots[key.object as usize];
                    }
                    table.room(1, memory, beside)?;
                    let known = table.state(key.object, key.page);
                    join(known, &state);
                    Ok(())
                })?;
            }
            if !table.finish(memory, beside, join, each)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A division's file, written to its end.
struct Closed {
    file: SpillPath,
    /// Slots of the objects here, by slot there; `None`: the same.
    slots: Option<Arc<[u32]>>,
    /// What its positions are counted from.
    from: u64,
}

/// One division on disk.
struct Part {
    file: SpillPath,
    writer: StreamWriter<BufWriter<File>>,
    columns: Vec<Vec<u64>>,
}

/// Rows of a batch on disk: small, because each division gathers one.
const ROWS: usize = 512;

fn schema(columns: usize) -> SchemaRef {
    let field = |i| Field::new(format!("w{i}"), DataType::UInt64, false);
    Arc::new(Schema::new((0..columns).map(field).collect::<Vec<_>>()))
}

impl Part {
    fn new<S: Summary>(memory: &Memory) -> Result<Self> {
        let columns = S::WORDS + 2;
        let file = memory.file()?;
        let to = BufWriter::new(File::create(file.path()?)?);
        let writer = StreamWriter::try_new(to, &schema(columns))?;
        Ok(Self {
            file,
            writer,
            columns: vec![Vec::with_capacity(ROWS); columns],
        })
    }

    fn put<S: Summary>(&mut self, key: PageKey, state: &S) -> Result<()> {
        self.columns[0].push(u64::from(key.object));
        self.columns[1].push(key.page);
        for (column, word) in self.columns[2..].iter_mut().zip(state.words()) {
            column.push(word);
        }
        if self.columns[0].len() == ROWS {
            self.write()
        } else {
            Ok(())
        }
    }

    fn write(&mut self) -> Result<()> {
        let taken = self
            .columns
            .iter_mut()
            .map(|c| std::mem::replace(c, Vec::with_capacity(ROWS)));
        let columns: Vec<ArrayRef> = taken
            .map(|c| Arc::new(UInt64Array::from(c)) as ArrayRef)
            .collect();
        let batch = RecordBatch::try_new(schema(columns.len()), columns)?;
        Ok(self.writer.write(&batch)?)
    }

    fn close(mut self) -> Result<SpillPath> {
        self.write()?;
        self.writer.finish()?;
        Ok(self.file)
    }
}

fn read<S: Summary>(
    file: &SpillPath,
    mut each: impl FnMut(PageKey, S) -> Result<()>,
) -> Result<()> {
    let reader = StreamReader::try_new(
        BufReader::with_capacity(BATCH, File::open(file.path()?)?),
        None,
    )?;
    for batch in reader {
        let batch = batch?;
        let columns: Vec<&[u64]> = batch
            .columns()
            .iter()
            .map(|c| &c.as_primitive::<UInt64Type>().values()[..])
            .collect();
        for (row, (object, page)) in columns[0].iter().zip(columns[1]).enumerate() {
            let key = PageKey {
                object: *object as u32,
                page: *page,
            };
            each(key, S::take(&|word| columns[word + 2][row]))?;
        }
    }
    Ok(())
}
