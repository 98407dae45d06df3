//! Sets of pages of any size in bounded memory.

use crate::index::mix;

/// A set of pages: exact up to a bound, above it the pages with the least hashes (bottom-k sketch, Broder 1997).
///
/// The hash is a bijection, so that the set of hashes *is* the set of pages. Of a larger set the `bound` least hashes
/// remain, which is a random sample of its pages that is drawn in the same way from every set: [`PageSet::distance`]
/// compares two sets on the hashes up to the least of their limits. Its standard error is at most 0.5 / sqrt(k), k the
/// hashes compared: 0.016 with 1,024.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageSet {
    /// Ascending, distinct.
    hashes: Vec<u64>,
    /// All members with hashes up to this are in `hashes`; `u64::MAX`: all members.
    limit: u64,
    bound: usize,
    /// Of a set whose members are all known; see [`sign`].
    signature: Vec<u64>,
}

/// Bits of a signature for each member: few members then share a bit.
const SIGNATURE_BITS: usize = 4;

/// Collects the pages of a [`PageSet`].
#[derive(Debug, Clone)]
pub struct PageSetBuilder {
    hashes: Vec<u64>,
    limit: u64,
    bound: usize,
}

impl PageSetBuilder {
    /// A set that is exact up to `bound` pages (at least 2). 16 bytes of memory each, at most.
    pub fn new(bound: usize) -> Self {
        Self {
            hashes: Vec::new(),
            limit: u64::MAX,
            bound: bound.max(2),
        }
    }

    /// Adds a page, by a number that is unique over all objects of the process.
    pub fn insert(&mut self, page: u64) {
        let hash = mix(page);
        if hash > self.limit || self.hashes.last() == Some(&hash) {
            return;
        }
        self.hashes.push(hash);
        if self.hashes.len() >= 2 * self.bound {
            self.compact();
        }
    }

    /// The set.
    pub fn finish(mut self) -> PageSet {
        self.compact();
        self.hashes.shrink_to_fit();
        PageSet {
            signature: sign(&self.hashes, self.limit),
            hashes: self.hashes,
            limit: self.limit,
            bound: self.bound,
        }
    }

    fn compact(&mut self) {
        self.hashes.sort_unstable();
        self.hashes.dedup();
        self.limit = cut(&mut self.hashes, self.bound, self.limit);
    }
}

/// Keeps the least `bound` hashes, and says up to where the rest is complete.
fn cut(hashes: &mut Vec<u64>, bound: usize, limit: u64) -> u64 {
    if hashes.len() <= bound {
        return limit;
    }
    hashes.truncate(bound);
    hashes.last().copied().unwrap_or(limit)
}

/// A bit for each member, by the lower part of its hash; a power of two of words, so that a longer one can be folded to
/// the length of a shorter one. Empty where not all members are known.
fn sign(hashes: &[u64], limit: u64) -> Vec<u64> {
    if limit != u64::MAX {
        return Vec::new();
    }
    let bits = (SIGNATURE_BITS * hashes.len()).next_power_of_two().max(64);
    let mut words = vec![0; bits / 64];
    for hash in hashes {
        let bit = *hash as usize & (bits - 1);
        words[bit / 64] |= 1 << (bit % 64);
    }
    words
}

/// A number of members that are in one of two signed sets only: each bit that is in one signature only is of such a member.
fn differ_at_least(a: &[u64], b: &[u64]) -> u64 {
    let words = a.len().min(b.len());
    let fold = |of: &[u64], word: usize| of[word..].iter().step_by(words).fold(0, |all, w| all | w);
    let differ = (0..words).map(|word| fold(a, word) ^ fold(b, word));
    differ.map(|bits| u64::from(bits.count_ones())).sum()
}

impl PageSet {
    /// The set of these pages.
    pub fn of(bound: usize, pages: impl IntoIterator<Item = u64>) -> Self {
        let mut builder = PageSetBuilder::new(bound);
        pages.into_iter().for_each(|page| builder.insert(page));
        builder.finish()
    }

    /// Whether all its pages are known, so that sizes and distances are exact.
    pub fn is_exact(&self) -> bool {
        self.limit == u64::MAX
    }

    /// Distinct pages; beyond the bound estimated, (k - 1) / (share of the hashes that lie below the k-th).
    pub fn pages(&self) -> u64 {
        if self.is_exact() {
            return self.hashes.len() as u64;
        }
        let share = (self.limit as f64 + 1.0) / 2.0_f64.powi(64);
        (self.hashes.len().saturating_sub(1) as f64 / share).round() as u64
    }

    /// Page numbers that are kept.
    pub fn kept(&self) -> usize {
        self.hashes.len()
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + (self.hashes.len() + self.signature.len()) * 8
    }

    /// Whether `distance` is at most `most`. Most sets that are far apart are told by their sizes and signatures, which
    /// takes a hundredth of the time.
    pub fn is_near(&self, other: &Self, most: f64) -> bool {
        let limit = self.limit.min(other.limit);
        let below = |set: &Self| match set.limit == limit {
            true => set.hashes.len(),
            false => set.hashes.partition_point(|&hash| hash <= limit),
        };
        let (here, there) = (below(self), below(other));
        // d different ones among s = |A| + |B| leave a union of (s + d) / 2, so d / union <= most as long as:
        let sum = (here + there) as f64;
        let too_many = |different: u64| different as f64 * (2.0 - most) > most * sum;
        let signed = !self.signature.is_empty() && !other.signature.is_empty();
        let far = too_many(here.abs_diff(there) as u64)
            || signed && too_many(differ_at_least(&self.signature, &other.signature));
        !far && self.distance(other) <= most
    }

    /// |symmetric difference| / |union|, 0..1; 0 for two empty sets.
    pub fn distance(&self, other: &Self) -> f64 {
        let limit = self.limit.min(other.limit);
        let (mut both, mut either) = (0_u64, 0_u64);
        merge(&self.hashes, &other.hashes, |hash, shared| {
            if hash <= limit {
                either += 1;
                both += u64::from(shared);
            }
        });
        if either == 0 {
            0.0
        } else {
            (either - both) as f64 / either as f64
        }
    }

    /// Adds the pages of another set.
    pub fn add(&mut self, other: &Self) {
        let limit = self.limit.min(other.limit);
        let mut union = Vec::with_capacity(self.hashes.len().max(other.hashes.len()));
        merge(&self.hashes, &other.hashes, |hash, _| {
            if hash <= limit {
                union.push(hash);
            }
        });
        self.limit = cut(&mut union, self.bound, limit);
        self.hashes = union;
        self.signature = sign(&self.hashes, self.limit);
    }
}

/// Calls `each(hash, whether both have it)` for the union of two ascending lists, ascending.
fn merge(a: &[u64], b: &[u64], mut each: impl FnMut(u64, bool)) {
    let (mut a, mut b) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    loop {
        match (a.peek().copied(), b.peek().copied()) {
            (Some(left), Some(right)) if left == right => {
                each(left, true);
                a.next();
                b.next();
            }
            (Some(left), right) if right.is_none_or(|right| left < right) => {
                each(left, false);
                a.next();
            }
            (_, Some(right)) => {
                each(right, false);
                b.next();
            }
            (_, None) => return,
        }
    }
}
