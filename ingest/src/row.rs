//! One page reference on its way from the merge to its file, and rows to columns.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Int32Array, StringArray, TimestampNanosecondArray,
    UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow::datatypes::Int32Type;
use pgtrace_capture::record::{Access, Event, PageRef};

use crate::clocks::Clocks;
use crate::names::{Names, ObjectInfo};

/// A reference as it waits for its row group: small, and without text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Position in the merged reference string.
    pub seq: u64,
    /// Monotonic time.
    pub time_ns: u64,
    /// Virtual address.
    pub addr: u64,
    /// Instruction pointer.
    pub ip: u64,
    /// Page index in the object.
    pub page: u64,
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// Real user id.
    pub uid: u32,
    /// Object number.
    pub object: u32,
    /// CPU.
    pub cpu: u16,
    /// Order of the page.
    pub page_order: u8,
    /// Event, access and major, packed.
    flags: u8,
}

const EVENT: u8 = 0x0f;
const ACCESS_SHIFT: u8 = 4;
const MAJOR_KNOWN: u8 = 0x40;
const MAJOR: u8 = 0x80;

impl Row {
    /// The row of reference `r`, number `seq` of the recording, made by `cpu`: the record's own, for a recording that
    /// was translated from a table has one channel and the table's CPUs.
    ///
    /// A page that enters or leaves the page cache is not used: whatever such a record says of address and access, its
    /// row says nothing.
    pub fn new(seq: u64, cpu: u16, r: &PageRef) -> Self {
        let used = r.event.is_reference();
        let access = if used { r.access } else { Access::Unknown };
        let major = match r.major {
            None => 0,
            Some(false) => MAJOR_KNOWN,
            Some(true) => MAJOR_KNOWN | MAJOR,
        };
        Self {
            seq,
            time_ns: r.stamp.time_ns,
            addr: if used { r.addr } else { 0 },
            ip: if used { r.ip } else { 0 },
            page: r.page,
            tgid: r.tgid,
            tid: r.tid,
            uid: r.uid,
            object: r.object,
            cpu,
            page_order: r.page_order,
            flags: r.event as u8 | (access as u8) << ACCESS_SHIFT | major,
        }
    }

    fn event(&self) -> Event {
        let number = usize::from(self.flags & EVENT);
        Event::ALL.get(number).copied().unwrap_or(Event::Fault)
    }

    fn access(&self) -> Access {
        let number = usize::from(self.flags >> ACCESS_SHIFT & 3);
        Access::ALL.get(number).copied().unwrap_or(Access::Unknown)
    }

    fn major(&self) -> Option<bool> {
        (self.flags & MAJOR_KNOWN != 0).then_some(self.flags & MAJOR != 0)
    }

    /// Page-cache events have no address; nothing is mapped at 0 either way.
    fn addr(&self) -> Option<u64> {
        (self.addr != 0).then_some(self.addr)
    }
}

/// What rows need to become columns.
#[derive(Debug)]
pub struct Context {
    /// The recording.
    pub capture_id: String,
    /// Monotonic time to UTC.
    pub clocks: Clocks,
    /// Processes and objects.
    pub names: Names,
}

/// Rows in stretches, as they were staged.
pub type Rows = [Vec<Row>];

impl Context {
    /// Column `name` of `refs` for these rows; `None` for a name that is no column.
    pub fn column(&self, name: &str, rows: &Rows) -> Option<ArrayRef> {
        let all = || rows.iter().flatten();
        Some(match name {
            "capture_id" => text(all().map(|_| (0u8, Some(self.capture_id.as_str())))),
            "seq" => u64s(all().map(|r| r.seq)),
            "ts" => Arc::new(
                TimestampNanosecondArray::from_iter_values(
                    all().map(|r| self.clocks.utc(r.time_ns)),
                )
                .with_timezone("UTC"),
            ),
            "cpu" => Arc::new(UInt16Array::from_iter_values(all().map(|r| r.cpu))),
            "uid" => u32s(all().map(|r| r.uid)),
            "pid" => u32s(all().map(|r| r.tgid)),
            "tid" => u32s(all().map(|r| r.tid)),
            "upid" => u64s(all().map(|r| self.names.upid_at(r.tgid, r.time_ns))),
            "comm" => text(all().map(|r| {
                let who = self.names.who(r.tgid, r.time_ns);
                // Some sources know a process but not its name.
                let comm = who.map(|w| w.comm.as_str()).filter(|c| !c.is_empty());
                (comm.map(str::as_ptr), comm)
            })),
            "path" => text(all().map(|r| {
                let path = self.object(r).and_then(|o| o.path.as_deref());
                (r.object, path)
            })),
            "object_kind" => text(all().map(|r| {
                let kind = self.object(r).map(|o| o.kind);
                (kind, kind.map(|k| k.as_str()))
            })),
            "event" => text(all().map(|r| (r.event(), Some(r.event().as_str())))),
            "access" => text(all().map(|r| match r.access() {
                Access::Unknown => (Access::Unknown, None),
                known => (known, Some(known.as_str())),
            })),
            "major" => Arc::new(all().map(Row::major).collect::<BooleanArray>()),
            "addr" => Arc::new(all().map(Row::addr).collect::<UInt64Array>()),
            "ip" => Arc::new(
                all()
                    .map(|r| (r.ip != 0).then_some(r.ip))
                    .collect::<UInt64Array>(),
            ),
            "object_id" => u64s(all().map(|r| u64::from(r.object))),
            "page" => u64s(all().map(|r| r.page)),
            "page_order" => Arc::new(UInt8Array::from_iter_values(all().map(|r| r.page_order))),
            _ => return None,
        })
    }

    fn object(&self, row: &Row) -> Option<&ObjectInfo> {
        self.names.objects.get(&row.object)
    }
}

fn u64s(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}

fn u32s(values: impl Iterator<Item = u32>) -> ArrayRef {
    Arc::new(UInt32Array::from_iter_values(values))
}

/// Repeating text, keyed by something cheap to compare; the dictionary holds
/// each text once, in order of first use.
fn text<'a, K: PartialEq + Copy>(values: impl Iterator<Item = (K, Option<&'a str>)>) -> ArrayRef {
    let mut known: HashMap<&str, i32> = HashMap::new();
    let mut texts: Vec<&str> = Vec::new();
    let mut last: Option<(K, Option<i32>)> = None;
    let keys: Int32Array = values
        .map(|(key, text)| match last {
            Some((k, number)) if k == key => number,
            _ => {
                let number = text.map(|text| {
                    *known.entry(text).or_insert_with(|| {
                        texts.push(text);
                        (texts.len() - 1) as i32
                    })
                });
                last = Some((key, number));
                number
            }
        })
        .collect();
    let texts = Arc::new(StringArray::from(texts));
    // The keys were made from the texts two lines up: they are in range.
    let array = DictionaryArray::<Int32Type>::try_new(keys, texts);
    array.map_or_else(
        |_| arrow::array::new_null_array(&crate::schema::Kind::Dictionary.data_type(), 0),
        |a| Arc::new(a) as ArrayRef,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgtrace_capture::record::Stamp;

    #[test]
    fn a_row_is_one_cache_line_and_keeps_what_it_was_given() {
        assert_eq!(size_of::<Row>(), 64);
        for &event in Event::ALL {
            for &access in Access::ALL {
                for major in [None, Some(false), Some(true)] {
                    let r = PageRef {
                        stamp: Stamp::default(),
                        tgid: 1,
                        tid: 2,
                        uid: 3,
                        object: 4,
                        addr: 5,
                        ip: 6,
                        page: 7,
                        page_order: 9,
                        event,
                        access,
                        major,
                        kernel: false,
                        gup: false,
                        present: false,
                    };
                    let row = Row::new(0, 0, &r);
                    assert_eq!((row.event(), row.major()), (event, major));
                    let of_use = match event {
                        Event::Insert | Event::Evict => (None, 0, Access::Unknown),
                        Event::Fault | Event::Retouch | Event::Lookup => (Some(5), 6, access),
                    };
                    assert_eq!((row.addr(), row.ip, row.access()), of_use);
                }
            }
        }
    }

    #[test]
    fn every_column_of_the_schema_has_values() {
        let context = Context {
            capture_id: "c".into(),
            clocks: Clocks::default(),
            names: Names::default(),
        };
        let schema = crate::schema::Table::Refs.arrow_schema();
        for field in schema.fields() {
            let column = context.column(field.name(), &[]);
            let found = column.map(|c| c.data_type().clone());
            assert_eq!(found.as_ref(), Some(field.data_type()), "{}", field.name());
        }
        assert!(context.column("nonsense", &[]).is_none());
    }
}
