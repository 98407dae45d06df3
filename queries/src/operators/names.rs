//! Paths and kinds of the objects that an operator has met.

use std::sync::Arc;

use super::references::{Rows, text};

/// By slot of the object in the operator's page index.
#[derive(Default)]
pub(crate) struct Names {
    paths: Vec<Option<Arc<str>>>,
    kinds: Vec<Option<Arc<str>>>,
    bytes: usize,
}

impl Names {
    /// Makes sure that object `slot`, met at `row`, has its names.
    #[inline]
    pub(crate) fn meet(&mut self, slot: u32, rows: &Rows, row: usize) {
        if slot as usize == self.paths.len() {
            self.add(rows, row);
        }
    }

    #[cold]
    fn add(&mut self, rows: &Rows, row: usize) {
        let path = text(rows.path.as_ref(), row).map(Arc::from);
        self.bytes += 48 + path.as_ref().map_or(0, |p: &Arc<str>| p.len() + 16);
        self.paths.push(path);
        self.kinds
            .push(text(rows.object_kind.as_ref(), row).map(Arc::from));
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
