//! Monotonic time of the traced machine to UTC, piece by piece.

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

    /// For many times, one after the other.
    pub fn reader(&self) -> ClockReader<'_> {
        ClockReader {
            clocks: self,
            anchor: (0, 0),
            holds: 0..0,
        }
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
    fn extreme_times_stay_in_range() {
        let clocks = Clocks::new(vec![(0, u64::MAX)]);
        assert_eq!(clocks.utc(u64::MAX), i64::MAX);
        let clocks = Clocks::new(vec![(u64::MAX, 0)]);
        assert_eq!(clocks.utc(0), i64::MIN);
        assert_eq!(Clocks::new(Vec::new()).utc(7), 7);
    }
}
