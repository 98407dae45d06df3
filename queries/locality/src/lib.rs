//! What can be known of a reference string: gaps, reuse distances, miss ratios, working sets, patterns, phases.
//!
//! Pure algorithms over numbers: no Parquet, no SQL, no I/O. `pgtrace-sql` feeds them from datasets and shows what
//! they find as views. A page is a dense number here ([`index`] gives it); time is the position in the string (`seq`).

pub mod gaps;
pub mod index;
pub mod order;
pub mod patterns;
pub mod phases;
pub mod recency;
pub mod relation;
pub mod reuse;
pub mod shards;
pub mod spans;
