//! The reference string in order of `seq`, out of partitions that are each in order.
//!
//! Nothing is copied: what comes next is always a stretch of rows of one partition's batch.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, AsArray, BooleanArray, DictionaryArray, PrimitiveArray, RecordBatch, StringArray,
    UInt64Array,
};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, Int32Type, TimestampNanosecondType, UInt32Type, UInt64Type,
};
use datafusion::common::{Result, exec_err};

use super::input::{Input, Source};

/// Columns of one batch. Those that the operator does not read are empty.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) seq: ScalarBuffer<u64>,
    /// ns since 1970 UTC.
    pub(crate) ts: ScalarBuffer<i64>,
    pub(crate) object_id: ScalarBuffer<u64>,
    pub(crate) page: ScalarBuffer<u64>,
    pub(crate) upid: ScalarBuffer<u64>,
    pub(crate) pid: ScalarBuffer<u32>,
    pub(crate) tid: ScalarBuffer<u32>,
    pub(crate) ip: Option<UInt64Array>,
    pub(crate) access: Option<Coded<Done>>,
    pub(crate) path: Option<DictionaryArray<Int32Type>>,
    pub(crate) object_kind: Option<DictionaryArray<Int32Type>>,
    pub(crate) comm: Option<DictionaryArray<Int32Type>>,
    /// Whether the event is a fault.
    pub(crate) fault: Option<Coded<bool>>,
    pub(crate) major: Option<BooleanArray>,
}

/// What was done to a page, as the column `access` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Read,
    Write,
    Exec,
    Unknown,
}

/// A dictionary column as few values: the value of each text is found once a batch.
#[derive(Debug)]
pub(crate) struct Coded<T> {
    keys: ScalarBuffer<i32>,
    nulls: Option<NullBuffer>,
    codes: Vec<T>,
    none: T,
}

impl<T: Copy> Coded<T> {
    fn new(column: &DictionaryArray<Int32Type>, code: impl Fn(&str) -> T, none: T) -> Self {
        let texts = column.values().as_string_opt::<i32>();
        let codes = texts.into_iter().flat_map(|texts| texts.iter());
        Self {
            keys: column.keys().values().clone(),
            nulls: column.nulls().cloned(),
            codes: codes.map(|text| text.map_or(none, &code)).collect(),
            none,
        }
    }

    /// The value of a row; of null, `none`.
    #[inline]
    pub(crate) fn of(&self, row: usize) -> T {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return self.none;
        }
        let code = self.codes.get(self.keys[row] as usize);
        code.copied().unwrap_or(self.none)
    }
}

/// A text of a dictionary column; `None`: null.
pub(crate) fn text(column: Option<&DictionaryArray<Int32Type>>, row: usize) -> Option<&str> {
    let column = column?;
    let values: &StringArray = column.values().as_string_opt()?;
    let key = column.key(row)?;
    values.is_valid(key).then(|| values.value(key))
}

fn numbers<T: ArrowPrimitiveType>(
    batch: &RecordBatch,
    name: &str,
) -> Result<ScalarBuffer<T::Native>> {
    let column = batch
        .column_by_name(name)
        .and_then(|c| c.as_primitive_opt::<T>());
    match column {
        Some(column) => Ok(PrimitiveArray::<T>::values(column).clone()),
        None => exec_err!("column {name} is not of the type that an operator reads"),
    }
}

impl Rows {
    fn read(batch: &RecordBatch, reads: &[&str]) -> Result<Self> {
        let mut rows = Self::default();
        // Partitions are put in order by it, whether the operator reads it or not.
        if batch.column_by_name("seq").is_some() {
            rows.seq = numbers::<UInt64Type>(batch, "seq")?;
        }
        for &name in reads {
            let texts = || {
                batch
                    .column_by_name(name)
                    .and_then(|c| c.as_dictionary_opt::<Int32Type>())
                    .cloned()
            };
            match name {
                "seq" if rows.seq.len() == batch.num_rows() => {}
                "ts" => rows.ts = numbers::<TimestampNanosecondType>(batch, name)?,
                "object_id" => rows.object_id = numbers::<UInt64Type>(batch, name)?,
                "page" => rows.page = numbers::<UInt64Type>(batch, name)?,
                "upid" => rows.upid = numbers::<UInt64Type>(batch, name)?,
                "pid" => rows.pid = numbers::<UInt32Type>(batch, name)?,
                "tid" => rows.tid = numbers::<UInt32Type>(batch, name)?,
                "ip" => {
                    rows.ip = batch
                        .column_by_name(name)
                        .and_then(|c| c.as_primitive_opt())
                        .cloned()
                }
                "access" => {
                    let done = |text: &str| match text {
                        "read" => Done::Read,
                        "write" => Done::Write,
                        "exec" => Done::Exec,
                        _ => Done::Unknown,
                    };
                    rows.access = texts().map(|column| Coded::new(&column, done, Done::Unknown));
                }
                "path" => rows.path = texts(),
                "object_kind" => rows.object_kind = texts(),
                "comm" => rows.comm = texts(),
                "event" => {
                    let fault = |text: &str| text == "fault";
                    rows.fault = texts().map(|column| Coded::new(&column, fault, false));
                }
                "major" => {
                    rows.major = batch
                        .column_by_name(name)
                        .and_then(|c| c.as_boolean_opt())
                        .cloned()
                }
                _ => return exec_err!("operators do not read the column {name}"),
            }
        }
        Ok(rows)
    }
}

/// One partition's place.
struct Cursor {
    input: Input,
    batch: RecordBatch,
    rows: Rows,
    capture: Arc<str>,
    /// Whether all rows are of `capture`: then no column says so.
    fixed: bool,
    /// Rows of `capture` end here.
    capture_end: usize,
    at: usize,
}

impl Cursor {
    fn new(input: Input, capture: Option<&Arc<str>>) -> Self {
        Self {
            input,
            batch: RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty())),
            rows: Rows::default(),
            capture: capture.map_or_else(|| "".into(), Arc::clone),
            fixed: capture.is_some(),
            capture_end: 0,
            at: 0,
        }
    }

    /// Whether there are rows; reads on where the batch is over.
    fn fill(&mut self, reads: &[&str]) -> Result<bool> {
        while self.at == self.batch.num_rows() {
            match self.input.next()? {
                None => return Ok(false),
                Some(batch) => {
                    self.rows = Rows::read(&batch, reads)?;
                    (self.batch, self.at, self.capture_end) = (batch, 0, 0);
                }
            }
        }
        if self.at == self.capture_end {
            self.capture()?;
        }
        Ok(true)
    }

    /// Finds the capture at `at`, and where its rows end.
    fn capture(&mut self) -> Result<()> {
        if self.fixed {
            self.capture_end = self.batch.num_rows();
            return Ok(());
        }
        let Some(ids) = self
            .batch
            .column_by_name("capture_id")
            .and_then(|c| c.as_dictionary_opt::<Int32Type>())
        else {
            return exec_err!("capture_id is not a dictionary of texts");
        };
        let id = text(Some(ids), self.at).unwrap_or_default();
        if *self.capture != *id {
            self.capture = id.into();
        }
        // Rows are in order of capture_id; as a rule all are of one.
        let same = |row: usize| text(Some(ids), row).unwrap_or_default() == id;
        let last = ids.len() - 1;
        self.capture_end = if same(last) {
            ids.len()
        } else {
            (self.at..last).find(|&row| !same(row)).unwrap_or(last)
        };
        Ok(())
    }

    fn key(&self) -> (&str, u64) {
        (&self.capture, self.rows.seq[self.at])
    }
}

/// Which rows come next.
#[derive(Clone, Debug)]
pub(crate) struct Stretch {
    partition: usize,
    /// Rows of [`References::rows`].
    pub(crate) range: Range<usize>,
}

/// The merged reference string.
pub(crate) struct References {
    source: Source,
    cursors: Vec<Cursor>,
    reads: Arc<[&'static str]>,
    /// The capture of all rows, if there is but one.
    capture: Option<Arc<str>>,
    /// Cursors with rows, the next one last.
    order: Vec<usize>,
    /// The cursor whose rows were given last: it has to be put in its place again.
    given: Option<usize>,
    started: bool,
}

impl References {
    /// References to be read from `inputs`, which `source` gave: their columns `reads`; `seq`, where they are several; and,
    /// unless all rows are of one `capture`, `capture_id`.
    pub(crate) fn new(
        source: Source,
        inputs: Vec<Input>,
        reads: Arc<[&'static str]>,
        capture: Option<Arc<str>>,
    ) -> Self {
        let cursor = |input| Cursor::new(input, capture.as_ref());
        let cursors = inputs.into_iter().map(cursor).collect();
        Self {
            source,
            cursors,
            reads,
            capture,
            order: Vec::new(),
            given: None,
            started: false,
        }
    }

    /// Begins again with the first reference.
    ///
    /// # Errors
    /// Those of starting to read.
    pub(crate) fn again(&mut self) -> Result<()> {
        let cursor = |input| Cursor::new(input, self.capture.as_ref());
        self.cursors = self.source.start()?.into_iter().map(cursor).collect();
        (self.order, self.given, self.started) = (Vec::new(), None, false);
        Ok(())
    }

    /// Rows of a stretch.
    pub(crate) fn rows(&self, stretch: &Stretch) -> &Rows {
        &self.cursors[stretch.partition].rows
    }

    /// The capture that a stretch belongs to.
    pub(crate) fn capture(&self, stretch: &Stretch) -> &Arc<str> {
        &self.cursors[stretch.partition].capture
    }

    /// The next rows; `None`: the end. Never empty, and of one capture.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn next(&mut self) -> Result<Option<Stretch>> {
        if !self.started {
            self.started = true;
            for i in 0..self.cursors.len() {
                self.insert(i)?;
            }
        }
        if let Some(i) = self.given.take() {
            self.insert(i)?;
        }
        let Some(partition) = self.order.pop() else {
            return Ok(None);
        };
        let limit = self.order.last().map(|&next| self.cursors[next].key());
        let cursor = &self.cursors[partition];
        let end = match limit {
            None => cursor.capture_end,
            Some((capture, _)) if capture != &*cursor.capture => cursor.capture_end,
            Some((_, seq)) => {
                // Most stretches are short where CPUs interleave, and whole batches where they do not.
                let left = &cursor.rows.seq[cursor.at..cursor.capture_end];
                let near = left.iter().take(8).position(|s| *s >= seq);
                cursor.at
                    + near
                        .unwrap_or_else(|| left.partition_point(|s| *s < seq))
                        .max(1)
            }
        };
        let range = cursor.at..end;
        self.cursors[partition].at = end;
        self.given = Some(partition);
        Ok(Some(Stretch { partition, range }))
    }

    /// Puts a cursor among the others, if it has rows left.
    fn insert(&mut self, i: usize) -> Result<()> {
        if self.cursors[i].fill(&self.reads)? {
            if self.cursors.len() == 1 {
                self.order.push(i);
                return Ok(());
            }
            let key = self.cursors[i].key();
            let at = self
                .order
                .partition_point(|&other| self.cursors[other].key() > key);
            self.order.insert(at, i);
        }
        Ok(())
    }
}
