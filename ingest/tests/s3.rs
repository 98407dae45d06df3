//! Object stores for real: from and to an S3-compatible server, over a way that fails, and by several writers at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/s3.rs"]
mod s3;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::read::{self, RefRow};
use common::{Fabric, Random, run, small};
use pgtrace_capture::record::Record;
use s3::{Bucket, Fate, Proxy, command_at, said, server};
use tempfile::TempDir;

/// pgtrace-ingest, with the store at `at`.
fn program_at(at: SocketAddr, patience: &str, args: &[&str]) -> Command {
    let mut command = command_at(env!("CARGO_BIN_EXE_pgtrace-ingest"), at, patience);
    command.args(args);
    command
}

/// What a run of it said, and its exit code.
fn run_at(at: SocketAddr, patience: &str, args: &[&str]) -> (i32, String) {
    said(program_at(at, patience, args).output().unwrap())
}

/// A recording in a folder, and its rows as a plain ingest has them.
struct Recorded {
    folder: TempDir,
    chunks: Vec<PathBuf>,
    rows: Vec<RefRow>,
}

impl Recorded {
    fn new(id: u128, n: u64) -> Self {
        let mut fabric = Fabric::random(id, 2, n, 3, id as u64);
        fabric.chunk = (n / 8000).max(1) as usize;
        Self::of(fabric)
    }

    /// Of references so scattered that they do not compress: of files that are sent in parts.
    fn scattered(id: u128, n: u64) -> Self {
        let mut fabric = Fabric::random(id, 2, n, 3, id as u64);
        fabric.chunk = (n / 8000).max(1) as usize;
        let mut random = Random(id as u64);
        for record in fabric.cpus.iter_mut().flat_map(|c| &mut c.refs) {
            if let Record::Ref(r) = record {
                (r.page, r.addr, r.ip) = (random.next() >> 12, random.next(), random.next());
            }
        }
        Self::of(fabric)
    }

    fn of(fabric: Fabric) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let chunks = fabric.write(&folder.path().join("raw"));
        assert!(chunks.len() > 3, "more than one chunk a CPU");
        let local = folder.path().join("local");
        run(&chunks, &local, &small()).unwrap();
        let rows = read::refs(&local);
        assert!(rows.len() as u64 == fabric.emitted());
        Self {
            folder,
            chunks,
            rows,
        }
    }

    fn raw(&self) -> String {
        self.folder.path().join("raw").to_str().unwrap().into()
    }
}

/// The rows of a dataset in a bucket; every file is what the manifest says, and there is no other.
fn rows(bucket: &Bucket, dataset: &str) -> Vec<RefRow> {
    let folder = tempfile::tempdir().unwrap();
    bucket.fetch(dataset, folder.path());
    let manifest = read::manifest(folder.path());
    let named: usize = manifest.tables.values().map(Vec::len).sum();
    let there = bucket.list(dataset);
    let data = there.keys().filter(|path| !path.contains("/_pgtrace/"));
    assert_eq!(data.count(), named, "{there:#?}");
    read::refs(folder.path())
}

fn good((code, words): (i32, String)) -> String {
    assert_eq!(code, 0, "{words}");
    words
}

const LONG: &str = "60s";

#[test]
fn chunks_by_object_prefix_and_pattern_become_the_same_rows() {
    let recorded = Recorded::new(1, 60_000);
    let bucket = Bucket::new("inputs");
    bucket.put("rec/a", &recorded.chunks);
    bucket.put(
        "rec/notes",
        &[Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")],
    );
    let names: Vec<String> = bucket.list("rec/a").into_keys().collect();
    let each: Vec<String> = names.iter().map(|n| bucket.url(n)).collect();
    let plain: Vec<String> = names.iter().map(|n| bucket.publish(n)).collect();
    let ways: [Vec<String>; 6] = [
        vec![bucket.url("rec")],
        vec![bucket.url("rec/")],
        vec![bucket.url("rec/*/cpu???-*.pgt")],
        vec![bucket.url("re*")],
        each,
        plain,
    ];
    for (i, mut args) in ways.into_iter().enumerate() {
        let dataset = format!("ds{i}");
        args.extend(["--to".into(), bucket.url(&dataset)]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        good(run_at(server(), LONG, &args));
        assert!(rows(&bucket, &dataset) == recorded.rows, "{args:?}");
    }

    // And what is not there, or is nothing to read, is said by its URL.
    for (raw, why) in [
        ("rec/a/cpu999.pgt", "no raw chunks"),
        ("rec/*/x*", "no file fits"),
        ("rec/notes/Cargo.toml", "not a pgtrace chunk"),
        ("rec/notes", "no raw chunks"),
        ("rec/[", "not a pattern"),
    ] {
        let url = bucket.url(raw);
        let (code, words) = run_at(server(), LONG, &[&url, "--to", &bucket.url("none")]);
        assert!(
            code == 2 && words.contains(&url) && words.contains(why),
            "{words}"
        );
    }
    let (code, words) = run_at(
        server(),
        "2s",
        &["s3://nowhere/x", "--to", &bucket.url("none")],
    );
    assert!(code == 2 && words.contains("s3://nowhere/x"), "{words}");
    assert!(bucket.list("none").is_empty(), "nothing was begun");
}

#[test]
fn inspect_reads_an_object() {
    let recorded = Recorded::new(2, 5_000);
    let bucket = Bucket::new("inspected");
    bucket.put("r", &recorded.chunks[..1]);
    let url = bucket.url("r/cpu000-000000.pgt");
    let text = good(run_at(server(), LONG, &["inspect", &url]));
    assert!(
        text.starts_with(&format!("chunk {url} capture")),
        "{text:.200}"
    );
    let local = recorded.chunks[0].to_str().unwrap();
    let same = good(run_at(server(), LONG, &["inspect", local]));
    let behind = |text: &str| text.split_once('\n').unwrap().1.to_string();
    assert!(behind(&text) == behind(&same));
}

#[test]
fn verify_tells_a_dataset_from_a_recording() {
    let recorded = Recorded::new(5, 4_000);
    let bucket = Bucket::new("verified");
    bucket.put("rec", &recorded.chunks);
    let (raw, dataset) = (bucket.url("rec"), bucket.url("ds"));
    good(run_at(server(), LONG, &[&raw, "--to", &dataset]));
    let text = good(run_at(server(), LONG, &["verify", &raw, &dataset]));
    assert!(text.contains("recording ") && text.contains(&format!("dataset {dataset}")));
    // A web server lists nothing: an object is all it may be.
    let (name, _) = bucket.list("rec").pop_first().unwrap();
    let (code, words) = run_at(server(), LONG, &["verify", &bucket.publish(&name)]);
    assert!(code < 2 && words.contains("recording "), "{words}");
    let (code, words) = run_at(server(), LONG, &["verify", &bucket.url("nothing")]);
    assert!(code == 2 && words.contains("no raw chunks"), "{words}");
}

#[test]
fn a_table_in_a_store_is_fetched_and_ingested() {
    let bucket = Bucket::new("tables");
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata");
    bucket.put("mine", &[testdata.join("tables/refs.csv")]);
    bucket.put("old", &[testdata.join("v0/v0-x86-64.bin")]);
    let csv = bucket.url("mine/refs.csv");
    good(run_at(server(), LONG, &[&csv, "--to", &bucket.url("ds")]));
    assert_eq!(rows(&bucket, "ds").len(), 9);
    let folder = bucket.url("old/*.bin");
    let to = bucket.url("ds2");
    let (code, words) = run_at(server(), LONG, &[&folder, "--from", "v0", "--to", &to]);
    assert!(code < 2, "{words}");
    assert!(!rows(&bucket, "ds2").is_empty());
}

/// All goes wrong that can, one request in `every`, and the rows are the same.
fn through(bucket: &str, every: u64, fates: &'static [Fate]) {
    let recorded = Recorded::scattered(3, 300_000);
    let bucket = Bucket::new(bucket);
    bucket.put("raw", &recorded.chunks);
    let proxy = Proxy::new(move |n, _, _| match n % every {
        0 => fates[(n / every) as usize % fates.len()],
        _ => Fate::Through,
    });
    let (raw, to) = (bucket.url("raw"), bucket.url("ds"));
    // One file of more than a part, so that parts fail, too.
    let args = [
        &raw,
        "--to",
        &to,
        "--partition-by",
        "slice",
        "--memory",
        "256MiB",
    ];
    good(run_at(proxy.at, LONG, &args));
    assert!(rows(&bucket, "ds") == recorded.rows);
    let largest = bucket.list("ds").into_values().max();
    assert!(largest > Some(5 << 20), "not in parts: {largest:?}");
    for fate in fates {
        assert!(proxy.met(*fate) > 0, "never met: {fate:?}");
    }
}

#[test]
fn a_connection_that_is_cut_is_taken_up_again() {
    through(
        "cut",
        3,
        &[Fate::CutRequest, Fate::LostAnswer, Fate::CutAnswer],
    );
}

#[test]
fn errors_and_slowness_that_pass_are_waited_for() {
    // The last is longer than a request may take.
    const LATE: [Fate; 5] = [
        Fate::Status(500),
        Fate::Status(503),
        Fate::Late(Duration::from_millis(300)),
        Fate::Status(429),
        Fate::Late(Duration::from_secs(5)),
    ];
    through("slow", 4, &LATE);
}

#[test]
fn a_store_that_stays_down_is_told_within_patience() {
    let recorded = Recorded::new(4, 20_000);
    let bucket = Bucket::new("down");
    bucket.put("raw", &recorded.chunks);
    let raw = recorded.raw();
    let begun = Instant::now();
    // While the dataset is looked for, while it is written, and while the input is read.
    let never = Proxy::new(|_, _, _| Fate::Status(503));
    let no_data = Proxy::new(
        |_, method, path| match method == "PUT" && path.contains("/refs") {
            true => Fate::Status(500),
            false => Fate::Through,
        },
    );
    let no_input = Proxy::new(
        |_, method, path| match method == "GET" && path.ends_with(".pgt") {
            true => Fate::CutAnswer,
            false => Fate::Through,
        },
    );
    let to = bucket.url("ds");
    for (proxy, raw, place, why) in [
        (&never, &raw, &to, "503"),
        (&no_data, &raw, &to, "500"),
        (
            &no_input,
            &bucket.url("raw"),
            &bucket.url("raw/cpu000"),
            "error",
        ),
    ] {
        let (code, words) = run_at(proxy.at, "2s", &[raw, "--to", &to]);
        assert!(
            code == 2 && words.contains(place) && words.contains(why),
            "{words}"
        );
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (code, words) = run_at(nobody, "2s", &[&raw, "--to", &to]);
    assert!(code == 2 && words.contains(&to), "{words}");
    assert!(begun.elapsed().as_secs() < 120, "{:?}", begun.elapsed());
    // What failed is not in the way of what follows.
    good(run_at(server(), LONG, &[&raw, "--to", &to]));
    assert!(rows(&bucket, "ds") == recorded.rows);
}

#[test]
fn a_commit_whose_answer_is_lost_is_a_commit() {
    let recorded = Recorded::new(5, 20_000);
    let bucket = Bucket::new("lost");
    // The first answer about each new manifest is lost; asked again, the store says that it is there.
    let lost = Mutex::new(BTreeSet::new());
    let proxy = Proxy::new(move |_, method, path| {
        let commit = method == "PUT" && path.contains("/manifest/");
        match commit && lost.lock().unwrap().insert(path.to_string()) {
            true => Fate::LostAnswer,
            false => Fate::Through,
        }
    });
    good(run_at(
        proxy.at,
        LONG,
        &[&recorded.raw(), "--to", &bucket.url("ds")],
    ));
    assert_eq!(proxy.met(Fate::LostAnswer), 2);
    assert!(rows(&bucket, "ds") == recorded.rows);
}

#[test]
fn a_commit_that_nobody_knows_of_keeps_its_files() {
    let recorded = Recorded::new(6, 20_000);
    let bucket = Bucket::new("unsure");
    let (raw, to) = (recorded.raw(), bucket.url("ds"));
    // The second manifest is taken, its answer lost, and the store gone when it is asked for it.
    let proxy =
        Proxy::new(
            |_, method, path| match (method, path.contains("/00000000000000000002.json")) {
                ("PUT", true) => Fate::LostAnswer,
                ("GET", true) => Fate::Status(503),
                _ => Fate::Through,
            },
        );
    let (code, words) = run_at(proxy.at, "2s", &[&raw, "--to", &to]);
    assert!(
        code == 2 && words.contains("may have been committed or not"),
        "{words}"
    );
    let words = good(run_at(server(), LONG, &[&raw, "--to", &to]));
    assert!(words.contains("already ingested"), "{words}");
    assert!(rows(&bucket, "ds") == recorded.rows);
}

#[test]
fn writers_at_the_same_time_all_land_and_the_same_capture_once() {
    let recordings: Vec<Recorded> = (10..14).map(|id| Recorded::new(id, 10_000)).collect();
    let bucket = Bucket::new("writers");
    let to = bucket.url("ds");
    // Each twice.
    let running: Vec<_> = recordings
        .iter()
        .chain(&recordings)
        .map(|r| {
            let mut command = program_at(server(), LONG, &[&r.raw(), "--to", &to]);
            command
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let words: Vec<String> = running
        .into_iter()
        .map(|child| good(said(child.wait_with_output().unwrap())))
        .collect();
    let already = words
        .iter()
        .filter(|w| w.contains("already ingested"))
        .count();
    assert_eq!(already, recordings.len(), "{words:#?}");
    let mut all: Vec<RefRow> = recordings.into_iter().flat_map(|r| r.rows).collect();
    all.sort_by(|a, b| (&a.capture_id, a.seq).cmp(&(&b.capture_id, b.seq)));
    assert!(rows(&bucket, "ds") == all);
}

#[test]
fn doctor_tells_a_store_that_keeps_its_word_from_one_that_does_not() {
    let bucket = Bucket::new("doctored");
    let place = bucket.url("ds");
    let words = good(run_at(server(), LONG, &["doctor", &place]));
    assert!(words.starts_with(&format!("{place}: safe")), "{words}");
    let careless = Proxy::new(|_, method, _| match method {
        "PUT" => Fate::Unconditional,
        _ => Fate::Through,
    });
    let (code, words) = run_at(careless.at, LONG, &["doctor", &place]);
    assert!(code == 1 && words.contains("unsafe"), "{words}");
    assert!(bucket.list("").is_empty(), "nothing stays");
    let folder = tempfile::tempdir().unwrap();
    let words = good(run_at(
        server(),
        LONG,
        &["doctor", folder.path().to_str().unwrap()],
    ));
    assert!(words.contains(": safe"), "{words}");
}
