//! Writes a recording of one channel: what every source but the recorder's own chunks is translated into.

use std::path::{Path, PathBuf};

use pgtrace_capture::chunk::{
    BlockKind, ChunkHeader, ChunkWriter, CpuTotals, Settings, Totals, Unread,
};
use pgtrace_capture::record::{PageRef, Process, Record, Stamp};
use pgtrace_capture::wire::{self, ByteOrder};
use uuid::Uuid;

use super::error::SourceError;

/// A block ends when it has so many bytes, as the recorder's sub-buffers do.
const BLOCK: usize = (1 << 20) - (1 << 16);
/// What a name takes in memory besides its texts, from here to the dataset.
const NAME_BYTES: u64 = 512;
/// Places of unread bytes that are told one by one.
const PLACES: usize = 1000;
/// Bytes of a base page.
pub(super) const PAGE_SIZE: u32 = 4096;

/// A recording being written. References keep the order they come in, whatever their times: all are of one channel,
/// that of CPU 0; the CPU of a reference is in its stamp.
pub(super) struct Scribe {
    /// The source, for messages.
    source: PathBuf,
    chunk: PathBuf,
    capture_id: Uuid,
    kind: &'static str,
    writer: Option<ChunkWriter>,
    refs: Vec<u8>,
    names: Vec<u8>,
    next_ref: u64,
    next_name: u64,
    /// References among `next_ref` that nobody could read.
    unread: u64,
    places: Vec<Unread>,
    /// Bytes that names take, about, and may take.
    names_bytes: u64,
    names_limit: u64,
}

impl Scribe {
    /// Begins the chunk `chunk` of a recording that was translated from the `kind` of file that `source` is; its names
    /// may take a quarter of `memory`.
    pub(super) fn new(
        source: &Path,
        kind: &'static str,
        chunk: PathBuf,
        capture_id: Uuid,
        memory: u64,
    ) -> Self {
        Self {
            source: source.into(),
            chunk,
            capture_id,
            kind,
            writer: None,
            refs: Vec::with_capacity(BLOCK + (1 << 16)),
            names: Vec::new(),
            next_ref: 0,
            next_name: 0,
            unread: 0,
            places: Vec::new(),
            names_bytes: 0,
            names_limit: memory / 4,
        }
    }

    /// Adds a name, before the first reference that uses it; its number is given here.
    pub(super) fn name(&mut self, mut record: Record) -> Result<(), SourceError> {
        let seq = self.next_name;
        self.next_name += 1;
        let texts = match &mut record {
            Record::Process(p) => {
                p.stamp = numbered(p.stamp, seq);
                p.comm.len()
            }
            Record::Object(o) => {
                o.stamp = numbered(o.stamp, seq);
                o.path.as_ref().map_or(0, String::len)
            }
            // No source has others.
            _ => 0,
        };
        self.names_bytes += NAME_BYTES + 2 * texts as u64;
        if self.names_bytes > self.names_limit {
            return Err(SourceError::Names {
                path: self.source.clone(),
                names: self.next_name,
                found: self.names_bytes,
                limit: self.names_limit,
            });
        }
        self.begin(record.stamp().time_ns)?;
        wire::encode(&record, &mut self.names);
        if self.names.len() >= BLOCK {
            self.flush()?;
        }
        Ok(())
    }

    /// Adds the next reference; its number is given here.
    pub(super) fn reference(&mut self, mut r: PageRef) -> Result<(), SourceError> {
        self.begin(r.stamp.time_ns)?;
        r.stamp.seq = self.next_ref;
        self.next_ref += 1;
        wire::encode(&Record::Ref(r), &mut self.refs);
        if self.refs.len() >= BLOCK {
            self.flush()?;
        }
        Ok(())
    }

    /// The next reference cannot be read.
    pub(super) fn unread(&mut self, truncated: bool, detail: impl FnOnce() -> String) {
        if self.places.len() < PLACES {
            self.places.push(Unread {
                first_seq: self.next_ref,
                truncated,
                detail: detail(),
            });
        }
        self.next_ref += 1;
        self.unread += 1;
    }

    /// Ends the recording. What it came to stands in it, so that a part of it is known for one.
    pub(super) fn finish(mut self) -> Result<(), SourceError> {
        self.begin(0)?;
        self.flush()?;
        let totals = Totals {
            cpus: vec![CpuTotals {
                cpu: 0,
                refs_emitted: self.next_ref - self.unread,
                refs_lost: self.unread,
                names_emitted: self.next_name,
                names_lost: 0,
                bytes: 0,
            }],
            complete: true,
            unread: std::mem::take(&mut self.places),
            ..Totals::default()
        };
        let json = serde_json::to_vec(&totals)
            .map_err(|e| SourceError::io(&self.chunk, std::io::Error::from(e)))?;
        if let Some(mut writer) = self.writer {
            writer.block(BlockKind::Totals, &json)?;
            writer.finish()?;
        }
        Ok(())
    }

    /// The chunk's header, once: the first time there is ties the clocks, which are the same.
    fn begin(&mut self, time_ns: u64) -> Result<(), SourceError> {
        if self.writer.is_some() {
            return Ok(());
        }
        // Nothing in it but what the source says: the same table gives the same chunk wherever and whenever.
        let header = ChunkHeader {
            capture_id: self.capture_id,
            boot_id: Uuid::nil(),
            kernel: String::new(),
            page_size: PAGE_SIZE,
            byte_order: ByteOrder::NATIVE,
            cpu: 0,
            index: 0,
            monotonic_ns: time_ns,
            realtime_ns: time_ns,
            boottime_ns: time_ns,
            settings: Settings {
                source: self.kind.into(),
                ..Settings::default()
            },
        };
        self.writer = Some(ChunkWriter::create(&self.chunk, &header)?);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SourceError> {
        if let Some(writer) = &mut self.writer {
            for (kind, bytes) in [
                (BlockKind::Names, &mut self.names),
                (BlockKind::Refs, &mut self.refs),
            ] {
                if !bytes.is_empty() {
                    writer.block(kind, bytes)?;
                    bytes.clear();
                }
            }
        }
        Ok(())
    }
}

fn numbered(stamp: Stamp, seq: u64) -> Stamp {
    Stamp {
        cpu: 0,
        seq,
        ..stamp
    }
}

/// A process that somebody names: nothing else is known of it.
pub(super) fn process(stamp: Stamp, pid: u32, uid: u32, comm: String, upid: u64) -> Process {
    Process {
        stamp,
        tgid: pid,
        ppid: 0,
        uid,
        gid: uid,
        start_ns: stamp.time_ns,
        // See `names::upid`: the start in ms stands above the pid.
        start_boot_ns: (upid >> 22).saturating_mul(1_000_000),
        attached: true,
        forked: false,
        execed: false,
        detached: false,
        comm,
        exe: None,
        cwd: None,
        cgroup: None,
    }
}
