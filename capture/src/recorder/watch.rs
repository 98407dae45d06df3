//! What ends a recording, and what happens meanwhile: snapshots, the disk, the live line.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::command::Running;
use super::session::Session;
use super::snapshot::Taker;
use super::{News, Progress};
use crate::control::Status;

/// How often the recorder looks whether something ends the recording.
pub(super) const TICK: Duration = Duration::from_millis(20);
/// How often it asks the module and the disk.
const ASK: Duration = Duration::from_millis(200);
/// How often it tells how it goes.
const TELL: Duration = Duration::from_secs(1);

impl Session<'_> {
    /// Waits for something that ends the recording; says what. Keeps the last status seen.
    pub(super) fn watch(
        &self,
        started: Instant,
        mut running: Option<&mut Running>,
        seen: &mut Status,
        taker: &mut Taker<'_>,
        news: &mut dyn FnMut(News<'_>),
    ) -> &'static str {
        let (mut asked, mut told, mut wanted) = (started, started, false);
        loop {
            if self.signals.stop.load(Ordering::Acquire) {
                if let Some(running) = running {
                    running.terminate();
                }
                return "signal";
            }
            if self.shared.gone.load(Ordering::Acquire) {
                return "module";
            }
            if self.shared.failed.load(Ordering::Acquire) {
                return "error";
            }
            if self.shared.disk.is_short() {
                // The figure that is told is to be today's.
                let _ = self.shared.disk.look();
                return "disk";
            }
            if let Some(running) = &mut running
                && !matches!(running.ended(), Ok(None))
            {
                return "command";
            }
            if self
                .options
                .duration
                .is_some_and(|d| started.elapsed() >= d)
            {
                return "duration";
            }
            wanted |= self.signals.snapshot.swap(false, Ordering::AcqRel) | taker.target_exited();
            taker.look(news);
            if taker.is_idle() && std::mem::take(&mut wanted) {
                taker.begin(news);
            }
            if asked.elapsed() >= ASK {
                asked = Instant::now();
                if let Some(end) = self.ask(seen) {
                    return end;
                }
                self.shared.keep.expire(asked);
                if self.options.in_memory {
                    self.shared.names.slide(taker.since_ns());
                }
            }
            if told.elapsed() >= TELL {
                told = Instant::now();
                news(News::Progress(self.progress(started, seen)));
            }
            std::thread::sleep(TICK);
        }
    }

    /// Asks the module and the disk; says what ends the recording, if something does.
    fn ask(&self, seen: &mut Status) -> Option<&'static str> {
        match self.module.status() {
            Ok(status) => *seen = status,
            Err(e) if e.is_gone() => return Some("module"),
            // A status that cannot be read now costs figures, not the recording.
            Err(_) => {}
        }
        // Nor does a disk that cannot be asked.
        let _ = self.shared.disk.look();
        if seen.state == "stopped" {
            return Some("stop");
        }
        let targets = &self.options.targets;
        let by_pid = !targets.all
            && targets.uids.is_empty()
            && targets.comms.is_empty()
            && targets.cgroups.is_empty();
        // Whoever added targets meanwhile may wait for processes that are still to come.
        let added = seen.targets > targets.pids.len().max(1) as u64;
        (by_pid && !added && seen.is_recording() && seen.processes == 0).then_some("processes")
    }

    fn progress(&self, started: Instant, seen: &Status) -> Progress {
        let mut progress = Progress {
            elapsed: started.elapsed(),
            records: self.shared.records.load(Ordering::Relaxed),
            bytes: self.shared.bytes.load(Ordering::Relaxed),
            lost: seen.lost(),
            disk_left: Some(self.shared.disk.left()),
            memory: None,
        };
        if self.options.in_memory {
            let made: u64 = seen.cpus.iter().map(|c| c.refs_emitted).sum();
            progress.records = made;
            progress.memory = Some(fill(seen));
        }
        progress
    }
}

/// How full the refs channels are, in percent: exact once they overwrite, and until then by the size of a reference.
fn fill(seen: &Status) -> u8 {
    const REFERENCE: u64 = 64;
    let capacity = seen.subbuf_size * seen.n_subbufs;
    let held = |c: &crate::control::CpuCounts| match c.refs_overwritten {
        0 => (c.refs_emitted * REFERENCE).min(capacity),
        _ => capacity,
    };
    let held: u64 = seen.cpus.iter().map(held).sum();
    let all = seen.refs_bytes().max(1);
    u8::try_from(held.saturating_mul(100) / all)
        .unwrap_or(100)
        .min(100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::CpuCounts;

    #[test]
    fn memory_fills_until_it_overwrites() {
        let cpu = |refs_emitted, refs_overwritten| CpuCounts {
            refs_emitted,
            refs_overwritten,
            ..CpuCounts::default()
        };
        let status = |cpus: &[CpuCounts]| Status {
            subbuf_size: 64_000,
            n_subbufs: 10,
            cpus: cpus.to_vec(),
            ..Status::default()
        };
        assert_eq!(fill(&Status::default()), 0);
        assert_eq!(fill(&status(&[cpu(0, 0), cpu(1000, 0)])), 5);
        assert_eq!(fill(&status(&[cpu(5000, 0), cpu(1 << 40, 7)])), 75);
        assert_eq!(fill(&status(&[cpu(1 << 40, 1), cpu(1 << 40, 0)])), 100);
    }
}
