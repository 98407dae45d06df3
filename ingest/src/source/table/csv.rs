//! Values between commas, tabs or semicolons, below a header that names their columns.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use arrow::csv::ReaderBuilder;
use arrow::csv::reader::{Decoder, Format};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;

use super::super::error::SourceError;
use super::super::kind::{Input, Sample, Settings};
use super::super::scribe::Scribe;
use super::columns::{COLUMNS, choose, index};
use super::rows::Rows;
use super::{BATCH, ROW_BYTES};

/// What may stand between values; the first that the header holds does.
const DELIMITERS: [char; 3] = [',', '\t', ';'];
/// What ends a line, each by itself and both together.
const LINE_ENDS: [char; 2] = ['\n', '\r'];
/// Bytes handed to the parser at a time.
const PIECE: usize = 32 << 10;

/// Whether a file begins with the header of such a table.
pub(in super::super) fn looks_like(sample: &Sample) -> bool {
    let Some(header) = sample.text().and_then(|text| text.split(LINE_ENDS).next()) else {
        return false;
    };
    let names = header.split(delimiter(header)).map(|n| n.trim_matches('"'));
    let known = names.filter(|name| index(name).is_some());
    known
        .into_iter()
        .any(|name| name == "page" || name == "addr")
}

fn delimiter(header: &str) -> char {
    let found = DELIMITERS.into_iter().find(|d| header.contains(*d));
    found.unwrap_or(',')
}

/// Translates a file, or what can be read but once.
pub(in super::super) fn translate(
    input: Input,
    settings: &Settings,
    to: &mut Scribe,
) -> Result<(), SourceError> {
    let path = input.path;
    let mut from = BufReader::with_capacity(PIECE, input.file);
    let io = |e| SourceError::io(&path, e);
    if from
        .fill_buf()
        .map_err(io)?
        .starts_with("\u{feff}".as_bytes())
    {
        from.consume(3);
    }
    let header = first_line(&mut from).map_err(io)?;
    if header.len() == ROW_BYTES {
        let expected = format!("a header of at most {ROW_BYTES} bytes");
        return Err(SourceError::format(&path, expected, "a longer one"));
    }
    let format = Format::default()
        .with_header(true)
        .with_delimiter(delimiter(&header) as u8);
    let (named, _) = format
        .infer_schema(header.as_bytes(), Some(0))
        .map_err(|e| parse(&path, &e))?;
    let names: Vec<&str> = named.fields().iter().map(|f| f.name().trim()).collect();
    let chosen = choose(&path, &names, settings.ignore_unknown_columns)?;
    if chosen.len() > 4 * COLUMNS.len() {
        let expected = format!("at most {} columns", 4 * COLUMNS.len());
        return Err(SourceError::format(
            &path,
            expected,
            chosen.len().to_string(),
        ));
    }
    let fields = names
        .iter()
        .map(|name| Field::new(*name, DataType::Utf8, true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let read = chosen.iter().enumerate().filter(|c| c.1.is_some());
    let decoder = ReaderBuilder::new(schema)
        .with_format(format.with_header(false))
        .with_projection(read.map(|c| c.0).collect())
        .with_batch_size(BATCH)
        .build_decoder();
    let chosen: Vec<usize> = chosen.into_iter().flatten().collect();
    Table {
        path: &path,
        decoder,
        rows: Rows::new(path.clone()),
        chosen,
    }
    .read(&mut from, to)
}

/// Reads the first line and its end; of a longer one the first [`ROW_BYTES`]. The parser takes a carriage return alone for
/// the end of a line: so must this, or the rows behind it would be taken for the header. (The line feed that may
/// follow is an empty line to the parser.)
fn first_line(from: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = Vec::new();
    loop {
        let piece = from.fill_buf()?;
        let end = piece
            .iter()
            .position(|b| LINE_ENDS.contains(&char::from(*b)));
        let rest = end.map_or(piece.len(), |at| at + 1);
        let taken = rest.min(ROW_BYTES - line.len());
        line.extend(piece.iter().take(taken));
        let done = piece.is_empty() || end.is_some() || line.len() == ROW_BYTES;
        from.consume(taken);
        if done {
            let text = String::from_utf8(line);
            return text.map_err(|_| {
                std::io::Error::other("expected text in UTF-8, found other bytes in the first line")
            });
        }
    }
}

struct Table<'a> {
    path: &'a Path,
    decoder: Decoder,
    rows: Rows,
    chosen: Vec<usize>,
}

impl Table<'_> {
    fn read(&mut self, from: &mut impl BufRead, to: &mut Scribe) -> Result<(), SourceError> {
        // A row that never ends, or a quote that is never closed, is told before it fills the memory.
        let (mut capacity, mut bytes) = (self.decoder.capacity(), 0);
        loop {
            let piece = from.fill_buf().map_err(|e| SourceError::io(self.path, e))?;
            let end = piece.is_empty();
            let taken = self
                .decoder
                .decode(piece)
                .map_err(|e| parse(self.path, &e))?;
            from.consume(taken);
            bytes += taken;
            if capacity != self.decoder.capacity() {
                (capacity, bytes) = (self.decoder.capacity(), 0);
            }
            if bytes > ROW_BYTES {
                let expected = format!("rows of at most {ROW_BYTES} bytes");
                let found = format!(
                    "a longer one behind row {}",
                    self.rows.count() + (BATCH - capacity) as u64
                );
                let hint = "is a quote not closed?";
                return Err(SourceError::format(
                    self.path,
                    expected,
                    format!("{found} ({hint})"),
                ));
            }
            if capacity == 0 || end {
                let batch = self.decoder.flush().map_err(|e| parse(self.path, &e))?;
                let Some(batch) = batch else { return Ok(()) };
                self.rows.add(&batch, &self.chosen, to)?;
                (capacity, bytes) = (self.decoder.capacity(), 0);
            }
        }
    }
}

/// The parser counts lines from the first below the header.
fn parse(path: &Path, e: &ArrowError) -> SourceError {
    let what = match e {
        ArrowError::CsvError(what) => what.replace(" line ", " row "),
        other => other.to_string(),
    };
    SourceError::parse(path, what)
}
