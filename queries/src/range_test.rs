#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

#[test]
fn moments() {
    for (text, expected) in [
        ("2s", Moment::After(2_000_000_000)),
        (" 500ms ", Moment::After(500_000_000)),
        ("1.5", Moment::After(1_500_000_000)),
        ("0", Moment::After(0)),
        ("1970-01-01T00:00:01Z", Moment::At(1_000_000_000)),
        ("1970-01-01T00:00:01", Moment::At(1_000_000_000)),
        ("1970-01-01 00:00:01.25", Moment::At(1_250_000_000)),
        ("1970-01-01T01:00:01+01:00", Moment::At(1_000_000_000)),
        ("1970-01-02", Moment::At(86_400_000_000_000)),
    ] {
        assert_eq!(text.parse(), Ok(expected), "{text}");
    }
    for bad in [
        "",
        "s",
        "-1s",
        "2 parsecs",
        "yesterday",
        "2026-13-01",
        "2026-01-01T25:00:00",
        "..",
        "1e3s",
    ] {
        let error = bad.parse::<Moment>().unwrap_err();
        assert!(
            error.starts_with("expected ") && error.contains(&format!("{bad:?}")),
            "{error}"
        );
    }
}

#[test]
fn ranges_and_their_open_ends() {
    let after = |s: i64| Some(Moment::After(s * 1_000_000_000));
    let range = |from, to| Ok(TimeRange { from, to });
    assert_eq!("2s..5s".parse(), range(after(2), after(5)));
    assert_eq!(
        "1.5..2.5".parse::<TimeRange>().unwrap().from,
        Some(Moment::After(1_500_000_000))
    );
    assert_eq!("2s..".parse(), range(after(2), None));
    assert_eq!("..5s".parse(), range(None, after(5)));
    assert_eq!("..".parse(), range(None, None));
    assert_eq!("5..5".parse(), range(after(5), after(5)));
    for bad in [
        "",
        "2s",
        "2s-5s",
        "5s..2s",
        "1s...2s",
        "1s..2s..3s",
        "x..",
        "2026-01-02..2026-01-01",
    ] {
        assert!(
            bad.parse::<TimeRange>()
                .is_err_and(|e| e.starts_with("expected ")),
            "{bad}"
        );
    }
    assert_eq!(
        "10..20".parse(),
        Ok(SeqRange {
            from: Some(10),
            to: Some(20)
        })
    );
    assert_eq!(
        "1_000..".parse(),
        Ok(SeqRange {
            from: Some(1000),
            to: None
        })
    );
    for bad in [
        "",
        "1",
        "20..10",
        "a..b",
        "-1..2",
        "1.5..2",
        "..18446744073709551616",
    ] {
        assert!(
            bad.parse::<SeqRange>()
                .is_err_and(|e| e.starts_with("expected ")),
            "{bad}"
        );
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(a in 0u64..1 << 50, b in 0u64..1 << 50, open in 0u8..4) {
        let (low, high) = (a.min(b), a.max(b));
        let (from, to) = ((open & 1 == 0).then_some(low), (open & 2 == 0).then_some(high));
        let text = |unit: &str| {
            let end = |n: Option<u64>| n.map_or(String::new(), |n| format!("{n}{unit}"));
            format!("{}..{}", end(from), end(to))
        };
        prop_assert_eq!(text("").parse(), Ok(SeqRange { from, to }));
        let ns = |us: Option<u64>| us.map(|us| Moment::After(i64::try_from(us).unwrap() * 1000));
        let read: TimeRange = text("us").parse().unwrap();
        // Times are floats on their way: exact to the microsecond for a month, else to their 53 bits.
        let close = |a: Option<Moment>, b: Option<Moment>| match (a, b) {
            (Some(Moment::After(a)), Some(Moment::After(b))) => (a - b).abs() <= 1 + (b >> 50),
            (a, b) => a == b,
        };
        prop_assert!(close(read.from, ns(from)) && close(read.to, ns(to)), "{:?}", read);
    }

    #[test]
    fn no_text_panics(text in ".{0,40}") {
        let _ = text.parse::<TimeRange>();
        let _ = text.parse::<SeqRange>();
    }

    #[test]
    fn timestamps_are_read_to_the_ns(ns in 0i64..4_000_000_000_000_000_000) {
        let text = ScalarValue::TimestampNanosecond(Some(ns), None);
        let array = text.to_array().unwrap();
        let text = arrow::util::display::array_value_to_string(&array, 0).unwrap();
        prop_assert_eq!(text.parse(), Ok(Moment::At(ns)));
        prop_assert_eq!(format!("{text}Z").parse(), Ok(Moment::At(ns)));
    }
}
