//! The order of pages by their latest reference: how many were referenced since a given one.
//!
//! One bit a reference, set where a page's latest reference is; sums of set bits over 64 references, over 64 of
//! those, over 16 of those, and so on. Sums above words are running ones within their group of 16, so that a rank reads
//! one number a level; the 4096 references that are being filled have none yet: no rank asks for what follows them. A reference takes its page's old bit away and sets a new one at the end. The old bit's distance
//! from the end, in set bits, is the reuse distance (Mattson et al. 1970, the tree of Bennett and Kruskal 1975 with
//! popcount for its leaves). Positions are renumbered when they run out, so memory follows the number of pages,
//! not the number of references.

/// Bits of a leaf: a word.
const LEAF: usize = 64;
/// Leaves of a group.
const LEAVES: usize = 64;
/// References of a group of leaves.
const GROUP: usize = LEAF * LEAVES;
/// Sums of a group, above.
const FAN: usize = 16;
/// Positions of a structure without pages.
const LEAST: usize = GROUP;

/// Pages (by id) ordered by their latest reference.
pub struct Recency {
    /// Position of a page's latest reference, by id; `NONE`: not in the order.
    latest: Vec<u32>,
    words: Vec<u64>,
    leaves: Vec<Leaves>,
    /// Set bits of the groups of leaves that are before it in its group of `FAN`, then the same of those groups, ..
    levels: Vec<Vec<[u32; FAN]>>,
    /// Groups of leaves that the levels count: the first ones.
    counted: usize,
    /// Position of the next reference.
    next: usize,
    live: usize,
}

const NONE: u32 = u32::MAX;

/// Set bits of each leaf of a group: a byte each, which is at most 64, a cache line in all. They are kept by eight, because
/// what is written as one byte cannot be read back as eight before it has left the processor.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Leaves([u64; LEAVES / 8]);

/// All bits of the bytes before each leaf.
const BEFORE: [Leaves; LEAVES] = {
    let mut before = [Leaves([0; LEAVES / 8]); LEAVES];
    let mut leaf = 0;
    while leaf < LEAVES {
        let mut byte = 0;
        while byte < leaf {
            before[leaf].0[byte / 8] |= 0xFF << (byte % 8 * 8);
            byte += 1;
        }
        leaf += 1;
    }
    before
};

impl Leaves {
    /// Adds to a leaf's set bits.
    #[inline]
    fn add(&mut self, leaf: usize, by: u64) {
        let eight = &mut self.0[leaf / 8 % (LEAVES / 8)];
        *eight = eight.wrapping_add(by << (leaf % 8 * 8));
    }

    /// Set bits of the leaves before `leaf`.
    #[inline]
    fn before(&self, leaf: usize) -> usize {
        let mask = &BEFORE[leaf % LEAVES].0;
        let [a, b, c, d, e, f, g, h]: [u64; LEAVES / 8] =
            std::array::from_fn(|i| self.0[i] & mask[i]);
        // Three bytes' sum is at most 192, that of all 4096: sixteen bits hold it.
        let even =
            |bytes: u64| (bytes & 0x00FF_00FF_00FF_00FF) + (bytes >> 8 & 0x00FF_00FF_00FF_00FF);
        let sums = even(a + b + c) + even(d + e + f) + even(g + h);
        (sums.wrapping_mul(0x0001_0001_0001_0001) >> 48) as usize
    }

    /// Set bits of all leaves.
    fn all(&self) -> u32 {
        self.0
            .iter()
            .flat_map(|eight| eight.to_le_bytes())
            .map(u32::from)
            .sum()
    }
}

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
            leaves: Vec::new(),
            levels: Vec::new(),
            counted: 0,
            next: 0,
            live: 0,
        };
        new.resize(LEAST);
        new
    }

    /// An order of pages with ids below `ids`.
    pub fn of(ids: usize) -> Self {
        Self {
            latest: vec![NONE; ids],
            ..Self::new()
        }
    }

    /// Pages in the order.
    pub fn pages(&self) -> usize {
        self.live
    }

    /// Bytes that the structure takes.
    pub fn bytes(&self) -> usize {
        self.latest.capacity() * 4
            + self.words.capacity() * 8
            + self.leaves.capacity() * size_of::<Leaves>()
            + self
                .levels
                .iter()
                .map(|level| level.capacity() * 4 * FAN)
                .sum::<usize>()
    }

    /// Bytes that it may take after `more` further pages, renumbering included; `fixed`: their ids are known already.
    pub fn bytes_after(&self, more: usize, fixed: bool) -> usize {
        let latest = match fixed {
            true => self.latest.capacity(),
            false => (self.latest.len() + more).next_power_of_two(),
        };
        let positions = capacity_for(self.live + more);
        latest * 4 + 2 * (positions / 8 + positions / LEAF * 2) + 4096
    }

    /// Reads what references to `ids` will want, all at once: the processor then waits for memory once, not once each.
    #[inline]
    pub fn fetch(&self, ids: &[u32]) {
        let mut seen = 0;
        for id in ids {
            if let Some(&latest) = self.latest.get(*id as usize) {
                seen ^= self.words.get(latest as usize / LEAF).copied().unwrap_or(0);
            }
        }
        std::hint::black_box(seen);
    }

    /// References page `id`. Gives how many other pages were referenced since the last time; `None`: it is new.
    #[inline]
    pub fn reference(&mut self, id: u32) -> Option<u64> {
        if self.next == self.words.len() * LEAF {
            self.renumber();
        }
        if self.next / GROUP > self.counted {
            self.count_group();
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

    /// Set bits up to `position`, itself included. The sum of a group of leaves is over all of it, masked: which ones count no
    /// processor foresees.
    #[inline]
    fn rank(&self, position: usize) -> usize {
        let leaf = position / LEAF;
        let bits = self.words[leaf] << (LEAF - 1 - position % LEAF);
        let mut count = bits.count_ones() as usize;
        count += self.leaves[leaf / LEAVES].before(leaf % LEAVES);
        let mut index = leaf / LEAVES;
        for level in &self.levels {
            count += level[index / FAN][index % FAN] as usize;
            index /= FAN;
        }
        count
    }

    #[inline]
    fn change(&mut self, position: usize, set: bool) {
        let leaf = position / LEAF;
        self.words[leaf] ^= 1 << (position % LEAF);
        let by = if set { 1i64 } else { -1 };
        self.leaves[leaf / LEAVES].add(leaf % LEAVES, by as u64);
        if leaf / LEAVES < self.counted {
            self.add(leaf / LEAVES, by as u32);
        }
    }

    /// Adds to the number of bits of a group of leaves.
    #[inline]
    fn add(&mut self, group: usize, by: u32) {
        let mut index = group;
        for level in &mut self.levels {
            let before = (index % FAN) as u32;
            for (i, count) in (0..).zip(&mut level[index / FAN]) {
                *count = count.wrapping_add(if i > before { by } else { 0 });
            }
            index /= FAN;
        }
    }

    /// Lets the levels count the next group of leaves, which is full.
    #[cold]
    fn count_group(&mut self) {
        let bits = self.leaves[self.counted].all();
        self.add(self.counted, bits);
        self.counted += 1;
    }

    /// Makes room for `positions`, all bits cleared.
    fn resize(&mut self, positions: usize) {
        let leaves = positions.div_ceil(LEAF);
        self.words.clear();
        self.words.resize(leaves, 0);
        self.words.shrink_to(leaves);
        self.leaves = vec![Leaves::default(); leaves.div_ceil(LEAVES)];
        self.levels.clear();
        let mut count = leaves.div_ceil(LEAVES);
        while count > 1 {
            count = count.div_ceil(FAN);
            self.levels.push(vec![[0; FAN]; count]);
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
            let (word, bit) = (*latest as usize / LEAF, *latest as usize % LEAF);
            *latest = before[word] + (self.words[word] & ((1 << bit) - 1)).count_ones();
        }
        drop(before);
        self.resize(capacity_for(self.live));
        for (leaf, word) in self.words.iter_mut().enumerate() {
            let bits = self.live.saturating_sub(leaf * LEAF).min(LEAF) as u32;
            *word = u64::MAX.checked_shr(LEAF as u32 - bits).unwrap_or(0);
            self.leaves[leaf / LEAVES].add(leaf % LEAVES, u64::from(bits));
        }
        self.counted = 0;
        while self.counted < self.live / GROUP {
            self.count_group();
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
