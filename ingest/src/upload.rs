//! A file on its way into the object store: invisible until it is finished.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};

/// Least bytes of a part that every object store accepts.
pub(crate) const PART: usize = 5 << 20;

/// A file being written, part by part.
pub(crate) struct Upload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    parts: Option<Box<dyn MultipartUpload>>,
    pending: Vec<u8>,
    part: usize,
    sent: u64,
}

impl Upload {
    /// A new file at `path`; parts of at least `part` bytes.
    pub(crate) fn new(store: Arc<dyn ObjectStore>, path: Path, part: usize) -> Self {
        Self {
            store,
            path,
            parts: None,
            pending: Vec::new(),
            part,
            sent: 0,
        }
    }

    /// Bytes that wait in memory for their part to be full.
    pub(crate) fn pending(&self) -> u64 {
        self.pending.len() as u64
    }

    /// Appends bytes.
    pub(crate) async fn append(&mut self, bytes: Vec<u8>) -> object_store::Result<()> {
        match self.pending.is_empty() {
            true => self.pending = bytes,
            false => self.pending.extend_from_slice(&bytes),
        }
        if self.pending.len() < self.part {
            return Ok(());
        }
        if self.parts.is_none() {
            self.parts = Some(self.store.put_multipart(&self.path).await?);
        }
        self.send().await
    }

    async fn send(&mut self) -> object_store::Result<()> {
        let bytes = std::mem::take(&mut self.pending);
        if bytes.is_empty() {
            return Ok(());
        }
        self.sent += bytes.len() as u64;
        if let Some(parts) = &mut self.parts {
            parts.put_part(PutPayload::from(Bytes::from(bytes))).await?;
        }
        Ok(())
    }

    /// Ends the file; gives its size. It exists from now on.
    pub(crate) async fn finish(mut self) -> object_store::Result<u64> {
        if self.parts.is_none() {
            let bytes = std::mem::take(&mut self.pending);
            let size = bytes.len() as u64;
            self.store.put(&self.path, PutPayload::from(bytes)).await?;
            return Ok(size);
        }
        let sent = self.send().await;
        if let Some(mut parts) = self.parts.take() {
            match sent {
                Ok(()) => parts.complete().await.map(|_| ())?,
                Err(e) => {
                    // The first error is the one to tell.
                    let _ = parts.abort().await;
                    return Err(e);
                }
            }
        }
        Ok(self.sent)
    }

    /// Gives up the file: nothing of it stays.
    pub(crate) async fn abort(mut self) {
        if let Some(mut parts) = self.parts.take() {
            // Best effort: what stays is invisible to readers.
            let _ = parts.abort().await;
        }
    }
}
