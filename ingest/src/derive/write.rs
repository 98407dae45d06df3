//! Files that are written anew, from batches.

use arrow::array::{AsArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::{
    ArrowPrimitiveType, Int32Type, TimestampNanosecondType, UInt32Type, UInt64Type,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use pgtrace_capture::record::Event;

use super::output::Output;
use crate::batch_writer::BatchWriter;
use crate::encode::{self, Facts, Sink};
use crate::error::IngestError;
use crate::manifest::FileEntry;
use crate::schema::{SCHEMA_VERSION, Table};
use crate::upload::{PART, Upload};

// On a local disk, too, bytes wait until there is a part of them: most files are small, and put in one go.
/// Bytes of encoded columns that wait for their row group to be whole, at most.
const ROOM: usize = 16 << 20;

/// What a file says of its recording in its footer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The recording; empty: rows are of several.
    pub capture_id: String,
    /// References it lost, as the dataset says it is made of.
    pub lost: u64,
    /// First anchor of its clocks: monotonic ns, UTC ns.
    pub clock: (u64, u64),
}

impl Origin {
    fn footer(&self) -> Vec<KeyValue> {
        match self.capture_id.is_empty() {
            false => encode::footer(&self.capture_id, self.lost, self.clock),
            true => vec![KeyValue::new(
                "pgtrace.schema_version".into(),
                SCHEMA_VERSION.to_string(),
            )],
        }
    }
}

/// A file of a dataset that is being made. Dropped before [`FileWriter::finish`], it was never there.
pub struct FileWriter {
    table: Table,
    location: String,
    path: String,
    capture_id: String,
    sink: Sink,
    writer: BatchWriter,
    upload: Upload,
    facts: Facts,
}

impl Output {
    /// Begins a file of `table` at `path` within the dataset. `one_process`: its rows are of one.
    ///
    /// # Errors
    /// None in practice: the schema is one that can be written.
    pub fn writer(
        &self,
        table: Table,
        path: String,
        origin: &Origin,
        one_process: bool,
    ) -> Result<FileWriter, IngestError> {
        let mut properties = encode::properties(table, origin.footer());
        if one_process && table == Table::Refs {
            properties = encode::one_process(properties);
        }
        let sink = Sink::default();
        let at = self.dataset.path(&path);
        Ok(FileWriter {
            table,
            location: self.dataset.location().into(),
            writer: BatchWriter::new(table, properties, sink.clone()),
            path,
            capture_id: origin.capture_id.clone(),
            sink,
            upload: Upload::new(self.dataset.store().clone(), at, PART),
            facts: Facts::default(),
        })
    }
}

impl FileWriter {
    /// Appends rows; those of `refs` are of one capture and in order of `seq`.
    ///
    /// # Errors
    /// They are of another table, or the store failed.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), IngestError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let encoded = self.add_facts(batch).and_then(|()| {
            self.writer.write(batch)?;
            match self.writer.memory_size() > ROOM {
                true => self.writer.flush(),
                false => Ok(()),
            }
        });
        encoded.map_err(|cause| IngestError::not_encoded(&self.path, cause))?;
        self.send().await
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.facts.rows
    }

    /// Ends the file and gives its entry.
    ///
    /// # Errors
    /// The store failed.
    pub async fn finish(mut self) -> Result<FileEntry, IngestError> {
        let finished = self.writer.finish();
        finished.map_err(|cause| IngestError::not_encoded(&self.path, cause))?;
        self.send().await?;
        let sent = self.upload.finish().await;
        let bytes = sent.map_err(|cause| not_stored(&self.location, &self.path, cause))?;
        let facts = self.facts;
        Ok(FileEntry {
            bytes,
            rows: facts.rows,
            capture_id: self.capture_id,
            seq: facts.seq,
            ts: facts.ts,
            uid: facts.uid,
            pid: facts.pid,
            objects: facts.extents(),
            events: facts.events(),
            path: self.path,
        })
    }

    async fn send(&mut self) -> Result<(), IngestError> {
        let sent = self.upload.append(self.sink.carry_away()).await;
        sent.map_err(|cause| not_stored(&self.location, &self.path, cause))
    }

    fn add_facts(&mut self, batch: &RecordBatch) -> Result<(), ParquetError> {
        if self.table != Table::Refs {
            self.facts.rows += batch.num_rows() as u64;
            return Ok(());
        }
        let columns = (
            values::<UInt64Type>(batch, "seq")?,
            values::<TimestampNanosecondType>(batch, "ts")?,
            values::<UInt32Type>(batch, "uid")?,
            values::<UInt32Type>(batch, "pid")?,
            values::<UInt64Type>(batch, "object_id")?,
            values::<UInt64Type>(batch, "page")?,
        );
        let (seq, ts, uid, pid, objects, pages) = columns;
        let seq = seq.values();
        let last = self.facts.seq.map(|s| s.max);
        let behind = last.into_iter().chain(seq.iter().copied());
        if !behind.is_sorted_by(|a, b| a < b) {
            let text = "expected rows in order of seq, each number once, found others";
            return Err(ParquetError::General(text.into()));
        }
        self.facts.add_columns(
            seq,
            ts.values(),
            (uid.values(), pid.values()),
            (objects.values(), pages.values()),
            events(batch)?.into_iter(),
        );
        Ok(())
    }
}

fn values<'b, T: ArrowPrimitiveType>(
    batch: &'b RecordBatch,
    name: &str,
) -> Result<&'b PrimitiveArray<T>, ParquetError> {
    let column = batch.column_by_name(name);
    let column = column.and_then(|c| c.as_primitive_opt::<T>());
    column.ok_or_else(|| {
        ParquetError::General(format!("expected a column {name} of refs, found none"))
    })
}

/// The kinds of events of a batch: those of its rows, not all that its dictionary holds.
fn events(batch: &RecordBatch) -> Result<Vec<Event>, ParquetError> {
    let column = batch.column_by_name("event");
    let column = column.and_then(|c| c.as_dictionary_opt::<Int32Type>());
    let named = column.and_then(|c| Some((c, c.values().as_string_opt::<i32>()?)));
    let Some((column, texts)) = named else {
        let text = "expected a column event of refs, found none";
        return Err(ParquetError::General(text.into()));
    };
    let used = column.occupancy();
    let texts = texts.iter().zip(used.iter()).filter(|(_, used)| *used);
    Ok(texts
        .filter_map(|(text, _)| {
            Event::ALL
                .iter()
                .copied()
                .find(|e| Some(e.as_str()) == text)
        })
        .collect())
}

fn not_stored(location: &str, path: &str, cause: object_store::Error) -> IngestError {
    IngestError::Store {
        location: location.into(),
        path: path.into(),
        cause,
    }
}
