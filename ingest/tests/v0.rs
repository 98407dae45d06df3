//! Traces of the 2005 kit, from the frozen entries of `testdata/v0` to rows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};

use common::read;
use common::{run, small};
use pgtrace_ingest::report::Report;
use pgtrace_ingest::schema::Table;
use pgtrace_ingest::source::kind::{Settings, by_name, prepare};

const LAYOUTS: [(&str, usize); 4] = [
    ("v0-i386", 28),
    ("v0-i386-be", 28),
    ("v0-x86-64", 56),
    ("v0-x86-64-be", 56),
];

fn frozen(layout: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/v0");
    std::fs::read(folder.join(format!("{layout}.bin"))).unwrap()
}

/// Ingests bytes as a file called `trace`.
fn ingest(bytes: &[u8], from: &str, folder: &Path) -> Result<(Report, PathBuf), String> {
    let file = folder.join("trace");
    std::fs::write(&file, bytes).unwrap();
    let settings = Settings {
        ignore_unknown_columns: false,
        memory: 64 << 20,
    };
    let prepared = prepare(&[file], by_name(from), &settings).map_err(|e| e.to_string())?;
    let to = folder.join("dataset");
    let report = run(&prepared.raw, &to, &small()).map_err(|e| e.to_string())?;
    Ok((report, to))
}

#[test]
fn each_layout_gives_the_same_rows_said_or_not() {
    for (layout, _) in LAYOUTS {
        let folder = tempfile::tempdir().unwrap();
        let (report, to) = ingest(&frozen(layout), "v0", folder.path()).unwrap();
        assert_eq!((report.captures[0].rows, report.has_losses()), (7, false));
        let rows: Vec<_> = read::refs(&to)
            .into_iter()
            .map(|r| {
                assert_eq!((r.event.as_str(), r.path, r.comm), ("fault", None, None));
                (
                    r.ts / 1_000_000,
                    r.pid,
                    r.object_id,
                    r.page,
                    r.access,
                    r.addr,
                )
            })
            .collect();
        let some = |text: &str| Some(text.to_string());
        let expected = [
            (4_294_967_280, 100, 1, 0, some("exec"), None),
            (4_294_967_288, 100, 1, 3, some("exec"), None),
            (
                4_294_967_295,
                100,
                2,
                0x8048,
                some("write"),
                Some(0x0804_8000),
            ),
            (
                4_294_967_300,
                101,
                3,
                0x8048,
                some("write"),
                Some(0x0804_8000),
            ),
            (4_294_967_300, 101, 4, 1_048_575, some("read"), None),
            (4_294_967_312, 4_194_303, 5, 0, some("write"), None),
            (4_294_967_312, 101, 1, 0, None, None),
        ];
        assert_eq!(rows, expected, "{layout}");
        let batch = &read::table(&to, Table::Objects)[0];
        let dev = |i| read::text(batch, "dev", i);
        assert_eq!((dev(0), dev(1), dev(4)), (some("8:1"), None, some("8:2")));
        // Said, it is the same recording.
        let (again, _) = ingest(&frozen(layout), layout, folder.path()).unwrap();
        assert_eq!((again.already, again.captures.len()), (1, 0));
    }
}

#[test]
fn a_cut_end_is_a_loss() {
    for (layout, len) in LAYOUTS {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = frozen(layout);
        bytes.truncate(7 * len - 1);
        let (report, to) = ingest(&bytes, "v0", folder.path()).unwrap();
        assert!(report.has_losses());
        assert_eq!(
            (report.captures[0].rows, report.captures[0].emitted),
            (6, Some(7))
        );
        assert_eq!(
            read::losses(&to),
            [(0, Some(1), "truncated".into(), "refs".into())]
        );
        let detail = read::text(&read::table(&to, Table::Losses)[0], "detail", 0).unwrap();
        let (at, found) = (6 * len, len - 1);
        assert_eq!(
            detail,
            format!(
                "sequence numbers 6 to 6: trace: byte {at}: expected an entry of {len} bytes, found only {found}"
            )
        );
    }
}

#[test]
fn a_bad_entry_costs_itself_only_and_stands_where_it_stood() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = frozen("v0-i386");
    bytes[2 * 28 + 20..2 * 28 + 24].fill(0xff); // the third one's pid
    let (report, to) = ingest(&bytes, "v0-i386", folder.path()).unwrap();
    assert_eq!((report.captures[0].rows, report.has_losses()), (6, true));
    let batch = &read::table(&to, Table::Losses)[0];
    assert_eq!(
        read::losses(&to),
        [(0, Some(1), "corrupt".into(), "refs".into())]
    );
    assert_eq!(
        read::text(batch, "detail", 0).unwrap(),
        "sequence numbers 2 to 2: trace: byte 56: expected pid in 1..=4194303, found 4294967295"
    );
    let ms = |name| read::time(batch, name, 0).unwrap() / 1_000_000;
    assert_eq!((ms("from_ts"), ms("to_ts")), (4_294_967_288, 4_294_967_300));
}

#[test]
fn what_cannot_be_told_apart_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |bytes: &[u8], from, words: &[&str]| {
        let error = ingest(bytes, from, folder.path()).expect_err("refused");
        for word in words {
            assert!(error.contains(word), "expected {word:?} in {error}");
        }
    };
    // Bytes that read the same from both ends: pid 0x00010100 in an entry of 28 bytes.
    let mut both = [0; 28];
    both[20..24].copy_from_slice(&[0, 1, 1, 0]);
    refused(
        &both,
        "v0",
        &[
            "trace: expected v0 entries",
            "as v0-i386 and as v0-i386-be",
            "--from",
        ],
    );
    refused(
        &[0xff; 560],
        "v0",
        &["0 of 20 as v0-i386", "0 of 10 as v0-x86-64-be"],
    );
    refused(b"short", "v0", &["0 of 0 as v0-i386"]);
    refused(b"", "v0-i386", &["an empty file"]);
    // Said, the ambiguous one is taken for what it is said to be.
    let (report, _) = ingest(&both, "v0-i386-be", folder.path()).unwrap();
    assert_eq!(report.captures[0].rows, 1);
}
