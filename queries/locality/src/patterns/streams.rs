//! Streams that the thread or the instruction tells apart.

use super::decide::{Decided, decide};
use super::{Pattern, Settings, Stream, Touch, Verdict};

/// Streams in one object; more threads than this are judged together only.
const MOST_STREAMS: usize = 16;
/// References a stream needs to be judged.
const LEAST_REFS: usize = 24;
/// Share of the references that the judged streams have to hold.
const COVERED: f64 = 0.9;
/// Confidence of a whole string's order that no division can better.
const CLEAR: f64 = 0.9;
/// Share of a stream's references that its order explains, where streams share pages.
const EXACT: f64 = 0.8;

/// The verdict on a string of references, divided where that explains it better.
pub(super) fn classify(touches: &[Touch], settings: &Settings) -> Verdict {
    let string: Vec<u64> = touches.iter().map(|touch| touch.page).collect();
    let whole = decide(&string, settings);
    let by_thread = division(touches, settings, |touch| (Some(touch.tid), None));
    let by_ip = division(touches, settings, |touch| (None, Some(touch.ip)));
    let best = [by_thread, by_ip]
        .into_iter()
        .flatten()
        .filter_map(|streams| better(&whole, streams, touches.len()))
        .max_by(|a, b| a.1.total_cmp(&b.1));
    match best {
        Some((pattern, confidence, streams)) => {
            let mut figures = whole.figures;
            if let Some(leading) = streams
                .iter()
                .filter(|stream| stream.pattern == pattern)
                .max_by_key(|stream| stream.figures.refs)
            {
                figures.stride = leading.figures.stride;
                figures.stride_share = leading.figures.stride_share;
                figures.direction = leading.figures.direction;
                figures.period_pages = leading.figures.period_pages;
                figures.period_refs = leading.figures.period_refs;
            }
            Verdict {
                pattern,
                confidence,
                figures,
                streams,
            }
        }
        None => Verdict {
            pattern: whole.pattern,
            confidence: whole.confidence,
            figures: whole.figures,
            streams: Vec::new(),
        },
    }
}

/// The streams by a key, judged one by one; `None` where the key does not divide the string well.
fn division(
    touches: &[Touch],
    settings: &Settings,
    key: impl Fn(&Touch) -> (Option<u32>, Option<u64>),
) -> Option<Vec<Stream>> {
    let mut groups: Vec<((Option<u32>, Option<u64>), Vec<u64>)> = Vec::new();
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
    let streams = groups.into_iter().map(|((tid, ip), pages)| {
        let Decided {
            pattern,
            confidence,
            figures,
        } = decide(&pages, settings);
        Stream {
            tid,
            ip,
            pattern,
            confidence,
            figures,
        }
    });
    Some(streams.collect())
}

/// The verdict of a division, where it explains the string better than the undivided one does.
fn better(
    whole: &Decided,
    streams: Vec<Stream>,
    refs: usize,
) -> Option<(Pattern, f64, Vec<Stream>)> {
    let share = |pattern: Pattern| {
        let held: u64 = streams
            .iter()
            .filter(|stream| stream.pattern == pattern)
            .map(|stream| stream.figures.refs)
            .sum();
        held as f64 / refs as f64
    };
    let leading = Pattern::ALL
        .into_iter()
        .filter(|&pattern| pattern != Pattern::Unknown)
        .max_by(|&a, &b| share(a).total_cmp(&share(b)))?;
    let held = share(leading);
    if held < 0.6
        || !streams
            .iter()
            .any(|stream| stream.pattern.is_ordered() && stream.confidence >= 0.8)
    {
        return None;
    }
    let mean = |of: fn(&Stream) -> f64| {
        let sum: f64 = streams
            .iter()
            .filter(|stream| stream.pattern == leading)
            .map(|stream| of(stream) * stream.figures.refs as f64)
            .sum();
        sum / (held * refs as f64)
    };
    // A string cut in pieces at random looks more orderly than it is: pages repeat less. So either every stream has
    // pages of its own, or its order is exact.
    let apart = streams
        .iter()
        .map(|stream| stream.figures.pages)
        .sum::<u64>()
        * 4
        <= whole.figures.pages * 5;
    let exact = mean(|stream| match stream.pattern {
        Pattern::Looping => stream.figures.follow_share.unwrap_or(0.0),
        _ => stream.figures.stride_share,
    });
    if !apart && exact < EXACT {
        return None;
    }
    let confidence = mean(|stream| stream.confidence) * if held >= COVERED { 1.0 } else { held };
    if whole.pattern.is_ordered() {
        // The streams must be the better explanation: they continue more often than the whole does.
        let same_scan = whole.pattern == leading && leading != Pattern::Looping;
        let explains =
            same_scan && mean(|stream| stream.figures.stride_share) > whole.figures.stride_share;
        let clear = whole.confidence >= CLEAR && !same_scan;
        let lesser = whole.pattern == Pattern::Sequential && leading == Pattern::Strided;
        if clear
            || lesser
            || (same_scan && !explains)
            || leading == Pattern::Looping && whole.pattern == Pattern::Looping
        {
            return None;
        }
    }
    Some((leading, confidence, streams))
}
