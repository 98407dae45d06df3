//! What is wrong is said clearly, and nothing is made.

use pgtrace_sql::derive::filter::addresses;

use super::place::Place;
use crate::common::pgtrace_sql;

fn fails(place: &Place, args: &[&str], words: &[&str]) {
    let to = place.at("result");
    let mut command = pgtrace_sql();
    command.args(args).arg(&place.data);
    if !args.contains(&"--to") {
        command.arg("--to").arg(&to);
    }
    let out = command.output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{args:?}: {said}");
    assert!(
        out.stdout.is_empty() && !said.contains("panicked"),
        "{said}"
    );
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
    let entries = std::fs::read_dir(place.data.parent().unwrap()).unwrap();
    let left: Vec<_> = entries
        .map(|e| e.unwrap().file_name())
        .filter(|n| n != "data" && n != "full")
        .collect();
    assert!(left.is_empty(), "{args:?}: {left:?}");
}

#[test]
fn what_cannot_be_done_is_said() {
    let place = Place::new();
    let full = place.at("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("letter"), "hello").unwrap();
    let (full, within) = (
        full.to_str().unwrap().to_owned(),
        place.data.join("new").to_str().unwrap().to_owned(),
    );
    let data = place.data.to_str().unwrap().to_owned();
    let cases: [(&[&str], &[&str]); 20] = [
        (
            &["cut", "--time", "5s..2s"],
            &["5s..2s", "not after the second"],
        ),
        (&["cut", "--time", "2s"], &["2s..5s", "found \"2s\""]),
        (
            &["cut", "--time", "soon.."],
            &["expected a time", "found \"soon\""],
        ),
        (&["cut", "--seq", "20..10"], &["not above the second"]),
        (&["cut", "--pid", "3"], &["--pid"]),
        (
            &["filter", "--event", "faults"],
            &["found \"faults\"", "did you mean fault?"],
        ),
        (&["filter", "--kind", "flie"], &["did you mean file?"]),
        (&["filter", "--access", "x"], &["read, write, exec"]),
        (&["filter", "--addr", "9-3"], &["below the second"]),
        (
            &["filter", "--where", "pgae = 3"],
            &["pgae", "did you mean page?"],
        ),
        (
            &["filter", "--where", "page +"],
            &["page +", "syntax error"],
        ),
        (
            &["filter", "--where", "page + 1"],
            &["expected a condition"],
        ),
        (&["filter", "--where", "random() < 0.5"], &["random"]),
        (&["filter", "--where", "count(*) > 3"], &["count"]),
        (&["split", "--by", "piid"], &["did you mean pid?"]),
        (
            &["split", "--by", "seq", "--max-parts", "100"],
            &["more than 100", "--max-parts"],
        ),
        (&["cut", "--to", &full], &["is not empty", "letter"]),
        (&["cut", "--to", &within], &["lies in the dataset"]),
        (
            &["split", "--by", "pid", "--to", &data],
            &["lies in the dataset"],
        ),
        (&["cut", "--to", "/"], &["/"]),
    ];
    for (args, words) in cases {
        fails(&place, args, words);
    }
}

#[test]
fn a_file_that_is_gone_is_named() {
    let place = Place::new();
    let file = "refs/uid=7/pid=3/slice=000004/c1-0.parquet";
    std::fs::remove_file(place.data.join(file)).unwrap();
    fails(&place, &["cut"], &[file, "missing or damaged"]);
    fails(&place, &["filter", "--event", "fault"], &[file]);
    std::fs::write(place.data.join(file), "short").unwrap();
    fails(&place, &["cut"], &[file, "missing or damaged"]);
    fails(&place, &["split", "--by", "path"], &[file]);
}

#[test]
fn address_ranges() {
    assert_eq!(addresses("0x1000-0x2000"), Ok((4096, 8192)));
    for bad in ["", "5", "2-1", "0x-1", "a-b", "1-1"] {
        assert!(
            addresses(bad).is_err_and(|e| e.starts_with("expected ")),
            "{bad}"
        );
    }
}
