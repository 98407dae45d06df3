//! Generators after those of a judge who had read the documentation only, and whose strings showed what was missing:
//! loops that turn round, pages touched twice, touches that trail, aligned pages, pairs of pages.

use super::make::{Rng, repeated, sums};
use super::{Generator, tuned};
use pgtrace_locality::patterns::Pattern::{Looping, OneShot, Random, Sequential, Skewed, Strided};

pub const GENERATORS: &[Generator] = &[
    tuned("scan with a second touch behind", Sequential, |rng, n| {
        trailing(rng, n, 1)
    }),
    tuned("stride with a second touch behind", Strided, |rng, n| {
        let stride = rng.between(2, 64);
        trailing(rng, n, stride)
    }),
    tuned("there and back", Looping, |rng, n| {
        let pages = rng.log_between(20, n as u64 / 8);
        turning(n, pages, 2 * pages - 2)
    }),
    tuned("there and back, both ends twice", Looping, |rng, n| {
        let pages = rng.log_between(20, n as u64 / 8);
        turning(n, pages, 2 * pages)
    }),
    tuned("a list with pages that come twice", Looping, |rng, n| {
        let length = rng.log_between(40, n as u64 / 3);
        let list: Vec<u64> = (0..length).map(|_| rng.below(length / 2)).collect();
        (0..n).map(|at| list[at % list.len()]).collect()
    }),
    tuned("a hot page between any two of a loop", Looping, |rng, n| {
        let pages = rng.log_between(20, n as u64 / 8);
        (0..n as u64)
            .map(|at| if at % 2 == 0 { 9_999 } else { at / 2 % pages })
            .collect()
    }),
    tuned("uniform, each twice in a row", Random, |rng, n| {
        let pages = uniform(rng, n / 2, 20);
        pages.into_iter().flat_map(|page| [page, page]).collect()
    }),
    tuned("uniform, each 1 to 3 times in a row", Random, |rng, n| {
        let pages = uniform(rng, n / 2, 20);
        repeated(rng, &pages, 3)
    }),
    tuned("uniform, a fifth twice in a row", Random, |rng, n| {
        let pages = uniform(rng, n, 20);
        pages
            .into_iter()
            .flat_map(|page| std::iter::repeat_n(page, if rng.chance(0.2) { 2 } else { 1 }))
            .collect()
    }),
    tuned("uniform pairs of pages", Random, |rng, n| {
        let pages = uniform(rng, n / 2, 20);
        pages
            .into_iter()
            .flat_map(|page| [2 * page, 2 * page + 1])
            .collect()
    }),
    tuned("Zipf, each twice in a row", Skewed, |rng, n| {
        let pages = rng.log_between(40, n as u64 / 4);
        let at = rng.permutation(pages);
        let weights = sums((1..=pages).map(|rank| 1.0 / rank as f64));
        (0..n / 2)
            .flat_map(|_| [at[rng.draw(&weights)]; 2])
            .collect()
    }),
    tuned("aligned pages in random order", OneShot, |rng, n| {
        let (step, of) = (rng.between(2, 16), rng.real(1.0, 3.0));
        let mut pages = rng.permutation((n as f64 * of) as u64);
        pages.truncate(n);
        pages.into_iter().map(|page| page * step).collect()
    }),
    tuned(
        "random order, each 1 to 4 times in a row",
        OneShot,
        |rng, n| {
            let pages = rng.permutation(n as u64 / 2);
            repeated(rng, &pages, 4)
        },
    ),
    tuned("stride, disorder in fours", Strided, |rng, n| {
        let stride = rng.between(2, 64);
        let mut pages: Vec<u64> = (0..n as u64).map(|at| at * stride).collect();
        pages.chunks_mut(4).for_each(|four| rng.shuffle(four));
        pages
    }),
];

fn uniform(rng: &mut Rng, refs: usize, least: u64) -> Vec<u64> {
    let pages = rng.log_between((refs as u64 / 20).max(least), 2 * refs as u64);
    (0..refs).map(|_| rng.below(pages)).collect()
}

fn trailing(rng: &mut Rng, refs: usize, stride: u64) -> Vec<u64> {
    let behind = rng.between(2, 30);
    (behind..behind + refs as u64 / 2)
        .flat_map(|at| [at * stride, (at - behind) * stride])
        .collect()
}

/// Up to the last of `pages` and down again, in `period` references.
fn turning(refs: usize, pages: u64, period: u64) -> Vec<u64> {
    (0..refs as u64)
        .map(|at| {
            let at = at % period;
            if at < pages {
                at
            } else {
                period - 1 - at + (2 * pages - period) / 2
            }
        })
        .collect()
}
