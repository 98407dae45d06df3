//! Fabricated recordings, and datasets read back as plain rows.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

pub mod read;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use pgtrace_capture::chunk::{
    BlockKind, ChunkHeader, ChunkWriter, CpuTotals, Settings, Totals, file_name,
};
use pgtrace_capture::record::{
    Access, Channel, Event, Lost, LostCause, Object, ObjectKind, PageRef, Process, Record, Stamp,
};
use pgtrace_capture::wire::{ByteOrder, encode};
use pgtrace_ingest::error::IngestError;
use pgtrace_ingest::pipeline::{Options, ingest};
use pgtrace_ingest::report::Report;
use uuid::Uuid;

/// One CPU of a fabricated recording: the records of its two channels, numbered.
#[derive(Clone, Debug, Default)]
pub struct Cpu {
    pub cpu: u16,
    pub refs: Vec<Record>,
    pub names: Vec<Record>,
    pub next_ref: u64,
    pub next_name: u64,
    pub refs_lost: u64,
}

/// A fabricated recording.
#[derive(Clone, Debug)]
pub struct Fabric {
    pub capture_id: Uuid,
    pub cpus: Vec<Cpu>,
    /// Records of a block at most.
    pub block: usize,
    /// Blocks of a chunk at most.
    pub chunk: usize,
    pub totals: bool,
    pub settings: Settings,
}

pub fn stamp(cpu: u16, seq: u64, time_ns: u64) -> Stamp {
    Stamp { cpu, seq, time_ns }
}

/// A reference with nothing special about it.
pub fn page_ref(time_ns: u64, tgid: u32, object: u32, page: u64) -> PageRef {
    PageRef {
        stamp: stamp(0, 0, time_ns),
        tgid,
        tid: tgid,
        uid: 1000,
        object,
        addr: 0x7000_0000_0000 + page * 4096 + 8,
        ip: 0x40_1000,
        page,
        page_order: 0,
        event: Event::Fault,
        access: Access::Read,
        major: Some(false),
        kernel: false,
        gup: false,
        present: false,
    }
}

pub fn process(time_ns: u64, tgid: u32, start_ns: u64, comm: &str) -> Process {
    Process {
        stamp: stamp(0, 0, time_ns),
        tgid,
        ppid: 1,
        uid: 1000,
        gid: 1000,
        start_ns,
        start_boot_ns: start_ns,
        attached: false,
        forked: true,
        execed: false,
        detached: false,
        comm: comm.into(),
        exe: Some(format!("/bin/{comm}")),
        cwd: None,
        cgroup: Some("/".into()),
    }
}

pub fn file_object(time_ns: u64, object: u32, path: &str) -> Object {
    Object {
        stamp: stamp(0, 0, time_ns),
        object,
        tgid: 1,
        dev_major: 8,
        dev_minor: 1,
        ino: 1000 + u64::from(object),
        generation: 1,
        kind: ObjectKind::File,
        path: Some(path.into()),
        deleted: false,
        truncated: false,
    }
}

impl Cpu {
    /// Adds a reference, numbered.
    pub fn push_ref(&mut self, r: PageRef) {
        let stamp = stamp(self.cpu, self.next_ref, r.stamp.time_ns);
        self.refs.push(Record::Ref(PageRef { stamp, ..r }));
        self.next_ref += 1;
    }

    /// `count` references are lost here, and a LOST record says so.
    pub fn lose(&mut self, count: u64, first_ns: u64, last_ns: u64) {
        let lost = Lost {
            stamp: stamp(self.cpu, self.next_ref + count, last_ns),
            count,
            first_seq: self.next_ref,
            first_ns,
            last_ns,
            channel: Channel::Refs,
            cause: LostCause::BufferFull,
        };
        self.refs.push(Record::Lost(lost));
        self.next_ref += count + 1;
        self.refs_lost += count;
    }

    /// Adds a record to the refs channel, whatever its kind, numbered.
    pub fn push_to_refs(&mut self, record: Record) {
        let s = stamp(self.cpu, self.next_ref, record.stamp().time_ns);
        self.refs.push(stamped(record, s));
        self.next_ref += 1;
    }

    /// So many records of the refs channel are given up on purpose: nothing tells it.
    pub fn skip(&mut self, count: u64) {
        self.next_ref += count;
    }

    /// Adds a name, numbered.
    pub fn push_name(&mut self, record: Record) {
        let s = stamp(self.cpu, self.next_name, record.stamp().time_ns);
        self.names.push(stamped(record, s));
        self.next_name += 1;
    }
}

fn stamped(mut record: Record, s: Stamp) -> Record {
    match &mut record {
        Record::Ref(r) => r.stamp = s,
        Record::Process(r) => r.stamp = s,
        Record::Mapping(r) => r.stamp = s,
        Record::Object(r) => r.stamp = s,
        Record::Exit(r) => r.stamp = s,
        Record::Lost(r) => r.stamp = s,
        Record::Level(r) => r.stamp = s,
        Record::Clean(r) => r.stamp = s,
        Record::Clock(r) => r.stamp = s,
        Record::Policy(r) => r.stamp = s,
        Record::Map(r) => r.stamp = s,
        Record::Around(r) => r.stamp = s,
        Record::Active(r) => r.stamp = s,
    }
    record
}

impl Fabric {
    pub fn new(id: u128, cpus: u16) -> Self {
        let cpu = |cpu| Cpu {
            cpu,
            ..Cpu::default()
        };
        Self {
            capture_id: Uuid::from_u128(id),
            cpus: (0..cpus).map(cpu).collect(),
            block: 16,
            chunk: 8,
            totals: true,
            settings: Settings {
                level: "rich".into(),
                ..Settings::default()
            },
        }
    }

    /// A recording of `n` references by a few processes to a few files, from a
    /// seed; nothing is lost. Times rise, and CPUs take turns irregularly.
    pub fn random(id: u128, cpus: u16, n: u64, processes: u32, seed: u64) -> Self {
        let mut fabric = Self::new(id, cpus);
        fabric.block = 1000;
        fabric.chunk = 64;
        let mut random = Random(seed);
        for p in 0..processes {
            let r = Record::Process(process(1000, 100 + p, 500, &format!("comm{p}")));
            fabric.cpus[0].push_name(r);
        }
        for o in 1..6 {
            let r = Record::Object(file_object(1000, o, &format!("/data/file{o}")));
            fabric.cpus[0].push_name(r);
        }
        let mut page = 0;
        for i in 0..n {
            let x = random.next();
            page = if x.is_multiple_of(8) {
                x >> 44
            } else {
                page + 1
            };
            let tgid = 100 + (x >> 8) as u32 % processes;
            let mut r = page_ref(1000 + i * 100 + x % 50, tgid, 1 + tgid % 5, page);
            r.ip = 0x40_0000 + (x >> 32) % 512 * 4;
            fabric.cpus[(x >> 20) as usize % usize::from(cpus)].push_ref(r);
        }
        fabric
    }

    pub fn header(&self, cpu: u16, index: u32) -> ChunkHeader {
        ChunkHeader {
            capture_id: self.capture_id,
            boot_id: Uuid::from_u128(7),
            kernel: "6.1.0-test".into(),
            page_size: 4096,
            byte_order: ByteOrder::NATIVE,
            cpu,
            index,
            monotonic_ns: 1000,
            realtime_ns: 1_700_000_000_000_000_000,
            boottime_ns: 1000,
            settings: self.settings.clone(),
        }
    }

    /// Numbers of the refs channels that are rows, or lost.
    pub fn emitted(&self) -> u64 {
        let others = |c: &Cpu| {
            let others = c.refs.iter().filter(|r| !matches!(r, Record::Ref(_)));
            others.count() as u64
        };
        self.cpus.iter().map(|c| c.next_ref - others(c)).sum()
    }

    pub fn totals_json(&self) -> Vec<u8> {
        let total = |c: &Cpu| CpuTotals {
            cpu: c.cpu,
            refs_emitted: c.next_ref - c.refs_lost,
            refs_lost: c.refs_lost,
            names_emitted: c.next_name,
            names_lost: 0,
            bytes: 0,
        };
        let totals = Totals {
            cpus: self.cpus.iter().map(total).collect(),
            complete: true,
            ..Totals::default()
        };
        serde_json::to_vec(&totals).unwrap()
    }

    /// Writes the chunks into `folder`: names first, then references, block by
    /// block; names are repeated at each later chunk's start.
    pub fn write(&self, folder: &Path) -> Vec<PathBuf> {
        std::fs::create_dir_all(folder).unwrap();
        let mut paths = Vec::new();
        for cpu in &self.cpus {
            let blocks = |records: &[Record], kind| -> Vec<(BlockKind, Vec<u8>)> {
                let bytes = |few: &[Record]| {
                    let mut bytes = Vec::new();
                    few.iter().for_each(|r| encode(r, &mut bytes));
                    (kind, bytes)
                };
                records.chunks(self.block).map(bytes).collect()
            };
            let mut all = blocks(&cpu.names, BlockKind::Names);
            all.extend(blocks(&cpu.refs, BlockKind::Refs));
            let chunks: Vec<_> = match all.is_empty() {
                true => vec![&all[..]],
                false => all.chunks(self.chunk).collect(),
            };
            for (index, blocks) in chunks.iter().enumerate() {
                let path = folder.join(file_name(cpu.cpu, index as u32));
                let header = self.header(cpu.cpu, index as u32);
                let mut writer = ChunkWriter::create(&path, &header).unwrap();
                if index > 0 {
                    let mut bytes = Vec::new();
                    self.cpus
                        .iter()
                        .flat_map(|c| &c.names)
                        .for_each(|r| encode(r, &mut bytes));
                    writer.block(BlockKind::Repeated, &bytes).unwrap();
                }
                for (kind, bytes) in *blocks {
                    writer.block(*kind, bytes).unwrap();
                }
                if self.totals && index + 1 == chunks.len() {
                    writer
                        .block(BlockKind::Totals, &self.totals_json())
                        .unwrap();
                }
                writer.finish().unwrap();
                paths.push(path);
            }
        }
        paths
    }
}

/// A small generator of numbers (SplitMix64): the same for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Ingests as the program does, without a progress bar.
pub fn run(raw: &[PathBuf], to: &Path, options: &Options) -> Result<Report, IngestError> {
    ingest(raw, to.to_str().unwrap(), options, &|_| {})
}

/// Few threads and little memory: what tests use unless they say otherwise.
pub fn small() -> Options {
    Options {
        memory: 64 << 20,
        threads: 2,
        ..Options::default()
    }
}

/// Files below a folder.
pub fn count(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path());
    entries
        .map(|p| if p.is_dir() { count(&p) } else { 1 })
        .sum()
}

/// Runs the program and gives its peak resident memory, in bytes.
pub fn peak_of(command: &mut Command) -> u64 {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let (peak, status) = peak_until_end(&mut child);
    let out = child.wait_with_output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    peak
}

/// Waits for a program that runs, and gives its peak resident memory, in bytes, and how it ended.
pub fn peak_until_end(child: &mut Child) -> (u64, ExitStatus) {
    let status = format!("/proc/{}/status", child.id());
    let program = format!("/proc/{}/exe", child.id());
    let own = std::fs::read_link("/proc/self/exe").unwrap();
    let mut peak = 0;
    loop {
        // exec lets the parent go on an instant before it leaves the parent's memory: that is not the child's.
        if std::fs::read_link(&program).is_ok_and(|exe| exe == own) {
            std::thread::yield_now();
            continue;
        }
        // The high-water mark only grows: the last look before the end is close to it.
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) * 1024);
        if let Some(code) = child.try_wait().unwrap() {
            return (peak, code);
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}
