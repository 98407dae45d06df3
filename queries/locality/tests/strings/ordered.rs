//! Generators of sequential, strided and looping strings.

use super::make::{Rng, repeated};
use super::{Generator, held_out, tuned};
use pgtrace_locality::patterns::Pattern::{Looping, Sequential, Strided};

pub const GENERATORS: &[Generator] = &[
    tuned("up", Sequential, |_, n| (0..n as u64).collect()),
    tuned("down", Sequential, |_, n| (0..n as u64).rev().collect()),
    tuned("each page 1 to 4 times", Sequential, |rng, n| {
        let pages: Vec<u64> = (0..n as u64).collect();
        let most = rng.between(2, 4);
        repeated(rng, &pages, most)
    }),
    tuned("read-ahead gaps", Sequential, |rng, n| {
        let (share, most) = (rng.real(0.02, 0.25), rng.between(2, 32));
        walk(n, 0, || {
            if rng.chance(share) {
                rng.between(2, most) as i64
            } else {
                1
            }
        })
    }),
    tuned("small steps", Sequential, |rng, n| {
        walk(n, 0, || [1, 1, 1, 2, 3][rng.below(5) as usize])
    }),
    tuned("extents elsewhere", Sequential, |rng, n| {
        let mean = rng.real(20.0, 200.0);
        let mut page = 0;
        let mut pages = Vec::new();
        for _ in 0..n {
            page = if rng.chance(1.0 / mean) {
                rng.below(1 << 22)
            } else {
                page + 1
            };
            pages.push(page);
        }
        pages
    }),
    tuned("local disorder", Sequential, |rng, n| {
        disordered(rng, (0..n as u64).collect(), 4)
    }),
    held_out(
        "down, each page 1 to 3 times, gaps",
        Sequential,
        |rng, n| {
            let pages = walk(n, 1 << 20, || if rng.chance(0.1) { -3 } else { -1 });
            repeated(rng, &pages, 3)
        },
    ),
    held_out("header page now and then", Sequential, |rng, n| {
        let every = rng.between(8, 64);
        (0..n as u64)
            .map(|at| if at % every == 0 { 0 } else { 1 + at })
            .collect()
    }),
    held_out("overlapping reads", Sequential, |rng, n| {
        let size = rng.between(6, 16);
        (0..n as u64)
            .flat_map(|read| (0..size).map(move |at| read * (size - 1) + at))
            .take(n)
            .collect()
    }),
    tuned("stride up", Strided, |rng, n| {
        let stride = rng.between(2, 64) as i64;
        walk(n, 0, || stride)
    }),
    tuned("stride down", Strided, |rng, n| {
        let stride = rng.between(2, 64) as i64;
        walk(n, 1 << 30, || -stride)
    }),
    tuned("large stride", Strided, |rng, n| {
        let stride = rng.between(65, 100_000) as i64;
        walk(n, 0, || stride)
    }),
    tuned("columns of a matrix", Strided, |rng, n| {
        let rows = rng.between(20, 100).min(n as u64 / 2);
        let stride = rng.between(rows.max(n as u64 / rows), 512);
        (0..n as u64)
            .map(|at| at / rows + at % rows * stride)
            .collect()
    }),
    tuned("stride varies by one", Strided, |rng, n| {
        let stride = rng.between(8, 64) as i64;
        walk(n, 0, || stride + rng.below(3) as i64 - 1)
    }),
    held_out("stride, each page 1 to 4 times", Strided, |rng, n| {
        let stride = rng.between(2, 64) as i64;
        let pages = walk(n, 0, || stride);
        repeated(rng, &pages, 4)
    }),
    held_out("records of two pages", Strided, |rng, n| {
        let stride = rng.between(8, 128);
        (0..n as u64).map(|at| at / 2 * stride + at % 2).collect()
    }),
    held_out("stride that skips records", Strided, |rng, n| {
        let stride = rng.between(2, 64) as i64;
        walk(n, 0, || if rng.chance(0.1) { 2 * stride } else { stride })
    }),
    tuned("loop", Looping, |rng, n| {
        let pages = rng.log_between(20, n as u64 / 2);
        (0..n as u64).map(|at| at % pages).collect()
    }),
    tuned("loop over scattered pages", Looping, |rng, n| {
        let pages = rng.log_between(20, n as u64 / 2) as usize;
        let order = rng.distinct(pages, 100_000);
        (0..n).map(|at| order[at % pages]).collect()
    }),
    tuned("loop, each page 1 to 4 times", Looping, |rng, n| {
        let pages = rng.log_between(20, n as u64 / 4);
        let once: Vec<u64> = (0..n as u64).map(|at| at % pages).collect();
        let most = rng.between(1, 4);
        repeated(rng, &once, most)
    }),
    tuned("loop that skips pages", Looping, |rng, n| {
        let (pages, share) = (rng.log_between(20, n as u64 / 3), rng.real(0.0, 0.15));
        (0..2 * n as u64)
            .filter(|_| !rng.chance(share))
            .map(|at| at % pages)
            .collect()
    }),
    tuned("loop with local disorder", Looping, |rng, n| {
        let pages = rng.log_between(30, n as u64 / 2);
        disordered(rng, (0..n as u64).map(|at| at % pages).collect(), 3)
    }),
    tuned("nested loops", Looping, |rng, n| {
        let (block, rounds) = (rng.log_between(10, n as u64 / 8), rng.between(3, 8));
        (0..n as u64)
            .map(|at| at / (block * rounds) * block + at % block)
            .collect()
    }),
    held_out("strided loop downwards", Looping, |rng, n| {
        let (pages, stride) = (rng.log_between(20, n as u64 / 2), rng.between(2, 32));
        (0..n as u64)
            .map(|at| (pages - at % pages) * stride)
            .collect()
    }),
    held_out("inner table once per outer page", Looping, |rng, n| {
        let inner = rng.log_between(20, n as u64 / 4);
        (0..n as u64)
            .map(|at| {
                if at % (inner + 1) == 0 {
                    10_000 + at / (inner + 1)
                } else {
                    at % (inner + 1)
                }
            })
            .collect()
    }),
    held_out(
        "every round in a new order of blocks of 8",
        Looping,
        |rng, n| {
            let pages = rng.log_between(32, n as u64 / 3);
            let mut string = Vec::new();
            while string.len() < n {
                for start in (0..pages).step_by(8) {
                    let mut block: Vec<u64> = (start..(start + 8).min(pages)).collect();
                    rng.shuffle(&mut block);
                    string.extend(block);
                }
            }
            string
        },
    ),
    held_out("short loop", Looping, |rng, n| {
        let pages = rng.between(6, 20);
        (0..n as u64).map(|at| at % pages).collect()
    }),
];

/// A walk from a page by steps, not below 0.
fn walk(refs: usize, from: i64, mut step: impl FnMut() -> i64) -> Vec<u64> {
    let mut page = from;
    (0..refs)
        .map(|_| {
            let here = page;
            page = (page + step()).max(0);
            here as u64
        })
        .collect()
}

/// Shuffled within windows of that many references.
fn disordered(rng: &mut Rng, mut pages: Vec<u64>, window: usize) -> Vec<u64> {
    for part in pages.chunks_mut(window) {
        rng.shuffle(part);
    }
    pages
}
