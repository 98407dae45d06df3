//! SQL over pgtrace datasets.
//!
//! [`session::Session`] opens a dataset and answers SQL: its base tables are read through the manifest
//! (module `table`), its [`views`] come from `sql/PACKAGE/NAME.sql`. [`output`] writes results,
//! [`shell`] is the interactive side of the binary `pgtrace-sql`.

pub mod describe;
pub mod diagnose;
mod error;
mod keywords;
mod lexer;
mod older;
pub mod output;
mod pool;
mod progress;
mod prune;
mod reader;
pub mod run;
pub mod session;
pub mod shell;
pub mod statements;
mod stats;
mod table;
pub mod variables;
pub mod views;

pub use error::Error;
