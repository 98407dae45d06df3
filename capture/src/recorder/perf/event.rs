//! The records of a perf ring, decoded: bounds are checked, nothing in them is trusted.

use std::fmt;

use perf_event_open_sys::bindings as abi;

/// What a record says, times in ns of CLOCK_MONOTONIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// A page fault.
    Fault(Fault),
    /// Something was mapped, or a mapping grew or changed its protection.
    Map(Box<Map>),
    /// A thread has a name.
    Comm(Comm),
    /// A thread or process began.
    Fork(Task),
    /// A thread ended.
    Exit(Task),
    /// So many records found no room in the ring.
    Lost {
        /// When there was room again.
        time: u64,
        /// How many.
        count: u64,
    },
}

/// A page fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) time: u64,
    pub(super) pid: u32,
    pub(super) tid: u32,
    /// Which event it is a sample of.
    pub(super) id: u64,
    pub(super) ip: u64,
    pub(super) addr: u64,
    /// The kernel touched the page.
    pub(super) kernel: bool,
}

/// A mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) time: u64,
    pub(super) pid: u32,
    pub(super) start: u64,
    pub(super) len: u64,
    /// Of the begin, in bytes of the file.
    pub(super) offset: u64,
    pub(super) dev_major: u32,
    pub(super) dev_minor: u32,
    pub(super) ino: u64,
    pub(super) generation: u64,
    /// PROT_*.
    pub(super) prot: u32,
    /// MAP_*.
    pub(super) flags: u32,
    /// The file's path, or `//anon`, `[heap]`, ..
    pub(super) name: String,
}

/// A thread's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Comm {
    pub(super) time: u64,
    pub(super) pid: u32,
    pub(super) tid: u32,
    /// It comes of an exec: the address space is a new one.
    pub(super) exec: bool,
    pub(super) comm: String,
}

/// A thread's begin or end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) time: u64,
    pub(super) pid: u32,
    pub(super) ppid: u32,
    pub(super) tid: u32,
}

impl Event {
    /// When it happened.
    pub(super) fn time(&self) -> u64 {
        match self {
            Event::Fault(e) => e.time,
            Event::Map(e) => e.time,
            Event::Comm(e) => e.time,
            Event::Fork(e) | Event::Exit(e) => e.time,
            Event::Lost { time, .. } => *time,
        }
    }
}

/// A record that cannot be: what stands behind it in the same bytes is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damage {
    /// Where the record begins.
    pub(super) offset: usize,
    /// Its type and length, as far as they are there.
    kind: Option<u32>,
    len: Option<u16>,
    left: usize,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage {
            kind, len, left, ..
        } = self;
        match (kind, len) {
            (Some(kind), Some(len)) => {
                write!(
                    f,
                    "perf record of type {kind}: a length of {len} does not fit it or the {left} bytes left"
                )
            }
            _ => write!(f, "expected a perf record, found {left} bytes"),
        }
    }
}

/// Bytes of what every record but a sample ends with: pid, tid, time, id.
const TRAILER: usize = 24;
const HEADER: usize = 8;

/// The records in `bytes`. Kinds nobody asked for are skipped; the iterator ends behind the first [`Damage`].
pub(super) fn decode(bytes: &[u8]) -> Decoder<'_> {
    Decoder { bytes, at: 0 }
}

/// See [`decode`].
#[derive(Debug)]
pub(super) struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Iterator for Decoder<'_> {
    type Item = Result<Event, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
            let (kind, misc, len) = (u32_at(rest, 0), u16_at(rest, 4), u16_at(rest, 6));
            let record =
                len.and_then(|len| rest.get(..usize::from(len)).filter(|r| r.len() >= HEADER));
            let event = match (kind, misc, record) {
                (Some(kind), Some(misc), Some(record)) => {
                    self.at += record.len();
                    one(kind, misc, record)
                }
                _ => None,
            };
            match event {
                Some(Kind::Known(event)) => return Some(Ok(event)),
                Some(Kind::Other) => {}
                None => {
                    let offset = rest.as_ptr().addr() - self.bytes.as_ptr().addr();
                    self.at = self.bytes.len();
                    return Some(Err(Damage {
                        offset,
                        kind,
                        len,
                        left: rest.len(),
                    }));
                }
            }
        }
    }
}

enum Kind {
    Known(Event),
    /// Not asked for, or of no interest.
    Other,
}

/// `None`: too short for its type.
fn one(kind: u32, misc: u16, r: &[u8]) -> Option<Kind> {
    let misc = u32::from(misc);
    let event = match kind {
        abi::PERF_RECORD_SAMPLE => Event::Fault(Fault {
            id: u64_at(r, 8)?,
            ip: u64_at(r, 16)?,
            pid: u32_at(r, 24)?,
            tid: u32_at(r, 28)?,
            time: u64_at(r, 32)?,
            addr: u64_at(r, 40)?,
            kernel: misc & abi::PERF_RECORD_MISC_CPUMODE_MASK == abi::PERF_RECORD_MISC_KERNEL,
        }),
        abi::PERF_RECORD_MMAP2 => {
            let (body, time) = trailer(r)?;
            Event::Map(Box::new(Map {
                time,
                pid: u32_at(body, 8)?,
                start: u64_at(body, 16)?,
                len: u64_at(body, 24)?,
                offset: u64_at(body, 32)?,
                dev_major: u32_at(body, 40)?,
                dev_minor: u32_at(body, 44)?,
                ino: u64_at(body, 48)?,
                generation: u64_at(body, 56)?,
                prot: u32_at(body, 64)?,
                flags: u32_at(body, 68)?,
                name: text(body.get(72..)?),
            }))
        }
        abi::PERF_RECORD_COMM => {
            let (body, time) = trailer(r)?;
            Event::Comm(Comm {
                time,
                pid: u32_at(body, 8)?,
                tid: u32_at(body, 12)?,
                exec: misc & abi::PERF_RECORD_MISC_COMM_EXEC != 0,
                comm: text(body.get(16..)?),
            })
        }
        abi::PERF_RECORD_FORK | abi::PERF_RECORD_EXIT => {
            let task = Task {
                pid: u32_at(r, 8)?,
                ppid: u32_at(r, 12)?,
                tid: u32_at(r, 16)?,
                time: u64_at(r, 24)?,
            };
            if kind == abi::PERF_RECORD_FORK {
                Event::Fork(task)
            } else {
                Event::Exit(task)
            }
        }
        abi::PERF_RECORD_LOST => {
            let (body, time) = trailer(r)?;
            let count = u64_at(body, 16)?;
            Event::Lost { time, count }
        }
        _ => return Some(Kind::Other),
    };
    Some(Kind::Known(event))
}

/// What stands before the trailer, and the trailer's time.
fn trailer(r: &[u8]) -> Option<(&[u8], u64)> {
    let at = r.len().checked_sub(TRAILER).filter(|&at| at >= HEADER)?;
    Some((r.get(..at)?, u64_at(r, at + 8)?))
}

/// Up to the first NUL.
fn text(bytes: &[u8]) -> String {
    let text = bytes.split(|&b| b == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A word in the machine's byte order.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// The bytes as the kernel lays them out (perf_event_open(2)), written down a second time.
    fn encode(event: &Event, out: &mut Vec<u8>) {
        let w4 = |n: u32| n.to_ne_bytes().to_vec();
        let w8 = |n: u64| n.to_ne_bytes().to_vec();
        let padded = |text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            bytes.resize((bytes.len() + 1).next_multiple_of(8), 0);
            bytes
        };
        let id = |pid: u32, tid: u32, time: u64| [w4(pid), w4(tid), w8(time), w8(77)].concat();
        let (kind, misc, body) = match event {
            Event::Fault(e) => {
                let misc = if e.kernel { 1 } else { 2 };
                let body = [
                    w8(e.id),
                    w8(e.ip),
                    w4(e.pid),
                    w4(e.tid),
                    w8(e.time),
                    w8(e.addr),
                ];
                (9u32, misc, body.concat())
            }
            Event::Map(e) => {
                let numbers = [
                    w4(e.pid),
                    w4(e.pid),
                    w8(e.start),
                    w8(e.len),
                    w8(e.offset),
                    w4(e.dev_major),
                    w4(e.dev_minor),
                    w8(e.ino),
                    w8(e.generation),
                    w4(e.prot),
                    w4(e.flags),
                ];
                (
                    10,
                    1 << 13,
                    [numbers.concat(), padded(&e.name), id(e.pid, e.pid, e.time)].concat(),
                )
            }
            Event::Comm(e) => {
                let body = [
                    w4(e.pid),
                    w4(e.tid),
                    padded(&e.comm),
                    id(e.pid, e.tid, e.time),
                ];
                (3, if e.exec { 1 << 13 } else { 0 }, body.concat())
            }
            Event::Fork(e) | Event::Exit(e) => {
                let body = [
                    w4(e.pid),
                    w4(e.ppid),
                    w4(e.tid),
                    w4(e.ppid),
                    w8(e.time),
                    id(e.pid, e.tid, e.time),
                ];
                (
                    if matches!(event, Event::Fork(_)) {
                        7
                    } else {
                        4
                    },
                    0,
                    body.concat(),
                )
            }
            Event::Lost { time, count } => (2, 0, [w8(5), w8(*count), id(0, 0, *time)].concat()),
        };
        out.extend(kind.to_ne_bytes());
        out.extend(u16::to_ne_bytes(misc));
        out.extend(u16::to_ne_bytes(body.len() as u16 + 8));
        out.extend(body);
    }

    fn events() -> impl Strategy<Value = Event> {
        let numbers = (
            any::<u64>(),
            any::<u32>(),
            any::<u32>(),
            any::<u64>(),
            any::<u64>(),
            any::<bool>(),
        );
        prop_oneof![
            numbers.prop_map(|(time, pid, tid, ip, addr, kernel)| {
                Event::Fault(Fault {
                    time,
                    pid,
                    tid,
                    id: ip ^ addr,
                    ip,
                    addr,
                    kernel,
                })
            }),
            (numbers, "[a-z/ \\[\\]]{0,60}").prop_map(
                |((time, pid, prot, start, len, _), name)| {
                    Event::Map(Box::new(Map {
                        time,
                        pid,
                        start,
                        len,
                        offset: start ^ len,
                        dev_major: pid ^ prot,
                        dev_minor: 7,
                        ino: len,
                        generation: 9,
                        prot,
                        flags: 3,
                        name,
                    }))
                }
            ),
            (numbers, "[a-z]{0,15}").prop_map(|((time, pid, tid, _, _, exec), comm)| {
                Event::Comm(Comm {
                    time,
                    pid,
                    tid,
                    exec,
                    comm,
                })
            }),
            numbers.prop_map(
                |(time, pid, ppid, tid, count, kind)| match (kind, count % 3) {
                    (_, 0) => Event::Lost { time, count },
                    (true, _) => Event::Fork(Task {
                        time,
                        pid,
                        ppid,
                        tid: tid as u32
                    }),
                    (false, _) => Event::Exit(Task {
                        time,
                        pid,
                        ppid,
                        tid: tid as u32
                    }),
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(events in vec(events(), 0..20)) {
            let mut bytes = Vec::new();
            events.iter().for_each(|e| encode(e, &mut bytes));
            let read: Result<Vec<_>, _> = decode(&bytes).collect();
            prop_assert_eq!(read.unwrap(), events);
        }

        /// Cut anywhere, changed anywhere: the decoder ends, and never reads past the bytes.
        #[test]
        fn damage_is_told(
            events in vec(events(), 1..8), cut in any::<prop::sample::Index>(),
            change in any::<prop::sample::Index>(), to in any::<u8>(),
        ) {
            let mut bytes = Vec::new();
            events.iter().for_each(|e| encode(e, &mut bytes));
            let whole = decode(bytes.get(..cut.index(bytes.len())).unwrap()).filter(Result::is_ok).count();
            prop_assert!(whole < events.len());
            let at = change.index(bytes.len());
            bytes[at] = to;
            prop_assert!(decode(&bytes).count() <= bytes.len() / HEADER);
        }

        #[test]
        fn garbage_ends(bytes in vec(any::<u8>(), 0..300)) {
            let found: Vec<_> = decode(&bytes).collect();
            prop_assert!(found.len() <= bytes.len() / HEADER + 1);
            let damage = found.iter().position(Result::is_err);
            prop_assert!(damage.is_none_or(|at| at == found.len() - 1));
        }
    }

    #[test]
    fn kinds_nobody_asked_for_are_skipped() {
        let mut bytes = Vec::new();
        bytes.extend([[5, 0, 0, 0, 0, 0, 16, 0], [0; 8]].concat()); // THROTTLE
        let fork = Event::Fork(Task {
            time: 1,
            pid: 2,
            ppid: 3,
            tid: 4,
        });
        encode(&fork, &mut bytes);
        let read: Vec<_> = decode(&bytes).collect();
        assert_eq!(read, [Ok(fork)]);
        let short = decode(&[9, 0, 0, 0, 0, 0, 8, 0])
            .next()
            .unwrap()
            .unwrap_err();
        assert_eq!(
            short.to_string(),
            "perf record of type 9: a length of 8 does not fit it or the 8 bytes left"
        );
    }
}
