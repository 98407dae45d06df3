//! First reading of a CPU's chunks: all names, and the whole account of losses.

use std::collections::BTreeMap;

use pgtrace_capture::chunk::{BlockKind, CpuTotals, Totals};
use pgtrace_capture::record::{Channel, Lost, PageRef, Record, Stamp};
use pgtrace_capture::wire::{self, ByteOrder, Item};

use super::skeleton::{Item as Kept, Notes, Run, Skeleton, Stored};
use super::{ChannelReader, Chunk, Piece, Seen};
use crate::error::IngestError;
use crate::losses::{Damage, Tracker};
use crate::marks::Mark;
use crate::names;
use crate::spill::{Key, Sorter, Tape, Temp};

/// Places of damage that are told one by one; a file can be made of nothing else.
const PLACES: usize = 1000;

/// What the first reading of one CPU's chunks found.
#[derive(Debug)]
pub struct CpuScan {
    /// The CPU.
    pub cpu: u16,
    /// Records of its names channel, copies of any CPU's, and names that stood in its refs channel.
    names: Sorter,
    /// The same, when all have been read: sorted runs.
    pub(crate) runs: Vec<Tape>,
    /// The account of its page references.
    pub refs: Tracker,
    /// The account of its names.
    pub names_account: Tracker,
    /// LOST records, wherever they stood.
    pub lost: Vec<Lost>,
    /// Damage in its chunks, in order; the last one stands for all that follow, where there are very many.
    pub damages: Vec<Damage>,
    /// Places that have no damage of their own.
    untold: u64,
    /// Records that will become rows of `refs`.
    pub rows: u64,
    /// Of them page-cache events, which are no references.
    pub cache_events: u64,
    /// Time of its last record, monotonic ns.
    pub last_ns: u64,
    /// Records of all kinds, copies not counted.
    pub records: u64,
    /// What the recorder says it came to, by CPU; empty if no chunk says so.
    pub totals: BTreeMap<u16, CpuTotals>,
    /// The recorder's figures are the final ones.
    pub complete: bool,
    /// Rows that are in no chunk that was taken in before.
    pub fresh: u64,
    /// The earliest of them.
    pub fresh_ns: Option<u64>,
    /// What is to be kept of the chunks: those read now, and those known.
    pub skeletons: Vec<Skeleton>,
    /// Numbers of the refs channel that are rows or marks already.
    seen: Seen,
    temp: Temp,
    /// What stood in the chunk that is being read.
    notes: Notes,
    /// What is taken in was noted before.
    replaying: bool,
    /// The run that goes on.
    run: Run,
}

/// A chunk of a recording: its bytes, or what is known of it.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// To be read.
    New(&'a Chunk),
    /// Read before.
    Known(&'a Skeleton),
    /// Read before, but now there is more of it: a `New` one for the same place follows.
    Outgrown(&'a Skeleton),
}

impl Part<'_> {
    /// Its number among its CPU's chunks.
    pub fn index(&self) -> u32 {
        match self {
            Self::New(chunk) => chunk.header.index,
            Self::Known(s) | Self::Outgrown(s) => s.header.index,
        }
    }
}

/// Reads the new chunks of `cpu`, as if those that are known were read in between. `parts` are in order of their index.
///
/// # Errors
/// A chunk that cannot be read.
pub(crate) fn scan_parts(
    cpu: u16,
    parts: &[Part<'_>],
    names: Sorter,
    temp: &Temp,
) -> Result<CpuScan, IngestError> {
    let known = parts.iter().filter_map(|part| match part {
        Part::Known(s) | Part::Outgrown(s) => Some(*s),
        Part::New(_) => None,
    });
    let mut scan = CpuScan {
        cpu,
        names,
        runs: Vec::new(),
        refs: Tracker::new(cpu, Channel::Refs),
        names_account: Tracker::new(cpu, Channel::Names),
        lost: Vec::new(),
        damages: Vec::new(),
        untold: 0,
        rows: 0,
        cache_events: 0,
        last_ns: 0,
        records: 0,
        totals: BTreeMap::new(),
        complete: false,
        fresh: 0,
        fresh_ns: None,
        skeletons: Vec::new(),
        seen: Seen::of(known),
        temp: temp.clone(),
        notes: Notes::new(temp),
        replaying: false,
        run: Run::default(),
    };
    let mut follows: Option<u32> = None;
    for part in parts {
        let index = part.index();
        let next = index.saturating_add(1);
        let expected = follows.replace(next);
        if expected.is_some_and(|expected| expected != index && expected != next) {
            scan.refs.chunks_absent();
            scan.names_account.chunks_absent();
        }
        match part {
            Part::New(chunk) => scan.read(chunk)?,
            Part::Known(skeleton) => {
                scan.replay(skeleton, |_| true)?;
                scan.skeletons.push((*skeleton).clone());
            }
            Part::Outgrown(skeleton) => {
                // What has a number in the refs channel is not taken from the new one; everything else is.
                scan.replay(skeleton, Kept::is_of_refs)?;
                let mut notes = Notes::new(temp);
                skeleton.noted.each(|item| {
                    if item.is_of_refs() {
                        notes.push(&item);
                    }
                })?;
                scan.notes = notes;
            }
        }
    }
    scan.runs = scan.names.finish()?;
    if let Some(last) = scan.damages.last_mut().filter(|_| scan.untold > 0) {
        last.detail = format!(
            "{} (and {} more places behind it)",
            last.detail, scan.untold
        );
    }
    Ok(scan)
}

impl CpuScan {
    fn read(&mut self, chunk: &Chunk) -> Result<(), IngestError> {
        let mut reader = ChannelReader::new(std::slice::from_ref(chunk));
        while let Some(piece) = reader.next_piece()? {
            match piece {
                Piece::Damage(damage) => self.damage(damage, true, true),
                Piece::Absent => {}
                Piece::Block(BlockKind::Totals) => self.totals(reader.payload(), &chunk.name()),
                Piece::Block(kind) => {
                    let damage = |e: &wire::DecodeError| reader.undecodable(0, e);
                    self.block(kind, reader.payload(), reader.byte_order(), &damage);
                }
            }
        }
        self.end_run();
        self.skeletons.push(Skeleton {
            id: chunk.id.clone(),
            name: chunk.name(),
            bytes: chunk.bytes,
            header: chunk.header.clone(),
            noted: std::mem::replace(&mut self.notes, Notes::new(&self.temp)).finish()?,
        });
        Ok(())
    }

    /// Takes in again what was in a chunk, as far as it is `wanted`.
    fn replay(
        &mut self,
        skeleton: &Skeleton,
        wanted: impl Fn(&Kept) -> bool,
    ) -> Result<(), IngestError> {
        self.replaying = true;
        let replayed = skeleton.noted.each(|item| {
            if wanted(&item) {
                self.replay_item(skeleton, item);
            }
        });
        self.replaying = false;
        replayed
    }

    fn replay_item(&mut self, skeleton: &Skeleton, item: Kept) {
        let (order, name) = (skeleton.header.byte_order, skeleton.name.as_str());
        // What a names block holds can be decoded: it was cut where it could not.
        let damage = |e: &wire::DecodeError| Damage {
            cause: "corrupt",
            detail: format!("{name}: {}", e.what),
        };
        match item {
            Kept::Run(run) => self.run(&run),
            Kept::Stored { what, data } => match what {
                Stored::Names => self.block(BlockKind::Names, &data, order, &damage),
                Stored::Repeated => self.block(BlockKind::Repeated, &data, order, &damage),
                Stored::Totals => self.totals(&data, name),
                Stored::InRefs => {
                    for item in wire::decode(&data, order) {
                        if let Ok(Item::Record(record)) = item {
                            self.in_refs(record, &data, order);
                        }
                    }
                }
            },
            Kept::Unknown { seq, kind, version } => {
                self.refs.accept_unknown(seq, kind, version);
            }
            Kept::Damage {
                refs,
                names,
                truncated,
                detail,
            } => {
                let cause = if truncated { "truncated" } else { "corrupt" };
                self.damage(Damage { cause, detail }, refs, names);
            }
        }
    }

    fn run(&mut self, run: &Run) {
        self.refs.accept_run(run);
        self.refs.count_others(run.n.saturating_sub(run.rows));
        self.rows += run.rows;
        self.cache_events += run.cache_events;
        self.records += run.n;
        self.last_ns = self.last_ns.max(run.max_ns);
    }

    fn damage(&mut self, damage: Damage, refs: bool, names: bool) {
        let untold = self.untold;
        let truncated = damage.cause == "truncated";
        let mut detail = damage.detail.clone();
        let index = self.damaged(damage);
        if self.untold > untold {
            // Only that it is there is of use.
            detail.clear();
        }
        if refs {
            self.refs.damage(index);
        }
        if names {
            self.names_account.damage(index);
        }
        self.keep(Kept::Damage {
            refs,
            names,
            truncated,
            detail,
        });
    }

    fn block(
        &mut self,
        kind: BlockKind,
        payload: &[u8],
        order: ByteOrder,
        damage: &dyn Fn(&wire::DecodeError) -> Damage,
    ) {
        let stored = match kind {
            BlockKind::Names => Some(Stored::Names),
            BlockKind::Repeated => Some(Stored::Repeated),
            BlockKind::Refs | BlockKind::Totals => None,
        };
        let mut decoder = wire::decode(payload, order);
        let mut error = None;
        loop {
            if kind == BlockKind::Refs {
                decoder.page_refs(|r| {
                    self.page_ref(r);
                    true
                });
            }
            let from = decoder.offset() as usize;
            match decoder.next() {
                Some(Ok(Item::Record(record))) => {
                    let to = decoder.offset() as usize;
                    let bytes = payload.get(from..to).unwrap_or_default();
                    self.record(kind, record, bytes, order);
                }
                Some(Ok(Item::Unknown {
                    kind: k,
                    version,
                    seq,
                    ..
                })) => match kind {
                    BlockKind::Refs if self.seen.contains(seq) => {}
                    BlockKind::Refs => {
                        self.refs.accept_unknown(seq, k, version);
                        self.keep(Kept::Unknown {
                            seq,
                            kind: k,
                            version,
                        });
                    }
                    BlockKind::Names => self.names_account.accept_unknown(seq, k, version),
                    BlockKind::Repeated | BlockKind::Totals => {}
                },
                Some(Err(e)) => {
                    error = Some(e);
                    break;
                }
                None => break,
            }
        }
        if let Some(what) = stored {
            let whole = error.as_ref().map_or(payload.len(), |e| e.offset as usize);
            let data = payload.get(..whole).unwrap_or_default().to_vec();
            self.keep(Kept::Stored { what, data });
        }
        if let Some(e) = error {
            let (refs, names) = (kind == BlockKind::Refs, kind == BlockKind::Names);
            self.damage(damage(&e), refs, names);
        }
    }

    #[inline]
    fn page_ref(&mut self, r: &PageRef) {
        let (seq, time_ns) = (r.stamp.seq, r.stamp.time_ns);
        if self.seen.contains(seq) || !self.refs.accept(seq, time_ns) {
            return;
        }
        let cache_event = u64::from(!r.event.is_reference());
        self.rows += 1;
        self.fresh += 1;
        self.fresh_ns = Some(self.fresh_ns.map_or(time_ns, |t| t.min(time_ns)));
        self.cache_events += cache_event;
        self.records += 1;
        self.last_ns = self.last_ns.max(time_ns);
        let run = self.in_run(seq, time_ns);
        run.rows += 1;
        run.cache_events += cache_event;
    }

    /// The run that record number `seq` of the refs channel belongs to, with it.
    #[inline]
    fn in_run(&mut self, seq: u64, time_ns: u64) -> &mut Run {
        if self.run.n == 0 || self.run.end() != seq {
            self.end_run();
            self.run.first = seq;
            self.run.first_ns = time_ns;
        }
        let run = &mut self.run;
        run.n += 1;
        run.last_ns = time_ns;
        run.max_ns = run.max_ns.max(time_ns);
        run
    }

    /// Nothing more belongs to the run.
    fn end_run(&mut self) {
        let run = std::mem::take(&mut self.run);
        if run.n > 0 {
            self.notes.push(&Kept::Run(run));
        }
    }

    /// Something else stood behind the run.
    fn keep(&mut self, item: Kept) {
        if !self.replaying {
            self.end_run();
            self.notes.push(&item);
        }
    }

    /// `bytes` are the record as it stands in the chunk.
    fn record(&mut self, block: BlockKind, record: Record, bytes: &[u8], order: ByteOrder) {
        let stamp = record.stamp();
        match block {
            BlockKind::Refs => {
                if let Record::Ref(r) = record {
                    self.page_ref(&r);
                    return;
                }
                if self.seen.contains(stamp.seq) || !self.refs.accept(stamp.seq, stamp.time_ns) {
                    return;
                }
                self.refs.count_others(1);
                self.in_run(stamp.seq, stamp.time_ns);
                // Marks are not kept: the merge meets them again.
                if Mark::of(&record).is_none() {
                    self.keep(Kept::Stored {
                        what: Stored::InRefs,
                        data: bytes.to_vec(),
                    });
                    self.in_refs(record, bytes, order);
                }
            }
            BlockKind::Names => {
                if !self.names_account.accept(stamp.seq, stamp.time_ns) {
                    return;
                }
                if let Record::Lost(lost) = record {
                    self.lost.push(lost);
                } else {
                    self.name(Channel::Names, stamp, bytes, order);
                }
            }
            BlockKind::Repeated | BlockKind::Totals => {
                self.name(Channel::Names, stamp, bytes, order);
                return;
            }
        }
        self.records += 1;
        self.last_ns = self.last_ns.max(stamp.time_ns);
    }

    /// A record of the refs channel that is neither a reference nor a mark.
    fn in_refs(&mut self, record: Record, bytes: &[u8], order: ByteOrder) {
        match record {
            Record::Lost(lost) => self.lost.push(lost),
            other => self.name(Channel::Refs, other.stamp(), bytes, order),
        }
    }

    fn name(&mut self, channel: Channel, stamp: Stamp, bytes: &[u8], order: ByteOrder) {
        let key = Key::new(channel, stamp);
        self.names.push(key, &[&[names::order_byte(order)], bytes]);
    }

    /// Takes note of damage; gives its number.
    fn damaged(&mut self, damage: Damage) -> usize {
        match self.damages.len() < PLACES {
            true => self.damages.push(damage),
            false => self.untold += 1,
        }
        self.damages.len() - 1
    }

    /// Totals that cannot be read are damage; the last ones count. `name` is the chunk's.
    fn totals(&mut self, payload: &[u8], name: &str) {
        match serde_json::from_slice::<Totals>(payload) {
            Ok(totals) => {
                self.complete = totals.complete;
                for unread in totals.unread {
                    let index = self.damaged(Damage {
                        cause: match unread.truncated {
                            true => "truncated",
                            false => "corrupt",
                        },
                        detail: format!("{name}: {}", unread.detail),
                    });
                    self.refs.explain(unread.first_seq, index);
                }
                self.totals = totals.cpus.into_iter().map(|c| (c.cpu, c)).collect();
                self.keep(Kept::Stored {
                    what: Stored::Totals,
                    data: payload.to_vec(),
                });
            }
            Err(e) => {
                let detail = format!("totals of CPU {}: expected JSON: {e}", self.cpu);
                let cause = "corrupt";
                self.damage(Damage { cause, detail }, false, false);
            }
        }
    }
}
