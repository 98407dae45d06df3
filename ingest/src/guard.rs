//! Calls of the parquet crate, which panics on some damaged files: an error like the others. What panicked is not used
//! again, so that it may be in any state.

use std::any::Any;
use std::cell::Cell;
use std::future::poll_fn;
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

fn caught<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !CAUGHT.get() {
                before(panic);
            }
        }));
    });
    let outer = CAUGHT.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    CAUGHT.set(outer);
    result.map_err(|panic| format!("damaged: {}", words(&*panic)))
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it makes no sense")
}

/// A call that gives an error where it panics.
pub(crate) fn guarded<T, E: ToString>(call: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    caught(call).and_then(|result| result.map_err(|e| e.to_string()))
}

/// The same of work that waits now and then.
pub(crate) async fn guarded_async<T>(
    work: impl Future<Output = Result<T, ParquetError>>,
) -> Result<T, ParquetError> {
    let mut work = pin!(work);
    poll_fn(|context| match caught(|| work.as_mut().poll(context)) {
        Ok(poll) => poll,
        Err(text) => Poll::Ready(Err(ParquetError::General(text))),
    })
    .await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_the_next_call_is_not() {
        let fail = |text: &'static str| guarded::<(), String>(move || panic!("{text}"));
        assert_eq!(fail("no good"), Err("damaged: no good".into()));
        assert_eq!(guarded(|| Err::<(), _>("told")), Err("told".into()));
        assert_eq!(guarded(|| Ok::<_, String>(7)), Ok(7));
    }

    #[tokio::test]
    async fn so_it_is_of_work_that_waits() {
        let fail = guarded_async::<()>(async {
            tokio::task::yield_now().await;
            panic!("no good")
        });
        let told = fail.await.unwrap_err().to_string();
        assert!(told.contains("damaged: no good"), "{told}");
        assert_eq!(guarded_async(async { Ok(7) }).await.unwrap(), 7);
    }
}
