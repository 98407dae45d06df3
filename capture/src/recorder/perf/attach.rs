//! Which events are opened: for every thread of the targets, on every CPU.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::proc;
use super::sys::{Can, Event, Faults, Ring};
use super::{PerfError, explain};

/// Rings are tried from this size down: what an unprivileged user may lock is 516 KiB a CPU (kernel.perf_event_mlock_kb).
const LARGEST_RING: usize = 8 << 20;
const SMALLEST_RING: usize = 16 << 10;

/// One CPU's events and their ring.
#[derive(Debug)]
pub(super) struct CpuEvents {
    pub(super) cpu: u16,
    /// The first one owns the ring.
    events: Vec<Event>,
    /// The ring's reader takes it.
    pub(super) ring: Option<Ring>,
}

/// All events.
#[derive(Debug)]
pub(super) struct Events {
    pub(super) cpus: Vec<CpuEvents>,
    pub(super) can: Can,
    /// Numbers of the events that count major faults.
    pub(super) majors: Vec<u64>,
    /// Bytes of each ring.
    pub(super) ring_size: usize,
    threads: HashSet<u32>,
}

/// What this user may see of a thread.
pub(super) fn allowed(tid: u32, cpu: u16) -> Result<Can, io::Error> {
    // From all down to the least that is of use; the last error is that of the least.
    let mut last = io::ErrorKind::Unsupported.into();
    for (kernel, lost) in [(true, true), (true, false), (false, true), (false, false)] {
        let can = Can { kernel, lost };
        match Event::open(Faults::Minor, tid, cpu, can, 1) {
            Ok(_) => return Ok(can),
            Err(e) => last = e,
        }
    }
    Err(last)
}

impl Events {
    /// Opens the events of every thread of these processes, with the largest rings that this user may have: all of one
    /// size, so that no CPU's share goes to another's.
    pub(super) fn open(pids: &[u32], page: usize) -> Result<Events, PerfError> {
        let first = pids.first().copied().unwrap_or_default();
        let cpus = proc::online_cpus();
        let can = allowed(first, cpus.first().copied().unwrap_or_default())
            .map_err(|e| explain(e, first))?;
        let mut size = LARGEST_RING;
        loop {
            match Events::with_rings(pids, &cpus, can, size, page) {
                Err(PerfError::Memory { .. }) if size / 2 >= SMALLEST_RING.max(page) => size /= 2,
                done => return done,
            }
        }
    }

    fn with_rings(
        pids: &[u32],
        cpus: &[u16],
        can: Can,
        ring_size: usize,
        page: usize,
    ) -> Result<Events, PerfError> {
        let none = |&cpu| CpuEvents {
            cpu,
            events: Vec::new(),
            ring: None,
        };
        let mut events = Events {
            cpus: cpus.iter().map(none).collect(),
            can,
            majors: Vec::new(),
            ring_size,
            threads: HashSet::new(),
        };
        for &pid in pids {
            if !events.process(pid, page)? {
                return Err(PerfError::NoProcess { pid });
            }
        }
        events.cpus.retain(|c| c.ring.is_some());
        Ok(events)
    }

    /// Opens the events of threads that have come since, but for those that inherited them (`told`).
    pub(super) fn late(
        &mut self,
        pids: &[u32],
        told: &[u32],
        page: usize,
    ) -> Result<(), PerfError> {
        self.threads.extend(told);
        for &pid in pids {
            self.process(pid, page)?;
        }
        Ok(())
    }

    /// Opens the events of a process's threads; false: it has none.
    fn process(&mut self, pid: u32, page: usize) -> Result<bool, PerfError> {
        let threads = proc::threads(pid);
        let mut any = false;
        for tid in threads {
            if self.threads.insert(tid) {
                any |= self.thread(tid, page).map_err(|e| explain(e, pid))?;
            }
        }
        Ok(any)
    }

    /// False: the thread has ended.
    fn thread(&mut self, tid: u32, page: usize) -> io::Result<bool> {
        let mut any = false;
        for at in &mut self.cpus {
            match at.thread(tid, (self.ring_size, page), self.can, &mut self.majors) {
                Ok(()) => any = true,
                Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Ok(any),
                // The CPU went offline.
                Err(e) if e.raw_os_error() == Some(libc::ENODEV) => continue,
                Err(e) => return Err(e),
            }
        }
        Ok(any)
    }

    /// Nothing enters the rings any more.
    pub(super) fn disable(&self) {
        for event in self.cpus.iter().flat_map(|c| &c.events) {
            // It is open, so this cannot fail; and if it did, the last drain would only be followed by more.
            let _ = event.disable();
        }
    }
}

impl CpuEvents {
    /// `ring`: bytes of a ring and of a page.
    fn thread(
        &mut self,
        tid: u32,
        ring: (usize, usize),
        can: Can,
        majors: &mut Vec<u64>,
    ) -> io::Result<()> {
        let wakeup = (ring.0 / 4) as u32;
        let minor = Event::open(Faults::Minor, tid, self.cpu, can, wakeup)?;
        match self.events.first() {
            Some(first) => minor.write_to(first.as_fd())?,
            None => {
                // Whatever the kernel calls it, it is about the memory.
                let mapped = Ring::map(&minor, ring.0, ring.1);
                let no_memory = |_| io::Error::from_raw_os_error(libc::ENOMEM);
                self.ring = Some(mapped.map_err(no_memory)?);
            }
        }
        let major = Event::open(Faults::Major, tid, self.cpu, can, wakeup)?;
        major.write_to(self.events.first().unwrap_or(&minor).as_fd())?;
        majors.push(major.id()?);
        minor.reset()?;
        major.reset()?;
        self.events.push(minor);
        self.events.push(major);
        Ok(())
    }

    /// What can be waited for.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.events.first().map(AsFd::as_fd)
    }

    /// How many faults there were, and how many records found no room (`None`: this kernel does not say).
    pub(super) fn counts(&mut self) -> (u64, Option<u64>) {
        let mut sum = (0, Some(0));
        for event in &mut self.events {
            if let Ok((count, lost)) = event.counts() {
                sum.0 += count;
                sum.1 = sum.1.zip(lost).map(|(a, b)| a + b);
            }
        }
        sum
    }
}
