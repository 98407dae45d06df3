//! Wire version 1: the mirror of `kmod/pgtrace_api.h`. `layout_test` compares every size, offset and constant.

mod encode;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub(super) use encode::encode;

use super::Fault;
use crate::record::{
    Access, ActivePage, Around, Channel, CleanPass, Clock, Event, Exit, Level, LevelChange, Lost,
    LostCause, MapChange, MapOp, Mapping, Object, ObjectKind, PageRef, Policy, PolicyChange,
    Process, Record, Stamp,
};

/// Turns a value read in the other byte order into the native one.
trait Swap: Sized {
    fn swapped(self) -> Self;
}

macro_rules! swap_int {
    ($($t:ty),+) => { $(impl Swap for $t {
        #[inline(always)]
        fn swapped(self) -> Self { self.swap_bytes() }
    })+ };
}
swap_int!(u8, u16, u32, u64);

impl<const N: usize> Swap for [u8; N] {
    #[inline(always)]
    fn swapped(self) -> Self {
        self
    }
}

/// Name, size and fields (name, offset, size) of a mirror struct, for the layout test.
#[cfg(test)]
pub(super) type Layout = (&'static str, usize, Vec<(&'static str, usize, usize)>);

/// A mirror struct with its byte swap and its layout, so that no field can be forgotten in either.
macro_rules! mirror {
    ($($cname:literal $name:ident { $($field:ident: $t:ty),+ $(,)? })+) => {
        $(
            #[repr(C)]
            #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
            pub(super) struct $name { $(pub(super) $field: $t),+ }

            impl Swap for $name {
                #[inline(always)]
                fn swapped(self) -> Self { Self { $($field: self.$field.swapped()),+ } }
            }
        )+

        #[cfg(test)]
        pub(super) fn layouts() -> Vec<Layout> {
            vec![$((
                $cname,
                size_of::<$name>(),
                vec![$((stringify!($field), std::mem::offset_of!($name, $field), size_of::<$t>())),+],
            )),+]
        }
    };
}

mirror! {
    "pgt_header" Header { magic: u8, version: u8, kind: u8, flags: u8, len: u16, cpu: u16, seq: u64, time_ns: u64 }
    "pgt_ref" RefRecord {
        h: Header, tgid: u32, tid: u32, uid: u32, object: u32, addr: u64, ip: u64, page: u64,
    }
    "pgt_process" ProcessRecord {
        h: Header, tgid: u32, ppid: u32, uid: u32, gid: u32, start_ns: u64, start_boot_ns: u64, comm: [u8; 16],
        exe_len: u16, cwd_len: u16, cgroup_len: u16, reserved: u16,
    }
    "pgt_mapping" MappingRecord {
        h: Header, tgid: u32, object: u32, start: u64, end: u64, page: u64, prot: u32, reserved: u32,
    }
    "pgt_object" ObjectRecord {
        h: Header, object: u32, tgid: u32, dev_major: u32, dev_minor: u32, ino: u64, generation: u32,
        object_kind: u8, reserved: u8, path_len: u16,
    }
    "pgt_exit" ExitRecord { h: Header, tgid: u32, code: u32 }
    "pgt_lost" LostRecord {
        h: Header, count: u64, first_seq: u64, first_ns: u64, last_ns: u64, channel: u16, cause: u16, reserved: u32,
    }
    "pgt_level" LevelRecord { h: Header, from: u8, to: u8, reserved: u16, clean_ms: u32 }
    "pgt_policy" PolicyRecord {
        h: Header, policy: u8, grain: u8, overwrite: u8, reserved: u8, clean_ms: u32, fifo: u32, reserved2: u32,
    }
    "pgt_map" MapRecord {
        h: Header, tgid: u32, tid: u32, object: u32, op: u8, prot: u8, reserved: u16, start: u64, end: u64, page: u64,
        old_start: u64, old_end: u64,
    }
    "pgt_around" AroundRecord {
        h: Header, tgid: u32, tid: u32, object: u32, pages: u32, addr: u64, page: u64, touched: u64,
    }
    "pgt_active" ActiveRecord {
        h: Header, tgid: u32, object: u32, addr: u64, page: u64, since_ns: u64, reserved: u64,
    }
    "pgt_clean" CleanRecord {
        h: Header, tgid: u32, pass: u32, start_ns: u64, end_ns: u64, scanned: u64, cleaned: u64,
    }
    "pgt_clock" ClockRecord { h: Header, monotonic_ns: u64, realtime_ns: u64, boottime_ns: u64 }
}

/// The header's constants under the header's names, and a table of them for the layout test.
macro_rules! constants {
    ($($name:ident: $t:ty = $value:expr;)+) => {
        $(
            #[allow(dead_code, reason = "the mirror is whole: the layout test compares every constant")]
            pub(super) const $name: $t = $value;
        )+
        #[cfg(test)]
        pub(super) fn constant_values() -> Vec<(&'static str, u64)> {
            vec![$((stringify!($name), u64::from($name))),+]
        }
    };
}

constants! {
    PGT_MAGIC: u8 = 0xa7;
    PGT_VERSION: u8 = 1;
    PGT_KIND_REF: u8 = 1;
    PGT_KIND_PROCESS: u8 = 2;
    PGT_KIND_MAPPING: u8 = 3;
    PGT_KIND_OBJECT: u8 = 4;
    PGT_KIND_EXIT: u8 = 5;
    PGT_KIND_LOST: u8 = 6;
    PGT_KIND_LEVEL: u8 = 7;
    PGT_KIND_CLEAN: u8 = 8;
    PGT_KIND_CLOCK: u8 = 9;
    PGT_KIND_POLICY: u8 = 10;
    PGT_KIND_MAP: u8 = 11;
    PGT_KIND_AROUND: u8 = 12;
    PGT_KIND_ACTIVE: u8 = 13;
    PGT_REF_MAJOR: u8 = 0x01;
    PGT_REF_KERNEL: u8 = 0x02;
    PGT_REF_GUP: u8 = 0x04;
    PGT_REF_PRESENT: u8 = 0x08;
    PGT_PAGE_BITS: u32 = 52;
    PGT_PAGE_MASK: u64 = 0x000f_ffff_ffff_ffff;
    PGT_ORDER_SHIFT: u32 = 52;
    PGT_ORDER_MASK: u64 = 0x1f;
    PGT_EVENT_SHIFT: u32 = 57;
    PGT_EVENT_MASK: u64 = 0xf;
    PGT_ACCESS_SHIFT: u32 = 61;
    PGT_ACCESS_MASK: u64 = 0x3;
    PGT_EVENT_FAULT: u8 = 1;
    PGT_EVENT_RETOUCH: u8 = 2;
    PGT_EVENT_LOOKUP: u8 = 3;
    PGT_EVENT_INSERT: u8 = 4;
    PGT_EVENT_EVICT: u8 = 5;
    PGT_ACCESS_UNKNOWN: u8 = 0;
    PGT_ACCESS_READ: u8 = 1;
    PGT_ACCESS_WRITE: u8 = 2;
    PGT_ACCESS_EXEC: u8 = 3;
    PGT_PROCESS_ATTACHED: u8 = 0x01;
    PGT_PROCESS_FORKED: u8 = 0x02;
    PGT_PROCESS_EXECED: u8 = 0x04;
    PGT_PROCESS_DETACHED: u8 = 0x08;
    PGT_PROT_READ: u32 = 0x1;
    PGT_PROT_WRITE: u32 = 0x2;
    PGT_PROT_EXEC: u32 = 0x4;
    PGT_PROT_SHARED: u32 = 0x8;
    PGT_OBJECT_FILE: u8 = 1;
    PGT_OBJECT_ANON: u8 = 2;
    PGT_OBJECT_HEAP: u8 = 3;
    PGT_OBJECT_STACK: u8 = 4;
    PGT_OBJECT_SHMEM: u8 = 5;
    PGT_OBJECT_HUGETLB: u8 = 6;
    PGT_OBJECT_VDSO: u8 = 7;
    PGT_OBJECT_OTHER: u8 = 8;
    PGT_OBJECT_DELETED: u8 = 0x01;
    PGT_OBJECT_TRUNCATED: u8 = 0x02;
    PGT_CHANNEL_REFS: u16 = 1;
    PGT_CHANNEL_NAMES: u16 = 2;
    PGT_LOST_BUFFER_FULL: u16 = 1;
    PGT_LOST_PROBE_MISSED: u16 = 2;
    PGT_LOST_NO_MEMORY: u16 = 3;
    PGT_LEVEL_OFF: u8 = 0;
    PGT_LEVEL_LIGHT: u8 = 1;
    PGT_LEVEL_RICH: u8 = 2;
    PGT_LEVEL_FULL: u8 = 3;
    PGT_POLICY_NONE: u8 = 0;
    PGT_POLICY_TIMER: u8 = 1;
    PGT_POLICY_FIFO: u8 = 2;
    PGT_MAP_MMAP: u8 = 1;
    PGT_MAP_MUNMAP: u8 = 2;
    PGT_MAP_MREMAP: u8 = 3;
    PGT_MAP_BRK: u8 = 4;
    PGT_MAP_STACK: u8 = 5;
    PGT_MAP_MPROTECT: u8 = 6;
    PGT_ACTIVE_DIRTIED: u8 = 0x01;
    PGT_ACTIVE_REREFERENCED: u8 = 0x02;
    PGT_ACTIVE_GONE: u8 = 0x04;
}

/// Reads a record's header; `None` when there are fewer bytes than one.
#[inline(always)]
pub(super) fn header(bytes: &[u8], swap: bool) -> Option<Header> {
    let (header, _) = Header::read_from_prefix(bytes).ok()?;
    Some(if swap { header.swapped() } else { header })
}

/// Decodes one whole record of known framing; `Ok(None)`: its kind is not of this version.
#[inline]
pub(super) fn decode(bytes: &[u8], swap: bool) -> Result<Option<Record>, Fault> {
    let kind = bytes.get(2).copied().unwrap_or_default();
    if kind == PGT_KIND_REF {
        return page_ref(bytes, swap).map(|r| Some(Record::Ref(r)));
    }
    decode_name(kind, bytes, swap)
}

#[inline(always)]
fn fixed<T: FromBytes + Swap>(kind: u8, bytes: &[u8], swap: bool) -> Result<(T, &[u8]), Fault> {
    match T::read_from_prefix(bytes) {
        Ok((fixed, tail)) => Ok((if swap { fixed.swapped() } else { fixed }, tail)),
        Err(_) => Err(Fault::ShortRecord {
            kind,
            expected: size_of::<T>() as u64,
            found: bytes.len() as u64,
        }),
    }
}

#[inline(always)]
fn stamp(h: &Header) -> Stamp {
    Stamp {
        cpu: h.cpu,
        seq: h.seq,
        time_ns: h.time_ns,
    }
}

#[cold]
fn out_of_range(field: &'static str, low: u32, high: u32, found: u32) -> Fault {
    Fault::OutOfRange {
        field,
        low,
        high,
        found,
    }
}

/// The order in a packed page.
#[inline(always)]
fn page_order(page: u64) -> u8 {
    ((page >> PGT_ORDER_SHIFT) & PGT_ORDER_MASK) as u8
}

/// Length of a page reference.
pub(super) const REF_LEN: usize = size_of::<RefRecord>();

/// Whether a record of [`REF_LEN`] bytes stands there that is a page reference of this version.
#[inline(always)]
pub(super) fn is_page_ref(bytes: &[u8; REF_LEN], swap: bool) -> bool {
    // Magic, version, kind, flags, length, CPU: all but the flags and the CPU must be these.
    const LOOK: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0, 0xff, 0xff, 0, 0]);
    let len = if swap {
        (REF_LEN as u16).swap_bytes()
    } else {
        REF_LEN as u16
    }
    .to_ne_bytes();
    let want = u64::from_ne_bytes([
        PGT_MAGIC,
        PGT_VERSION,
        PGT_KIND_REF,
        0,
        len[0],
        len[1],
        0,
        0,
    ]);
    bytes.first_chunk().map(|h| u64::from_ne_bytes(*h) & LOOK) == Some(want)
}

#[inline(always)]
pub(super) fn page_ref(bytes: &[u8], swap: bool) -> Result<PageRef, Fault> {
    let (r, _) = fixed::<RefRecord>(PGT_KIND_REF, bytes, swap)?;
    let event = match ((r.page >> PGT_EVENT_SHIFT) & PGT_EVENT_MASK) as u8 {
        PGT_EVENT_FAULT => Event::Fault,
        PGT_EVENT_RETOUCH => Event::Retouch,
        PGT_EVENT_LOOKUP => Event::Lookup,
        PGT_EVENT_INSERT => Event::Insert,
        PGT_EVENT_EVICT => Event::Evict,
        other => return Err(out_of_range("event", 1, 5, other.into())),
    };
    let access = match ((r.page >> PGT_ACCESS_SHIFT) & PGT_ACCESS_MASK) as u8 {
        PGT_ACCESS_READ => Access::Read,
        PGT_ACCESS_WRITE => Access::Write,
        PGT_ACCESS_EXEC => Access::Exec,
        _ => Access::Unknown,
    };
    let flag = |bit| r.h.flags & bit != 0;
    let major = match event {
        Event::Fault | Event::Retouch => Some(flag(PGT_REF_MAJOR)),
        // Not a fault: only a set flag says something.
        Event::Lookup | Event::Insert | Event::Evict => flag(PGT_REF_MAJOR).then_some(true),
    };
    Ok(PageRef {
        stamp: stamp(&r.h),
        tgid: r.tgid,
        tid: r.tid,
        uid: r.uid,
        object: r.object,
        addr: r.addr,
        ip: r.ip,
        page: r.page & PGT_PAGE_MASK,
        page_order: page_order(r.page),
        event,
        access,
        major,
        kernel: flag(PGT_REF_KERNEL),
        gup: flag(PGT_REF_GUP),
        present: flag(PGT_REF_PRESENT),
    })
}

/// Everything but page references: rarer, and some of it allocates, so it stays out of the hot loop.
#[inline(never)]
fn decode_name(kind: u8, bytes: &[u8], swap: bool) -> Result<Option<Record>, Fault> {
    let record = match kind {
        PGT_KIND_PROCESS => Record::Process(process(bytes, swap)?),
        PGT_KIND_MAPPING => {
            let (r, _) = fixed::<MappingRecord>(kind, bytes, swap)?;
            Record::Mapping(Mapping {
                stamp: stamp(&r.h),
                tgid: r.tgid,
                object: r.object,
                start: r.start,
                end: r.end,
                page: r.page,
                read: r.prot & PGT_PROT_READ != 0,
                write: r.prot & PGT_PROT_WRITE != 0,
                exec: r.prot & PGT_PROT_EXEC != 0,
                shared: r.prot & PGT_PROT_SHARED != 0,
            })
        }
        PGT_KIND_OBJECT => Record::Object(object(bytes, swap)?),
        PGT_KIND_EXIT => {
            let (r, _) = fixed::<ExitRecord>(kind, bytes, swap)?;
            Record::Exit(Exit {
                stamp: stamp(&r.h),
                tgid: r.tgid,
                code: r.code,
            })
        }
        PGT_KIND_LOST => Record::Lost(lost(bytes, swap)?),
        PGT_KIND_LEVEL => {
            let (r, _) = fixed::<LevelRecord>(kind, bytes, swap)?;
            Record::Level(LevelChange {
                stamp: stamp(&r.h),
                from: level("level before", r.from)?,
                to: level("level", r.to)?,
                clean_ms: r.clean_ms,
            })
        }
        PGT_KIND_CLEAN => {
            let (r, _) = fixed::<CleanRecord>(kind, bytes, swap)?;
            Record::Clean(CleanPass {
                stamp: stamp(&r.h),
                tgid: r.tgid,
                pass: r.pass,
                start_ns: r.start_ns,
                end_ns: r.end_ns,
                scanned: r.scanned,
                cleaned: r.cleaned,
            })
        }
        PGT_KIND_CLOCK => {
            let (r, _) = fixed::<ClockRecord>(kind, bytes, swap)?;
            Record::Clock(Clock {
                stamp: stamp(&r.h),
                monotonic_ns: r.monotonic_ns,
                realtime_ns: r.realtime_ns,
                boottime_ns: r.boottime_ns,
            })
        }
        PGT_KIND_POLICY => Record::Policy(policy(bytes, swap)?),
        PGT_KIND_MAP => Record::Map(map_change(bytes, swap)?),
        PGT_KIND_AROUND => {
            let (r, _) = fixed::<AroundRecord>(kind, bytes, swap)?;
            Record::Around(Around {
                stamp: stamp(&r.h),
                tgid: r.tgid,
                tid: r.tid,
                object: r.object,
                pages: r.pages,
                addr: r.addr,
                page: r.page,
                touched: r.touched,
            })
        }
        PGT_KIND_ACTIVE => {
            let (r, _) = fixed::<ActiveRecord>(kind, bytes, swap)?;
            Record::Active(ActivePage {
                stamp: stamp(&r.h),
                tgid: r.tgid,
                object: r.object,
                addr: r.addr,
                page: r.page & PGT_PAGE_MASK,
                page_order: page_order(r.page),
                since_ns: r.since_ns,
                dirtied: r.h.flags & PGT_ACTIVE_DIRTIED != 0,
                rereferenced: r.h.flags & PGT_ACTIVE_REREFERENCED != 0,
                gone: r.h.flags & PGT_ACTIVE_GONE != 0,
            })
        }
        _ => return Ok(None),
    };
    Ok(Some(record))
}

fn policy(bytes: &[u8], swap: bool) -> Result<PolicyChange, Fault> {
    let (r, _) = fixed::<PolicyRecord>(PGT_KIND_POLICY, bytes, swap)?;
    Ok(PolicyChange {
        stamp: stamp(&r.h),
        policy: match r.policy {
            PGT_POLICY_NONE => Policy::None,
            PGT_POLICY_TIMER => Policy::Timer,
            PGT_POLICY_FIFO => Policy::Fifo,
            other => return Err(out_of_range("policy", 0, 2, other.into())),
        },
        grain: r.grain,
        overwrite: r.overwrite != 0,
        clean_ms: r.clean_ms,
        fifo: r.fifo,
    })
}

fn map_change(bytes: &[u8], swap: bool) -> Result<MapChange, Fault> {
    let (r, _) = fixed::<MapRecord>(PGT_KIND_MAP, bytes, swap)?;
    let prot = |bit| u32::from(r.prot) & bit != 0;
    Ok(MapChange {
        stamp: stamp(&r.h),
        tgid: r.tgid,
        tid: r.tid,
        object: r.object,
        op: match r.op {
            PGT_MAP_MMAP => MapOp::Mmap,
            PGT_MAP_MUNMAP => MapOp::Munmap,
            PGT_MAP_MREMAP => MapOp::Mremap,
            PGT_MAP_BRK => MapOp::Brk,
            PGT_MAP_STACK => MapOp::Stack,
            PGT_MAP_MPROTECT => MapOp::Mprotect,
            other => return Err(out_of_range("mapping operation", 1, 6, other.into())),
        },
        read: prot(PGT_PROT_READ),
        write: prot(PGT_PROT_WRITE),
        exec: prot(PGT_PROT_EXEC),
        shared: prot(PGT_PROT_SHARED),
        start: r.start,
        end: r.end,
        page: r.page,
        old_start: r.old_start,
        old_end: r.old_end,
    })
}

fn process(bytes: &[u8], swap: bool) -> Result<Process, Fault> {
    let (r, tail) = fixed::<ProcessRecord>(PGT_KIND_PROCESS, bytes, swap)?;
    let [exe, cwd, cgroup] = texts(tail, [r.exe_len, r.cwd_len, r.cgroup_len])?;
    let comm = r.comm.split(|&b| b == 0).next().unwrap_or_default();
    Ok(Process {
        stamp: stamp(&r.h),
        tgid: r.tgid,
        ppid: r.ppid,
        uid: r.uid,
        gid: r.gid,
        start_ns: r.start_ns,
        start_boot_ns: r.start_boot_ns,
        attached: r.h.flags & PGT_PROCESS_ATTACHED != 0,
        forked: r.h.flags & PGT_PROCESS_FORKED != 0,
        execed: r.h.flags & PGT_PROCESS_EXECED != 0,
        detached: r.h.flags & PGT_PROCESS_DETACHED != 0,
        comm: String::from_utf8_lossy(comm).into_owned(),
        exe,
        cwd,
        cgroup,
    })
}

fn object(bytes: &[u8], swap: bool) -> Result<Object, Fault> {
    let (r, tail) = fixed::<ObjectRecord>(PGT_KIND_OBJECT, bytes, swap)?;
    let kind = match r.object_kind {
        PGT_OBJECT_FILE => ObjectKind::File,
        PGT_OBJECT_ANON => ObjectKind::Anon,
        PGT_OBJECT_HEAP => ObjectKind::Heap,
        PGT_OBJECT_STACK => ObjectKind::Stack,
        PGT_OBJECT_SHMEM => ObjectKind::Shmem,
        PGT_OBJECT_HUGETLB => ObjectKind::Hugetlb,
        PGT_OBJECT_VDSO => ObjectKind::Vdso,
        PGT_OBJECT_OTHER => ObjectKind::Other,
        other => return Err(out_of_range("object kind", 1, 8, other.into())),
    };
    let [path] = texts(tail, [r.path_len])?;
    Ok(Object {
        stamp: stamp(&r.h),
        object: r.object,
        tgid: r.tgid,
        dev_major: r.dev_major,
        dev_minor: r.dev_minor,
        ino: r.ino,
        generation: r.generation,
        kind,
        path,
        deleted: r.h.flags & PGT_OBJECT_DELETED != 0,
        truncated: r.h.flags & PGT_OBJECT_TRUNCATED != 0,
    })
}

fn lost(bytes: &[u8], swap: bool) -> Result<Lost, Fault> {
    let (r, _) = fixed::<LostRecord>(PGT_KIND_LOST, bytes, swap)?;
    Ok(Lost {
        stamp: stamp(&r.h),
        count: r.count,
        first_seq: r.first_seq,
        first_ns: r.first_ns,
        last_ns: r.last_ns,
        channel: match r.channel {
            PGT_CHANNEL_REFS => Channel::Refs,
            PGT_CHANNEL_NAMES => Channel::Names,
            other => return Err(out_of_range("channel", 1, 2, other.into())),
        },
        cause: match r.cause {
            PGT_LOST_BUFFER_FULL => LostCause::BufferFull,
            PGT_LOST_PROBE_MISSED => LostCause::ProbeMissed,
            PGT_LOST_NO_MEMORY => LostCause::NoMemory,
            other => return Err(out_of_range("cause of loss", 1, 3, other.into())),
        },
    })
}

fn level(field: &'static str, value: u8) -> Result<Level, Fault> {
    match value {
        PGT_LEVEL_OFF => Ok(Level::Off),
        PGT_LEVEL_LIGHT => Ok(Level::Light),
        PGT_LEVEL_RICH => Ok(Level::Rich),
        PGT_LEVEL_FULL => Ok(Level::Full),
        other => Err(out_of_range(field, 0, 3, other.into())),
    }
}

/// Cuts the texts behind a record's fixed part; length 0 means there is none.
fn texts<const N: usize>(tail: &[u8], lens: [u16; N]) -> Result<[Option<String>; N], Fault> {
    let expected: u64 = lens.iter().map(|&len| u64::from(len)).sum();
    if expected > tail.len() as u64 {
        return Err(Fault::TextPastEnd {
            expected,
            found: tail.len() as u64,
        });
    }
    let mut at = 0;
    Ok(lens.map(|len| {
        let text = tail.get(at..at + usize::from(len)).unwrap_or_default();
        at += text.len();
        (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
    }))
}
