#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
//! What can go wrong is said clearly; nothing half-made stays, and what is whole is kept.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use common::*;
use pgtrace_capture::chunk::BlockKind;

const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;

/// Runs `record`, which must fail before it records; gives what it said.
fn refused(fake: &Fake, args: &[&str]) -> String {
    let (code, text) = fake.record(args).end();
    assert_eq!(code, 2, "{text}");
    assert!(!fake.out().exists(), "a folder was left behind");
    text
}

#[test]
fn no_module_no_debugfs() {
    let fake = Fake::new(1);
    std::fs::rename(fake.root(), fake.root().with_extension("away")).unwrap();
    let text = refused(&fake, &["--pid", "1"]);
    assert!(
        text.contains("the pgtrace module is not loaded; try: modprobe pgtrace"),
        "{text}"
    );
    std::fs::remove_dir_all(fake.root().with_extension("away")).unwrap();
    let text = refused(&fake, &["--pid", "1"]);
    assert!(
        text.contains("debugfs is not mounted; try: mount -t debugfs"),
        "{text}"
    );
    for command in ["status", "stop"] {
        let (code, text) = said(&fake.recorder(&[command]).output().unwrap());
        assert_eq!(code, 2);
        assert!(text.contains("debugfs is not mounted"), "{text}");
    }
}

#[test]
fn no_permission() {
    let is_root = std::fs::metadata("/proc/self")
        .map(|m| std::os::unix::fs::MetadataExt::uid(&m))
        .unwrap()
        == 0;
    let fake = Fake::new(1);
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&fake.root(), 0o000);
    // Root may everything: somebody else has to try, with a program that somebody else can reach.
    let program = fake.root().with_file_name("pgtrace-capture");
    std::fs::copy(env!("CARGO_BIN_EXE_pgtrace-capture"), &program).unwrap();
    mode(fake.root().parent().unwrap(), 0o755);
    let mut command = Command::new(program);
    command.arg("status").env("PGTRACE_DEBUGFS", fake.root());
    if is_root {
        command.uid(65534).gid(65534);
    }
    let output = command.output().unwrap();
    mode(&fake.root(), 0o755);
    let (code, text) = said(&output);
    assert_eq!(code, 2);
    assert!(
        text.contains("permission denied: recording needs root"),
        "{text}"
    );
}

#[test]
fn a_folder_with_chunks_is_refused_and_one_with_other_files_is_not() {
    let fake = Fake::new(1);
    std::fs::create_dir(fake.out()).unwrap();
    std::fs::write(fake.out().join("notes.txt"), "mine").unwrap();
    let (code, text) = fake.record(&["--", "true"]).end();
    assert_eq!(code, 0, "{text}");
    let before = std::fs::read(fake.out().join("cpu000-000000.pgt")).unwrap();
    let commands = fake.commands();
    let (code, text) = fake.record(&["--", "true"]).end();
    assert_eq!(code, 2, "{text}");
    assert!(
        text.contains("raw holds chunks already: give a new folder"),
        "{text}"
    );
    assert_eq!(
        std::fs::read(fake.out().join("cpu000-000000.pgt")).unwrap(),
        before
    );
    assert_eq!(fake.commands(), commands, "the module was told something");
}

#[test]
fn an_output_that_is_a_file_is_refused() {
    let fake = Fake::new(1);
    std::fs::write(fake.out(), "a file").unwrap();
    let (code, text) = fake.record(&["--pid", "1"]).end();
    assert_eq!(code, 2);
    assert!(text.contains("raw: File exists"), "{text}");
    assert_eq!(fake.commands(), [] as [&str; 0]);
}

#[test]
fn another_recording_is_left_alone() {
    let fake = Fake::new(1);
    fake.status("recording", 1, "");
    let text = refused(&fake, &["--pid", "1"]);
    assert!(text.contains("another recording is running"), "{text}");
    assert_eq!(fake.commands(), [] as [&str; 0]);
}

#[test]
fn a_newer_or_strange_module_is_refused() {
    let fake = Fake::new(1);
    let status = fake.root().join("status");
    std::fs::write(&status, "version 7\n").unwrap();
    let text = refused(&fake, &["--pid", "1"]);
    assert!(
        text.contains("wire version 7, this program knows up to 1"),
        "{text}"
    );
    std::fs::write(&status, "version 1\nprocesses some\n").unwrap();
    let text = refused(&fake, &["--pid", "1"]);
    assert!(text.contains("found \"processes some\""), "{text}");
    fake.status("idle", 0, "");
    std::fs::remove_file(fake.root().join("names0")).unwrap();
    let text = refused(&fake, &["--pid", "1"]);
    assert!(text.contains("names0: No such file"), "{text}");
    // `control` that takes nothing: a folder here, a refusal there.
    std::fs::remove_file(fake.root().join("control")).unwrap();
    std::fs::create_dir(fake.root().join("control")).unwrap();
    let text = refused(&fake, &["--pid", "1"]);
    assert!(text.contains("control: Is a directory"), "{text}");
}

#[test]
fn a_command_that_cannot_run_leaves_nothing() {
    let fake = Fake::new(2);
    let text = refused(&fake, &["--", "/no/such/program", "x"]);
    // One line, the cause in it once.
    assert_eq!(
        text,
        "pgtrace-capture: cannot run /no/such/program: No such file or directory (os error 2)\n"
    );
    assert_eq!(
        fake.commands().last().unwrap(),
        "stop",
        "the module was left recording"
    );
    // A folder that was there stays, without chunks.
    std::fs::create_dir(fake.out()).unwrap();
    let (code, _) = fake.record(&["--", "/no/such/program"]).end();
    assert_eq!(code, 2);
    assert_eq!(std::fs::read_dir(fake.out()).unwrap().count(), 0);
}

#[test]
fn a_command_is_not_run_when_the_recording_cannot_begin() {
    let fake = Fake::new(1);
    let touched = fake.root().join("touched");
    std::fs::remove_file(fake.root().join("names0")).unwrap();
    refused(&fake, &["--", "touch", touched.to_str().unwrap()]);
    assert!(!touched.exists());
}

#[test]
fn a_full_disk_ends_the_recording_and_keeps_what_is_whole() {
    let fake = Fake::new(1);
    // A limit on file size stands in for a full disk: 64 blocks of 512 or 1024 bytes.
    let mut shell = Command::new("sh");
    shell
        .args([
            "-c",
            "ulimit -f 64; exec \"$@\"",
            "sh",
            env!("CARGO_BIN_EXE_pgtrace-capture"),
        ])
        .args(["record", "--pid", "42", "-o"])
        .arg(fake.out())
        .env("PGTRACE_DEBUGFS", fake.root())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let recorder = shell.spawn().unwrap();
    fake.wait_for("start");
    fake.emit("names0", &[object(0, 0, 1, "/a")]);
    let mut sent = 0;
    // In small pieces, so that some blocks are whole before the end.
    while !fake.commands().contains(&"stop".to_string()) {
        fake.emit("refs0", &refs(0, sent, sent + 100));
        sent += 100;
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert!(sent < 1_000_000, "the limit was never felt");
    }
    let (code, text) = said(&recorder.wait_with_output().unwrap());
    assert_eq!(code, 2, "{text}");
    assert!(
        text.contains("error: ") && text.contains("cpu000-000000.pgt: byte "),
        "{text}"
    );
    assert!(text.contains("File too large"), "{text}");
    assert!(text.contains(" not written"), "{text}");

    let chunk = &fake.chunks()[0];
    assert_eq!(chunk.damage.len(), 1, "{:?}", chunk.damage);
    assert!(
        chunk.damage[0].starts_with("truncated: expected an End block"),
        "{:?}",
        chunk.damage
    );
    let kept = chunk.records(BlockKind::Refs);
    assert!(!kept.is_empty());
    assert_eq!(kept, refs(0, 0, kept.len() as u64));
}

#[test]
fn a_killed_recorder_leaves_chunks_that_read() {
    let fake = Fake::new(1);
    let mut recorder = fake.record(&["--pid", "42"]);
    fake.wait_for("start");
    fake.emit("refs0", &refs(0, 0, 700));
    wait_until("the block", || {
        std::fs::metadata(fake.out().join("cpu000-000000.pgt"))
            .unwrap()
            .len()
            > 700 * 64
    });
    assert!(recorder.is_running());
    recorder.signal(SIGKILL);
    wait_until("its end", || !recorder.is_running());
    let chunk = &fake.chunks()[0];
    assert_eq!(chunk.records(BlockKind::Refs), refs(0, 0, 700));
    assert!(
        chunk.damage[0].starts_with("truncated"),
        "{:?}",
        chunk.damage
    );
}

#[test]
fn a_module_that_goes_away_is_told_and_what_was_drained_is_kept() {
    let fake = Fake::new(1);
    let recorder = fake.record(&["--pid", "42"]);
    fake.wait_for("start");
    fake.emit("refs0", &refs(0, 0, 70));
    let counters = "cpu 0 refs_emitted 70 refs_lost 3 names_emitted 0 names_lost 0\n";
    fake.status("recording", 1, counters);
    wait_until("the block", || {
        std::fs::metadata(fake.out().join("cpu000-000000.pgt"))
            .unwrap()
            .len()
            > 70 * 64
    });
    // Long enough for the recorder to have seen this status; the figures below say if it had not.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    std::fs::rename(fake.root(), fake.root().with_extension("away")).unwrap();
    let (code, text) = recorder.end();
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("the module went away while recording: what was drained is kept"),
        "{text}"
    );
    let chunk = &fake.chunks()[0];
    assert_eq!(chunk.damage, [] as [&str; 0]);
    assert_eq!(chunk.records(BlockKind::Refs), refs(0, 0, 70));
    let totals = chunk.totals().unwrap();
    assert_eq!(
        (
            totals.complete,
            totals.ended_by.as_str(),
            totals.cpus[0].refs_lost
        ),
        (false, "module", 3)
    );
}

#[test]
fn bytes_that_are_no_records_are_kept_and_told() {
    let fake = Fake::new(1);
    let recorder = fake.record(&["--pid", "42"]);
    fake.wait_for("start");
    let garbage = b"this is not what the module writes, but it is kept for whoever looks".to_vec();
    fake.emit("refs0", &refs(0, 0, 3));
    fake.emit_bytes("refs0", &garbage);
    recorder.signal(SIGINT);
    let (code, text) = recorder.end();
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("damaged: ")
            && text.contains("byte 192 of the recording: expected magic 0xa7"),
        "{text}"
    );
    assert_eq!(
        fake.stored(BlockKind::Refs, 0),
        [encoded(&refs(0, 0, 3)), garbage].concat()
    );
}

#[test]
fn half_a_record_at_the_end_is_kept() {
    let fake = Fake::new(1);
    let recorder = fake.record(&["--pid", "42"]);
    fake.wait_for("start");
    let bytes = &encoded(&refs(0, 0, 3))[..150];
    fake.emit_bytes("refs0", bytes);
    recorder.signal(SIGINT);
    recorder.end();
    assert_eq!(fake.stored(BlockKind::Refs, 0), bytes);
}

#[test]
fn wrong_arguments_say_what_is_expected() {
    let fake = Fake::new(1);
    for (args, wanted) in [
        (
            &["record", "-o", "x"][..],
            "required arguments were not provided",
        ),
        (&["record", "--pid", "1"], "--output <DIR>"),
        (&["record", "--pid", "0", "-o", "x"], "0 is not in 1.."),
        (
            &["record", "--pid", "1", "-o", "x", "--", "true"],
            "cannot be used with",
        ),
        (
            &["record", "--pid", "1", "-o", "x", "--rotate-size", "1"],
            "expected at least 4KiB",
        ),
        (
            &["record", "--pid", "1", "-o", "x", "--clean", "fast"],
            "expected a period like 500ms or 1s, or off",
        ),
        (
            &["record", "--pid", "1", "-o", "x", "--duration", "0s"],
            "expected more than nothing",
        ),
    ] {
        let (code, text) = said(&fake.recorder(args).output().unwrap());
        assert_eq!(code, 2, "{args:?}");
        assert!(text.contains(wanted), "{args:?}: {text}");
    }
    assert_eq!(fake.commands(), [] as [&str; 0]);
}
