//! Raw chunks to a partitioned Parquet dataset: the tables, the manifest, and
//! the pipeline between the two.

pub mod dataset;
pub mod manifest;
pub mod schema;
