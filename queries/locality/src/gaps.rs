//! Gaps between references to the same page, page by page.

/// What the references to one page say of its gaps. Two of them, over neighbouring stretches of the reference string,
/// make one over both: so stretches can be worked on apart, and put on disk between.
///
/// One cache line each: a reference fetches one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(align(64))]
pub struct Gaps {
    /// References; 0: the page was not referenced.
    pub refs: u64,
    /// Position of the first reference.
    pub first_seq: u64,
    /// Position of the last.
    pub last_seq: u64,
    /// Time of the first, ns.
    pub first_ts: i64,
    /// Time of the last in order of position, ns.
    pub last_ts: i64,
    /// Sum of 1 / gap, in 1/references.
    pub inverse_sum: f64,
    /// Sum of gaps on the clock, in ns; a gap counts at least 1.
    pub sum_ns: u64,
    /// Sum of 1 / gap on the clock, in 1/ns.
    pub inverse_sum_ns: f64,
}

impl Gaps {
    /// Words that [`Gaps::to_words`] gives.
    pub const WORDS: usize = 8;

    /// Takes the page's next reference.
    #[inline]
    pub fn add(&mut self, seq: u64, ts: i64) {
        if self.refs == 0 {
            (self.first_seq, self.first_ts) = (seq, ts);
        } else {
            self.gap(seq, ts);
        }
        self.refs += 1;
        (self.last_seq, self.last_ts) = (seq, ts);
    }

    /// Takes what a later stretch of the string says of the page.
    pub fn join(&mut self, later: &Gaps) {
        if self.refs == 0 {
            *self = *later;
            return;
        }
        if later.refs == 0 {
            return;
        }
        self.gap(later.first_seq, later.first_ts);
        self.refs += later.refs;
        self.inverse_sum += later.inverse_sum;
        self.sum_ns += later.sum_ns;
        self.inverse_sum_ns += later.inverse_sum_ns;
        (self.last_seq, self.last_ts) = (later.last_seq, later.last_ts);
    }

    #[inline]
    fn gap(&mut self, seq: u64, ts: i64) {
        // CPUs' clocks may be equal or step back; 1/gap must stay defined.
        let ns = ts.saturating_sub(self.last_ts).max(1);
        self.inverse_sum += 1.0 / seq.saturating_sub(self.last_seq).max(1) as f64;
        self.sum_ns += ns as u64;
        self.inverse_sum_ns += 1.0 / ns as f64;
    }

    /// The figures as words, for a file.
    pub fn to_words(&self) -> [u64; Self::WORDS] {
        [
            self.refs,
            self.first_seq,
            self.last_seq,
            self.first_ts as u64,
            self.last_ts as u64,
            self.inverse_sum.to_bits(),
            self.sum_ns,
            self.inverse_sum_ns.to_bits(),
        ]
    }

    /// The figures that [`Gaps::to_words`] gave.
    pub fn from_words(words: [u64; Self::WORDS]) -> Self {
        let [
            refs,
            first_seq,
            last_seq,
            first_ts,
            last_ts,
            inverse_sum,
            sum_ns,
            inverse_sum_ns,
        ] = words;
        Self {
            refs,
            first_seq,
            last_seq,
            first_ts: first_ts as i64,
            last_ts: last_ts as i64,
            inverse_sum: f64::from_bits(inverse_sum),
            sum_ns,
            inverse_sum_ns: f64::from_bits(inverse_sum_ns),
        }
    }
}

/// The mean gap of one page, along one axis: positions in the reference string, or ns on the clock. What [`Gaps`] says of
/// it, in half the memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(align(32))]
pub struct Mean {
    /// References; 0: the page was not referenced.
    pub refs: u64,
    /// Where the first reference is.
    pub first: i64,
    /// Where the last is.
    pub last: i64,
    /// Sum of gaps; a gap counts at least 1.
    pub sum: u64,
}

impl Mean {
    /// Words that [`Mean::to_words`] gives.
    pub const WORDS: usize = 4;

    /// Takes the page's next reference.
    #[inline]
    pub fn add(&mut self, at: i64) {
        if self.refs == 0 {
            self.first = at;
        } else {
            self.gap(at);
        }
        self.refs += 1;
        self.last = at;
    }

    /// Takes what a later stretch of the string says of the page.
    pub fn join(&mut self, later: &Mean) {
        if self.refs == 0 {
            *self = *later;
        } else if later.refs > 0 {
            self.gap(later.first);
            self.refs += later.refs;
            self.sum += later.sum;
            self.last = later.last;
        }
    }

    #[inline]
    fn gap(&mut self, at: i64) {
        self.sum += at.saturating_sub(self.last).max(1) as u64;
    }

    /// The mean gap; `None`: the page was referenced once, or never.
    pub fn gap_mean(&self) -> Option<f64> {
        (self.refs >= 2).then(|| self.sum as f64 / (self.refs - 1) as f64)
    }

    /// The figures as words, for a file.
    pub fn to_words(&self) -> [u64; Self::WORDS] {
        [self.refs, self.first as u64, self.last as u64, self.sum]
    }

    /// The figures that [`Mean::to_words`] gave.
    pub fn from_words([refs, first, last, sum]: [u64; Self::WORDS]) -> Self {
        let (first, last) = (first as i64, last as i64);
        Self {
            refs,
            first,
            last,
            sum,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(references: &[(u64, i64)]) -> Gaps {
        let mut gaps = Gaps::default();
        references.iter().for_each(|&(seq, ts)| gaps.add(seq, ts));
        gaps
    }

    proptest! {
        #[test]
        fn stretches_join_to_the_whole(steps in prop::collection::vec((1u64..50, -3i64..90), 0..40), cut in 0usize..40) {
            let (mut seq, mut ts) = (0, 0);
            let string: Vec<(u64, i64)> = steps.iter().map(|(s, t)| {
                seq += s;
                ts += t;
                (seq, ts)
            }).collect();
            let (early, late) = string.split_at(cut.min(string.len()));
            let mut joined = of(early);
            joined.join(&of(late));
            let whole = of(&string);
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-12 * b.abs().max(1.0);
            prop_assert!(close(joined.inverse_sum, whole.inverse_sum) && close(joined.inverse_sum_ns, whole.inverse_sum_ns));
            let exact = |g: &Gaps| Gaps { inverse_sum: 0.0, inverse_sum_ns: 0.0, ..*g };
            prop_assert_eq!(exact(&joined), exact(&whole));
            prop_assert_eq!(Gaps::from_words(whole.to_words()), whole);
            let inverse: f64 = string.windows(2).map(|w| 1.0 / (w[1].0 - w[0].0) as f64).sum();
            let ns: u64 = string.windows(2).map(|w| (w[1].1 - w[0].1).max(1) as u64).sum();
            prop_assert!(close(whole.inverse_sum, inverse));
            prop_assert_eq!((whole.refs, whole.sum_ns), (string.len() as u64, ns));
        }

        #[test]
        fn a_mean_is_the_mean_of_the_gaps(steps in prop::collection::vec(-3i64..90, 0..40), cut in 0usize..40) {
            let mut at = 0;
            let string: Vec<i64> = steps.iter().map(|step| {
                at += step;
                at
            }).collect();
            let of = |string: &[i64]| {
                let mut mean = Mean::default();
                string.iter().for_each(|&at| mean.add(at));
                mean
            };
            let (early, late) = string.split_at(cut.min(string.len()));
            let mut joined = of(early);
            joined.join(&of(late));
            prop_assert_eq!(joined, of(&string));
            prop_assert_eq!(Mean::from_words(joined.to_words()), joined);
            let gaps: Vec<i64> = string.windows(2).map(|w| (w[1] - w[0]).max(1)).collect();
            let expected = (!gaps.is_empty()).then(|| gaps.iter().sum::<i64>() as f64 / gaps.len() as f64);
            prop_assert_eq!(joined.gap_mean(), expected);
        }
    }
}
