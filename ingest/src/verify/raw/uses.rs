//! Every reference against the names: who made it, what it is of, what was mapped there.

use pgtrace_capture::chunk::BlockKind;
use pgtrace_capture::record::{Channel, Level, Record, Stamp};
use pgtrace_capture::units::show_count;
use pgtrace_capture::wire::Item;

use super::super::report::Rule;
use super::mappings::{Mapped, Mappings, Use, Verdict};
use super::scan::Known;
use crate::error::IngestError;
use crate::losses::OVERWRITTEN;
use crate::names;
use crate::source::{ChannelReader, Chunk, Piece, Recording};
use crate::survey::Survey;

/// So much later than its first use may a name be told, in ns. The module tells it before; when its buffer is full, at
/// the next use.
const LATE_NS: u64 = 1_000_000_000;

/// What uses are held against.
#[derive(Debug)]
pub(super) struct Names<'a> {
    incarnations: &'a names::Names,
    known: Known,
    mappings: Mappings,
    /// How much later than used a name may be told; `None`: a recording that keeps its newest part keeps the newest
    /// name of each thing only, told whenever.
    late_ns: Option<u64>,
    /// Names are lost: whoever has none may have had one.
    names_lost: bool,
    /// A file that is mapped anew at the same place, with another begin, is told of by MAP records only, and here some
    /// may not be.
    pages_unsure: bool,
}

impl<'a> Names<'a> {
    pub(super) fn new(survey: &'a Survey, mut known: Known, recording: &Recording) -> Self {
        let settings = recording.chunks().map(|c| &c.header.settings).next();
        let newest = settings.is_some_and(|s| s.keeps_only_the_newest());
        let page_size = survey.facts.page_size;
        let collected = std::mem::take(&mut known.mappings);
        let gone = |channel: Channel| {
            let mut losses = survey.losses.iter().filter(|l| l.channel == channel);
            losses.any(|l| l.count != Some(0))
        };
        let lost_names = survey
            .losses
            .iter()
            .any(|l| l.channel == Channel::Names && l.count != Some(0) && l.cause != OVERWRITTEN);
        // The module had no memory to give it one.
        let unnamed = survey.losses.iter().any(|l| l.cause == "no_memory");
        let light = survey.levels.contains(&Level::Light);
        let module = settings.is_some_and(|s| s.source != "perf");
        Self {
            incarnations: &survey.names,
            pages_unsure: collected.left_out || gone(Channel::Refs) || module && light,
            mappings: Mappings::new(collected, page_size),
            known,
            late_ns: (!newest).then_some(LATE_NS),
            names_lost: lost_names || unnamed,
        }
    }

    /// The last moment at which a name may be told that is used at `time_ns`.
    fn by(&self, time_ns: u64) -> u64 {
        self.late_ns
            .map_or(u64::MAX, |late| time_ns.saturating_add(late))
    }
}

/// How the uses of one CPU, or of all, came out.
#[derive(Debug)]
pub(super) struct Uses {
    named: Rule,
    mapped: Rule,
    nameless: u64,
    late: u64,
    latest_ns: u64,
    unmapped: u64,
    unsure: u64,
}

/// What a use names, of the process and of the object.
struct Named {
    process: Option<u32>,
    object: Option<u32>,
}

impl Uses {
    pub(super) fn new() -> Self {
        Self {
            named: Rule::new(
                "names",
                "uses of a process or an object, each told of before it, or within a second after",
            ),
            mapped: Rule::new(
                "mappings",
                "addresses, none in a mapping that says another object or page",
            ),
            nameless: 0,
            late: 0,
            latest_ns: 0,
            unmapped: 0,
            unsure: 0,
        }
    }

    pub(super) fn of(chunks: &[Chunk], names: &Names<'_>) -> Result<Self, IngestError> {
        let mut uses = Self::new();
        let mut reader = ChannelReader::new(chunks);
        let mut last = None;
        while let Some(piece) = reader.next_piece()? {
            let Piece::Block(BlockKind::Refs) = piece else {
                continue;
            };
            let mut decoder = reader.decode(0);
            loop {
                let offset = decoder.offset();
                match decoder.next() {
                    Some(Ok(Item::Record(record))) => {
                        uses.record(&record, names, &mut last, &|| reader.place(offset));
                    }
                    Some(Ok(Item::Unknown { .. })) => {}
                    Some(Err(_)) | None => break,
                }
            }
        }
        Ok(uses)
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.named.merge(other.named);
        self.mapped.merge(other.mapped);
        self.nameless += other.nameless;
        self.late += other.late;
        self.latest_ns = self.latest_ns.max(other.latest_ns);
        self.unmapped += other.unmapped;
        self.unsure += other.unsure;
    }

    /// The rules `names` and `mappings`.
    pub(super) fn finish(mut self) -> (Rule, Rule) {
        let mut tell = |count: u64, text: &str| {
            if count > 0 {
                self.named.note(format!("{} {text}", show_count(count)));
            }
        };
        tell(
            self.nameless,
            "have no name: names are lost, or came too late",
        );
        let text = format!("were told of later, {} ns at most", self.latest_ns);
        tell(self.late, &text);
        let mut tell = |count: u64, text: &str| {
            if count > 0 {
                self.mapped.note(format!("{} {text}", show_count(count)));
            }
        };
        tell(self.unmapped, "lie in no mapping that is known");
        tell(
            self.unsure,
            "contradict a mapping that may have changed: records that would tell are lost, or were not asked for",
        );
        (self.named, self.mapped)
    }

    fn record(
        &mut self,
        record: &Record,
        names: &Names<'_>,
        last: &mut Option<(u32, Mapped, u64)>,
        place: &dyn Fn() -> String,
    ) {
        let stamp = record.stamp();
        // Pid 0: nobody who is traced.
        let some = |id: u32| (id != 0).then_some(id);
        let (named, mapped) = match record {
            Record::Ref(r) => {
                let used = r.event.is_reference() && r.addr != 0;
                let mapped = used.then_some((r.addr, r.page, r.page_order));
                (
                    Named {
                        process: some(r.tgid),
                        object: Some(r.object),
                    },
                    mapped,
                )
            }
            Record::Map(m) => (
                Named {
                    process: some(m.tgid),
                    object: some(m.object),
                },
                None,
            ),
            Record::Around(a) => (
                Named {
                    process: some(a.tgid),
                    object: Some(a.object),
                },
                Some((a.addr, a.page, 0)),
            ),
            Record::Active(a) => (
                Named {
                    process: some(a.tgid),
                    object: Some(a.object),
                },
                Some((a.addr, a.page, a.page_order)),
            ),
            Record::Clean(c) => (
                Named {
                    process: some(c.tgid),
                    object: None,
                },
                None,
            ),
            Record::Process(_)
            | Record::Mapping(_)
            | Record::Object(_)
            | Record::Exit(_)
            | Record::Lost(_)
            | Record::Level(_)
            | Record::Clock(_)
            | Record::Policy(_) => return,
        };
        let kind = record.kind();
        if let Some(tgid) = named.process {
            let told = names.known.processes.get(&tgid).copied();
            self.name(told, stamp, names, &|| {
                format!("{}: {kind}: process {tgid}", place())
            });
        }
        if let Some(object) = named.object {
            let told = names.known.objects.get(&object).copied();
            self.name(told, stamp, names, &|| {
                format!("{}: {kind}: object {object}", place())
            });
        }
        if let (Some((addr, page, page_order)), Some(tgid), Some(object)) =
            (mapped, named.process, named.object)
        {
            let u = Use {
                tgid,
                addr,
                object,
                page,
                page_order,
            };
            self.mapping(&u, stamp, names, last, &|| format!("{}: {kind}", place()));
        }
    }

    fn name(
        &mut self,
        told_ns: Option<u64>,
        stamp: Stamp,
        names: &Names<'_>,
        place: &dyn Fn() -> String,
    ) {
        self.named.check(1);
        match told_ns {
            Some(told_ns) if told_ns <= stamp.time_ns => {}
            Some(told_ns) if told_ns <= names.by(stamp.time_ns) => {
                self.late += 1;
                self.latest_ns = self.latest_ns.max(told_ns - stamp.time_ns);
            }
            _ if names.names_lost => self.nameless += 1,
            Some(told_ns) => self.named.violation(|| {
                let late = told_ns - stamp.time_ns;
                format!("{} is told of only {late} ns after its use", place())
            }),
            None => self
                .named
                .violation(|| format!("{} is told of nowhere", place())),
        }
    }

    fn mapping(
        &mut self,
        u: &Use,
        stamp: Stamp,
        names: &Names<'_>,
        last: &mut Option<(u32, Mapped, u64)>,
        place: &dyn Fn() -> String,
    ) {
        self.mapped.check(1);
        let life = |time_ns| names.incarnations.upid_at(u.tgid, time_ns);
        let same_life = |told_ns| life(told_ns) == life(stamp.time_ns);
        let (mapped, unsure) =
            match names
                .mappings
                .judge(u, names.by(stamp.time_ns), same_life, last)
            {
                Verdict::Agrees => return,
                Verdict::Unknown => {
                    self.unmapped += 1;
                    return;
                }
                Verdict::OtherPage(m) => (m, names.pages_unsure || names.names_lost),
                Verdict::OtherObject(m) => (m, names.names_lost),
            };
        if unsure {
            self.unsure += 1;
            return;
        }
        self.mapped.violation(|| {
            format!(
                "{} of process {} at {:#x}: found object {} page {}; mapped there: {:#x}-{:#x} object {} from page {}",
                place(), u.tgid, u.addr, u.object, u.page, mapped.start, mapped.end, mapped.object, mapped.page
            )
        });
    }
}
