//! What an operator holds in memory, told to the session's pool.

use std::path::Path;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SpillFile, TaskContext};
use pgtrace_capture::units::show_binary;

/// An operator's share of the pool, and where it may spill.
pub(crate) struct Memory {
    reservation: MemoryReservation,
    context: Arc<TaskContext>,
    name: &'static str,
}

impl Memory {
    pub(crate) fn new(name: &'static str, context: &Arc<TaskContext>) -> Self {
        let consumer = MemoryConsumer::new(name).with_can_spill(true);
        Self {
            reservation: consumer.register(context.memory_pool()),
            context: Arc::clone(context),
            name,
        }
    }

    /// Holds `bytes` in all from now on. `false`: that is more than there is.
    pub(crate) fn hold(&self, bytes: usize) -> bool {
        self.reservation.try_resize(bytes).is_ok()
    }

    /// As [`Memory::hold`], where there is no other way than having it.
    ///
    /// # Errors
    /// Says what needs how much for what.
    pub(crate) fn need(&self, bytes: usize, what: &str) -> Result<()> {
        if self.hold(bytes) {
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
