//! `cut` and `filter`: results against brute force over the rows themselves, what is shared and what is written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "derive/bad.rs"]
mod bad;
mod common;
#[path = "derive/kill.rs"]
mod kill;
#[path = "derive/place.rs"]
mod place;
#[path = "derive/split.rs"]
mod split;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use common::{START, pgtrace_sql};
use pgtrace_ingest::schema::Table;
use place::{Place, done, many, number, read, same, text};

/// A filter, and whether a row is to be kept.
type Asked<'a> = (&'a [&'a str], fn(&common::Row) -> bool);

const ASKED: [Asked<'_>; 24] = [
    (&["cut", "--time", "..", "--seq", ".."], |_| true),
    (&["cut", "--seq", "100..300"], |r| {
        (100..300).contains(&number(r, "seq"))
    }),
    (&["cut", "--seq", "..1"], |r| number(r, "seq") < 1),
    (&["cut", "--seq", "950.."], |r| number(r, "seq") >= 950),
    (&["cut", "--time", "100us..300us"], |r| {
        (100_000..300_000).contains(&since(r))
    }),
    (&["cut", "--time", "300us.."], |r| since(r) >= 300_000),
    (&["cut", "--time", "..2023-11-14T22:13:20.0005Z"], |r| {
        number(r, "ts") < START as u64 + 500_000
    }),
    (&["cut", "--time", "100us..", "--seq", "..200"], |r| {
        since(r) >= 100_000 && number(r, "seq") < 200
    }),
    (&["filter", "--pid", "3"], |r| number(r, "pid") == 3),
    (&["filter", "--pid", "1,4", "--seq", "10..700"], |r| {
        [1, 4].contains(&number(r, "pid")) && (10..700).contains(&number(r, "seq"))
    }),
    (&["filter", "--tid", "4"], |r| number(r, "tid") == 4),
    (&["filter", "--uid", "7"], |r| number(r, "uid") == 7),
    (&["filter", "--event", "retouch,insert"], |r| {
        ["retouch", "insert"].contains(&text(r, "event"))
    }),
    (&["filter", "--kind", "anon"], |r| {
        text(r, "object_kind") == "anon"
    }),
    (&["filter", "--path", "/data/a_1"], |r| {
        text(r, "path") == "/data/a_1"
    }),
    (&["filter", "--path", "/data/a_?"], |r| {
        text(r, "path").starts_with("/data/a_")
    }),
    (&["filter", "--path", "*a%*", "--path", "/lib/*"], |r| {
        text(r, "path").contains("a%") || text(r, "path").starts_with("/lib/")
    }),
    (&["filter", "--comm", "w*k"], |r| text(r, "comm") == "work"),
    (&["filter", "--access", "write"], |r| {
        text(r, "access") == "write"
    }),
    (&["filter", "--addr", "0x5000-0x9000"], |r| {
        (0x5000..0x9000).contains(&number(r, "addr"))
    }),
    (
        &["filter", "--where", "page % 7 = 3 OR access IS NULL"],
        |r| number(r, "page") % 7 == 3 || r["access"].is_null(),
    ),
    (&["filter", "--where", "cwd = '/home/3'"], |r| {
        number(r, "pid") == 3
    }),
    (
        &["filter", "--where", "slice = 2", "--where", "uid = 1000"],
        |r| number(r, "seq") / 100 == 2 && number(r, "uid") == 1000,
    ),
    (
        &["filter", "--where", "capture_id = 'c2'", "--kind", "file"],
        |r| text(r, "capture_id") == "c2" && text(r, "object_kind") == "file",
    ),
];

/// Ns since the capture's start.
fn since(row: &common::Row) -> u64 {
    let start = START as u64
        + if text(row, "capture_id") == "c2" {
            50_000
        } else {
            0
        };
    number(row, "ts") - start
}

#[test]
fn results_are_the_rows_that_are_so_and_open_again() {
    let place = Place::new();
    let all = many();
    for (i, (args, so)) in ASKED.iter().enumerate() {
        let to = place.at(&format!("{i}"));
        let code = place.run(args, &to).0;
        let expected: Vec<_> = all.iter().filter(|r| so(r)).cloned().collect();
        same(&read(&to, Table::Refs), &expected, &format!("{args:?}"));
        let lost: u64 = read(&to, Table::Losses)
            .iter()
            .map(|r| number(r, "count"))
            .sum();
        assert_eq!(code, i32::from(lost > 0), "{args:?}");
        place.check(&to, &expected, &format!("{args:?}"));
    }
}

#[test]
fn what_need_not_be_written_is_shared() {
    let place = Place::new();
    let inodes = |root: &Path| -> BTreeMap<u64, String> {
        let files = place::files(root);
        let files = files.iter().filter(|p| p.ends_with("parquet"));
        files
            .map(|p| (std::fs::metadata(root.join(p)).unwrap().ino(), p.clone()))
            .collect()
    };
    let source = inodes(&place.data);
    // Everything: every file, and nothing else.
    let to = place.at("all");
    place.run(&["cut"], &to);
    assert_eq!(inodes(&to), source);
    // A process: its files are its own.
    let to = place.at("pid");
    let (_, said) = place.run(&["filter", "--pid", "3"], &to);
    let refs = |root: &Path| -> BTreeSet<u64> {
        let inodes = inodes(root).into_iter();
        inodes
            .filter(|(_, p)| p.starts_with("refs/"))
            .map(|(i, _)| i)
            .collect()
    };
    let of_pid = source.iter().filter(|(_, p)| p.contains("/pid=3/"));
    assert_eq!(refs(&to), of_pid.map(|(i, _)| *i).collect(), "{said}");
    // Whole files within a range are shared, only those at its ends are written.
    let to = place.at("seq");
    place.run(&["cut", "--seq", "150..850"], &to);
    let within = |p: &str| (2..8).any(|slice| p.contains(&format!("slice=00000{slice}/")));
    let (shared, written): (Vec<_>, Vec<_>) = inodes(&to)
        .into_iter()
        .filter(|(_, p)| p.starts_with("refs/"))
        .partition(|(i, _)| source.contains_key(i));
    assert!(
        shared.iter().all(|(_, p)| within(p)) && shared.len() > 20,
        "{shared:?}"
    );
    assert!(
        written.iter().all(|(_, p)| !within(p)) && !written.is_empty(),
        "{written:?}"
    );
    // A condition that no figure in the manifest decides.
    let to = place.at("where");
    place.run(&["filter", "--comm", "work", "--seq", "..100"], &to);
    assert!(!refs(&to).is_empty() && refs(&to).iter().all(|i| source.contains_key(i)));
    // A real copy.
    let to = place.at("copy");
    let (_, said) = place.run(&["cut", "--copy"], &to);
    assert!(
        inodes(&to).keys().all(|i| !source.contains_key(i)),
        "{said}"
    );
    same(&read(&to, Table::Refs), &many(), "copy");
    // Each has its own names for the files.
    std::fs::remove_dir_all(&place.data).unwrap();
    same(
        &read(&place.at("all"), Table::Refs),
        &many(),
        "without the source",
    );
}

#[test]
fn a_cut_of_a_cut_is_the_cut_of_both() {
    let place = Place::new();
    let (a, b, both) = (place.at("a"), place.at("b"), place.at("both"));
    place.run(&["cut", "--time", "100us..700us"], &a);
    done(
        pgtrace_sql()
            .args(["cut", "--time", "200us..", "--to"])
            .arg(&b)
            .arg(&a),
    );
    place.run(&["cut", "--time", "200us..700us"], &both);
    for table in Table::ALL {
        same(&read(&b, table), &read(&both, table), table.name());
    }
}

#[test]
fn the_views_of_a_filter_are_those_of_its_rows() {
    let place = Place::new();
    let to = place.at("filtered");
    place.run(&["filter", "--path", "/data/*", "--seq", "100..900"], &to);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ask = |root: &Path, sql: &str| {
        runtime.block_on(async {
            let session = common::open(root).await;
            common::rows(&session, sql).await
        })
    };
    // The gaps of a page's references, by hand.
    let kept = many().into_iter().filter(|r| {
        text(r, "path").starts_with("/data/") && (100..900).contains(&number(r, "seq"))
    });
    let mut pages: BTreeMap<(String, u64, u64), Vec<u64>> = BTreeMap::new();
    for r in kept.filter(|r| !["insert", "evict"].contains(&text(r, "event"))) {
        let page = (
            text(&r, "capture_id").to_owned(),
            number(&r, "object_id"),
            number(&r, "page"),
        );
        pages.entry(page).or_default().push(number(&r, "seq"));
    }
    let expected: Vec<Vec<String>> = pages
        .iter()
        .filter(|(_, seqs)| seqs.len() > 1)
        .map(|((c, o, p), seqs)| {
            let gaps = (seqs.iter().max().unwrap() - seqs.iter().min().unwrap()) as f64;
            let mean = gaps / (seqs.len() - 1) as f64;
            vec![
                c.clone(),
                o.to_string(),
                p.to_string(),
                seqs.len().to_string(),
                format!("{:.3}", mean),
            ]
        })
        .collect();
    let found = ask(
        &to,
        "SELECT capture_id, object_id, page, refs, gap_mean FROM page_irf ORDER BY capture_id, object_id, page",
    );
    let found: Vec<Vec<String>> = found
        .into_iter()
        .map(|mut r| {
            let mean: f64 = r[4].parse().unwrap();
            r[4] = format!("{mean:.3}");
            r
        })
        .collect();
    assert!(expected.len() > 30);
    assert_eq!(found, expected);
    assert_eq!(
        ask(
            &to,
            "SELECT count(*) FROM hot_files WHERE path NOT LIKE '/data/%'"
        ),
        [["0"]]
    );
}

#[test]
fn in_sql_it_is_the_same() {
    let place = Place::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ask = |sql: &str| {
        runtime.block_on(async {
            let session = common::open(&place.data).await;
            common::rows(&session, sql).await
        })
    };
    let all = many();
    let count =
        |so: &dyn Fn(&common::Row) -> bool| [[all.iter().filter(|r| so(r)).count().to_string()]];
    assert_eq!(
        ask("SELECT count(*) FROM cut('100us', '300us')"),
        count(&|r| (100_000..300_000).contains(&since(r)))
    );
    assert_eq!(ask("SELECT count(*) FROM cut(NULL, '')"), count(&|_| true));
    assert_eq!(
        ask("SELECT count(*) FROM cut(TIMESTAMP '2023-11-14T22:13:20.0005Z', NULL) WHERE pid = 3"),
        count(&|r| number(r, "ts") >= START as u64 + 500_000 && number(r, "pid") == 3)
    );
    assert_eq!(
        ask(
            "SELECT count(*) FROM cut_seq(10, 5 * 6) c JOIN cut_seq(20, NULL) d USING (capture_id, seq)"
        ),
        count(&|r| (20..30).contains(&number(r, "seq")))
    );
    // Files outside are not opened.
    let plan = ask("EXPLAIN SELECT page FROM cut_seq(200, 300)")
        .concat()
        .concat();
    assert!(
        plan.contains("slice=000002") && !plan.contains("slice=000003"),
        "{plan}"
    );
    let plan = ask("EXPLAIN SELECT page FROM cut('100us', '150us')")
        .concat()
        .concat();
    assert!(
        plan.contains("slice=000001") && !plan.contains("slice=000005"),
        "{plan}"
    );
}
