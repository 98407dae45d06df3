//! Streams that the thread or the instruction tells apart.

use super::decide::{Decided, decide, has_order};
use super::{Pattern, Settings, Stream, Touch, Verdict};

/// Streams in one object; more threads than this are judged together only.
const MOST_STREAMS: usize = 16;
/// References a stream needs to be judged.
const LEAST_REFS: usize = 24;
/// Share of the references that the judged streams have to hold.
const COVERED: f64 = 0.9;
/// Least share of the references that streams of the leading pattern hold.
const LEADING: f64 = 0.4;
/// Confidence of a whole string's order that no division can better.
const CLEAR: f64 = 0.9;
/// Share of a stream's references that its order puts exactly where they are, where streams share pages.
const EXACT: f64 = 0.8;

/// Who made a reference: the thread or the instruction, whichever divides the string.
type Key = (Option<u32>, Option<u64>);

/// A stream's references, judged.
struct Judged {
    key: Key,
    decided: Decided,
}

/// A division that explains the string better than the undivided string does.
struct Division {
    pattern: Pattern,
    confidence: f64,
    streams: Vec<Judged>,
}

/// The verdict on a string of references, divided where that explains it better.
pub(super) fn classify(touches: &[Touch], settings: &Settings) -> Verdict {
    let string: Vec<u64> = touches.iter().map(|touch| touch.page).collect();
    let whole = decide(&string, settings);
    let by_thread = divide(touches, settings, |touch| (Some(touch.tid), None));
    let by_ip = divide(touches, settings, |touch| (None, Some(touch.ip)));
    let best = [by_thread, by_ip]
        .into_iter()
        .flatten()
        .filter_map(|streams| better(&whole, streams, touches.len()))
        .max_by(|a, b| a.confidence.total_cmp(&b.confidence));
    let Decided {
        pattern,
        confidence,
        mut figures,
        ..
    } = whole;
    let Some(division) = best else {
        return Verdict {
            pattern,
            confidence,
            figures,
            streams: Vec::new(),
        };
    };
    // What is said of the order is said of the largest stream.
    let largest = division
        .streams
        .iter()
        .map(|stream| &stream.decided)
        .filter(|decided| decided.pattern == division.pattern)
        .max_by_key(|decided| decided.figures.refs);
    if let Some(Decided {
        figures: largest, ..
    }) = largest
    {
        figures.stride = largest.stride;
        figures.stride_share = largest.stride_share;
        figures.direction = largest.direction;
        figures.period_pages = largest.period_pages;
        figures.period_refs = largest.period_refs;
        figures.follow_share = largest.follow_share;
    }
    let streams = division
        .streams
        .into_iter()
        .map(|Judged { key, decided }| Stream {
            tid: key.0,
            ip: key.1,
            pattern: decided.pattern,
            confidence: decided.confidence,
            figures: decided.figures,
        });
    Verdict {
        pattern: division.pattern,
        confidence: division.confidence,
        figures,
        streams: streams.collect(),
    }
}

/// The streams by a key, judged one by one; `None` where the key does not divide the string well.
fn divide(
    touches: &[Touch],
    settings: &Settings,
    key: impl Fn(&Touch) -> Key,
) -> Option<Vec<Judged>> {
    let mut groups: Vec<(Key, Vec<u64>)> = Vec::new();
    for touch in touches {
        let key = key(touch);
        if let Some((_, pages)) = groups.iter_mut().find(|(known, _)| *known == key) {
            pages.push(touch.page);
        } else if groups.len() == MOST_STREAMS * 2 {
            return None;
        } else {
            groups.push((key, vec![touch.page]));
        }
    }
    groups.retain(|(_, pages)| pages.len() >= LEAST_REFS);
    let held: usize = groups.iter().map(|(_, pages)| pages.len()).sum();
    if !(2..=MOST_STREAMS).contains(&groups.len()) || (held as f64) < COVERED * touches.len() as f64
    {
        return None;
    }
    // Only streams that have an order better the whole.
    if !groups.iter().any(|(_, pages)| has_order(pages)) {
        return None;
    }
    let judged = groups.into_iter().map(|(key, pages)| Judged {
        key,
        decided: decide(&pages, settings),
    });
    Some(judged.collect())
}

/// A division, where it explains the string better than the undivided one does.
fn better(whole: &Decided, streams: Vec<Judged>, refs: usize) -> Option<Division> {
    let of = |pattern: Pattern| {
        streams
            .iter()
            .map(|stream| &stream.decided)
            .filter(move |decided| decided.pattern == pattern)
    };
    let held_by = |pattern: Pattern| {
        of(pattern).map(|decided| decided.figures.refs).sum::<u64>() as f64 / refs as f64
    };
    let pattern = Pattern::ALL
        .into_iter()
        .filter(|&pattern| pattern != Pattern::Unknown)
        .max_by(|&a, &b| held_by(a).total_cmp(&held_by(b)))?;
    let held = held_by(pattern);
    let some_order = streams
        .iter()
        .any(|stream| stream.decided.pattern.is_ordered() && stream.decided.confidence >= 0.8);
    if held < LEADING || !some_order {
        return None;
    }
    let mean = |figure: fn(&Decided) -> f64| {
        let sum: f64 = of(pattern)
            .map(|decided| figure(decided) * decided.figures.refs as f64)
            .sum();
        sum / (held * refs as f64)
    };
    let exact = mean(|decided| decided.exact);
    // A string cut in pieces at random looks more orderly than it is: pages repeat less. So either every stream has
    // pages of its own, or its order is exact.
    let pages: u64 = streams
        .iter()
        .map(|stream| stream.decided.figures.pages)
        .sum();
    let apart = pages * 4 <= whole.figures.pages * 5;
    if !apart && exact < EXACT {
        return None;
    }
    // Where the whole has an order, the streams must have more of it: a scan or loop that threads share is one.
    let explains = match (whole.pattern, pattern) {
        (undivided, _) if !undivided.is_ordered() => true,
        (undivided, divided) if undivided == divided => exact > whole.exact,
        // Threads that take a file's pages in turn each stride.
        (Pattern::Sequential, Pattern::Strided) => exact > whole.exact + 0.1,
        // Each thread scans the same pages: a loop only for the object.
        (Pattern::Looping, Pattern::Sequential | Pattern::Strided) => {
            exact >= EXACT.max(whole.exact - 0.02)
        }
        _ => whole.confidence < CLEAR,
    };
    let confidence = mean(|decided| decided.confidence) * if held >= COVERED { 1.0 } else { held };
    explains.then_some(Division {
        pattern,
        confidence,
        streams,
    })
}
