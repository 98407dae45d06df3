//! First reading of a CPU's chunks: all names, and the whole account of losses.

use std::collections::BTreeMap;

use pgtrace_capture::chunk::{BlockKind, CpuTotals, Totals};
use pgtrace_capture::record::{Channel, Lost, PageRef, Record};
use pgtrace_capture::wire::Item;

use super::{ChannelReader, Chunk, Piece};
use crate::error::IngestError;
use crate::losses::{Damage, Tracker};
use crate::marks::Mark;

/// Places of damage that are told one by one; a file can be made of nothing else.
const PLACES: usize = 1000;

/// What the first reading of one CPU's chunks found.
#[derive(Debug)]
pub struct CpuScan {
    /// The CPU.
    pub cpu: u16,
    /// Records of its names channel, and copies of any CPU's.
    pub names: Vec<Record>,
    /// Names that stood in its refs channel.
    pub names_in_refs: Vec<Record>,
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
}

/// Reads all chunks of `cpu`.
///
/// # Errors
/// A chunk that cannot be read.
pub fn scan_cpu(cpu: u16, chunks: &[Chunk]) -> Result<CpuScan, IngestError> {
    let mut scan = CpuScan {
        cpu,
        names: Vec::new(),
        names_in_refs: Vec::new(),
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
    };
    let mut reader = ChannelReader::new(chunks);
    while let Some(piece) = reader.next_piece()? {
        match piece {
            Piece::Damage(damage) => {
                let index = scan.damaged(damage);
                scan.refs.damage(index);
                scan.names_account.damage(index);
            }
            Piece::Absent => {
                scan.refs.chunks_absent();
                scan.names_account.chunks_absent();
            }
            Piece::Block(BlockKind::Totals) => {
                let name = chunks.last().map(Chunk::name).unwrap_or_default();
                scan.totals(reader.payload(), &name);
            }
            Piece::Block(kind) => scan.block(kind, &reader),
        }
    }
    if let Some(last) = scan.damages.last_mut().filter(|_| scan.untold > 0) {
        last.detail = format!(
            "{} (and {} more places behind it)",
            last.detail, scan.untold
        );
    }
    Ok(scan)
}

impl CpuScan {
    fn block(&mut self, kind: BlockKind, reader: &ChannelReader<'_>) {
        let mut decoder = reader.decode(0);
        loop {
            if kind == BlockKind::Refs {
                decoder.page_refs(|r| {
                    self.page_ref(r);
                    true
                });
            }
            let Some(item) = decoder.next() else {
                return;
            };
            match item {
                Ok(Item::Record(record)) => self.record(kind, record),
                Ok(Item::Unknown {
                    kind: k,
                    version,
                    seq,
                    ..
                }) => match kind {
                    BlockKind::Refs => self.refs.accept_unknown(seq, k, version),
                    BlockKind::Names => self.names_account.accept_unknown(seq, k, version),
                    BlockKind::Repeated | BlockKind::Totals => {}
                },
                Err(e) => {
                    let index = self.damaged(reader.undecodable(0, &e));
                    match kind {
                        BlockKind::Refs => self.refs.damage(index),
                        BlockKind::Names => self.names_account.damage(index),
                        BlockKind::Repeated | BlockKind::Totals => {}
                    }
                }
            }
        }
    }

    #[inline]
    fn page_ref(&mut self, r: &PageRef) {
        if self.refs.accept(r.stamp.seq, r.stamp.time_ns) {
            self.rows += 1;
            self.cache_events += u64::from(!r.event.is_reference());
            self.records += 1;
            self.last_ns = self.last_ns.max(r.stamp.time_ns);
        }
    }

    fn record(&mut self, block: BlockKind, record: Record) {
        let stamp = record.stamp();
        match block {
            BlockKind::Refs => {
                if let Record::Ref(r) = record {
                    self.page_ref(&r);
                    return;
                }
                if !self.refs.accept(stamp.seq, stamp.time_ns) {
                    return;
                }
                match record {
                    Record::Lost(lost) => {
                        self.refs.count_other();
                        self.lost.push(lost);
                    }
                    // Marks are not kept: the merge meets them again.
                    other => {
                        self.refs.count_other();
                        if Mark::of(&other).is_none() {
                            self.names_in_refs.push(other);
                        }
                    }
                }
            }
            BlockKind::Names => {
                if !self.names_account.accept(stamp.seq, stamp.time_ns) {
                    return;
                }
                if let Record::Lost(lost) = record {
                    self.lost.push(lost);
                } else {
                    self.names.push(record);
                }
            }
            BlockKind::Repeated | BlockKind::Totals => {
                self.names.push(record);
                return;
            }
        }
        self.records += 1;
        self.last_ns = self.last_ns.max(stamp.time_ns);
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
            }
            Err(e) => {
                self.damaged(Damage {
                    cause: "corrupt",
                    detail: format!("totals of CPU {}: expected JSON: {e}", self.cpu),
                });
            }
        }
    }
}
