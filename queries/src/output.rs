//! Writes results: aligned table, CSV, JSON array, newline-delimited JSON. A batch at a time, never the whole.

use std::io::Write;
use std::str::FromStr;

use arrow::array::RecordBatch;
use arrow::csv;
use arrow::json;
use arrow::util::display::FormatOptions;
use arrow::util::pretty::pretty_format_batches_with_options;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;

use crate::Error;

/// Rows of one printed table. A longer result continues in a further table with its own header, so that
/// memory stays bounded.
const TABLE_ROWS: usize = 10_000;

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns, for people.
    Table,
    /// Comma-separated, with a header; nulls are empty.
    Csv,
    /// One array of objects; nulls are written.
    Json,
    /// One object a line; nulls are written.
    Ndjson,
}

impl Format {
    /// All formats by name, as typed.
    pub const NAMES: [(&'static str, Format); 4] = [
        ("table", Format::Table),
        ("csv", Format::Csv),
        ("json", Format::Json),
        ("ndjson", Format::Ndjson),
    ];
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Format::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|&(_, format)| format).ok_or_else(|| {
            let names = Format::NAMES.map(|(name, _)| name).join(", ");
            format!("unknown format {text:?}, expected one of {names}")
        })
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Rows written.
    pub rows: usize,
    /// Whether `max_rows` held rows back.
    pub cut: bool,
}

/// Writes `stream` to `out` as `format`, at most `max_rows` rows. A statement without columns writes nothing.
///
/// # Errors
/// [`Error::Query`] when the query fails on its way, [`Error::Output`] when `out` does.
pub async fn write(
    mut stream: SendableRecordBatchStream,
    format: Format,
    max_rows: Option<usize>,
    out: &mut (dyn Write + Send),
) -> Result<Written, Error> {
    let schema = stream.schema();
    let mut written = Written {
        rows: 0,
        cut: false,
    };
    if schema.fields().is_empty() {
        while let Some(batch) = stream.next().await {
            batch?;
        }
        return Ok(written);
    }
    let mut encoder = Encoder {
        format,
        started: false,
        held: Vec::new(),
    };
    while let Some(batch) = stream.next().await {
        let mut batch = batch?;
        if let Some(max) = max_rows
            && written.rows + batch.num_rows() > max
        {
            batch = batch.slice(0, max - written.rows);
            written.cut = true;
        }
        written.rows += batch.num_rows();
        if batch.num_rows() > 0 {
            encoder.batch(batch, out)?;
        }
        if written.cut {
            break;
        }
    }
    encoder.end(RecordBatch::new_empty(schema), out)?;
    out.flush().map_err(Error::Output)?;
    Ok(written)
}

struct Encoder {
    format: Format,
    /// Whether a header, bracket or table was written.
    started: bool,
    /// Batches of the table being gathered.
    held: Vec<RecordBatch>,
}

impl Encoder {
    fn batch(&mut self, batch: RecordBatch, out: &mut dyn Write) -> Result<(), Error> {
        let text = match self.format {
            Format::Table => {
                self.held.push(batch);
                if self.held.iter().map(RecordBatch::num_rows).sum::<usize>() < TABLE_ROWS {
                    return Ok(());
                }
                self.table()?
            }
            Format::Csv => {
                let mut text = Vec::new();
                let builder = csv::WriterBuilder::new().with_header(!self.started);
                builder.build(&mut text).write(&batch)?;
                text
            }
            Format::Ndjson => ndjson(&batch)?,
            Format::Json => {
                // Strings in JSON hold no raw line feed, so a line is an object.
                let lines = ndjson(&batch)?;
                let mut text = Vec::with_capacity(lines.len() + lines.len() / 16);
                for line in lines.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
                    text.extend_from_slice(if self.started { b",\n" } else { b"[" });
                    text.extend_from_slice(line);
                    self.started = true;
                }
                text
            }
        };
        self.started = true;
        out.write_all(&text).map_err(Error::Output)
    }

    fn end(&mut self, empty: RecordBatch, out: &mut dyn Write) -> Result<(), Error> {
        let text = match (self.format, self.started) {
            (Format::Table, _) if !self.held.is_empty() => self.table()?,
            (Format::Table, false) => {
                self.held.push(empty);
                self.table()?
            }
            (Format::Csv, false) => {
                let mut text = Vec::new();
                csv::WriterBuilder::new()
                    .with_header(true)
                    .build(&mut text)
                    .write(&empty)?;
                text
            }
            (Format::Json, false) => b"[]\n".to_vec(),
            (Format::Json, true) => b"]\n".to_vec(),
            _ => Vec::new(),
        };
        out.write_all(&text).map_err(Error::Output)
    }

    fn table(&mut self) -> Result<Vec<u8>, Error> {
        let held = std::mem::take(&mut self.held);
        let options = FormatOptions::default().with_display_error(true);
        let mut text = pretty_format_batches_with_options(&held, &options)?
            .to_string()
            .into_bytes();
        text.push(b'\n');
        Ok(text)
    }
}

fn ndjson(batch: &RecordBatch) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    let builder = json::WriterBuilder::new().with_explicit_nulls(true);
    let mut writer = builder.build::<_, json::writer::LineDelimited>(&mut text);
    writer.write(batch)?;
    writer.finish()?;
    drop(writer);
    Ok(text)
}
