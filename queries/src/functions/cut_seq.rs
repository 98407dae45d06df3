//! `cut_seq(from, to)`: the rows of `refs` from one number on and before another; null leaves that end open.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue, plan_err};

use super::cut::{filtered, two};
use crate::range::SeqRange;
use crate::session::Scope;

#[derive(Debug)]
struct CutSeq {
    refs: Arc<dyn TableProvider>,
}

pub(super) fn register(scope: &Scope<'_>) {
    let refs = Arc::clone(scope.refs);
    scope
        .context
        .register_udtf("cut_seq", Arc::new(CutSeq { refs }));
}

impl TableFunctionImpl for CutSeq {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let [from, to] = two(&args, "cut_seq", "1000, 2000")?;
        let range = SeqRange {
            from: number(from)?,
            to: number(to)?,
        };
        match range.check() {
            Ok(()) => filtered(&self.refs, range.expr()),
            Err(wrong) => plan_err!("cut_seq(from, to): {wrong}"),
        }
    }
}

fn number(value: ScalarValue) -> Result<Option<u64>> {
    let text = value.to_string();
    if value.is_null() || text.trim().is_empty() {
        return Ok(None);
    }
    let whole = value.data_type().is_integer() || value.data_type().is_string();
    match value.cast_to(&DataType::UInt64) {
        Ok(ScalarValue::UInt64(number @ Some(_))) if whole => Ok(number),
        _ => {
            plan_err!("cut_seq(from, to): expected a number of a reference like 1000, found {text}")
        }
    }
}
