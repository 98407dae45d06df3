//! One pass over the references of each capture in turn, or several passes side by side, each over a stretch of them.

use std::ops::Range;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result};

use super::Output;
use super::inputs::Inputs;
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
    input: &mut Inputs,
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

/// A pass that can be made in stretches, each on a thread of its own.
pub(crate) trait Stretched: Pass + Send {
    /// Puts stretches together, which are given in order and are at least one. `None`: it takes one pass over all of them.
    ///
    /// # Errors
    /// Memory or disk that does not suffice.
    fn join(stretches: Vec<Self>, memory: &Memory) -> Result<Option<Self>>
    where
        Self: Sized;
}

/// Puts stretches together, one behind the other.
///
/// # Errors
/// Those of `join`.
pub(crate) fn fold<P>(
    stretches: Vec<P>,
    mut join: impl FnMut(&mut P, P) -> Result<()>,
) -> Result<Option<P>> {
    let mut stretches = stretches.into_iter();
    let Some(mut whole) = stretches.next() else {
        return Ok(None);
    };
    stretches.try_for_each(|later| join(&mut whole, later))?;
    Ok(Some(whole))
}

/// As [`each_capture`], on as many threads as the input has stretches, or where there is not the memory for that, as
/// [`each_capture`] does. `begin` also gets whether the pass is over a
/// stretch that follows others; what it gives then waits until they are put together.
///
/// # Errors
/// Those of the passes and of the input.
pub(crate) fn in_stretches<P: Stretched>(
    inputs: &mut Inputs,
    output: &mut Output,
    memory: &Memory,
    begin: impl Fn(&Arc<str>, Place, &Memory) -> P + Sync,
) -> Result<()> {
    let count = inputs.stretches.len();
    if count > 1 {
        let parts: Vec<Memory> = (0..count).map(|_| memory.beside()).collect();
        let passes = std::thread::scope(|scope| {
            let stretches = inputs.stretches.iter_mut().zip(&parts).enumerate();
            let threads: Vec<_> = stretches
                .map(|(i, (input, memory))| {
                    let (begin, mut output) = (&begin, output.another());
                    let place = if i == 0 { Place::First } else { Place::Later };
                    scope.spawn(move || {
                        one(input, &mut output, memory, |capture| {
                            begin(capture, place, memory)
                        })
                    })
                })
                .collect();
            let ended = threads.into_iter().map(|thread| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            ended.collect::<Result<Vec<_>>>()
        });
        if output.closed() {
            return Ok(());
        }
        // Several passes take more memory than one.
        let whole = match passes {
            Ok(passes) => match memory.take_over(parts) {
                Ok(()) => join(passes.into_iter().flatten().collect(), memory),
                Err(e) => Err(e),
            },
            Err(e) => {
                drop(parts);
                Err(e)
            }
        };
        match whole {
            Ok(Some(Some(whole))) => return whole.end(output, memory).map(|_| ()),
            Ok(None) => return Ok(()),
            Err(e) if !matches!(e.find_root(), DataFusionError::ResourcesExhausted(_)) => {
                return Err(e);
            }
            _ => inputs.again()?,
        }
    }
    each_capture(inputs, output, memory, |capture| {
        begin(capture, Place::Whole, memory)
    })
}

/// Puts passes together, if there are any. The inner `None`: that cannot be done.
fn join<P: Stretched>(passes: Vec<P>, memory: &Memory) -> Result<Option<Option<P>>> {
    match passes.is_empty() {
        true => Ok(None),
        false => P::join(passes, memory).map(Some),
    }
}

/// Where in the string a pass is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It sees all of it.
    Whole,
    /// It sees the first of several stretches.
    First,
    /// It sees a later one.
    Later,
}

/// A pass over one stretch; `None`: there is nothing in it, or nobody wants more.
fn one<P: Pass>(
    input: &mut References,
    output: &mut Output,
    memory: &Memory,
    begin: impl Fn(&Arc<str>) -> P,
) -> Result<Option<P>> {
    let mut pass = None;
    while let Some(at) = input.next()? {
        let pass = pass.get_or_insert_with(|| begin(input.capture(&at)));
        if !pass.stretch(input.rows(&at), at.range.clone(), output, memory)? || output.closed() {
            return Ok(None);
        }
    }
    Ok(pass)
}
