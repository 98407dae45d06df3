//! The program itself on bad input: exit code, words, and what the dataset looks like afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{Fabric, page_ref, read};
use pgtrace_capture::chunk::{BlockKind, ChunkWriter, file_name};
use pgtrace_ingest::schema::Table;

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pgtrace-ingest"))
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A good recording of `n` references.
    fn good(&self, n: u64) -> PathBuf {
        let raw = self.at("raw");
        Fabric::random(1, 2, n, 3, 1).write(&raw);
        raw
    }

    fn ingest(&self, raw: &Path) -> Output {
        program()
            .arg(raw)
            .arg("--to")
            .arg(self.at("dataset"))
            .output()
            .unwrap()
    }

    /// Fails with exit code 2 and these words, and makes no dataset.
    fn refuses(&self, raw: &Path, words: &[&str]) {
        let out = self.ingest(raw);
        let text = says(&out, 2, words);
        assert!(!self.at("dataset").exists(), "{text}");
    }
}

fn says(out: &Output, code: i32, words: &[&str]) -> String {
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "expected {word:?} in: {text}");
    }
    assert!(out.stdout.is_empty(), "words go to stderr");
    assert!(!text.contains("panicked"), "{text}");
    text
}

#[test]
fn good_input_ends_with_0_and_words_on_stderr() {
    let place = Place::new();
    let raw = place.good(3000);
    says(
        &place.ingest(&raw),
        0,
        &["3000 rows", "losses: none", "emitted: 3000"],
    );
    says(
        &place.ingest(&raw),
        0,
        &["already ingested: 2 chunks, 0 rows added"],
    );
}

#[test]
fn losses_end_with_1() {
    let place = Place::new();
    let mut fabric = Fabric::random(1, 1, 10, 1, 1);
    fabric.cpus[0].lose(5, 9000, 9001);
    fabric.write(&place.at("raw"));
    says(
        &place.ingest(&place.at("raw")),
        1,
        &["lost in refs: 5 records, buffer_full"],
    );
}

#[test]
fn no_such_file() {
    let place = Place::new();
    place.refuses(&place.at("nothing"), &["nothing", "No such file"]);
}

#[test]
fn an_empty_folder_and_an_empty_file() {
    let place = Place::new();
    std::fs::create_dir(place.at("folder")).unwrap();
    place.refuses(&place.at("folder"), &["no raw chunks (*.pgt)"]);
    std::fs::write(place.at("empty.pgt"), b"").unwrap();
    place.refuses(
        &place.at("empty.pgt"),
        &["empty.pgt", "found an empty file"],
    );
}

#[test]
fn something_else() {
    let place = Place::new();
    std::fs::write(place.at("x.pgt"), b"PAR1 this is no chunk at all").unwrap();
    place.refuses(
        &place.at("x.pgt"),
        &["x.pgt: byte 0", "not a pgtrace chunk"],
    );
}

#[test]
fn a_newer_container_and_a_damaged_header() {
    let place = Place::new();
    let raw = place.good(100);
    let path = raw.join(file_name(1, 0));
    let good = std::fs::read(&path).unwrap();
    let mut newer = good.clone();
    newer[8] = 9;
    std::fs::write(&path, newer).unwrap();
    place.refuses(
        &raw,
        &["cpu001-000000.pgt", "version 9 is too new", "up to 1"],
    );
    let mut damaged = good.clone();
    damaged[40] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    place.refuses(&raw, &["cpu001-000000.pgt", "damaged header"]);
    std::fs::write(&path, &good[..50]).unwrap();
    place.refuses(&raw, &["cpu001-000000.pgt", "truncated header"]);

    // Told to go on, it takes the other CPU, and says what is missing.
    let to = place.at("dataset");
    let out = program()
        .arg(&raw)
        .arg("--keep-going")
        .arg("--to")
        .arg(&to)
        .output()
        .unwrap();
    says(&out, 1, &["left out:", "truncated header", "missing"]);
    assert_eq!(
        read::manifest(&to).rows(Table::Refs) + read::lost_refs(&to),
        100
    );
}

#[test]
fn records_of_a_newer_wire_version_are_counted() {
    let place = Place::new();
    let fabric = Fabric::new(3, 1);
    let mut bytes = Vec::new();
    for i in 0..4 {
        let mut r = page_ref(5000 + i, 1, 1, i);
        r.stamp.seq = i;
        pgtrace_capture::wire::encode(&pgtrace_capture::record::Record::Ref(r), &mut bytes);
    }
    bytes[64 + 1] = 2;
    bytes[128 + 1] = 2;
    let path = place.at("x.pgt");
    let mut writer = ChunkWriter::create(&path, &fabric.header(0, 0)).unwrap();
    writer.block(BlockKind::Refs, &bytes).unwrap();
    writer.finish().unwrap();
    says(
        &place.ingest(&path),
        1,
        &["2 rows", "lost in refs: 2 records, unknown_record"],
    );
}

#[test]
fn two_files_for_one_place() {
    let place = Place::new();
    let raw = place.good(100);
    let mut other = std::fs::read(raw.join(file_name(0, 0))).unwrap();
    other.pop();
    std::fs::write(raw.join("other.pgt"), other).unwrap();
    place.refuses(
        &raw,
        &[
            "other.pgt",
            "cpu000-000000.pgt",
            "expected one chunk 0 of CPU 0",
        ],
    );
}

#[test]
fn a_newer_and_a_damaged_dataset() {
    let place = Place::new();
    let raw = place.good(100);
    says(&place.ingest(&raw), 0, &[]);
    let folder = place.at("dataset/_pgtrace/manifest");
    let next = folder.join("00000000000000000009.json");
    std::fs::write(&next, r#"{"format": 2, "version": 9}"#).unwrap();
    says(
        &place.ingest(&raw),
        2,
        &[
            "format 2 is too new",
            "up to 1",
            "00000000000000000009.json",
        ],
    );
    std::fs::write(&next, "{ \"format\": 1, ").unwrap();
    says(
        &place.ingest(&raw),
        2,
        &["damaged manifest", "00000000000000000009.json"],
    );
}

#[test]
fn a_folder_that_is_something_else() {
    let place = Place::new();
    let raw = place.good(100);
    std::fs::create_dir(place.at("dataset")).unwrap();
    std::fs::write(place.at("dataset/thesis.txt"), "precious").unwrap();
    says(
        &place.ingest(&raw),
        2,
        &["not a pgtrace dataset", "thesis.txt"],
    );
    assert_eq!(std::fs::read_dir(place.at("dataset")).unwrap().count(), 1);

    std::fs::write(place.at("file"), "x").unwrap();
    let out = program()
        .arg(&raw)
        .arg("--to")
        .arg(place.at("file"))
        .output()
        .unwrap();
    says(&out, 2, &["is a file; a dataset is a folder"]);
    let out = program()
        .arg(&raw)
        .args(["--to", "s3://bucket/x"])
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SKIP_SIGNATURE")
        .env("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9") // a machine without a role
        .output()
        .unwrap();
    says(
        &out,
        2,
        &["s3://bucket/x", "no credentials: set AWS_ACCESS_KEY_ID"],
    );
}

#[test]
fn another_layout_and_too_little_memory() {
    let place = Place::new();
    let raw = place.good(100);
    let to = place.at("dataset");
    let run = |args: &[&str]| {
        program()
            .arg(&raw)
            .arg("--to")
            .arg(&to)
            .args(args)
            .output()
            .unwrap()
    };
    says(
        &run(&["--memory", "1MiB"]),
        2,
        &["memory limit of 1048576 bytes is too small", "2 CPUs"],
    );
    says(
        &run(&["--memory", "lots"]),
        2,
        &["expected a size like 4096, 64K, 256MiB or 1.5GB"],
    );
    says(&run(&["--max-open-files", "0"]), 2, &["at least 1"]);
    says(&run(&["--partition-by", "uid,uid"]), 2, &["twice"]);
    assert!(!to.exists());
    says(&run(&["--partition-by", "slice"]), 0, &[]);
    says(
        &run(&["--partition-by", "uid"]),
        2,
        &["partitioned by slice, not by uid"],
    );
    says(&run(&[]), 0, &["already ingested"]);
}

#[test]
fn a_full_disk_leaves_the_last_commit() {
    let place = Place::new();
    let raw = place.good(50_000);
    let to = place.at("dataset");
    Fabric::random(2, 1, 100, 1, 9).write(&place.at("first"));
    says(&place.ingest(&place.at("first")), 0, &[]);
    let before = read::manifest(&to);

    // No file may grow beyond 8 KiB; the signal that says so is ignored.
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$@\"";
    let out = Command::new("bash")
        .args(["-c", script, "bash", env!("CARGO_BIN_EXE_pgtrace-ingest")])
        .arg(&raw)
        .arg("--to")
        .arg(&to)
        .output()
        .unwrap();
    says(&out, 2, &["cannot write refs/", "File too large"]);
    assert_eq!(read::manifest(&to), before);
    assert_eq!(read::refs(&to).len(), 100);
    assert_eq!(
        files(&to),
        before.known().len() + 2,
        "the litter is removed"
    );
    says(&place.ingest(&raw), 0, &["50000 rows"]);
}

fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path());
    entries
        .map(|p| if p.is_dir() { files(&p) } else { 1 })
        .sum()
}

#[test]
fn no_permission() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let place = Place::new();
    let raw = place.good(100);
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    // Permissions mean nothing to root: become nobody, with a program nobody can reach.
    mode(place.folder.path(), 0o755);
    let binary = place.at("pgtrace-ingest");
    std::fs::copy(env!("CARGO_BIN_EXE_pgtrace-ingest"), &binary).unwrap();
    let root = std::fs::read_to_string("/proc/self/status")
        .unwrap()
        .contains("Uid:\t0");
    let nobody = |to: &Path| {
        let mut command = Command::new(&binary);
        command.current_dir("/").arg(&raw).arg("--to").arg(to);
        if root {
            command.uid(65534).gid(65534);
        }
        loop {
            match command.output() {
                // Another test's child may hold the copy open for writing until it has called exec.
                Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => continue,
                out => break out.unwrap(),
            }
        }
    };
    mode(place.folder.path(), 0o555);
    says(
        &nobody(&place.at("dataset")),
        2,
        &["cannot make the folder", "Permission denied"],
    );
    let chunk = raw.join(file_name(0, 0));
    mode(&chunk, 0o000);
    says(
        &nobody(&place.at("dataset")),
        2,
        &["cpu000-000000.pgt", "Permission denied"],
    );
    mode(place.folder.path(), 0o755);
    assert!(!place.at("dataset").exists());
}

#[test]
fn inspect_shows_records_and_minds_a_closed_pipe() {
    let place = Place::new();
    let raw = place.good(5000);
    let chunk = raw.join(file_name(0, 0));
    let out = program().arg("inspect").arg(&chunk).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(0));
    assert!(text.starts_with("chunk ") && text.contains("kernel 6.1.0-test"));
    assert!(text.contains("comm \"comm1\""));
    let refs = text.lines().filter(|l| l.starts_with("ref cpu 0 ")).count();
    assert!(refs > 2000 && refs < 3000, "{refs}");

    let binary = env!("CARGO_BIN_EXE_pgtrace-ingest");
    let script = format!(
        "set -o pipefail; {binary} inspect {} | head -1",
        chunk.display()
    );
    let out = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!(
        out.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}
