//! Datasets made of a dataset's rows: `cut`, `filter` and `split`.
//!
//! A file whose rows are all asked for is shared, not copied; only files of which some rows are, are written anew. What
//! goes with the rows - processes, objects, losses .. - is decided in `rules`. Where results are written until they are
//! whole: [`pgtrace_ingest::derive`].

pub mod columns;
pub mod filter;
mod held;
mod recordings;
mod refs;
mod report;
mod rules;
mod source;
mod split;
mod tables;

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use datafusion::error::DataFusionError;
use pgtrace_ingest::dataset::Dataset;
use pgtrace_ingest::derive::{Output, Place, Shared};
use pgtrace_ingest::error::IngestError;
use pgtrace_ingest::manifest::{Derived, FileEntry, Manifest};
use pgtrace_ingest::schema::Table;
use tokio::sync::RwLock;

use self::columns::Columns;
use self::filter::Filter;
use self::recordings::Recordings;
pub use self::report::Report;
use self::rules::{Kept, Rules};
use self::source::Source;
pub use self::split::split;
use crate::Error;
use crate::session::Session;

/// What can go wrong. Nothing of the result is visible then.
#[derive(Debug, thiserror::Error)]
pub enum DeriveError {
    /// An expression cannot be used.
    #[error("{sql:?}: {cause}")]
    Expression {
        /// The expression, as it was given.
        sql: String,
        /// What is wrong with it.
        cause: String,
    },
    /// Times after the start were asked for, and nobody knows when that was.
    #[error("where the recordings begin is not known: {0}")]
    Starts(String),
    /// The rows cannot be read.
    #[error(transparent)]
    Read(Box<Error>),
    /// The result cannot be written.
    #[error(transparent)]
    Write(#[from] pgtrace_ingest::derive::DeriveError),
    /// There are more values of the key than anybody wants datasets.
    #[error(
        "{by}: more than {max} different values, a dataset each; ask for another key, or for more with --max-parts"
    )]
    TooMany {
        /// What was to be split by.
        by: String,
        /// How many are allowed.
        max: u64,
    },
    /// Somebody stopped it.
    #[error("interrupted; nothing was made")]
    Interrupted,
}

impl From<DataFusionError> for DeriveError {
    fn from(e: DataFusionError) -> Self {
        Self::Read(Box::new(e.into()))
    }
}

impl From<arrow::error::ArrowError> for DeriveError {
    fn from(e: arrow::error::ArrowError) -> Self {
        DataFusionError::from(e).into()
    }
}

impl From<IngestError> for DeriveError {
    fn from(e: IngestError) -> Self {
        Self::Write(e.into())
    }
}

/// What is done while it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many rows more are to be read.
    Rows(u64),
    /// So many have been.
    Read(u64),
}

/// Who is told of progress.
pub type Tell = Arc<dyn Fn(Progress) + Send + Sync>;

/// How to work.
#[derive(Clone)]
pub struct Options {
    /// Name of the command.
    pub command: &'static str,
    /// Where the result goes.
    pub to: String,
    /// Copy files that could be shared.
    pub copy: bool,
    /// Bytes of memory for rows, about.
    pub memory: usize,
    /// Threads.
    pub threads: usize,
    /// Who is told of progress.
    pub tell: Tell,
}

/// Memory of one file that is written anew: a row group being read, and one being encoded.
const PER_FILE: usize = 64 << 20;

impl Options {
    /// Files worked on at the same time.
    fn at_once(&self) -> usize {
        (self.memory / PER_FILE).clamp(1, self.threads.max(1))
    }
}

/// Counts files as they come.
struct Sharing {
    copy: bool,
    report: Report,
}

impl Sharing {
    async fn share(
        &mut self,
        from: &Dataset,
        table: Table,
        file: &FileEntry,
        output: &mut Output,
    ) -> Result<(), DeriveError> {
        self.share_at(from, table, file, file.path.clone(), output)
            .await
    }

    /// The same, at another path.
    async fn share_at(
        &mut self,
        from: &Dataset,
        table: Table,
        file: &FileEntry,
        path: String,
        output: &mut Output,
    ) -> Result<(), DeriveError> {
        let (file, how) = output.share(from, file, path, self.copy).await?;
        self.took(how, file.bytes);
        output.add(table, file);
        Ok(())
    }

    /// A file that was written for one result, for another one, too.
    async fn again(
        &mut self,
        from: &Dataset,
        table: Table,
        file: &FileEntry,
        path: String,
        output: &mut Output,
    ) -> Result<(), DeriveError> {
        let (file, _) = output.share(from, file, path, self.copy).await?;
        output.add(table, file);
        Ok(())
    }

    fn took(&mut self, how: Shared, bytes: u64) {
        let (files, all) = match how {
            Shared::Linked => (&mut self.report.linked, &mut self.report.linked_bytes),
            Shared::Copied => (&mut self.report.copied, &mut self.report.copied_bytes),
        };
        *files += 1;
        *all += bytes;
    }

    fn written(&mut self, output: &mut Output, table: Table, file: FileEntry) {
        self.report.written += 1;
        self.report.written_bytes += file.bytes;
        output.add(table, file);
    }
}

/// Makes a dataset of the rows that are asked for. `stop` ends it, leaving nothing.
///
/// # Errors
/// [`DeriveError`]; there is no result then.
pub async fn select(
    session: &Session,
    filter: &Filter,
    options: &Options,
    stop: impl Future<Output = ()>,
) -> Result<Report, DeriveError> {
    let started = Instant::now();
    let from = session.dataset();
    let columns = Columns::load(session, filter.conditions.iter().map(String::as_str)).await?;
    let source = asked_for(session, filter, &columns)?;
    let mut place = Place::begin(&options.to, options.command, from, true).await?;
    // Held by whoever writes: what is removed after a failure must have no writer left.
    let working = Arc::new(RwLock::new(()));
    let work = make(
        session, filter, &columns, &source, options, &working, &mut place,
    );
    let made = tokio::select! {
        made = work => made,
        () = stop => Err(DeriveError::Interrupted),
    };
    match made {
        Ok(mut report) => {
            place.publish().await?;
            report.seconds = started.elapsed().as_secs_f64();
            Ok(report)
        }
        Err(e) => {
            drop(working.write().await);
            place.abandon().await;
            Err(e)
        }
    }
}

fn asked_for(session: &Session, filter: &Filter, columns: &Columns) -> Result<Source, DeriveError> {
    let starts = match session.starts() {
        Ok(starts) => starts,
        Err(_) if !filter.time.is_relative() => &[],
        Err(why) => return Err(DeriveError::Starts(why)),
    };
    let expr = filter.expr(columns, starts)?;
    Ok(Source::new(session, columns.refs(), expr)?)
}

async fn make(
    session: &Session,
    filter: &Filter,
    columns: &Columns,
    source: &Source,
    options: &Options,
    working: &Arc<RwLock<()>>,
    place: &mut Place,
) -> Result<Report, DeriveError> {
    let recordings = Recordings::load(session).await?;
    let old = source.dataset().manifest();
    let new = Manifest::new(old.partition_by.clone(), old.slice_rows);
    let mut output = place.output(None, new)?;
    let mut sharing = Sharing {
        copy: options.copy,
        report: Report::default(),
    };
    let held = refs::write(
        source,
        &recordings,
        options,
        working,
        &mut output,
        &mut sharing,
    )
    .await?;
    let windows = refs::windows(session, filter, columns, &recordings).await?;
    let mut rules: Rules = recordings
        .ids()
        .filter(|id| held.0.contains_key(*id) || source.concerns(id))
        .map(|id| {
            let of = held.0.get(id).cloned().unwrap_or_default();
            let kept = Kept {
                window: windows.get(id).copied().unwrap_or_default(),
                all_names: of.rows == recordings.of(id).refs,
                all_marks: filter.is_a_cut(),
                of,
                ..Kept::default()
            };
            (id.to_owned(), kept)
        })
        .collect();
    let mut lost =
        tables::write(source, &recordings, &mut rules, &mut output, &mut sharing).await?;
    for id in rules.keys() {
        lost.entry(id.clone()).or_default();
    }
    tables::captures(source, &recordings, &held, &lost, &mut output, &mut sharing).await?;
    for (id, lost) in &lost {
        output.capture(id, held.0.get(id).map_or(0, |of| of.rows), *lost);
    }
    output.derived(Derived {
        command: options.command.into(),
        rows: filter.words(),
    });
    place.commit(output).await?;
    let mut report = sharing.report;
    report.rows = held.rows();
    report.of_rows = old.rows(Table::Refs);
    report.lost = lost.values().sum();
    Ok(report)
}
