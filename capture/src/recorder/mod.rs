//! Records: sets the module up, drains every CPU in a thread of its own, and ends cleanly whatever ends it.
//!
//! Page references are never interpreted here: their bytes go from the relay channel to the chunk untouched.

mod channel;
mod chunks;
mod command;
mod disk;
mod drain;
mod error;
mod keep;
mod names;
mod note;
mod options;
mod output;
pub mod perf;
mod report;
mod session;
mod shared;
mod snapshot;
mod watch;

use crate::control::{ControlError, Module};
use disk::DiskGuard;
use keep::Keep;
use names::Names;
use output::Output;
use session::Session;
use shared::Shared;

pub use drain::DrainError;
pub use error::RecordError;
pub use note::{SnapshotError, snapshot};
pub use options::{Follow, Grain, KeepLast, News, Options, Progress, Signals};
pub use report::{CpuReport, Report};

/// The least memory a CPU needs for its references, in bytes.
const LEAST_MEMORY: u64 = 64 << 10;

/// Records until the command or the traced processes end, the time is over, the disk is nearly full, or a signal says
/// so.
///
/// # Errors
/// There is no recording: nothing was left in the folder. Whatever goes wrong later stands in the [`Report`].
pub fn record(
    options: &Options,
    module: &Module,
    signals: &Signals,
    news: &mut dyn FnMut(News<'_>),
) -> Result<Report, RecordError> {
    let status = module.status()?;
    if status.is_recording() {
        return Err(ControlError::Busy.into());
    }
    let cpus = module.cpus()?;
    let buffer = buffer(options, cpus.len())?;
    let output = Output::prepare(&options.dir)?;
    let mut paths = Vec::new();
    let recorded = shared(options, module, cpus.len()).and_then(|shared| {
        let session = Session {
            options,
            module,
            signals,
            shared: &shared,
            buffer,
        };
        session.run(&cpus, news, &mut paths)
    });
    if buffer.is_some() {
        // What was large for one recording is not to stay taken. The module may be gone, or busy with the next one.
        let old = format!("buffers {} {}", status.subbuf_size, status.n_subbufs);
        let _ = module.command(&old);
    }
    match recorded {
        Ok(report) => Ok(report),
        Err(e) => {
            output.undo(paths);
            Err(e)
        }
    }
}

fn shared(options: &Options, module: &Module, cpus: usize) -> Result<Shared, RecordError> {
    let disk = DiskGuard::new(&options.dir, options.min_free)?;
    let (names, keep) = if options.in_memory {
        (Names::in_memory(), Keep::default())
    } else {
        (Names::default(), Keep::new(options.keep_last))
    };
    Ok(Shared::new(module, cpus, names, keep, disk))
}

/// Bytes of each CPU's refs channel, where they are not the module's.
fn buffer(options: &Options, cpus: usize) -> Result<Option<u64>, RecordError> {
    let Some(KeepLast::Bytes(bytes)) = options.keep_last.filter(|_| options.in_memory) else {
        return Ok(options.buffer);
    };
    if options.buffer.is_some() {
        return Err(RecordError::TwoSizes);
    }
    let least = LEAST_MEMORY * cpus as u64;
    if bytes < least {
        return Err(RecordError::KeepTooLittle {
            least,
            found: bytes,
            cpus,
        });
    }
    Ok(Some(bytes / cpus.max(1) as u64))
}
