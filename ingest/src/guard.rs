//! The parquet crate panics on some damaged files: here that is an error like the others.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::pin::pin;
use std::sync::Once;
use std::task::Poll;

use parquet::errors::ParquetError;

thread_local! {
    /// A panic of this thread is caught, and told as an error.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}
static HOOK: Once = Once::new();

/// Calls the parquet crate. What panicked is not used again, so that it may be in any state.
///
/// # Errors
/// What the panic said.
pub(crate) fn guarded<T>(read: impl FnOnce() -> T) -> Result<T, String> {
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
    read.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied());
        format!("damaged: {}", text.unwrap_or("it makes no sense"))
    })
}

/// The same for what it does bit by bit.
///
/// # Errors
/// The future's own, or what a panic of it said.
pub(crate) async fn guarded_future<T>(
    read: impl Future<Output = Result<T, ParquetError>>,
) -> Result<T, ParquetError> {
    let mut read = pin!(read);
    poll_fn(|context| match guarded(|| read.as_mut().poll(context)) {
        Ok(poll) => poll,
        Err(text) => Poll::Ready(Err(ParquetError::General(text))),
    })
    .await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_the_next_call_is_not() {
        let fail = |text: &'static str| guarded::<()>(move || panic!("{text}"));
        assert_eq!(fail("no good"), Err("damaged: no good".into()));
        assert_eq!(guarded(|| 7), Ok(7));
    }

    #[test]
    fn a_future_may_panic_too() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.unwrap_or_else(|e| panic!("{e}"));
        let good = runtime.block_on(guarded_future(async { Ok(7) }));
        assert!(matches!(good, Ok(7)));
        let bad = runtime.block_on(guarded_future::<()>(async { panic!("no good") }));
        assert!(bad.is_err_and(|e| e.to_string().contains("no good")));
    }
}
