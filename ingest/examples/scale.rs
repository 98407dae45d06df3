//! A large raw recording out of a real one: the real one again and again, later, by other processes.
//!
//! Every repetition has times of its own, and (unless `--lives` says otherwise) processes and anonymous memory of its
//! own; files stay the same files. Addresses, pages, instruction pointers and the order of things are what was
//! recorded. Names, sequence numbers, checksums, totals and the rotation of chunks are as the recorder writes them, so
//! the result ingests without a loss. The same arguments give the same bytes.
//!
//! ```text
//! cargo run --release -p pgtrace-ingest --example scale -- testdata/demo OUT --refs 20M
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use pgtrace_capture::chunk::{BlockKind, ChunkHeader, ChunkWriter, CpuTotals, Totals, file_name};
use pgtrace_capture::record::{Level, ObjectKind, PageRef, Record, Stamp};
use pgtrace_capture::units;
use pgtrace_capture::wire::{self, ByteOrder, Item, encode};
use pgtrace_ingest::source::{self, ChannelReader, Piece};
use rayon::prelude::*;
use uuid::Uuid;

/// Makes a large recording out of a small one.
#[derive(Parser)]
struct Args {
    /// The real recording: chunks, or folders of them.
    #[arg(required = true, num_args = 2.., value_name = "RAW.. OUT")]
    paths: Vec<PathBuf>,
    /// References of the result, at least: 20M is 20 million.
    #[arg(long, value_parser = count)]
    refs: u64,
    /// A chunk ends at this size.
    #[arg(long, default_value = "256MiB", value_parser = units::size)]
    chunk_size: u64,
    /// Threads; 0: one a core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Repetitions a process lives through: with 1 every repetition has its own.
    #[arg(long, default_value_t = 1)]
    lives: u64,
    /// Copies of the recording that run at the same time, each on CPUs of its own.
    #[arg(long, default_value_t = 1)]
    copies: u64,
    /// Bytes of a block of references (the recorder's sub-buffer).
    #[arg(long, default_value = "1MiB", value_parser = units::size)]
    block: u64,
}

fn count(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.char_indices().next_back() {
        Some((at, 'k')) => (&text[..at], 1e3),
        Some((at, 'M')) => (&text[..at], 1e6),
        Some((at, 'G')) => (&text[..at], 1e9),
        _ => (text, 1.0),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "expected a count like 20M".to_string())?;
    Ok((number * unit) as u64)
}

/// A record of the refs channel. References are most of them, so they stay small.
enum Thing {
    Ref(PageRef),
    Other(Box<Record>),
}

/// One CPU of the real recording.
struct Cpu {
    header: ChunkHeader,
    refs: Vec<Thing>,
    names: Vec<Name>,
}

struct Name {
    record: Record,
    when: When,
}

/// In which repetitions a name stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// Where its process begins.
    Born,
    /// Where its process ends.
    Dies,
    /// In the very first: files, and how the recording was set.
    Start,
    /// In the very last: it was switched off.
    End,
    Always,
}

/// Where a repetition stands among all.
#[derive(Clone, Copy)]
struct Unit {
    /// Number of the processes: 0 are the real ones.
    people: u64,
    shift_ns: u64,
    born: bool,
    dies: bool,
    start: bool,
    end: bool,
}

impl Unit {
    fn has(&self, when: When) -> bool {
        match when {
            When::Born => self.born,
            When::Dies => self.dies,
            When::Start => self.start,
            When::End => self.end,
            When::Always => true,
        }
    }
}

/// The whole plan: what is repeated, how often, and how numbers shift.
struct Plan {
    capture_id: Uuid,
    cpus: Vec<Cpu>,
    repetitions: u64,
    copies: u64,
    lives: u64,
    period_ns: u64,
    chunk_size: u64,
    block: usize,
    /// Real pids (tids among them), and anonymous objects, each with its place among them.
    pids: HashMap<u32, u64>,
    pid_base: u64,
    objects: HashMap<u32, u64>,
    object_base: u64,
    out: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let threads = rayon::ThreadPoolBuilder::new().num_threads(args.threads);
    threads.build_global()?;
    let started = Instant::now();
    let plan = Plan::new(&args)?;
    std::fs::create_dir_all(&plan.out)?;
    let cpus: Vec<(u64, usize)> = (0..plan.copies)
        .flat_map(|copy| (0..plan.cpus.len()).map(move |cpu| (copy, cpu)))
        .collect();
    let bytes: u64 = cpus
        .par_iter()
        .map(|&(copy, cpu)| Writer::new(&plan, copy, cpu)?.write())
        .try_reduce(|| 0, |a, b| Ok(a + b))?;
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{} references, {} repetitions of {}, {} processes, {} CPUs, {bytes} bytes in {seconds:.1} s ({:.0} MB/s)",
        plan.refs_of_one() * plan.repetitions * plan.copies,
        plan.repetitions * plan.copies,
        plan.refs_of_one(),
        plan.processes(),
        cpus.len(),
        bytes as f64 / seconds / 1e6,
    );
    Ok(())
}

impl Plan {
    fn new(args: &Args) -> Result<Plan> {
        let (out, raw) = args.paths.split_last().context("no OUT")?;
        ensure!(
            args.lives > 0 && args.copies > 0,
            "--lives and --copies are at least 1"
        );
        ensure!(args.block >= 64 << 10, "--block is at least 64KiB");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let found = source::find(raw, false, runtime.handle())?;
        let [recording] = found.recordings.as_slice() else {
            bail!("expected one recording, found {}", found.recordings.len());
        };
        let cpus = recording.cpus.values().map(|chunks| read(chunks));
        let mut cpus = cpus.collect::<Result<Vec<Cpu>>>()?;
        unite_names(&mut cpus);

        let (mut pids, mut objects) = (BTreeSet::new(), BTreeSet::new());
        let (mut least_ns, mut most_ns) = (u64::MAX, 0);
        let mut most_object = 0;
        let mut see = |record: &Record| {
            let time = record.stamp().time_ns;
            (least_ns, most_ns) = (least_ns.min(time), most_ns.max(time));
            match record {
                Record::Ref(r) => pids.extend([r.tgid, r.tid]),
                Record::Process(r) => {
                    pids.insert(r.tgid);
                }
                Record::Object(r) => {
                    most_object = most_object.max(r.object);
                    if r.kind != ObjectKind::File {
                        objects.insert(r.object);
                    }
                }
                _ => {}
            }
        };
        for cpu in &cpus {
            cpu.names.iter().for_each(|n| see(&n.record));
            for thing in &cpu.refs {
                match thing {
                    Thing::Ref(r) => see(&Record::Ref(*r)),
                    Thing::Other(r) => see(r),
                }
            }
        }
        pids.remove(&0); // nobody: page-cache events
        let numbered =
            |set: BTreeSet<u32>| -> HashMap<u32, u64> { set.into_iter().zip(0..).collect() };
        let pid_base = pids.last().map_or(0, |p| u64::from(*p) + 1);
        let mut plan = Plan {
            capture_id: Uuid::from_u128(
                Uuid::parse_str(&recording.capture_id)?.as_u128()
                    ^ u128::from(args.refs ^ args.lives << 40 ^ args.copies << 52),
            ),
            cpus,
            repetitions: 0,
            copies: args.copies,
            lives: args.lives,
            // A moment between two repetitions, so that no two records of a CPU have their order by chance.
            period_ns: most_ns.saturating_sub(least_ns) + 1_000_000,
            chunk_size: args.chunk_size,
            block: args.block as usize,
            pids: numbered(pids),
            pid_base,
            objects: numbered(objects),
            object_base: u64::from(most_object) + 1,
            out: out.clone(),
        };
        let one = plan.refs_of_one();
        ensure!(one > 0, "the recording has no references");
        plan.repetitions = args.refs.div_ceil(one * args.copies).max(1);
        let people = plan.people(plan.copies - 1, plan.repetitions - 1);
        // Linux has no larger pids, and upid keeps 22 bits of them.
        let last_pid = plan.pid_base + people * plan.pids.len() as u64;
        ensure!(
            last_pid < 1 << 22,
            "{last_pid} pids are too many: --lives lets processes live longer"
        );
        Ok(plan)
    }

    /// References of the real recording.
    fn refs_of_one(&self) -> u64 {
        let refs = |c: &Cpu| c.refs.iter().filter(|t| matches!(t, Thing::Ref(_))).count();
        self.cpus.iter().map(|c| refs(c) as u64).sum()
    }

    fn processes(&self) -> u64 {
        let processes: BTreeSet<u32> = self
            .cpus
            .iter()
            .flat_map(|c| &c.names)
            .filter_map(|n| match &n.record {
                Record::Process(p) => Some(p.tgid),
                _ => None,
            })
            .collect();
        processes.len() as u64 * self.repetitions.div_ceil(self.lives) * self.copies
    }

    fn people(&self, copy: u64, repetition: u64) -> u64 {
        repetition / self.lives * self.copies + copy
    }

    fn unit(&self, copy: u64, repetition: u64) -> Unit {
        let last = repetition + 1 == self.repetitions;
        Unit {
            people: self.people(copy, repetition),
            // Copies are at different places of their round.
            shift_ns: repetition * self.period_ns + copy * self.period_ns / self.copies,
            born: repetition.is_multiple_of(self.lives),
            dies: last || (repetition + 1).is_multiple_of(self.lives),
            start: copy == 0 && repetition == 0,
            end: last && copy + 1 == self.copies,
        }
    }

    fn cpu_number(&self, copy: u64, cpu: usize) -> u16 {
        copy as u16 * self.cpus.len() as u16 + cpu as u16
    }

    fn pid(&self, unit: Unit, pid: &mut u32) {
        if unit.people > 0
            && let Some(place) = self.pids.get(pid)
        {
            *pid = (self.pid_base + (unit.people - 1) * self.pids.len() as u64 + place) as u32;
        }
    }

    fn object(&self, unit: Unit, object: &mut u32) {
        if unit.people > 0
            && let Some(place) = self.objects.get(object)
        {
            let all = self.objects.len() as u64;
            *object = (self.object_base + (unit.people - 1) * all + place) as u32;
        }
    }

    /// A reference as this repetition has it.
    fn shift_ref(&self, unit: Unit, r: &PageRef, cpu: u16, seq: u64) -> PageRef {
        let mut r = *r;
        r.stamp = Stamp {
            cpu,
            seq,
            time_ns: r.stamp.time_ns + unit.shift_ns,
        };
        self.pid(unit, &mut r.tgid);
        self.pid(unit, &mut r.tid);
        self.object(unit, &mut r.object);
        r
    }

    /// Any other record.
    fn shift(&self, unit: Unit, record: &Record, cpu: u16, seq: u64) -> Record {
        let mut record = record.clone();
        let later = unit.shift_ns;
        let stamp = match &mut record {
            Record::Ref(r) => {
                *r = self.shift_ref(unit, r, cpu, seq);
                return record;
            }
            Record::Process(r) => {
                self.pid(unit, &mut r.tgid);
                self.pid(unit, &mut r.ppid);
                r.start_ns += later;
                r.start_boot_ns += later;
                &mut r.stamp
            }
            Record::Mapping(r) => {
                self.pid(unit, &mut r.tgid);
                self.object(unit, &mut r.object);
                &mut r.stamp
            }
            Record::Object(r) => {
                self.pid(unit, &mut r.tgid);
                self.object(unit, &mut r.object);
                &mut r.stamp
            }
            Record::Exit(r) => {
                self.pid(unit, &mut r.tgid);
                &mut r.stamp
            }
            Record::Lost(r) => &mut r.stamp,
            Record::Level(r) => &mut r.stamp,
            Record::Policy(r) => &mut r.stamp,
            Record::Clean(r) => {
                self.pid(unit, &mut r.tgid);
                r.start_ns += later;
                r.end_ns += later;
                &mut r.stamp
            }
            Record::Clock(r) => {
                r.monotonic_ns += later;
                r.realtime_ns += later;
                r.boottime_ns += later;
                &mut r.stamp
            }
            Record::Map(r) => {
                self.pid(unit, &mut r.tgid);
                self.pid(unit, &mut r.tid);
                self.object(unit, &mut r.object);
                &mut r.stamp
            }
            Record::Around(r) => {
                self.pid(unit, &mut r.tgid);
                self.pid(unit, &mut r.tid);
                self.object(unit, &mut r.object);
                &mut r.stamp
            }
            Record::Active(r) => {
                self.pid(unit, &mut r.tgid);
                self.object(unit, &mut r.object);
                r.since_ns += later;
                &mut r.stamp
            }
        };
        *stamp = Stamp {
            cpu,
            seq,
            time_ns: stamp.time_ns + later,
        };
        record
    }

    /// Names of one CPU of one repetition, numbered from `seq` on.
    fn names(&self, copy: u64, repetition: u64, cpu: usize, seq: u64) -> Vec<Record> {
        let unit = self.unit(copy, repetition);
        let number = self.cpu_number(copy, cpu);
        let here = self.cpus[cpu].names.iter().filter(|n| unit.has(n.when));
        here.zip(seq..)
            .map(|(name, seq)| self.shift(unit, &name.record, number, seq))
            .collect()
    }

    /// Names a CPU wrote before this repetition.
    fn names_before(&self, copy: u64, repetition: u64, cpu: usize) -> u64 {
        let names = &self.cpus[cpu].names;
        let of = |when| names.iter().filter(|n| n.when == when).count() as u64;
        let (born, dies, start, always) = (
            of(When::Born),
            of(When::Dies),
            of(When::Start),
            of(When::Always),
        );
        let started = if copy == 0 && repetition > 0 {
            start
        } else {
            0
        };
        let last = repetition == self.repetitions; // behind the end
        let end = if last && copy + 1 == self.copies {
            of(When::End)
        } else {
            0
        };
        let died = match last {
            true => self.repetitions.div_ceil(self.lives),
            false => repetition / self.lives,
        };
        repetition * always + repetition.div_ceil(self.lives) * born + died * dies + started + end
    }

    /// What a chunk that begins in this repetition at `time_ns` has to repeat: files, and whoever lives.
    fn repeated(&self, copy: u64, repetition: u64, time_ns: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let born = repetition - repetition % self.lives;
        for (copy, repetition, all) in [(0, 0, false), (copy, born, true)] {
            for (cpu, of_cpu) in self.cpus.iter().enumerate() {
                let seq = self.names_before(copy, repetition, cpu);
                let unit = self.unit(copy, repetition);
                let whens = of_cpu.names.iter().map(|n| n.when);
                let names = self.names(copy, repetition, cpu, seq);
                for (record, when) in names.iter().zip(whens.filter(|w| unit.has(*w))) {
                    let wanted = match when {
                        When::Start => !all,
                        When::Born => all,
                        When::Dies | When::End | When::Always => false,
                    };
                    if wanted && record.stamp().time_ns <= time_ns {
                        encode(record, &mut bytes);
                    }
                }
            }
        }
        bytes
    }

    fn totals(&self) -> Vec<u8> {
        let cpus = (0..self.copies).flat_map(|copy| {
            (0..self.cpus.len()).map(move |cpu| CpuTotals {
                cpu: self.cpu_number(copy, cpu),
                refs_emitted: self.cpus[cpu].refs.len() as u64 * self.repetitions,
                refs_lost: 0,
                names_emitted: self.names_before(copy, self.repetitions, cpu),
                names_lost: 0,
                bytes: 0,
            })
        });
        let totals = Totals {
            cpus: cpus.collect(),
            complete: true,
            ended_by: "command".into(),
            command_exit: Some(0),
            duration_ns: self.period_ns * self.repetitions,
            unread: Vec::new(),
        };
        serde_json::to_vec(&totals).expect("totals are JSON")
    }
}

/// Reads one CPU, without copies and without losses.
fn read(chunks: &[source::Chunk]) -> Result<Cpu> {
    let first = chunks.first().context("a CPU without chunks")?;
    let mut cpu = Cpu {
        header: first.header.clone(),
        refs: Vec::new(),
        names: Vec::new(),
    };
    let mut reader = ChannelReader::new(chunks);
    let mut seen = BTreeSet::new();
    while let Some(piece) = reader.next_piece()? {
        let kind = match piece {
            Piece::Block(BlockKind::Totals) => continue,
            Piece::Block(kind) => kind,
            Piece::Damage(damage) => bail!("damage: {}", damage.detail),
            Piece::Absent => bail!("a chunk is missing before {}", first.place),
        };
        for item in wire::decode(reader.payload(), reader.byte_order()) {
            let Item::Record(record) = item? else {
                bail!("a record of an unknown kind");
            };
            match (kind, record) {
                (_, Record::Lost(_)) => {} // their numbers are closed up
                (BlockKind::Refs, Record::Ref(r)) => cpu.refs.push(Thing::Ref(r)),
                (BlockKind::Refs, other) => cpu.refs.push(Thing::Other(Box::new(other))),
                (_, record) => {
                    let stamp = record.stamp();
                    if seen.insert((stamp.cpu, stamp.seq)) {
                        let when = when(&record);
                        cpu.names.push(Name { record, when });
                    }
                }
            }
        }
    }
    Ok(cpu)
}

fn when(record: &Record) -> When {
    match record {
        Record::Process(_) | Record::Mapping(_) => When::Born,
        Record::Object(o) if o.kind == ObjectKind::File => When::Start,
        Record::Object(_) => When::Born,
        Record::Exit(_) => When::Dies,
        Record::Level(l) if l.to == Level::Off => When::End,
        Record::Level(_) | Record::Policy(_) => When::Start,
        _ => When::Always,
    }
}

/// Copies of other CPUs' names go home: each name stands once, with the CPU that wrote it.
fn unite_names(cpus: &mut [Cpu]) {
    let mut all: BTreeMap<(u16, u64), Name> = BTreeMap::new();
    for cpu in cpus.iter_mut() {
        for name in cpu.names.drain(..) {
            let stamp = name.record.stamp();
            all.insert((stamp.cpu, stamp.seq), name);
        }
    }
    for ((number, _), name) in all {
        let home = cpus
            .iter()
            .position(|c| c.header.cpu == number)
            .unwrap_or(0);
        cpus[home].names.push(name);
    }
}

/// Writes the chunks of one CPU.
struct Writer<'a> {
    plan: &'a Plan,
    copy: u64,
    cpu: usize,
    number: u16,
    index: u32,
    open: Option<Open>,
    bytes: u64,
}

struct Open {
    writer: ChunkWriter,
    base: u64,
}

impl<'a> Writer<'a> {
    fn new(plan: &'a Plan, copy: u64, cpu: usize) -> Result<Self> {
        let number = plan.cpu_number(copy, cpu);
        let mut writer = Writer {
            plan,
            copy,
            cpu,
            number,
            index: 0,
            open: None,
            bytes: 0,
        };
        let monotonic_ns = plan.cpus[cpu].header.monotonic_ns;
        writer.begin(monotonic_ns, &[])?;
        Ok(writer)
    }

    /// All repetitions; gives the bytes written.
    fn write(mut self) -> Result<u64> {
        let (plan, mut seq, mut name_seq) = (self.plan, 0, 0);
        let mut block = Vec::with_capacity(plan.block + 1024);
        for repetition in 0..plan.repetitions {
            let unit = plan.unit(self.copy, repetition);
            let names = plan.names(self.copy, repetition, self.cpu, name_seq);
            name_seq += names.len() as u64;
            let mut bytes = Vec::new();
            names.iter().for_each(|n| encode(n, &mut bytes));
            if !bytes.is_empty() {
                self.block(BlockKind::Names, &bytes)?;
            }
            for thing in &plan.cpus[self.cpu].refs {
                let record = match thing {
                    Thing::Ref(r) => Record::Ref(plan.shift_ref(unit, r, self.number, seq)),
                    Thing::Other(r) => plan.shift(unit, r, self.number, seq),
                };
                seq += 1;
                // A sub-buffer holds whole records.
                let before = block.len();
                encode(&record, &mut block);
                if block.len() > plan.block {
                    self.block(BlockKind::Refs, &block[..before])?;
                    block.drain(..before);
                    self.rotate_when_due(repetition, record.stamp().time_ns)?;
                }
            }
        }
        if !block.is_empty() {
            self.block(BlockKind::Refs, &block)?;
        }
        ensure!(
            name_seq == plan.names_before(self.copy, plan.repetitions, self.cpu),
            "names were counted wrongly"
        );
        self.block(BlockKind::Totals, &plan.totals())?;
        self.end()?;
        Ok(self.bytes)
    }

    fn block(&mut self, kind: BlockKind, bytes: &[u8]) -> Result<()> {
        let open = self.open.as_mut().context("no chunk is open")?;
        Ok(open.writer.block(kind, bytes)?)
    }

    fn rotate_when_due(&mut self, repetition: u64, time_ns: u64) -> Result<()> {
        let size = self.open.as_ref().map_or(0, |o| o.writer.bytes() - o.base);
        if size >= self.plan.chunk_size {
            self.end()?;
            let repeated = self.plan.repeated(self.copy, repetition, time_ns);
            self.begin(time_ns, &repeated)?;
        }
        Ok(())
    }

    fn begin(&mut self, monotonic_ns: u64, repeated: &[u8]) -> Result<()> {
        let first = &self.plan.cpus[self.cpu].header;
        let later = monotonic_ns.saturating_sub(first.monotonic_ns);
        let header = ChunkHeader {
            capture_id: self.plan.capture_id,
            byte_order: ByteOrder::NATIVE,
            cpu: self.number,
            index: self.index,
            monotonic_ns,
            realtime_ns: first.realtime_ns + later,
            boottime_ns: first.boottime_ns + later,
            ..first.clone()
        };
        let path: &Path = &self.plan.out.join(file_name(self.number, self.index));
        let mut writer = ChunkWriter::create(path, &header)?;
        if !repeated.is_empty() {
            writer.block(BlockKind::Repeated, repeated)?;
        }
        self.index += 1;
        self.open = Some(Open {
            base: writer.bytes(),
            writer,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        if let Some(open) = self.open.take() {
            self.bytes += open.writer.finish()?;
        }
        Ok(())
    }
}
