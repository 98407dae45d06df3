//! A recording's first reading, put together: names, clocks, losses, totals.

use std::collections::{BTreeMap, BTreeSet};

use pgtrace_capture::chunk::CpuTotals;
use pgtrace_capture::record::{Channel, Level, Record};
use rayon::prelude::*;

use crate::clocks::Clocks;
use crate::error::IngestError;
use crate::losses::{Loss, Newest, OVERWRITTEN, Tracker};
use crate::names::{Collector, Names};
use crate::source::{CpuScan, Part, Recording, Skeleton, scan_cpu, scan_parts};
use crate::tables::CaptureFacts;

/// Everything about a recording but its references.
#[derive(Debug)]
pub struct Survey {
    /// Its names.
    pub names: Names,
    /// Its clocks.
    pub clocks: Clocks,
    /// Its losses, by CPU.
    pub losses: Vec<Loss>,
    /// References of each CPU that will become rows, and are none yet.
    pub fresh: BTreeMap<u16, u64>,
    /// The earliest of them, monotonic ns.
    pub fresh_ns: Option<u64>,
    /// Records of all kinds.
    pub records: u64,
    /// Its row in `captures`.
    pub facts: CaptureFacts,
    /// What is to be kept of its chunks.
    pub skeletons: Vec<Skeleton>,
}

/// Reads all chunks of a recording once; `read` is told the bytes of each CPU done.
///
/// # Errors
/// A chunk that cannot be read.
pub fn survey(recording: &Recording, read: &(dyn Fn(u64) + Sync)) -> Result<Survey, IngestError> {
    survey_with(recording, &[], read)
}

/// Reads the chunks of a recording that are not among `known` (by place and content), as if all had been read.
///
/// # Errors
/// A chunk that cannot be read.
pub fn survey_with(
    recording: &Recording,
    known: &[Skeleton],
    read: &(dyn Fn(u64) + Sync),
) -> Result<Survey, IngestError> {
    let cpus: Vec<_> = parts(recording, known).into_iter().collect();
    let scans: Vec<Result<CpuScan, IngestError>> = cpus
        .par_iter()
        .map(|(cpu, parts)| {
            let scan = scan_parts(*cpu, parts);
            read(
                recording
                    .cpus
                    .get(cpu)
                    .into_iter()
                    .flatten()
                    .map(|c| c.bytes)
                    .sum(),
            );
            scan
        })
        .collect();
    let mut scans = scans.into_iter().collect::<Result<Vec<_>, _>>()?;

    let mut skeletons = Vec::new();
    let mut collector = Collector::default();
    for scan in &mut scans {
        skeletons.append(&mut scan.skeletons);
        for record in std::mem::take(&mut scan.names) {
            collector.add(Channel::Names, record);
        }
        for record in std::mem::take(&mut scan.names_in_refs) {
            collector.add(Channel::Refs, record);
        }
    }
    let headers = || skeletons.iter().map(|s| &s.header);
    let mut anchors: Vec<(u64, u64)> = headers().map(|h| (h.monotonic_ns, h.realtime_ns)).collect();
    anchors.extend(collector.anchors());
    let heard: BTreeSet<(u16, u64)> = collector.heard().collect();

    let complete = scans.iter().any(|s| s.complete);
    let totals = totals(&scans);
    for cpu in totals.keys() {
        // A CPU whose chunks are all gone lost everything it wrote.
        if !scans.iter().any(|s| s.cpu == *cpu) {
            scans.push(scan_cpu(*cpu, &[])?);
        }
    }
    scans.sort_by_key(|s| s.cpu);

    let header = headers().min_by_key(|h| h.monotonic_ns);
    let newest = header.map_or(Newest::default(), |h| Newest {
        begin: h.settings.keeps_only_the_newest(),
        between: h.settings.overwrite || h.settings.in_memory,
    });
    let (mut losses, mut emitted, mut rows) = (Vec::new(), 0, BTreeMap::new());
    let mut fresh = BTreeMap::new();
    let fresh_ns = scans.iter().filter_map(|s| s.fresh_ns).min();
    let (mut records, mut cache_events, mut end_ns) = (0, 0, 0);
    for scan in scans {
        records += scan.records;
        cache_events += scan.cache_events;
        end_ns = end_ns.max(scan.last_ns);
        rows.insert(scan.cpu, scan.rows);
        fresh.insert(scan.cpu, scan.fresh);
        let account = settle(scan, &totals, &heard, newest);
        emitted = u64::saturating_add(emitted, account.emitted);
        losses.extend(account.losses);
    }
    let names = collector.finish();
    let clocks = Clocks::new(anchors);
    let lost = losses
        .iter()
        .filter(|l| l.channel == Channel::Refs && l.cause != OVERWRITTEN)
        .filter_map(|l| l.count)
        .fold(0, u64::saturating_add);
    let facts = CaptureFacts {
        capture_id: recording.capture_id.clone(),
        boot_id: header.map(|h| h.boot_id.to_string()).unwrap_or_default(),
        kernel: header.map(|h| h.kernel.clone()).unwrap_or_default(),
        page_size: header.map_or(0, |h| h.page_size),
        cpus: headers().map(|h| h.cpu).collect::<BTreeSet<_>>().len() as u32,
        level: level(&names, header.map(|h| h.settings.level.as_str())),
        settings: header
            .and_then(|h| serde_json::to_string(&h.settings).ok())
            .unwrap_or_default(),
        start_ns: clocks.first().0,
        end_ns: end_ns.max(clocks.first().0),
        emitted: complete.then_some(emitted),
        refs: rows.values().sum(),
        cache_events,
        lost,
        chunks: skeletons.len() as u32,
        raw_bytes: skeletons.iter().map(|s| s.bytes).sum(),
    };
    Ok(Survey {
        names,
        clocks,
        losses,
        fresh,
        fresh_ns,
        records,
        facts,
        skeletons,
    })
}

/// The chunks of each CPU in order, those that are known in their places.
fn parts<'a>(recording: &'a Recording, known: &'a [Skeleton]) -> BTreeMap<u16, Vec<Part<'a>>> {
    let mut parts: BTreeMap<u16, Vec<Part<'a>>> = BTreeMap::new();
    for skeleton in known {
        let outgrown = recording
            .cpus
            .get(&skeleton.header.cpu)
            .into_iter()
            .flatten()
            .any(|c| c.header.index == skeleton.header.index && c.id != skeleton.id);
        parts
            .entry(skeleton.header.cpu)
            .or_default()
            .push(match outgrown {
                true => Part::Outgrown(skeleton),
                false => Part::Known(skeleton),
            });
    }
    for chunk in recording.chunks() {
        if known.iter().all(|s| s.id != chunk.id) {
            parts
                .entry(chunk.header.cpu)
                .or_default()
                .push(Part::New(chunk));
        }
    }
    for parts in parts.values_mut() {
        // What was outgrown comes before what it has grown to: it was pushed first.
        parts.sort_by_key(Part::index);
    }
    parts
}

/// One CPU's account, closed.
struct Account {
    losses: Vec<Loss>,
    /// Numbers of the refs channel that are rows, or would have been as far as anybody knows.
    emitted: u64,
}

/// Closes the accounts of one CPU: `totals` say where its channels end, `heard`
/// which names came another way, `newest` what was given up on purpose.
fn settle(
    scan: CpuScan,
    totals: &BTreeMap<u16, CpuTotals>,
    heard: &BTreeSet<(u16, u64)>,
    newest: Newest,
) -> Account {
    let CpuScan {
        cpu,
        mut refs,
        names_account: mut names,
        lost,
        damages,
        ..
    } = scan;
    let total = totals.get(&cpu);
    for lost in lost {
        match lost.channel {
            Channel::Refs => refs.tell(lost),
            Channel::Names => names.tell(lost),
        }
    }
    // Damage at the very end, with nothing behind it that says how much is gone.
    let tail = |t: &Tracker| -> BTreeSet<usize> {
        match total {
            None => t.pending().iter().copied().collect(),
            Some(_) => BTreeSet::new(),
        }
    };
    let (refs_tail, names_tail) = (tail(&refs), tail(&names));
    refs.close(total.map(|t| t.refs_emitted.saturating_add(t.refs_lost)));
    names.close(total.map(|t| t.names_emitted.saturating_add(t.names_lost)));
    for (_, seq) in heard.range((cpu, 0)..=(cpu, u64::MAX)) {
        names.heal(*seq);
    }
    let emitted = refs.next().saturating_sub(refs.others());
    let mut losses = refs.losses(&damages, newest);
    losses.extend(names.losses(&damages, newest));
    let mut claimed = refs.claimed();
    claimed.extend(names.claimed());
    // Damage that took no number is told all the same.
    for (index, damage) in damages.iter().enumerate() {
        if claimed.contains(&index) {
            continue;
        }
        let (count, channel) = match (refs_tail.contains(&index), names_tail.contains(&index)) {
            (true, _) => (None, Channel::Refs),
            (_, true) => (None, Channel::Names),
            _ => (Some(0), Channel::Names),
        };
        losses.push(Loss {
            cpu,
            from_ns: None,
            to_ns: None,
            count,
            cause: damage.cause,
            channel,
            detail: Some(damage.detail.clone()),
        });
    }
    Account { losses, emitted }
}

/// What the recorder says each CPU came to. Every CPU's last chunk says it of
/// all; after a recorder that was cut short the largest figures are the latest.
fn totals(scans: &[CpuScan]) -> BTreeMap<u16, CpuTotals> {
    let mut totals: BTreeMap<u16, CpuTotals> = BTreeMap::new();
    for (cpu, t) in scans.iter().flat_map(|s| &s.totals) {
        let known = totals.entry(*cpu).or_insert(*t);
        known.refs_emitted = known.refs_emitted.max(t.refs_emitted);
        known.refs_lost = known.refs_lost.max(t.refs_lost);
        known.names_emitted = known.names_emitted.max(t.names_emitted);
        known.names_lost = known.names_lost.max(t.names_lost);
    }
    totals
}

/// The highest level that was on; what the settings say where no mark tells.
fn level(names: &Names, settings: Option<&str>) -> Option<String> {
    let marked = names.marks.iter().filter_map(|r| match r {
        Record::Level(l) => Some(l.to),
        _ => None,
    });
    match marked.max() {
        Some(Level::Off) | None => settings.filter(|s| !s.is_empty()).map(Into::into),
        Some(level) => Some(level.to_string()),
    }
}
