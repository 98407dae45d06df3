//! Writes results in the formats people and programs want. A batch at a time, never the whole.

mod binary;
mod target;
mod text;

use std::io::Write;
use std::path::Path;
use std::str::FromStr;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;

use self::binary::Binary;
pub use self::target::{Open, Target};
use self::text::Text;
use crate::Error;

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns, for people.
    Table,
    /// One line a column, for people: rows too wide for a table.
    Expanded,
    /// A Markdown table.
    Markdown,
    /// Comma-separated, with a header; nulls are empty.
    Csv,
    /// One array of objects; nulls are written.
    Json,
    /// One object a line; nulls are written.
    Ndjson,
    /// A Parquet file.
    Parquet,
    /// An Arrow IPC stream.
    Arrow,
}

impl Format {
    /// All formats by name, as typed.
    pub const NAMES: [(&'static str, Format); 8] = [
        ("table", Format::Table),
        ("expanded", Format::Expanded),
        ("md", Format::Markdown),
        ("csv", Format::Csv),
        ("json", Format::Json),
        ("ndjson", Format::Ndjson),
        ("parquet", Format::Parquet),
        ("arrow", Format::Arrow),
    ];

    /// What it is called.
    pub fn name(self) -> &'static str {
        let found = Format::NAMES.iter().find(|(_, format)| *format == self);
        found.map_or("table", |(name, _)| name)
    }

    /// The names of all, for a message.
    pub fn names() -> String {
        Format::NAMES.map(|(name, _)| name).join(", ")
    }

    /// The format that the ending of a file's name stands for.
    pub fn of_file(path: &Path) -> Option<Format> {
        let ending = path.extension()?.to_str()?.to_lowercase();
        Some(match ending.as_str() {
            "txt" => Format::Table,
            "jsonl" => Format::Ndjson,
            "arrows" | "ipc" => Format::Arrow,
            "pq" => Format::Parquet,
            name => name.parse().ok()?,
        })
    }

    /// Whether it is nothing for a terminal, and holds one result only.
    pub fn is_binary(self) -> bool {
        matches!(self, Format::Parquet | Format::Arrow)
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Format::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|&(_, format)| format).ok_or_else(|| {
            let names = Format::names();
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
    /// Whether there was a result at all, be it without rows; a `CREATE VIEW` has none.
    pub result: bool,
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
    let mut writer = Writer::new(stream.schema(), format, max_rows, out)?;
    while let Some(batch) = stream.next().await {
        if !writer.batch(batch?)? {
            break;
        }
    }
    writer.end()
}

/// Writes one result.
pub struct Writer<'a> {
    /// `None`: the result has no columns.
    encoder: Option<Encoder<'a>>,
    max_rows: Option<usize>,
    written: Written,
}

enum Encoder<'a> {
    Text(Text<'a>),
    Binary(Binary<'a>),
}

impl<'a> Writer<'a> {
    /// Begins a result with these columns. At most `max_rows` rows are written.
    ///
    /// # Errors
    /// When the format has no place for one of the columns, and when `out` cannot be written.
    pub fn new(
        schema: SchemaRef,
        format: Format,
        max_rows: Option<usize>,
        out: &'a mut (dyn Write + Send),
    ) -> Result<Self, Error> {
        let encoder = match format {
            _ if schema.fields().is_empty() => None,
            Format::Parquet => Some(Encoder::Binary(Binary::parquet(&schema, out)?)),
            Format::Arrow => Some(Encoder::Binary(Binary::arrow(&schema, out)?)),
            _ => Some(Encoder::Text(Text::new(format, schema, out))),
        };
        let written = Written {
            rows: 0,
            cut: false,
            result: encoder.is_some(),
        };
        Ok(Writer {
            encoder,
            max_rows,
            written,
        })
    }

    /// Writes rows; false: no more are wanted.
    ///
    /// # Errors
    /// When they cannot be put into the format, or written.
    pub fn batch(&mut self, mut batch: RecordBatch) -> Result<bool, Error> {
        let Some(encoder) = &mut self.encoder else {
            return Ok(true); // what the statement does, it does while it is read
        };
        if let Some(max) = self.max_rows
            && self.written.rows + batch.num_rows() > max
        {
            batch = batch.slice(0, max - self.written.rows);
            self.written.cut = true;
        }
        self.written.rows += batch.num_rows();
        if batch.num_rows() > 0 {
            match encoder {
                Encoder::Text(text) => text.batch(batch)?,
                Encoder::Binary(binary) => binary.batch(&batch)?,
            }
        }
        Ok(!self.written.cut)
    }

    /// Rows so far.
    pub fn rows(&self) -> usize {
        self.written.rows
    }

    /// Writes what belongs at the end.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end(self) -> Result<Written, Error> {
        match self.encoder {
            None => {}
            Some(Encoder::Text(text)) => text.end()?,
            Some(Encoder::Binary(binary)) => binary.end()?,
        }
        Ok(self.written)
    }
}
