//! An operator as a table function: `_name(condition, ..)`.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Column, Result, ScalarValue, internal_err, plan_err};
use datafusion::datasource::{TableType, ViewTable};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, TableProviderFilterPushDown,
};
use datafusion::physical_plan::ExecutionPlan;

use crate::range::SeqRange;

use super::exec::{Known, OperatorExec};
use super::stretches::Files;
use super::{Make, Operator, plan};

/// A function of SQL that gives an operator's rows.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) make: Make,
}

impl Debug for Function {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl TableFunctionImpl for Function {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let literal = |e: &Expr| match e {
            Expr::Literal(value, _) => Ok(value.clone()),
            other => plan_err!("{}: arguments are constants, found {other}", self.name),
        };
        let values = args
            .exprs()
            .iter()
            .map(literal)
            .collect::<Result<Vec<_>>>()?;
        let Some((condition, rest)) = values.split_first() else {
            return plan_err!("{} wants a condition as its first argument", self.name);
        };
        let operator = (self.make)(rest)?;
        let mut input = plan::references(args.session(), text(condition)?, operator.reads())?;
        if let Some(only) = operator.takes_only() {
            input = LogicalPlanBuilder::from(input).filter(only)?.build()?;
        }
        let beside = operator
            .beside()
            .map(|sql| plan::statement(args.session(), sql))
            .transpose()?;
        Ok(Arc::new(OperatorTable {
            operator,
            input,
            beside,
        }))
    }
}

/// `_references(condition)`: the rows of `page_references` for which a condition, given as text, is true.
#[derive(Debug)]
pub(crate) struct ReferencesWhere;

impl TableFunctionImpl for ReferencesWhere {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let [Expr::Literal(condition, _)] = args.exprs() else {
            return plan_err!("_references takes a condition");
        };
        let plan = plan::references_where(args.session(), "*", text(condition)?)?;
        Ok(Arc::new(ViewTable::new(plan, None)))
    }
}

/// A text argument; null is the empty text.
pub(crate) fn text(value: &ScalarValue) -> Result<&str> {
    match value.try_as_str() {
        Some(found) => Ok(found.unwrap_or_default()),
        None => plan_err!("expected a text, found {value}"),
    }
}

/// An operator over the references that its condition admits.
#[derive(Debug)]
struct OperatorTable {
    operator: Arc<dyn Operator>,
    input: LogicalPlan,
    /// The small table that the operator reads besides.
    beside: Option<LogicalPlan>,
}

impl OperatorTable {
    /// Whether `filter` may be applied to the input instead.
    fn passes(&self, filter: &Expr) -> bool {
        let by = self.operator.splits_by();
        let columns = filter.column_refs();
        !filter.is_volatile()
            && !columns.is_empty()
            && columns.iter().all(|c| by.contains(&c.name.as_str()))
    }
}

/// Columns of `input`.
fn of(input: &LogicalPlan, columns: &[&str]) -> Result<LogicalPlan> {
    let columns = columns.iter().copied();
    let columns = columns.map(|name| Expr::Column(Column::new_unqualified(name)));
    LogicalPlanBuilder::from(input.clone())
        .project(columns)?
        .build()
}

/// The same session, but that conditions are evaluated while files are read: what is left of a plan then only reads
/// files, and can be divided.
fn while_reading(state: &dyn Session) -> Result<SessionState> {
    let Some(state) = state.as_any().downcast_ref::<SessionState>() else {
        return internal_err!("an operator is planned by a session of another kind");
    };
    let mut state = state.clone();
    state
        .config_mut()
        .options_mut()
        .execution
        .parquet
        .pushdown_filters = true;
    Ok(state)
}

/// Plans of the stretches of `input` that end before each of `cuts`, and of what follows the last.
async fn stretches(
    state: &dyn Session,
    input: &LogicalPlan,
    cuts: &[u64],
) -> Result<Vec<Arc<dyn ExecutionPlan>>> {
    let ends = cuts.iter().copied().map(Some).chain([None]);
    let mut from = None;
    let mut plans = Vec::new();
    for to in ends {
        let mut stretch = LogicalPlanBuilder::from(input.clone());
        if let Some(within) = (SeqRange { from, to }).expr() {
            stretch = stretch.filter(within)?;
        }
        plans.push(state.create_physical_plan(&stretch.build()?).await?);
        from = to;
    }
    Ok(plans)
}

#[async_trait]
impl TableProvider for OperatorTable {
    fn schema(&self) -> SchemaRef {
        self.operator.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match self.passes(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut input = self.input.clone();
        for filter in filters.iter().filter(|f| self.passes(f)) {
            let filter = plan::over_references(filter.clone())?;
            input = LogicalPlanBuilder::from(input).filter(filter)?.build()?;
        }
        let state = &while_reading(state)?;
        let files = Files::of(&state.create_physical_plan(&input).await?)?;
        let all: Vec<usize> = (0..self.operator.schema().fields().len()).collect();
        let reads = self.operator.reads_for(projection.unwrap_or(&all));
        let capture = files.capture().map(Arc::from);
        let threads = state.config().target_partitions();
        let in_stretches = self.operator.in_stretches();
        // In one stretch, several partitions are decoded side by side and put in order by the operator.
        let count = if in_stretches {
            files.count(threads)
        } else {
            1
        };
        let divided = match count > 1 || threads == 1 {
            true => {
                let plan = state.create_physical_plan(&of(&input, &reads)?).await?;
                files.divide(&plan, count)?
            }
            false => None,
        };
        let ordered = divided.is_some();
        let inputs = match divided {
            Some(inputs) => inputs,
            None => {
                // What puts references in order comes first.
                let id = capture.is_none().then_some("capture_id");
                let order = id.into_iter().chain(["seq"]);
                let rest = reads.into_iter().filter(|name| *name != "seq");
                let input = of(&input, &order.chain(rest).collect::<Vec<_>>())?;
                let cuts = match in_stretches {
                    true => files.cuts(threads),
                    false => Vec::new(),
                };
                stretches(state, &input, &cuts).await?
            }
        };
        let beside = match &self.beside {
            Some(plan) => Some(state.create_physical_plan(plan).await?),
            None => None,
        };
        Ok(Arc::new(OperatorExec::new(
            Arc::clone(&self.operator),
            inputs,
            beside,
            Known {
                capture,
                ordered,
                extents: files.extents().into(),
            },
            projection.cloned(),
        )?))
    }
}
