//! A Parquet file as a table.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::super::error::SourceError;
use super::super::kind::{Input, Sample, Settings};
use super::super::scribe::Scribe;
use super::BATCH;
use super::columns::choose;
use super::rows::Rows;

const MAGIC: &[u8] = b"PAR1";

/// Whether a file begins and ends like one.
pub(in super::super) fn looks_like(sample: &Sample) -> bool {
    sample.head.starts_with(MAGIC) && sample.tail.ends_with(MAGIC)
}

/// Translates a file, reading no columns but those of `refs`.
pub(in super::super) fn translate(
    input: Input,
    settings: &Settings,
    to: &mut Scribe,
) -> Result<(), SourceError> {
    let path = input.path;
    let fail = |e| SourceError::parse(&path, format!("cannot be read as Parquet: {e}"));
    let builder = guarded(|| ParquetRecordBatchReaderBuilder::try_new(input.file)).map_err(fail)?;
    let schema = builder.schema().clone();
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let chosen = choose(&path, &names, settings.ignore_unknown_columns)?;
    let roots = chosen.iter().enumerate().filter(|c| c.1.is_some());
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots.map(|c| c.0));
    let builder = builder.with_projection(mask).with_batch_size(BATCH);
    let mut reader = guarded(|| builder.build()).map_err(fail)?;
    let chosen: Vec<usize> = chosen.into_iter().flatten().collect();
    let mut rows = Rows::new(path.clone());
    while let Some(batch) = guarded(|| reader.next().transpose()).map_err(fail)? {
        rows.add(&batch, &chosen, to)?;
    }
    Ok(())
}

thread_local! {
    /// A panic of this thread is caught, and told as an error.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}
static HOOK: Once = Once::new();

/// Calls the parquet crate, which panics on some damaged files: an error like the others. What panicked is not used
/// again, so that it may be in any state.
fn guarded<T, E: ToString>(read: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !CAUGHT.get() {
                before(panic);
            }
        }));
    });
    CAUGHT.set(true);
    let read = catch_unwind(AssertUnwindSafe(read));
    CAUGHT.set(false);
    match read {
        Ok(read) => read.map_err(|e| e.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied());
            Err(format!("damaged: {}", text.unwrap_or("it makes no sense")))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::guarded;

    #[test]
    fn a_panic_is_an_error_and_the_next_call_is_not() {
        let fail = |text: &'static str| guarded::<(), String>(move || panic!("{text}"));
        assert_eq!(fail("no good"), Err("damaged: no good".into()));
        assert_eq!(guarded(|| Err::<(), _>("told")), Err("told".into()));
        assert_eq!(guarded(|| Ok::<_, String>(7)), Ok(7));
    }
}
