//! What pattern a reference string follows: sequential, strided, looping, clustered, skewed, random, one-shot, unknown.
//!
//! One [`Classifier`] takes the page references to one object in one window (or in the whole capture), in order of
//! `seq`, and says a [`Report`]: a [`Verdict`] on all of them, and on reads and writes alone where both occur.
//!
//! # How it decides
//!
//! In this order; every step's figures are in [`Figures`], so that a verdict can be argued with.
//!
//! 1. **Runs.** The same page several times in a row is one *run*. Order (steps 2 to 4) is judged on runs: a scan that
//!    touches each page four times is still a scan.
//! 2. **Looping by succession.** Whether a re-reference goes to the page (or one of the next few) that came after the
//!    previous page the last time round. In a loop that holds for nearly all of them, in anything drawn at random for
//!    few. This finds loops that the AMP rank alone calls clustered (an inner loop over one block after another) and
//!    holds where noise has raised the rank. (AMP: Zhou, von Behren, Brewer 2004.) Or whether it is what came after the
//!    previous *two* pages the last time: in a loop that turns round, or that has pages more than once, one page does not
//!    tell the next. A scan that touches each page again a little behind follows itself, too, but goes on and on:
//!    it is a scan.
//! 3. **Sequential and strided**, by page deltas on first references: one stride explains most of them, for up to 16
//!    interleaved streams at once; or the pages are swept in one direction with small gaps. One page a step is
//!    sequential, more is strided.
//! 4. **One-shot.** Nearly all runs are first references, in no such order. Uniform references over many pages look
//!    the same until pages meet again: over a span of S pages, m references make m^2/(2S) chance meetings. As many as
//!    that: `random`; far fewer: `one-shot`, pages are taken without being put back. Where S is so large that no
//!    meeting is expected either way, each page *is* referenced once, and the verdict is `one-shot`.
//! 5. **Recency against popularity.** AMP rank of a re-reference: R = 1 - distance / (pages seen - 1). The mean R is
//!    compared with that of the same references shuffled: well below is looping, well above is clustered. (Below: both
//!    without the reuse distances that next to none of the string's are shorter than. A recorder with an active-PTE FIFO
//!    does not see the short ones, and without them any string looks a little like a loop.)
//! 6. **Popularity.** The references of pages are counted. One Poisson (every page equally likely) explains the counts:
//!    `random`. Two, clearly apart, are needed and neither is only a few per cent of the references (noise): `skewed`.
//!    This asks how much the top pages hold, but relative to what chance gives: 10 % of the pages hold a third of 200
//!    uniform references over 1,000 pages.
//!
//! Pages that come twice in a row now and then are recent by that alone. Where the same string without it is not, it is
//! not clustered, and popularity decides; the figures are then those of that string. Besides ranks, step 5 looks at
//! lifetimes: how much of the string lies between the first and the last reference to a page, against references at
//! random times. Few hundred references have noisy ranks, and a working set that changes shows in lifetimes first.
//!
//! `unknown` is said for fewer than [`Settings::min_refs`] references, for fewer than four pages without an order,
//! where about half of a string is a scan, and where popularity would have to be judged on fewer than eight
//! re-references.
//!
//! # Streams
//!
//! Where a thread id or an instruction pointer divides the references into streams that are each more orderly than
//! all together, the verdict is theirs and [`Verdict::streams`] lists them: two threads that scan two parts of one
//! file are sequential in two streams.
//!
//! # Memory
//!
//! Up to [`Settings::exact_refs`] references are kept as they are (24 bytes each). Beyond, see `long`: verdicts on
//! successive pieces say the order, a sample of the pages says what happens over the whole length.

mod counts;
mod decide;
mod distance;
mod long;
mod order;
mod recency;
mod rounds;
mod shape;
mod streams;
mod string;

use long::Pieces;
use std::borrow::Cow;
use streams::classify;

/// The verdicts. The names ([`Pattern::name`]) are a contract: they stand in the views `patterns` and `phases`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pattern {
    /// Page after page, up or down, each page once or a few times in a row; small gaps allowed.
    Sequential,
    /// As sequential, by a constant step of more than one page.
    Strided,
    /// The same pages again and again in (nearly) the same order.
    Looping,
    /// Pages referenced lately are referenced again: recency is at work.
    Clustered,
    /// Some pages are referenced much more often than others, whenever: popularity is at work.
    Skewed,
    /// Every page is as likely as any other, whenever.
    Random,
    /// Each page once, in no order that is sequential or strided.
    OneShot,
    /// The references do not decide.
    Unknown,
}

impl Pattern {
    /// All patterns, in the order of the documentation.
    pub const ALL: [Self; 8] = [
        Self::Sequential,
        Self::Strided,
        Self::Looping,
        Self::Clustered,
        Self::Skewed,
        Self::Random,
        Self::OneShot,
        Self::Unknown,
    ];

    /// The name in views.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Strided => "strided",
            Self::Looping => "looping",
            Self::Clustered => "clustered",
            Self::Skewed => "skewed",
            Self::Random => "random",
            Self::OneShot => "one-shot",
            Self::Unknown => "unknown",
        }
    }

    /// The pattern of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|pattern| pattern.name() == name)
    }

    /// Whether the order of pages makes the pattern, so that an interleaving of several streams hides it.
    pub const fn is_ordered(self) -> bool {
        matches!(self, Self::Sequential | Self::Strided | Self::Looping)
    }
}

/// How a page was referenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read; unknown accesses may be given as reads.
    Read,
    /// Written.
    Write,
    /// Executed: counts among the reads.
    Exec,
}

/// One page reference to the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touch {
    /// Page index in the object.
    pub page: u64,
    /// Read, write or exec.
    pub access: Access,
    /// Thread id; 0 where it is not known.
    pub tid: u32,
    /// Instruction pointer; 0 where it is not known.
    pub ip: u64,
}

/// Bounds of a [`Classifier`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// References kept exactly, and most in one piece of a longer string. Memory is some 24 bytes each, and another
    /// 100 bytes each while a verdict is found.
    pub exact_refs: usize,
    /// Fewer references than this are `unknown`.
    pub min_refs: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            exact_refs: 16_384,
            min_refs: 16,
        }
    }
}

/// The figures that led to a verdict. `None`: not looked at, or it does not exist for this string.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Page references.
    pub refs: u64,
    /// Distinct pages; estimated beyond the exact bound.
    pub pages: u64,
    /// Share of the runs (the same page in a row is one run) that are the first reference to their page.
    pub first_share: f64,
    /// The step that explains most first references, pages; negative: downwards.
    pub stride: Option<i64>,
    /// Share of first references that this step explains, 0..1.
    pub stride_share: f64,
    /// 1: pages mostly ascend, -1: descend; `None`: neither.
    pub direction: Option<i8>,
    /// Pages in the loop: median reuse distance of the re-references + 1. Only of loops.
    pub period_pages: Option<u64>,
    /// References a round: median of the gaps between references to the same page. Only of loops.
    pub period_refs: Option<u64>,
    /// Share of re-references that go where they went after the same page last time.
    pub follow_share: Option<f64>,
    /// Mean AMP rank R of the re-references.
    pub mean_rank: Option<f64>,
    /// Mean R of the same references shuffled.
    pub shuffled_rank: Option<f64>,
    /// Share of references that the most referenced tenth of the pages holds (at least one page).
    pub top_share: f64,
    /// Share of references in the lesser of two groups of pages, one more popular than the other; 0: one group. Asked
    /// only of strings without an order, as are the next and `shuffled_rank`.
    pub second_share: Option<f64>,
    /// How many times as popular the upper group's pages are.
    pub popularity_ratio: Option<f64>,
}

/// One stream of references that a thread id or an instruction pointer tells apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// The thread, where threads tell the streams apart.
    pub tid: Option<u32>,
    /// The instruction, where instructions tell them apart.
    pub ip: Option<u64>,
    /// What this stream does.
    pub pattern: Pattern,
    /// 0..1.
    pub confidence: f64,
    /// The figures of this stream.
    pub figures: Figures,
}

/// What a string of references follows.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The pattern.
    pub pattern: Pattern,
    /// 0..1: about the share of verdicts as clear as this one that are right (measured on the generators of `tests/`).
    pub confidence: f64,
    /// What led to it.
    pub figures: Figures,
    /// The streams that were told apart; empty where one string explains the references as well.
    pub streams: Vec<Stream>,
}

impl Verdict {
    /// How many streams were told apart; 1 for an undivided string.
    pub fn stream_count(&self) -> usize {
        self.streams.len().max(1)
    }
}

/// The verdicts on an object's references.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// On all references.
    pub all: Verdict,
    /// On the reads (and execs) alone, where there are writes, too.
    pub reads: Option<Verdict>,
    /// On the writes alone, where there are reads, too.
    pub writes: Option<Verdict>,
}

/// Classifies the references to one object, given in order of `seq`.
///
/// ```
/// use pgtrace_locality::patterns::{Access, Classifier, Pattern, Settings, Touch};
/// let mut classifier = Classifier::new(Settings::default());
/// for page in 0..500 {
///     classifier.push(&Touch { page, access: Access::Read, tid: 1, ip: 0 });
/// }
/// let report = classifier.finish();
/// assert_eq!(report.all.pattern, Pattern::Sequential);
/// assert_eq!(report.all.figures.stride, Some(1));
/// ```
#[derive(Debug)]
pub struct Classifier {
    settings: Settings,
    /// The references since the last piece ended: all, while there is one piece only.
    piece: Vec<Touch>,
    reads: u64,
    writes: u64,
    /// What is kept of the pieces that ended: of all references, of reads, of writes.
    ended: Option<Box<[Pieces; 3]>>,
}

impl Classifier {
    /// For one object in one window, or in a whole capture.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            piece: Vec::new(),
            reads: 0,
            writes: 0,
            ended: None,
        }
    }

    /// The next page reference to the object.
    pub fn push(&mut self, touch: &Touch) {
        if self.piece.len() >= self.settings.exact_refs.max(1) {
            self.end_piece();
        }
        self.piece.push(*touch);
        if touch.access == Access::Write {
            self.writes += 1;
        } else {
            self.reads += 1;
        }
    }

    /// References that have been given.
    pub fn refs(&self) -> u64 {
        self.reads + self.writes
    }

    /// The verdicts.
    pub fn finish(mut self) -> Report {
        let both = self.reads > 0 && self.writes > 0;
        if self.ended.is_some() {
            self.end_piece();
        }
        let verdicts = match self.ended {
            Some(ended) => {
                let [all, reads, writes] = *ended;
                [Some(all), both.then_some(reads), both.then_some(writes)]
                    .map(|pieces| pieces.map(Pieces::finish))
            }
            None => of_each(&self.piece, both)
                .map(|touches| touches.map(|touches| classify(&touches, &self.settings))),
        };
        let [all, reads, writes] = verdicts;
        Report {
            all: all.unwrap_or_else(|| classify(&[], &self.settings)),
            reads,
            writes,
        }
    }

    /// Judges the piece and forgets its references.
    fn end_piece(&mut self) {
        let settings = self.settings;
        let ended = self
            .ended
            .get_or_insert_with(|| Box::new([(); 3].map(|()| Pieces::new(settings))));
        let both = self.reads > 0 && self.writes > 0;
        let [all, reads, writes] = of_each(&self.piece, both);
        let [of_all, of_reads, of_writes] = &mut **ended;
        let verdict = all.map(|touches| of_all.add(&touches));
        match (reads, writes) {
            (Some(reads), Some(writes)) => {
                of_reads.add(&reads);
                of_writes.add(&writes);
            }
            // All are of one class so far, which then has the same verdict.
            _ => {
                let class = if self.writes > 0 { of_writes } else { of_reads };
                if let Some(verdict) = verdict {
                    class.add_judged(&self.piece, verdict);
                }
            }
        }
        self.piece.clear();
    }
}

/// All references, and where both occur, reads and writes.
fn of_each(touches: &[Touch], both: bool) -> [Option<Cow<'_, [Touch]>>; 3] {
    let only = |write: bool| {
        let wanted = touches
            .iter()
            .filter(|touch| (touch.access == Access::Write) == write);
        both.then(|| Cow::Owned(wanted.copied().collect()))
    };
    [Some(Cow::Borrowed(touches)), only(false), only(true)]
}
