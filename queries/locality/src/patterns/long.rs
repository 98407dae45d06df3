//! Strings longer than what is kept exactly.
//!
//! The string is cut in pieces of [`Settings::exact_refs`]. Each piece is judged when it ends and only the verdict is
//! kept, added up by pattern. Besides, a sample of the *pages* is kept over the whole length, chosen by a hash of the
//! page (as SHARDS does, Waldspurger and others 2015): all references to a page are in it or none, so that counts, ranks
//! and the order of first references survive; whenever the sample is full, half of its pages go.
//!
//! The pieces know order (a sample has gaps where pages were left out), the sample knows what a piece is too short to
//! see: a scan that comes round after ten million references is a loop, a working set that moves a page a minute is
//! clustered. So:
//!
//! * most references in sequential or strided pieces: that, unless the sample's pages come again; then looping where
//!   the sample loops;
//! * most in looping or clustered pieces: that;
//! * else what the sample says, but skewed where pieces are skewed and the sample misses the hot pages.

use super::decide::{Decided, decide};
use super::streams::classify;
use super::{Figures, Pattern, Settings, Touch, Verdict};
use crate::index::mix;

/// What is kept of one class of references. Bounded: one sample, and one verdict a pattern.
#[derive(Debug)]
pub(super) struct Pieces {
    settings: Settings,
    refs: u64,
    /// References in pieces of each pattern, by their place in [`Pattern::ALL`].
    held: [u64; 8],
    /// Sum of confidence times references, likewise.
    confidence: [f64; 8],
    /// The verdict on the largest piece of each pattern.
    example: [Option<Verdict>; 8],
    sample: Sample,
}

/// Share of the references from which pieces speak for the whole.
const MOST: f64 = 0.6;
/// A sample of fewer pages than this says nothing.
const LEAST_PAGES: usize = 48;

impl Pieces {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            refs: 0,
            held: [0; 8],
            confidence: [0.0; 8],
            example: [const { None }; 8],
            sample: Sample::new(settings.exact_refs),
        }
    }

    /// Judges a piece.
    pub(super) fn add(&mut self, touches: &[Touch]) -> Verdict {
        let verdict = classify(touches, &self.settings);
        self.add_judged(touches, verdict.clone());
        verdict
    }

    /// Takes a piece that has been judged.
    pub(super) fn add_judged(&mut self, touches: &[Touch], verdict: Verdict) {
        let refs = touches.len() as u64;
        let at = place(verdict.pattern);
        self.refs += refs;
        self.held[at] += refs;
        self.confidence[at] += verdict.confidence * refs as f64;
        if self.example[at]
            .as_ref()
            .is_none_or(|known| known.figures.refs < verdict.figures.refs)
        {
            self.example[at] = Some(verdict);
        }
        touches
            .iter()
            .for_each(|touch| self.sample.push(touch.page));
    }

    /// The verdict on the whole string.
    pub(super) fn finish(self) -> Verdict {
        let sampled = decide(&self.sample.pages, &self.settings);
        let usable = !self.sample.full && sampled.figures.pages as usize >= LEAST_PAGES;
        let share = |pattern| self.held[place(pattern)] as f64 / self.refs.max(1) as f64;
        let scans = share(Pattern::Sequential) + share(Pattern::Strided);
        let leading = Pattern::ALL
            .into_iter()
            .max_by_key(|&pattern| self.held[place(pattern)])
            .unwrap_or(Pattern::Unknown);
        let of_pieces = |pattern| {
            let at = place(pattern);
            (
                pattern,
                share(pattern) * self.confidence[at] / self.held[at].max(1) as f64,
            )
        };
        let (pattern, confidence) = if scans >= MOST {
            let scan = if share(Pattern::Strided) > share(Pattern::Sequential) {
                Pattern::Strided
            } else {
                Pattern::Sequential
            };
            match sampled.pattern {
                Pattern::Looping if usable => (Pattern::Looping, sampled.confidence),
                _ if usable && sampled.figures.first_share < MOST => {
                    (scan, 0.7 * of_pieces(scan).1)
                }
                _ => (scan, scans.min(0.98)),
            }
        } else if share(leading) >= MOST && matches!(leading, Pattern::Looping | Pattern::Clustered)
            || !usable
        {
            of_pieces(leading)
        } else if leading == Pattern::Skewed
            && share(leading) >= MOST
            && sampled.pattern == Pattern::Random
        {
            (Pattern::Skewed, 0.8 * of_pieces(leading).1)
        } else {
            (sampled.pattern, sampled.confidence)
        };
        self.verdict(pattern, confidence, sampled, usable)
    }

    /// Puts the figures together: order from a piece of the pattern, the rest from the sample.
    fn verdict(
        mut self,
        pattern: Pattern,
        confidence: f64,
        sampled: Decided,
        usable: bool,
    ) -> Verdict {
        let example = self.example[place(pattern)].take();
        let (piece, streams) = match example {
            Some(verdict) => (verdict.figures, verdict.streams),
            None => (Figures::default(), Vec::new()),
        };
        let scale = self.sample.scale();
        let pages = (sampled.figures.pages as f64 * scale) as u64;
        let base = if usable {
            sampled.figures
        } else {
            piece.clone()
        };
        // Sampling pages leaves every scale-th page between two references, and keeps that share of references.
        let refs_scale = self.refs as f64 / (self.sample.pages.len() as f64).max(1.0);
        let looped = pattern == Pattern::Looping;
        let local = looped && piece.period_pages.is_some();
        let figures = Figures {
            refs: self.refs,
            pages,
            stride: piece.stride,
            stride_share: piece.stride_share,
            direction: piece.direction,
            follow_share: piece.follow_share.or(base.follow_share),
            period_pages: if local {
                piece.period_pages
            } else {
                base.period_pages
                    .map(|period| (period as f64 * scale) as u64)
            },
            period_refs: if local {
                piece.period_refs
            } else {
                base.period_refs
                    .map(|period| (period as f64 * refs_scale) as u64)
            },
            ..base
        };
        let figures = Figures {
            period_pages: figures.period_pages.filter(|_| looped),
            period_refs: figures.period_refs.filter(|_| looped),
            ..figures
        };
        Verdict {
            pattern,
            confidence: confidence.clamp(0.0, 1.0),
            figures,
            streams,
        }
    }
}

fn place(pattern: Pattern) -> usize {
    pattern as usize
}

/// The references to pages whose hash is below a limit, in order.
#[derive(Debug)]
struct Sample {
    pages: Vec<u64>,
    most: usize,
    /// log2 of how many pages one sampled page stands for.
    halvings: u32,
    /// Few pages have more references than the sample holds: it covers the beginning only.
    full: bool,
}

impl Sample {
    fn new(most: usize) -> Self {
        Self {
            pages: Vec::new(),
            most: most.max(1),
            halvings: 0,
            full: false,
        }
    }

    fn scale(&self) -> f64 {
        f64::from(self.halvings).exp2()
    }

    fn takes(&self, page: u64) -> bool {
        self.halvings == 0 || mix(page) >> (64 - self.halvings) == 0
    }

    fn push(&mut self, page: u64) {
        if self.full || !self.takes(page) {
            return;
        }
        while self.pages.len() >= self.most && !self.full {
            self.halve();
        }
        if !self.full && self.takes(page) {
            self.pages.push(page);
        }
    }

    fn halve(&mut self) {
        let limit = self.halvings + 1;
        let stays = |page: &u64| mix(*page) >> (64 - limit) == 0;
        let mut distinct: Vec<u64> = self.pages.iter().copied().filter(stays).collect();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() < LEAST_PAGES || limit == 63 {
            self.full = true;
            return;
        }
        self.halvings = limit;
        self.pages.retain(stays);
    }
}
