//! The head of a recording: what it is, how it was made, how much there is of it.

use std::collections::BTreeMap;
use std::io::Write;

use pgtrace_capture::chunk::{BlockKind, ChunkHeader, Settings, Totals};
use pgtrace_capture::units::{show_bytes, show_count};
use pgtrace_capture::wire::Item;
use rayon::prelude::*;
use serde::Serialize;

use super::{Format, InspectError};
use crate::clocks::Clocks;
use crate::source::{ChannelReader, Chunk, Piece, Recording};

/// What is known of a recording as a whole.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    capture_id: &'a str,
    boot_id: String,
    kernel: &'a str,
    page_size: u32,
    byte_order: String,
    cpus: Vec<u16>,
    chunks: usize,
    bytes: u64,
    /// UTC in ns since 1970: first and last record.
    from_utc_ns: Option<i64>,
    to_utc_ns: Option<i64>,
    from_monotonic_ns: Option<u64>,
    to_monotonic_ns: Option<u64>,
    /// Records by kind; names that are repeated are counted once.
    records: BTreeMap<&'static str, u64>,
    /// Places that cannot be read.
    damages: u64,
    settings: &'a Settings,
    totals: Option<Totals>,
}

/// What one CPU's chunks hold.
#[derive(Default)]
struct Counted {
    records: BTreeMap<&'static str, u64>,
    first_ns: Option<u64>,
    last_ns: Option<u64>,
    anchors: Vec<(u64, u64)>,
    damages: u64,
    totals: Option<Totals>,
}

impl Counted {
    fn of(chunks: &[Chunk]) -> Result<Self, InspectError> {
        let mut counted = Self::default();
        let mut reader = ChannelReader::new(chunks);
        while let Some(piece) = reader.next_piece()? {
            match piece {
                Piece::Damage(_) => counted.damages += 1,
                Piece::Block(BlockKind::Totals) => {
                    counted.totals = serde_json::from_slice(reader.payload()).ok();
                }
                Piece::Block(BlockKind::Refs | BlockKind::Names) => counted.block(&reader),
                Piece::Block(BlockKind::Repeated) | Piece::Absent => {}
            }
        }
        Ok(counted)
    }

    fn block(&mut self, reader: &ChannelReader<'_>) {
        for item in reader.decode(0) {
            let kind = match item {
                Ok(Item::Record(record)) => {
                    let ns = record.stamp().time_ns;
                    self.first_ns = Some(self.first_ns.map_or(ns, |first| first.min(ns)));
                    self.last_ns = self.last_ns.max(Some(ns));
                    if let pgtrace_capture::record::Record::Clock(c) = record {
                        self.anchors.push((c.monotonic_ns, c.realtime_ns));
                    }
                    record.kind()
                }
                Ok(Item::Unknown { .. }) => "unknown",
                Err(_) => {
                    self.damages += 1;
                    return;
                }
            };
            *self.records.entry(kind).or_default() += 1;
        }
    }

    fn merge(&mut self, other: Self) {
        for (kind, count) in other.records {
            *self.records.entry(kind).or_default() += count;
        }
        self.first_ns = match (self.first_ns, other.first_ns) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.last_ns = self.last_ns.max(other.last_ns);
        self.anchors.extend(other.anchors);
        self.damages += other.damages;
        self.totals = match (self.totals.take(), other.totals) {
            // Final figures are better than others.
            (Some(a), Some(b)) => Some(if b.complete && !a.complete { b } else { a }),
            (a, b) => a.or(b),
        };
    }
}

/// Writes the head of `recording`. Gives whether there is damage.
pub(super) fn write(
    recording: &Recording,
    format: Format,
    out: &mut dyn Write,
) -> Result<bool, InspectError> {
    let cpus: Vec<&Vec<Chunk>> = recording.cpus.values().collect();
    let each = cpus
        .par_iter()
        .map(|chunks| Counted::of(chunks))
        .collect::<Result<Vec<_>, _>>()?;
    let mut counted = Counted::default();
    each.into_iter().for_each(|c| counted.merge(c));
    let Some(first) = recording.chunks().min_by_key(|c| c.header.monotonic_ns) else {
        return Ok(false);
    };
    let summary = Summary::new(recording, &first.header, counted);
    match format {
        Format::Text => summary.text(out)?,
        Format::Ndjson => {
            serde_json::to_writer(&mut *out, &summary).map_err(std::io::Error::from)?;
            out.write_all(b"\n")?;
        }
    }
    Ok(summary.damages > 0)
}

impl<'a> Summary<'a> {
    fn new(recording: &'a Recording, header: &'a ChunkHeader, counted: Counted) -> Self {
        let headers = recording.chunks().map(|c| &c.header);
        let anchors = headers.map(|h| (h.monotonic_ns, h.realtime_ns));
        let clocks = Clocks::new(anchors.chain(counted.anchors).collect());
        Self {
            capture_id: &recording.capture_id,
            boot_id: header.boot_id.to_string(),
            kernel: &header.kernel,
            page_size: header.page_size,
            byte_order: format!("{:?}", header.byte_order).to_lowercase(),
            cpus: recording.cpus.keys().copied().collect(),
            chunks: recording.chunks().count(),
            bytes: recording.bytes(),
            from_utc_ns: counted.first_ns.map(|ns| clocks.utc(ns)),
            to_utc_ns: counted.last_ns.map(|ns| clocks.utc(ns)),
            from_monotonic_ns: counted.first_ns,
            to_monotonic_ns: counted.last_ns,
            records: counted.records,
            damages: counted.damages,
            settings: &header.settings,
            totals: counted.totals,
        }
    }

    fn text(&self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "recording {}", self.capture_id)?;
        writeln!(
            out,
            "  machine   kernel {} page_size {} byte order {} boot {}",
            self.kernel, self.page_size, self.byte_order, self.boot_id
        )?;
        let cpus: Vec<String> = self.cpus.iter().map(ToString::to_string).collect();
        writeln!(
            out,
            "  chunks    {} of CPUs {}, {}",
            self.chunks,
            cpus.join(","),
            show_bytes(self.bytes)
        )?;
        if let (Some(from), Some(to)) = (self.from_utc_ns, self.to_utc_ns) {
            let mono = |ns: Option<u64>| ns.unwrap_or_default();
            let (first, last) = (mono(self.from_monotonic_ns), mono(self.to_monotonic_ns));
            let seconds = last.saturating_sub(first) as f64 / 1e9;
            writeln!(
                out,
                "  time      {} to {}, {seconds:.3} s (time_ns {first} to {last})",
                utc_text(from),
                utc_text(to)
            )?;
        }
        let settings = serde_json::to_string(self.settings).unwrap_or_default();
        writeln!(out, "  settings  {settings}")?;
        match &self.totals {
            Some(totals) => self.totals_text(totals, out)?,
            None => writeln!(
                out,
                "  totals    none: the recorder was killed, or is still at it"
            )?,
        }
        let kinds: Vec<String> = self
            .records
            .iter()
            .map(|(kind, count)| format!("{kind} {}", show_count(*count)))
            .collect();
        writeln!(out, "  records   {}", kinds.join(", "))?;
        if self.damages > 0 {
            writeln!(out, "  damage    {} places", show_count(self.damages))?;
        }
        Ok(())
    }

    fn totals_text(&self, totals: &Totals, out: &mut dyn Write) -> std::io::Result<()> {
        let sum = |of: fn(&pgtrace_capture::chunk::CpuTotals) -> u64| {
            let all = totals.cpus.iter().map(of);
            show_count(all.fold(0, u64::saturating_add))
        };
        write!(
            out,
            "  totals    refs channel {} emitted {} lost; names channel {} emitted {} lost; ended by {}",
            sum(|c| c.refs_emitted),
            sum(|c| c.refs_lost),
            sum(|c| c.names_emitted),
            sum(|c| c.names_lost),
            match totals.ended_by.as_str() {
                "" => "?",
                by => by,
            }
        )?;
        if let Some(code) = totals.command_exit {
            write!(out, " (exit {code})")?;
        }
        match totals.complete {
            true => writeln!(out),
            false => writeln!(out, "; not final: the module went away"),
        }
    }
}

/// A UTC time in ns since 1970 as `2026-11-23T19:36:17.789063610Z`.
fn utc_text(ns: i64) -> String {
    let (seconds, ns) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Civil date of a day number, by eras of 400 years that begin on 1 March.
    let z = days + 719_468;
    let (era, day) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = year + era * 400 + next;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ns:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utc_as_date_says() {
        // By date -u -d @SECONDS +%FT%T.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_709_251_199, "2024-02-29T23:59:59"),
            (1_795_406_577, "2026-11-23T04:02:57"),
            (4_107_542_400, "2100-03-01T00:00:00"),
            (-1, "1969-12-31T23:59:59"),
        ] {
            assert_eq!(
                utc_text(seconds * 1_000_000_000),
                format!("{text}.000000000Z")
            );
        }
        assert!(utc_text(i64::MAX).starts_with("2262-04-11T23:47:16.854775807"));
    }
}
