//! Sampled miss-ratio curves: SHARDS (Waldspurger et al., "Efficient MRC construction with SHARDS", FAST 2015).
//!
//! Pages are sampled by a hash of their identity, so all references to a page are taken or none. Distances among the
//! sampled pages, divided by the rate, estimate the true ones. Sizes below about 1 / rate pages are not resolved.

use std::collections::BinaryHeap;

use crate::index::{PageIndex, page_hash};
use crate::order::PageOrder;
use crate::recency::{FIRST, Recency};

/// What a sample says of the curve.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// (size in pages, miss ratio), beginning with (0, 1); a size between two of them misses as the smaller.
    pub curve: Vec<(u64, f64)>,
    /// References in all.
    pub refs: u64,
    /// Of them, to sampled pages.
    pub sampled_refs: u64,
    /// Sampled pages (at the end).
    pub sampled_pages: u64,
    /// Share of pages that are sampled (at the end).
    pub rate: f64,
}

/// Weights by (estimated) distance. Up to 4096 exact, above in 2048 buckets an octave: finer than the estimate is.
#[derive(Clone, Debug, Default)]
struct Weights(Vec<f64>);

/// References whose hashes are looked at together.
const PART: usize = 1024;

const FINE_BITS: u32 = 11;
const FINE: u64 = 1 << FINE_BITS;

impl Weights {
    fn bucket(distance: u64) -> usize {
        if distance < 2 * FINE {
            return distance as usize;
        }
        let shift = distance.ilog2() - FINE_BITS;
        (u64::from(shift) * FINE + (distance >> shift)) as usize
    }

    /// The least distance of a bucket.
    fn low(bucket: usize) -> u64 {
        let bucket = bucket as u64;
        if bucket < 2 * FINE {
            return bucket;
        }
        let shift = bucket / FINE - 1;
        (bucket - shift * FINE) << shift
    }

    fn add(&mut self, distance: u64, weight: f64) {
        let at = Self::bucket(distance);
        if at >= self.0.len() {
            self.0.resize(at + 1, 0.0);
        }
        self.0[at] += weight;
    }

    fn merge(&mut self, others: &Weights) {
        if self.0.len() < others.0.len() {
            self.0.resize(others.0.len(), 0.0);
        }
        self.0
            .iter_mut()
            .zip(&others.0)
            .for_each(|(weight, more)| *weight += more);
    }

    /// The curve of `refs` references, the rest of the weights being misses at any size.
    fn curve(&self, refs: f64) -> Vec<(u64, f64)> {
        let mut curve = Vec::new();
        if refs > 0.0 {
            curve.push((0, 1.0));
        }
        let mut left = refs;
        for (at, weight) in self.0.iter().enumerate().filter(|(_, w)| **w != 0.0) {
            left -= weight;
            curve.push((Self::low(at) + 1, (left / refs).clamp(0.0, 1.0)));
        }
        curve
    }
}

/// SHARDS-adj with a fixed rate: counts are corrected by the difference between the expected and the real number of
/// sampled references, which belongs to the most popular pages, at distance 0.
pub struct Shards {
    order: PageOrder,
    /// Whether a page may have been referenced in an earlier stretch.
    follows: bool,
    /// Sampled pages that no stretch before this one can know.
    pages: u64,
    weights: Weights,
    rate: f64,
    /// Pages with a hash up to this are sampled.
    threshold: u64,
    refs: u64,
    sampled: u64,
}

/// The threshold of a rate. `None`: not in (0, 1].
fn threshold(rate: f64) -> Option<u64> {
    let whole = 2f64.powi(64);
    // The cast saturates: 1.0 takes every hash.
    (rate > 0.0 && rate <= 1.0).then_some((rate * whole) as u64)
}

/// References of which none is sampled, more often than not, at the usual rates.
const FEW: usize = 32;

/// Which references are sampled: 1 or 0 for each. Once for each sort of processor: some multiply
/// several such numbers at a time.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl"))]
fn sample(objects: &[u64], pages: &[u64], threshold: u64, is_sampled: &mut [u8]) {
    for ((is_sampled, &object), &page) in is_sampled.iter_mut().zip(objects).zip(pages) {
        *is_sampled = u8::from(page_hash(object, page) <= threshold);
    }
}

impl Shards {
    /// A sampler; `None` when the rate is not in (0, 1].
    pub fn new(rate: f64) -> Option<Self> {
        Self::of_stretch(rate, false)
    }

    /// A sampler of one of several stretches of the string; `follows`: others come before it.
    pub fn of_stretch(rate: f64, follows: bool) -> Option<Self> {
        Some(Self {
            order: PageOrder::new(&[], follows),
            follows,
            pages: 0,
            weights: Weights::default(),
            rate,
            threshold: threshold(rate)?,
            refs: 0,
            sampled: 0,
        })
    }

    /// Takes a stretch of references.
    pub fn references(&mut self, object_ids: &[u64], pages: &[u64]) {
        self.refs += pages.len() as u64;
        let (mut is_sampled, mut taken) = ([0u8; PART], [0u16; PART]);
        for (objects, pages) in object_ids.chunks(PART).zip(pages.chunks(PART)) {
            let is_sampled = &mut is_sampled[..pages.len()];
            sample(objects, pages, self.threshold, is_sampled);
            let mut count = 0;
            for (part, is_sampled) in is_sampled.chunks(FEW).enumerate() {
                if is_sampled.iter().fold(0, |any, is| any | is) == 0 {
                    continue;
                }
                // Which ones of these no processor foresees: no branch here, and as little is written as can be.
                for (at, is_sampled) in (part * FEW..).zip(is_sampled) {
                    taken[count % PART] = at as u16;
                    count += usize::from(*is_sampled);
                }
            }
            self.take(objects, pages, &taken[..count]);
        }
    }

    /// Takes the references at `taken`.
    fn take(&mut self, objects: &[u64], pages: &[u64], taken: &[u16]) {
        self.sampled += taken.len() as u64;
        let of = |all: &[u64]| -> Vec<u64> { taken.iter().map(|at| all[*at as usize]).collect() };
        let (objects, pages) = (of(objects), of(pages));
        let Self {
            order,
            weights,
            rate,
            follows,
            pages: new,
            ..
        } = self;
        order.references(&objects, &pages, |_, distances| {
            for distance in distances {
                match *distance {
                    FIRST => *new += u64::from(!*follows),
                    distance => weights.add((f64::from(distance) / *rate) as u64, 1.0),
                }
            }
        });
    }

    /// Puts stretches together, which are given in order; `None`: there are none.
    pub fn join(stretches: Vec<Shards>) -> Option<Shards> {
        let (mut orders, mut whole): (Vec<PageOrder>, Option<Shards>) = (Vec::new(), None);
        for stretch in stretches {
            orders.push(stretch.order);
            let next = Shards {
                order: PageOrder::new(&[], false),
                ..stretch
            };
            match &mut whole {
                None => whole = Some(next),
                Some(first) => {
                    first.weights.merge(&next.weights);
                    first.refs += next.refs;
                    first.sampled += next.sampled;
                }
            }
        }
        let mut whole = whole?;
        PageOrder::join(&mut orders, |distance| match distance {
            Some(distance) => whole
                .weights
                .add((distance as f64 / whole.rate) as u64, 1.0),
            None => whole.pages += 1,
        });
        Some(whole)
    }

    /// Bytes taken.
    pub fn bytes(&self) -> usize {
        self.order.bytes() + self.weights.0.capacity() * 8
    }

    /// The curve.
    pub fn finish(mut self) -> Estimate {
        let expected = self.refs as f64 * self.rate;
        if self.sampled > 0 {
            self.weights.add(0, expected - self.sampled as f64);
        }
        Estimate {
            curve: if self.sampled > 0 {
                self.weights.curve(expected)
            } else {
                Vec::new()
            },
            refs: self.refs,
            sampled_refs: self.sampled,
            sampled_pages: self.pages,
            rate: self.rate,
        }
    }
}

/// SHARDS with a fixed number of pages: when more are sampled, those with the greatest hashes go, and the rate falls.
pub struct FixedShards {
    index: PageIndex,
    recency: Recency,
    weights: Weights,
    /// Sampled pages, the one with the greatest hash on top: (hash, object slot, page, id).
    sample: BinaryHeap<(u64, u32, u64, u32)>,
    most: usize,
    free: Vec<u32>,
    threshold: u64,
    refs: u64,
    sampled: u64,
    /// References to sampled pages, rescaled as the weights are.
    weight: f64,
}

impl FixedShards {
    /// A sampler of at most `most` pages (at least one).
    pub fn new(most: usize) -> Self {
        Self {
            index: PageIndex::new(),
            recency: Recency::new(),
            weights: Weights::default(),
            sample: BinaryHeap::new(),
            most: most.max(1),
            free: Vec::new(),
            threshold: u64::MAX,
            refs: 0,
            sampled: 0,
            weight: 0.0,
        }
    }

    fn rate(&self) -> f64 {
        (self.threshold as f64 + 1.0) / 2f64.powi(64)
    }

    /// Takes a stretch of references.
    pub fn references(&mut self, object_ids: &[u64], pages: &[u64]) {
        self.refs += pages.len() as u64;
        for (&object_id, &page) in object_ids.iter().zip(pages) {
            let hash = page_hash(object_id, page);
            if hash <= self.threshold {
                self.reference(object_id, page, hash);
            }
        }
    }

    fn reference(&mut self, object_id: u64, page: u64, hash: u64) {
        self.sampled += 1;
        self.weight += 1.0;
        let object = self.index.object(object_id);
        let id = match self.index.get(object, page) {
            Some(id) => id,
            None => {
                let id = self.free.pop().unwrap_or(self.sample.len() as u32);
                self.index.give(object, page, id);
                self.sample.push((hash, object, page, id));
                id
            }
        };
        if let Some(distance) = self.recency.reference(id) {
            self.weights
                .add((distance as f64 / self.rate()) as u64, 1.0);
        }
        if self.sample.len() > self.most {
            self.lower();
        }
    }

    /// Lowers the threshold below the greatest hash of the sample, and takes its pages out.
    fn lower(&mut self) {
        let Some(&(greatest, ..)) = self.sample.peek() else {
            return;
        };
        let before = self.rate();
        self.threshold = greatest.saturating_sub(1);
        while let Some(&(hash, object, page, id)) = self.sample.peek()
            && hash > self.threshold
        {
            self.sample.pop();
            self.recency.remove(&[id]);
            self.index.forget(object, page);
            self.free.push(id);
        }
        // What was counted at the higher rate counts for less.
        let scale = self.rate() / before;
        self.weight *= scale;
        self.weights.0.iter_mut().for_each(|w| *w *= scale);
    }

    /// Bytes taken.
    pub fn bytes(&self) -> usize {
        self.index.bytes()
            + self.recency.bytes()
            + (self.weights.0.capacity() + self.sample.capacity() * 3) * 8
    }

    /// The curve.
    pub fn finish(mut self) -> Estimate {
        let (rate, expected) = (self.rate(), self.refs as f64 * self.rate());
        if self.sampled > 0 {
            self.weights.add(0, expected - self.weight);
        }
        Estimate {
            curve: if self.sampled > 0 {
                self.weights.curve(expected)
            } else {
                Vec::new()
            },
            refs: self.refs,
            sampled_refs: self.sampled,
            sampled_pages: self.sample.len() as u64,
            rate,
        }
    }
}

/// Mean absolute difference of two curves over sizes 1 to `most`, at up to a thousand sizes spread evenly.
pub fn mean_error(exact: &[(u64, f64)], estimate: &[(u64, f64)], most: u64) -> f64 {
    let at = |curve: &[(u64, f64)], size: u64| {
        let after = curve.partition_point(|(from, _)| *from <= size);
        after.checked_sub(1).map_or(1.0, |i| curve[i].1)
    };
    let sizes = most.clamp(1, 1000);
    let error = |i: u64| {
        let size = (i * most / sizes).max(1);
        (at(exact, size) - at(estimate, size)).abs()
    };
    (1..=sizes).map(error).sum::<f64>() / sizes as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::index::mix;
    use crate::reuse::Distances;

    /// References to `pages` pages, popularity falling as 1/rank.
    fn zipf(refs: u64, pages: u64) -> Vec<u64> {
        let scale = (pages as f64).ln();
        let draw = |i: u64| {
            let uniform = mix(i) as f64 / 2f64.powi(64);
            mix((scale * uniform).exp() as u64) % (pages * 4)
        };
        (0..refs).map(draw).collect()
    }

    fn exact(string: &[u64]) -> (Vec<(u64, f64)>, u64) {
        let (mut index, mut recency, mut distances) =
            (PageIndex::new(), Recency::new(), Distances::default());
        string
            .iter()
            .for_each(|&page| distances.add(recency.reference(index.id(1, page))));
        let refs = distances.refs() as f64;
        let curve = distances
            .misses()
            .map(|(size, misses)| (size, misses as f64 / refs));
        (curve.collect(), index.pages() as u64)
    }

    #[test]
    fn rate_one_is_exact() {
        let string = zipf(20_000, 500);
        let (curve, pages) = exact(&string);
        let objects = vec![1; string.len()];
        let mut shards = Shards::new(1.0).unwrap();
        shards.references(&objects, &string);
        let estimate = shards.finish();
        assert_eq!(estimate.sampled_refs, 20_000);
        assert!(mean_error(&curve, &estimate.curve, pages) < 1e-12);
        let mut fixed = FixedShards::new(1 << 20);
        fixed.references(&objects, &string);
        assert!(mean_error(&curve, &fixed.finish().curve, pages) < 1e-12);
    }

    #[test]
    fn stretches_give_what_the_whole_gives() {
        let string = zipf(50_000, 5000);
        let objects: Vec<u64> = string.iter().map(|page| page % 3).collect();
        let mut whole = Shards::new(0.2).unwrap();
        whole.references(&objects, &string);
        let cuts = [0, 100, 100, 20_000, 41_000, 50_000];
        let stretches = cuts.windows(2).enumerate().map(|(n, cut)| {
            let mut shards = Shards::of_stretch(0.2, n > 0).unwrap();
            shards.references(&objects[cut[0]..cut[1]], &string[cut[0]..cut[1]]);
            shards
        });
        let joined = Shards::join(stretches.collect()).unwrap();
        assert_eq!(joined.finish(), whole.finish());
        assert!(Shards::join(Vec::new()).is_none());
    }

    #[test]
    fn samples_are_close() {
        let string = zipf(400_000, 100_000);
        let (curve, pages) = exact(&string);
        let objects = vec![1; string.len()];
        let mut shards = Shards::new(0.1).unwrap();
        shards.references(&objects, &string);
        let estimate = shards.finish();
        let error = mean_error(&curve, &estimate.curve, pages);
        assert!(error < 0.02, "{error}");
        assert!((0.05..0.2).contains(&(estimate.sampled_refs as f64 / 4e5)));
        let mut fixed = FixedShards::new(4000);
        string
            .chunks(1000)
            .for_each(|part| fixed.references(&objects[..part.len()], part));
        let estimate = fixed.finish();
        assert_eq!(estimate.sampled_pages, 4000);
        let error = mean_error(&curve, &estimate.curve, pages);
        assert!(error < 0.02, "{error}");
    }

    #[test]
    fn wrong_rates_are_none_and_nothing_gives_nothing() {
        assert!(
            [0.0, -1.0, 1.1, f64::NAN]
                .into_iter()
                .all(|rate| Shards::new(rate).is_none())
        );
        assert!(Shards::new(0.5).unwrap().finish().curve.is_empty());
        assert!(FixedShards::new(0).finish().curve.is_empty());
    }

    #[test]
    fn buckets_follow_one_another() {
        let mut before = None;
        for distance in (0..20_000).chain((20_000..1 << 30).step_by(99_991)) {
            let at = Weights::bucket(distance);
            assert!(
                Weights::low(at) <= distance && Weights::low(at + 1) > distance,
                "{distance}"
            );
            assert!(before <= Some(at));
            before = Some(at);
        }
    }
}
