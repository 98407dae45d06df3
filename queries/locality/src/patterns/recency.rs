//! Whether re-references follow time: succession (loops) and AMP ranks against shuffled ones.

use super::distance::{Distances, Ranks, Rng};

/// How re-references follow what happened the last time round; on runs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Succession {
    /// Re-references.
    pub(super) count: usize,
    /// Of these, with two other pages or more between: a stray reference to another page ends a run, and the next one
    /// begins where that ended.
    pub(super) apart: usize,
    /// Re-references that succession was asked of: with three other pages or more between, where there are enough.
    pub(super) asked: usize,
    /// Share of the asked that go where the string went after the previous page the last time.
    pub(super) follow: f64,
    /// Share that goes to the very next page.
    pub(super) exactly: f64,
    /// Share that goes to one of as many pages *before* the previous page: what nearness alone gives, without order.
    pub(super) precede: f64,
    /// Median reuse distance of the asked.
    pub(super) distance: u32,
    /// Median gap, in runs, of the asked.
    pub(super) gap: usize,
    /// Share of the asked whose gap is within a fifth of the median.
    pub(super) gap_steady: f64,
}

/// A loop is not told from two pages that follow each other by chance unless so many other pages lie between.
const FAR: u32 = 3;

pub(super) fn succession(runs: &[u32], pages: usize, distances: &mut Distances) -> Succession {
    let mut all = Vec::new();
    distances.each(runs, pages, |now, before, distance, _| {
        all.push((now, before, distance))
    });
    let count = all.len();
    let apart = all.iter().filter(|&&(.., distance)| distance > 1).count();
    let far: Vec<_> = all
        .iter()
        .copied()
        .filter(|&(_, _, distance)| distance >= FAR)
        .collect();
    let asked = if 4 * far.len() >= count || pages > 6 {
        far
    } else {
        all
    };
    if asked.is_empty() {
        return Succession {
            count,
            apart,
            ..Succession::default()
        };
    }
    // A few references of slack for loops that are not exact, as long as they are a small part of all pages.
    let slack = (pages / 16).clamp(1, 4);
    // previous[i]: where the page of run i was before.
    let mut last = vec![usize::MAX; pages];
    let mut previous = vec![usize::MAX; runs.len()];
    for (at, &id) in runs.iter().enumerate() {
        previous[at] = std::mem::replace(&mut last[id as usize], at);
    }
    // One run back, or two: a stray reference in between must not break the chain.
    let then = |now: usize, back: usize| {
        let then = now.checked_sub(back).map(|at| previous[at])?;
        (then != usize::MAX).then_some(then)
    };
    let follows = |now: usize, slack: usize| {
        (1..=2).any(|back| {
            then(now, back).is_some_and(|at| {
                runs[(at + 1).min(now)..(at + back + slack).min(now)].contains(&runs[now])
            })
        })
    };
    let precedes = |now: usize| {
        (1..=2).any(|back| {
            then(now, back).is_some_and(|at| {
                runs[at.saturating_sub(back + slack - 1)..at].contains(&runs[now])
            })
        })
    };
    let exactly =
        |now: usize| then(now, 1).is_some_and(|at| runs[at + 1] == runs[now] && at + 1 < now);
    let share = |of: &dyn Fn(usize) -> bool| {
        asked.iter().filter(|&&(now, ..)| of(now)).count() as f64 / asked.len() as f64
    };
    let follow = share(&|now| follows(now, slack));
    let middle = asked.len() / 2;
    let mut near: Vec<u32> = asked.iter().map(|&(.., distance)| distance).collect();
    let mut gaps: Vec<usize> = asked.iter().map(|&(now, before, _)| now - before).collect();
    let distance = *near.select_nth_unstable(middle).1;
    let gap = *gaps.select_nth_unstable(middle).1;
    let steady = gaps
        .iter()
        .filter(|&&other| other.abs_diff(gap) * 5 <= gap)
        .count();
    Succession {
        count,
        apart,
        asked: asked.len(),
        follow,
        exactly: share(&exactly),
        precede: share(&precedes),
        distance,
        gap,
        gap_steady: steady as f64 / asked.len() as f64,
    }
}

/// Mean AMP rank of a string and of the same references shuffled.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Recency {
    pub(super) ranks: Ranks,
    pub(super) shuffled: f64,
    /// By how much ranks are below those of the same references shuffled, both without the shortest reuse distances.
    pub(super) late: f64,
    /// Standard error of the difference.
    pub(super) error: f64,
    pub(super) lifetime: Lifetime,
}

impl Recency {
    /// Above 0: more recent than chance.
    pub(super) fn excess(&self) -> f64 {
        self.ranks.mean - self.shuffled
    }
}

/// References that all shuffles of one string may take together, in steps of a round; two at least.
const SHUFFLED_REFS: usize = 4096;

/// Of a string and its ranks. `mend` is what was done to it, and is done to its shuffles.
pub(super) fn recency(
    ids: &[u32],
    mend: fn(&[u32]) -> Vec<u32>,
    ranks: Ranks,
    pages: usize,
    distances: &mut Distances,
) -> Recency {
    let least = least_distance(ids, pages, distances);
    let rounds = (SHUFFLED_REFS / ids.len().max(1)).clamp(2, 8);
    let mut rng = Rng(ids.len() as u64);
    let mut shuffled = ids.to_vec();
    // The mean without the shortest distances; with `least` 0 these are all.
    let mean_from = |ids: &[u32], ranks: Ranks, distances: &mut Distances| match least {
        0 => ranks.mean,
        _ => distances.ranks_from(ids, pages, least).mean,
    };
    let (mut sum, mut sum_from, mut deviation) = (0.0, 0.0, 0.0);
    for _ in 0..rounds {
        rng.shuffle(&mut shuffled);
        let mended = mend(&shuffled);
        let ranks = distances.ranks(&mended, pages);
        sum += ranks.mean;
        sum_from += mean_from(&mended, ranks, distances);
        deviation += ranks.deviation;
    }
    let rounds = rounds as f64;
    Recency {
        ranks,
        shuffled: sum / rounds,
        late: sum_from / rounds - mean_from(ids, ranks, distances),
        error: deviation / rounds / (ranks.count.max(1) as f64).sqrt()
            * (1.0 + 1.0 / rounds).sqrt(),
        lifetime: lifetime(ids, pages),
    }
}

/// A FIFO that hides shorter distances than this hides too few to matter.
const SHORT: u32 = 8;

/// Reuse distance that next to none of a string's re-references is below; at most a twelfth of the pages, and 0 where it
/// is no more than a few pages. Where the recorder keeps the last pages active, their re-references are not seen;
/// without them any string looks a little like a loop.
fn least_distance(ids: &[u32], pages: usize, distances: &mut Distances) -> u32 {
    let mut all = Vec::new();
    distances.each(ids, pages, |_, _, distance, _| all.push(distance));
    if all.is_empty() {
        return 0;
    }
    let few = all.len() / 50;
    let least = (*all.select_nth_unstable(few).1).min(pages as u32 / 12);
    if least < SHORT { 0 } else { least }
}

/// How long pages stay in use, against references at random times.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lifetime {
    /// Mean of (last - first position) / references, less what chance gives; below 0: references keep together.
    pub(super) excess: f64,
    /// The same in standard errors.
    pub(super) errors: f64,
}

/// c references at random times span a share of the string that is distributed as Beta(c - 1, 2): mean
/// (c - 1) / (c + 1), variance 2 (c - 1) / ((c + 1)^2 (c + 2)). It sees working sets that change, where the ranks of few
/// references are too noisy, and needs no shuffling.
fn lifetime(ids: &[u32], pages: usize) -> Lifetime {
    let mut uses = vec![(0_u32, 0_u32, 0_u32); pages]; // (first, last, count)
    for (at, &id) in (0..).zip(ids) {
        let (first, last, count) = &mut uses[id as usize];
        if *count == 0 {
            *first = at;
        }
        *last = at;
        *count += 1;
    }
    let (mut excess, mut variance, mut judged) = (0.0, 0.0, 0);
    for &(first, last, count) in uses.iter().filter(|(.., count)| *count > 1) {
        let c = f64::from(count);
        excess += f64::from(last - first) / ids.len() as f64 - (c - 1.0) / (c + 1.0);
        variance += 2.0 * (c - 1.0) / ((c + 1.0).powi(2) * (c + 2.0));
        judged += 1;
    }
    if judged == 0 {
        return Lifetime::default();
    }
    Lifetime {
        excess: excess / f64::from(judged),
        errors: excess / variance.sqrt(),
    }
}
