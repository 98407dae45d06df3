//! An object of a store, read like a file: ranged requests, some of them ahead of the reader.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, GetOptions, ObjectMeta, ObjectStore};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::store::patiently;

/// Bytes of the first request, which often is for a header alone.
const FIRST: u64 = 64 << 10;
/// Bytes of every other.
const WINDOW: u64 = 1 << 20;
/// Requests on their way while one answer is being read.
const AHEAD: usize = 2;

/// An object with raw bytes.
pub struct Object {
    store: Arc<dyn ObjectStore>,
    meta: ObjectMeta,
    url: String,
    runtime: Handle,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Object").field(&self.url).finish()
    }
}

impl Object {
    /// The object that `meta` describes, which users know as `url`. Requests run on `runtime`.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        meta: ObjectMeta,
        url: String,
        runtime: Handle,
    ) -> Self {
        Self {
            store,
            meta,
            url,
            runtime,
        }
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its path in the store.
    pub fn path(&self) -> &Path {
        &self.meta.location
    }

    /// One range of its bytes, as they were when it was found.
    async fn get(self: Arc<Self>, range: Range<u64>) -> io::Result<Bytes> {
        let get = || async {
            let options = GetOptions {
                range: Some(range.clone().into()),
                if_match: self.meta.e_tag.clone(),
                ..GetOptions::default()
            };
            self.store
                .get_opts(&self.meta.location, options)
                .await?
                .bytes()
                .await
        };
        let changed = |found: String| {
            io::Error::other(format!(
                "changed while it was being read: expected {} bytes from byte {}, found {found}",
                range.end - range.start,
                range.start
            ))
        };
        match patiently(get).await {
            Ok(bytes) if bytes.len() as u64 == range.end - range.start => Ok(bytes),
            Ok(bytes) => Err(changed(bytes.len().to_string())),
            Err(Error::Precondition { .. }) => Err(changed("another version".into())),
            Err(e) => Err(e.into()),
        }
    }
}

/// An answer that was asked for.
#[derive(Debug)]
struct Coming {
    range: Range<u64>,
    bytes: JoinHandle<io::Result<Bytes>>,
}

/// Reads an object in order, or from wherever it is told to.
///
/// Not to be used on a thread of the runtime itself.
#[derive(Debug)]
pub struct ObjectReader {
    object: Arc<Object>,
    at: u64,
    /// What was read last, and where it begins.
    have: (u64, Bytes),
    coming: VecDeque<Coming>,
    /// The reader has gone on behind its first request, so it will go on further.
    steady: bool,
}

impl ObjectReader {
    /// Bytes that a reader holds, at most.
    pub const MOST_BYTES: u64 = WINDOW * (AHEAD as u64 + 1);

    /// Starts at the first byte.
    pub fn new(object: Arc<Object>) -> Self {
        Self {
            object,
            at: 0,
            have: (0, Bytes::new()),
            coming: VecDeque::new(),
            steady: false,
        }
    }

    /// What is there from `at` on, without asking for more.
    fn at_hand(&self) -> Option<&[u8]> {
        let (from, bytes) = &self.have;
        let inside = usize::try_from(self.at.checked_sub(*from)?).ok()?;
        bytes.get(inside..).filter(|rest| !rest.is_empty())
    }

    fn ask(&mut self, from: u64, most: u64) {
        let range = from..self.object.meta.size.min(from.saturating_add(most));
        if range.is_empty() {
            return;
        }
        let get = self.object.clone().get(range.clone());
        let bytes = self.object.runtime.spawn(get);
        self.coming.push_back(Coming { range, bytes });
    }

    /// Gets the range that holds `at`, which lies before the end.
    fn load(&mut self) -> io::Result<()> {
        while let Some(next) = self.coming.pop_front() {
            if next.range.contains(&self.at) {
                self.coming.push_front(next);
                break;
            }
            next.bytes.abort();
            self.steady = false;
        }
        if self.coming.is_empty() {
            let (from, bytes) = &self.have;
            let steady = !bytes.is_empty() && self.at == from + bytes.len() as u64;
            self.steady = steady;
            self.ask(self.at, if steady { WINDOW } else { FIRST });
        }
        let Some(mut next) = self.coming.pop_front() else {
            return Ok(());
        };
        let mut end = self.coming.back().map_or(next.range.end, |c| c.range.end);
        while self.steady && self.coming.len() < AHEAD && end < self.object.meta.size {
            self.ask(end, WINDOW);
            end = self.coming.back().map_or(end, |c| c.range.end);
        }
        self.have = (0, Bytes::new()); // not held while the next is waited for
        let bytes = self
            .object
            .runtime
            .block_on(&mut next.bytes)
            .map_err(|_| io::Error::other("reading was given up"))??;
        self.have = (next.range.start, bytes);
        Ok(())
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.object.meta.size || buf.is_empty() {
            return Ok(0);
        }
        if self.at_hand().is_none() {
            self.load()?;
        }
        let some = self.at_hand().unwrap_or_default();
        let n = some.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), some.get(..n)) {
            to.copy_from_slice(from);
        }
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for ObjectReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.object.meta.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

impl Drop for ObjectReader {
    fn drop(&mut self) {
        self.coming.iter().for_each(|c| c.bytes.abort());
    }
}

#[cfg(test)]
#[path = "object_test.rs"]
mod tests;
