//! Base tables: which files are opened, what is answered without any, how rows are ordered.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;
use std::path::Path;

use common::{Fabricator, Row, open, reference, rows};
use pgtrace_ingest::schema::Table;
use pgtrace_sql::views::View;
use serde_json::json;

/// Capture c1: pids 1, 2, 3 in turn, a file of ten pages each, 30 references in slices of 10 rows; capture c2: pid 4.
fn many() -> Vec<Row> {
    let one = (0..30u64).map(|i| {
        let pid = 1 + i % 3;
        reference(&json!({"seq": i, "pid": pid, "object_id": pid, "page": 100 * pid + i / 3, "path": format!("/f{pid}")}))
    });
    let two = (0..5u64).map(|i| {
        reference(
            &json!({"capture_id": "c2", "seq": i, "pid": 4, "uid": 7, "object_id": 1, "page": i}),
        )
    });
    one.chain(two).collect()
}

/// A dataset of `rows`, in slices of `slice` of them.
fn write(root: &Path, rows: &[Row], slice: u64) {
    let mut made = Fabricator::new(root);
    made.refs(rows, slice);
    made.captures(rows, 0);
    made.commit();
}

fn write_many(root: &Path) {
    write(root, &many(), 10);
}

/// Files of refs below `root`.
fn data_files(root: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.join("refs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path)
            } else {
                found.push(path)
            }
        }
    }
    found
}

/// (files of refs, files pruned) as EXPLAIN ANALYZE tells.
async fn pruned(session: &pgtrace_sql::session::Session, filter: &str) -> (usize, usize) {
    let plan = rows(
        session,
        &format!("EXPLAIN ANALYZE SELECT seq FROM refs WHERE {filter}"),
    )
    .await;
    let text = plan.into_iter().flatten().collect::<Vec<_>>().join("\n");
    let number = |name: &str| -> usize {
        let rest = text
            .split_once(&format!("{name}="))
            .unwrap_or_else(|| panic!("no {name} in\n{text}"))
            .1;
        rest.split(|c: char| !c.is_ascii_digit())
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    (number("manifest_files"), number("manifest_files_pruned"))
}

#[tokio::test]
async fn a_filter_opens_only_its_files() {
    let folder = tempfile::tempdir().unwrap();
    write_many(folder.path());
    assert_eq!(data_files(folder.path()).len(), 10); // 3 pids in 3 slices, and c2
    for file in data_files(folder.path())
        .iter()
        .filter(|f| !f.to_string_lossy().contains("pid=2/"))
    {
        fs::remove_file(file).unwrap();
    }
    let session = open(folder.path()).await;
    assert_eq!(
        rows(
            &session,
            "SELECT count(*), sum(page) FROM refs WHERE pid = 2"
        )
        .await,
        [["10", "2045"]]
    );
    // The same by the pages of its object, and by the views upon refs.
    assert_eq!(
        rows(
            &session,
            "SELECT count(*) FROM refs WHERE page BETWEEN 200 AND 203"
        )
        .await,
        [["4"]]
    );
    assert_eq!(
        rows(
            &session,
            "SELECT count(*) FROM page_references WHERE object_id = 2"
        )
        .await,
        [["10"]]
    );
    let error = session
        .query("SELECT count(*) FROM refs WHERE pid = 1 AND event = 'fault'")
        .await;
    let error = match error {
        Ok(stream) => futures::TryStreamExt::try_collect::<Vec<_>>(stream)
            .await
            .unwrap_err()
            .to_string(),
        Err(e) => e.to_string(),
    };
    assert!(error.contains("pid=1"), "{error}");
}

#[tokio::test]
async fn every_figure_of_the_manifest_prunes() {
    let folder = tempfile::tempdir().unwrap();
    write_many(folder.path());
    let session = open(folder.path()).await;
    for (filter, left) in [
        ("pid = 3", 3),
        ("pid IN (1, 4)", 4),
        ("uid = 7", 1),
        ("seq >= 20", 3),
        ("seq BETWEEN 10 AND 12 AND pid < 3", 2),
        ("capture_id = 'c2'", 1),
        ("object_id = 1", 4),
        ("object_id = 1 AND page < 5", 1), // only c2's object 1 has such pages
        ("page = 205", 1),
        ("ts < to_timestamp_nanos(1700000000000000000 + 5000)", 4),
        ("path = '/f1'", 10), // the manifest says nothing of paths: the scan decides
    ] {
        assert_eq!(pruned(&session, filter).await, (10, 10 - left), "{filter}");
        // Pruned or not, the answer is that of a plain scan.
        let all = many();
        let sql = format!("SELECT count(*) FROM refs WHERE {filter}");
        let found: usize = rows(&session, &sql).await[0][0].parse().unwrap();
        let number = |r: &Row, c: &str| r[c].as_u64().unwrap();
        let expected = all.iter().filter(|r| match filter {
            "pid = 3" => number(r, "pid") == 3,
            "pid IN (1, 4)" => [1, 4].contains(&number(r, "pid")),
            "uid = 7" => number(r, "uid") == 7,
            "seq >= 20" => number(r, "seq") >= 20,
            "seq BETWEEN 10 AND 12 AND pid < 3" => {
                (10..=12).contains(&number(r, "seq")) && number(r, "pid") < 3
            }
            "capture_id = 'c2'" => r["capture_id"] == "c2",
            "object_id = 1" => number(r, "object_id") == 1,
            "object_id = 1 AND page < 5" => number(r, "object_id") == 1 && number(r, "page") < 5,
            "page = 205" => number(r, "page") == 205,
            "path = '/f1'" => r["path"] == "/f1",
            _ => r["ts"].as_i64().unwrap() < common::START + 5000,
        });
        assert_eq!(found, expected.count(), "{filter}");
    }
}

#[tokio::test]
async fn counts_and_bounds_need_no_file() {
    let folder = tempfile::tempdir().unwrap();
    write_many(folder.path());
    fs::remove_dir_all(folder.path().join("refs")).unwrap();
    let session = open(folder.path()).await;
    assert_eq!(rows(&session, "SELECT count(*) FROM refs").await, [["35"]]);
    assert_eq!(
        rows(&session, "SELECT min(seq), max(seq), max(pid) FROM refs").await,
        [["0", "29", "4"]]
    );
}

#[tokio::test]
async fn rows_come_in_order_without_a_sort() {
    let folder = tempfile::tempdir().unwrap();
    write_many(folder.path());
    let session = open(folder.path()).await;
    for sql in [
        "SELECT capture_id, seq FROM refs ORDER BY capture_id, seq",
        "SELECT seq FROM refs WHERE capture_id = 'c1' ORDER BY seq",
    ] {
        let plan = rows(&session, &format!("EXPLAIN {sql}"))
            .await
            .into_iter()
            .flatten()
            .collect::<String>();
        assert!(!plan.contains("SortExec"), "{plan}");
        let found = rows(&session, sql).await;
        let mut seqs: Vec<(String, u64)> = found
            .iter()
            .map(|r| (r[..r.len() - 1].concat(), r[r.len() - 1].parse().unwrap()))
            .collect();
        let unsorted = seqs.clone();
        seqs.sort();
        assert_eq!(unsorted, seqs);
        assert!(seqs.len() >= 30);
    }
}

#[tokio::test]
async fn many_overlapping_files_are_sorted_by_the_engine() {
    let folder = tempfile::tempdir().unwrap();
    let all: Vec<Row> = (0..200u64)
        .map(|i| reference(&json!({"seq": i, "pid": 1 + i * 7 % 40})))
        .collect();
    common::dataset(folder.path(), &all, 0);
    let session = open(folder.path()).await;
    let found = rows(&session, "SELECT seq FROM refs ORDER BY seq").await;
    assert!(
        found
            .iter()
            .enumerate()
            .all(|(i, row)| row[0] == i.to_string())
    );
    assert_eq!(found.len(), 200);
}

#[tokio::test]
async fn an_empty_dataset_has_its_tables_and_views() {
    let folder = tempfile::tempdir().unwrap();
    Fabricator::new(folder.path()).commit();
    let session = open(folder.path()).await;
    for table in Table::ALL {
        assert_eq!(
            rows(&session, &format!("SELECT count(*) FROM {table}")).await,
            [["0"]],
            "{table}"
        );
        let frame = session.context().table(table.name()).await.unwrap();
        assert_eq!(
            frame.schema().fields(),
            table.arrow_schema().fields(),
            "{table}"
        );
    }
    // Some cannot do without arguments.
    let callable = |view: &&View| view.arguments.iter().all(|a| a.default.is_some());
    for view in session.views().iter().filter(callable) {
        assert!(
            rows(&session, &format!("SELECT * FROM {}", view.name))
                .await
                .is_empty(),
            "{}",
            view.name
        );
    }
}

#[tokio::test]
async fn a_file_that_the_manifest_does_not_name_is_no_data() {
    let folder = tempfile::tempdir().unwrap();
    write_many(folder.path());
    let file = data_files(folder.path()).remove(0);
    fs::copy(&file, file.with_file_name("litter.parquet")).unwrap();
    fs::write(
        folder.path().join("refs/uid=1000/pid=1/junk.parquet"),
        "no parquet",
    )
    .unwrap();
    let session = open(folder.path()).await;
    assert_eq!(
        rows(
            &session,
            "SELECT count(seq), count(DISTINCT upid) FROM refs WHERE page >= 0"
        )
        .await,
        [["35", "4"]]
    );
}

#[tokio::test]
async fn what_is_true_of_every_row_is_asked_of_none() {
    let folder = tempfile::tempdir().unwrap();
    // Every third is a look-up, of which pid 3 alone has any; major is null of it.
    let all: Vec<Row> = (0..30u64)
        .map(|i| {
            let pid = 1 + i % 3;
            let event = ["fault", "retouch", "lookup"][pid as usize - 1];
            reference(&json!({"seq": i, "pid": pid, "object_id": pid, "page": i, "event": event, "major": null}))
        })
        .collect();
    write(folder.path(), &all, 10);
    let session = open(folder.path()).await;
    // filter, whether it is left out of the plan, files left of nine, rows
    for (filter, left_out, files, count) in [
        ("event IN ('fault', 'retouch', 'lookup')", true, 9, 30),
        (
            "event IN ('fault', 'retouch', 'lookup', 'insert')",
            true,
            9,
            30,
        ),
        ("event <> 'evict'", true, 9, 30),
        ("pid < 4 AND seq >= 0 AND page <= 29", true, 9, 30),
        ("pid < 3", false, 6, 20),
        ("event IN ('fault', 'retouch')", false, 6, 20),
        ("event = 'lookup'", false, 3, 10),
        ("event <> 'lookup'", false, 6, 20),
        ("event = 'insert'", false, 0, 0),
        ("page <= 28", false, 9, 29),
        // Null is not true.
        ("major IS NULL", false, 9, 30),
        ("major OR pid < 4", false, 9, 30),
        ("major OR pid > 4", false, 9, 0),
        ("random() >= 0 AND pid > 0", false, 9, 30),
    ] {
        let counted = rows(
            &session,
            &format!("SELECT count(seq) FROM refs WHERE {filter}"),
        )
        .await;
        assert_eq!(counted, [[count.to_string()]], "{filter}");
        let plan = rows(
            &session,
            &format!("EXPLAIN SELECT ts FROM refs WHERE {filter}"),
        )
        .await;
        let plan = plan.into_iter().flatten().collect::<Vec<_>>().join("\n");
        let evaluated = plan.contains("predicate=") || plan.contains("FilterExec");
        assert!(files == 0 || evaluated != left_out, "{filter}\n{plan}");
        if files > 0 && !left_out {
            assert_eq!(pruned(&session, filter).await, (9, 9 - files), "{filter}");
        }
    }
}

#[tokio::test]
async fn grouping_by_texts_counts_what_counting_counts() {
    let folder = tempfile::tempdir().unwrap();
    let all: Vec<Row> = (0..9_000u64)
        .map(|i| {
            // Each slice has texts of its own, in an order of its own; some have none.
            let path = (i % 7 > 0).then(|| format!("/f{}", (i * i + i / 3000) % 11));
            let access = ["read", "write", "exec"][(i % 5 % 3) as usize];
            reference(&json!({"seq": i, "pid": 1 + i % 2, "page": i % 100, "path": path, "access": access}))
        })
        .collect();
    write(folder.path(), &all, 3000);
    let session = open(folder.path()).await;
    let session = &session;
    let plan = |sql: String| async move {
        let plan = rows(session, &format!("EXPLAIN {sql}")).await;
        plan.into_iter().flatten().collect::<Vec<_>>().join("\n")
    };
    let text = |r: &Row, c: &str| r[c].as_str().unwrap_or("NULL").to_owned();
    let count = |key: &dyn Fn(&Row) -> Option<Vec<String>>| {
        let mut counts = std::collections::BTreeMap::<Vec<String>, (u64, u64)>::new();
        for row in &all {
            if let Some(key) = key(row) {
                let (n, sum) = counts.entry(key).or_default();
                *n += 1;
                *sum += row["page"].as_u64().unwrap();
            }
        }
        let rows = counts.into_iter().map(|(mut key, (n, sum))| {
            key.extend([n.to_string(), sum.to_string()]);
            key
        });
        rows.collect::<Vec<Vec<String>>>()
    };
    for (group, rest, expected) in [
        ("path", "", count(&|r| Some(vec![text(r, "path")]))),
        (
            "path, access",
            "",
            count(&|r| Some(vec![text(r, "path"), text(r, "access")])),
        ),
        (
            "access, pid, path",
            "",
            count(&|r| {
                Some(vec![
                    text(r, "access"),
                    r["pid"].to_string(),
                    text(r, "path"),
                ])
            }),
        ),
        (
            "path",
            "WHERE path = '/f3'",
            count(&|r| (r["path"] == "/f3").then(|| vec![text(r, "path")])),
        ),
        (
            "path",
            "HAVING path > '/f3'",
            count(&|r| {
                (!r["path"].is_null() && text(r, "path").as_str() > "/f3")
                    .then(|| vec![text(r, "path")])
            }),
        ),
        (
            "path",
            "HAVING count(*) > 900",
            count(&|r| Some(vec![text(r, "path")]))
                .into_iter()
                .filter(|row| row[1].parse::<u64>().unwrap() > 900)
                .collect(),
        ),
        (
            "path",
            "HAVING path IS NULL",
            count(&|r| r["path"].is_null().then(|| vec![text(r, "path")])),
        ),
    ] {
        let (filter, having) = if rest.starts_with("WHERE") {
            (rest, "")
        } else {
            ("", rest)
        };
        let sql = format!(
            "SELECT {group}, count(*), sum(page) FROM refs {filter} GROUP BY {group} {having}"
        );
        let mut found = rows(session, &sql).await;
        found.sort();
        let mut expected = expected;
        expected.sort();
        assert_eq!(found, expected, "{sql}");
        assert!(plan(sql.clone()).await.contains("_number("), "{sql}");
        // One text, and nothing but rows to count: nobody looks at each row.
        let rows_only = sql.replace(", sum(page)", "");
        let without = |n: usize| {
            let columns = expected.iter().map(|row| row[..row.len() - n].to_vec());
            columns.collect::<Vec<_>>()
        };
        let mut found = rows(session, &rows_only).await;
        found.sort();
        assert_eq!(found, without(1), "{rows_only}");
        let plan_of_counts = plan(rows_only.clone()).await;
        assert_eq!(
            plan_of_counts.contains("_counts("),
            group == "path",
            "{rows_only}: {plan_of_counts}"
        );
        if !having.contains("count") {
            let distinct =
                format!("SELECT DISTINCT {group} FROM (SELECT * FROM refs {filter}) t {having}")
                    .replace("HAVING", "WHERE");
            let mut found = rows(session, &distinct).await;
            found.sort();
            assert_eq!(found, without(2), "{distinct}");
        }
    }
    let none = "SELECT path, count(*) FROM refs WHERE page > 1000 GROUP BY path";
    assert!(rows(session, none).await.is_empty());
    let nested = "SELECT sum(n) FROM (SELECT path, count(1) n FROM refs GROUP BY path) WHERE path IN ('/f3', '/f5') AND n > 0";
    let both = all
        .iter()
        .filter(|r| r["path"] == "/f3" || r["path"] == "/f5");
    assert_eq!(
        rows(session, nested).await,
        [[both.count().to_string()]],
        "{nested}"
    );
    for not_rows in [
        "SELECT path, count(access) FROM refs GROUP BY path",
        "SELECT path, count(DISTINCT pid) FROM refs GROUP BY path",
        "SELECT path, count(*) FILTER (WHERE page > 50) FROM refs GROUP BY path",
    ] {
        let plan = plan(not_rows.to_owned()).await;
        assert!(!plan.contains("_counts("), "{not_rows}: {plan}");
    }
    // Upper case texts that differ only in it, an alias, all sets at once, and distinct texts.
    for (sql, expected) in [
        ("SELECT count(DISTINCT path) FROM refs", "10"),
        (
            "SELECT count(*) FROM (SELECT DISTINCT path, access FROM refs)",
            "33",
        ),
        (
            "SELECT sum(n) FROM (SELECT path p, count(*) n FROM refs GROUP BY p)",
            "9000",
        ),
        (
            "SELECT sum(n) FROM (SELECT path, access, count(*) n FROM refs GROUP BY ROLLUP (path, access))",
            "27000",
        ),
        (
            "SELECT count(*) FROM (SELECT path FROM refs GROUP BY path) a JOIN (SELECT path FROM refs GROUP BY path) b USING (path)",
            "10",
        ),
    ] {
        let distinct = |columns: &[&str]| {
            let all: std::collections::HashSet<Vec<String>> = all
                .iter()
                .map(|r| columns.iter().map(|c| text(r, c)).collect())
                .collect();
            all.len().to_string()
        };
        let expected = match expected {
            "33" => distinct(&["path", "access"]),
            "10" => (distinct(&["path"]).parse::<u64>().unwrap() - 1).to_string(), // null counts as none
            other => other.to_owned(),
        };
        assert_eq!(rows(session, sql).await, [[expected]], "{sql}");
    }
}
