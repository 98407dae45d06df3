//! Every sequence number of a channel is a row or a loss: the account is kept here.
//!
//! A [`Tracker`] follows one channel of one CPU. Numbers that never come leave a
//! hole; in the end each hole is explained by a LOST record, by damage that was
//! found where it opened, or by nothing (`missing`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pgtrace_capture::record::{Channel, Lost, LostCause};

use crate::source::Run;

/// The cause of what was given up on purpose: no loss of what was to be kept.
pub const OVERWRITTEN: &str = "overwritten";

/// Records lost for one reason: a row of the table `losses`, times still monotonic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// CPU whose records were lost.
    pub cpu: u16,
    /// Begin of the interval, monotonic ns; `None`: unknown.
    pub from_ns: Option<u64>,
    /// End of the interval, monotonic ns; `None`: unknown.
    pub to_ns: Option<u64>,
    /// How many; `None`: cannot be known.
    pub count: Option<u64>,
    /// Why, as in SQL.
    pub cause: &'static str,
    /// The channel they are missing from.
    pub channel: Channel,
    /// What was found, and where.
    pub detail: Option<String>,
}

/// Bytes of a chunk that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// `corrupt` or `truncated`.
    pub cause: &'static str,
    /// File, byte offset, expected and found.
    pub detail: String,
}

/// Numbers `first..end` (the key is `first`) that did not come.
#[derive(Clone, Debug)]
struct Hole {
    end: u64,
    from_ns: Option<u64>,
    to_ns: Option<u64>,
    /// Indexes of the damage that explains it. The parts of a hole share it: there may be many, of much damage.
    damage: Arc<[usize]>,
    /// Chunks that are not there explain it.
    absent: bool,
    /// It is (a part of) what is missing before the first record.
    begin: bool,
}

/// What a recording gave up on purpose: holes there are `overwritten`, not `missing`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Newest {
    /// The recording's begin, down to the first record of a channel that is there.
    pub begin: bool,
    /// And what lies between two snapshots, and behind the last.
    pub between: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Unknown {
    count: u64,
    from_ns: Option<u64>,
    to_ns: Option<u64>,
}

impl Newest {
    fn gave_up(self, hole: &Hole) -> bool {
        // Rotation takes the oldest chunks; a gap among those that stay is none of its making.
        !hole.absent && (self.between || self.begin && hole.begin)
    }
}

/// The account of one channel of one CPU.
#[derive(Clone, Debug)]
pub struct Tracker {
    cpu: u16,
    channel: Channel,
    next: u64,
    last_ns: Option<u64>,
    holes: BTreeMap<u64, Hole>,
    told: Vec<Lost>,
    unnumbered: Vec<Lost>,
    unknown: BTreeMap<(u8, u8), Unknown>,
    pending: Vec<usize>,
    absent: bool,
    others: u64,
}

impl Tracker {
    /// An account that expects number 0 first.
    pub fn new(cpu: u16, channel: Channel) -> Self {
        Self {
            cpu,
            channel,
            next: 0,
            last_ns: None,
            holes: BTreeMap::new(),
            told: Vec::new(),
            unnumbered: Vec::new(),
            unknown: BTreeMap::new(),
            pending: Vec::new(),
            absent: false,
            others: 0,
        }
    }

    /// Takes note of a record. `false`: it was there before, and is to be dropped.
    #[inline]
    pub fn accept(&mut self, seq: u64, time_ns: u64) -> bool {
        // No recording is so long that a record has the last number there is; nothing could come behind it.
        if seq == self.next && seq < u64::MAX && self.pending.is_empty() && !self.absent {
            self.next = seq + 1;
            self.last_ns = Some(time_ns);
            return true;
        }
        self.accept_out_of_line(seq, time_ns)
    }

    #[inline(never)]
    fn accept_out_of_line(&mut self, seq: u64, time_ns: u64) -> bool {
        if seq == u64::MAX {
            return false;
        }
        if seq < self.next {
            return self.fill(seq);
        }
        if seq > self.next {
            self.open_hole(seq, Some(time_ns));
        }
        self.pending.clear();
        self.absent = false;
        self.next = seq.saturating_add(1);
        self.last_ns = Some(time_ns);
        true
    }

    /// A record of a kind this program does not know: it had a number, and is lost.
    pub fn accept_unknown(&mut self, seq: u64, kind: u8, version: u8) {
        let time_ns = self.last_ns;
        if self.accept(seq, time_ns.unwrap_or(0)) {
            self.last_ns = time_ns;
            let entry = self.unknown.entry((kind, version)).or_insert(Unknown {
                from_ns: time_ns,
                ..Unknown::default()
            });
            entry.count += 1;
            entry.to_ns = time_ns;
        }
    }

    /// A copy of a record stands elsewhere: if its number is a hole, it is none any more.
    pub fn heal(&mut self, seq: u64) {
        if seq < self.next {
            self.fill(seq);
        }
    }

    /// A LOST record about this channel, wherever it stood.
    pub fn tell(&mut self, lost: Lost) {
        match lost.cause {
            LostCause::BufferFull => self.told.push(lost),
            LostCause::ProbeMissed | LostCause::NoMemory => self.unnumbered.push(lost),
        }
    }

    /// Takes note of records that are known to be no copies.
    pub fn accept_run(&mut self, run: &Run) {
        if run.n == 0 {
            return;
        }
        if run.first >= self.next {
            self.accept(run.first, run.first_ns);
            self.next = run.end();
            self.last_ns = Some(run.last_ns);
        } else {
            self.take(run.first, run.end());
            self.next = self.next.max(run.end());
        }
    }

    /// So many records that make no row stood in this channel, and used a number each.
    pub fn count_others(&mut self, n: u64) {
        self.others += n;
    }

    /// Chunks that would come next are not there, later ones are.
    pub fn chunks_absent(&mut self) {
        self.absent = true;
    }

    /// Damage number `index` of this CPU stands here in its chunks.
    pub fn damage(&mut self, index: usize) {
        if self.pending.last() != Some(&index) {
            self.pending.push(index);
        }
    }

    /// Damage number `index` is why number `seq` did not come.
    pub fn explain(&mut self, seq: u64, index: usize) {
        if seq >= self.next {
            self.damage(index);
        } else if let Some((_, hole)) = self.holes.range_mut(..=seq).next_back()
            && seq < hole.end
            && hole.damage.last() != Some(&index)
        {
            hole.damage = hole.damage.iter().copied().chain([index]).collect();
        }
    }

    /// The number expected next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Records that stood in this channel and make no rows: LOST ones, marks, names.
    pub fn others(&self) -> u64 {
        self.others
    }

    /// Damage that no later record of this channel has judged yet.
    pub fn pending(&self) -> &[usize] {
        &self.pending
    }

    /// Damage that explains a hole which is one still, after all that was told and healed.
    pub fn claimed(&self) -> BTreeSet<usize> {
        let mut claimed = BTreeSet::new();
        let mut last: Option<&Arc<[usize]>> = None;
        for hole in self.holes.values() {
            if !last.is_some_and(|last| Arc::ptr_eq(last, &hole.damage)) {
                claimed.extend(hole.damage.iter().copied());
            }
            last = Some(&hole.damage);
        }
        claimed
    }

    /// The channel ends, at number `end` where that is known.
    pub fn close(&mut self, end: Option<u64>) {
        if let Some(end) = end
            && end > self.next
        {
            self.open_hole(end, None);
            self.pending.clear();
            self.next = end;
        }
        // A LOST record may reach behind the last record that came.
        let told_end = self
            .told
            .iter()
            .filter(|l| l.count > 0)
            .map(|l| l.first_seq.saturating_add(l.count))
            .max();
        if let Some(told_end) = told_end
            && told_end > self.next
        {
            self.open_hole(told_end, None);
            self.next = told_end;
        }
    }

    /// All that was lost, in order of sequence number within each reason; `newest` says what was given up on purpose.
    pub fn losses(&mut self, damages: &[Damage], newest: Newest) -> Vec<Loss> {
        let (cpu, channel) = (self.cpu, self.channel);
        let mut losses = Vec::new();
        for lost in std::mem::take(&mut self.told) {
            let count = self.take(lost.first_seq, lost.first_seq.saturating_add(lost.count));
            let detail = (count != lost.count)
                .then(|| format!("the LOST record says {}, {count} are missing", lost.count));
            losses.push(Loss {
                cpu,
                from_ns: Some(lost.first_ns),
                to_ns: Some(lost.last_ns),
                count: Some(count),
                cause: lost.cause.as_str(),
                channel,
                detail,
            });
        }
        losses.extend(self.unnumbered.iter().map(|lost| Loss {
            cpu,
            from_ns: Some(lost.first_ns),
            to_ns: Some(lost.last_ns),
            count: Some(lost.count),
            cause: lost.cause.as_str(),
            channel,
            detail: None,
        }));
        losses.extend(self.holes.iter().map(|(&first, hole)| {
            let numbers = format!("sequence numbers {first} to {}", hole.end - 1);
            let found = hole.damage.first().and_then(|&i| damages.get(i));
            let (cause, detail) = match found.map(|d| (d, hole.damage.len() - 1)) {
                Some((d, 0)) => (d.cause, format!("{numbers}: {}", d.detail)),
                Some((d, more)) => (
                    d.cause,
                    format!("{numbers}: {} (and {more} more places)", d.detail),
                ),
                None if newest.gave_up(hole) => (OVERWRITTEN, numbers),
                None => ("missing", numbers),
            };
            Loss {
                cpu,
                from_ns: hole.from_ns,
                to_ns: hole.to_ns,
                count: Some(hole.end - first),
                cause,
                channel,
                detail: Some(detail),
            }
        }));
        losses.extend(self.unknown.iter().map(|(&(kind, version), unknown)| Loss {
            cpu,
            from_ns: unknown.from_ns,
            to_ns: unknown.to_ns,
            count: Some(unknown.count),
            cause: "unknown_record",
            channel,
            detail: Some(format!("records of kind {kind}, wire version {version}")),
        }));
        losses
    }

    fn open_hole(&mut self, end: u64, to_ns: Option<u64>) {
        let hole = Hole {
            end,
            from_ns: self.last_ns,
            to_ns,
            damage: self.pending.as_slice().into(),
            absent: self.absent,
            begin: self.next == 0,
        };
        self.holes.insert(self.next, hole);
    }

    /// A number below `next` came: `true` if it was missing until now.
    fn fill(&mut self, seq: u64) -> bool {
        self.take(seq, seq.saturating_add(1)) == 1
    }

    /// Takes `from..to` out of the holes; gives how many numbers that were.
    fn take(&mut self, from: u64, to: u64) -> u64 {
        let begin = self
            .holes
            .range(..=from)
            .next_back()
            .map_or(from, |(&f, _)| f);
        let hit: Vec<(u64, Hole)> = self
            .holes
            .range(begin..to.max(begin))
            .filter(|(_, h)| h.end > from)
            .map(|(&f, h)| (f, h.clone()))
            .collect();
        let mut taken = 0;
        for (first, hole) in hit {
            self.holes.remove(&first);
            let (low, high) = (first.max(from), hole.end.min(to));
            taken += high - low;
            if first < low {
                let before = Hole {
                    end: low,
                    ..hole.clone()
                };
                self.holes.insert(first, before);
            }
            if high < hole.end {
                self.holes.insert(high, hole);
            }
        }
        taken
    }
}

#[cfg(test)]
#[path = "losses_test.rs"]
mod tests;
