//! What a decoded record says, in plain native types, whatever wire version and byte order it came in.
//!
//! There is no catch-all arm on [`Record`] anywhere: whoever adds a kind is told by the compiler where it matters.

/// Where a record stands in its recording: every record begins with this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Stamp {
    /// CPU that wrote the record.
    pub cpu: u16,
    /// Position in that CPU's channel, from 0; a lost record consumes its number too.
    pub seq: u64,
    /// When, in nanoseconds of CLOCK_MONOTONIC.
    pub time_ns: u64,
}

/// One record of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// One observed use of a page.
    Ref(PageRef),
    /// What a process is from now on.
    Process(Process),
    /// A stretch of address space backed by one object.
    Mapping(Mapping),
    /// What backs pages: a file, or anonymous memory.
    Object(Object),
    /// A process ended.
    Exit(Exit),
    /// Records were lost here.
    Lost(Lost),
    /// What is recorded changed.
    Level(LevelChange),
    /// One pass of the cleaner.
    Clean(CleanPass),
    /// The clocks, read together.
    Clock(Clock),
    /// How pages are made to fault again changed.
    Policy(PolicyChange),
    /// An address space changed.
    Map(MapChange),
    /// A fault mapped neighbours, too.
    Around(Around),
    /// A page's time in the active-PTE FIFO is over.
    Active(ActivePage),
}

impl Record {
    /// Where the record stands in its recording.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        match self {
            Record::Ref(r) => r.stamp,
            Record::Process(r) => r.stamp,
            Record::Mapping(r) => r.stamp,
            Record::Object(r) => r.stamp,
            Record::Exit(r) => r.stamp,
            Record::Lost(r) => r.stamp,
            Record::Level(r) => r.stamp,
            Record::Clean(r) => r.stamp,
            Record::Clock(r) => r.stamp,
            Record::Policy(r) => r.stamp,
            Record::Map(r) => r.stamp,
            Record::Around(r) => r.stamp,
            Record::Active(r) => r.stamp,
        }
    }

    /// The kind's name in lower case, as shown to people.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Record::Ref(_) => "ref",
            Record::Process(_) => "process",
            Record::Mapping(_) => "mapping",
            Record::Object(_) => "object",
            Record::Exit(_) => "exit",
            Record::Lost(_) => "lost",
            Record::Level(_) => "level",
            Record::Clean(_) => "clean",
            Record::Clock(_) => "clock",
            Record::Policy(_) => "policy",
            Record::Map(_) => "map",
            Record::Around(_) => "around",
            Record::Active(_) => "active",
        }
    }
}

/// One page reference: one observed use of a page, or (for `insert` and `evict`) a page-cache event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PageRef {
    /// Where the record stands.
    pub stamp: Stamp,
    /// Process (thread-group id), initial pid namespace; with `tid` and `uid` 0 where a page left the page cache while
    /// an untraced process ran.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// Real uid of the thread.
    pub uid: u32,
    /// [`Object::object`] of what backs the page.
    pub object: u32,
    /// Virtual address touched; 0 for page-cache events.
    pub addr: u64,
    /// Instruction pointer; 0 where there is none.
    pub ip: u64,
    /// Page index in the object, in base pages.
    pub page: u64,
    /// Order of the page: 0 = base page, 9 = 2 MiB.
    pub page_order: u8,
    /// What was observed.
    pub event: Event,
    /// How the page was used.
    pub access: Access,
    /// Whether the fault needed I/O; `None` where nobody can say (page-cache events).
    pub major: Option<bool>,
    /// Touched by the kernel on the process's behalf.
    pub kernel: bool,
    /// Pinned by get_user_pages: there were no registers to read.
    pub gup: bool,
    /// The page was mapped and present: a write to a read-only entry.
    pub present: bool,
}

/// What a process is from `stamp.time_ns` on, until its next `Process` or its [`Exit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Where the record stands.
    pub stamp: Stamp,
    /// Thread-group id.
    pub tgid: u32,
    /// Thread-group id of the parent.
    pub ppid: u32,
    /// Real uid.
    pub uid: u32,
    /// Real gid.
    pub gid: u32,
    /// Start of the process, CLOCK_MONOTONIC ns.
    pub start_ns: u64,
    /// Start of the process, CLOCK_BOOTTIME ns; with `tgid` it tells incarnations of a reused pid apart.
    pub start_boot_ns: u64,
    /// It existed before it was traced.
    pub attached: bool,
    /// It was born of a traced process.
    pub forked: bool,
    /// It called exec.
    pub execed: bool,
    /// It is not traced any more from here on, and lives on.
    pub detached: bool,
    /// Command name, at most 16 bytes.
    pub comm: String,
    /// Path of the executable.
    pub exe: Option<String>,
    /// Working directory.
    pub cwd: Option<String>,
    /// Path of the cgroup (v2).
    pub cgroup: Option<String>,
}

/// A stretch of address space backed by one object, as first seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// Where the record stands.
    pub stamp: Stamp,
    /// Process it belongs to.
    pub tgid: u32,
    /// [`Object::object`] behind it.
    pub object: u32,
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// Page index in the object at `start`.
    pub page: u64,
    /// PROT_READ.
    pub read: bool,
    /// PROT_WRITE.
    pub write: bool,
    /// PROT_EXEC.
    pub exec: bool,
    /// MAP_SHARED.
    pub shared: bool,
}

/// What backs pages. Its identity is (device, inode, generation) for files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Where the record stands.
    pub stamp: Stamp,
    /// Its short name in this recording, from 1.
    pub object: u32,
    /// Owner of anonymous memory; first user of a file.
    pub tgid: u32,
    /// Major number of the file system's device; 0 for anonymous memory.
    pub dev_major: u32,
    /// Minor number of the file system's device.
    pub dev_minor: u32,
    /// Inode number.
    pub ino: u64,
    /// Inode generation.
    pub generation: u32,
    /// What it is.
    pub kind: ObjectKind,
    /// Path of the file when it was recorded.
    pub path: Option<String>,
    /// The file had no name left; `path` is its last.
    pub deleted: bool,
    /// The path was too long, its beginning is missing.
    pub truncated: bool,
}

/// A thread group ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Exit {
    /// Where the record stands.
    pub stamp: Stamp,
    /// The process.
    pub tgid: u32,
    /// As wait() gives it: status << 8, or the signal; [`Exit::UNKNOWN_CODE`] where nobody told.
    pub code: u32,
}

impl Exit {
    /// No process ends with this one: what perf does not tell.
    pub const UNKNOWN_CODE: u32 = u32::MAX;
}

/// Records of this CPU's channel were lost here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lost {
    /// Where the record stands.
    pub stamp: Stamp,
    /// How many.
    pub count: u64,
    /// Sequence number of the first (meaningful where the cause is [`LostCause::BufferFull`]).
    pub first_seq: u64,
    /// When the first was lost, CLOCK_MONOTONIC ns.
    pub first_ns: u64,
    /// When the last was lost, CLOCK_MONOTONIC ns.
    pub last_ns: u64,
    /// The channel they are missing from.
    pub channel: Channel,
    /// Why.
    pub cause: LostCause,
}

/// What is recorded changed: at start, at a switch, and (to [`Level::Off`]) at stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LevelChange {
    /// Where the record stands.
    pub stamp: Stamp,
    /// Level before.
    pub from: Level,
    /// Level from now on.
    pub to: Level,
    /// Period of the cleaner in ms; 0: off.
    pub clean_ms: u32,
}

/// One pass of the cleaner over one address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CleanPass {
    /// Where the record stands.
    pub stamp: Stamp,
    /// The process.
    pub tgid: u32,
    /// Number of the pass, from 1.
    pub pass: u32,
    /// Begin, CLOCK_MONOTONIC ns.
    pub start_ns: u64,
    /// End, CLOCK_MONOTONIC ns.
    pub end_ns: u64,
    /// Present page-table entries seen.
    pub scanned: u64,
    /// Entries made to fault at their next touch.
    pub cleaned: u64,
}

/// The clocks, read together: what ties CLOCK_MONOTONIC to UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Clock {
    /// Where the record stands.
    pub stamp: Stamp,
    /// CLOCK_MONOTONIC, ns.
    pub monotonic_ns: u64,
    /// UTC, ns since 1970.
    pub realtime_ns: u64,
    /// CLOCK_BOOTTIME, ns.
    pub boottime_ns: u64,
}

/// How pages are made to fault again, and how references are kept: at start and at a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PolicyChange {
    /// Where the record stands.
    pub stamp: Stamp,
    /// The policy from now on.
    pub policy: Policy,
    /// Page order of huge pages: 0 = split to base pages, 9 = left whole.
    pub grain: u8,
    /// The refs channel keeps the newest records, not the oldest.
    pub overwrite: bool,
    /// [`Policy::Timer`]: its period in ms.
    pub clean_ms: u32,
    /// [`Policy::Fifo`]: pages that may be active in one address space.
    pub fifo: u32,
}

/// An address space changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MapChange {
    /// Where the record stands.
    pub stamp: Stamp,
    /// The process.
    pub tgid: u32,
    /// The thread that did it.
    pub tid: u32,
    /// [`Object::object`] behind it; 0: not named so far.
    pub object: u32,
    /// What was done.
    pub op: MapOp,
    /// PROT_READ.
    pub read: bool,
    /// PROT_WRITE.
    pub write: bool,
    /// PROT_EXEC.
    pub exec: bool,
    /// MAP_SHARED.
    pub shared: bool,
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// Page index in the object at `start`.
    pub page: u64,
    /// [`MapOp::Mremap`]: first address before; otherwise 0.
    pub old_start: u64,
    /// [`MapOp::Mremap`]: address behind the last before; otherwise 0.
    pub old_end: u64,
}

/// A fault on a page of a file mapped its neighbours in this range, too, as far as they were in memory: their first
/// touches do not fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Around {
    /// Where the record stands.
    pub stamp: Stamp,
    /// The process.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// [`Object::object`] of the file.
    pub object: u32,
    /// Length of the range in pages.
    pub pages: u32,
    /// Where its first page is mapped.
    pub addr: u64,
    /// Page index in the object at `addr`.
    pub page: u64,
    /// The address that was touched.
    pub touched: u64,
}

/// A page's time in the active-PTE FIFO is over: its next touch faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ActivePage {
    /// Where the record stands.
    pub stamp: Stamp,
    /// The process.
    pub tgid: u32,
    /// [`Object::object`] of what backs the page.
    pub object: u32,
    /// Address of the page.
    pub addr: u64,
    /// Page index in the object, in base pages.
    pub page: u64,
    /// Order of the page: 0 = base page, 9 = 2 MiB.
    pub page_order: u8,
    /// When it became active, CLOCK_MONOTONIC ns.
    pub since_ns: u64,
    /// Written to while it was active.
    pub dirtied: bool,
    /// Touched again after its first use.
    pub rereferenced: bool,
    /// Unmapped or reclaimed before its turn: nothing else is known.
    pub gone: bool,
}

/// An enum whose values have fixed names, the ones that appear in SQL.
macro_rules! named_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every value, in the order of the wire format.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The name as it appears in SQL and on the command line.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

named_enum! {
    /// What was observed of a page.
    Event {
        /// Not present before, or write-protected.
        Fault = "fault",
        /// Made to fault by the cleaner or the FIFO.
        Retouch = "retouch",
        /// Page-cache look-up by read().
        Lookup = "lookup",
        /// The page entered the page cache.
        Insert = "insert",
        /// The page left the page cache.
        Evict = "evict",
    }
}

impl Event {
    /// Whether a page was used; otherwise it entered or left the page cache.
    #[must_use]
    pub fn is_reference(self) -> bool {
        match self {
            Event::Fault | Event::Retouch | Event::Lookup => true,
            Event::Insert | Event::Evict => false,
        }
    }
}

named_enum! {
    /// How a page was used.
    Access {
        /// Nobody can say.
        Unknown = "unknown",
        /// Read.
        Read = "read",
        /// Written.
        Write = "write",
        /// Executed.
        Exec = "exec",
    }
}

named_enum! {
    /// What an object is.
    ObjectKind {
        /// A file.
        File = "file",
        /// One process's anonymous memory.
        Anon = "anon",
        /// Its brk area.
        Heap = "heap",
        /// Its main thread's stack.
        Stack = "stack",
        /// Shared anonymous memory, memfd, SysV.
        Shmem = "shmem",
        /// Huge pages of hugetlbfs.
        Hugetlb = "hugetlb",
        /// The vdso and its data.
        Vdso = "vdso",
        /// Anything else.
        Other = "other",
    }
}

named_enum! {
    /// One of the two relay channels of a CPU.
    Channel {
        /// Page references, and what happens around them.
        Refs = "refs",
        /// What things are, and the state of the recorder.
        Names = "names",
    }
}

named_enum! {
    /// Why records were lost.
    LostCause {
        /// The reader was too slow.
        BufferFull = "buffer_full",
        /// The hook itself could not run.
        ProbeMissed = "probe_missed",
        /// No memory for the tables of names.
        NoMemory = "no_memory",
    }
}

named_enum! {
    /// How much is recorded.
    Level {
        /// Nothing.
        Off = "off",
        /// First-touch faults.
        Light = "light",
        /// And re-references, mapping life, fault-around.
        Rich = "rich",
        /// And page-cache look-ups, inserts, evictions.
        Full = "full",
    }
}

named_enum! {
    /// How pages that are present are made to fault again.
    Policy {
        /// Not at all: first touches only.
        None = "none",
        /// All of them, once a period.
        Timer = "timer",
        /// All but the last touched ones.
        Fifo = "fifo",
    }
}

named_enum! {
    /// What was done to an address space.
    MapOp {
        /// Mapped: mmap, shmat, a program's segments at exec.
        Mmap = "mmap",
        /// Unmapped: munmap, shmdt, what a new mapping replaced.
        Munmap = "munmap",
        /// Moved or resized.
        Mremap = "mremap",
        /// The heap, after brk().
        Brk = "brk",
        /// A stack, after it has grown.
        Stack = "stack",
        /// What may be done with it changed.
        Mprotect = "mprotect",
    }
}
