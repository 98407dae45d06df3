//! Tables of other people: rows of some of the columns of `refs`, in the order of the reference string.
//!
//! `csv`, `ndjson` and `parquet` give batches of columns; `columns` says which there may be, `cells` makes values of
//! them, `rows` references and `names` what references name. README.md, "Your own data", says what a missing column
//! means; [`columns::COLUMNS`] holds it.

mod cells;
mod columns;
pub(super) mod csv;
mod names;
pub(super) mod ndjson;
pub(super) mod parquet;
mod rows;

/// Rows of a batch: few, so that rows as long as they may be stay within memory.
const BATCH: usize = 512;
/// Bytes of a row of text at most; a path has 64 KiB at most.
const ROW_BYTES: usize = 128 << 10;
