//! The reference string of a capture across its files: every number once, and time that does not go back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use arrow::datatypes::{TimestampNanosecondType, UInt16Type, UInt64Type};
use futures::StreamExt;
use parquet::arrow::ProjectionMask;
use parquet::file::statistics::Statistics;
use rayon::prelude::*;

use super::file::{Opened, Reader, text, values};
use super::small::Facts;
use crate::manifest::{FileEntry, Manifest};
use crate::schema::Table;
use crate::verify::report::Rule;

/// Bytes of a number in a window.
const CELL: u64 = 12;
/// Windows looked through of one capture of a dataset that holds some of its rows only.
const WINDOWS: u64 = 100_000;
/// A step back of the clock that needs no reading of the clocks to be believed: readings of two CPUs' first chunks.
const CLOSE_NS: i64 = 1_000_000;
/// The same where chunks were rotated: each begins with a reading, and a clock that is slewed goes wrong by 0.05 %.
const ROTATED_NS: i64 = 50_000_000;

/// Numbers `from..` of a capture, filled by all files at the same time.
struct Window {
    from: u64,
    ts: Vec<AtomicI64>,
    /// CPU + 1; 0: not there.
    cpu: Vec<AtomicU32>,
}

/// How the string goes on from window to window.
struct ReferenceString {
    rules: Mutex<(Rule, Rule)>,
    /// Last time of each CPU.
    last: BTreeMap<u32, i64>,
    steps: u64,
    /// Every step back is as it should be.
    any_order: bool,
    /// Numbers may be missing: the dataset was made of another one.
    gaps: bool,
}

/// The rules `sequence` and `time`.
pub(super) fn check(
    reader: &Reader<'_>,
    refs: &[(Table, &FileEntry)],
    facts: &BTreeMap<String, Facts>,
    manifest: &Manifest,
    found: &dyn Fn(&str) -> u64,
    memory: u64,
) -> (Rule, Rule) {
    let gaps = manifest.derived.is_some();
    let mut sequence = Rule::new(
        "sequence",
        match gaps {
            false => "numbers of the captures' references, each there once",
            true => "numbers of the captures' references, each there once at most",
        },
    );
    let mut time = Rule::new(
        "time",
        "rows of refs, each not before the row before it of its CPU, unless the clock was set, or it was a table",
    );
    for capture in &manifest.captures {
        let id = &capture.capture_id;
        let files: Vec<&FileEntry> = refs
            .iter()
            .map(|(_, f)| *f)
            .filter(|f| f.capture_id == *id)
            .collect();
        let known = facts.get(id);
        let mut state = ReferenceString {
            rules: Mutex::new((Rule::new("", ""), Rule::new("", ""))),
            last: BTreeMap::new(),
            steps: 0,
            any_order: known.is_some_and(|f| f.translated),
            gaps,
        };
        let anchors = known.map(|f| f.anchors.clone()).unwrap_or_default();
        let clocks = Steps::of(anchors, known.is_some_and(|f| f.rotated));
        let cells = (memory / 4 / CELL).clamp(1 << 16, 1 << 32);
        if gaps {
            let checked = state.windows_with_rows(reader, &files, cells, &clocks);
            if !checked {
                sequence.violation(|| {
                    format!("capture {id}: its files claim more numbers than can be looked through")
                });
            }
        }
        let mut from = 0;
        // A manifest that claims what nobody has must not keep us looking for it.
        let rows = match gaps {
            false => capture.refs.min(found(id).saturating_add(cells)),
            true => 0,
        };
        while from < rows {
            let count = cells.min(rows - from);
            state.window(reader, &files, from, count, &clocks);
            from += count;
        }
        if rows < capture.refs && !gaps {
            sequence.violation(|| gap(rows, capture.refs));
        }
        let (s, t) = state
            .rules
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        sequence.merge(s);
        time.merge(t);
        if state.steps > 0 {
            let why = match state.any_order {
                true => "it was a table, whose rows are in its own order",
                false => "the clock was set back or slewed",
            };
            time.note(format!(
                "capture {id}: {why}: {} rows are before the row before them",
                state.steps
            ));
        }
    }
    (sequence, time)
}

impl ReferenceString {
    /// All windows in which files say that they have rows; whether that came to an end.
    fn windows_with_rows(
        &mut self,
        reader: &Reader<'_>,
        files: &[&FileEntry],
        cells: u64,
        clocks: &Steps,
    ) -> bool {
        let mut from = 0u64;
        for _ in 0..WINDOWS {
            // Where the manifest does not say, a file's rows may be anywhere; such a file was never written.
            let ahead = files.iter().filter_map(|f| f.seq).filter(|s| s.max >= from);
            let Some(next) = ahead.map(|s| s.min.max(from)).min() else {
                return true;
            };
            let last = files.iter().filter_map(|f| f.seq).map(|s| s.max).max();
            let left = last.map_or(0, |last| last - next).saturating_add(1);
            let count = cells.min(left).min(u64::MAX - next);
            self.window(reader, files, next, count, clocks);
            match next.checked_add(count) {
                Some(behind) if behind < u64::MAX => from = behind,
                _ => return true,
            }
        }
        false
    }

    fn window(
        &mut self,
        reader: &Reader<'_>,
        files: &[&FileEntry],
        from: u64,
        count: u64,
        clocks: &Steps,
    ) {
        let len = usize::try_from(count).unwrap_or(0);
        let window = Window {
            from,
            ts: (0..len).map(|_| AtomicI64::new(0)).collect(),
            cpu: (0..len).map(|_| AtomicU32::new(0)).collect(),
        };
        let end = from + count;
        let rules = &self.rules;
        files
            .par_iter()
            .filter(|f| f.seq.is_none_or(|s| s.min < end && from <= s.max))
            .for_each(|file| {
                let twice = |seq: u64| {
                    let mut rules = rules.lock().unwrap_or_else(PoisonError::into_inner);
                    rules
                        .0
                        .violation(|| format!("{}: seq {seq} is there once more", file.path));
                };
                // A file that cannot be read has been told of; its numbers will be missing.
                let _ = reader.with(file, async |opened| fill(opened, &window, &twice).await);
            });
        self.walk(&window, clocks);
    }

    /// Goes over a filled window in order.
    fn walk(&mut self, window: &Window, clocks: &Steps) {
        let rules = self.rules.get_mut().unwrap_or_else(PoisonError::into_inner);
        let (sequence, time) = rules;
        if !self.gaps {
            sequence.check(window.cpu.len() as u64);
        }
        let mut missing: Option<u64> = None;
        let mut seq = window.from;
        for (cpu, ts) in window.cpu.iter().zip(&window.ts) {
            let (cpu, ts) = (cpu.load(Relaxed), ts.load(Relaxed));
            if cpu == 0 {
                if !self.gaps {
                    missing.get_or_insert(seq);
                }
                seq += 1;
                continue;
            }
            if self.gaps {
                sequence.check(1);
            }
            if let Some(first) = missing.take() {
                sequence.violation(|| gap(first, seq));
            }
            time.check(1);
            let last = self.last.insert(cpu, ts).unwrap_or(i64::MIN);
            if ts < last {
                match self.any_order || clocks.explain(last, ts) {
                    true => self.steps += 1,
                    false => time.violation(|| {
                        let cpu = cpu - 1;
                        format!("seq {seq} of CPU {cpu} is of {ts} ns, its row before of {last} ns")
                    }),
                }
            }
            seq += 1;
        }
        if let Some(first) = missing {
            sequence.violation(|| gap(first, seq));
        }
    }
}

fn gap(first: u64, behind: u64) -> String {
    match behind - first {
        1 => format!("seq {first} is not there"),
        _ => format!("seq {first} to {} are not there", behind - 1),
    }
}

/// Puts a file's rows into the window; row groups that lie outside are not read.
async fn fill(opened: Opened, window: &Window, twice: &dyn Fn(u64)) -> Result<(), String> {
    let schema = opened.parquet_schema();
    let mask = ProjectionMask::columns(schema, ["seq", "ts", "cpu"]);
    let column = schema.columns().iter().position(|c| c.name() == "seq");
    let column = column.ok_or("no column seq")?;
    let end = window.from + window.cpu.len() as u64;
    let inside = |group: &parquet::file::metadata::RowGroupMetaData| {
        let statistics = group.columns().get(column).and_then(|c| c.statistics());
        let Some(Statistics::Int64(s)) = statistics else {
            return true;
        };
        // Stored as signed, meant as unsigned.
        let (min, max) = (
            s.min_opt().map(|v| *v as u64),
            s.max_opt().map(|v| *v as u64),
        );
        min.is_none_or(|min| min < end) && max.is_none_or(|max| window.from <= max)
    };
    let groups = opened.metadata().row_groups().iter().enumerate();
    let groups = groups.filter(|(_, g)| inside(g)).map(|(i, _)| i).collect();
    let opened = opened.with_projection(mask).with_row_groups(groups);
    let mut batches = opened.build().map_err(text)?;
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(text)?;
        let seq = values::<UInt64Type>(&batch, "seq")?.values();
        let ts = values::<TimestampNanosecondType>(&batch, "ts")?.values();
        let cpu = values::<UInt16Type>(&batch, "cpu")?.values();
        for ((&seq, &ts), &cpu) in seq.iter().zip(ts).zip(cpu) {
            let at = seq
                .checked_sub(window.from)
                .and_then(|at| usize::try_from(at).ok());
            let cell = at.and_then(|at| window.cpu.get(at).zip(window.ts.get(at)));
            let Some((to_cpu, to_ts)) = cell else {
                continue;
            };
            if to_cpu.swap(u32::from(cpu) + 1, Relaxed) != 0 {
                twice(seq);
            }
            to_ts.store(ts, Relaxed);
        }
    }
    Ok(())
}

/// Where the wall clock went back, as far as it is told.
struct Steps {
    /// Wall time just before a reading, by the reading before it; and by the reading itself.
    back: Vec<(i128, i128)>,
    close_ns: i64,
}

impl Steps {
    fn of(mut anchors: Vec<(u64, u64)>, rotated: bool) -> Self {
        anchors.sort_unstable();
        let step = |pair: &[(u64, u64)]| {
            let &[(mono, utc), (mono_then, utc_then)] = pair else {
                return None;
            };
            let before = i128::from(utc) + i128::from(mono_then) - i128::from(mono);
            (before > i128::from(utc_then)).then_some((before, i128::from(utc_then)))
        };
        Self {
            back: anchors.windows(2).filter_map(step).collect(),
            close_ns: match rotated {
                true => ROTATED_NS,
                false => CLOSE_NS,
            },
        }
    }

    /// Whether a step back from one time to another is the clock's.
    fn explain(&self, from: i64, to: i64) -> bool {
        let (before, then) = (i128::from(from), i128::from(to));
        let close = before - then <= i128::from(self.close_ns);
        let told = self.back.iter();
        close || told.into_iter().any(|(b, t)| before <= *b && then >= *t)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_back_is_the_clocks_only_where_it_was_read() {
        // 10 s on, the wall clock has gained 7 s only: it was set back by 3 s.
        let anchors = vec![(10_000_000_000, 107_000_000_000), (0, 100_000_000_000)];
        let steps = Steps::of(anchors, false);
        assert!(steps.explain(109_999_999_999, 107_000_000_001));
        assert!(
            !steps.explain(109_999_999_999, 106_999_999_999),
            "further than that"
        );
        assert!(
            !steps.explain(112_000_000_000, 109_000_000_000),
            "after that"
        );
        assert!(
            steps.explain(105_000_900_000, 105_000_000_000),
            "close enough"
        );
        assert!(!Steps::of(Vec::new(), false).explain(105_002_000_000, 105_000_000_000));
    }

    #[test]
    fn gaps_are_named() {
        assert_eq!(gap(5, 6), "seq 5 is not there");
        assert_eq!(gap(5, 9), "seq 5 to 8 are not there");
    }
}
