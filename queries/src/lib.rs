//! SQL over pgtrace datasets.
//!
//! [`session::Session`] opens a dataset and answers SQL: its base tables are read through the manifest
//! (module `table`), its [`views`] come from `sql/PACKAGE/NAME.sql`. [`output`] writes results,
//! [`shell`] is the interactive side of the binary `pgtrace-sql`. [`export`] is for other people's engines.

pub mod describe;
mod error;
pub mod export;
mod older;
mod operators;
pub mod output;
mod pool;
mod prune;
mod reader;
pub mod run;
pub mod session;
pub mod shell;
pub mod statements;
mod stats;
mod table;
mod template;
pub mod views;

pub use error::Error;
