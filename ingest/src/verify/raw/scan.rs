//! What each CPU's chunks say by themselves: places, numbers, times, totals; and all names.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek, SeekFrom};

use pgtrace_capture::chunk::{BlockKind, CpuTotals, Totals};
use pgtrace_capture::record::{Channel, Record, Stamp};
use pgtrace_capture::wire::Item;

use super::super::report::Rule;
use super::mappings::{Collected, Mapped};
use crate::error::IngestError;
use crate::losses::Tracker;
use crate::source::{ChannelReader, Chunk, Piece, Place, Recording};

/// Names of a recording, with the first time each was told.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) processes: HashMap<u32, u64>,
    pub(super) objects: HashMap<u32, u64>,
    pub(super) mappings: Collected,
}

impl Known {
    /// `room`: mappings that may come of MAP records, of which there may be as many as of references.
    fn learn(&mut self, record: &Record, room: usize) {
        let time_ns = record.stamp().time_ns;
        match record {
            Record::Process(p) => earliest(&mut self.processes, p.tgid, time_ns),
            Record::Object(o) => earliest(&mut self.objects, o.object, time_ns),
            Record::Mapping(m) => {
                let mapped = Mapped {
                    start: m.start,
                    end: m.end,
                    object: m.object,
                    page: m.page,
                };
                self.mappings.add(m.tgid, mapped, time_ns, usize::MAX);
            }
            Record::Map(m) if m.object != 0 => {
                let mapped = Mapped {
                    start: m.start,
                    end: m.end,
                    object: m.object,
                    page: m.page,
                };
                self.mappings.add(m.tgid, mapped, time_ns, room);
            }
            Record::Ref(_)
            | Record::Exit(_)
            | Record::Lost(_)
            | Record::Level(_)
            | Record::Clean(_)
            | Record::Clock(_)
            | Record::Policy(_)
            | Record::Map(_)
            | Record::Around(_)
            | Record::Active(_) => {}
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (tgid, time_ns) in other.processes {
            earliest(&mut self.processes, tgid, time_ns);
        }
        for (object, time_ns) in other.objects {
            earliest(&mut self.objects, object, time_ns);
        }
        self.mappings.merge(other.mappings);
    }
}

fn earliest(times: &mut HashMap<u32, u64>, of: u32, time_ns: u64) {
    let first = times.entry(of).or_insert(time_ns);
    *first = time_ns.min(*first);
}

/// Mappings of MAP records that each CPU may remember: a quarter of the memory in all.
pub(super) fn room(memory: u64, cpus: usize) -> usize {
    const BYTES: u64 = 96;
    let all = usize::try_from(memory / 4 / BYTES).unwrap_or(usize::MAX);
    (all / cpus.max(1)).max(1024)
}

/// One channel of a CPU, followed.
#[derive(Debug)]
struct Follower {
    account: Tracker,
    last: Option<Stamp>,
    /// Behind the greatest number there is.
    end: u64,
}

/// What one CPU's chunks say.
#[derive(Debug)]
pub(super) struct Scan {
    cpu: u16,
    pub(super) structure: Rule,
    pub(super) order: Rule,
    pub(super) known: Known,
    refs: Follower,
    names: Follower,
    totals: Option<Totals>,
    room: usize,
}

impl Scan {
    pub(super) fn of(cpu: u16, chunks: &[Chunk], room: usize) -> Result<Self, IngestError> {
        let follower = |channel| Follower {
            account: Tracker::new(cpu, channel),
            last: None,
            end: 0,
        };
        let mut scan = Self {
            cpu,
            structure: Rule::new("", ""),
            order: Rule::new("", ""),
            known: Known::default(),
            refs: follower(Channel::Refs),
            names: follower(Channel::Names),
            totals: None,
            room,
        };
        let mut reader = ChannelReader::new(chunks);
        while let Some(piece) = reader.next_piece()? {
            // Damage and chunks that are not there: the survey tells of them.
            let Piece::Block(kind) = piece else { continue };
            scan.structure.check(1);
            scan.padding(&reader)?;
            match kind {
                // The last ones count.
                BlockKind::Totals => scan.totals = serde_json::from_slice(reader.payload()).ok(),
                BlockKind::Refs | BlockKind::Names | BlockKind::Repeated => {
                    scan.block(kind, &reader);
                }
            }
        }
        Ok(scan)
    }

    fn block(&mut self, kind: BlockKind, reader: &ChannelReader<'_>) {
        let mut decoder = reader.decode(0);
        loop {
            let offset = decoder.offset();
            match decoder.next() {
                Some(Ok(Item::Record(record))) => {
                    self.known.learn(&record, self.room);
                    self.place(kind, &record, reader, offset);
                }
                Some(Ok(Item::Unknown { .. })) => {}
                // The survey tells of it.
                Some(Err(_)) | None => return,
            }
        }
    }

    /// Checks where a record stands: on its CPU, and not before the one before it.
    fn place(&mut self, kind: BlockKind, record: &Record, reader: &ChannelReader<'_>, offset: u64) {
        let follower = match kind {
            BlockKind::Refs => &mut self.refs,
            BlockKind::Names => &mut self.names,
            // Copies of any CPU's.
            BlockKind::Repeated | BlockKind::Totals => return,
        };
        let stamp = record.stamp();
        if stamp.cpu != self.cpu {
            let cpu = self.cpu;
            self.structure.violation(|| {
                let place = reader.place(offset);
                format!(
                    "{place}: expected a record of CPU {cpu}, found one of CPU {}",
                    stamp.cpu
                )
            });
        }
        // Copies, and records that come after those behind them, say nothing about time.
        let new = follower.account.accept(stamp.seq, stamp.time_ns);
        if !new || stamp.seq < follower.end {
            return;
        }
        self.order.check(1);
        if let Some(last) = follower.last.filter(|last| last.time_ns > stamp.time_ns) {
            self.order.violation(|| {
                format!(
                    "{}: {} record {} is of {} ns, record {} before it of {} ns",
                    reader.place(offset),
                    kind.as_str(),
                    stamp.seq,
                    stamp.time_ns,
                    last.seq,
                    last.time_ns
                )
            });
        }
        follower.last = Some(stamp);
        follower.end = stamp.seq.saturating_add(1);
    }

    /// No CRC covers the zeroes that fill a block up to a multiple of 8 bytes.
    fn padding(&mut self, reader: &ChannelReader<'_>) -> Result<(), IngestError> {
        let len = reader.payload().len();
        let wanted = len.next_multiple_of(8) - len;
        let Some((place, offset)) = reader.position().filter(|_| wanted > 0) else {
            return Ok(());
        };
        let at = offset + len as u64;
        let found = bytes_at(place, at, wanted).map_err(|cause| IngestError::Input {
            path: place.label(),
            cause,
        })?;
        if found.iter().any(|&b| b != 0) {
            self.structure.violation(|| {
                let found = found.escape_ascii();
                let place = reader.place(len as u64);
                format!("{place}: expected zeroes behind the block, found \"{found}\"")
            });
        }
        Ok(())
    }
}

fn bytes_at(place: &Place, at: u64, count: usize) -> std::io::Result<Vec<u8>> {
    let mut file = place.open()?;
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.take(count as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The recorder says what each CPU came to, and no more than that is there.
pub(super) fn check_totals(scans: &[Scan], recording: &Recording, rule: &mut Rule) {
    let said = scans.iter().filter_map(|s| s.totals.as_ref());
    let mut totals: BTreeMap<u16, CpuTotals> = BTreeMap::new();
    let mut complete = false;
    for t in said {
        complete |= t.complete;
        totals.extend(t.cpus.iter().map(|c| (c.cpu, *c)));
    }
    let in_memory = recording.chunks().any(|c| c.header.settings.in_memory);
    if !complete {
        let text = match totals.is_empty() {
            true => {
                "no chunk holds totals: the recorder was killed, is still at it, or its last chunks are not here"
            }
            false => "the totals are not final: the module went away before the recorder",
        };
        match in_memory {
            // Snapshots stand alone, until the recording ends.
            true => rule.note(text.into()),
            false => rule.violation(|| text.into()),
        }
    }
    for scan in scans {
        rule.check(1);
        let Some(t) = totals.get(&scan.cpu) else {
            if complete {
                rule.violation(|| format!("cpu {}: the totals do not name it", scan.cpu));
            }
            continue;
        };
        let numbers = [
            (
                Channel::Refs,
                t.refs_emitted.saturating_add(t.refs_lost),
                scan.refs.end,
            ),
            (
                Channel::Names,
                t.names_emitted.saturating_add(t.names_lost),
                scan.names.end,
            ),
        ];
        for (channel, told, end) in numbers {
            // Figures that are not final may be old.
            if complete && end > told {
                rule.violation(|| {
                    let cpu = scan.cpu;
                    format!(
                        "cpu {cpu} {channel}: expected {told} numbers, found record {}",
                        end - 1
                    )
                });
            }
        }
    }
}
