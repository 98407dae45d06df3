//! `split`: a dataset for each value of a key.
//!
//! Files of one key are shared. The rows of all others are sorted by key, in memory and on disk as the engine sorts, and
//! written one dataset after the other: however many there are, one file is open. Then the other tables are dealt out in the same way
//! (`deal`); what all datasets of a recording have in common is written once, and linked.

mod deal;
mod key;
mod parts;

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use arrow::compute::partition;
use datafusion::logical_expr::col;
use futures::StreamExt;
use pgtrace_ingest::derive::Place;
use pgtrace_ingest::manifest::FileEntry;
use pgtrace_ingest::schema::Table;

use self::key::{Key, Keys};
use self::parts::Parts;
use super::columns::Columns;
use super::filter::Filter;
use super::recordings::{Recordings, texts};
use super::source::Source;
use super::tables::{all_columns, plain};
use super::{DeriveError, Options, Progress, Report, asked_for};
use crate::session::Session;
use crate::table::ManifestTable;

/// What a file holds.
enum Content {
    /// Rows of one key, all asked for.
    One(Key),
    /// Others, or none asked for.
    Mixed,
}

/// Makes a dataset for each value of the keys `by`, of the rows that are asked for, and a list of them; `max` of them at
/// most. `stop` ends it, leaving nothing.
///
/// # Errors
/// [`DeriveError`]; there is no result then.
pub async fn split(
    session: &Session,
    filter: &Filter,
    by: &[String],
    max: u64,
    options: &Options,
    stop: impl Future<Output = ()>,
) -> Result<Report, DeriveError> {
    let started = Instant::now();
    let texts = filter.conditions.iter().chain(by).map(String::as_str);
    let columns = Columns::load(session, texts).await?;
    let source = asked_for(session, filter, &columns)?;
    let keys = Keys::new(session, &columns, by)?;
    let mut place = Place::begin(&options.to, options.command, session.dataset(), false).await?;
    let work = async {
        let recordings = Recordings::load(session).await?;
        let mut parts = Parts::new(source.dataset(), &keys, filter, max, options);
        write_refs(&source, &keys, &recordings, options, &place, &mut parts).await?;
        let windows = super::refs::windows(session, filter, &columns, &recordings).await?;
        deal::write(&source, &recordings, &windows, &mut parts).await?;
        parts.commit(&mut place).await
    };
    let made = tokio::select! {
        made = work => made,
        () = stop => Err(DeriveError::Interrupted),
    };
    match made {
        Ok(mut report) => {
            place.publish().await?;
            report.of_rows = session.dataset().manifest().rows(Table::Refs);
            report.seconds = started.elapsed().as_secs_f64();
            Ok(report)
        }
        Err(e) => {
            place.abandon().await;
            Err(e)
        }
    }
}

/// The rows of `refs`, and the datasets they are in.
async fn write_refs(
    source: &Source,
    keys: &Keys,
    recordings: &Recordings,
    options: &Options,
    place: &Place,
    parts: &mut Parts<'_>,
) -> Result<(), DeriveError> {
    let files = source.files();
    let mut mixed: Vec<FileEntry> = Vec::new();
    for file in files.whole {
        match content(source, keys, recordings, &file, true).await? {
            Content::One(key) => parts.have(key, file)?,
            Content::Mixed => mixed.push(file),
        }
    }
    for file in files.open {
        match content(source, keys, recordings, &file, false).await? {
            Content::One(key) => parts.have(key, file)?,
            Content::Mixed => mixed.push(file),
        }
    }
    if !mixed.is_empty() {
        sorted(source, keys, recordings, options, place, mixed, parts).await?;
    }
    parts.of_shared_files_only(source, recordings, place).await
}

/// Whether all rows of a file are asked for and of one key. `whole`: they are asked for.
async fn content(
    source: &Source,
    keys: &Keys,
    recordings: &Recordings,
    file: &FileEntry,
    whole: bool,
) -> Result<Content, DeriveError> {
    if whole && let Some(key) = keys.by_manifest(file, recordings.of(&file.capture_id))? {
        return Ok(Content::One(key));
    }
    let mut one: Option<Key> = None;
    let mut rows = source.wanted(file, &keys.columns())?;
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        if batch.num_rows() == 0 {
            continue;
        }
        count += batch.num_rows() as u64;
        let values = keys.evaluate(&batch)?;
        let first = Key::of(&values, 0)?;
        let same = one.get_or_insert_with(|| first.clone()) == &first;
        if !same || partition(&values)?.len() > 1 {
            return Ok(Content::Mixed);
        }
    }
    Ok(match one {
        Some(key) if count == file.rows => Content::One(key),
        _ => Content::Mixed,
    })
}

/// Rows of files with several keys: sorted, and written one dataset after the other.
async fn sorted(
    source: &Source,
    keys: &Keys,
    recordings: &Recordings,
    options: &Options,
    place: &Place,
    files: Vec<FileEntry>,
    parts: &mut Parts<'_>,
) -> Result<(), DeriveError> {
    let rows = files.iter().map(|f| f.rows).sum();
    (options.tell)(Progress::Rows(rows));
    let table = ManifestTable::only(Table::Refs, source.dataset(), files);
    let mut frame = source.context().read_table(Arc::new(table))?;
    if let Some(filter) = &source.filter {
        frame = frame.filter(filter.clone())?;
    }
    let names = all_columns(Table::Refs);
    let mut columns: Vec<_> = names.iter().map(|name| col(*name)).collect();
    columns.extend(keys.expressions());
    let order = keys.names().map(col).chain(["capture_id", "seq"].map(col));
    let frame = frame
        .select(columns)?
        .sort(order.map(|c| c.sort(true, true)).collect())?;
    let mut batches = frame.execute_stream().await?;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        if batch.num_rows() == 0 {
            continue;
        }
        let (refs, of_keys) = batch.columns().split_at(names.len());
        let refs = arrow::array::RecordBatch::try_new(Table::Refs.arrow_schema(), refs.to_vec())?;
        let refs = plain(Table::Refs, &refs)?;
        let captures = texts(&refs, "capture_id")?;
        let mut runs = of_keys.to_vec();
        runs.push(Arc::new(captures.clone()));
        for run in partition(&runs)?.ranges() {
            let key = Key::of(of_keys, run.start)?;
            let rows = refs.slice(run.start, run.len());
            parts
                .write(
                    key,
                    captures.value(run.start),
                    &rows,
                    source,
                    recordings,
                    place,
                )
                .await?;
        }
        (options.tell)(Progress::Read(batch.num_rows() as u64));
    }
    parts.end_part(source, recordings).await
}
