#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
//! Recordings by perf, of real programs of this machine. Where its kernel refuses perf events, the error is tested.

mod common;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use common::*;
use pgtrace_capture::chunk::{BlockKind, Targets};
use pgtrace_capture::perf;
use pgtrace_capture::record::*;
use pgtrace_capture::recorder::{Options, RecordError, Report};

fn options(dir: &Path, command: &[&str], pids: &[u32]) -> Options {
    Options {
        targets: Targets {
            pids: pids.to_vec(),
            command: command.iter().map(ToString::to_string).collect(),
            ..Targets::default()
        },
        dir: dir.to_path_buf(),
        level: Level::Light,
        clean_ms: 0,
        ..Options::default()
    }
}

/// `None` where this machine has no perf events: then the error must say what to do.
fn record(options: &Options) -> Option<Report> {
    match perf::record(options, &AtomicBool::new(false), &mut |_| {}) {
        Ok(report) => Some(report),
        Err(
            e
            @ RecordError::Perf(perf::PerfError::Missing { .. } | perf::PerfError::Refused { .. }),
        ) => {
            let text = e.to_string();
            eprintln!("not recorded here: {text}");
            assert!(
                text.contains("CONFIG_PERF_EVENTS")
                    || text.contains("sysctl kernel.perf_event_paranoid=2")
            );
            assert!(!options.dir.exists(), "a folder was left behind");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

/// All records of a recording: names once, then references in order of time.
struct Recorded {
    names: Vec<Record>,
    refs: Vec<PageRef>,
}

fn read(dir: &Path) -> Recorded {
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    paths.sort();
    let (mut names, mut refs) = (HashMap::new(), Vec::new());
    let mut next: HashMap<u16, u64> = HashMap::new();
    for path in paths {
        let chunk = Chunk::read(&path);
        assert_eq!(chunk.damage, [""; 0]);
        assert_eq!(chunk.header.settings.source, "perf");
        for kind in [BlockKind::Names, BlockKind::Repeated] {
            for record in chunk.records(kind) {
                names.insert((record.stamp().cpu, record.stamp().seq), record);
            }
        }
        for record in chunk.records(BlockKind::Refs) {
            let Record::Ref(r) = record else {
                panic!("{record:?}")
            };
            assert_eq!(
                r.stamp.seq,
                *next.entry(r.stamp.cpu).or_default(),
                "a hole in the numbers"
            );
            *next.get_mut(&r.stamp.cpu).unwrap() += 1;
            refs.push(r);
        }
    }
    refs.sort_by_key(|r| (r.stamp.time_ns, r.stamp.cpu));
    let mut names: Vec<_> = names.into_values().collect();
    names.sort_by_key(|r| (r.stamp().time_ns, r.stamp().cpu, r.stamp().seq));
    Recorded { names, refs }
}

impl Recorded {
    fn processes<'a>(&'a self) -> Vec<&'a Process> {
        let process = |r: &'a Record| match r {
            Record::Process(p) => Some(p),
            _ => None,
        };
        self.names.iter().filter_map(process).collect()
    }

    fn objects<'a>(&'a self) -> HashMap<u32, &'a Object> {
        let object = |r: &'a Record| match r {
            Record::Object(o) => Some((o.object, o)),
            _ => None,
        };
        self.names.iter().filter_map(object).collect()
    }
}

#[test]
fn a_command_its_children_and_their_files() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("raw");
    let file = dir.path().join("a file");
    std::fs::write(&file, "x\n").unwrap();
    let script = format!("sort '{}' >/dev/null; (exit 0); exit 3", file.display());
    let command = ["sh", "-c", &script];
    let Some(report) = record(&options(&out, &command, &[])) else {
        return;
    };
    assert!(report.is_whole(), "{report}");
    assert_eq!(report.totals.ended_by, "command");
    assert_eq!(report.totals.command_exit, Some(3));

    let rec = read(&out);
    assert_eq!(
        report.cpus.iter().map(|c| c.refs).sum::<u64>(),
        rec.refs.len() as u64
    );
    let processes = rec.processes();
    let shell = processes[0].tgid;
    assert!(processes[0].attached, "held before its exec");
    let of = |comm: &str| processes.iter().find(|p| p.comm == comm).unwrap();
    let exe = |p: &Process| {
        p.exe
            .as_deref()
            .unwrap()
            .rsplit('/')
            .next()
            .unwrap()
            .to_string()
    };
    let (sh, sort) = (of("sh"), of("sort"));
    assert_eq!(
        (sh.tgid, sh.ppid, sh.execed),
        (shell, std::process::id(), true)
    );
    assert_eq!(
        (sort.ppid, sort.execed, exe(sort).as_str()),
        (shell, true, "sort")
    );
    assert!(
        processes.iter().any(|p| p.forked && p.tgid == sort.tgid),
        "forked before its exec"
    );
    assert!(
        processes
            .iter()
            .all(|p| p.uid == processes[0].uid && p.start_boot_ns > 0)
    );
    let subshells: BTreeSet<u32> = processes.iter().map(|p| p.tgid).collect();
    assert_eq!(subshells.len(), 3, "{processes:?}");

    let ends: HashMap<u32, u32> = rec
        .names
        .iter()
        .filter_map(|r| match r {
            Record::Exit(e) => Some((e.tgid, e.code)),
            _ => None,
        })
        .collect();
    assert_eq!(ends.len(), 3);
    assert_eq!(ends[&shell], 3 << 8, "its exit status was waited for");
    assert_eq!(ends[&sort.tgid], Exit::UNKNOWN_CODE);

    let objects = rec.objects();
    let mut kinds = BTreeSet::new();
    for r in &rec.refs {
        let object = objects[&r.object];
        kinds.insert(object.kind);
        assert_eq!((r.event, r.page_order), (Event::Fault, 0));
        assert!(subshells.contains(&r.tgid) && r.tid == r.tgid);
        match object.kind {
            ObjectKind::File => assert!(object.ino != 0 && object.path.is_some()),
            ObjectKind::Other => panic!("of an unknown mapping: {r:?}"),
            _ => {
                assert_eq!(object.tgid, r.tgid, "memory of another process");
                assert_eq!(r.page, r.addr >> 12);
            }
        }
    }
    for kind in [
        ObjectKind::File,
        ObjectKind::Anon,
        ObjectKind::Heap,
        ObjectKind::Stack,
    ] {
        assert!(kinds.contains(&kind), "no {kind} among {kinds:?}");
    }
    let program = rec.refs.iter().any(|r| {
        let path = objects[&r.object].path.as_deref().unwrap_or_default();
        r.tgid == sort.tgid && r.access == Access::Exec && path.ends_with("/sort")
    });
    assert!(program, "no instruction of sort");
}

const PAGE: usize = 4096;

/// A fresh private mapping of this process: anonymous memory, or a file.
#[allow(unsafe_code, reason = "mmap")]
fn fresh(pages: usize, file: Option<&std::fs::File>) -> &'static mut [u8] {
    use std::os::fd::AsRawFd;
    let (prot, flags, fd) = match file {
        Some(file) => (libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd()),
        None => (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
        ),
    };
    // SAFETY: a new mapping at an address of the kernel's choice, never unmapped; nobody else has it.
    unsafe {
        let at = libc::mmap(std::ptr::null_mut(), pages * PAGE, prot, flags, fd, 0);
        assert_ne!(at, libc::MAP_FAILED);
        libc::madvise(at, pages * PAGE, libc::MADV_NOHUGEPAGE);
        std::slice::from_raw_parts_mut(at.cast(), pages * PAGE)
    }
}

fn tid() -> u32 {
    let me = std::fs::read_link("/proc/thread-self").unwrap();
    me.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

/// Every third page, in an order that jumps about.
fn touched(pages: usize) -> Vec<usize> {
    (0..pages)
        .map(|n| n * 37 % pages)
        .filter(|n| n % 3 == 0)
        .collect()
}

#[test]
fn first_touches_of_a_running_process_each_once_in_order() {
    const PAGES: usize = 256;
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("raw");
    let path = dir.path().join("mapped");
    std::fs::write(&path, vec![7; PAGES * PAGE]).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    let early = fresh(PAGES, None); // mapped before the recording: /proc tells of it
    let stop = AtomicBool::new(false);
    let options = options(&out, &[], &[std::process::id()]);
    let (report, truth) = std::thread::scope(|scope| {
        let recorder = scope.spawn(|| {
            let report = perf::record(&options, &stop, &mut |_| {});
            stop.store(true, std::sync::atomic::Ordering::Release);
            report
        });
        wait_until("the first chunk, or an error", || {
            stop.load(std::sync::atomic::Ordering::Acquire)
                || std::fs::read_dir(&out).is_ok_and(|mut entries| entries.next().is_some())
        });
        let write = |memory: &mut [u8]| {
            for n in touched(PAGES) {
                memory[n * PAGE + n] = 1;
                assert_eq!(memory[n * PAGE], u8::from(n == 0)); // touched again: not seen
            }
            (tid(), memory.as_ptr() as usize)
        };
        let thread = scope.spawn(move || write(fresh(PAGES, None))); // a thread begun while recording
        let own = write(early);
        let other = thread.join().unwrap();
        let mapped = fresh(PAGES, Some(&file));
        // 16 pages apart: a fault maps that many at most.
        let sum: u64 = (0..PAGES)
            .step_by(16)
            .map(|n| u64::from(mapped[n * PAGE]))
            .sum();
        assert_eq!(sum, 7 * PAGES as u64 / 16);
        let truth = (own, other, (tid(), mapped.as_ptr() as usize));
        stop.store(true, std::sync::atomic::Ordering::Release);
        (recorder.join().unwrap(), truth)
    });
    let report = match report {
        Ok(report) => report,
        Err(e) => {
            eprintln!("not recorded here: {e}");
            assert!(record(&options).is_none(), "the same error again");
            return;
        }
    };
    assert!(report.is_whole(), "{report}");
    assert_eq!(report.totals.ended_by, "signal");
    let rec = read(&out);
    let objects = rec.objects();
    let inside = |base: usize| {
        let range = base as u64..(base + PAGES * PAGE) as u64;
        rec.refs.iter().filter(move |r| range.contains(&r.addr))
    };
    let me = std::process::id();
    let (own, other, mapped) = truth;
    for (tid, base) in [own, other] {
        let found: Vec<_> = inside(base)
            .map(|r| (r.tid, r.addr as usize, r.tgid))
            .collect();
        let want: Vec<_> = touched(PAGES)
            .into_iter()
            .map(|n| (tid, base + n * PAGE + n, me))
            .collect();
        assert_eq!(found, want);
        for r in inside(base) {
            let object = objects[&r.object];
            assert_eq!(
                (object.kind, object.tgid, r.page),
                (ObjectKind::Anon, me, r.addr >> 12)
            );
            assert_eq!((r.access, r.major), (Access::Unknown, Some(false)));
        }
    }
    let found: Vec<_> = inside(mapped.1)
        .map(|r| (r.tid, r.page, r.access))
        .collect();
    let want: Vec<_> = (0..PAGES as u64)
        .step_by(16)
        .map(|n| (mapped.0, n, Access::Read))
        .collect();
    assert_eq!(found, want);
    for r in inside(mapped.1) {
        let object = objects[&r.object];
        assert_eq!(
            (object.kind, object.path.as_deref()),
            (ObjectKind::File, path.to_str())
        );
        assert_eq!(
            object.ino,
            std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap())
        );
    }
}

#[test]
fn chunks_rotate_and_each_reads_alone() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("raw");
    let script = "for i in 1 2 3 4 5 6; do sleep 0.1; done";
    let options = Options {
        rotate_bytes: 4096,
        ..options(&out, &["sh", "-c", script], &[])
    };
    let Some(report) = record(&options) else {
        return;
    };
    assert!(report.is_whole() && report.chunks > 4, "{report}");
    for entry in std::fs::read_dir(&out).unwrap() {
        let chunk = Chunk::read(&entry.unwrap().path());
        let mut known = BTreeSet::new();
        for kind in [BlockKind::Names, BlockKind::Repeated] {
            for record in chunk.records(kind) {
                match record {
                    Record::Object(o) => drop(known.insert(("object", o.object))),
                    Record::Process(p) => drop(known.insert(("process", p.tgid))),
                    _ => {}
                }
            }
        }
        for record in chunk.records(BlockKind::Refs) {
            let Record::Ref(r) = record else {
                panic!("{record:?}")
            };
            assert!(known.contains(&("object", r.object)) && known.contains(&("process", r.tgid)));
        }
    }
    read(&out);
}

#[test]
fn the_end_of_the_processes_or_of_the_time_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut sleeper = std::process::Command::new("sleep")
        .arg("0.3")
        .spawn()
        .unwrap();
    let out = dir.path().join("processes");
    let pid = sleeper.id();
    let waited = std::thread::spawn(move || sleeper.wait());
    if let Some(report) = record(&options(&out, &[], &[pid])) {
        assert_eq!(report.totals.ended_by, "processes");
    }
    waited.join().unwrap().unwrap();

    let out = dir.path().join("duration");
    let options = Options {
        duration: Some(Duration::from_millis(100)),
        ..options(&out, &["sleep", "3"], &[])
    };
    if let Some(report) = record(&options) {
        assert_eq!(report.totals.ended_by, "duration");
    }
}

#[test]
fn it_ends_before_the_disk_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("raw");
    let mut options = options(&out, &["true"], &[]);
    if record(&options).is_none() {
        return;
    }
    std::fs::remove_dir_all(&out).unwrap();
    options.min_free = Some(u64::MAX / 2);
    let error = perf::record(&options, &AtomicBool::new(false), &mut |_| {}).unwrap_err();
    assert!(matches!(error, RecordError::DiskFull { .. }), "{error}");
    assert!(!out.exists(), "a folder was left behind");
}

#[test]
fn what_perf_cannot_do_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("raw");
    let base = options(&out, &["true"], &[]);
    let mut uid = base.clone();
    uid.targets.uids = vec![0];
    let rich = Options {
        level: Level::Rich,
        ..base.clone()
    };
    let clean = Options {
        clean_ms: 500,
        ..base.clone()
    };
    let gone = options(&out, &[], &[4_194_303]);
    let no_program = options(&out, &["/no/such/program"], &[]);
    for (options, want) in [
        (uid, "--source perf cannot do --uid"),
        (
            rich,
            "--source perf cannot do --level rich or full: that needs the module",
        ),
        (clean, "--source perf cannot do --clean"),
        (gone, "there is no process 4194303"),
        (no_program, "cannot run /no/such/program: No such file"),
    ] {
        let error = perf::record(&options, &AtomicBool::new(false), &mut |_| {}).unwrap_err();
        let text = error.to_string();
        let refused = matches!(
            error,
            RecordError::Perf(perf::PerfError::Missing { .. } | perf::PerfError::Refused { .. })
        );
        assert!(
            refused || text.contains(want),
            "expected {want}, found {text}"
        );
        assert!(!out.exists(), "a folder was left behind");
    }
}
