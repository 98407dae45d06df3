//! References as the classification takes them.

use std::collections::BTreeMap;

use pgtrace_locality::patterns::{Access, Classifier, Settings, Touch};

use super::references::{Done, Rows};

/// Columns that a [`touch`] is made of.
pub(crate) const COLUMNS: [&str; 4] = ["page", "access", "tid", "ip"];

/// The reference in a row.
pub(crate) fn touch(rows: &Rows, row: usize) -> Touch {
    let access = match rows.access.as_ref().map(|access| access.of(row)) {
        Some(Done::Write) => Access::Write,
        Some(Done::Exec) => Access::Exec,
        _ => Access::Read,
    };
    let ip = rows
        .ip
        .as_ref()
        .filter(|ips| arrow::array::Array::is_valid(*ips, row));
    Touch {
        page: rows.page[row],
        access,
        tid: rows.tid[row],
        ip: ip.map_or(0, |ips| ips.value(row)),
    }
}

/// Bytes of a reference that waits for the verdict, and of one while verdicts are found.
const HELD: usize = 2 * size_of::<Touch>();
const JUDGED: usize = 100;
/// Bytes of an object beside its references.
const OBJECT: usize = 400;

/// The objects of one window, by slot or id, each with its references.
#[derive(Default)]
pub(crate) struct Objects<K> {
    pub(crate) by: BTreeMap<K, Classifier>,
    held: usize,
}

impl<K: Ord> Objects<K> {
    pub(crate) fn push(&mut self, object: K, touch: &Touch) {
        let classifier = self
            .by
            .entry(object)
            .or_insert_with(|| Classifier::new(Settings::default()));
        // Beyond its bound a classifier forgets.
        if classifier.refs() < Settings::default().exact_refs as u64 {
            self.held += HELD;
        }
        classifier.push(touch);
    }

    /// Bytes taken, those of finding verdicts included.
    pub(crate) fn bytes(&self) -> usize {
        let judged = self.held.min(Settings::default().exact_refs * HELD) / HELD * JUDGED;
        self.held + self.by.len() * OBJECT + judged
    }
}
