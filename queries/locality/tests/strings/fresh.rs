//! Generators that nothing was changed for: written last, and measured once before the figures were taken.

use super::make::sums;
use super::{Generator, held_out};
use pgtrace_locality::patterns::Pattern::{
    Clustered, Looping, OneShot, Random, Sequential, Skewed, Strided,
};

pub const GENERATORS: &[Generator] = &[
    held_out("each page four times", Sequential, |_, n| {
        (0..n as u64).map(|at| at / 4).collect()
    }),
    held_out("long skips", Sequential, |rng, n| {
        let mut page = 0;
        (0..n)
            .map(|_| {
                page += if rng.chance(0.05) {
                    rng.between(2, 100)
                } else {
                    1
                };
                page
            })
            .collect()
    }),
    held_out("extents, some of them downwards", Sequential, |rng, n| {
        let size = rng.between(30, 150);
        (0..n as u64 / size + 1)
            .flat_map(|extent| {
                let from = extent * 7_919 % 1_009 * 1_000;
                let pages: Vec<u64> = (from..from + size).collect();
                if extent % 3 == 0 {
                    pages.into_iter().rev().collect()
                } else {
                    pages
                }
            })
            .take(n)
            .collect()
    }),
    held_out("stride, each page twice", Strided, |rng, n| {
        let stride = rng.between(2, 64);
        (0..n as u64).map(|at| at / 2 * stride).collect()
    }),
    held_out("stride with jumps", Strided, |rng, n| {
        let stride = rng.between(2, 64);
        let mut page = 1 << 30;
        (0..n)
            .map(|_| {
                page = if rng.chance(0.03) {
                    rng.below(1 << 31)
                } else {
                    page - stride
                };
                page
            })
            .collect()
    }),
    held_out("loop whose pages change slowly", Looping, |rng, n| {
        let pages = rng.log_between(20, n as u64 / 3);
        let mut order: Vec<u64> = (0..pages).collect();
        let mut new = pages;
        (0..n as u64)
            .map(|at| {
                let here = (at % pages) as usize;
                if rng.chance(0.05) {
                    order[here] = new;
                    new += 1;
                }
                order[here]
            })
            .collect()
    }),
    held_out("loop that starts over early", Looping, |rng, n| {
        let pages = rng.log_between(30, n as u64 / 3);
        let mut at = 0;
        (0..n)
            .map(|_| {
                at = if rng.chance(0.2 / pages as f64) {
                    0
                } else {
                    (at + 1) % pages
                };
                at * 3
            })
            .collect()
    }),
    held_out("loop with swapped neighbours", Looping, |rng, n| {
        let pages = rng.log_between(20, n as u64 / 2);
        let mut string: Vec<u64> = (0..n as u64).map(|at| at % pages).collect();
        for _ in 0..n / 10 {
            let at = rng.below(n as u64 - 1) as usize;
            string.swap(at, at + 1);
        }
        string
    }),
    held_out("LRU stack, log-normal depths", Clustered, |rng, n| {
        let (middle, deviation) = (rng.real(1.0, 2.5), rng.real(0.5, 1.2));
        let mut stack = rng.permutation(1_000);
        (0..n)
            .map(|_| {
                let depth = (middle + deviation * rng.normal()).exp() as usize;
                let page = stack.remove(depth.min(999));
                stack.insert(0, page);
                page
            })
            .collect()
    }),
    held_out("popularity dealt anew", Clustered, |rng, n| {
        let (times, pages) = (rng.between(5, 12) as usize, rng.log_between(100, 2_000));
        let weights = sums((1..=pages).map(|rank| 1.0 / rank as f64));
        let mut deal = rng.permutation(pages);
        (0..n)
            .map(|at| {
                if at % (n / times) == 0 {
                    rng.shuffle(&mut deal);
                }
                deal[rng.draw(&weights)]
            })
            .collect()
    }),
    held_out("jobs with a few pages each", Clustered, |rng, n| {
        let (size, long) = (rng.between(3, 12), rng.between(15, 60));
        (0..n as u64)
            .map(|at| at / long * 1_000 % 77_777 + rng.below(size))
            .collect()
    }),
    held_out("Pareto", Skewed, |rng, n| {
        let shape = rng.real(0.8, 1.5);
        (0..n)
            .map(|_| (10.0 * (1.0 - rng.unit()).powf(-1.0 / shape)) as u64 % 100_000)
            .collect()
    }),
    held_out("Zipf of 1,000 pages", Skewed, |rng, n| {
        let alpha = rng.real(0.8, 1.2);
        let weights = sums((1..=1_000).map(|rank| f64::from(rank).powf(-alpha)));
        let at = rng.distinct(1_000, 1 << 30);
        (0..n).map(|_| at[rng.draw(&weights)]).collect()
    }),
    held_out("three temperatures", Skewed, |rng, n| {
        let pages = rng.log_between(150, n as u64);
        let at = rng.permutation(pages);
        (0..n)
            .map(|_| {
                let (from, to) = match rng.below(10) {
                    0..5 => (0, pages / 20),
                    5..8 => (pages / 20, pages / 4),
                    _ => (pages / 4, pages - 1),
                };
                at[rng.between(from, to) as usize]
            })
            .collect()
    }),
    held_out("uniform over half as many pages", Random, |rng, n| {
        (0..n).map(|_| rng.below(n as u64 / 2)).collect()
    }),
    held_out(
        "uniform over three times as many pages",
        Random,
        |rng, n| (0..n).map(|_| 17 + rng.below(3 * n as u64)).collect(),
    ),
    held_out("uniform over 30 to 2,000 pages", Random, |rng, n| {
        let pages = rng.log_between(30, 2_000);
        (0..n).map(|_| rng.below(pages)).collect()
    }),
    held_out("pages far apart, each once", OneShot, |rng, n| {
        rng.distinct(n, 1 << 40)
    }),
    held_out("a third of the pages in random order", OneShot, |rng, n| {
        let mut pages = rng.permutation(3 * n as u64);
        pages.truncate(n);
        pages
    }),
];
