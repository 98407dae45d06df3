//! Tables of other people: what a row becomes, what a missing column means, and that nothing wrong gets in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::read::{self, RefRow};
use common::{run, small};
use pgtrace_ingest::manifest::PartitionKey;
use pgtrace_ingest::pipeline::Options;
use pgtrace_ingest::report::Report;
use pgtrace_ingest::schema::Table;
use pgtrace_ingest::source::kind::{Settings, by_name, prepare};
use proptest::prelude::*;

const SETTINGS: Settings = Settings {
    ignore_unknown_columns: false,
    memory: 64 << 20,
};

/// Translates and ingests, as the program does.
fn ingest(file: &Path, from: &str, to: &Path, options: &Options) -> Result<Report, String> {
    let raw = [file.to_path_buf()];
    let prepared = prepare(&raw, by_name(from), &SETTINGS).map_err(|e| e.to_string())?;
    run(&prepared.raw, to, options).map_err(|e| e.to_string())
}

/// The rows of a table given as text.
fn rows(from: &str, text: &str) -> Result<Vec<RefRow>, String> {
    let folder = tempfile::tempdir().unwrap();
    let (file, to) = (folder.path().join("mine"), folder.path().join("dataset"));
    std::fs::write(&file, text).unwrap();
    let report = ingest(&file, from, &to, &small())?;
    assert!(!report.has_losses());
    Ok(read::refs(&to))
}

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata")
        .join(name)
}

fn shown<T: ToString>(value: &Option<T>) -> String {
    value.as_ref().map_or("-".into(), T::to_string)
}

/// All of a row but the recording, `seq` and `upid`; the time in microseconds since `zero_ns`.
fn line(r: &RefRow, zero_ns: i64) -> String {
    format!(
        "{} cpu={} uid={} pid={} tid={} comm={} path={} kind={} {} {} major={} addr={} ip={} object={} page={} order={}",
        (r.ts - zero_ns) / 1000,
        r.cpu,
        r.uid,
        r.pid,
        r.tid,
        shown(&r.comm),
        shown(&r.path),
        shown(&r.object_kind),
        r.event,
        shown(&r.access),
        shown(&r.major),
        shown(&r.addr),
        shown(&r.ip),
        r.object_id,
        r.page,
        r.page_order,
    )
}

#[test]
fn the_same_rows_whatever_the_kind_of_table() {
    let expected = std::fs::read_to_string(testdata("tables/refs.txt")).unwrap();
    let expected: Vec<&str> = expected.lines().collect();
    for kind in ["csv", "ndjson", "parquet"] {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("dataset");
        let file = testdata(&format!("tables/refs.{kind}"));
        // Told what it is, and not: the same recording, so the second time adds nothing.
        let report = ingest(&file, kind, &to, &small()).unwrap();
        assert_eq!((report.captures[0].rows, report.has_losses()), (9, false));
        assert_eq!(report.captures[0].emitted, Some(9));
        let again = ingest(&file, "", &to, &small()).unwrap();
        assert_eq!((again.already, again.captures.len()), (1, 0), "{kind}");

        let rows = read::refs(&to);
        let found: Vec<String> = rows
            .iter()
            .map(|r| line(r, 1_714_564_800_000_000_000))
            .collect();
        assert_eq!(found, expected, "{kind}");
        assert!(rows.iter().enumerate().all(|(i, r)| r.seq == i as u64));
        assert!(rows.iter().all(|r| r.upid == u64::from(r.pid)));
        let names: usize = read::table(&to, Table::Processes)
            .iter()
            .map(|b| b.num_rows())
            .sum();
        assert_eq!(names, 2);
        assert_eq!(
            read::manifest(&to).captures[0].chunks[0].name,
            format!("refs.{kind}")
        );
    }
}

#[test]
fn path_and_page_are_enough() {
    let found = rows("csv", "path,page\n/a,3\n/b,3\n/a,4\n").unwrap();
    let found: Vec<_> = found.iter().map(|r| line(r, 0)).collect();
    let with = |ts, path, object, page| {
        format!(
            "{ts} cpu=0 uid=0 pid=1 tid=1 comm=- path={path} kind=file fault - major=false addr=- ip=- object={object} page={page} order=0"
        )
    };
    assert_eq!(
        found,
        [
            with(0, "/a", 1, 3),
            with(1, "/b", 2, 3),
            with(2, "/a", 1, 4)
        ]
    );
}

#[test]
fn addr_is_enough() {
    let found = rows("csv", "addr\n0x7f0000001fff\n8192\n").unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|r| (r.addr, r.page, r.object_kind.as_deref(), r.object_id))
        .collect();
    assert_eq!(
        found,
        [
            (Some(0x7f00_0000_1fff), 0x7_f000_0001, Some("anon"), 1),
            (Some(8192), 2, Some("anon"), 1)
        ]
    );
}

#[test]
fn commands_without_pids_get_one_each() {
    let found = rows("csv", "comm,path,page\na,/x,1\nb,/x,1\na,/x,2\n,/x,2\n").unwrap();
    let found: Vec<_> = found.iter().map(|r| (r.pid, r.comm.as_deref())).collect();
    assert_eq!(
        found,
        [
            (1, Some("a")),
            (2, Some("b")),
            (1, Some("a")),
            (1, Some("a"))
        ]
    );
}

#[test]
fn memory_without_a_path_is_a_processes_own() {
    let found = rows(
        "csv",
        "pid,addr,object_kind\n5,4096,\n6,4096,\n5,4096,heap\n5,8192,\n",
    )
    .unwrap();
    let found: Vec<_> = found.iter().map(|r| (r.object_id, r.page)).collect();
    assert_eq!(found, [(1, 1), (2, 1), (3, 1), (1, 2)]);
}

#[test]
fn what_a_table_says_of_an_object_holds_for_all_its_rows() {
    let found = rows("csv", "object_id,path,page\n9,,1\n9,/late,2\n7,,3\n").unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|r| (r.object_id, r.path.as_deref(), r.object_kind.as_deref()))
        .collect();
    assert_eq!(
        found,
        [
            (9, Some("/late"), Some("file")),
            (9, Some("/late"), Some("file")),
            (7, None, None)
        ]
    );
}

#[test]
fn incarnations_keep_their_number_and_rows_their_order() {
    let (first, second) = (77_u64 << 22 | 5, 99_u64 << 22 | 5);
    let text = format!(
        "ts,upid,comm,addr,seq\n1000,{first},a,1,4\n900,{first},a,2,8\n2000,{second},b,3,9\n1500,6,c,4,11\n"
    );
    let found = rows("csv", &text).unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|r| (r.seq, r.ts, r.upid, r.pid, r.comm.as_deref().unwrap()))
        .collect();
    assert_eq!(
        found,
        [
            (0, 1000, first, 5, "a"),
            (1, 900, first, 5, "a"),
            (2, 2000, second, 5, "b"),
            (3, 1500, 6, 6, "c")
        ]
    );
}

#[test]
fn tabs_semicolons_quotes_and_a_byte_order_mark() {
    for text in [
        "\u{feff}path\tpage\r\n\"/a\tb\"\t1\r\n",
        "path;page\n\"/a\tb\";1",
        "page,path\n1,\"/a\tb\"\n\n",
    ] {
        let found = rows("csv", text).unwrap();
        assert_eq!(
            (found[0].path.as_deref(), found[0].page, found.len()),
            (Some("/a\tb"), 1, 1),
            "{text:?}"
        );
    }
}

/// A header would swallow the rows that only a carriage return parts from it.
#[test]
fn any_end_of_a_line_ends_a_row() {
    for end in ["\n", "\r\n", "\r"] {
        let text = ["path,page", "/a,1", "/b,2", ""].join(end);
        let found = rows("csv", &text).unwrap();
        let found: Vec<_> = found.iter().map(|r| (r.path.as_deref(), r.page)).collect();
        assert_eq!(found, [(Some("/a"), 1), (Some("/b"), 2)], "{end:?}");
        // It is known for a table without being told, too.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &text).unwrap();
        let raw = [file.path().to_path_buf()];
        assert_ne!(prepare(&raw, None, &SETTINGS).unwrap().raw, raw, "{end:?}");
    }
}

#[test]
fn a_table_without_rows_is_a_recording_without_references() {
    for text in ["path,page\n", "path,page\r\n", "path,page"] {
        assert_eq!(rows("csv", text).unwrap(), []);
    }
    assert_eq!(rows("ndjson", "\n \n").unwrap(), []);
}

/// The words of the error.
fn refused(from: &str, text: &str, words: &[&str]) {
    let error = rows(from, text).expect_err(text);
    for word in words {
        assert!(error.contains(word), "expected {word:?} in {error:?}");
    }
}

#[test]
fn what_is_wrong_with_a_table_is_said() {
    let csv = |text: &str, words: &[&str]| refused("csv", text, words);
    csv(
        "",
        &[
            "mine",
            "expected a file with something in it",
            "an empty file",
        ],
    );
    csv(
        "page\n1\n",
        &[
            "expected page and path (or object_id), or addr",
            "found only page",
        ],
    );
    csv(
        "path,page,timestamp\n",
        &[
            "\"timestamp\"; did you mean ts?",
            "--ignore-unknown-columns",
        ],
    );
    csv("path,pge\n", &["\"pge\"; did you mean page?"]);
    csv("path,page,weather\n", &["is called \"weather\" ("]);
    csv(
        "path,page,page\n",
        &["each column once", "column page twice"],
    );
    csv(
        "path,page\n/a,1\n/a,x7\n",
        &[
            "mine: row 2: column page: expected a whole number from 0 to 4503599627370495",
            "\"x7\"",
        ],
    );
    csv("path,page\n/a,-1\n", &["row 1: column page", "\"-1\""]);
    csv("path,page\n/a,4503599627370496\n", &["column page"]);
    csv("path,page\n/a,1,2\n", &["row 1", "expected 2"]);
    csv("path,page\n/a\n", &["row 1", "expected 2 got 1"]);
    csv(
        "path,page\n/a,\n",
        &["row 1: column page: expected the page of the path, found nothing"],
    );
    csv(
        "path,page\n,3\n",
        &[
            "row 1: column path: expected page and path",
            "found only page",
        ],
    );
    csv("addr,page\n,\n", &["row 1: column page"]);
    csv(
        "addr,cpu\n1,65536\n",
        &["column cpu", "from 0 to 65535", "\"65536\""],
    );
    csv(
        "addr,pid\n1,4194304\n",
        &["column pid", "from 0 to 4194303"],
    );
    csv(
        "addr,pid\n1,1\n2,\n",
        &["row 2: column pid: expected a value, as in the first row, found nothing"],
    );
    csv(
        "addr,ts\n1,\n2,5\n",
        &["row 2: column ts: expected nothing, as in the first row"],
    );
    csv(
        "addr,ts\n1,yesterday\n",
        &["column ts", "2024-05-01T12:00:00.5Z", "\"yesterday\""],
    );
    csv(
        "addr,ts\n1,1969-12-31T00:00:00Z\n",
        &["column ts", "from 1970 to 2262"],
    );
    csv(
        "addr,event\n1,touch\n",
        &["column event: expected one of fault, retouch, lookup, insert, evict, found \"touch\""],
    );
    csv(
        "addr,access\n1,R\n",
        &["one of read, write, exec, found \"R\""],
    );
    csv("addr,object_kind\n1,disk\n", &["one of file, anon"]);
    csv(
        "addr,major\n1,maybe\n",
        &["column major: expected true or false, found \"maybe\""],
    );
    csv(
        "addr,comm\n1,a name that is too long\n",
        &["column comm: expected a text of at most 16 bytes"],
    );
    csv(
        "addr,seq\n1,5\n1,5\n",
        &[
            "row 2: column seq: expected more than 5",
            "order the table by seq",
        ],
    );
    csv(
        "addr,capture_id\n1,a\n1,b\n",
        &["row 2: column capture_id", "a table is one recording"],
    );
    csv(
        "addr,pid,upid\n1,5,6\n",
        &["column upid", "low 22 bits are pid, 5"],
    );
    csv(
        "addr,pid,comm,ts\n1,5,a,10\n1,5,b,10\n",
        &["row 2: column comm: expected \"a\" as long as ts does not rise above 10 ns"],
    );
    csv(
        "addr,pid,comm,ts\n1,5,a,10\n1,5,b,20\n1,5,b,15\n",
        &["row 3: column ts: expected a time not before pid 5"],
    );
    csv(
        "addr,upid\n1,4194309\n1,5\n",
        &["row 2: column upid: expected at least 4194309"],
    );
    csv(
        "object_id,page,path\n3,1,/a\n3,1,/b\n",
        &["row 2: column path: expected \"/a\", as before for object_id 3"],
    );
    csv(
        "object_id,page,object_kind\n3,1,heap\n3,1,stack\n",
        &["column object_kind: expected heap, as before"],
    );
    csv(
        "object_id,page\n0,1\n",
        &["column object_id: expected a whole number from 1"],
    );
    csv(
        &format!("path,page\n\"{}", "x\n".repeat(100_000)),
        &["rows of at most 131072 bytes", "behind row 0", "quote"],
    );
    csv(
        &format!("path,page\n{},1\n", "x".repeat(65_001)),
        &[
            "column path: expected a text of at most 65000 bytes",
            "found 65001 bytes",
        ],
    );

    let json = |text: &str, words: &[&str]| refused("ndjson", text, words);
    json(
        "{\"addr\": 1}\n{\"addr\": [1]}\n",
        &["row 2: invalid type: sequence, expected a number, a text, true, false or null at byte"],
    );
    json(
        "{\"addr\": 1}\n[1]\n",
        &["row 2", "expected an object of columns"],
    );
    json("{\"addr\": 1\n", &["row 1", "EOF"]);
    json("{\"addr\": 1} 2\n", &["row 1", "trailing"]);
    json(
        "{\"addr\": 1, \"adr\": 2}\n",
        &["\"adr\"; did you mean addr?"],
    );
    json(
        "{\"addr\": 1, \"addr\": 2}\n",
        &["row 1: column addr twice"],
    );
    json(
        "{\"addr\": 18446744073709551616}\n",
        &["row 1: column addr"],
    );
    json("{\"page\": 1}\n", &["row 1: column path"]);
    json(
        &format!("{{\"path\": \"{}\"", "x".repeat(200_000)),
        &["rows of at most 131072 bytes"],
    );
    json(&"[".repeat(100_000), &["row 1"]);

    refused(
        "parquet",
        "PAR1 and nothing else PAR1",
        &["mine: cannot be read as Parquet"],
    );
}

#[test]
fn unknown_columns_are_left_out_where_that_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        ignore_unknown_columns: true,
        ..SETTINGS
    };
    for (kind, text) in [
        ("csv", "weather,page,path\nrain,3,/a\n"),
        (
            "ndjson",
            "{\"weather\": {\"a\": [1]}, \"page\": 3, \"path\": \"/a\"}",
        ),
    ] {
        let (file, to) = (
            folder.path().join(kind),
            folder.path().join(format!("{kind}.ds")),
        );
        std::fs::write(&file, text).unwrap();
        let prepared = prepare(&[file], by_name(kind), &settings).unwrap();
        run(&prepared.raw, &to, &small()).unwrap();
        assert_eq!(read::refs(&to)[0].page, 3);
    }
}

#[test]
fn nothing_stays_behind_in_the_temporary_folder() {
    let prepared = prepare(&[testdata("tables/refs.csv")], None, &SETTINGS).unwrap();
    let chunk = prepared.raw[0].clone();
    assert!(chunk.exists());
    drop(prepared);
    assert!(!chunk.parent().unwrap().parent().unwrap().exists());
}

/// What a CSV of these columns says, read by hand: no quotes, no defaults but empty cells.
fn by_hand(text: &str) -> Vec<(String, u64, u32, u64, Option<u64>, String)> {
    let lines = text.lines().skip(1);
    lines
        .enumerate()
        .map(|(i, line)| {
            let cells: Vec<&str> = line.split(',').collect();
            let number = |text: &str| match text.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16).unwrap(),
                None => text.parse().unwrap(),
            };
            let event = if cells[4].is_empty() {
                "fault"
            } else {
                cells[4]
            };
            let addr = (!cells[3].is_empty()).then(|| number(cells[3]));
            let used = !matches!(event, "insert" | "evict");
            (
                cells[0].into(),
                number(cells[1]),
                cells[2].parse().unwrap(),
                i as u64,
                addr.filter(|a| used && *a != 0),
                event.into(),
            )
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn any_table_is_what_it_says(
        cells in proptest::collection::vec(
            ("/[a-z]{1,3}", 0u64..1 << 52, 0u32..1 << 22, any::<Option<u64>>(), proptest::sample::select(vec!["", "fault", "retouch", "lookup", "insert", "evict"]), any::<bool>()),
            0..1500,
        )
    ) {
        let mut text = String::from("path,page,pid,addr,event\n");
        for (path, page, pid, addr, event, hex) in &cells {
            let addr = match (addr, hex) {
                (None, _) => String::new(),
                (Some(addr), true) => format!("{addr:#x}"),
                (Some(addr), false) => addr.to_string(),
            };
            text += &format!("{path},{page},{pid},{addr},{event}\n");
        }
        let found: Vec<_> = rows("csv", &text).unwrap().into_iter()
            .map(|r| (r.path.unwrap(), r.page, r.pid, r.seq, r.addr, r.event)).collect();
        prop_assert_eq!(found, by_hand(&text));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn garbage_is_told_never_swallowed(text in "[a-z0-9,\"{}:\\[\\]\\n\\t -]{0,300}", bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine");
        let good = std::fs::read(testdata("tables/refs.parquet")).unwrap();
        for kind in ["csv", "ndjson", "parquet", "v0", "v0-i386"] {
            for content in [text.clone().into_bytes(), bytes.clone(), format!("page,path\n{text}").into_bytes(), [&good, bytes.as_slice()].concat()] {
                std::fs::write(&file, content).unwrap();
                // No panic, whatever it says.
                let _ = prepare(std::slice::from_ref(&file), by_name(kind), &SETTINGS);
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    // The parquet crate does on about one of 300 of these.
    fn a_damaged_parquet_file_does_not_panic(at in 0.0f64..1.0, change in 1u8.., cut in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine");
        let mut content = std::fs::read(testdata("tables/refs.parquet")).unwrap();
        let at = (content.len() as f64 * at) as usize;
        content[at] ^= change;
        if cut {
            content.remove(at);
        }
        std::fs::write(&file, content).unwrap();
        let _ = prepare(&[file], by_name("parquet"), &SETTINGS);
    }
}

/// Names of the columns of `refs` and a row's values, empty where null, as CSV.
fn as_csv(rows: &[RefRow]) -> String {
    let names: Vec<_> = Table::Refs.columns().iter().map(|c| c.name).collect();
    let mut text = names.join(",") + "\n";
    for r in rows {
        let quoted = |t: &Option<String>| {
            t.as_ref()
                .map_or(String::new(), |t| format!("\"{}\"", t.replace('"', "\"\"")))
        };
        let number = |n: Option<u64>| n.map_or(String::new(), |n| n.to_string());
        text += &[
            r.capture_id.clone(),
            r.seq.to_string(),
            r.ts.to_string(),
            r.cpu.to_string(),
            r.uid.to_string(),
            r.pid.to_string(),
            r.tid.to_string(),
            r.upid.to_string(),
            quoted(&r.comm),
            quoted(&r.path),
            quoted(&r.object_kind),
            r.event.clone(),
            quoted(&r.access),
            r.major.map_or(String::new(), |m| m.to_string()),
            number(r.addr),
            number(r.ip),
            r.object_id.to_string(),
            r.page.to_string(),
            r.page_order.to_string(),
        ]
        .join(",");
        text.push('\n');
    }
    text
}

/// The same as one JSON object a row, nulls said.
fn as_ndjson(rows: &[RefRow]) -> String {
    let line = |r: &RefRow| {
        serde_json::json!({
            "capture_id": r.capture_id, "seq": r.seq, "ts": r.ts, "cpu": r.cpu, "uid": r.uid, "pid": r.pid, "tid": r.tid,
            "upid": r.upid, "comm": r.comm, "path": r.path, "object_kind": r.object_kind, "event": r.event,
            "access": r.access, "major": r.major, "addr": r.addr.map(|a| format!("{a:#x}")), "ip": r.ip,
            "object_id": r.object_id, "page": r.page, "page_order": r.page_order,
        })
    };
    rows.iter().map(|r| line(r).to_string() + "\n").collect()
}

#[test]
fn a_real_capture_exported_and_brought_back_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let one_file = Options {
        partition_by: Some(vec![PartitionKey::Slice]),
        ..small()
    };
    run(&[testdata("demo")], &at("dataset"), &one_file).unwrap();
    let before = read::refs(&at("dataset"));
    assert!(before.len() > 20_000);
    std::fs::write(at("csv"), as_csv(&before)).unwrap();
    std::fs::write(at("ndjson"), as_ndjson(&before)).unwrap();
    // Rows of one slice stand in order of seq in the dataset's own file.
    let manifest = read::manifest(&at("dataset"));
    let files = manifest.files(Table::Refs);
    assert_eq!(files.len(), 1);
    std::fs::copy(at("dataset").join(&files[0].path), at("parquet")).unwrap();

    let plain = |rows: &[RefRow]| -> Vec<RefRow> {
        let nameless = |r: &RefRow| RefRow {
            capture_id: String::new(),
            ..r.clone()
        };
        rows.iter().map(nameless).collect()
    };
    for kind in ["csv", "ndjson", "parquet"] {
        let to = at(&format!("{kind}.ds"));
        ingest(&at(kind), "", &to, &one_file).unwrap();
        let after = read::refs(&to);
        assert_ne!(after[0].capture_id, before[0].capture_id);
        assert!(plain(&after) == plain(&before), "{kind}");
    }
}

#[test]
fn a_table_larger_than_the_memory_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let (file, to) = (
        folder.path().join("mine.csv"),
        folder.path().join("dataset"),
    );
    let n = 1_500_000_u64;
    let mut out = std::io::BufWriter::new(std::fs::File::create(&file).unwrap());
    writeln!(out, "path,page,pid,addr,ip").unwrap();
    for i in 0..n {
        writeln!(
            out,
            "/data/file{},{},{},{:#x},{}",
            i % 50,
            i,
            i % 7 + 1,
            i << 12,
            4096 + i % 999
        )
        .unwrap();
    }
    out.into_inner().unwrap();
    let cap = 24 << 20;
    assert!(n * 64 > 3 * cap && std::fs::metadata(&file).unwrap().len() > 2 * cap);
    let peak = common::peak_of(
        Command::new(env!("CARGO_BIN_EXE_pgtrace-ingest"))
            .arg(&file)
            .arg("--to")
            .arg(&to)
            .args(["--memory", "24MiB", "--threads", "2"]),
    );
    assert!(peak < cap + (48 << 20), "peak {} MiB", peak >> 20);
    assert_eq!(read::manifest(&to).rows(Table::Refs), n);
}

/// The program, with a text on its standard input.
fn program(args: &[&str], stdin: &[u8]) -> (Option<i32>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pgtrace-ingest"))
        .args(args)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    let out = child.wait_with_output().unwrap();
    (out.status.code(), String::from_utf8(out.stderr).unwrap())
}

#[test]
fn the_program_takes_tables_by_name_by_content_and_from_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("dataset");
    let to = to.to_str().unwrap();
    let text = std::fs::read(testdata("tables/refs.csv")).unwrap();
    let file = testdata("tables/refs.csv");
    let file = file.to_str().unwrap();

    let (code, said) = program(&["-", "--from", "csv", "--to", to], &text);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("refs: 9 rows") && said.contains("losses: none"),
        "{said}"
    );
    // The same content in a file, and told by its content, is the same recording.
    let (code, said) = program(&[file, "--to", to], b"");
    assert_eq!(
        (code, said.contains("already ingested: 1 chunks")),
        (Some(0), true),
        "{said}"
    );
    // Twice in one run is once.
    let other = folder.path().join("other");
    let (code, said) = program(&[file, file, "--to", other.to_str().unwrap()], b"");
    assert_eq!((code, said.contains("1 chunks")), (Some(0), true), "{said}");

    let (code, said) = program(&[file, "--from", "ndjson", "--to", to], b"");
    assert_eq!(
        (code, said.contains("refs.csv: row 1:")),
        (Some(2), true),
        "{said}"
    );
    let (code, said) = program(&["-", "--from", "csv", "--to", to], b"page,weather\n");
    assert_eq!(
        (
            code,
            said.contains("standard input: no column of refs is called \"weather\"")
        ),
        (Some(2), true),
        "{said}"
    );
    let (code, said) = program(
        &["-", "--from", "csv", "--ignore-unknown-columns", "--to", to],
        b"addr,weather\n1,rain\n",
    );
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = program(&[file, "--from", "nonsense", "--to", to], b"");
    assert_eq!(
        (code, said.contains("v0-x86-64-be")),
        (Some(2), true),
        "{said}"
    );
    let (code, said) = program(&[".", "--from", "csv", "--to", to], b"");
    assert_eq!(
        (code, said.contains("found a folder")),
        (Some(2), true),
        "{said}"
    );
    let names: String = (0..20_000)
        .map(|i| format!("/a/long/path/number/{i},1\n"))
        .collect();
    let (code, said) = program(
        &["-", "--from", "csv", "--memory", "24MiB", "--to", to],
        format!("path,page\n{names}").as_bytes(),
    );
    assert_eq!(
        (
            code,
            said.contains("are too many for 6291456 bytes, a quarter of the memory limit")
        ),
        (Some(2), true),
        "{said}"
    );
}
