//! Killed at any instant, on a full disk: the dataset is at its last commit, and the next run finishes the job.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "crash/place.rs"]
mod place;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::Random;
use place::{Place, Start, litter, says, shim};

/// Kills by the clock.
const INSTANTS: u64 = 200;

fn with_shim(mut command: Command, deed: &str, at: u64) -> Command {
    command.env("LD_PRELOAD", shim());
    command.env("SHIM_DO", deed).env("SHIM_AT", at.to_string());
    command
}

/// Calls that change files, of a whole run.
fn calls(place: &Place, start: Start) -> u64 {
    let count = place.at("count");
    let to = place.dataset(&format!("counted-{start:?}"), start);
    let mut command = with_shim(place.command(&to), "kill", 0);
    says(&command.env("SHIM_COUNT", &count).output().unwrap(), 0, "");
    let text = std::fs::read_to_string(count).unwrap();
    let calls = text.trim().parse().unwrap();
    assert!(calls > 40, "the program's calls are seen: {calls}");
    calls
}

/// Kills a run in the middle of each call that changes a file: half of a write is written, a link is made.
fn killed_in_every_call(start: Start) {
    let place = Place::new();
    let (mut killed, mut committed) = (0, 0);
    for at in 1..=calls(&place, start) {
        let to = place.dataset(&format!("{at}"), start);
        let out = with_shim(place.command(&to), "half", at).output().unwrap();
        // Threads take turns as they like: a run may get by with a call less.
        killed += u64::from(out.status.signal() == Some(9));
        committed += u64::from(place.is_at_a_commit(&to, start));
        place.finish(&to, start);
        std::fs::remove_dir_all(&to).unwrap();
    }
    println!("{start:?}: {killed} kills, {committed} of them behind the commit");
    assert!(killed > 40 && committed < killed, "{killed}, {committed}");
}

#[test]
fn killed_in_every_call_of_a_first_run() {
    killed_in_every_call(Start::Nothing);
}

#[test]
fn killed_in_every_call_of_a_later_run() {
    killed_in_every_call(Start::Dataset);
}

/// Kills a run after `delay`; whether that was before its end.
fn kill_after(command: &mut Command, delay: Duration) -> bool {
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap().signal() == Some(9)
}

#[test]
fn killed_at_random_instants() {
    let place = Place::new();
    let mut random = Random(9);
    // How long a run takes. Nobody knows, for other programs run beside it: whoever ends before the kill says that it
    // is less, whoever does not, that it may be more.
    let mut whole = Duration::from_millis(50);
    let (mut kills, mut ends, mut datasets) = (0, 0, 0);
    while kills < INSTANTS {
        let start = [Start::Nothing, Start::Dataset][datasets % 2];
        let to = place.dataset(&format!("{datasets}"), start);
        // Some datasets see several runs die.
        for _ in 0..1 + random.below(6) {
            let delay = whole.mul_f64(random.below(1000) as f64 / 1000.0);
            if kill_after(&mut place.command(&to), delay) {
                kills += 1;
                whole = whole.mul_f64(1.03);
            } else {
                ends += 1;
                whole = whole.mul_f64(0.9);
            }
            if place.is_at_a_commit(&to, start) {
                break;
            }
        }
        place.finish(&to, start);
        std::fs::remove_dir_all(&to).unwrap();
        datasets += 1;
    }
    println!("{kills} kills, {ends} runs ended before theirs, {datasets} datasets");
    assert!(ends > 0, "none came near the end of a run");
}

#[test]
fn the_next_run_leaves_no_litter() {
    let place = Place::new();
    let mut littered = 0;
    for start in [Start::Nothing, Start::Dataset] {
        let calls = calls(&place, start);
        for (at, deed) in (1..=calls).step_by(3).zip(["half", "full"].iter().cycle()) {
            let to = place.dataset(&format!("{at}"), start);
            let mut command = with_shim(place.command(&to), deed, at);
            command.output().unwrap();
            littered += u64::from(!litter(&to).is_empty());
            place.finish(&to, start);
            assert_eq!(litter(&to), Vec::<PathBuf>::new(), "{deed} at {at}");
            std::fs::remove_dir_all(&to).unwrap();
        }
    }
    assert!(littered > 10, "there was litter: {littered}");
}

#[test]
fn a_disk_that_is_full_from_some_call_on() {
    let place = Place::new();
    let start = Start::Dataset;
    let (mut failed, calls) = (0, calls(&place, start));
    for at in 1..=calls {
        let to = place.dataset(&format!("{at}"), start);
        let out = with_shim(place.command(&to), "full", at).output().unwrap();
        if out.status.code() != Some(0) {
            says(&out, 2, "No space left on device");
            assert!(!place.is_at_a_commit(&to, start), "call {at}");
            place.holds_what_it_held(&to, start);
            // Removing needs no room: whole files that nobody will name are gone.
            let staged = |p: &&PathBuf| !p.to_string_lossy().contains('#');
            assert_eq!(litter(&to).iter().find(staged), None, "call {at}");
            failed += 1;
        }
        place.finish(&to, start);
        std::fs::remove_dir_all(&to).unwrap();
    }
    println!("{failed} of {calls} places where the disk was full");
    assert!(failed > 40, "{failed}");
}

/// A file system of its own, of so many KiB; gone with the value.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mount(at: &'a Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mut command = Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(at);
        let done = command.stderr(Stdio::null()).status();
        done.is_ok_and(|s| s.success()).then_some(Self(at))
    }

    fn grow(&self) {
        let mut command = Command::new("mount");
        command.args(["-o", "remount,size=64m"]).arg(self.0);
        assert!(command.status().unwrap().success());
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_real_disk_that_is_full() {
    let place = Place::new();
    let start = Start::Nothing;
    let mut failed = 0;
    for kib in [8, 16, 32, 64, 96, 128] {
        let at = place.at(&format!("disk{kib}"));
        let Some(disk) = Disk::mount(&at, &format!("size={kib}k")) else {
            eprintln!(
                "skipped: mounting needs root; a_disk_that_is_full_from_some_call_on tries the same"
            );
            return;
        };
        let to = at.join("dataset");
        let out = place.command(&to).output().unwrap();
        if out.status.code() != Some(0) {
            says(&out, 2, "No space left on device");
            assert!(!place.is_at_a_commit(&to, start), "{kib} KiB");
            failed += 1;
        }
        disk.grow();
        place.finish(&to, start);
    }
    assert!(failed >= 3, "the disks were too small: {failed}");
}
