//! Raw chunks to a partitioned Parquet dataset: the tables, the manifest, and
//! the pipeline between the two.
//!
//! `source` finds and reads chunks; `survey` reads a recording once, for its
//! names and the account of its losses; `merge` reads it again and orders its
//! references; `partition` writes them; `pipeline` publishes all in one commit.
//! `runs` and `cleanup` see to it that nothing else stays; `compact` merges small files;
//! `derive` makes datasets of a dataset's rows.

mod again;
mod batch_writer;
mod chosen_encoding;
pub mod cleanup;
pub mod clocks;
pub mod compact;
pub mod dataset;
pub mod derive;
pub mod doctor;
mod encode;
pub mod error;
mod growing;
mod guard;
pub mod inspect;
mod local;
pub mod losses;
pub mod manifest;
pub mod marks;
pub mod merge;
pub mod names;
pub mod older;
pub mod partition;
pub mod pipeline;
pub mod progress;
pub mod report;
pub mod row;
pub mod runs;
pub mod schema;
pub mod source;
pub mod spill;
pub mod store;
mod stored;
pub mod survey;
pub mod tables;
mod upload;
pub mod verify;
