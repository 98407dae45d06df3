#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
//! Recordings that go well: what the module wrote is in the chunks to the last byte, whatever ends the recording.

mod common;

use common::*;
use pgtrace_capture::chunk::BlockKind;

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// `status` lines of CPUs with so many (refs, names) written and (refs, names) lost.
fn counters(cpus: &[[u64; 4]]) -> String {
    let line = |(cpu, [refs, names, refs_lost, names_lost]): (usize, &[u64; 4])| {
        format!(
            "cpu {cpu} refs_emitted {refs} refs_lost {refs_lost} names_emitted {names} names_lost {names_lost}\n"
        )
    };
    cpus.iter().enumerate().map(line).collect()
}

#[test]
fn a_signal_ends_it_and_every_byte_is_kept() {
    for signal in [SIGINT, SIGTERM] {
        let fake = Fake::new(2);
        let recorder = fake.record(&["--pid", "42", "--level", "full", "--clean", "off"]);
        let pid = recorder.pid();
        fake.wait_for("start");
        fake.status("recording", 1, "");
        let mut bytes = fake.emit("names0", &[object(0, 0, 1, "/a")]);
        bytes += fake.emit("refs0", &refs(0, 0, 1000));
        bytes += fake.emit("refs1", &refs(1, 0, 5000));
        fake.status(
            "recording",
            1,
            &counters(&[[1000, 1, 0, 0], [5000, 0, 0, 0]]),
        );
        recorder.signal(signal);
        let (code, text) = recorder.end();
        assert_eq!(code, 0, "{text}");
        assert!(
            text.contains("cpu 1: 5,000 reference and 0 name records, 320.0 kB, 0 lost"),
            "{text}"
        );
        assert!(
            text.contains("total: 6,000 reference and 1 name records"),
            "{text}"
        );

        let recorder_is = format!("recorder {pid}");
        let expected = [
            "clear",
            "level full",
            "clean 0",
            &recorder_is,
            "pid 42",
            "start",
            "stop",
        ];
        assert_eq!(fake.commands(), expected);
        assert_eq!(
            fake.stored(BlockKind::Names, 0),
            encoded(&[object(0, 0, 1, "/a")])
        );
        assert_eq!(fake.stored(BlockKind::Refs, 0), encoded(&refs(0, 0, 1000)));
        assert_eq!(fake.stored(BlockKind::Refs, 1), encoded(&refs(1, 0, 5000)));

        let chunks = fake.chunks();
        assert_eq!(
            chunks.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
            ["cpu000-000000.pgt", "cpu001-000000.pgt"]
        );
        for chunk in &chunks {
            assert_eq!(chunk.damage, [] as [&str; 0]);
            let totals = chunk.totals().unwrap();
            assert!(totals.complete);
            assert_eq!(totals.ended_by, "signal");
            assert_eq!(
                totals
                    .cpus
                    .iter()
                    .map(|c| c.refs_emitted)
                    .collect::<Vec<_>>(),
                [1000, 5000]
            );
            assert_eq!(totals.cpus.iter().map(|c| c.bytes).sum::<u64>(), bytes);
            let settings = &chunk.header.settings;
            assert_eq!(
                (
                    settings.level.as_str(),
                    settings.clean_ms,
                    settings.subbuf_size
                ),
                ("full", 0, 65536)
            );
            assert_eq!(
                (settings.targets.pids.as_slice(), settings.cpus.as_slice()),
                (&[42][..], &[0, 1][..])
            );
            assert_eq!(chunk.header.capture_id, chunks[0].header.capture_id);
            assert_eq!(chunk.header.page_size, 4096);
        }
    }
}

#[test]
fn a_command_is_held_until_the_recording_runs_and_its_end_ends_it() {
    let fake = Fake::new(1);
    let trace = fake.root().join("seen");
    // The command copies what the module was told before the command ran; what it finds must hold "start".
    let script = format!(
        "cat '{}/control' > '{}'; exit 7",
        fake.root().display(),
        trace.display()
    );
    let (code, text) = fake.record(&["--", "sh", "-c", &script]).end();
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("the command ended with exit code 7"),
        "{text}"
    );
    let seen = std::fs::read_to_string(trace).unwrap();
    let seen: Vec<&str> = seen.lines().collect();
    assert_eq!(seen.last(), Some(&"start"), "{seen:?}");
    assert!(seen.iter().any(|line| line.starts_with("pid ")), "{seen:?}");
    assert_eq!(fake.commands().last().unwrap(), "stop");
    let totals = fake.chunks()[0].totals().unwrap();
    assert_eq!(
        (totals.ended_by.as_str(), totals.command_exit),
        ("command", Some(7))
    );
}

#[test]
fn a_command_that_a_signal_ends_is_told_like_a_shell_tells_it() {
    let fake = Fake::new(1);
    let (code, text) = fake.record(&["--", "sh", "-c", "kill -9 $$"]).end();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("exit code 137"), "{text}");
}

#[test]
fn a_signal_ends_the_command_too() {
    let fake = Fake::new(1);
    let recorder = fake.record(&["--", "sleep", "1000"]);
    fake.wait_for("start");
    recorder.signal(SIGINT);
    let (code, text) = recorder.end();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("exit code 143"), "{text}");
}

#[test]
fn the_end_of_the_traced_processes_or_of_the_time_or_a_stop_ends_it() {
    let fake = Fake::new(1);
    let recorder = fake.record(&["--pid", "42"]);
    fake.wait_for("start");
    fake.status("recording", 0, "");
    let (code, text) = recorder.end();
    assert_eq!(
        (code, fake.chunks()[0].totals().unwrap().ended_by.as_str()),
        (0, "processes"),
        "{text}"
    );

    let fake = Fake::new(1);
    let (code, text) = fake.record(&["--uid", "1000", "--duration", "50ms"]).end();
    assert_eq!(
        (code, fake.chunks()[0].totals().unwrap().ended_by.as_str()),
        (0, "duration"),
        "{text}"
    );
    assert!(fake.commands().contains(&"uid 1000".to_string()));

    let fake = Fake::new(1);
    let recorder = fake.record(&["--uid", "1000"]);
    fake.wait_for("start");
    fake.status("stopped", 0, "");
    let (code, text) = recorder.end();
    assert_eq!(
        (code, fake.chunks()[0].totals().unwrap().ended_by.as_str()),
        (0, "stop"),
        "{text}"
    );
}

#[test]
fn losses_are_told_and_are_exit_code_1() {
    let fake = Fake::new(1);
    let recorder = fake.record(&["--pid", "42"]);
    fake.wait_for("start");
    fake.emit("refs0", &refs(0, 0, 10));
    fake.status("recording", 1, &counters(&[[10, 0, 1234, 1]]));
    recorder.signal(SIGINT);
    let (code, text) = recorder.end();
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("cpu 0: 10 reference and 0 name records, 640 B, 1,235 lost"),
        "{text}"
    );
    assert_eq!(fake.chunks()[0].totals().unwrap().cpus[0].refs_lost, 1234);
}

#[test]
fn records_that_were_written_but_never_arrived_are_told() {
    let fake = Fake::new(1);
    let recorder = fake.record(&["--pid", "42"]);
    fake.wait_for("start");
    fake.emit("refs0", &refs(0, 0, 10));
    fake.status("recording", 1, &counters(&[[15, 0, 0, 0]]));
    recorder.signal(SIGINT);
    let (code, text) = recorder.end();
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("5 never drained"), "{text}");
}

#[test]
fn every_chunk_reads_alone() {
    let fake = Fake::new(2);
    let recorder = fake.record(&["--pid", "42", "--rotate-size", "16KiB"]);
    fake.wait_for("start");
    fake.status("recording", 1, "");
    // CPU 1 uses an object that CPU 0 introduced, through several rotations.
    let drained = |name: &str| {
        wait_until("names to be drained", || {
            let chunk = std::fs::read(fake.out().join("cpu000-000000.pgt")).unwrap();
            chunk.windows(name.len()).any(|w| w == name.as_bytes())
        });
    };
    fake.emit("names0", &[object(0, 0, 1, "/a")]);
    drained("/a");
    let files = |cpu: u16| {
        let chunks = std::fs::read_dir(fake.out()).unwrap();
        chunks
            .filter(|c| {
                c.as_ref()
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .starts_with(&format!("cpu{cpu:03}"))
            })
            .count()
    };
    for round in 0..3 {
        fake.emit("refs1", &refs(1, round * 300, (round + 1) * 300));
        wait_until("a rotation", || files(1) == round as usize + 2);
    }
    // Learned while CPU 1's last chunk is open: it is repeated at its end.
    fake.emit("names0", &[object(0, 1, 2, "/b")]);
    drained("/b");
    fake.emit("refs1", &refs(1, 900, 910));
    recorder.signal(SIGINT);
    let (code, text) = recorder.end();
    assert_eq!(code, 0, "{text}");

    assert_eq!(fake.stored(BlockKind::Refs, 1), encoded(&refs(1, 0, 910)));
    let chunks = fake.chunks();
    assert_eq!((chunks.len(), files(0), files(1)), (5, 1, 4));
    for chunk in chunks.iter().filter(|c| c.header.cpu == 1) {
        assert_eq!(chunk.damage, [] as [&str; 0], "{}", chunk.name);
        let repeated = chunk.records(BlockKind::Repeated);
        assert!(
            repeated.contains(&object(0, 0, 1, "/a")),
            "{}: {repeated:?}",
            chunk.name
        );
        // At the start in all chunks but the first, which began before it was known.
        let first = chunk.header.index == 0;
        assert_eq!(
            chunk.blocks[0].0 == BlockKind::Repeated,
            !first,
            "{}",
            chunk.name
        );
        let last = chunk.header.index == 3;
        assert_eq!(chunk.totals().is_some(), last, "{}", chunk.name);
        // The chunk before the last may still have been open for a moment.
        let late = repeated.contains(&object(0, 1, 2, "/b"));
        assert!(
            late == last || chunk.header.index == 2,
            "{}: {repeated:?}",
            chunk.name
        );
    }
    // A CPU does not repeat at its end what its own blocks say.
    assert!(chunks[0].records(BlockKind::Repeated).is_empty());
}

#[test]
fn an_old_chunk_is_rotated_too() {
    let fake = Fake::new(1);
    let recorder = fake.record(&["--pid", "42", "--rotate-time", "50ms"]);
    fake.wait_for("start");
    fake.emit("refs0", &refs(0, 0, 5));
    wait_until("a rotation", || {
        fake.out().join("cpu000-000001.pgt").exists()
    });
    recorder.signal(SIGINT);
    let (code, text) = recorder.end();
    assert_eq!(code, 0, "{text}");
    // Empty chunks do not rotate: there is one more, and no third.
    assert_eq!(fake.chunks().len(), 2);
    assert_eq!(fake.stored(BlockKind::Refs, 0), encoded(&refs(0, 0, 5)));
}

#[test]
fn names_repeated_at_a_chunks_start_do_not_make_the_next_one_due() {
    let fake = Fake::new(1);
    let recorder = fake.record(&["--pid", "42", "--rotate-size", "16KiB"]);
    fake.wait_for("start");
    // 40 kB of names: the first chunk is full, and so would be every later one.
    let names: Vec<_> = (0..40)
        .map(|i| object(0, i, 1 + i as u32, &"n".repeat(1000)))
        .collect();
    fake.emit("names0", &names);
    let second = fake.out().join("cpu000-000001.pgt");
    wait_until("a rotation", || second.exists());
    for seq in 0..5 {
        let before = std::fs::metadata(&second).unwrap().len();
        fake.emit("refs0", &refs(0, seq, seq + 1));
        wait_until("the block", || {
            std::fs::metadata(&second).unwrap().len() > before
        });
    }
    recorder.signal(SIGINT);
    let (code, text) = recorder.end();
    assert_eq!(code, 0, "{text}");
    assert_eq!(fake.chunks().len(), 2);
    // The first chunk may have ended before it had all of them: the rest came to the second one itself.
    let mut found = fake.chunks()[1].records(BlockKind::Repeated);
    if found.len() < names.len() {
        found.extend(fake.chunks()[1].records(BlockKind::Names));
    }
    assert_eq!(found, names);
    assert_eq!(fake.chunks()[1].records(BlockKind::Refs), refs(0, 0, 5));
}

#[test]
fn status_and_stop_say_what_there_is() {
    let fake = Fake::new(1);
    fake.status("recording", 3, &counters(&[[1_000_000, 7, 2, 0]]));
    let output = fake.recorder(&["status"]).output().unwrap();
    assert_eq!(said(&output), (0, String::new()));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("module 0.1.0 (wire version 1): recording\n"),
        "{text}"
    );
    assert!(
        text.contains("cpu 0: refs 1,000,000 written, 2 lost; names 7 written, 0 lost\n"),
        "{text}"
    );

    let output = fake.recorder(&["stop"]).output().unwrap();
    assert_eq!(said(&output), (0, "stopped\n".into()));
    assert_eq!(fake.commands(), ["stop"]);
    fake.status("idle", 0, "");
    let output = fake.recorder(&["stop"]).output().unwrap();
    assert_eq!(said(&output), (0, "no recording is running\n".into()));
}
