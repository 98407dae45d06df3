//! Phases and page sets against brute force.
#![allow(clippy::unwrap_used)]

use pgtrace_locality::patterns::Pattern;
use pgtrace_locality::phases::{NEAR, PageSet, Phase, Phases, Window, dominant};
use proptest::prelude::*;
use std::collections::HashSet;

type Pages = HashSet<u64>;

fn distance(a: &Pages, b: &Pages) -> f64 {
    let union = a.union(b).count();
    if union == 0 {
        0.0
    } else {
        a.symmetric_difference(b).count() as f64 / union as f64
    }
}

/// The definition, word for word.
fn by_definition(windows: &[(Pattern, Pages)]) -> Vec<(usize, usize, Pattern, usize, Option<u64>)> {
    let mut phases: Vec<(usize, usize, Pattern, Pages, Option<u64>)> = Vec::new();
    let mut from = 0;
    for end in 1..=windows.len() {
        let goes_on = end < windows.len()
            && windows[end].0 == windows[end - 1].0
            && distance(&windows[end].1, &windows[end - 1].1) <= NEAR;
        if !goes_on {
            let pages: Pages = windows[from..end]
                .iter()
                .flat_map(|(_, pages)| pages.iter().copied())
                .collect();
            let pattern = windows[from].0;
            let repeats = phases
                .iter()
                .position(|earlier| earlier.2 == pattern && distance(&earlier.3, &pages) <= NEAR);
            phases.push((from, end, pattern, pages, repeats.map(|at| at as u64 + 1)));
            from = end;
        }
    }
    phases
        .into_iter()
        .map(|(from, end, pattern, pages, repeats)| (from, end, pattern, pages.len(), repeats))
        .collect()
}

fn found(windows: &[(Pattern, Pages)], bound: usize) -> Vec<Phase> {
    let mut phases = Phases::new(9);
    let mut all = Vec::new();
    for (at, (pattern, pages)) in windows.iter().enumerate() {
        all.extend(phases.push(Window {
            from_seq: 100 * at as u64,
            to_seq: 100 * at as u64 + 99,
            pattern: *pattern,
            pages: PageSet::of(bound, pages.iter().copied()),
        }));
    }
    all.extend(phases.finish());
    all
}

proptest! {
    #[test]
    fn phases_are_those_of_the_definition(
        windows in prop::collection::vec((0_usize..3, prop::collection::hash_set(0_u64..24, 0..12)), 0..40)
    ) {
        let windows: Vec<_> = windows.into_iter().map(|(pattern, pages)| (Pattern::ALL[pattern], pages)).collect();
        let expected = by_definition(&windows);
        let found = found(&windows, 64);
        prop_assert_eq!(found.len(), expected.len());
        for (number, (phase, (from, end, pattern, pages, repeats))) in found.iter().zip(expected).enumerate() {
            prop_assert_eq!(phase, &Phase {
                upid: 9,
                phase: number as u64 + 1,
                from_seq: 100 * from as u64,
                to_seq: 100 * end as u64 - 1,
                windows: (end - from) as u64,
                working_set_pages: pages as u64,
                exact: true,
                pattern,
                repeats,
            });
        }
    }

    #[test]
    fn small_sets_are_exact(
        a in prop::collection::hash_set(any::<u64>(), 0..60),
        b in prop::collection::hash_set(any::<u64>(), 0..60),
        shared in prop::collection::hash_set(any::<u64>(), 0..60),
    ) {
        let (a, b): (Pages, Pages) = (&a | &shared, &b | &shared);
        let (of_a, of_b) = (PageSet::of(128, a.iter().copied()), PageSet::of(128, b.iter().copied()));
        prop_assert_eq!(of_a.pages(), a.len() as u64);
        prop_assert_eq!(of_a.distance(&of_b), distance(&a, &b));
        let mut union = PageSet::of(256, a.iter().copied());
        union.add(&of_b);
        prop_assert_eq!(union.pages(), a.union(&b).count() as u64);
        prop_assert!(union.is_exact());
    }

    /// Told by sizes, signatures or counting: it is what the distance says. Sets of one size or several, exact and not.
    #[test]
    fn near_is_what_the_distance_says(
        size in 0_u64..700,
        other in 0_u64..700,
        shift in 0_u64..700,
        bounds in prop::sample::select(vec![(4_096, 4_096), (128, 4_096), (300, 128)]),
        most in prop::sample::select(vec![0.0, 0.3, NEAR, 0.9, 1.0]),
    ) {
        let (a, b) = (PageSet::of(bounds.0, 0..size), PageSet::of(bounds.1, shift..shift + other));
        prop_assert_eq!(a.is_near(&b, most), a.distance(&b) <= most);
        prop_assert_eq!(b.is_near(&a, most), b.distance(&a) <= most);
    }

    /// Where one page more makes the difference.
    #[test]
    fn near_ends_where_it_ends(third in 1_u64..400, more in 0_u64..3) {
        let set = |pages| PageSet::of(4_096, pages);
        // Of a union of four thirds, two are shared: 1/2 apart. One page less shared: too far.
        let (a, b) = (set(0..3 * third), set(third + more..4 * third + more));
        prop_assert_eq!(a.is_near(&b, NEAR), more == 0);
    }

    #[test]
    fn large_sets_are_bounded_and_nearly_right(size in 3_000_u64..20_000, shift in 0_u64..20_000) {
        let a = PageSet::of(1_024, 0..size);
        let b = PageSet::of(1_024, shift..size + shift);
        prop_assert!(!a.is_exact() && a.kept() == 1_024);
        let error = a.pages() as f64 / size as f64 - 1.0;
        prop_assert!(error.abs() < 0.15, "{error}");
        let union = size + shift.min(size);
        let expected = (2 * shift.min(size)) as f64 / union as f64;
        prop_assert!((a.distance(&b) - expected).abs() < 0.09, "{} {expected}", a.distance(&b));
        let mut both = a.clone();
        both.add(&b);
        prop_assert!(both.kept() <= 1_024);
        prop_assert!((both.pages() as f64 / union as f64 - 1.0).abs() < 0.15);
        // The union's sketch is that of the set itself.
        prop_assert_eq!(both.distance(&PageSet::of(1_024, (0..size).chain(shift..size + shift))), 0.0);
    }
}

#[test]
fn a_program_that_goes_back_repeats_its_first_phase() {
    let set = |from: u64| (from..from + 50).collect::<Pages>();
    let windows = [
        (Pattern::Looping, set(0)),
        (Pattern::Looping, set(5)),
        (Pattern::Sequential, set(0)),
        (Pattern::Looping, set(500)),
        (Pattern::Looping, set(3)),
    ];
    let repeats: Vec<_> = found(&windows, 4_096)
        .iter()
        .map(|phase| (phase.windows, phase.working_set_pages, phase.repeats))
        .collect();
    assert_eq!(
        repeats,
        [
            (2, 55, None),
            (1, 50, None),
            (1, 50, None),
            (1, 50, Some(1))
        ]
    );
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut phases = Phases::new(1);
    for round in 0..400_u64 {
        // Every phase has pages of its own, many.
        let pages = PageSet::of(4_096, round * 10_000..round * 10_000 + 6_000);
        phases.push(Window {
            from_seq: round,
            to_seq: round,
            pattern: Pattern::Random,
            pages,
        });
    }
    let debugged = format!("{phases:?}").len();
    assert!(debugged < 40 << 20, "{debugged}");
}

#[test]
fn the_pattern_of_most_references_dominates() {
    assert_eq!(dominant([]), Pattern::Unknown);
    assert_eq!(
        dominant([(Pattern::Unknown, 900), (Pattern::Skewed, 1)]),
        Pattern::Skewed
    );
    assert_eq!(
        dominant([
            (Pattern::Random, 5),
            (Pattern::Strided, 3),
            (Pattern::Strided, 3)
        ]),
        Pattern::Strided
    );
    assert_eq!(
        dominant([(Pattern::Random, 5), (Pattern::Sequential, 5)]),
        Pattern::Sequential
    );
}
