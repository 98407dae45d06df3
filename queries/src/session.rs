//! A session: one dataset, its tables and views, and a query engine with bounded memory.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::catalog::TableProvider;
use datafusion::common::DataFusionError;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::{cast, col};
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::prelude::{SessionConfig, SessionContext};
use pgtrace_capture::units;
use pgtrace_ingest::dataset::Dataset;
use pgtrace_ingest::schema::Table;
use tempfile::TempDir;

use crate::Error;
use crate::diagnose::Names;
use crate::functions;
use crate::numbered;
use crate::operators;
use crate::pool::Pool;
use crate::stores::Stores;
use crate::table::{DATASET_URL, ManifestTable};
use crate::template;
use crate::views::{self, View};

/// What a session may use.
#[derive(Debug, Clone)]
pub struct Options {
    /// Memory for rows held by sorts, aggregates and joins, in bytes; past it they spill to disk.
    pub memory: usize,
    /// Where they spill; `None`: the system's temporary directory.
    pub spill_dir: Option<PathBuf>,
    /// Threads that work on one query.
    pub threads: NonZeroUsize,
}

impl Default for Options {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Options {
            memory: 1 << 30,
            spill_dir: None,
            threads,
        }
    }
}

/// Where each recording begins: its id, and ns since 1970 UTC; or why that could not be read.
pub(crate) type Starts = Arc<Result<Vec<(String, i64)>, String>>;

/// What an SQL function is made from.
pub(crate) struct Scope<'a> {
    /// Where it is made known.
    pub(crate) context: &'a SessionContext,
    /// The table `refs`.
    pub(crate) refs: &'a Arc<dyn TableProvider>,
    /// Where the recordings begin.
    pub(crate) starts: Starts,
}

/// An open dataset that answers SQL.
pub struct Session {
    ctx: SessionContext,
    dataset: Arc<Dataset>,
    views: Vec<View>,
    starts: Starts,
    memory: usize,
    spill: TempDir, // removed with the session
}

impl Session {
    /// Opens the dataset at `location` (a folder or URL) at its newest commit and creates the views.
    ///
    /// # Errors
    /// When the dataset cannot be opened, or the spill directory not be written to.
    pub async fn open(location: &str, options: &Options) -> Result<Session, Error> {
        let dataset = Arc::new(Dataset::open(location).await?);
        let spill = spill_dir(options)?;
        let runtime = runtime(options, &spill).map_err(|e| Error::Engine(Box::new(e)))?;
        let url = ObjectStoreUrl::parse(DATASET_URL).map_err(|e| Error::Engine(Box::new(e)))?;
        runtime.register_object_store(url.as_ref(), Arc::clone(dataset.store()));
        let ctx = SessionContext::new_with_config_rt(config(options), runtime);
        for table in Table::ALL {
            let provider = ManifestTable::new(table, &dataset);
            ctx.register_table(table.name(), Arc::new(provider))
                .map_err(|e| Error::Engine(Box::new(e)))?;
        }
        operators::register(&ctx);
        numbered::register(&ctx);
        let starts = Arc::new(starts(&ctx).await.map_err(|e| Error::from(e).to_string()));
        functions::register(&Scope {
            context: &ctx,
            refs: &(Arc::new(ManifestTable::new(Table::Refs, &dataset)) as _),
            starts: Arc::clone(&starts),
        });
        let views = views::all()?;
        template::register(&ctx, &views);
        views::create(&ctx, &views).await?;
        Ok(Session {
            ctx,
            dataset,
            views,
            starts,
            memory: options.memory,
            spill,
        })
    }

    /// The engine's own context.
    pub fn context(&self) -> &SessionContext {
        &self.ctx
    }

    /// The dataset that is open.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// The same, for whoever reads files of it.
    pub(crate) fn shared_dataset(&self) -> &Arc<Dataset> {
        &self.dataset
    }

    /// Where its recordings begin: id, and ns since 1970 UTC.
    ///
    /// # Errors
    /// The table `captures` cannot be read: why.
    pub(crate) fn starts(&self) -> Result<&[(String, i64)], String> {
        self.starts
            .as_ref()
            .as_ref()
            .map(Vec::as_slice)
            .map_err(Clone::clone)
    }

    /// The shipped views, private ones too.
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// Rows lost over all captures, as the manifest counts them.
    pub fn lost(&self) -> u64 {
        self.dataset
            .manifest()
            .captures
            .iter()
            .map(|c| c.lost)
            .sum()
    }

    /// Plans and starts one statement. Its rows come as they are computed.
    ///
    /// # Errors
    /// [`Error::Query`] or [`Error::Hinted`] when the statement is wrong.
    pub async fn query(&self, sql: &str) -> Result<SendableRecordBatchStream, Error> {
        let started = async { self.ctx.sql(sql).await?.execute_stream().await };
        started.await.map_err(|e| self.hint(e.into()))
    }

    /// What can be named in a statement, private views left out.
    pub(crate) fn names(&self) -> Names {
        let state = self.ctx.state();
        let options = &state.config_options().catalog;
        let schema = self
            .ctx
            .catalog(&options.default_catalog)
            .and_then(|c| c.schema(&options.default_schema));
        let mut relations = schema.map(|s| s.table_names()).unwrap_or_default();
        relations.retain(|name| !name.starts_with('_'));
        relations.sort();
        let functions = state.scalar_functions().keys();
        let functions = functions.chain(state.aggregate_functions().keys());
        let functions = functions.chain(state.window_functions().keys());
        let mut functions: Vec<String> = functions.cloned().collect();
        functions.sort();
        functions.dedup();
        let mut table_functions: Vec<String> = state.table_functions().keys().cloned().collect();
        table_functions.sort();
        Names {
            relations,
            functions,
            table_functions,
        }
    }

    /// Adds what the user can do about `error`, where we know it.
    pub fn hint(&self, error: Error) -> Error {
        let Error::Query(cause) = &error else {
            return error;
        };
        match self.advice(cause) {
            Some(hint) => Error::Hinted {
                error: Box::new(error),
                hint,
            },
            None => error,
        }
    }

    fn advice(&self, error: &DataFusionError) -> Option<String> {
        let text = error.strip_backtrace();
        if let DataFusionError::ResourcesExhausted(_) = error.find_root() {
            let memory = units::show_binary(self.memory as u64);
            return Some(format!(
                "this needs more than the {memory} of --memory; give it more, or use fewer --threads"
            ));
        }
        if ["No space left", "File too large", "Disk quota"]
            .iter()
            .any(|full| text.contains(full))
        {
            let dir = self
                .spill
                .path()
                .parent()
                .unwrap_or(self.spill.path())
                .display();
            return Some(format!(
                "no room to spill in {dir}; choose another place with --spill-dir"
            ));
        }
        None
    }
}

/// Where the recordings begin. Few rows; a function like `cut` cannot wait for them when it is called.
async fn starts(ctx: &SessionContext) -> Result<Vec<(String, i64)>, DataFusionError> {
    let start = cast(col("start_ts"), DataType::Int64);
    let id = cast(col("capture_id"), DataType::Utf8);
    let rows = ctx.table(Table::Captures.name()).await?;
    let batches = rows.select(vec![id, start])?.collect().await?;
    let mut starts = Vec::new();
    for batch in &batches {
        let ids = batch.column(0).as_string_opt::<i32>();
        let times = batch.column(1).as_primitive_opt::<Int64Type>();
        let rows = ids.into_iter().flatten().zip(times.into_iter().flatten());
        starts.extend(rows.filter_map(|(id, ts)| Some((id?.to_owned(), ts?))));
    }
    Ok(starts)
}

fn spill_dir(options: &Options) -> Result<TempDir, Error> {
    let path = options.spill_dir.clone().unwrap_or_else(std::env::temp_dir);
    let made = tempfile::Builder::new()
        .prefix("pgtrace-sql-")
        .tempdir_in(&path);
    made.map_err(|cause| {
        // tempfile adds the name it tried to the message; the reason alone is what a user needs.
        let cause = cause
            .raw_os_error()
            .map_or(cause, std::io::Error::from_raw_os_error);
        Error::SpillDir { path, cause }
    })
}

fn runtime(options: &Options, spill: &TempDir) -> Result<Arc<RuntimeEnv>, DataFusionError> {
    let pool = Pool::new(options.memory, options.threads.get());
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![spill.path().to_owned()]))
        .with_max_temp_directory_size(u64::MAX); // the disk's own size is the limit
    RuntimeEnvBuilder::new()
        .with_object_store_registry(Arc::new(Stores::default()))
        .with_memory_pool(Arc::new(pool))
        .with_disk_manager_builder(disk)
        .build_arc()
}

/// Bytes of a thread's memory for each row of a batch: 32,768 rows at 1 GiB and two threads.
const BATCH_SHARE: usize = 16 << 10;

fn config(options: &Options) -> SessionConfig {
    let threads = options.threads.get();
    let mut config = SessionConfig::new()
        .with_target_partitions(threads)
        .with_information_schema(true);
    // What a sort keeps back for merging its spilled runs must leave room for the rows themselves.
    let merge_reserve = (options.memory / threads / 8).min(10 << 20);
    config = config.with_sort_spill_reservation_bytes(merge_reserve);
    // Rows at a time: more save a tenth of the engine's own work, where there is room for many such batches.
    config = config.with_batch_size((options.memory / threads / BATCH_SHARE).clamp(8192, 32_768));
    let options = config.options_mut();
    options.optimizer.prefer_hash_join = false; // a hash join does not spill, a sort-merge join does
    options.sql_parser.collect_spans = true; // an error points at its word
    options.sql_parser.enable_subquery_sort_elimination = false; // a view's ORDER BY is for its reader
    options.execution.time_zone = Some("UTC".to_owned());
    // Whether conditions are evaluated while files are read, each scan says (table.rs).
    options.execution.parquet.reorder_filters = true;
    // Groups that hardly come twice on one thread are not put together there first: looked for longer, and given up
    // sooner, than the engine does (pages of large objects).
    options
        .execution
        .skip_partial_aggregation_probe_rows_threshold = 1_000_000;
    options
        .execution
        .skip_partial_aggregation_probe_ratio_threshold = 0.3;
    options.execution.parquet.enable_page_index = true;
    options.execution.parquet.bloom_filter_on_read = true;
    config
}
