//! Generators of clustered, skewed, random and one-shot strings.

use super::make::{Rng, sums};
use super::{Generator, held_out, tuned};
use pgtrace_locality::patterns::Pattern::{Clustered, OneShot, Random, Skewed};

pub const GENERATORS: &[Generator] = &[
    tuned("LRU stack, geometric depths", Clustered, |rng, n| {
        let (pages, mean) = (rng.log_between(50, 2_000), rng.real(1.5, 12.0));
        stack(rng, n, pages, |rng| rng.geometric(mean))
    }),
    tuned("LRU stack, Zipf depths", Clustered, |rng, n| {
        let (pages, alpha) = (rng.log_between(50, 2_000), rng.real(1.2, 2.0));
        let depths = sums((1..=pages).map(|depth| (depth as f64).powf(-alpha)));
        stack(rng, n, pages, |rng| rng.draw(&depths) as u64)
    }),
    tuned("window that moves", Clustered, |rng, n| {
        let window = rng.between(5, 40);
        let moves = (rng.real(4.0, 12.0) * window as f64 / n as f64).min(0.5);
        (0..n)
            .map(|at| (at as f64 * moves) as u64 + rng.below(window))
            .collect()
    }),
    tuned("Gaussian drift", Clustered, |rng, n| {
        let deviation = rng.real(3.0, 15.0);
        let moves = (rng.real(10.0, 40.0) * deviation / n as f64).min(0.5);
        (0..n)
            .map(|at| (1_000.0 + at as f64 * moves + rng.normal() * deviation) as u64)
            .collect()
    }),
    tuned("set after set", Clustered, |rng, n| {
        let (sets, size) = (rng.between(4, 10) as usize, rng.between(8, 40));
        (0..n)
            .map(|at| (at * sets / n) as u64 * 7_919 % 1_000 * 64 + rng.below(size))
            .collect()
    }),
    tuned("recent page again", Clustered, |rng, n| {
        let (share, recent, pages) = (
            rng.real(0.6, 0.9),
            rng.between(5, 30),
            rng.log_between(100, 10_000),
        );
        let mut string: Vec<u64> = Vec::new();
        for at in 0..n as u64 {
            let page = if at > 0 && rng.chance(share) {
                string[(at - 1 - rng.below(recent.min(at))) as usize]
            } else {
                rng.below(pages)
            };
            string.push(page);
        }
        string
    }),
    tuned("pages replaced one by one", Clustered, |rng, n| {
        let (size, kept) = (rng.between(5, 50), rng.real(2.0, 8.0));
        let mut set = rng.permutation(size);
        let mut new = size;
        // Every page stays for `kept` references to it.
        (0..n)
            .map(|_| {
                if rng.chance(1.0 / kept) {
                    let at = rng.below(size) as usize;
                    set[at] = new * 7_919 % 100_003;
                    new += 1;
                }
                set[rng.below(size) as usize]
            })
            .collect()
    }),
    held_out("LRU stack, flat Zipf depths", Clustered, |rng, n| {
        let (pages, alpha) = (rng.log_between(50, 1_000), rng.real(0.8, 1.2));
        let depths = sums((1..=pages).map(|depth| (depth as f64).powf(-alpha)));
        stack(rng, n, pages, |rng| rng.draw(&depths) as u64)
    }),
    held_out("LRU stack, new pages in order", Clustered, |rng, n| {
        let (new, mean) = (rng.real(0.05, 0.35), rng.real(2.0, 15.0));
        let mut stack: Vec<u64> = Vec::new();
        let mut next = 0;
        (0..n)
            .map(|_| {
                let depth = rng.geometric(mean) as usize;
                let page = if depth >= stack.len() || rng.chance(new) {
                    next += 1;
                    next
                } else {
                    stack.remove(depth)
                };
                stack.insert(0, page);
                page
            })
            .collect()
    }),
    held_out("window that moves slowly", Clustered, |rng, n| {
        let window = rng.between(5, 40);
        let moves = (rng.real(2.0, 4.0) * window as f64 / n as f64).min(0.5);
        (0..n)
            .map(|at| (at as f64 * moves) as u64 + rng.below(window))
            .collect()
    }),
    held_out("slow Gaussian drift", Clustered, |rng, n| {
        let deviation = rng.real(3.0, 15.0);
        let moves = rng.real(3.0, 8.0) * deviation / n as f64;
        (0..n)
            .map(|at| (1_000.0 + at as f64 * moves + rng.normal() * deviation) as u64)
            .collect()
    }),
    held_out("clusters by a Markov chain", Clustered, |rng, n| {
        let (size, clusters, leave) = (
            rng.between(5, 20),
            rng.between(10, 60),
            rng.real(0.01, 0.05),
        );
        let mut cluster = 0;
        (0..n)
            .map(|_| {
                if rng.chance(leave) {
                    cluster = rng.below(clusters);
                }
                cluster * 100 + rng.below(size)
            })
            .collect()
    }),
    held_out("random walk", Clustered, |rng, n| {
        let (mut place, width) = (5_000_i64, rng.between(2, 6));
        (0..n)
            .map(|_| {
                place += rng.below(2 * width + 1) as i64 - width as i64;
                place.unsigned_abs()
            })
            .collect()
    }),
    held_out("each new page a few times soon", Clustered, |rng, n| {
        let (again, soon) = (rng.between(2, 6), rng.real(5.0, 40.0).min(n as f64 / 60.0));
        let mut timed = Vec::new();
        for page in 0..n as u64 / again {
            let start = (page * again) as f64;
            for _ in 0..=again {
                timed.push((start + rng.unit() * soon * again as f64, page * 31 % 65_537));
            }
        }
        timed.sort_by(|a, b| a.0.total_cmp(&b.0));
        timed.into_iter().map(|(_, page)| page).collect()
    }),
    tuned("Zipf", Skewed, |rng, n| zipf(rng, n, 0.8, 1.5, 0.0)),
    tuned("Zipf, low pages hot", Skewed, |rng, n| {
        let (pages, alpha) = (rng.log_between(100, 10_000), rng.real(0.8, 1.5));
        let weights = sums((1..=pages).map(|rank| (rank as f64).powf(-alpha)));
        (0..n).map(|_| rng.draw(&weights) as u64).collect()
    }),
    tuned("hot and cold", Skewed, |rng, n| {
        let pages = rng.log_between(100, n as u64);
        let (hot, share) = [(0.2, 0.8), (0.1, 0.9), (0.1, 0.8)][rng.below(3) as usize];
        let hot = (pages as f64 * hot).max(2.0) as u64;
        let at = rng.permutation(pages);
        (0..n)
            .map(|_| {
                at[if rng.chance(share) {
                    rng.below(hot)
                } else {
                    rng.between(hot, pages - 1)
                } as usize]
            })
            .collect()
    }),
    held_out("geometric popularity", Skewed, |rng, n| {
        let mean = rng.real(10.0, 100.0);
        let at = rng.permutation(1 << 16);
        (0..n)
            .map(|_| at[rng.geometric(mean).min(65_535) as usize])
            .collect()
    }),
    held_out("self-similar 80-20", Skewed, |rng, n| {
        let pages = rng.log_between(100, 10_000) as f64;
        let exponent = 0.2_f64.ln() / 0.8_f64.ln();
        (0..n)
            .map(|_| (pages * rng.unit().powf(exponent)) as u64 * 7_919 % 100_003)
            .collect()
    }),
    held_out("Zipf-Mandelbrot", Skewed, |rng, n| {
        zipf(rng, n, 1.0, 1.5, 3.0)
    }),
    held_out("steep Zipf", Skewed, |rng, n| zipf(rng, n, 1.5, 2.2, 0.0)),
    held_out("flat Zipf", Skewed, |rng, n| zipf(rng, n, 0.6, 0.8, 0.0)),
    tuned("uniform", Random, |rng, n| {
        let pages = rng.log_between(20, (10 * n as u64).min(10_000));
        (0..n).map(|_| rng.below(pages)).collect()
    }),
    tuned("uniform over scattered pages", Random, |rng, n| {
        let pages = rng.log_between(20, 4 * n as u64) as usize;
        let set = rng.distinct(pages, 1 << 24);
        (0..n)
            .map(|_| set[rng.below(pages as u64) as usize])
            .collect()
    }),
    held_out("uniform over up to 10,000 pages", Random, |rng, n| {
        let pages = rng.log_between(8, 10_000);
        (0..n).map(|_| rng.below(pages)).collect()
    }),
    held_out("uniform over few pages", Random, |rng, n| {
        let pages = rng.between(5, 20);
        (0..n).map(|_| rng.below(pages)).collect()
    }),
    held_out("uniform over every fourth page", Random, |rng, n| {
        let pages = rng.log_between(50, 2 * n as u64);
        (0..n).map(|_| 4 * rng.below(pages)).collect()
    }),
    tuned("all pages in random order", OneShot, |rng, n| {
        rng.permutation(n as u64)
    }),
    tuned("some pages of many", OneShot, |rng, n| {
        let range = n as u64 * rng.log_between(2, 200);
        rng.distinct(n, range)
    }),
    held_out("pages by their hash", OneShot, |rng, n| {
        let (salt, bits) = (rng.next() | 1, rng.between(20, 40));
        (0..n as u64)
            .map(|at| {
                ((at ^ salt).wrapping_mul(salt).rotate_left(29) ^ at)
                    .wrapping_mul(0xff51_afd7_ed55_8ccd)
                    >> (64 - bits)
            })
            .collect()
    }),
    held_out("shuffled blocks of shuffled pages", OneShot, |rng, n| {
        let blocks = rng.permutation(n as u64 / 16 + 1);
        blocks
            .into_iter()
            .flat_map(|block| {
                rng.permutation(16)
                    .into_iter()
                    .map(move |page| block * 16 + page)
            })
            .take(n)
            .collect()
    }),
];

/// The LRU stack model: a depth is drawn, the page there is referenced and moves to the top.
fn stack(
    rng: &mut Rng,
    refs: usize,
    pages: u64,
    mut depth: impl FnMut(&mut Rng) -> u64,
) -> Vec<u64> {
    let mut stack = rng.permutation(pages);
    (0..refs)
        .map(|_| {
            let at = depth(rng).min(pages - 1) as usize;
            let page = stack.remove(at);
            stack.insert(0, page);
            page
        })
        .collect()
}

/// Independent references by Zipf's law, shifted by `shift` ranks, pages in random order of popularity.
fn zipf(rng: &mut Rng, refs: usize, low: f64, high: f64, shift: f64) -> Vec<u64> {
    let (pages, alpha) = (rng.log_between(100, 10_000), rng.real(low, high));
    let at = rng.permutation(pages);
    let weights = sums((1..=pages).map(|rank| (rank as f64 + shift).powf(-alpha)));
    (0..refs).map(|_| at[rng.draw(&weights)]).collect()
}
