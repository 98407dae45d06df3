//! The dataset for other people's tools, without copying a row: a script for DuckDB, logs that make Delta tables.

pub mod delta;
mod delta_log;
pub mod duckdb;
mod duckdb_views;
