//! Order of first references: sequential and strided.

use super::string::step;

/// Interleaved streams that are followed at once, as many as a kernel's or a disk's read-ahead follows.
const HEADS: usize = 16;
/// How far back a step is looked for: with fewer streams in turn than this, a stream's last page is among them.
const LAGS: usize = 12;

/// What the first references show.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Order {
    /// The step, pages; 0: no first reference follows another.
    pub(super) stride: i64,
    /// Share of first references that go one step on from where a stream was.
    pub(super) chained: f64,
    /// Share that goes one step on from the first reference just before.
    pub(super) adjacent: f64,
    /// Share that does so for the second time in a row, or more.
    pub(super) thrice: f64,
    /// Share of ascending neighbours.
    pub(super) ascending: f64,
    /// Share of pairs LAGS apart that ascend: order that local disorder leaves.
    pub(super) ascending_far: f64,
    /// Median of |page - page before|.
    pub(super) gap: f64,
    /// Share of these gaps within a quarter of the median.
    pub(super) gap_steady: f64,
    /// Share of the pages between lowest and highest (but for stray ones) that are referenced.
    pub(super) density: f64,
}

/// Looks at pages in the order of their first references, which lie in `span` pages.
pub(super) fn order(firsts: &[u64], span: f64) -> Order {
    if firsts.len() < 3 {
        return Order::default();
    }
    let pairs = (firsts.len() - 1) as f64;
    let stride = best_stride(firsts);
    let Followed {
        chained,
        adjacent,
        thrice,
    } = follow(firsts, stride);
    let up = |lag: usize| {
        let pairs = firsts.len().saturating_sub(lag);
        let ups = (lag..firsts.len())
            .filter(|&at| firsts[at] > firsts[at - lag])
            .count();
        if pairs == 0 {
            0.5
        } else {
            ups as f64 / pairs as f64
        }
    };
    let mut gaps: Vec<u64> = firsts
        .windows(2)
        .map(|pair| step(pair[0], pair[1]).unsigned_abs())
        .collect();
    gaps.sort_unstable();
    let gap = gaps[gaps.len() / 2] as f64;
    let steady = gaps
        .iter()
        .filter(|&&other| (other as f64 - gap).abs() <= gap / 4.0)
        .count();
    Order {
        stride,
        chained: chained as f64 / pairs,
        adjacent: adjacent as f64 / pairs,
        thrice: thrice as f64 / pairs,
        ascending: up(1),
        ascending_far: up(LAGS),
        gap,
        gap_steady: steady as f64 / pairs,
        density: firsts.len() as f64 / span.max(1.0),
    }
}

/// The smallest step among those that lead from one of the LAGS first references before to this one nearly as often
/// as the most frequent step does (twice the stride leads there from two references before, and so on).
fn best_stride(firsts: &[u64]) -> i64 {
    let mut steps = Vec::with_capacity(firsts.len() * LAGS);
    for (at, &page) in firsts.iter().enumerate() {
        steps.extend(
            firsts[at.saturating_sub(LAGS)..at]
                .iter()
                .map(|&before| step(before, page)),
        );
    }
    steps.sort_unstable();
    let votes = || {
        steps
            .chunk_by(|a, b| a == b)
            .map(|same| (same[0], same.len()))
    };
    let most = votes().map(|(_, count)| count).max().unwrap_or(0);
    votes()
        .filter(|&(_, count)| 4 * count >= 3 * most)
        .map(|(step, _)| step)
        .min_by_key(|step| step.unsigned_abs())
        .unwrap_or(0)
}

/// First references that go one stride on (or back) from the head of a stream; of these those that go on from the first
/// reference just before; of these those that do so again.
#[derive(Default)]
struct Followed {
    chained: usize,
    adjacent: usize,
    thrice: usize,
}

fn follow(firsts: &[u64], stride: i64) -> Followed {
    struct Head {
        page: u64,
        /// Steps in a row that nothing came between.
        length: usize,
        /// 0 until the stream's second page.
        direction: i64,
        at: usize,
    }
    let mut heads: Vec<Head> = Vec::with_capacity(HEADS);
    let mut found = Followed::default();
    for (at, &page) in firsts.iter().enumerate() {
        let direction = |head: &Head| match step(head.page, page) {
            moved if moved == stride && head.direction >= 0 => 1,
            moved if moved == stride.wrapping_neg() && head.direction <= 0 => -1,
            _ => 0,
        };
        if let Some(head) = heads.iter_mut().rev().find(|head| direction(head) != 0) {
            found.chained += 1;
            head.length = if head.at + 1 == at {
                head.length + 1
            } else {
                0
            };
            found.adjacent += usize::from(head.length > 0);
            found.thrice += usize::from(head.length > 1);
            head.direction = direction(head);
            head.page = page;
            head.at = at;
        } else {
            if heads.len() == HEADS
                && let Some(oldest) = (0..heads.len()).min_by_key(|&index| heads[index].at)
            {
                heads.swap_remove(oldest);
            }
            heads.push(Head {
                page,
                length: 0,
                direction: 0,
                at,
            });
        }
    }
    found
}
