//! Pages as small numbers: (object, page index) to an id that is an index of an array.
//!
//! What an analysis keeps of a page stands in arrays, one entry an id. Ids are given in the order in which pages
//! first appear, so arrays grow with what was really referenced, not with address spaces.

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

/// Gives pages their ids.
pub struct PageIndex {
    objects: HashMap<u64, u32>,
    object_ids: Vec<u64>,
    /// The object looked up last: references to one object come in runs.
    recent: Option<(u64, u32)>,
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
    mix(mix(object_id.wrapping_add(0x9E37_79B9_7F4A_7C15)) ^ page)
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
            recent: None,
            table: vec![empty; 1 << 6],
            blocks: Vec::new(),
            pages: 0,
        }
    }

    /// Distinct pages so far; ids are below it.
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
    }

    /// Bytes that it may take after `more` further pages, in the worst case: each in a block of its own.
    pub fn bytes_after(&self, more: usize) -> usize {
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
        if let Some((id, slot)) = self.recent
            && id == object_id
        {
            return slot;
        }
        let next = self.object_ids.len() as u32;
        let slot = *self.objects.entry(object_id).or_insert(next);
        if slot == next {
            self.object_ids.push(object_id);
        }
        self.recent = Some((object_id, slot));
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

    /// Ids of all pages of `pages`, appended to `ids`; `object_ids` are their objects.
    pub fn ids(&mut self, object_ids: &[u64], pages: &[u64], ids: &mut Vec<u32>) {
        ids.extend(object_ids.iter().zip(pages).map(|(&o, &p)| self.id(o, p)));
    }

    /// All pages with their ids, in no order that means anything.
    pub fn keys(&self) -> impl Iterator<Item = (u32, PageKey)> + '_ {
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

    /// Forgets all pages and gives their memory back; objects keep their slots.
    pub fn clear_pages(&mut self) {
        let empty = Self::new();
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
