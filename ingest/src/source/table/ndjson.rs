//! One JSON object a line.
//!
//! Read by serde_json, not by arrow's reader: that one takes a key it does not know for nothing, or fails without saying
//! in which row, and a line without an end for memory.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, Visitor};

use super::super::error::SourceError;
use super::super::kind::{Input, Sample, Settings};
use super::super::scribe::Scribe;
use super::columns::{COLUMNS, index, unknown};
use super::rows::Rows;
use super::{BATCH, ROW_BYTES};

/// Whether a file begins like one.
pub(in super::super) fn looks_like(sample: &Sample) -> bool {
    sample
        .text()
        .is_some_and(|text| text.trim_start().starts_with('{'))
}

/// Translates a file.
pub(in super::super) fn translate(
    input: Input,
    settings: &Settings,
    to: &mut Scribe,
) -> Result<(), SourceError> {
    let path = input.path;
    let mut from = BufReader::with_capacity(1 << 16, input.file);
    let mut rows = Rows::new(path.clone());
    let mut batch = Batch::new();
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        let most = ROW_BYTES as u64 + 1;
        let read = from.by_ref().take(most).read_until(b'\n', &mut line);
        let end = read.map_err(|e| SourceError::io(&path, e))? == 0;
        if line.len() > ROW_BYTES {
            let expected = format!("rows of at most {ROW_BYTES} bytes");
            let found = format!("a longer one behind row {number}");
            return Err(SourceError::format(&path, expected, found));
        }
        let text = line.trim_ascii();
        if !text.is_empty() {
            number += 1;
            batch.add(&path, number, text, settings.ignore_unknown_columns)?;
        }
        if batch.rows == BATCH || end && batch.rows > 0 {
            rows.add(&batch.finish(&path)?, &Batch::CHOSEN, to)?;
        }
        if end {
            return Ok(());
        }
    }
}

/// Rows as texts, a column for each of `refs`.
struct Batch {
    schema: SchemaRef,
    columns: [StringBuilder; COLUMNS.len()],
    rows: usize,
}

impl Batch {
    /// All columns are there, in order.
    const CHOSEN: [usize; COLUMNS.len()] = {
        let mut all = [0; COLUMNS.len()];
        let mut i = 0;
        while i < all.len() {
            all[i] = i;
            i += 1;
        }
        all
    };

    fn new() -> Self {
        let fields = COLUMNS.map(|c| Field::new(c.0, DataType::Utf8, true));
        Self {
            schema: Arc::new(Schema::new(fields.to_vec())),
            columns: std::array::from_fn(|_| StringBuilder::new()),
            rows: 0,
        }
    }

    fn add(
        &mut self,
        path: &Path,
        number: u64,
        text: &[u8],
        ignore_unknown: bool,
    ) -> Result<(), SourceError> {
        let mut row = Row {
            cells: Default::default(),
            unknown: None,
        };
        let mut json = serde_json::Deserializer::from_slice(text);
        let parsed = (&mut row).deserialize(&mut json).and_then(|()| json.end());
        if let Err(e) = parsed {
            // serde_json counts lines of what it was given: there is one.
            let what = e.to_string().replace(" at line 1 column ", " at byte ");
            return Err(SourceError::parse(path, format!("row {number}: {what}")));
        }
        if let Some(name) = row.unknown.filter(|_| !ignore_unknown) {
            return Err(unknown(path, &name));
        }
        for (column, cell) in self.columns.iter_mut().zip(row.cells) {
            column.append_option(cell);
        }
        self.rows += 1;
        Ok(())
    }

    fn finish(&mut self, path: &Path) -> Result<RecordBatch, SourceError> {
        self.rows = 0;
        let columns = self
            .columns
            .iter_mut()
            .map(|c| Arc::new(c.finish()) as ArrayRef);
        RecordBatch::try_new(self.schema.clone(), columns.collect())
            .map_err(|e| SourceError::parse(path, e))
    }
}

/// A row while it is parsed.
struct Row {
    cells: [Option<String>; COLUMNS.len()],
    /// The first key that is no column.
    unknown: Option<String>,
}

impl<'de> DeserializeSeed<'de> for &mut Row {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Row {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of columns and values")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match index(&key).and_then(|i| self.cells.get_mut(i)) {
                Some(cell) => {
                    let Cell(value) = map.next_value()?;
                    if cell.is_some() && value.is_some() {
                        return Err(serde::de::Error::custom(format!("column {key} twice")));
                    }
                    *cell = value;
                }
                None => {
                    map.next_value::<serde::de::IgnoredAny>()?;
                    self.unknown.get_or_insert(key);
                }
            }
        }
        Ok(())
    }
}

/// A value as text; `None`: null.
struct Cell(Option<String>);

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(CellVisitor)
    }
}

struct CellVisitor;

impl Visitor<'_> for CellVisitor {
    type Value = Cell;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a text, true, false or null")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Cell, E> {
        Ok(Cell(Some(v.to_string())))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Cell, E> {
        Ok(Cell(Some(v.to_string())))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Cell, E> {
        Ok(Cell(Some(v.to_string())))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Cell, E> {
        Ok(Cell(Some(v.to_string())))
    }

    fn visit_str<E>(self, v: &str) -> Result<Cell, E> {
        Ok(Cell(Some(v.into())))
    }

    fn visit_unit<E>(self) -> Result<Cell, E> {
        Ok(Cell(None))
    }
}
