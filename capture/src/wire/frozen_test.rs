#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
//! Frozen bytes of wire version 1, written by a C program from the header alone, decode to what that program said.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{ByteOrder, Item, decode, layout_test::compile};
use crate::record::{PageRef, Record};

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata")
        .join(name)
}

fn yes(on: bool, word: &str) -> String {
    if on {
        format!(" {word}")
    } else {
        String::new()
    }
}

fn ref_text(r: &PageRef) -> String {
    let major = match r.major {
        Some(true) => "yes",
        Some(false) => "no",
        None => "?",
    };
    format!(
        "tgid={} tid={} uid={} object={} addr={:#x} ip={:#x} page={} order={} event={} access={} major={major}{}{}{}",
        r.tgid,
        r.tid,
        r.uid,
        r.object,
        r.addr,
        r.ip,
        r.page,
        r.page_order,
        r.event,
        r.access,
        yes(r.gup, "gup"),
        yes(r.kernel, "kernel"),
        yes(r.present, "present"),
    )
}

fn prot_text([read, write, exec, shared]: [bool; 4]) -> String {
    let bit = |on, c| if on { c } else { '-' };
    let last = if shared { 's' } else { 'p' };
    String::from_iter([bit(read, 'r'), bit(write, 'w'), bit(exec, 'x'), last])
}

fn text(item: &Item) -> String {
    let record = match item {
        Item::Record(record) => record,
        Item::Unknown {
            kind,
            version,
            len,
            seq,
            ..
        } => {
            return format!("unknown seq={seq} kind={kind} version={version} len={len}");
        }
    };
    let s = record.stamp();
    let opt = |text: &Option<String>| match text.as_deref().unwrap_or("") {
        long if long.len() > 100 => format!("[{} times {}]", long.len(), &long[..1]),
        text => format!("[{text}]"),
    };
    let body = match record {
        Record::Ref(r) => ref_text(r),
        Record::Process(r) => format!(
            "tgid={} ppid={} uid={} gid={} start_ns={} start_boot_ns={}{}{}{}{} comm=[{}] exe={} cwd={} cgroup={}",
            r.tgid,
            r.ppid,
            r.uid,
            r.gid,
            r.start_ns,
            r.start_boot_ns,
            yes(r.attached, "attached"),
            yes(r.forked, "forked"),
            yes(r.execed, "execed"),
            yes(r.detached, "detached"),
            r.comm,
            opt(&r.exe),
            opt(&r.cwd),
            opt(&r.cgroup),
        ),
        Record::Mapping(r) => {
            let prot = prot_text([r.read, r.write, r.exec, r.shared]);
            format!(
                "tgid={} object={} start={:#x} end={:#x} page={} prot={prot}",
                r.tgid, r.object, r.start, r.end, r.page
            )
        }
        Record::Object(r) => format!(
            "object={} tgid={} dev={}:{} ino={} generation={} kind={}{}{} path={}",
            r.object,
            r.tgid,
            r.dev_major,
            r.dev_minor,
            r.ino,
            r.generation,
            r.kind,
            yes(r.deleted, "deleted"),
            yes(r.truncated, "truncated"),
            opt(&r.path),
        ),
        Record::Exit(r) => format!("tgid={} code={}", r.tgid, r.code),
        Record::Lost(r) => format!(
            "count={} first_seq={} first_ns={} last_ns={} channel={} cause={}",
            r.count, r.first_seq, r.first_ns, r.last_ns, r.channel, r.cause
        ),
        Record::Level(r) => format!("from={} to={} clean_ms={}", r.from, r.to, r.clean_ms),
        Record::Clean(r) => format!(
            "tgid={} pass={} start_ns={} end_ns={} scanned={} cleaned={}",
            r.tgid, r.pass, r.start_ns, r.end_ns, r.scanned, r.cleaned
        ),
        Record::Clock(r) => format!(
            "monotonic_ns={} realtime_ns={} boottime_ns={}",
            r.monotonic_ns, r.realtime_ns, r.boottime_ns
        ),
        Record::Policy(r) => format!(
            "policy={} grain={}{} clean_ms={} fifo={}",
            r.policy,
            r.grain,
            yes(r.overwrite, "overwrite"),
            r.clean_ms,
            r.fifo
        ),
        Record::Map(r) => {
            let prot = prot_text([r.read, r.write, r.exec, r.shared]);
            format!(
                "op={} tgid={} tid={} object={} start={:#x} end={:#x} page={} prot={prot} old_start={:#x} old_end={:#x}",
                r.op, r.tgid, r.tid, r.object, r.start, r.end, r.page, r.old_start, r.old_end
            )
        }
        Record::Around(r) => format!(
            "tgid={} tid={} object={} pages={} addr={:#x} page={} touched={:#x}",
            r.tgid, r.tid, r.object, r.pages, r.addr, r.page, r.touched
        ),
        Record::Active(r) => format!(
            "tgid={} object={} addr={:#x} page={} order={} since_ns={}{}{}{}",
            r.tgid,
            r.object,
            r.addr,
            r.page,
            r.page_order,
            r.since_ns,
            yes(r.dirtied, "dirtied"),
            yes(r.rereferenced, "rereferenced"),
            yes(r.gone, "gone"),
        ),
    };
    format!(
        "{} cpu={} seq={} time_ns={} {body}",
        record.kind(),
        s.cpu,
        s.seq,
        s.time_ns
    )
}

fn said(file: &str, order: ByteOrder) -> Vec<String> {
    let bytes = std::fs::read(testdata(file)).unwrap();
    decode(&bytes, order)
        .map(|item| text(&item.unwrap()))
        .collect()
}

/// Frozen files `NAME.bin`, `NAME-be.bin` and `NAME.txt`, the program in `tests/` that writes them, and kinds that they
/// must hold.
const FROZEN: [(&str, &str, &str); 2] = [
    (
        "wire-v1",
        "wire_v1.c",
        // One of every kind, and the records a reader of version 1 has to skip.
        "ref process mapping object exit lost level clean clock unknown",
    ),
    (
        "wire-v1-2",
        "wire_v1_2.c",
        "policy map around active process",
    ),
];

#[test]
fn frozen_bytes_decode_to_what_was_written() {
    for (name, _, kinds) in FROZEN {
        let expected = std::fs::read_to_string(testdata(&format!("{name}.txt"))).unwrap();
        let expected: Vec<&str> = expected.lines().collect();
        assert_eq!(said(&format!("{name}.bin"), ByteOrder::Little), expected);
        assert_eq!(said(&format!("{name}-be.bin"), ByteOrder::Big), expected);
        for kind in kinds.split(' ') {
            let mut lines = expected.iter();
            assert!(lines.any(|line| line.starts_with(kind)), "no {kind}");
        }
    }
}

/// The header still means the frozen bytes: whoever changes it without a new version is told here.
#[test]
fn the_header_still_writes_the_frozen_bytes() {
    for (name, source, _) in FROZEN {
        let dir = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests")
            .join(source);
        let program = compile(&source, dir.path());
        let (native, swapped) = match ByteOrder::NATIVE {
            ByteOrder::Little => (".bin", "-be.bin"),
            ByteOrder::Big => ("-be.bin", ".bin"),
        };
        for (mode, end) in [("native", native), ("swapped", swapped), ("text", ".txt")] {
            let out = Command::new(&program).arg(mode).output().unwrap();
            assert!(out.status.success());
            let frozen = std::fs::read(testdata(&format!("{name}{end}"))).unwrap();
            assert!(
                out.stdout == frozen,
                "{name}{end} differs from what the header gives now: a change of the wire format needs a new version"
            );
        }
    }
}
