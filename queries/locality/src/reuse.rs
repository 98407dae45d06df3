//! Reuse distances and what follows from them: histogram, miss-ratio curve.
//!
//! The reuse distance of a reference is the number of distinct other pages referenced since the last reference to the
//! same page. A reference hits in an LRU-managed memory of `c` pages if its distance is below `c` (Mattson et al.,
//! "Evaluation techniques for storage hierarchies", 1970), so the distances give the miss ratio at every size at once.

use std::collections::HashMap;

use crate::recency::FIRST;

/// How often each distance occurred.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distances {
    /// Occurrences by distance, without what `wrapped` says: a reference changes a random one of them, so that half the size
    /// is less to wait for.
    counts: Vec<u32>,
    /// How often a distance's count began at zero again.
    wrapped: HashMap<usize, u64>,
    /// First references: no distance.
    first: u64,
}

impl Distances {
    /// Counts one reference.
    #[inline]
    pub fn add(&mut self, distance: Option<u64>) {
        match distance {
            Some(distance) => self.add_some(distance as usize, 1),
            None => self.first += 1,
        }
    }

    #[cold]
    fn add_some(&mut self, distance: usize, more: u64) {
        self.reach(distance + 1);
        let sum = u64::from(self.counts[distance]) + more;
        self.counts[distance] = sum as u32;
        if sum >> 32 > 0 {
            *self.wrapped.entry(distance).or_default() += sum >> 32;
        }
    }

    /// Counts distances below `distances`.
    fn reach(&mut self, distances: usize) {
        if distances > self.counts.len() {
            let len = distances.max(self.counts.len() * 2);
            self.counts.resize(len, 0);
        }
    }

    /// Counts some at once: apart from what finds distances, so that the processor waits for all of their counts together.
    /// First references ([`FIRST`]) count only if `first`.
    #[inline]
    pub fn add_all(&mut self, distances: &[u32], first: bool) {
        for &distance in distances {
            match self.counts.get_mut(distance as usize) {
                Some(count) if *count < u32::MAX => *count += 1,
                _ if distance != FIRST => self.add_some(distance as usize, 1),
                _ => self.first += u64::from(first),
            }
        }
    }

    /// Adds what others counted.
    pub fn merge(&mut self, others: &Distances) {
        self.reach(others.counts.len());
        others
            .counts()
            .for_each(|(distance, n)| self.add_some(distance as usize, n));
        self.first += others.first;
    }

    /// References counted.
    pub fn refs(&self) -> u64 {
        self.first + self.counts().map(|(_, n)| n).sum::<u64>()
    }

    /// First references to a page: they miss in a memory of any size.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Distances that occurred, with how often.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let wrapped = |distance| match self.wrapped.is_empty() {
            true => 0,
            false => self.wrapped.get(&distance).copied().unwrap_or(0) << 32,
        };
        let counts = self.counts.iter().enumerate();
        counts
            .map(move |(distance, n)| (distance as u64, u64::from(*n) + wrapped(distance)))
            .filter(|(_, n)| *n > 0)
    }

    /// Bytes that the counts take.
    pub fn bytes(&self) -> usize {
        self.counts.capacity() * 4
    }

    /// Bytes that they may take with distances below `pages`.
    pub fn bytes_of(pages: usize) -> usize {
        pages.next_power_of_two() * 4
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

    #[test]
    fn counts_are_as_large_as_they_must_be() {
        let mut distances = Distances::default();
        distances.add_some(3, (1 << 33) - 2);
        distances.add_all(&[3, 3, FIRST, 2], true);
        distances.add(Some(2));
        let (twice, more) = (distances.clone(), 1u64 << 33);
        assert_eq!(distances.counts().collect::<Vec<_>>(), [(2, 2), (3, more)]);
        distances.merge(&twice);
        assert_eq!(
            distances.counts().collect::<Vec<_>>(),
            [(2, 4), (3, more * 2)]
        );
        assert_eq!((distances.refs(), distances.first()), (more * 2 + 6, 2));
    }
}
