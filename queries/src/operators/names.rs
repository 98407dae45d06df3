//! Paths and kinds of the objects that an operator has met.

use std::sync::Arc;

use super::references::{Rows, text};

/// By slot of the object in the operator's page index.
#[derive(Default)]
pub(crate) struct Names {
    met: Vec<bool>,
    paths: Vec<Option<Arc<str>>>,
    kinds: Vec<Option<Arc<str>>>,
    bytes: usize,
}

impl Names {
    /// Makes sure that object `slot`, met at `row`, has its names.
    #[inline]
    pub(crate) fn meet(&mut self, slot: u32, rows: &Rows, row: usize) {
        if !self.met.get(slot as usize).is_some_and(|met| *met) {
            let owned = |column| text(column, row).map(Arc::from);
            self.add(
                slot,
                owned(rows.path.as_ref()),
                owned(rows.object_kind.as_ref()),
            );
        }
    }

    #[cold]
    fn add(&mut self, slot: u32, path: Option<Arc<str>>, kind: Option<Arc<str>>) {
        let at = slot as usize;
        if at >= self.met.len() {
            self.met.resize(at + 1, false);
            self.paths.resize(at + 1, None);
            self.kinds.resize(at + 1, None);
        }
        self.bytes += 48 + path.as_ref().map_or(0, |p: &Arc<str>| p.len() + 16);
        (self.met[at], self.paths[at], self.kinds[at]) = (true, path, kind);
    }

    /// Adds those that a later stretch has met; `slots`: its objects' slots here.
    pub(crate) fn join(&mut self, later: Names, slots: &[u32]) {
        let names = later
            .met
            .into_iter()
            .zip(later.paths.into_iter().zip(later.kinds));
        for ((met, (path, kind)), slot) in names.zip(slots) {
            if met && !self.met.get(*slot as usize).is_some_and(|met| *met) {
                self.add(*slot, path, kind);
            }
        }
    }

    pub(crate) fn path(&self, slot: u32) -> Option<&str> {
        self.paths.get(slot as usize)?.as_deref()
    }

    pub(crate) fn kind(&self, slot: u32) -> Option<&str> {
        self.kinds.get(slot as usize)?.as_deref()
    }

    /// Bytes taken.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
