//! SQL over pgtrace datasets.
//!
//! [`session::Session`] opens a dataset and answers SQL: its base tables are read through the manifest
//! (module `table`), its [`views`] come from `sql/PACKAGE/NAME.sql`. [`mod@derive`] makes datasets
//! of a dataset's rows (cut, filter, split), [`output`] writes results,
//! [`shell`] is the interactive side of the binary `pgtrace-sql`; [`export`] is for other
//! people's engines.

mod counts;
pub mod derive;
pub mod describe;
pub mod diagnose;
mod error;
pub mod export;
mod functions;
mod keywords;
mod lexer;
mod numbered;
mod older;
mod operators;
pub mod output;
mod pool;
mod progress;
mod prune;
pub mod range;
mod reader;
pub mod run;
pub mod session;
pub mod shell;
pub mod statements;
mod stats;
mod stores;
mod table;
mod template;
pub mod variables;
pub mod views;

pub use error::Error;
