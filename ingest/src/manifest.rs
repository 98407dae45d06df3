//! The manifest: which files are the dataset, and what is in each.
//!
//! One JSON file a version, `_pgtrace/manifest/00000000000000000007.json`; the
//! newest one is the dataset. A version is written once, by a conditional put,
//! and never changed: readers see whole commits only.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::clocks::Offsets;
use crate::schema::{SCHEMA_VERSION, Table};

/// The manifest format that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;
/// Folder of the manifests within the dataset.
pub const FOLDER: &str = "_pgtrace/manifest";
/// Rows of the merged reference string in one slice, unless the dataset says otherwise.
pub const SLICE_ROWS: u64 = 16 << 20;

/// What is wrong with the bytes of a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A newer program wrote it.
    #[error(
        "manifest format {found} is too new: this program reads formats up to {supported}; use a newer pgtrace"
    )]
    TooNew {
        /// Format number in the file.
        found: u64,
        /// Newest format this program reads.
        supported: u32,
    },
    /// A newer program wrote some of its files.
    #[error(
        "its tables are of schema version {found}, which is too new: this program reads versions up to {supported}; use a newer pgtrace"
    )]
    NewerSchema {
        /// Schema version in the file.
        found: u64,
        /// Newest version this program reads.
        supported: u32,
    },
    /// No program that was ever released wrote it.
    #[error("manifest format {found} is too old: the oldest format there is, is 1")]
    TooOld {
        /// Format number in the file.
        found: u64,
    },
    /// Not a manifest, or a broken one.
    #[error("damaged manifest: {0}")]
    Damaged(String),
}

/// A key by which the files of `refs` are laid into folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartitionKey {
    /// `uid=1000`: real user id.
    Uid,
    /// `pid=4242`: process.
    Pid,
    /// `slice=000003`: stretch of `seq`.
    Slice,
}

impl PartitionKey {
    /// Name of the key in folder names and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uid => "uid",
            Self::Pid => "pid",
            Self::Slice => "slice",
        }
    }
}

/// Least and greatest value of a column in a file, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span<T> {
    /// Least value.
    pub min: T,
    /// Greatest value.
    pub max: T,
}

impl<T: Copy + Ord> Span<T> {
    /// The span of one value.
    pub fn of(value: T) -> Self {
        Self {
            min: value,
            max: value,
        }
    }

    /// Widens the span so that it holds `value` too.
    pub fn include(&mut self, value: T) {
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Whether `value` lies in the span.
    pub fn contains(&self, value: T) -> bool {
        self.min <= value && value <= self.max
    }
}

/// Pages of one object that a file of `refs` refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectExtent {
    /// The object, as in `refs.object_id`.
    pub object_id: u64,
    /// Least page index.
    pub min_page: u64,
    /// Greatest page index.
    pub max_page: u64,
}

/// One Parquet file. The ranges are there for `refs`; smaller tables leave them out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path relative to the dataset, with `/`.
    pub path: String,
    /// Size of the file.
    pub bytes: u64,
    /// Rows in it.
    pub rows: u64,
    /// The capture all its rows belong to; empty: several (never so for `refs`).
    // Left out when empty: a program that does not know of it says so, and prunes nothing wrongly.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub capture_id: String,
    /// Range of `seq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<Span<u64>>,
    /// Range of `ts`, ns since 1970 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ts: Option<Span<i64>>,
    /// Range of `uid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<Span<u32>>,
    /// Range of `pid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<Span<u32>>,
    /// Objects referred to, by id; empty: not recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ObjectExtent>,
    /// Kinds of events of its rows, as `refs.event` names them, sorted; empty: not recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
}

impl FileEntry {
    /// A file of which only the path is told.
    pub fn at(path: String) -> Self {
        Self {
            path,
            bytes: 0,
            rows: 0,
            capture_id: String::new(),
            seq: None,
            ts: None,
            uid: None,
            pid: None,
            objects: Vec::new(),
            events: Vec::new(),
        }
    }
}

/// One raw chunk that is in the dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkEntry {
    /// BLAKE3 of the file's content, in hex: the chunk's identity.
    pub id: String,
    /// File name when it was ingested.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
}

/// One recording that is in the dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureEntry {
    /// The recording's UUID.
    pub capture_id: String,
    /// Its chunks.
    pub chunks: Vec<ChunkEntry>,
    /// Its rows in `refs`.
    pub refs: u64,
    /// References it lost.
    pub lost: u64,
    /// File (relative to the dataset) that keeps what else was in its chunks, for chunks that come later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// How times of its rows were made from the recording's.
    #[serde(default)]
    pub offsets: Offsets,
}

/// A file that was replaced, and that readers of an older version may still have open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredFile {
    /// Path relative to the dataset, with `/`.
    pub path: String,
    /// Size of the file.
    pub bytes: u64,
    /// When it was replaced, seconds since 1970 UTC.
    pub since: u64,
}

/// How a dataset was made of another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Derived {
    /// `cut`, `filter` or `split`.
    pub command: String,
    /// What was asked for, in words.
    pub rows: String,
}

/// A whole version of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format of this structure, [`FORMAT`].
    pub format: u32,
    /// Version of the dataset, from 1; also the file's name.
    pub version: u64,
    /// Newest schema version of its files, [`SCHEMA_VERSION`] of the program that wrote them.
    #[serde(default = "first_schema")]
    pub schema: u32,
    /// How `refs` is laid into folders; fixed when the dataset is made.
    pub partition_by: Vec<PartitionKey>,
    /// Rows of the merged reference string in one slice; fixed likewise.
    pub slice_rows: u64,
    /// Recordings, in the order they were ingested.
    pub captures: Vec<CaptureEntry>,
    /// Files of each table, in the order they were written.
    pub tables: BTreeMap<Table, Vec<FileEntry>>,
    /// Files that are no part of it any more, and not yet removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<RetiredFile>,
    /// It holds some of another dataset's rows only: its numbers have gaps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derived: Option<Derived>,
}

/// Manifests did not always tell it.
fn first_schema() -> u32 {
    1
}

impl Manifest {
    /// An empty dataset, before its first commit (version 0).
    pub fn new(partition_by: Vec<PartitionKey>, slice_rows: u64) -> Self {
        Self {
            format: FORMAT,
            version: 0,
            schema: SCHEMA_VERSION,
            partition_by,
            slice_rows,
            captures: Vec::new(),
            tables: BTreeMap::new(),
            retired: Vec::new(),
            derived: None,
        }
    }

    /// Files of a table.
    pub fn files(&self, table: Table) -> &[FileEntry] {
        self.tables.get(&table).map_or(&[], Vec::as_slice)
    }

    /// Rows of a table.
    pub fn rows(&self, table: Table) -> u64 {
        let rows = self.files(table).iter().map(|f| f.rows);
        rows.fold(0, u64::saturating_add)
    }

    /// The recording with that id.
    pub fn capture(&self, capture_id: &str) -> Option<&CaptureEntry> {
        self.captures.iter().find(|c| c.capture_id == capture_id)
    }

    /// Paths of all its files, and of those retired but not yet removed.
    pub fn known(&self) -> HashSet<&str> {
        let files = self.tables.values().flatten().map(|f| f.path.as_str());
        files
            .chain(self.captures.iter().filter_map(|c| c.state.as_deref()))
            .chain(self.retired.iter().map(|f| f.path.as_str()))
            .collect()
    }

    /// Whether a file is retired.
    pub fn is_retired(&self, path: &str) -> bool {
        self.retired.iter().any(|f| f.path == path)
    }

    /// Replaces files of a table by others that hold the same rows; the replaced ones are retired
    /// at `now` (seconds since 1970 UTC), and readers who have them open may go on.
    pub fn replace(&mut self, table: Table, old: &[FileEntry], new: Vec<FileEntry>, now: u64) {
        let gone: HashSet<&str> = old.iter().map(|f| f.path.as_str()).collect();
        let files = self.tables.entry(table).or_default();
        let place = files.iter().position(|f| gone.contains(f.path.as_str()));
        files.retain(|f| !gone.contains(f.path.as_str()));
        let place = place.unwrap_or(files.len()).min(files.len());
        files.splice(place..place, new);
        self.retired.extend(old.iter().map(|f| RetiredFile {
            path: f.path.clone(),
            bytes: f.bytes,
            since: now,
        }));
    }

    /// The same dataset one version on, for the caller to add to and commit.
    pub fn next(&self) -> Self {
        Self {
            version: self.version + 1,
            schema: self.schema.max(SCHEMA_VERSION),
            ..self.clone()
        }
    }

    /// Name of the file of `version` in [`FOLDER`].
    pub fn file_name(version: u64) -> String {
        format!("{version:020}.json")
    }

    /// The version that a file in [`FOLDER`] is of, if it is a manifest by name.
    pub fn version_of(file_name: &str) -> Option<u64> {
        let digits = file_name.strip_suffix(".json")?;
        (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
            .then(|| digits.parse().ok())?
    }

    /// The manifest as JSON.
    ///
    /// # Errors
    /// None in practice: every part has a JSON form.
    pub fn to_json(&self) -> Result<Vec<u8>, ManifestError> {
        let mut json =
            serde_json::to_vec_pretty(self).map_err(|e| ManifestError::Damaged(e.to_string()))?;
        json.push(b'\n');
        Ok(json)
    }

    /// Reads a manifest and checks that it can be trusted: its format first, so
    /// that a newer one is told apart from a broken one.
    ///
    /// # Errors
    /// [`ManifestError`]: too new, too old, or damaged.
    pub fn from_json(json: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Probe {
            format: u64,
            #[serde(default)]
            schema: u64,
        }
        let damaged = |e: serde_json::Error| ManifestError::Damaged(e.to_string());
        let Probe {
            format: found,
            schema,
        } = serde_json::from_slice(json).map_err(damaged)?;
        if found > u64::from(FORMAT) {
            return Err(ManifestError::TooNew {
                found,
                supported: FORMAT,
            });
        }
        if found == 0 {
            return Err(ManifestError::TooOld { found });
        }
        if schema > u64::from(SCHEMA_VERSION) {
            return Err(ManifestError::NewerSchema {
                found: schema,
                supported: SCHEMA_VERSION,
            });
        }
        let manifest: Self = serde_json::from_slice(json).map_err(damaged)?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        if self.slice_rows == 0 {
            return Err(ManifestError::Damaged("slice_rows is 0".into()));
        }
        if self.version == u64::MAX {
            return Err(ManifestError::Damaged("no version can follow it".into()));
        }
        let files = self.tables.values().flatten().map(|f| &f.path);
        for path in files.chain(self.retired.iter().map(|f| &f.path)) {
            let mut parts = path.split('/');
            // A manifest must not be able to name a file outside its dataset.
            if parts.any(|p| p.is_empty() || p == "." || p == "..") {
                return Err(ManifestError::Damaged(format!(
                    "file path {path:?} is not a plain relative path"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sample() -> Manifest {
        let mut manifest = Manifest::new(vec![PartitionKey::Uid, PartitionKey::Slice], 100).next();
        manifest.tables.insert(
            Table::Refs,
            vec![FileEntry {
                path: "refs/uid=1/slice=000000/a.parquet".into(),
                bytes: 10,
                rows: 3,
                capture_id: "c".into(),
                seq: Some(Span { min: 0, max: 2 }),
                ts: Some(Span { min: -1, max: 5 }),
                uid: Some(Span::of(1)),
                pid: None,
                objects: vec![ObjectExtent {
                    object_id: 1,
                    min_page: 0,
                    max_page: u64::MAX,
                }],
                events: vec!["fault".into(), "retouch".into()],
            }],
        );
        manifest
    }

    #[test]
    fn json_and_back() {
        let manifest = sample();
        let json = manifest.to_json().unwrap();
        assert_eq!(Manifest::from_json(&json).unwrap(), manifest);
        assert_eq!(manifest.rows(Table::Refs), 3);
        assert_eq!(manifest.rows(Table::Marks), 0);
    }

    #[test]
    fn newer_older_and_garbage_are_different_errors() {
        let text = String::from_utf8(sample().to_json().unwrap()).unwrap();
        let with = |format: &str| text.replace("\"format\": 1", &format!("\"format\": {format}"));
        let error = |json: &str| Manifest::from_json(json.as_bytes()).unwrap_err();

        let newer = error(&with("7"));
        assert!(matches!(newer, ManifestError::TooNew { found: 7, .. }));
        assert!(newer.to_string().contains("7") && newer.to_string().contains("up to 1"));
        assert!(matches!(error(&with("0")), ManifestError::TooOld { .. }));
        // A newer format may have any shape: only `format` is read of it.
        assert!(matches!(
            error(r#"{"format": 2, "strange": []}"#),
            ManifestError::TooNew { .. }
        ));
        for garbage in ["", "{", "[]", "{}", "\u{1}", &text[..text.len() / 2]] {
            assert!(
                matches!(error(garbage), ManifestError::Damaged(_)),
                "{garbage:?}"
            );
        }
    }

    #[test]
    fn a_path_out_of_the_dataset_is_refused() {
        for bad in ["../x", "/etc/passwd", "refs//x", "refs/./x", ""] {
            let mut manifest = sample();
            manifest.tables.get_mut(&Table::Refs).unwrap()[0].path = bad.into();
            let json = manifest.to_json().unwrap();
            assert!(
                matches!(Manifest::from_json(&json), Err(ManifestError::Damaged(_))),
                "{bad:?}"
            );
            let mut manifest = sample();
            manifest.retired.push(RetiredFile {
                path: bad.into(),
                bytes: 1,
                since: 0,
            });
            let json = manifest.to_json().unwrap();
            assert!(Manifest::from_json(&json).is_err(), "retired {bad:?}");
        }
    }

    #[test]
    fn a_manifest_without_a_schema_is_of_the_first_and_a_newer_one_is_refused() {
        let text = String::from_utf8(sample().to_json().unwrap()).unwrap();
        let line = format!("  \"schema\": {SCHEMA_VERSION},\n");
        let without = text.replace(&line, "");
        assert_ne!(without, text);
        let old = Manifest::from_json(without.as_bytes()).unwrap();
        assert_eq!((old.schema, old.next().schema), (1, SCHEMA_VERSION));
        let newer = text.replace(&line, "  \"schema\": 99,\n");
        let error = Manifest::from_json(newer.as_bytes()).unwrap_err();
        assert!(matches!(
            error,
            ManifestError::NewerSchema { found: 99, .. }
        ));
        let text = error.to_string();
        assert!(
            text.contains("99") && text.contains("use a newer"),
            "{text}"
        );
    }

    #[test]
    fn replaced_files_are_retired_and_their_place_is_kept() {
        let entry = |path: &str| FileEntry {
            path: path.into(),
            ..sample().files(Table::Refs)[0].clone()
        };
        let mut manifest = sample().next();
        let files = ["a", "b", "c", "d"].map(entry).to_vec();
        manifest.tables.insert(Table::Refs, files.clone());
        manifest.replace(Table::Refs, &files[1..3], vec![entry("bc")], 77);
        let paths = |m: &Manifest| {
            let files = m.files(Table::Refs).iter();
            files.map(|f| f.path.clone()).collect::<Vec<_>>()
        };
        assert_eq!(paths(&manifest), ["a", "bc", "d"]);
        let retired = manifest.retired.iter();
        let retired: Vec<_> = retired.map(|r| (r.path.as_str(), r.since)).collect();
        assert_eq!(retired, [("b", 77), ("c", 77)]);
        assert!(
            ["a", "b", "bc"]
                .iter()
                .all(|p| manifest.known().contains(p))
        );
    }

    #[test]
    fn file_names() {
        assert_eq!(Manifest::file_name(7), "00000000000000000007.json");
        assert_eq!(Manifest::version_of(&Manifest::file_name(7)), Some(7));
        for other in ["7.json", "0000000000000000000x.json", "README", ".json#1"] {
            assert_eq!(Manifest::version_of(other), None, "{other}");
        }
    }
}
