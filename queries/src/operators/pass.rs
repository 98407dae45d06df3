//! One pass over the references of each capture in turn.

use std::ops::Range;
use std::sync::Arc;

use datafusion::common::Result;

use super::Output;
use super::memory::Memory;
use super::references::{References, Rows};

/// What is worked out of one capture's references.
pub(crate) trait Pass {
    /// Takes the next references. `false`: no more are wanted.
    ///
    /// # Errors
    /// Memory or disk that does not suffice.
    fn stretch(
        &mut self,
        rows: &Rows,
        range: Range<usize>,
        output: &mut Output,
        memory: &Memory,
    ) -> Result<bool>;

    /// Gives what is known at the end. `false`: no more is wanted.
    ///
    /// # Errors
    /// As above.
    fn end(self, output: &mut Output, memory: &Memory) -> Result<bool>;
}

/// A pass for each capture of `input`, which `begin` begins.
///
/// # Errors
/// Those of the passes and of the input.
pub(crate) fn each_capture<P: Pass>(
    input: &mut References,
    output: &mut Output,
    memory: &Memory,
    begin: impl Fn(&Arc<str>) -> P,
) -> Result<()> {
    let mut next = input.next()?;
    while let Some(first) = next.take() {
        let capture = Arc::clone(input.capture(&first));
        let mut pass = begin(&capture);
        let mut stretch = Some(first);
        while let Some(at) = stretch.take() {
            if *input.capture(&at) != capture {
                next = Some(at);
                break;
            }
            if !pass.stretch(input.rows(&at), at.range.clone(), output, memory)? || output.closed()
            {
                return Ok(());
            }
            stretch = input.next()?;
        }
        if !pass.end(output, memory)? {
            return Ok(());
        }
    }
    Ok(())
}
