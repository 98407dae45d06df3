//! A base table: the files that the manifest names, planned by the manifest's own figures.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Result, Statistics, plan_err};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::metrics::MetricBuilder;
use pgtrace_ingest::dataset::Dataset;
use pgtrace_ingest::manifest::FileEntry;
use pgtrace_ingest::schema::Table;

use crate::older::OlderFiles;
use crate::prune;
use crate::reader::NamedReaders;
use crate::stats::{merged, statistics};

/// Under this the engine knows the dataset's object store; private to a session.
pub(crate) const DATASET_URL: &str = "pgtrace://dataset";

/// Files read side by side to keep their order, at most (or one a thread, if that is more): each holds a
/// decoded part of its file in memory. Where it takes more, the rows are declared unordered.
const ORDERED_STREAMS: usize = 16;

/// Columns beside those of a condition on texts, up to which it is evaluated when all are decoded.
const FEW_OTHERS: usize = 3;

/// One table of the dataset.
#[derive(Debug)]
pub(crate) struct ManifestTable {
    schema: SchemaRef,
    table: Table,
    dataset: Arc<Dataset>,
    /// Columns each file is ordered by.
    order: &'static [&'static str],
    /// Only these of its files.
    only: Option<Vec<FileEntry>>,
}

impl ManifestTable {
    pub(crate) fn new(table: Table, dataset: &Arc<Dataset>) -> Self {
        ManifestTable {
            schema: table.arrow_schema(),
            table,
            dataset: Arc::clone(dataset),
            order: if table == Table::Refs {
                &["capture_id", "seq"]
            } else {
                &[]
            },
            only: None,
        }
    }

    /// The rows of some of the table's files.
    pub(crate) fn only(table: Table, dataset: &Arc<Dataset>, files: Vec<FileEntry>) -> Self {
        ManifestTable {
            only: Some(files),
            ..Self::new(table, dataset)
        }
    }

    fn files(&self) -> &[FileEntry] {
        match &self.only {
            Some(files) => files,
            None => self.dataset.manifest().files(self.table),
        }
    }

    fn read_only<T>(&self) -> Result<T> {
        let table = self.table;
        plan_err!(
            "{table} is a table of the dataset, which SQL only reads; CREATE TABLE .. AS SELECT makes a table of this session"
        )
    }

    /// The files that may hold rows for `filters`.
    fn kept(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<FileEntry>> {
        let files = self.files();
        let Some(filter) = conjunction(filters.iter().cloned()) else {
            return Ok(files.to_vec());
        };
        let schema = DFSchema::try_from(Arc::clone(&self.schema))?;
        let filter = state.create_physical_expr(filter, &schema)?;
        // A filter that the figures cannot decide keeps every file; the scan evaluates it anyway.
        let keep =
            prune::keep(&filter, &self.schema, files).unwrap_or_else(|_| vec![true; files.len()]);
        let kept = files.iter().zip(keep).filter(|(_, keep)| *keep);
        Ok(kept.map(|(file, _)| file.clone()).collect())
    }

    /// The plan that reads files, the columns asked for. A predicate prunes them. `while_reading`: it, and conditions that
    /// the engine adds, leave out rows where they can be evaluated while reading: not all rows that are left need fulfil
    /// a predicate.
    pub(crate) fn plan(
        &self,
        state: &dyn Session,
        files: &[FileEntry],
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
        predicate: Option<Arc<dyn PhysicalExpr>>,
        while_reading: bool,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (groups, orders) = self.groups(files, state.config().target_partitions());
        let statistics = merged(files, &self.schema)?;

        let url = ObjectStoreUrl::parse(DATASET_URL)?;
        let store = state.runtime_env().object_store(&url)?;
        let cache = state.runtime_env().cache_manager.get_file_metadata_cache();
        let source = ParquetSource::new(self.schema())
            .with_table_parquet_options(state.default_table_options().parquet)
            .with_parquet_file_reader_factory(Arc::new(NamedReaders(
                CachedParquetFileReaderFactory::new(store, cache),
            )));
        let source = source.with_pushdown_filters(while_reading);
        let source = match predicate {
            Some(predicate) => source.with_predicate(predicate),
            None => source,
        };
        // EXPLAIN lists the files that are left; EXPLAIN ANALYZE shows these two.
        let count = |name, n| {
            MetricBuilder::new(source.metrics())
                .global_counter(name)
                .add(n)
        };
        count("manifest_files", self.files().len());
        count("manifest_files_pruned", self.files().len() - files.len());

        let scan = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .with_output_ordering(orders)
            .with_expr_adapter(Some(Arc::new(OlderFiles(self.table))))
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }

    /// Whether conditions are better evaluated while files are read: rows that fail them are then not decoded in the
    /// other columns. That costs more than it saves where there are few others, and the condition is on a text, whose
    /// rows lie all over the file.
    fn pays_while_reading(&self, projection: Option<&Vec<usize>>, filters: &[Expr]) -> bool {
        let columns: HashSet<&str> = filters
            .iter()
            .flat_map(|filter| filter.column_refs())
            .map(|column| column.name.as_str())
            .collect();
        let text = |name: &&str| {
            let field = self.schema.field_with_name(name);
            field.is_ok_and(|field| matches!(field.data_type(), DataType::Dictionary(..)))
        };
        let read = projection.map_or(self.schema.fields().len(), Vec::len);
        let only_texts = !columns.is_empty() && columns.iter().all(text);
        !only_texts || read > columns.len() + FEW_OTHERS
    }

    fn file(&self, entry: &FileEntry) -> PartitionedFile {
        let mut file = PartitionedFile::new(String::new(), entry.bytes);
        file.object_meta.location = self.dataset.path_of(entry); // as it is: `new` would escape the '=' and '%' of the path again
        file.with_statistics(statistics(entry, &self.schema))
            .with_extension(Arc::new(entry.clone())) // operators divide their work by it
    }

    /// The files in groups that are read one after the other, and the orders each group then has.
    fn groups(&self, files: &[FileEntry], threads: usize) -> (Vec<FileGroup>, Vec<LexOrdering>) {
        let all = FileGroup::new(files.iter().map(|f| self.file(f)).collect());
        let spread = |all: FileGroup| (all.split_files(threads), vec![]);
        let Some(order) = ordering(self.order, &self.schema) else {
            return spread(all);
        };
        let one = std::slice::from_ref(&all);
        let Ok(chains) = FileScanConfig::split_groups_by_statistics(&self.schema, one, &order)
        else {
            return spread(all);
        };
        if chains.len() > ORDERED_STREAMS.max(threads) {
            return spread(all);
        }
        let balanced = FileScanConfig::split_groups_by_statistics_with_target_partitions(
            &self.schema,
            one,
            &order,
            threads,
        );
        let groups = balanced
            .ok()
            .filter(|groups| groups.len() <= chains.len().max(threads))
            .unwrap_or(chains);
        let mut orders = vec![order];
        // Within one capture its id is no part of the order.
        let one_capture = files
            .windows(2)
            .all(|pair| pair[0].capture_id == pair[1].capture_id);
        orders.extend(ordering(&self.order[1..], &self.schema).filter(|_| one_capture));
        (groups, orders)
    }
}

fn ordering(columns: &[&str], schema: &Schema) -> Option<LexOrdering> {
    let sort = |name: &&str| {
        let column = Column::new_with_schema(name, schema).ok()?;
        Some(PhysicalSortExpr {
            expr: Arc::new(column),
            options: SortOptions {
                descending: false,
                nulls_first: false,
            },
        })
    };
    LexOrdering::new(columns.iter().map(sort).collect::<Option<Vec<_>>>()?)
}

#[async_trait]
impl TableProvider for ManifestTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        // What is true of every row anyway is evaluated for none.
        let support = |filter: &&Expr| match prune::always(filter, &self.schema, self.files()) {
            Ok(true) => TableProviderFilterPushDown::Exact,
            Ok(false) | Err(_) => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(support).collect())
    }

    fn statistics(&self) -> Option<Statistics> {
        merged(self.files(), &self.schema).ok()
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let files = self.kept(state, filters)?;
        if files.is_empty() {
            let schema = datafusion::physical_plan::project_schema(&self.schema, projection)?;
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let while_reading = self.pays_while_reading(projection, filters);
        self.plan(state, &files, projection, limit, None, while_reading)
    }

    async fn insert_into(
        &self,
        _state: &dyn Session,
        _input: Arc<dyn ExecutionPlan>,
        _op: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.read_only()
    }

    async fn delete_from(
        &self,
        _state: &dyn Session,
        _filters: Vec<Expr>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.read_only()
    }

    async fn update(
        &self,
        _state: &dyn Session,
        _assignments: Vec<(String, Expr)>,
        _filters: Vec<Expr>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.read_only()
    }
}
