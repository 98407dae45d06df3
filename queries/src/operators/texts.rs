//! A column of few different texts.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringViewArray, StringViewBuilder};
use arrow::buffer::{Buffer, ScalarBuffer};

/// Builds a text column in which neighbours are mostly equal: an equal neighbour is not copied.
#[derive(Default)]
pub(crate) struct Texts {
    builder: StringViewBuilder,
    /// The last text: its key, block and length.
    last: Option<(u32, u32, u32)>,
}

impl Texts {
    /// Appends a text; equal `key`s mean equal texts.
    #[inline]
    pub(crate) fn push(&mut self, key: u32, text: Option<&str>) {
        let Some(text) = text else {
            return self.builder.append_null();
        };
        let (block, length) = match self.last {
            Some((last, block, length)) if last == key => (block, length),
            _ => {
                let block = self.builder.append_block(Buffer::from(text.as_bytes()));
                self.last = Some((key, block, text.len() as u32));
                (block, text.len() as u32)
            }
        };
        // The block is this text whole, so this cannot fail; a null would show it.
        if self.builder.try_append_view(block, 0, length).is_err() {
            self.builder.append_null();
        }
    }

    /// A column of one text.
    pub(crate) fn same(text: &str, rows: usize) -> ArrayRef {
        let mut texts = Self::default();
        (0..rows).for_each(|_| texts.push(0, Some(text)));
        texts.take()
    }

    /// A column that nobody looks at.
    pub(crate) fn empty(rows: usize) -> ArrayRef {
        let nothing = ScalarBuffer::from(vec![0u128; rows]);
        // A view of no bytes is all zeros, and refers to no buffer.
        match StringViewArray::try_new(nothing, Vec::new(), None) {
            Ok(column) => Arc::new(column),
            Err(_) => Self::same("", rows),
        }
    }

    /// The column; the next one begins.
    pub(crate) fn take(&mut self) -> ArrayRef {
        self.last = None;
        Arc::new(self.builder.finish())
    }
}
