//! A chunk's header to and from bytes.

use std::io::Read;

use uuid::Uuid;

use super::crc32c;
use super::{CONTAINER_VERSION, ChunkFault, MAGIC, Settings, array_at, u16_at, u32_at, u64_at};
use crate::wire::{self, ByteOrder};

/// Bytes before the texts.
const FIXED: usize = 128;
/// A header is never longer: settings are short.
const MAX_HEADER: usize = 4 << 20;

/// Whose bytes a chunk holds: recording, machine, CPU, clocks, settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkHeader {
    /// The recording; the same in all its chunks.
    pub capture_id: Uuid,
    /// The boot of the traced machine: clocks and pids mean something only within it.
    pub boot_id: Uuid,
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// Bytes of a base page.
    pub page_size: u32,
    /// Byte order of the records.
    pub byte_order: ByteOrder,
    /// CPU whose channels were drained.
    pub cpu: u16,
    /// Number of the chunk among its CPU's, from 0.
    pub index: u32,
    /// CLOCK_MONOTONIC when the chunk was begun, ns; read together with the next two.
    pub monotonic_ns: u64,
    /// UTC, ns since 1970.
    pub realtime_ns: u64,
    /// CLOCK_BOOTTIME, ns.
    pub boottime_ns: u64,
    /// How the recording was made.
    pub settings: Settings,
}

impl ChunkHeader {
    /// The header's bytes; an error when kernel release or settings are absurdly long.
    pub(super) fn encode(&self) -> Result<Vec<u8>, ChunkFault> {
        let settings = serde_json::to_vec(&self.settings).map_err(std::io::Error::from)?;
        let kernel = self.kernel.as_bytes();
        let len = (FIXED + kernel.len() + settings.len() + 4).next_multiple_of(8);
        if kernel.len() > usize::from(u16::MAX) || len > MAX_HEADER {
            return Err(bad(
                format!("a header of at most {MAX_HEADER} bytes"),
                format!("{len}"),
            ));
        }
        let mut h = Vec::with_capacity(len);
        h.extend_from_slice(&MAGIC);
        h.extend_from_slice(&CONTAINER_VERSION.to_le_bytes());
        h.extend_from_slice(&(len as u32).to_le_bytes());
        h.extend_from_slice(self.capture_id.as_bytes());
        h.extend_from_slice(self.boot_id.as_bytes());
        h.extend_from_slice(&self.page_size.to_le_bytes());
        h.push(match self.byte_order {
            ByteOrder::Little => 1,
            ByteOrder::Big => 2,
        });
        h.push(wire::VERSION);
        h.extend_from_slice(&self.cpu.to_le_bytes());
        h.extend_from_slice(&self.index.to_le_bytes());
        h.extend_from_slice(&[0; 4]);
        h.extend_from_slice(&self.monotonic_ns.to_le_bytes());
        h.extend_from_slice(&self.realtime_ns.to_le_bytes());
        h.extend_from_slice(&self.boottime_ns.to_le_bytes());
        h.extend_from_slice(&(kernel.len() as u16).to_le_bytes());
        h.extend_from_slice(&[0; 2]);
        h.extend_from_slice(&(settings.len() as u32).to_le_bytes());
        h.resize(FIXED, 0);
        h.extend_from_slice(kernel);
        h.extend_from_slice(&settings);
        h.resize(len - 4, 0);
        let crc = crc32c::crc32c(&h);
        h.extend_from_slice(&crc.to_le_bytes());
        Ok(h)
    }

    /// Reads a header from the start of a chunk of `file_len` bytes; gives its length too. The error's number is the
    /// byte offset it belongs to.
    pub(super) fn read(
        from: &mut impl Read,
        file_len: u64,
    ) -> Result<(ChunkHeader, u64), (u64, ChunkFault)> {
        if file_len == 0 {
            return Err((0, ChunkFault::Empty));
        }
        let mut start = Vec::new();
        from.by_ref()
            .take(16)
            .read_to_end(&mut start)
            .map_err(|e| (0, e.into()))?;
        if !MAGIC.starts_with(start.get(..8).unwrap_or(&start)) {
            start.truncate(8);
            return Err((0, ChunkFault::NotAChunk { found: start }));
        }
        let truncated = |expected: usize, found: u64| {
            let expected = expected as u64;
            (found, ChunkFault::TruncatedHeader { expected, found })
        };
        if start.len() < 16 {
            return Err(truncated(FIXED, start.len() as u64));
        }
        let (found, supported) = (u32_at(&start, 8), CONTAINER_VERSION);
        if found > supported {
            return Err((8, ChunkFault::TooNew { found, supported }));
        }
        if found == 0 {
            return Err((8, ChunkFault::BadVersion { found, supported }));
        }
        let len = u32_at(&start, 12) as usize;
        if !(FIXED + 8..=MAX_HEADER).contains(&len) || !len.is_multiple_of(8) {
            let expected = format!(
                "a header length of {} to {MAX_HEADER}, a multiple of 8",
                FIXED + 8
            );
            return Err((12, bad(expected, len.to_string())));
        }
        if file_len < len as u64 {
            return Err(truncated(len, file_len));
        }
        let mut h = start;
        from.by_ref()
            .take(len as u64 - 16)
            .read_to_end(&mut h)
            .map_err(|e| (16, e.into()))?;
        if h.len() < len {
            return Err(truncated(len, h.len() as u64));
        }
        let body = h.get(..len - 4).unwrap_or_default();
        let (expected, found) = (u32_at(&h, len - 4), crc32c::crc32c(body));
        if expected != found {
            return Err((len as u64 - 4, ChunkFault::HeaderCrc { expected, found }));
        }
        Ok((Self::fields(body)?, len as u64))
    }

    fn fields(h: &[u8]) -> Result<ChunkHeader, (u64, ChunkFault)> {
        let kernel_len = usize::from(u16_at(h, 88));
        let settings_len = u32_at(h, 92) as usize;
        let texts = h.get(FIXED..).unwrap_or_default();
        let (Some(kernel), Some(settings)) = (
            texts.get(..kernel_len),
            texts.get(kernel_len..kernel_len.saturating_add(settings_len)),
        ) else {
            let expected = format!("texts of at most {} bytes", texts.len());
            return Err((88, bad(expected, format!("{kernel_len} + {settings_len}"))));
        };
        let at = (FIXED + kernel_len) as u64;
        let settings = serde_json::from_slice(settings)
            .map_err(|e| (at, bad("settings as JSON".into(), e.to_string())))?;
        Ok(ChunkHeader {
            capture_id: Uuid::from_bytes(array_at(h, 16).unwrap_or_default()),
            boot_id: Uuid::from_bytes(array_at(h, 32).unwrap_or_default()),
            kernel: String::from_utf8_lossy(kernel).into_owned(),
            page_size: u32_at(h, 48),
            byte_order: match h.get(52) {
                Some(1) => ByteOrder::Little,
                Some(2) => ByteOrder::Big,
                other => {
                    let expected = "byte order 1 or 2".into();
                    return Err((
                        52,
                        bad(expected, format!("{}", other.copied().unwrap_or(0))),
                    ));
                }
            },
            cpu: u16_at(h, 54),
            index: u32_at(h, 56),
            monotonic_ns: u64_at(h, 64),
            realtime_ns: u64_at(h, 72),
            boottime_ns: u64_at(h, 80),
            settings,
        })
    }
}

fn bad(expected: String, found: String) -> ChunkFault {
    ChunkFault::BadHeader { expected, found }
}
