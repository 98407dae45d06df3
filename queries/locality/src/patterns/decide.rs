//! The verdict on one undivided string: the steps of the module's documentation, one function each.

use super::counts::{Counts, Popularity, popularity};
use super::distance::Distances;
use super::order::{Order, order};
use super::recency::{Recency, Succession, recency, succession};
use super::rounds::{Rounds, rounds};
use super::string::PageString;
use super::{Figures, Pattern, Settings};

/// A pattern, its confidence and its figures.
#[derive(Debug, Clone)]
pub(super) struct Decided {
    pub(super) pattern: Pattern,
    pub(super) confidence: f64,
    pub(super) figures: Figures,
    /// Share of the references that the order of an ordered pattern puts exactly where they are.
    pub(super) exact: f64,
}

/// A step's answer.
type Answer = Option<(Pattern, f64)>;

/// Shares of first references from which a string is a scan: a loop over a file of two rounds has one half.
const SCAN_FIRSTS: f64 = 0.6;
/// Strides explain at least this share of the first references. 5 % of stray references take away up to 15 %.
const SCAN_CHAINED: f64 = 0.6;
/// From this share of first references next to the one before, a string is not without order.
const HALF_SCAN: f64 = 0.4;
/// Least share of re-references in a loop.
const LOOP_REPEATS: f64 = 0.12;
/// Re-references that follow succession, in a loop.
const LOOP_FOLLOW: f64 = 0.55;
/// That go to the very next page; or:
const LOOP_EXACTLY: f64 = 0.7;
/// How much more often the pages after the previous one are met than those before it.
const LOOP_AHEAD: f64 = 0.3;
/// Share of the runs that two pages met before lead to, and of these that are what they led to then, in a loop.
const ROUNDS_ASKED: f64 = 0.3;
const ROUNDS_FOLLOW: f64 = 0.75;
/// Share of first references right after another first reference, below which touches trail behind a scan.
const TRAILED: f64 = 0.5;
/// References a run where pages are touched twice in a row now and then, mostly, and at most.
const TWICE_NOW_AND_THEN: f64 = 1.05;
const TWICE_MOSTLY: f64 = 1.4;
const TWICE: f64 = 2.2;
/// Repeats below which a string may be one-shot.
const ONE_SHOT_REPEATS: f64 = 0.1;
/// What noise gives of the chance meetings of uniform references: twice a share of 3 %.
const ONE_SHOT_NOISE: f64 = 0.06;
/// Least difference of mean ranks (and of lifetimes) that is an effect, whatever its significance: for clustered, ..
const RANK_EFFECT: f64 = 0.025;
/// .. and for looping.
const RANK_LOOP: f64 = 0.05;
/// Standard errors that the difference of ranks has to exceed, for clustered ..
const RANK_ERRORS: f64 = 3.3;
/// .. and for looping, and lifetimes for clustered without the ranks.
const SURE_ERRORS: f64 = 4.0;

pub(super) fn decide(string: &[u64], settings: &Settings) -> Decided {
    let pages = PageString::new(string);
    let runs = PageString::runs(&pages.ids);
    let distinct = pages.pages.len();
    let mut distances = Distances::default();
    let firsts = pages.firsts();
    let order = order(&firsts, pages.span());
    let succession = succession(&runs, distinct, &mut distances);
    let repeats = succession.count as f64 / runs.len().max(1) as f64;
    let rounds = if repeats >= LOOP_REPEATS {
        rounds(&runs)
    } else {
        Rounds::default()
    };
    let ranks = distances.ranks(&pages.ids, distinct);
    let counts = Counts::new(pages.counts(&pages.ids));
    let mut figures = Figures {
        refs: string.len() as u64,
        pages: distinct as u64,
        first_share: 1.0 - repeats,
        stride: (order.stride != 0).then_some(order.stride),
        stride_share: order.chained,
        direction: direction(&order),
        follow_share: (succession.asked > 0).then_some(succession.follow),
        mean_rank: (ranks.count > 0).then_some(ranks.mean),
        top_share: counts.top_share(),
        ..Figures::default()
    };
    let answer = if string.len() < settings.min_refs.max(3) {
        Some((Pattern::Unknown, 0.0))
    } else {
        by_trail(&order, &succession, repeats, &runs, distinct)
            .or_else(|| by_succession(&succession, repeats, distinct))
            .or_else(|| by_rounds(&rounds, distinct))
            .or_else(|| by_order(&pages, &order, repeats, &mut figures))
            .or_else(|| few_pages(distinct, &counts))
            .or_else(|| {
                let groups = popularity(&counts);
                figures.second_share = Some(groups.second_share);
                figures.popularity_ratio = Some(groups.ratio);
                let mended = PageString::mended(&pages.ids);
                let of_runs = popularity(&Counts::new(pages.counts(&mended)));
                if let Some(answer) = once(&pages, &runs, &succession, &of_runs) {
                    return Some(answer);
                }
                let found = recency(&pages.ids, <[u32]>::to_vec, ranks, distinct, &mut distances);
                figures.shuffled_rank = Some(found.shuffled);
                let answer = by_recency(&found);
                if answer.is_some_and(|(pattern, _)| pattern == Pattern::Clustered)
                    && let Some(found) =
                        only_in_a_row(string.len(), &runs, &mended, distinct, &mut distances)
                {
                    return by_popularity(&of_runs, &found);
                }
                answer.or_else(|| by_popularity(&groups, &found))
            })
    };
    let (pattern, confidence) = answer.unwrap_or((Pattern::Unknown, 0.3));
    if pattern == Pattern::Looping {
        // A page that comes twice a round is back sooner.
        let turns = by_rounds(&rounds, distinct).is_some() && rounds.gap * 4 > succession.gap * 5;
        let (round_pages, gap) = if turns {
            (rounds.pages as u64, rounds.gap)
        } else {
            (u64::from(succession.distance) + 1, succession.gap)
        };
        figures.period_pages = Some(round_pages);
        // Gaps were taken in runs; references a round are more by the references a run.
        let per_run = string.len() as f64 / runs.len().max(1) as f64;
        figures.period_refs = Some((gap as f64 * per_run).round() as u64);
    }
    let exact = match pattern {
        Pattern::Looping => succession.exactly,
        _ => order.adjacent,
    };
    Decided {
        pattern,
        confidence,
        figures,
        exact,
    }
}

/// Whether the order of a string could be judged sequential, strided or looping; much faster than the verdict.
pub(super) fn has_order(string: &[u64]) -> bool {
    let pages = PageString::new(string);
    let runs = PageString::runs(&pages.ids);
    let distinct = pages.pages.len();
    let succession = succession(&runs, distinct, &mut Distances::default());
    let repeats = succession.count as f64 / runs.len().max(1) as f64;
    let answer = by_succession(&succession, repeats, distinct)
        .or_else(|| {
            by_order(
                &pages,
                &order(&pages.firsts(), pages.span()),
                repeats,
                &mut Figures::default(),
            )
        })
        .or_else(|| by_rounds(&rounds(&runs), distinct));
    answer.is_some_and(|(pattern, _)| pattern.is_ordered())
}

/// Confidence of a figure at or beyond its threshold: one half there, near 1 from `sure` on.
fn beyond(value: f64, threshold: f64, sure: f64) -> f64 {
    let way = ((value - threshold) / (sure - threshold)).clamp(0.0, 1.0);
    0.55 + 0.43 * way.sqrt()
}

fn direction(order: &Order) -> Option<i8> {
    match order.ascending.max(order.ascending_far) {
        _ if order.ascending >= 0.7 || order.ascending_far >= 0.85 => Some(1),
        _ if order.ascending <= 0.3 || order.ascending_far <= 0.15 => Some(-1),
        _ => None,
    }
}

fn by_succession(found: &Succession, repeats: f64, distinct: usize) -> Answer {
    if distinct < 2 || found.asked < 12 || repeats < LOOP_REPEATS {
        return None;
    }
    let enough = found.asked as f64 / found.count as f64 * repeats >= 0.1;
    let ordered = found.exactly >= LOOP_EXACTLY || found.follow - found.precede >= LOOP_AHEAD;
    if found.follow >= LOOP_FOLLOW && ordered && enough {
        return Some((
            Pattern::Looping,
            beyond(found.follow, LOOP_FOLLOW, 0.75).min(beyond(repeats, 0.1, 0.3)),
        ));
    }
    // A loop whose order varies: rounds of the same length all the same.
    if found.gap_steady >= 0.75 && found.gap >= 8 && repeats >= 0.3 {
        return Some((Pattern::Looping, beyond(found.gap_steady, 0.75, 0.9)));
    }
    None
}

/// A loop in which pages come more than once a round.
fn by_rounds(found: &Rounds, distinct: usize) -> Answer {
    let loops = distinct >= 4
        && found.gap >= 4
        && found.asked >= 12
        && found.asked_share >= ROUNDS_ASKED
        && found.follow >= ROUNDS_FOLLOW;
    loops.then(|| (Pattern::Looping, beyond(found.follow, ROUNDS_FOLLOW, 0.9)))
}

/// A scan that touches its pages again, in the same order and not far behind: new pages and old ones take turns.
fn by_trail(
    order: &Order,
    found: &Succession,
    repeats: f64,
    runs: &[u32],
    distinct: usize,
) -> Answer {
    let near = (u64::from(found.distance) + 1) * 2 <= distinct as u64;
    if order.stride == 0
        || order.chained < 0.8
        || !near
        || !(LOOP_REPEATS..=0.8).contains(&repeats)
        || found.follow < LOOP_FOLLOW
    {
        return None;
    }
    let mut seen = vec![false; distinct];
    let firsts = runs
        .iter()
        .map(|&id| !std::mem::replace(&mut seen[id as usize], true));
    let (mut after, mut together) = (false, 0);
    for first in firsts {
        together += usize::from(first && after);
        after = first;
    }
    let pattern = if order.stride.unsigned_abs() == 1 {
        Pattern::Sequential
    } else {
        Pattern::Strided
    };
    let trailed = (together as f64) < TRAILED * distinct as f64;
    trailed.then(|| (pattern, beyond(order.chained, 0.8, 0.95).min(0.9)))
}

fn by_order(pages: &PageString, order: &Order, repeats: f64, figures: &mut Figures) -> Answer {
    let firsts = 1.0 - repeats;
    if firsts < SCAN_FIRSTS || order.stride == 0 {
        return None;
    }
    let scan = beyond(firsts, SCAN_FIRSTS, 0.85);
    let swept = order.ascending.max(1.0 - order.ascending);
    let swept_far = order.ascending_far.max(1.0 - order.ascending_far);
    let sign = if order.ascending_far >= 0.5 { 1 } else { -1 };
    // Hardly a page is left out, and it goes one way; only neighbours are out of order. No stride says that.
    if swept_far >= 0.9 && order.density >= 0.55 && order.adjacent < 0.5 {
        figures.stride = Some(sign);
        return Some((Pattern::Sequential, scan.min(beyond(swept_far, 0.9, 0.94))));
    }
    // The same of aligned pages.
    if swept_far >= 0.9 && order.adjacent < 0.5 {
        let alignment = pages.alignment();
        if alignment > 1 && order.density * alignment as f64 >= 0.55 {
            figures.stride = Some(sign * alignment as i64);
            return Some((Pattern::Strided, scan.min(beyond(swept_far, 0.9, 0.94))));
        }
    }
    if order.chained >= SCAN_CHAINED {
        let pattern = if order.stride.unsigned_abs() == 1 {
            Pattern::Sequential
        } else {
            Pattern::Strided
        };
        return Some((pattern, scan.min(beyond(order.chained, SCAN_CHAINED, 0.8))));
    }
    // No one step, but a sweep in one direction.
    if swept >= 0.88 {
        if order.gap > 2.0 && order.gap_steady >= 0.6 {
            figures.stride = Some(sign * order.gap as i64);
            figures.stride_share = order.gap_steady;
            return Some((
                Pattern::Strided,
                scan.min(beyond(order.gap_steady, 0.6, 0.8)),
            ));
        }
        if order.gap <= 8.0 {
            figures.stride = Some(sign);
            return Some((Pattern::Sequential, scan.min(beyond(swept, 0.88, 0.93))));
        }
    }
    if swept_far >= 0.9 && order.gap <= 8.0 {
        figures.stride = Some(sign);
        return Some((Pattern::Sequential, scan.min(beyond(swept_far, 0.9, 0.96))));
    }
    // Partly a scan, partly something else: neither says what the string is.
    // (Pairs of pages, wherever, are no scan.)
    (order.adjacent >= HALF_SCAN && order.thrice * 2.0 >= order.adjacent)
        .then_some((Pattern::Unknown, 0.5))
}

/// Two or three pages have no order and hardly a rank; only their popularity shows.
fn few_pages(distinct: usize, counts: &Counts) -> Answer {
    match distinct {
        0 | 1 => Some((Pattern::Unknown, 0.3)),
        2 | 3 if counts.top_share() >= 0.8 => Some((Pattern::Skewed, 0.6)),
        2 | 3 => Some((Pattern::Unknown, 0.4)),
        _ => None,
    }
}

/// Share of the references that the lesser of two groups of pages has to hold, to be more than noise.
const SECOND_SHARE: f64 = 0.065;
/// What two groups have to gain over one and noise, nats.
const SKEW_GAIN: f64 = 4.0;
/// How many times as popular the upper group's pages have to be.
const SKEW_RATIO: f64 = 1.7;

fn is_skewed(groups: &Popularity) -> bool {
    groups.gain >= SKEW_GAIN && groups.ratio >= SKEW_RATIO && groups.second_share >= SECOND_SHARE
}

fn once(pages: &PageString, runs: &[u32], succession: &Succession, groups: &Popularity) -> Answer {
    let repeats = succession.apart as f64 / runs.len().max(1) as f64;
    if repeats > ONE_SHOT_REPEATS || is_skewed(groups) {
        return None;
    }
    let refs = runs.len() as f64;
    let seen = repeats * refs;
    // Chance meetings of uniform references over the span.
    let span = pages.span() / pages.alignment() as f64;
    let meetings = refs * refs / (2.0 * span);
    let odds = seen * (1.0 / ONE_SHOT_NOISE).ln() - meetings * (1.0 - ONE_SHOT_NOISE);
    if odds <= 0.0 {
        return Some((Pattern::OneShot, beyond(-odds, -0.5, 4.0)));
    }
    // Noise may also go back to pages that were referenced: more meetings than ONE_SHOT_NOISE has, but fewer than a
    // uniform string's, whose span may have been taken a quarter too small.
    let least = 0.75 * meetings - 2.5 * meetings.sqrt();
    if seen < least {
        return Some((Pattern::OneShot, 0.85));
    }
    // More meetings than a uniform string has: the pages are few among many, or some are preferred.
    if seen > 3.0 * meetings + 3.0 {
        let pattern = if repeats <= 0.075 {
            Pattern::OneShot
        } else {
            Pattern::Random
        };
        return Some((pattern, 0.6));
    }
    // So few meetings do not tell even from uneven popularity.
    Some((
        Pattern::Random,
        beyond(odds, 0.0, 4.0).min(few_repeats(seen)),
    ))
}

fn by_recency(found: &Recency) -> Answer {
    let excess = found.excess();
    let threshold = RANK_EFFECT.max(RANK_ERRORS * found.error);
    if excess > threshold {
        return Some((
            Pattern::Clustered,
            beyond(excess, threshold, 2.0 * threshold + 0.05),
        ));
    }
    // Either alone is sure at four standard errors; lifetimes at three, if ranks say the same at two.
    let lifetime = found.lifetime;
    let errors = if excess > 2.0 * found.error {
        SURE_ERRORS - 1.0
    } else {
        SURE_ERRORS
    };
    if lifetime.errors < -errors && lifetime.excess < -RANK_EFFECT && excess > 0.0 {
        return Some((
            Pattern::Clustered,
            beyond(-lifetime.errors, errors, 2.0 * errors),
        ));
    }
    let threshold = RANK_LOOP.max(SURE_ERRORS * found.error);
    let late = found.late.min(-excess);
    if late > threshold {
        return Some((Pattern::Looping, beyond(late, threshold, 3.0 * threshold)));
    }
    None
}

/// Where nothing is recent but that pages come twice in a row: the ranks without that.
fn only_in_a_row(
    refs: usize,
    runs: &[u32],
    mended: &[u32],
    distinct: usize,
    distances: &mut Distances,
) -> Option<Recency> {
    let in_a_row = refs as f64 / runs.len().max(1) as f64;
    let mut without = |runs: &[u32], mend: fn(&[u32]) -> Vec<u32>| {
        let ranks = distances.ranks(runs, distinct);
        let found = recency(runs, mend, ranks, distinct, distances);
        let recent = by_recency(&found).is_some_and(|(said, _)| said == Pattern::Clustered);
        (!recent).then_some(found)
    };
    if !(TWICE_NOW_AND_THEN..=TWICE).contains(&in_a_row) {
        return None;
    }
    without(runs, PageString::runs).or_else(|| {
        (in_a_row >= TWICE_MOSTLY)
            .then(|| without(mended, PageString::mended))
            .flatten()
    })
}

fn by_popularity(groups: &Popularity, recency: &Recency) -> Answer {
    if recency.ranks.count < 8 {
        return None;
    }
    // How near the ranks are to saying something else.
    let near = (recency.excess().abs() / RANK_EFFECT.max(RANK_ERRORS * recency.error)).min(1.0);
    let near = near.max(-recency.lifetime.errors / SURE_ERRORS).min(1.0);
    let calm = 0.98 - 0.4 * (near - 0.5).max(0.0);
    if is_skewed(groups) {
        let sure = beyond(groups.gain, SKEW_GAIN, 15.0)
            .min(beyond(groups.ratio, SKEW_RATIO, 2.5))
            .min(beyond(groups.second_share, SECOND_SHARE, 0.15));
        return Some((Pattern::Skewed, sure.min(calm)));
    }
    let even = if groups.gain < SKEW_GAIN {
        1.0 - groups.gain / 8.0
    } else {
        0.8
    };
    let seen = few_repeats(recency.ranks.count as f64);
    Some((Pattern::Random, (0.55 + 0.43 * even).min(calm).min(seen)))
}

/// Most confidence that the number of re-references allows in saying that popularity is even.
fn few_repeats(count: f64) -> f64 {
    0.98 - 0.35 * (-count / 80.0).exp()
}
