//! `cut(from, to)`: the rows of `refs` from one moment on and before another.
//!
//! A moment is an offset from its capture's start (`'2s'`) or a timestamp; null or `''` leaves that end open.

use std::sync::Arc;

use arrow::array::RecordBatchOptions;
use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder};

use crate::range::{Moment, TimeRange};
use crate::session::{Scope, Starts};

#[derive(Debug)]
struct Cut {
    refs: Arc<dyn TableProvider>,
    starts: Starts,
}

pub(super) fn register(scope: &Scope<'_>) {
    let cut = Cut {
        refs: Arc::clone(scope.refs),
        starts: scope.starts.clone(),
    };
    scope.context.register_udtf("cut", Arc::new(cut));
}

impl TableFunctionImpl for Cut {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let [from, to] = two(&args, "cut", "'2s', '5s'")?;
        let range = TimeRange {
            from: moment(from)?,
            to: moment(to)?,
        };
        if let Err(wrong) = range.check() {
            return plan_err!("cut(from, to): {wrong}");
        }
        let starts: &[_] = match (&*self.starts, range.is_relative()) {
            (Ok(starts), _) => starts,
            (Err(_), false) => &[],
            (Err(why), true) => {
                return plan_err!("cut(from, to): where the recordings begin is not known: {why}");
            }
        };
        filtered(&self.refs, range.expr(starts))
    }
}

fn moment(value: ScalarValue) -> Result<Option<Moment>> {
    if value.is_null() {
        return Ok(None);
    }
    if value.data_type().is_temporal()
        && let ScalarValue::TimestampNanosecond(Some(ns), _) = value.cast_to(
            &DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, None),
        )?
    {
        return Ok(Some(Moment::At(ns)));
    }
    let text = value.to_string();
    match text.trim() {
        "" => Ok(None),
        text => match text.parse() {
            Ok(moment) => Ok(Some(moment)),
            Err(wrong) => plan_err!("cut(from, to): {wrong}"),
        },
    }
}

/// The two arguments of a function that is called like `NAME(EXAMPLE)`, worked out.
pub(super) fn two(
    args: &TableFunctionArgs<'_, '_>,
    name: &str,
    example: &str,
) -> Result<[ScalarValue; 2]> {
    let [from, to] = args.exprs() else {
        let found = args.exprs().len();
        return plan_err!(
            "{name}(from, to) takes two arguments, as in {name}({example}), found {found}"
        );
    };
    Ok([
        constant(from, args.session(), name)?,
        constant(to, args.session(), name)?,
    ])
}

/// The value of an expression without columns.
fn constant(expr: &Expr, session: &dyn Session, name: &str) -> Result<ScalarValue> {
    if let Expr::Literal(value, _) = expr {
        return Ok(value.clone());
    }
    if expr.any_column_refs() {
        return plan_err!("{name}(from, to) takes constants, found {expr}");
    }
    let one_row = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        vec![],
        &RecordBatchOptions::new().with_row_count(Some(1)),
    )?;
    let physical = session.create_physical_expr(expr.clone(), &DFSchema::empty())?;
    let value = physical.evaluate(&one_row)?.into_array(1)?;
    ScalarValue::try_from_array(&value, 0)
}

/// The rows of `refs` that are so, as a view: filters and columns asked for are pushed down as in `refs`.
pub(super) fn filtered(
    refs: &Arc<dyn TableProvider>,
    filter: Option<Expr>,
) -> Result<Arc<dyn TableProvider>> {
    let plan = LogicalPlanBuilder::scan("refs", provider_as_source(Arc::clone(refs)), None)?;
    let plan = match filter {
        Some(filter) => plan.filter(filter)?,
        None => plan,
    };
    Ok(Arc::new(ViewTable::new(plan.build()?, None)))
}
