//! Marks: what happened around the references. Most of them come along with the references, in the merge, so they are
//! written as they come: some wait for their batch, some, encoded, for their row group.

use std::sync::Arc;

use pgtrace_capture::record::{
    ActivePage, Around, CleanPass, Exit, MapChange, MapOp, Process, Record, Stamp,
};
use tokio::runtime::Handle;

use crate::dataset::Dataset;
use crate::encode;
use crate::error::IngestError;
use crate::growing::Growing;
use crate::manifest::FileEntry;
use crate::names::{Names, Told, ToldReader, upid};
use crate::row::Context;
use crate::schema::Table;
use crate::spill::Key;
use crate::tables;

/// Marks that wait for their batch.
const BATCH: usize = 8192;
/// Rows of a row group: what waits in the encoder at most, a few MB.
const ROW_GROUP: usize = 16 * BATCH;

/// A mark of the refs channel: there may be as many of them as of references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// One pass of the cleaner.
    Clean(CleanPass),
    /// An address space changed.
    Map(MapChange),
    /// A fault mapped neighbours, too.
    Around(Around),
    /// A page's time in the FIFO is over.
    Active(ActivePage),
}

impl Mark {
    /// The mark that a record is; `None`: it is none, or one of the names channel.
    pub fn of(record: &Record) -> Option<Self> {
        match record {
            Record::Clean(r) => Some(Self::Clean(*r)),
            Record::Map(r) => Some(Self::Map(*r)),
            Record::Around(r) => Some(Self::Around(*r)),
            Record::Active(r) => Some(Self::Active(*r)),
            Record::Ref(_)
            | Record::Process(_)
            | Record::Mapping(_)
            | Record::Object(_)
            | Record::Exit(_)
            | Record::Lost(_)
            | Record::Level(_)
            | Record::Clock(_)
            | Record::Policy(_) => None,
        }
    }

    /// Where it stands in its recording.
    pub fn stamp(&self) -> Stamp {
        match self {
            Self::Clean(r) => r.stamp,
            Self::Map(r) => r.stamp,
            Self::Around(r) => r.stamp,
            Self::Active(r) => r.stamp,
        }
    }

    /// The record that it was.
    fn record(self) -> Record {
        match self {
            Self::Clean(r) => Record::Clean(r),
            Self::Map(r) => Record::Map(r),
            Self::Around(r) => Record::Around(r),
            Self::Active(r) => Record::Active(r),
        }
    }
}

/// A row of `marks`, times still monotonic. What a field means is told by the column of its name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cells<'a> {
    pub(crate) time_ns: u64,
    pub(crate) cpu: u16,
    pub(crate) kind: &'static str,
    pub(crate) pid: Option<u32>,
    pub(crate) tid: Option<u32>,
    pub(crate) upid: Option<u64>,
    pub(crate) comm: Option<&'a str>,
    pub(crate) exit_code: Option<u32>,
    pub(crate) level: Option<&'static str>,
    pub(crate) policy: Option<&'static str>,
    pub(crate) clean_ms: Option<u32>,
    pub(crate) fifo: Option<u32>,
    pub(crate) grain: Option<u8>,
    pub(crate) overwrite: Option<bool>,
    pub(crate) pass: Option<u32>,
    pub(crate) scanned: Option<u64>,
    pub(crate) cleaned: Option<u64>,
    pub(crate) duration_ns: Option<u64>,
    pub(crate) monotonic_ns: Option<u64>,
    pub(crate) utc_ns: Option<u64>,
    pub(crate) object: Option<u32>,
    pub(crate) start_addr: Option<u64>,
    pub(crate) end_addr: Option<u64>,
    pub(crate) old_start_addr: Option<u64>,
    pub(crate) old_end_addr: Option<u64>,
    /// Read, write, exec, shared.
    pub(crate) may: Option<[bool; 4]>,
    pub(crate) addr: Option<u64>,
    pub(crate) page: Option<u64>,
    pub(crate) pages: Option<u64>,
    pub(crate) page_order: Option<u8>,
    pub(crate) since_ns: Option<u64>,
    pub(crate) dirtied: Option<bool>,
    pub(crate) rereferenced: Option<bool>,
    pub(crate) gone: Option<bool>,
}

impl<'a> Cells<'a> {
    /// The row that a record is; `None`: it is no mark.
    pub(crate) fn of(record: &'a Record, names: &Names) -> Option<Self> {
        let stamp = record.stamp();
        let row = Cells {
            time_ns: stamp.time_ns,
            cpu: stamp.cpu,
            kind: record.kind(),
            ..Cells::default()
        };
        let of = |tgid: u32| Cells {
            pid: Some(tgid),
            upid: Some(names.upid_at(tgid, stamp.time_ns)),
            ..row.clone()
        };
        Some(match record {
            Record::Level(r) => Cells {
                level: Some(r.to.as_str()),
                clean_ms: Some(r.clean_ms),
                ..row
            },
            Record::Policy(r) => Cells {
                policy: Some(r.policy.as_str()),
                clean_ms: Some(r.clean_ms),
                fifo: Some(r.fifo),
                grain: Some(r.grain),
                overwrite: Some(r.overwrite),
                ..row
            },
            Record::Clock(r) => Cells {
                monotonic_ns: Some(r.monotonic_ns),
                utc_ns: Some(r.realtime_ns),
                ..row
            },
            Record::Process(r) => Cells {
                kind: turn(r)?,
                pid: Some(r.tgid),
                upid: Some(upid(r.start_boot_ns, r.tgid)),
                comm: Some(&r.comm),
                ..row
            },
            Record::Exit(r) => Cells {
                exit_code: Some(r.code).filter(|code| *code != Exit::UNKNOWN_CODE),
                ..of(r.tgid)
            },
            Record::Clean(r) => Cells {
                pass: Some(r.pass),
                scanned: Some(r.scanned),
                cleaned: Some(r.cleaned),
                duration_ns: Some(r.end_ns.saturating_sub(r.start_ns)),
                ..of(r.tgid)
            },
            Record::Map(r) => {
                let moved = r.op == MapOp::Mremap;
                Cells {
                    kind: r.op.as_str(),
                    tid: Some(r.tid),
                    object: named(r.object),
                    start_addr: Some(r.start),
                    end_addr: Some(r.end),
                    old_start_addr: moved.then_some(r.old_start),
                    old_end_addr: moved.then_some(r.old_end),
                    may: (r.op != MapOp::Munmap).then_some([r.read, r.write, r.exec, r.shared]),
                    page: Some(r.page),
                    ..of(r.tgid)
                }
            }
            Record::Around(r) => Cells {
                tid: Some(r.tid),
                object: named(r.object),
                start_addr: Some(r.addr),
                addr: Some(r.touched),
                page: Some(r.page),
                pages: Some(r.pages.into()),
                ..of(r.tgid)
            },
            Record::Active(r) => Cells {
                object: named(r.object),
                addr: Some(r.addr),
                page: Some(r.page),
                page_order: Some(r.page_order),
                since_ns: Some(r.since_ns),
                dirtied: (!r.gone).then_some(r.dirtied),
                rereferenced: (!r.gone).then_some(r.rereferenced),
                gone: Some(r.gone),
                ..of(r.tgid)
            },
            Record::Ref(_) | Record::Mapping(_) | Record::Object(_) | Record::Lost(_) => {
                return None;
            }
        })
    }
}

/// Object 0 is none.
fn named(object: u32) -> Option<u32> {
    (object != 0).then_some(object)
}

/// The turn in a process's life that a record of it tells; `None`: it only describes it.
pub(crate) fn turn(p: &Process) -> Option<&'static str> {
    let turns = [
        (p.detached, "detach"),
        (p.execed, "exec"),
        (p.forked, "fork"),
        (p.attached, "attach"),
    ];
    turns.iter().find(|(is, _)| *is).map(|(_, kind)| *kind)
}

/// The marks of the names channel that are to be written.
pub(crate) struct Named {
    all: ToldReader,
    /// Those that were written before, in the same order.
    written: Option<ToldReader>,
    next_written: Option<Key>,
    next: Option<Record>,
}

impl Named {
    /// All of `told` but those of `written`.
    ///
    /// # Errors
    /// What waits in a temporary file cannot be read.
    pub(crate) fn new(told: &Told, written: Option<&Told>) -> Result<Self, IngestError> {
        let mut named = Self {
            all: told.marks(),
            written: written.map(Told::marks),
            next_written: None,
            next: None,
        };
        named.read_written()?;
        named.take()?;
        Ok(named)
    }

    fn read_written(&mut self) -> Result<(), IngestError> {
        if let Some(written) = &mut self.written {
            self.next_written = written.next_name()?.map(|(key, _)| key);
        }
        Ok(())
    }

    /// The next one, if it is not after `time_ns`.
    fn until(&mut self, time_ns: u64) -> Result<Option<Record>, IngestError> {
        match &self.next {
            Some(next) if next.stamp().time_ns <= time_ns => self.take(),
            _ => Ok(None),
        }
    }

    /// Gives the next one, and reads the one behind it.
    fn take(&mut self) -> Result<Option<Record>, IngestError> {
        let next = self.next.take();
        while let Some((key, record)) = self.all.next_name()? {
            while self.next_written.is_some_and(|written| written < key) {
                self.read_written()?;
            }
            if self.next_written != Some(key) {
                self.next = Some(record);
                break;
            }
        }
        Ok(next)
    }
}

/// Writes the marks of one recording, those of the names channel sorted in between.
pub(crate) struct MarksWriter<'a> {
    dataset: &'a Dataset,
    runtime: &'a Handle,
    context: Arc<Context>,
    lost: u64,
    path: String,
    named: Named,
    waiting: Vec<Record>,
    /// Made with the first batch: no marks, no file.
    file: Option<Growing<'a>>,
}

impl<'a> MarksWriter<'a> {
    /// Writes to `marks/NAME.parquet`; `named` are the marks of the names channel.
    pub(crate) fn new(
        dataset: &'a Dataset,
        runtime: &'a Handle,
        context: Arc<Context>,
        named: Named,
        lost: u64,
        name: &str,
    ) -> Self {
        Self {
            dataset,
            runtime,
            context,
            lost,
            path: format!("{}/{name}.parquet", Table::Marks),
            named,
            waiting: Vec::new(),
            file: None,
        }
    }

    /// Adds a mark of the refs channel; they come in order.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn push(&mut self, mark: Mark) -> Result<(), IngestError> {
        let record = mark.record();
        let time_ns = record.stamp().time_ns;
        while let Some(earlier) = self.named.until(time_ns)? {
            self.add(earlier)?;
        }
        self.add(record)
    }

    /// Writes what is left, and ends the file; `None`: there was no mark.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn finish(&mut self) -> Result<Option<FileEntry>, IngestError> {
        while let Some(rest) = self.named.until(u64::MAX)? {
            self.add(rest)?;
        }
        self.flush()?;
        let file = self.file.take().map(Growing::finish).transpose()?;
        Ok(file.map(|file| FileEntry {
            capture_id: self.context.capture_id.clone(),
            ..file
        }))
    }

    /// Gives up a file that was begun: nothing of it stays.
    pub(crate) fn discard(mut self) {
        if let Some(file) = self.file.take() {
            file.discard();
        }
    }

    fn add(&mut self, record: Record) -> Result<(), IngestError> {
        self.waiting.push(record);
        match self.waiting.len() < BATCH {
            true => Ok(()),
            false => self.flush(),
        }
    }

    /// Encodes the marks that wait, and sends off what is encoded.
    fn flush(&mut self) -> Result<(), IngestError> {
        let waiting = std::mem::take(&mut self.waiting);
        let names = &self.context.names;
        let cells = waiting.iter().filter_map(|r| Cells::of(r, names));
        let batch = tables::marks(&self.context, &cells.collect::<Vec<_>>())?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        match &mut self.file {
            Some(file) => file.write(&batch),
            None => {
                let file = self.begin()?;
                self.file.insert(file).write(&batch)
            }
        }
    }

    fn begin(&self) -> Result<Growing<'a>, IngestError> {
        let clock = self.context.clocks.first();
        let footer = encode::footer(&self.context.capture_id, self.lost, clock);
        let properties = encode::properties(Table::Marks, footer)
            .into_builder()
            .set_max_row_group_row_count(Some(ROW_GROUP))
            .build();
        let (path, schema) = (self.path.clone(), Table::Marks.arrow_schema());
        Growing::new(self.dataset, self.runtime, path, schema, properties)
    }
}
