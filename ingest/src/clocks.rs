//! Monotonic time of the traced machine to UTC, piece by piece.

use serde::{Deserialize, Serialize};

/// The moments at which both clocks were read, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// (monotonic ns, UTC ns), by monotonic time, each monotonic time once.
    anchors: Vec<(u64, u64)>,
}

impl Clocks {
    /// From all anchors of a recording (chunk headers and CLOCK records), in any order.
    pub fn new(mut anchors: Vec<(u64, u64)>) -> Self {
        anchors.sort_unstable();
        anchors.dedup_by_key(|a| a.0);
        Self { anchors }
    }

    /// The first anchor: (monotonic ns, UTC ns).
    pub fn first(&self) -> (u64, u64) {
        self.anchors.first().copied().unwrap_or((0, 0))
    }

    /// Nanoseconds since 1970 UTC at `monotonic_ns`, by the latest anchor at or
    /// before it (by the first one, for times before all of them). A time that
    /// has no 64-bit form becomes the nearest that has.
    pub fn utc(&self, monotonic_ns: u64) -> i64 {
        self.reader().utc(monotonic_ns)
    }

    /// Monotonic times that are `utc`: [`Clocks::utc`] the other way round, least first. Where the wall clock was set
    /// back there are several; where it was set forward, none for the time that was left out.
    pub fn monotonic(&self, utc: i64) -> impl Iterator<Item = u64> {
        (0..self.anchors.len().max(1)).filter_map(move |i| {
            let (mono, at) = self.anchors.get(i).copied().unwrap_or((0, 0));
            let time = u64::try_from(i128::from(utc) - i128::from(at) + i128::from(mono)).ok()?;
            let from = if i == 0 { 0 } else { mono };
            let to = self.anchors.get(i + 1).map_or(u64::MAX, |a| a.0);
            (from <= time && time < to).then_some(time)
        })
    }

    /// From when on `other` may tell another time; `None`: never.
    pub fn differ_from(&self, other: &Self) -> Option<u64> {
        let (a, b) = (&self.anchors, &other.anchors);
        let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
        let next = [a.get(same), b.get(same)];
        let first = next.into_iter().flatten().map(|a| a.0).min()?;
        // The first anchor counts for all that was before it, too.
        Some(if same == 0 { 0 } else { first })
    }

    /// For many times, one after the other.
    pub fn reader(&self) -> ClockReader<'_> {
        ClockReader {
            clocks: self,
            anchor: (0, 0),
            holds: 0..0,
        }
    }
}

/// How far UTC was ahead of monotonic time, by number of the reference: [`Clocks::utc`] for rows that are stored, which can
/// be turned back however often the wall clock was set back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offsets {
    /// (number from which on it holds, UTC less monotonic time), in order.
    since: Vec<(u64, i64)>,
}

impl Offsets {
    /// Reference `seq`, the next one, was at `time_ns`, which is `utc`.
    #[inline]
    pub fn push(&mut self, seq: u64, time_ns: u64, utc: i64) {
        let offset = utc.wrapping_sub_unsigned(time_ns);
        if self.since.last().is_none_or(|last| last.1 != offset) {
            self.since.push((seq, offset));
        }
    }

    /// Forgets the references from `seq` on.
    pub fn cut(&mut self, seq: u64) {
        self.since
            .truncate(self.since.partition_point(|s| s.0 < seq));
    }

    /// The monotonic time that `utc` of reference `seq` was.
    pub fn monotonic(&self, seq: u64, utc: i64) -> u64 {
        let behind = self.since.partition_point(|s| s.0 <= seq);
        let offset = self.since.get(behind.wrapping_sub(1)).map_or(0, |s| s.1);
        utc.wrapping_sub(offset) as u64
    }

    /// The latest monotonic time that `utc` may have been of one of the references `first` to `last`.
    pub fn latest(&self, first: u64, last: u64, utc: i64) -> u64 {
        let from = self
            .since
            .partition_point(|s| s.0 <= first)
            .saturating_sub(1);
        let to = self.since.partition_point(|s| s.0 <= last);
        let offsets = self.since.get(from..to).unwrap_or_default();
        let times = offsets.iter().map(|s| utc.wrapping_sub(s.1) as u64);
        times.max().unwrap_or(u64::MAX)
    }
}

/// Turns times to UTC, quickly where they are near each other.
#[derive(Clone, Debug)]
pub struct ClockReader<'a> {
    clocks: &'a Clocks,
    anchor: (u64, u64),
    /// The times that `anchor` counts for.
    holds: std::ops::Range<u64>,
}

impl ClockReader<'_> {
    /// As [`Clocks::utc`].
    #[inline]
    pub fn utc(&mut self, monotonic_ns: u64) -> i64 {
        if !self.holds.contains(&monotonic_ns) {
            self.find(monotonic_ns);
        }
        let (mono, utc) = self.anchor;
        let ns = i128::from(utc) + i128::from(monotonic_ns) - i128::from(mono);
        i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX })
    }

    fn find(&mut self, monotonic_ns: u64) {
        let anchors = &self.clocks.anchors;
        let behind = anchors.partition_point(|a| a.0 <= monotonic_ns).max(1);
        self.anchor = anchors.get(behind - 1).copied().unwrap_or((0, 0));
        let from = if behind == 1 { 0 } else { self.anchor.0 };
        self.holds = from..anchors.get(behind).map_or(u64::MAX, |a| a.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_anchor_at_or_before_counts() {
        // The wall clock is set forward by 1,000 between the two readings.
        let clocks = Clocks::new(vec![(200, 6_200), (100, 5_100)]);
        assert_eq!(clocks.first(), (100, 5_100));
        assert_eq!(clocks.utc(100), 5_100);
        assert_eq!(clocks.utc(199), 5_199);
        assert_eq!(clocks.utc(200), 6_200);
        assert_eq!(clocks.utc(1_000), 7_000);
        assert_eq!(clocks.utc(40), 5_040, "before the first anchor");
    }

    #[test]
    fn and_the_other_way_round() {
        // Set back by 500 at 200, forward by 1000 at 300.
        let clocks = Clocks::new(vec![(100, 5_100), (200, 4_700), (300, 5_800)]);
        for time in [0, 40, 100, 150, 199, 200, 250, 299, 300, 5_000] {
            assert!(
                clocks.monotonic(clocks.utc(time)).any(|t| t == time),
                "{time}"
            );
        }
        assert_eq!(clocks.monotonic(4_750).collect::<Vec<_>>(), [250]);
        let twice = Clocks::new(vec![(100, 5_100), (200, 5_150)]);
        assert_eq!(twice.monotonic(5_160).collect::<Vec<_>>(), [160, 210]);
        assert_eq!(twice.monotonic(5_160).count(), 2);
        assert_eq!(clocks.monotonic(5_500).count(), 0, "left out");
    }

    #[test]
    fn offsets_turn_times_back() {
        let clocks = Clocks::new(vec![(100, 5_100), (200, 4_700), (300, 5_800)]);
        let mut offsets = Offsets::default();
        let times = [50, 120, 199, 198, 201, 299, 300, 310];
        for (seq, &time) in times.iter().enumerate() {
            offsets.push(seq as u64, time, clocks.utc(time));
        }
        for (seq, &time) in times.iter().enumerate() {
            assert_eq!(offsets.monotonic(seq as u64, clocks.utc(time)), time);
        }
        assert_eq!(offsets.latest(0, 3, 5_199), 199);
        assert_eq!(
            offsets.latest(3, 4, 5_199),
            699,
            "if it were of the later one"
        );
        offsets.cut(4);
        assert_eq!(offsets.since.len(), 1);
    }

    #[test]
    fn clocks_differ_from_the_first_other_anchor_on() {
        let of = |times: &[u64]| Clocks::new(times.iter().map(|&t| (t, t + 1)).collect());
        assert_eq!(of(&[1, 5]).differ_from(&of(&[1, 5])), None);
        assert_eq!(of(&[1, 5]).differ_from(&of(&[1, 3, 5])), Some(3));
        assert_eq!(of(&[1, 5]).differ_from(&of(&[1, 5, 9])), Some(9));
        assert_eq!(of(&[2, 5]).differ_from(&of(&[1, 2, 5])), Some(0));
    }

    #[test]
    fn extreme_times_stay_in_range() {
        let clocks = Clocks::new(vec![(0, u64::MAX)]);
        assert_eq!(clocks.utc(u64::MAX), i64::MAX);
        let clocks = Clocks::new(vec![(u64::MAX, 0)]);
        assert_eq!(clocks.utc(0), i64::MIN);
        assert_eq!(Clocks::new(Vec::new()).utc(7), 7);
    }
}
