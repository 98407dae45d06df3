//! Lengths - gaps in references - counted in buckets that keep sums, and the two curves that follow from them.
//!
//! A bucket holds the lengths in (low, high]. Up to 16 each length has its own; above, an octave has 16. With the count
//! and the sum of each bucket, sums of min(T, length) are exact at every T that is some bucket's `high`.

const SUB_BITS: u32 = 4;
const SUB: u64 = 1 << SUB_BITS;
const BUCKETS: usize = (SUB + (64 - SUB_BITS as u64) * SUB) as usize;

/// Lengths counted in buckets.
#[derive(Clone, Debug)]
pub struct Spans {
    counts: Vec<u64>,
    sums: Vec<u128>,
    endless: u64,
}

impl Default for Spans {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            sums: vec![0; BUCKETS],
            endless: 0,
        }
    }
}

/// The bucket of a length, which is at least 1.
#[inline]
fn bucket(length: u64) -> usize {
    let below = length - 1;
    if below < SUB {
        return below as usize;
    }
    let shift = below.ilog2() - SUB_BITS;
    (SUB + u64::from(shift) * SUB + ((below >> shift) - SUB)) as usize
}

/// The greatest length of a bucket.
fn high(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < SUB {
        return bucket + 1;
    }
    let (shift, sub) = ((bucket - SUB) / SUB, (bucket - SUB) % SUB);
    // The last bucket of all ends at 2^64.
    (SUB + sub + 1)
        .checked_shl(shift as u32)
        .filter(|h| h >> shift == SUB + sub + 1)
        .unwrap_or(u64::MAX)
}

/// A point of a curve over lengths T.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// T, in references.
    pub length: u64,
    /// Sum of min(T, length) over all lengths.
    pub sum: u128,
    /// Lengths above T.
    pub above: u64,
}

impl Spans {
    /// Counts one length; 0 counts as 1.
    #[inline]
    pub fn add(&mut self, length: u64) {
        let at = bucket(length.max(1));
        self.counts[at] += 1;
        self.sums[at] += u128::from(length.max(1));
    }

    /// Counts lengths without an end: pages that never come back.
    pub fn add_endless(&mut self, count: u64) {
        self.endless += count;
    }

    /// Adds what others counted.
    pub fn merge(&mut self, others: &Spans) {
        self.counts
            .iter_mut()
            .zip(&others.counts)
            .for_each(|(count, more)| *count += more);
        self.sums
            .iter_mut()
            .zip(&others.sums)
            .for_each(|(sum, more)| *sum += more);
        self.endless += others.endless;
    }

    /// Lengths counted, endless ones too.
    pub fn count(&self) -> u64 {
        self.endless + self.counts.iter().sum::<u64>()
    }

    /// A point for each bucket up to the longest length, T = 1 first.
    pub fn points(&self) -> impl Iterator<Item = Point> + '_ {
        let used = self
            .counts
            .iter()
            .rposition(|n| *n > 0)
            .map_or(0, |last| last + 1);
        let (mut within, mut above) = (0u128, self.count());
        (0..used).map(move |at| {
            within += self.sums[at];
            above -= self.counts[at];
            let length = high(at);
            Point {
                length,
                sum: within + u128::from(length) * u128::from(above),
                above,
            }
        })
    }
}

/// Average working-set size against window length: s(T) = (1/N) * sum(min(T, next - t)), where `next` is the next
/// reference to the same page, or N (Denning and Schwartz, "Properties of the working-set model", 1972). Takes the
/// gaps, and for each page N - its last reference. (T in references, pages).
pub fn working_set_curve(spans: &Spans) -> impl Iterator<Item = (u64, f64)> + '_ {
    let refs = spans.count() as f64;
    spans.points().map(move |p| (p.length, p.sum as f64 / refs))
}

/// The miss-ratio curve of LRU by the kinetic model of Hu et al., "Kinetic modeling of data eviction in cache" (AET,
/// 2016): with P(t) the share of references whose reuse time is above t, a memory of sum(P(t), t < T) pages has miss
/// ratio P(T). Takes the gaps, and as endless one first reference a page. (size in pages, miss ratio), beginning with
/// (0, 1); sizes are whole pages, each once.
pub fn aet_curve(spans: &Spans) -> Vec<(u64, f64)> {
    let refs = spans.count() as f64;
    let mut curve: Vec<(u64, f64)> = Vec::new();
    if refs > 0.0 {
        curve.push((0, 1.0));
    }
    for point in spans.points() {
        let (pages, misses) = (point.sum as f64 / refs, point.above as f64 / refs);
        // The size at which this is reached; half a page more or less is within the model's error.
        let pages = pages.round() as u64;
        match curve.last_mut() {
            Some(last) if last.0 == pages && pages > 0 => last.1 = misses,
            Some(last) if last.0 >= pages => {}
            _ => curve.push((pages, misses)),
        }
    }
    curve
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_follow_one_another() {
        for at in 1..BUCKETS - 1 {
            let (before, last) = (high(at - 1), high(at));
            assert!(before < last, "{at}");
            assert_eq!((bucket(before + 1), bucket(last)), (at, at));
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    proptest! {
        #[test]
        fn sums_are_exact_at_every_point(lengths in prop::collection::vec(prop_oneof![1u64..40, 1u64..100_000, 1u64..1 << 50], 1..100), endless in 0u64..5) {
            let mut spans = Spans::default();
            lengths.iter().for_each(|&l| spans.add(l));
            spans.add_endless(endless);
            for point in spans.points() {
                let sum: u128 = lengths.iter().map(|&l| u128::from(l.min(point.length))).sum::<u128>()
                    + u128::from(endless) * u128::from(point.length);
                let above = lengths.iter().filter(|&&l| l > point.length).count() as u64 + endless;
                prop_assert_eq!((point.sum, point.above), (sum, above));
            }
            let last = spans.points().last().unwrap();
            prop_assert_eq!(last.above, endless);
        }

        /// s(T) is the mean over all references t of the distinct pages in the T references up to t.
        #[test]
        fn the_working_set_curve_is_the_mean_over_all_windows(string in prop::collection::vec(0u32..12, 1..120)) {
            let n = string.len();
            let mut spans = Spans::default();
            for t in 0..n {
                let next = string[t + 1..].iter().position(|p| *p == string[t]).map_or(n, |d| t + 1 + d);
                spans.add((next - t) as u64);
            }
            for (length, pages) in working_set_curve(&spans) {
                let from = |t: usize| (t + 1).saturating_sub(length as usize);
                let distinct = |t: usize| string[from(t)..=t].iter().collect::<std::collections::BTreeSet<_>>().len();
                let mean = (0..n).map(distinct).sum::<usize>() as f64 / n as f64;
                prop_assert!((mean - pages).abs() < 1e-9, "T {}: {} {}", length, pages, mean);
            }
        }
    }

    #[test]
    fn aet_of_a_loop_and_of_a_scan() {
        // A loop of 100 pages, 50 times: all gaps are 100; it hits from 100 pages on.
        let mut spans = Spans::default();
        (0..4900).for_each(|_| spans.add(100));
        spans.add_endless(100);
        let curve = aet_curve(&spans);
        let at = |pages: u64| curve.iter().rev().find(|(p, _)| *p <= pages).unwrap().1;
        assert!(at(50) > 0.99 && at(105) < 0.021, "{curve:?}");
        // Pages that never come back miss at any size.
        let mut scan = Spans::default();
        scan.add_endless(10);
        assert_eq!(aet_curve(&scan), [(0, 1.0)]);
        assert!(aet_curve(&Spans::default()).is_empty());
    }
}
