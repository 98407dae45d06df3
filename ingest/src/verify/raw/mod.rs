//! The rules of a raw recording.
//!
//! Three readings: `survey`, which ingest trusts, closes the account of losses; `scan` checks what each CPU says by
//! itself and learns all names; `uses` holds every reference against the names.

mod mappings;
mod scan;
mod uses;

use std::path::PathBuf;

use pgtrace_capture::chunk::ChunkFault;
use pgtrace_capture::record::{Channel, LostCause};
use pgtrace_capture::units::{show_bytes, show_count};
use rayon::prelude::*;
use tokio::runtime::Handle;

use self::scan::{Known, Scan};
use self::uses::{Names, Uses};
use super::report::{Rule, Subject};
use crate::error::IngestError;
use crate::losses::{Loss, OVERWRITTEN};
use crate::source::{self, Recording};
use crate::survey::{Survey, survey};

/// Checks all recordings whose chunks `raw` names.
pub(super) fn check(
    raw: &[PathBuf],
    memory: u64,
    runtime: &Handle,
) -> Result<Vec<Subject>, IngestError> {
    let found = source::find(raw, true, runtime)?;
    let mut subjects = Vec::new();
    if !found.unusable.is_empty() {
        let mut structure = structure_rule();
        for unusable in found.unusable {
            match &unusable {
                // Nothing can be said of what cannot be read or understood.
                IngestError::Chunk(e)
                    if matches!(e.what, ChunkFault::Io(_) | ChunkFault::TooNew { .. }) =>
                {
                    return Err(unusable);
                }
                _ => {
                    structure.check(1);
                    structure.violation(|| unusable.to_string());
                }
            }
        }
        subjects.push(Subject {
            title: "chunks of no recording".into(),
            rules: vec![structure],
        });
    }
    for recording in &found.recordings {
        subjects.push(check_recording(recording, memory)?);
    }
    Ok(subjects)
}

fn structure_rule() -> Rule {
    Rule::new(
        "structure",
        "chunks and blocks, each whole, with the CRC it should have, of the CPU and machine it should be of",
    )
}

fn check_recording(recording: &Recording, memory: u64) -> Result<Subject, IngestError> {
    let survey = survey(recording, &|_| {})?;
    let room = scan::room(memory, recording.cpus.len());
    let cpus: Vec<_> = recording.cpus.iter().collect();
    let scans = cpus
        .par_iter()
        .map(|(cpu, chunks)| Scan::of(**cpu, chunks, room))
        .collect::<Result<Vec<_>, IngestError>>()?;

    let mut structure = structure_rule();
    same_machine(recording, &mut structure);
    let mut totals = Rule::new(
        "totals",
        "CPUs, each with the recorder's final figures, which are not less than what is there",
    );
    scan::check_totals(&scans, recording, &mut totals);
    let mut order = Rule::new(
        "time",
        "records, each not before the one before it of its CPU and channel",
    );
    let mut known = Known::default();
    for scan in scans {
        structure.merge(scan.structure);
        order.merge(scan.order);
        known.merge(scan.known);
    }
    let mut losses = Rule::new(
        "losses",
        "records lost, each hole in the numbers told by a LOST record of that size",
    );
    account(&survey.losses, &mut structure, &mut losses);

    let names = Names::new(&survey, known, recording);
    let mut uses = Uses::new();
    let each = cpus
        .par_iter()
        .map(|(_, chunks)| Uses::of(chunks, &names))
        .collect::<Result<Vec<_>, IngestError>>()?;
    each.into_iter().for_each(|u| uses.merge(u));
    let (named, mapped) = uses.finish();
    Ok(Subject {
        title: title(recording, &survey),
        rules: vec![structure, totals, losses, order, named, mapped],
    })
}

fn title(recording: &Recording, survey: &Survey) -> String {
    format!(
        "recording {}: {} chunks of {} CPUs, {}, {} references",
        recording.capture_id,
        recording.chunks().count(),
        recording.cpus.len(),
        show_bytes(recording.bytes()),
        show_count(survey.facts.refs.saturating_sub(survey.facts.cache_events))
    )
}

/// All chunks of a recording were written by one recorder on one machine.
fn same_machine(recording: &Recording, structure: &mut Rule) {
    let mut chunks = recording.chunks();
    let Some(first) = chunks.next() else { return };
    structure.check(1);
    for chunk in chunks {
        structure.check(1);
        let (a, b) = (&first.header, &chunk.header);
        let of = |h: &pgtrace_capture::chunk::ChunkHeader| {
            format!(
                "boot {} kernel {} page_size {} byte order {:?}",
                h.boot_id, h.kernel, h.page_size, h.byte_order
            )
        };
        let (expected, found) = (of(a), of(b));
        if expected != found {
            structure.violation(|| {
                let (name, first) = (chunk.name(), first.name());
                format!("{name}: expected {expected} as in {first}, found {found}")
            });
        }
    }
}

/// Puts each loss where it belongs: what the recording tells itself is accounted for, the rest is a violation.
fn account(all: &[Loss], structure: &mut Rule, losses: &mut Rule) {
    let (mut overwritten, mut unknown) = (0_u64, 0_u64);
    for loss in all {
        let count = loss.count.unwrap_or(0);
        let place = || {
            let detail = loss.detail.as_deref().unwrap_or("no detail");
            let count = loss
                .count
                .map_or("nobody knows how many".into(), show_count);
            format!(
                "cpu {} {}: {count} records: {detail}",
                loss.cpu, loss.channel
            )
        };
        match loss.cause {
            // Damage that cost nothing: names that stand elsewhere, too.
            "corrupt" | "truncated" if loss.count == Some(0) => {
                structure.violation(|| {
                    format!("{}: {}", loss.cause, loss.detail.as_deref().unwrap_or(""))
                });
            }
            "corrupt" | "truncated" => {
                structure.violation(|| format!("{}: {}", loss.cause, place()))
            }
            OVERWRITTEN => overwritten = overwritten.saturating_add(count),
            "unknown_record" => unknown = unknown.saturating_add(count),
            "missing" => {
                losses.check(count);
                losses.violation(place);
            }
            cause => {
                losses.check(count);
                // A LOST record that says other than what is missing.
                if loss.detail.is_some() && cause == LostCause::BufferFull.as_str() {
                    losses.violation(place);
                }
            }
        }
    }
    let lost = |channel: Channel| -> u64 {
        let told = all.iter().filter(|l| {
            l.channel == channel && l.cause != OVERWRITTEN && l.cause != "unknown_record"
        });
        told.filter_map(|l| l.count).fold(0, u64::saturating_add)
    };
    for channel in [Channel::Refs, Channel::Names] {
        if lost(channel) > 0 {
            losses.note(format!(
                "{} records of {channel} are lost",
                show_count(lost(channel))
            ));
        }
    }
    if overwritten > 0 {
        losses.note(format!(
            "{} records were given up on purpose: the recording keeps its newest part only",
            show_count(overwritten)
        ));
    }
    if unknown > 0 {
        structure.note(format!(
            "{} records are of a kind or version that this program does not know",
            show_count(unknown)
        ));
    }
}
