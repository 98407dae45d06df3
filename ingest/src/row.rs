//! One page reference on its way from the merge to its file, and rows to columns.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Int32Array, StringArray, TimestampNanosecondArray,
    UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::Int32Type;
use pgtrace_capture::record::{Access, Event, PageRef};

use crate::clocks::Clocks;
use crate::names::{Names, ObjectInfo};

/// A reference as it waits for its row group: small, and without text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    pub(crate) flags: u8,
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

    /// What happened to the page.
    pub(crate) fn event(&self) -> Event {
        event(self.flags & EVENT)
    }

    /// Sets event, access and major of a row that was stored; text that is none of them is left out.
    pub(crate) fn set_use(&mut self, event: &str, access: Option<&str>, major: Option<bool>) {
        let event = Event::ALL.iter().find(|e| e.as_str() == event);
        let access = Access::ALL.iter().find(|a| Some(a.as_str()) == access);
        let major = match major {
            None => 0,
            Some(false) => MAJOR_KNOWN,
            Some(true) => MAJOR_KNOWN | MAJOR,
        };
        let event = event.map_or(0, |e| *e as u8);
        let access = access.map_or(Access::Unknown as u8, |a| *a as u8);
        self.flags = event | access << ACCESS_SHIFT | major;
    }
}

fn event(number: u8) -> Event {
    let known = Event::ALL.get(usize::from(number)).copied();
    known.unwrap_or(Event::Fault)
}

fn access(number: u8) -> Access {
    let known = Access::ALL.get(usize::from(number)).copied();
    known.unwrap_or(Access::Unknown)
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

/// A few thousand rows on their way to columns, with what more than one column needs.
#[derive(Debug)]
pub struct Tile<'a> {
    rows: &'a [Row],
    /// Time of each row, ns since 1970 UTC.
    pub(crate) utc: Vec<i64>,
    /// Who each row's process was: see [`Names::known`]; [`NOBODY`] where no record says so.
    who: Vec<u32>,
}

/// In place of the number of a [`Who`].
const NOBODY: u32 = u32::MAX;

impl Context {
    /// Prepares rows for [`Context::column`].
    pub fn tile<'a>(&self, rows: &'a [Row]) -> Tile<'a> {
        let mut clock = self.clocks.reader();
        let mut spans: [Known; 16] = std::array::from_fn(|_| Known::default());
        let who = rows.iter().map(|r| {
            let Some(span) = spans.get_mut(r.tgid as usize % 16) else {
                return NOBODY;
            };
            if span.tgid != Some(r.tgid) || !span.times.contains(&r.time_ns) {
                let (who, times) = self.names.known(r.tgid, r.time_ns);
                *span = Known {
                    tgid: Some(r.tgid),
                    times,
                    who: who.unwrap_or(NOBODY),
                };
            }
            span.who
        });
        Tile {
            who: who.collect(),
            utc: rows.iter().map(|r| clock.utc(r.time_ns)).collect(),
            rows,
        }
    }

    /// Column `name` of `refs` for these rows; `None` for a name that is no column.
    pub fn column(&self, name: &str, tile: &Tile<'_>) -> Option<ArrayRef> {
        let all = || tile.rows.iter();
        let who = |number: u32| self.names.who_is(number);
        Some(match name {
            "capture_id" => text(all().map(|_| 0), |_| Some(self.capture_id.as_str())),
            "seq" => u64s(all().map(|r| r.seq)),
            "ts" => Arc::new(TimestampNanosecondArray::from(tile.utc.clone()).with_timezone("UTC")),
            "cpu" => Arc::new(UInt16Array::from_iter_values(all().map(|r| r.cpu))),
            "uid" => u32s(all().map(|r| r.uid)),
            "pid" => u32s(all().map(|r| r.tgid)),
            "tid" => u32s(all().map(|r| r.tid)),
            "upid" => {
                let mut last = (NOBODY, 0);
                u64s(all().zip(&tile.who).map(|(r, &number)| {
                    if number == NOBODY {
                        return u64::from(r.tgid);
                    }
                    if number != last.0 {
                        let upid = who(number).map_or(u64::from(r.tgid), |w| w.upid);
                        last = (number, upid);
                    }
                    last.1
                }))
            }
            "comm" => text(tile.who.iter().copied(), |number| {
                // Some sources know a process but not its name.
                let comm = who(number).map(|w| &*w.comm);
                comm.filter(|c| !c.is_empty())
            }),
            "path" => text(all().map(|r| r.object), |object| {
                self.object(object).and_then(|o| o.path.as_deref())
            }),
            "object_kind" => text(all().map(|r| r.object), |object| {
                self.object(object).map(|o| o.kind.as_str())
            }),
            "event" => text(all().map(|r| u32::from(r.flags & EVENT)), |number| {
                Some(event(number as u8).as_str())
            }),
            "access" => text(
                all().map(|r| u32::from(r.flags >> ACCESS_SHIFT & 3)),
                |number| match access(number as u8) {
                    Access::Unknown => None,
                    known => Some(known.as_str()),
                },
            ),
            "major" => {
                let values = BooleanBuffer::collect_bool(tile.rows.len(), |i| {
                    tile.rows.get(i).is_some_and(|r| r.flags & MAJOR != 0)
                });
                let known = BooleanBuffer::collect_bool(tile.rows.len(), |i| {
                    tile.rows.get(i).is_some_and(|r| r.flags & MAJOR_KNOWN != 0)
                });
                Arc::new(BooleanArray::new(values, nulls(known)))
            }
            // Page-cache events have no address; nothing is mapped at 0 either way.
            "addr" => but_zero(tile.rows, |r| r.addr),
            "ip" => but_zero(tile.rows, |r| r.ip),
            "object_id" => u64s(all().map(|r| u64::from(r.object))),
            "page" => u64s(all().map(|r| r.page)),
            "page_order" => Arc::new(UInt8Array::from_iter_values(all().map(|r| r.page_order))),
            _ => return None,
        })
    }

    fn object(&self, object: u32) -> Option<&ObjectInfo> {
        self.names.objects.get(&object)
    }
}

/// Who a process was for some time.
#[derive(Clone, Debug, Default)]
struct Known {
    tgid: Option<u32>,
    times: std::ops::Range<u64>,
    who: u32,
}

fn nulls(valid: BooleanBuffer) -> Option<NullBuffer> {
    Some(NullBuffer::new(valid)).filter(|n| n.null_count() > 0)
}

/// Numbers, null where they are 0.
fn but_zero(rows: &[Row], of: impl Fn(&Row) -> u64) -> ArrayRef {
    let values: Vec<u64> = rows.iter().map(&of).collect();
    let valid =
        BooleanBuffer::collect_bool(values.len(), |i| values.get(i).is_some_and(|&v| v != 0));
    Arc::new(UInt64Array::new(values.into(), nulls(valid)))
}

fn u64s(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}

fn u32s(values: impl Iterator<Item = u32>) -> ArrayRef {
    Arc::new(UInt32Array::from_iter_values(values))
}

/// Repeating text, each keyed by a number; the dictionary holds each text once, in order of first use.
fn text<'a>(keys: impl Iterator<Item = u32>, of: impl Fn(u32) -> Option<&'a str>) -> ArrayRef {
    let mut known: HashMap<&str, i32> = HashMap::new();
    let mut texts: Vec<&str> = Vec::new();
    // What the keys were found to be lately: keys come again and again.
    let mut lately: [Option<(u32, Option<i32>)>; 64] = [None; 64];
    let keys: Int32Array = keys
        .map(|key| {
            let slot = lately.get_mut(key as usize % 64);
            if let Some(Some((k, number))) = slot
                && *k == key
            {
                return *number;
            }
            let number = of(key).map(|text| {
                *known.entry(text).or_insert_with(|| {
                    texts.push(text);
                    (texts.len() - 1) as i32
                })
            });
            if let Some(slot) = slot {
                *slot = Some((key, number));
            }
            number
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
                    let known = (row.flags & MAJOR_KNOWN != 0).then_some(row.flags & MAJOR != 0);
                    assert_eq!((super::event(row.flags & EVENT), known), (event, major));
                    let of_use = match event {
                        Event::Insert | Event::Evict => (0, 0, Access::Unknown),
                        Event::Fault | Event::Retouch | Event::Lookup => (5, 6, access),
                    };
                    let found = super::access(row.flags >> ACCESS_SHIFT & 3);
                    assert_eq!((row.addr, row.ip, found), of_use);
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
            let column = context.column(field.name(), &context.tile(&[]));
            let found = column.map(|c| c.data_type().clone());
            assert_eq!(found.as_ref(), Some(field.data_type()), "{}", field.name());
        }
        assert!(context.column("nonsense", &context.tile(&[])).is_none());
    }
}
