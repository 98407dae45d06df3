//! A reference string with dense page numbers, and what can be counted on it in one pass.

/// A string of page references: `ids[i]` is the rank of the i-th referenced page among the distinct pages in ascending
/// order, `pages[id]` the page itself. Ranks keep the order of pages, so they do for order as well as for identity.
#[derive(Debug)]
pub(super) struct PageString {
    pub(super) ids: Vec<u32>,
    pub(super) pages: Vec<u64>,
}

impl PageString {
    pub(super) fn new(string: &[u64]) -> Self {
        let mut pages = string.to_vec();
        pages.sort_unstable();
        pages.dedup();
        let ids = string
            .iter()
            .map(|page| pages.partition_point(|known| known < page) as u32)
            .collect();
        Self { ids, pages }
    }

    /// How often each page is in `ids`, which are ours or our runs.
    pub(super) fn counts(&self, ids: &[u32]) -> Vec<u32> {
        let mut counts = vec![0; self.pages.len()];
        for &id in ids {
            counts[id as usize] += 1;
        }
        counts
    }

    /// The same page in a row taken once.
    pub(super) fn runs(ids: &[u32]) -> Vec<u32> {
        let mut runs = ids.to_vec();
        runs.dedup();
        runs
    }

    /// Runs, where one stray reference between two to a page does not make two runs.
    pub(super) fn mended(ids: &[u32]) -> Vec<u32> {
        let mut runs: Vec<u32> = Vec::with_capacity(ids.len());
        for &id in ids {
            if !runs.iter().rev().take(2).any(|&before| before == id) {
                runs.push(id);
            }
        }
        runs
    }

    /// The pages in the order of their first references.
    pub(super) fn firsts(&self) -> Vec<u64> {
        let uses = self.ids.iter().zip(first_uses(&self.ids, self.pages.len()));
        uses.filter(|(_, first)| *first)
            .map(|(&id, _)| self.pages[id as usize])
            .collect()
    }

    /// The largest alignment, in pages, that nearly all pages have (some of them are looked at): 1 where none does.
    pub(super) fn alignment(&self) -> u64 {
        let some: Vec<u64> = self
            .pages
            .iter()
            .step_by(self.pages.len() / LOOKED_AT + 1)
            .copied()
            .collect();
        let aligned = |to: u64| {
            let mut of = [0; MOST_ALIGNED as usize];
            some.iter().for_each(|page| of[(page % to) as usize] += 1);
            8 * of.into_iter().max().unwrap_or(0) >= 7 * some.len()
        };
        (2..=MOST_ALIGNED)
            .rev()
            .find(|&to| aligned(to))
            .unwrap_or(1)
    }

    /// Pages from the lowest to the highest, without the outermost twelfth on either side (few stray pages would
    /// make any span as wide as the object), scaled up for what was left out.
    pub(super) fn span(&self) -> f64 {
        let out = self.pages.len() / 12;
        let kept = &self.pages[out..self.pages.len() - out];
        let width = match (kept.first(), kept.last()) {
            (Some(low), Some(high)) => (high - low) as f64 + 1.0,
            _ => 1.0,
        };
        width * self.pages.len() as f64 / kept.len().max(1) as f64
    }
}

/// Alignments that are looked for: up to 256 KiB, in pages.
const MOST_ALIGNED: u64 = 64;
/// Pages whose alignment is looked at.
const LOOKED_AT: usize = 128;

/// Whether each of `ids`, which are below `distinct`, is the first of its kind.
pub(super) fn first_uses(ids: &[u32], distinct: usize) -> impl Iterator<Item = bool> {
    let mut seen = vec![false; distinct];
    ids.iter()
        .map(move |&id| !std::mem::replace(&mut seen[id as usize], true))
}

/// Difference of two pages as a step; wraps where page numbers are nonsense.
pub(super) fn step(from: u64, to: u64) -> i64 {
    to.wrapping_sub(from) as i64
}
