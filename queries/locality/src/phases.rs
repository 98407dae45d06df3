//! Phases of a process: stretches in which it does the same with nearly the same pages.
//!
//! The string of a process is cut in windows; each has a dominant pattern and a set of pages. A phase is a maximal run
//! of windows with the same pattern in which the sets of neighbours A, B differ by |symmetric difference| / |union|
//! <= 0.5. (Batson and Madison 1976 called phases what has a constant locality set; this is the same with tolerance.)
//!
//! A phase repeats the first earlier phase of its process that has the same pattern and, by the same criterion, nearly
//! the same pages, those of all its windows together.
//!
//! Memory: a window's and a phase's pages are a [`PageSet`], exact up to its bound and a sketch above; the pages of
//! earlier phases are remembered up to [`REMEMBERED_PAGES`] in all, the oldest phases are forgotten first.

mod page_set;

use crate::patterns::Pattern;
pub use page_set::{PageSet, PageSetBuilder};
use std::collections::VecDeque;

/// Pages kept exactly in one set; 8 bytes each.
pub const SET_BOUND: usize = 4096;
/// Largest |symmetric difference| / |union| of page sets that are nearly the same.
pub const NEAR: f64 = 0.5;
/// Page numbers of earlier phases that are remembered for each process: 4 MiB.
pub const REMEMBERED_PAGES: usize = 1 << 19;

/// One window of a process's reference string.
#[derive(Debug, Clone)]
pub struct Window {
    /// `seq` of its first reference.
    pub from_seq: u64,
    /// `seq` of its last reference.
    pub to_seq: u64,
    /// The dominant pattern: [`dominant`].
    pub pattern: Pattern,
    /// The pages referenced in it.
    pub pages: PageSet,
}

/// A phase of a process; the columns of the view `phases`.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// The process incarnation.
    pub upid: u64,
    /// The number of the phase in its process, from 1.
    pub phase: u64,
    /// `seq` of the first reference of its first window.
    pub from_seq: u64,
    /// `seq` of the last reference of its last window.
    pub to_seq: u64,
    /// Windows in it.
    pub windows: u64,
    /// Distinct pages referenced in it; estimated (error about 1.6 %) where `exact` is false.
    pub working_set_pages: u64,
    /// Whether the pages were counted.
    pub exact: bool,
    /// What its windows do.
    pub pattern: Pattern,
    /// The first earlier phase that it repeats.
    pub repeats: Option<u64>,
}

/// The pattern that holds most of a window's references: `held` is (pattern, references) of each object. `Unknown`
/// counts only where nothing else was said.
pub fn dominant(held: impl IntoIterator<Item = (Pattern, u64)>) -> Pattern {
    let mut refs = [0_u64; Pattern::ALL.len()];
    for (pattern, count) in held {
        refs[pattern as usize] += count;
    }
    let known = Pattern::ALL
        .into_iter()
        .filter(|&pattern| pattern != Pattern::Unknown && refs[pattern as usize] > 0);
    // The earlier of two that hold the same.
    known
        .rev()
        .max_by_key(|&pattern| refs[pattern as usize])
        .unwrap_or(Pattern::Unknown)
}

/// Finds the phases of one process from its windows, given in order.
#[derive(Debug)]
pub struct Phases {
    upid: u64,
    open: Option<Open>,
    /// Phases that ended, so far.
    ended: u64,
    remembered: VecDeque<(u64, Pattern, PageSet)>,
    remembered_pages: usize,
    remembered_bytes: usize,
}

/// The phase that the last window belongs to.
#[derive(Debug)]
struct Open {
    from_seq: u64,
    windows: u64,
    last: Window,
    pages: PageSet,
}

impl Phases {
    /// For the process of that `upid`.
    pub fn new(upid: u64) -> Self {
        Self {
            upid,
            open: None,
            ended: 0,
            remembered: VecDeque::new(),
            remembered_pages: 0,
            remembered_bytes: 0,
        }
    }

    /// Bytes that page sets take.
    pub fn bytes(&self) -> usize {
        let open = |open: &Open| open.pages.bytes() + open.last.pages.bytes();
        self.remembered_bytes + self.open.as_ref().map_or(0, open)
    }

    /// The next window; the phase that it ends, if it does.
    pub fn push(&mut self, window: Window) -> Option<Phase> {
        if let Some(open) = &mut self.open
            && open.last.pattern == window.pattern
            && open.last.pages.is_near(&window.pages, NEAR)
        {
            open.pages.add(&window.pages);
            open.windows += 1;
            open.last = window;
            return None;
        }
        let ended = self.end();
        self.open = Some(Open {
            from_seq: window.from_seq,
            windows: 1,
            pages: window.pages.clone(),
            last: window,
        });
        ended
    }

    /// The last phase.
    pub fn finish(mut self) -> Option<Phase> {
        self.end()
    }

    fn end(&mut self) -> Option<Phase> {
        let Open {
            from_seq,
            windows,
            last,
            pages,
        } = self.open.take()?;
        self.ended += 1;
        let pattern = last.pattern;
        let same = |(_, other, earlier): &&(u64, Pattern, PageSet)| {
            *other == pattern && earlier.is_near(&pages, NEAR)
        };
        let repeats = self.remembered.iter().find(same).map(|(phase, ..)| *phase);
        let phase = Phase {
            upid: self.upid,
            phase: self.ended,
            from_seq,
            to_seq: last.to_seq,
            windows,
            working_set_pages: pages.pages(),
            exact: pages.is_exact(),
            pattern,
            repeats,
        };
        self.remember(pages, pattern);
        Some(phase)
    }

    fn remember(&mut self, pages: PageSet, pattern: Pattern) {
        // An empty set takes memory, too.
        self.remembered_pages += pages.kept() + 8;
        self.remembered_bytes += pages.bytes();
        self.remembered.push_back((self.ended, pattern, pages));
        while self.remembered_pages > REMEMBERED_PAGES
            && let Some((.., forgotten)) = self.remembered.pop_front()
        {
            self.remembered_pages -= forgotten.kept() + 8;
            self.remembered_bytes -= forgotten.bytes();
        }
    }
}
