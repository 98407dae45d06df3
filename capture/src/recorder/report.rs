//! What a recording came to.

use std::fmt;
use std::path::PathBuf;

use super::drain::DrainError;
use crate::chunk::Totals;
use crate::units::{show_bytes, show_count};

/// What a recording came to; its text is what the recorder says at the end.
#[derive(Debug, Default)]
pub struct Report {
    /// Where the chunks are.
    pub dir: PathBuf,
    /// Chunks written, without those deleted since.
    pub chunks: u64,
    /// Chunks deleted to make room for newer ones.
    pub deleted: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Snapshots taken on demand.
    pub snapshots: u64,
    /// What the person who recorded should know; the recording is not whole then.
    pub warnings: Vec<String>,
    /// The module's figures, as they stand in the last chunk of each CPU.
    pub totals: Totals,
    /// What was drained, by CPU.
    pub cpus: Vec<CpuReport>,
    /// Failures on the way; the chunks hold what came before them.
    pub errors: Vec<DrainError>,
}

/// What was drained from one CPU.
#[derive(Debug, Clone, Default)]
pub struct CpuReport {
    /// The CPU.
    pub cpu: u16,
    /// Whole records drained from refs, LOST ones included.
    pub refs: u64,
    /// Whole records drained from names.
    pub names: u64,
    /// Bytes drained from both.
    pub bytes: u64,
    /// Records the module had no room for.
    pub lost: u64,
    /// Records given up for newer ones, as was asked for: overwritten in memory, or too old for a snapshot.
    pub given_up: u64,
    /// Records the module wrote but nobody drained (it was unloaded).
    pub undrained: u64,
    /// Records drained but not written (the disk was full).
    pub discarded: u64,
    /// What is wrong with the bytes of a channel, and where.
    pub unframed: Vec<String>,
}

impl CpuReport {
    /// Whether this CPU's trace is whole.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.lost + self.undrained + self.discarded == 0 && self.unframed.is_empty()
    }
}

impl Report {
    /// Whether the trace holds every record.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.totals.complete
            && self.errors.is_empty()
            && self.warnings.is_empty()
            && self.cpus.iter().all(CpuReport::is_whole)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sum = CpuReport::default();
        for cpu in &self.cpus {
            writeln!(f, "{:<7}{}", format!("cpu {}:", cpu.cpu), figures(cpu))?;
            for what in &cpu.unframed {
                writeln!(f, "       damaged: {what}")?;
            }
            sum.refs += cpu.refs;
            sum.names += cpu.names;
            sum.bytes += cpu.bytes;
            sum.lost += cpu.lost;
            sum.given_up += cpu.given_up;
            sum.undrained += cpu.undrained;
            sum.discarded += cpu.discarded;
        }
        let seconds = self.totals.duration_ns as f64 / 1e9;
        write!(
            f,
            "total: {} in {seconds:.1} s, {} chunk{} in {}",
            figures(&sum),
            self.chunks,
            if self.chunks == 1 { "" } else { "s" },
            self.dir.display()
        )?;
        if self.deleted > 0 {
            write!(
                f,
                "\n{} older chunk{} ({}) made room for newer ones",
                show_count(self.deleted),
                if self.deleted == 1 { "" } else { "s" },
                show_bytes(self.deleted_bytes)
            )?;
        }
        if let Some(code) = self.totals.command_exit {
            write!(f, "\nthe command ended with exit code {code}")?;
        }
        if !self.totals.complete {
            write!(
                f,
                "\nthe module went away while recording: what was drained is kept, what it still held is lost; the \
                 module's figures are the last ones seen"
            )?;
        }
        for warning in &self.warnings {
            write!(f, "\nwarning: {warning}")?;
        }
        for e in &self.errors {
            write!(f, "\nerror: {e}; the chunks hold what came before")?;
        }
        Ok(())
    }
}

fn figures(cpu: &CpuReport) -> String {
    let mut text = format!(
        "{} reference and {} name records, {}, {} lost",
        show_count(cpu.refs),
        show_count(cpu.names),
        show_bytes(cpu.bytes),
        show_count(cpu.lost)
    );
    for (count, what) in [
        (cpu.given_up, "given up for newer ones"),
        (cpu.undrained, "never drained"),
        (cpu.discarded, "not written"),
    ] {
        if count > 0 {
            text += &format!(", {} {what}", show_count(count));
        }
    }
    text
}
