//! The table `refs` of one dataset that is being made, file by file.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::TimestampNanosecondType;
use pgtrace_ingest::derive::{FileWriter, Output};
use pgtrace_ingest::manifest::{FileEntry, Span};
use pgtrace_ingest::schema::Table;
use tokio::sync::RwLock;
use tokio::task::JoinSet;

use super::columns::Columns;
use super::filter::Filter;
use super::held::{Held, Of, TELLING};
use super::recordings::{Recording, Recordings};
use super::rules::Window;
use super::source::Source;
use super::tables::{all_columns, plain};
use super::{DeriveError, Options, Progress, Sharing};
use crate::session::Session;

/// What became of a file of which it was not known whether all its rows are asked for.
enum Done {
    /// They are.
    Whole(FileEntry),
    /// Some are.
    Written(FileEntry, String, Of),
    /// None is.
    Nothing,
}

/// Writes the rows of `refs` that are asked for, and tells what they need.
pub(super) async fn write(
    source: &Source,
    recordings: &Recordings,
    options: &Options,
    working: &Arc<RwLock<()>>,
    output: &mut Output,
    sharing: &mut Sharing,
) -> Result<Held, DeriveError> {
    let files = source.files();
    let mut held = Held::default();
    let rows = files.open.iter().map(|f| f.rows).sum();
    (options.tell)(Progress::Rows(rows));
    let mut whole = files.whole;
    let mut written: Vec<FileEntry> = Vec::new();
    // Ends with this, whatever happens: nobody writes behind our back.
    let mut tasks = JoinSet::new();
    let mut waiting = files.open.into_iter();
    loop {
        while tasks.len() < options.at_once()
            && let Some(file) = waiting.next()
        {
            let folder = file
                .path
                .rsplit_once('/')
                .map_or(Table::Refs.name(), |p| p.0);
            let one_process = file.pid.is_some_and(|pid| pid.min == pid.max);
            let origin = recordings.origin(&file.capture_id);
            let path = output.path(folder);
            let writer = output.writer(Table::Refs, path, &origin, one_process)?;
            let (source, tell) = (source.clone(), Arc::clone(&options.tell));
            let working = Arc::clone(working).read_owned().await;
            tasks.spawn(async move {
                let _working = working;
                let rows = file.rows;
                let done = one(&source, file, writer).await;
                tell(Progress::Read(rows));
                done
            });
        }
        let Some(done) = tasks.join_next().await else {
            break;
        };
        match done.map_err(|e| pgtrace_ingest::derive::DeriveError::File {
            path: Table::Refs.name().into(),
            cause: std::io::Error::other(e),
        })?? {
            Done::Nothing => {}
            Done::Whole(file) => whole.push(file),
            Done::Written(file, capture, of) => {
                held.merge(Held([(capture, of)].into()));
                written.push(file);
            }
        }
    }
    // Which task ends first is chance; the manifest does not depend on it.
    whole.sort_by(|a, b| a.path.cmp(&b.path));
    written.sort_by(|a, b| a.path.cmp(&b.path));
    for file in written {
        sharing.written(output, Table::Refs, file);
    }
    for file in whole {
        let of = learn(source, recordings.of(&file.capture_id), &file).await?;
        held.merge(Held([(file.capture_id.clone(), of)].into()));
        sharing
            .share(source.dataset(), Table::Refs, &file, output)
            .await?;
    }
    Ok(held)
}

/// Writes the rows asked for of one file, unless they are all it has.
async fn one(
    source: &Source,
    file: FileEntry,
    mut writer: FileWriter,
) -> Result<Done, DeriveError> {
    match source.count(&file).await? {
        0 => return Ok(Done::Nothing),
        n if n == file.rows => return Ok(Done::Whole(file)),
        _ => {}
    }
    let mut of = Of::default();
    let mut rows = source.wanted(&file, &all_columns(Table::Refs))?;
    while let Some(batch) = rows.next().await {
        let batch = plain(Table::Refs, &batch?)?;
        of.rows += batch.num_rows() as u64;
        of.learn(&batch)?;
        writer.write(&batch).await?;
    }
    let capture = file.capture_id;
    Ok(Done::Written(writer.finish().await?, capture, of))
}

/// What the rows of a file need of which all are kept: as much as can be from the manifest, the rest from the columns
/// that tell it.
pub(super) async fn learn(
    source: &Source,
    recording: &Recording,
    file: &FileEntry,
) -> Result<Of, DeriveError> {
    let mut of = Of {
        rows: file.rows,
        objects: file.objects.iter().map(|o| o.object_id).collect(),
        ..Of::default()
    };
    let pid = file.pid.filter(|pid| pid.min == pid.max).map(|pid| pid.min);
    let process = pid.and_then(|pid| recording.kin.only(pid));
    of.processes.extend(process);
    let unknown = |column: &&&str| match **column {
        // Pid 0 is nobody who was traced.
        "upid" => process.is_none() && pid != Some(0),
        "object_id" => file.objects.is_empty(),
        _ => recording.cache_events > 0,
    };
    let columns: Vec<&str> = TELLING.iter().filter(unknown).copied().collect();
    if !columns.is_empty() {
        let mut rows = source.rows(Table::Refs, file, &columns)?;
        while let Some(batch) = futures::StreamExt::next(&mut rows).await {
            of.learn(&batch?)?;
        }
    }
    Ok(of)
}

/// The time that is asked for, of each recording. Numbers that are asked for are of the time of their references.
pub(super) async fn windows(
    session: &Session,
    filter: &Filter,
    columns: &Columns,
    recordings: &Recordings,
) -> Result<BTreeMap<String, Window>, DeriveError> {
    let mut windows: BTreeMap<String, Window> = BTreeMap::new();
    let starts = session.starts().unwrap_or_default();
    for id in recordings.ids() {
        let start = starts.iter().find(|(known, _)| known == id);
        let (from, to) = filter.time.utc(start.map_or(0, |(_, start)| *start));
        windows.insert(id.to_owned(), Window { from, to });
    }
    if filter.seq.is_open() {
        return Ok(windows);
    }
    let source = Source::new(session, columns.refs(), filter.seq.expr())?;
    let files = source.files();
    let mut spans: BTreeMap<String, Span<i64>> = BTreeMap::new();
    let mut add = |id: &str, span: Span<i64>| match spans.get_mut(id) {
        Some(known) => {
            known.include(span.min);
            known.include(span.max);
        }
        None => drop(spans.insert(id.to_owned(), span)),
    };
    let told = |file: &&FileEntry| file.ts.is_some();
    let (known, unknown): (Vec<_>, Vec<_>) = files.whole.iter().partition(told);
    for file in known {
        file.ts.into_iter().for_each(|ts| add(&file.capture_id, ts));
    }
    for file in unknown.into_iter().chain(&files.open) {
        let mut rows = source.wanted(file, &["ts"])?;
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            let ts = batch.column_by_name("ts");
            let ts = ts.and_then(|c| c.as_primitive_opt::<TimestampNanosecondType>());
            for ts in ts.into_iter().flat_map(|ts| ts.values()) {
                add(&file.capture_id, Span::of(*ts));
            }
        }
    }
    for (id, window) in &mut windows {
        let within = match spans.get(id) {
            Some(span) => Window {
                from: filter.seq.from.map(|_| span.min),
                to: filter.seq.to.map(|_| span.max.saturating_add(1)),
            },
            // No reference, no time.
            None => Window {
                from: Some(i64::MAX),
                to: Some(i64::MIN),
            },
        };
        *window = window.within(within);
    }
    Ok(windows)
}
