//! The order of pages by their latest reference: how many were referenced since a given one.
//!
//! One bit a reference, set where a page's latest reference is, and above the words of bits a tree of sums: set bits of the
//! nodes that are before a node in its parent, so that a rank reads one number a level. A reference takes its page's old
//! bit away and sets a new one at the end. The old bit's distance from the end, in set bits, is the reuse distance
//! (Mattson et al. 1970, the tree of Bennett and Kruskal 1975 with popcount for its leaves).
//!
//! References are worked on by the word. Distances to bits of the same word are found in a register. The ranks of all older
//! bits are read before any of them is taken away, and mended by comparing the bits with each other: a processor that
//! reads what it has just written, over and over, waits most of the time.
//!
//! Positions are renumbered when they run out, so memory follows the number of pages, not the number of references.

/// Bits of a leaf: a word.
const LEAF: usize = 64;
/// Children of a node.
const FAN: usize = 16;
/// Positions of a structure without pages: one node of each sort.
const LEAST: usize = LEAF * FAN * FAN;
/// Positions are below it: all other numbers are further from each of them than a word is long.
const MOST: usize = NONE as usize + 1 - 2 * LEAF;

/// No position, no distance.
const NONE: u32 = u32::MAX;

/// The distance of a reference whose page is not in the order: its first.
pub const FIRST: u32 = NONE;

/// A distance, if there is one: `None` is [`FIRST`].
#[inline]
pub fn known(distance: u32) -> Option<u64> {
    (distance != FIRST).then_some(u64::from(distance))
}

/// Most references that are worked on together.
pub const TOGETHER: usize = LEAF;

/// A number for each of a few references.
pub type Each = [u32; TOGETHER];

/// Pages (by id) ordered by their latest reference.
pub struct Recency {
    /// Position of a page's latest reference, by id; `NONE`: not in the order.
    latest: Vec<u32>,
    words: Vec<u64>,
    /// Sums of words: at most 64 * 15.
    low: Vec<Sums<u16>>,
    /// Sums of nodes of `low`: at most 1024 * 15.
    middle: Vec<Sums<u16>>,
    /// Sums of nodes of the level before, from those of `middle` on.
    high: Vec<Vec<Sums<u32>>>,
    /// Position of the next reference.
    next: usize,
    live: usize,
}

/// Set bits of the children of a node that are before each of its children.
#[derive(Clone, Copy, Default)]
#[repr(align(32))]
struct Sums<T>([T; FAN]);

macro_rules! sums {
    ($number:ty, $after:ident) => {
        /// Ones for the children that are after each of the children, and nothing else.
        const $after: [[$number; FAN]; FAN] = {
            let mut after = [[0; FAN]; FAN];
            let mut child = 0;
            while child < FAN {
                let mut later = child + 1;
                while later < FAN {
                    after[child][later] = <$number>::MAX;
                    later += 1;
                }
                child += 1;
            }
            after
        };

        impl Sums<$number> {
            /// Adds to a child's set bits.
            #[inline]
            fn add(&mut self, child: usize, by: $number) {
                let after = &$after[child % FAN];
                for i in 0..FAN {
                    self.0[i] = self.0[i].wrapping_add(after[i] & by);
                }
            }

            /// Set bits before a child.
            #[inline]
            fn before(&self, child: usize) -> u32 {
                u32::from(self.0[child % FAN])
            }
        }
    };
}
sums!(u16, AFTER_SMALL);
sums!(u32, AFTER_LARGE);

impl Default for Recency {
    fn default() -> Self {
        Self::new()
    }
}

impl Recency {
    /// An order without pages.
    pub fn new() -> Self {
        Self::of(0)
    }

    /// An order of pages with ids below `ids`.
    pub fn of(ids: usize) -> Self {
        let mut new = Self {
            latest: vec![NONE; ids],
            words: Vec::new(),
            low: Vec::new(),
            middle: Vec::new(),
            high: Vec::new(),
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
        let small = self.low.capacity() + self.middle.capacity();
        let large: usize = self.high.iter().map(Vec::capacity).sum();
        self.latest.capacity() * 4
            + self.words.capacity() * 8
            + small * size_of::<Sums<u16>>()
            + large * size_of::<Sums<u32>>()
    }

    /// Bytes that it may take after `more` further pages, renumbering included; `fixed`: their ids are known already.
    pub fn bytes_after(&self, more: usize, fixed: bool) -> usize {
        let latest = match fixed {
            true => self.latest.capacity(),
            false => (self.latest.len() + more).next_power_of_two(),
        };
        // A bit each, and sums of two bytes for 64 of them, of all levels above a sixth as much.
        let positions = capacity_for(self.live + more);
        latest * 4 + 2 * (positions / 8 + positions / LEAF * 2 * 7 / 6) + 8192
    }

    /// Makes room for ids below `ids`.
    #[inline]
    pub fn reserve(&mut self, ids: usize) {
        if ids > self.latest.len() {
            self.latest.resize(ids.max(self.latest.len() * 2), NONE);
        }
    }

    /// How many references can be given together next; at least one.
    #[inline]
    pub fn room(&mut self) -> usize {
        if self.next == self.words.len() * LEAF {
            self.renumber();
        }
        LEAF - self.next % LEAF
    }

    /// References one page, whatever its id; as [`Recency::references`], which is faster where there are many to reference.
    pub fn reference(&mut self, id: u32) -> Option<u64> {
        self.reserve(id as usize + 1);
        self.room();
        let mut distances = [0; TOGETHER];
        self.references(&[id], &mut distances);
        known(distances[0])
    }

    /// References pages, at most as many as there is [`Recency::room`] for. Of each, `distances` gets how many other pages were
    /// referenced since the last time; [`FIRST`]: it is new.
    ///
    /// # Panics
    /// If there are more, and if there is an id without room.
    pub fn references(&mut self, ids: &[u32], distances: &mut Each) {
        references(self, ids, distances);
    }

    #[inline(always)]
    fn reference_all(&mut self, ids: &[u32], distances: &mut Each) {
        assert!(ids.len() <= self.words.len() * LEAF - self.next);
        let start = self.next as u32;
        // Bits that were there before, and whose they are.
        let (mut old, mut of, mut count) = ([0; TOGETHER], [0u8; TOGETHER], 0);
        // Bits of these references, the first one's lowest.
        let (mut set, mut new) = (0u64, 0u64);
        for ((i, &id), distance) in (0..).zip(ids).zip(&mut *distances) {
            let before = std::mem::replace(&mut self.latest[id as usize], start + i);
            old[count % TOGETHER] = before;
            of[count % TOGETHER] = i as u8;
            count += usize::from(before < start);
            new |= u64::from(before == NONE) << i;
            let here = before.wrapping_sub(start);
            let (own, after) = match here < LEAF as u32 {
                true => (1 << (here % LEAF as u32), u64::MAX << (here % LEAF as u32)),
                false => (0, u64::MAX),
            };
            set &= !own;
            *distance = (set & after).count_ones();
            set |= 1 << i;
        }
        let after = self.take(&old, count);
        for (i, after) in of.iter().zip(after).take(count) {
            distances[*i as usize % TOGETHER] += after;
        }
        self.live += set.count_ones() as usize;
        self.fill(start as usize / LEAF, set << (start as usize % LEAF));
        self.next += ids.len();
        while new != 0 {
            distances[new.trailing_zeros() as usize] = FIRST;
            new &= new - 1;
        }
    }

    /// Takes pages out of the order, at most [`TOGETHER`]. Gives how many were referenced after each that it held then, those
    /// before it in `ids` being gone; [`FIRST`]: it is not there.
    ///
    /// # Panics
    /// If there are more.
    #[inline]
    pub fn remove(&mut self, ids: &[u32]) -> Each {
        let (mut old, mut of, mut count) = ([0; TOGETHER], [0u8; TOGETHER], 0);
        for (i, id) in ids.iter().enumerate() {
            if let Some(latest) = self.latest.get_mut(*id as usize) {
                old[count] = std::mem::replace(latest, NONE);
                of[count] = i as u8;
                count += usize::from(old[count] != NONE);
            }
        }
        let mut distances = [FIRST; TOGETHER];
        for (i, after) in of.iter().zip(self.take(&old, count)).take(count) {
            distances[*i as usize % TOGETHER] = after;
        }
        distances
    }

    /// Takes bits away, the first `count` of `old`. Gives how many are after each when its turn comes.
    #[inline(always)]
    fn take(&mut self, old: &Each, count: usize) -> Each {
        let mut after = [0; TOGETHER];
        for (after, &position) in after.iter_mut().zip(old).take(count) {
            *after = self.live as u32 - self.rank(position as usize);
        }
        without_earlier(old, count, &mut after);
        for &position in old.iter().take(count) {
            self.clear(position as usize);
        }
        self.live -= count;
        after
    }

    /// Set bits up to `position`, itself included.
    #[inline(always)]
    fn rank(&self, position: usize) -> u32 {
        let leaf = position / LEAF;
        let mut count = (self.words[leaf] << (LEAF - 1 - position % LEAF)).count_ones();
        count += self.low[leaf / FAN].before(leaf);
        let mut node = leaf / FAN;
        count += self.middle[node / FAN].before(node);
        for level in &self.high {
            node /= FAN;
            count += level[node / FAN].before(node);
        }
        count
    }

    /// Takes the bit at `position` away.
    #[inline(always)]
    fn clear(&mut self, position: usize) {
        let leaf = position / LEAF;
        self.words[leaf] &= !(1 << (position % LEAF));
        self.add(leaf, -1);
    }

    /// Sets bits of a word that has none of them.
    #[inline(always)]
    fn fill(&mut self, leaf: usize, bits: u64) {
        self.words[leaf] |= bits;
        self.add(leaf, bits.count_ones() as i32);
    }

    /// Adds to the number of bits of a word. Always in its place: of a number that is known there, less is left.
    #[inline(always)]
    fn add(&mut self, leaf: usize, by: i32) {
        self.low[leaf / FAN].add(leaf, by as u16);
        let mut node = leaf / FAN;
        self.middle[node / FAN].add(node, by as u16);
        for level in &mut self.high {
            node /= FAN;
            level[node / FAN].add(node, by as u32);
        }
    }

    /// Makes room for `positions`, all bits cleared.
    fn resize(&mut self, positions: usize) {
        let leaves = positions.div_ceil(LEAF);
        self.words.clear();
        self.words.resize(leaves, 0);
        self.words.shrink_to(leaves);
        let mut nodes = leaves.div_ceil(FAN);
        self.low = vec![Sums::default(); nodes];
        nodes = nodes.div_ceil(FAN);
        self.middle = vec![Sums::default(); nodes];
        self.high.clear();
        while nodes > 1 {
            nodes = nodes.div_ceil(FAN);
            self.high.push(vec![Sums::default(); nodes]);
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
        for leaf in 0..self.live.div_ceil(LEAF) {
            let bits = (self.live - leaf * LEAF).min(LEAF);
            self.fill(leaf, u64::MAX >> (LEAF - bits));
        }
        self.next = self.live;
    }
}

/// [`Recency::references`], once for each sort of processor: half of the time goes into vectors and counts of bits.
#[multiversion::multiversion(targets("x86_64+avx2+bmi1+bmi2+lzcnt+popcnt"))]
fn references(order: &mut Recency, ids: &[u32], distances: &mut Each) {
    order.reference_all(ids, distances);
}

/// Subtracts from each of `after` how many positions before it in `old`, of which the first `count` mean something, are
/// larger.
#[inline(always)]
fn without_earlier(old: &Each, count: usize, after: &mut Each) {
    // Each with whole vectors of those before, then with its neighbours: no processor foresees which are larger.
    const LANES: usize = 8;
    // Old processors' vectors compare signed numbers only.
    let old = old.map(|position| (position ^ 1 << 31) as i32);
    let (afters, _) = after.as_chunks_mut::<LANES>();
    let parts = old.as_chunks::<LANES>().0.iter().zip(afters);
    for (part, (mine, after)) in parts.enumerate().take(count.div_ceil(LANES)) {
        // Copies, for registers.
        let (mine, mut larger) = (*mine, [0; LANES]);
        for &earlier in &old[..part * LANES] {
            for lane in 0..LANES {
                larger[lane] += u32::from(earlier > mine[lane]);
            }
        }
        for earlier in 0..LANES {
            for lane in earlier + 1..LANES {
                larger[lane] += u32::from(mine[earlier] > mine[lane]);
            }
        }
        for (after, larger) in after.iter_mut().zip(larger) {
            *after = after.wrapping_sub(larger);
        }
    }
}

/// Positions for `pages`: four times as many, so that renumbering costs little a reference.
fn capacity_for(pages: usize) -> usize {
    (pages * 4)
        .clamp(LEAST, MOST.max(pages + LEAST))
        .next_multiple_of(LEAF)
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

    fn found(recency: &mut Recency, string: &[u32], most: usize) -> Vec<Option<u64>> {
        let (mut rest, mut found) = (string, Vec::new());
        while !rest.is_empty() {
            let (ids, others) = rest.split_at(recency.room().min(rest.len()).min(most));
            recency.reserve(ids.iter().max().map_or(0, |most| *most as usize + 1));
            let mut distances = [0; TOGETHER];
            // What newer processors run, if this is one, and what all do.
            match recency.next / LEAF % 2 {
                0 => recency.references(ids, &mut distances),
                _ => recency.reference_all(ids, &mut distances),
            }
            found.extend(distances.map(known).into_iter().take(ids.len()));
            rest = others;
        }
        found
    }

    proptest! {
        #[test]
        fn distances_are_those_of_an_lru_stack(string in prop_oneof![
            prop::collection::vec(0u32..8, 0..300),
            prop::collection::vec(0u32..3000, 0..9000),
        ], steps in 1usize..100) {
            prop_assert_eq!(found(&mut Recency::new(), &string, steps), naive(&string));
        }

        #[test]
        fn removed_pages_are_new_again(steps in prop::collection::vec((any::<bool>(), prop::collection::vec(0u32..90, 0..64)), 0..50)) {
            let mut recency = Recency::new();
            let mut stack: Vec<u32> = Vec::new();
            for (reference, ids) in steps {
                let mut depths = Vec::new();
                for id in &ids {
                    let depth = stack.iter().rev().position(|other| other == id);
                    depths.push(depth.map(|depth| depth as u64));
                    stack.retain(|other| other != id);
                    if reference {
                        stack.push(*id);
                    }
                }
                let found = if reference {
                    found(&mut recency, &ids, TOGETHER)
                } else {
                    let after = recency.remove(&ids);
                    after.map(known).into_iter().take(ids.len()).collect()
                };
                prop_assert_eq!(found, depths);
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
        assert_eq!(found(&mut recency, &string, TOGETHER), naive(&string));
        assert!(recency.bytes() < 4096, "{}", recency.bytes());
    }

    #[test]
    fn distances_of_many_pages_are_those_of_a_fenwick_tree() {
        // As many pages as the sums have levels for, and more: half of the references scan, half are anywhere.
        let (pages, refs) = (300_000u32, 1_500_000u32);
        let string: Vec<u32> = (0..refs)
            .map(|i| match crate::index::mix(u64::from(i)) as u32 {
                random if random % 2 == 0 => random / 2 % pages,
                _ => i / 2 % pages,
            })
            .collect();
        // By time, which is never renumbered; sums as Fenwick's.
        let mut sums = vec![0i64; string.len() + 1];
        let add = |sums: &mut [i64], time: usize, by| {
            let mut at = time + 1;
            while at < sums.len() {
                sums[at] += by;
                at += at & at.wrapping_neg();
            }
        };
        let mut latest = std::collections::HashMap::new();
        let mut expected = Vec::new();
        for (time, page) in string.iter().enumerate() {
            let before = latest.insert(*page, time);
            expected.push(before.map(|before| {
                let (mut at, mut rank) = (before + 1, 0);
                while at > 0 {
                    rank += sums[at];
                    at &= at - 1;
                }
                let others = latest.len() as i64 - rank;
                add(&mut sums, before, -1);
                others as u64
            }));
            add(&mut sums, time, 1);
        }
        assert!(found(&mut Recency::of(pages as usize), &string, TOGETHER) == expected);
    }
}
