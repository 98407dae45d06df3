//! A reader of Parquet that prunes by the page index and counts the bytes it asks for.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use arrow::array::{Array, ArrayRef, BooleanArray, Scalar, UInt64Array};
use arrow::compute::kernels::boolean::and;
use arrow::compute::kernels::cmp::{gt_eq, lt_eq};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
    RowFilter, RowSelection, RowSelector,
};
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::reader::{ChunkReader, Length};

/// A file in memory; what is asked for is counted.
#[derive(Clone)]
pub(crate) struct Counted {
    bytes: Bytes,
    asked: Arc<AtomicU64>,
}

impl Counted {
    pub(crate) fn new(bytes: impl Into<Bytes>) -> Self {
        Self {
            bytes: bytes.into(),
            asked: Arc::default(),
        }
    }

    fn add(&self, bytes: usize) {
        self.asked.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Length for Counted {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl ChunkReader for Counted {
    type T = Reading;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Reading> {
        Ok(Reading {
            of: self.clone(),
            at: start as usize,
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        self.add(length);
        Ok(self.bytes.slice(start as usize..start as usize + length))
    }
}

/// Reads on from a place in the file.
pub(crate) struct Reading {
    of: Counted,
    at: usize,
}

impl Read for Reading {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let read = (&self.of.bytes[self.at..]).read(to)?;
        self.of.add(read);
        self.at += read;
        Ok(read)
    }
}

/// Rows whose `column` lies between two values, both included.
#[derive(Clone)]
pub(crate) struct Between {
    pub(crate) column: &'static str,
    pub(crate) low: ArrayRef,
    pub(crate) high: ArrayRef,
}

impl Between {
    /// `low` and `high` are arrays of one value.
    pub(crate) fn new(column: &'static str, low: ArrayRef, high: ArrayRef) -> Self {
        Self { column, low, high }
    }

    pub(crate) fn holds(
        &self,
        values: &dyn Array,
    ) -> Result<BooleanArray, arrow::error::ArrowError> {
        let (low, high) = (
            Scalar::new(self.low.clone()),
            Scalar::new(self.high.clone()),
        );
        and(&gt_eq(&values, &low)?, &lt_eq(&values, &high)?)
    }

    /// Which of the stretches with these least and greatest values may hold such rows.
    fn may_hold(&self, least: &dyn Array, most: &dyn Array) -> Result<Vec<bool>> {
        let (low, high) = (
            Scalar::new(self.low.clone()),
            Scalar::new(self.high.clone()),
        );
        let may = and(&gt_eq(&most, &low)?, &lt_eq(&least, &high)?)?;
        // Nothing known: they may.
        Ok(may.iter().map(|m| m != Some(false)).collect())
    }
}

/// What an answer took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) rows: u64,
    /// Bytes asked for, footer and indexes among them.
    pub(crate) bytes: u64,
    /// Of them footer and indexes.
    pub(crate) footer: u64,
}

impl std::ops::AddAssign for Answer {
    fn add_assign(&mut self, other: Answer) {
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.footer += other.footer;
    }
}

/// Reads `columns` of a file; with a condition, only where row groups, pages and rows meet it.
pub(crate) fn ask(file: &Counted, columns: &[&str], condition: Option<&Between>) -> Result<Answer> {
    let file = Counted::new(file.bytes.clone());
    let index = match condition {
        Some(_) => PageIndexPolicy::Optional,
        None => PageIndexPolicy::Skip,
    };
    let options = ArrowReaderOptions::new().with_page_index_policy(index);
    let loaded = ArrowReaderMetadata::load(&file, options)?;
    let footer = file.asked.load(Ordering::Relaxed);
    let schema = loaded.parquet_schema();
    let mask = ProjectionMask::columns(schema, columns.iter().copied());
    let mut builder =
        ParquetRecordBatchReaderBuilder::new_with_metadata(file.clone(), loaded.clone())
            .with_batch_size(8192)
            .with_projection(mask);
    if let Some(between) = condition {
        let (groups, selection) = prune(&loaded, between)?;
        let only = ProjectionMask::columns(schema, [between.column]);
        let between = between.clone();
        let filter = ArrowPredicateFn::new(only, move |batch| between.holds(batch.column(0)));
        builder = builder
            .with_row_groups(groups)
            .with_row_selection(selection)
            .with_row_filter(RowFilter::new(vec![Box::new(filter)]));
    }
    let mut rows = 0;
    for batch in builder.build()? {
        rows += batch?.num_rows() as u64;
    }
    Ok(Answer {
        rows,
        bytes: file.asked.load(Ordering::Relaxed),
        footer,
    })
}

/// Row groups that may hold such rows, and in them the pages that may.
fn prune(file: &ArrowReaderMetadata, between: &Between) -> Result<(Vec<usize>, RowSelection)> {
    let metadata = file.metadata();
    let statistics =
        StatisticsConverter::try_new(between.column, file.schema(), file.parquet_schema())?;
    let all = metadata.row_groups();
    let may = between.may_hold(
        &statistics.row_group_mins(all)?,
        &statistics.row_group_maxes(all)?,
    )?;
    let groups: Vec<usize> = (0..all.len()).filter(|&g| may[g]).collect();
    let mut selectors = Vec::new();
    let mut kept = Vec::new();
    for &group in &groups {
        let whole = all[group].num_rows() as usize;
        let pages = match (metadata.column_index(), metadata.offset_index()) {
            (Some(columns), Some(offsets)) => {
                let least = statistics.data_page_mins(columns, offsets, [&group])?;
                let most = statistics.data_page_maxes(columns, offsets, [&group])?;
                let rows = statistics.data_page_row_counts(offsets, all, [&group])?;
                let rows: UInt64Array = rows.context("no rows of pages")?;
                between
                    .may_hold(&least, &most)?
                    .into_iter()
                    .zip(rows.values().iter().map(|r| *r as usize))
                    .collect()
            }
            _ => vec![(true, whole)],
        };
        if pages.iter().any(|(may, _)| *may) {
            kept.push(group);
            selectors.extend(pages.into_iter().map(|(may, rows)| match may {
                true => RowSelector::select(rows),
                false => RowSelector::skip(rows),
            }));
        }
    }
    Ok((kept, RowSelection::from(selectors)))
}
