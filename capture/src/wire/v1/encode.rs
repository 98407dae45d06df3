//! Records to bytes of wire version 1, in native byte order: for sources other than the module, and for tests.

use zerocopy::IntoBytes;

use super::*;
use crate::record::Record;

/// Longest record: the largest multiple of 8 that fits the length field.
const MAX_RECORD: usize = 65_528;

fn header_of(kind: u8, flags: u8, len: usize, s: Stamp) -> Header {
    Header {
        magic: PGT_MAGIC,
        version: PGT_VERSION,
        kind,
        flags,
        len: len as u16,
        cpu: s.cpu,
        seq: s.seq,
        time_ns: s.time_ns,
    }
}

fn flags(bits: &[(bool, u8)]) -> u8 {
    bits.iter()
        .fold(0, |sum, &(on, bit)| if on { sum | bit } else { sum })
}

/// Cuts texts so that record and padding fit [`MAX_RECORD`], the first ones first served.
fn fit<const N: usize>(fixed: usize, texts: [&Option<String>; N]) -> ([&[u8]; N], usize) {
    let mut room = MAX_RECORD - fixed;
    let cut = texts.map(|text| {
        let bytes = text.as_deref().unwrap_or_default().as_bytes();
        let bytes = bytes.get(..room).unwrap_or(bytes);
        room -= bytes.len();
        bytes
    });
    (cut, (MAX_RECORD - room).next_multiple_of(8))
}

fn push(out: &mut Vec<u8>, fixed: &[u8], texts: &[&[u8]], len: usize) {
    let begin = out.len();
    out.extend_from_slice(fixed);
    for text in texts {
        out.extend_from_slice(text);
    }
    out.resize(begin + len, 0);
}

/// A page index and its order as one number, see `pgt_ref.page`.
fn packed(page: u64, order: u8) -> u64 {
    (page & PGT_PAGE_MASK) | (u64::from(order) & PGT_ORDER_MASK) << PGT_ORDER_SHIFT
}

fn protection(read: bool, write: bool, exec: bool, shared: bool) -> u32 {
    let bits = [
        (read, PGT_PROT_READ),
        (write, PGT_PROT_WRITE),
        (exec, PGT_PROT_EXEC),
        (shared, PGT_PROT_SHARED),
    ];
    bits.iter().filter(|(on, _)| *on).map(|(_, bit)| bit).sum()
}

/// Appends a record in native byte order.
pub(in crate::wire) fn encode(record: &Record, out: &mut Vec<u8>) {
    match record {
        Record::Ref(r) => {
            let event = match r.event {
                Event::Fault => PGT_EVENT_FAULT,
                Event::Retouch => PGT_EVENT_RETOUCH,
                Event::Lookup => PGT_EVENT_LOOKUP,
                Event::Insert => PGT_EVENT_INSERT,
                Event::Evict => PGT_EVENT_EVICT,
            };
            let access = match r.access {
                Access::Unknown => PGT_ACCESS_UNKNOWN,
                Access::Read => PGT_ACCESS_READ,
                Access::Write => PGT_ACCESS_WRITE,
                Access::Exec => PGT_ACCESS_EXEC,
            };
            let set = flags(&[
                (r.major == Some(true), PGT_REF_MAJOR),
                (r.kernel, PGT_REF_KERNEL),
                (r.gup, PGT_REF_GUP),
                (r.present, PGT_REF_PRESENT),
            ]);
            let wire = RefRecord {
                h: header_of(PGT_KIND_REF, set, size_of::<RefRecord>(), r.stamp),
                tgid: r.tgid,
                tid: r.tid,
                uid: r.uid,
                object: r.object,
                addr: r.addr,
                ip: r.ip,
                page: packed(r.page, r.page_order)
                    | u64::from(event) << PGT_EVENT_SHIFT
                    | u64::from(access) << PGT_ACCESS_SHIFT,
            };
            out.extend_from_slice(wire.as_bytes());
        }
        Record::Process(r) => {
            let fixed = size_of::<ProcessRecord>();
            let ([exe, cwd, cgroup], len) = fit(fixed, [&r.exe, &r.cwd, &r.cgroup]);
            let mut comm = [0; 16];
            for (to, from) in comm.iter_mut().zip(r.comm.bytes()) {
                *to = from;
            }
            let set = flags(&[
                (r.attached, PGT_PROCESS_ATTACHED),
                (r.forked, PGT_PROCESS_FORKED),
                (r.execed, PGT_PROCESS_EXECED),
                (r.detached, PGT_PROCESS_DETACHED),
            ]);
            let wire = ProcessRecord {
                h: header_of(PGT_KIND_PROCESS, set, len, r.stamp),
                tgid: r.tgid,
                ppid: r.ppid,
                uid: r.uid,
                gid: r.gid,
                start_ns: r.start_ns,
                start_boot_ns: r.start_boot_ns,
                comm,
                exe_len: exe.len() as u16,
                cwd_len: cwd.len() as u16,
                cgroup_len: cgroup.len() as u16,
                reserved: 0,
            };
            push(out, wire.as_bytes(), &[exe, cwd, cgroup], len);
        }
        Record::Mapping(r) => {
            let wire = MappingRecord {
                h: header_of(PGT_KIND_MAPPING, 0, size_of::<MappingRecord>(), r.stamp),
                tgid: r.tgid,
                object: r.object,
                start: r.start,
                end: r.end,
                page: r.page,
                prot: protection(r.read, r.write, r.exec, r.shared),
                reserved: 0,
            };
            out.extend_from_slice(wire.as_bytes());
        }
        Record::Object(r) => {
            let object_kind = match r.kind {
                ObjectKind::File => PGT_OBJECT_FILE,
                ObjectKind::Anon => PGT_OBJECT_ANON,
                ObjectKind::Heap => PGT_OBJECT_HEAP,
                ObjectKind::Stack => PGT_OBJECT_STACK,
                ObjectKind::Shmem => PGT_OBJECT_SHMEM,
                ObjectKind::Hugetlb => PGT_OBJECT_HUGETLB,
                ObjectKind::Vdso => PGT_OBJECT_VDSO,
                ObjectKind::Other => PGT_OBJECT_OTHER,
            };
            let ([path], len) = fit(size_of::<ObjectRecord>(), [&r.path]);
            let set = flags(&[
                (r.deleted, PGT_OBJECT_DELETED),
                (r.truncated, PGT_OBJECT_TRUNCATED),
            ]);
            let wire = ObjectRecord {
                h: header_of(PGT_KIND_OBJECT, set, len, r.stamp),
                object: r.object,
                tgid: r.tgid,
                dev_major: r.dev_major,
                dev_minor: r.dev_minor,
                ino: r.ino,
                generation: r.generation,
                object_kind,
                reserved: 0,
                path_len: path.len() as u16,
            };
            push(out, wire.as_bytes(), &[path], len);
        }
        Record::Exit(r) => {
            let wire = ExitRecord {
                h: header_of(PGT_KIND_EXIT, 0, size_of::<ExitRecord>(), r.stamp),
                tgid: r.tgid,
                code: r.code,
            };
            out.extend_from_slice(wire.as_bytes());
        }
        Record::Lost(r) => {
            let wire = LostRecord {
                h: header_of(PGT_KIND_LOST, 0, size_of::<LostRecord>(), r.stamp),
                count: r.count,
                first_seq: r.first_seq,
                first_ns: r.first_ns,
                last_ns: r.last_ns,
                channel: match r.channel {
                    Channel::Refs => PGT_CHANNEL_REFS,
                    Channel::Names => PGT_CHANNEL_NAMES,
                },
                cause: match r.cause {
                    LostCause::BufferFull => PGT_LOST_BUFFER_FULL,
                    LostCause::ProbeMissed => PGT_LOST_PROBE_MISSED,
                    LostCause::NoMemory => PGT_LOST_NO_MEMORY,
                },
                reserved: 0,
            };
            out.extend_from_slice(wire.as_bytes());
        }
        Record::Level(r) => {
            let number = |level| match level {
                Level::Off => PGT_LEVEL_OFF,
                Level::Light => PGT_LEVEL_LIGHT,
                Level::Rich => PGT_LEVEL_RICH,
                Level::Full => PGT_LEVEL_FULL,
            };
            let wire = LevelRecord {
                h: header_of(PGT_KIND_LEVEL, 0, size_of::<LevelRecord>(), r.stamp),
                from: number(r.from),
                to: number(r.to),
                reserved: 0,
                clean_ms: r.clean_ms,
            };
            out.extend_from_slice(wire.as_bytes());
        }
        Record::Clean(r) => {
            let wire = CleanRecord {
                h: header_of(PGT_KIND_CLEAN, 0, size_of::<CleanRecord>(), r.stamp),
                tgid: r.tgid,
                pass: r.pass,
                start_ns: r.start_ns,
                end_ns: r.end_ns,
                scanned: r.scanned,
                cleaned: r.cleaned,
            };
            out.extend_from_slice(wire.as_bytes());
        }
        Record::Clock(r) => {
            let wire = ClockRecord {
                h: header_of(PGT_KIND_CLOCK, 0, size_of::<ClockRecord>(), r.stamp),
                monotonic_ns: r.monotonic_ns,
                realtime_ns: r.realtime_ns,
                boottime_ns: r.boottime_ns,
            };
            out.extend_from_slice(wire.as_bytes());
        }
        Record::Policy(r) => {
            let wire = PolicyRecord {
                h: header_of(PGT_KIND_POLICY, 0, size_of::<PolicyRecord>(), r.stamp),
                policy: match r.policy {
                    Policy::None => PGT_POLICY_NONE,
                    Policy::Timer => PGT_POLICY_TIMER,
                    Policy::Fifo => PGT_POLICY_FIFO,
                },
                grain: r.grain,
                overwrite: r.overwrite.into(),
                reserved: 0,
                clean_ms: r.clean_ms,
                fifo: r.fifo,
                reserved2: 0,
            };
            out.extend_from_slice(wire.as_bytes());
        }
        Record::Map(r) => {
            let wire = MapRecord {
                h: header_of(PGT_KIND_MAP, 0, size_of::<MapRecord>(), r.stamp),
                tgid: r.tgid,
                tid: r.tid,
                object: r.object,
                op: match r.op {
                    MapOp::Mmap => PGT_MAP_MMAP,
                    MapOp::Munmap => PGT_MAP_MUNMAP,
                    MapOp::Mremap => PGT_MAP_MREMAP,
                    MapOp::Brk => PGT_MAP_BRK,
                    MapOp::Stack => PGT_MAP_STACK,
                    MapOp::Mprotect => PGT_MAP_MPROTECT,
                },
                prot: protection(r.read, r.write, r.exec, r.shared) as u8,
                reserved: 0,
                start: r.start,
                end: r.end,
                page: r.page,
                old_start: r.old_start,
                old_end: r.old_end,
            };
            out.extend_from_slice(wire.as_bytes());
        }
        Record::Around(r) => {
            let wire = AroundRecord {
                h: header_of(PGT_KIND_AROUND, 0, size_of::<AroundRecord>(), r.stamp),
                tgid: r.tgid,
                tid: r.tid,
                object: r.object,
                pages: r.pages,
                addr: r.addr,
                page: r.page,
                touched: r.touched,
            };
            out.extend_from_slice(wire.as_bytes());
        }
        Record::Active(r) => {
            let set = flags(&[
                (r.dirtied, PGT_ACTIVE_DIRTIED),
                (r.rereferenced, PGT_ACTIVE_REREFERENCED),
                (r.gone, PGT_ACTIVE_GONE),
            ]);
            let wire = ActiveRecord {
                h: header_of(PGT_KIND_ACTIVE, set, size_of::<ActiveRecord>(), r.stamp),
                tgid: r.tgid,
                object: r.object,
                addr: r.addr,
                page: packed(r.page, r.page_order),
                since_ns: r.since_ns,
                reserved: 0,
            };
            out.extend_from_slice(wire.as_bytes());
        }
    }
}
