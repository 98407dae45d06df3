//! Killed at any instant: there is a whole result or none, and once another run has ended nothing else.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pgtrace_ingest::schema::Table;

use super::place::{Place, many, read, same};

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn program(place: &Place, args: &[&str], to: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgtrace-sql"));
    command
        .args(args)
        .arg(&place.data)
        .arg("--to")
        .arg(to)
        .stderr(Stdio::null());
    command
}

/// Kills runs at instants spread over the time that one takes, then lets one end.
fn killed_at_any_instant(args: &[&str], kills: u32, whole: fn(&Path)) {
    let place = Place::new();
    let folder = place.data.parent().unwrap().to_owned();
    let to = place.at("result");
    let started = Instant::now();
    assert!(
        program(&place, args, &place.at("first"))
            .status()
            .unwrap()
            .code()
            .unwrap()
            < 2
    );
    let takes = started.elapsed();
    std::fs::remove_dir_all(place.at("first")).unwrap();
    let mut partial = 0;
    for i in 0..kills {
        let mut child = program(&place, args, &to).spawn().unwrap();
        std::thread::sleep(takes.mul_f64(0.2 + 0.9 * f64::from(i) / f64::from(kills)));
        child.kill().unwrap();
        child.wait().unwrap();
        partial += u32::from(names(&folder).iter().any(|n| n.starts_with(".result")));
        if to.exists() {
            whole(&to);
            std::fs::remove_dir_all(&to).unwrap();
        }
    }
    println!("{args:?}: {partial} of {kills} kills left something");
    assert!(partial > 0, "the kills came too early or too late");
    assert!(program(&place, args, &to).status().unwrap().code().unwrap() < 2);
    whole(&to);
    assert_eq!(names(&folder), ["data", "result"].map(String::from).into());
}

#[test]
fn a_killed_filter_leaves_nothing() {
    killed_at_any_instant(&["filter", "--event", "fault"], 25, |to| {
        let expected: Vec<_> = many()
            .into_iter()
            .filter(|r| r["event"] == "fault")
            .collect();
        same(&read(to, Table::Refs), &expected, "after a kill");
    });
}

#[test]
fn a_killed_split_leaves_nothing() {
    killed_at_any_instant(&["split", "--by", "path"], 25, |to| {
        let folders = names(to).into_iter().filter(|n| n != "parts.ndjson");
        let rows: Vec<_> = folders
            .flat_map(|f| read(&to.join(f), Table::Refs))
            .collect();
        same(&rows, &many(), "after a kill");
        assert!(to.join("parts.ndjson").exists());
    });
}

#[test]
fn two_runs_for_one_place_one_wins_and_a_live_one_is_left_alone() {
    let place = Place::new();
    let to = place.at("result");
    let mut both = [0, 1].map(|_| {
        program(&place, &["split", "--by", "path"], &to)
            .spawn()
            .unwrap()
    });
    let codes: Vec<i32> = both
        .iter_mut()
        .map(|c| c.wait().unwrap().code().unwrap())
        .collect();
    assert!(
        codes.iter().filter(|c| **c < 2).count() == 1 && codes.contains(&2),
        "{codes:?}"
    );
    assert_eq!(
        names(place.data.parent().unwrap()),
        ["data", "result"].map(String::from).into()
    );
}

#[test]
fn told_to_end_it_leaves_nothing_at_once() {
    let place = Place::new();
    let to = place.at("result");
    let mut child = program(&place, &["split", "--by", "seq"], &to)
        .spawn()
        .unwrap();
    // It has begun when its folder is there.
    let folder = place.data.parent().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !names(folder).iter().any(|n| n.starts_with(".result")) {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(2));
    }
    let told = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(told.success());
    assert_eq!(child.wait().unwrap().code(), Some(2));
    assert_eq!(names(folder), ["data"].map(String::from).into());
}
