//! `pgtrace-ingest inspect`.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use pgtrace_capture::record::Event;
use pgtrace_capture::units;
use pgtrace_ingest::inspect::filter::{Filter, Glob, KINDS, Moment};
use pgtrace_ingest::inspect::{Format, InspectError, Options, inspect};

/// What to show, and how.
#[derive(Args)]
pub(crate) struct InspectArgs {
    /// Raw chunks: files, folders, patterns or URLs of them; -: from standard input.
    #[arg(required = true)]
    raw: Vec<PathBuf>,
    /// Only what the recording is, and how much there is of each kind of record.
    #[arg(long)]
    summary: bool,
    /// In order of time across CPUs, instead of chunk by chunk.
    #[arg(long)]
    merge: bool,
    /// Show the command and the path that belong to a record, too.
    #[arg(long)]
    names: bool,
    /// A line, or a JSON object, a record.
    #[arg(long, value_enum, default_value_t = FormatArg::Text)]
    format: FormatArg,
    /// Records of these kinds only: ref, process, mapping, object, exit, lost, level, clean, clock, policy, map, around,
    /// active.
    #[arg(long, value_delimiter = ',', value_name = "KINDS", value_parser = kind)]
    kind: Vec<String>,
    /// References of these events only: fault, retouch, lookup, insert, evict.
    #[arg(long, value_delimiter = ',', value_name = "EVENTS", value_parser = event)]
    event: Vec<Event>,
    /// Of these processes only.
    #[arg(long, value_delimiter = ',', value_name = "N")]
    pid: Vec<u32>,
    /// Of these threads only.
    #[arg(long, value_delimiter = ',', value_name = "N")]
    tid: Vec<u32>,
    /// Of these users only, by real user id.
    #[arg(long, value_delimiter = ',', value_name = "N")]
    uid: Vec<u32>,
    /// Of these objects only.
    #[arg(long, value_delimiter = ',', value_name = "N")]
    object: Vec<u32>,
    /// Of objects with such a path only: `*` is any text, `?` any character.
    #[arg(long, value_name = "GLOB")]
    path: Vec<String>,
    /// Of addresses from LOW on and below HIGH only, as in 0x7f0000000000-0x7f0000010000.
    #[arg(long, value_name = "LOW-HIGH", value_parser = addresses)]
    addr: Option<(u64, u64)>,
    /// Not before TIME: 2s is two seconds after the recording's start, a bare number time_ns.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<Moment>,
    /// Before TIME only.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<Moment>,
    /// Of numbers A to B in their channel only; either may be left out.
    #[arg(long, value_name = "A:B", value_parser = numbers)]
    seq: Option<(u64, u64)>,
    /// Of these CPUs only.
    #[arg(long, value_delimiter = ',', value_name = "N")]
    cpu: Vec<u16>,
    /// So many records at most.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatArg {
    Text,
    Ndjson,
}

fn kind(text: &str) -> Result<String, String> {
    match KINDS.contains(&text) {
        true => Ok(text.into()),
        false => Err(format!(
            "expected one of {}, found {text:?}",
            KINDS.join(", ")
        )),
    }
}

fn event(text: &str) -> Result<Event, String> {
    let known = || Event::ALL.iter().copied();
    known().find(|e| e.as_str() == text).ok_or_else(|| {
        let names: Vec<&str> = known().map(Event::as_str).collect();
        format!("expected one of {}, found {text:?}", names.join(", "))
    })
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn addresses(text: &str) -> Result<(u64, u64), String> {
    let bad = |what: &str| Err(format!("expected {what}, found {text:?}"));
    let pair = text.split_once('-');
    match pair.and_then(|(low, high)| number(low).zip(number(high))) {
        None => bad("two addresses like 0x7f0000000000-0x7f0000010000"),
        Some((low, high)) if low >= high => bad("a first address below the second"),
        Some(pair) => Ok(pair),
    }
}

fn numbers(text: &str) -> Result<(u64, u64), String> {
    let bad = |what: &str| Err(format!("expected {what}, found {text:?}"));
    let end = |text: &str, open: u64| match text {
        "" => Some(open),
        text => text.parse().ok(),
    };
    let pair = text.split_once(':');
    match pair.and_then(|(a, b)| end(a, 0).zip(end(b, u64::MAX))) {
        None => bad("two numbers like 100:199, 100: or :199"),
        Some((a, b)) if a > b => bad("a first number that is not above the second"),
        Some(pair) => Ok(pair),
    }
}

fn moment(text: &str) -> Result<Moment, String> {
    let bad = |_| {
        format!(
            "expected a time after the start like 2s or 500ms, or time_ns like 9054683260, found {text:?}"
        )
    };
    match text.parse() {
        Ok(ns) => Ok(Moment::At(ns)),
        Err(_) if text.ends_with(|c: char| c.is_ascii_digit()) => Err(bad(())),
        Err(_) => units::time(text).map(Moment::After).map_err(|_| bad(())),
    }
}

impl InspectArgs {
    fn options(self) -> (Vec<PathBuf>, Options) {
        let filter = Filter {
            kinds: self.kind,
            pids: self.pid,
            tids: self.tid,
            uids: self.uid,
            objects: self.object,
            paths: self.path.into_iter().map(Glob).collect(),
            addr: self.addr,
            events: self.event,
            from: self.from,
            to: self.to,
            seq: self.seq,
            cpus: self.cpu,
        };
        let options = Options {
            filter,
            format: match self.format {
                FormatArg::Text => Format::Text,
                FormatArg::Ndjson => Format::Ndjson,
            },
            names: self.names,
            merge: self.merge,
            summary: self.summary,
            limit: self.limit,
        };
        (self.raw, options)
    }
}

/// Writes to standard output. Gives whether there is damage.
pub(crate) fn run(args: InspectArgs) -> anyhow::Result<bool> {
    let (raw, options) = args.options();
    let stdout = std::io::stdout().lock();
    let mut out = std::io::BufWriter::with_capacity(1 << 16, stdout);
    let damaged = match inspect(&raw, &options, &mut out) {
        Ok(damaged) => damaged,
        // Whoever reads has seen enough.
        Err(InspectError::Write(e)) if e.kind() == ErrorKind::BrokenPipe => {
            // What is left in the buffer has no reader either.
            let _ = out.into_parts();
            return Ok(false);
        }
        Err(e) => return Err(e.into()),
    };
    let flushed = out.flush().map(|()| damaged);
    Ok(super::unless_closed(flushed)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn values() {
        assert_eq!(addresses("0x1000-0x2000"), Ok((4096, 8192)));
        assert_eq!(addresses("1-2"), Ok((1, 2)));
        assert_eq!(numbers("5:9"), Ok((5, 9)));
        assert_eq!(numbers(":9"), Ok((0, 9)));
        assert_eq!(numbers("5:"), Ok((5, u64::MAX)));
        assert_eq!(moment("2s"), Ok(Moment::After(Duration::from_secs(2))));
        assert_eq!(moment("123"), Ok(Moment::At(123)));
        assert_eq!(event("lookup"), Ok(Event::Lookup));
        for bad in ["", "5", "2-1", "0x-1", "a-b", "1-1"] {
            assert!(
                addresses(bad).is_err_and(|e| e.starts_with("expected ")),
                "{bad}"
            );
        }
        for bad in ["", "5", "9:5", "a:b"] {
            assert!(
                numbers(bad).is_err_and(|e| e.starts_with("expected ")),
                "{bad}"
            );
        }
        for bad in ["", "s", "-1", "2 parsecs", "1.5"] {
            assert!(
                moment(bad).is_err_and(|e| e.starts_with("expected ")),
                "{bad}"
            );
        }
        assert!(kind("refs").is_err_and(|e| e.contains("ref, process")));
        assert!(event("faults").is_err_and(|e| e.contains("fault, retouch")));
    }
}
