//! Popularity: are all pages equally likely, or some much more than others?

/// How many pages have how many references.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    /// (references to a page, such pages), ascending.
    histogram: Vec<(f64, f64)>,
    refs: f64,
    pages: f64,
}

/// What explains the counts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Popularity {
    /// Log likelihood that a second group of pages gains over one group and noise, nats.
    pub(super) gain: f64,
    /// Share of the references in the lesser group.
    pub(super) second_share: f64,
    /// How many times as popular a page of the upper group is.
    pub(super) ratio: f64,
}

impl Counts {
    /// From the references to each page.
    pub(super) fn new(mut of_page: Vec<u32>) -> Self {
        of_page.sort_unstable();
        let histogram = of_page
            .chunk_by(|a, b| a == b)
            .map(|same| (f64::from(same[0]), same.len() as f64));
        Self {
            histogram: histogram.collect(),
            refs: of_page.iter().map(|&count| f64::from(count)).sum(),
            pages: of_page.len() as f64,
        }
    }

    /// Share of references that the top tenth of the pages holds (at least one page).
    pub(super) fn top_share(&self) -> f64 {
        let mut left = (self.pages / 10.0).ceil();
        let mut held = 0.0;
        for &(count, pages) in self.histogram.iter().rev() {
            let taken = pages.min(left);
            held += taken * count;
            left -= taken;
        }
        if self.refs > 0.0 {
            held / self.refs
        } else {
            0.0
        }
    }
}

/// Most stray references that one group of equally likely pages is allowed, as a share of all.
const NOISE: f64 = 0.055;

/// Fits the numbers of references a page by one zero-truncated Poisson distribution (equally likely pages) with up to
/// 5.5 % stray references to pages of their own, and by a mixture of two (expectation maximisation). Zero-truncated:
/// pages that were never referenced are not seen.
pub(super) fn popularity(counts: &Counts) -> Popularity {
    let Counts {
        histogram,
        refs,
        pages,
    } = counts;
    let (refs, pages) = (*refs, *pages);
    if pages == 0.0 {
        return Popularity::default();
    }
    let single = (0..=11)
        .map(|step| with_noise(histogram, refs, pages, NOISE * f64::from(step) / 11.0))
        .fold(f64::NEG_INFINITY, f64::max);

    // Starts from the halves by references, which separates a few hot pages from many cold ones.
    let (low, high) = halves(histogram, refs);
    let mut groups = [Group::of_mean(low.0), Group::of_mean(high.0)];
    let mut weights = [low.1 / pages, high.1 / pages];
    let mut fitted = f64::NEG_INFINITY;
    let mut shares = [1.0, 0.0];
    for _ in 0..60 {
        let mut sums = [(0.0, 0.0); 2]; // (pages, references)
        let mut likelihood = 0.0;
        for &(count, pages) in histogram {
            let logs = [0, 1].map(|g| weights[g].max(1e-300).ln() + groups[g].log_chance(count));
            let top = logs[0].max(logs[1]);
            let total = top + logs.iter().map(|log| (log - top).exp()).sum::<f64>().ln();
            likelihood += pages * total;
            for g in [0, 1] {
                let part = pages * (logs[g] - total).exp();
                sums[g].0 += part;
                sums[g].1 += part * count;
            }
        }
        for g in [0, 1] {
            weights[g] = sums[g].0 / pages;
            shares[g] = sums[g].1 / refs;
            if sums[g].0 > 1e-9 {
                groups[g] = Group::of_mean(sums[g].1 / sums[g].0);
            }
        }
        let done = likelihood - fitted < 1e-4;
        fitted = likelihood;
        if done {
            break;
        }
    }
    Popularity {
        gain: (fitted.max(single) - single).max(0.0),
        second_share: shares[0].min(shares[1]),
        ratio: groups[1].rate / groups[0].rate.max(1e-9),
    }
}

/// Log likelihood of one group and a share of stray references, each to a page that has no other.
fn with_noise(histogram: &[(f64, f64)], refs: f64, pages: f64, share: f64) -> f64 {
    let stray = (share * refs).min(0.9 * pages);
    let group = Group::of_mean((refs - stray) / (pages - stray));
    let weight = stray / pages;
    histogram
        .iter()
        .map(|&(count, pages)| {
            let log = (1.0 - weight).ln() + group.log_chance(count);
            pages
                * if count == 1.0 {
                    (log.exp() + weight).ln()
                } else {
                    log
                }
        })
        .sum()
}

/// Mean references a page, and pages, below and above the half of the references.
fn halves(histogram: &[(f64, f64)], refs: f64) -> ((f64, f64), (f64, f64)) {
    let (mut low, mut high) = ((0.0, 0.0), (0.0, 0.0));
    for &(count, pages) in histogram {
        let half =
            if low.0 < refs / 2.0 && (high.1 == 0.0) && low.0 + count * pages / 2.0 < refs / 2.0 {
                &mut low
            } else {
                &mut high
            };
        half.0 += count * pages;
        half.1 += pages;
    }
    if low.1 == 0.0 || high.1 == 0.0 {
        let pages = low.1 + high.1;
        let mean = refs / pages;
        return (
            (1.0 + (mean - 1.0) / 2.0, pages / 2.0),
            (mean * 1.5, pages / 2.0),
        );
    }
    ((low.0 / low.1, low.1), (high.0 / high.1, high.1))
}

/// Pages that are equally likely: a zero-truncated Poisson distribution.
#[derive(Clone, Copy)]
struct Group {
    rate: f64,
    /// ln(rate), and ln(1 - exp(-rate)) + rate.
    log_rate: f64,
    rest: f64,
}

impl Group {
    /// The rate at which pages that are referenced at all have this mean: mean = rate / (1 - exp(-rate)).
    fn of_mean(mean: f64) -> Self {
        let mean = mean.max(1.0 + 1e-6);
        // Newton's method; the function is convex and rises by between 1/2 and 1.
        let mut rate = if mean < 2.0 { 2.0 * (mean - 1.0) } else { mean };
        for _ in 0..40 {
            let none = (-rate).exp();
            let some = -(-rate).exp_m1();
            let slope = ((some - rate * none) / (some * some)).clamp(0.5, 1.0);
            let moved = (rate / some - mean) / slope;
            rate = (rate - moved).max(1e-9);
            if moved.abs() < 1e-10 * mean {
                break;
            }
        }
        Self {
            rate,
            log_rate: rate.ln(),
            rest: (-(-rate).exp_m1()).ln() + rate,
        }
    }

    fn log_chance(&self, count: f64) -> f64 {
        count * self.log_rate - self.rest - log_factorial(count)
    }
}

/// ln(n!), by the series of Stirling beyond 8 (error below 1e-7).
fn log_factorial(n: f64) -> f64 {
    if n < 8.5 {
        return (2..=n as u32).map(|k| f64::from(k).ln()).sum();
    }
    n * n.ln() - n + (std::f64::consts::TAU * n).ln() / 2.0 + 1.0 / (12.0 * n)
        - 1.0 / (360.0 * n.powi(3))
}
