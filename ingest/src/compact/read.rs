//! A file of the dataset, as the Parquet reader wants it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use crate::dataset::Dataset;
use crate::manifest::FileEntry;
use crate::store::patiently;

/// Reads a file of a store, range by range.
pub(crate) struct Reader {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) path: Path,
    /// Its size, as the manifest says.
    pub(crate) bytes: u64,
}

impl Reader {
    /// A file of a dataset.
    pub(crate) fn of(dataset: &Dataset, file: &FileEntry) -> Self {
        Self {
            store: dataset.store().clone(),
            path: dataset.path_of(file),
            bytes: file.bytes,
        }
    }
}

fn failed(e: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(e))
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        let got =
            async move { patiently(|| self.store.get_range(&self.path, range.clone())).await };
        got.map_err(failed).boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        let got = async move { patiently(|| self.store.get_ranges(&self.path, &ranges)).await };
        got.map_err(failed).boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        let bytes = self.bytes;
        let read = async move {
            let reader = ParquetMetaDataReader::new().with_arrow_reader_options(options);
            reader.load_and_finish(self, bytes).await
        };
        read.map_ok(Arc::new).boxed()
    }
}
