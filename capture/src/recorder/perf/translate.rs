//! perf's events, in order of time, into pgtrace's records: who a process is, and which object a page belongs to.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::event::{Comm, Event, Fault, Map, Task};
use super::proc;
use super::space::{Area, Backing, FileBacking, Kinds, Space};
use crate::record::{
    Access, Event as Observed, Exit, Mapping, Object, ObjectKind, PageRef, Process, Record, Stamp,
};

const PAGE_SHIFT: u32 = 12;
/// An instruction has at most 15 bytes (x86; 4 elsewhere): it may reach that far into the next page.
const INSTRUCTION: u64 = 15;
/// A process's mappings are read from /proc no more often than this.
const REFRESH_NS: u64 = 100_000_000;
/// The heap begins at most this far behind the program (Linux places it at random within 1 GiB).
const HEAP_WITHIN: u64 = (1 << 30) + (1 << 25);
/// A program's segments are at most this far from each other.
const SEGMENTS_WITHIN: u64 = 1 << 24;

/// Takes the records; gives them their numbers.
pub(super) trait Sink {
    /// A name record of a CPU.
    fn name(&mut self, cpu: u16, time_ns: u64, record: impl FnOnce(Stamp) -> Record);
    /// A page reference of a CPU.
    fn page_ref(&mut self, cpu: u16, time_ns: u64, record: impl FnOnce(Stamp) -> PageRef);
    /// `count` records of a CPU found no room before `time_ns`.
    fn lost(&mut self, cpu: u16, time_ns: u64, count: u64);
}

/// A process as far as perf and /proc tell.
#[derive(Debug)]
struct Proc {
    ppid: u32,
    uid: u32,
    gid: u32,
    start_ns: u64,
    start_boot_ns: u64,
    comm: String,
    exe: Option<String>,
    cwd: Option<String>,
    cgroup: Option<String>,
    how: How,
    /// A PROCESS record tells what it is.
    named: bool,
    threads: HashSet<u32>,
    space: Space,
    /// Behind the program's segments and its bss; 0: not known.
    program_end: u64,
    /// Its own memory's objects.
    own: HashMap<ObjectKind, u32>,
    /// When its mappings were last read from /proc.
    refreshed: Option<u64>,
    /// Records were lost since: its mappings may be others.
    doubtful: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Attached,
    Forked,
    Execed,
}

/// A file that has a number in this recording.
#[derive(Debug)]
struct Known {
    generation: Option<u32>,
    object: u32,
    deleted: bool,
    tgid: u32,
    backing: Rc<FileBacking>,
}

/// What is the same for all processes.
#[derive(Debug)]
struct World {
    kinds: Kinds,
    /// CLOCK_BOOTTIME less CLOCK_MONOTONIC.
    boot_offset_ns: u64,
    tick_ns: u64,
}

/// The objects of a recording.
#[derive(Debug, Default)]
struct Objects {
    count: u32,
    files: HashMap<((u32, u32), u64), Vec<Known>>,
}

/// The state between perf's events and pgtrace's records.
#[derive(Debug)]
pub(super) struct Translator {
    world: World,
    processes: HashMap<u32, Proc>,
    objects: Objects,
    /// Numbers of the events that count major faults.
    majors: HashSet<u64>,
    /// This process's end is told by [`Translator::command_ended`]: its exit code is known then.
    command: Option<u32>,
    command_end: Option<(u16, u64)>,
}

impl Translator {
    /// `ticks`: clock ticks a second; `command`: the process whose exit code will be known.
    pub(super) fn new(boot_offset_ns: u64, ticks: u64, command: Option<u32>) -> Translator {
        Translator {
            world: World {
                kinds: Kinds {
                    hugetlb: proc::hugetlb_devices(),
                },
                boot_offset_ns,
                tick_ns: 1_000_000_000 / ticks.max(1),
            },
            processes: HashMap::new(),
            objects: Objects::default(),
            majors: HashSet::new(),
            command,
            command_end: None,
        }
    }

    /// Samples of these events are major faults.
    pub(super) fn majors(&mut self, ids: impl IntoIterator<Item = u64>) {
        self.majors.extend(ids);
    }

    /// A process that exists already, as /proc shows it; false: it does not exist any more.
    pub(super) fn attach(&mut self, pid: u32, cpu: u16, time: u64, sink: &mut impl Sink) -> bool {
        if !proc::exists(pid) {
            return false;
        }
        let mut process = self.world.existing(pid, time);
        process.announce(pid, cpu, time, sink);
        self.processes.insert(pid, process);
        true
    }

    /// Processes whose end was not told.
    pub(super) fn alive(&self) -> impl Iterator<Item = u32> {
        self.processes.keys().copied()
    }

    /// Takes in what happened next on any CPU.
    pub(super) fn event(&mut self, cpu: u16, event: Event, sink: &mut impl Sink) {
        match event {
            Event::Fault(fault) => self.fault(cpu, &fault, sink),
            Event::Map(map) => self.map(cpu, &map, sink),
            Event::Comm(comm) => self.comm(cpu, comm, sink),
            Event::Fork(task) => self.fork(cpu, task, sink),
            Event::Exit(task) => self.exit(cpu, task, sink),
            Event::Lost { time, count } => {
                for process in self.processes.values_mut() {
                    process.doubtful = true;
                }
                sink.lost(cpu, time, count);
            }
        }
    }

    /// The command's exit status as wait() gives it; `None`: nobody knows.
    pub(super) fn command_ended(&mut self, status: Option<u32>, sink: &mut impl Sink) {
        if let (Some(pid), Some((cpu, time))) = (self.command, self.command_end.take()) {
            let code = status.unwrap_or(Exit::UNKNOWN_CODE);
            sink.name(cpu, time, |stamp| end(stamp, pid, code));
        }
    }

    fn fault(&mut self, cpu: u16, f: &Fault, sink: &mut impl Sink) {
        let process = process(&mut self.processes, &self.world, f.pid, f.time);
        process.announce(f.pid, cpu, f.time, sink);
        if process.doubtful || process.space.at(f.addr).is_none() {
            process.refresh(f.pid, f.time, &self.world.kinds);
        }
        let (object, page, access);
        if let Some((start, area)) = process.space.at(f.addr) {
            object = match area.object {
                Some(object) => object,
                None => match &area.backing {
                    Backing::File(file) => self.objects.file(file, f.pid, cpu, f.time, sink),
                    Backing::Own(kind) => {
                        self.objects
                            .own(&mut process.own, *kind, f.pid, cpu, f.time, sink)
                    }
                },
            };
            area.object = Some(object);
            if !area.announced {
                area.announced = true;
                sink.name(cpu, f.time, |stamp| {
                    mapping(stamp, f.pid, object, start, area)
                });
            }
            page = area.page + ((f.addr - start) >> PAGE_SHIFT);
            access = access_of(f, Some(area));
        } else {
            // Nobody told: seen, and of the process's own, but no more.
            let own = &mut process.own;
            object = self
                .objects
                .own(own, ObjectKind::Other, f.pid, cpu, f.time, sink);
            page = f.addr >> PAGE_SHIFT;
            access = access_of(f, None);
        }
        let (uid, major) = (process.uid, self.majors.contains(&f.id));
        sink.page_ref(cpu, f.time, |stamp| PageRef {
            stamp,
            tgid: f.pid,
            tid: f.tid,
            uid,
            object,
            addr: f.addr,
            ip: f.ip,
            page,
            page_order: 0,
            event: Observed::Fault,
            access,
            major: Some(major),
            kernel: f.kernel,
            gup: false,
            present: false,
        });
    }

    fn map(&mut self, cpu: u16, map: &Map, sink: &mut impl Sink) {
        let process = process(&mut self.processes, &self.world, map.pid, map.time);
        let mut area = Area::of_event(map, &self.world.kinds);
        if process.exe.is_none()
            && let Backing::File(file) = &area.backing
        {
            // The first file that is mapped after an exec is the program; only then is all known that PROCESS says.
            process.exe = Some(file.path.clone());
            process.announce(map.pid, cpu, map.time, sink);
        }
        process.know_heap(map.start, &mut area);
        process.space.map(map.start, area);
    }

    fn comm(&mut self, cpu: u16, c: Comm, sink: &mut impl Sink) {
        let process = process(&mut self.processes, &self.world, c.pid, c.time);
        if c.exec {
            process.space = Space::default();
            process.own.clear();
            process.threads = HashSet::from([c.pid]);
            process.exe = None;
            process.program_end = 0;
            process.how = How::Execed;
            process.refreshed = Some(c.time);
            process.doubtful = false;
            (process.comm, process.named) = (c.comm, false);
        } else if c.tid == c.pid && c.comm != process.comm {
            (process.comm, process.named) = (c.comm, false);
            process.announce(c.pid, cpu, c.time, sink);
        }
    }

    fn fork(&mut self, cpu: u16, t: Task, sink: &mut impl Sink) {
        if t.pid == t.ppid {
            let process = process(&mut self.processes, &self.world, t.pid, t.time);
            process.threads.insert(t.tid);
            return;
        }
        let start_boot_ns = self.world.start(t.pid, t.time);
        let parent = process(&mut self.processes, &self.world, t.ppid, t.time);
        let mut child = Proc {
            ppid: t.ppid,
            start_ns: start_boot_ns.saturating_sub(self.world.boot_offset_ns),
            start_boot_ns,
            comm: parent.comm.clone(),
            exe: parent.exe.clone(),
            cwd: parent.cwd.clone(),
            cgroup: parent.cgroup.clone(),
            how: How::Forked,
            named: false,
            threads: HashSet::from([t.tid]),
            space: parent.space.forked(),
            own: HashMap::new(),
            refreshed: None,
            ..*parent
        };
        child.announce(t.pid, cpu, t.time, sink);
        self.processes.insert(t.pid, child);
    }

    fn exit(&mut self, cpu: u16, t: Task, sink: &mut impl Sink) {
        let Some(process) = self.processes.get_mut(&t.pid) else {
            return;
        };
        process.threads.remove(&t.tid);
        if !process.threads.is_empty() {
            return;
        }
        process.announce(t.pid, cpu, t.time, sink);
        self.processes.remove(&t.pid);
        if self.command == Some(t.pid) {
            self.command_end = Some((cpu, t.time));
        } else {
            sink.name(cpu, t.time, |stamp| end(stamp, t.pid, Exit::UNKNOWN_CODE));
        }
    }
}

/// The process, also when its beginning was never told (it was lost).
fn process<'a>(
    known: &'a mut HashMap<u32, Proc>,
    world: &World,
    pid: u32,
    time: u64,
) -> &'a mut Proc {
    known
        .entry(pid)
        .or_insert_with(|| world.existing(pid, time))
}

impl World {
    /// A process as /proc shows it; little is known when it is gone.
    fn existing(&self, pid: u32, time: u64) -> Proc {
        let id = proc::identity(pid).unwrap_or_default();
        let start_boot_ns = self.start(pid, time);
        let mut process = Proc {
            ppid: id.ppid,
            uid: id.uid,
            gid: id.gid,
            start_ns: start_boot_ns.saturating_sub(self.boot_offset_ns),
            start_boot_ns,
            comm: id.comm,
            exe: proc::link(pid, "exe"),
            cwd: None,
            cgroup: None,
            how: How::Attached,
            named: false,
            threads: proc::threads(pid).into_iter().collect(),
            space: Space::default(),
            program_end: 0,
            own: HashMap::new(),
            refreshed: None,
            doubtful: false,
        };
        process.refresh(pid, time, &self.kinds);
        process
    }

    /// When a process began, CLOCK_BOOTTIME: in the kernel's own unit for it, so that it is the same in every recording,
    /// whether /proc still knows or it must be taken for its first event's time.
    fn start(&self, pid: u32, time: u64) -> u64 {
        let ticks = match proc::identity(pid) {
            Some(id) => id.start_ticks,
            None => time.saturating_add(self.boot_offset_ns) / self.tick_ns,
        };
        ticks.saturating_mul(self.tick_ns)
    }
}

impl Proc {
    /// A PROCESS record, if what it last said is not true any more.
    fn announce(&mut self, pid: u32, cpu: u16, time: u64, sink: &mut impl Sink) {
        if self.named {
            return;
        }
        self.named = true;
        // Not told by perf: as /proc has it now, a moment later; else as it was before.
        if self.how == How::Execed
            && let Some(now) = proc::identity(pid)
        {
            (self.uid, self.gid) = (now.uid, now.gid);
        }
        self.exe = self.exe.take().or_else(|| proc::link(pid, "exe"));
        self.cwd = proc::link(pid, "cwd").or(self.cwd.take());
        self.cgroup = proc::cgroup(pid).or(self.cgroup.take());
        sink.name(cpu, time, |stamp| {
            Record::Process(Process {
                stamp,
                tgid: pid,
                ppid: self.ppid,
                uid: self.uid,
                gid: self.gid,
                start_ns: self.start_ns,
                start_boot_ns: self.start_boot_ns,
                attached: self.how == How::Attached,
                forked: self.how == How::Forked,
                execed: self.how == How::Execed,
                detached: false,
                comm: self.comm.clone(),
                exe: self.exe.clone(),
                cwd: self.cwd.clone(),
                cgroup: self.cgroup.clone(),
            })
        });
    }

    /// perf calls the heap by its name from its second growth on only. The first one lies a random distance behind the
    /// program, where nothing else is put unless somebody asks for the address.
    fn know_heap(&mut self, start: u64, area: &mut Area) {
        let anon = area.backing == Backing::Own(ObjectKind::Anon);
        let program = match &area.backing {
            Backing::File(file) => {
                let near = self.program_end == 0 || start <= self.program_end + SEGMENTS_WITHIN;
                near && self.exe.as_deref() == Some(&file.path)
            }
            Backing::Own(_) => anon && self.program_end == start, // its bss
        };
        if program {
            self.program_end = self.program_end.max(area.end);
        } else if anon && area.write && self.program_end > 0 {
            let heap = self.program_end..self.program_end.saturating_add(HEAP_WITHIN);
            if heap.contains(&start) {
                area.backing = Backing::Own(ObjectKind::Heap);
            }
        }
    }

    /// Reads the mappings from /proc: perf tells nothing of mremap, and may lose what it tells.
    fn refresh(&mut self, pid: u32, time: u64, kinds: &Kinds) {
        let due = |last: u64| time.saturating_sub(last) >= REFRESH_NS;
        if self.refreshed.is_none_or(due) {
            self.refreshed = Some(time);
            self.doubtful = false;
            let lines = proc::maps(pid);
            if !lines.is_empty() {
                self.space.replace(lines, kinds);
            }
        }
    }
}

impl Objects {
    fn next(&mut self) -> u32 {
        self.count += 1;
        self.count
    }

    /// The number of a file; its OBJECT record is out.
    fn file(
        &mut self,
        file: &Rc<FileBacking>,
        tgid: u32,
        cpu: u16,
        time: u64,
        sink: &mut impl Sink,
    ) -> u32 {
        let number = self.count + 1;
        let known = self.files.entry((file.dev, file.ino)).or_default();
        let same = |k: &&mut Known| {
            file.generation.is_none() || k.generation.is_none() || k.generation == file.generation
        };
        if let Some(known) = known.iter_mut().rev().find(same) {
            known.generation = known.generation.or(file.generation);
            if file.deleted && !known.deleted {
                // Unlinked since: say so, and keep the name it had.
                known.deleted = true;
                let known = &*known;
                sink.name(cpu, time, |stamp| known.record(stamp));
            }
            return known.object;
        }
        let new = Known {
            generation: file.generation,
            object: number,
            deleted: file.deleted,
            tgid,
            backing: Rc::clone(file),
        };
        sink.name(cpu, time, |stamp| new.record(stamp));
        known.push(new);
        self.next()
    }

    /// The number of a process's own memory of one kind; its OBJECT record is out.
    fn own(
        &mut self,
        own: &mut HashMap<ObjectKind, u32>,
        kind: ObjectKind,
        tgid: u32,
        cpu: u16,
        time: u64,
        sink: &mut impl Sink,
    ) -> u32 {
        *own.entry(kind).or_insert_with(|| {
            let object = self.next();
            sink.name(cpu, time, |stamp| {
                Record::Object(Object {
                    stamp,
                    object,
                    tgid,
                    dev_major: 0,
                    dev_minor: 0,
                    ino: 0,
                    generation: 0,
                    kind,
                    path: None,
                    deleted: false,
                    truncated: false,
                })
            });
            object
        })
    }
}

impl Known {
    fn record(&self, stamp: Stamp) -> Record {
        let file = &self.backing;
        Record::Object(Object {
            stamp,
            object: self.object,
            tgid: self.tgid,
            dev_major: file.dev.0,
            dev_minor: file.dev.1,
            ino: file.ino,
            generation: self.generation.unwrap_or_default(),
            kind: file.kind,
            path: Some(file.path.clone()),
            deleted: self.deleted,
            truncated: false,
        })
    }
}

fn mapping(stamp: Stamp, tgid: u32, object: u32, start: u64, area: &Area) -> Record {
    Record::Mapping(Mapping {
        stamp,
        tgid,
        object,
        start,
        end: area.end,
        page: area.page,
        read: area.read,
        write: area.write,
        exec: area.exec,
        shared: area.shared,
    })
}

fn end(stamp: Stamp, tgid: u32, code: u32) -> Record {
    Record::Exit(Exit { stamp, tgid, code })
}

/// perf does not tell how a page was used; some of it follows. An instruction that faults on its own page was being
/// fetched; and what cannot be written was read.
fn access_of(f: &Fault, area: Option<&Area>) -> Access {
    let page = |addr: u64| addr >> PAGE_SHIFT;
    if !f.kernel && page(f.ip) == page(f.addr) {
        return Access::Exec;
    }
    match area {
        // The instruction may reach into the page: fetched or read, nobody can say.
        Some(area)
            if area.exec && !f.kernel && page(f.ip.saturating_add(INSTRUCTION)) == page(f.addr) =>
        {
            Access::Unknown
        }
        Some(area) if !area.write => Access::Read,
        Some(_) | None => Access::Unknown,
    }
}
