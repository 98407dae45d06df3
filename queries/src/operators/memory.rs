//! What an operator holds in memory, told to the session's pool.

use std::path::Path;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryReservation};
use datafusion::execution::{SpillFile, TaskContext};
use datafusion::physical_plan::metrics::SpillMetrics;
use pgtrace_capture::units::show_binary;

/// The share of all memory, in eighths, that operators may fill before they spill: what is above and below them in a
/// plan needs the rest.
const EIGHTHS: usize = 5;

/// An operator's share of the pool, and where it may spill.
pub(crate) struct Memory {
    reservation: MemoryReservation,
    context: Arc<TaskContext>,
    /// Bytes of the whole pool beyond which it spills.
    share: usize,
    name: &'static str,
    metrics: SpillMetrics,
}

impl Memory {
    pub(crate) fn new(
        name: &'static str,
        context: &Arc<TaskContext>,
        metrics: SpillMetrics,
    ) -> Self {
        // A pool divides itself among those that can spill, whether they hold anything or not; the sorts above an operator
        // hold nothing while it works. So it takes what is free, and bounds itself.
        let consumer = MemoryConsumer::new(name);
        let share = match context.memory_pool().memory_limit() {
            MemoryLimit::Finite(bytes) => bytes / 8 * EIGHTHS,
            _ => usize::MAX,
        };
        Self {
            reservation: consumer.register(context.memory_pool()),
            context: Arc::clone(context),
            share,
            name,
            metrics,
        }
    }

    /// For another thread of the same operator.
    pub(crate) fn beside(&self) -> Self {
        Self::new(self.name, &self.context, self.metrics.clone())
    }

    /// Holds what `others` held, who hold nothing any more.
    ///
    /// # Errors
    /// When somebody else was faster.
    pub(crate) fn take_over(&self, others: Vec<Memory>) -> Result<()> {
        let held = others.iter().map(|other| other.reservation.size()).sum();
        drop(others);
        self.need(held, "what was found")
    }

    /// Notes for EXPLAIN ANALYZE that `rows` went to disk, in files of `bytes` altogether.
    pub(crate) fn spilled(&self, rows: usize, bytes: usize) {
        self.metrics.spill_file_count.add(1);
        self.metrics.spilled_rows.add(rows);
        self.metrics.spilled_bytes.add(bytes);
    }

    /// Holds `bytes` in all from now on. `false`: that is more than there is for one that can spill.
    pub(crate) fn hold(&self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.reservation.size());
        let fits = more == 0 || self.context.memory_pool().reserved() + more <= self.share;
        fits && self.reservation.try_resize(bytes).is_ok()
    }

    /// As [`Memory::hold`], where there is no other way than having it.
    ///
    /// # Errors
    /// Says what needs how much for what.
    pub(crate) fn need(&self, bytes: usize, what: &str) -> Result<()> {
        if self.reservation.try_resize(bytes).is_ok() {
            return Ok(());
        }
        let name = self.name.trim_start_matches('_');
        Err(DataFusionError::ResourcesExhausted(format!(
            "{name} needs {} for {what}, and cannot do with less",
            show_binary(bytes as u64)
        )))
    }

    /// A file to spill to; it vanishes when it is dropped.
    ///
    /// # Errors
    /// When there is no place to spill to.
    pub(crate) fn file(&self) -> Result<SpillPath> {
        let name = self.name.trim_start_matches('_');
        self.context
            .runtime_env()
            .disk_manager
            .create_tmp_file(name)
            .map(SpillPath)
    }
}

/// A file that vanishes with this.
pub(crate) struct SpillPath(Arc<dyn SpillFile>);

impl SpillPath {
    /// Where it is.
    ///
    /// # Errors
    /// When the session spills to something else than files.
    pub(crate) fn path(&self) -> Result<&Path> {
        self.0
            .path()
            .ok_or_else(|| exec_datafusion_err!("the place to spill to has no files"))
    }
}
