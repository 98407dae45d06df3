//! `_phases(condition, window)`: the phases of each process, out of windows of its own references.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use pgtrace_locality::index::page_hash;
use pgtrace_locality::phases::{PageSetBuilder, Phase, Phases, SET_BOUND, Window, dominant};

use super::inputs::Inputs;
use super::memory::Memory;
use super::pass::{Pass, each_capture};
use super::references::Rows;
use super::texts::Texts;
use super::touches::{self, Objects};
use super::{BATCH, Operator, Output};

pub(crate) const NAME: &str = "_phases";

pub(crate) fn make(arguments: &[ScalarValue]) -> Result<Arc<dyn Operator>> {
    let [window] = arguments else {
        return plan_err!("{NAME} takes a condition and a number of references");
    };
    match window.cast_to(&DataType::UInt64) {
        Ok(ScalarValue::UInt64(Some(refs))) if refs > 0 => Ok(Arc::new(PhasesOf(refs))),
        _ => plan_err!("a window of a process is a number of its references, found {window}"),
    }
}

/// References of a process in one window.
#[derive(Debug)]
struct PhasesOf(u64);

impl Operator for PhasesOf {
    fn name(&self) -> &'static str {
        NAME
    }

    fn schema(&self) -> SchemaRef {
        let field = |name: &str, kind: &DataType, null| Field::new(name, kind.clone(), null);
        let (text, number) = (DataType::Utf8View, DataType::UInt64);
        Arc::new(Schema::new(vec![
            field("capture_id", &text, false),
            field("upid", &number, false),
            field("phase", &number, false),
            field("from_seq", &number, false),
            field("to_seq", &number, false),
            field("windows", &number, false),
            field("working_set_pages", &number, false),
            field("exact", &DataType::Boolean, false),
            field("pattern", &text, false),
            field("repeats", &number, true),
        ]))
    }

    fn reads(&self) -> &'static [&'static str] {
        const READS: [&str; 7] = {
            let [a, b, c, d] = touches::COLUMNS;
            [a, b, c, d, "seq", "upid", "object_id"]
        };
        &READS
    }

    fn splits_by(&self) -> &'static [&'static str] {
        &["capture_id", "upid"]
    }

    fn run(&self, input: &mut Inputs, output: &mut Output, memory: &Memory) -> Result<()> {
        each_capture(input, output, memory, |capture| Capture {
            id: Arc::clone(capture),
            refs: self.0,
            processes: BTreeMap::new(),
            bytes: 0,
            done: Vec::new(),
            schema: self.schema(),
        })
    }
}

struct Process {
    phases: Phases,
    objects: Objects<u64>,
    pages: PageSetBuilder,
    from_seq: u64,
    to_seq: u64,
    refs: u64,
}

impl Process {
    fn new(upid: u64) -> Self {
        Self {
            phases: Phases::new(upid),
            objects: Objects::default(),
            pages: PageSetBuilder::new(SET_BOUND),
            from_seq: 0,
            to_seq: 0,
            refs: 0,
        }
    }

    /// Ends the window; gives the phase that it ends, if it does.
    fn close(&mut self) -> Option<Phase> {
        if self.refs == 0 {
            return None;
        }
        let judged = std::mem::take(&mut self.objects)
            .by
            .into_values()
            .map(|classifier| {
                let refs = classifier.refs();
                (classifier.finish().all.pattern, refs)
            });
        let pattern = dominant(judged);
        let pages = std::mem::replace(&mut self.pages, PageSetBuilder::new(SET_BOUND)).finish();
        self.refs = 0;
        self.phases.push(Window {
            from_seq: self.from_seq,
            to_seq: self.to_seq,
            pattern,
            pages,
        })
    }

    fn bytes(&self) -> usize {
        self.objects.bytes() + self.phases.bytes() + SET_BOUND * 16
    }
}

struct Capture {
    id: Arc<str>,
    refs: u64,
    processes: BTreeMap<u64, Process>,
    /// Bytes of all processes.
    bytes: usize,
    done: Vec<Phase>,
    schema: SchemaRef,
}

impl Capture {
    fn give(&mut self, output: &mut Output) -> Result<bool> {
        let done = std::mem::take(&mut self.done);
        for part in done.chunks(BATCH) {
            let mut patterns = Texts::default();
            for phase in part {
                patterns.push(phase.pattern as u32, Some(phase.pattern.name()));
            }
            let numbers = |value: fn(&Phase) -> u64| {
                Arc::new(UInt64Array::from_iter_values(part.iter().map(value))) as ArrayRef
            };
            let columns = vec![
                Texts::same(&self.id, part.len()),
                numbers(|p| p.upid),
                numbers(|p| p.phase),
                numbers(|p| p.from_seq),
                numbers(|p| p.to_seq),
                numbers(|p| p.windows),
                numbers(|p| p.working_set_pages),
                Arc::new(part.iter().map(|p| Some(p.exact)).collect::<BooleanArray>()),
                patterns.take(),
                Arc::new(part.iter().map(|p| p.repeats).collect::<UInt64Array>()),
            ];
            if !output.give(RecordBatch::try_new(Arc::clone(&self.schema), columns)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Pass for Capture {
    fn stretch(
        &mut self,
        rows: &Rows,
        range: Range<usize>,
        output: &mut Output,
        memory: &Memory,
    ) -> Result<bool> {
        for row in range {
            let (upid, seq) = (rows.upid[row], rows.seq[row]);
            let process = self.processes.entry(upid).or_insert_with(|| {
                let new = Process::new(upid);
                self.bytes += new.bytes();
                new
            });
            self.bytes -= process.bytes();
            if process.refs == self.refs {
                self.done.extend(process.close());
            }
            if process.refs == 0 {
                process.from_seq = seq;
            }
            process.refs += 1;
            process.to_seq = seq;
            process
                .objects
                .push(rows.object_id[row], &touches::touch(rows, row));
            process
                .pages
                .insert(page_hash(rows.object_id[row], rows.page[row]));
            self.bytes += process.bytes();
        }
        memory.need(
            self.bytes + self.done.len() * size_of::<Phase>(),
            "a window and the earlier phases of each process",
        )?;
        Ok(self.done.len() < BATCH || self.give(output)?)
    }

    fn end(mut self, output: &mut Output, _: &Memory) -> Result<bool> {
        for (_, mut process) in std::mem::take(&mut self.processes) {
            self.done.extend(process.close());
            self.done.extend(process.phases.finish());
        }
        self.give(output)
    }
}
