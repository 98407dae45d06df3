//! All that an operator reads: the reference string, in one stretch or in several that follow one another.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::Result;
use pgtrace_locality::index::Extent;

use super::input::Input;
use super::references::{References, Rows, Stretch};

/// Stretches of the reference string, in order. Several are of one capture.
pub(crate) struct Inputs {
    pub(super) stretches: Vec<References>,
    /// The stretch that [`Inputs::next`] is in.
    at: usize,
    /// Where the pages lie; empty: that is not known, or they lie far apart.
    extents: Arc<[Extent]>,
    beside: Vec<RecordBatch>,
}

impl Inputs {
    pub(crate) fn new(stretches: Vec<References>, extents: Arc<[Extent]>) -> Self {
        Self {
            stretches,
            at: 0,
            extents,
            beside: Vec::new(),
        }
    }

    /// Reads the small table beside the references, if the operator wants one.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn read_beside(&mut self, inputs: Vec<Input>) -> Result<()> {
        for mut input in inputs {
            while let Some(batch) = input.next()? {
                self.beside.push(batch);
            }
        }
        Ok(())
    }

    /// The small table beside the references.
    pub(crate) fn beside(&self) -> &[RecordBatch] {
        &self.beside
    }

    /// Where the pages lie, if they lie close together.
    pub(crate) fn extents(&self) -> Arc<[Extent]> {
        Arc::clone(&self.extents)
    }

    /// The next rows of the whole string; `None`: the end. Never empty, and of one capture.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn next(&mut self) -> Result<Option<Stretch>> {
        while let Some(references) = self.stretches.get_mut(self.at) {
            if let Some(found) = references.next()? {
                return Ok(Some(found));
            }
            self.at += 1;
        }
        Ok(None)
    }

    /// Rows of what [`Inputs::next`] gave last.
    pub(crate) fn rows(&self, stretch: &Stretch) -> &Rows {
        self.stretches[self.at].rows(stretch)
    }

    /// The capture that it belongs to.
    pub(crate) fn capture(&self, stretch: &Stretch) -> &Arc<str> {
        self.stretches[self.at].capture(stretch)
    }

    /// Begins again with the first reference.
    ///
    /// # Errors
    /// Those of starting to read.
    pub(crate) fn again(&mut self) -> Result<()> {
        self.at = 0;
        self.stretches.iter_mut().try_for_each(References::again)
    }
}
