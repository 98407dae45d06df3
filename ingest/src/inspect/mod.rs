//! A recording as text: chunk headers, and a line or a JSON object a record.

pub mod filter;
mod json;
mod merged;
mod summary;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use pgtrace_capture::chunk::{BlockKind, ChunkError, Step};
use pgtrace_capture::record::Record;
use pgtrace_capture::wire::{self, Item};

use self::filter::{Filter, Sieve};
use crate::error::IngestError;
use crate::names::Names;
use crate::source::{self, Found, Place};
use crate::survey::survey;

/// Why a recording could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The chunk cannot be used.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The input cannot be used.
    #[error(transparent)]
    Input(#[from] IngestError),
    /// The text cannot be written.
    #[error("cannot write: {0}")]
    Write(#[from] std::io::Error),
}

/// How records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A line a record.
    #[default]
    Text,
    /// A JSON object a record.
    Ndjson,
}

/// What to show, and how.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which records.
    pub filter: Filter,
    /// How they are written.
    pub format: Format,
    /// Show the command and the file's path beside their numbers.
    pub names: bool,
    /// In order of time across CPUs, instead of chunk by chunk.
    pub merge: bool,
    /// The head of each recording only: what it is, and how much.
    pub summary: bool,
    /// Records at most.
    pub limit: Option<u64>,
}

impl Options {
    /// Nothing is left out or changed: chunks are shown as they are.
    fn is_plain(&self) -> bool {
        self.filter.is_empty() && self.format == Format::Text && !self.merge && self.limit.is_none()
    }

    /// Names are needed of the whole recording, before its first record is shown.
    fn needs_names(&self) -> bool {
        self.names || !self.filter.paths.is_empty() || self.format == Format::Ndjson
    }
}

/// Writes what `raw` names (see [`source::places`]) to `out`. Gives whether there is damage.
///
/// Runs its own runtime: do not call it from within one.
///
/// # Errors
/// A chunk whose header cannot be used, or `out` that cannot be written.
pub fn inspect(
    raw: &[PathBuf],
    options: &Options,
    out: &mut dyn Write,
) -> Result<bool, InspectError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|e| IngestError::Threads(e.to_string()))?;
    let places = source::places(raw, runtime.handle())?;
    let chunks: BTreeSet<PathBuf> = places.iter().map(Place::label).collect();
    let is_chunk = |raw: &PathBuf| chunks.contains(raw) || raw == Path::new("-");
    let head = options.summary || options.is_plain() && !raw.iter().all(is_chunk);
    // Reading a recording twice is for those who asked for what needs it.
    let found = match head || options.merge || options.needs_names() {
        true => source::recordings(places.clone(), false)?,
        false => Found::default(),
    };
    let mut printer = Printer::new(options, out);
    if head {
        for recording in &found.recordings {
            let damaged = summary::write(recording, options.format, &mut *printer.out)?;
            printer.damaged |= damaged;
        }
    }
    if options.summary {
        return Ok(printer.damaged);
    }
    let mut contexts = contexts(&places, &found, options)?;
    if options.merge {
        for recording in &found.recordings {
            let context = contexts.remove(&recording.capture_id).unwrap_or_default();
            merged::show(recording, &context, &mut printer)?;
        }
        return Ok(printer.damaged);
    }
    for place in &places {
        chunk(place, &contexts, &mut printer)?;
    }
    Ok(printer.damaged)
}

/// What is needed to choose and show a recording's records.
#[derive(Default)]
struct Context {
    sieve: Sieve,
    names: Option<Names>,
}

/// By capture.
fn contexts(
    places: &[Place],
    found: &Found,
    options: &Options,
) -> Result<BTreeMap<String, Context>, InspectError> {
    let mut starts: BTreeMap<String, u64> = BTreeMap::new();
    for place in places {
        let reader = place.chunk()?;
        let header = reader.header();
        let start = starts
            .entry(header.capture_id.to_string())
            .or_insert(header.monotonic_ns);
        *start = header.monotonic_ns.min(*start);
    }
    let mut contexts = BTreeMap::new();
    for (capture_id, start_ns) in starts {
        let mut recordings = found.recordings.iter();
        let recording = recordings.find(|r| r.capture_id == capture_id);
        let names = match recording.filter(|_| options.needs_names()) {
            Some(recording) => Some(survey(recording, &|_| {})?.names),
            None => None,
        };
        let sieve = Sieve::new(&options.filter, start_ns, names.as_ref());
        contexts.insert(capture_id, Context { sieve, names });
    }
    Ok(contexts)
}

/// Writes records until there are enough.
struct Printer<'a> {
    options: &'a Options,
    out: &'a mut dyn Write,
    left: u64,
    damaged: bool,
}

impl<'a> Printer<'a> {
    fn new(options: &'a Options, out: &'a mut dyn Write) -> Self {
        Self {
            options,
            out,
            left: options.limit.unwrap_or(u64::MAX),
            damaged: false,
        }
    }

    fn is_done(&self) -> bool {
        self.left == 0
    }

    fn record(&mut self, record: &Record, context: &Context) -> std::io::Result<()> {
        if self.is_done() || !context.sieve.lets_through(record) {
            return Ok(());
        }
        self.left -= 1;
        let names = context.names.as_ref().filter(|_| {
            // JSON that leaves names out would be no shorter to read.
            self.options.names || self.options.format == Format::Ndjson
        });
        let (comm, path) = names.map_or((None, None), |names| named(record, names));
        match self.options.format {
            Format::Text => text::line(record, comm, path, self.out),
            Format::Ndjson => json::line(record, comm, path, self.out),
        }
    }

    fn damage(
        &mut self,
        file: &str,
        at: u64,
        bytes: u64,
        cause: &str,
        detail: &str,
    ) -> std::io::Result<()> {
        self.damaged = true;
        match self.options.format {
            Format::Text => writeln!(self.out, "damage at {at} bytes {bytes} {cause}: {detail}"),
            Format::Ndjson => json::damage(file, at, bytes, cause, detail, self.out),
        }
    }

    /// Damage whose place is in the text.
    fn found(&mut self, text: &str) -> std::io::Result<()> {
        self.damaged = true;
        match self.options.format {
            Format::Text => writeln!(self.out, "damage {text}"),
            Format::Ndjson => json::damage_text(text, self.out),
        }
    }

    fn undecodable(&mut self, file: &str, at: u64, what: &str) -> std::io::Result<()> {
        self.damaged = true;
        match self.options.format {
            Format::Text => writeln!(self.out, "undecodable at {at}: {what}"),
            Format::Ndjson => json::damage(file, at, 0, "corrupt", what, self.out),
        }
    }
}

/// The command and the path that belong to a record which says neither itself.
fn named<'n>(record: &Record, names: &'n Names) -> (Option<&'n str>, Option<&'n str>) {
    let (process, object) = match record {
        Record::Ref(r) => (Some(r.tgid), Some(r.object)),
        Record::Mapping(m) => (Some(m.tgid), Some(m.object)),
        Record::Map(m) => (Some(m.tgid), Some(m.object)),
        Record::Around(a) => (Some(a.tgid), Some(a.object)),
        Record::Active(a) => (Some(a.tgid), Some(a.object)),
        Record::Exit(e) => (Some(e.tgid), None),
        Record::Clean(c) => (Some(c.tgid), None),
        Record::Process(_)
        | Record::Object(_)
        | Record::Lost(_)
        | Record::Level(_)
        | Record::Clock(_)
        | Record::Policy(_) => (None, None),
    };
    let who = process.and_then(|tgid| names.who(tgid, record.stamp().time_ns));
    let object = object.and_then(|object| names.objects.get(&object));
    (
        who.map(|w| &*w.comm),
        object.and_then(|o| o.path.as_deref()),
    )
}

/// One chunk, as it is: its header, its blocks, their records.
fn chunk(
    place: &Place,
    contexts: &BTreeMap<String, Context>,
    printer: &mut Printer<'_>,
) -> Result<(), InspectError> {
    if printer.is_done() {
        return Ok(());
    }
    let mut reader = place.chunk()?;
    let h = reader.header().clone();
    let empty = Context::default();
    let context = contexts.get(&h.capture_id.to_string()).unwrap_or(&empty);
    let plain = printer.options.is_plain();
    if plain {
        writeln!(
            printer.out,
            "chunk {} capture {} boot {} kernel {} page_size {} order {:?} cpu {} index {} monotonic_ns {} utc_ns {} settings {}",
            place,
            h.capture_id,
            h.boot_id,
            h.kernel,
            h.page_size,
            h.byte_order,
            h.cpu,
            h.index,
            h.monotonic_ns,
            h.realtime_ns,
            serde_json::to_string(&h.settings).unwrap_or_default()
        )?;
    }
    let file = place.to_string();
    let mut payload = Vec::new();
    while let Some(step) = reader.next_block(&mut payload)? {
        match step {
            Step::Damage {
                offset,
                bytes,
                cause,
                detail,
            } => printer.damage(&file, offset, bytes, cause.as_str(), &detail)?,
            Step::Block { kind, offset } => {
                if plain {
                    let (kind, len) = (kind.as_str(), payload.len());
                    writeln!(printer.out, "block {kind} at {offset} bytes {len}")?;
                }
                match kind {
                    BlockKind::Totals if plain => {
                        writeln!(printer.out, "{}", String::from_utf8_lossy(&payload))?;
                    }
                    BlockKind::Totals => {}
                    // Copies would be shown twice.
                    BlockKind::Repeated if !plain => {}
                    BlockKind::Refs | BlockKind::Names | BlockKind::Repeated => {
                        let place = (file.as_str(), offset);
                        records(&payload, h.byte_order, place, context, printer)?;
                    }
                }
            }
        }
        if printer.is_done() {
            break;
        }
    }
    Ok(())
}

fn records(
    payload: &[u8],
    order: wire::ByteOrder,
    (file, offset): (&str, u64),
    context: &Context,
    printer: &mut Printer<'_>,
) -> std::io::Result<()> {
    for item in wire::decode(payload, order) {
        match item {
            Ok(Item::Record(record)) => printer.record(&record, context)?,
            Ok(Item::Unknown {
                offset: at,
                kind,
                version,
                len,
                seq,
            }) if printer.options.is_plain() => writeln!(
                printer.out,
                "unknown at {} kind {kind} version {version} len {len} seq {seq}",
                offset + at
            )?,
            Ok(Item::Unknown { .. }) => {}
            Err(e) => {
                return printer.undecodable(file, offset + e.offset, &e.what.to_string());
            }
        }
    }
    Ok(())
}
