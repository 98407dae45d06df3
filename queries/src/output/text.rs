//! Results as text: table, expanded, Markdown, CSV, JSON.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::csv;
use arrow::datatypes::SchemaRef;
use arrow::json;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches_with_options;

use super::Format;
use crate::Error;

/// Rows of one printed table. A longer result continues in a further table with its own header, so that
/// memory stays bounded.
const TABLE_ROWS: usize = 10_000;

/// Writes one result as text.
pub(super) struct Text<'a> {
    format: Format,
    schema: SchemaRef,
    out: &'a mut (dyn Write + Send),
    /// Whether a header, bracket or table was written.
    started: bool,
    /// Batches of the table being gathered.
    held: Vec<RecordBatch>,
    /// Rows written one by one.
    rows: usize,
}

impl<'a> Text<'a> {
    pub(super) fn new(format: Format, schema: SchemaRef, out: &'a mut (dyn Write + Send)) -> Self {
        Text {
            format,
            schema,
            out,
            started: false,
            held: Vec::new(),
            rows: 0,
        }
    }

    pub(super) fn batch(&mut self, batch: RecordBatch) -> Result<(), Error> {
        let text = match self.format {
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
            Format::Expanded => self.expanded(&batch)?,
            Format::Markdown => self.markdown(&batch)?,
            Format::Table | Format::Parquet | Format::Arrow => {
                self.held.push(batch);
                if self.held.iter().map(RecordBatch::num_rows).sum::<usize>() < TABLE_ROWS {
                    return Ok(());
                }
                self.table()?
            }
        };
        self.started = true;
        self.out.write_all(&text).map_err(Error::Output)
    }

    pub(super) fn end(mut self) -> Result<(), Error> {
        let empty = RecordBatch::new_empty(self.schema.clone());
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
            (Format::Markdown, false) => self.markdown(&empty)?,
            (Format::Expanded, false) => b"(no rows)\n".to_vec(),
            (Format::Json, false) => b"[]\n".to_vec(),
            (Format::Json, true) => b"]\n".to_vec(),
            _ => Vec::new(),
        };
        self.out.write_all(&text).map_err(Error::Output)?;
        self.out.flush().map_err(Error::Output)
    }

    fn table(&mut self) -> Result<Vec<u8>, Error> {
        let held = std::mem::take(&mut self.held);
        let mut names = self.schema.fields().iter().map(|f| f.name().as_str());
        if names.by_ref().eq(["plan_type", "plan"]) {
            return plans(&held); // of EXPLAIN: a frame around lines that long helps nobody
        }
        let mut text = pretty_format_batches_with_options(&held, &options())?
            .to_string()
            .into_bytes();
        text.push(b'\n');
        Ok(text)
    }

    fn expanded(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, Error> {
        let names = || self.schema.fields().iter().map(|f| f.name().as_str());
        let width = names().map(|n| n.chars().count()).max().unwrap_or(0);
        let rule = width + 20;
        let options = options();
        let columns = formatters(batch, &options)?;
        let mut text = String::new();
        for row in 0..batch.num_rows() {
            let title = format!("-[ row {} ]", self.rows + row + 1);
            text += &format!("{title:-<rule$}\n");
            for (name, column) in names().zip(&columns) {
                // Further lines of a value stand below its first.
                let value = column.value(row).to_string();
                let value = value.replace('\n', &format!("\n{:width$} | ", ""));
                text += format!("{name:width$} | {value}").trim_end();
                text.push('\n');
            }
        }
        self.rows += batch.num_rows();
        Ok(text.into_bytes())
    }

    fn markdown(&self, batch: &RecordBatch) -> Result<Vec<u8>, Error> {
        let cell = |text: &str| {
            let text = text.replace('\\', "\\\\").replace('|', "\\|");
            text.replace("\r\n", "<br>").replace(['\n', '\r'], "<br>")
        };
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut text = String::new();
        if !self.started {
            let fields = self.schema.fields().iter();
            text += &line(fields.clone().map(|f| cell(f.name())).collect());
            let rule = |number: bool| if number { "---:" } else { "---" };
            let rules = fields.map(|f| rule(f.data_type().is_numeric()).to_owned());
            text += &line(rules.collect());
        }
        let options = options();
        let columns = formatters(batch, &options)?;
        for row in 0..batch.num_rows() {
            let cells = columns.iter().map(|c| cell(&c.value(row).to_string()));
            text += &line(cells.collect());
        }
        Ok(text.into_bytes())
    }
}

/// Plans as plain text, each below its name.
fn plans(batches: &[RecordBatch]) -> Result<Vec<u8>, Error> {
    let options = options();
    let mut text = String::new();
    for batch in batches {
        let columns = formatters(batch, &options)?;
        for row in 0..batch.num_rows() {
            let values: Vec<String> = columns.iter().map(|c| c.value(row).to_string()).collect();
            let (name, plan) = (&values[0], values[1].trim_end());
            text += &format!("{name}\n  {}\n", plan.replace('\n', "\n  "));
        }
    }
    Ok(text.into_bytes())
}

fn options() -> FormatOptions<'static> {
    FormatOptions::default().with_display_error(true)
}

fn formatters<'a>(
    batch: &'a RecordBatch,
    options: &FormatOptions<'a>,
) -> Result<Vec<ArrayFormatter<'a>>, Error> {
    let columns = batch.columns().iter();
    let columns = columns.map(|c| ArrayFormatter::try_new(c.as_ref(), options));
    Ok(columns.collect::<Result<_, _>>()?)
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
