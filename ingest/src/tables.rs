//! The small tables: what is known of a recording besides its references.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, RecordBatch, StringArray, StringDictionaryBuilder,
    TimestampNanosecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow::datatypes::Int32Type;
use arrow::error::ArrowError;
use pgtrace_capture::record::{Exit, Mapping, Record};

use crate::clocks::Clocks;
use crate::error::IngestError;
use crate::losses::Loss;
use crate::marks::Cells;
use crate::names::{Names, ObjectInfo, Told};
use crate::row::Context;
use crate::schema::Table;

/// Rows of a batch.
const BATCH: usize = 8192;

/// What a row of `captures` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureFacts {
    /// The recording.
    pub capture_id: String,
    /// Boot of the traced machine.
    pub boot_id: String,
    /// Its kernel release.
    pub kernel: String,
    /// Bytes of a base page.
    pub page_size: u32,
    /// CPUs that wrote chunks.
    pub cpus: u32,
    /// Highest level recorded.
    pub level: Option<String>,
    /// Settings as JSON.
    pub settings: String,
    /// Start of the recording, monotonic ns.
    pub start_ns: u64,
    /// Time of the last record, monotonic ns.
    pub end_ns: u64,
    /// Rows of `refs`, with those lost or overwritten.
    pub emitted: Option<u64>,
    /// Rows in `refs`.
    pub refs: u64,
    /// Of them page-cache events, which are no references.
    pub cache_events: u64,
    /// Rows of `refs` lost, those overwritten left out.
    pub lost: u64,
    /// Raw files.
    pub chunks: u32,
    /// Their bytes.
    pub raw_bytes: u64,
}

/// Columns under construction, checked against the schema at the end.
struct Columns {
    table: Table,
    rows: usize,
    by_name: HashMap<&'static str, ArrayRef>,
}

impl Columns {
    fn new(table: Table, rows: usize, capture_id: &str) -> Self {
        let mut columns = Self {
            table,
            rows,
            by_name: HashMap::new(),
        };
        columns.texts("capture_id", (0..rows).map(|_| Some(capture_id)));
        columns
    }

    fn put(&mut self, name: &'static str, array: ArrayRef) {
        self.by_name.insert(name, array);
    }

    fn texts<'a>(&mut self, name: &'static str, values: impl Iterator<Item = Option<&'a str>>) {
        let mut builder = StringDictionaryBuilder::<Int32Type>::new();
        builder.extend(values);
        self.put(name, Arc::new(builder.finish()));
    }

    fn u64s(&mut self, name: &'static str, values: impl Iterator<Item = Option<u64>>) {
        self.put(name, Arc::new(values.collect::<UInt64Array>()));
    }

    fn u32s(&mut self, name: &'static str, values: impl Iterator<Item = Option<u32>>) {
        self.put(name, Arc::new(values.collect::<UInt32Array>()));
    }

    fn u8s(&mut self, name: &'static str, values: impl Iterator<Item = Option<u8>>) {
        self.put(name, Arc::new(values.collect::<UInt8Array>()));
    }

    fn cpus(&mut self, values: impl Iterator<Item = u16>) {
        self.put("cpu", Arc::new(UInt16Array::from_iter_values(values)));
    }

    fn bools(&mut self, name: &'static str, values: impl Iterator<Item = Option<bool>>) {
        self.put(name, Arc::new(values.collect::<BooleanArray>()));
    }

    fn times(
        &mut self,
        name: &'static str,
        clocks: &Clocks,
        values: impl Iterator<Item = Option<u64>>,
    ) {
        let utc = values.map(|t| t.map(|t| clocks.utc(t)));
        let array = utc.collect::<TimestampNanosecondArray>();
        self.put(name, Arc::new(array.with_timezone("UTC")));
    }

    fn batch(mut self) -> Result<RecordBatch, ArrowError> {
        let schema = self.table.arrow_schema();
        let columns = schema
            .fields()
            .iter()
            .map(|f| {
                self.by_name.remove(f.name().as_str()).ok_or_else(|| {
                    ArrowError::SchemaError(format!(
                        "no values for {}.{} ({} rows)",
                        self.table,
                        f.name(),
                        self.rows
                    ))
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(schema, columns)
    }
}

/// The row of `captures`.
pub(crate) fn captures(c: &CaptureFacts, clocks: &Clocks) -> Result<RecordBatch, ArrowError> {
    let mut to = Columns::new(Table::Captures, 1, &c.capture_id);
    let one = |text: &str| Arc::new(StringArray::from(vec![text.to_string()]));
    let (monotonic_ns, utc_ns) = clocks.first();
    to.texts("boot_id", std::iter::once(Some(c.boot_id.as_str())));
    to.put("kernel", one(&c.kernel));
    to.u32s("page_size", std::iter::once(Some(c.page_size)));
    to.u32s("cpus", std::iter::once(Some(c.cpus)));
    to.texts("level", std::iter::once(c.level.as_deref()));
    to.put("settings", one(&c.settings));
    to.times("start_ts", clocks, std::iter::once(Some(c.start_ns)));
    to.times("end_ts", clocks, std::iter::once(Some(c.end_ns)));
    to.u64s("emitted", std::iter::once(c.emitted));
    to.u64s("refs", std::iter::once(Some(c.refs)));
    to.u64s("cache_events", std::iter::once(Some(c.cache_events)));
    to.u64s("lost", std::iter::once(Some(c.lost)));
    to.u32s("chunks", std::iter::once(Some(c.chunks)));
    to.u64s("raw_bytes", std::iter::once(Some(c.raw_bytes)));
    to.u64s("clock_monotonic_ns", std::iter::once(Some(monotonic_ns)));
    to.u64s("clock_utc_ns", std::iter::once(Some(utc_ns)));
    to.batch()
}

/// Rows of `processes`, some at a time.
pub(crate) fn processes<'a>(
    capture_id: &'a str,
    names: &'a Names,
    clocks: &'a Clocks,
) -> impl Iterator<Item = Result<RecordBatch, IngestError>> {
    some(names.processes.values(), move |few| {
        let all = || few.iter().copied();
        let mut to = Columns::new(Table::Processes, few.len(), capture_id);
        to.u64s("upid", all().map(|p| Some(p.upid)));
        to.u32s("pid", all().map(|p| Some(p.last.tgid)));
        to.u32s("ppid", all().map(|p| Some(p.last.ppid)));
        to.u32s("uid", all().map(|p| Some(p.last.uid)));
        to.texts("comm", all().map(|p| Some(&*p.last.comm)));
        to.texts("exe", all().map(|p| p.last.exe.as_deref()));
        to.texts("cwd", all().map(|p| p.last.cwd.as_deref()));
        to.texts("cgroup", all().map(|p| p.last.cgroup.as_deref()));
        to.times("start_ts", clocks, all().map(|p| Some(p.last.start_ns)));
        to.times("end_ts", clocks, all().map(|p| p.exit.map(|e| e.0)));
        let told = |code: &u32| *code != Exit::UNKNOWN_CODE;
        to.u32s("exit_code", all().map(|p| p.exit.map(|e| e.1).filter(told)));
        Ok(to.batch()?)
    })
}

/// Rows of `objects`, some at a time.
pub(crate) fn objects<'a>(
    capture_id: &'a str,
    names: &'a Names,
) -> impl Iterator<Item = Result<RecordBatch, IngestError>> {
    some(names.objects.iter(), move |few| {
        let ids = || few.iter().map(|(id, _)| Some(u64::from(**id)));
        let all = || few.iter().map(|(_, object)| *object);
        // Only what lives in a file system has a device and an inode.
        let file = |o: &ObjectInfo| o.ino != 0 || o.dev != (0, 0);
        let devs: Vec<Option<String>> = all()
            .map(|o| file(o).then(|| format!("{}:{}", o.dev.0, o.dev.1)))
            .collect();
        let mut to = Columns::new(Table::Objects, few.len(), capture_id);
        to.u64s("object_id", ids());
        to.texts("object_kind", all().map(|o| Some(o.kind.as_str())));
        to.texts("dev", devs.iter().map(Option::as_deref));
        to.u64s("ino", all().map(|o| file(o).then_some(o.ino)));
        to.u32s("generation", all().map(|o| file(o).then_some(o.generation)));
        to.texts("path", all().map(|o| o.path.as_deref()));
        to.bools("deleted", all().map(|o| Some(o.deleted)));
        to.bools("path_truncated", all().map(|o| Some(o.truncated)));
        to.u32s("pid", all().map(|o| Some(o.tgid)));
        to.u64s("upid", all().map(|o| Some(o.upid)));
        Ok(to.batch()?)
    })
}

/// Rows of `mappings`, some at a time.
pub(crate) fn mappings<'a>(
    capture_id: &'a str,
    told: &'a Told,
    names: &'a Names,
    clocks: &'a Clocks,
) -> impl Iterator<Item = Result<RecordBatch, IngestError>> {
    let mut reader = told.mappings();
    let mut next = move || match reader.next_name()? {
        Some((_, Record::Mapping(m))) => Ok(Some((m, names.upid_at(m.tgid, m.stamp.time_ns)))),
        _ => Ok(None),
    };
    let all = std::iter::from_fn(move || next().transpose());
    some(all, move |few| {
        let few = few
            .into_iter()
            .collect::<Result<Vec<(Mapping, u64)>, IngestError>>()?;
        let all = || few.iter().map(|(m, _)| m);
        let mut to = Columns::new(Table::Mappings, few.len(), capture_id);
        to.u64s("upid", few.iter().map(|(_, upid)| Some(*upid)));
        to.u32s("pid", all().map(|m| Some(m.tgid)));
        to.u64s("object_id", all().map(|m| Some(m.object.into())));
        to.u64s("start_addr", all().map(|m| Some(m.start)));
        to.u64s("end_addr", all().map(|m| Some(m.end)));
        to.u64s("page", all().map(|m| Some(m.page)));
        to.bools("read", all().map(|m| Some(m.read)));
        to.bools("write", all().map(|m| Some(m.write)));
        to.bools("exec", all().map(|m| Some(m.exec)));
        to.bools("shared", all().map(|m| Some(m.shared)));
        to.times("ts", clocks, all().map(|m| Some(m.stamp.time_ns)));
        Ok(to.batch()?)
    })
}

/// Batches of things, a few thousand each.
fn some<T>(
    mut all: impl Iterator<Item = T>,
    batch: impl Fn(Vec<T>) -> Result<RecordBatch, IngestError>,
) -> impl Iterator<Item = Result<RecordBatch, IngestError>> {
    std::iter::from_fn(move || {
        let few: Vec<T> = all.by_ref().take(BATCH).collect();
        (!few.is_empty()).then(|| batch(few))
    })
}

/// Rows of `marks`.
pub(crate) fn marks(context: &Context, rows: &[Cells<'_>]) -> Result<RecordBatch, ArrowError> {
    let clocks = &context.clocks;
    let all = || rows.iter();
    let may = || all().map(|r| r.may);
    let mut to = Columns::new(Table::Marks, rows.len(), &context.capture_id);
    to.times("ts", clocks, all().map(|r| Some(r.time_ns)));
    to.cpus(all().map(|r| r.cpu));
    to.texts("kind", all().map(|r| Some(r.kind)));
    to.u32s("pid", all().map(|r| r.pid));
    to.u32s("tid", all().map(|r| r.tid));
    to.u64s("upid", all().map(|r| r.upid));
    to.texts("comm", all().map(|r| r.comm));
    to.u32s("exit_code", all().map(|r| r.exit_code));
    to.texts("level", all().map(|r| r.level));
    to.texts("policy", all().map(|r| r.policy));
    to.u32s("clean_ms", all().map(|r| r.clean_ms));
    to.u32s("fifo", all().map(|r| r.fifo));
    to.u8s("grain", all().map(|r| r.grain));
    to.bools("overwrite", all().map(|r| r.overwrite));
    to.u32s("pass", all().map(|r| r.pass));
    to.u64s("scanned", all().map(|r| r.scanned));
    to.u64s("cleaned", all().map(|r| r.cleaned));
    to.u64s("duration_ns", all().map(|r| r.duration_ns));
    to.u64s("monotonic_ns", all().map(|r| r.monotonic_ns));
    to.u64s("utc_ns", all().map(|r| r.utc_ns));
    to.u64s("object_id", all().map(|r| r.object.map(Into::into)));
    to.u64s("start_addr", all().map(|r| r.start_addr));
    to.u64s("end_addr", all().map(|r| r.end_addr));
    to.u64s("old_start_addr", all().map(|r| r.old_start_addr));
    to.u64s("old_end_addr", all().map(|r| r.old_end_addr));
    to.bools("read", may().map(|m| m.map(|[read, ..]| read)));
    to.bools("write", may().map(|m| m.map(|[_, write, ..]| write)));
    to.bools("exec", may().map(|m| m.map(|[.., exec, _]| exec)));
    to.bools("shared", may().map(|m| m.map(|[.., shared]| shared)));
    to.u64s("addr", all().map(|r| r.addr));
    to.u64s("page", all().map(|r| r.page));
    to.u64s("pages", all().map(|r| r.pages));
    to.u8s("page_order", all().map(|r| r.page_order));
    to.times("since_ts", clocks, all().map(|r| r.since_ns));
    to.bools("dirtied", all().map(|r| r.dirtied));
    to.bools("rereferenced", all().map(|r| r.rereferenced));
    to.bools("gone", all().map(|r| r.gone));
    to.batch()
}

/// The rows of `losses`.
pub(crate) fn losses(
    capture_id: &str,
    losses: &[Loss],
    clocks: &Clocks,
) -> Result<RecordBatch, ArrowError> {
    let all = || losses.iter();
    let mut to = Columns::new(Table::Losses, losses.len(), capture_id);
    to.cpus(all().map(|l| l.cpu));
    to.times("from_ts", clocks, all().map(|l| l.from_ns));
    to.times("to_ts", clocks, all().map(|l| l.to_ns));
    to.u64s("count", all().map(|l| l.count));
    to.texts("cause", all().map(|l| Some(l.cause)));
    to.texts("channel", all().map(|l| Some(l.channel.as_str())));
    let details: StringArray = all().map(|l| l.detail.as_deref()).collect();
    to.put("detail", Arc::new(details));
    to.batch()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_table_has_all_its_columns() {
        let (names, clocks) = (Names::default(), Clocks::default());
        let people = processes("c", &names, &clocks);
        assert_eq!(people.count() + objects("c", &names).count(), 0);
        let context = Context {
            capture_id: "c".into(),
            clocks: clocks.clone(),
            names,
        };
        let batch = marks(&context, &[Cells::default()]).unwrap();
        assert_eq!(batch.schema(), Table::Marks.arrow_schema());
        assert_eq!(losses("c", &[], &clocks).unwrap().num_rows(), 0);
        let facts = CaptureFacts {
            capture_id: "c".into(),
            boot_id: "b".into(),
            kernel: "6.1".into(),
            page_size: 4096,
            cpus: 2,
            level: None,
            settings: "{}".into(),
            start_ns: 0,
            end_ns: 1,
            emitted: None,
            refs: 0,
            cache_events: 0,
            lost: 0,
            chunks: 1,
            raw_bytes: 1,
        };
        assert_eq!(captures(&facts, &clocks).unwrap().num_rows(), 1);
    }
}
