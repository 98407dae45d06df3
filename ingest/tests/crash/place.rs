//! A recording to ingest, datasets to ingest it into, and what must come of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use parquet::file::reader::{FileReader, SerializedFileReader};
use pgtrace_ingest::manifest::{FOLDER, Manifest};
use pgtrace_ingest::schema::Table;

use super::common::Fabric;
use super::common::read::{self, RefRow};

/// References of the recording that is in some datasets before, and of the one that comes.
const BEFORE: u64 = 500;
const ROWS: u64 = 4000;

/// What a run begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// There is no dataset.
    Nothing,
    /// A dataset with another recording in it.
    Dataset,
}

/// Folders of a test, and the rows of runs that nothing disturbed.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    raw: PathBuf,
    before: PathBuf,
    /// By `Start`: rows before and after.
    rows: [[Vec<RefRow>; 2]; 2],
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let raw = folder.path().join("raw");
        Fabric::random(8, 2, ROWS, 5, 8).write(&raw);
        Fabric::random(7, 1, BEFORE, 2, 7).write(&folder.path().join("raw-before"));
        let mut place = Self {
            before: folder.path().join("before"),
            folder,
            raw,
            rows: [[vec![], vec![]], [vec![], vec![]]],
        };
        let out = program(&place.at("raw-before"), &place.before).output();
        says(&out.unwrap(), 0, "500 rows");
        let before = read::refs(&place.before);
        for start in [Start::Nothing, Start::Dataset] {
            let to = place.dataset(&format!("undisturbed-{start:?}"), start);
            says(&place.command(&to).output().unwrap(), 0, "4000 rows");
            let after = read::refs(&to);
            assert_eq!(after.len() as u64, ROWS + [0, BEFORE][start as usize]);
            place.rows[start as usize][1] = after;
        }
        place.rows[Start::Dataset as usize][0] = before;
        place
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A dataset of its own to begin with.
    pub(crate) fn dataset(&self, name: &str, start: Start) -> PathBuf {
        let to = self.at(name);
        if start == Start::Dataset {
            copy(&self.before, &to);
        }
        to
    }

    /// The run that is disturbed. Small slices: many files, many calls.
    pub(crate) fn command(&self, to: &Path) -> Command {
        let mut command = program(&self.raw, to);
        command.args(["--slice-rows", "2000"]);
        command
    }

    /// The dataset is at a commit, the one before or the one after: nothing half-written is named.
    pub(crate) fn is_at_a_commit(&self, to: &Path, start: Start) -> bool {
        let versions = versions(to);
        let Some(newest) = versions.last() else {
            assert_eq!(start, Start::Nothing, "the dataset is there no more");
            return false;
        };
        for file in newest.tables.values().flatten() {
            let open = std::fs::File::open(to.join(&file.path)).unwrap();
            assert_eq!(open.metadata().unwrap().len(), file.bytes, "{}", file.path);
            let footer = SerializedFileReader::new(open).unwrap();
            let rows = footer.metadata().file_metadata().num_rows();
            assert_eq!(rows as u64, file.rows, "{}", file.path);
        }
        let rows = newest.rows(Table::Refs);
        assert_eq!(rows, newest.captures.iter().map(|c| c.refs).sum::<u64>());
        let before = self.rows[start as usize][0].len() as u64;
        let done = rows == before + ROWS;
        assert!(done || rows == before, "{rows} rows");
        done
    }

    /// The dataset holds what it held before.
    pub(crate) fn holds_what_it_held(&self, to: &Path, start: Start) {
        if !versions(to).is_empty() {
            assert!(read::refs(to) == self.rows[start as usize][0]);
        }
    }

    /// Runs again, undisturbed: the rows are those of one undisturbed run.
    pub(crate) fn finish(&self, to: &Path, start: Start) {
        let out = self.command(to).output().unwrap();
        says(&out, 0, "");
        assert!(self.is_at_a_commit(to, start));
        let (rows, wanted) = (read::refs(to), &self.rows[start as usize][1]);
        assert!(rows == *wanted, "{} rows, {}", rows.len(), wanted.len());
    }
}

/// All committed versions; each of them can be read, whatever was killed.
fn versions(to: &Path) -> Vec<Manifest> {
    let Ok(entries) = std::fs::read_dir(to.join(FOLDER)) else {
        return Vec::new();
    };
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    let versions: BTreeSet<u64> = names.filter_map(|n| Manifest::version_of(&n)).collect();
    let read = |v: u64| std::fs::read(to.join(FOLDER).join(Manifest::file_name(v))).unwrap();
    let manifests = versions.iter().map(|&v| Manifest::from_json(&read(v)));
    manifests.map(Result::unwrap).collect()
}

/// Files of the dataset that no version names.
pub(crate) fn litter(to: &Path) -> Vec<PathBuf> {
    let mut named: BTreeSet<PathBuf> = BTreeSet::new();
    for manifest in versions(to) {
        named.insert(to.join(FOLDER).join(Manifest::file_name(manifest.version)));
        named.extend(manifest.known().into_iter().map(|path| to.join(path)));
    }
    let mut files = Vec::new();
    walk(to, &mut files);
    files.retain(|f| !named.contains(f));
    files
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => walk(&path, files),
            false => files.push(path),
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let mut files = Vec::new();
    walk(from, &mut files);
    for file in files {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(&file, target).unwrap();
    }
}

fn program(raw: &Path, to: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgtrace-ingest"));
    command.arg(raw).arg("--to").arg(to);
    command.args(["--memory", "24MiB", "--threads", "2"]);
    command.stderr(Stdio::piped());
    command
}

/// Exit code and words.
pub(crate) fn says(out: &Output, code: i32, words: &str) {
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{text}");
    assert!(text.contains(words) && !text.contains("panicked"), "{text}");
}

/// The library that counts a program's calls and ends it at one, compiled once.
pub(crate) fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/crash/shim.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("crash-shim.so");
        let cc = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let built = Command::new(cc)
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"])
            .arg("-o")
            .arg(&library)
            .args([source, "-ldl"])
            .status();
        assert!(built.expect("a C compiler (make deps)").success());
        library
    })
}
