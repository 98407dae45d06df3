//! What the names channel says: processes, objects, mappings, marks.
//!
//! Names may come shortly after the references that use them, and in another
//! CPU's chunk, so all of them are read before the first reference is written.

use std::collections::{BTreeMap, HashMap, HashSet};

use pgtrace_capture::record::{Channel, Exit, Mapping, ObjectKind, Process, Record};

use crate::marks::turn;

/// One process incarnation: a row of `processes`, times still monotonic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incarnation {
    /// See [`upid`].
    pub upid: u64,
    /// What its last PROCESS record says.
    pub last: Process,
    /// Its end: (monotonic ns, exit code).
    pub exit: Option<(u64, u32)>,
}

/// A row of `objects`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// What it is.
    pub kind: ObjectKind,
    /// Device of the file system.
    pub dev: (u32, u32),
    /// Inode number.
    pub ino: u64,
    /// Inode generation.
    pub generation: u32,
    /// The first path seen.
    pub path: Option<String>,
    /// Some record said the file had no name left.
    pub deleted: bool,
    /// `path` lacks its beginning.
    pub truncated: bool,
    /// Owner, or first user.
    pub tgid: u32,
    /// Its incarnation.
    pub upid: u64,
}

/// Who a process is for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Process incarnation.
    pub upid: u64,
    /// Command name.
    pub comm: String,
}

/// `who` is true from `from_ns` on.
#[derive(Clone, Copy, Debug)]
struct Since {
    from_ns: u64,
    who: u32,
}

/// All names of a recording.
#[derive(Debug, Default)]
pub struct Names {
    /// Process incarnations, by upid.
    pub processes: BTreeMap<u64, Incarnation>,
    /// Objects, by number.
    pub objects: BTreeMap<u32, ObjectInfo>,
    /// Mappings in order of time, each with its upid.
    pub mappings: Vec<(Mapping, u64)>,
    /// Records that are marks and did not stand in a refs channel (CLEAN, MAP, AROUND and ACTIVE do), in order of time.
    /// Processes are reduced to what a mark says of them.
    pub marks: Vec<Record>,
    who: Vec<Who>,
    timelines: HashMap<u32, Vec<Since>>,
}

/// Names of a process incarnation: its start since boot in ms, and its pid.
/// Deterministic, and unique while a pid is reused no faster than once a ms.
pub fn upid(start_boot_ns: u64, tgid: u32) -> u64 {
    ((start_boot_ns / 1_000_000) << 22) | u64::from(tgid & 0x3f_ffff)
}

/// Collects names; each (channel, cpu, seq) counts once.
#[derive(Debug, Default)]
pub struct Collector {
    seen: HashSet<(Channel, u16, u64)>,
    records: Vec<Record>,
}

impl Collector {
    /// Takes a record, unless a copy of it is here already.
    pub fn add(&mut self, channel: Channel, record: Record) {
        let stamp = record.stamp();
        if self.seen.insert((channel, stamp.cpu, stamp.seq)) {
            self.records.push(record);
        }
    }

    /// The clock readings among the records: (monotonic ns, UTC ns).
    pub fn anchors(&self) -> Vec<(u64, u64)> {
        let clock = |r: &Record| match r {
            Record::Clock(c) => Some((c.monotonic_ns, c.realtime_ns)),
            _ => None,
        };
        self.records.iter().filter_map(clock).collect()
    }

    /// CPU and number of every record of the names channels.
    pub fn heard(&self) -> impl Iterator<Item = (u16, u64)> {
        let names = self.seen.iter().filter(|s| s.0 == Channel::Names);
        names.map(|&(_, cpu, seq)| (cpu, seq))
    }

    /// Builds the tables.
    pub fn finish(mut self) -> Names {
        // Records of one CPU stay in its order even where its clock steps back:
        // the sort is by time first, as the merge of references is.
        self.records
            .sort_by_key(|r| (r.stamp().time_ns, r.stamp().cpu, r.stamp().seq));
        let mut names = Names::default();
        let mut descriptions: BTreeMap<u32, Vec<Process>> = BTreeMap::new();
        let mut exits: Vec<Exit> = Vec::new();
        let mut later = Vec::new();
        for record in self.records {
            match record {
                Record::Process(p) => {
                    if turn(&p).is_some() {
                        names.marks.push(Record::Process(Process {
                            comm: p.comm.clone(),
                            exe: None,
                            cwd: None,
                            cgroup: None,
                            ..p
                        }));
                    }
                    descriptions.entry(p.tgid).or_default().push(p);
                }
                Record::Exit(e) => {
                    exits.push(e);
                    names.marks.push(record);
                }
                Record::Object(_) | Record::Mapping(_) => later.push(record),
                Record::Level(_)
                | Record::Clean(_)
                | Record::Clock(_)
                | Record::Policy(_)
                | Record::Map(_)
                | Record::Around(_)
                | Record::Active(_) => names.marks.push(record),
                // Losses are the tracker's; references do not come this way.
                Record::Lost(_) | Record::Ref(_) => {}
            }
        }
        for (tgid, descriptions) in descriptions {
            names.add_process(tgid, descriptions);
        }
        for exit in exits {
            let upid = names.upid_at(exit.tgid, exit.stamp.time_ns);
            if let Some(process) = names.processes.get_mut(&upid) {
                process.exit = Some((exit.stamp.time_ns, exit.code));
            }
        }
        for record in later {
            match record {
                Record::Object(o) => names.add_object(o),
                Record::Mapping(m) => {
                    let upid = names.upid_at(m.tgid, m.stamp.time_ns);
                    names.mappings.push((m, upid));
                }
                _ => {}
            }
        }
        names
    }
}

impl Names {
    /// Who `tgid` was at a time; `None` if no record ever described it.
    ///
    /// A PROCESS record holds from its time until the next one; the first one of
    /// an incarnation holds from the start of the process, because it may be
    /// written a little after the first reference.
    pub fn who(&self, tgid: u32, time_ns: u64) -> Option<&Who> {
        self.who_is(self.known(tgid, time_ns).0?)
    }

    /// The number of who `tgid` was at a time, and the times around it for which that is the answer.
    pub fn known(&self, tgid: u32, time_ns: u64) -> (Option<u32>, std::ops::Range<u64>) {
        let Some(timeline) = self.timelines.get(&tgid) else {
            return (None, 0..u64::MAX);
        };
        let behind = timeline.partition_point(|s| s.from_ns <= time_ns).max(1);
        let from = match behind {
            1 => 0,
            _ => timeline.get(behind - 1).map_or(0, |s| s.from_ns),
        };
        let to = timeline.get(behind).map_or(u64::MAX, |s| s.from_ns);
        (timeline.get(behind - 1).map(|s| s.who), from..to)
    }

    /// Who has that number.
    pub fn who_is(&self, number: u32) -> Option<&Who> {
        self.who.get(number as usize)
    }

    /// The incarnation of `tgid` at a time; of an unknown process, the pid alone.
    pub fn upid_at(&self, tgid: u32, time_ns: u64) -> u64 {
        self.who(tgid, time_ns).map_or(u64::from(tgid), |w| w.upid)
    }

    /// From when on `other` may say something else of a process; `None`: never.
    pub fn differ_from(&self, other: &Self) -> Option<u64> {
        let all: HashSet<&u32> = self
            .timelines
            .keys()
            .chain(other.timelines.keys())
            .collect();
        let first = |tgid: &u32| {
            let of = |names: &'_ Self| -> Vec<(u64, Option<Who>)> {
                let times = names.timelines.get(tgid).into_iter().flatten();
                times
                    .map(|s| (s.from_ns, names.who_is(s.who).cloned()))
                    .collect()
            };
            let (a, b) = (of(self), of(other));
            let same = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            let next = [a.get(same), b.get(same)];
            let first = next.into_iter().flatten().map(|s| s.0).min()?;
            // The first word of a process counts for all that was before it, too.
            Some(if same == 0 { 0 } else { first })
        };
        all.into_iter().filter_map(first).min()
    }

    /// Objects that `other` gives another kind or path, or does not know.
    pub fn other_objects(&self, other: &Self) -> HashSet<u64> {
        let row = |names: &Self, object: &u32| {
            let info = names.objects.get(object);
            info.map(|o| (o.kind, o.path.clone()))
        };
        let all = self.objects.keys().chain(other.objects.keys());
        all.filter(|object| row(self, object) != row(other, object))
            .map(|&object| object.into())
            .collect()
    }

    /// `descriptions` in order of time.
    fn add_process(&mut self, tgid: u32, descriptions: Vec<Process>) {
        let mut lives: BTreeMap<u64, Vec<Process>> = BTreeMap::new();
        for p in descriptions {
            let upid = upid(p.start_boot_ns, tgid);
            lives.entry(upid).or_default().push(p);
        }
        let mut timeline: Vec<Since> = Vec::new();
        for (upid, life) in lives {
            for (i, p) in life.iter().enumerate() {
                let from_ns = match i {
                    0 => p.start_ns.min(p.stamp.time_ns),
                    _ => p.stamp.time_ns,
                };
                // A later life never begins before an earlier one's last word.
                let from_ns = timeline.last().map_or(from_ns, |s| from_ns.max(s.from_ns));
                let who = self.who.len() as u32;
                self.who.push(Who {
                    upid,
                    comm: p.comm.clone(),
                });
                timeline.push(Since { from_ns, who });
            }
            if let Some(last) = life.into_iter().next_back() {
                let life = Incarnation {
                    upid,
                    last,
                    exit: None,
                };
                self.processes.insert(upid, life);
            }
        }
        self.timelines.insert(tgid, timeline);
    }

    /// Objects come in order of time: the first path stays.
    fn add_object(&mut self, o: pgtrace_capture::record::Object) {
        let upid = self.upid_at(o.tgid, o.stamp.time_ns);
        let known = self.objects.entry(o.object).or_insert_with(|| ObjectInfo {
            kind: o.kind,
            dev: (o.dev_major, o.dev_minor),
            ino: o.ino,
            generation: o.generation,
            path: None,
            deleted: false,
            truncated: false,
            tgid: o.tgid,
            upid,
        });
        known.deleted |= o.deleted;
        if known.path.is_none() && o.path.is_some() {
            known.path = o.path;
            known.truncated = o.truncated;
        }
    }
}

#[cfg(test)]
#[path = "names_test.rs"]
mod tests;
