//! Every table of a dataset, in one place: names, types, meanings.
//!
//! The pipeline builds its batches from these schemas, the SQL crate declares
//! its base tables from them, and the documentation of each column lives here
//! only. Text that repeats is dictionary-encoded; times are UTC nanoseconds.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

/// Version of the tables in this file, written into every Parquet footer.
pub const SCHEMA_VERSION: u32 = 1;

/// One table of a dataset. The order is the order in which tables are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// One row a page reference.
    Refs,
    /// One row a recording.
    Captures,
    /// One row a process incarnation.
    Processes,
    /// One row a thing that backs pages.
    Objects,
    /// One row a stretch of address space.
    Mappings,
    /// One row a loss or a damage.
    Losses,
    /// One row an event of the recorder, a process or an address space.
    Marks,
}

/// The logical type of a column; [`Column::data_type`] gives arrow's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Boolean,
    /// Unsigned, 8 bits.
    UInt8,
    /// Unsigned, 16 bits.
    UInt16,
    /// Unsigned, 32 bits.
    UInt32,
    /// Unsigned, 64 bits.
    UInt64,
    /// Nanoseconds since 1970, UTC.
    Timestamp,
    /// Text that is mostly different in every row.
    Text,
    /// Text that repeats: dictionary with 32-bit keys.
    Dictionary,
}

/// What stands in for a column that older files lack and that may not be null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// A number or a time, as the column's own type.
    Number(u64),
    /// True or false.
    Flag(bool),
    /// Text.
    Text(&'static str),
}

/// A column that came later and may not be null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    /// The table.
    pub table: Table,
    /// The column.
    pub column: &'static str,
    /// Schema version whose files all have it but the earliest.
    pub since: u32,
    /// What files without it are read to hold.
    pub fill: Fill,
}

/// All columns that came after their table and may not be null. (A nullable one that a file lacks
/// is null, and needs no line.) Whoever adds a column raises [`SCHEMA_VERSION`], and adds a line.
pub const ADDED: &[Added] = &[
    // It came with the events that it counts: files without it hold none.
    Added {
        table: Table::Captures,
        column: "cache_events",
        since: 1,
        fill: Fill::Number(0),
    },
];

/// What stands in for a column that a file lacks; `None`: null, or nothing can.
pub fn fill(table: Table, column: &str) -> Option<Fill> {
    let added = ADDED.iter();
    let mut found = added.filter(|a| a.table == table && a.column == column);
    found.next().map(|a| a.fill)
}

/// One column: its name, type and meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name in SQL and in the Parquet file.
    pub name: &'static str,
    /// Logical type.
    pub kind: Kind,
    /// Whether a value may be missing.
    pub nullable: bool,
    /// What it means, with its unit.
    pub doc: &'static str,
}

impl Kind {
    /// The arrow type of the column.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::UInt8 => DataType::UInt8,
            Self::UInt16 => DataType::UInt16,
            Self::UInt32 => DataType::UInt32,
            Self::UInt64 => DataType::UInt64,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
            Self::Text => DataType::Utf8,
            Self::Dictionary => {
                DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
            }
        }
    }
}

impl Column {
    /// The arrow type of the column.
    pub fn data_type(&self) -> DataType {
        self.kind.data_type()
    }
}

const fn column(name: &'static str, kind: Kind, doc: &'static str) -> Column {
    Column {
        name,
        kind,
        nullable: false,
        doc,
    }
}

/// A column whose value may be missing.
const fn maybe(name: &'static str, kind: Kind, doc: &'static str) -> Column {
    Column {
        name,
        kind,
        nullable: true,
        doc,
    }
}

const CAPTURE_ID: Column = column("capture_id", Kind::Dictionary, "the recording (a UUID)");

#[rustfmt::skip]
const REFS: &[Column] = &[
    CAPTURE_ID,
    column("seq", Kind::UInt64, "position in the merged reference string of the capture, dense from 0 (virtual time)"),
    column("ts", Kind::Timestamp, "wall time of the reference"),
    column("cpu", Kind::UInt16, "CPU that made the reference"),
    column("uid", Kind::UInt32, "real user id of the thread; 0 with pid 0"),
    column("pid", Kind::UInt32, "process (thread-group id); 0: one that is not traced (evict only)"),
    column("tid", Kind::UInt32, "thread; 0 with pid 0"),
    column("upid", Kind::UInt64, "process incarnation: start in ms since boot << 22 | pid; pid alone where its start was not recorded"),
    maybe("comm", Kind::Dictionary, "command name at the time of the reference; null where not recorded"),
    maybe("path", Kind::Dictionary, "path of the file as captured; null: none"),
    maybe("object_kind", Kind::Dictionary, "file, anon, heap, stack, shmem, hugetlb, vdso or other; null where the object's record was lost"),
    column("event", Kind::Dictionary, "fault (not present before), retouch (made to fault by the cleaner or the FIFO) or lookup (by read()): references; insert or evict (a page entered or left the page cache): none, and counted as none by any view"),
    maybe("access", Kind::Dictionary, "read, write or exec; null where unknown, and for insert and evict"),
    maybe("major", Kind::Boolean, "its page had to be read from a file or swap; null where unknown"),
    maybe("addr", Kind::UInt64, "virtual address; null for lookup, insert and evict"),
    maybe("ip", Kind::UInt64, "instruction pointer; null where there is none, and for insert and evict"),
    column("object_id", Kind::UInt64, "what backs the page; names it within the capture"),
    column("page", Kind::UInt64, "page index in the object (file page offset; virtual page number for anonymous memory)"),
    column("page_order", Kind::UInt8, "size of the page: 0 = base page, 9 = 2 MiB"),
];

#[rustfmt::skip]
const CAPTURES: &[Column] = &[
    CAPTURE_ID,
    column("boot_id", Kind::Dictionary, "boot of the traced machine (a UUID)"),
    column("kernel", Kind::Text, "kernel release of the traced machine"),
    column("page_size", Kind::UInt32, "bytes of a base page"),
    column("cpus", Kind::UInt32, "CPUs that wrote chunks"),
    maybe("level", Kind::Dictionary, "light, rich or full: the highest level recorded; null where unknown"),
    column("settings", Kind::Text, "settings of the recorder, as JSON"),
    column("start_ts", Kind::Timestamp, "start of the recording"),
    column("end_ts", Kind::Timestamp, "time of the last record"),
    maybe("emitted", Kind::UInt64, "rows that refs would have if nothing had been lost or overwritten: refs + count of all losses of channel refs (those overwritten, too) but the causes probe_missed and no_memory, which never had a number; null where unknown. A lost record counts, although it may have been none for refs: nobody can tell"),
    column("refs", Kind::UInt64, "rows in refs"),
    column("cache_events", Kind::UInt64, "of them insert and evict, which are no references"),
    column("lost", Kind::UInt64, "rows lost: sum of count over losses of channel refs, those overwritten left out"),
    column("chunks", Kind::UInt32, "raw files ingested"),
    column("raw_bytes", Kind::UInt64, "bytes of the raw files"),
    column("clock_monotonic_ns", Kind::UInt64, "first anchor of the clocks: monotonic time in ns"),
    column("clock_utc_ns", Kind::UInt64, "the same moment, ns since 1970 UTC"),
];

#[rustfmt::skip]
const PROCESSES: &[Column] = &[
    CAPTURE_ID,
    column("upid", Kind::UInt64, "process incarnation, see refs.upid"),
    column("pid", Kind::UInt32, "process (thread-group id)"),
    column("ppid", Kind::UInt32, "process id of the parent"),
    column("uid", Kind::UInt32, "real user id"),
    column("comm", Kind::Dictionary, "command name, the last one known"),
    maybe("exe", Kind::Dictionary, "path of the executable; null where unknown"),
    maybe("cwd", Kind::Dictionary, "working directory; null where unknown"),
    maybe("cgroup", Kind::Dictionary, "cgroup v2 path; null where unknown"),
    column("start_ts", Kind::Timestamp, "start of the process (may lie before the recording)"),
    maybe("end_ts", Kind::Timestamp, "its end; null while it lived on"),
    maybe("exit_code", Kind::UInt32, "as wait() gives it: status << 8, or the signal; null while it lived on, or where perf did not tell"),
];

#[rustfmt::skip]
const OBJECTS: &[Column] = &[
    CAPTURE_ID,
    column("object_id", Kind::UInt64, "names the object within the capture; 0 is never used"),
    column("object_kind", Kind::Dictionary, "file, anon, heap, stack, shmem, hugetlb, vdso or other"),
    maybe("dev", Kind::Dictionary, "device of the file system as major:minor; null for anonymous memory"),
    maybe("ino", Kind::UInt64, "inode number; null for anonymous memory"),
    maybe("generation", Kind::UInt32, "generation of the inode number; null for anonymous memory"),
    maybe("path", Kind::Dictionary, "path as captured, the first one seen; null: none"),
    column("deleted", Kind::Boolean, "the file was seen without a name"),
    column("path_truncated", Kind::Boolean, "the path was too long: its beginning is missing"),
    column("pid", Kind::UInt32, "owner of anonymous memory; first user of a file"),
    column("upid", Kind::UInt64, "its incarnation, see refs.upid"),
];

#[rustfmt::skip]
const MAPPINGS: &[Column] = &[
    CAPTURE_ID,
    column("upid", Kind::UInt64, "process incarnation, see refs.upid"),
    column("pid", Kind::UInt32, "process (thread-group id)"),
    column("object_id", Kind::UInt64, "what backs the stretch"),
    column("start_addr", Kind::UInt64, "first address"),
    column("end_addr", Kind::UInt64, "address behind the last"),
    column("page", Kind::UInt64, "page index in the object at start_addr"),
    column("read", Kind::Boolean, "may be read"),
    column("write", Kind::Boolean, "may be written"),
    column("exec", Kind::Boolean, "may be executed"),
    column("shared", Kind::Boolean, "MAP_SHARED"),
    column("ts", Kind::Timestamp, "when it was first seen"),
];

#[rustfmt::skip]
const LOSSES: &[Column] = &[
    CAPTURE_ID,
    column("cpu", Kind::UInt16, "CPU whose records were lost"),
    maybe("from_ts", Kind::Timestamp, "begin of the interval in which they were lost; null where unknown"),
    maybe("to_ts", Kind::Timestamp, "end of that interval; null where unknown"),
    maybe("count", Kind::UInt64, "records lost; null where it cannot be known"),
    column("cause", Kind::Dictionary, "buffer_full (the reader was too slow), probe_missed (the hook could not run), no_memory (of the module), corrupt or truncated (the chunk), missing (a chunk, or nobody knows), unknown_record (of a newer version), overwritten (given up on purpose: a recording that keeps only its newest part had them before that part, or between two snapshots; nothing was lost inside what was kept)"),
    column("channel", Kind::Dictionary, "refs (page references, and marks of address spaces) or names (everything else)"),
    maybe("detail", Kind::Text, "what was found, and where (file, byte offset)"),
];

#[rustfmt::skip]
const MARKS: &[Column] = &[
    CAPTURE_ID,
    column("ts", Kind::Timestamp, "when"),
    column("cpu", Kind::UInt16, "CPU that wrote it"),
    column("kind", Kind::Dictionary, "the recorder: level (what is recorded changed), policy (how pages are made to fault again changed), clock (the clocks, read together); a process: attach (traced from here on), fork (born of a traced one), exec, exit, detach (traced no more, lives on); its address space: mmap, munmap, mremap, brk, stack (a stack has grown), mprotect, around (a fault mapped its neighbours, too), clean (one pass of the cleaner), active (a page's time in the FIFO is over)"),
    maybe("pid", Kind::UInt32, "process; null for level, policy and clock"),
    maybe("tid", Kind::UInt32, "mmap to mprotect, around: thread that did it"),
    maybe("upid", Kind::UInt64, "incarnation of pid, see refs.upid"),
    maybe("comm", Kind::Dictionary, "attach, fork, exec, detach: command name from now on"),
    maybe("exit_code", Kind::UInt32, "exit: as wait() gives it: status << 8, or the signal; null where perf did not tell"),
    maybe("level", Kind::Dictionary, "level: off, light, rich or full from now on"),
    maybe("policy", Kind::Dictionary, "policy: none (first touches only), timer (all present pages, once a period) or fifo (all but the last touched ones) from now on"),
    maybe("clean_ms", Kind::UInt32, "level, policy: period of the cleaner in ms; 0: off"),
    maybe("fifo", Kind::UInt32, "policy: pages that may be active in one address space; 0: no FIFO"),
    maybe("grain", Kind::UInt8, "policy: page order of huge pages: 0 = split to base pages, 9 = left whole"),
    maybe("overwrite", Kind::Boolean, "policy: buffers keep the newest references, not the oldest"),
    maybe("pass", Kind::UInt32, "clean: number of the pass, from 1"),
    maybe("scanned", Kind::UInt64, "clean: present pages seen"),
    maybe("cleaned", Kind::UInt64, "clean: pages made to fault at their next touch"),
    maybe("duration_ns", Kind::UInt64, "clean: how long the pass took, in ns"),
    maybe("monotonic_ns", Kind::UInt64, "clock: monotonic time in ns"),
    maybe("utc_ns", Kind::UInt64, "clock: ns since 1970 UTC"),
    maybe("object_id", Kind::UInt64, "mmap to mprotect, around, active: what backs it; null where no page of it had been referenced"),
    maybe("start_addr", Kind::UInt64, "mmap to mprotect, around: first address"),
    maybe("end_addr", Kind::UInt64, "mmap to mprotect: address behind the last"),
    maybe("old_start_addr", Kind::UInt64, "mremap: first address before"),
    maybe("old_end_addr", Kind::UInt64, "mremap: address behind the last before"),
    maybe("read", Kind::Boolean, "mmap, mremap to mprotect: may be read; null for munmap"),
    maybe("write", Kind::Boolean, "likewise: may be written"),
    maybe("exec", Kind::Boolean, "likewise: may be executed"),
    maybe("shared", Kind::Boolean, "likewise: MAP_SHARED"),
    maybe("addr", Kind::UInt64, "around: the address that was touched; active: of the page"),
    maybe("page", Kind::UInt64, "mmap to mprotect, around: page index in the object at start_addr; active: of the page"),
    maybe("pages", Kind::UInt64, "around: length of the range"),
    maybe("page_order", Kind::UInt8, "active: size of the page: 0 = base page, 9 = 2 MiB"),
    maybe("since_ts", Kind::Timestamp, "active: when the page became active"),
    maybe("dirtied", Kind::Boolean, "active: written to while it was active; null where gone"),
    maybe("rereferenced", Kind::Boolean, "active: touched again after its first use; null where gone"),
    maybe("gone", Kind::Boolean, "active: unmapped or reclaimed before its turn, so that nothing else is known"),
];

impl Table {
    /// All tables.
    pub const ALL: [Self; 7] = [
        Self::Refs,
        Self::Captures,
        Self::Processes,
        Self::Objects,
        Self::Mappings,
        Self::Losses,
        Self::Marks,
    ];

    /// Name in SQL, in the manifest, and of the table's folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refs => "refs",
            Self::Captures => "captures",
            Self::Processes => "processes",
            Self::Objects => "objects",
            Self::Mappings => "mappings",
            Self::Losses => "losses",
            Self::Marks => "marks",
        }
    }

    /// One line on what a row is.
    pub fn doc(self) -> &'static str {
        match self {
            Self::Refs => "page references, one row each, numbered by seq within a capture",
            Self::Captures => "recordings: kernel, clocks, settings, totals",
            Self::Processes => "processes, one row an incarnation, as last described",
            Self::Objects => "what backs pages: files and processes' anonymous memory",
            Self::Mappings => "stretches of address space and the objects behind them",
            Self::Losses => "records that were lost or damaged, with count and cause",
            Self::Marks => {
                "what happened around the references, in order of time: to the recorder, to processes, to their memory"
            }
        }
    }

    /// The columns, in order.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Refs => REFS,
            Self::Captures => CAPTURES,
            Self::Processes => PROCESSES,
            Self::Objects => OBJECTS,
            Self::Mappings => MAPPINGS,
            Self::Losses => LOSSES,
            Self::Marks => MARKS,
        }
    }

    /// The arrow schema of the table's files; the same at every call.
    pub fn arrow_schema(self) -> SchemaRef {
        let fields: Vec<Field> = self
            .columns()
            .iter()
            .map(|c| Field::new(c.name, c.data_type(), c.nullable))
            .collect();
        Arc::new(Schema::new(fields))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_starts_with_the_capture_and_names_columns_once() {
        for table in Table::ALL {
            let columns = table.columns();
            assert_eq!(columns[0].name, "capture_id", "{table}");
            for (i, c) in columns.iter().enumerate() {
                assert!(!c.doc.is_empty(), "{table}.{} has no doc", c.name);
                assert!(
                    columns[..i].iter().all(|b| b.name != c.name),
                    "{table}.{} stands twice",
                    c.name
                );
            }
            assert_eq!(table.arrow_schema().fields().len(), columns.len());
        }
    }

    #[test]
    fn a_table_is_called_the_same_in_the_manifest_as_in_sql() {
        for table in Table::ALL {
            let json = serde_json::to_string(&table).map_err(|e| e.to_string());
            assert_eq!(json, Ok(format!("\"{}\"", table.name())));
        }
    }
}
