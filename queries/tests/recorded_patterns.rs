//! The classification on a real recording: the module recorded labelled strings (`kmod/vm/workloads/patterns.c`), and the
//! verdicts are held against the labels that the names of the files tell.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use common::{open, rows};
use pgtrace_ingest::pipeline;
use pgtrace_locality::patterns::Pattern;
use pgtrace_sql::session::Session;

/// The recording, and beside it the truth: a line a file, its name and the pages that were referenced.
fn recording() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/patterns")
}

/// The files that were referenced on purpose; the program's own are recorded, too.
const OURS: &str = "(path LIKE '%-read.dat' OR path LIKE '%-mmap.dat')";
/// References to a file in a window from which its pattern shows: two rounds of the loop.
const ENOUGH: usize = 300;

/// `SET/LABEL-WAY.dat`, as in the truth.
fn name(path: &str) -> String {
    let parts: Vec<&str> = path.rsplitn(3, '/').collect();
    format!("{}/{}", parts[1], parts[0])
}

fn label(name: &str) -> &str {
    let (_, file) = name.split_once('/').unwrap();
    file.rsplit_once('-').unwrap().0
}

fn truth() -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(recording().join("truth")).unwrap();
    let line = |line: &str| {
        let mut words = line.split(' ').map(str::to_owned);
        (words.next().unwrap(), words.collect())
    };
    text.lines().map(line).collect()
}

/// Each file has a verdict, at least 95 % of all are right, and so are most of each label.
async fn verdicts(session: &Session, view: &str, enough: usize) {
    let sql = format!(
        "SELECT path, pattern, refs, confidence, mean_rank, shuffled_rank, lost FROM {view} WHERE {OURS} AND refs >= {enough}"
    );
    let mut tally: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for row in rows(session, &sql).await {
        let name = name(&row[0]);
        let right = label(&name) == row[1];
        let (rights, all) = tally.entry(label(&name).to_owned()).or_default();
        *rights += usize::from(right);
        *all += 1;
        assert_eq!(row[6], "0", "{name}: references were lost");
        if !right {
            wrong.push(row.join(" "));
        }
        seen.insert(name);
    }
    assert_eq!(
        seen,
        truth().into_keys().collect(),
        "{view}: files with verdicts"
    );
    let all: usize = tally.values().map(|(_, all)| all).sum();
    assert!(
        wrong.len() * 20 <= all,
        "{view}: {} of {all} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    for pattern in Pattern::ALL {
        let (right, all) = tally.get(pattern.name()).copied().unwrap_or_default();
        assert!(
            pattern == Pattern::Unknown || 2 * right > all,
            "{view}: {} of {all} {}:\n{}",
            right,
            pattern.name(),
            wrong.join("\n")
        );
    }
}

/// What was read is all there, what was mapped is there but for what a FIFO hides.
async fn strings(session: &Session) {
    let sql = format!("SELECT path, page FROM page_references WHERE {OURS} ORDER BY seq");
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for mut row in rows(session, &sql).await {
        let page = row.pop().unwrap();
        found.entry(name(&row[0])).or_default().push(page);
    }
    for (name, pages) in truth() {
        let recorded = &found[&name];
        if name.ends_with("-read.dat") || pages.iter().collect::<BTreeSet<_>>().len() == pages.len()
        {
            assert_eq!(*recorded, pages, "{name}");
            continue;
        }
        let mut rest = pages.iter();
        let in_order = recorded.iter().all(|page| rest.any(|other| other == page));
        assert!(in_order, "{name}: recorded what was not referenced");
        assert!(recorded.len() * 2 > pages.len(), "{name}: hardly recorded");
    }
}

#[test]
fn verdicts_on_a_real_recording_are_the_labels() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = folder.path().join("dataset");
    pipeline::ingest(
        &[recording()],
        dataset.to_str().unwrap(),
        &pipeline::Options::default(),
        &|_| (),
    )
    .unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let session = open(&dataset).await;
        strings(&session).await;
        verdicts(&session, "object_patterns", 0).await;
        verdicts(&session, "patterns(10000)", ENOUGH).await;
    });
}
