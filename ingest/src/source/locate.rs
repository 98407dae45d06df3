//! What a user names, and what is there: files, folders, patterns, URLs, standard input.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use glob::{MatchOptions, Pattern};
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt};
use pgtrace_capture::chunk::EXTENSION;
use tokio::runtime::Handle;
use walkdir::WalkDir;

use super::spool::spool;
use super::{Object, Place};
use crate::error::IngestError;
use crate::store;

/// Patterns work as in a shell: `*` stops at `/`, and finds no hidden files.
const AS_A_SHELL: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// The places that `raw` names, one after the other. Each of it may be
///
/// * a file;
/// * a folder: all `*.pgt` below it, by name;
/// * a pattern that is not itself a file's name: the files that fit, and what is in the folders that fit;
/// * a URL: an object, or a prefix or a pattern like a folder or a pattern above;
/// * `-`: chunks laid end to end on standard input, which are kept in a temporary folder meanwhile.
///
/// Requests to object stores run on `runtime`; not to be called on a thread of it.
///
/// # Errors
/// What cannot be read, and a name, folder, pattern or URL that stands for no chunk at all.
pub fn places(raw: &[PathBuf], runtime: &Handle) -> Result<Vec<Place>, IngestError> {
    let mut stores = Stores {
        runtime,
        open: HashMap::new(),
    };
    let mut places = Vec::new();
    let mut stdin = false;
    for path in raw {
        match path.to_str() {
            Some("-") if stdin => {
                return Err(IngestError::Options(
                    "standard input (-) can be read once only".into(),
                ));
            }
            Some("-") => {
                stdin = true;
                places.extend(spool(&mut std::io::stdin().lock(), std::env::temp_dir())?);
            }
            Some(url) if store::is_url(url) => match file_url(url)? {
                Some(path) => places.extend(local(&path)?),
                None => places.extend(stores.places(url)?),
            },
            _ => places.extend(local(path)?),
        }
    }
    Ok(places)
}

fn input(path: &FsPath, cause: std::io::Error) -> IngestError {
    IngestError::Input {
        path: path.into(),
        cause,
    }
}

fn is_chunk(name: &FsPath) -> bool {
    name.extension() == Some(OsStr::new(EXTENSION))
}

pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// The path of a `file:` URL.
fn file_url(url: &str) -> Result<Option<PathBuf>, IngestError> {
    if !url.starts_with("file:") {
        return Ok(None);
    }
    let bad = |detail| IngestError::Url {
        url: url.into(),
        detail,
    };
    let path = store::parse(url).map_err(bad)?.to_file_path();
    path.map(Some)
        .map_err(|()| bad("a file URL needs an absolute path".into()))
}

/// The places of a path on this machine.
fn local(path: &FsPath) -> Result<Vec<Place>, IngestError> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => chunks_below(path),
        Ok(_) => Ok(vec![Place::File(path.into())]),
        Err(e) => match path.to_str() {
            Some(pattern) if is_pattern(pattern) => matches(pattern),
            _ => Err(input(path, e)),
        },
    }
}

fn chunks_below(folder: &FsPath) -> Result<Vec<Place>, IngestError> {
    let mut chunks = Vec::new();
    for entry in WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.map_err(|e| {
            let at = e.path().unwrap_or(folder).to_path_buf();
            input(&at, e.into())
        })?;
        if is_chunk(entry.path()) && !entry.file_type().is_dir() {
            chunks.push(Place::File(entry.into_path()));
        }
    }
    match chunks.is_empty() {
        true => Err(IngestError::NoChunks {
            path: folder.into(),
        }),
        false => Ok(chunks),
    }
}

fn matches(pattern: &str) -> Result<Vec<Place>, IngestError> {
    let found = glob::glob_with(pattern, AS_A_SHELL).map_err(|e| bad_pattern(pattern, &e))?;
    let mut places = Vec::new();
    for path in found {
        let path = path.map_err(|e| input(e.path(), std::io::Error::from(e.error().kind())))?;
        match path.is_dir() {
            true => places.extend(chunks_below(&path)?),
            false => places.push(Place::File(path)),
        }
    }
    some(pattern, places)
}

fn some(pattern: &str, places: Vec<Place>) -> Result<Vec<Place>, IngestError> {
    match places.is_empty() {
        true => Err(IngestError::NoMatch {
            pattern: pattern.into(),
        }),
        false => Ok(places),
    }
}

fn bad_pattern(pattern: &str, e: &glob::PatternError) -> IngestError {
    IngestError::Options(format!(
        "{pattern}: not a pattern: at character {}: {}",
        e.pos, e.msg
    ))
}

/// The stores that are open: one a bucket, for its connections to be used again.
struct Stores<'a> {
    runtime: &'a Handle,
    open: HashMap<String, Arc<dyn ObjectStore>>,
}

impl Stores<'_> {
    /// The store of a URL, the path in it, and what of the URL stands before that path.
    fn open(&mut self, location: &str) -> Result<(Arc<dyn ObjectStore>, Path, String), String> {
        let url = store::parse(location)?;
        let mut bucket = url.clone();
        bucket.set_path("");
        let (store, prefix) = match self.open.get(bucket.as_str()) {
            Some(store) => (store.clone(), store::path(&url)?),
            None => store::open(&url)?,
        };
        // Of https, the path may hold the bucket.
        if !url.scheme().starts_with("http") {
            self.open.insert(bucket.into(), store.clone());
        }
        let whole = url.as_str().trim_end_matches('/');
        let base = prefix.parts().fold(whole, |url, _| {
            url.rsplit_once('/').map_or(url, |(before, _)| before)
        });
        Ok((store, prefix, base.into()))
    }

    /// The places of a URL.
    fn places(&mut self, location: &str) -> Result<Vec<Place>, IngestError> {
        let bad = |detail: String| IngestError::Url {
            url: location.into(),
            detail,
        };
        // Only what stands before a pattern is a URL: `?` and `[` mean something else in one.
        let pattern = is_pattern(location);
        let literal = match location.find(['*', '?', '[']) {
            Some(at) => {
                let before = location.split_at(at).0.rsplit_once('/');
                before.map_or("", |(folder, _)| folder)
            }
            None => location,
        };
        if !store::is_url(literal) {
            return Err(bad(
                "expected a pattern only behind the bucket's name".into()
            ));
        }
        let (store, prefix, base) = self.open(literal).map_err(bad)?;
        let place = |meta: ObjectMeta| {
            let url = format!("{base}/{}", meta.location);
            let object = Object::new(store.clone(), meta, url, self.runtime.clone());
            Place::Object(Arc::new(object))
        };
        let failed = |cause| IngestError::InputStore {
            url: location.into(),
            cause,
        };
        let whole = (!prefix.as_ref().is_empty()).then_some(&prefix);
        if let (Some(path), false, false) = (whole, pattern, location.ends_with('/')) {
            let head = store::patiently(|| store.head(path));
            match self.runtime.block_on(head) {
                Ok(meta) => return Ok(vec![place(meta)]),
                Err(Error::NotFound { .. }) => {}
                Err(e) => return Err(failed(e)),
            }
        }
        let listed = self.runtime.block_on(store::list(&store, whole));
        let objects = listed.map_err(failed)?.into_iter();
        if pattern {
            let rest = location.strip_prefix(literal).unwrap_or_default();
            let pattern = format!("{}{rest}", Pattern::escape(prefix.as_ref()));
            let pattern = Pattern::new(pattern.trim_start_matches('/'))
                .map_err(|e| bad_pattern(location, &e))?;
            let fitting = objects.filter(|o| fits(&pattern, &o.location));
            return some(location, fitting.map(place).collect());
        }
        let below = objects.filter(|o| is_chunk(FsPath::new(o.location.as_ref())));
        let places: Vec<Place> = below.map(place).collect();
        match places.is_empty() {
            true => Err(IngestError::NoChunks {
                path: location.into(),
            }),
            false => Ok(places),
        }
    }
}

/// Whether an object fits a pattern, or is a chunk in a folder that does.
fn fits(pattern: &Pattern, path: &Path) -> bool {
    let path = path.as_ref();
    if pattern.matches_with(path, AS_A_SHELL) {
        return true;
    }
    let mut folders = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
    is_chunk(FsPath::new(path)) && folders.any(|f| pattern.matches_with(f, AS_A_SHELL))
}
