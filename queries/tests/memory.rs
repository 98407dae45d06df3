//! Answers with far less memory than the rows take: they spill, and are the same.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Int32Array, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array, new_null_array,
};
use arrow::datatypes::Int32Type;
use common::{Fabricator, START, numbers};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;
use pgtrace_ingest::manifest::{CaptureEntry, FileEntry, Span};
use pgtrace_ingest::schema::Table;
use pgtrace_sql::session::{Options, Session};
use tempfile::TempDir;

/// About 80 bytes each in memory.
const ROWS: u64 = 1_200_000;
const BATCH: u64 = 100_000;
const PAGES: u64 = 300_000;

/// Page of a reference: scattered, each page about four times.
fn page(seq: u64) -> u64 {
    seq.wrapping_mul(0x9E37_79B9_7F4A_7C15) % PAGES
}

fn texts(value: &str, rows: usize) -> ArrayRef {
    let keys = Int32Array::from(vec![0; rows]);
    Arc::new(DictionaryArray::<Int32Type>::new(
        keys,
        Arc::new(StringArray::from(vec![value])),
    ))
}

fn rows(from: u64) -> RecordBatch {
    let seqs = || from..from + BATCH;
    let n = BATCH as usize;
    let numbers =
        |f: fn(u64) -> u64| Arc::new(UInt64Array::from_iter_values(seqs().map(f))) as ArrayRef;
    let u32s = |value: u32| Arc::new(UInt32Array::from(vec![value; n])) as ArrayRef;
    let times = seqs().map(|s| START + (s * 137) as i64);
    let schema = Table::Refs.arrow_schema();
    let major = new_null_array(schema.field_with_name("major").unwrap().data_type(), n);
    assert!(major.as_any().is::<BooleanArray>());
    let columns: Vec<ArrayRef> = vec![
        texts("c1", n),
        numbers(|s| s),
        Arc::new(TimestampNanosecondArray::from_iter_values(times).with_timezone("UTC")),
        Arc::new(UInt16Array::from(vec![0; n])),
        u32s(1000),
        u32s(100),
        u32s(100),
        numbers(|_| 100),
        texts("work", n),
        texts("/data/table", n),
        texts("file", n),
        texts("fault", n),
        texts("read", n),
        major,
        numbers(|s| page(s) << 12),
        numbers(|s| s % 64),
        numbers(|s| 1 + page(s) % 3),
        numbers(page),
        Arc::new(UInt8Array::from(vec![0; n])),
    ];
    RecordBatch::try_new(schema, columns).unwrap()
}

/// One for all tests; the last one to end removes it.
fn dataset() -> Arc<TempDir> {
    static MADE: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());
    let mut made = MADE.lock().unwrap();
    made.upgrade().unwrap_or_else(|| {
        let new = Arc::new(write_dataset());
        *made = Arc::downgrade(&new);
        new
    })
}

fn write_dataset() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut made = Fabricator::new(folder.path());
    made.row_group = 250_000;
    let batches: Vec<RecordBatch> = (0..ROWS / BATCH).map(|i| rows(i * BATCH)).collect();
    let entry = FileEntry {
        seq: Some(Span {
            min: 0,
            max: ROWS - 1,
        }),
        ..common::plain_entry("c1")
    };
    made.file(
        Table::Refs,
        "refs/uid=1000/pid=100/slice=000000/c1-0.parquet",
        &batches,
        entry,
    );
    made.capture(CaptureEntry {
        capture_id: "c1".into(),
        chunks: vec![],
        refs: ROWS,
        lost: 0,
        state: None,
        offsets: Default::default(),
    });
    let end = START + (ROWS * 137) as i64;
    let capture = serde_json::json!({
        "capture_id": "c1", "boot_id": "b1", "kernel": "6.12.0", "page_size": 4096, "cpus": 1, "level": "full",
        "settings": "{}", "start_ts": START, "end_ts": end, "refs": ROWS, "cache_events": 0, "lost": 0, "chunks": 1,
        "raw_bytes": 64 * ROWS, "clock_monotonic_ns": 0, "clock_utc_ns": START,
    });
    made.small(Table::Captures, &[capture.as_object().unwrap().clone()]);
    made.commit();
    folder
}

async fn session(root: &Path, memory: usize) -> Session {
    let threads = NonZeroUsize::new(2).unwrap();
    common::open_with(
        root,
        &Options {
            memory,
            spill_dir: None,
            threads,
        },
    )
    .await
}

fn spills(plan: &Arc<dyn ExecutionPlan>) -> usize {
    let own = plan.metrics().and_then(|m| m.spill_count()).unwrap_or(0);
    own + plan.children().into_iter().map(spills).sum::<usize>()
}

/// Runs to the end; gives `each` every batch and returns how often something was spilled.
async fn run(session: &Session, sql: &str, mut each: impl FnMut(&RecordBatch)) -> usize {
    let plan = session
        .context()
        .sql(sql)
        .await
        .unwrap()
        .create_physical_plan()
        .await
        .unwrap();
    let mut stream = execute_stream(Arc::clone(&plan), session.context().task_ctx()).unwrap();
    while let Some(batch) = stream.next().await {
        each(&batch.unwrap_or_else(|e| panic!("{sql}: {e}")));
    }
    spills(&plan)
}

const SMALL: usize = 32 << 20;

const IRF: &str = "SELECT count(*) AS pages, sum(refs) AS refs, sum(gap_mean) AS gap_mean, \
                   sum(irf_rate) AS irf_rate, sum(irf_mean_inverse_ns) AS inverse_ns FROM page_irf";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_irf_spills_and_answers_the_same() {
    let folder = dataset();
    let ask = async |memory| {
        let mut answer = Vec::new();
        let session = session(folder.path(), memory).await;
        let spilled = run(&session, IRF, |batch| answer.push(batch.clone())).await;
        (spilled, answer)
    };
    let (spilled, small) = ask(SMALL).await;
    assert!(spilled > 0, "nothing was spilled");
    let (spilled, large) = ask(8 << 30).await;
    assert_eq!(spilled, 0, "something was spilled");
    for column in ["pages", "refs", "gap_mean", "irf_rate", "inverse_ns"] {
        let (a, b) = (numbers(&small, column)[0], numbers(&large, column)[0]);
        assert!((a - b).abs() <= 1e-9 * b.abs(), "{column}: {a} and {b}");
    }
    // Independent of both: the pages by construction.
    let mut seen = vec![0u64; PAGES as usize];
    (0..ROWS).for_each(|s| seen[page(s) as usize] += 1);
    let again: Vec<u64> = seen.into_iter().filter(|&n| n >= 2).collect();
    assert_eq!(numbers(&small, "pages")[0], again.len() as f64);
    assert_eq!(numbers(&small, "refs")[0], again.iter().sum::<u64>() as f64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curves_spill_and_are_the_same() {
    let folder = dataset();
    for (view, columns) in [
        ("wss_curve", ["window_refs", "pages"]),
        ("mrc_aet", ["pages", "miss_ratio"]),
    ] {
        let ask = async |memory| {
            let mut answer = Vec::new();
            let session = session(folder.path(), memory).await;
            let spilled = run(&session, &format!("SELECT * FROM {view}"), |batch| {
                answer.push(batch.clone())
            })
            .await;
            (spilled, columns.map(|column| numbers(&answer, column)))
        };
        let (spilled, small) = ask(16 << 20).await;
        assert!(spilled > 0, "{view} spilled nothing");
        let (spilled, large) = ask(8 << 30).await;
        assert_eq!(spilled, 0, "{view} spilled something");
        assert_eq!(small, large, "{view}");
        assert!(large[0].len() > 16, "{view}: {large:?}");
    }
}

/// The rows take some 96 MB, the pages' state 20 MB and more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_view_answers_in_little_memory() {
    let folder = dataset();
    let small = session(folder.path(), SMALL).await;
    let public = small.views().iter().filter(|v| !v.is_private());
    for view in public {
        let call = match view.name.as_str() {
            "relation" => "relation(1, 2)".to_owned(),
            "mrc_sampled" => "mrc_sampled(0.1)".to_owned(),
            name => name.to_owned(),
        };
        let mut rows = 0;
        run(&small, &format!("SELECT * FROM {call}"), |batch| {
            rows += batch.num_rows()
        })
        .await;
        assert!(rows > 0, "{call} is empty");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_a_floor_says_so() {
    let folder = dataset();
    let tiny = session(folder.path(), 4 << 20).await;
    for (call, words) in [
        ("mrc", "for the order of"),
        (
            "working_set(1000000)",
            "the pages of one window (a shorter one takes less)",
        ),
    ] {
        let stream = tiny.query(&format!("SELECT * FROM {call}")).await.unwrap();
        let error = stream
            .collect::<Vec<_>>()
            .await
            .into_iter()
            .find_map(|batch| batch.err());
        let error = error
            .unwrap_or_else(|| panic!("{call} needs nothing"))
            .to_string();
        assert!(error.contains(words), "{call}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_by_spills_and_gives_every_row_in_order() {
    let folder = dataset();
    let small = session(folder.path(), SMALL).await;
    let (mut last, mut count, mut sum) = ((0u64, 0u64), 0u64, 0u64);
    let spilled = run(
        &small,
        "SELECT * FROM refs ORDER BY page, seq DESC",
        |batch| {
            let column = |name| {
                batch
                    .column_by_name(name)
                    .unwrap()
                    .as_any()
                    .downcast_ref::<UInt64Array>()
                    .unwrap()
            };
            let (pages, seqs) = (column("page"), column("seq"));
            for (&page_found, &seq) in pages.values().iter().zip(seqs.values()) {
                let key = (page_found, ROWS - seq);
                assert!(key > last || count == 0, "{key:?} after {last:?}");
                assert_eq!(page_found, page(seq));
                (last, count, sum) = (key, count + 1, sum + seq);
            }
        },
    );
    assert!(spilled.await > 0, "nothing was spilled");
    assert_eq!((count, sum), (ROWS, ROWS * (ROWS - 1) / 2));
}

/// Peak memory of the whole process, from the system: the limit is for rows, the rest (code, buffers of the
/// Parquet reader, what the engine does not count) must stay within a fixed addition.
#[test]
fn the_process_stays_near_its_limit() {
    let folder = dataset();
    let measure = "import resource, subprocess, sys\n\
                   code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode\n\
                   print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n\
                   sys.exit(code)";
    let done = std::process::Command::new("python3")
        .args(["-c", measure, env!("CARGO_BIN_EXE_pgtrace-sql")])
        .arg(folder.path())
        .args([
            "--memory",
            "32MiB",
            "--threads",
            "2",
            "--format",
            "csv",
            "-c",
            IRF,
        ])
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let kib: usize = String::from_utf8_lossy(&done.stdout)
        .trim()
        .parse()
        .unwrap();
    eprintln!("peak {} MiB", kib >> 10);
    assert!(
        kib >> 10 < 32 + 250,
        "peak {} MiB with --memory 32MiB",
        kib >> 10
    );
}
