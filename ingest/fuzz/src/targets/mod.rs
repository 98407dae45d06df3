//! One file a target: what is fuzzed, and what must hold whatever the bytes are. `make fuzz` looks for bytes that break
//! it; `ingest/tests/corpus.rs` includes this folder and goes through the kept ones with every `cargo test`.
//!
//! A target must be total: no bytes make it fail but those that show a mistake in the product.

mod chunk;
mod container;
mod json;
mod plan;
mod recording;
mod table;
mod text;
mod translated;
mod v0;
mod whole;
mod wire;

/// A target: its name, the name of its corpus too.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&[u8]),
    /// Heap that an input of no bytes may take, in bytes, and how much more a byte of input.
    #[allow(dead_code, reason = "only the fuzz program counts")]
    pub(crate) heap: (usize, usize),
}

const MIB: usize = 1 << 20;

/// All of them.
#[rustfmt::skip]
pub(crate) const TARGETS: &[Target] = &[
    Target { name: "wire", run: wire::decoder, heap: (MIB, 16) },
    Target { name: "chunk", run: chunk::any_bytes, heap: (MIB, 16) },
    Target { name: "blocks", run: chunk::harmed_blocks, heap: (MIB, 64) },
    Target { name: "recording", run: recording::survey_and_merge, heap: (16 * MIB, 128) },
    Target { name: "whole", run: whole::ingested, heap: (96 * MIB, 128) },
    Target { name: "manifest", run: json::manifest, heap: (MIB, 64) },
    Target { name: "totals", run: json::totals, heap: (MIB, 64) },
    Target { name: "status", run: text::status, heap: (MIB, 64) },
    Target { name: "units", run: text::units, heap: (MIB, 64) },
    Target { name: "perf", run: text::perf, heap: (MIB, 64) },
    Target { name: "v0", run: v0::entries, heap: (4 * MIB, 64) },
    Target { name: "table", run: table::text, heap: (4 * MIB, 256) },
];
