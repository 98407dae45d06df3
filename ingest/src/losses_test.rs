//! The account against a plain list of numbers.
#![allow(clippy::unwrap_used)]

use pgtrace_capture::record::{Channel, Lost, LostCause, Stamp};
use proptest::prelude::*;

use super::{Damage, Loss, Newest, Tracker};

fn lost(first_seq: u64, count: u64, cause: LostCause) -> Lost {
    Lost {
        stamp: Stamp::default(),
        count,
        first_seq,
        first_ns: 7,
        last_ns: 8,
        channel: Channel::Refs,
        cause,
    }
}

fn brief(losses: &[Loss]) -> Vec<(&'static str, Option<u64>)> {
    losses.iter().map(|l| (l.cause, l.count)).collect()
}

#[test]
fn a_lost_record_explains_its_hole_and_no_more() {
    let mut t = Tracker::new(3, Channel::Refs);
    assert!(t.accept(0, 10));
    // 1-5 are missing; the LOST record (number 6) speaks of 4 and 5 only.
    assert!(t.accept(6, 20));
    t.tell(lost(4, 2, LostCause::BufferFull));
    t.close(None);
    let losses = t.losses(&[], Newest::default());
    assert_eq!(
        brief(&losses),
        [("buffer_full", Some(2)), ("missing", Some(3))]
    );
    assert_eq!((losses[1].from_ns, losses[1].to_ns), (Some(10), Some(20)));
    assert_eq!(losses[1].detail.as_deref(), Some("sequence numbers 1 to 3"));
}

#[test]
fn parts_of_a_hole_share_its_damage() {
    let mut t = Tracker::new(0, Channel::Refs);
    (0..50_000).for_each(|index| t.damage(index));
    assert!(t.accept(100_000, 1));
    // As lists of their own they would take 20 GB.
    (0..50_000).for_each(|i| assert!(t.accept(2 * i + 1, 2)));
    assert_eq!(t.claimed().len(), 50_000);
    t.close(None);
    let losses = t.losses(&[], Newest::default());
    assert_eq!(losses.iter().filter_map(|l| l.count).sum::<u64>(), 50_000);
}

#[test]
fn damage_explains_the_hole_that_opens_behind_it() {
    let damages = [Damage {
        cause: "corrupt",
        detail: "x.pgt: byte 5".into(),
    }];
    let mut t = Tracker::new(0, Channel::Refs);
    t.accept(0, 1);
    t.damage(0);
    t.accept(10, 2);
    t.accept(12, 3);
    assert!(t.claimed().contains(&0));
    assert_eq!(
        brief(&t.losses(&damages, Newest::default())),
        [("corrupt", Some(9)), ("missing", Some(1))]
    );

    let mut t = Tracker::new(0, Channel::Refs);
    t.accept(0, 1);
    t.damage(0);
    t.accept(1, 2);
    assert!(
        t.claimed().is_empty() && t.pending().is_empty(),
        "no hole: not ours"
    );
}

#[test]
fn the_end_counts_where_it_is_known() {
    let mut t = Tracker::new(0, Channel::Refs);
    t.accept(0, 1);
    t.close(Some(4));
    assert_eq!(
        brief(&t.losses(&[], Newest::default())),
        [("missing", Some(3))]
    );

    // refs stayed full until the end: the LOST record came in the names channel.
    let mut t = Tracker::new(0, Channel::Refs);
    t.accept(0, 1);
    t.tell(lost(1, 5, LostCause::BufferFull));
    t.tell(lost(0, 9, LostCause::ProbeMissed));
    t.close(None);
    assert_eq!(
        brief(&t.losses(&[], Newest::default())),
        [("buffer_full", Some(5)), ("probe_missed", Some(9))]
    );
}

#[test]
fn a_record_that_comes_twice_is_dropped_and_a_late_one_kept() {
    let mut t = Tracker::new(0, Channel::Refs);
    assert!(t.accept(0, 1));
    assert!(t.accept(4, 2));
    assert!(!t.accept(4, 2));
    assert!(!t.accept(0, 2));
    assert!(t.accept(2, 3), "fills a hole");
    assert!(!t.accept(2, 3));
    assert_eq!(
        brief(&t.losses(&[], Newest::default())),
        [("missing", Some(1)), ("missing", Some(1))]
    );
}

#[test]
fn unknown_records_are_lost_ones() {
    let mut t = Tracker::new(0, Channel::Names);
    t.accept(0, 1);
    t.accept_unknown(1, 77, 1);
    t.accept_unknown(2, 77, 1);
    t.accept(3, 2);
    let losses = t.losses(&[], Newest::default());
    assert_eq!(brief(&losses), [("unknown_record", Some(2))]);
    assert_eq!(losses[0].from_ns, Some(1));
}

#[test]
fn what_was_given_up_on_purpose_is_overwritten() {
    let rotated = Newest {
        begin: true,
        between: false,
    };
    let snapshots = Newest {
        begin: true,
        between: true,
    };
    // 0 to 9 are gone, but 4 came another way; 11; 13 with its chunk; 15 at the end.
    let tracker = || {
        let mut t = Tracker::new(0, Channel::Names);
        t.accept(10, 1);
        t.heal(4);
        t.accept(12, 2);
        t.chunks_absent();
        t.accept(14, 3);
        t.close(Some(16));
        t
    };
    let causes = |newest| -> Vec<&str> {
        let losses = tracker().losses(&[], newest);
        losses.iter().map(|l| l.cause).collect()
    };
    let (gone, lost) = ("overwritten", "missing");
    assert_eq!(causes(Newest::default()), [lost; 5]);
    assert_eq!(causes(rotated), [gone, gone, lost, lost, lost]);
    assert_eq!(causes(snapshots), [gone, gone, gone, lost, gone]);

    // A loss that was told, and damage, stay what they are.
    let told = self::lost(6, 2, LostCause::BufferFull);
    let mut t = Tracker::new(0, Channel::Refs);
    t.damage(0);
    t.accept(5, 1);
    t.accept(8, 2);
    t.tell(told);
    let damages = [Damage {
        cause: "corrupt",
        detail: "x.pgt: byte 5".into(),
    }];
    let expected = [("buffer_full", Some(2)), ("corrupt", Some(5))];
    assert_eq!(brief(&t.losses(&damages, snapshots)), expected);
}

proptest! {
    /// Whatever comes in whatever order: numbers accepted + numbers lost = numbers used.
    #[test]
    fn accepted_and_lost_are_all(
        seqs in proptest::collection::vec(0u64..60, 0..80),
        told in proptest::collection::vec((0u64..60, 0u64..20), 0..6),
        end in proptest::option::of(0u64..80),
    ) {
        let mut t = Tracker::new(0, Channel::Refs);
        let mut seen = std::collections::BTreeSet::new();
        for &s in &seqs {
            prop_assert_eq!(t.accept(s, s), seen.insert(s), "number {}", s);
        }
        for &(first, count) in &told {
            t.tell(lost(first, count, LostCause::BufferFull));
        }
        t.close(end);
        let used = t.next();
        let told_end = told.iter().filter(|t| t.1 > 0).map(|(f, c)| f + c).max().unwrap_or(0);
        let last = seen.last().map_or(0, |s| s + 1);
        prop_assert_eq!(used, last.max(end.unwrap_or(0)).max(told_end));

        let by_told = |s: &u64| told.iter().any(|(f, c)| *s >= *f && *s < f + c);
        let gone: Vec<u64> = (0..used).filter(|s| !seen.contains(s)).collect();
        let losses = t.losses(&[], Newest::default());
        let sum = |cause| losses.iter().filter(|l| l.cause == cause).map(|l| l.count.unwrap()).sum::<u64>();
        prop_assert_eq!(sum("buffer_full"), gone.iter().filter(|s| by_told(s)).count() as u64);
        prop_assert_eq!(sum("missing"), gone.iter().filter(|s| !by_told(s)).count() as u64);
    }
}
