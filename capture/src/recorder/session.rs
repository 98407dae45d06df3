//! One recording, from the set-up to the last block.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::channel::Channel;
use super::command::{Gated, Running};
use super::drain::{Drain, DrainError};
use super::note::Note;
use super::output::proc_line;
use super::shared::{Plan, Shared};
use super::snapshot::Taker;
use super::watch::TICK;
use super::{CpuReport, Follow, Grain, News, Options, RecordError, Report, Signals};
use crate::chunk::{ChunkHeader, CpuTotals, Settings, Totals};
use crate::control::{Module, Status};
use crate::sys;
use crate::wire::ByteOrder;

/// How long a command that was asked to end may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What one recording works with.
pub(super) struct Session<'a> {
    pub(super) options: &'a Options,
    pub(super) module: &'a Module,
    pub(super) signals: &'a Signals,
    pub(super) shared: &'a Shared,
    /// Bytes of each CPU's refs channel; `None`: as the module has it.
    pub(super) buffer: Option<u64>,
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
    pub(super) fn run(
        &self,
        cpus: &[u16],
        news: &mut dyn FnMut(News<'_>),
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
            let note = Note::new(&plan.dir).map_err(|cause| RecordError::Output {
                dir: plan.dir.clone(),
                cause,
            })?;
            let set = &plan.header.settings;
            let memory = (set.subbuf_size * set.n_subbufs).saturating_mul(cpus.len() as u64);
            let taker = Taker::new(self.shared, self.options, memory, note);
            self.module.command("start")?;
            Ok((drains, taker))
        });
        let (drains, mut taker) = match begun {
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
            let ended_by = self.watch(started, running.as_mut(), &mut seen, &mut taker, news);
            taker.ending();
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
                unread: Vec::new(),
            };
            let mut report = finish(self.options, drains, totals, &last.unwrap_or(seen));
            report.snapshots = taker.taken();
            let deleted = self.shared.keep.deleted();
            (report.deleted, report.deleted_bytes) = (deleted.chunks, deleted.bytes);
            report.chunks = report.chunks.saturating_sub(deleted.chunks);
            if let Some((path, why)) = deleted.failure {
                let what = format!(
                    "{}: an old chunk could not be deleted: {why}",
                    path.display()
                );
                report.warnings.push(what);
            }
            if ended_by == "disk" {
                let why = format!("{}: the recording was ended in order", self.shared.disk);
                report.warnings.push(why);
            }
            Ok(report)
        })
    }

    /// Tells the module what to trace and how; gives what it then says of itself.
    fn set_up(&self, child: Option<u32>) -> Result<Status, RecordError> {
        let o = self.options;
        let tell = |command: String| self.module.command(&command);
        tell("clear".into())?;
        if let Some(bytes) = self.buffer {
            let (size, count) = sub_buffers(bytes);
            tell(format!("buffers {size} {count}"))?;
        }
        tell(format!("level {}", o.level))?;
        match o.fifo {
            0 => tell(format!("clean {}", o.clean_ms))?,
            pages => tell(format!("fifo {pages}"))?,
        }
        if o.grain != Grain::default() {
            tell(format!("grain {}", o.grain.as_str()))?;
        }
        if o.in_memory {
            tell("overwrite on".into())?;
        }
        if o.follow != Follow::default() {
            tell(format!("follow {}", o.follow.as_str()))?;
        }
        tell(format!("recorder {}", std::process::id()))?;
        for target in o
            .targets
            .commands()
            .into_iter()
            .chain(child.map(|pid| format!("pid {pid}")))
        {
            tell(target)?;
        }
        Ok(self.module.status()?)
    }

    fn plan(&self, cpus: &[u16], status: &Status) -> Result<Plan, RecordError> {
        let o = self.options;
        let proc =
            |path| proc_line(path).map_err(|cause| RecordError::System { what: path, cause });
        let clocks = sys::clocks();
        let (rotate_bytes, rotate_after) =
            self.shared
                .keep
                .rotation(cpus.len(), o.rotate_bytes, o.rotate_after)?;
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
                source: "kmod".into(),
                clean_ms: if o.fifo == 0 { o.clean_ms } else { 0 },
                fifo: o.fifo,
                grain: o.grain.as_str().into(),
                follow: o.follow.as_str().into(),
                overwrite: o.in_memory,
                in_memory: o.in_memory,
                keep_last: o.keep_last.map(|k| k.to_string()).unwrap_or_default(),
                targets: o.targets.clone(),
                subbuf_size: status.subbuf_size,
                n_subbufs: status.n_subbufs,
                names_subbuf_size: status.names_subbuf_size,
                names_n_subbufs: status.names_n_subbufs,
                cpus: cpus.to_vec(),
                rotate_bytes,
                rotate_ms: rotate_after.as_millis() as u64,
                duration_ms: o.duration.map_or(0, |d| d.as_millis() as u64),
            },
        };
        Ok(Plan {
            dir: o.dir.clone(),
            header,
            rotate_bytes,
            rotate_after,
            in_memory: o.in_memory,
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
            paths.extend(drain.chunks.first.clone());
            drains.push(drain);
        }
        Ok(drains)
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
        ..Report::default()
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
        report.chunks += d.chunks.begun();
        report.cpus.push(CpuReport {
            cpu: d.cpu,
            refs: d.refs.records,
            names: d.names.records,
            bytes: d.refs.bytes + d.names.bytes,
            lost: counts.refs_lost + counts.names_lost,
            undrained: emitted
                .saturating_sub(d.refs.records + d.names.records + counts.refs_overwritten),
            discarded: d.discarded,
            given_up: counts.refs_overwritten + d.outdated,
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

/// Bytes and count of sub-buffers that make up `bytes`: large ones cost less, but are overwritten as a whole.
fn sub_buffers(bytes: u64) -> (u64, u64) {
    const PAGE: u64 = 4096;
    let size = (bytes / 16 / PAGE * PAGE).clamp(PAGE, 1 << 20);
    (size, (bytes / size).max(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_made_of_pages() {
        assert_eq!(sub_buffers(64 << 10), (4096, 16));
        assert_eq!(sub_buffers(100_000), (4096, 24));
        assert_eq!(sub_buffers(1 << 20), (64 << 10, 16));
        assert_eq!(sub_buffers(16 << 20), (1 << 20, 16));
        assert_eq!(sub_buffers(1 << 30), (1 << 20, 1024));
    }
}
