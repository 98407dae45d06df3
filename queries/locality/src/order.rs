//! Reuse distances of a reference string that is worked on in stretches, each by a thread of its own.
//!
//! Within a stretch distances are what they are. The first reference of a stretch to a page has its predecessor, if
//! any, in an earlier one: it is found when the stretches are put together, by taking pages out of the earlier
//! stretches' orders as the later ones reference them (Niu et al., "PARDA: a fast parallel reuse distance analysis
//! algorithm", 2012).

use crate::index::{Extent, PageIndex};
use crate::recency::{FIRST, Recency, TOGETHER};

/// Pages of one stretch in order of their latest reference.
pub struct PageOrder {
    index: PageIndex,
    recency: Recency,
    /// Pages in the order of their first reference, where the first stretch does not know them all: by id.
    first: Vec<u32>,
    keeps_first: bool,
    /// Ids that extents gave: in every order of the same extents they are the same.
    places: usize,
}

impl PageOrder {
    /// The order of a stretch; `follows`: other stretches come before it. `extents` say where the pages lie, where that is
    /// known.
    pub fn new(extents: &[Extent], follows: bool) -> Self {
        let index = PageIndex::dense(extents).unwrap_or_default();
        Self {
            recency: Recency::of(index.pages()),
            places: index.pages(),
            index,
            first: Vec::new(),
            keeps_first: follows,
        }
    }

    /// Pages referenced in this stretch.
    pub fn pages(&self) -> usize {
        self.recency.pages()
    }

    /// Bytes that an order of `extents` takes before there is anything in it.
    pub fn bytes_of(extents: &[Extent]) -> usize {
        extents.iter().fold(0, |sum: usize, extent| {
            let pages = usize::try_from(extent.pages()).unwrap_or(usize::MAX);
            sum.saturating_add(pages.saturating_mul(4))
                .saturating_add(64)
        })
    }

    /// Bytes taken.
    pub fn bytes(&self) -> usize {
        self.index.bytes() + self.recency.bytes() + self.first.capacity() * 4
    }

    /// Bytes that it may take after `more` further pages.
    pub fn bytes_after(&self, more: usize) -> usize {
        let first = if self.keeps_first {
            (self.first.len() + more).next_power_of_two() * 4
        } else {
            0
        };
        self.index.bytes_after(more) + self.recency.bytes_after(more, self.index.is_dense()) + first
    }

    /// Takes references. `each` gets the distances of a few of them at a time, with the number of the first; [`FIRST`]: the
    /// page is new in this stretch.
    #[inline]
    pub fn references(
        &mut self,
        object_ids: &[u64],
        pages: &[u64],
        mut each: impl FnMut(usize, &[u32]),
    ) {
        let (mut ids, mut distances) = ([0; TOGETHER], [0; TOGETHER]);
        let (count, mut done) = (object_ids.len().min(pages.len()), 0);
        while done < count {
            let part = done..(done + self.recency.room()).min(count);
            let ids = &mut ids[..part.len()];
            let keys = object_ids[part.clone()].iter().zip(&pages[part]);
            for (id, (object, page)) in ids.iter_mut().zip(keys) {
                *id = self.index.id(*object, *page);
            }
            self.recency.reserve(self.index.pages());
            self.recency.references(ids, &mut distances);
            if self.keeps_first {
                let new = ids.iter().zip(&distances).filter(|(_, d)| **d == FIRST);
                self.first.extend(new.map(|(id, _)| *id));
            }
            each(done, &distances[..ids.len()]);
            done += ids.len();
        }
    }

    /// Puts stretches together: `each` gets the distance of every first reference in the second and further ones, in no order
    /// that means anything; `None`: no stretch before it knows the page. First references in the first stretch are not given again.
    pub fn join(stretches: &mut [PageOrder], mut each: impl FnMut(Option<u64>)) {
        for at in 1..stretches.len() {
            let (earlier, later) = stretches.split_at_mut(at);
            let Some(later) = later.first_mut() else {
                return;
            };
            let first = std::mem::take(&mut later.first);
            let names = Names::of(&later.index, later.places);
            let mut since = 0;
            for ids in first.chunks(TOGETHER) {
                // Pages of this stretch so far, then what is left of the stretches between.
                let mut waiting: Vec<(u32, u64)> = ids.iter().copied().zip(since..).collect();
                for before in earlier.iter_mut().rev() {
                    let ids: Vec<u32> = waiting
                        .iter()
                        .map(|(id, _)| before.id_of(*id, &names))
                        .collect();
                    let mut left = before.recency.pages() as u64;
                    let mut after = before.recency.remove(&ids).into_iter();
                    waiting.retain_mut(|(_, others)| match after.next() {
                        None | Some(FIRST) => {
                            *others += left;
                            true
                        }
                        Some(after) => {
                            each(Some(*others + u64::from(after)));
                            left -= 1;
                            false
                        }
                    });
                }
                waiting.iter().for_each(|_| each(None));
                since += ids.len() as u64;
            }
        }
    }

    /// Its own id of a page of a later stretch; none of its pages has the id [`FIRST`].
    fn id_of(&mut self, id: u32, names: &Names) -> u32 {
        // Orders of the same extents have the same ids.
        if self.places == names.places && (id as usize) < self.places {
            return id;
        }
        let (object_id, page) = names.get(id);
        let object = self.index.object(object_id);
        self.index.get(object, page).unwrap_or(FIRST)
    }
}

/// What ids stand for, found when it is asked for first.
struct Names<'a> {
    index: &'a PageIndex,
    places: usize,
    /// (object slot, page) by id.
    keys: std::cell::OnceCell<Vec<(u32, u64)>>,
}

impl<'a> Names<'a> {
    fn of(index: &'a PageIndex, places: usize) -> Self {
        Self {
            index,
            places,
            keys: std::cell::OnceCell::new(),
        }
    }

    fn get(&self, id: u32) -> (u64, u64) {
        let keys = self.keys.get_or_init(|| {
            let mut keys = vec![(0, 0); self.index.pages()];
            for (id, key) in self.index.keys() {
                keys[id as usize] = (key.object, key.page);
            }
            keys
        });
        let (object, page) = keys[id as usize];
        (self.index.objects()[object as usize], page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recency::known;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Distances by an LRU stack, counted; the key `None`: first references.
    fn naive(string: &[(u64, u64)]) -> BTreeMap<Option<u64>, usize> {
        let mut stack: Vec<(u64, u64)> = Vec::new();
        let mut counts = BTreeMap::new();
        for page in string {
            let depth = stack.iter().rev().position(|other| other == page);
            stack.retain(|other| other != page);
            stack.push(*page);
            *counts.entry(depth.map(|d| d as u64)).or_default() += 1;
        }
        counts
    }

    proptest! {
        #[test]
        fn stretches_give_what_the_whole_gives(
            string in prop::collection::vec((0u64..3, 0u64..40), 0..400),
            cuts in prop::collection::vec(0usize..400, 0..4),
            dense in any::<bool>(),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(string.len())).collect();
            cuts.extend([0, string.len()]);
            cuts.sort_unstable();
            // Some pages lie outside of the extents.
            let extents = [Extent { object_id: 1, first: 0, last: 39 }, Extent { object_id: 0, first: 5, last: 30 }];
            let mut counts: BTreeMap<Option<u64>, usize> = BTreeMap::new();
            let mut orders = Vec::new();
            for (n, cut) in cuts.windows(2).enumerate() {
                let (objects, pages): (Vec<u64>, Vec<u64>) = string[cut[0]..cut[1]].iter().copied().unzip();
                let mut order = PageOrder::new(if dense { &extents } else { &[] }, n > 0);
                order.references(&objects, &pages, |_, distances| {
                    for &distance in distances.iter().filter(|d| **d != FIRST || n == 0) {
                        *counts.entry(known(distance)).or_default() += 1;
                    }
                });
                orders.push(order);
            }
            PageOrder::join(&mut orders, |distance| *counts.entry(distance).or_default() += 1);
            prop_assert_eq!(counts, naive(&string));
        }
    }
}
