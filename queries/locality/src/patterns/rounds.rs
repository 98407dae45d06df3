//! Rounds told by two pages: where a page comes more than once a round (up and down again, a list that names it twice),
//! what comes after it is told by the page before it.

use std::collections::{HashMap, HashSet};

/// What came after the same two pages the last time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rounds {
    /// Runs whose two predecessors had been met in that order before.
    pub(super) asked: usize,
    /// The share of all runs.
    pub(super) asked_share: f64,
    /// Share of the asked that are what came after these two the last time.
    pub(super) follow: f64,
    /// Median number of runs since then: of one round.
    pub(super) gap: usize,
    /// Pages of one round.
    pub(super) pages: usize,
}

pub(super) fn rounds(runs: &[u32]) -> Rounds {
    let mut last: HashMap<(u32, u32), usize> = HashMap::with_capacity(runs.len());
    let (mut asked, mut gaps) = (0, Vec::new());
    for (at, three) in runs.windows(3).enumerate() {
        let pair = (three[0], three[1]);
        if let Some(before) = last.insert(pair, at) {
            asked += 1;
            if runs[before + 2] == three[2] {
                gaps.push(at - before);
            }
        }
    }
    if gaps.is_empty() {
        return Rounds::default();
    }
    let follow = gaps.len() as f64 / asked as f64;
    let middle = gaps.len() / 2;
    let gap = *gaps.select_nth_unstable(middle).1;
    // The fewest of some rounds: stray references only add pages.
    let pages = runs.chunks_exact(gap).take(16).map(|round| {
        let pages: HashSet<u32> = round.iter().copied().collect();
        pages.len()
    });
    Rounds {
        asked,
        asked_share: asked as f64 / runs.len() as f64,
        follow,
        gap,
        pages: pages.min().unwrap_or(0),
    }
}
