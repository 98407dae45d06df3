//! Generators that were written after the thresholds were set. All are held out.

use super::make::{repeated, sums};
use super::{Generator, held_out};
use pgtrace_locality::patterns::Pattern::{
    Clustered, Looping, OneShot, Random, Sequential, Skewed, Strided,
};

pub const GENERATORS: &[Generator] = &[
    held_out("scan that wraps round once", Sequential, |rng, n| {
        let size = rng.between(n as u64, 3 * n as u64);
        let start = rng.below(size);
        (0..n as u64).map(|at| (start + at) % size).collect()
    }),
    held_out("scan that looks back a page", Sequential, |rng, n| {
        let share = rng.real(0.05, 0.15);
        (1..=n as u64)
            .flat_map(|at| {
                if rng.chance(share) {
                    vec![at, at - 1]
                } else {
                    vec![at]
                }
            })
            .collect()
    }),
    held_out(
        "scans of one thread in several files' parts",
        Sequential,
        |rng, n| {
            let mut heads: Vec<u64> = (0..rng.between(2, 5)).map(|part| part * 100_000).collect();
            (0..n)
                .map(|_| {
                    let at = rng.below(heads.len() as u64) as usize;
                    heads[at] += 1;
                    heads[at]
                })
                .collect()
        },
    ),
    held_out("strides of one thread in two parts", Strided, |rng, n| {
        let stride = rng.between(3, 40);
        (0..n as u64)
            .map(|at| at % 2 * 10_000_019 + at / 2 * stride)
            .collect()
    }),
    held_out(
        "stride that wraps round with an offset",
        Strided,
        |rng, n| {
            let stride = rng.between(4, 64);
            let laps = rng.between(1, 3.min(stride - 1));
            let lap = n as u64 / laps + 1;
            (0..n as u64)
                .map(|at| at % lap * stride + at / lap)
                .collect()
        },
    ),
    held_out("loop of one round and a third", Looping, |rng, n| {
        let pages = (n as f64 / rng.real(1.35, 1.9)) as u64;
        (0..n as u64).map(|at| at % pages).collect()
    }),
    held_out("two loops, one after the other", Looping, |rng, n| {
        let (a, b) = (
            rng.log_between(20, n as u64 / 6),
            rng.log_between(20, n as u64 / 6),
        );
        let half = n as u64 / 2;
        (0..n as u64)
            .map(|at| if at < half { at % a } else { 50_000 + at % b })
            .collect()
    }),
    held_out(
        "loop over scattered pages, each 1 to 3 times",
        Looping,
        |rng, n| {
            let pages = rng.log_between(20, n as u64 / 5) as usize;
            let order = rng.distinct(pages, 1 << 20);
            let once: Vec<u64> = (0..n).map(|at| order[at % pages]).collect();
            repeated(rng, &once, 3)
        },
    ),
    held_out("loop with a hot page between", Looping, |rng, n| {
        let pages = rng.log_between(20, n as u64 / 3);
        (0..n as u64)
            .map(|at| if at % 3 == 2 { 9_999 } else { at % pages })
            .collect()
    }),
    held_out("one of the last pages, or any", Clustered, |rng, n| {
        let (share, recent) = (rng.real(0.7, 0.9), rng.between(4, 20) as usize);
        let pages = rng.log_between(200, 5_000);
        let mut last: Vec<u64> = Vec::new();
        (0..n)
            .map(|_| {
                let page = if !last.is_empty() && rng.chance(share) {
                    last[rng.below(last.len() as u64) as usize]
                } else {
                    rng.below(pages)
                };
                last.retain(|&other| other != page);
                last.insert(0, page);
                last.truncate(recent);
                page
            })
            .collect()
    }),
    held_out(
        "a quarter of the set replaced now and then",
        Clustered,
        |rng, n| {
            let size = rng.between(8, 40);
            let every = (n / rng.between(6, 20) as usize).max(2 * size as usize);
            let mut set: Vec<u64> = (0..size).collect();
            (0..n)
                .map(|at| {
                    if at % every == every - 1 {
                        for page in set.iter_mut().step_by(4) {
                            *page = rng.below(1 << 20);
                        }
                        rng.shuffle(&mut set);
                    }
                    set[rng.below(size) as usize]
                })
                .collect()
        },
    ),
    held_out("Zipf at a place that moves", Clustered, |rng, n| {
        let depths = sums((1..=200).map(|rank| 1.0 / f64::from(rank)));
        let moves = rng.real(200.0, 800.0) / n as f64;
        let moves = moves.min(0.5);
        (0..n)
            .map(|at| (at as f64 * moves) as u64 + rng.draw(&depths) as u64)
            .collect()
    }),
    held_out("log-normal popularity", Skewed, |rng, n| {
        let (pages, deviation) = (rng.log_between(100, 3_000), rng.real(1.2, 2.5));
        let weights = sums(
            (0..pages)
                .map(|_| (rng.normal() * deviation).exp())
                .collect::<Vec<_>>()
                .into_iter(),
        );
        (0..n).map(|_| rng.draw(&weights) as u64).collect()
    }),
    held_out("ten hot pages", Skewed, |rng, n| {
        let pages = rng.log_between(200, 5_000);
        let (share, hot) = (rng.real(0.5, 0.9), rng.permutation(pages));
        (0..n)
            .map(|_| {
                if rng.chance(share) {
                    hot[rng.below(10) as usize]
                } else {
                    rng.below(pages)
                }
            })
            .collect()
    }),
    held_out("Zipf over few pages", Skewed, |rng, n| {
        let (pages, alpha) = (rng.between(20, 100), rng.real(0.8, 1.5));
        let weights = sums((1..=pages).map(|rank| (rank as f64).powf(-alpha)));
        (0..n).map(|_| rng.draw(&weights) as u64).collect()
    }),
    held_out("uniform over two ranges", Random, |rng, n| {
        let pages = rng.log_between(50, 2 * n as u64);
        (0..n)
            .map(|_| rng.below(2) * 1_000_000 + rng.below(pages))
            .collect()
    }),
    held_out("uniform over very many pages", Random, |rng, n| {
        let pages = rng.between(n as u64, (n * n / 12) as u64).min(100_000);
        (0..n).map(|_| rng.below(pages)).collect()
    }),
    held_out(
        "uniform, without the same page twice in a row",
        Random,
        |rng, n| {
            let pages = rng.log_between(20, 1_000);
            let mut page = 0;
            (0..n)
                .map(|_| {
                    page = (page + rng.between(1, pages - 1)) % pages;
                    page
                })
                .collect()
        },
    ),
    held_out("half of the pages in random order", OneShot, |rng, n| {
        let mut pages = rng.permutation(2 * n as u64);
        pages.truncate(n);
        pages
    }),
    held_out("every fourth page in random order", OneShot, |rng, n| {
        rng.permutation(n as u64)
            .into_iter()
            .map(|page| page * 4)
            .collect()
    }),
    held_out("small groups of pages, each once", OneShot, |rng, n| {
        let groups = rng.permutation(n as u64);
        groups
            .into_iter()
            .flat_map(|group| (0..rng.between(1, 2)).map(move |page| group * 10 + page))
            .take(n)
            .collect()
    }),
];
