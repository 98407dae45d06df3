//! The writer of `refs`: rows to the files of their partitions, within a budget.
//!
//! Rows wait in memory, 64 bytes each, until their row group is full, their
//! slice is over, or the budget is spent (then the partitions with most rows
//! go first). Encoding a whole row group at once keeps the encoders' own memory
//! out of the open files: an open file is a few KB, however many there are.
//!
//! Row groups are encoded side by side by the threads of the pool, while more
//! rows come; they are appended to their files in order. What is decided - when
//! a row group ends, which file it goes to - depends on the rows alone, never on
//! how fast a thread was: the same input gives the same files.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use futures::StreamExt;
use futures::future::join_all;
use futures::stream;
use object_store::ObjectStoreExt;
use parquet::file::writer::SerializedFileWriter;
use tokio::runtime::Handle;

use crate::dataset::Dataset;
use crate::encode::{Encoder, Facts, ROW_GROUP_ROWS, RowGroup, Sink};
use crate::error::IngestError;
use crate::manifest::{FileEntry, PartitionKey};
use crate::row::Row;
use crate::schema::Table;
use crate::upload::{PART, Upload, briefly};

/// Rows of the first stretch of a partition, and of the longest.
const STRETCH: std::ops::RangeInclusive<usize> = 64..=16_384;

/// How the writer lays out and limits itself.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Folders.
    pub partition_by: Vec<PartitionKey>,
    /// Rows of the reference string in a slice.
    pub slice_rows: u64,
    /// Number of the first row that comes.
    pub first: u64,
    /// Bytes that may wait in memory: half of them for rows that come in, half
    /// for rows that are being encoded.
    pub budget: u64,
    /// Files open at most.
    pub max_open_files: usize,
    /// Begin of every file's name; unique to this run, so that no other run's
    /// file is ever written over or removed.
    pub name: String,
}

/// The folder of a partition, as numbers; a key that is not used is 0.
type Key = (u64, u32, u32);

#[derive(Default)]
struct Partition {
    key: Key,
    rows: Vec<Vec<Row>>,
    count: usize,
    /// Bytes of `rows`.
    staged: u64,
    file: Option<OpenFile>,
    files: usize,
    /// When it was last written to, for closing the least recently used.
    used: u64,
}

struct OpenFile {
    path: String,
    sink: Sink,
    writer: SerializedFileWriter<Sink>,
    upload: Upload,
    /// Row groups begun.
    groups: usize,
    /// Row groups that are being encoded, in order.
    encoding: VecDeque<Job>,
    facts: Facts,
}

/// A row group on its way through a thread of the pool.
struct Job {
    result: Receiver<parquet::errors::Result<RowGroup>>,
    /// Bytes of its rows.
    bytes: u64,
}

/// Writes the rows of one recording.
pub struct RefsWriter<'a> {
    dataset: &'a Dataset,
    runtime: &'a Handle,
    encoder: Arc<Encoder>,
    layout: Layout,
    by_key: HashMap<Key, usize>,
    partitions: Vec<Partition>,
    /// The partition of the row before: the next one is often the same.
    last: Option<(Key, usize)>,
    slice: u64,
    staged: u64,
    /// Bytes of rows that are being encoded.
    encoding: u64,
    /// Partitions of the jobs, in the order they were begun; some may be done.
    begun: VecDeque<usize>,
    pending: u64,
    open: usize,
    clock: u64,
    peak: u64,
    written: Vec<FileEntry>,
}

impl Partition {
    /// Adds rows; gives the bytes of memory that took.
    fn push(&mut self, mut rows: &[Row]) -> u64 {
        let mut grown = 0;
        self.count += rows.len();
        while !rows.is_empty() {
            let room = self.rows.last().map_or(0, |s| s.capacity() - s.len());
            if room == 0 {
                let twice = self.rows.last().map_or(0, |s| s.capacity() * 2);
                let room = twice.clamp(*STRETCH.start(), *STRETCH.end());
                self.rows.push(Vec::with_capacity(room));
                grown += (room * size_of::<Row>()) as u64;
                continue;
            }
            let (now, later) = rows.split_at(room.min(rows.len()));
            if let Some(stretch) = self.rows.last_mut() {
                stretch.extend_from_slice(now);
            }
            rows = later;
        }
        self.staged += grown;
        grown
    }
}

impl<'a> RefsWriter<'a> {
    pub(crate) fn new(
        dataset: &'a Dataset,
        runtime: &'a Handle,
        encoder: Encoder,
        layout: Layout,
    ) -> Self {
        Self {
            dataset,
            runtime,
            encoder: Arc::new(encoder),
            by_key: HashMap::new(),
            partitions: Vec::new(),
            last: None,
            slice: layout.first / layout.slice_rows,
            layout,
            staged: 0,
            encoding: 0,
            begun: VecDeque::new(),
            pending: 0,
            open: 0,
            clock: 0,
            peak: 0,
            written: Vec::new(),
        }
    }

    /// Adds rows of one CPU; all rows come in order of `seq`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn push(&mut self, rows: &[Row]) -> Result<(), IngestError> {
        let uses = |key| self.layout.partition_by.contains(&key);
        let (by_slice, by_uid, by_pid) = (
            uses(PartitionKey::Slice),
            uses(PartitionKey::Uid),
            uses(PartitionKey::Pid),
        );
        let slice_rows = self.layout.slice_rows;
        let same = |a: &Row, b: &Row| {
            a.seq / slice_rows == b.seq / slice_rows
                && (!by_uid || a.uid == b.uid)
                && (!by_pid || a.tgid == b.tgid)
        };
        for rows in rows.chunk_by(same) {
            let Some(first) = rows.first() else {
                continue;
            };
            let slice = first.seq / slice_rows;
            if slice != self.slice {
                // No row of an earlier slice will come any more.
                self.finish_all()?;
                self.slice = slice;
            }
            let key = (
                if by_slice { slice } else { 0 },
                if by_uid { first.uid } else { 0 },
                if by_pid { first.tgid } else { 0 },
            );
            self.add(key, rows)?;
        }
        Ok(())
    }

    /// Adds rows of one partition.
    fn add(&mut self, key: Key, mut rows: &[Row]) -> Result<(), IngestError> {
        let index = match self.last {
            Some((k, index)) if k == key => index,
            _ => self.index_of(key),
        };
        self.last = Some((key, index));
        while let Some(partition) = self.partitions.get_mut(index)
            && !rows.is_empty()
        {
            let room = ROW_GROUP_ROWS - partition.count.min(ROW_GROUP_ROWS);
            let (now, later) = rows.split_at(room.min(rows.len()));
            rows = later;
            self.staged += partition.push(now);
            let full = partition.count >= ROW_GROUP_ROWS;
            self.peak = self.peak.max(self.in_memory());
            if full {
                self.flush(index)?;
            } else if self.staged + self.pending > self.layout.budget / 2 {
                self.relieve()?;
            }
        }
        Ok(())
    }

    fn in_memory(&self) -> u64 {
        self.staged + self.encoding + self.pending
    }

    /// Writes all that waits, ends all files, and gives their entries by path.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn finish(&mut self) -> Result<Vec<FileEntry>, IngestError> {
        self.finish_all()?;
        self.written.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(self.written.clone())
    }

    /// Removes what was written, as far as possible: nobody can see it anyway.
    pub fn discard(mut self) -> Vec<FileEntry> {
        let open = self.partitions.iter_mut().filter_map(|p| p.file.take());
        let abort = join_all(open.map(|file| file.upload.abort()));
        self.runtime.block_on(briefly(abort));
        std::mem::take(&mut self.written)
    }

    /// Most bytes that waited in memory at any time.
    pub fn peak(&self) -> u64 {
        self.peak
    }

    fn index_of(&mut self, key: Key) -> usize {
        let partitions = &mut self.partitions;
        *self.by_key.entry(key).or_insert_with(|| {
            partitions.push(Partition {
                key,
                ..Partition::default()
            });
            partitions.len() - 1
        })
    }

    /// Flushes the fullest partitions until a quarter of the budget is free.
    fn relieve(&mut self) -> Result<(), IngestError> {
        let budget = self.layout.budget / 2;
        let mut fullest: Vec<usize> = (0..self.partitions.len()).collect();
        fullest.sort_by_key(|&i| {
            let staged = self.partitions.get(i).map_or(0, |p| p.staged);
            (std::cmp::Reverse(staged), i)
        });
        for index in fullest {
            if self.staged + self.pending <= budget * 3 / 4 {
                break;
            }
            self.flush(index)?;
        }
        // What waits for its part to be full counts too: end the largest files.
        while self.pending > budget / 2 {
            let pending = |p: &Partition| p.file.as_ref().map_or(0, |f| f.upload.pending());
            let largest = (0..self.partitions.len())
                .max_by_key(|&i| self.partitions.get(i).map_or(0, pending));
            match largest {
                Some(index) => self.close(index)?,
                None => break,
            }
        }
        Ok(())
    }

    /// Sends the rows of a partition to a thread that encodes them.
    fn flush(&mut self, index: usize) -> Result<(), IngestError> {
        self.open(index)?;
        let Some(partition) = self.partitions.get_mut(index) else {
            return Ok(());
        };
        let Some(file) = partition.file.as_mut().filter(|_| partition.count > 0) else {
            return Ok(());
        };
        let rows = std::mem::take(&mut partition.rows);
        let bytes = std::mem::take(&mut partition.staged);
        partition.count = 0;
        let number = file.groups;
        file.groups += 1;
        let (send, result) = channel();
        let encoder = self.encoder.clone();
        rayon::spawn(move || {
            let group = encoder.encode(number, &rows);
            // Nobody waits for it if the run has failed meanwhile.
            let _ = send.send(group);
        });
        file.encoding.push_back(Job { result, bytes });
        self.begun.push_back(index);
        self.staged -= bytes;
        self.encoding += bytes;
        self.peak = self.peak.max(self.in_memory());
        while self.encoding > self.layout.budget / 2
            && let Some(index) = self.begun.pop_front()
        {
            self.append(index)?;
        }
        Ok(())
    }

    /// Appends the oldest row group of a partition that is being encoded to its
    /// file, and waits for it. No such row group: it is in the file already.
    fn append(&mut self, index: usize) -> Result<(), IngestError> {
        let Some(partition) = self.partitions.get_mut(index) else {
            return Ok(());
        };
        let Some(file) = &mut partition.file else {
            return Ok(());
        };
        let Some(job) = file.encoding.pop_front() else {
            return Ok(());
        };
        self.encoding -= job.bytes;
        wait(&job.result)
            .and_then(|mut group| {
                file.facts.merge(std::mem::take(&mut group.facts));
                group.append_to(&mut file.writer)
            })
            .map_err(|cause| IngestError::not_encoded(&file.path, cause))?;
        let waited = file.upload.pending();
        self.runtime
            .block_on(file.upload.append(file.sink.carry_away()))
            .map_err(|cause| store_error(self.dataset, &file.path, cause))?;
        self.pending = self.pending - waited + file.upload.pending();
        self.peak = self.peak.max(self.in_memory());
        Ok(())
    }

    /// Opens the partition's next file, if none is open.
    fn open(&mut self, index: usize) -> Result<(), IngestError> {
        self.clock += 1;
        match self.partitions.get_mut(index) {
            Some(partition) if partition.count > 0 => partition.used = self.clock,
            _ => return Ok(()),
        }
        if self.partitions.get(index).is_none_or(|p| p.file.is_some()) {
            return Ok(());
        }
        while self.open >= self.layout.max_open_files.max(1) {
            let oldest = (0..self.partitions.len())
                .filter_map(|i| self.partitions.get(i).map(|p| (i, p)))
                .filter(|(i, p)| p.file.is_some() && *i != index)
                .min_by_key(|(_, p)| p.used);
            match oldest {
                Some((i, _)) => self.close(i)?,
                None => break,
            }
        }
        let Some(partition) = self.partitions.get_mut(index) else {
            return Ok(());
        };
        let path = path(&self.layout, partition.key, partition.files);
        let sink = Sink::default();
        let writer = self
            .encoder
            .begin(sink.clone())
            .map_err(|cause| IngestError::not_encoded(&path, cause))?;
        let part = if self.dataset.is_local() { 1 } else { PART };
        partition.files += 1;
        partition.file = Some(OpenFile {
            upload: Upload::new(self.dataset.store().clone(), self.dataset.path(&path), part),
            path,
            sink,
            writer,
            groups: 0,
            encoding: VecDeque::new(),
            facts: Facts::default(),
        });
        self.open += 1;
        Ok(())
    }

    /// Ends the partition's file, if one is open.
    fn close(&mut self, index: usize) -> Result<(), IngestError> {
        let encoding = |p: &Partition| p.file.as_ref().map_or(0, |f| f.encoding.len());
        while self.partitions.get(index).map_or(0, encoding) > 0 {
            self.append(index)?;
        }
        let Some(file) = self.partitions.get_mut(index).and_then(|p| p.file.take()) else {
            return Ok(());
        };
        self.open -= 1;
        self.pending -= file.upload.pending();
        let entry = self
            .runtime
            .block_on(end(self.dataset, file, &self.encoder))?;
        self.written.push(entry);
        Ok(())
    }

    /// Writes out all rows and ends all files.
    fn finish_all(&mut self) -> Result<(), IngestError> {
        let mut order: Vec<usize> = (0..self.partitions.len()).collect();
        order.sort_by_key(|&i| self.partitions.get(i).map(|p| p.key));
        for index in &order {
            self.flush(*index)?;
        }
        for index in order {
            self.close(index)?;
        }
        self.begun.clear();
        // Their slice is over; without slices they go on, and count their files.
        if self.layout.partition_by.contains(&PartitionKey::Slice) {
            self.partitions.clear();
            self.by_key.clear();
            self.last = None;
        }
        Ok(())
    }
}

/// Waits for a job, and does others meanwhile: this thread is one of the pool's.
fn wait(result: &Receiver<parquet::errors::Result<RowGroup>>) -> parquet::errors::Result<RowGroup> {
    loop {
        match result.try_recv() {
            Ok(group) => return group,
            Err(TryRecvError::Disconnected) => {
                let what = "the thread that encoded a row group has ended";
                return Err(parquet::errors::ParquetError::General(what.into()));
            }
            Err(TryRecvError::Empty) => match rayon::yield_now() {
                Some(rayon::Yield::Executed) => {}
                // Another thread has it: give it the processor.
                Some(rayon::Yield::Idle) | None => {
                    if let Ok(group) = result.recv_timeout(std::time::Duration::from_millis(1)) {
                        return group;
                    }
                }
            },
        }
    }
}

async fn end(
    dataset: &Dataset,
    mut file: OpenFile,
    encoder: &Encoder,
) -> Result<FileEntry, IngestError> {
    file.writer
        .finish()
        .map_err(|cause| IngestError::not_encoded(&file.path, cause))?;
    let rest = file.sink.carry_away();
    let path = file.path;
    let sent = match file.upload.append(rest).await {
        Ok(()) => file.upload.finish().await,
        Err(e) => {
            file.upload.abort().await;
            Err(e)
        }
    };
    let bytes = sent.map_err(|cause| store_error(dataset, &path, cause))?;
    Ok(FileEntry {
        path,
        bytes,
        rows: file.facts.rows,
        capture_id: encoder.context().capture_id.clone(),
        seq: file.facts.seq,
        ts: file.facts.ts,
        uid: file.facts.uid,
        pid: file.facts.pid,
        objects: file.facts.extents(),
        events: file.facts.events(),
    })
}

/// Removes files that no manifest names, as far as possible.
pub(crate) async fn remove(dataset: &Dataset, files: &[FileEntry]) {
    let remove = stream::iter(files).for_each_concurrent(8, |file| async {
        // Best effort: what stays is invisible to readers.
        let _ = dataset.store().delete(&dataset.path_of(file)).await;
    });
    briefly(remove).await;
}

fn path(layout: &Layout, (slice, uid, pid): Key, number: usize) -> String {
    let mut path = Table::Refs.name().to_string();
    for key in &layout.partition_by {
        path.push_str(&match key {
            PartitionKey::Uid => format!("/uid={uid}"),
            PartitionKey::Pid => format!("/pid={pid}"),
            PartitionKey::Slice => format!("/slice={slice:06}"),
        });
    }
    format!("{path}/{}-{number:06}.parquet", layout.name)
}

fn store_error(dataset: &Dataset, path: &str, cause: object_store::Error) -> IngestError {
    IngestError::Store {
        location: dataset.location().into(),
        path: path.into(),
        cause,
    }
}
