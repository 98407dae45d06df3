//! What is known of each page, in memory as long as it fits, else on disk.
//!
//! When memory is full, what is known goes to disk, divided by a hash of the page, and the pages are forgotten: the
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
use pgtrace_locality::index::{PageIndex, PageKey, mix};

use super::BATCH;
use super::memory::{Memory, SpillPath};

/// What is kept of a page.
pub(crate) trait Summary: Default + Copy {
    /// 64-bit words that it takes in a file.
    const WORDS: usize;

    /// Appends its words.
    fn put(&self, words: &mut [Vec<u64>]);

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

/// Pages of one capture, with what is known of each.
pub(crate) struct PageTable<S> {
    pub(crate) index: PageIndex,
    states: Vec<S>,
    /// Further pages that memory is held for.
    credit: usize,
    spilled: Option<Vec<Part>>,
    level: u32,
}

impl<S: Summary> PageTable<S> {
    pub(crate) fn new() -> Self {
        Self::at(0)
    }

    fn at(level: u32) -> Self {
        Self {
            index: PageIndex::new(),
            states: Vec::new(),
            credit: 0,
            spilled: None,
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
        let states = if pages <= room {
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
        let id = self.index.id_in(object, page) as usize;
        if id >= self.states.len() {
            self.states.push(S::default());
        }
        &mut self.states[id]
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
        for (id, key) in self.index.keys() {
            let hash = mix(key.page ^ (u64::from(key.object) << 44)) >> (self.level * 5);
            parts[hash as usize % PARTS].put(key, &self.states[id as usize])?;
        }
        let pages = self.states.len();
        memory.spilled(pages, pages * (S::WORDS + 2) * 8);
        self.index.clear_pages();
        self.states = Vec::new();
        Ok(())
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
        if self.spilled.is_some() {
            self.spill(memory)?;
        }
        let Some(parts) = self.spilled.take() else {
            for (id, key) in self.index.keys() {
                if !each(key, &self.states[id as usize])? {
                    return Ok(false);
                }
            }
            return Ok(true);
        };
        drop(self.index);
        // All are closed first: their buffers are free for what is read now.
        let files = parts
            .into_iter()
            .map(Part::close)
            .collect::<Result<Vec<_>>>()?;
        for file in files {
            let mut table = Self::at(self.level + 1);
            read(&file, |key, state: &S| {
                table.room(1, memory, beside)?;
                let known = table.state(key.object, key.page);
                join(known, state);
                Ok(())
            })?;
            drop(file);
            if !table.finish(memory, beside, join, each)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
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
        state.put(&mut self.columns[2..]);
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
    mut each: impl FnMut(PageKey, &S) -> Result<()>,
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
            each(key, &S::take(&|word| columns[word + 2][row]))?;
        }
    }
    Ok(())
}
