//! The order of a string: what is measured of it, and the steps that say looping, sequential or strided.

use super::decide::{Answer, beyond};
use super::distance::Distances;
use super::order::{Order, order};
use super::recency::{Succession, succession};
use super::rounds::{Rounds, rounds};
use super::string::{PageString, first_uses};
use super::{Figures, Pattern};

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

/// What is measured of a string's order.
pub(super) struct Shape {
    /// The string, the same page in a row taken once.
    pub(super) runs: Vec<u32>,
    pub(super) succession: Succession,
    order: Order,
    /// Where they are those of a loop.
    rounds: Option<Rounds>,
    distinct: usize,
    refs: usize,
    /// Share of the runs that are re-references.
    repeats: f64,
}

impl Shape {
    pub(super) fn new(pages: &PageString, distances: &mut Distances) -> Self {
        let runs = PageString::runs(&pages.ids);
        let distinct = pages.pages.len();
        let succession = succession(&runs, distinct, distances);
        let repeats = succession.count as f64 / runs.len().max(1) as f64;
        Self {
            order: order(&pages.firsts(), pages.span()),
            rounds: (repeats >= LOOP_REPEATS)
                .then(|| rounds(&runs))
                .filter(|rounds| distinct >= 4 && are_of_a_loop(rounds)),
            succession,
            distinct,
            refs: pages.ids.len(),
            repeats,
            runs,
        }
    }

    /// The figures of it.
    pub(super) fn figures(&self) -> Figures {
        let Self {
            order, succession, ..
        } = self;
        Figures {
            pages: self.distinct as u64,
            first_share: 1.0 - self.repeats,
            stride: (order.stride != 0).then_some(order.stride),
            stride_share: order.chained,
            direction: direction(order),
            follow_share: (succession.asked > 0).then_some(succession.follow),
            ..Figures::default()
        }
    }

    /// The steps, one after the other.
    pub(super) fn ordered(&self, pages: &PageString, figures: &mut Figures) -> Answer {
        self.by_trail()
            .or_else(|| by_succession(&self.succession, self.repeats, self.distinct))
            .or_else(|| {
                let follow = self.rounds?.follow;
                figures.follow_share = Some(follow);
                Some((Pattern::Looping, beyond(follow, ROUNDS_FOLLOW, 0.9)))
            })
            .or_else(|| by_order(pages, &self.order, self.repeats, figures))
    }

    /// A scan that touches its pages again, in the same order and not far behind: new pages and old ones take turns.
    fn by_trail(&self) -> Answer {
        let Self {
            order, succession, ..
        } = self;
        let near = (u64::from(succession.distance) + 1) * 2 <= self.distinct as u64;
        if order.stride == 0
            || order.chained < 0.8
            || !near
            || !(LOOP_REPEATS..=0.8).contains(&self.repeats)
            || succession.follow < LOOP_FOLLOW
        {
            return None;
        }
        let (mut after, mut together) = (false, 0);
        for first in first_uses(&self.runs, self.distinct) {
            together += usize::from(first && after);
            after = first;
        }
        let trailed = (together as f64) < TRAILED * self.distinct as f64;
        trailed.then(|| (by_stride(order), beyond(order.chained, 0.8, 0.95).min(0.9)))
    }

    /// The period of a loop.
    pub(super) fn period(&self, figures: &mut Figures) {
        let (pages, gap) = match self.rounds {
            // A page that comes twice a round is back sooner.
            Some(rounds) if rounds.gap * 4 > self.succession.gap * 5 => {
                (rounds.pages as u64, rounds.gap)
            }
            _ => (u64::from(self.succession.distance) + 1, self.succession.gap),
        };
        figures.period_pages = Some(pages);
        // Gaps were taken in runs; references a round are more by the references a run.
        let per_run = self.refs as f64 / self.runs.len().max(1) as f64;
        figures.period_refs = Some((gap as f64 * per_run).round() as u64);
    }

    /// Share of the references that the order of an ordered pattern puts exactly where they are.
    pub(super) fn exact(&self, pattern: Pattern) -> f64 {
        match pattern {
            Pattern::Looping => {
                let follow = self.rounds.map_or(0.0, |rounds| rounds.follow);
                self.succession.exactly.max(follow)
            }
            _ => self.order.adjacent,
        }
    }
}

/// A loop in which pages come more than once a round.
fn are_of_a_loop(found: &Rounds) -> bool {
    found.gap >= 4
        && found.asked >= 12
        && found.asked_share >= ROUNDS_ASKED
        && found.follow >= ROUNDS_FOLLOW
}

/// What a scan by the order's stride is.
fn by_stride(order: &Order) -> Pattern {
    if order.stride.unsigned_abs() == 1 {
        Pattern::Sequential
    } else {
        Pattern::Strided
    }
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

fn by_order(pages: &PageString, order: &Order, repeats: f64, figures: &mut Figures) -> Answer {
    let firsts = 1.0 - repeats;
    if firsts < SCAN_FIRSTS || order.stride == 0 {
        return None;
    }
    let scan = beyond(firsts, SCAN_FIRSTS, 0.85);
    let swept = order.ascending.max(1.0 - order.ascending);
    let swept_far = order.ascending_far.max(1.0 - order.ascending_far);
    let sign = if order.ascending_far >= 0.5 { 1 } else { -1 };
    // Hardly a page is left out, or hardly one of the aligned ones, and it goes one way; only neighbours are out of order.
    // No stride says that.
    if swept_far >= 0.9 && order.adjacent < 0.5 {
        let sure = scan.min(beyond(swept_far, 0.9, 0.94));
        if order.density >= 0.55 {
            figures.stride = Some(sign);
            return Some((Pattern::Sequential, sure));
        }
        let alignment = pages.alignment();
        if alignment > 1 && order.density * alignment as f64 >= 0.55 {
            figures.stride = Some(sign * alignment as i64);
            return Some((Pattern::Strided, sure));
        }
    }
    if order.chained >= SCAN_CHAINED {
        let sure = scan.min(beyond(order.chained, SCAN_CHAINED, 0.8));
        return Some((by_stride(order), sure));
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
