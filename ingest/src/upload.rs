//! A file on its way into the object store: invisible until it is finished.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};

use crate::store::patiently;

/// Least bytes of a part that every object store accepts.
pub(crate) const PART: usize = 5 << 20;
/// After so many parts they become twice as large: stores take 10,000, which would be 50 GB otherwise.
const DOUBLED: u64 = 1000; // the last one is of 2.5 GiB, 5 are allowed

/// How long is spent on removing what a failed run wrote.
const TIDYING: Duration = Duration::from_secs(30);

/// A file being written, part by part.
pub(crate) struct Upload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    parts: Option<Box<dyn MultipartUpload>>,
    pending: BytesMut,
    part: usize,
    count: u64,
    sent: u64,
}

impl Upload {
    /// A new file at `path`; in parts of `part` bytes, all the same since some
    /// stores insist on that, or of 1 byte: as they come, for a local disk.
    pub(crate) fn new(store: Arc<dyn ObjectStore>, path: Path, part: usize) -> Self {
        Self {
            store,
            path,
            parts: None,
            pending: BytesMut::new(),
            part,
            count: 0,
            sent: 0,
        }
    }

    /// Bytes that wait in memory for their part to be full.
    pub(crate) fn pending(&self) -> u64 {
        self.pending.len() as u64
    }

    /// Appends bytes.
    pub(crate) async fn append(&mut self, bytes: Vec<u8>) -> object_store::Result<()> {
        if self.part == 1 {
            return match bytes.is_empty() {
                true => Ok(()),
                false => self.send(bytes.into()).await,
            };
        }
        self.pending.extend_from_slice(&bytes);
        drop(bytes);
        while self.pending.len() >= self.part_len() {
            let part = self.pending.split_to(self.part_len());
            self.send(part.freeze()).await?;
        }
        Ok(())
    }

    fn part_len(&self) -> usize {
        self.part << (self.count / DOUBLED).min(10)
    }

    async fn send(&mut self, bytes: Bytes) -> object_store::Result<()> {
        let parts = match &mut self.parts {
            Some(parts) => parts,
            None => {
                let begun = patiently(|| self.store.put_multipart(&self.path)).await?;
                self.parts.insert(begun)
            }
        };
        self.count += 1;
        self.sent += bytes.len() as u64;
        parts.put_part(PutPayload::from(bytes)).await
    }

    /// Ends the file; gives its size. It exists from now on.
    pub(crate) async fn finish(mut self) -> object_store::Result<u64> {
        let rest = std::mem::take(&mut self.pending).freeze();
        if self.parts.is_none() {
            let size = rest.len() as u64;
            self.store.put(&self.path, PutPayload::from(rest)).await?;
            return Ok(size);
        }
        let sent = match rest.is_empty() {
            true => Ok(()),
            false => self.send(rest).await,
        };
        let Some(mut parts) = self.parts.take() else {
            return Ok(self.sent);
        };
        let ended = match sent {
            Ok(()) => parts.complete().await.map(|_| ()),
            Err(e) => Err(e),
        };
        let Err(e) = ended else {
            return Ok(self.sent);
        };
        // The answer may have been lost, and asking again be told that there is no such upload any more. No other
        // run writes to this path.
        if let Ok(meta) = patiently(|| self.store.head(&self.path)).await
            && meta.size == self.sent
        {
            return Ok(self.sent);
        }
        // The first error is the one to tell.
        briefly(parts.abort()).await;
        Err(e)
    }

    /// Gives up the file: nothing of it stays.
    pub(crate) async fn abort(mut self) {
        if let Some(mut parts) = self.parts.take() {
            // Best effort: what stays is invisible to readers.
            briefly(parts.abort()).await;
        }
    }
}

/// Tidies up after a failure, but not for long: the store may be what failed.
pub(crate) async fn briefly(tidy: impl Future) {
    let _ = tokio::time::timeout(TIDYING, tidy).await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use object_store::memory::InMemory;

    use super::*;

    #[test]
    fn ten_thousand_parts_are_enough_for_four_terabytes() {
        let mut upload = Upload::new(Arc::new(InMemory::new()), Path::from("x"), PART);
        let mut bytes = 0;
        for count in 0..10_000 {
            upload.count = count;
            let part = upload.part_len() as u64;
            assert!((5 << 20..=5 << 30).contains(&part), "{part}");
            bytes += part;
        }
        assert!(bytes > 4 << 40, "{bytes}");
    }

    #[tokio::test]
    async fn parts_come_together_whatever_the_pieces() {
        for (part, piece, pieces) in [(1, 7, 5), (10, 3, 7), (10, 25, 4), (10, 10, 2), (10, 4, 1)] {
            let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
            let mut upload = Upload::new(store.clone(), Path::from("x"), part);
            let all: Vec<u8> = (0..piece * pieces).collect();
            for bytes in all.chunks(piece.into()) {
                upload.append(bytes.to_vec()).await.unwrap();
                assert!(upload.pending() < part as u64);
            }
            assert_eq!(upload.finish().await.unwrap(), all.len() as u64);
            let read = store.get(&Path::from("x")).await.unwrap();
            assert_eq!(read.bytes().await.unwrap(), all);
        }
    }
}
