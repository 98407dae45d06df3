//! From raw chunks to one commit: find, survey, merge, write, publish.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use object_store::{ObjectStoreExt, PutPayload};
use tokio::runtime::Runtime;

use crate::dataset::{Dataset, DatasetError};
use crate::encode::{self, Encoder};
use crate::error::IngestError;
use crate::manifest::{CaptureEntry, ChunkEntry, FileEntry, Manifest, PartitionKey, SLICE_ROWS};
use crate::marks::MarksWriter;
use crate::merge::{BYTES_PER_CPU, Merge, Next};
use crate::partition::{self, Layout, RefsWriter};
use crate::report::{CaptureReport, LossSum, Report};
use crate::row::Context;
use crate::runs::{self, Marker};
use crate::schema::Table;
use crate::source::{self, Chunk, Recording};
use crate::survey::{Survey, survey};
use crate::tables;

/// Least bytes that rows may wait in, whatever else the memory limit must hold.
const LEAST_STAGING: u64 = 8 << 20;
/// References after which a progress bar hears of them.
const TELL: u64 = 1 << 16;
/// Tries to commit before giving up on a dataset that others keep changing.
const COMMITS: usize = 20;

/// What a run is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folders of a new dataset; `None`: uid, pid, slice, or what the dataset has.
    pub partition_by: Option<Vec<PartitionKey>>,
    /// Rows of a slice of a new dataset; `None`: [`SLICE_ROWS`], or what it has.
    pub slice_rows: Option<u64>,
    /// Bytes of memory to use, about.
    pub memory: u64,
    /// Threads; 0: one a core.
    pub threads: usize,
    /// Files open at most.
    pub max_open_files: usize,
    /// Leave out chunks that cannot be used at all, instead of failing.
    pub keep_going: bool,
    /// How long files stay that were replaced, for those who still read them.
    pub keep_old: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            partition_by: None,
            slice_rows: None,
            memory: 1 << 30,
            threads: 0,
            max_open_files: 1024,
            keep_going: false,
            keep_old: runs::KEEP_OLD,
        }
    }
}

/// How far a run is, for a progress bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Another CPU's chunks were surveyed, so many bytes.
    Surveyed(u64),
    /// So many references will be written.
    Rows(u64),
    /// So many more references are written.
    Written(u64),
}

/// Ingests the recordings that `raw` names into the dataset `to`, as one commit.
/// A recording that is in it already is left alone.
///
/// Runs its own threads and runtime: do not call it from within one.
///
/// # Errors
/// [`IngestError`]; nothing of a run that failed is visible.
pub fn ingest(
    raw: &[PathBuf],
    to: &str,
    options: &Options,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Report, IngestError> {
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build()
        .map_err(|e| IngestError::Threads(e.to_string()))?;
    // File-system calls wait on threads of their own; few are enough.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(8)
        .enable_all()
        .build()
        .map_err(|e| IngestError::Threads(e.to_string()))?;
    threads.install(|| Run::new(raw, to, options, progress, &runtime)?.run())
}

struct Run<'a> {
    options: &'a Options,
    progress: &'a (dyn Fn(Progress) + Sync),
    runtime: &'a Runtime,
    dataset: Dataset,
    marker: Marker,
    recordings: Vec<Recording>,
    report: Report,
    started: Instant,
}

/// A recording whose files are written and not yet published.
struct Written {
    entry: CaptureEntry,
    files: BTreeMap<Table, Vec<FileEntry>>,
    report: CaptureReport,
}

impl<'a> Run<'a> {
    /// Reads and checks the input before the dataset is touched.
    fn new(
        raw: &[PathBuf],
        to: &str,
        options: &'a Options,
        progress: &'a (dyn Fn(Progress) + Sync),
        runtime: &'a Runtime,
    ) -> Result<Self, IngestError> {
        let started = Instant::now();
        check(options)?;
        let found = source::find(raw, options.keep_going, runtime.handle())?;
        for recording in &found.recordings {
            staging(options, recording)?;
        }
        let report = Report {
            unusable: found.unusable.iter().map(ToString::to_string).collect(),
            ..Report::default()
        };
        let keys = [PartitionKey::Uid, PartitionKey::Pid, PartitionKey::Slice];
        let new = Manifest::new(
            options
                .partition_by
                .clone()
                .unwrap_or_else(|| keys.to_vec()),
            options.slice_rows.unwrap_or(SLICE_ROWS),
        );
        let mut dataset = runtime.block_on(Dataset::create_or_open(to, new))?;
        let layout = &dataset.manifest().partition_by;
        if let Some(asked) = &options.partition_by
            && asked != layout
        {
            return Err(IngestError::OtherLayout {
                location: to.into(),
                found: key_list(layout),
                asked: key_list(asked),
            });
        }
        let begun = Marker::begin(&mut dataset, "ingest", options.keep_old);
        let (marker, cleaned) = runtime.block_on(begun)?;
        let report = Report { cleaned, ..report };
        Ok(Self {
            options,
            progress,
            runtime,
            dataset,
            marker,
            recordings: found.recordings,
            report,
            started,
        })
    }

    fn run(mut self) -> Result<Report, IngestError> {
        let done = self.write_and_publish();
        match &done {
            Ok(()) => self.runtime.block_on(self.marker.end()),
            Err(_) => {
                let abandoned = self.marker.abandon(&mut self.dataset);
                self.runtime.block_on(abandoned);
            }
        }
        self.report.seconds = self.started.elapsed().as_secs_f64();
        done.map(|()| self.report)
    }

    fn write_and_publish(&mut self) -> Result<(), IngestError> {
        let mut written = Vec::new();
        for recording in std::mem::take(&mut self.recordings) {
            let done = match known(&self.dataset, &recording) {
                Ok(true) => {
                    self.report.already += recording.chunks().count() as u64;
                    continue;
                }
                Ok(false) => self.write(&recording),
                Err(e) => Err(e),
            };
            match done {
                Ok(done) => written.push(done),
                Err(e) => {
                    self.remove(&written);
                    return Err(e);
                }
            }
        }
        if let Err(e) = self.publish(&mut written) {
            // A commit that may be there names them.
            if !matches!(e, IngestError::Dataset(DatasetError::Unsure { .. })) {
                self.remove(&written);
            }
            return Err(e);
        }
        self.report.captures = written.into_iter().map(|w| w.report).collect();
        Ok(())
    }

    /// Writes all files of a recording.
    fn write(&mut self, recording: &Recording) -> Result<Written, IngestError> {
        let survey = survey(recording, &|bytes| {
            (self.progress)(Progress::Surveyed(bytes))
        })?;
        (self.progress)(Progress::Rows(survey.facts.refs));
        let manifest = self.dataset.manifest();
        let layout = Layout {
            partition_by: manifest.partition_by.clone(),
            slice_rows: manifest.slice_rows,
            budget: staging(self.options, recording)?,
            max_open_files: open_files(self.options.max_open_files, recording.cpus.len()),
            name: self.marker.file_name(&recording.capture_id),
        };
        let name = layout.name.clone();
        let Survey {
            mut names,
            clocks,
            losses,
            rows,
            records,
            facts,
        } = survey;
        let named = std::mem::take(&mut names.marks);
        let context = Arc::new(Context {
            capture_id: recording.capture_id.clone(),
            clocks,
            names,
        });
        let by_pid = layout.partition_by.contains(&PartitionKey::Pid);
        let encoder = Encoder::new(context.clone(), facts.lost, by_pid);
        let handle = self.runtime.handle().clone();
        let mut marks = MarksWriter::new(
            &self.dataset,
            &handle,
            context.clone(),
            named,
            facts.lost,
            &name,
        );
        let mut writer = RefsWriter::new(&self.dataset, &handle, encoder, layout);
        let mut files = BTreeMap::new();
        let wrote = self
            .merge(recording, &rows, &mut writer, &mut marks)
            .and_then(|()| writer.finish())
            .and_then(|refs| {
                files.insert(Table::Refs, refs);
                let marks = marks.finish()?;
                files.extend(marks.map(|file| (Table::Marks, vec![file])));
                self.small_tables(&name, &context, &facts, &losses, &mut files)
            });
        self.report.peak_bytes = self.report.peak_bytes.max(writer.peak());
        if let Err(e) = wrote {
            marks.discard();
            let mut litter = writer.discard();
            litter.extend(files.into_values().flatten());
            self.runtime
                .block_on(partition::remove(&self.dataset, &litter));
            return Err(e);
        }
        let bytes = files.values().flatten().map(|f| f.bytes).sum();
        let report = CaptureReport {
            capture_id: facts.capture_id.clone(),
            chunks: u64::from(facts.chunks),
            raw_bytes: facts.raw_bytes,
            records,
            rows: facts.refs,
            emitted: facts.emitted,
            files: files.values().map(|f| f.len() as u64).sum(),
            parquet_bytes: bytes,
            refs_bytes: files
                .get(&Table::Refs)
                .map_or(0, |f| f.iter().map(|f| f.bytes).sum()),
            losses: LossSum::of(&losses),
        };
        let chunks = recording.chunks().map(|c| ChunkEntry {
            id: c.id.clone(),
            name: c.name(),
            bytes: c.bytes,
        });
        let entry = CaptureEntry {
            capture_id: facts.capture_id,
            chunks: chunks.collect(),
            refs: facts.refs,
            lost: facts.lost,
        };
        Ok(Written {
            entry,
            files,
            report,
        })
    }

    /// Merges all references and marks into their writers.
    fn merge(
        &self,
        recording: &Recording,
        expected: &BTreeMap<u16, u64>,
        writer: &mut RefsWriter<'_>,
        marks: &mut MarksWriter<'_>,
    ) -> Result<(), IngestError> {
        let cpus = recording.cpus.iter().map(|(cpu, c)| (*cpu, c.as_slice()));
        let mut merge = Merge::new(cpus)?;
        let mut rows: BTreeMap<u16, u64> = BTreeMap::new();
        let mut told = 0;
        while let Some(next) = merge.next_run()? {
            let (cpu, run) = match next {
                Next::Rows { cpu, rows } => (cpu, rows),
                Next::Mark(mark) => {
                    marks.push(mark)?;
                    continue;
                }
            };
            *rows.entry(cpu).or_default() += run.len() as u64;
            writer.push(run)?;
            told += run.len() as u64;
            if told >= TELL {
                (self.progress)(Progress::Written(told));
                told = 0;
            }
        }
        (self.progress)(Progress::Written(told));
        for (cpu, chunks) in &recording.cpus {
            let found = rows.get(cpu).copied().unwrap_or(0);
            let expected = expected.get(cpu).copied().unwrap_or(0);
            if let Some(first) = chunks.first()
                && found != expected
            {
                return Err(IngestError::Changed {
                    path: first.place.label(),
                    cpu: *cpu,
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }

    /// Writes the tables besides `refs` and `marks`, a file each.
    fn small_tables(
        &self,
        name: &str,
        context: &Context,
        facts: &tables::CaptureFacts,
        losses: &[crate::losses::Loss],
        files: &mut BTreeMap<Table, Vec<FileEntry>>,
    ) -> Result<(), IngestError> {
        for table in Table::ALL {
            let clocks = &context.clocks;
            let batch = match table {
                Table::Refs | Table::Marks => continue,
                Table::Captures => Some(tables::captures(facts, clocks)?),
                Table::Losses => Some(tables::losses(&facts.capture_id, losses, clocks)?),
                Table::Processes | Table::Objects | Table::Mappings => {
                    tables::named(table, &facts.capture_id, &context.names, clocks)?
                }
            };
            let Some(batch) = batch.filter(|b| b.num_rows() > 0) else {
                continue;
            };
            let path = format!("{table}/{name}.parquet");
            let footer = encode::footer(&facts.capture_id, facts.lost, clocks.first());
            let bytes = tables::to_parquet(table, &batch, footer).map_err(|cause| {
                IngestError::Parquet {
                    path: path.clone(),
                    cause,
                }
            })?;
            let size = bytes.len() as u64;
            let at = self.dataset.path(&path);
            self.runtime
                .block_on(self.dataset.store().put(&at, PutPayload::from(bytes)))
                .map_err(|cause| IngestError::Store {
                    location: self.dataset.location().into(),
                    path: path.clone(),
                    cause,
                })?;
            files.entry(table).or_default().push(FileEntry {
                path,
                bytes: size,
                rows: batch.num_rows() as u64,
                capture_id: facts.capture_id.clone(),
                seq: None,
                ts: None,
                uid: None,
                pid: None,
                objects: Vec::new(),
            });
        }
        Ok(())
    }

    /// One commit for all that was written. Somebody else's commit meanwhile is
    /// built upon; if it brought a recording of ours, ours is dropped.
    fn publish(&mut self, written: &mut Vec<Written>) -> Result<(), IngestError> {
        let mut tries = 0;
        let files = written.iter().flat_map(|w| w.files.values().flatten());
        self.dataset.sync(files)?;
        while !written.is_empty() {
            let mut next = self.dataset.manifest().next();
            for done in written.iter() {
                next.captures.push(done.entry.clone());
                for (table, files) in &done.files {
                    next.tables
                        .entry(*table)
                        .or_default()
                        .extend(files.iter().cloned());
                }
            }
            tries += 1;
            match self
                .runtime
                .block_on(self.marker.commit(&mut self.dataset, next))
            {
                Err(DatasetError::Conflict { .. }) if tries < COMMITS => {
                    self.runtime.block_on(self.dataset.reload())?;
                    let manifest = self.dataset.manifest();
                    let (theirs, ours): (Vec<_>, Vec<_>) = std::mem::take(written)
                        .into_iter()
                        .partition(|w| manifest.capture(&w.entry.capture_id).is_some());
                    self.remove(&theirs);
                    self.report.already += theirs
                        .iter()
                        .map(|w| w.entry.chunks.len() as u64)
                        .sum::<u64>();
                    *written = ours;
                }
                result => return Ok(result?),
            }
        }
        Ok(())
    }

    fn remove(&self, written: &[Written]) {
        for file in written {
            let files: Vec<_> = file.files.values().flatten().cloned().collect();
            self.runtime
                .block_on(partition::remove(&self.dataset, &files));
        }
    }
}

/// Whether all chunks of a recording are in the dataset; some only is an error.
fn known(dataset: &Dataset, recording: &Recording) -> Result<bool, IngestError> {
    let Some(capture) = dataset.manifest().capture(&recording.capture_id) else {
        return Ok(false);
    };
    let unknown = |id: &str| capture.chunks.iter().all(|c| c.id != id);
    let new: Vec<_> = recording.chunks().filter(|c| unknown(&c.id)).collect();
    match new.first() {
        None => Ok(true),
        Some(first) => Err(IngestError::PartlyIngested {
            location: dataset.location().into(),
            capture_id: recording.capture_id.clone(),
            new: new.len(),
            first: first.name(),
        }),
    }
}

fn check(options: &Options) -> Result<(), IngestError> {
    let wrong = |text: &str| Err(IngestError::Options(text.into()));
    if options.max_open_files == 0 {
        return wrong("the number of open files must be at least 1");
    }
    if options.slice_rows == Some(0) {
        return wrong("a slice must have at least 1 row");
    }
    match &options.partition_by {
        Some(keys) if (1..keys.len()).any(|i| keys[i..].contains(&keys[i - 1])) => {
            wrong("a partition key stands twice")
        }
        _ => Ok(()),
    }
}

/// Bytes in which rows may wait: half of the memory limit, less what the merge
/// takes. The other half is for encoding, uploads, names and the program itself.
/// It depends on nothing but the input and the limit, so that files do too.
fn staging(options: &Options, recording: &Recording) -> Result<u64, IngestError> {
    let reading: u64 = recording.cpus.values().map(|c| read_ahead(c)).sum();
    let merging = BYTES_PER_CPU * recording.cpus.len() as u64 + reading;
    let least = 2 * (merging + LEAST_STAGING);
    match options.memory >= least {
        true => Ok(options.memory / 2 - merging),
        false => Err(IngestError::Memory {
            found: options.memory,
            least,
            cpus: recording.cpus.len(),
        }),
    }
}

/// Bytes that reading one CPU's chunks takes, at most: one chunk is open at a time.
fn read_ahead(chunks: &[Chunk]) -> u64 {
    let each = chunks.iter().map(|c| c.place.read_ahead());
    each.max().unwrap_or(0)
}

/// Open files that the system allows beside the chunks being read and the rest.
fn open_files(asked: usize, cpus: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let limit = limits
        .lines()
        .find_map(|l| l.strip_prefix("Max open files"))
        .and_then(|l| l.split_whitespace().next()?.parse::<usize>().ok());
    match limit {
        Some(limit) => asked.min(limit.saturating_sub(cpus + 48)).max(1),
        None => asked,
    }
}

fn key_list(keys: &[PartitionKey]) -> String {
    match keys {
        [] => "nothing".into(),
        keys => keys.iter().map(|k| k.name()).collect::<Vec<_>>().join(","),
    }
}
