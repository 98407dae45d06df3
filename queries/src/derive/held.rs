//! What a dataset that is being made holds, recording by recording: how many rows, and whose names they need.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, UInt64Type};
use datafusion::common::{Result, internal_err};

/// Columns that tell what a row needs.
pub(super) const TELLING: [&str; 3] = ["upid", "object_id", "event"];

/// Of one recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Of {
    pub(super) rows: u64,
    pub(super) cache_events: u64,
    /// Incarnations of processes that rows name.
    pub(super) processes: HashSet<u64>,
    /// Objects that rows name.
    pub(super) objects: HashSet<u64>,
}

/// Of all recordings, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held(pub(super) BTreeMap<String, Of>);

impl Held {
    /// Rows of all recordings.
    pub(super) fn rows(&self) -> u64 {
        self.0.values().map(|of| of.rows).sum()
    }

    pub(super) fn of(&mut self, capture_id: &str) -> &mut Of {
        // No copy of the id where it is known.
        if !self.0.contains_key(capture_id) {
            self.0.insert(capture_id.into(), Of::default());
        }
        self.0.entry(capture_id.into()).or_default()
    }

    pub(super) fn merge(&mut self, other: Held) {
        for (id, of) in other.0 {
            let mine = self.0.entry(id).or_default();
            mine.rows += of.rows;
            mine.cache_events += of.cache_events;
            mine.processes.extend(of.processes);
            mine.objects.extend(of.objects);
        }
    }
}

/// The same of one recording, for keeping: small, and in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) capture_id: Arc<str>,
    pub(super) rows: u64,
    pub(super) cache_events: u64,
    pub(super) processes: Box<[u64]>,
    pub(super) objects: Box<[u64]>,
}

impl Held {
    /// For keeping; `ids`: those that are known, so that there is one of each.
    pub(super) fn needs(&self, ids: &mut BTreeSet<Arc<str>>) -> Box<[Needs]> {
        let sorted = |set: &HashSet<u64>| {
            let mut sorted: Vec<u64> = set.iter().copied().collect();
            sorted.sort_unstable();
            sorted.into_boxed_slice()
        };
        let needs = self.0.iter().map(|(id, of)| {
            let id = ids.get(id.as_str()).cloned().unwrap_or_else(|| {
                let new: Arc<str> = id.as_str().into();
                ids.insert(Arc::clone(&new));
                new
            });
            Needs {
                capture_id: id,
                rows: of.rows,
                cache_events: of.cache_events,
                processes: sorted(&of.processes),
                objects: sorted(&of.objects),
            }
        });
        needs.collect()
    }
}

impl Of {
    /// Adds the rows of a batch, by those of [`TELLING`] that it has; rows are not counted.
    pub(super) fn learn(&mut self, batch: &RecordBatch) -> Result<()> {
        for (name, set) in [
            ("upid", &mut self.processes),
            ("object_id", &mut self.objects),
        ] {
            if let Some(column) = batch.column_by_name(name) {
                let Some(values) = column.as_primitive_opt::<UInt64Type>() else {
                    return internal_err!("column {name} is of another type than in refs");
                };
                let runs = values.values().chunk_by(|a, b| a == b);
                set.extend(runs.filter_map(|run| run.first()));
            }
        }
        if let Some(events) = batch.column_by_name("event") {
            let Some(events) = events.as_dictionary_opt::<Int32Type>() else {
                return internal_err!("column event is of another type than in refs");
            };
            let texts = events.values().as_string_opt::<i32>();
            let is_cache: Vec<bool> = texts
                .into_iter()
                .flatten()
                .map(|t| matches!(t, Some("insert" | "evict")))
                .collect();
            let count =
                events.keys().iter().flatten().filter(|&key| {
                    usize::try_from(key).is_ok_and(|k| is_cache.get(k) == Some(&true))
                });
            self.cache_events += count.count() as u64;
        }
        Ok(())
    }
}

/// A process as the table `processes` has it.
#[derive(Clone, Copy, Debug)]
struct Process {
    ppid: u32,
    start: i64,
}

/// Who is whose parent, and whose objects are whose, in one recording.
#[derive(Clone, Debug, Default)]
pub(super) struct Kin {
    processes: HashMap<u64, Process>,
    /// Incarnations of each pid, by their start.
    by_pid: HashMap<u32, Vec<(i64, u64)>>,
    /// Owner, or first user, of each object.
    owners: HashMap<u64, u64>,
}

impl Kin {
    pub(super) fn process(&mut self, upid: u64, pid: u32, ppid: u32, start: i64) {
        self.processes.insert(upid, Process { ppid, start });
        self.by_pid.entry(pid).or_default().push((start, upid));
    }

    pub(super) fn object(&mut self, object: u64, owner: u64) {
        self.owners.insert(object, owner);
    }

    /// The one incarnation that a pid had; `None`: none, or several.
    pub(super) fn only(&self, pid: u32) -> Option<u64> {
        match self.by_pid.get(&pid).map(Vec::as_slice) {
            Some([(_, upid)]) => Some(*upid),
            _ => None,
        }
    }

    /// The processes to keep for rows that name these processes and objects: with owners of the objects, and all
    /// their parents as far as they are known.
    pub(super) fn kept<'a>(
        &self,
        processes: impl IntoIterator<Item = &'a u64>,
        objects: impl IntoIterator<Item = &'a u64>,
    ) -> HashSet<u64> {
        let owners = objects
            .into_iter()
            .filter_map(|o| self.owners.get(o).copied());
        let mut waiting: Vec<u64> = processes.into_iter().copied().chain(owners).collect();
        let mut kept = HashSet::new();
        while let Some(upid) = waiting.pop() {
            if kept.insert(upid) {
                waiting.extend(self.parent(upid));
            }
        }
        kept
    }

    /// The latest incarnation of the parent's pid that began before the child.
    fn parent(&self, upid: u64) -> Option<u64> {
        let child = self.processes.get(&upid)?;
        let parents = self.by_pid.get(&child.ppid)?.iter();
        let before = parents.filter(|(start, parent)| *start <= child.start && *parent != upid);
        before.max().map(|(_, upid)| *upid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_owners_and_reused_pids() {
        let mut kin = Kin::default();
        // upid, pid, ppid, start: pid 5 was reused; 9 is a child of the second one.
        for (upid, pid, ppid, start) in [
            (1, 1, 0, 0),
            (50, 5, 1, 10),
            (51, 5, 1, 100),
            (90, 9, 5, 150),
            (91, 8, 5, 50),
        ] {
            kin.process(upid, pid, ppid, start);
        }
        kin.object(7, 91);
        let kept = |processes: &[u64], objects: &[u64]| {
            let mut kept: Vec<u64> = kin.kept(processes, objects).into_iter().collect();
            kept.sort_unstable();
            kept
        };
        assert_eq!(kept(&[90], &[]), [1, 51, 90]);
        assert_eq!(kept(&[91], &[]), [1, 50, 91]);
        assert_eq!(kept(&[], &[7, 8]), [1, 50, 91]);
        assert_eq!(kept(&[1234], &[]), [1234], "of which nothing is known");
        assert_eq!(kin.only(5), None);
        assert_eq!(kin.only(9), Some(90));
    }
}
