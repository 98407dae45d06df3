//! Results as files of columns: Parquet, and the Arrow IPC stream.

use std::io::Write;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::WriterProperties;

use crate::Error;

/// A row group is written when it takes this much memory, however few rows it has.
const GROUP_BYTES: usize = 64 << 20;

/// Writes one result as columns.
pub(super) enum Binary<'a> {
    Parquet(Box<ArrowWriter<&'a mut (dyn Write + Send)>>),
    Arrow(Box<StreamWriter<&'a mut (dyn Write + Send)>>),
}

impl<'a> Binary<'a> {
    pub(super) fn parquet(
        schema: &SchemaRef,
        out: &'a mut (dyn Write + Send),
    ) -> Result<Self, Error> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let writer = ArrowWriter::try_new(out, Arc::clone(schema), Some(properties));
        Ok(Binary::Parquet(Box::new(writer.map_err(parquet)?)))
    }

    pub(super) fn arrow(
        schema: &SchemaRef,
        out: &'a mut (dyn Write + Send),
    ) -> Result<Self, Error> {
        let writer = StreamWriter::try_new(out, schema).map_err(arrow)?;
        Ok(Binary::Arrow(Box::new(writer)))
    }

    pub(super) fn batch(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        match self {
            Binary::Parquet(writer) => {
                writer.write(batch).map_err(parquet)?;
                if writer.memory_size() > GROUP_BYTES {
                    writer.flush().map_err(parquet)?;
                }
                Ok(())
            }
            Binary::Arrow(writer) => writer.write(batch).map_err(arrow),
        }
    }

    pub(super) fn end(self) -> Result<(), Error> {
        let out = match self {
            Binary::Parquet(writer) => writer.into_inner().map_err(parquet)?,
            Binary::Arrow(mut writer) => {
                writer.finish().map_err(arrow)?;
                writer.into_inner().map_err(arrow)?
            }
        };
        out.flush().map_err(Error::Output)
    }
}

/// Keeps apart what cannot be written (a closed pipe) and what the format does not know.
fn arrow(error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, cause) => Error::Output(cause),
        other => Error::Format(other),
    }
}

fn parquet(error: ParquetError) -> Error {
    match error {
        ParquetError::External(cause) => match cause.downcast::<std::io::Error>() {
            Ok(cause) => Error::Output(*cause),
            Err(cause) => Error::Format(ArrowError::ParquetError(cause.to_string())),
        },
        other => Error::Format(ArrowError::ParquetError(other.to_string())),
    }
}
