//! `SELECT text, count(*) .. GROUP BY text`: how often each text comes, without a look at the rows.
//!
//! A batch holds its texts once, and each row the number of one: counting these numbers is all that is left to do for a
//! row. The engine's grouping hashes each row's group and adds to its aggregate, several times as much.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, Int64Array, StructArray,
};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int32Type, Int64Type};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{
    Column, NullHandling, Result, ScalarValue, UnnestOptions, exec_datafusion_err,
};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, Aggregate, AggregateUDF, AggregateUDFImpl, Expr, LogicalPlan, Projection,
    ScalarUDF, Signature, Unnest, Volatility,
};

use crate::numbered::{Function, Texts, dictionary};

/// Column of the counts in the plan.
const COUNTS: &str = "__counts";

/// A text's number and how many rows have it, in what [`Counts`] returns.
const NUMBER: &str = "number";
const ROWS: &str = "rows";

/// Whether an aggregate, which groups by a dictionary, is answered by [`counted`].
pub(crate) fn concerns(aggregate: &Aggregate) -> bool {
    aggregate.group_expr.len() == 1
        && match aggregate.aggr_expr.as_slice() {
            [] => true,
            [count] => is_count_of_rows(count),
            _ => false,
        }
}

fn is_count_of_rows(e: &Expr) -> bool {
    let Expr::AggregateFunction(AggregateFunction { func, params }) = e.clone().unalias() else {
        return false;
    };
    let of_rows = |arg: &Expr| matches!(arg, Expr::Literal(value, _) if !value.is_null());
    func.name() == "count"
        && !params.distinct
        && params.filter.is_none()
        && params.order_by.is_empty()
        && params.args.iter().all(of_rows)
}

/// The same rows as those of `aggregate`.
pub(crate) fn counted(aggregate: Aggregate) -> Result<LogicalPlan> {
    let schema = Arc::clone(&aggregate.schema);
    let texts = Arc::new(Texts::default());
    let counts = AggregateUDF::new_from_impl(Counts {
        texts: Arc::clone(&texts),
        signature: Signature::exact(vec![dictionary()], Volatility::Immutable),
    });
    let text = ScalarUDF::new_from_impl(Function::new(false, &texts));
    let counts = counts.call(aggregate.group_expr).alias(COUNTS);
    let whole = Aggregate::try_new(aggregate.input, Vec::new(), vec![counts])?;
    let column = Column::new_unqualified(COUNTS);
    let options = UnnestOptions {
        null_handling: NullHandling::Drop,
        ..UnnestOptions::default()
    };
    let whole = Arc::new(LogicalPlan::Aggregate(whole));
    let groups = Unnest::try_new(whole, vec![column.clone()], options)?;
    let of = |name: &str| get_field(Expr::Column(column.clone()), name);
    let output = [text.call(vec![of(NUMBER)]), of(ROWS)];
    let named = output.into_iter().zip(schema.iter());
    let named = named.map(|(e, (to, field))| e.alias_qualified(to.cloned(), field.name()));
    let groups = Arc::new(LogicalPlan::Unnest(groups));
    Projection::try_new(named.collect(), groups).map(LogicalPlan::Projection)
}

/// `_counts(text)`: a list of the texts' numbers in `texts` and how many rows have each.
#[derive(Debug)]
struct Counts {
    texts: Arc<Texts>,
    signature: Signature,
}

// The same function only with the same texts.
impl PartialEq for Counts {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.texts, &other.texts)
    }
}

impl Eq for Counts {}

impl Hash for Counts {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.texts).hash(state);
    }
}

fn fields() -> Fields {
    Fields::from(vec![
        Field::new(NUMBER, DataType::Int32, true),
        Field::new(ROWS, DataType::Int64, false),
    ])
}

fn list() -> DataType {
    DataType::new_list(DataType::Struct(fields()), true)
}

impl AggregateUDFImpl for Counts {
    fn name(&self) -> &str {
        "_counts"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(list())
    }

    fn is_nullable(&self) -> bool {
        false
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Counter {
            texts: Arc::clone(&self.texts),
            rows: Vec::new(),
            nulls: 0,
        }))
    }

    fn state_fields(&self, _: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(COUNTS, list(), false))])
    }
}

#[derive(Debug)]
struct Counter {
    texts: Arc<Texts>,
    /// By the text's number.
    rows: Vec<i64>,
    nulls: i64,
}

impl Counter {
    fn add(&mut self, number: i32, rows: i64) {
        let at = number as usize;
        if at >= self.rows.len() {
            self.rows.resize(at + 1, 0);
        }
        self.rows[at] += rows;
    }

    fn whole(&self) -> Result<ScalarValue> {
        let texts = self.rows.iter().enumerate().filter(|(_, rows)| **rows > 0);
        let texts = texts.map(|(number, rows)| (Some(number as i32), *rows));
        let nulls = (self.nulls > 0).then_some((None, self.nulls));
        let (numbers, rows): (Vec<_>, Vec<_>) = texts.chain(nulls).unzip();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(numbers)),
            Arc::new(Int64Array::from(rows)),
        ];
        let groups = StructArray::try_new(fields(), columns, None)?;
        Ok(SingleRowListArrayBuilder::new(Arc::new(groups)).build_list_scalar())
    }
}

/// How often each of the numbers below `values` comes.
fn histogram(numbers: &[i32], values: usize) -> Vec<u32> {
    // Equal numbers often follow each other, and a counter takes a while until it can be added to again: there are four of
    // each, where they are few.
    const LANES: usize = 4;
    const FEW: usize = 1 << 10;
    let lanes = if values <= FEW { LANES } else { 1 };
    let mut counts = vec![0u32; values * lanes];
    for (row, &number) in numbers.iter().enumerate() {
        let lane = row % LANES % lanes;
        if let Some(count) = counts.get_mut(lane * values + number as usize) {
            *count += 1;
        }
    }
    let (first, others) = counts.split_at_mut(values);
    for lane in others.chunks(values.max(1)) {
        first.iter_mut().zip(lane).for_each(|(sum, n)| *sum += n);
    }
    counts.truncate(values);
    counts
}

impl Accumulator for Counter {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let column = values
            .first()
            .and_then(|c| c.as_dictionary_opt::<Int32Type>());
        let texts = column.and_then(|c| c.values().as_string_opt::<i32>());
        let (Some(column), Some(texts)) = (column, texts) else {
            return Err(exec_datafusion_err!("_counts takes a dictionary of texts"));
        };
        let counts = match column
            .logical_nulls()
            .filter(|nulls| nulls.null_count() > 0)
        {
            None => histogram(column.keys().values(), texts.len()),
            Some(nulls) => {
                self.nulls += nulls.null_count() as i64;
                histogram(&valid(column, |row| nulls.is_valid(row)), texts.len())
            }
        };
        for (key, rows) in counts.into_iter().enumerate().filter(|(_, rows)| *rows > 0) {
            let number = self.texts.number(texts.value(key))?;
            self.add(number, i64::from(rows));
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = states.first().and_then(|s| s.as_list_opt::<i32>());
        for groups in lists.into_iter().flat_map(|lists| lists.iter()).flatten() {
            let groups = groups.as_struct();
            let numbers = groups.column(0).as_primitive::<Int32Type>();
            let rows = groups.column(1).as_primitive::<Int64Type>();
            for (number, rows) in numbers.iter().zip(rows.values()) {
                match number {
                    Some(number) => self.add(number, *rows),
                    None => self.nulls += rows,
                }
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.whole()?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.whole()
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.rows.capacity() * size_of::<i64>()
    }
}

/// The numbers of the rows that have a text.
fn valid(column: &DictionaryArray<Int32Type>, is_valid: impl Fn(usize) -> bool) -> Vec<i32> {
    let rows = column.keys().values().iter().enumerate();
    rows.filter(|(row, _)| is_valid(*row))
        .map(|(_, key)| *key)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::histogram;

    proptest! {
        #[test]
        fn a_histogram_counts(numbers in prop::collection::vec(0..2_000i32, 0..500), below in 1..2_000i32) {
            let numbers: Vec<i32> = numbers.into_iter().map(|n| n % below).collect();
            let counts = histogram(&numbers, below as usize);
            prop_assert_eq!(counts.len(), below as usize);
            for (number, count) in counts.into_iter().enumerate() {
                let expected = numbers.iter().filter(|n| **n as usize == number).count();
                prop_assert_eq!(count as usize, expected);
            }
        }
    }
}
