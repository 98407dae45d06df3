//! A file of a table written from batches, for what is written anew out of a dataset.

use arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use crate::encode::Sink;
use crate::page_encoding;
use crate::schema::Table;

/// Encodes batches; the bytes go to a [`Sink`]. The first batch of `refs` says how `page` is encoded.
pub(crate) struct BatchWriter {
    table: Table,
    sink: Sink,
    state: State,
}

enum State {
    /// No rows yet.
    Empty(Box<WriterProperties>),
    Begun(Box<ArrowWriter<Sink>>),
}

impl BatchWriter {
    pub(crate) fn new(table: Table, properties: WriterProperties, sink: Sink) -> Self {
        Self {
            table,
            sink,
            state: State::Empty(Box::new(properties)),
        }
    }

    /// Appends rows.
    ///
    /// # Errors
    /// They are not of the table's schema.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), ParquetError> {
        if let State::Empty(properties) = &self.state {
            let properties = match self.table {
                Table::Refs => page_encoding::of_batch(properties, batch)?,
                _ => WriterProperties::clone(properties),
            };
            self.begin(properties)?;
        }
        match &mut self.state {
            State::Begun(writer) => writer.write(batch),
            State::Empty(_) => Ok(()),
        }
    }

    /// Bytes of encoded columns that wait for their row group to be whole.
    pub(crate) fn memory_size(&self) -> usize {
        match &self.state {
            State::Begun(writer) => writer.memory_size(),
            State::Empty(_) => 0,
        }
    }

    /// Ends the row group.
    ///
    /// # Errors
    /// None in practice: bytes go to memory.
    pub(crate) fn flush(&mut self) -> Result<(), ParquetError> {
        match &mut self.state {
            State::Begun(writer) => writer.flush(),
            State::Empty(_) => Ok(()),
        }
    }

    /// Ends the file.
    ///
    /// # Errors
    /// None in practice: bytes go to memory.
    pub(crate) fn finish(&mut self) -> Result<(), ParquetError> {
        if let State::Empty(properties) = &self.state {
            let properties = WriterProperties::clone(properties);
            self.begin(properties)?;
        }
        match &mut self.state {
            State::Begun(writer) => writer.finish().map(drop),
            State::Empty(_) => Ok(()),
        }
    }

    fn begin(&mut self, properties: WriterProperties) -> Result<(), ParquetError> {
        let schema = self.table.arrow_schema();
        let writer = ArrowWriter::try_new(self.sink.clone(), schema, Some(properties))?;
        self.state = State::Begun(Box::new(writer));
        Ok(())
    }
}
