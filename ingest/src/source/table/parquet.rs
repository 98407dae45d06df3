//! A Parquet file as a table.

use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::super::error::SourceError;
use super::super::kind::{Input, Sample, Settings};
use super::super::scribe::Scribe;
use super::BATCH;
use super::columns::choose;
use super::rows::Rows;
use crate::guard::guarded;

const MAGIC: &[u8] = b"PAR1";

/// Whether a file begins and ends like one.
pub(in super::super) fn looks_like(sample: &Sample) -> bool {
    sample.head.starts_with(MAGIC) && sample.tail.ends_with(MAGIC)
}

/// Translates a file, reading no columns but those of `refs`.
pub(in super::super) fn translate(
    input: Input,
    settings: &Settings,
    to: &mut Scribe,
) -> Result<(), SourceError> {
    let path = input.path;
    let fail = |e| SourceError::parse(&path, format!("cannot be read as Parquet: {e}"));
    let builder = guarded(|| ParquetRecordBatchReaderBuilder::try_new(input.file)).map_err(fail)?;
    let schema = builder.schema().clone();
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let chosen = choose(&path, &names, settings.ignore_unknown_columns)?;
    let roots = chosen.iter().enumerate().filter(|c| c.1.is_some());
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots.map(|c| c.0));
    let builder = builder.with_projection(mask).with_batch_size(BATCH);
    let mut reader = guarded(|| builder.build()).map_err(fail)?;
    let chosen: Vec<usize> = chosen.into_iter().flatten().collect();
    let mut rows = Rows::new(path.clone());
    while let Some(batch) = guarded(|| reader.next().transpose()).map_err(fail)? {
        rows.add(&batch, &chosen, to)?;
    }
    Ok(())
}
