//! Records: sets the module up, drains every CPU in a thread of its own, and ends cleanly whatever ends it.
//!
//! Page references are never interpreted here: their bytes go from the relay channel to the chunk untouched.

mod channel;
mod command;
mod drain;
mod names;
mod output;
pub mod perf;
mod report;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::chunk::{ChunkError, ChunkHeader, CpuTotals, Settings, Targets, Totals};
use crate::control::{ControlError, Module, Status};
use crate::record::Level;
use crate::sys;
use crate::wire::ByteOrder;
use channel::Channel;
use command::{Gated, Running};
use drain::{Drain, Plan, Shared};
use output::{Output, proc_line};

pub use drain::DrainError;
pub use report::{CpuReport, Report};

/// How often the recorder looks whether something ends the recording.
const TICK: Duration = Duration::from_millis(20);
/// How often it asks the module.
const ASK: Duration = Duration::from_millis(200);
/// How long a command that was asked to end may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What to record, and where to.
#[derive(Debug, Clone)]
pub struct Options {
    /// Pids, uids or a command; forks are followed.
    pub targets: Targets,
    /// Folder for the chunks; made when missing, refused when it holds some.
    pub dir: PathBuf,
    /// How much to record.
    pub level: Level,
    /// Period of the cleaner in ms; 0: none.
    pub clean_ms: u32,
    /// A chunk ends at this many bytes.
    pub rotate_bytes: u64,
    /// A chunk ends at this age.
    pub rotate_after: Duration,
    /// The recording ends after this time.
    pub duration: Option<Duration>,
}

/// How a running recording goes, told once a second.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Time since the start.
    pub elapsed: Duration,
    /// Records drained so far.
    pub records: u64,
    /// Bytes drained so far.
    pub bytes: u64,
    /// Records lost so far.
    pub lost: u64,
}

/// Why there is no recording.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The module cannot be set up.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// perf events cannot be had.
    #[error(transparent)]
    Perf(#[from] perf::PerfError),
    /// A chunk cannot be begun.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The folder holds chunks of another recording.
    #[error("{} holds chunks already: give a new folder, or move them away", dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder cannot be made or read.
    #[error("{}: {cause}", dir.display())]
    Output {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The command cannot be run.
    #[error("cannot run {command}: {cause}")]
    Command {
        /// The program.
        command: String,
        /// What the system said.
        cause: io::Error,
    },
    /// Something else of the system failed.
    #[error("{what}: {cause}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// A drain thread panicked.
    #[error("the drain thread of cpu {cpu} panicked")]
    Panic {
        /// Its CPU.
        cpu: u16,
    },
}

/// Records until the command or the traced processes end, the time is over, or `stop` becomes true.
///
/// # Errors
/// There is no recording: nothing was left in the folder. Whatever goes wrong later stands in the [`Report`].
pub fn record(
    options: &Options,
    module: &Module,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, RecordError> {
    let status = module.status()?;
    if status.state == "recording" {
        return Err(ControlError::Busy.into());
    }
    let cpus = module.cpus()?;
    let output = Output::prepare(&options.dir)?;
    let shared = Shared::default();
    let mut paths = Vec::new();
    let session = Session {
        options,
        module,
        stop,
        shared: &shared,
    };
    match session.run(&cpus, progress, &mut paths) {
        Ok(report) => Ok(report),
        Err(e) => {
            output.undo(paths);
            Err(e)
        }
    }
}

/// What one recording works with.
struct Session<'a> {
    options: &'a Options,
    module: &'a Module,
    stop: &'a AtomicBool,
    shared: &'a Shared,
}

/// Says stop to the module on every way out, so that an error never leaves it recording.
struct StopGuard<'a> {
    module: &'a Module,
    armed: bool,
}

impl Drop for StopGuard<'_> {
    fn drop(&mut self) {
        if self.armed {
            let _ = self.module.command("stop"); // on the way out with the error that matters
        }
    }
}

impl Session<'_> {
    fn run(
        &self,
        cpus: &[u16],
        progress: &mut dyn FnMut(Progress),
        paths: &mut Vec<PathBuf>,
    ) -> Result<Report, RecordError> {
        let words = &self.options.targets.command;
        let command_error = |cause| RecordError::Command {
            command: words.first().cloned().unwrap_or_default(),
            cause,
        };
        let mut gated = match words.as_slice() {
            [] => None,
            words => Some(Gated::fork(words).map_err(command_error)?),
        };
        let ready = self
            .set_up(gated.as_ref().map(Gated::pid))
            .and_then(|status| self.plan(cpus, &status));
        let plan = match ready {
            Ok(plan) => plan,
            Err(e) => {
                cancel(gated);
                return Err(e);
            }
        };
        let begun = self.begin(cpus, &plan, paths).and_then(|drains| {
            self.module.command("start")?;
            Ok(drains)
        });
        let drains = match begun {
            Ok(drains) => drains,
            Err(e) => {
                cancel(gated);
                return Err(e);
            }
        };
        let started = Instant::now();
        std::thread::scope(|scope| {
            // However this scope is left, the module is stopped first and the threads are told to end then: the scope
            // waits for them.
            let threads = Threads(self.shared);
            let mut guard = StopGuard {
                module: self.module,
                armed: true,
            };
            let mut handles = Vec::new();
            for mut drain in drains {
                let cpu = drain.cpu;
                let handle = std::thread::Builder::new()
                    .name(format!("drain{cpu}"))
                    .spawn_scoped(scope, move || {
                        drain.run();
                        drain
                    })
                    .map_err(|cause| RecordError::System {
                        what: "starting a drain thread",
                        cause,
                    })?;
                handles.push((cpu, handle));
            }
            let mut running = match gated.take() {
                None => None,
                Some(gated) => Some(gated.go().map_err(command_error)?),
            };
            let mut seen = Status::default();
            let ended_by = self.watch(started, running.as_mut(), &mut seen, progress);
            // The module waits for room while it stops: the threads drain on.
            let stopped = self.module.command("stop");
            guard.armed = false;
            let duration_ns = started.elapsed().as_nanos() as u64;
            drop(threads);
            let drains = join(handles)?;
            let last = stopped.and_then(|()| self.module.status());
            let complete = last.is_ok() && !self.shared.gone.load(Ordering::Acquire);
            let totals = Totals {
                complete,
                ended_by: ended_by.into(),
                command_exit: running.as_mut().and_then(wait_for_command),
                duration_ns,
                cpus: Vec::new(),
            };
            Ok(finish(self.options, drains, totals, &last.unwrap_or(seen)))
        })
    }

    /// Tells the module what to trace and how; gives what it then says of itself.
    fn set_up(&self, child: Option<u32>) -> Result<Status, RecordError> {
        let o = self.options;
        let tell = |command: String| self.module.command(&command);
        tell("clear".into())?;
        tell(format!("level {}", o.level))?;
        tell(format!("clean {}", o.clean_ms))?;
        tell(format!("recorder {}", std::process::id()))?;
        for pid in o.targets.pids.iter().copied().chain(child) {
            tell(format!("pid {pid}"))?;
        }
        for uid in &o.targets.uids {
            tell(format!("uid {uid}"))?;
        }
        Ok(self.module.status()?)
    }

    fn plan(&self, cpus: &[u16], status: &Status) -> Result<Plan, RecordError> {
        let o = self.options;
        let proc =
            |path| proc_line(path).map_err(|cause| RecordError::System { what: path, cause });
        let clocks = sys::clocks();
        let header = ChunkHeader {
            capture_id: Uuid::new_v4(),
            boot_id: Uuid::parse_str(&proc("/proc/sys/kernel/random/boot_id")?).unwrap_or_default(),
            kernel: proc("/proc/sys/kernel/osrelease")?,
            page_size: sys::page_size(),
            byte_order: ByteOrder::NATIVE,
            cpu: 0,
            index: 0,
            monotonic_ns: clocks.monotonic_ns,
            realtime_ns: clocks.realtime_ns,
            boottime_ns: clocks.boottime_ns,
            settings: Settings {
                tool: env!("CARGO_PKG_VERSION").into(),
                module: status.module.clone(),
                level: o.level.as_str().into(),
                clean_ms: o.clean_ms,
                targets: o.targets.clone(),
                subbuf_size: status.subbuf_size,
                n_subbufs: status.n_subbufs,
                names_subbuf_size: status.names_subbuf_size,
                names_n_subbufs: status.names_n_subbufs,
                cpus: cpus.to_vec(),
                rotate_bytes: o.rotate_bytes,
                rotate_ms: o.rotate_after.as_millis() as u64,
                duration_ms: o.duration.map_or(0, |d| d.as_millis() as u64),
                ..Settings::default()
            },
        };
        Ok(Plan {
            dir: o.dir.clone(),
            header,
            rotate_bytes: o.rotate_bytes,
            rotate_after: o.rotate_after,
        })
    }

    /// Opens every CPU's channels and begins its first chunk; `paths` gets the chunks begun, also on an error.
    fn begin<'b>(
        &'b self,
        cpus: &[u16],
        plan: &'b Plan,
        paths: &mut Vec<PathBuf>,
    ) -> Result<Vec<Drain<'b>>, RecordError> {
        let set = &plan.header.settings;
        let mut drains = Vec::with_capacity(cpus.len());
        for &cpu in cpus {
            let open = |name, size| {
                let path = self.module.channel(name, cpu);
                Channel::open(&path, size).map_err(|e| self.module.explain(&path, e))
            };
            let refs = open("refs", set.subbuf_size)?;
            let names = open("names", set.names_subbuf_size)?;
            let drain = Drain::new(cpu, refs, names, plan, self.shared)?;
            paths.extend_from_slice(&drain.paths);
            drains.push(drain);
        }
        Ok(drains)
    }

    /// Waits for something that ends the recording; says what. Keeps the last status seen.
    fn watch(
        &self,
        started: Instant,
        mut running: Option<&mut Running>,
        seen: &mut Status,
        progress: &mut dyn FnMut(Progress),
    ) -> &'static str {
        let by_pid = !self.options.targets.pids.is_empty() && self.options.targets.uids.is_empty();
        let (mut asked, mut told) = (started, started);
        loop {
            if self.stop.load(Ordering::Acquire) {
                if let Some(running) = running {
                    running.terminate();
                }
                return "signal";
            }
            if self.shared.gone.load(Ordering::Acquire) {
                return "module";
            }
            if self.shared.failed.load(Ordering::Acquire) {
                return "error";
            }
            if let Some(running) = &mut running
                && !matches!(running.ended(), Ok(None))
            {
                return "command";
            }
            if self
                .options
                .duration
                .is_some_and(|d| started.elapsed() >= d)
            {
                return "duration";
            }
            if asked.elapsed() >= ASK {
                asked = Instant::now();
                match self.module.status() {
                    Ok(status) => *seen = status,
                    Err(e) if e.is_gone() => return "module",
                    // A status that cannot be read now costs figures, not the recording.
                    Err(_) => {}
                }
                if seen.state == "stopped" {
                    return "stop";
                }
                if by_pid && seen.state == "recording" && seen.processes == 0 {
                    return "processes";
                }
            }
            if told.elapsed() >= Duration::from_secs(1) {
                told = Instant::now();
                progress(Progress {
                    elapsed: started.elapsed(),
                    records: self.shared.records.load(Ordering::Relaxed),
                    bytes: self.shared.bytes.load(Ordering::Relaxed),
                    lost: seen.lost(),
                });
            }
            std::thread::sleep(TICK);
        }
    }
}

fn cancel(gated: Option<Gated>) {
    if let Some(gated) = gated {
        gated.cancel();
    }
}

/// Tells the drain threads to end when it goes out of scope.
struct Threads<'a>(&'a Shared);

impl Drop for Threads<'_> {
    fn drop(&mut self) {
        self.0.stopped.store(true, Ordering::Release);
    }
}

fn join<'a>(
    handles: Vec<(u16, ScopedJoinHandle<'_, Drain<'a>>)>,
) -> Result<Vec<Drain<'a>>, RecordError> {
    handles
        .into_iter()
        .map(|(cpu, handle)| handle.join().map_err(|_| RecordError::Panic { cpu }))
        .collect()
}

/// The command's exit code, 128 + the signal where one ended it; `None` while it does not end.
fn wait_for_command(running: &mut Running) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt;
    let asked = Instant::now();
    loop {
        match running.ended() {
            Ok(Some(status)) => return status.code().or(status.signal().map(|s| 128 + s)),
            Ok(None) if asked.elapsed() < PATIENCE => std::thread::sleep(TICK),
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Writes the ends of all last chunks, and adds everything up.
fn finish(options: &Options, drains: Vec<Drain<'_>>, mut totals: Totals, last: &Status) -> Report {
    let mut drains = drains;
    let mut report = Report {
        dir: options.dir.clone(),
        chunks: 0,
        totals: Totals::default(),
        cpus: Vec::new(),
        errors: Vec::new(),
    };
    for d in &drains {
        let counts = last
            .cpus
            .iter()
            .find(|c| c.cpu == d.cpu)
            .copied()
            .unwrap_or_default();
        totals.cpus.push(CpuTotals {
            cpu: d.cpu,
            refs_emitted: counts.refs_emitted,
            refs_lost: counts.refs_lost,
            names_emitted: counts.names_emitted,
            names_lost: counts.names_lost,
            bytes: d.refs.bytes + d.names.bytes,
        });
        let emitted = counts.refs_emitted + counts.names_emitted;
        let unframed = [&d.refs, &d.names].into_iter().filter_map(|c| {
            let (at, what) = c.unframed?;
            Some(format!(
                "{}: byte {at} of the recording: {what}",
                c.path().display()
            ))
        });
        report.chunks += d.paths.len() as u64;
        report.cpus.push(CpuReport {
            cpu: d.cpu,
            refs: d.refs.records,
            names: d.names.records,
            bytes: d.refs.bytes + d.names.bytes,
            lost: counts.refs_lost + counts.names_lost,
            undrained: emitted.saturating_sub(d.refs.records + d.names.records),
            discarded: d.discarded,
            unframed: unframed.collect(),
        });
    }
    let json = serde_json::to_vec(&totals).unwrap_or_default();
    for d in &mut drains {
        let ended = d.finish(&json);
        report
            .errors
            .extend(d.error.take().or(ended.err().map(DrainError::from)));
    }
    report.totals = totals;
    report
}
