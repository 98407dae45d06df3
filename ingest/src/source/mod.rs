//! Where records come from: raw chunks, found, identified and read in order.
//!
//! `kind` lists the sources that are translated into chunks first, one file each.

mod channel;
pub mod error;
pub mod kind;
mod scan;
mod scribe;
mod table;
mod v0;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use pgtrace_capture::chunk::{ChunkHeader, ChunkReader, EXTENSION};
use rayon::prelude::*;

pub use channel::{ChannelReader, Piece};
pub use scan::{CpuScan, scan_cpu};

use crate::error::IngestError;

/// One raw file, identified by its content.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Where it is.
    pub path: PathBuf,
    /// BLAKE3 of its content, in hex.
    pub id: String,
    /// Its size.
    pub bytes: u64,
    /// Whose bytes it holds.
    pub header: ChunkHeader,
}

impl Chunk {
    /// The file's name, for messages and the manifest.
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
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

/// Finds the chunks that `raw` names (files, or folders of `*.pgt`), and reads
/// and identifies them.
///
/// # Errors
/// A file that cannot be read, a folder without chunks, and (unless
/// `keep_going`) a chunk whose header cannot be used.
pub fn find(raw: &[PathBuf], keep_going: bool) -> Result<Found, IngestError> {
    let paths = files(raw)?;
    let chunks: Vec<Result<Chunk, IngestError>> = paths.par_iter().map(|p| identify(p)).collect();
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
                    first: other.path.clone(),
                    second: chunk.path,
                });
            }
            _ => chunks.insert(at, chunk),
        }
    }
    found.recordings = recordings.into_values().collect();
    Ok(found)
}

/// The files that `raw` names: files as they are, of folders their `*.pgt`, by name.
///
/// # Errors
/// A file or folder that cannot be read, a folder without chunks.
pub fn files(raw: &[PathBuf]) -> Result<Vec<PathBuf>, IngestError> {
    let mut paths = Vec::new();
    for path in raw {
        let meta = std::fs::metadata(path).map_err(|e| input(path, e))?;
        match meta.is_dir() {
            true => paths.extend(chunks_in(path)?),
            false => paths.push(path.clone()),
        }
    }
    Ok(paths)
}

fn input(path: &Path, cause: std::io::Error) -> IngestError {
    IngestError::Input {
        path: path.into(),
        cause,
    }
}

fn chunks_in(folder: &Path) -> Result<Vec<PathBuf>, IngestError> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| input(folder, e))? {
        let path = entry.map_err(|e| input(folder, e))?.path();
        if path.extension().is_some_and(|e| e == EXTENSION) {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(IngestError::NoChunks {
            path: folder.into(),
        });
    }
    paths.sort();
    Ok(paths)
}

/// Header first, so that a file that is no chunk is told before it is read whole.
fn identify(path: &Path) -> Result<Chunk, IngestError> {
    let header = ChunkReader::open(path)?.header().clone();
    let file = File::open(path).map_err(|e| input(path, e))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).map_err(|e| input(path, e))?;
    Ok(Chunk {
        path: path.into(),
        id: hasher.finalize().to_hex().to_string(),
        bytes: hasher.count(),
        header,
    })
}
