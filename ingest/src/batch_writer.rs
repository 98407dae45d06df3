//! A file of a table written from batches, for what is written anew out of a dataset.

use arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use crate::chosen_encoding;
use crate::encode::Sink;
use crate::schema::Table;

/// Encodes batches; the bytes go to a [`Sink`]. The first batch of `refs` says how its columns are encoded.
pub(crate) struct BatchWriter {
    table: Table,
    properties: WriterProperties,
    sink: Sink,
    /// `None`: no rows yet.
    writer: Option<ArrowWriter<Sink>>,
}

impl BatchWriter {
    pub(crate) fn new(table: Table, properties: WriterProperties, sink: Sink) -> Self {
        Self {
            table,
            properties,
            sink,
            writer: None,
        }
    }

    /// Appends rows.
    ///
    /// # Errors
    /// They are not of the table's schema.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), ParquetError> {
        if self.writer.is_none() && self.table == Table::Refs {
            self.properties = chosen_encoding::of_batch(&self.properties, batch)?;
        }
        self.begun()?.write(batch)
    }

    /// Bytes of encoded columns that wait for their row group to be whole.
    pub(crate) fn memory_size(&self) -> usize {
        self.writer.as_ref().map_or(0, ArrowWriter::memory_size)
    }

    /// Ends the row group.
    ///
    /// # Errors
    /// None in practice: bytes go to memory.
    pub(crate) fn flush(&mut self) -> Result<(), ParquetError> {
        self.begun()?.flush()
    }

    /// Ends the file.
    ///
    /// # Errors
    /// None in practice: bytes go to memory.
    pub(crate) fn finish(&mut self) -> Result<(), ParquetError> {
        self.begun()?.finish().map(drop)
    }

    fn begun(&mut self) -> Result<&mut ArrowWriter<Sink>, ParquetError> {
        match &mut self.writer {
            Some(writer) => Ok(writer),
            none => Ok(none.insert(ArrowWriter::try_new(
                self.sink.clone(),
                self.table.arrow_schema(),
                Some(self.properties.clone()),
            )?)),
        }
    }
}
