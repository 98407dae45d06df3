#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
//! What a running recording is told, what there is to see, and options that reach the module.

mod common;

use std::process::Command;

use common::*;

const SIGINT: i32 = 2;

/// Runs a command that has nothing to say.
fn quiet(fake: &Fake, args: &[&str]) {
    let output = fake.recorder(args).output().unwrap();
    assert_eq!((said(&output), output.stdout), ((0, String::new()), vec![]));
}

#[test]
fn a_running_recording_is_changed() {
    let fake = Fake::new(1);
    fake.status("recording", 1, "");
    quiet(&fake, &["level", "light"]);
    quiet(&fake, &["clean", "20ms"]);
    quiet(&fake, &["clean", "off"]);
    quiet(&fake, &["fifo", "256"]);
    quiet(&fake, &["fifo", "off"]);
    quiet(&fake, &["add", "--pid", "7,8", "--comm", "my db"]);
    quiet(&fake, &["remove", "--uid", "1000", "--cgroup", "/a.slice/"]);
    quiet(&fake, &["add", "--all"]);
    let expected = [
        "level light",
        "clean 20",
        "clean 0",
        "fifo 256",
        "fifo 0",
        "pid 7",
        "pid 8",
        "comm my db",
        "remove uid 1000",
        "remove cgroup /a.slice",
        "all",
    ];
    assert_eq!(fake.commands(), expected);
}

#[test]
fn without_a_recording_nothing_is_changed() {
    let fake = Fake::new(1);
    for args in [
        &["level", "light"][..],
        &["clean", "20ms"],
        &["fifo", "64"],
        &["add", "--pid", "1"],
        &["remove", "--all"],
        &["snapshot"],
    ] {
        let (code, text) = said(&fake.recorder(args).output().unwrap());
        assert_eq!(code, 2, "{args:?}");
        assert!(text.contains("no recording is running"), "{args:?}: {text}");
    }
    assert_eq!(fake.commands(), [] as [&str; 0]);
}

#[test]
fn options_reach_the_module_and_the_settings() {
    let fake = Fake::new(1);
    let recorder = fake.record(&[
        "--pid", "42", "--uid", "1000", "--comm", "db", "--cgroup", "/a", "--all", "--follow",
        "fork", "--fifo", "64", "--grain", "2m", "--buffer", "1MiB", "--level", "full",
    ]);
    let pid = recorder.pid();
    fake.wait_for("start");
    recorder.signal(SIGINT);
    assert_eq!(recorder.end().0, 0);
    let recorder_is = format!("recorder {pid}");
    let expected = [
        "clear",
        "buffers 65536 16",
        "level full",
        "fifo 64",
        "grain 2m",
        "follow fork",
        &recorder_is,
        "pid 42",
        "uid 1000",
        "comm db",
        "cgroup /a",
        "all",
        "start",
        "stop",
        "buffers 65536 4",
    ];
    assert_eq!(fake.commands(), expected);
    let settings = fake.chunks()[0].header.settings.clone();
    assert_eq!((settings.fifo, settings.clean_ms), (64, 0));
    assert_eq!(
        (&*settings.grain, &*settings.follow, &*settings.source),
        ("2m", "fork", "kmod")
    );
    let targets = &settings.targets;
    assert_eq!(
        (&*targets.comms, &*targets.cgroups, targets.all),
        (&["db".to_string()][..], &["/a".to_string()][..], true)
    );
}

#[test]
fn only_processes_named_by_pid_end_a_recording_by_their_end() {
    // Somebody else added a target: its processes may be still to come.
    let fake = Fake::new(1);
    let mut recorder = fake.record(&["--pid", "42"]);
    fake.wait_for("start");
    fake.status("recording", 0, "targets 2\n");
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(recorder.is_running());
    fake.status("recording", 0, "targets 1\n");
    let (code, text) = recorder.end();
    assert_eq!(code, 0, "{text}");
    assert_eq!(fake.chunks()[0].totals().unwrap().ended_by, "processes");
    // A name may come up at any time.
    let fake = Fake::new(1);
    let mut recorder = fake.record(&["--comm", "db", "--pid", "42"]);
    fake.wait_for("start");
    fake.status("recording", 0, "targets 2\n");
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(recorder.is_running());
    recorder.signal(SIGINT);
    assert_eq!(recorder.end().0, 0);
}

#[test]
fn status_as_json_is_json() {
    let fake = Fake::new(1);
    let more = "policy fifo\nfifo 64\ntargets 2\nrecorder 7\n\
                cpu 0 refs_emitted 5 refs_lost 1 names_emitted 2 names_lost 0 refs_overwritten 3\n";
    fake.status("recording", 3, more);
    let output = fake.recorder(&["status", "--json"]).output().unwrap();
    assert_eq!(said(&output), (0, String::new()));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["state"], "recording");
    assert_eq!((&json["fifo"], &json["processes"]), (&64.into(), &3.into()));
    assert_eq!(json["cpus"][0]["refs_overwritten"], 3);
    let output = fake.recorder(&["status"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("FIFO of 64 pages") && text.contains("recorded by process 7"),
        "{text}"
    );
    assert!(text.contains("2 targets, 3 processes"), "{text}");
    assert!(text.contains("1 lost, 3 overwritten;"), "{text}");
}

#[test]
fn a_terminal_gets_a_line_that_fits_and_others_get_none() {
    let fake = Fake::new(1);
    let shown = |columns: &str| {
        let out = fake.out();
        let _ = std::fs::remove_dir_all(&out);
        let program = env!("CARGO_BIN_EXE_pgtrace-capture");
        let record = format!(
            "stty cols {columns}; {program} record --pid 42 --duration 2500ms -o {}",
            out.display()
        );
        let mut script = Command::new("script");
        script.args(["-qec", &record, "/dev/null"]);
        let output = script.env("PGTRACE_DEBUGFS", fake.root()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for columns in [80, 40, 8] {
        let text = shown(&columns.to_string());
        let lines: Vec<&str> = text
            .split("\r\x1b[K")
            .filter(|line| line.starts_with(|c: char| c.is_ascii_digit()))
            .filter(|line| line.contains(" s"))
            .map(|line| line.trim_end())
            .filter(|line| !line.contains('\n'))
            .collect();
        assert!(!lines.is_empty(), "{text:?}");
        for line in &lines {
            assert!(line.len() < columns, "{columns}: {line:?}");
        }
        assert_eq!(lines[0].contains("left"), columns == 80, "{lines:?}");
    }
    let _ = std::fs::remove_dir_all(fake.out());
    let (_, text) = fake.record(&["--pid", "42", "--duration", "1500ms"]).end();
    assert!(
        !text.contains('\x1b') && !text.contains("records/s"),
        "{text:?}"
    );
}

#[test]
fn wrong_values_say_what_is_expected() {
    let fake = Fake::new(1);
    let record = |more: &[&'static str]| [&["record", "-o", "x", "--pid", "1"], more].concat();
    for (args, wanted) in [
        (
            record(&["--fifo", "15"]),
            "from 16 to 1048576, found \"15\"",
        ),
        (
            record(&["--fifo", "64", "--clean", "1s"]),
            "cannot be used with",
        ),
        (
            record(&["--keep-last", "10"]),
            "expected a size like 512MiB or 2GiB, or a time",
        ),
        (
            record(&["--keep-last", "0s"]),
            "expected a size like 512MiB or 2GiB, or a time",
        ),
        (record(&["--buffer", "4KiB"]), "expected at least 64KiB"),
        (record(&["--grain", "1g"]), "invalid value '1g'"),
        (record(&["--follow", "all"]), "invalid value 'all'"),
        (record(&["--min-free", "some"]), "expected a size like"),
        (record(&["--snapshot-on", "exit"]), "--in-memory"),
        (record(&["--comm", "sixteen bytes ok"]), "1 to 15 bytes"),
        (record(&["--comm", "a\nb"]), "found \"a\\nb\""),
        (
            record(&["--cgroup", "user.slice"]),
            "expected a path below the root of cgroup v2",
        ),
        (record(&["--all", "--", "true"]), "cannot be used with"),
        (
            vec!["record", "-o", "x", "--source", "perf", "--all"],
            "--source perf cannot do --all",
        ),
        (
            vec![
                "record",
                "-o",
                "x",
                "--source",
                "perf",
                "--in-memory",
                "--",
                "true",
            ],
            "--source perf cannot do --in-memory",
        ),
        (vec!["level", "off"], "invalid value 'off'"),
        (vec!["level"], "<LEVEL>"),
        (
            vec!["clean", "soon"],
            "expected a period like 500ms or 1s, or off",
        ),
        (vec!["fifo", "2"], "or off, found \"2\""),
        (vec!["add"], "required arguments were not provided"),
        (vec!["remove", "--pid", "0"], "0 is not in 1.."),
    ] {
        let (code, text) = said(&fake.recorder(&args).output().unwrap());
        assert_eq!(code, 2, "{args:?}");
        assert!(text.contains(wanted), "{args:?}: {text}");
    }
    assert_eq!(fake.commands(), [] as [&str; 0]);
}
