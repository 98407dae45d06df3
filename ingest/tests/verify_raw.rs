//! `verify` of raw recordings: each rule is broken alone, and found; what is sound passes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Fabric, Random, file_object, page_ref, process, stamp};
use pgtrace_capture::chunk::{
    BlockKind, ChunkHeader, ChunkReader, ChunkWriter, Settings, Step, file_name,
};
use pgtrace_capture::record::{
    Channel, Level, LevelChange, Lost, LostCause, MapChange, MapOp, Mapping, PageRef, Record,
};
use pgtrace_ingest::verify::{Options, Report, verify};

const BASE: u64 = 0x7000_0000_0000;
const MS: u64 = 1_000_000;

fn mapping(time_ns: u64, tgid: u32, object: u32, pages: u64) -> Record {
    Record::Mapping(Mapping {
        stamp: stamp(0, 0, time_ns),
        tgid,
        object,
        start: BASE,
        end: BASE + pages * 4096,
        page: 0,
        read: true,
        write: true,
        exec: false,
        shared: true,
    })
}

/// Two processes and their files, all named and mapped, on two CPUs; some references are lost, and told.
fn sound() -> Fabric {
    let mut fabric = Fabric::new(0x5d, 2);
    fabric.block = 20;
    fabric.chunk = 5;
    for tgid in [20, 21] {
        let names = &mut fabric.cpus[0];
        names.push_name(Record::Process(process(900, tgid, 500, "worker")));
        names.push_name(Record::Object(file_object(900, tgid - 19, "/data/file")));
        names.push_name(mapping(900, tgid, tgid - 19, 1000));
    }
    for i in 0..200 {
        let cpu = (i % 2) as usize;
        let tgid = 20 + (i / 3 % 2) as u32;
        fabric.cpus[cpu].push_ref(page_ref(1000 + i * 10 * MS, tgid, tgid - 19, i % 50));
        if i == 90 {
            fabric.cpus[cpu].lose(7, 1000 + i * 10 * MS, 1001 + i * 10 * MS);
        }
    }
    fabric
}

fn check(raw: &Path) -> Report {
    let options = Options {
        memory: 64 << 20,
        threads: 2,
    };
    verify(&[raw.to_str().unwrap().to_string()], &options).unwrap()
}

/// The rules that do not hold.
fn broken(report: &Report) -> Vec<&'static str> {
    let rules = report.subjects.iter().flat_map(|s| &s.rules);
    rules.filter(|r| !r.holds()).map(|r| r.name).collect()
}

/// Of the recording, as written and then changed by `harm`, just `rules` do not hold, and a place is named by `word`.
fn breaks(fabric: &Fabric, harm: impl FnOnce(&[PathBuf]), rules: &[&str], word: &str) {
    let folder = tempfile::tempdir().unwrap();
    harm(&fabric.write(folder.path()));
    let report = check(folder.path());
    assert_eq!(broken(&report), rules, "{report}");
    assert!(report.to_string().contains(word), "{word:?} in {report}");
}

fn nothing(_: &[PathBuf]) {}

/// The program's exit code and report.
fn program(inputs: &[&Path]) -> (Option<i32>, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_pgtrace-ingest"));
    let out = program.arg("verify").args(inputs).output().unwrap();
    let error = String::from_utf8(out.stderr).unwrap();
    assert!(!error.contains("panicked"), "{error}");
    (
        out.status.code(),
        String::from_utf8(out.stdout).unwrap() + &error,
    )
}

#[test]
fn what_is_sound_passes() {
    breaks(&sound(), nothing, &[], "7 records of refs are lost");
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/demo");
    let (code, text) = program(&[&demo]);
    assert_eq!(code, Some(0), "{text}");
    // As testdata/demo/README.md counts them.
    assert!(text.contains("29,419 references"), "{text}");
    assert!(
        !text.contains("VIOLATION") && !text.contains("note:"),
        "{text}"
    );
}

#[test]
fn a_violation_ends_with_1_and_what_cannot_be_judged_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let mut fabric = sound();
    fabric.cpus[1].push_ref(page_ref(5000 * MS, 77, 1, 3));
    fabric.write(folder.path());
    let (code, text) = program(&[folder.path()]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("names      VIOLATION"), "{text}");
    let nowhere = folder.path().join("nowhere");
    let (code, text) = program(&[&nowhere]);
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("nowhere") && text.contains("No such file"),
        "{text}"
    );
}

#[test]
fn structure() {
    let flip = |paths: &[PathBuf]| {
        let at = block(&paths[1], BlockKind::Refs, 1).0 + 100;
        change(&paths[1], at, |b| b ^ 1);
    };
    breaks(&sound(), flip, &["structure"], "CRC32C");
    let cut = |paths: &[PathBuf]| {
        let bytes = std::fs::read(&paths[0]).unwrap();
        std::fs::write(&paths[0], &bytes[..bytes.len() - 20]).unwrap();
    };
    breaks(&sound(), cut, &["structure"], "truncated");
    let other_machine = |paths: &[PathBuf]| {
        rewrite(&paths[1], |header| header.kernel = "6.2.0-other".into());
    };
    breaks(&sound(), other_machine, &["structure"], "6.2.0-other");
    let header = |paths: &[PathBuf]| change(&paths[0], 140, |b| b ^ 1);
    let folder = tempfile::tempdir().unwrap();
    header(&sound().write(folder.path()));
    let report = check(folder.path());
    assert!(broken(&report).contains(&"structure"), "{report}");
    assert!(
        report.to_string().contains("chunks of no recording"),
        "{report}"
    );

    let mut fabric = sound();
    if let Some(Record::Ref(r)) = fabric.cpus[0].refs.get_mut(5) {
        r.stamp.cpu = 1;
    }
    breaks(
        &fabric,
        nothing,
        &["structure"],
        "expected a record of CPU 0, found one of CPU 1",
    );
}

#[test]
fn the_zeroes_behind_a_block_that_no_crc_covers() {
    let mut done = false;
    for lost in [0, 1, 10, 100] {
        let mut fabric = sound();
        fabric.cpus[0].lose(lost, 5000 * MS, 5000 * MS);
        let mut harm = |paths: &[PathBuf]| {
            let last = &paths[paths.len() - 1];
            let (at, len) = block(last, BlockKind::Totals, 0);
            if len % 8 != 0 {
                change(last, at + len, |b| b | 4);
                done = true;
            }
        };
        let folder = tempfile::tempdir().unwrap();
        harm(&fabric.write(folder.path()));
        let report = check(folder.path());
        if done {
            assert_eq!(broken(&report), ["structure"], "{report}");
            return;
        }
        assert!(report.holds(), "{report}");
    }
    panic!("no totals with a length that needs zeroes");
}

#[test]
fn totals() {
    let mut fabric = sound();
    fabric.totals = false;
    breaks(&fabric, nothing, &["totals"], "no chunk holds totals");
    // Snapshots of what memory holds stand alone.
    fabric.settings = Settings {
        in_memory: true,
        ..Settings::default()
    };
    breaks(&fabric, nothing, &[], "note: no chunk holds totals");
    let mut fabric = sound();
    fabric.cpus[0].next_ref -= 3;
    breaks(&fabric, nothing, &["totals"], "cpu 0 refs: expected ");
}

#[test]
fn losses() {
    let mut fabric = sound();
    fabric.cpus[0].skip(3);
    fabric.cpus[0].push_ref(page_ref(5000 * MS, 20, 1, 3));
    breaks(
        &fabric,
        nothing,
        &["losses"],
        "cpu 0 refs: 3 records: sequence numbers",
    );
    // The same where the recording keeps its newest part only, between snapshots: on purpose.
    fabric.settings.overwrite = true;
    breaks(&fabric, nothing, &[], "3 records were given up on purpose");
    // A LOST record tells of more than is missing.
    let mut fabric = sound();
    let cpu = &mut fabric.cpus[1];
    cpu.lose(5, 5000 * MS, 5001 * MS);
    if let Some(Record::Lost(lost)) = cpu.refs.last_mut() {
        lost.count = 6;
        lost.first_seq -= 1;
    }
    breaks(
        &fabric,
        nothing,
        &["losses"],
        "the LOST record says 6, 5 are missing",
    );
    let absent = |paths: &[PathBuf]| std::fs::remove_file(&paths[1]).unwrap();
    breaks(&sound(), absent, &["losses"], "cpu 0 refs");
}

#[test]
fn time() {
    let mut fabric = sound();
    fabric.cpus[1].push_ref(page_ref(500 * MS, 20, 1, 3));
    breaks(&fabric, nothing, &["time"], "cpu001");
    let mut fabric = sound();
    fabric.cpus[0].push_name(Record::Process(process(899, 20, 500, "worker")));
    breaks(
        &fabric,
        nothing,
        &["time"],
        "names record 6 is of 899 ns, record 5 before it of 900 ns",
    );
}

#[test]
fn names() {
    let at = |r: PageRef| {
        let mut fabric = sound();
        // Nothing is known to be mapped there.
        fabric.cpus[1].push_ref(PageRef { addr: 0x1000, ..r });
        fabric
    };
    let nobody = at(page_ref(3000 * MS, 77, 1, 3));
    breaks(
        &nobody,
        nothing,
        &["names"],
        "process 77 is told of nowhere",
    );
    let thing = at(page_ref(3000 * MS, 20, 99, 3));
    breaks(&thing, nothing, &["names"], "object 99 is told of nowhere");

    let told = |fabric: &mut Fabric, time_ns| {
        let name = Record::Process(process(time_ns, 77, time_ns, "late"));
        fabric.cpus[1].push_name(name);
    };
    let mut late = nobody.clone();
    told(&mut late, 4000 * MS + 1);
    breaks(
        &late,
        nothing,
        &["names"],
        "process 77 is told of only 1000000001 ns after its use",
    );
    let mut soon = nobody.clone();
    told(&mut soon, 4000 * MS);
    breaks(
        &soon,
        nothing,
        &[],
        "1 were told of later, 1000000000 ns at most",
    );
    // Kept is the newest name of each thing, told whenever.
    late.settings.keep_last = "1MiB".into();
    breaks(&late, nothing, &[], "were told of later");
    // Who has no name may have had one.
    let mut lossy = nobody;
    lossy.cpus[0].push_name(Record::Lost(Lost {
        stamp: stamp(0, 0, 2000 * MS),
        count: 3,
        first_seq: 0,
        first_ns: 2000 * MS,
        last_ns: 2000 * MS,
        channel: Channel::Names,
        cause: LostCause::NoMemory,
    }));
    breaks(&lossy, nothing, &[], "1 have no name");
    // A page that leaves the page cache while nobody traced runs is nobody's.
    let mut evicted = page_ref(3000 * MS, 0, 1, 3);
    evicted.addr = 0;
    evicted.event = pgtrace_capture::record::Event::Evict;
    let mut fabric = sound();
    fabric.cpus[0].push_ref(evicted);
    breaks(&fabric, nothing, &[], "");
}

/// A recording that lost nothing, and one more reference in it.
fn with(r: PageRef) -> Fabric {
    let mut fabric = Fabric::new(0x5e, 1);
    let cpu = &mut fabric.cpus[0];
    cpu.push_name(Record::Process(process(900, 20, 500, "worker")));
    cpu.push_name(Record::Object(file_object(900, 1, "/a")));
    cpu.push_name(Record::Object(file_object(900, 2, "/b")));
    cpu.push_name(mapping(900, 20, 1, 100));
    cpu.push_ref(r);
    fabric
}

#[test]
fn mappings() {
    let good = page_ref(5000, 20, 1, 3);
    breaks(&with(good), nothing, &[], "");
    let page = PageRef { page: 4, ..good };
    breaks(
        &with(page),
        nothing,
        &["mappings"],
        "found object 1 page 4; mapped there: 0x700000000000-0x700000064000 object 1 from page 0",
    );
    let object = PageRef { object: 2, ..good };
    breaks(
        &with(object),
        nothing,
        &["mappings"],
        "found object 2 page 3",
    );
    let outside = PageRef {
        addr: BASE + 100 * 4096,
        page: 100,
        ..good
    };
    breaks(
        &with(outside),
        nothing,
        &[],
        "1 lie in no mapping that is known",
    );

    // Mapped anew at the same place with another begin: a MAP record tells it.
    let remapped = |time_ns| {
        let mut fabric = with(good);
        fabric.cpus[0].push_to_refs(Record::Map(MapChange {
            stamp: stamp(0, 0, time_ns),
            tgid: 20,
            tid: 20,
            object: 1,
            op: MapOp::Mmap,
            read: true,
            write: false,
            exec: false,
            shared: true,
            start: BASE,
            end: BASE + 100 * 4096,
            page: 1,
            old_start: 0,
            old_end: 0,
        }));
        fabric.cpus[0].push_ref(PageRef {
            stamp: stamp(0, 0, time_ns + 1),
            ..page
        });
        fabric
    };
    breaks(&remapped(6000), nothing, &[], "");
    // Where such records may be lost, or were never asked for, nobody can say.
    let mut lossy = with(good);
    lossy.cpus[0].lose(1, 6000, 6000);
    lossy.cpus[0].push_ref(PageRef {
        stamp: stamp(0, 0, 7000),
        ..page
    });
    breaks(
        &lossy,
        nothing,
        &[],
        "1 contradict a mapping that may have changed",
    );
    let mut light = with(page);
    light.cpus[0].push_name(Record::Level(LevelChange {
        stamp: stamp(0, 0, 6000),
        from: Level::Off,
        to: Level::Light,
        clean_ms: 0,
    }));
    breaks(
        &light,
        nothing,
        &[],
        "1 contradict a mapping that may have changed",
    );
    // But an object is always told.
    lossy.cpus[0].push_ref(PageRef {
        stamp: stamp(0, 0, 8000),
        ..object
    });
    breaks(&lossy, nothing, &["mappings"], "found object 2 page 3");
}

#[test]
fn numbers_and_times_at_their_ends_are_judged_too() {
    let mut fabric = sound();
    for cpu in &mut fabric.cpus {
        cpu.next_ref = u64::MAX - 1;
        let r = page_ref(u64::MAX, 20, 1, 3);
        cpu.push_ref(PageRef {
            addr: u64::MAX,
            page: u64::MAX >> 12,
            page_order: 31,
            ..r
        });
        cpu.refs_lost = 0;
    }
    let mut huge = mapping(u64::MAX, 20, 1, 0);
    if let Record::Mapping(m) = &mut huge {
        (m.start, m.end, m.page) = (1, u64::MAX, u64::MAX);
    }
    fabric.cpus[1].push_name(huge);
    let folder = tempfile::tempdir().unwrap();
    fabric.write(folder.path());
    let report = check(folder.path());
    assert_eq!(broken(&report), ["losses"], "{report}");
}

/// Payload's place and length of the `n`th block of a kind.
fn block(path: &Path, wanted: BlockKind, n: usize) -> (usize, usize) {
    let mut reader = ChunkReader::open(path).unwrap();
    let (mut payload, mut found) = (Vec::new(), Vec::new());
    while let Some(step) = reader.next_block(&mut payload).unwrap() {
        if let Step::Block { kind, offset } = step
            && kind == wanted
        {
            found.push((offset as usize, payload.len()));
        }
    }
    found[n]
}

fn change(path: &Path, at: usize, f: impl Fn(u8) -> u8) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] = f(bytes[at]);
    std::fs::write(path, bytes).unwrap();
}

/// Writes a chunk anew with another header.
fn rewrite(path: &Path, f: impl FnOnce(&mut ChunkHeader)) {
    let mut reader = ChunkReader::open(path).unwrap();
    let mut header = reader.header().clone();
    f(&mut header);
    let to = path.with_extension("new");
    let mut writer = ChunkWriter::create(&to, &header).unwrap();
    let mut payload = Vec::new();
    while let Some(step) = reader.next_block(&mut payload).unwrap() {
        let Step::Block { kind, .. } = step else {
            panic!("{step:?}");
        };
        writer.block(kind, &payload).unwrap();
    }
    writer.finish().unwrap();
    std::fs::rename(to, path).unwrap();
}

/// Damages one of the chunks again and again: every change of a byte is found.
fn every_damage_is_found(raw: &Path, trials: u64, seed: u64) {
    let mut random = Random(seed);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(raw)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "pgt"))
        .collect();
    paths.sort();
    assert!(check(raw).holds());
    let options = Options {
        memory: 64 << 20,
        threads: 2,
    };
    for trial in 0..trials {
        let victim = &paths[random.below(paths.len() as u64) as usize];
        let whole = std::fs::read(victim).unwrap();
        let mut bytes = whole.clone();
        let at = random.below(bytes.len() as u64) as usize;
        let what = random.below(8);
        match what {
            0 => bytes.truncate(at),
            1 => {
                let end = (at + 1 + random.below(3000) as usize).min(bytes.len());
                bytes[at..end]
                    .iter_mut()
                    .for_each(|b| *b = random.next() as u8);
            }
            2 => bytes.insert(at, random.next() as u8),
            3 => {
                let end = (at + random.below(200) as usize).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => bytes[at] ^= 1 << random.below(8),
        }
        let header = block_begin(&whole);
        std::fs::write(victim, &bytes).unwrap();
        match verify(&[raw.to_str().unwrap().into()], &options) {
            Ok(report) => {
                let place = format!(
                    "trial {trial} of {seed}: {what} at {at} of {}",
                    victim.display()
                );
                assert_eq!(report.holds(), bytes == whole, "{place}\n{report}");
            }
            // Only a header can make a chunk one that cannot be judged, by calling itself newer.
            Err(e) => assert!(at < header, "trial {trial} of {seed}: {e}"),
        }
        std::fs::write(victim, &whole).unwrap();
    }
}

/// Bytes of a chunk's header.
fn block_begin(chunk: &[u8]) -> usize {
    u32::from_le_bytes(chunk[12..16].try_into().unwrap()) as usize
}

#[test]
fn thousands_of_damages_are_found() {
    let folder = tempfile::tempdir().unwrap();
    sound().write(folder.path());
    every_damage_is_found(folder.path(), 3000, 41);
}

#[test]
fn damages_of_a_real_recording_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/demo");
    for cpu in 0..2 {
        let name = file_name(cpu, 0);
        std::fs::copy(demo.join(&name), folder.path().join(&name)).unwrap();
    }
    every_damage_is_found(folder.path(), 100, 42);
}
