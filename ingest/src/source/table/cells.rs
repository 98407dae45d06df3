//! A batch's columns, of whatever type they came in, as values.

use std::path::Path;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    UInt64Array,
};
use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt64Type,
};
use arrow::util::display::array_value_to_string;

use super::super::error::SourceError;
use super::columns::{COLUMNS, Type, shown};

/// The values of a column.
#[derive(Debug)]
enum Values {
    Numbers(UInt64Array),
    Times(Int64Array),
    Texts(StringArray),
    Flags(BooleanArray),
}

/// The values of a batch, by position in [`COLUMNS`].
#[derive(Debug)]
pub(super) struct Cells {
    columns: [Option<Values>; COLUMNS.len()],
    pub(super) rows: usize,
}

/// Whole floating-point numbers up to here are exact.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl Cells {
    /// Reads a batch: `chosen` says what its columns are, `first` is the number of its first row.
    pub(super) fn new(
        path: &Path,
        first: u64,
        batch: &RecordBatch,
        chosen: &[usize],
    ) -> Result<Self, SourceError> {
        let mut cells = Cells {
            columns: Default::default(),
            rows: batch.num_rows(),
        };
        for (&index, array) in chosen.iter().zip(batch.columns()) {
            let Some((&(name, kind, _), to)) = COLUMNS.get(index).zip(cells.columns.get_mut(index))
            else {
                continue;
            };
            let column = Column {
                path,
                first,
                name,
                array,
            };
            *to = Some(match kind {
                Type::Number(low, high) => Values::Numbers(column.numbers(low, high)?),
                Type::Time => Values::Times(column.times()?),
                Type::Text(most) => Values::Texts(column.texts(most)?),
                Type::Flag => Values::Flags(column.flags()?),
            });
        }
        Ok(cells)
    }

    /// A number; `None`: nothing there.
    pub(super) fn number(&self, column: usize, row: usize) -> Option<u64> {
        match self.columns.get(column)? {
            Some(Values::Numbers(a)) if a.is_valid(row) => Some(a.value(row)),
            _ => None,
        }
    }

    /// Nanoseconds since 1970.
    pub(super) fn time(&self, column: usize, row: usize) -> Option<u64> {
        match self.columns.get(column)? {
            Some(Values::Times(a)) if a.is_valid(row) => u64::try_from(a.value(row)).ok(),
            _ => None,
        }
    }

    /// A text that is not empty.
    pub(super) fn text(&self, column: usize, row: usize) -> Option<&str> {
        match self.columns.get(column)? {
            Some(Values::Texts(a)) if a.is_valid(row) => {
                Some(a.value(row)).filter(|t| !t.is_empty())
            }
            _ => None,
        }
    }

    /// True or false.
    pub(super) fn flag(&self, column: usize, row: usize) -> Option<bool> {
        match self.columns.get(column)? {
            Some(Values::Flags(a)) if a.is_valid(row) => Some(a.value(row)),
            _ => None,
        }
    }
}

/// A column while it is read.
struct Column<'a> {
    path: &'a Path,
    /// Number of the batch's first row.
    first: u64,
    name: &'static str,
    array: &'a ArrayRef,
}

impl Column<'_> {
    fn numbers(&self, low: u64, high: u64) -> Result<UInt64Array, SourceError> {
        let expected =
            || format!("a whole number from {low} to {high}, or 0x and hexadecimal digits");
        let fits = |n: &u64| (low..=high).contains(n);
        match self.array.data_type() {
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
                let a = self.cast(&DataType::UInt64)?;
                let a = a.as_primitive::<UInt64Type>();
                self.each(|row| Some(a.value(row)).filter(fits), expected)
            }
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                let a = self.cast(&DataType::Int64)?;
                let a = a.as_primitive::<Int64Type>();
                let value = |row| u64::try_from(a.value(row)).ok().filter(fits);
                self.each(value, expected)
            }
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                let a = self.cast(&DataType::Float64)?;
                let a: &Float64Array = a.as_primitive::<Float64Type>();
                self.each(|row| whole(a.value(row)).filter(fits), expected)
            }
            _ => {
                let a = self.strings()?;
                self.cells(
                    |row| match a.value(row).trim() {
                        "" => Ok(None),
                        text => number(text).filter(fits).map(Some).ok_or(()),
                    },
                    expected,
                )
            }
        }
    }

    fn times(&self) -> Result<Int64Array, SourceError> {
        let expected = || {
            "a time from 1970 to 2262, like 2024-05-01T12:00:00.5Z, or nanoseconds since 1970"
                .into()
        };
        let scaled = |value: Option<i64>, ns: i64| {
            value.and_then(|v| v.checked_mul(ns)).filter(|ns| *ns >= 0)
        };
        macro_rules! of {
            ($type:ty, $array:expr, $ns:literal) => {{
                let a = $array.as_primitive::<$type>();
                self.each(|row| scaled(Some(a.value(row)), $ns), expected)
            }};
        }
        match self.array.data_type() {
            // A time zone changes how a moment is shown, not which one it is.
            DataType::Timestamp(TimeUnit::Second, _) => {
                of!(TimestampSecondType, self.array, 1_000_000_000)
            }
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                of!(TimestampMillisecondType, self.array, 1_000_000)
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                of!(TimestampMicrosecondType, self.array, 1_000)
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                of!(TimestampNanosecondType, self.array, 1)
            }
            DataType::Date32 | DataType::Date64 => {
                let ms = self.cast(&DataType::Timestamp(TimeUnit::Millisecond, None))?;
                of!(TimestampMillisecondType, ms, 1_000_000)
            }
            DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Dictionary(..) => {
                let a = self.strings()?;
                self.cells(
                    |row| match a.value(row).trim() {
                        "" => Ok(None),
                        text => scaled(moment(text), 1).map(Some).ok_or(()),
                    },
                    expected,
                )
            }
            DataType::Null => Ok(Int64Array::new_null(self.array.len())),
            _ => {
                let ns = self.numbers(0, i64::MAX as u64)?;
                Ok(ns
                    .iter()
                    .map(|n| n.and_then(|n| i64::try_from(n).ok()))
                    .collect())
            }
        }
    }

    fn texts(&self, most: usize) -> Result<StringArray, SourceError> {
        let texts = self.strings()?;
        for row in 0..texts.len() {
            let len = texts.value_length(row) as usize;
            if texts.is_valid(row) && len > most {
                let found = format!("{len} bytes: {:?}", shown(texts.value(row)));
                return Err(self.bad(row, format!("a text of at most {most} bytes"), found));
            }
        }
        Ok(texts)
    }

    fn flags(&self) -> Result<BooleanArray, SourceError> {
        if let Some(flags) = self.array.as_boolean_opt() {
            return Ok(flags.clone());
        }
        let texts = self.strings()?;
        let mut flags = Vec::with_capacity(texts.len());
        for row in 0..texts.len() {
            let text = if texts.is_valid(row) {
                texts.value(row)
            } else {
                ""
            };
            flags.push(match text.trim().to_ascii_lowercase().as_str() {
                "" => None,
                "true" | "t" | "yes" | "1" => Some(true),
                "false" | "f" | "no" | "0" => Some(false),
                _ => return Err(self.bad(row, "true or false".into(), self.found(row))),
            });
        }
        Ok(flags.into())
    }

    /// Texts, and everything that has a usual form as one.
    fn strings(&self) -> Result<StringArray, SourceError> {
        let texts = self.cast(&DataType::Utf8)?;
        Ok(texts.as_string::<i32>().clone())
    }

    fn cast(&self, to: &DataType) -> Result<ArrayRef, SourceError> {
        let options = CastOptions {
            safe: true,
            ..CastOptions::default()
        };
        let simple = !self.array.data_type().is_nested()
            || matches!(self.array.data_type(), DataType::Dictionary(..));
        let cast = match simple {
            true => cast_with_options(self.array, to, &options).ok(),
            false => None,
        };
        // What does not fit becomes null: it must not pass for nothing.
        match cast {
            Some(cast) if cast.logical_null_count() == self.array.logical_null_count() => Ok(cast),
            _ => Err(SourceError::format(
                self.path,
                format!("numbers, texts or times in column {}", self.name),
                format!("{} in rows from {}", self.array.data_type(), self.first),
            )),
        }
    }

    /// `value` of every row in which there is something.
    fn each<T: arrow::datatypes::ArrowPrimitiveType>(
        &self,
        value: impl Fn(usize) -> Option<T::Native>,
        expected: impl Fn() -> String,
    ) -> Result<arrow::array::PrimitiveArray<T>, SourceError> {
        self.cells(|row| value(row).map(Some).ok_or(()), expected)
    }

    /// The same, where a value may be nothing after all; `Err`: it is not as expected.
    fn cells<T: arrow::datatypes::ArrowPrimitiveType>(
        &self,
        value: impl Fn(usize) -> Result<Option<T::Native>, ()>,
        expected: impl Fn() -> String,
    ) -> Result<arrow::array::PrimitiveArray<T>, SourceError> {
        let nulls = self.array.logical_nulls();
        let mut values = Vec::with_capacity(self.array.len());
        for row in 0..self.array.len() {
            values.push(match nulls.as_ref().is_some_and(|n| n.is_null(row)) {
                true => None,
                false => value(row).map_err(|()| self.bad(row, expected(), self.found(row)))?,
            });
        }
        Ok(values.into_iter().collect())
    }

    fn bad(&self, row: usize, expected: String, found: String) -> SourceError {
        SourceError::Value {
            path: self.path.into(),
            row: self.first + row as u64,
            column: self.name,
            expected,
            found,
        }
    }

    fn found(&self, row: usize) -> String {
        let text = array_value_to_string(self.array, row).unwrap_or_default();
        format!("{:?}", shown(&text))
    }
}

/// A whole number that a floating-point one holds exactly.
fn whole(value: f64) -> Option<u64> {
    (value.fract() == 0.0 && (0.0..=EXACT).contains(&value)).then_some(value as u64)
}

/// Decimal, `0x` and hexadecimal, or a whole floating-point number.
fn number(text: &str) -> Option<u64> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        // from_str_radix would take a sign.
        let hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
        return u64::from_str_radix(digits, 16).ok().filter(|_| hex);
    }
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) if text.bytes().all(|b| b.is_ascii_digit()) => None,
        Err(_) => text.parse().ok().and_then(whole),
    }
}

/// Nanoseconds since 1970 of an ISO 8601 time (UTC where it does not say), or such a number.
fn moment(text: &str) -> Option<i64> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok();
    }
    text.is_ascii()
        .then(|| string_to_timestamp_nanos(text).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal_hexadecimal_or_whole() {
        let good = [
            ("0", 0),
            ("18446744073709551615", u64::MAX),
            ("0x7fff", 0x7fff),
            ("0XFf", 255),
            ("5.0", 5),
            ("1e3", 1000),
            ("+7", 7),
        ];
        for (text, n) in good {
            assert_eq!(number(text), Some(n), "{text}");
        }
        for text in [
            "",
            "-1",
            "0x",
            "0x+1",
            "0x1g",
            "18446744073709551616",
            "5.5",
            "1e30",
            "NaN",
            "inf",
            "abc",
            "1 2",
        ] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn moments_are_utc_unless_they_say_otherwise() {
        let half = 1_700_000_000_500_000_000;
        for text in [
            "2023-11-14T22:13:20.5Z",
            "2023-11-14 22:13:20.5",
            "2023-11-15T00:13:20.5+02:00",
            "1700000000500000000",
        ] {
            assert_eq!(moment(text), Some(half), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2023-11-14T25:00:00Z",
            "2023-11-14T22:13:20\u{e9}",
            "99999999999999999999",
            "12:30",
        ] {
            assert_eq!(moment(text), None, "{text:?}");
        }
    }
}
