//! What was lost, by time: a table small enough to be read whole beside the references.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{TimestampNanosecondType, UInt64Type};
use datafusion::common::{Result, exec_err};

/// The rows that [`Losses::of`] takes.
pub(crate) const SQL: &str =
    "SELECT arrow_cast(capture_id, 'Utf8'), from_ts, to_ts, count FROM losses WHERE count > 0";

/// Losses of one capture, as sums by when they began and by when they ended.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    begun: Sums,
    ended: Sums,
    /// Those that end before they begin, because a clock stepped back: few.
    reversed: Vec<(i64, i64, u64)>,
}

/// Times in order, each with the sum up to it.
#[derive(Debug, Default)]
struct Sums(Vec<(i64, u64)>);

impl Sums {
    fn new(mut each: Vec<(i64, u64)>) -> Self {
        each.sort_unstable();
        let mut sum = 0u64;
        for (_, count) in &mut each {
            sum = sum.saturating_add(*count);
            *count = sum;
        }
        Self(each)
    }

    /// The sum of those for whose times `is` holds: it holds for the first ones.
    fn up_to(&self, is: impl Fn(i64) -> bool) -> u64 {
        let end = self.0.partition_point(|(ts, _)| is(*ts));
        end.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

impl Losses {
    /// By capture.
    ///
    /// # Errors
    /// When the rows are not those of [`SQL`].
    pub(crate) fn of(batches: &[RecordBatch]) -> Result<HashMap<String, Arc<Losses>>> {
        let mut all: HashMap<String, Vec<(i64, i64, u64)>> = HashMap::new();
        for batch in batches {
            let times = |column: usize| {
                let column = batch.column(column);
                column.as_primitive_opt::<TimestampNanosecondType>()
            };
            let ids = batch.column(0).as_string_opt::<i32>();
            let counts = batch.column(3).as_primitive_opt::<UInt64Type>();
            let (Some(ids), Some(from), Some(to), Some(counts)) = (ids, times(1), times(2), counts)
            else {
                return exec_err!("losses are not of the types that an operator reads");
            };
            let rows = ids.iter().zip(from.iter().zip(to).zip(counts));
            for (id, ((from, to), count)) in rows {
                // What was lost at an unknown time overlaps nothing.
                if let (Some(from), Some(to), Some(count)) = (from, to, count) {
                    all.entry(id.unwrap_or_default().to_owned())
                        .or_default()
                        .push((from, to, count));
                }
            }
        }
        let losses = all.into_iter();
        Ok(losses
            .map(|(id, losses)| (id, Arc::new(Self::new(losses))))
            .collect())
    }

    /// Of begin, end and count of each.
    fn new(losses: Vec<(i64, i64, u64)>) -> Self {
        let (forward, reversed): (Vec<_>, Vec<_>) =
            losses.into_iter().partition(|(from, to, _)| from <= to);
        let begun = forward.iter().map(|(from, _, count)| (*from, *count));
        let ended = forward.iter().map(|(_, to, count)| (*to, *count));
        Self {
            begun: Sums::new(begun.collect()),
            ended: Sums::new(ended.collect()),
            reversed,
        }
    }

    /// What was lost in losses that overlap a stretch of time, its end included.
    pub(crate) fn within(&self, from: i64, to: i64) -> u64 {
        let begun = self.begun.up_to(|ts| ts <= to);
        let forward = begun.saturating_sub(self.ended.up_to(|ts| ts < from));
        let reversed = self.reversed.iter();
        let overlap = reversed.filter(|(begin, end, _)| *begin <= to && *end >= from);
        overlap.fold(forward, |sum, (_, _, count)| sum.saturating_add(*count))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn overlaps_are_found(losses in prop::collection::vec((0i64..50, -5i64..20, 1u64..9), 0..30), from in -5i64..60, length in 0i64..30) {
            let losses: Vec<_> = losses.into_iter().map(|(at, length, n)| (at, at + length, n)).collect();
            let found = Losses::new(losses.clone()).within(from, from + length);
            let overlap = |(begin, end, _): &&(i64, i64, u64)| *begin <= from + length && *end >= from;
            let expected: u64 = losses.iter().filter(overlap).map(|(_, _, n)| n).sum();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_was_lost_at_an_unknown_time_overlaps_nothing() {
        use arrow::array::{StringArray, TimestampNanosecondArray, UInt64Array};
        let times =
            |times: [Option<i64>; 3]| Arc::new(TimestampNanosecondArray::from(times.to_vec())) as _;
        let batch = RecordBatch::try_from_iter_with_nullable([
            (
                "capture_id",
                Arc::new(StringArray::from(vec!["a"; 3])) as _,
                false,
            ),
            ("from_ts", times([Some(5), None, Some(0)]), true),
            ("to_ts", times([Some(9), Some(9), None]), true),
            (
                "count",
                Arc::new(UInt64Array::from(vec![1, 10, 100])) as _,
                false,
            ),
        ]);
        let found = Losses::of(&[batch.unwrap()]).unwrap();
        assert_eq!(found["a"].within(0, 100), 1);
    }
}
