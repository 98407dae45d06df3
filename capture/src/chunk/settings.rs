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
    /// What saw the references: `kmod` or `perf`; empty in recordings older than the choice: `kmod`.
    pub source: String,
    /// Version of the module; empty where there was none.
    pub module: String,
    /// `light`, `rich` or `full`.
    pub level: String,
    /// Period of the cleaner in ms; 0: off.
    pub clean_ms: u32,
    /// Pages that may be active in one address space; 0: no FIFO.
    pub fifo: u32,
    /// `4k` (huge pages are split) or `2m` (they are left whole); empty: `4k`.
    pub grain: String,
    /// What is traced of the children of what is traced: `exec`, `fork` or `none`; empty: `exec`.
    pub follow: String,
    /// The refs channels keep the newest records, and snapshots are taken of them.
    pub overwrite: bool,
    /// How much of the recording's end is kept, as on the command line (`2GiB`, `60s`); empty: all of it.
    pub keep_last: String,
    /// Only snapshots reach the disk; between them the newest records wait in memory.
    pub in_memory: bool,
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

impl Settings {
    /// The oldest references were given up on purpose: what is missing before the kept ones was not lost.
    #[must_use]
    pub fn keeps_only_the_newest(&self) -> bool {
        self.overwrite || self.in_memory || !self.keep_last.is_empty()
    }
}

/// What was traced; threads are followed, children as [`Settings::follow`] says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Targets {
    /// Processes named by pid.
    pub pids: Vec<u32>,
    /// Users whose processes are traced.
    pub uids: Vec<u32>,
    /// Command names whose processes are traced.
    pub comms: Vec<String>,
    /// Control groups whose processes are traced.
    pub cgroups: Vec<String>,
    /// Every process but the recorder is traced.
    pub all: bool,
    /// The command the recorder started, with its arguments.
    pub command: Vec<String>,
}

impl Targets {
    /// The module's commands for all but [`Targets::command`].
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        let pids = self.pids.iter().map(|pid| format!("pid {pid}"));
        let uids = self.uids.iter().map(|uid| format!("uid {uid}"));
        let comms = self.comms.iter().map(|name| format!("comm {name}"));
        let cgroups = self.cgroups.iter().map(|path| format!("cgroup {path}"));
        let all = self.all.then(|| "all".into());
        pids.chain(uids)
            .chain(comms)
            .chain(cgroups)
            .chain(all)
            .collect()
    }
}

/// What a whole recording came to, for every CPU; stands in the last chunk of each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// One entry a CPU.
    pub cpus: Vec<CpuTotals>,
    /// The module's figures are final; `false` where it went away and they are the last ones seen.
    pub complete: bool,
    /// Why the recording ended: `signal`, `stop`, `command`, `processes`, `duration`, `disk` (nearly full), `module` (it
    /// went away), `error`.
    pub ended_by: String,
    /// Exit code of the command the recorder started (128 + the signal where one ended it).
    pub command_exit: Option<i32>,
    /// Length of the recording, ns.
    pub duration_ns: u64,
    /// What its source held but nobody could read, where it was translated from something else: numbers of the refs
    /// channel that never come.
    pub unread: Vec<Unread>,
}

/// One place of [`Totals::unread`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unread {
    /// First number that is missing for it.
    pub first_seq: u64,
    /// The source ended too early; otherwise bytes were not what they should be.
    pub truncated: bool,
    /// Source and place, expected and found.
    pub detail: String,
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
