//! What a chunk says about its recording in JSON: settings in the header, totals in the last block.
//!
//! Both stay readable in both directions: a missing field takes its default, an unknown one is ignored.

use serde::{Deserialize, Serialize};

/// How a recording was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Version of the recorder.
    pub tool: String,
    /// Version of the module.
    pub module: String,
    /// `light`, `rich` or `full`.
    pub level: String,
    /// Period of the cleaner in ms; 0: off.
    pub clean_ms: u32,
    /// What was traced.
    pub targets: Targets,
    /// Bytes of a sub-buffer of the refs channel.
    pub subbuf_size: u64,
    /// Sub-buffers of the refs channel, per CPU.
    pub n_subbufs: u64,
    /// Bytes of a sub-buffer of the names channel.
    pub names_subbuf_size: u64,
    /// Sub-buffers of the names channel, per CPU.
    pub names_n_subbufs: u64,
    /// CPUs that have channels, whether or not they ran anything.
    pub cpus: Vec<u16>,
    /// A chunk ends at this many bytes; 0: no such limit.
    pub rotate_bytes: u64,
    /// A chunk ends at this age in ms; 0: no such limit.
    pub rotate_ms: u64,
    /// The recording ends after this many ms; 0: no such limit.
    pub duration_ms: u64,
}

/// What was traced; forks and threads are followed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Targets {
    /// Processes named by pid.
    pub pids: Vec<u32>,
    /// Users whose processes are traced.
    pub uids: Vec<u32>,
    /// The command the recorder started, with its arguments.
    pub command: Vec<String>,
}

/// What a whole recording came to, for every CPU; stands in the last chunk of each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// One entry a CPU.
    pub cpus: Vec<CpuTotals>,
    /// The module's figures are final; `false` where it went away and they are the last ones seen.
    pub complete: bool,
    /// Why the recording ended: `signal`, `command`, `processes`, `duration`, `module`, `error`.
    pub ended_by: String,
    /// Exit code of the command the recorder started (128 + the signal where one ended it).
    pub command_exit: Option<i32>,
    /// Length of the recording, ns.
    pub duration_ns: u64,
}

/// One CPU's share of [`Totals`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuTotals {
    /// The CPU.
    pub cpu: u16,
    /// Records written to its refs channel, LOST ones included.
    pub refs_emitted: u64,
    /// Records its refs channel had no room for.
    pub refs_lost: u64,
    /// Records written to its names channel, LOST ones included.
    pub names_emitted: u64,
    /// Records its names channel had no room for.
    pub names_lost: u64,
    /// Bytes drained from both channels.
    pub bytes: u64,
}
