//! Where records come from: raw chunks, found, identified and read in order.
//!
//! `kind` lists the sources that are translated into chunks first, one file each.

mod channel;
pub mod error;
pub mod kind;
mod locate;
mod object;
mod place;
mod scan;
mod scribe;
mod seen;
pub mod skeleton;
mod spool;
mod table;
mod v0;

use std::collections::BTreeMap;
use std::path::PathBuf;

use pgtrace_capture::chunk::{ChunkHeader, file_name};
use rayon::prelude::*;
use tokio::runtime::Handle;

pub use channel::{ChannelReader, Piece};
pub use locate::places;
pub use object::{Object, ObjectReader};
pub use place::{Input, Place};
pub(crate) use scan::scan_parts;
pub use scan::{CpuScan, Part};
pub use seen::Seen;
pub use skeleton::{Run, Skeleton};

use crate::error::IngestError;

/// One raw chunk, identified by its content.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Where it is.
    pub place: Place,
    /// BLAKE3 of its content, in hex.
    pub id: String,
    /// Its size.
    pub bytes: u64,
    /// Whose bytes it holds.
    pub header: ChunkHeader,
}

impl Chunk {
    /// The file's name, for messages and the manifest; without one, what the recorder would have called it.
    pub fn name(&self) -> String {
        let usual = || file_name(self.header.cpu, self.header.index);
        self.place.name().unwrap_or_else(usual)
    }
}

/// The chunks of one recording: of each CPU, in order of their index.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The recording, as text.
    pub capture_id: String,
    /// Its chunks, by CPU.
    pub cpus: BTreeMap<u16, Vec<Chunk>>,
}

impl Recording {
    /// All its chunks.
    pub fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.cpus.values().flatten()
    }

    /// Bytes of all its chunks.
    pub fn bytes(&self) -> u64 {
        self.chunks().map(|c| c.bytes).sum()
    }
}

/// What was found among the files given.
#[derive(Debug, Default)]
pub struct Found {
    /// Recordings, by id.
    pub recordings: Vec<Recording>,
    /// Chunks that cannot be used, with the reason, where the caller wanted to go on.
    pub unusable: Vec<IngestError>,
}

/// Finds the chunks that `raw` names (see [`places`]), reads and identifies them.
///
/// # Errors
/// As [`places`]; a chunk that cannot be read, and (unless `keep_going`) one
/// whose header cannot be used.
pub fn find(raw: &[PathBuf], keep_going: bool, runtime: &Handle) -> Result<Found, IngestError> {
    recordings(places(raw, runtime)?, keep_going)
}

/// Reads and identifies the chunks at `places`.
///
/// # Errors
/// As [`find`].
pub fn recordings(places: Vec<Place>, keep_going: bool) -> Result<Found, IngestError> {
    let chunks: Vec<Result<Chunk, IngestError>> = places.into_par_iter().map(identify).collect();
    let mut found = Found::default();
    let mut recordings: BTreeMap<String, Recording> = BTreeMap::new();
    for chunk in chunks {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(e @ IngestError::Chunk(_)) if keep_going => {
                found.unusable.push(e);
                continue;
            }
            Err(e) => return Err(e),
        };
        let capture_id = chunk.header.capture_id.to_string();
        let recording = recordings
            .entry(capture_id.clone())
            .or_insert_with(|| Recording {
                capture_id,
                cpus: BTreeMap::new(),
            });
        let chunks = recording.cpus.entry(chunk.header.cpu).or_default();
        let index = chunk.header.index;
        let at = chunks.partition_point(|c| c.header.index < index);
        match chunks.get(at) {
            // The same file named twice is the same file.
            Some(other) if other.header.index == index && other.id == chunk.id => {}
            Some(other) if other.header.index == index => {
                return Err(IngestError::SamePlace {
                    capture_id: recording.capture_id.clone(),
                    cpu: chunk.header.cpu,
                    index,
                    first: other.place.label(),
                    second: chunk.place.label(),
                });
            }
            _ => chunks.insert(at, chunk),
        }
    }
    found.recordings = recordings.into_values().collect();
    Ok(found)
}

/// Header first, so that a file that is no chunk is told before it is read whole.
fn identify(place: Place) -> Result<Chunk, IngestError> {
    let header = place.chunk()?.header().clone();
    let input = |cause| IngestError::Input {
        path: place.label(),
        cause,
    };
    let mut hasher = blake3::Hasher::new();
    let bytes = place.open().map_err(input)?;
    hasher.update_reader(bytes).map_err(input)?;
    Ok(Chunk {
        id: hasher.finalize().to_hex().to_string(),
        bytes: hasher.count(),
        place,
        header,
    })
}
