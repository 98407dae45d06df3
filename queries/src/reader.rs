//! Reads data files so that an error names the file.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;

/// Makes readers that cache metadata and name their file in errors.
#[derive(Debug)]
pub(crate) struct NamedReaders(pub(crate) CachedParquetFileReaderFactory);

impl ParquetFileReaderFactory for NamedReaders {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let (name, size) = (file.path().to_string(), file.object_meta.size);
        let reader = self.0.create_reader(partition, file, size_hint, metrics)?;
        Ok(Box::new(NamedReader {
            name: name.into(),
            size,
            reader,
        }))
    }
}

struct NamedReader {
    name: Arc<str>,
    /// Bytes, as the manifest says.
    size: u64,
    reader: Box<dyn AsyncFileReader + Send>,
}

impl NamedReader {
    fn named(name: &str, size: u64, error: ParquetError) -> ParquetError {
        ParquetError::General(format!(
            "data file {name} is missing or damaged (the manifest says {size} bytes): {error}"
        ))
    }
}

impl AsyncFileReader for NamedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        let (name, size) = (Arc::clone(&self.name), self.size);
        let read = self.reader.get_bytes(range);
        async move { read.await.map_err(|e| Self::named(&name, size, e)) }.boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        let (name, size) = (Arc::clone(&self.name), self.size);
        let read = self.reader.get_byte_ranges(ranges);
        async move { read.await.map_err(|e| Self::named(&name, size, e)) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let (name, size) = (Arc::clone(&self.name), self.size);
        let read = self.reader.get_metadata(options);
        async move { read.await.map_err(|e| Self::named(&name, size, e)) }.boxed()
    }
}
