#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
//! Recordings in memory: only snapshots reach the disk, each with all its names.

mod common;

use std::path::PathBuf;

use common::*;
use pgtrace_capture::chunk::BlockKind;
use pgtrace_capture::record::*;

const SIGINT: i32 = 2;
const SIGUSR1: i32 = 10;

fn exit(cpu: u16, seq: u64, tgid: u32) -> Record {
    let stamp = Stamp {
        cpu,
        seq,
        time_ns: 1000 + seq,
    };
    Record::Exit(Exit {
        stamp,
        tgid,
        code: 0,
    })
}

/// The same references at another time.
fn at(records: Vec<Record>, time_ns: u64) -> Vec<Record> {
    let mut records = records;
    for record in &mut records {
        if let Record::Ref(r) = record {
            r.stamp.time_ns = time_ns;
        }
    }
    records
}

/// `snapshot --wait`: the chunks it printed.
fn snapshot(fake: &Fake) -> Vec<PathBuf> {
    let output = fake.recorder(&["snapshot", "--wait"]).output().unwrap();
    assert_eq!(said(&output), (0, String::new()));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(PathBuf::from).collect()
}

fn names(chunks: &[PathBuf]) -> Vec<String> {
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_string();
    chunks.iter().map(name).collect()
}

/// What the module says while process `recorder` records.
fn recording(fake: &Fake, recorder: &Recorder) {
    fake.status("recording", 1, &format!("recorder {}\n", recorder.pid()));
}

fn wait_for_chunk(fake: &Fake, name: &str) {
    let path = fake.out().join(name);
    wait_until(name, || {
        path.exists() && Chunk::read(&path).damage.is_empty()
    });
}

#[test]
fn snapshots_hold_what_memory_holds_and_its_names() {
    let fake = Fake::new(2);
    let recorder = fake.record(&["--pid", "42", "--in-memory"]);
    fake.wait_for("start");
    recording(&fake, &recorder);
    fake.emit("names0", &[object(0, 0, 1, "/a")]);
    fake.emit("refs1", &refs(1, 0, 3000));
    let first = snapshot(&fake);
    // CPU 0 had nothing to say.
    assert_eq!(names(&first), ["cpu001-000000.pgt"]);
    let chunk = Chunk::read(&first[0]);
    assert_eq!(chunk.damage, [] as [&str; 0]);
    assert_eq!(chunk.records(BlockKind::Refs), refs(1, 0, 3000));
    assert!(chunk.totals().is_none());

    // A name that is learned on another CPU, an end, and a second snapshot.
    fake.emit("names0", &[object(0, 1, 2, "/b")]);
    fake.emit("names1", &[exit(1, 0, 42)]);
    fake.emit("refs0", &refs(0, 0, 10));
    fake.emit("refs1", &refs(1, 3000, 3010));
    let second = snapshot(&fake);
    assert_eq!(names(&second), ["cpu000-000000.pgt", "cpu001-000001.pgt"]);
    let chunk = Chunk::read(&second[1]);
    assert_eq!(chunk.records(BlockKind::Refs), refs(1, 3000, 3010));
    let repeated = chunk.records(BlockKind::Repeated);
    for name in [object(0, 0, 1, "/a"), object(0, 1, 2, "/b"), exit(1, 0, 42)] {
        assert!(repeated.contains(&name), "{name:?} in {repeated:?}");
    }

    // The end is a snapshot, too.
    fake.emit("refs1", &refs(1, 3010, 3020));
    recorder.signal(SIGINT);
    let (code, text) = recorder.end();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("snapshot 2: 2 chunks in "), "{text}");
    assert_eq!(fake.stored(BlockKind::Refs, 1), encoded(&refs(1, 0, 3020)));
    for cpu in 0..2 {
        let chunks = fake.chunks();
        let last = chunks.iter().rfind(|c| c.header.cpu == cpu).unwrap();
        assert_eq!(last.totals().unwrap().ended_by, "signal");
        let settings = &last.header.settings;
        assert!(settings.in_memory && settings.overwrite && settings.keeps_only_the_newest());
        let repeated = last.records(BlockKind::Repeated);
        assert!(repeated.contains(&object(0, 1, 2, "/b")), "{}", last.name);
    }
    assert!(!fake.out().join("recorder.json").exists());
    let commands = fake.commands();
    let of = |word: &str| commands.iter().filter(|c| c.as_str() == word).count();
    assert_eq!(
        (of("overwrite on"), of("snapshot begin"), of("snapshot end")),
        (1, 2, 2),
        "{commands:?}"
    );
}

#[test]
fn a_signal_takes_one_without_a_word() {
    let fake = Fake::new(1);
    let recorder = fake.record(&["--pid", "42", "--in-memory"]);
    fake.wait_for("start");
    recording(&fake, &recorder);
    fake.emit("refs0", &refs(0, 0, 5));
    recorder.signal(SIGUSR1);
    wait_for_chunk(&fake, "cpu000-000000.pgt");
    // So does the command that does not wait.
    fake.emit("refs0", &refs(0, 5, 7));
    let output = fake.recorder(&["snapshot"]).output().unwrap();
    assert_eq!((said(&output), output.stdout), ((0, String::new()), vec![]));
    wait_for_chunk(&fake, "cpu000-000001.pgt");
    recorder.signal(SIGINT);
    assert_eq!(recorder.end().0, 0);
    assert_eq!(fake.chunks()[1].records(BlockKind::Refs), refs(0, 5, 7));
}

#[test]
fn what_is_too_old_is_left_out() {
    let fake = Fake::new(1);
    let recorder = fake.record(&["--pid", "42", "--in-memory", "--keep-last", "60s"]);
    fake.wait_for("start");
    recording(&fake, &recorder);
    // At the machine's boot, and in a future that is not over before the snapshot.
    let future = u64::MAX / 2;
    fake.emit("refs0", &refs(0, 0, 30));
    fake.emit("refs0", &at(refs(0, 30, 40), future));
    assert_eq!(names(&snapshot(&fake)), ["cpu000-000000.pgt"]);
    let counters = "cpu 0 refs_emitted 40 refs_lost 0 names_emitted 0 names_lost 0\n";
    fake.status("recording", 1, counters);
    recorder.signal(SIGINT);
    let (code, text) = recorder.end();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("30 given up for newer ones"), "{text}");
    assert_eq!(
        fake.chunks()[0].records(BlockKind::Refs),
        at(refs(0, 30, 40), future)
    );
}

#[test]
fn the_exit_of_a_target_takes_one() {
    let fake = Fake::new(1);
    let args = ["--pid", "42", "--in-memory", "--snapshot-on", "exit"];
    let recorder = fake.record(&args);
    fake.wait_for("start");
    recording(&fake, &recorder);
    fake.emit("refs0", &refs(0, 0, 5));
    // A child's end is not that of the target.
    fake.emit("names0", &[exit(0, 0, 43), exit(0, 1, 42)]);
    wait_for_chunk(&fake, "cpu000-000000.pgt");
    recorder.signal(SIGINT);
    assert_eq!(recorder.end().0, 0);
    let commands = fake.commands();
    let begun = commands.iter().filter(|c| *c == "snapshot begin").count();
    assert_eq!(begun, 1, "{commands:?}");

    // Of a name, everybody's counts.
    let fake = Fake::new(1);
    let args = ["--comm", "db", "--in-memory", "--snapshot-on", "exit"];
    let recorder = fake.record(&args);
    fake.wait_for("start");
    recording(&fake, &recorder);
    fake.emit("refs0", &refs(0, 0, 5));
    fake.emit("names0", &[exit(0, 0, 43)]);
    wait_for_chunk(&fake, "cpu000-000000.pgt");
    recorder.signal(SIGINT);
    assert_eq!(recorder.end().0, 0);
    assert!(fake.commands().contains(&"comm db".to_string()));
}

#[test]
fn of_a_recording_on_disk_it_ends_the_chunks() {
    let fake = Fake::new(2);
    let recorder = fake.record(&["--pid", "42"]);
    fake.wait_for("start");
    recording(&fake, &recorder);
    fake.emit("refs1", &refs(1, 0, 100));
    wait_until("the block", || {
        Chunk::read(&fake.out().join("cpu001-000000.pgt"))
            .records(BlockKind::Refs)
            .len()
            == 100
    });
    let chunks = snapshot(&fake);
    assert_eq!(names(&chunks), ["cpu001-000000.pgt"]);
    assert_eq!(Chunk::read(&chunks[0]).damage, [] as [&str; 0]);
    fake.emit("refs1", &refs(1, 100, 110));
    recorder.signal(SIGINT);
    assert_eq!(recorder.end().0, 0);
    assert_eq!(fake.stored(BlockKind::Refs, 1), encoded(&refs(1, 0, 110)));
    assert!(!fake.commands().iter().any(|c| c.starts_with("snapshot")));
}

#[test]
fn memory_is_taken_for_the_recording_and_given_back() {
    let fake = Fake::new(2);
    let recorder = fake.record(&["--pid", "42", "--in-memory", "--keep-last", "1MiB"]);
    fake.wait_for("start");
    recorder.signal(SIGINT);
    assert_eq!(recorder.end().0, 0);
    let commands = fake.commands();
    assert!(
        commands.contains(&"buffers 32768 16".into()),
        "{commands:?}"
    );
    assert_eq!(commands.last().unwrap(), "buffers 65536 4");

    for (args, wanted) in [
        (
            &["--buffer", "1MiB", "--keep-last", "1MiB"][..],
            "give one of them",
        ),
        (&["--keep-last", "1KiB"], "--keep-last: expected at least 1"),
    ] {
        let args = [&["--pid", "42", "--in-memory"], args].concat();
        let fake = Fake::new(2);
        let (code, text) = fake.record(&args).end();
        assert_eq!(code, 2, "{text}");
        assert!(text.contains(wanted), "{text}");
        assert_eq!(fake.commands(), [] as [&str; 0]);
    }
}

#[test]
fn a_snapshot_that_cannot_be_written_ends_the_recording() {
    let fake = Fake::new(1);
    let recorder = fake.record(&["--pid", "42", "--in-memory"]);
    fake.wait_for("start");
    recording(&fake, &recorder);
    fake.emit("refs0", &refs(0, 0, 5));
    std::fs::rename(fake.out(), fake.out().with_extension("away")).unwrap();
    recorder.signal(SIGUSR1);
    let (code, text) = recorder.end();
    assert_eq!(code, 2, "{text}");
    assert!(
        text.contains("error: ") && text.contains("cpu000-000000.pgt"),
        "{text}"
    );
}

#[test]
fn who_cannot_be_asked_is_told() {
    let fake = Fake::new(1);
    let refused = |wanted: &str| {
        let (code, text) = said(&fake.recorder(&["snapshot", "--wait"]).output().unwrap());
        assert_eq!(code, 2, "{text}");
        assert!(text.contains(wanted), "{text}");
    };
    refused("no recording is running");
    // This process writes no chunks; a signal would end it.
    let pid = std::process::id();
    fake.status("recording", 1, &format!("recorder {pid}\n"));
    refused(&format!("the recorder (process {pid}) is not to be found"));
    fake.status("recording", 1, "");
    refused("the recorder (process 0) is not to be found");
}

#[test]
fn the_end_of_the_recording_ends_the_wait() {
    let fake = Fake::new(1);
    let recorder = fake.record(&["--pid", "42", "--in-memory"]);
    fake.wait_for("start");
    recording(&fake, &recorder);
    recorder.signal(19); // SIGSTOP: it takes no snapshot
    let waiting = fake.recorder(&["snapshot", "--wait"]).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    recorder.signal(9);
    recorder.end_by_signal();
    let (code, text) = said(&waiting.wait_with_output().unwrap());
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("the recording ended meanwhile"), "{text}");
}
