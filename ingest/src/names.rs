//! What the names channel says: processes, objects, mappings, marks.
//!
//! Names may come shortly after the references that use them, and in another
//! CPU's chunk, so all of them are read before the first reference is written.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use pgtrace_capture::record::{Exit, Level, Object, ObjectKind, Process, Record};
use pgtrace_capture::wire::{self, ByteOrder, Item};

use crate::error::IngestError;
use crate::marks::turn;
use crate::spill::{Key, Merged, Tape, TapeReader, TapeWriter, Temp};

/// What a PROCESS record says, without what no table has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// When it says so, monotonic ns.
    pub time_ns: u64,
    /// Process.
    pub tgid: u32,
    /// Its parent.
    pub ppid: u32,
    /// Real user id.
    pub uid: u32,
    /// Start of the process, monotonic ns.
    pub start_ns: u64,
    /// Start of the process, ns since boot.
    pub start_boot_ns: u64,
    /// Command name.
    pub comm: Arc<str>,
    /// Path of the executable.
    pub exe: Option<Arc<str>>,
    /// Working directory.
    pub cwd: Option<Arc<str>>,
    /// Path of the cgroup.
    pub cgroup: Option<Arc<str>>,
}

/// One process incarnation: a row of `processes`, times still monotonic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incarnation {
    /// See [`upid`].
    pub upid: u64,
    /// What its last PROCESS record says.
    pub last: Description,
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
    pub path: Option<Arc<str>>,
    /// Some record said the file had no name left.
    pub deleted: bool,
    /// `path` lacks its beginning.
    pub truncated: bool,
    /// Owner, or first user.
    pub tgid: u32,
    /// Its incarnation.
    pub upid: u64,
    /// When it was first told of, monotonic ns.
    since_ns: u64,
}

/// Who a process is for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Process incarnation.
    pub upid: u64,
    /// Command name.
    pub comm: Arc<str>,
}

/// `who` is true from `from_ns` on.
#[derive(Clone, Copy, Debug)]
struct Since {
    from_ns: u64,
    who: u32,
}

/// The names that references are told by; they stay in memory. A process takes some 250 bytes and an object 150, and
/// each text is there once.
#[derive(Debug, Default)]
pub struct Names {
    /// Process incarnations, by upid.
    pub processes: BTreeMap<u64, Incarnation>,
    /// Objects, by number.
    pub objects: BTreeMap<u32, ObjectInfo>,
    who: Vec<Who>,
    timelines: HashMap<u32, Vec<Since>>,
}

/// Names of a process incarnation: its start since boot in ms, and its pid.
/// Deterministic, and unique while a pid is reused no faster than once a ms.
pub fn upid(start_boot_ns: u64, tgid: u32) -> u64 {
    ((start_boot_ns / 1_000_000) << 22) | u64::from(tgid & 0x3f_ffff)
}

/// How names wait: the byte order they are in, then the record as it stood in its chunk.
pub(crate) fn order_byte(order: ByteOrder) -> u8 {
    (order == ByteOrder::Big).into()
}

/// A name that waited.
fn name(waited: &[u8]) -> Option<Record> {
    let (order, bytes) = waited.split_first()?;
    let order = match order {
        0 => ByteOrder::Little,
        _ => ByteOrder::Big,
    };
    match wire::decode(bytes, order).next()? {
        Ok(Item::Record(record)) => Some(record),
        // It was decoded before it had to wait.
        Ok(Item::Unknown { .. }) | Err(_) => None,
    }
}

/// What of the names channel is a row of its own, in order of time: there may be more of it than fits in memory.
#[derive(Clone, Debug)]
pub struct Told {
    /// Rows of `mappings`.
    mappings: Tape,
    /// Records that are marks and did not stand in a refs channel (CLEAN, MAP, AROUND and ACTIVE do). Processes are
    /// reduced to what a mark says of them.
    marks: Tape,
}

/// Reads names that waited, in order.
#[derive(Debug)]
pub(crate) struct ToldReader(TapeReader);

impl Told {
    /// The mappings.
    pub(crate) fn mappings(&self) -> ToldReader {
        ToldReader(self.mappings.read())
    }

    /// The marks.
    pub(crate) fn marks(&self) -> ToldReader {
        ToldReader(self.marks.read())
    }
}

impl ToldReader {
    /// The next one, and where it stands; `None` at the end.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub(crate) fn next_name(&mut self) -> Result<Option<(Key, Record)>, IngestError> {
        let piece = self.0.next_piece()?.and_then(Key::split);
        Ok(piece.and_then(|(key, waited)| Some((key, name(waited)?))))
    }
}

/// What all names come to.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) names: Names,
    pub(crate) told: Told,
    /// Readings of the clocks: (monotonic ns, UTC ns).
    pub(crate) anchors: Vec<(u64, u64)>,
    /// The levels that were on, by the marks.
    pub(crate) levels: BTreeSet<Level>,
}

/// Builds the tables from names in order, each once; `heard` is told CPU and number of every one that stood in a names
/// channel.
///
/// Records of one CPU stay in its order even where its clock steps back: the order is by time first, as the merge of
/// references is.
///
/// # Errors
/// The temporary file cannot be read or written.
pub(crate) fn collect(
    mut all: Merged,
    temp: &Temp,
    mut heard: impl FnMut(u16, u64),
) -> Result<Collected, IngestError> {
    let mut names = Names::default();
    let mut texts = Texts::default();
    let mut lives: BTreeMap<u32, Vec<Description>> = BTreeMap::new();
    let mut exits: Vec<Exit> = Vec::new();
    let (mut anchors, mut levels) = (Vec::new(), BTreeSet::new());
    let (mut mappings, mut marks) = (TapeWriter::new(temp), TapeWriter::new(temp));
    let mut encoded = Vec::new();
    while let Some((key, waited)) = all.next_record()? {
        if !key.in_refs {
            heard(key.cpu, key.seq);
        }
        let Some(record) = name(waited) else {
            continue;
        };
        match record {
            Record::Process(p) => {
                let description = Description::of(&p, &mut texts);
                lives.entry(p.tgid).or_default().push(description);
                if turn(&p).is_some() {
                    let reduced = Record::Process(Process {
                        exe: None,
                        cwd: None,
                        cgroup: None,
                        ..p
                    });
                    encoded.clear();
                    encoded.push(order_byte(ByteOrder::NATIVE));
                    wire::encode(&reduced, &mut encoded);
                    marks.push(&[&key.to_bytes(), &encoded]);
                }
                continue;
            }
            Record::Object(o) => {
                names.add_object(o, &mut texts);
                continue;
            }
            Record::Mapping(_) => {
                mappings.push(&[&key.to_bytes(), waited]);
                continue;
            }
            Record::Exit(e) => exits.push(e),
            Record::Clock(c) => anchors.push((c.monotonic_ns, c.realtime_ns)),
            Record::Level(l) => {
                levels.insert(l.to);
            }
            Record::Clean(_)
            | Record::Policy(_)
            | Record::Map(_)
            | Record::Around(_)
            | Record::Active(_) => {}
            // Losses are the tracker's; references do not come this way.
            Record::Lost(_) | Record::Ref(_) => continue,
        }
        marks.push(&[&key.to_bytes(), waited]);
    }
    for (tgid, descriptions) in lives {
        names.add_process(tgid, descriptions);
    }
    for exit in exits {
        let upid = names.upid_at(exit.tgid, exit.stamp.time_ns);
        if let Some(process) = names.processes.get_mut(&upid) {
            process.exit = Some((exit.stamp.time_ns, exit.code));
        }
    }
    names.own_objects();
    let told = Told {
        mappings: mappings.finish()?,
        marks: marks.finish()?,
    };
    Ok(Collected {
        names,
        told,
        anchors,
        levels,
    })
}

/// Texts, each once: thousands of processes have the same few names and folders.
#[derive(Default)]
struct Texts(HashSet<Arc<str>>);

impl Texts {
    fn once(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        let new: Arc<str> = text.into();
        self.0.insert(new.clone());
        new
    }
}

impl Description {
    fn of(p: &Process, texts: &mut Texts) -> Self {
        let mut once = |text: &Option<String>| text.as_deref().map(|t| texts.once(t));
        let (exe, cwd, cgroup) = (once(&p.exe), once(&p.cwd), once(&p.cgroup));
        Self {
            time_ns: p.stamp.time_ns,
            tgid: p.tgid,
            ppid: p.ppid,
            uid: p.uid,
            start_ns: p.start_ns,
            start_boot_ns: p.start_boot_ns,
            comm: texts.once(&p.comm),
            exe,
            cwd,
            cgroup,
        }
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
    fn add_process(&mut self, tgid: u32, descriptions: Vec<Description>) {
        let mut lives: BTreeMap<u64, Vec<Description>> = BTreeMap::new();
        for p in descriptions {
            let upid = upid(p.start_boot_ns, tgid);
            lives.entry(upid).or_default().push(p);
        }
        let mut timeline: Vec<Since> = Vec::new();
        for (upid, life) in lives {
            for (i, p) in life.iter().enumerate() {
                let from_ns = match i {
                    0 => p.start_ns.min(p.time_ns),
                    _ => p.time_ns,
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
    fn add_object(&mut self, o: Object, texts: &mut Texts) {
        let known = self.objects.entry(o.object).or_insert_with(|| ObjectInfo {
            kind: o.kind,
            dev: (o.dev_major, o.dev_minor),
            ino: o.ino,
            generation: o.generation,
            path: None,
            deleted: false,
            truncated: false,
            tgid: o.tgid,
            upid: 0,
            since_ns: o.stamp.time_ns,
        });
        known.deleted |= o.deleted;
        if known.path.is_none()
            && let Some(path) = &o.path
        {
            known.path = Some(texts.once(path));
            known.truncated = o.truncated;
        }
    }

    /// Whose the objects are: to be told when all processes are known.
    fn own_objects(&mut self) {
        let mut objects = std::mem::take(&mut self.objects);
        for object in objects.values_mut() {
            object.upid = self.upid_at(object.tgid, object.since_ns);
        }
        self.objects = objects;
    }
}

#[cfg(test)]
#[path = "names_test.rs"]
mod tests;
