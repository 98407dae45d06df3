//! Pages as small numbers: (object, page index) to an id that is an index of an array.
//!
//! What an analysis keeps of a page stands in arrays, one entry an id. Where the pages of each object are known to lie
//! close together, ids are positions and nothing is looked up. Else they are given in the order in which pages first
//! appear, so that arrays grow with what was really referenced, not with address spaces.

use std::collections::HashMap;

/// Page of an object: what backs the page, and the page's index in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageKey {
    /// Slot of the object, as [`PageIndex::objects`] numbers them.
    pub object: u32,
    /// Page index in the object.
    pub page: u64,
}

/// Pages of one block: neighbours are usually referenced together, and one cache line holds their ids.
const BLOCK: usize = 16;
const BLOCK_BITS: u32 = BLOCK.trailing_zeros();
const NONE: u32 = u32::MAX;
/// No object has this slot: marks an empty entry of the table.
const EMPTY: u32 = u32::MAX;

/// References that are worth working on together, step by step: what one needs from memory is fetched while others wait.
pub const TOGETHER: usize = 64;

/// Most pages that an index can tell apart.
pub const MAX_PAGES: usize = NONE as usize;

#[derive(Clone, Copy)]
struct Entry {
    object: u32,
    block: u32,
    /// Page index without its last bits.
    high: u64,
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Ids([u32; BLOCK]);

/// Pages of an object that may appear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The object.
    pub object_id: u64,
    /// Its first page.
    pub first: u64,
    /// Its last page.
    pub last: u64,
}

impl Extent {
    /// Pages of it; at most `u64::MAX`.
    pub fn pages(&self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }
}

/// Ids of an object that has its own: page `first` has id `base`, and so on.
#[derive(Clone, Copy)]
struct Dense {
    first: u64,
    pages: u64,
    base: u32,
}

/// Objects that are found without asking the map. A trace goes to and fro between a few.
const RECENT: usize = 256;

/// Gives pages their ids.
pub struct PageIndex {
    objects: HashMap<u64, u32>,
    object_ids: Vec<u64>,
    /// Objects looked up lately, by a few bits of their hash: id, slot.
    recent: Box<[(u64, u32); RECENT]>,
    /// By slot of the object, for the first objects.
    dense: Vec<Dense>,
    /// Open addressing, a power of two of entries, at most half of them taken.
    table: Vec<Entry>,
    blocks: Vec<Ids>,
    pages: u32,
}

impl Default for PageIndex {
    fn default() -> Self {
        Self::new()
    }
}

/// A good mix of 64 bits (the finalizer of SplitMix64, Steele et al., 2014).
#[inline]
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A hash of a page that does not depend on the order of anything: the same in every run and on every machine.
#[inline]
pub fn page_hash(object_id: u64, page: u64) -> u64 {
    mix(object_id
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(page))
}

impl PageIndex {
    /// An index without pages.
    pub fn new() -> Self {
        let empty = Entry {
            object: EMPTY,
            block: 0,
            high: 0,
        };
        Self {
            objects: HashMap::new(),
            object_ids: Vec::new(),
            recent: Box::new([(0, EMPTY); RECENT]),
            dense: Vec::new(),
            table: vec![empty; 1 << 6],
            blocks: Vec::new(),
            pages: 0,
        }
    }

    /// An index in which the pages of `extents` (one an object) have their ids from the start. `None`: they are too many
    /// to have numbers.
    pub fn dense(extents: &[Extent]) -> Option<Self> {
        let mut index = Self::new();
        for extent in extents {
            let pages = extent.pages();
            index.dense.push(Dense {
                first: extent.first,
                pages,
                base: index.pages,
            });
            index.object(extent.object_id);
            let after = u64::from(index.pages).checked_add(pages)?;
            index.pages = u32::try_from(after).ok().filter(|pages| *pages < NONE)?;
        }
        Some(index)
    }

    /// Whether it was made of extents.
    pub fn is_dense(&self) -> bool {
        !self.dense.is_empty()
    }

    /// Ids are below it: distinct pages so far, and those of the extents it was made of.
    pub fn pages(&self) -> usize {
        self.pages as usize
    }

    /// Ids of the objects so far, by slot.
    pub fn objects(&self) -> &[u64] {
        &self.object_ids
    }

    /// Bytes that the index takes.
    pub fn bytes(&self) -> usize {
        self.table.capacity() * size_of::<Entry>()
            + self.blocks.capacity() * size_of::<Ids>()
            + self.object_ids.capacity() * 40
            + self.dense.capacity() * size_of::<Dense>()
    }

    /// Bytes that it may take after `more` further pages, in the worst case: each in a block of its own, except that the
    /// pages of a dense index are those of its extents.
    pub fn bytes_after(&self, more: usize) -> usize {
        if self.is_dense() {
            return self.bytes();
        }
        // Vectors double, from four entries on.
        let doubled = |len: usize, capacity: usize| {
            if len <= capacity {
                capacity
            } else {
                len.next_power_of_two().max(capacity * 2).max(4)
            }
        };
        let blocks = self.blocks.len() + more;
        let table = (blocks * 2).next_power_of_two().max(self.table.len());
        table * size_of::<Entry>()
            + doubled(blocks, self.blocks.capacity()) * size_of::<Ids>()
            + doubled(self.object_ids.len() + more, self.object_ids.capacity()) * 40
    }

    /// Slot of an object: small numbers in the order in which objects appear.
    #[inline]
    pub fn object(&mut self, object_id: u64) -> u32 {
        let at = (object_id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as usize % RECENT;
        let (id, slot) = self.recent[at];
        if id == object_id && slot != EMPTY {
            return slot;
        }
        let slot = self.find_object(object_id);
        self.recent[at] = (object_id, slot);
        slot
    }

    /// Gives objects other ids, each its own.
    pub fn rename(&mut self, name: impl Fn(u64) -> u64) {
        self.object_ids.iter_mut().for_each(|id| *id = name(*id));
        let slots = self.object_ids.iter().zip(0u32..);
        self.objects = slots.map(|(id, slot)| (*id, slot)).collect();
        *self.recent = [(0, EMPTY); RECENT];
    }

    #[cold]
    fn find_object(&mut self, object_id: u64) -> u32 {
        let next = self.object_ids.len() as u32;
        let slot = *self.objects.entry(object_id).or_insert(next);
        if slot == next {
            self.object_ids.push(object_id);
        }
        slot
    }

    /// Id of a page, a new one if it has not appeared before.
    #[inline]
    pub fn id(&mut self, object_id: u64, page: u64) -> u32 {
        let object = self.object(object_id);
        self.id_in(object, page)
    }

    /// Id of a page of the object with slot `object`.
    #[inline]
    pub fn id_in(&mut self, object: u32, page: u64) -> u32 {
        match self.dense_id(object, page) {
            Some(id) => id,
            None => self.hashed_id(object, page),
        }
    }

    /// The id of a page that has one from the start.
    #[inline]
    fn dense_id(&self, object: u32, page: u64) -> Option<u32> {
        let dense = self.dense.get(object as usize)?;
        let at = page.wrapping_sub(dense.first);
        (at < dense.pages).then(|| dense.base + at as u32)
    }

    fn hashed_id(&mut self, object: u32, page: u64) -> u32 {
        let block = self.block(object, page >> BLOCK_BITS);
        let id = &mut self.blocks[block as usize].0[page as usize % BLOCK];
        if *id == NONE {
            *id = self.pages;
            self.pages += 1;
        }
        *id
    }

    /// Forgets a page: its id becomes free for [`PageIndex::give`]. Nothing happens if it is not there.
    pub fn forget(&mut self, object: u32, page: u64) {
        let block = self.block(object, page >> BLOCK_BITS);
        self.blocks[block as usize].0[page as usize % BLOCK] = NONE;
    }

    /// Id of a page that has one.
    pub fn get(&mut self, object: u32, page: u64) -> Option<u32> {
        if let Some(id) = self.dense_id(object, page) {
            return Some(id);
        }
        let block = self.block(object, page >> BLOCK_BITS);
        let id = self.blocks[block as usize].0[page as usize % BLOCK];
        (id != NONE).then_some(id)
    }

    /// Gives a page a certain id, one that was free.
    pub fn give(&mut self, object: u32, page: u64, id: u32) {
        let block = self.block(object, page >> BLOCK_BITS);
        self.blocks[block as usize].0[page as usize % BLOCK] = id;
        self.pages = self.pages.max(id + 1);
    }

    /// All pages with their ids, in no order that means anything. Of a dense index: all of its extents' pages.
    pub fn keys(&self) -> impl Iterator<Item = (u32, PageKey)> + '_ {
        let dense = self.dense.iter().enumerate().flat_map(|(object, d)| {
            (0..d.pages).map(move |i| {
                let (object, page) = (object as u32, d.first + i);
                (d.base + i as u32, PageKey { object, page })
            })
        });
        dense.chain(self.hashed_keys())
    }

    fn hashed_keys(&self) -> impl Iterator<Item = (u32, PageKey)> + '_ {
        let taken = self.table.iter().filter(|e| e.object != EMPTY);
        taken.flat_map(|e| {
            let ids = self.blocks[e.block as usize].0.iter().enumerate();
            let found = ids.filter(|(_, id)| **id != NONE);
            found.map(|(i, id)| {
                (
                    *id,
                    PageKey {
                        object: e.object,
                        page: (e.high << BLOCK_BITS) | i as u64,
                    },
                )
            })
        })
    }

    /// Forgets all pages and gives their memory back; objects keep their slots. It is not dense any more.
    pub fn clear_pages(&mut self) {
        let empty = Self::new();
        self.dense = Vec::new();
        (self.table, self.blocks, self.pages) = (empty.table, empty.blocks, 0);
    }

    #[inline]
    fn block(&mut self, object: u32, high: u64) -> u32 {
        let mask = self.table.len() - 1;
        let mut at = place(object, high) & mask;
        loop {
            let entry = self.table[at & mask];
            if entry.high == high && entry.object == object {
                return entry.block;
            }
            if entry.object == EMPTY {
                return self.new_block(object, high);
            }
            at = (at & mask) + 1;
        }
    }

    #[cold]
    fn new_block(&mut self, object: u32, high: u64) -> u32 {
        if (self.blocks.len() + 1) * 2 > self.table.len() {
            let empty = Entry {
                object: EMPTY,
                block: 0,
                high: 0,
            };
            let larger = vec![empty; self.table.len() * 2];
            for entry in std::mem::replace(&mut self.table, larger) {
                if entry.object != EMPTY {
                    self.insert(entry);
                }
            }
        }
        let block = self.blocks.len() as u32;
        self.blocks.push(Ids([NONE; BLOCK]));
        self.insert(Entry {
            object,
            block,
            high,
        });
        block
    }

    fn insert(&mut self, entry: Entry) {
        let mask = self.table.len() - 1;
        let mut at = place(entry.object, entry.high) & mask;
        while self.table[at].object != EMPTY {
            at = (at + 1) & mask;
        }
        self.table[at] = entry;
    }
}

/// Where a block is first looked for. Neighbouring blocks get neighbouring places: they are asked for together.
#[inline]
fn place(object: u32, high: u64) -> usize {
    // Four blocks side by side, groups of them scattered.
    let group = mix((high >> 2) ^ (u64::from(object) << 40));
    ((group << 2) | (high & 3)) as usize
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_are_dense_and_one_a_page(pages in prop::collection::vec((0u64..5, prop_oneof![0u64..40, any::<u64>()]), 0..400)) {
            let mut index = PageIndex::new();
            let mut known: HashMap<(u64, u64), u32> = HashMap::new();
            for &(object, page) in &pages {
                let next = known.len() as u32;
                let expected = *known.entry((object, page)).or_insert(next);
                prop_assert_eq!(index.id(object, page), expected);
            }
            prop_assert_eq!(index.pages(), known.len());
            let listed: HashMap<(u64, u64), u32> =
                index.keys().map(|(id, key)| ((index.objects()[key.object as usize], key.page), id)).collect();
            prop_assert_eq!(listed, known);
        }
    }

    #[test]
    fn pages_of_extents_have_their_places() {
        let extent = |object_id, first, last| Extent {
            object_id,
            first,
            last,
        };
        let extents = [
            extent(9, 100, 104),
            extent(7, 0, 0),
            extent(8, u64::MAX - 1, u64::MAX),
        ];
        let mut index = PageIndex::dense(&extents).unwrap();
        assert_eq!(index.id(9, 102), 2);
        assert_eq!(
            (index.id(7, 0), index.id(8, u64::MAX), index.pages()),
            (5, 7, 8)
        );
        // Others get numbers behind.
        assert_eq!((index.id(7, 1), index.id(1, 5), index.id(7, 1)), (8, 9, 8));
        let keys: HashMap<u32, (u64, u64)> = index
            .keys()
            .map(|(id, key)| (id, (index.objects()[key.object as usize], key.page)))
            .collect();
        assert_eq!(keys.len(), 10);
        assert_eq!(
            (keys[&0], keys[&7], keys[&9]),
            ((9, 100), (8, u64::MAX), (1, 5))
        );
        assert!(PageIndex::dense(&[extent(1, 0, u64::MAX)]).is_none());
        assert!(
            PageIndex::dense(&[extent(1, 0, u64::from(u32::MAX) - 2), extent(2, 0, 9)]).is_none()
        );
    }

    #[test]
    fn the_worst_case_of_bytes_holds() {
        let mut index = PageIndex::new();
        for step in [1usize, 10, 1000, 5000] {
            let bound = index.bytes_after(step);
            for i in 0..step as u64 {
                index.id(mix(i ^ (step as u64) << 32), mix(i));
            }
            assert!(index.bytes() <= bound, "{} {bound}", index.bytes());
        }
    }

    #[test]
    fn a_forgotten_page_can_be_given_its_id_again() {
        let mut index = PageIndex::new();
        let object = index.object(7);
        assert_eq!(index.id_in(object, 1), 0);
        index.forget(object, 1);
        assert_eq!(index.get(object, 1), None);
        index.give(object, 9, 0);
        assert_eq!((index.get(object, 9), index.pages()), (Some(0), 1));
    }
}
