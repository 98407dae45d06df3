//! The dataset that is read: which of its files hold rows asked for, and those rows.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_plan::{SendableRecordBatchStream, execute_stream};
use futures::StreamExt;
use pgtrace_ingest::dataset::Dataset;
use pgtrace_ingest::manifest::FileEntry;
use pgtrace_ingest::schema::Table;

use crate::prune;
use crate::session::Session;
use crate::table::ManifestTable;

/// Rows of `refs` that are asked for.
#[derive(Clone)]
pub(super) struct Source {
    context: datafusion::prelude::SessionContext,
    dataset: Arc<Dataset>,
    schema: SchemaRef,
    /// What rows are asked for; `None`: all.
    pub(super) filter: Option<Expr>,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    /// What the others fulfil; `None`: where it is null, that cannot be told.
    contrary: Option<Arc<dyn PhysicalExpr>>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}

/// The files of `refs` that hold rows asked for.
#[derive(Default)]
pub(super) struct Files {
    /// All their rows are, as the manifest tells.
    pub(super) whole: Vec<FileEntry>,
    /// That is to be found out.
    pub(super) open: Vec<FileEntry>,
}

impl Source {
    pub(super) fn new(session: &Session, schema: &DFSchema, filter: Option<Expr>) -> Result<Self> {
        let context = session.context().clone();
        let physical = |expr: &Expr| context.create_physical_expr(expr.clone(), schema);
        let predicate = filter.as_ref().map(physical).transpose()?;
        let certain = |filter: &&Expr| {
            let columns = filter.column_refs();
            let mut fields = columns
                .iter()
                .map(|c| schema.field_with_unqualified_name(&c.name));
            fields.all(|field| field.is_ok_and(|f| !f.is_nullable()))
        };
        let contrary = filter.as_ref().filter(certain);
        let contrary = contrary.map(|f| physical(&!f.clone())).transpose()?;
        Ok(Self {
            dataset: Arc::clone(session.shared_dataset()),
            schema: Table::Refs.arrow_schema(),
            context,
            filter,
            predicate,
            contrary,
        })
    }

    pub(super) fn dataset(&self) -> &Arc<Dataset> {
        &self.dataset
    }

    pub(super) fn context(&self) -> &datafusion::prelude::SessionContext {
        &self.context
    }

    /// What the manifest tells of the files of `refs`: those that can hold no row asked for are left out.
    pub(super) fn files(&self) -> Files {
        let files = self.dataset.manifest().files(Table::Refs);
        // Figures that cannot decide leave all open.
        let may = |predicate: &Option<Arc<dyn PhysicalExpr>>, unknown: bool| match predicate {
            Some(p) => {
                prune::keep(p, &self.schema, files).unwrap_or_else(|_| vec![true; files.len()])
            }
            None => vec![unknown; files.len()],
        };
        let may_hold = may(&self.predicate, true);
        let may_lack = match &self.predicate {
            Some(_) => may(&self.contrary, true),
            None => vec![false; files.len()],
        };
        let mut found = Files::default();
        for ((file, may_hold), may_lack) in files.iter().zip(may_hold).zip(may_lack) {
            match (may_hold, may_lack) {
                (false, _) => {}
                (true, false) => found.whole.push(file.clone()),
                (true, true) => found.open.push(file.clone()),
            }
        }
        found
    }

    /// Whether a capture may have rows asked for, whatever files there are.
    pub(super) fn concerns(&self, capture_id: &str) -> bool {
        let anything = FileEntry {
            capture_id: capture_id.into(),
            rows: 1,
            ..FileEntry::at(String::new())
        };
        let Some(predicate) = &self.predicate else {
            return true;
        };
        // What cannot be told from the capture alone is kept.
        prune::keep(predicate, &self.schema, &[anything]).map_or(true, |kept| kept == [true])
    }

    /// The rows of a file of any table, some of its columns.
    pub(super) fn rows(
        &self,
        table: Table,
        file: &FileEntry,
        columns: &[&str],
    ) -> Result<SendableRecordBatchStream> {
        self.scan(table, file, columns, None)
    }

    fn scan(
        &self,
        table: Table,
        file: &FileEntry,
        columns: &[&str],
        predicate: Option<Arc<dyn PhysicalExpr>>,
    ) -> Result<SendableRecordBatchStream> {
        let schema = table.arrow_schema();
        let indices = columns.iter().map(|name| Ok(schema.index_of(name)?));
        let indices = indices.collect::<Result<Vec<_>>>()?;
        let files = std::slice::from_ref(file);
        let reader = ManifestTable::only(table, &self.dataset, files.to_vec());
        let state = self.context.state();
        let plan = reader.plan(&state, files, Some(&indices), None, predicate, true)?;
        execute_stream(plan, self.context.task_ctx())
    }

    /// The rows asked for of a file of `refs`, some of its columns; those the filter needs are there, too, behind them.
    pub(super) fn wanted(&self, file: &FileEntry, columns: &[&str]) -> Result<Wanted> {
        let mut columns: Vec<String> = columns.iter().map(|c| (*c).to_owned()).collect();
        let Some(predicate) = &self.predicate else {
            let names: Vec<&str> = columns.iter().map(String::as_str).collect();
            return Ok(Wanted {
                stream: self.rows(Table::Refs, file, &names)?,
                predicate: None,
            });
        };
        let mut needed: Vec<_> = collect_columns(predicate).into_iter().collect();
        needed.sort_by_key(|c| c.index());
        for column in needed {
            if !columns.iter().any(|c| c == column.name()) {
                columns.push(column.name().to_owned());
            }
        }
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        let stream = self.scan(Table::Refs, file, &names, Some(Arc::clone(predicate)))?;
        let predicate = reassign_expr_columns(Arc::clone(predicate), &stream.schema())?;
        Ok(Wanted {
            stream,
            predicate: Some(predicate),
        })
    }

    /// How many rows of a file of `refs` are asked for: only the columns that decide it are read.
    pub(super) async fn count(&self, file: &FileEntry) -> Result<u64> {
        let mut rows = self.wanted(file, &[])?;
        let mut count = 0;
        while let Some(batch) = rows.next().await {
            count += batch?.num_rows() as u64;
        }
        Ok(count)
    }
}

/// Rows asked for, batch by batch.
pub(super) struct Wanted {
    stream: SendableRecordBatchStream,
    predicate: Option<Arc<dyn PhysicalExpr>>,
}

impl Wanted {
    /// The next rows; there may be none in a batch.
    pub(super) async fn next(&mut self) -> Option<Result<RecordBatch>> {
        let batch = self.stream.next().await?;
        let Some(predicate) = &self.predicate else {
            return Some(batch);
        };
        Some(batch.and_then(|batch| {
            let fulfilled = predicate.evaluate(&batch)?.into_array(batch.num_rows())?;
            match fulfilled.as_boolean_opt() {
                Some(fulfilled) => Ok(filter_record_batch(&batch, fulfilled)?),
                None => internal_err!("a condition is neither true nor false"),
            }
        }))
    }
}
