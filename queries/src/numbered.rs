//! Grouping by texts that repeat: numbers stand for them meanwhile.
//!
//! The engine groups a dictionary column by the text of every row. `GROUP BY path` becomes a grouping by a number of the path,
//! which is found once a batch for each text in it, and a projection that puts the text back. Texts that were grouped by are
//! kept in memory until the query ends; they are as few as the groups or fewer.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, PoisonError, RwLock};

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int32Array, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result, exec_datafusion_err, exec_err};
use datafusion::logical_expr::{
    Aggregate, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Projection, ReturnFieldArgs,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use datafusion::prelude::SessionContext;

use crate::counts;

/// Makes the engine group so.
pub(crate) fn register(ctx: &SessionContext) {
    ctx.add_optimizer_rule(Arc::new(GroupByNumbers));
}

#[derive(Debug)]
struct GroupByNumbers;

impl OptimizerRule for GroupByNumbers {
    fn name(&self) -> &str {
        "group_by_numbers"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Aggregate(aggregate) if concerns(&aggregate)? => {
                let same = match counts::concerns(&aggregate) {
                    true => counts::counted(aggregate),
                    false => numbered(aggregate),
                };
                same.map(Transformed::yes)
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

fn is_dictionary(of: &DataType) -> bool {
    *of == dictionary()
}

pub(crate) fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// Whether there is a dictionary among what an aggregate groups by.
fn concerns(aggregate: &Aggregate) -> Result<bool> {
    let sets = |e: &Expr| matches!(e, Expr::GroupingSet(_));
    if aggregate.group_expr.iter().any(sets) {
        return Ok(false);
    }
    for e in &aggregate.group_expr {
        if is_dictionary(&e.get_type(aggregate.input.schema())?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The same rows, grouped by numbers.
fn numbered(aggregate: Aggregate) -> Result<LogicalPlan> {
    let schema = Arc::clone(&aggregate.schema);
    let mut groups = Vec::new();
    let mut output = Vec::new();
    for (i, e) in aggregate.group_expr.into_iter().enumerate() {
        let (qualifier, field) = schema.qualified_field(i);
        if is_dictionary(field.data_type()) {
            let texts = Arc::new(Texts::default());
            let number = ScalarUDF::new_from_impl(Function::new(true, &texts));
            let text = ScalarUDF::new_from_impl(Function::new(false, &texts));
            let name = format!("__number_{i}");
            let known = Expr::Column(Column::new_unqualified(&name));
            groups.push(number.call(vec![e]).alias(name));
            output.push(
                text.call(vec![known])
                    .alias_qualified(qualifier.cloned(), field.name()),
            );
        } else {
            groups.push(e);
            output.push(Expr::Column(Column::new(qualifier.cloned(), field.name())));
        }
    }
    for (qualifier, field) in schema.iter().skip(groups.len()) {
        output.push(Expr::Column(Column::new(qualifier.cloned(), field.name())));
    }
    let aggregate = Aggregate::try_new(aggregate.input, groups, aggregate.aggr_expr)?;
    let input = Arc::new(LogicalPlan::Aggregate(aggregate));
    Projection::try_new(output, input).map(LogicalPlan::Projection)
}

/// Texts, numbered as they come.
#[derive(Debug, Default)]
pub(crate) struct Texts(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    numbers: HashMap<Arc<str>, i32>,
    texts: Vec<Arc<str>>,
}

impl Texts {
    pub(crate) fn number(&self, text: &str) -> Result<i32> {
        // Nothing panics with the lock held.
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = known.numbers.get(text) {
            return Ok(*number);
        }
        drop(known);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = known.numbers.get(text) {
            return Ok(*number);
        }
        let number = i32::try_from(known.texts.len())
            .map_err(|_| exec_datafusion_err!("more than 2^31 texts to group by"))?;
        let text: Arc<str> = text.into();
        known.texts.push(Arc::clone(&text));
        known.numbers.insert(text, number);
        Ok(number)
    }

    fn numbers(&self, column: &DictionaryArray<Int32Type>) -> Result<Int32Array> {
        let Some(texts) = column.values().as_string_opt::<i32>() else {
            return exec_err!("a dictionary of {} is not grouped by", column.value_type());
        };
        const UNKNOWN: i32 = -1;
        // A text that no row has is not looked up: a dictionary may be that of a whole row group.
        let mut known = vec![UNKNOWN; texts.len()];
        let nulls = column.logical_nulls();
        let mut numbers = Vec::with_capacity(column.len());
        for (row, key) in column.keys().values().iter().enumerate() {
            let key = *key as usize;
            let mut number = known.get(key).copied().unwrap_or(UNKNOWN);
            if number == UNKNOWN {
                number = 0;
                if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
                    number = self.number(texts.value(key))?;
                    known[key] = number;
                }
            }
            numbers.push(number);
        }
        Ok(Int32Array::new(numbers.into(), nulls))
    }

    fn texts(&self, numbers: &Int32Array) -> Result<ArrayRef> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut keys: HashMap<i32, i32> = HashMap::new();
        let mut texts = Vec::new();
        let mut key = |number: i32| {
            *keys.entry(number).or_insert_with(|| {
                texts.push(known.texts.get(number as usize).map(Arc::as_ref));
                texts.len() as i32 - 1
            })
        };
        let keys: Int32Array = numbers.iter().map(|n| n.map(&mut key)).collect();
        let texts: StringArray = texts.into_iter().collect();
        Ok(Arc::new(DictionaryArray::try_new(keys, Arc::new(texts))?))
    }
}

/// `_number(text)` and, back again, `_text(number)`.
#[derive(Debug)]
pub(crate) struct Function {
    to_number: bool,
    texts: Arc<Texts>,
    signature: Signature,
}

impl Function {
    pub(crate) fn new(to_number: bool, texts: &Arc<Texts>) -> Self {
        let takes = if to_number {
            dictionary()
        } else {
            DataType::Int32
        };
        Self {
            to_number,
            texts: Arc::clone(texts),
            signature: Signature::exact(vec![takes], Volatility::Immutable),
        }
    }
}

// The same function only with the same texts.
impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.to_number == other.to_number && Arc::ptr_eq(&self.texts, &other.texts)
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.to_number, Arc::as_ptr(&self.texts)).hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        if self.to_number { "_number" } else { "_text" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(if self.to_number {
            DataType::Int32
        } else {
            dictionary()
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        let kind = self.return_type(&[])?;
        Ok(Arc::new(Field::new(self.name(), kind, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [column] = args.args.as_slice() else {
            return exec_err!("{} takes one column", self.name());
        };
        let column = column.to_array(args.number_rows)?;
        let found = if self.to_number {
            let column = column.as_dictionary_opt::<Int32Type>();
            column.map(|c| Ok(Arc::new(self.texts.numbers(c)?) as ArrayRef))
        } else {
            let column = column.as_primitive_opt::<Int32Type>();
            column.map(|c| self.texts.texts(c))
        };
        match found {
            Some(found) => found.map(ColumnarValue::Array),
            None => exec_err!("{} does not take a column of its type", self.name()),
        }
    }
}
