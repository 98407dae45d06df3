//! How interleaved the references to several objects are, pair by pair.

/// References of objects 0 to n-1 in order.
#[derive(Clone, Debug)]
pub struct Relations {
    objects: usize,
    /// References of each.
    refs: Vec<u64>,
    /// When each was referenced last, counted from 1; 0: never.
    last: Vec<u64>,
    now: u64,
    /// Switches from one to the other, either way: entry `a * objects + b`, with a < b.
    switches: Vec<u64>,
}

/// One pair's figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relation {
    /// References of the first object.
    pub refs_a: u64,
    /// Of the second.
    pub refs_b: u64,
    /// Neighbours in the merged order that belong to different objects.
    pub switches: u64,
    /// switches / (2 * min(refs_a, refs_b)), at most 1; 0: never interleaved. `None` where one has no reference.
    pub interleave: Option<f64>,
    /// z-score of the number of runs (Wald and Wolfowitz, "On a test whether two samples are from the same population",
    /// 1940): below 0 fewer switches than in random order, above 0 more. `None` where it is not defined.
    pub runs_z: Option<f64>,
}

impl Relations {
    /// Relations of `objects` objects, without references.
    pub fn new(objects: usize) -> Self {
        Self {
            objects,
            refs: vec![0; objects],
            last: vec![0; objects],
            now: 0,
            switches: vec![0; objects * objects],
        }
    }

    /// Takes the next reference, of `object`.
    pub fn reference(&mut self, object: usize) {
        self.now += 1;
        let since = self.last[object];
        for other in 0..self.objects {
            // The other's is the one before this in the merged order of the two.
            if other != object && self.last[other] > since {
                let (a, b) = (object.min(other), object.max(other));
                self.switches[a * self.objects + b] += 1;
            }
        }
        self.refs[object] += 1;
        self.last[object] = self.now;
    }

    /// Figures of two different objects.
    pub fn of(&self, a: usize, b: usize) -> Relation {
        let (refs_a, refs_b) = (self.refs[a], self.refs[b]);
        let switches = self.switches[a.min(b) * self.objects + a.max(b)];
        let least = refs_a.min(refs_b) as f64;
        let interleave = (least > 0.0).then(|| (switches as f64 / (2.0 * least)).min(1.0));
        Relation {
            refs_a,
            refs_b,
            switches,
            interleave,
            runs_z: runs_z(refs_a as f64, refs_b as f64, switches as f64 + 1.0),
        }
    }
}

/// (runs - mean) / deviation of the number of runs of two kinds in random order.
fn runs_z(a: f64, b: f64, runs: f64) -> Option<f64> {
    if a == 0.0 || b == 0.0 {
        return None;
    }
    let (n, product) = (a + b, 2.0 * a * b);
    let mean = product / n + 1.0;
    let variance = product * (product - n) / (n * n * (n - 1.0));
    (variance > 0.0).then(|| (runs - mean) / variance.sqrt())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn switches_are_those_of_each_merged_pair(string in prop::collection::vec(0usize..5, 0..200)) {
            let mut relations = Relations::new(5);
            string.iter().for_each(|&object| relations.reference(object));
            for a in 0..5 {
                for b in (0..5).filter(|b| *b != a) {
                    let merged: Vec<_> = string.iter().filter(|o| **o == a || **o == b).collect();
                    let switches = merged.windows(2).filter(|w| w[0] != w[1]).count() as u64;
                    let found = relations.of(a, b);
                    prop_assert_eq!(found.switches, switches);
                    prop_assert_eq!(found.refs_a, string.iter().filter(|o| **o == a).count() as u64);
                    prop_assert_eq!(found.interleave, relations.of(b, a).interleave);
                    prop_assert!(found.interleave.is_none_or(|i| (0.0..=1.0).contains(&i)));
                }
            }
        }
    }

    #[test]
    fn taking_turns_and_one_after_the_other() {
        let (mut turns, mut blocks) = (Relations::new(2), Relations::new(2));
        for i in 0..100 {
            turns.reference(i % 2);
            blocks.reference(i / 50);
        }
        let (turns, blocks) = (turns.of(0, 1), blocks.of(0, 1));
        // 99 of at most 100; expected runs 51, deviation sqrt(5000 * 4900 / (10000 * 99)) = 4.9747: z = 49 / 4.9747.
        assert_eq!(turns.interleave, Some(0.99));
        assert!((turns.runs_z.unwrap() - 9.8498).abs() < 1e-3, "{turns:?}");
        assert_eq!((blocks.switches, blocks.interleave), (1, Some(0.01)));
        assert!((blocks.runs_z.unwrap() + 9.8498).abs() < 1e-3, "{blocks:?}");
    }
}
