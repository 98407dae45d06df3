//! A folder that stands in for debugfs/pgtrace: plain files, and a thread that answers the commands in `control`.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use pgtrace_capture::chunk::{BlockKind, ChunkHeader, ChunkReader, Step, Totals};
use pgtrace_capture::record::*;
use pgtrace_capture::wire::{self, ByteOrder, Item};
use tempfile::TempDir;

/// The stand-in module.
pub struct Fake {
    dir: TempDir,
    cpus: u16,
}

impl Fake {
    pub fn new(cpus: u16) -> Fake {
        let fake = Fake {
            dir: tempfile::tempdir().unwrap(),
            cpus,
        };
        std::fs::create_dir(fake.root()).unwrap();
        for cpu in 0..cpus {
            File::create(fake.root().join(format!("refs{cpu}"))).unwrap();
            File::create(fake.root().join(format!("names{cpu}"))).unwrap();
        }
        File::create(fake.root().join("control")).unwrap();
        fake.status("idle", 0, "");
        fake
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("pgtrace")
    }

    /// Where a test may put its chunks.
    pub fn out(&self) -> PathBuf {
        self.dir.path().join("raw")
    }

    /// Sets what `status` says; `counters` are its cpu lines. Whoever reads sees the old or the new, never half.
    pub fn status(&self, state: &str, processes: u32, counters: &str) {
        let text = format!(
            "version 1\nmodule 0.1.0\nstate {state}\nlevel rich\nclean_ms 500\nprocesses {processes}\nobjects 0\n\
             subbuf_size 65536\nn_subbufs 4\nnames_subbuf_size 65536\nnames_n_subbufs 4\n{counters}"
        );
        let new = self.dir.path().join("status.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.root().join("status")).unwrap();
    }

    /// The module writes records to a channel.
    pub fn emit(&self, channel: &str, records: &[Record]) -> u64 {
        self.emit_bytes(channel, &encoded(records))
    }

    pub fn emit_bytes(&self, channel: &str, bytes: &[u8]) -> u64 {
        let path = self.root().join(channel);
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(bytes).unwrap();
        bytes.len() as u64
    }

    /// The commands the recorder gave so far.
    pub fn commands(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.root().join("control")).unwrap();
        text.lines().map(str::to_string).collect()
    }

    /// Waits until the recorder gave a command.
    pub fn wait_for(&self, command: &str) {
        wait_until(command, || self.commands().iter().any(|c| c == command));
    }

    /// The recorder, about to be run against this module.
    pub fn recorder(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgtrace-capture"));
        command.args(args).env("PGTRACE_DEBUGFS", self.root());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `record -o OUT` with more arguments, started.
    pub fn record(&self, args: &[&str]) -> Recorder {
        self.record_to(&self.out(), args)
    }

    /// `record -o FOLDER` with more arguments, started.
    pub fn record_to(&self, out: &Path, args: &[&str]) -> Recorder {
        let args = [&["record", "-o", out.to_str().unwrap()], args].concat();
        Recorder(self.recorder(&args).spawn().unwrap())
    }

    /// The chunks, by name.
    pub fn chunks(&self) -> Vec<Chunk> {
        let files = std::fs::read_dir(self.out()).unwrap();
        let mut paths: Vec<PathBuf> = files
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "pgt"))
            .collect();
        paths.sort();
        paths.iter().map(|path| Chunk::read(path)).collect()
    }

    /// All bytes of one channel, out of all chunks in order.
    pub fn stored(&self, kind: BlockKind, cpu: u16) -> Vec<u8> {
        self.chunks()
            .iter()
            .filter(|c| c.header.cpu == cpu)
            .flat_map(|c| c.bytes(kind))
            .collect()
    }
}

/// A recorder at work.
pub struct Recorder(Child);

impl Recorder {
    pub fn signal(&self, signal: i32) {
        let sent = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(self.0.id().to_string())
            .status();
        assert!(sent.unwrap().success());
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Its end by a signal that it cannot catch.
    pub fn end_by_signal(mut self) {
        assert_eq!(self.0.wait().unwrap().code(), None);
    }

    /// Its end: exit code and what it said. Its stdout must be empty: it is for data.
    pub fn end(self) -> (i32, String) {
        let output = self.0.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
        said(&output)
    }
}

pub fn said(output: &Output) -> (i32, String) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    (output.status.code().unwrap(), text)
}

/// Waits for something that must come; a minute is for machines that are very busy.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "waited in vain for: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A chunk, read whole.
pub struct Chunk {
    pub name: String,
    pub header: ChunkHeader,
    pub blocks: Vec<(BlockKind, Vec<u8>)>,
    pub damage: Vec<String>,
}

impl Chunk {
    pub fn read(path: &Path) -> Chunk {
        let mut reader = ChunkReader::open(path).unwrap();
        let header = reader.header().clone();
        let (mut blocks, mut damage, mut buf) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(step) = reader.next_block(&mut buf).unwrap() {
            match step {
                Step::Block { kind, .. } => blocks.push((kind, buf.clone())),
                Step::Damage { cause, detail, .. } => {
                    damage.push(format!("{}: {detail}", cause.as_str()))
                }
            }
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        Chunk {
            name,
            header,
            blocks,
            damage,
        }
    }

    pub fn bytes(&self, kind: BlockKind) -> Vec<u8> {
        self.blocks
            .iter()
            .filter(|b| b.0 == kind)
            .flat_map(|b| b.1.clone())
            .collect()
    }

    pub fn records(&self, kind: BlockKind) -> Vec<Record> {
        decoded(&self.bytes(kind))
    }

    pub fn totals(&self) -> Option<Totals> {
        let json = self.bytes(BlockKind::Totals);
        (!json.is_empty()).then(|| serde_json::from_slice(&json).unwrap())
    }
}

pub fn encoded(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    records.iter().for_each(|r| wire::encode(r, &mut bytes));
    bytes
}

pub fn decoded(bytes: &[u8]) -> Vec<Record> {
    wire::decode(bytes, ByteOrder::NATIVE)
        .map(|item| match item.unwrap() {
            Item::Record(record) => record,
            other @ Item::Unknown { .. } => panic!("{other:?}"),
        })
        .collect()
}

/// References `from..to` of a CPU.
pub fn refs(cpu: u16, from: u64, to: u64) -> Vec<Record> {
    (from..to)
        .map(|seq| {
            Record::Ref(PageRef {
                stamp: Stamp {
                    cpu,
                    seq,
                    time_ns: 1000 + seq,
                },
                tgid: 42,
                tid: 42,
                uid: 0,
                object: 1,
                addr: seq << 12,
                ip: 0x400_000,
                page: seq,
                page_order: 0,
                event: Event::Fault,
                access: Access::Read,
                major: Some(false),
                kernel: false,
                gup: false,
                present: false,
            })
        })
        .collect()
}

pub fn object(cpu: u16, seq: u64, object: u32, path: &str) -> Record {
    Record::Object(Object {
        stamp: Stamp {
            cpu,
            seq,
            time_ns: 1000 + seq,
        },
        object,
        tgid: 42,
        dev_major: 8,
        dev_minor: 1,
        ino: u64::from(object),
        generation: 0,
        kind: ObjectKind::File,
        path: Some(path.into()),
        deleted: false,
        truncated: false,
    })
}
