//! The rows of a table as the records of a recording.

use std::path::PathBuf;

use arrow::array::RecordBatch;
use pgtrace_capture::record::{Access, Event, ObjectKind, PageRef, Stamp};

use super::super::error::SourceError;
use super::super::scribe::{PAGE_SIZE, Scribe};
use super::cells::Cells;
use super::columns::{COLUMNS, LEAST, index, shown};
use super::names::{Names, What, Who};

/// What is wrong with a row.
#[derive(Debug)]
pub(super) struct Bad {
    column: &'static str,
    expected: String,
    found: String,
}

impl Bad {
    pub(super) fn new(
        column: &'static str,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Self {
        Self {
            column,
            expected: expected.into(),
            found: found.to_string(),
        }
    }
}

/// Where the columns are that rows are made of.
macro_rules! places {
    ($($place:ident: $name:literal),+ $(,)?) => {
        #[derive(Clone, Copy, Debug)]
        struct Places { $($place: usize),+ }

        impl Places {
            // Whatever is not found is a column that no table has: a test compares the names.
            fn new() -> Self {
                Self { $($place: index($name).unwrap_or(COLUMNS.len())),+ }
            }
        }

        #[cfg(test)]
        const PLACES: &[&str] = &[$($name),+];
    };
}
places! {
    capture_id: "capture_id", seq: "seq", ts: "ts", cpu: "cpu", uid: "uid", pid: "pid", tid: "tid", upid: "upid",
    comm: "comm", path: "path", object_kind: "object_kind", event: "event", access: "access", major: "major",
    addr: "addr", ip: "ip", object_id: "object_id", page: "page", page_order: "page_order",
}

/// Which of the columns that stand in all rows or in none are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct There {
    seq: bool,
    ts: bool,
    pid: bool,
    upid: bool,
    object_id: bool,
}

/// Makes records of the rows of one table, in order.
pub(super) struct Rows {
    path: PathBuf,
    at: Places,
    /// Rows so far.
    rows: u64,
    there: Option<There>,
    /// Of the first row.
    capture_id: Option<String>,
    /// Of the row before.
    seq: Option<u64>,
    names: Names,
}

impl Rows {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            at: Places::new(),
            rows: 0,
            there: None,
            capture_id: None,
            seq: None,
            names: Names::default(),
        }
    }

    /// Rows so far.
    pub(super) fn count(&self) -> u64 {
        self.rows
    }

    /// Adds a batch, whose columns are `chosen`.
    pub(super) fn add(
        &mut self,
        batch: &RecordBatch,
        chosen: &[usize],
        to: &mut Scribe,
    ) -> Result<(), SourceError> {
        let cells = Cells::new(&self.path, self.rows + 1, batch, chosen)?;
        for i in 0..cells.rows {
            self.row(&cells, i, to)?;
            self.rows += 1;
        }
        Ok(())
    }

    fn row(&mut self, cells: &Cells, i: usize, to: &mut Scribe) -> Result<(), SourceError> {
        let bad = |bad: Bad| SourceError::Value {
            path: self.path.clone(),
            row: self.rows + 1,
            column: bad.column,
            expected: bad.expected,
            found: bad.found,
        };
        let at = self.at;
        let number = |place| cells.number(place, i);
        let small = |place| number(place).and_then(|n| u32::try_from(n).ok());
        check(&mut self.there, cells, at, i).map_err(bad)?;

        let capture_id = cells.text(at.capture_id, i);
        if self.rows == 0 {
            self.capture_id = capture_id.map(Into::into);
        } else if self.capture_id.as_deref() != capture_id {
            let expected = "that of the first row: a table is one recording";
            let found = format!("{:?}", shown(capture_id.unwrap_or_default()));
            return Err(bad(Bad::new("capture_id", expected, found)));
        }
        let seq = number(at.seq);
        if let (Some(before), Some(seq)) = (self.seq, seq)
            && seq <= before
        {
            let expected =
                format!("more than {before}, as in the row before: order the table by seq");
            return Err(bad(Bad::new("seq", expected, seq)));
        }
        self.seq = seq;

        let comm = cells.text(at.comm, i);
        if comm.is_some_and(|c| c.contains('\0')) {
            return Err(bad(Bad::new("comm", "a text without NUL", "one with it")));
        }
        let upid = number(at.upid);
        let pid = match small(at.pid).or(upid.map(pid_in)) {
            Some(pid) => pid,
            None => self.names.pid_of(comm).map_err(bad)?,
        };
        if let Some(upid) = upid
            && pid_in(upid) != pid
        {
            let expected =
                format!("a number whose low 22 bits are pid, {pid} (start in ms << 22 | pid)");
            return Err(bad(Bad::new("upid", expected, upid)));
        }
        let stamp = Stamp {
            cpu: number(at.cpu).unwrap_or(0) as u16,
            seq: 0,
            time_ns: cells
                .time(at.ts, i)
                .unwrap_or(self.rows.saturating_mul(1000)),
        };
        let who = Who {
            pid,
            uid: small(at.uid).unwrap_or(0),
            upid: upid.unwrap_or(pid.into()),
            comm,
        };
        let path = cells.text(at.path, i);
        let addr = number(at.addr);
        let page = match (number(at.page), path, addr) {
            (Some(page), ..) => page,
            (None, None, Some(addr)) => addr / u64::from(PAGE_SIZE),
            (None, Some(_), _) => {
                return Err(bad(Bad::new("page", "the page of the path", "nothing")));
            }
            (None, None, None) => return Err(bad(Bad::new("page", LEAST, "nothing"))),
        };
        let what = What {
            id: small(at.object_id),
            path,
            kind: word(
                "object_kind",
                cells.text(at.object_kind, i),
                ObjectKind::ALL,
            )
            .map_err(bad)?,
        };
        if what.id.is_none() && path.is_none() && addr.is_none() {
            return Err(bad(Bad::new("path", LEAST, "only page")));
        }
        if let Some(record) = self.names.process(stamp, &who).map_err(bad)? {
            to.name(record)?;
        }
        let (object, record) = self.names.object(stamp, &who, &what).map_err(bad)?;
        if let Some(record) = record {
            to.name(record)?;
        }
        let event = word("event", cells.text(at.event, i), Event::ALL).map_err(bad)?;
        let known = Access::ALL.get(1..).unwrap_or_default();
        let access = word("access", cells.text(at.access, i), known).map_err(bad)?;
        to.reference(PageRef {
            stamp,
            tgid: pid,
            tid: small(at.tid).unwrap_or(pid),
            uid: who.uid,
            object,
            addr: addr.unwrap_or(0),
            ip: number(at.ip).unwrap_or(0),
            page,
            page_order: number(at.page_order).unwrap_or(0) as u8,
            event: event.unwrap_or(Event::Fault),
            access: access.unwrap_or(Access::Unknown),
            major: cells.flag(at.major, i),
            kernel: false,
            gup: false,
            present: false,
        })
    }
}

/// The pid that a upid holds: see `names::upid`.
fn pid_in(upid: u64) -> u32 {
    (upid & 0x3f_ffff) as u32
}

/// Columns that say which row is whose stand in all rows or in none: half of them would say it wrongly.
fn check(first: &mut Option<There>, cells: &Cells, at: Places, i: usize) -> Result<(), Bad> {
    let there = There {
        seq: cells.number(at.seq, i).is_some(),
        ts: cells.time(at.ts, i).is_some(),
        pid: cells.number(at.pid, i).is_some(),
        upid: cells.number(at.upid, i).is_some(),
        object_id: cells.number(at.object_id, i).is_some(),
    };
    let first = *first.get_or_insert(there);
    if first == there {
        return Ok(());
    }
    let differs = [
        ("seq", first.seq, there.seq),
        ("ts", first.ts, there.ts),
        ("pid", first.pid, there.pid),
        ("upid", first.upid, there.upid),
        ("object_id", first.object_id, there.object_id),
    ];
    match differs.into_iter().find(|(_, first, now)| first != now) {
        Some((column, true, _)) => Err(Bad::new(column, "a value, as in the first row", "nothing")),
        Some((column, false, _)) => {
            Err(Bad::new(column, "nothing, as in the first row", "a value"))
        }
        None => Ok(()),
    }
}

/// One of the values of an enum, by its name; `None`: nothing there.
fn word<T: Copy + std::fmt::Display>(
    column: &'static str,
    text: Option<&str>,
    all: &[T],
) -> Result<Option<T>, Bad> {
    let Some(text) = text else { return Ok(None) };
    if let Some(found) = all.iter().find(|v| v.to_string() == text) {
        return Ok(Some(*found));
    }
    let names: Vec<_> = all.iter().map(ToString::to_string).collect();
    let expected = format!("one of {}", names.join(", "));
    Err(Bad::new(column, expected, format!("{:?}", shown(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_used() {
        assert!(PLACES.iter().copied().eq(COLUMNS.iter().map(|c| c.0)));
    }
}
