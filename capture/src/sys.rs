//! The system calls std does not wrap. The only `unsafe` of the recorder.
#![allow(unsafe_code, reason = "system calls; each says why it is sound")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The three clocks, read together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clocks {
    pub(crate) monotonic_ns: u64,
    pub(crate) realtime_ns: u64,
    pub(crate) boottime_ns: u64,
}

/// Reads the clocks.
pub(crate) fn clocks() -> Clocks {
    Clocks {
        monotonic_ns: clock(libc::CLOCK_MONOTONIC),
        realtime_ns: clock(libc::CLOCK_REALTIME),
        boottime_ns: clock(libc::CLOCK_BOOTTIME),
    }
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut t = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `t` is a valid timespec to write to; the clocks asked for exist on every Linux, so it cannot fail.
    unsafe { libc::clock_gettime(id, &mut t) };
    (t.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(t.tv_nsec as u64)
}

/// Bytes of a base page.
pub(crate) fn page_size() -> u32 {
    // SAFETY: takes and returns plain numbers.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u32::try_from(size).unwrap_or(4096)
}

/// From now on this process gets its memory in base pages: where memory is scarce, a huge page of which little is used
/// costs more than it gains. A kernel that cannot do so (before 3.15) gives what it gave before.
pub fn without_huge_pages() {
    let (on, none): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: takes plain numbers and sets a flag of this process's address space.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, on, none, none, none) };
}

/// Waits until one of two files can be read, or `timeout` is over. Says whether one can be.
pub(crate) fn wait_readable(
    a: BorrowedFd<'_>,
    b: BorrowedFd<'_>,
    timeout: Duration,
) -> io::Result<bool> {
    let mut fds = [a, b].map(|fd| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    let ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: `fds` is an array of 2 valid pollfds that lives through the call; the files are borrowed, so open.
    let ready = unsafe { libc::poll(fds.as_mut_ptr(), 2, ms) };
    match ready {
        0.. => Ok(ready > 0),
        _ => match io::Error::last_os_error() {
            e if e.kind() == io::ErrorKind::Interrupted => Ok(false),
            e => Err(e),
        },
    }
}

/// Waits until a file can be read, or `timeout` is over. Says whether it can be.
pub(crate) fn wait_one(a: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    wait_readable(a, a, timeout)
}

/// Room on a file system, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Space {
    /// What an ordinary user may still take.
    pub(crate) free: u64,
    pub(crate) total: u64,
}

/// Asks for the room on the file system of `path`.
pub(crate) fn disk_space(path: &Path) -> io::Result<Space> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a statvfs is plain numbers, for which zero is a value; `path` ends in a NUL and lives through the call.
    let (failed, s) = unsafe {
        let mut s: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &mut s), s)
    };
    if failed != 0 {
        return Err(io::Error::last_os_error());
    }
    let bytes = |blocks: u64| blocks.saturating_mul(s.f_frsize);
    Ok(Space {
        free: bytes(s.f_bavail),
        total: bytes(s.f_blocks),
    })
}

/// Columns of the terminal that a file is; `None`: it is none, or does not say.
pub(crate) fn columns(terminal: BorrowedFd<'_>) -> Option<u16> {
    // SAFETY: a winsize is plain numbers, for which zero is a value, and lives through the call; the file is borrowed,
    // so open.
    let (failed, size) = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        (
            libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &mut size),
            size,
        )
    };
    (failed == 0 && size.ws_col > 0).then_some(size.ws_col)
}

/// Asks a recorder for a snapshot.
pub(crate) fn ask_for_snapshot(pid: u32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    if pid == 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: takes plain numbers; pid is positive, so it names one process.
    match unsafe { libc::kill(pid, libc::SIGUSR1) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Binds the calling thread to a CPU. An error (the CPU is offline, or not allowed) costs speed only.
pub(crate) fn pin_to_cpu(cpu: u16) -> io::Result<()> {
    if usize::from(cpu) >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: a cpu_set_t is an array of bits, for which zero is a value; the CPU was checked to lie inside it; 0 means
    // the calling thread.
    let failed = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(usize::from(cpu), &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if failed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Asks a process to end. The caller has not yet waited for it, so the pid is still its own.
pub(crate) fn terminate(pid: u32) {
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: takes plain numbers; pid is positive, so it names one process.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }
}

/// Makes `command` tell its pid on `pid_to`, then wait for a byte on `go_from` before it execs. `go_to` is the other
/// end's number, which the child must not hold open: else it would never see that the recorder gave up.
pub(crate) fn gate(
    command: &mut Command,
    pid_to: BorrowedFd<'_>,
    go_from: BorrowedFd<'_>,
    go_to: RawFd,
) {
    let (pid_to, go_from) = (pid_to.as_raw_fd(), go_from.as_raw_fd());
    // SAFETY: between fork and exec only close, getpid, write and read are called, which are async-signal-safe, on
    // memory of the closure's own. The caller keeps the three files open until the command is spawned; the fork has
    // its own copies.
    unsafe {
        command.pre_exec(move || {
            libc::close(go_to);
            let pid = libc::getpid().to_ne_bytes();
            if libc::write(pid_to, pid.as_ptr().cast(), pid.len()) != pid.len() as isize {
                return Err(io::Error::last_os_error());
            }
            let mut go = 0u8;
            loop {
                match libc::read(go_from, std::ptr::from_mut(&mut go).cast(), 1) {
                    1 => return Ok(()),
                    0 => return Err(io::Error::from_raw_os_error(libc::ECANCELED)),
                    _ => {
                        let e = io::Error::last_os_error();
                        if e.raw_os_error() != Some(libc::EINTR) {
                            return Err(e);
                        }
                    }
                }
            }
        });
    }
}
