//! Exact reuse distances in one window, and the mean AMP rank.

use crate::index::mix;

/// Mean, spread and number of AMP ranks.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ranks {
    pub(super) count: usize,
    pub(super) mean: f64,
    /// Standard deviation of one rank.
    pub(super) deviation: f64,
}

/// Reuse distances by a Fenwick tree over positions (Bennett and Kruskal 1975): a position counts 1 while it is the
/// last reference to its page, so the distinct pages between two references are a difference of two prefix sums.
#[derive(Debug, Default)]
pub(super) struct Distances {
    tree: Vec<u32>,
    last: Vec<u32>,
}

const NEVER: u32 = u32::MAX;

impl Distances {
    /// Calls `each(position, previous position, reuse distance, pages seen before)` for every re-reference.
    pub(super) fn each(
        &mut self,
        ids: &[u32],
        pages: usize,
        mut each: impl FnMut(usize, usize, u32, u32),
    ) {
        self.tree.clear();
        self.tree.resize(ids.len() + 1, 0);
        self.last.clear();
        self.last.resize(pages, NEVER);
        let mut seen = 0;
        for (now, &id) in ids.iter().enumerate() {
            let before = self.last[id as usize];
            if before == NEVER {
                seen += 1;
            } else {
                // All seen pages have one mark; those up to and with `before` were last referenced no later than it.
                let distance = seen - self.prefix(before as usize + 1);
                each(now, before as usize, distance, seen);
                self.add(before as usize, u32::MAX);
            }
            self.add(now, 1);
            self.last[id as usize] = now as u32;
        }
    }

    /// Sum of the marks at the first `end` positions.
    fn prefix(&self, mut end: usize) -> u32 {
        let mut sum: u32 = 0;
        while end > 0 {
            sum = sum.wrapping_add(self.tree[end]);
            end &= end - 1;
        }
        sum
    }

    /// Adds `by`, modulo 2^32 (`u32::MAX` takes one away).
    fn add(&mut self, position: usize, by: u32) {
        let mut at = position + 1;
        while at < self.tree.len() {
            self.tree[at] = self.tree[at].wrapping_add(by);
            at += at & at.wrapping_neg();
        }
    }

    /// AMP ranks R = 1 - distance / (pages seen - 1) of all re-references at which two pages or more have been seen.
    pub(super) fn ranks(&mut self, ids: &[u32], pages: usize) -> Ranks {
        self.ranks_from(ids, pages, 0)
    }

    /// The same of re-references with that reuse distance or more.
    pub(super) fn ranks_from(&mut self, ids: &[u32], pages: usize, least: u32) -> Ranks {
        let (mut count, mut sum, mut squares) = (0, 0.0, 0.0);
        self.each(ids, pages, |_, _, distance, seen| {
            if seen > 1 && distance >= least {
                let rank = 1.0 - f64::from(distance) / f64::from(seen - 1);
                count += 1;
                sum += rank;
                squares += rank * rank;
            }
        });
        if count == 0 {
            return Ranks::default();
        }
        let mean = sum / count as f64;
        let variance = (squares / count as f64 - mean * mean).max(0.0);
        Ranks {
            count,
            mean,
            deviation: variance.sqrt(),
        }
    }
}

/// A small generator of random numbers (SplitMix64, Steele and others 2014): verdicts are the same at every run.
#[derive(Debug)]
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Fisher and Yates.
    pub(super) fn shuffle(&mut self, ids: &mut [u32]) {
        for end in (1..ids.len()).rev() {
            let other = (u128::from(self.next()) * (end as u128 + 1)) >> 64;
            ids.swap(end, other as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn distances_are_those_of_the_definition(ids in prop::collection::vec(0_u32..12, 0..200)) {
            let mut found = Vec::new();
            Distances::default().each(&ids, 12, |now, before, distance, seen| found.push((now, before, distance, seen)));
            let mut expected = Vec::new();
            for now in 0..ids.len() {
                if let Some(before) = (0..now).rev().find(|&at| ids[at] == ids[now]) {
                    let between: std::collections::BTreeSet<_> = ids[before + 1..now].iter().collect();
                    let seen: std::collections::BTreeSet<_> = ids[..now].iter().collect();
                    expected.push((now, before, between.len() as u32, seen.len() as u32));
                }
            }
            prop_assert_eq!(found, expected);
        }
    }
}
