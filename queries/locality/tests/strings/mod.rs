//! Labelled reference strings: several independent generators of each pattern, noise, and interleaving.
//!
//! Thresholds were set on generators that are not held out. Those of [`Generator::held_out`] were measured only, but
//! where they failed in a way that told of a missing idea, the method was changed: order against nearness in loops,
//! lifetimes, fewer meetings than chance. [`fresh`] were written after all that, and never tuned for; the generators of
//! `outside` came later, and the method was changed for them.
#![allow(dead_code, unreachable_pub)]

mod fresh;
mod make;
mod ordered;
mod outside;
mod second;
mod unordered;

#[allow(unused_imports)] // each test takes what it needs
pub use make::{Rng, sums};
use pgtrace_locality::patterns::{Access, Classifier, Pattern, Report, Settings, Touch};

/// A way to make strings of one pattern.
#[derive(Clone, Copy)]
pub struct Generator {
    pub name: &'static str,
    pub pattern: Pattern,
    pub held_out: bool,
    /// A string of about that many references, pages from 0.
    pub make: fn(&mut Rng, usize) -> Vec<u64>,
}

/// A way that thresholds may be set on.
const fn tuned(
    name: &'static str,
    pattern: Pattern,
    make: fn(&mut Rng, usize) -> Vec<u64>,
) -> Generator {
    Generator {
        name,
        pattern,
        held_out: false,
        make,
    }
}

/// A way that is only measured.
const fn held_out(
    name: &'static str,
    pattern: Pattern,
    make: fn(&mut Rng, usize) -> Vec<u64>,
) -> Generator {
    Generator {
        held_out: true,
        ..tuned(name, pattern, make)
    }
}

/// All generators.
pub fn generators() -> Vec<Generator> {
    ordered::GENERATORS
        .iter()
        .chain(unordered::GENERATORS)
        .chain(second::GENERATORS)
        .chain(outside::GENERATORS)
        .copied()
        .collect()
}

/// Generators that nothing was ever changed for.
pub fn fresh() -> Vec<Generator> {
    fresh::GENERATORS.to_vec()
}

/// A labelled string: the references to one object in one window.
pub struct Labelled {
    pub generator: Generator,
    pub pages: Vec<u64>,
}

/// One string of 200 to 5,000 references with that share of stray references.
pub fn labelled(generator: Generator, rng: &mut Rng, noise: f64) -> Labelled {
    let refs = rng.log_between(200, 5_000) as usize;
    let mut pages = (generator.make)(rng, refs);
    pages.truncate(refs);
    let base = rng.below(1 << 30);
    let pages = rng
        .strayed(&pages, noise)
        .into_iter()
        .map(|page| page + base)
        .collect();
    Labelled { generator, pages }
}

/// The report on strings that are interleaved as objects of one window: each by its own classifier.
pub fn reports(strings: &[Labelled], rng: &mut Rng) -> Vec<Report> {
    let mut classifiers: Vec<Classifier> = strings
        .iter()
        .map(|_| Classifier::new(Settings::default()))
        .collect();
    // Threads and instructions that say nothing: one, or any of some at each reference.
    let threads: Vec<(u64, u64)> = strings
        .iter()
        .map(|_| {
            (
                [1, 1, 2, 4][rng.below(4) as usize],
                [1, 1, 3, 12][rng.below(4) as usize],
            )
        })
        .collect();
    let mut next = vec![0; strings.len()];
    let mut left: usize = strings.iter().map(|string| string.pages.len()).sum();
    while left > 0 {
        // An object by chance, in proportion to what is left of it: all end at about the same time.
        let mut pick = rng.below(left as u64) as usize;
        let object = strings
            .iter()
            .zip(&next)
            .position(|(string, &done)| {
                let rest = string.pages.len() - done;
                let here = pick < rest;
                pick = pick.wrapping_sub(rest);
                here
            })
            .unwrap_or(0);
        classifiers[object].push(&Touch {
            page: strings[object].pages[next[object]],
            access: Access::Read,
            tid: 100 + rng.below(threads[object].0) as u32,
            ip: 0x40_0000 + 64 * rng.below(threads[object].1),
        });
        next[object] += 1;
        left -= 1;
    }
    classifiers.into_iter().map(Classifier::finish).collect()
}

/// Verdicts counted: by generator, pattern said and whether they were confident.
#[derive(Default)]
pub struct Tally {
    /// (generator, said, confidence).
    pub verdicts: Vec<(Generator, Pattern, f64)>,
    /// References classified, and the time that took.
    pub refs: usize,
    pub took: std::time::Duration,
}

impl Tally {
    /// `rounds` strings of every generator, 2 to 12 interleaved at a time.
    pub fn measure(generators: &[Generator], rounds: usize, noise: f64, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut queue: Vec<Generator> = (0..rounds)
            .flat_map(|_| generators.iter().copied())
            .collect();
        rng.shuffle(&mut queue);
        let mut tally = Self::default();
        while !queue.is_empty() {
            let objects = (2 + rng.below(11) as usize).min(queue.len());
            let strings: Vec<Labelled> = queue
                .drain(..objects)
                .map(|generator| labelled(generator, &mut rng, noise))
                .collect();
            let started = std::time::Instant::now();
            let reports = reports(&strings, &mut rng);
            tally.took += started.elapsed();
            tally.refs += strings
                .iter()
                .map(|string| string.pages.len())
                .sum::<usize>();
            for (string, report) in strings.iter().zip(reports) {
                tally
                    .verdicts
                    .push((string.generator, report.all.pattern, report.all.confidence));
            }
        }
        tally
    }

    /// Share of right verdicts among those that `which` picks, and their number.
    pub fn right(&self, which: impl Fn(&Generator, Pattern, f64) -> bool) -> (f64, usize) {
        let picked: Vec<_> = self
            .verdicts
            .iter()
            .filter(|(generator, said, sure)| which(generator, *said, *sure))
            .collect();
        let right = picked
            .iter()
            .filter(|(generator, said, _)| generator.pattern == *said)
            .count();
        (right as f64 / picked.len().max(1) as f64, picked.len())
    }

    /// Verdicts `said` on strings of a pattern.
    pub fn count(&self, pattern: Pattern, said: Pattern) -> usize {
        self.verdicts
            .iter()
            .filter(|(generator, what, _)| generator.pattern == pattern && *what == said)
            .count()
    }
}
