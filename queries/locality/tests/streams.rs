//! Streams of one object that the thread or the instruction tells apart, and reads and writes.
#![allow(clippy::unwrap_used)]

mod strings;

use pgtrace_locality::patterns::{Access, Classifier, Pattern, Report, Settings, Touch};
use strings::Rng;

/// Merges streams in one of three ways: by chance, one reference each in turn, or in slices.
fn interleave(rng: &mut Rng, streams: &[Vec<u64>]) -> Vec<(usize, u64)> {
    let way = rng.below(3);
    let slice = if way == 2 { rng.between(8, 60) } else { 1 };
    let mut next = vec![0; streams.len()];
    let mut merged = Vec::new();
    let mut turn = 0;
    while (0..streams.len()).any(|stream| next[stream] < streams[stream].len()) {
        turn = if way == 0 {
            rng.below(streams.len() as u64) as usize
        } else {
            (turn + 1) % streams.len()
        };
        for _ in 0..slice {
            if let Some(&page) = streams[turn].get(next[turn]) {
                merged.push((turn, page));
                next[turn] += 1;
            }
        }
    }
    merged
}

fn classify(merged: &[(usize, u64)], by_ip: bool) -> Report {
    let mut classifier = Classifier::new(Settings::default());
    for &(stream, page) in merged {
        classifier.push(&Touch {
            page,
            access: Access::Read,
            tid: if by_ip { 7 } else { 100 + stream as u32 },
            ip: if by_ip {
                0x40_1000 + 16 * stream as u64
            } else {
                0x40_1000
            },
        });
    }
    classifier.finish()
}

/// One stream of a pattern in its own part of the object.
fn stream(rng: &mut Rng, pattern: Pattern, area: u64, refs: usize) -> Vec<u64> {
    let base = area * 1_000_000;
    match pattern {
        Pattern::Sequential => (0..refs as u64).map(|at| base + at).collect(),
        Pattern::Strided => {
            let stride = rng.between(2, 64);
            (0..refs as u64).map(|at| base + at * stride).collect()
        }
        Pattern::Looping => {
            let pages = rng.between(20, refs as u64 / 2);
            (0..refs as u64).map(|at| base + at % pages).collect()
        }
        _ => (0..refs).map(|_| base + rng.below(300)).collect(),
    }
}

#[test]
fn streams_are_told_apart() {
    let mut rng = Rng::new(17);
    for pattern in [Pattern::Sequential, Pattern::Strided, Pattern::Looping] {
        let (mut right, mut counted, rounds) = (0, 0, 200);
        for round in 0..rounds {
            let count = rng.between(2, 6) as usize;
            let refs = rng.log_between(100, 800) as usize;
            let noise = [0.0, 0.02, 0.05][round % 3];
            let streams: Vec<Vec<u64>> = (0..count)
                .map(|area| {
                    let pages = stream(&mut rng, pattern, area as u64, refs);
                    rng.strayed(&pages, noise)
                })
                .collect();
            let merged = interleave(&mut rng, &streams);
            let verdict = classify(&merged, round % 2 == 0).all;
            right += usize::from(verdict.pattern == pattern);
            counted += usize::from(verdict.stream_count() == count);
            if verdict.pattern != pattern || verdict.stream_count() != count {
                eprintln!(
                    "{count} {pattern:?} {noise}: {:?} {:.2} {} {:?}",
                    verdict.pattern,
                    verdict.confidence,
                    verdict.stream_count(),
                    verdict.figures
                );
            }
        }
        println!("{pattern:?}: {right} right, {counted} counted of {rounds}");
        assert!(
            right * 100 >= rounds * 95,
            "{pattern:?}: {right} of {rounds}"
        );
        assert!(
            counted * 100 >= rounds * 90,
            "{pattern:?}: streams of {counted} of {rounds}"
        );
    }
}
