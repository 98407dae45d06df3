//! The verdict on one undivided string: the steps of the module's documentation, one function each.

use super::counts::{Counts, Popularity, popularity};
use super::distance::{Distances, Ranks};
use super::recency::{Recency, recency};
use super::shape::Shape;
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
pub(super) type Answer = Option<(Pattern, f64)>;

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
    let mut distances = Distances::default();
    let shape = Shape::new(&pages, &mut distances);
    let ranks = distances.ranks(&pages.ids, pages.pages.len());
    let counts = Counts::new(pages.counts(&pages.ids));
    let mut figures = Figures {
        refs: string.len() as u64,
        mean_rank: (ranks.count > 0).then_some(ranks.mean),
        top_share: counts.top_share(),
        ..shape.figures()
    };
    let answer = if string.len() < settings.min_refs.max(3) {
        Some((Pattern::Unknown, 0.0))
    } else {
        shape
            .ordered(&pages, &mut figures)
            .or_else(|| few_pages(pages.pages.len(), &counts))
            .or_else(|| {
                let without = Unordered {
                    pages: &pages,
                    shape: &shape,
                    counts: &counts,
                    ranks,
                };
                without.decide(&mut distances, &mut figures)
            })
    };
    let (pattern, confidence) = answer.unwrap_or((Pattern::Unknown, 0.3));
    if pattern == Pattern::Looping {
        shape.period(&mut figures);
    }
    Decided {
        pattern,
        confidence,
        figures,
        exact: shape.exact(pattern),
    }
}

/// Whether the order of a string could be judged sequential, strided or looping; much faster than the verdict.
pub(super) fn has_order(string: &[u64]) -> bool {
    let pages = PageString::new(string);
    let shape = Shape::new(&pages, &mut Distances::default());
    let answer = shape.ordered(&pages, &mut Figures::default());
    answer.is_some_and(|(pattern, _)| pattern.is_ordered())
}

/// A string that has no order.
struct Unordered<'a> {
    pages: &'a PageString,
    shape: &'a Shape,
    counts: &'a Counts,
    ranks: Ranks,
}

impl Unordered<'_> {
    fn decide(&self, distances: &mut Distances, figures: &mut Figures) -> Answer {
        let (ids, distinct) = (&self.pages.ids, self.pages.pages.len());
        let popular = |groups: &Popularity, figures: &mut Figures| {
            figures.second_share = Some(groups.second_share);
            figures.popularity_ratio = Some(groups.ratio);
        };
        let groups = popularity(self.counts);
        popular(&groups, figures);
        let mended = PageString::mended(ids);
        // Nothing was mended in most strings.
        let of_mended = match mended.len() == ids.len() {
            true => groups,
            false => popularity(&Counts::new(self.pages.counts(&mended))),
        };
        if let Some(answer) = once(self.pages, self.shape, &of_mended) {
            popular(&of_mended, figures);
            return Some(answer);
        }
        let found = recency(ids, <[u32]>::to_vec, self.ranks, distinct, distances);
        figures.shuffled_rank = Some(found.shuffled);
        let answer = by_recency(&found);
        if answer.is_some_and(|(pattern, _)| pattern == Pattern::Clustered)
            && let Some(found) =
                only_in_a_row(ids.len(), &self.shape.runs, &mended, distinct, distances)
        {
            popular(&of_mended, figures);
            figures.mean_rank = Some(found.ranks.mean);
            figures.shuffled_rank = Some(found.shuffled);
            return by_popularity(&of_mended, &found);
        }
        answer.or_else(|| by_popularity(&groups, &found))
    }
}

/// Confidence of a figure at or beyond its threshold: one half there, near 1 from `sure` on.
pub(super) fn beyond(value: f64, threshold: f64, sure: f64) -> f64 {
    let way = ((value - threshold) / (sure - threshold)).clamp(0.0, 1.0);
    0.55 + 0.43 * way.sqrt()
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

fn once(pages: &PageString, shape: &Shape, groups: &Popularity) -> Answer {
    let refs = shape.runs.len() as f64;
    let repeats = shape.succession.apart as f64 / refs.max(1.0);
    if repeats > ONE_SHOT_REPEATS || is_skewed(groups) {
        return None;
    }
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
    if !(TWICE_NOW_AND_THEN..=TWICE).contains(&in_a_row) {
        return None;
    }
    let mut without = |runs: &[u32], mend: fn(&[u32]) -> Vec<u32>| {
        let ranks = distances.ranks(runs, distinct);
        let found = recency(runs, mend, ranks, distinct, distances);
        let recent = by_recency(&found).is_some_and(|(said, _)| said == Pattern::Clustered);
        (!recent).then_some(found)
    };
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
