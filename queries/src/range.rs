//! Stretches of time and of `seq`, as people type them: `2s..5s`, `2026-01-02T03:04:05..`, `1000..2000`.

use std::str::FromStr;

use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, col, lit};
use pgtrace_capture::units;

/// A moment of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// So many ns after the recording's start.
    After(i64),
    /// Ns since 1970 UTC.
    At(i64),
}

/// Begin and end in ns since 1970 UTC; `None`: open.
type Ends = (Option<i64>, Option<i64>);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Ok(after) = units::time(text) {
            let ns = i64::try_from(after.as_nanos());
            return ns
                .map(Moment::After)
                .map_err(|_| format!("expected a time of at most 292 years, found {text:?}"));
        }
        // Begins of dates that the parser of timestamps would take for something else.
        let date = text.len() >= 10 && text.as_bytes().get(4) == Some(&b'-');
        let at = date.then(|| string_to_timestamp_nanos(text).ok()).flatten();
        at.map(Moment::At).ok_or_else(|| {
            format!(
                "expected a time after the start like 2s or 500ms, or a timestamp like 2026-01-02T03:04:05.5Z, found {text:?}"
            )
        })
    }
}

impl Moment {
    /// Ns since 1970 UTC, in a recording that began at `start`.
    pub fn utc(self, start: i64) -> i64 {
        match self {
            Moment::After(ns) => start.saturating_add(ns),
            Moment::At(ns) => ns,
        }
    }
}

/// From a moment on, and before another; `None`: open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// The first moment that is in it.
    pub from: Option<Moment>,
    /// The first moment that is not.
    pub to: Option<Moment>,
}

/// From a number on, and before another; `None`: open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeqRange {
    /// The first number that is in it.
    pub from: Option<u64>,
    /// The first number that is not.
    pub to: Option<u64>,
}

/// The two ends of `A..B`; nothing: open.
fn ends<'a>(text: &'a str, example: &str) -> Result<[Option<&'a str>; 2], String> {
    let wrong = || {
        format!(
            "expected two ends with .. between them, as in {example} (either may be left out), found {text:?}"
        )
    };
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    if to.starts_with('.') || to.contains("..") {
        return Err(wrong());
    }
    Ok([from, to].map(|end| Some(end.trim()).filter(|end| !end.is_empty())))
}

impl FromStr for TimeRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let [from, to] = ends(text, "2s..5s")?;
        let range = TimeRange {
            from: from.map(str::parse).transpose()?,
            to: to.map(str::parse).transpose()?,
        };
        range.check().map(|()| range)
    }
}

impl TimeRange {
    /// That the range does not end before it begins, as far as that can be told without the recording.
    ///
    /// # Errors
    /// It does, in words.
    pub fn check(&self) -> Result<(), String> {
        let turned = match (self.from, self.to) {
            (Some(Moment::After(a)), Some(Moment::After(b)))
            | (Some(Moment::At(a)), Some(Moment::At(b))) => a > b,
            _ => false,
        };
        match turned {
            true => Err("expected a first time that is not after the second".into()),
            false => Ok(()),
        }
    }

    /// Whether it holds everything.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// Whether an end depends on the recording's start.
    pub fn is_relative(&self) -> bool {
        let after = |end: Option<Moment>| matches!(end, Some(Moment::After(_)));
        after(self.from) || after(self.to)
    }

    /// Its ends in a recording that began at `start`, ns since 1970 UTC.
    pub fn utc(&self, start: i64) -> (Option<i64>, Option<i64>) {
        let utc = |end: Option<Moment>| end.map(|end| end.utc(start));
        (utc(self.from), utc(self.to))
    }

    /// What a row of `refs` must be to lie in it; `None`: anything. `starts`: each recording's id and start.
    pub fn expr(&self, starts: &[(String, i64)]) -> Option<Expr> {
        if self.is_open() {
            return None;
        }
        let mut bounds: Vec<(Ends, Vec<&str>)> = Vec::new();
        for (id, start) in starts {
            let ends = self.utc(*start);
            match bounds.iter_mut().find(|(known, _)| *known == ends) {
                Some((_, ids)) => ids.push(id),
                None => bounds.push((ends, vec![id])),
            }
        }
        let between = |(from, to): Ends| {
            let from = from.map(|ns| col("ts").gt_eq(time(ns)));
            let to = to.map(|ns| col("ts").lt(time(ns)));
            from.into_iter().chain(to).reduce(Expr::and)
        };
        if !self.is_relative() {
            return between(self.utc(0));
        }
        if let [(ends, _)] = bounds.as_slice() {
            return between(*ends);
        }
        let each = bounds.into_iter().filter_map(|(ends, ids)| {
            let ids: Vec<Expr> = ids.into_iter().map(capture).collect();
            Some(col("capture_id").in_list(ids, false).and(between(ends)?))
        });
        Some(each.reduce(Expr::or).unwrap_or(lit(false)))
    }
}

fn time(ns: i64) -> Expr {
    lit(ScalarValue::TimestampNanosecond(
        Some(ns),
        Some("UTC".into()),
    ))
}

fn capture(id: &str) -> Expr {
    lit(id)
}

impl FromStr for SeqRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |end: &str| {
            let digits = end.replace('_', "");
            digits
                .parse::<u64>()
                .map_err(|_| format!("expected a number of a reference like 1000, found {end:?}"))
        };
        let [from, to] = ends(text, "1000..2000")?;
        let range = SeqRange {
            from: from.map(number).transpose()?,
            to: to.map(number).transpose()?,
        };
        range.check().map(|()| range)
    }
}

impl SeqRange {
    /// That the range does not end before it begins.
    ///
    /// # Errors
    /// It does, in words.
    pub fn check(&self) -> Result<(), String> {
        match (self.from, self.to) {
            (Some(a), Some(b)) if a > b => {
                Err("expected a first number that is not above the second".into())
            }
            _ => Ok(()),
        }
    }

    /// Whether it holds everything.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// What a row of `refs` must be to lie in it; `None`: anything.
    pub fn expr(&self) -> Option<Expr> {
        let from = self.from.map(|n| col("seq").gt_eq(lit(n)));
        let to = self.to.map(|n| col("seq").lt(lit(n)));
        from.into_iter().chain(to).reduce(Expr::and)
    }
}

#[cfg(test)]
#[path = "range_test.rs"]
mod tests;
