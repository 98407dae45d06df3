//! A Parquet file that is written as its rows come: that of every table but `refs`, and what is kept of chunks.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use object_store::Error as StoreError;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use tokio::runtime::Handle;

use crate::dataset::Dataset;
use crate::encode::Sink;
use crate::error::IngestError;
use crate::manifest::FileEntry;
use crate::upload::{PART, Upload};

/// Encoded bytes after which a row group ends, however few rows it has: they wait in memory.
const GROUP_BYTES: usize = 8 << 20;

/// A file that was begun; nobody sees it before it is finished.
pub(crate) struct Growing<'a> {
    dataset: &'a Dataset,
    runtime: &'a Handle,
    path: String,
    sink: Sink,
    writer: ArrowWriter<Sink>,
    upload: Upload,
    rows: u64,
}

impl<'a> Growing<'a> {
    /// Begins the file `path` of a dataset.
    ///
    /// # Errors
    /// A schema that Parquet has no form for.
    pub(crate) fn new(
        dataset: &'a Dataset,
        runtime: &'a Handle,
        path: String,
        schema: SchemaRef,
        properties: WriterProperties,
    ) -> Result<Self, IngestError> {
        let sink = Sink::default();
        let writer = match ArrowWriter::try_new(sink.clone(), schema, Some(properties)) {
            Ok(writer) => writer,
            Err(cause) => return Err(IngestError::Parquet { path, cause }),
        };
        let part = if dataset.is_local() { 1 } else { PART };
        Ok(Self {
            upload: Upload::new(dataset.store().clone(), dataset.path(&path), part),
            dataset,
            runtime,
            path,
            sink,
            writer,
            rows: 0,
        })
    }

    /// Adds rows, and sends off what is encoded.
    ///
    /// # Errors
    /// They cannot be encoded, or the file not be written.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), IngestError> {
        self.rows += batch.num_rows() as u64;
        let mut written = self.writer.write(batch);
        if self.writer.in_progress_size() > GROUP_BYTES {
            written = written.and_then(|()| self.writer.flush());
        }
        written.map_err(|e| self.not_encoded(e))?;
        let sent = self.upload.append(self.sink.carry_away());
        let sent = self.runtime.block_on(sent);
        sent.map_err(|e| self.not_stored(e))
    }

    /// Ends the file; the caller says whose rows they are.
    ///
    /// # Errors
    /// As [`Growing::write`]; then nothing of it stays.
    pub(crate) fn finish(mut self) -> Result<FileEntry, IngestError> {
        if let Err(e) = self.writer.finish() {
            let e = self.not_encoded(e);
            self.discard();
            return Err(e);
        }
        let Self {
            dataset,
            runtime,
            path,
            sink,
            mut upload,
            rows,
            ..
        } = self;
        let sent = runtime.block_on(async {
            match upload.append(sink.carry_away()).await {
                Ok(()) => upload.finish().await,
                Err(e) => {
                    upload.abort().await;
                    Err(e)
                }
            }
        });
        match sent {
            Ok(bytes) => Ok(FileEntry {
                bytes,
                rows,
                ..FileEntry::at(path)
            }),
            Err(cause) => Err(IngestError::Store {
                location: dataset.location().into(),
                path,
                cause,
            }),
        }
    }

    /// Gives it up: nothing of it stays.
    pub(crate) fn discard(self) {
        self.runtime.block_on(self.upload.abort());
    }

    fn not_encoded(&self, cause: ParquetError) -> IngestError {
        IngestError::not_encoded(&self.path, cause)
    }

    fn not_stored(&self, cause: StoreError) -> IngestError {
        IngestError::Store {
            location: self.dataset.location().into(),
            path: self.path.clone(),
            cause,
        }
    }
}

/// Puts a whole file in its place; `None`: there are no rows, and no file.
///
/// # Errors
/// As [`Growing::finish`], and those of `batches`.
pub(crate) fn put(
    dataset: &Dataset,
    runtime: &Handle,
    path: String,
    (schema, properties): (SchemaRef, WriterProperties),
    batches: impl Iterator<Item = Result<RecordBatch, IngestError>>,
) -> Result<Option<FileEntry>, IngestError> {
    let mut file = Growing::new(dataset, runtime, path, schema, properties)?;
    for batch in batches {
        if let Err(e) = batch.and_then(|batch| file.write(&batch)) {
            file.discard();
            return Err(e);
        }
    }
    match file.rows {
        0 => {
            file.discard();
            Ok(None)
        }
        _ => file.finish().map(Some),
    }
}
