//! Where in a ring its unread bytes are.

use std::num::NonZeroUsize;
use std::ops::Range;

/// Head and tail of a ring that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected at most {size} unread bytes in the ring, found head {head} and tail {tail}")]
pub(super) struct Broken {
    size: usize,
    tail: u64,
    head: u64,
}

/// The one or two stretches of a ring of `size` bytes, a power of two, that hold what was written from position `tail`
/// to position `head`; positions count on for ever. Each stretch lies in `0..size`.
pub(super) fn spans(size: NonZeroUsize, tail: u64, head: u64) -> Result<[Range<usize>; 2], Broken> {
    let size = size.get();
    let unread = usize::try_from(head.wrapping_sub(tail))
        .ok()
        .filter(|&n| n <= size)
        .ok_or(Broken { size, tail, head })?;
    let begin = (tail % size as u64) as usize;
    let first = unread.min(size - begin);
    Ok([begin..begin + first, 0..unread - first])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a ring written byte by byte.
        #[test]
        fn spans_are_what_was_written(
            bits in 3u32..12, tail in any::<u64>(), unread in 0u64..6000,
        ) {
            let size = NonZeroUsize::new(1 << bits).unwrap();
            let head = tail.wrapping_add(unread);
            let spans = spans(size, tail, head);
            if unread > size.get() as u64 {
                prop_assert!(spans.is_err());
                return Ok(());
            }
            let mut ring = vec![None; size.get()];
            for n in 0..unread {
                ring[(tail.wrapping_add(n) % size.get() as u64) as usize] = Some(n);
            }
            let read: Vec<_> = spans.unwrap().into_iter().flat_map(|s| ring[s].to_vec()).collect();
            prop_assert_eq!(read, (0..unread).map(Some).collect::<Vec<_>>());
        }
    }
}
