//! Recording without the module: page faults of a command or of given processes by `perf_event_open`, as the same
//! records in the same chunks.
//!
//! One thread empties the rings, so that a slow disk costs memory before it costs records; the other puts what it read
//! in order of time, because a mapping on one CPU is used on another, and translates it.

mod attach;
mod event;
mod order;
mod proc;
mod reader;
mod ring;
mod session;
mod space;
mod stream;
mod sys;
mod translate;

/// The decoders here that meet bytes of others, for the fuzzer alone.
#[doc(hidden)]
pub mod fuzzing {
    use super::{event, proc};

    /// Events in the bytes of a ring, and where they stop making sense.
    #[must_use]
    pub fn events(bytes: &[u8]) -> (usize, Option<usize>) {
        let mut damage = None;
        let events = event::decode(bytes).filter(|event| match event {
            Ok(_) => true,
            Err(e) => {
                damage = Some(e.offset);
                false
            }
        });
        (events.count(), damage)
    }

    /// Lines of /proc/PID/maps and /proc/PID/stat; how many can be understood.
    #[must_use]
    pub fn proc_lines(text: &str) -> usize {
        let maps = text.lines().filter_map(proc::MapsLine::parse).count();
        maps + usize::from(proc::stat_fields(text).is_some())
    }
}

use std::io;
use std::sync::atomic::AtomicBool;

use super::output::{Output, proc_line};
use super::{Follow, Grain, Options, Progress, RecordError, Report};
use crate::record::Level;

/// Why there is no recording by perf.
#[derive(Debug, thiserror::Error)]
pub enum PerfError {
    /// The kernel has no perf events.
    #[error(
        "this kernel has no perf events (CONFIG_PERF_EVENTS), or the sandbox hides them: {cause}"
    )]
    Missing {
        /// What the system said.
        cause: io::Error,
    },
    /// The kernel refuses this user.
    #[error(
        "the kernel does not let this user watch process {pid} by perf ({cause}; kernel.perf_event_paranoid is \
         {paranoid}). Own processes need 2 or less: \"sysctl kernel.perf_event_paranoid=2\" as root. Or run as root, or \
         give the program the capability: \"setcap cap_perfmon,cap_sys_ptrace+ep pgtrace-capture\". Containers refuse it \
         by their seccomp filter"
    )]
    Refused {
        /// The process.
        pid: u32,
        /// What the system said.
        cause: io::Error,
        /// The setting, or why it cannot be read.
        paranoid: String,
    },
    /// There is no such process.
    #[error("there is no process {pid}")]
    NoProcess {
        /// The pid.
        pid: u32,
    },
    /// The rings do not fit.
    #[error(
        "no memory for perf's rings ({cause}): kernel.perf_event_mlock_kb or the limit of locked memory (ulimit -l) is too small"
    )]
    Memory {
        /// What the system said.
        cause: io::Error,
    },
    /// Too few files may be open.
    #[error(
        "too many open files: perf needs two for each thread of process {pid} on each CPU; raise the limit (ulimit -n)"
    )]
    Files {
        /// The process.
        pid: u32,
    },
    /// perf cannot do what was asked for.
    #[error("--source perf cannot do {what}: {why}")]
    Cannot {
        /// The option.
        what: &'static str,
        /// Why.
        why: &'static str,
    },
    /// Something else of the system failed.
    #[error("perf events of process {pid}: {cause}")]
    System {
        /// The process.
        pid: u32,
        /// What the system said.
        cause: io::Error,
    },
}

/// An error of the system, as far as it can be mended.
fn explain(cause: io::Error, pid: u32) -> PerfError {
    match cause.raw_os_error() {
        Some(libc::ENOSYS | libc::ENOENT | libc::EOPNOTSUPP) => PerfError::Missing { cause },
        Some(libc::EACCES | libc::EPERM) => PerfError::Refused {
            pid,
            cause,
            paranoid: proc_line(PARANOID).unwrap_or_else(|e| format!("unknown: {e}")),
        },
        Some(libc::ESRCH) => PerfError::NoProcess { pid },
        Some(libc::ENOMEM) => PerfError::Memory { cause },
        Some(libc::EMFILE | libc::ENFILE) => PerfError::Files { pid },
        _ => PerfError::System { pid, cause },
    }
}

const PARANOID: &str = "/proc/sys/kernel/perf_event_paranoid";

/// What a recording by perf cannot see, for the person who asked for one.
#[must_use]
pub fn cannot_see() -> String {
    let own = attach::allowed(std::process::id(), 0);
    let kernel = match own {
        Ok(can) if !can.kernel => {
            ", and no faults of the kernel on the program's behalf (this needs CAP_PERFMON)"
        }
        Ok(_) | Err(_) => "",
    };
    format!(
        "source perf: first touches only. Not seen: re-references, page-cache look-ups, whether most pages were read or \
         written,\nneighbours that a fault maps along, the rest of a huge page{kernel}. The module sees them (--source kmod)."
    )
}

/// Tries whether this user may watch own processes; says whether also what the kernel does for them.
///
/// # Errors
/// The kernel refuses, or has no perf events.
pub fn try_own() -> Result<bool, PerfError> {
    let own = std::process::id();
    let can = attach::allowed(own, 0).map_err(|cause| explain(cause, own))?;
    Ok(can.kernel)
}

/// Records until the command or the given processes end, the time is over, or `stop` becomes true.
///
/// # Errors
/// There is no recording: nothing was left in the folder. Whatever goes wrong later stands in the [`Report`].
pub fn record(
    options: &Options,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, RecordError> {
    check(options)?;
    let output = Output::prepare(&options.dir)?;
    let mut paths = Vec::new();
    match session::run(options, stop, progress, &mut paths) {
        Ok(report) => Ok(report),
        Err(e) => {
            output.undo(paths);
            Err(e)
        }
    }
}

/// Options that need the module.
fn check(options: &Options) -> Result<(), PerfError> {
    let targets = &options.targets;
    let cannot = |what, why| Err(PerfError::Cannot { what, why });
    let module = "that needs the module (--source kmod)";
    let refuse = [
        (!targets.uids.is_empty(), "--uid"),
        (!targets.comms.is_empty(), "--comm"),
        (!targets.cgroups.is_empty(), "--cgroup"),
        (targets.all, "--all"),
    ];
    for (asked, what) in refuse {
        if asked {
            return cannot(
                what,
                "it records a command, or processes by --pid; all else needs the module",
            );
        }
    }
    if options.level != Level::Light {
        return cannot("--level rich or full", module);
    }
    let only_there = [
        (options.clean_ms != 0, "--clean"),
        (options.fifo != 0, "--fifo"),
        (options.grain != Grain::default(), "--grain 2m"),
        (options.follow != Follow::default(), "--follow fork or none"),
        (options.buffer.is_some(), "--buffer"),
        (options.keep_last.is_some(), "--keep-last"),
        (options.in_memory, "--in-memory"),
    ];
    for (asked, what) in only_there {
        if asked {
            return cannot(what, module);
        }
    }
    Ok(())
}
