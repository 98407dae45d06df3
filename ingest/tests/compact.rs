//! `compact`: the same rows in fewer files, whoever reads, writes or kills meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use common::{Fabric, count, peak_of, read, run, small};
use parquet::arrow::ArrowWriter;
use parquet::file::reader::{FileReader, SerializedFileReader};
use pgtrace_ingest::compact::{Options, Report, compact};
use pgtrace_ingest::dataset::Dataset;
use pgtrace_ingest::error::IngestError;
use pgtrace_ingest::manifest::{Manifest, PartitionKey};
use pgtrace_ingest::pipeline;
use pgtrace_ingest::schema::{SCHEMA_VERSION, Table};

const ROWS: u64 = 20_000;

/// A dataset of `captures` recordings, ten small files of `refs` each, all in one folder.
fn dataset(folder: &Path, captures: u64) -> PathBuf {
    let to = folder.join("dataset");
    for id in 1..=captures {
        add(folder, &to, id);
    }
    to
}

fn layout() -> pipeline::Options {
    pipeline::Options {
        partition_by: Some(vec![PartitionKey::Uid]),
        slice_rows: Some(2000),
        ..small()
    }
}

fn add(folder: &Path, to: &Path, id: u64) {
    let raw = folder.join(format!("raw{id}"));
    // Ids that begin alike: names of files must not rest on them alone.
    Fabric::random(id.into(), 2, ROWS, 5, id).write(&raw);
    run(&[raw], to, &layout()).unwrap();
}

fn options() -> Options {
    Options {
        threads: 2,
        memory: 256 << 20,
        ..Options::default()
    }
}

fn compacted(to: &Path) -> Report {
    compact(to.to_str().unwrap(), &options()).unwrap()
}

/// All rows of a table as text, sorted.
fn lines(to: &Path, table: Table) -> Vec<String> {
    let batches = read::table(to, table);
    let mut lines = Vec::new();
    for batch in &batches {
        let options = FormatOptions::default().with_null("NULL");
        // Times as numbers: a time zone's name needs more of arrow than we have.
        let plain = batch.columns().iter().map(|c| match c.data_type() {
            DataType::Timestamp(..) => cast(c, &DataType::Int64).unwrap(),
            _ => c.clone(),
        });
        let plain: Vec<_> = plain.collect();
        let format = |c| ArrayFormatter::try_new(c, &options).unwrap();
        let columns: Vec<_> = plain.iter().map(|c| format(c.as_ref())).collect();
        let row = |i| {
            columns
                .iter()
                .map(|c| c.value(i).to_string())
                .collect::<Vec<_>>()
        };
        lines.extend((0..batch.num_rows()).map(|i| row(i).join("|")));
    }
    lines.sort();
    lines
}

fn all_lines(to: &Path) -> Vec<Vec<String>> {
    Table::ALL.iter().map(|&table| lines(to, table)).collect()
}

fn footer(to: &Path, path: &str) -> Vec<(String, Option<String>)> {
    let file = SerializedFileReader::new(std::fs::File::open(to.join(path)).unwrap()).unwrap();
    let told = file
        .metadata()
        .file_metadata()
        .key_value_metadata()
        .cloned();
    let ours = told
        .unwrap()
        .into_iter()
        .filter(|kv| kv.key.starts_with("pgtrace."));
    let mut ours: Vec<_> = ours.map(|kv| (kv.key, kv.value)).collect();
    ours.sort();
    ours
}

/// Nothing lies about but what the newest manifest knows, and manifests.
fn assert_no_litter(to: &Path) {
    let manifest = read::manifest(to);
    let known = manifest.known().len();
    let manifests = count(&to.join("_pgtrace/manifest"));
    assert_eq!(count(to), known + manifests, "{manifest:?}");
}

fn files(manifest: &Manifest) -> usize {
    manifest.tables.values().map(Vec::len).sum()
}

#[test]
fn fewer_files_the_same_rows_and_old_readers_read_on() {
    let folder = tempfile::tempdir().unwrap();
    let to = dataset(folder.path(), 2);
    let old = read::manifest(&to);
    assert_eq!(old.files(Table::Refs).len(), 20);
    let before = all_lines(&to);
    let report = compacted(&to);

    let new = read::manifest(&to);
    assert_eq!(
        (new.version, files(&new)),
        (old.version + 1, 6),
        "a file for refs of each, and one a table (no losses)"
    );
    assert_eq!(new.files(Table::Refs).len(), 2);
    assert_eq!(report.before.files as usize, files(&old));
    assert_eq!(report.after.files as usize, files(&new));
    assert!(report.after.bytes < report.before.bytes);
    assert!(all_lines(&to) == before, "the same rows");
    // Their order, too: seq rises within a file, and row groups are whole.
    for entry in new.files(Table::Refs) {
        let rows: Vec<_> = read::file(&to, entry)
            .iter()
            .flat_map(read::rows_of)
            .collect();
        assert!(rows.iter().map(|r| r.seq).eq(0..ROWS));
        assert_eq!(entry.rows, ROWS);
        assert_eq!(entry.seq.map(|s| (s.min, s.max)), Some((0, ROWS - 1)));
        let span = |value: fn(&read::RefRow) -> i64| {
            let values = rows.iter().map(value);
            (values.clone().min().unwrap(), values.max().unwrap())
        };
        assert_eq!(entry.ts.map(|s| (s.min, s.max)).unwrap(), span(|r| r.ts));
        assert_eq!(
            entry.pid.map(|s| (s.min.into(), s.max.into())).unwrap(),
            span(|r| r.pid.into())
        );
        for object in &entry.objects {
            let pages = rows
                .iter()
                .filter(|r| r.object_id == object.object_id)
                .map(|r| r.page);
            assert_eq!(Some(object.min_page), pages.clone().min());
            assert_eq!(Some(object.max_page), pages.max());
        }
        assert_eq!(entry.objects.len(), 5);
    }
    // What a file says of itself is kept.
    let first = |m: &Manifest| footer(&to, &m.files(Table::Refs)[0].path);
    assert_eq!(first(&new), first(&old));
    assert_eq!(first(&new).len(), 4);
    let several = &new.files(Table::Objects)[0];
    assert_eq!(several.capture_id, "");
    assert_eq!(footer(&to, &several.path).len(), 1, "schema version only");

    // Who has the old version open reads the same.
    let rows = |m: &Manifest| -> Vec<_> {
        let files = m.files(Table::Refs).iter();
        files
            .flat_map(|f| read::file(&to, f))
            .flat_map(|b| read::rows_of(&b))
            .collect()
    };
    assert!(rows(&old) == rows(&new));
    assert_eq!(new.retired.len(), files(&old));
    assert_no_litter(&to);

    // And again: nothing to do, no new version.
    let again = compacted(&to);
    assert!(again.merged.is_empty() && again.to_string().starts_with("nothing to merge"));
    assert_eq!(read::manifest(&to), new);
}

#[test]
fn replaced_files_stay_for_as_long_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    let to = dataset(folder.path(), 1);
    let old = read::manifest(&to);
    compacted(&to);
    let replaced: Vec<PathBuf> = read::manifest(&to)
        .retired
        .iter()
        .map(|r| to.join(&r.path))
        .collect();
    assert_eq!(
        replaced.len(),
        10,
        "the files of refs; one file a table is no work"
    );
    // Within the hour nothing is removed, whoever runs.
    compacted(&to);
    add(folder.path(), &to, 2);
    assert!(replaced.iter().all(|p| p.exists()));
    assert_eq!(read::manifest(&to).retired.len(), 10);
    // Past it, the next run removes them, be it one that adds nothing.
    let raw = folder.path().join("raw1");
    let at_once = pipeline::Options {
        keep_old: Duration::ZERO,
        ..layout()
    };
    let report = run(&[raw], &to, &at_once).unwrap();
    assert!(report.captures.is_empty());
    assert!(!replaced.iter().any(|p| p.exists()));
    assert!(read::manifest(&to).retired.is_empty());
    assert_no_litter(&to);
    assert_eq!(read::refs(&to).len() as u64, 2 * ROWS);
    assert!(
        old.files(Table::Refs)
            .iter()
            .all(|f| !to.join(&f.path).exists())
    );
}

#[test]
fn an_ingest_at_the_same_time() {
    let folder = tempfile::tempdir().unwrap();
    let to = dataset(folder.path(), 1);
    let done = AtomicBool::new(false);
    let merged = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        // Two of them, in each other's way.
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    merged.fetch_add(compacted(&to).merged.len(), Ordering::Relaxed);
                }
            });
        }
        let ingests = scope.spawn(|| (2..=5).for_each(|id| add(folder.path(), &to, id)));
        let ended = ingests.join();
        done.store(true, Ordering::Relaxed);
        ended.unwrap();
    });
    assert!(merged.load(Ordering::Relaxed) > 1, "some of it in between");
    let rows = read::refs(&to);
    assert_eq!(rows.len() as u64, 5 * ROWS);
    for capture in rows.chunk_by(|a, b| a.capture_id == b.capture_id) {
        assert!(capture.iter().map(|r| r.seq).eq(0..ROWS));
    }
    compacted(&to);
    assert_eq!(read::manifest(&to).files(Table::Refs).len(), 5);
    assert_eq!(lines(&to, Table::Captures).len(), 5);
    assert_no_litter(&to);
}

#[test]
fn killed_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let to = dataset(folder.path(), 2);
    let before = all_lines(&to);
    let version = read::manifest(&to).version;
    let mut killed = 0;
    for ms in [1, 5, 10, 15, 20, 30, 40, 60, 80, 120] {
        let mut child = program()
            .arg(&to)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(ms));
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());
        assert!(all_lines(&to) == before, "after {ms} ms");
    }
    assert!(killed > 2, "{killed} of them were killed before their end");
    compacted(&to);
    let manifest = read::manifest(&to);
    assert_eq!(
        manifest.version,
        version + 1,
        "merged once, by whichever run came that far"
    );
    assert!(all_lines(&to) == before);
    assert_no_litter(&to);
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgtrace-ingest"));
    command.arg("compact");
    command
}

#[test]
fn the_command_says_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let to = dataset(folder.path(), 1);
    let before = read::manifest(&to);
    let said = |args: &[&str]| {
        // As the help's example has it: the name of a folder, from beside it.
        let out = program()
            .arg("dataset")
            .args(args)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(out.status.success() && out.stdout.is_empty());
        String::from_utf8(out.stderr).unwrap()
    };
    let dry = said(&["--dry-run"]);
    assert!(
        dry.contains("refs: 10 files")
            && dry.contains("into 1 file\n")
            && dry.contains("nothing was changed"),
        "{dry}"
    );
    assert_eq!(read::manifest(&to), before);
    assert_no_litter(&to);
    let done = said(&["--memory", "64MiB", "--threads", "1", "--keep-old", "2h"]);
    assert!(
        done.contains("refs: 10 files") && done.contains("before: 14 files"),
        "{done}"
    );
    assert!(done.contains("after: 5 files"), "{done}");
    assert!(said(&[]).contains("nothing to merge: 5 files"));
}

#[test]
fn files_that_are_large_enough_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let to = dataset(folder.path(), 1);
    let files = read::manifest(&to).files(Table::Refs).to_vec();
    let largest = files.iter().map(|f| f.bytes).max().unwrap();
    let smallest = files.iter().map(|f| f.bytes).min().unwrap();
    let with = |target| {
        compact(
            to.to_str().unwrap(),
            &Options {
                target,
                ..options()
            },
        )
        .unwrap()
    };
    assert!(with(smallest * 2).merged.is_empty());
    with(largest * 3);
    let merged = read::manifest(&to).files(Table::Refs).to_vec();
    assert!((3..=5).contains(&merged.len()), "{}", merged.len());
    assert!(merged.iter().all(|f| f.bytes <= largest * 3));
    assert_eq!(read::refs(&to).len() as u64, ROWS);
}

#[test]
fn a_damaged_file_stops_it_and_nothing_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let to = dataset(folder.path(), 1);
    let manifest = read::manifest(&to);
    let victim = &manifest.files(Table::Refs)[4];
    let whole = std::fs::read(to.join(&victim.path)).unwrap();
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    // Wherever pages of columns begin: what they hold has no checksum.
    bytes[middle / 2..middle].fill(0xa5);
    for damage in [Some(&bytes[..]), Some(&whole[..100]), None] {
        match damage {
            Some(bytes) => std::fs::write(to.join(&victim.path), bytes).unwrap(),
            None => std::fs::remove_file(to.join(&victim.path)).unwrap(),
        }
        let error = compact(to.to_str().unwrap(), &options()).unwrap_err();
        assert!(matches!(error, IngestError::Read { .. }), "{error}");
        assert!(error.to_string().contains(&victim.path), "{error}");
        assert_eq!(read::manifest(&to), manifest);
        let here = count(&to) + usize::from(damage.is_none());
        assert_eq!(here, manifest.known().len() + manifest.version as usize);
    }
    std::fs::write(to.join(&victim.path), whole).unwrap();
    compacted(&to);
    assert_eq!(read::refs(&to).len() as u64, ROWS);
}

#[test]
fn no_dataset_no_room() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("nowhere");
    let error = compact(missing.to_str().unwrap(), &options()).unwrap_err();
    assert!(error.to_string().contains("no such dataset"), "{error}");
    let little = Options {
        memory: 1000,
        ..options()
    };
    let error = compact(folder.path().to_str().unwrap(), &little).unwrap_err();
    assert!(error.to_string().contains("--memory"), "{error}");
}

#[test]
fn merging_stays_under_the_cap() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, to) = (folder.path().join("raw"), folder.path().join("dataset"));
    let n = 2_000_000;
    Fabric::random(1, 2, n, 40, 3).write(&raw);
    let options = pipeline::Options {
        slice_rows: Some(250_000),
        ..layout()
    };
    run(&[raw], &to, &options).unwrap();
    assert_eq!(read::manifest(&to).files(Table::Refs).len(), 8);
    let peak = peak_of(program().arg(&to).args(["--memory", "32MiB"]));
    assert!(peak < (32 + 48) << 20, "peak {} MiB", peak >> 20);
    let manifest = read::manifest(&to);
    assert_eq!(manifest.files(Table::Refs).len(), 1);
    assert_eq!(manifest.rows(Table::Refs), n);
}

#[test]
fn an_older_schema_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let to = dataset(folder.path(), 2);
    let before = lines(&to, Table::Refs);
    // As programs were that knew neither these columns nor a manifest's schema version.
    let mut manifest = read::manifest(&to);
    for (table, without) in [
        (Table::Captures, &["cache_events", "emitted"][..]),
        (Table::Refs, &["major"][..]),
    ] {
        let entry = &mut manifest.tables.get_mut(&table).unwrap()[0];
        let path = to.join(&entry.path);
        let batches = read::file(&to, entry);
        let older = |mut batch: arrow::array::RecordBatch| {
            for name in without {
                batch.remove_column(batch.schema().index_of(name).unwrap());
            }
            batch
        };
        let older: Vec<_> = batches.into_iter().map(older).collect();
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, older[0].schema(), None).unwrap();
        older.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.close().unwrap();
        entry.bytes = path.metadata().unwrap().len();
    }
    let file = Manifest::file_name(manifest.version);
    let json = String::from_utf8(manifest.to_json().unwrap()).unwrap();
    let line = format!("  \"schema\": {SCHEMA_VERSION},\n");
    let json = json.replace(&line, "");
    assert!(!json.contains("schema"));
    std::fs::write(to.join("_pgtrace/manifest").join(file), json).unwrap();

    compacted(&to);
    // `read` demands today's columns.
    let captures = read::table(&to, Table::Captures);
    assert_eq!(read::number(&captures[0], "cache_events", 0), Some(0));
    assert_eq!(read::number(&captures[0], "emitted", 0), None);
    assert_eq!(read::number(&captures[0], "emitted", 1), Some(ROWS));
    let after = read::refs(&to);
    assert_eq!(
        after.iter().filter(|r| r.major.is_none()).count(),
        2000,
        "of one file"
    );
    assert_eq!(after.len(), before.len());
    let merged = read::manifest(&to);
    assert_eq!(merged.schema, SCHEMA_VERSION);
    let told = footer(&to, &merged.files(Table::Captures)[0].path);
    assert_eq!(told[0].1.as_deref(), Some(&*SCHEMA_VERSION.to_string()));
}

#[test]
fn a_newer_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let to = dataset(folder.path(), 1);
    let manifest = read::manifest(&to);
    let path = to
        .join("_pgtrace/manifest")
        .join(Manifest::file_name(manifest.version));
    let newer = Manifest {
        schema: SCHEMA_VERSION + 1,
        ..manifest
    };
    std::fs::write(&path, newer.to_json().unwrap()).unwrap();
    let raw = folder.path().join("raw1");
    let errors = [
        compact(to.to_str().unwrap(), &options()).unwrap_err(),
        run(&[raw], &to, &layout()).unwrap_err(),
    ];
    for error in errors.map(|e| e.to_string()) {
        for part in ["too new", "use a newer pgtrace", "manifest/0000"] {
            assert!(error.contains(part), "{error}");
        }
    }
}

#[test]
fn what_cannot_be_synced_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let to = dataset(folder.path(), 1);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dataset = runtime
        .block_on(Dataset::open(to.to_str().unwrap()))
        .unwrap();
    let files = dataset.manifest().files(Table::Refs);
    dataset.sync(files).unwrap();
    std::fs::remove_file(to.join(&files[3].path)).unwrap();
    let error = dataset.sync(files).unwrap_err().to_string();
    assert!(error.contains(&files[3].path), "{error}");
}
