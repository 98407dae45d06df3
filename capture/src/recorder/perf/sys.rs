//! perf events: opened, mapped, waited for. The only `unsafe` of this source.
#![allow(
    unsafe_code,
    reason = "system calls and the kernel's ring; each says why it is sound"
)]

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use perf_event_open_sys as perf;
use perf_event_open_sys::bindings as abi;

use super::ring;

/// Which faults an event counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Faults {
    /// Those that needed no I/O. This event also tells of mappings, names, forks and exits.
    Minor,
    /// Those that needed I/O.
    Major,
}

/// What the kernel lets this user do and is new enough for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Can {
    /// Faults of the kernel on the program's behalf (a `read()` into fresh memory) are told.
    pub(super) kernel: bool,
    /// The kernel counts what found no room, event by event (Linux 6.0).
    pub(super) lost: bool,
}

/// One event of one thread (and its children) on one CPU.
#[derive(Debug)]
pub(super) struct Event {
    file: File,
    can: Can,
}

impl Event {
    /// Opens an enabled event; a sample of it is what [`super::event`] decodes.
    pub(super) fn open(
        what: Faults,
        tid: u32,
        cpu: u16,
        can: Can,
        wakeup: u32,
    ) -> io::Result<Event> {
        let mut attr = abi::perf_event_attr {
            type_: abi::PERF_TYPE_SOFTWARE,
            size: size_of::<abi::perf_event_attr>() as u32,
            config: u64::from(match what {
                Faults::Minor => abi::PERF_COUNT_SW_PAGE_FAULTS_MIN,
                Faults::Major => abi::PERF_COUNT_SW_PAGE_FAULTS_MAJ,
            }),
            sample_type: u64::from(
                abi::PERF_SAMPLE_IDENTIFIER
                    | abi::PERF_SAMPLE_IP
                    | abi::PERF_SAMPLE_TID
                    | abi::PERF_SAMPLE_TIME
                    | abi::PERF_SAMPLE_ADDR,
            ),
            clockid: libc::CLOCK_MONOTONIC,
            ..abi::perf_event_attr::default()
        };
        attr.sample_period = 1;
        attr.wakeup_watermark = wakeup;
        attr.set_watermark(1);
        attr.set_inherit(1);
        attr.set_sample_id_all(1);
        attr.set_use_clockid(1);
        attr.set_exclude_hv(1);
        attr.set_exclude_kernel(u64::from(!can.kernel));
        if can.lost {
            attr.read_format = u64::from(abi::PERF_FORMAT_LOST);
        }
        if what == Faults::Minor {
            attr.set_mmap(1);
            attr.set_mmap2(1);
            attr.set_mmap_data(1);
            attr.set_comm(1);
            attr.set_comm_exec(1);
            attr.set_task(1);
        }
        let tid = libc::pid_t::try_from(tid).map_err(|_| io::ErrorKind::InvalidInput)?;
        let flags = u64::from(abi::PERF_FLAG_FD_CLOEXEC) as libc::c_ulong;
        // SAFETY: `attr` is an initialised perf_event_attr that lives through the call and whose size it names; nothing
        // in it makes the kernel write to this process's memory but the ring that is mapped later.
        let fd = unsafe { perf::perf_event_open(&mut attr, tid, i32::from(cpu), -1, flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given this file to us, and nobody else knows its number.
        let file = unsafe { File::from_raw_fd(fd) };
        Ok(Event { file, can })
    }

    /// Sends the event's records to the ring of `to`, which is of the same CPU.
    pub(super) fn write_to(&self, to: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: both files are open perf events; the call takes plain numbers.
        let done = unsafe { perf::ioctls::SET_OUTPUT(self.file.as_raw_fd(), to.as_raw_fd()) };
        check(done)
    }

    /// Counts from 0 on again: from here on its records have a ring to go to.
    pub(super) fn reset(&self) -> io::Result<()> {
        // SAFETY: the file is an open perf event; the call takes plain numbers.
        check(unsafe { perf::ioctls::RESET(self.file.as_raw_fd(), 0) })
    }

    /// Ends the event for its thread and all children: nothing of it enters the ring any more.
    pub(super) fn disable(&self) -> io::Result<()> {
        // SAFETY: the file is an open perf event; the call takes plain numbers.
        check(unsafe { perf::ioctls::DISABLE(self.file.as_raw_fd(), 0) })
    }

    /// The number its samples carry.
    pub(super) fn id(&self) -> io::Result<u64> {
        let mut id = 0;
        // SAFETY: the file is an open perf event; `id` is a u64 to write to that lives through the call.
        check(unsafe { perf::ioctls::ID(self.file.as_raw_fd(), &mut id) })?;
        Ok(id)
    }

    /// How often it happened, and how many of its records found no room (`None`: this kernel does not say).
    pub(super) fn counts(&mut self) -> io::Result<(u64, Option<u64>)> {
        let mut bytes = [0; 16];
        let want = if self.can.lost { 16 } else { 8 };
        let into = bytes.get_mut(..want).unwrap_or_default();
        self.file.read_exact(into)?;
        let word = |at| super::event::u64_at(&bytes, at).unwrap_or_default();
        Ok((word(0), self.can.lost.then(|| word(8))))
    }
}

impl std::os::fd::AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A CPU's ring, mapped: the kernel writes at the head, we read from the tail.
#[derive(Debug)]
pub(super) struct Ring {
    /// Begin of the mapping: a perf_event_mmap_page, and a page further the data.
    base: NonNull<abi::perf_event_mmap_page>,
    mapped: usize,
    /// Bytes of data, a power of two.
    size: NonZeroUsize,
}

// SAFETY: the mapping belongs to this value alone and is not tied to a thread.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps a ring of `size` bytes, a power of two and at least a page, for an event of one CPU.
    pub(super) fn map(event: &Event, size: usize, page: usize) -> io::Result<Ring> {
        let whole = NonZeroUsize::new(size).filter(|n| n.is_power_of_two() && n.get() >= page);
        let size = whole.ok_or(io::ErrorKind::InvalidInput)?;
        let mapped = size.get() + page;
        // SAFETY: asks for a new mapping of an open file, at no fixed address: no memory in use changes.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mapped,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                event.file.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Ring { base, mapped, size })
    }

    /// Bytes of data it has room for.
    pub(super) fn size(&self) -> usize {
        self.size.get()
    }

    /// Appends what is in the ring to `out` and frees it: whole records, in the order they were written.
    ///
    /// # Errors
    /// Head and tail make no sense (they never should): what they span is freed unread.
    pub(super) fn drain(&mut self, out: &mut Vec<u8>) -> Result<(), ring::Broken> {
        let (head, tail) = (self.word(Word::Head), self.word(Word::Tail));
        // Acquire: the records below the head are read after it. Only we write the tail.
        let (to, from) = (head.load(Ordering::Acquire), tail.load(Ordering::Relaxed));
        let spans = ring::spans(self.size, from, to);
        for span in spans.iter().flatten() {
            // SAFETY: a span lies in 0..size (ring::spans), so the source lies in the data part of the mapping. The
            // kernel does not write between tail and head, so nobody changes these bytes while they are copied; `out`
            // has the room that was reserved and is no part of the mapping.
            unsafe {
                out.reserve(span.len());
                let data = self
                    .base
                    .as_ptr()
                    .cast::<u8>()
                    .add(self.mapped - self.size());
                let end = out.as_mut_ptr().add(out.len());
                std::ptr::copy_nonoverlapping(data.add(span.start), end, span.len());
                out.set_len(out.len() + span.len());
            }
        }
        // Release: the kernel may write there only after we have read it.
        tail.store(to, Ordering::Release);
        spans.map(|_| ())
    }

    fn word(&self, which: Word) -> &AtomicU64 {
        let offset = match which {
            Word::Head => std::mem::offset_of!(abi::perf_event_mmap_page, data_head),
            Word::Tail => std::mem::offset_of!(abi::perf_event_mmap_page, data_tail),
        };
        // SAFETY: the field lies in the mapping's first page, which lives as long as `self`; it is aligned to 8 bytes,
        // and both sides use it as one atomic word.
        unsafe {
            &*self
                .base
                .as_ptr()
                .cast::<u8>()
                .add(offset)
                .cast::<AtomicU64>()
        }
    }
}

#[derive(Clone, Copy)]
enum Word {
    Head,
    Tail,
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: unmaps what `map` mapped; no reference into it outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.mapped) };
    }
}

/// Waits until a ring is a good part full, or `timeout` is over. Says whether one is.
pub(super) fn wait(rings: &[BorrowedFd<'_>], timeout: Duration) -> bool {
    let mut fds: Vec<_> = rings
        .iter()
        .map(|fd| libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: `fds` is an array of as many valid pollfds as we say and lives through the call; the files are borrowed,
    // so open.
    let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, ms) };
    // A thread that has ended hangs its event up, at once and always: that is no news.
    ready > 0 && fds.iter().any(|fd| fd.revents & libc::POLLIN != 0)
}

/// Lets this process open as many files as it may.
pub(super) fn raise_file_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid rlimit to write to, then to read from. A failure leaves the limit as it is: opening
    // says so if it is too low.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// Clock ticks a second, the unit of times in /proc/PID/stat.
pub(super) fn ticks_per_second() -> u64 {
    // SAFETY: takes and returns plain numbers.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).ok().filter(|&n| n > 0).unwrap_or(100)
}

fn check(done: i32) -> io::Result<()> {
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
