//! The sources there are: raw chunks, and what is translated into them first.
//!
//! A translated file becomes an ordinary recording in a temporary folder and goes the way of every other, so order,
//! idempotence, partitions, losses and memory are the pipeline's. Its capture id is made of its content: the same file
//! twice is the same recording.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use pgtrace_capture::wire::v0::Layout;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::error::SourceError;
use super::locate::{is_pattern, places};
use super::place::Place;
use super::scribe::Scribe;
use super::table::{csv, ndjson, parquet};
use super::v0;
use crate::error::IngestError;
use crate::store;

/// Bytes of a file that sniffing looks at: of its beginning, and of its end.
const HEAD: u64 = 64 << 10;
const TAIL: u64 = 8;
/// How files are called that may be tables. Of an object store, no others are looked at without being told: that takes
/// requests.
const TABLES: [&str; 7] = ["csv", "tsv", "txt", "ndjson", "jsonl", "json", "parquet"];

/// One source: a row of [`KINDS`].
#[derive(Debug)]
pub struct Kind {
    /// The name on the command line.
    pub name: &'static str,
    /// One line for people.
    pub doc: &'static str,
    /// Whether a file looks like one of these.
    sniff: fn(&Sample) -> bool,
    /// A file that looks like one is taken for one without being told.
    unasked: bool,
    way: Way,
}

/// How a file of some kind becomes a recording.
#[derive(Debug)]
enum Way {
    /// It is one.
    AsItIs,
    /// It is translated.
    Translate(fn(Input, &Settings, &mut Scribe) -> Result<(), SourceError>),
    /// It is of one of the other kinds: this one.
    Which(fn(&Sample, &Path) -> Result<&'static str, SourceError>),
}

/// One layout of v0.
macro_rules! v0_layout {
    ($number:literal, $doc:literal) => {
        Kind {
            name: Layout::ALL[$number].name(),
            doc: $doc,
            sniff: |sample| v0::looks_like(sample, Some(Layout::ALL[$number])),
            unasked: false,
            way: Way::Translate(|input, _, to| v0::translate(Layout::ALL[$number], input, to)),
        }
    };
}

/// Every source, in the order in which a file is tried.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "chunk",
        doc: "raw chunks, as pgtrace-capture writes them",
        sniff: |sample| sample.head.starts_with(b"PGTRACE\n"),
        unasked: true,
        way: Way::AsItIs,
    },
    Kind {
        name: "parquet",
        doc: "a table: a Parquet file",
        sniff: parquet::looks_like,
        unasked: true,
        way: Way::Translate(parquet::translate),
    },
    Kind {
        name: "ndjson",
        doc: "a table: a JSON object a line",
        sniff: ndjson::looks_like,
        unasked: true,
        way: Way::Translate(ndjson::translate),
    },
    Kind {
        name: "csv",
        doc: "a table: a header, then values between commas, tabs or semicolons",
        sniff: csv::looks_like,
        unasked: true,
        way: Way::Translate(csv::translate),
    },
    Kind {
        name: "v0",
        doc: "entries of the 2005 kit, of the layout that fits",
        sniff: |sample| v0::looks_like(sample, None),
        unasked: false,
        way: Way::Which(v0::which),
    },
    v0_layout!(0, "such entries of 28 bytes, least significant byte first"),
    v0_layout!(1, "such entries of 28 bytes, most significant byte first"),
    v0_layout!(2, "such entries of 56 bytes, least significant byte first"),
    v0_layout!(3, "such entries of 56 bytes, most significant byte first"),
];

/// What holds for all files.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Columns that `refs` does not have are left out.
    pub ignore_unknown_columns: bool,
    /// Bytes of memory to use, about.
    pub memory: u64,
}

/// The two ends of a file.
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// The first bytes.
    pub(super) head: Vec<u8>,
    /// The last ones.
    pub(super) tail: Vec<u8>,
}

/// A file to translate, at its beginning.
#[derive(Debug)]
pub(super) struct Input {
    /// Its name for people.
    pub(super) path: PathBuf,
    pub(super) file: File,
}

/// What is to be ingested: what was given, with recordings in the place of what had to be translated.
#[derive(Debug)]
pub struct Prepared {
    /// Raw chunks, as [`places`] understands them.
    pub raw: Vec<PathBuf>,
    /// Holds the translated ones, and goes away with this.
    _folder: Option<TempDir>,
}

/// The source of this name.
pub fn by_name(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// Whether a recording whose settings name this source was translated.
pub fn is_translated(source: &str) -> bool {
    by_name(source).is_some_and(|kind| !matches!(kind.way, Way::AsItIs))
}

/// Translates what of `raw` is no raw chunk: a file, or the files of a pattern or a URL (which are copied first). All of
/// it is of the source `from`; without that, files that look like a table are tables, and the rest is left as it is. `-`
/// is standard input, where `from` says that it is to be translated.
///
/// Requests to object stores run on a runtime of its own: not to be called within one.
///
/// # Errors
/// A file that cannot be read, or is not what it was said to be; a full disk.
pub fn prepare(
    raw: &[PathBuf],
    from: Option<&'static Kind>,
    settings: &Settings,
) -> Result<Prepared, SourceError> {
    let mut prepared = Prepared {
        raw: Vec::with_capacity(raw.len()),
        _folder: None,
    };
    let from_chunks = from.is_some_and(|kind| matches!(kind.way, Way::AsItIs));
    let mut runtime = None;
    let mut number = 0;
    for path in raw {
        if from_chunks {
            prepared.raw.push(path.clone());
            continue;
        }
        let mut left = Vec::new();
        let sources = sources(path, from.is_some(), &mut runtime)?;
        let all = sources.len();
        for source in sources {
            let kind = match from {
                Some(kind) => Some(kind),
                None => unasked(&source)?,
            };
            let Some(kind) = kind.filter(|kind| !matches!(kind.way, Way::AsItIs)) else {
                left.push(source.label());
                continue;
            };
            let folder = match &prepared._folder {
                Some(folder) => folder.path(),
                None => {
                    let made = tempfile::Builder::new().prefix("pgtrace-ingest-").tempdir();
                    let made = made.map_err(|e| SourceError::io(&std::env::temp_dir(), e))?;
                    prepared._folder.insert(made).path()
                }
            };
            // The chunk is called as its file: the manifest and messages name it so.
            let chunk = folder.join(number.to_string());
            number += 1;
            std::fs::create_dir(&chunk).map_err(|e| SourceError::io(&chunk, e))?;
            let chunk = chunk.join(source.name());
            translate(&source, kind, chunk.clone(), settings)?;
            prepared.raw.push(chunk);
        }
        // Nothing to translate: it stays as it was named.
        match left.len() == all {
            true => prepared.raw.push(path.clone()),
            false => prepared.raw.extend(left),
        }
    }
    Ok(prepared)
}

/// Something to translate, if it is what can be.
#[derive(Debug)]
enum Source {
    Stdin,
    Place(Place),
}

impl Source {
    /// What errors call it.
    fn label(&self) -> PathBuf {
        match self {
            Self::Stdin => "standard input".into(),
            Self::Place(place) => place.label(),
        }
    }

    fn name(&self) -> String {
        let name = match self {
            Self::Stdin => None,
            Self::Place(place) => place.name(),
        };
        name.unwrap_or_else(|| "stdin".into())
    }
}

/// What `path` names, as far as it may have to be translated; nothing: raw chunks.
fn sources(
    path: &Path,
    told: bool,
    runtime: &mut Option<Runtime>,
) -> Result<Vec<Source>, SourceError> {
    if path == Path::new("-") {
        return Ok(match told {
            true => vec![Source::Stdin],
            false => Vec::new(),
        });
    }
    let text = path.to_str().unwrap_or_default();
    let look = if store::is_url(text) {
        let named = path.extension().and_then(|e| e.to_str());
        told || named.is_some_and(|e| TABLES.contains(&e.to_ascii_lowercase().as_str()))
    } else if told || path.is_file() {
        // A folder's name is told to be none by whoever opens it.
        if path.exists() || !is_pattern(text) {
            return Ok(vec![Source::Place(Place::File(path.into()))]);
        }
        true
    } else {
        !path.exists() && is_pattern(text)
    };
    if !look {
        return Ok(Vec::new());
    }
    let runtime = match runtime {
        Some(runtime) => runtime,
        None => {
            let made = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build();
            runtime.insert(made.map_err(|e| failed(IngestError::Threads(e.to_string())))?)
        }
    };
    let found = places(&[path.into()], runtime.handle()).map_err(failed)?;
    Ok(found.into_iter().map(Source::Place).collect())
}

fn failed(e: IngestError) -> SourceError {
    SourceError::Place(Box::new(e))
}

/// The kind that a file is taken for without being told; `None`: none of them.
fn unasked(source: &Source) -> Result<Option<&'static Kind>, SourceError> {
    let Source::Place(place) = source else {
        return Ok(None);
    };
    // What can be read but once must not be begun.
    if let Place::File(path) = place
        && !path.is_file()
    {
        return Ok(None);
    }
    let sample = place.open().and_then(|mut input| Sample::of(&mut input));
    let sample = sample.map_err(|e| SourceError::io(&place.label(), e))?;
    let mut kinds = KINDS.iter().filter(|kind| kind.unasked);
    Ok(kinds.find(|kind| (kind.sniff)(&sample)))
}

fn translate(
    source: &Source,
    kind: &Kind,
    chunk: PathBuf,
    settings: &Settings,
) -> Result<(), SourceError> {
    let (name, file) = open(source)?;
    let fail = |e| SourceError::io(&name, e);
    let before = stamp(&file).map_err(fail)?;
    if before.0 == 0 {
        return Err(SourceError::format(
            &name,
            "a file with something in it",
            "an empty file",
        ));
    }
    let sample = Sample::of(&mut &file).map_err(fail)?;
    let (kind, translate) = match &kind.way {
        Way::Translate(translate) => (kind.name, translate),
        Way::AsItIs => return Ok(()),
        Way::Which(which) => {
            let found = which(&sample, &name)?;
            match by_name(found).map(|kind| &kind.way) {
                Some(Way::Translate(translate)) => (found, translate),
                _ => return Ok(()),
            }
        }
    };
    let capture_id = capture_id(kind, &file).map_err(fail)?;
    let mut scribe = Scribe::new(&name, kind, chunk, capture_id, settings.memory);
    let input = Input {
        path: name.clone(),
        file: file.try_clone().map_err(fail)?,
    };
    translate(input, settings, &mut scribe)?;
    if stamp(&file).map_err(fail)? != before {
        let expected = format!("{} bytes that stay as they are", before.0);
        return Err(SourceError::format(
            &name,
            expected,
            "a file that was changed while it was read",
        ));
    }
    scribe.finish()
}

/// Opens a source, and gives its name for people. What can be read only once, or is far away, is copied, into a file
/// without a name.
fn open(source: &Source) -> Result<(PathBuf, File), SourceError> {
    let name = source.label();
    let fail = |e| SourceError::io(&name, e);
    let copied = |mut from: &mut dyn Read| -> std::io::Result<File> {
        let mut copy = tempfile::tempfile()?;
        std::io::copy(&mut from, &mut copy)?;
        copy.rewind()?;
        Ok(copy)
    };
    let file = match source {
        Source::Stdin => copied(&mut std::io::stdin().lock()).map_err(fail)?,
        Source::Place(Place::File(path)) => {
            let mut file = File::open(path).map_err(fail)?;
            let meta = file.metadata().map_err(fail)?;
            if meta.is_dir() {
                let expected = "a file, as --from says";
                return Err(SourceError::format(path, expected, "a folder"));
            }
            if !meta.is_file() {
                file = copied(&mut file).map_err(fail)?;
            }
            file
        }
        Source::Place(place) => {
            let mut input = place.open().map_err(fail)?;
            copied(&mut input).map_err(fail)?
        }
    };
    Ok((name, file))
}

/// Length and time of change.
fn stamp(file: &File) -> std::io::Result<(u64, Option<SystemTime>)> {
    let meta = file.metadata()?;
    Ok((meta.len(), meta.modified().ok()))
}

/// Names a recording by the content it is translated from.
fn capture_id(kind: &str, file: &File) -> std::io::Result<Uuid> {
    let mut hasher =
        blake3::Hasher::new_derive_key("pgtrace: capture id of a translated source, 1");
    hasher.update(kind.as_bytes()).update(&[0]);
    let mut from = file;
    from.rewind()?;
    hasher.update_reader(from)?;
    from.rewind()?;
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    Ok(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

impl Sample {
    /// Of a file, which is at its beginning afterwards.
    pub(super) fn of(from: &mut (impl Read + Seek)) -> std::io::Result<Sample> {
        let mut sample = Sample::default();
        from.rewind()?;
        from.by_ref().take(HEAD).read_to_end(&mut sample.head)?;
        let len = from.seek(SeekFrom::End(0))?;
        from.seek(SeekFrom::Start(len.saturating_sub(TAIL)))?;
        from.by_ref().take(TAIL).read_to_end(&mut sample.tail)?;
        from.rewind()?;
        Ok(sample)
    }

    /// The head as text, as far as it is one; `None`: it is none.
    pub(super) fn text(&self) -> Option<&str> {
        let text = match std::str::from_utf8(&self.head) {
            Ok(text) => text,
            // The last character may have been cut in two.
            Err(e) if e.error_len().is_none() => {
                std::str::from_utf8(self.head.get(..e.valid_up_to())?).ok()?
            }
            Err(_) => return None,
        };
        (!text.contains('\0')).then(|| text.trim_start_matches('\u{feff}'))
    }
}

#[cfg(test)]
#[path = "kind_test.rs"]
mod tests;
