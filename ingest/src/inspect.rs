//! A chunk as text: its header, then one line a record, for people who debug.

use std::io::Write;

use pgtrace_capture::chunk::{BlockKind, ChunkError, Step};
use pgtrace_capture::record::Record;
use pgtrace_capture::wire::{self, Item};

use crate::source::Place;

/// Why a chunk could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The chunk cannot be used.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The text cannot be written.
    #[error("cannot write: {0}")]
    Write(#[from] std::io::Error),
}

/// Writes the chunk at `place` as text to `out`. Gives whether it has damage.
///
/// # Errors
/// A chunk whose header cannot be used, or `out` that cannot be written.
pub fn inspect(place: &Place, out: &mut dyn Write) -> Result<bool, InspectError> {
    let mut reader = place.chunk()?;
    let h = reader.header().clone();
    writeln!(
        out,
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
    let mut damaged = false;
    let mut payload = Vec::new();
    while let Some(step) = reader.next_block(&mut payload)? {
        match step {
            Step::Damage {
                offset,
                bytes,
                cause,
                detail,
            } => {
                damaged = true;
                writeln!(
                    out,
                    "damage at {offset} bytes {bytes} {}: {detail}",
                    cause.as_str()
                )?;
            }
            Step::Block { kind, offset } => {
                writeln!(
                    out,
                    "block {} at {offset} bytes {}",
                    kind.as_str(),
                    payload.len()
                )?;
                match kind {
                    BlockKind::Totals => writeln!(out, "{}", String::from_utf8_lossy(&payload))?,
                    _ => damaged |= records(&payload, h.byte_order, offset, out)?,
                }
            }
        }
    }
    Ok(damaged)
}

fn records(
    payload: &[u8],
    order: wire::ByteOrder,
    offset: u64,
    out: &mut dyn Write,
) -> std::io::Result<bool> {
    for item in wire::decode(payload, order) {
        match item {
            Ok(Item::Record(record)) => writeln!(out, "{}", line(&record))?,
            Ok(Item::Unknown {
                offset: at,
                kind,
                version,
                len,
                seq,
            }) => writeln!(
                out,
                "unknown at {} kind {kind} version {version} len {len} seq {seq}",
                offset + at
            )?,
            Err(e) => {
                writeln!(out, "undecodable at {}: {}", offset + e.offset, e.what)?;
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Protection as /proc/PID/maps shows it: read, write, exec, shared or private.
fn protection([read, write, exec, shared]: [bool; 4]) -> String {
    let bit = |on, c| if on { c } else { '-' };
    let last = if shared { 's' } else { 'p' };
    String::from_iter([bit(read, 'r'), bit(write, 'w'), bit(exec, 'x'), last])
}

/// One line: kind, place, and what is special to the kind.
fn line(record: &Record) -> String {
    let stamp = record.stamp();
    let head = format!(
        "{} cpu {} seq {} time_ns {}",
        record.kind(),
        stamp.cpu,
        stamp.seq,
        stamp.time_ns
    );
    let rest = match record {
        Record::Ref(r) => format!(
            "pid {} tid {} uid {} {} {} object {} page {} order {} addr {:#x} ip {:#x}",
            r.tgid, r.tid, r.uid, r.event, r.access, r.object, r.page, r.page_order, r.addr, r.ip
        ),
        Record::Process(p) => format!(
            "pid {} ppid {} uid {} start_boot_ns {} comm {:?} exe {:?} cwd {:?} cgroup {:?}{}{}{}{}",
            p.tgid,
            p.ppid,
            p.uid,
            p.start_boot_ns,
            p.comm,
            p.exe,
            p.cwd,
            p.cgroup,
            if p.attached { " attached" } else { "" },
            if p.forked { " forked" } else { "" },
            if p.execed { " execed" } else { "" },
            if p.detached { " detached" } else { "" }
        ),
        Record::Mapping(m) => format!(
            "pid {} object {} {:#x}-{:#x} page {} {}",
            m.tgid,
            m.object,
            m.start,
            m.end,
            m.page,
            protection([m.read, m.write, m.exec, m.shared])
        ),
        Record::Object(o) => format!(
            "object {} {} pid {} dev {}:{} ino {} generation {} path {:?}{}{}",
            o.object,
            o.kind,
            o.tgid,
            o.dev_major,
            o.dev_minor,
            o.ino,
            o.generation,
            o.path,
            if o.deleted { " deleted" } else { "" },
            if o.truncated { " truncated" } else { "" }
        ),
        Record::Exit(e) => format!("pid {} code {}", e.tgid, e.code),
        Record::Lost(l) => format!(
            "{} {} count {} first_seq {} from {} to {}",
            l.channel, l.cause, l.count, l.first_seq, l.first_ns, l.last_ns
        ),
        Record::Level(l) => format!("{} -> {} clean_ms {}", l.from, l.to, l.clean_ms),
        Record::Clean(c) => format!(
            "pid {} pass {} scanned {} cleaned {} took_ns {}",
            c.tgid,
            c.pass,
            c.scanned,
            c.cleaned,
            c.end_ns.saturating_sub(c.start_ns)
        ),
        Record::Clock(c) => format!(
            "monotonic_ns {} utc_ns {} boottime_ns {}",
            c.monotonic_ns, c.realtime_ns, c.boottime_ns
        ),
        Record::Policy(p) => format!(
            "{} clean_ms {} fifo {} grain {}{}",
            p.policy,
            p.clean_ms,
            p.fifo,
            p.grain,
            if p.overwrite { " overwrite" } else { "" }
        ),
        Record::Map(m) => format!(
            "{} pid {} tid {} object {} {:#x}-{:#x} page {} {} from {:#x}-{:#x}",
            m.op,
            m.tgid,
            m.tid,
            m.object,
            m.start,
            m.end,
            m.page,
            protection([m.read, m.write, m.exec, m.shared]),
            m.old_start,
            m.old_end
        ),
        Record::Around(a) => format!(
            "pid {} tid {} object {} page {} pages {} addr {:#x} touched {:#x}",
            a.tgid, a.tid, a.object, a.page, a.pages, a.addr, a.touched
        ),
        Record::Active(a) => format!(
            "pid {} object {} page {} order {} addr {:#x} since {}{}{}{}",
            a.tgid,
            a.object,
            a.page,
            a.page_order,
            a.addr,
            a.since_ns,
            if a.dirtied { " dirtied" } else { "" },
            if a.rereferenced { " rereferenced" } else { "" },
            if a.gone { " gone" } else { "" }
        ),
    };
    format!("{head} {rest}")
}
