//! The tables beside `refs` of one dataset that is being made.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt64Array, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, UInt64Type};
use datafusion::common::Result as EngineResult;
use futures::StreamExt;
use pgtrace_ingest::derive::{Origin, Output};
use pgtrace_ingest::manifest::FileEntry;
use pgtrace_ingest::schema::Table;

use super::held::Held;
use super::recordings::{Recordings, texts};
use super::rules::{self, Rules};
use super::source::Source;
use super::{DeriveError, Sharing};

/// Writes the tables beside `refs`; gives what each recording lost, by the losses that were kept. `rules` are told by
/// `refs`, and learn of what is kept besides.
pub(super) async fn write(
    source: &Source,
    recordings: &Recordings,
    rules: &mut Rules,
    output: &mut Output,
    sharing: &mut Sharing,
) -> Result<BTreeMap<String, u64>, DeriveError> {
    let files = |table| source.dataset().manifest().files(table);
    let mut lost = BTreeMap::new();
    for file in files(Table::Losses) {
        let mut rows = source.rows(Table::Losses, file, rules::deciding(Table::Losses))?;
        while let Some(batch) = rows.next().await {
            rules::add_losses(rules, &batch?, &mut lost)?;
        }
    }
    if rules.values().any(|kept| kept.all_marks && !kept.all_names) {
        for file in files(Table::Marks) {
            let mut rows = source.rows(Table::Marks, file, rules::deciding(Table::Marks))?;
            while let Some(batch) = rows.next().await {
                rules::learn_marks(rules, &batch?)?;
            }
        }
    }
    for (id, kept) in rules.iter_mut() {
        kept.processes = recordings
            .of(id)
            .kin
            .kept(&kept.of.processes, &kept.of.objects);
    }
    for table in [
        Table::Processes,
        Table::Objects,
        Table::Mappings,
        Table::Losses,
        Table::Marks,
    ] {
        for file in files(table) {
            some_rows(source, recordings, table, file, rules, output, sharing).await?;
        }
    }
    Ok(lost)
}

/// Shares a file of which all rows are kept, and writes those of another that are.
async fn some_rows(
    source: &Source,
    recordings: &Recordings,
    table: Table,
    file: &FileEntry,
    rules: &Rules,
    output: &mut Output,
    sharing: &mut Sharing,
) -> Result<(), DeriveError> {
    let mut count = 0;
    let mut rows = source.rows(table, file, rules::deciding(table))?;
    while let Some(batch) = rows.next().await {
        count += rules::kept(rules, table, &batch?)?.true_count() as u64;
    }
    if count == 0 {
        return Ok(());
    }
    if count == file.rows {
        return sharing.share(source.dataset(), table, file, output).await;
    }
    let names = all_columns(table);
    let mut rows = source.rows(table, file, &names)?;
    let path = output.path(table.name());
    let mut writer = output.writer(table, path, &origin(recordings, file), false)?;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        let kept = rules::kept(rules, table, &batch)?;
        writer
            .write(&plain(table, &filter_record_batch(&batch, &kept)?)?)
            .await?;
    }
    sharing.written(output, table, writer.finish().await?);
    Ok(())
}

pub(super) fn all_columns(table: Table) -> Vec<&'static str> {
    table.columns().iter().map(|c| c.name).collect()
}

/// What files made of this one say of their recording.
fn origin(recordings: &Recordings, file: &FileEntry) -> Origin {
    match file.capture_id.is_empty() {
        true => Origin::default(),
        false => recordings.origin(&file.capture_id),
    }
}

/// A batch with the table's own schema, whatever an engine said of it besides.
pub(super) fn plain(table: Table, batch: &RecordBatch) -> EngineResult<RecordBatch> {
    Ok(RecordBatch::try_new(
        table.arrow_schema(),
        batch.columns().to_vec(),
    )?)
}

/// Writes `captures`: the rows of the recordings in `lost`, with the totals that hold here.
pub(super) async fn captures(
    source: &Source,
    recordings: &Recordings,
    held: &Held,
    lost: &BTreeMap<String, u64>,
    output: &mut Output,
    sharing: &mut Sharing,
) -> Result<(), DeriveError> {
    for file in source.dataset().manifest().files(Table::Captures) {
        let mut rows = source.rows(Table::Captures, file, &all_columns(Table::Captures))?;
        let (mut batches, mut same) = (Vec::new(), true);
        while let Some(batch) = rows.next().await {
            let batch = plain(Table::Captures, &batch?)?;
            let now = with_totals(&batch, held, lost)?;
            same &= now == batch;
            batches.push(now);
        }
        if same {
            sharing
                .share(source.dataset(), Table::Captures, file, output)
                .await?;
            continue;
        }
        if batches.iter().all(|b| b.num_rows() == 0) {
            continue;
        }
        let path = output.path(Table::Captures.name());
        let mut writer = output.writer(Table::Captures, path, &origin(recordings, file), false)?;
        for batch in &batches {
            writer.write(batch).await?;
        }
        sharing.written(output, Table::Captures, writer.finish().await?);
    }
    Ok(())
}

/// Rows of `captures` with what a dataset holds of them. How many there would be, had nothing been lost, is not known
/// of a part.
pub(super) fn with_totals(
    batch: &RecordBatch,
    held: &Held,
    lost: &BTreeMap<String, u64>,
) -> EngineResult<RecordBatch> {
    let ids = texts(batch, "capture_id")?;
    let here = ids
        .iter()
        .map(|id| Some(lost.contains_key(id.unwrap_or_default())));
    let batch = filter_record_batch(batch, &here.collect())?;
    let ids = texts(&batch, "capture_id")?;
    let each = |count: &dyn Fn(&str) -> u64| -> ArrayRef {
        let counts = ids.iter().map(|id| count(id.unwrap_or_default()));
        Arc::new(UInt64Array::from_iter_values(counts))
    };
    let of = |id: &str| held.0.get(id);
    let refs = each(&|id| of(id).map_or(0, |of| of.rows));
    let cache_events = each(&|id| of(id).map_or(0, |of| of.cache_events));
    let lost = each(&|id| lost.get(id).copied().unwrap_or(0));
    let before = |name: &str| batch.column_by_name(name);
    let unchanged = [("refs", &refs), ("lost", &lost)]
        .into_iter()
        .all(|(name, now)| {
            before(name).and_then(|c| c.as_primitive_opt::<UInt64Type>())
                == now.as_primitive_opt::<UInt64Type>()
        });
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    let columns = columns.map(|(field, column)| match field.name().as_str() {
        "refs" => refs.clone(),
        "cache_events" => cache_events.clone(),
        "lost" => lost.clone(),
        "emitted" if !unchanged => new_null_array(&DataType::UInt64, batch.num_rows()),
        _ => column.clone(),
    });
    Ok(RecordBatch::try_new(schema.clone(), columns.collect())?)
}
