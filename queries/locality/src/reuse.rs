//! Reuse distances and what follows from them: histogram, miss-ratio curve.
//!
//! The reuse distance of a reference is the number of distinct other pages referenced since the last reference to the
//! same page. A reference hits in an LRU-managed memory of `c` pages if its distance is below `c` (Mattson et al.,
//! "Evaluation techniques for storage hierarchies", 1970), so the distances give the miss ratio at every size at once.

/// How often each distance occurred.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distances {
    /// Occurrences by distance.
    counts: Vec<u64>,
    /// First references: no distance.
    first: u64,
}

impl Distances {
    /// Counts one reference.
    #[inline]
    pub fn add(&mut self, distance: Option<u64>) {
        match distance {
            Some(d) => {
                let at = d as usize;
                if at >= self.counts.len() {
                    self.counts.resize((at + 1).max(self.counts.len() * 2), 0);
                }
                self.counts[at] += 1;
            }
            None => self.first += 1,
        }
    }

    /// Counts some at once: apart from what finds distances, so that the processor waits for all of their counts together.
    /// First references count only if `first`.
    #[inline]
    pub fn add_all(&mut self, distances: &[Option<u64>], first: bool) {
        let most = distances.iter().flatten().max().map_or(0, |d| *d as usize);
        if most >= self.counts.len() {
            self.counts.resize((most + 1).max(self.counts.len() * 2), 0);
        }
        for distance in distances {
            match distance {
                Some(d) => self.counts[*d as usize] += 1,
                None => self.first += u64::from(first),
            }
        }
    }

    /// Adds what others counted.
    pub fn merge(&mut self, others: &Distances) {
        if self.counts.len() < others.counts.len() {
            self.counts.resize(others.counts.len(), 0);
        }
        self.counts
            .iter_mut()
            .zip(&others.counts)
            .for_each(|(count, more)| *count += more);
        self.first += others.first;
    }

    /// References counted.
    pub fn refs(&self) -> u64 {
        self.first + self.counts.iter().sum::<u64>()
    }

    /// First references to a page: they miss in a memory of any size.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Distances that occurred, with how often.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let counts = self.counts.iter().enumerate();
        counts.filter(|(_, n)| **n > 0).map(|(d, n)| (d as u64, *n))
    }

    /// Bytes that the counts take.
    pub fn bytes(&self) -> usize {
        self.counts.capacity() * 8
    }

    /// The miss-ratio curve of LRU: sizes in pages at which the number of misses falls, with the misses from that size
    /// on. Begins at size 0, where every reference misses; a size between two of them misses as often as the smaller.
    pub fn misses(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut left = self.refs();
        let steps = self.counts().map(move |(distance, n)| {
            left -= n;
            (distance + 1, left)
        });
        std::iter::once((0, self.refs()))
            .filter(|(_, refs)| *refs > 0)
            .chain(steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recency::Recency;
    use proptest::prelude::*;

    /// Misses of an LRU-managed memory, by doing it.
    fn simulated(string: &[u32], size: usize) -> u64 {
        let mut memory: Vec<u32> = Vec::new();
        let mut misses = 0;
        for page in string {
            match memory.iter().position(|p| p == page) {
                Some(at) => _ = memory.remove(at),
                None => misses += 1,
            }
            memory.push(*page);
            if memory.len() > size {
                memory.remove(0);
            }
        }
        misses
    }

    proptest! {
        #[test]
        fn the_curve_is_that_of_a_simulated_memory(string in prop::collection::vec(0u32..30, 1..300)) {
            let (mut recency, mut distances) = (Recency::new(), Distances::default());
            string.iter().for_each(|&page| distances.add(recency.reference(page)));
            prop_assert_eq!(distances.refs(), string.len() as u64);
            let curve: Vec<_> = distances.misses().collect();
            for size in 0..=31u64 {
                let (_, misses) = curve.iter().rev().find(|(from, _)| *from <= size).copied().unwrap_or_default();
                prop_assert_eq!(misses, simulated(&string, size as usize), "size {}", size);
            }
        }
    }
}
