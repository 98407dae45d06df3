//! The raw side of pgtrace: drains the kernel module's relay buffers into raw chunks, and owns both the wire format
//! (mirror of `kmod/pgtrace_api.h`) and the chunk format. Readers depend on this crate; it never links arrow, tokio or
//! datafusion, and the recorder never interprets page references.

pub mod chunk;
pub mod cli;
pub mod control;
pub mod doctor;
pub mod help_files;
pub mod live;
pub mod record;
pub mod recorder;
pub mod status_text;
mod sys;
pub mod units;
pub mod wire;

pub use recorder::perf;
pub use sys::without_huge_pages;
