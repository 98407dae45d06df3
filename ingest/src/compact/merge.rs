//! Several files into one: column by column, a row group at a time.

use std::collections::BTreeSet;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use futures::TryStreamExt;
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;

use crate::batch_writer::BatchWriter;
use crate::dataset::Dataset;
use crate::encode::{self, Sink};
use crate::error::IngestError;
use crate::guard::guarded_async;
use crate::manifest::{FileEntry, ObjectExtent, Span};
use crate::older;
use crate::schema::{SCHEMA_VERSION, Table};
use crate::upload::{PART, Upload};

use super::plan::Job;
use super::read::Reader;

/// Rows read at once.
const BATCH: usize = 8192;

/// Writes the rows of the job's files, in their order, to `path`; gives what the manifest says of
/// it. At most `budget` bytes are used, about.
pub(super) async fn merge(
    dataset: &Dataset,
    job: &Job,
    path: String,
    budget: u64,
) -> Result<FileEntry, IngestError> {
    let part = if dataset.is_local() { 1 } else { PART };
    let mut upload = Upload::new(dataset.store().clone(), dataset.path(&path), part);
    let sent = match copy(dataset, job, &path, budget, &mut upload).await {
        Ok(()) => upload
            .finish()
            .await
            .map_err(|e| not_stored(dataset, &path, e)),
        Err(e) => {
            upload.abort().await;
            Err(e)
        }
    };
    Ok(entry(job, path, sent?))
}

async fn copy(
    dataset: &Dataset,
    job: &Job,
    path: &str,
    budget: u64,
    upload: &mut Upload,
) -> Result<(), IngestError> {
    let not_encoded = |cause| IngestError::not_encoded(path, cause);
    // A quarter for what is encoded; the rest for a row group being read, and a part being sent.
    let room = usize::try_from(budget / 4).unwrap_or(usize::MAX);
    let sink = Sink::default();
    let mut writer: Option<BatchWriter> = None;
    let mut last_seq = None;
    for file in &job.inputs {
        let not_read = |cause| IngestError::Read {
            location: dataset.location().into(),
            path: file.path.clone(),
            cause,
        };
        let reader = Reader {
            store: dataset.store().clone(),
            path: dataset.path_of(file),
            bytes: file.bytes,
        };
        let builder = guarded_async(ParquetRecordBatchStreamBuilder::new(reader))
            .await
            .map_err(not_read)?;
        let writer = match &mut writer {
            Some(writer) => writer,
            none => {
                let told = builder.metadata().file_metadata().key_value_metadata();
                let properties = encode::properties(job.table, footer(job, told));
                none.insert(BatchWriter::new(job.table, properties, sink.clone()))
            }
        };
        let mut rows = 0;
        let mut batches = builder.with_batch_size(BATCH).build().map_err(not_read)?;
        while let Some(batch) = guarded_async(batches.try_next()).await.map_err(not_read)? {
            let batch = older::adapt(job.table, &batch).map_err(|e| not_read(e.into()))?;
            rows += batch.num_rows() as u64;
            check_order(job.table, &batch, &mut last_seq).map_err(not_read)?;
            writer.write(&batch).map_err(not_encoded)?;
            if writer.memory_size() > room {
                writer.flush().map_err(not_encoded)?;
            }
            let bytes = sink.carry_away();
            let sent = upload.append(bytes).await;
            sent.map_err(|e| not_stored(dataset, path, e))?;
        }
        if rows != file.rows {
            return Err(not_read(ParquetError::General(format!(
                "expected {} rows as the manifest says, found {rows}",
                file.rows
            ))));
        }
    }
    if let Some(mut writer) = writer {
        writer.finish().map_err(not_encoded)?;
        let sent = upload.append(sink.carry_away()).await;
        sent.map_err(|e| not_stored(dataset, path, e))?;
    }
    Ok(())
}

/// That rows of `refs` stand in order of `seq`, which whoever reads them relies on.
fn check_order(
    table: Table,
    batch: &RecordBatch,
    last: &mut Option<u64>,
) -> Result<(), ParquetError> {
    let seq = batch.column_by_name("seq").filter(|_| table == Table::Refs);
    let Some(seq) = seq.and_then(|c| c.as_primitive_opt::<UInt64Type>()) else {
        return Ok(());
    };
    for &seq in seq.values() {
        if last.is_some_and(|last| seq <= last) {
            return Err(ParquetError::General(format!(
                "expected rows in order of seq, found {seq} after {}",
                last.unwrap_or(0)
            )));
        }
        *last = Some(seq);
    }
    Ok(())
}

/// What the new file says about itself: of one capture, what the first file said.
fn footer(job: &Job, first: Option<&Vec<KeyValue>>) -> Vec<KeyValue> {
    let pair = |key: &str, value: String| KeyValue::new(format!("pgtrace.{key}"), value);
    let mut footer = vec![pair("schema_version", SCHEMA_VERSION.to_string())];
    if job.capture_id.is_empty() {
        // Clocks and losses are each capture's own; the table `captures` has them.
        return footer;
    }
    footer.push(pair("lost", job.lost.to_string()));
    let told = first.into_iter().flatten();
    let kept = told.filter(|kv| {
        let key = kv.key.strip_prefix("pgtrace.");
        key.is_some_and(|key| !["schema_version", "lost"].contains(&key))
    });
    footer.extend(kept.cloned());
    footer
}

/// The figures of all parts together. What one does not tell is not known of the whole.
fn entry(job: &Job, path: String, bytes: u64) -> FileEntry {
    let inputs = || job.inputs.iter();
    FileEntry {
        path,
        bytes,
        rows: inputs().map(|f| f.rows).sum(),
        capture_id: job.capture_id.clone(),
        seq: span(inputs().map(|f| f.seq)),
        ts: span(inputs().map(|f| f.ts)),
        uid: span(inputs().map(|f| f.uid)),
        pid: span(inputs().map(|f| f.pid)),
        objects: objects(&job.inputs),
        events: events(&job.inputs),
    }
}

fn span<T: Copy + Ord>(mut spans: impl Iterator<Item = Option<Span<T>>>) -> Option<Span<T>> {
    let first = spans.next()??;
    spans.try_fold(first, |mut all, span| {
        let span = span?;
        all.include(span.min);
        all.include(span.max);
        Some(all)
    })
}

fn objects(files: &[FileEntry]) -> Vec<ObjectExtent> {
    if files.iter().any(|f| f.objects.is_empty()) {
        return Vec::new();
    }
    let mut all: Vec<ObjectExtent> = files
        .iter()
        .flat_map(|f| f.objects.iter().copied())
        .collect();
    all.sort_by_key(|o| o.object_id);
    all.dedup_by(|next, kept| {
        let same = next.object_id == kept.object_id;
        if same {
            kept.min_page = kept.min_page.min(next.min_page);
            kept.max_page = kept.max_page.max(next.max_page);
        }
        same
    });
    all
}

fn events(files: &[FileEntry]) -> Vec<String> {
    if files.iter().any(|f| f.events.is_empty()) {
        return Vec::new();
    }
    let all: BTreeSet<&String> = files.iter().flat_map(|f| &f.events).collect();
    all.into_iter().cloned().collect()
}

fn not_stored(dataset: &Dataset, path: &str, cause: object_store::Error) -> IngestError {
    IngestError::Store {
        location: dataset.location().into(),
        path: path.into(),
        cause,
    }
}
