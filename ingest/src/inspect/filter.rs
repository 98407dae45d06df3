//! Which records are shown.

use std::collections::HashSet;
use std::time::Duration;

use pgtrace_capture::record::{Event, Record};

use crate::names::Names;

/// Kinds of records, as they are called.
pub const KINDS: [&str; 13] = [
    "ref", "process", "mapping", "object", "exit", "lost", "level", "clean", "clock", "policy",
    "map", "around", "active",
];

/// A moment of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// So long after the recording's start.
    After(Duration),
    /// Monotonic time in ns, as records show it.
    At(u64),
}

/// What is asked for. All of it must be true of a record; of each list one entry. A record that has no such thing (a
/// CLOCK record has no pid) is not shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Kinds, see [`KINDS`].
    pub kinds: Vec<String>,
    /// Processes.
    pub pids: Vec<u32>,
    /// Threads.
    pub tids: Vec<u32>,
    /// Users.
    pub uids: Vec<u32>,
    /// Objects, by number.
    pub objects: Vec<u32>,
    /// Objects, by path.
    pub paths: Vec<Glob>,
    /// Addresses: the first, and the one behind the last.
    pub addr: Option<(u64, u64)>,
    /// Events of references.
    pub events: Vec<Event>,
    /// Not before.
    pub from: Option<Moment>,
    /// Before.
    pub to: Option<Moment>,
    /// Numbers in their channel, both included.
    pub seq: Option<(u64, u64)>,
    /// CPUs.
    pub cpus: Vec<u16>,
}

impl Filter {
    /// Whether everything is shown.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A pattern of text: `*` is any text, also with `/` in it, `?` any character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(pub String);

impl Glob {
    /// Whether the whole of `text` is like the pattern.
    pub fn matches(&self, text: &str) -> bool {
        let (mut pattern, mut rest) = (self.0.as_str(), text);
        // Behind the last `*`, and what of the text it has not taken yet.
        let mut retry: Option<(&str, &str)> = None;
        loop {
            let (mut p, mut t) = (pattern.chars(), rest.chars());
            match (p.next(), t.next()) {
                (None, None) => return true,
                (Some('*'), _) => {
                    pattern = p.as_str();
                    retry = Some((pattern, rest));
                }
                (Some(a), Some(b)) if a == '?' || a == b => {
                    (pattern, rest) = (p.as_str(), t.as_str());
                }
                _ => {
                    let Some((behind, taken)) = retry else {
                        return false;
                    };
                    let mut more = taken.chars();
                    if more.next().is_none() {
                        return false;
                    }
                    (pattern, rest) = (behind, more.as_str());
                    retry = Some((behind, rest));
                }
            }
        }
    }
}

/// A filter made ready for one recording.
#[derive(Clone, Debug, Default)]
pub(super) struct Sieve {
    filter: Filter,
    everything: bool,
    objects: Option<HashSet<u32>>,
    from_ns: u64,
    /// `None`: to the end.
    to_ns: Option<u64>,
}

impl Sieve {
    pub(super) fn new(filter: &Filter, start_ns: u64, names: Option<&Names>) -> Self {
        let ns = |moment: Moment| match moment {
            Moment::At(ns) => ns,
            Moment::After(time) => {
                start_ns.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
            }
        };
        let by_path = |path: Option<&str>| {
            path.is_some_and(|path| filter.paths.iter().any(|glob| glob.matches(path)))
        };
        let named = names.filter(|_| !filter.paths.is_empty()).map(|names| {
            let objects = names.objects.iter();
            let fitting = objects.filter(|(_, o)| by_path(o.path.as_deref()));
            fitting.map(|(id, _)| *id).collect::<HashSet<u32>>()
        });
        // Both asked for: both must be true.
        let numbered = (!filter.objects.is_empty())
            .then(|| HashSet::from_iter(filter.objects.iter().copied()));
        let objects = match (named, numbered) {
            (Some(a), Some(b)) => Some(a.intersection(&b).copied().collect()),
            (a, b) => a.or(b),
        };
        Self {
            everything: filter.is_empty(),
            objects,
            from_ns: filter.from.map_or(0, ns),
            to_ns: filter.to.map(ns),
            filter: filter.clone(),
        }
    }

    pub(super) fn lets_through(&self, record: &Record) -> bool {
        if self.everything {
            return true;
        }
        let f = &self.filter;
        let stamp = record.stamp();
        if stamp.time_ns < self.from_ns
            || self.to_ns.is_some_and(|to| stamp.time_ns >= to)
            || f.seq.is_some_and(|(a, b)| stamp.seq < a || b < stamp.seq)
            || !(f.cpus.is_empty() || f.cpus.contains(&stamp.cpu))
            || !(f.kinds.is_empty() || f.kinds.iter().any(|k| k == record.kind()))
        {
            return false;
        }
        let of = Of::record(record);
        let one = |wanted: &[u32], found: Option<u32>| {
            wanted.is_empty() || found.is_some_and(|found| wanted.contains(&found))
        };
        one(&f.pids, of.pid)
            && one(&f.tids, of.tid)
            && one(&f.uids, of.uid)
            && self
                .objects
                .as_ref()
                .is_none_or(|objects| of.object.is_some_and(|o| objects.contains(&o)))
            && f.addr.is_none_or(|(low, high)| {
                of.addr
                    .is_some_and(|(start, end)| start < high && low < end)
            })
            && (f.events.is_empty() || of.event.is_some_and(|e| f.events.contains(&e)))
    }
}

/// What a record says that can be asked for.
#[derive(Default)]
struct Of {
    pid: Option<u32>,
    tid: Option<u32>,
    uid: Option<u32>,
    object: Option<u32>,
    addr: Option<(u64, u64)>,
    event: Option<Event>,
}

/// Bytes of a base page; records tell lengths in pages.
const PAGE: u64 = 4096;

impl Of {
    fn record(record: &Record) -> Self {
        let at = |addr: u64| Some((addr, addr.saturating_add(1)));
        match record {
            Record::Ref(r) => Self {
                pid: Some(r.tgid),
                tid: Some(r.tid),
                uid: Some(r.uid),
                object: Some(r.object),
                addr: at(r.addr).filter(|_| r.addr != 0),
                event: Some(r.event),
            },
            Record::Process(p) => Self {
                pid: Some(p.tgid),
                uid: Some(p.uid),
                ..Self::default()
            },
            Record::Mapping(m) => Self {
                pid: Some(m.tgid),
                object: Some(m.object),
                addr: Some((m.start, m.end)),
                ..Self::default()
            },
            Record::Object(o) => Self {
                pid: Some(o.tgid),
                object: Some(o.object),
                ..Self::default()
            },
            Record::Exit(e) => Self {
                pid: Some(e.tgid),
                ..Self::default()
            },
            Record::Clean(c) => Self {
                pid: Some(c.tgid),
                ..Self::default()
            },
            Record::Map(m) => Self {
                pid: Some(m.tgid),
                tid: Some(m.tid),
                object: Some(m.object),
                addr: Some((m.start, m.end)),
                ..Self::default()
            },
            Record::Around(a) => {
                let len = u64::from(a.pages).saturating_mul(PAGE);
                Self {
                    pid: Some(a.tgid),
                    tid: Some(a.tid),
                    object: Some(a.object),
                    addr: Some((a.addr, a.addr.saturating_add(len))),
                    ..Self::default()
                }
            }
            Record::Active(a) => Self {
                pid: Some(a.tgid),
                object: Some(a.object),
                addr: at(a.addr),
                ..Self::default()
            },
            Record::Lost(_) | Record::Level(_) | Record::Clock(_) | Record::Policy(_) => {
                Self::default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, fits) in [
            ("/data/*", "/data/table.dat", true),
            ("/data/*", "/data/a/b", true),
            ("/data/*", "/dat/x", false),
            ("*.dat", "/data/table.dat", true),
            ("*.dat", "/data/table.data", false),
            ("*a*b*c", "xaybzbc", true),
            ("*a*b*c", "xaybzb", false),
            ("?", "", false),
            ("?", "\u{e9}", true),
            ("", "", true),
            ("*", "", true),
            ("**", "x", true),
            ("exact", "exact", true),
            ("exact", "exactly", false),
        ] {
            assert_eq!(Glob(pattern.into()).matches(text), fits, "{pattern} {text}");
        }
        // What would take for ever if every star tried everything.
        let many = Glob("*a".repeat(30) + "b");
        assert!(!many.matches(&"a".repeat(5000)));
    }
}
