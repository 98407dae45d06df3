//! What a run came to, for people and for tests.

use std::collections::BTreeMap;
use std::fmt;

use pgtrace_capture::units::show_binary;

use crate::cleanup::Cleaned;
use crate::losses::{Loss, OVERWRITTEN};

/// Losses of one cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossSum {
    /// Rows in `losses`.
    pub rows: u64,
    /// Records lost, as far as known.
    pub count: u64,
    /// Rows whose count cannot be known.
    pub uncounted: u64,
}

impl LossSum {
    /// Sums by channel and cause.
    pub fn of(losses: &[Loss]) -> BTreeMap<(String, String), Self> {
        let mut sums: BTreeMap<(String, String), Self> = BTreeMap::new();
        for loss in losses {
            let key = (loss.channel.to_string(), loss.cause.to_string());
            let sum = sums.entry(key).or_default();
            sum.rows += 1;
            sum.count = sum.count.saturating_add(loss.count.unwrap_or(0));
            sum.uncounted += u64::from(loss.count.is_none());
        }
        sums
    }
}

/// What one recording came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureReport {
    /// The recording.
    pub capture_id: String,
    /// Raw files.
    pub chunks: u64,
    /// Their bytes.
    pub raw_bytes: u64,
    /// Records of all kinds.
    pub records: u64,
    /// Rows in `refs`.
    pub rows: u64,
    /// Rows of `refs`, with those lost or overwritten; `None`: unknown.
    pub emitted: Option<u64>,
    /// Parquet files.
    pub files: u64,
    /// Their bytes.
    pub parquet_bytes: u64,
    /// Bytes of those of `refs`.
    pub refs_bytes: u64,
    /// Losses by (channel, cause).
    pub losses: BTreeMap<(String, String), LossSum>,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Recordings that came in.
    pub captures: Vec<CaptureReport>,
    /// Chunks that were in the dataset already.
    pub already: u64,
    /// Chunks that could not be used, with the reason.
    pub unusable: Vec<String>,
    /// What earlier runs had left.
    pub cleaned: Cleaned,
    /// Most bytes that rows waited in.
    pub peak_bytes: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl Report {
    /// Whether anything was lost, damaged or left out; what was given up on purpose is none of it.
    pub fn has_losses(&self) -> bool {
        let mut losses = self.captures.iter().flat_map(|c| c.losses.keys());
        !self.unusable.is_empty() || losses.any(|(_, cause)| cause != OVERWRITTEN)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cleaned)?;
        for reason in &self.unusable {
            writeln!(f, "left out: {reason}")?;
        }
        for c in &self.captures {
            let each = |bytes: u64| bytes as f64 / c.rows.max(1) as f64;
            writeln!(
                f,
                "capture {}: {} chunks ({}), {} records",
                c.capture_id,
                c.chunks,
                show_binary(c.raw_bytes),
                c.records
            )?;
            writeln!(
                f,
                "  refs: {} rows in {} ({:.1} bytes a reference, raw {:.1}); all tables: {} files, {}",
                c.rows,
                show_binary(c.refs_bytes),
                each(c.refs_bytes),
                each(c.raw_bytes),
                c.files,
                show_binary(c.parquet_bytes)
            )?;
            match c.emitted {
                Some(emitted) => writeln!(f, "  emitted: {emitted}")?,
                None => writeln!(f, "  emitted: unknown (no totals in the chunks)")?,
            }
            if c.losses.is_empty() {
                writeln!(f, "  losses: none")?;
            }
            for ((channel, cause), sum) in &c.losses {
                match cause.as_str() {
                    OVERWRITTEN => write!(f, "  not kept in {channel}: {} records", sum.count)?,
                    cause => write!(f, "  lost in {channel}: {} records, {cause}", sum.count)?,
                }
                writeln!(
                    f,
                    "{}",
                    match sum.uncounted {
                        0 => String::new(),
                        n => format!(", and {n} places where the count cannot be known"),
                    }
                )?;
            }
        }
        if self.already > 0 {
            writeln!(f, "already ingested: {} chunks, 0 rows added", self.already)?;
        }
        if !self.captures.is_empty() {
            writeln!(f, "took {:.1} s", self.seconds)?;
        }
        Ok(())
    }
}
