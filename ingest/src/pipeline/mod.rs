//! From raw chunks to one commit: find, survey, merge, write, publish.

mod layout;
mod limits;
mod publish;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use tokio::runtime::Runtime;

use crate::again::{self, Known, Plan};
use crate::clocks::{ClockReader, Offsets};
use crate::dataset::{Dataset, DatasetError, Place};
use crate::encode::{self, Encoder};
use crate::error::IngestError;
use crate::growing;
use crate::manifest::{CaptureEntry, ChunkEntry, FileEntry, Manifest, PartitionKey, SLICE_ROWS};
use crate::marks::{MarksWriter, Named};
use crate::merge::{Merge, Next};
use crate::names::Told;
use crate::partition::{self, Layout, RefsWriter};
use crate::report::{CaptureReport, LossSum, Report};
use crate::row::Context;
use crate::runs::{self, Marker};
use crate::schema::Table;
use crate::source::skeleton::{self, Skeleton};
use crate::source::{self, Recording};
use crate::spill::Room;
use crate::stored::StoredRows;
use crate::survey::{Survey, survey_with};
use crate::tables;
use limits::{check, key_list, open_files, staging};
use publish::Written;

/// References after which a progress bar hears of them.
const TELL: u64 = 1 << 16;
/// Tries to commit before giving up on a dataset that others keep changing.
const COMMITS: usize = 20;

/// What a run is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folders of a new dataset; `None`: uid, pid, slice, without pid where there are very many processes; or what the
    /// dataset has.
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
    /// What the first reading found, if it was made before the dataset.
    surveyed: Option<Survey>,
    report: Report,
    started: Instant,
}

/// Keeps how the times of rows are made.
struct Times<'a> {
    clock: ClockReader<'a>,
    offsets: Offsets,
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
        let mut surveyed = None;
        let mut dataset = match runtime.block_on(Dataset::open_or_vacant(to))? {
            Place::Taken(dataset) => *dataset,
            Place::Vacant(vacant) => {
                let keys = match &options.partition_by {
                    Some(keys) => keys.clone(),
                    None => {
                        let read = |bytes| progress(Progress::Surveyed(bytes));
                        let folder = vacant.folder();
                        let (keys, lone) =
                            layout::choose(&found.recordings, folder.as_deref(), options, &read)?;
                        surveyed = lone;
                        keys
                    }
                };
                let new = Manifest::new(keys, options.slice_rows.unwrap_or(SLICE_ROWS));
                runtime.block_on(vacant.create(new))?
            }
        };
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
            surveyed,
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
        let recordings = std::mem::take(&mut self.recordings);
        if let Err(e) = self.write_all(recordings, &mut written) {
            self.remove(&written);
            return Err(e);
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

    /// Writes what is new of these recordings.
    fn write_all(
        &mut self,
        recordings: Vec<Recording>,
        written: &mut Vec<Written>,
    ) -> Result<(), IngestError> {
        for recording in recordings {
            let manifest = self.dataset.manifest();
            let known = manifest.capture(&recording.capture_id);
            let is_known = |id: &str| known.is_some_and(|k| k.chunks.iter().any(|c| c.id == id));
            let already = recording.chunks().filter(|c| is_known(&c.id)).count();
            self.report.already += already as u64;
            if already < recording.chunks().count() {
                written.push(self.write(recording)?);
            }
        }
        Ok(())
    }

    /// Writes all files of a recording; of one that the dataset knows, those that change.
    fn write(&mut self, recording: Recording) -> Result<Written, IngestError> {
        let room = Room::of(self.dataset.folder(), self.options.memory);
        let known = Known::load(&self.dataset, self.runtime, &recording, &room)?;
        let skeletons = known.as_ref().map_or(&[][..], |k| k.skeletons.as_slice());
        let survey = match self.surveyed.take().filter(|_| known.is_none()) {
            Some(survey) => survey,
            None => survey_with(&recording, skeletons, &room, &|bytes| {
                (self.progress)(Progress::Surveyed(bytes))
            })?,
        };
        let plan = Plan::new(&self.dataset, known.as_ref(), &survey);
        (self.progress)(Progress::Rows(survey.facts.refs.saturating_sub(plan.first)));
        let manifest = self.dataset.manifest();
        let staging = staging(self.options, &recording)?;
        // Of rows that are read back, the buffers take a share of what rows may wait in.
        let read_back = if plan.stored.is_empty() {
            0
        } else {
            staging / 4
        };
        let layout = Layout {
            partition_by: manifest.partition_by.clone(),
            slice_rows: manifest.slice_rows,
            first: plan.first,
            budget: staging - read_back,
            max_open_files: open_files(self.options.max_open_files, recording.cpus.len()),
            name: self.marker.file_name(&recording.capture_id),
        };
        let name = layout.name.clone();
        let Survey {
            names,
            told,
            clocks,
            losses,
            fresh,
            records,
            facts,
            skeletons: parts,
            ..
        } = survey;
        let written = known.as_ref().map(|k| &k.survey.told);
        let named = Named::new(&told, written)?;
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
        let stored = (!plan.stored.is_empty()).then(|| {
            let (offsets, files) = (plan.offsets.clone(), plan.stored.clone());
            let slice_rows = layout.slice_rows;
            StoredRows::new(
                &self.dataset,
                handle.clone(),
                offsets,
                files,
                slice_rows,
                read_back,
            )
        });
        let mut writer = RefsWriter::new(&self.dataset, &handle, encoder, layout);
        let mut files = BTreeMap::new();
        let mut gone = BTreeMap::new();
        let inputs = again::inputs(&recording, skeletons);
        let mut offsets = plan.offsets.clone();
        offsets.cut(plan.first);
        let mut times = Times {
            clock: context.clocks.reader(),
            offsets,
        };
        let wrote = Merge::with(inputs, stored, plan.first)
            .and_then(|merge| {
                let to = (&mut writer, &mut marks, &mut times);
                self.merge(&recording, merge, &fresh, to)
            })
            .and_then(|()| writer.finish())
            .and_then(|refs| {
                files.insert(Table::Refs, refs);
                let marks = marks.finish()?;
                files.extend(marks.map(|file| (Table::Marks, vec![file])));
                self.small_tables(&name, (&context, &told), &facts, &losses, &mut files)?;
                if let Some(known) = &known {
                    let new_name = || self.marker.file_name(&recording.capture_id);
                    let now = (&context.names, &context.clocks);
                    let (dataset, runtime) = (&self.dataset, self.runtime);
                    let replaced =
                        again::replace_tables(dataset, runtime, known, &plan, now, &new_name)?;
                    gone = replaced.gone;
                    for (table, more) in replaced.files {
                        files.entry(table).or_default().extend(more);
                    }
                }
                self.keep(&name, &parts)
            });
        self.report.peak_bytes = self.report.peak_bytes.max(writer.peak());
        let state = match wrote {
            Ok(state) => state,
            Err(e) => {
                marks.discard();
                let mut litter = writer.discard();
                litter.extend(files.into_values().flatten());
                self.runtime
                    .block_on(partition::remove(&self.dataset, &litter));
                return Err(e);
            }
        };
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
        let chunks = parts.iter().map(|s| ChunkEntry {
            id: s.id.clone(),
            name: s.name.clone(),
            bytes: s.bytes,
        });
        let entry = CaptureEntry {
            capture_id: facts.capture_id,
            chunks: chunks.collect(),
            refs: facts.refs,
            lost: facts.lost,
            state: Some(state),
            offsets: times.offsets,
        };
        Ok(Written {
            base: known.map(|k| k.entry),
            recording,
            gone,
            entry,
            files,
            report,
        })
    }

    /// Keeps what else was in the chunks, for those that come later; gives the file's path.
    fn keep(&self, name: &str, parts: &[Skeleton]) -> Result<String, IngestError> {
        let path = again::state_path(name);
        let rows = skeleton::Rows::of(parts);
        let handle = self.runtime.handle();
        growing::put(&self.dataset, handle, path.clone(), skeleton::file(), rows)?;
        Ok(path)
    }

    /// Merges all references and marks into their writers.
    fn merge(
        &self,
        recording: &Recording,
        mut merge: Merge<'_>,
        expected: &BTreeMap<u16, u64>,
        (writer, marks, times): (&mut RefsWriter<'_>, &mut MarksWriter<'_>, &mut Times<'_>),
    ) -> Result<(), IngestError> {
        let mut rows: BTreeMap<u16, u64> = BTreeMap::new();
        let mut told = 0;
        while let Some(next) = merge.next_run()? {
            let run = match next {
                Next::Rows { of, rows: run } => {
                    if let Some(cpu) = of {
                        *rows.entry(cpu).or_default() += run.len() as u64;
                    }
                    run
                }
                Next::Mark(mark) => {
                    marks.push(mark)?;
                    continue;
                }
            };
            for row in run.iter() {
                let utc = times.clock.utc(row.time_ns);
                times.offsets.push(row.seq, row.time_ns, utc);
            }
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
        (context, told): (&Context, &Told),
        facts: &tables::CaptureFacts,
        losses: &[crate::losses::Loss],
        files: &mut BTreeMap<Table, Vec<FileEntry>>,
    ) -> Result<(), IngestError> {
        let (id, names, clocks) = (&facts.capture_id, &context.names, &context.clocks);
        let footer = encode::footer(id, facts.lost, clocks.first());
        for table in Table::ALL {
            let one = |batch: Result<RecordBatch, ArrowError>| {
                std::iter::once(batch.map_err(IngestError::from))
            };
            let rows: Box<dyn Iterator<Item = _> + '_> = match table {
                Table::Refs | Table::Marks => continue,
                Table::Captures => Box::new(one(tables::captures(facts, clocks))),
                Table::Losses => Box::new(one(tables::losses(id, losses, clocks))),
                Table::Processes => Box::new(tables::processes(id, names, clocks)),
                Table::Objects => Box::new(tables::objects(id, names)),
                Table::Mappings => Box::new(tables::mappings(id, told, names, clocks)),
            };
            let path = format!("{table}/{name}.parquet");
            let form = (
                table.arrow_schema(),
                encode::properties(table, footer.clone()),
            );
            let put = growing::put(&self.dataset, self.runtime.handle(), path, form, rows)?;
            files.extend(put.map(|file| {
                let capture_id = id.clone();
                (table, vec![FileEntry { capture_id, ..file }])
            }));
        }
        Ok(())
    }
}
