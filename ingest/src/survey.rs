//! A recording's first reading, put together: names, clocks, losses, totals.

use std::collections::{BTreeMap, BTreeSet};

use pgtrace_capture::chunk::CpuTotals;
use pgtrace_capture::record::{Channel, Level};
use rayon::prelude::*;

use crate::clocks::Clocks;
use crate::error::IngestError;
use crate::losses::{Loss, Newest, OVERWRITTEN, Tracker};
use crate::names::{self, Collected, Names, Told};
use crate::source::{CpuScan, Part, Recording, Skeleton, scan_parts};
use crate::spill::{Merged, Room, Sorter, Temp};
use crate::tables::CaptureFacts;

/// Everything about a recording but its references.
#[derive(Debug)]
pub struct Survey {
    /// Its names.
    pub names: Names,
    /// Those of them that are rows of their own.
    pub told: Told,
    /// Levels that its marks tell of.
    pub levels: BTreeSet<Level>,
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
/// A chunk that cannot be read; no place for what does not fit in memory.
pub fn survey(recording: &Recording, read: &(dyn Fn(u64) + Sync)) -> Result<Survey, IngestError> {
    survey_with(recording, &[], &Room::default(), read)
}

/// Reads the chunks of a recording that are not among `known` (by place and content), as if all had been read.
///
/// # Errors
/// As [`survey`].
pub fn survey_with(
    recording: &Recording,
    known: &[Skeleton],
    room: &Room,
    read: &(dyn Fn(u64) + Sync),
) -> Result<Survey, IngestError> {
    let temp = Temp::new(room);
    let cpus: Vec<_> = parts(recording, known).into_iter().collect();
    let sorter = || Sorter::new(&temp, room, cpus.len());
    let scans: Vec<Result<CpuScan, IngestError>> = cpus
        .par_iter()
        .map(|(cpu, parts)| {
            let scan = scan_parts(*cpu, parts, sorter(), &temp);
            let chunks = recording.cpus.get(cpu).into_iter().flatten();
            read(chunks.map(|c| c.bytes).sum());
            scan
        })
        .collect();
    let mut scans = scans.into_iter().collect::<Result<Vec<_>, _>>()?;

    let totals = totals(&scans);
    for cpu in totals.keys() {
        // A CPU whose chunks are all gone lost everything it wrote.
        if !scans.iter().any(|s| s.cpu == *cpu) {
            scans.push(scan_parts(*cpu, &[], sorter(), &temp)?);
        }
    }
    let (mut skeletons, mut runs) = (Vec::new(), Vec::new());
    for scan in &mut scans {
        skeletons.append(&mut scan.skeletons);
        runs.append(&mut scan.runs);
    }
    scans.sort_by_key(|s| s.cpu);
    let mut accounts: Vec<Account> = scans
        .into_iter()
        .map(|s| Account::new(s, &totals))
        .collect();
    let merged = Merged::new(&temp, runs, room.memory)?;
    let Collected {
        names,
        told,
        mut anchors,
        levels,
    } = names::collect(merged, &temp, |cpu, seq| {
        if let Ok(at) = accounts.binary_search_by_key(&cpu, |a| a.scan.cpu)
            && let Some(account) = accounts.get_mut(at)
        {
            account.scan.names_account.heal(seq);
        }
    })?;
    let headers = || skeletons.iter().map(|s| &s.header);
    anchors.extend(headers().map(|h| (h.monotonic_ns, h.realtime_ns)));

    let complete = accounts.iter().any(|a| a.scan.complete);
    let header = headers().min_by_key(|h| h.monotonic_ns);
    let newest = header.map_or(Newest::default(), |h| Newest {
        begin: h.settings.keeps_only_the_newest(),
        between: h.settings.overwrite || h.settings.in_memory,
    });
    let (mut losses, mut emitted, mut rows) = (Vec::new(), 0, BTreeMap::new());
    let mut fresh = BTreeMap::new();
    let fresh_ns = accounts.iter().filter_map(|a| a.scan.fresh_ns).min();
    let (mut records, mut cache_events, mut end_ns) = (0, 0, 0);
    for account in accounts {
        let scan = &account.scan;
        records += scan.records;
        cache_events += scan.cache_events;
        end_ns = end_ns.max(scan.last_ns);
        rows.insert(scan.cpu, scan.rows);
        fresh.insert(scan.cpu, scan.fresh);
        emitted = u64::saturating_add(emitted, account.emitted);
        losses.extend(account.losses(newest));
    }
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
        level: level(levels.last(), header.map(|h| h.settings.level.as_str())),
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
        told,
        levels,
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

/// One CPU's account, closed but for names that came another way.
struct Account {
    scan: CpuScan,
    /// Numbers of the refs channel that are rows, or would have been as far as anybody knows.
    emitted: u64,
    /// Damage at the very end of each channel, with nothing behind it that says how much is gone.
    tails: [BTreeSet<usize>; 2],
}

impl Account {
    /// `totals` say where the channels end.
    fn new(mut scan: CpuScan, totals: &BTreeMap<u16, CpuTotals>) -> Self {
        let total = totals.get(&scan.cpu);
        let (refs, names) = (&mut scan.refs, &mut scan.names_account);
        for lost in std::mem::take(&mut scan.lost) {
            match lost.channel {
                Channel::Refs => refs.tell(lost),
                Channel::Names => names.tell(lost),
            }
        }
        let tail = |t: &Tracker| -> BTreeSet<usize> {
            match total {
                None => t.pending().iter().copied().collect(),
                Some(_) => BTreeSet::new(),
            }
        };
        let tails = [tail(refs), tail(names)];
        refs.close(total.map(|t| t.refs_emitted.saturating_add(t.refs_lost)));
        names.close(total.map(|t| t.names_emitted.saturating_add(t.names_lost)));
        Self {
            emitted: refs.next().saturating_sub(refs.others()),
            tails,
            scan,
        }
    }

    /// What was lost; `newest` says what was given up on purpose.
    fn losses(self, newest: Newest) -> Vec<Loss> {
        let CpuScan {
            cpu,
            mut refs,
            names_account: mut names,
            damages,
            ..
        } = self.scan;
        let mut losses = refs.losses(&damages, newest);
        losses.extend(names.losses(&damages, newest));
        let mut claimed = refs.claimed();
        claimed.extend(names.claimed());
        let [refs_tail, names_tail] = self.tails;
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
        losses
    }
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
fn level(marked: Option<&Level>, settings: Option<&str>) -> Option<String> {
    match marked {
        Some(Level::Off) | None => settings.filter(|s| !s.is_empty()).map(Into::into),
        Some(level) => Some(level.to_string()),
    }
}
