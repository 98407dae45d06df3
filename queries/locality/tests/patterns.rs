//! The classification on labelled strings, on long ones and on anything.
#![allow(clippy::unwrap_used)]

mod strings;

use pgtrace_locality::patterns::{Access, Classifier, Pattern, Report, Settings, Touch};
use proptest::prelude::*;
use strings::{Rng, Tally, generators, sums};

fn touch(page: u64) -> Touch {
    Touch {
        page,
        access: Access::Read,
        tid: 1,
        ip: 2,
    }
}

fn report(pages: impl IntoIterator<Item = u64>, settings: Settings) -> Report {
    let mut classifier = Classifier::new(settings);
    pages
        .into_iter()
        .for_each(|page| classifier.push(&touch(page)));
    classifier.finish()
}

fn verdict(pages: impl IntoIterator<Item = u64>) -> Pattern {
    report(pages, Settings::default()).all.pattern
}

#[test]
fn labelled_strings_are_recognised() {
    let all = generators();
    for (noise, least) in [(0.0, 0.97), (0.02, 0.97), (0.05, 0.96)] {
        let tally = Tally::measure(&all, 12, noise, 4_711);
        let (right, strings) = tally.right(|_, _, _| true);
        assert!(right >= least, "noise {noise}: {right} of {strings}");
        let (held_out, strings) = tally.right(|generator, _, _| generator.held_out);
        assert!(
            held_out >= 0.95,
            "noise {noise}: {held_out} of {strings} held out"
        );
        let (sure, strings) = tally.right(|_, _, confidence| confidence >= 0.9);
        assert!(
            sure >= 0.97,
            "noise {noise}: {sure} of {strings} confident verdicts"
        );
        for pattern in Pattern::ALL
            .into_iter()
            .filter(|&pattern| pattern != Pattern::Unknown)
        {
            let (right, strings) = tally.right(|generator, _, _| generator.pattern == pattern);
            assert!(
                right >= 0.9,
                "noise {noise}: {right} of {strings} {}",
                pattern.name()
            );
        }
    }
}

#[test]
fn figures_say_stride_and_period() {
    let strided = report((0..500).map(|at| 40_000 - 7 * at), Settings::default()).all;
    assert_eq!(
        (
            strided.pattern,
            strided.figures.stride,
            strided.figures.direction
        ),
        (Pattern::Strided, Some(-7), Some(-1))
    );
    let looping = report((0..1_000).map(|at| at % 90), Settings::default()).all;
    assert_eq!(looping.pattern, Pattern::Looping);
    assert_eq!(
        (looping.figures.period_pages, looping.figures.period_refs),
        (Some(90), Some(90))
    );
    let thrice = report((0..1_500).map(|at| at / 3 % 50), Settings::default()).all;
    assert_eq!(
        (thrice.figures.period_pages, thrice.figures.period_refs),
        (Some(50), Some(150))
    );
}

#[test]
fn too_little_is_unknown() {
    assert_eq!(verdict([]), Pattern::Unknown);
    assert_eq!(verdict(0..15), Pattern::Unknown);
    assert_eq!(verdict(std::iter::repeat_n(7, 1_000)), Pattern::Unknown);
    assert_eq!(report([], Settings::default()).all.confidence, 0.0);
}

#[test]
fn readers_and_writers_are_judged_apart() {
    let mut rng = Rng::new(3);
    let mut classifier = Classifier::new(Settings::default());
    for at in 0..600 {
        classifier.push(&Touch {
            page: at,
            access: Access::Read,
            tid: 1,
            ip: 2,
        });
        classifier.push(&Touch {
            page: 50_000 + rng.below(80),
            access: Access::Write,
            tid: 1,
            ip: 2,
        });
    }
    let report = classifier.finish();
    assert_eq!(report.reads.unwrap().pattern, Pattern::Sequential);
    assert_eq!(report.writes.unwrap().pattern, Pattern::Random);
    let only_reads = self::report(0..600, Settings::default());
    assert_eq!((only_reads.reads, only_reads.writes), (None, None));
}

#[test]
fn threads_that_share_a_scan_are_one_stream() {
    let mut classifier = Classifier::new(Settings::default());
    for page in 0..800 {
        classifier.push(&Touch {
            tid: 10 + (page % 4) as u32,
            ..touch(page)
        });
    }
    let verdict = classifier.finish().all;
    assert_eq!(
        (verdict.pattern, verdict.stream_count()),
        (Pattern::Sequential, 1)
    );
}

#[test]
fn threads_that_each_scan_the_same_file_are_streams() {
    let mut classifier = Classifier::new(Settings::default());
    for at in 0..400 {
        classifier.push(&Touch {
            tid: 1,
            ..touch(at)
        });
        classifier.push(&Touch {
            tid: 2,
            ..touch((at + 150) % 700)
        });
    }
    let verdict = classifier.finish().all;
    assert_eq!(
        (verdict.pattern, verdict.stream_count()),
        (Pattern::Sequential, 2)
    );
}

/// Strings of a hundred times what is kept exactly.
#[test]
fn long_strings() {
    let refs = 400_000_u64;
    let settings = Settings {
        exact_refs: 4_096,
        ..Settings::default()
    };
    let mut rng = Rng::new(8);
    let said = |pages: Box<dyn Iterator<Item = u64>>| {
        let verdict = report(pages, settings).all;
        assert_eq!(verdict.figures.refs, refs);
        verdict
    };
    let scan = said(Box::new(0..refs));
    assert_eq!(scan.pattern, Pattern::Sequential);
    assert!(
        (scan.figures.pages as f64 / refs as f64 - 1.0).abs() < 0.2,
        "{}",
        scan.figures.pages
    );
    assert_eq!(
        said(Box::new((0..refs).map(|at| 9 * at))).pattern,
        Pattern::Strided
    );
    // A loop that no piece sees the end of.
    let wide = said(Box::new((0..refs).map(|at| at % 60_000)));
    assert_eq!(wide.pattern, Pattern::Looping);
    let period = wide.figures.period_pages.unwrap() as f64;
    assert!((period / 60_000.0 - 1.0).abs() < 0.2, "{period}");
    assert_eq!(
        said(Box::new((0..refs).map(|at| at % 300))).pattern,
        Pattern::Looping
    );
    let order = rng.permutation(50_000);
    assert_eq!(
        said(Box::new(
            (0..refs as usize).map(move |at| order[at % 50_000])
        ))
        .pattern,
        Pattern::Looping
    );
    let order = rng.permutation(refs);
    assert_eq!(said(Box::new(order.into_iter())).pattern, Pattern::OneShot);
    let uniform: Vec<u64> = (0..refs).map(|_| rng.below(100_000)).collect();
    assert_eq!(said(Box::new(uniform.into_iter())).pattern, Pattern::Random);
    let few: Vec<u64> = (0..refs).map(|_| rng.below(30)).collect();
    assert_eq!(said(Box::new(few.into_iter())).pattern, Pattern::Random);
    // A working set of 100 pages that moves by 1,000 in all: no piece sees it move by much.
    let drift: Vec<u64> = (0..refs).map(|at| at / 400 + rng.below(100)).collect();
    assert_eq!(
        said(Box::new(drift.into_iter())).pattern,
        Pattern::Clustered
    );
    for pages in [1_000, 100_000] {
        let weights = strings::sums((1..=pages).map(|rank| 1.0 / f64::from(rank)));
        let skewed: Vec<u64> = (0..refs)
            .map(|_| rng.draw(&weights) as u64 * 7_919 % 1_000_003)
            .collect();
        assert_eq!(said(Box::new(skewed.into_iter())).pattern, Pattern::Skewed);
    }
}

#[test]
fn memory_is_bounded() {
    let settings = Settings {
        exact_refs: 1_000,
        ..Settings::default()
    };
    let mut rng = Rng::new(5);
    let mut classifier = Classifier::new(settings);
    let mut sizes = Vec::new();
    for at in 0..60_000_u64 {
        classifier.push(&Touch {
            page: rng.below(40_000),
            access: if at % 3 == 0 {
                Access::Write
            } else {
                Access::Read
            },
            tid: rng.below(40) as u32,
            ip: rng.next(),
        });
        if at % 10_000 == 9_999 {
            sizes.push(format!("{classifier:?}").len());
        }
    }
    // Printed, one reference takes some 60 bytes; three samples of page numbers and the piece.
    assert!(sizes.iter().all(|&size| size < 200_000), "{sizes:?}");
}

fn any_touch() -> impl Strategy<Value = Touch> {
    let page = prop_oneof![0_u64..20, 0_u64..2_000, any::<u64>(), Just(u64::MAX)];
    let access = prop_oneof![Just(Access::Read), Just(Access::Write), Just(Access::Exec)];
    (page, access, 0_u32..4, 0_u64..3).prop_map(|(page, access, tid, ip)| Touch {
        page,
        access,
        tid,
        ip,
    })
}

fn sane(report: &Report) -> bool {
    [
        Some(&report.all),
        report.reads.as_ref(),
        report.writes.as_ref(),
    ]
    .into_iter()
    .flatten()
    .all(|verdict| {
        let figures = &verdict.figures;
        let shares = [
            Some(figures.first_share),
            Some(figures.stride_share),
            figures.follow_share,
            Some(figures.top_share),
            figures.second_share,
        ];
        (0.0..=1.0).contains(&verdict.confidence)
            && shares
                .into_iter()
                .flatten()
                .all(|share| (0.0..=1.000_001).contains(&share))
            && [figures.mean_rank, figures.shuffled_rank]
                .into_iter()
                .flatten()
                .all(|rank| (-1e-9..=1.0).contains(&rank))
            && verdict.streams.len() != 1
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn anything_has_a_sane_verdict(touches in prop::collection::vec(any_touch(), 0..600), exact_refs in 0_usize..700, min_refs in 0_usize..40) {
        let mut classifier = Classifier::new(Settings { exact_refs, min_refs });
        touches.iter().for_each(|touch| classifier.push(touch));
        prop_assert_eq!(classifier.refs(), touches.len() as u64);
        let report = classifier.finish();
        prop_assert!(sane(&report), "{report:?}");
        prop_assert_eq!(report.all.figures.refs, touches.len() as u64);
    }

    /// Where in the object the pages lie does not matter, and up is as good as down.
    #[test]
    fn moved_pages_have_the_same_verdict(which in 0_usize..1_000, seed in any::<u64>(), by in 0_u64..1 << 40) {
        let all = generators();
        let generator = all[which % all.len()];
        let mut rng = Rng::new(seed);
        let pages = strings::labelled(generator, &mut rng, 0.02).pages;
        let here = report(pages.iter().copied(), Settings::default());
        let moved = report(pages.iter().map(|page| page + by), Settings::default());
        prop_assert_eq!(&here, &moved);
        let mirrored = report(pages.iter().map(|page| (1 << 50) - page), Settings::default()).all;
        prop_assert_eq!(here.all.pattern, mirrored.pattern);
    }

    /// The same touches give the same report: nothing depends on chance or addresses.
    #[test]
    fn verdicts_are_repeatable(touches in prop::collection::vec(any_touch(), 0..300)) {
        let of = || {
            let mut classifier = Classifier::new(Settings::default());
            touches.iter().for_each(|touch| classifier.push(touch));
            classifier.finish()
        };
        prop_assert_eq!(of(), of());
    }
}

/// What is recorded of a string when the last `n` pages touched are active.
fn through_fifo(string: &[u64], n: usize) -> Vec<u64> {
    let mut active = std::collections::VecDeque::new();
    let mut seen = Vec::new();
    for &page in string {
        if !active.contains(&page) {
            seen.push(page);
            active.push_back(page);
            if active.len() > n {
                active.pop_front();
            }
        }
    }
    seen
}

/// Without its shortest reuse distances a string of chance looks a little like a loop.
#[test]
fn patterns_are_seen_through_a_fifo() {
    for (refs, pages) in [(600, 400), (1_000, 400), (2_000, 400), (1_000, 1_000)] {
        for (exponent, pattern) in [
            (0.0, Pattern::Random),
            (0.67, Pattern::Skewed),
            (1.0, Pattern::Skewed),
        ] {
            let weights = sums((1..=pages).map(|rank| (rank as f64).powf(-exponent)));
            let right = (0..40).filter(|&seed| {
                let mut rng = Rng::new(seed);
                let all = rng.permutation(pages);
                let string: Vec<u64> = (0..refs).map(|_| all[rng.draw(&weights)]).collect();
                verdict(through_fifo(&string, 32)) == pattern
            });
            let right = right.count();
            assert!(
                right >= 38,
                "{refs} references to {pages} pages, exponent {exponent}: {right} of 40"
            );
        }
    }
}
