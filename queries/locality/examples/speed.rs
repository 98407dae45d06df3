//! How fast the algorithms are by themselves, on one thread: what an engine around them can reach at most.
//!
//! `cargo run --release -p pgtrace-locality --example speed [REFERENCES [PAGES [WHAT]]]`; WHAT: a part of a line. Half of the references are uniform, half scans.

use std::time::Instant;

use pgtrace_locality::gaps::Gaps;
use pgtrace_locality::index::{Extent, PageIndex, mix};
use pgtrace_locality::order::PageOrder;
use pgtrace_locality::reuse::Distances;
use pgtrace_locality::shards::Shards;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<u64>());
    let mut number = |default| arguments.next().and_then(Result::ok).unwrap_or(default);
    let (refs, pages) = (number(20_000_000), number(1_000_000));
    let only = std::env::args().nth(3).unwrap_or_default();
    let page = |i: u64| match mix(i) & 1 {
        0 => mix(i ^ 77) % pages,
        _ => i / 2 % pages,
    };
    let string: Vec<u64> = (0..refs).map(page).collect();
    let objects: Vec<u64> = string.iter().map(|page| page * 8 / pages).collect();
    let extents: Vec<Extent> = (0..8)
        .map(|object_id| Extent {
            object_id,
            first: object_id * pages / 8,
            last: (object_id + 1) * pages / 8,
        })
        .collect();
    let batches = || objects.chunks(8192).zip(string.chunks(8192));
    let show = |what: &str, start: Instant, answer: u64| {
        let rate = refs as f64 / start.elapsed().as_secs_f64() / 1e6;
        println!("{what:28} {rate:8.1} M references/s  ({answer})");
    };

    for (what, extents) in [("hashed", &extents[..0]), ("in place", &extents[..])] {
        if !format!("reuse distances, {what}").contains(&only) {
            continue;
        }
        let start = Instant::now();
        let mut order = PageOrder::new(extents, false);
        let mut distances = Distances::default();
        for (objects, pages) in batches() {
            order.references(objects, pages, |_, found| distances.add_all(found, true));
        }
        show(
            &format!("reuse distances, {what}"),
            start,
            distances.first(),
        );
        let start = Instant::now();
        let mut index = PageIndex::dense(extents).unwrap_or_default();
        let sum: u64 = batches()
            .flat_map(|(objects, pages)| objects.iter().zip(pages))
            .map(|(object, page)| u64::from(index.id(*object, *page)))
            .sum();
        show(&format!("ids, {what}"), start, sum);
    }
    let start = Instant::now();
    let mut gaps = vec![Gaps::default(); pages as usize];
    for (seq, page) in (0..).zip(&string) {
        gaps[*page as usize].add(seq, seq as i64 * 1000);
    }
    show("gaps, one by one", start, gaps[0].refs);
    let start = Instant::now();
    if let Some(mut shards) = Shards::new(0.01) {
        batches().for_each(|(objects, pages)| shards.references(objects, pages));
        show("sampled 0.01", start, shards.finish().sampled_refs);
    }
}
