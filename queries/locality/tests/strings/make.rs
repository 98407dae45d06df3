//! Random numbers and what generators share.

/// xorshift64* (Vigna 2014): another generator than the classifier's own.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        let mut rng = Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1);
        for _ in 0..8 {
            rng.next();
        }
        rng
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0..end.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end.max(1))) >> 64) as u64
    }

    /// low..=high.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// low..=high, every order of magnitude equally likely.
    pub fn log_between(&mut self, low: u64, high: u64) -> u64 {
        let (from, to) = ((low as f64).ln(), (high.max(low) as f64 + 1.0).ln());
        ((from + self.unit() * (to - from)).exp() as u64).clamp(low, high.max(low))
    }

    /// 0..1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn real(&mut self, low: f64, high: f64) -> f64 {
        low + self.unit() * (high - low)
    }

    pub fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// Standard normal (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Geometric, mean about `mean`, from 0.
    pub fn geometric(&mut self, mean: f64) -> u64 {
        ((1.0 - self.unit()).ln() / (mean / (1.0 + mean)).ln()) as u64
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end as u64 + 1) as usize);
        }
    }

    /// 0..count in random order.
    pub fn permutation(&mut self, count: u64) -> Vec<u64> {
        let mut pages: Vec<u64> = (0..count).collect();
        self.shuffle(&mut pages);
        pages
    }

    /// `count` distinct pages below `range`, in random order.
    pub fn distinct(&mut self, count: usize, range: u64) -> Vec<u64> {
        let mut seen = std::collections::HashSet::new();
        while seen.len() < count.min(range as usize) {
            seen.insert(self.below(range));
        }
        let mut pages: Vec<u64> = seen.into_iter().collect();
        pages.sort_unstable();
        self.shuffle(&mut pages);
        pages
    }

    /// Stray references: in place of others or between them, to pages of the same range, of a wider one, or to pages
    /// that are in the string.
    pub fn strayed(&mut self, pages: &[u64], share: f64) -> Vec<u64> {
        if share == 0.0 {
            return pages.to_vec();
        }
        let low = pages.iter().copied().min().unwrap_or(0);
        let high = pages.iter().copied().max().unwrap_or(0);
        let width = (high - low + 1) * [1, 1, 4, 100][self.below(4) as usize];
        let (inserted, known) = (self.chance(0.5), self.chance(0.2));
        let mut strayed = Vec::with_capacity(pages.len());
        for &page in pages {
            if !self.chance(share) {
                strayed.push(page);
                continue;
            }
            let stray = if known {
                pages[self.below(pages.len() as u64) as usize]
            } else {
                low + self.below(width)
            };
            strayed.push(stray);
            if inserted {
                strayed.push(page);
            }
        }
        strayed
    }

    /// Draws from weights, by their running sums.
    pub fn draw(&mut self, sums: &[f64]) -> usize {
        let at = self.unit() * sums.last().copied().unwrap_or(0.0);
        sums.partition_point(|&sum| sum <= at).min(sums.len() - 1)
    }
}

/// Running sums of weights.
pub fn sums(weights: impl Iterator<Item = f64>) -> Vec<f64> {
    weights
        .scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        })
        .collect()
}

/// Every page again, 1 to `most` times in a row.
pub fn repeated(rng: &mut Rng, pages: &[u64], most: u64) -> Vec<u64> {
    pages
        .iter()
        .flat_map(|&page| std::iter::repeat_n(page, rng.between(1, most) as usize))
        .collect()
}
