//! Analyses of the reference string that SQL cannot express well: each is one pass over references in order of `seq`.
//!
//! An operator is a table function whose name begins with `_`; its first argument says which references it takes.
//! The views of `sql/` ask operators and name their columns; nobody else does. `DESIGN`: a view belongs to users, an
//! operator to views.

mod curves;
mod exec;
mod gap_histogram;
mod input;
mod inputs;
mod losses;
mod memory;
mod names;
mod page_gaps;
mod pages;
mod pass;
mod patterns;
mod phases;
mod plan;
mod references;
mod relation;
mod reuse;
mod sampled;
mod spans;
mod stretches;
mod table;
mod tally;
mod texts;
mod touches;
mod windows;

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::Expr;
use datafusion::prelude::SessionContext;
use tokio::sync::mpsc::Sender;

pub(crate) use self::plan::statement;

use self::inputs::Inputs;
use self::memory::Memory;

/// Rows of a batch that an operator gives.
pub(crate) const BATCH: usize = 8192;

/// One analysis, with its arguments.
pub(crate) trait Operator: Debug + Send + Sync {
    /// Its name, as in SQL.
    fn name(&self) -> &'static str;

    /// What it gives.
    fn schema(&self) -> SchemaRef;

    /// Columns of `page_references` that it reads, besides `capture_id`.
    fn reads(&self) -> &'static [&'static str];

    /// As [`Operator::reads`], where only some of its columns are wanted, by their numbers.
    fn reads_for(&self, _wanted: &[usize]) -> Vec<&'static str> {
        self.reads().to_vec()
    }

    /// Columns it gives by which its input may be filtered instead, with the same result. One capture's references say
    /// nothing of another's.
    fn splits_by(&self) -> &'static [&'static str] {
        &["capture_id"]
    }

    /// What is true of all references that matter to it; `None`: any may.
    fn takes_only(&self) -> Option<Expr> {
        None
    }

    /// A small table that it wants whole besides, as SQL.
    fn beside(&self) -> Option<&'static str> {
        None
    }

    /// Whether it may read a capture in stretches, on several threads.
    fn in_stretches(&self) -> bool {
        false
    }

    /// Reads `input` to its end and gives rows to `output`. Runs on a thread of its own, and may block.
    ///
    /// # Errors
    /// Those of the input, and memory that does not suffice.
    fn run(&self, input: &mut Inputs, output: &mut Output, memory: &Memory) -> Result<()>;
}

/// Makes an operator of the arguments behind the first.
type Make = fn(&[ScalarValue]) -> Result<Arc<dyn Operator>>;

/// The operators: name, and how to make one.
const ALL: [(&str, Make); 14] = [
    (gap_histogram::NAME, gap_histogram::make),
    (page_gaps::NAME, page_gaps::make),
    (patterns::NAME, patterns::make),
    (phases::NAME, phases::make),
    (relation::PAIR, relation::pair),
    (relation::MATRIX, relation::matrix),
    (reuse::DISTANCES, reuse::distances),
    (reuse::COUNTS, reuse::counts),
    (reuse::MISSES, reuse::misses),
    (sampled::NAME, sampled::make),
    (spans::WORKING_SET_CURVE, spans::working_set_curve),
    (spans::AET_CURVE, spans::aet_curve),
    (tally::NAME, tally::make),
    (windows::NAME, windows::make),
];

/// Makes the operators known to SQL.
pub(crate) fn register(ctx: &SessionContext) {
    ctx.register_udtf("_references", Arc::new(table::ReferencesWhere));
    for (name, make) in ALL {
        ctx.register_udtf(name, Arc::new(table::Function { name, make }));
    }
}

/// Where an operator's rows go.
pub(crate) struct Output {
    to: Sender<Result<RecordBatch>>,
    /// Columns that are wanted; of others anything may be given that fits the schema.
    wanted: Arc<[usize]>,
}

impl Output {
    /// Gives rows on. `false`: nobody wants more.
    pub(crate) fn give(&mut self, batch: RecordBatch) -> bool {
        batch.num_rows() == 0 || self.to.blocking_send(Ok(batch)).is_ok()
    }

    /// Whether a column is wanted.
    pub(crate) fn wants(&self, column: usize) -> bool {
        self.wanted.contains(&column)
    }

    /// For another thread.
    pub(crate) fn another(&self) -> Self {
        Self {
            to: self.to.clone(),
            wanted: Arc::clone(&self.wanted),
        }
    }

    /// Whether nobody wants more.
    pub(crate) fn closed(&self) -> bool {
        self.to.is_closed()
    }
}

/// The type of `ts` in what operators give.
fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

/// Whether a column is among those that are wanted, by their numbers.
fn is_wanted(schema: &SchemaRef, wanted: &[usize], column: &str) -> bool {
    let number = schema.index_of(column);
    number.is_ok_and(|number| wanted.contains(&number))
}

/// For operators that take a condition and nothing else.
fn no_arguments(name: &str, arguments: &[ScalarValue]) -> Result<()> {
    match arguments.first() {
        None => Ok(()),
        Some(extra) => plan_err!("{name} takes a condition and nothing else, found {extra}"),
    }
}
