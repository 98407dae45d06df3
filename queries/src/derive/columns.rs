//! SQL over the columns of `refs`, and over a few more that each row has through its process or its number.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{AsArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, UInt64Type};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, Result, ScalarValue, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Operator, ScalarUDF, Volatility, binary_expr, col,
    create_udf, lit,
};
use datafusion::prelude::SessionContext;
use pgtrace_ingest::schema::Table;

use super::DeriveError;
use crate::error::closest;
use crate::session::Session;

/// What a process is known by, in the table `processes`.
const OF_PROCESS: [&str; 3] = ["cwd", "cgroup", "exe"];

/// Columns that an expression may name: those of `refs`, `cwd`, `cgroup` and `exe` of the row's process, and `slice`, the
/// number of its slice.
pub struct Columns {
    context: SessionContext,
    schema: DFSchema,
    refs: DFSchema,
    slice_rows: u64,
    of_process: HashMap<&'static str, Arc<ScalarUDF>>,
}

/// A process: its capture, and its incarnation in it.
type Process = (Arc<str>, u64);

impl Columns {
    /// Reads what the columns need, if one of `expressions` may name one.
    pub(super) async fn load(
        session: &Session,
        expressions: impl Iterator<Item = &str>,
    ) -> Result<Self, DeriveError> {
        let refs = Table::Refs.arrow_schema();
        let more = OF_PROCESS.map(|name| Field::new(name, DataType::Utf8, true));
        let slice = Field::new("slice", DataType::UInt64, false);
        let fields = refs.fields().iter().cloned();
        let fields = fields.chain(more.into_iter().chain([slice]).map(Arc::new));
        let schema = Schema::new(fields.collect::<Vec<_>>());
        let texts: Vec<&str> = expressions.collect();
        let mut of_process = HashMap::new();
        for name in OF_PROCESS {
            if texts.iter().any(|t| t.to_lowercase().contains(name)) {
                of_process.insert(name, Arc::new(function(session, name).await?));
            }
        }
        Ok(Self {
            context: session.context().clone(),
            schema: DFSchema::try_from(schema)?,
            refs: DFSchema::try_from(refs)?,
            slice_rows: session.dataset().manifest().slice_rows,
            of_process,
        })
    }

    /// The schema of `refs`.
    pub(super) fn refs(&self) -> &DFSchema {
        &self.refs
    }

    /// An expression over the columns of `refs` that is as `sql`.
    pub(super) fn expression(&self, sql: &str) -> Result<Expr, DeriveError> {
        let wrong = |cause: String| DeriveError::Expression {
            sql: sql.into(),
            cause,
        };
        let parsed = self.context.parse_sql_expr(sql, &self.schema);
        let parsed = parsed.map_err(|e| wrong(self.explain(e)))?;
        let expr = parsed.transform(|e| self.replace(e)).data()?;
        if expr.is_volatile() {
            return Err(wrong(
                "expected the same value each time, found a function that gives others".into(),
            ));
        }
        // Names and types are checked here, so that the error is about this expression.
        let checked = self.context.create_physical_expr(expr.clone(), &self.refs);
        checked.map_err(|e| wrong(self.explain(e)))?;
        Ok(expr)
    }

    /// The same, of what is true or not.
    pub(super) fn condition(&self, sql: &str) -> Result<Expr, DeriveError> {
        let expr = self.expression(sql)?;
        let physical = self
            .context
            .create_physical_expr(expr.clone(), &self.refs)?;
        match physical.data_type(self.refs.as_arrow())? {
            DataType::Boolean | DataType::Null => Ok(expr),
            found => Err(DeriveError::Expression {
                sql: sql.into(),
                cause: format!(
                    "expected a condition, true or false, found {}",
                    crate::describe::type_name(&found)
                ),
            }),
        }
    }

    fn explain(&self, error: datafusion::error::DataFusionError) -> String {
        use datafusion::common::SchemaError;
        use datafusion::error::DataFusionError;
        if let DataFusionError::SchemaError(cause, _) = error.find_root()
            && let SchemaError::FieldNotFound { field, .. } = cause.as_ref()
        {
            let names = self.schema.fields().iter().map(|f| f.name().as_str());
            let near = closest(&field.name, names.clone());
            let hint = match near {
                Some(near) => format!("did you mean {near}?"),
                None => format!("there are {}", names.collect::<Vec<_>>().join(", ")),
            };
            return format!("no column {}; {hint}", field.name);
        }
        crate::Error::from(error).to_string()
    }

    /// What stands for a column that `refs` does not have.
    fn replace(&self, expr: Expr) -> Result<Transformed<Expr>> {
        if let Expr::BinaryExpr(parts) = &expr
            && matches!(parts.op, Operator::Divide | Operator::Modulo)
            && let Expr::Literal(ScalarValue::Int64(Some(number)), _) = *parts.right
            && let Ok(number) = u64::try_from(number)
            && parts
                .left
                .get_type(&self.schema)
                .is_ok_and(|t| t.is_unsigned_integer())
        {
            // Whole numbers divided by whole numbers are whole; the engine would make decimal fractions of these.
            let (left, op) = ((*parts.left).clone(), parts.op);
            return Ok(Transformed::yes(binary_expr(left, op, lit(number))));
        }
        let Expr::Column(Column { name, .. }) = &expr else {
            return Ok(Transformed::no(expr));
        };
        if name == "slice" {
            return Ok(Transformed::yes(col("seq") / lit(self.slice_rows.max(1))));
        }
        match self.of_process.get(name.as_str()) {
            Some(function) => {
                let process = vec![col("capture_id"), col("upid")];
                Ok(Transformed::yes(function.call(process)))
            }
            None => Ok(Transformed::no(Expr::Column(Column::new_unqualified(name)))),
        }
    }
}

/// What `processes` says of a process, as a function of its capture and incarnation.
async fn function(session: &Session, name: &'static str) -> Result<ScalarUDF, DeriveError> {
    let mut known: HashMap<Process, Option<Arc<str>>> = HashMap::new();
    let mut ids: HashMap<String, Arc<str>> = HashMap::new();
    let rows = session.context().table(Table::Processes.name()).await?;
    let batches = rows
        .select_columns(&["capture_id", "upid", name])?
        .collect()
        .await?;
    for batch in &batches {
        let captures = cast(batch.column(0), &DataType::Utf8)?;
        let texts = cast(batch.column(2), &DataType::Utf8)?;
        let upids = batch.column(1).as_primitive::<UInt64Type>();
        let (captures, texts) = (captures.as_string::<i32>(), texts.as_string::<i32>());
        for ((capture, upid), text) in captures.iter().zip(upids).zip(texts) {
            let (Some(capture), Some(upid)) = (capture, upid) else {
                continue;
            };
            let id = ids.entry(capture.into()).or_insert_with(|| capture.into());
            known.insert((Arc::clone(id), upid), text.map(Into::into));
        }
    }
    let look_up = move |values: &[ColumnarValue]| {
        let columns = ColumnarValue::values_to_arrays(values)?;
        let [captures, upids] = columns.as_slice() else {
            return internal_err!("expected two columns, found {}", columns.len());
        };
        let captures = cast(captures, &DataType::Utf8)?;
        let captures = captures.as_string::<i32>();
        let upids = upids.as_primitive::<UInt64Type>();
        let mut texts = StringBuilder::new();
        // Rows of one process come in runs.
        let mut last: Option<(&str, u64, Option<&Arc<str>>)> = None;
        for (capture, upid) in captures.iter().zip(upids) {
            let (Some(capture), Some(upid)) = (capture, upid) else {
                texts.append_null();
                continue;
            };
            let text = match last {
                Some((c, u, text)) if c == capture && u == upid => text,
                _ => {
                    let id = ids.get(capture).map(Arc::clone);
                    id.and_then(|id| known.get(&(id, upid))?.as_ref())
                }
            };
            last = Some((capture, upid, text));
            texts.append_option(text);
        }
        Ok(ColumnarValue::Array(Arc::new(texts.finish())))
    };
    let capture = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    Ok(create_udf(
        &format!("process_{name}"),
        vec![capture, DataType::UInt64],
        DataType::Utf8,
        Volatility::Immutable,
        Arc::new(look_up),
    ))
}
