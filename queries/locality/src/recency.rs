//! The order of pages by their latest reference: how many were referenced since a given one.
//!
//! One bit a reference, set where a page's latest reference is; sums of set bits over 512 references, over 64 of
//! those, and so on. A reference takes its page's old bit away and sets a new one at the end. The old bit's distance
//! from the end, in set bits, is the reuse distance (Mattson et al. 1970, the tree of Bennett and Kruskal 1975 with
//! popcount for its leaves). Positions are renumbered when they run out, so memory follows the number of pages,
//! not the number of references.

/// Bits of a leaf: a cache line.
const LEAF: usize = 512;
const LEAF_WORDS: usize = LEAF / 64;
const FAN: usize = 64;
/// Positions of a structure without pages.
const LEAST: usize = LEAF * 8;

/// Pages (by id) ordered by their latest reference.
pub struct Recency {
    /// Position of a page's latest reference, by id; `NONE`: not in the order.
    latest: Vec<u32>,
    words: Vec<u64>,
    /// Sums of set bits: of a leaf, of `FAN` leaves, ..
    levels: Vec<Vec<u32>>,
    /// Position of the next reference.
    next: usize,
    live: usize,
}

const NONE: u32 = u32::MAX;

impl Default for Recency {
    fn default() -> Self {
        Self::new()
    }
}

impl Recency {
    /// An order without pages.
    pub fn new() -> Self {
        let mut new = Self {
            latest: Vec::new(),
            words: Vec::new(),
            levels: Vec::new(),
            next: 0,
            live: 0,
        };
        new.resize(LEAST);
        new
    }

    /// Pages in the order.
    pub fn pages(&self) -> usize {
        self.live
    }

    /// Bytes that the structure takes.
    pub fn bytes(&self) -> usize {
        self.latest.capacity() * 4
            + self.words.capacity() * 8
            + self.levels.iter().map(|l| l.capacity() * 4).sum::<usize>()
    }

    /// Bytes that it may take after `more` further pages, renumbering included.
    pub fn bytes_after(&self, more: usize) -> usize {
        let latest = (self.latest.len() + more).next_power_of_two();
        let positions = capacity_for(self.live + more);
        latest * 4 + 2 * (positions / 8 + positions / LEAF * 4 + positions / LEAF / 8)
    }

    /// References page `id`. Gives how many other pages were referenced since the last time; `None`: it is new.
    #[inline]
    pub fn reference(&mut self, id: u32) -> Option<u64> {
        if self.next == self.words.len() * 64 {
            self.renumber();
        }
        let at = id as usize;
        if at >= self.latest.len() {
            self.latest
                .resize((at + 1).max(self.latest.len() * 2), NONE);
        }
        let now = self.next as u32;
        let before = std::mem::replace(&mut self.latest[at], now);
        self.next += 1;
        let distance = if before == NONE {
            self.live += 1;
            None
        } else {
            let since = self.live - self.rank(before as usize);
            self.change(before as usize, false);
            Some(since as u64)
        };
        self.change(now as usize, true);
        distance
    }

    /// Takes page `id` out of the order. Gives how many pages were referenced after it; `None`: it is not there.
    #[inline]
    pub fn remove(&mut self, id: u32) -> Option<u64> {
        let before = *self.latest.get(id as usize)?;
        if before == NONE {
            return None;
        }
        let since = self.live - self.rank(before as usize);
        self.latest[id as usize] = NONE;
        self.change(before as usize, false);
        self.live -= 1;
        Some(since as u64)
    }

    /// Position of the latest reference to page `id`: larger is later; it means nothing else.
    pub fn position(&self, id: u32) -> Option<u32> {
        self.latest.get(id as usize).copied().filter(|p| *p != NONE)
    }

    /// Set bits up to `position`, itself included.
    #[inline]
    fn rank(&self, position: usize) -> usize {
        let word = position / 64;
        let mut count = (self.words[word] << (63 - position % 64)).count_ones() as usize;
        let first = word / LEAF_WORDS * LEAF_WORDS;
        count += self.words[first..word]
            .iter()
            .map(|w| w.count_ones() as usize)
            .sum::<usize>();
        let mut index = position / LEAF;
        for level in &self.levels {
            let first = index / FAN * FAN;
            count += level[first..index].iter().sum::<u32>() as usize;
            index /= FAN;
        }
        count
    }

    #[inline]
    fn change(&mut self, position: usize, set: bool) {
        self.words[position / 64] ^= 1 << (position % 64);
        let by = if set { 1u32 } else { u32::MAX };
        let mut index = position / LEAF;
        for level in &mut self.levels {
            level[index] = level[index].wrapping_add(by);
            index /= FAN;
        }
    }

    /// Makes room for `positions`, all bits cleared.
    fn resize(&mut self, positions: usize) {
        self.words.clear();
        self.words.resize(positions / 64, 0);
        self.words.shrink_to(positions / 64);
        self.levels.clear();
        let mut count = positions / LEAF;
        loop {
            self.levels.push(vec![0; count]);
            if count <= FAN {
                return;
            }
            count = count.div_ceil(FAN);
        }
    }

    /// Renumbers positions from 0 without gaps.
    #[cold]
    fn renumber(&mut self) {
        // Set bits before each word.
        let mut before = Vec::with_capacity(self.words.len());
        let mut sum = 0u32;
        for word in &self.words {
            before.push(sum);
            sum += word.count_ones();
        }
        for latest in self.latest.iter_mut().filter(|l| **l != NONE) {
            let (word, bit) = (*latest as usize / 64, *latest % 64);
            *latest = before[word] + (self.words[word] & ((1 << bit) - 1)).count_ones();
        }
        drop(before);
        self.resize(capacity_for(self.live));
        for position in 0..self.live / 64 {
            self.words[position] = u64::MAX;
        }
        if !self.live.is_multiple_of(64) {
            self.words[self.live / 64] = (1 << (self.live % 64)) - 1;
        }
        let leaves = self
            .words
            .chunks(LEAF_WORDS)
            .map(|leaf| leaf.iter().map(|w| w.count_ones()).sum());
        let mut sums: Vec<u32> = leaves.collect();
        for level in &mut self.levels {
            level.copy_from_slice(&sums);
            sums = sums.chunks(FAN).map(|group| group.iter().sum()).collect();
        }
        self.next = self.live;
    }
}

/// Positions for `pages`: four times as many, so that renumbering costs little a reference.
fn capacity_for(pages: usize) -> usize {
    (pages * 4).max(LEAST).next_multiple_of(LEAF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Distances by an LRU stack that is searched from its top.
    fn naive(string: &[u32]) -> Vec<Option<u64>> {
        let mut stack: Vec<u32> = Vec::new();
        let touch = |id: &u32| {
            let found = stack.iter().rev().position(|other| other == id);
            if let Some(depth) = found {
                stack.remove(stack.len() - 1 - depth);
            }
            stack.push(*id);
            found.map(|depth| depth as u64)
        };
        string.iter().map(touch).collect()
    }

    proptest! {
        #[test]
        fn distances_are_those_of_an_lru_stack(string in prop_oneof![
            prop::collection::vec(0u32..8, 0..300),
            prop::collection::vec(0u32..3000, 0..9000),
        ]) {
            let mut recency = Recency::new();
            let found: Vec<_> = string.iter().map(|&id| recency.reference(id)).collect();
            prop_assert_eq!(found, naive(&string));
        }

        #[test]
        fn removed_pages_are_new_again(steps in prop::collection::vec((any::<bool>(), 0u32..20), 0..200)) {
            let mut recency = Recency::new();
            let mut stack: Vec<u32> = Vec::new();
            for (reference, id) in steps {
                let depth = stack.iter().rev().position(|other| *other == id).map(|d| d as u64);
                stack.retain(|other| *other != id);
                let found = if reference {
                    stack.push(id);
                    recency.reference(id)
                } else {
                    recency.remove(id)
                };
                prop_assert_eq!(found, depth);
                prop_assert_eq!(recency.pages(), stack.len());
            }
        }
    }

    #[test]
    fn renumbering_keeps_the_order() {
        // A few pages, many references: positions run out again and again.
        let string: Vec<u32> = (0..100_000u32)
            .map(|i| crate::index::mix(u64::from(i)) as u32 % 37)
            .collect();
        let mut recency = Recency::new();
        let found: Vec<_> = string.iter().map(|&id| recency.reference(id)).collect();
        assert_eq!(found, naive(&string));
        assert!(recency.bytes() < 4096, "{}", recency.bytes());
    }
}
