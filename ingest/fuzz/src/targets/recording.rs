//! Two readings of a recording: the survey and the merge agree with each other and with a plain account of numbers.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::path::{Path, PathBuf};

use pgtrace_capture::chunk::Totals;
use pgtrace_capture::record::{Channel, Lost, LostCause, PageRef, Record};
use pgtrace_capture::wire::{ByteOrder, Item, decode};
use pgtrace_ingest::inspect::{Options, inspect};
use pgtrace_ingest::marks::Mark;
use pgtrace_ingest::merge::{Merge, Next};
use pgtrace_ingest::row::Row;
use pgtrace_ingest::source::{Place, recordings};
use pgtrace_ingest::survey::{Survey, survey};

use super::chunk;
use super::plan::{Chunk, plan};

/// Survey and merge of a plan's chunks.
pub(super) fn survey_and_merge(data: &[u8]) {
    let chunks = plan(data);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let paths = write(&chunks, folder.path());
    let places = paths.iter().cloned().map(Place::File).collect();
    let found = recordings(places, false).expect("good headers, each chunk once");
    let [recording] = &found.recordings[..] else {
        panic!("one recording: {}", found.recordings.len());
    };
    let survey = survey(recording, &|_| {}).expect("damage is no error");
    let mut accounts = accounts(&chunks);
    for (cpu, account) in &mut accounts {
        account.check(*cpu, &survey);
    }
    let cpus = recording.cpus.iter().map(|(cpu, c)| (*cpu, c.as_slice()));
    let mut merge = Merge::new(cpus).expect("damage is no error");
    // By the definition: of the CPUs' next ones always the least by (time, CPU); a CPU's time does not go back.
    let mut left: BTreeMap<u16, _> = accounts.into_iter().map(|(c, a)| (c, a.happened)).collect();
    let mut rows = 0;
    let mut wanted = || {
        let heads = left
            .iter()
            .filter_map(|(cpu, q)| Some((q.front()?.0, *cpu)));
        let (_, cpu) = heads.min().expect("nothing is made up");
        let (_, happening) = left.get_mut(&cpu)?.pop_front()?;
        Some((cpu, happening))
    };
    while let Some(next) = merge.next_run().expect("damage is no error") {
        match next {
            Next::Mark(mark) => match wanted() {
                Some((_, Happening::Mark(wanted))) => assert_eq!(mark, wanted),
                other => panic!("expected {other:?}, found {mark:?}"),
            },
            Next::Rows { of, rows: run } => {
                let cpu = of.expect("nothing is stored");
                for row in run {
                    match wanted() {
                        Some((wanted, Happening::Ref(r))) => {
                            let ours = Row::new(rows, r.stamp.cpu, &r);
                            assert_eq!((cpu, *row), (wanted, ours));
                        }
                        other => panic!("expected {other:?}, found {row:?}"),
                    }
                    rows += 1;
                }
            }
        }
    }
    assert!(left.values().all(VecDeque::is_empty), "all of it comes");
    assert_eq!(rows, survey.facts.refs);
    assert_eq!(rows, survey.fresh.values().sum::<u64>());
    for merge in [false, true] {
        let options = Options {
            merge,
            ..Options::default()
        };
        inspect(&paths, &options, &mut std::io::sink()).expect("as text, too");
    }
}

/// Writes the chunks; the names say nothing.
pub(super) fn write(chunks: &[Chunk], folder: &Path) -> Vec<PathBuf> {
    let write = |(i, chunk): (usize, &Chunk)| {
        let path = folder.join(format!("{i}.pgt"));
        std::fs::write(&path, chunk.bytes()).expect("room for a temporary file");
        path
    };
    chunks.iter().enumerate().map(write).collect()
}

/// What becomes a row or a mark.
#[derive(Debug)]
enum Happening {
    Ref(PageRef),
    Mark(Mark),
}

/// What one CPU's chunks say, counted with sets.
#[derive(Default)]
struct Account {
    refs: HashSet<u64>,
    names: HashSet<u64>,
    /// Names that stand elsewhere, too.
    heard: HashSet<u64>,
    lost: Vec<Lost>,
    totals: BTreeMap<u16, (u64, u64)>,
    happened: VecDeque<(u64, Happening)>,
    /// Latest time so far.
    key: u64,
    rows: u64,
    others: u64,
    /// Records of unknown kinds in refs and in names.
    unknown: [u64; 2],
}

fn accounts(chunks: &[Chunk]) -> BTreeMap<u16, Account> {
    let mut accounts: BTreeMap<u16, Account> = BTreeMap::new();
    let mut heard = BTreeSet::new();
    // The plan numbers the chunks of a CPU in their order.
    for chunk in chunks {
        let account = accounts.entry(chunk.cpu).or_default();
        let order = if chunk.big {
            ByteOrder::Big
        } else {
            ByteOrder::Little
        };
        for (kind, payload) in chunk::read(&chunk.bytes()) {
            account.block(kind.as_str(), &payload, order, &mut heard);
        }
    }
    let mut totals: BTreeMap<u16, (u64, u64)> = BTreeMap::new();
    for (&cpu, &(refs, names)) in accounts.values().flat_map(|a| &a.totals) {
        let known = totals.entry(cpu).or_default();
        *known = (known.0.max(refs), known.1.max(names));
    }
    for (cpu, end) in &totals {
        // A CPU without chunks lost all it had.
        accounts.entry(*cpu).or_default().totals = [(*cpu, *end)].into();
    }
    for (cpu, seq) in heard {
        if let Some(account) = accounts.get_mut(&cpu) {
            account.heard.insert(seq);
        }
    }
    accounts
}

impl Account {
    fn block(
        &mut self,
        kind: &str,
        bytes: &[u8],
        order: ByteOrder,
        heard: &mut BTreeSet<(u16, u64)>,
    ) {
        if kind == "totals" {
            if let Ok(totals) = serde_json::from_slice::<Totals>(bytes) {
                let end = |a: u64, b: u64| a.saturating_add(b);
                let cpus = totals.cpus.iter().map(|c| {
                    (
                        c.cpu,
                        (
                            end(c.refs_emitted, c.refs_lost),
                            end(c.names_emitted, c.names_lost),
                        ),
                    )
                });
                self.totals = cpus.collect();
            }
            return;
        }
        for item in decode(bytes, order) {
            match (kind, item) {
                (_, Err(_)) => return,
                // No recording is so long that a record has the last number there is.
                (_, Ok(Item::Unknown { seq: u64::MAX, .. })) => {}
                ("refs", Ok(Item::Unknown { seq, .. })) => {
                    self.unknown[0] += u64::from(self.refs.insert(seq));
                }
                ("names", Ok(Item::Unknown { seq, .. })) => {
                    self.unknown[1] += u64::from(self.names.insert(seq));
                }
                (_, Ok(Item::Unknown { .. })) => {}
                ("refs", Ok(Item::Record(record))) => self.reference(record),
                (kind, Ok(Item::Record(record))) => {
                    let s = record.stamp();
                    if kind == "names" && (s.seq == u64::MAX || !self.names.insert(s.seq)) {
                        continue;
                    }
                    match record {
                        Record::Lost(lost) if kind == "names" => self.lost.push(lost),
                        _ => {
                            heard.insert((s.cpu, s.seq));
                        }
                    }
                }
            }
        }
    }

    fn reference(&mut self, record: Record) {
        let s = record.stamp();
        if s.seq == u64::MAX || !self.refs.insert(s.seq) {
            return;
        }
        self.key = self.key.max(s.time_ns);
        match record {
            Record::Ref(r) => {
                self.rows += 1;
                self.happened.push_back((self.key, Happening::Ref(r)));
                return;
            }
            Record::Lost(lost) => self.lost.push(lost),
            other => {
                let mark = Mark::of(&other).map(|m| (self.key, Happening::Mark(m)));
                self.happened.extend(mark);
            }
        }
        self.others += 1;
    }

    /// Every number is a row, a record of another kind, or lost.
    fn check(&mut self, cpu: u16, survey: &Survey) {
        assert_eq!(survey.fresh.get(&cpu).copied().unwrap_or(0), self.rows);
        let end = self.totals.get(&cpu).copied().unwrap_or((0, 0));
        for (channel, end) in [(Channel::Refs, end.0), (Channel::Names, end.1)] {
            let refs = channel == Channel::Refs;
            let came = if refs { &self.refs } else { &self.names };
            let told = self.lost.iter().filter(|l| {
                l.channel == channel && l.cause == LostCause::BufferFull && l.count > 0
            });
            let told = told.map(|l| l.first_seq.saturating_add(l.count));
            let last = came.iter().map(|n| n + 1);
            let end = told.chain(last).chain([end]).max().unwrap_or(0);
            let healed = if refs {
                0
            } else {
                self.heard
                    .iter()
                    .filter(|&n| *n < end && !came.contains(n))
                    .count()
            };
            let wanted = end - (came.len() + healed) as u64 + self.unknown[usize::from(!refs)];
            // These have no numbers.
            let unnumbered = ["probe_missed", "no_memory"];
            let losses = survey
                .losses
                .iter()
                .filter(|l| (l.cpu, l.channel) == (cpu, channel) && !unnumbered.contains(&l.cause));
            let lost: u64 = losses.filter_map(|l| l.count).sum();
            assert_eq!(
                lost, wanted,
                "{channel} of CPU {cpu}: what did not come is lost"
            );
        }
    }
}
