//! Version 0: entries as the 2005 `pagetrace` kit put them into relayfs, before there was any framing.
//!
//! An entry is seven `unsigned long` and nothing else - no magic, no length, no CPU, no names - so it is 28 bytes on
//! i386 and 56 on x86-64, in the byte order of the machine:
//!
//! ```text
//! i386   x86-64   field     taken for
//!  0      0       inode     inode number; 0: anonymous memory of `pid`
//!  4      8       bdev      the file system's device as 2.6 kernels hold a dev_t: major << 20 | minor
//!  8     16       offset    page of the object: 4096-byte pages, as `page->index` counts (bytes would end at 4 GiB on i386);
//!                           for anonymous memory the virtual page number
//! 12     24       len       length of the mapping; says nothing about the page, not used
//! 16     32       prot      1 read, 2 write, 4 exec, 8 shared: what the mapping allows
//! 20     40       pid       process
//! 24     48       tstamp    jiffies, the only clock of 2.6 that is one `unsigned long`: 1 ms each (HZ=1000)
//! ```
//!
//! What v0 does not say: an access is taken for the most that the protection allows (exec, else write, else read); the
//! user is 0, the thread the process, the command and all paths unknown; no fault needed I/O (the record of one cannot
//! leave that open); the first entry's tstamp counts from 1970.
//! On i386 jiffies wrap after 49 days (and, by design, 5 minutes after boot): they are counted on across the wrap.

use std::collections::{HashMap, HashSet};

use super::ByteOrder;
use super::v1::PGT_PAGE_MASK;
use crate::record::{Access, Event, Object, ObjectKind, PageRef, Process, Record, Stamp};

/// Nanoseconds of a jiffy.
const TICK_NS: i128 = 1_000_000;
/// Linux gives no larger pid.
const MAX_PID: u64 = (1 << 22) - 1;
/// All bits of `prot`.
const MAX_PROT: u64 = 0xf;
/// Fields of an entry.
const FIELDS: usize = 7;

/// One of the four layouts of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    /// `unsigned long` has 64 bits.
    pub wide: bool,
    /// Byte order of the machine.
    pub order: ByteOrder,
}

/// What is wrong with an entry: expected and found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The bytes end inside the entry.
    #[error("expected an entry of {expected} bytes, found only {found}")]
    Short {
        /// Bytes of an entry.
        expected: usize,
        /// Bytes left.
        found: usize,
    },
    /// A field holds what no kernel puts there.
    #[error("expected {field} in {low}..={high}, found {found}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// Smallest value there is.
        low: u64,
        /// Largest value there is.
        high: u64,
        /// Value found.
        found: u64,
    },
}

/// An entry's fields, all of them possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    inode: u64,
    bdev: u32,
    page: u64,
    prot: u8,
    pid: u32,
    tstamp: u64,
}

impl Layout {
    /// The four of them.
    pub const ALL: [Layout; 4] = [
        Layout::new(false, ByteOrder::Little),
        Layout::new(false, ByteOrder::Big),
        Layout::new(true, ByteOrder::Little),
        Layout::new(true, ByteOrder::Big),
    ];

    const fn new(wide: bool, order: ByteOrder) -> Layout {
        Layout { wide, order }
    }

    /// The name people give it by.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match (self.wide, self.order) {
            (false, ByteOrder::Little) => "v0-i386",
            (false, ByteOrder::Big) => "v0-i386-be",
            (true, ByteOrder::Little) => "v0-x86-64",
            (true, ByteOrder::Big) => "v0-x86-64-be",
        }
    }

    /// Bytes of an entry: 28 or 56.
    #[must_use]
    pub fn entry_len(self) -> usize {
        FIELDS * self.word_len()
    }

    fn word_len(self) -> usize {
        if self.wide { 8 } else { 4 }
    }

    /// How many of the first entries of `bytes` (whole ones only) hold nothing that no kernel puts there, and how many
    /// there are. Any bytes of the right size are an entry, so this is all that tells the layouts apart.
    #[must_use]
    pub fn plausible(self, bytes: &[u8]) -> (u64, u64) {
        let entries = bytes.chunks_exact(self.entry_len());
        let all = entries.len() as u64;
        let good = entries.filter(|e| self.entry(e).is_ok()).count() as u64;
        (good, all)
    }

    fn entry(self, bytes: &[u8]) -> Result<Entry, Fault> {
        let (expected, found) = (self.entry_len(), bytes.len());
        if found < expected {
            return Err(Fault::Short { expected, found });
        }
        let mut fields = [0_u64; FIELDS];
        for (field, bytes) in fields.iter_mut().zip(bytes.chunks_exact(self.word_len())) {
            *field = self.word(bytes);
        }
        let [inode, bdev, page, _, prot, pid, tstamp] = fields;
        let within = |field, low, high, found| match (low..=high).contains(&found) {
            true => Ok(found),
            false => Err(Fault::OutOfRange {
                field,
                low,
                high,
                found,
            }),
        };
        Ok(Entry {
            inode,
            bdev: within("bdev", 0, u32::MAX.into(), bdev)? as u32,
            page: within("offset", 0, PGT_PAGE_MASK, page)?,
            prot: within("prot", 0, MAX_PROT, prot)? as u8,
            pid: within("pid", 1, MAX_PID, pid)? as u32,
            tstamp,
        })
    }

    fn word(self, bytes: &[u8]) -> u64 {
        let byte = |sum: u64, b: &u8| sum << 8 | u64::from(*b);
        match self.order {
            ByteOrder::Little => bytes.iter().rev().fold(0, byte),
            ByteOrder::Big => bytes.iter().fold(0, byte),
        }
    }
}

/// What backs a page: a file of a device, or one process's anonymous memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Backing {
    File { bdev: u32, inode: u64 },
    Anonymous { pid: u32 },
}

/// Turns the entries of one trace into records, in order.
#[derive(Debug, Clone)]
pub struct Decoder {
    layout: Layout,
    objects: HashMap<Backing, u32>,
    processes: HashSet<u32>,
    /// Ticks so far, wraps included, and the last tstamp.
    ticks: Option<(i128, u64)>,
}

impl Decoder {
    /// Starts before the first entry.
    #[must_use]
    pub fn new(layout: Layout) -> Decoder {
        Decoder {
            layout,
            objects: HashMap::new(),
            processes: HashSet::new(),
            ticks: None,
        }
    }

    /// Decodes the entry at the beginning of `bytes`: gives its reference, and before it appends to `names` the records
    /// of the process and the object that no earlier entry named. Stamps hold the time; whoever writes the records
    /// somewhere numbers them.
    ///
    /// # Errors
    /// The entry cannot be one. Nothing was appended; the next entry begins [`Layout::entry_len`] bytes further on.
    pub fn entry(&mut self, bytes: &[u8], names: &mut Vec<Record>) -> Result<PageRef, Fault> {
        let e = self.layout.entry(bytes)?;
        let stamp = Stamp {
            time_ns: self.time_ns(e.tstamp),
            ..Stamp::default()
        };
        if self.processes.insert(e.pid) {
            names.push(Record::Process(process(stamp, e.pid)));
        }
        let backing = match e.inode {
            0 => Backing::Anonymous { pid: e.pid },
            inode => Backing::File {
                bdev: e.bdev,
                inode,
            },
        };
        // Nobody has 2^32 objects: the file would have more than 100 GB of first uses.
        let next = u32::try_from(self.objects.len() + 1).unwrap_or(u32::MAX);
        let object = *self.objects.entry(backing).or_insert_with(|| {
            names.push(Record::Object(object(stamp, next, backing, e.pid)));
            next
        });
        Ok(PageRef {
            stamp,
            tgid: e.pid,
            tid: e.pid,
            uid: 0,
            object,
            addr: match backing {
                Backing::Anonymous { .. } => e.page << 12,
                Backing::File { .. } => 0,
            },
            ip: 0,
            page: e.page,
            page_order: 0,
            event: Event::Fault,
            access: match e.prot {
                p if p & 4 != 0 => Access::Exec,
                p if p & 2 != 0 => Access::Write,
                p if p & 1 != 0 => Access::Read,
                _ => Access::Unknown,
            },
            major: Some(false),
            kernel: false,
            gup: false,
            present: false,
        })
    }

    /// The first tstamp is taken as it is; the others by their distance from the one before, which may be negative.
    fn time_ns(&mut self, tstamp: u64) -> u64 {
        let ticks = match self.ticks {
            None => i128::from(tstamp),
            Some((ticks, last)) => {
                let step = tstamp.wrapping_sub(last);
                ticks
                    + match self.layout.wide {
                        true => i128::from(step as i64),
                        false => i128::from(step as u32 as i32),
                    }
            }
        };
        self.ticks = Some((ticks, tstamp));
        let ns = ticks.saturating_mul(TICK_NS);
        // UTC has 63 bits; what is beyond is garbage, and as far away as can be told.
        ns.clamp(0, i64::MAX.into()) as u64
    }
}

fn process(stamp: Stamp, pid: u32) -> Process {
    Process {
        stamp,
        tgid: pid,
        ppid: 0,
        uid: 0,
        gid: 0,
        start_ns: stamp.time_ns,
        start_boot_ns: 0,
        attached: true,
        forked: false,
        execed: false,
        detached: false,
        comm: String::new(),
        exe: None,
        cwd: None,
        cgroup: None,
    }
}

fn object(stamp: Stamp, object: u32, backing: Backing, pid: u32) -> Object {
    let (kind, bdev, ino) = match backing {
        Backing::File { bdev, inode } => (ObjectKind::File, bdev, inode),
        Backing::Anonymous { .. } => (ObjectKind::Anon, 0, 0),
    };
    Object {
        stamp,
        object,
        tgid: pid,
        dev_major: bdev >> 20,
        dev_minor: bdev & 0xf_ffff,
        ino,
        generation: 0,
        kind,
        path: None,
        deleted: false,
        truncated: false,
    }
}
