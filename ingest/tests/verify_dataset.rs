//! `verify` of datasets: each rule is broken alone, and found; what ingest makes passes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, RecordBatch, TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{TimestampNanosecondType, UInt64Type};
use common::{Fabric, Random, file_object, page_ref, process, run, small, stamp};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use pgtrace_capture::record::{Channel, Clock, Lost, LostCause, Record};
use pgtrace_ingest::compact::{self, compact};
use pgtrace_ingest::manifest::{FOLDER, Manifest, Span};
use pgtrace_ingest::pipeline::Options as IngestOptions;
use pgtrace_ingest::schema::Table;
use pgtrace_ingest::source::kind;
use pgtrace_ingest::verify::{Options, Report, verify};

const MS: u64 = 1_000_000;

/// Two processes and their files, on two CPUs; some references are lost.
fn fabric() -> Fabric {
    let mut fabric = Fabric::new(0xd5, 2);
    for tgid in [20, 21] {
        let names = &mut fabric.cpus[0];
        names.push_name(Record::Process(process(900, tgid, 3 * MS, "worker")));
        names.push_name(Record::Object(file_object(900, tgid - 19, "/data/file")));
    }
    for i in 0..300 {
        let cpu = (i % 2) as usize;
        let tgid = 20 + (i / 3 % 2) as u32;
        fabric.cpus[cpu].push_ref(page_ref(1000 + i * 10 * MS, tgid, tgid - 19, i % 50));
        if i == 90 {
            fabric.cpus[cpu].lose(7, 1000 + i * 10 * MS, 1001 + i * 10 * MS);
        }
    }
    fabric
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn of(fabric: &Fabric) -> Self {
        Self::with(fabric, &small())
    }

    fn with(fabric: &Fabric, options: &IngestOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Self { folder };
        let raw = place.folder.path().join("raw");
        fabric.write(&raw);
        run(&[raw], &place.at(), options).unwrap();
        place
    }

    fn at(&self) -> PathBuf {
        self.folder.path().join("dataset")
    }

    fn manifest(&self) -> Manifest {
        common::read::manifest(&self.at())
    }

    /// Commits a manifest that is changed.
    fn edit(&self, f: impl FnOnce(&mut Manifest)) {
        let mut next = self.manifest().next();
        f(&mut next);
        let name = Manifest::file_name(next.version);
        std::fs::write(self.at().join(FOLDER).join(name), next.to_json().unwrap()).unwrap();
    }

    /// Path of a table's file, relative.
    fn file(&self, table: Table, n: usize) -> String {
        self.manifest().files(table)[n].path.clone()
    }

    /// Writes a file anew, its rows and what its footer says changed, and commits its new size.
    fn rewrite(
        &self,
        path: &str,
        f: impl FnOnce(RecordBatch) -> RecordBatch,
        footer: impl Fn(KeyValue) -> KeyValue,
    ) {
        let at = self.at().join(path);
        let file = std::fs::File::open(&at).unwrap();
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let pairs = builder
            .metadata()
            .file_metadata()
            .key_value_metadata()
            .unwrap()
            .clone();
        let pairs = pairs
            .into_iter()
            .filter(|p| p.key.starts_with("pgtrace."))
            .map(footer);
        let properties = WriterProperties::builder().set_key_value_metadata(Some(pairs.collect()));
        let schema = builder.schema().clone();
        let batches: Vec<_> = builder.build().unwrap().map(Result::unwrap).collect();
        let schema = batches.first().map_or(schema, RecordBatch::schema);
        let batch = f(concat_batches(&schema, &batches).unwrap());
        let file = std::fs::File::create(&at).unwrap();
        let mut writer =
            ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let bytes = std::fs::metadata(&at).unwrap().len();
        self.edit(|m| {
            let mut files = m.tables.values_mut().flatten();
            files.find(|f| f.path == path).unwrap().bytes = bytes;
        });
    }

    fn rows(&self, path: &str, f: impl FnOnce(RecordBatch) -> RecordBatch) {
        self.rewrite(path, f, |pair| pair);
    }

    fn check(&self) -> Report {
        check(&self.at())
    }

    /// Just `rules` do not hold, and a place is named by `word`.
    fn breaks(&self, rules: &[&str], word: &str) {
        let report = self.check();
        assert_eq!(broken(&report), rules, "{report}");
        assert!(report.to_string().contains(word), "{word:?} in {report}");
    }
}

fn check(dataset: &Path) -> Report {
    let options = Options {
        memory: 64 << 20,
        threads: 2,
    };
    verify(&[dataset.to_str().unwrap().to_string()], &options).unwrap()
}

fn broken(report: &Report) -> Vec<&'static str> {
    let rules = report.subjects.iter().flat_map(|s| &s.rules);
    rules.filter(|r| !r.holds()).map(|r| r.name).collect()
}

fn program(inputs: &[&Path]) -> (Option<i32>, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_pgtrace-ingest"));
    let out = program.arg("verify").args(inputs).output().unwrap();
    let error = String::from_utf8(out.stderr).unwrap();
    (
        out.status.code(),
        String::from_utf8(out.stdout).unwrap() + &error,
    )
}

/// The batch with another column of that name.
fn replace(batch: &RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
    let (index, _) = batch
        .schema()
        .column_with_name(name)
        .map(|(i, f)| (i, f.clone()))
        .unwrap();
    let mut columns = batch.columns().to_vec();
    columns[index] = column;
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

fn numbers(batch: &RecordBatch, name: &str) -> Vec<u64> {
    let column = batch.column_by_name(name).unwrap();
    column.as_primitive::<UInt64Type>().values().to_vec()
}

fn with_numbers(batch: &RecordBatch, name: &str, f: impl FnOnce(&mut Vec<u64>)) -> RecordBatch {
    let mut values = numbers(batch, name);
    f(&mut values);
    replace(batch, name, Arc::new(UInt64Array::from(values)))
}

#[test]
fn what_ingest_makes_passes() {
    Place::of(&fabric()).breaks(&[], "1 captures, 300 rows of refs");
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("dataset");
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/demo");
    run(std::slice::from_ref(&demo), &to, &small()).unwrap();
    let (code, text) = program(&[&demo, &to]);
    assert_eq!(code, Some(0), "{text}");
    // Both stand in one report; rows as testdata/demo/README.md counts them.
    assert!(
        text.contains("recording ") && text.contains("29,419 rows of refs"),
        "{text}"
    );
    assert!(
        !text.contains("VIOLATION") && !text.contains("note:"),
        "{text}"
    );

    // All causes of losses, numbered or not; overwritten; cut short; unknown names.
    let mut fabric = fabric();
    for (cause, count) in [(LostCause::ProbeMissed, 11), (LostCause::NoMemory, 13)] {
        fabric.cpus[0].push_name(Record::Lost(Lost {
            stamp: stamp(0, 0, 1040),
            count,
            first_seq: 0,
            first_ns: 1040,
            last_ns: 1040,
            channel: Channel::Refs,
            cause,
        }));
    }
    fabric.cpus[0].push_ref(page_ref(4000 * MS, 77, 99, 3));
    Place::of(&fabric).breaks(&[], "1 rows have no name");
    fabric.cpus[0].skip(5);
    fabric.cpus[0].push_ref(page_ref(4001 * MS, 20, 1, 3));
    Place::of(&fabric).breaks(&[], "");
    fabric.settings.overwrite = true;
    Place::of(&fabric).breaks(&[], "");
    fabric.totals = false;
    Place::of(&fabric).breaks(&[], "nobody knows how much was emitted");
}

#[test]
fn what_compact_makes_passes() {
    let place = Place::of(&fabric());
    let raw = place.folder.path().join("other");
    Fabric::random(0x77, 2, 3000, 3, 5).write(&raw);
    run(&[raw], &place.at(), &small()).unwrap();
    compact(place.at().to_str().unwrap(), &compact::Options::default()).unwrap();
    let captures = place.manifest().files(Table::Captures).to_vec();
    assert_eq!((captures.len(), captures[0].capture_id.as_str()), (1, ""));
    let report = place.check();
    assert!(report.holds(), "{report}");
    let text = report.to_string();
    assert!(text.contains("2 captures, 3,300 rows of refs"), "{text}");
    // Replaced files are still there, and nobody wonders.
    assert!(!text.contains("belong to no commit"), "{text}");

    // Each row of it counts for its capture.
    place.rows(&captures[0].path, |batch| {
        with_numbers(&batch, "cache_events", |n| n[1] += 1)
    });
    place.breaks(&["captures"], "page-cache events, by captures.cache_events");
    place.edit(|m| {
        m.captures.pop();
        let keep = m.captures[0].capture_id.clone();
        let refs = m.tables.get_mut(&Table::Refs).unwrap();
        refs.retain(|f| f.capture_id == keep);
    });
    let report = place.check();
    assert!(broken(&report).contains(&"files"), "{report}");
    assert!(report.to_string().contains("is not in the manifest"));
}

#[test]
fn files_of_an_older_schema_pass() {
    let without = |name: &'static str| {
        let place = Place::of(&fabric());
        let path = place.file(Table::Captures, 0);
        place.rows(&path, |mut batch| {
            batch.remove_column(batch.schema().index_of(name).unwrap());
            batch
        });
        place
    };
    // The first files of this version had none.
    without("cache_events").breaks(&[], "");
    let report = without("emitted").check();
    assert!(broken(&report).contains(&"files"), "{report}");
}

#[test]
fn what_tables_become_passes() {
    let folder = tempfile::tempdir().unwrap();
    let settings = kind::Settings {
        ignore_unknown_columns: false,
        memory: 64 << 20,
    };
    let mine = folder.path().join("mine.csv");
    // Times as they please, on two CPUs.
    let rows = (0..300).map(|i| format!("{},/a,{},{}\n", 1 + i * 7919 % 300, i % 9, i % 2));
    let text: String = std::iter::once("ts,path,page,cpu\n".to_string())
        .chain(rows)
        .collect();
    std::fs::write(&mine, text).unwrap();
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata");
    for (i, (file, from)) in [
        (mine, None),
        (testdata.join("tables/refs.parquet"), None),
        (testdata.join("tables/refs.ndjson"), Some("ndjson")),
        (testdata.join("v0/v0-x86-64.bin"), Some("v0")),
    ]
    .into_iter()
    .enumerate()
    {
        let to = folder.path().join(format!("{i}"));
        let from = from.and_then(kind::by_name);
        let prepared = kind::prepare(&[file], from, &settings).unwrap();
        run(&prepared.raw, &to, &small()).unwrap();
        let report = check(&to);
        assert!(report.holds(), "{report}");
        let note = "it was a table, whose rows are in its own order";
        assert!(i > 0 || report.to_string().contains(note), "{report}");
    }
}

#[test]
fn every_layout_and_more_windows_than_one() {
    // 1 MiB of memory holds windows of 65,536 numbers.
    let fabric = Fabric::random(0x11, 2, 150_000, 3, 5);
    let layouts = [vec![], pgtrace_ingest_keys()];
    for layout in layouts {
        let options = IngestOptions {
            partition_by: Some(layout),
            slice_rows: Some(40_000),
            ..small()
        };
        let place = Place::with(&fabric, &options);
        let options = Options {
            memory: 1 << 20,
            threads: 2,
        };
        let report = verify(&[place.at().to_str().unwrap().into()], &options).unwrap();
        // Times rise by less than names need: upids are pids.
        assert!(report.holds(), "{report}");
        assert!(report.to_string().contains("150,000 numbers"), "{report}");

        // The last number of all is another one.
        let manifest = place.manifest();
        let files = manifest.files(Table::Refs).iter();
        let last = files.max_by_key(|f| f.seq.unwrap().max).unwrap();
        place.rows(&last.path, |batch| {
            with_numbers(&batch, "seq", |seq| *seq.last_mut().unwrap() = 1_000_000)
        });
        let report = verify(&[place.at().to_str().unwrap().into()], &options).unwrap();
        assert!(broken(&report).contains(&"sequence"), "{report}");
        assert!(
            report.to_string().contains("seq 149999 is not there"),
            "{report}"
        );
    }
}

fn pgtrace_ingest_keys() -> Vec<pgtrace_ingest::manifest::PartitionKey> {
    use pgtrace_ingest::manifest::PartitionKey::{Pid, Slice, Uid};
    vec![Slice, Pid, Uid]
}

#[test]
fn manifest() {
    let place = Place::of(&fabric());
    let losses = place.at().join(place.file(Table::Losses, 0));
    let bytes = std::fs::read(&losses).unwrap();
    std::fs::write(&losses, [&bytes[..], b"x"].concat()).unwrap();
    place.breaks(&["manifest"], "bytes, found");
    std::fs::write(&losses, &bytes).unwrap();
    place.breaks(&[], "");
    let processes = place.file(Table::Processes, 0);
    place.edit(|m| {
        let files = m.tables.get_mut(&Table::Processes).unwrap();
        files.push(files[0].clone());
    });
    place.breaks(&["manifest"], "is named twice");
    place.edit(|m| {
        m.tables.get_mut(&Table::Processes).unwrap().pop();
    });
    std::fs::remove_file(place.at().join(&processes)).unwrap();
    // Then no process is known, either.
    place.breaks(&["manifest", "names"], "is not there");

    let next = place.manifest().version + 1;
    let newest = place.at().join(FOLDER).join(Manifest::file_name(next));
    std::fs::write(&newest, "{\"format\": 1, \"vers").unwrap();
    place.breaks(&["manifest"], "damaged manifest");
    std::fs::write(&newest, "{\"format\": 99}").unwrap();
    let (code, text) = program(&[&place.at()]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("too new"), "{text}");
}

#[test]
fn a_manifest_that_claims_the_impossible() {
    let place = Place::of(&fabric());
    place.edit(|m| {
        m.captures[0].refs = u64::MAX;
        m.captures[0].lost = u64::MAX;
        for file in m.tables.values_mut().flatten() {
            (file.rows, file.bytes) = (u64::MAX, u64::MAX);
        }
    });
    let report = place.check();
    let broken = broken(&report);
    for rule in ["manifest", "files", "sequence", "captures"] {
        assert!(broken.contains(&rule), "{rule} in {report}");
    }
}

#[test]
fn litter_is_no_violation() {
    let place = Place::of(&fabric());
    std::fs::write(place.at().join("refs/left-over.parquet"), "x").unwrap();
    place.breaks(&[], "note: 1 files belong to no commit (a run that was killed, or is under way): refs/left-over.parquet");
}

#[test]
fn what_is_kept_for_later_chunks_is_there() {
    let place = Place::of(&fabric());
    let state = place.manifest().captures[0].state.clone().unwrap();
    std::fs::remove_file(place.at().join(&state)).unwrap();
    place.breaks(&["manifest"], &format!("{state}: is not there"));
}

#[test]
fn files() {
    let place = Place::of(&fabric());
    place.edit(|m| m.tables.get_mut(&Table::Objects).unwrap()[0].rows += 1);
    place.breaks(&["files"], "expected 3 rows, its footer says 2");

    for (key, value) in [
        ("pgtrace.capture_id", "another"),
        ("pgtrace.schema_version", "0"),
        ("pgtrace.lost", "6"),
    ] {
        let place = Place::of(&fabric());
        let file = place.file(Table::Refs, 0);
        place.rewrite(
            &file,
            |b| b,
            |mut pair| {
                if pair.key == key {
                    pair.value = Some(value.into());
                }
                pair
            },
        );
        place.breaks(&["files"], &format!("in the footer, found {value}"));
    }
    let place = Place::of(&fabric());
    let file = place.file(Table::Refs, 0);
    // What is no Parquet at all is told as the file's, and its rows are missing.
    let at = place.at().join(&file);
    let len = std::fs::metadata(&at).unwrap().len();
    std::fs::write(&at, vec![7; len as usize]).unwrap();
    place.breaks(&["files", "sequence", "captures"], &file);

    let place = Place::of(&fabric());
    let file = place.file(Table::Marks, 0);
    place.rows(&file, |batch| {
        let but_one: Vec<usize> = (0..batch.num_columns() - 1).collect();
        batch.project(&but_one).unwrap()
    });
    place.breaks(&["files"], "expected the columns of marks, found others");
}

#[test]
fn sorted() {
    let place = Place::of(&fabric());
    let file = place.file(Table::Refs, 0);
    place.rows(&file, |batch| {
        let mut order: Vec<u32> = (0..batch.num_rows() as u32).collect();
        order.swap(7, 8);
        take_record_batch(&batch, &UInt32Array::from(order)).unwrap()
    });
    place.breaks(&["sorted"], "stands behind seq");
}

#[test]
fn ranges() {
    type Edit = fn(&mut pgtrace_ingest::manifest::FileEntry);
    let edits: [(Edit, &str); 6] = [
        (|f| f.seq.as_mut().unwrap().max -= 1, "seq "),
        (|f| f.ts.as_mut().unwrap().min += 1, "ts "),
        (|f| f.uid = Some(Span::of(7)), "uid 1000 (7 to 7)"),
        (|f| f.pid.as_mut().unwrap().max = 0, "pid 20"),
        (|f| f.objects[0].max_page -= 1, "page 49 of object 1"),
        (|f| f.objects[0].object_id = 5, "of object 1 is not among"),
    ];
    for (edit, word) in edits {
        let place = Place::of(&fabric());
        place.edit(|m| edit(&mut m.tables.get_mut(&Table::Refs).unwrap()[0]));
        place.breaks(&["ranges"], word);
    }
}

#[test]
fn folders() {
    for (from, to, word) in [
        ("uid=1000", "uid=1001", "expected uid 1001, found 1000"),
        ("pid=20", "pid=2", "expected pid 2, found 20"),
        ("slice=000000", "slice=000003", "expected slice 3, found 0"),
        (
            "slice=000000",
            "part=000000",
            "expected a folder slice=NUMBER, found \"part=000000\"",
        ),
    ] {
        let place = Place::of(&fabric());
        let old = place.file(Table::Refs, 0);
        let new = old.replace(from, to);
        let (a, b) = (place.at().join(&old), place.at().join(&new));
        std::fs::create_dir_all(b.parent().unwrap()).unwrap();
        std::fs::rename(a, b).unwrap();
        place.edit(|m| m.tables.get_mut(&Table::Refs).unwrap()[0].path = new);
        place.breaks(&["folders"], word);
    }
}

#[test]
fn sequence() {
    // A number that is there twice is missing elsewhere.
    let place = Place::of(&fabric());
    let file = place.file(Table::Refs, 0);
    let mut gone = 0;
    place.rows(&file, |batch| {
        with_numbers(&batch, "seq", |seq| {
            // The next one's number is free only in the other process's file.
            let run = seq.windows(2).position(|w| w[1] > w[0] + 1).unwrap();
            gone = seq[run];
            seq[run] += 1;
        })
    });
    place.breaks(&["sequence"], &format!("seq {gone} is not there"));
    assert!(place.check().to_string().contains("is there once more"));
}

#[test]
fn time() {
    let back = |place: &Place, by_ns: i64| {
        let file = place.file(Table::Refs, 0);
        place.rows(&file, |batch| {
            let column = batch.column_by_name("ts").unwrap();
            let mut ts = column
                .as_primitive::<TimestampNanosecondType>()
                .values()
                .to_vec();
            ts[20] -= by_ns;
            let column = TimestampNanosecondArray::from(ts).with_timezone("UTC");
            replace(&batch, "ts", Arc::new(column))
        });
    };
    let place = Place::of(&fabric());
    back(&place, 100 * MS as i64);
    place.breaks(&["time"], "its row before of");

    // The wall clock was set back by 2 s in the middle, and was read before and after.
    let mut fabric = fabric();
    let clock = |ns: u64, utc: i64| {
        Record::Clock(Clock {
            stamp: stamp(0, 0, ns),
            monotonic_ns: ns,
            realtime_ns: 1_700_000_000_000_000_000_u64.wrapping_add_signed(utc),
            boottime_ns: ns,
        })
    };
    fabric.cpus[0].push_name(clock(1001, 1));
    fabric.cpus[0].push_name(clock(1000 + 1500 * MS, 1500 * MS as i64 - 2000 * MS as i64));
    let place = Place::of(&fabric);
    place.breaks(&[], "the clock was set back or slewed: 2 rows");
}

#[test]
fn names() {
    for (column, word) in [
        ("object_id", "object 1 is not in objects"),
        ("upid", "is not in processes"),
    ] {
        let table = match column {
            "object_id" => Table::Objects,
            _ => Table::Processes,
        };
        let place = Place::of(&fabric());
        let file = place.file(table, 0);
        place.rows(&file, |batch| {
            with_numbers(&batch, column, |ids| ids[0] = 4711)
        });
        place.breaks(&["names"], word);
    }
}

#[test]
fn captures() {
    for (column, word) in [
        (
            "emitted",
            "emitted: rows, lost and overwritten together: expected 308, found 307",
        ),
        ("refs", "captures.refs: expected 301, found 300"),
        ("cache_events", "cache_events: expected 1, found 0"),
    ] {
        let place = Place::of(&fabric());
        let file = place.file(Table::Captures, 0);
        place.rows(&file, |batch| with_numbers(&batch, column, |v| v[0] += 1));
        place.breaks(&["captures"], word);
    }
    let place = Place::of(&fabric());
    place.edit(|m| m.captures[0].lost += 1);
    place.breaks(
        &["captures"],
        "rows lost, by the manifest: expected 8, found 7",
    );
    // A file less in the manifest: its numbers are missing, too.
    let place = Place::of(&fabric());
    place.edit(|m| {
        m.tables.get_mut(&Table::Refs).unwrap().pop();
    });
    place.breaks(
        &["sequence", "captures"],
        "note: 1 files belong to no commit",
    );
}

/// Damage of Parquet files: none makes the program give up, and whatever changes a size, a count or a number that is
/// checked is found. (Pages carry no checksum: a changed instruction pointer looks like another one.)
#[test]
fn damaged_files_are_told_or_harmless() {
    let place = Place::of(&fabric());
    let manifest = place.manifest();
    let files: Vec<String> = manifest
        .tables
        .values()
        .flatten()
        .map(|f| f.path.clone())
        .collect();
    let mut random = Random(9);
    let mut found = 0;
    for _ in 0..400 {
        let at = place
            .at()
            .join(&files[random.below(files.len() as u64) as usize]);
        let whole = std::fs::read(&at).unwrap();
        let mut bytes = whole.clone();
        let byte = random.below(bytes.len() as u64) as usize;
        match random.below(4) {
            0 => bytes.truncate(byte),
            _ => bytes[byte] ^= 1 << random.below(8),
        }
        std::fs::write(&at, &bytes).unwrap();
        let report = place.check();
        assert!(bytes.len() == whole.len() || !report.holds(), "{report}");
        found += u32::from(!report.holds());
        std::fs::write(&at, &whole).unwrap();
    }
    assert!(found > 200, "{found} of 400");
    place.breaks(&[], "");
}
