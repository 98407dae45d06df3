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
            for (row, id) in ids.iter().enumerate() {
                let one = (from.value(row), to.value(row), counts.value(row));
                all.entry(id.unwrap_or_default().to_owned())
                    .or_default()
                    .push(one);
            }
        }
        let sums = all.into_iter().map(|(id, losses)| {
            let begun = losses.iter().map(|(from, _, count)| (*from, *count));
            let ended = losses
                .iter()
                .map(|(from, to, count)| (*to.max(from), *count));
            let losses = Losses {
                begun: Sums::new(begun.collect()),
                ended: Sums::new(ended.collect()),
            };
            (id, Arc::new(losses))
        });
        Ok(sums.collect())
    }

    /// What was lost in losses that overlap a stretch of time, its end included.
    pub(crate) fn within(&self, from: i64, to: i64) -> u64 {
        let begun = self.begun.up_to(|ts| ts <= to);
        begun.saturating_sub(self.ended.up_to(|ts| ts < from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn overlaps_are_found(losses in prop::collection::vec((0i64..50, 0i64..20, 1u64..9), 0..30), from in -5i64..60, length in 0i64..30) {
            let begun = losses.iter().map(|(at, _, n)| (*at, *n)).collect();
            let ended = losses.iter().map(|(at, length, n)| (at + length, *n)).collect();
            let found = Losses { begun: Sums::new(begun), ended: Sums::new(ended) }.within(from, from + length);
            let overlap = |(at, l, _): &&(i64, i64, u64)| *at <= from + length && at + l >= from;
            let expected: u64 = losses.iter().filter(overlap).map(|(_, _, n)| n).sum();
            prop_assert_eq!(found, expected);
        }
    }
}
