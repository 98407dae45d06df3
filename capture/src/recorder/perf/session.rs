//! One recording by perf, from the first event to the last block.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::super::command::{Gated, Running};
use super::super::disk::DiskGuard;
use super::super::output::proc_line;
use super::super::{CpuReport, Options, Progress, RecordError, Report};
use super::attach::{CpuEvents, Events};
use super::order::Order;
use super::reader::{self, Round, Shared};
use super::stream::{Plan, Stream, Streams};
use super::sys::{self, Ring};
use super::translate::{Sink, Translator};
use super::{PerfError, event, proc};
use crate::chunk::{ChunkHeader, CpuTotals, Settings, Totals};
use crate::record::{Clock, Level, LevelChange, Policy, PolicyChange, Record};
use crate::sys::{Clocks, clocks, page_size};
use crate::wire::ByteOrder;

/// How often it is looked whether something ends the recording.
const TICK: Duration = Duration::from_millis(20);
/// How often it is looked whether the targets live.
const LOOK: Duration = Duration::from_millis(200);
/// How long a command that was asked to end may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the clocks are recorded.
const CLOCKS: Duration = Duration::from_secs(1);
/// How late a record may enter its ring after the time it carries. (The kernel takes the time and writes the record with
/// nothing in between, but a virtual CPU may stand still there.)
const LATE_NS: u64 = 50_000_000;

/// Records; `paths` gets the chunks begun, also on an error.
pub(super) fn run(
    options: &Options,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
    paths: &mut Vec<PathBuf>,
) -> Result<Report, RecordError> {
    let words = &options.targets.command;
    let command_error = |cause| RecordError::Command {
        command: words.first().cloned().unwrap_or_default(),
        cause,
    };
    let gated = match words.as_slice() {
        [] => None,
        words => Some(Gated::fork(words).map_err(command_error)?),
    };
    let child = gated.as_ref().map(Gated::pid);
    let (mut session, mut rings) = match Session::begin(options, child, paths) {
        Ok(ready) => ready,
        Err(e) => {
            if let Some(gated) = gated {
                gated.cancel();
            }
            return Err(e);
        }
    };
    let shared = Shared::default();
    let (to, from) = channel();
    let started = Instant::now();
    let events = &session.events;
    let fds: Vec<_> = events.cpus.iter().filter_map(CpuEvents::fd).collect();
    let work = &mut session.work;
    let (ended_by, running) = std::thread::scope(|scope| {
        let (fds, shared) = (&fds, &shared);
        // However this scope is left, the reader is told to end: the scope waits for it.
        let guard = Ending(shared);
        std::thread::Builder::new()
            .name("rings".into())
            .spawn_scoped(scope, move || reader::run(&mut rings, fds, shared, &to))
            .map_err(|cause| RecordError::System {
                what: "starting the thread that reads perf's rings",
                cause,
            })?;
        let mut running = match gated {
            None => None,
            Some(gated) => Some(gated.go().map_err(command_error)?),
        };
        let (mut ended_by, mut looked, mut told) = (None, started, started);
        loop {
            match from.recv_timeout(TICK) {
                Ok(round) => {
                    let bytes = work.take_in(&round);
                    shared.in_flight.fetch_sub(bytes, Ordering::Relaxed);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if ended_by.is_none() {
                ended_by = work.ended(options, stop, started, running.as_mut(), &mut looked);
                if ended_by.is_some() {
                    events.disable();
                    shared.ending.store(true, Ordering::Release);
                }
            }
            if told.elapsed() >= Duration::from_secs(1) {
                told = Instant::now();
                progress(work.progress(started.elapsed()));
            }
        }
        drop(guard);
        Ok::<_, RecordError>((ended_by.unwrap_or("error"), running))
    })?;
    drop(fds);
    session.end(ended_by, running, started.elapsed())
}

/// Tells the reader to end when it goes out of scope.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.ending.store(true, Ordering::Release);
    }
}

/// One recording.
struct Session<'a> {
    options: &'a Options,
    events: Events,
    work: Work,
}

/// From bytes of the rings to chunks.
struct Work {
    order: Order,
    translator: Translator,
    streams: Streams,
    /// Readings of the clocks that wait for their turn.
    clocks: VecDeque<Clocks>,
    read: Instant,
    /// The CPU whose stream tells of the recorder itself.
    first: u16,
    /// All could be written so far.
    good: bool,
    disk: DiskGuard,
    /// Bytes that the disk's guard knows of.
    written: u64,
    /// What made no sense, by place of the CPU.
    damage: Vec<(usize, String)>,
}

impl<'a> Session<'a> {
    fn begin(
        options: &'a Options,
        child: Option<u32>,
        paths: &mut Vec<PathBuf>,
    ) -> Result<(Session<'a>, Vec<Ring>), RecordError> {
        sys::raise_file_limit(); // after the fork: the command keeps its own limit
        let pids: Vec<u32> = options.targets.pids.iter().copied().chain(child).collect();
        let begin = clocks();
        let disk = DiskGuard::new(&options.dir, options.min_free)?;
        let mut events = Events::open(&pids, page_size() as usize)?;
        let mut rings: Vec<Ring> = events
            .cpus
            .iter_mut()
            .filter_map(|c| c.ring.take())
            .collect();
        let cpus: Vec<u16> = events.cpus.iter().map(|c| c.cpu).collect();
        let first = cpus.first().copied().unwrap_or_default();
        let streams = Streams::begin(plan(options, &events, &cpus)?, &cpus, paths)?;
        let boot_offset = begin.boottime_ns.saturating_sub(begin.monotonic_ns);
        let mut work = Work {
            order: Order::new(cpus.iter().copied()),
            translator: Translator::new(boot_offset, sys::ticks_per_second(), child),
            streams,
            clocks: VecDeque::new(),
            read: Instant::now(),
            first,
            good: true,
            disk,
            written: 0,
            damage: Vec::new(),
        };
        if child.is_none() {
            work.late_threads(&mut events, &mut rings, &pids)?;
        }
        work.translator.majors(events.majors.iter().copied());
        work.level(begin.monotonic_ns, Level::Off, Level::Light);
        let policy = PolicyChange {
            stamp: Default::default(),
            policy: Policy::None,
            grain: 9, // huge pages are left as they are
            overwrite: false,
            clean_ms: 0,
            fifo: 0,
        };
        work.streams.name(first, begin.monotonic_ns, |stamp| {
            Record::Policy(PolicyChange { stamp, ..policy })
        });
        work.clock(begin);
        for pid in pids {
            let (time, streams) = (begin.monotonic_ns, &mut work.streams);
            if !work.translator.attach(pid, first, time, streams) {
                return Err(PerfError::NoProcess { pid }.into());
            }
        }
        let session = Session {
            options,
            events,
            work,
        };
        Ok((session, rings))
    }

    /// What is left in the queues, what the kernel counted, the last blocks, and the sums.
    fn end(
        mut self,
        ended_by: &str,
        mut running: Option<Running>,
        took: Duration,
    ) -> Result<Report, RecordError> {
        let end = clocks();
        let work = &mut self.work;
        work.translate(u64::MAX);
        for (cpu, stream) in self.events.cpus.iter_mut().zip(0..) {
            let (faults, lost) = cpu.counts();
            if let Some(missing) = work
                .streams
                .list
                .get(stream)
                .map(|s| missing(s, faults, lost))
                && missing > 0
            {
                work.streams.lost(cpu.cpu, end.monotonic_ns, missing);
            }
        }
        let status = running.as_mut().and_then(wait_for_command);
        work.translator
            .command_ended(status.map(raw_status), &mut work.streams);
        work.level(end.monotonic_ns, Level::Light, Level::Off);
        work.clock(end);
        let totals = Totals {
            complete: true,
            ended_by: ended_by.into(),
            command_exit: status.and_then(exit_code),
            duration_ns: took.as_nanos() as u64,
            cpus: work.streams.list.iter().map(cpu_totals).collect(),
            unread: Vec::new(),
        };
        work.streams
            .finish(&serde_json::to_vec(&totals).unwrap_or_default());
        let mut report = Report {
            dir: self.options.dir.clone(),
            totals,
            ..Report::default()
        };
        for (at, stream) in work.streams.list.iter_mut().enumerate() {
            let (refs, names, bytes) = stream.counts();
            let damage = work.damage.iter().filter(|d| d.0 == at);
            report.chunks += stream.paths.len() as u64;
            report.cpus.push(CpuReport {
                cpu: stream.cpu,
                refs,
                names,
                bytes,
                lost: stream.lost,
                discarded: stream.discarded,
                unframed: damage.map(|d| d.1.clone()).collect(),
                ..CpuReport::default()
            });
            report.errors.extend(stream.error.take().map(Into::into));
        }
        if ended_by == "disk" {
            let _ = work.disk.look(); // the figure that is told is to be today's
            let why = format!("{}: the recording was ended in order", work.disk);
            report.warnings.push(why);
        }
        Ok(report)
    }
}

/// Records that the kernel counted and no LOST record told of: behind the last loss there was no record more to tell it.
fn missing(stream: &Stream, faults: u64, lost: Option<u64>) -> u64 {
    let told = lost.unwrap_or_default().max(stream.lost);
    let seen = stream.page_refs();
    (told - stream.lost).max(faults.saturating_sub(seen + told))
}

impl Work {
    /// Threads that were begun while others were being attached: those whose begin was seen have inherited the events.
    fn late_threads(
        &mut self,
        events: &mut Events,
        rings: &mut [Ring],
        pids: &[u32],
    ) -> Result<(), RecordError> {
        // The kernel shows a thread in /proc a moment before it tells of it.
        std::thread::sleep(TICK);
        self.queue(&reader::read(rings));
        let told: Vec<u32> = self.order.begun().collect();
        Ok(events.late(pids, &told, page_size() as usize)?)
    }

    /// Takes in what was read; gives its bytes.
    fn take_in(&mut self, round: &Round) -> usize {
        self.queue(round);
        if self.read.elapsed() >= CLOCKS {
            self.read = Instant::now();
            self.clocks.push_back(clocks());
        }
        self.translate(round.time_ns.saturating_sub(LATE_NS));
        self.good &= self.streams.flush();
        let bytes = self.streams.list.iter().map(|s| s.counts().2).sum();
        self.disk.wrote(bytes - self.written);
        self.written = bytes;
        round.bytes.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    fn queue(&mut self, round: &Round) {
        for (at, bytes) in &round.bytes {
            for item in event::decode(bytes) {
                match item {
                    Ok(event) => self.order.push(*at, event),
                    Err(e) => self
                        .damage
                        .push((*at, format!("perf ring: byte {} of a read: {e}", e.offset))),
                }
            }
        }
        self.damage.extend(round.broken.iter().cloned());
    }

    /// What happened up to a time, in order.
    fn translate(&mut self, until: u64) {
        while let Some((cpu, event)) = self.order.pop(until) {
            self.clocks_until(event.time());
            self.translator.event(cpu, event, &mut self.streams);
        }
        self.clocks_until(until);
    }

    fn clocks_until(&mut self, time: u64) {
        while let Some(c) = self.clocks.pop_front_if(|c| c.monotonic_ns <= time) {
            self.clock(c);
        }
    }

    fn clock(&mut self, c: Clocks) {
        self.streams.name(self.first, c.monotonic_ns, |stamp| {
            Record::Clock(Clock {
                stamp,
                monotonic_ns: c.monotonic_ns,
                realtime_ns: c.realtime_ns,
                boottime_ns: c.boottime_ns,
            })
        });
    }

    fn level(&mut self, time_ns: u64, from: Level, to: Level) {
        self.streams.name(self.first, time_ns, |stamp| {
            Record::Level(LevelChange {
                stamp,
                from,
                to,
                clean_ms: 0,
            })
        });
    }

    /// What ends the recording, if anything does.
    fn ended(
        &self,
        options: &Options,
        stop: &AtomicBool,
        started: Instant,
        running: Option<&mut Running>,
        looked: &mut Instant,
    ) -> Option<&'static str> {
        if stop.load(Ordering::Acquire) {
            if let Some(running) = running {
                running.terminate();
            }
            return Some("signal");
        }
        if !self.good {
            return Some("error");
        }
        if self.disk.is_short() {
            return Some("disk");
        }
        let look = looked.elapsed() >= LOOK;
        if look {
            *looked = Instant::now();
            let _ = self.disk.look(); // what cannot be asked now can be later
        }
        if let Some(running) = running {
            if !matches!(running.ended(), Ok(None)) {
                return Some("command");
            }
        } else if look && !self.translator.alive().any(proc::exists) {
            return Some("processes");
        }
        let over = options.duration.is_some_and(|d| started.elapsed() >= d);
        over.then_some("duration")
    }

    fn progress(&self, elapsed: Duration) -> Progress {
        let mut now = Progress {
            elapsed,
            disk_left: Some(self.disk.left()),
            ..Progress::default()
        };
        for stream in &self.streams.list {
            let (refs, names, bytes) = stream.counts();
            now.records += refs + names;
            now.bytes += bytes;
            now.lost += stream.lost;
        }
        now
    }
}

fn cpu_totals(stream: &Stream) -> CpuTotals {
    let (refs, names, bytes) = stream.counts();
    CpuTotals {
        cpu: stream.cpu,
        refs_emitted: refs,
        refs_lost: stream.lost,
        names_emitted: names,
        names_lost: 0,
        bytes,
    }
}

fn plan(options: &Options, events: &Events, cpus: &[u16]) -> Result<Plan, RecordError> {
    let line = |path| proc_line(path).map_err(|cause| RecordError::System { what: path, cause });
    let boot_id = line("/proc/sys/kernel/random/boot_id")?;
    let header = ChunkHeader {
        capture_id: Uuid::new_v4(),
        boot_id: Uuid::parse_str(&boot_id).unwrap_or_default(),
        kernel: line("/proc/sys/kernel/osrelease")?,
        page_size: page_size(),
        byte_order: ByteOrder::NATIVE,
        // These five are each chunk's own.
        cpu: 0,
        index: 0,
        monotonic_ns: 0,
        realtime_ns: 0,
        boottime_ns: 0,
        settings: Settings {
            tool: env!("CARGO_PKG_VERSION").into(),
            source: "perf".into(),
            level: Level::Light.as_str().into(),
            grain: "2m".into(),
            follow: "exec".into(),
            targets: options.targets.clone(),
            subbuf_size: events.ring_size as u64,
            n_subbufs: 1,
            cpus: cpus.to_vec(),
            rotate_bytes: options.rotate_bytes,
            rotate_ms: options.rotate_after.as_millis() as u64,
            duration_ms: options.duration.map_or(0, |d| d.as_millis() as u64),
            ..Settings::default()
        },
    };
    Ok(Plan {
        dir: options.dir.clone(),
        header,
        rotate_bytes: options.rotate_bytes,
        rotate_after: options.rotate_after,
    })
}

/// The command's end; `None` while it does not end.
fn wait_for_command(running: &mut Running) -> Option<ExitStatus> {
    let asked = Instant::now();
    loop {
        match running.ended() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if asked.elapsed() < PATIENCE => std::thread::sleep(TICK),
            Ok(None) | Err(_) => return None,
        }
    }
}

/// 128 + the signal where one ended it.
fn exit_code(status: ExitStatus) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt;
    status.code().or(status.signal().map(|s| 128 + s))
}

fn raw_status(status: ExitStatus) -> u32 {
    use std::os::unix::process::ExitStatusExt;
    status.into_raw() as u32
}
