//! Rows that are in the dataset already, read back in order of `seq`, to be written anew between others.
//!
//! The files of a slice are read one after the other into a temporary file of plain rows, a stretch each; the stretches
//! are merged from there. So however many files a slice has, memory is a small buffer for each.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;

use arrow::array::{
    Array, AsArray, BooleanArray, DictionaryArray, RecordBatch, StringArray, UInt8Array,
    UInt16Array, UInt32Array, UInt64Array,
};
use arrow::datatypes::{Int32Type, TimestampNanosecondType};
use futures::TryStreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::errors::ParquetError;
use tokio::runtime::Handle;

use crate::clocks::Offsets;
use crate::compact::read::Reader;
use crate::dataset::Dataset;
use crate::error::IngestError;
use crate::guard::guarded_async;
use crate::manifest::FileEntry;
use crate::row::Row;

/// Columns that a row is made of.
const COLUMNS: [&str; 14] = [
    "seq",
    "ts",
    "cpu",
    "uid",
    "pid",
    "tid",
    "event",
    "access",
    "major",
    "addr",
    "ip",
    "object_id",
    "page",
    "page_order",
];
/// Rows that are decoded at a time.
const BATCH: usize = 4096;
/// Bytes of a row in the temporary file.
const WIDTH: usize = 60;

/// Numbers of event and access in their dictionaries, and major.
type Use = (Option<usize>, Option<usize>, Option<bool>);

/// The rows of some slices, in order.
pub(crate) struct StoredRows<'a> {
    dataset: &'a Dataset,
    runtime: Handle,
    /// How the rows' times were made.
    offsets: Offsets,
    /// Bytes for the buffers of all stretches.
    budget: u64,
    slices: VecDeque<Vec<FileEntry>>,
    open: Option<Slice>,
}

struct Slice {
    file: File,
    stretches: Vec<Stretch>,
    /// (seq, stretch) of each one's next row.
    heads: BinaryHeap<Reverse<(u64, usize)>>,
    buffer: usize,
}

struct Stretch {
    /// Bytes not read yet.
    from: u64,
    to: u64,
    rows: VecDeque<Row>,
}

impl<'a> StoredRows<'a> {
    /// Rows of `files`, which are of one recording; `slice_rows` as in the manifest.
    pub(crate) fn new(
        dataset: &'a Dataset,
        runtime: Handle,
        offsets: Offsets,
        mut files: Vec<FileEntry>,
        slice_rows: u64,
        budget: u64,
    ) -> Self {
        let slice = |f: &FileEntry| f.seq.map_or(0, |s| s.min / slice_rows);
        files.sort_by_key(slice);
        let mut slices: VecDeque<Vec<FileEntry>> = VecDeque::new();
        for file in files {
            match slices.back_mut() {
                Some(last) if last.first().map(slice) == Some(slice(&file)) => last.push(file),
                _ => slices.push_back(vec![file]),
            }
        }
        Self {
            dataset,
            runtime,
            offsets,
            budget,
            slices,
            open: None,
        }
    }

    /// Adds rows until there are `enough`; `key` is the latest time so far, and what a row's `seq` becomes. `false`:
    /// there are no more.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn read(
        &mut self,
        key: &mut u64,
        rows: &mut Vec<Row>,
        enough: usize,
    ) -> Result<bool, IngestError> {
        while rows.len() < enough {
            let slice = match &mut self.open {
                Some(slice) => slice,
                None => match self.slices.pop_front() {
                    Some(files) => {
                        let slice = self.load(&files)?;
                        self.open.insert(slice)
                    }
                    None => return Ok(false),
                },
            };
            let next = slice.next();
            match next.map_err(|cause| temporary(self.dataset, cause))? {
                Some(mut row) => {
                    *key = (*key).max(row.time_ns);
                    row.seq = *key;
                    rows.push(row);
                }
                None => self.open = None,
            }
        }
        Ok(true)
    }

    /// Reads the files of a slice into a temporary file.
    fn load(&self, files: &[FileEntry]) -> Result<Slice, IngestError> {
        // Beside the dataset, if that is a folder: /tmp may be memory.
        let file = match self.dataset.folder() {
            Some(folder) => tempfile::tempfile_in(folder),
            None => tempfile::tempfile(),
        };
        let failed = |cause| temporary(self.dataset, cause);
        let mut out = BufWriter::with_capacity(1 << 18, file.map_err(failed)?);
        let (mut stretches, mut at) = (Vec::new(), 0);
        for entry in files {
            let from = at;
            self.runtime
                .block_on(self.spill(entry, &mut out, &mut at))?;
            stretches.push(Stretch {
                from,
                to: at,
                rows: VecDeque::new(),
            });
        }
        let file = out.into_inner().map_err(|e| failed(e.into_error()))?;
        let each = self.budget as usize / files.len().max(1) / WIDTH;
        let mut slice = Slice {
            file,
            heads: BinaryHeap::new(),
            buffer: each.clamp(16, 4096),
            stretches,
        };
        for index in 0..slice.stretches.len() {
            slice.push_head(index).map_err(failed)?;
        }
        Ok(slice)
    }

    async fn spill(
        &self,
        entry: &FileEntry,
        out: &mut impl Write,
        at: &mut u64,
    ) -> Result<(), IngestError> {
        let failed = |cause| IngestError::not_encoded(&entry.path, cause);
        let reader = Reader::of(self.dataset, entry);
        let builder = guarded_async(ParquetRecordBatchStreamBuilder::new(reader))
            .await
            .map_err(failed)?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), COLUMNS);
        let mut batches = builder
            .with_projection(mask)
            .with_batch_size(BATCH)
            .build()
            .map_err(failed)?;
        while let Some(batch) = guarded_async(batches.try_next()).await.map_err(failed)? {
            let mut failure = Ok(());
            let whole = each_row(&batch, &self.offsets, |row| {
                if failure.is_ok() {
                    failure = out.write_all(&to_bytes(row));
                    *at += WIDTH as u64;
                }
            });
            failure.map_err(|cause| temporary(self.dataset, cause))?;
            whole.ok_or_else(|| {
                failed(ParquetError::General(
                    "a column is not as it should be".into(),
                ))
            })?;
        }
        Ok(())
    }
}

impl Slice {
    fn next(&mut self) -> std::io::Result<Option<Row>> {
        let Some(Reverse((_, index))) = self.heads.pop() else {
            return Ok(None);
        };
        let row = self
            .stretches
            .get_mut(index)
            .and_then(|s| s.rows.pop_front());
        self.push_head(index)?;
        Ok(row)
    }

    fn push_head(&mut self, index: usize) -> std::io::Result<()> {
        let Some(stretch) = self.stretches.get_mut(index) else {
            return Ok(());
        };
        if stretch.rows.is_empty() && stretch.from < stretch.to {
            let bytes = (stretch.to - stretch.from).min((self.buffer * WIDTH) as u64);
            let mut buffer = vec![0; bytes as usize];
            self.file.read_exact_at(&mut buffer, stretch.from)?;
            stretch.from += bytes;
            stretch
                .rows
                .extend(buffer.as_chunks::<WIDTH>().0.iter().map(from_bytes));
        }
        if let Some(row) = stretch.rows.front() {
            self.heads.push(Reverse((row.seq, index)));
        }
        Ok(())
    }
}

fn temporary(dataset: &Dataset, cause: std::io::Error) -> IngestError {
    IngestError::Input {
        path: format!(
            "{}: rows that are moved, in a temporary file",
            dataset.location()
        )
        .into(),
        cause,
    }
}

/// Gives each row of a batch; `None`: a column is not there, or of another type.
fn each_row(batch: &RecordBatch, offsets: &Offsets, mut take: impl FnMut(&Row)) -> Option<()> {
    fn column<'b, T: 'static>(batch: &'b RecordBatch, name: &str) -> Option<&'b T> {
        batch.column_by_name(name)?.as_any().downcast_ref()
    }
    fn text<'b>(
        batch: &'b RecordBatch,
        name: &str,
    ) -> Option<(&'b DictionaryArray<Int32Type>, &'b StringArray)> {
        let array = column::<DictionaryArray<Int32Type>>(batch, name)?;
        Some((array, array.values().as_any().downcast_ref()?))
    }
    let ts = batch
        .column_by_name("ts")?
        .as_primitive_opt::<TimestampNanosecondType>()?;
    let (seq, page) = (
        column::<UInt64Array>(batch, "seq")?,
        column::<UInt64Array>(batch, "page")?,
    );
    let (addr, ip) = (
        column::<UInt64Array>(batch, "addr")?,
        column::<UInt64Array>(batch, "ip")?,
    );
    let object = column::<UInt64Array>(batch, "object_id")?;
    let cpu = column::<UInt16Array>(batch, "cpu")?;
    let (uid, pid, tid) = (
        column::<UInt32Array>(batch, "uid")?,
        column::<UInt32Array>(batch, "pid")?,
        column::<UInt32Array>(batch, "tid")?,
    );
    let order = column::<UInt8Array>(batch, "page_order")?;
    let major = column::<BooleanArray>(batch, "major")?;
    let (event, access) = (text(batch, "event")?, text(batch, "access")?);
    let word = |(array, values): (&DictionaryArray<Int32Type>, &'_ StringArray), i: usize| {
        array.key(i).map(|key| values.value(key).to_string())
    };
    // Few combinations come again and again.
    let mut uses: HashMap<Use, u8> = HashMap::new();
    for i in 0..batch.num_rows() {
        let mut row = Row {
            seq: seq.value(i),
            time_ns: offsets.monotonic(seq.value(i), ts.value(i)),
            addr: if addr.is_valid(i) { addr.value(i) } else { 0 },
            ip: if ip.is_valid(i) { ip.value(i) } else { 0 },
            page: page.value(i),
            tgid: pid.value(i),
            tid: tid.value(i),
            uid: uid.value(i),
            object: u32::try_from(object.value(i)).ok()?,
            cpu: cpu.value(i),
            page_order: order.value(i),
            ..Row::default()
        };
        let major = major.is_valid(i).then(|| major.value(i));
        let key = (event.0.key(i), access.0.key(i), major);
        let flags = *uses.entry(key).or_insert_with(|| {
            let (event, access) = (word(event, i), word(access, i));
            row.set_use(
                event.as_deref().unwrap_or_default(),
                access.as_deref(),
                major,
            );
            row.flags
        });
        row.flags = flags;
        take(&row);
    }
    Some(())
}

fn to_bytes(row: &Row) -> [u8; WIDTH] {
    let mut bytes = [0; WIDTH];
    let fields: [&[u8]; 12] = [
        &row.seq.to_le_bytes(),
        &row.time_ns.to_le_bytes(),
        &row.addr.to_le_bytes(),
        &row.ip.to_le_bytes(),
        &row.page.to_le_bytes(),
        &row.tgid.to_le_bytes(),
        &row.tid.to_le_bytes(),
        &row.uid.to_le_bytes(),
        &row.object.to_le_bytes(),
        &row.cpu.to_le_bytes(),
        &[row.page_order],
        &[row.flags],
    ];
    let all = fields.iter().flat_map(|f| f.iter());
    for (to, from) in bytes.iter_mut().zip(all) {
        *to = *from;
    }
    bytes
}

fn from_bytes(bytes: &[u8; WIDTH]) -> Row {
    fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
        let (head, rest) = bytes
            .split_first_chunk::<N>()
            .map_or(([0; N], [].as_slice()), |(h, r)| (*h, r));
        *bytes = rest;
        head
    }
    let mut b = bytes.as_slice();
    let mut row = Row {
        seq: u64::from_le_bytes(take(&mut b)),
        time_ns: u64::from_le_bytes(take(&mut b)),
        addr: u64::from_le_bytes(take(&mut b)),
        ip: u64::from_le_bytes(take(&mut b)),
        page: u64::from_le_bytes(take(&mut b)),
        tgid: u32::from_le_bytes(take(&mut b)),
        tid: u32::from_le_bytes(take(&mut b)),
        uid: u32::from_le_bytes(take(&mut b)),
        object: u32::from_le_bytes(take(&mut b)),
        cpu: u16::from_le_bytes(take(&mut b)),
        page_order: u8::from_le_bytes(take(&mut b)),
        ..Row::default()
    };
    row.flags = u8::from_le_bytes(take(&mut b));
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_to_bytes_and_back() {
        let mut row = Row {
            seq: 1 << 60,
            time_ns: 2 << 60,
            addr: 3 << 60,
            ip: 4 << 60,
            page: 5 << 50,
            tgid: 6 << 28,
            tid: 7 << 28,
            uid: 8 << 28,
            object: 9 << 27,
            cpu: 0x1234,
            page_order: 9,
            ..Row::default()
        };
        row.set_use("retouch", Some("write"), Some(true));
        assert_eq!(from_bytes(&to_bytes(&row)), row);
    }
}
