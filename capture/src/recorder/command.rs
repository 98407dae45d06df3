//! The traced command: started, held before its exec until the recording runs, then let go.

use std::io::{self, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, ExitStatus};
use std::thread::JoinHandle;

use crate::sys;

/// A child that waits before its exec.
#[derive(Debug)]
pub(super) struct Gated {
    pid: u32,
    go: PipeWriter,
    /// std's spawn returns only after the exec, so it runs in a thread of its own.
    spawn: JoinHandle<io::Result<Child>>,
}

impl Gated {
    /// Forks a child for `words` (program and arguments).
    pub(super) fn fork(words: &[String]) -> io::Result<Gated> {
        let (program, args) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let (mut pid_from, pid_to) = io::pipe()?;
        let (go_from, go) = io::pipe()?;
        let mut command = Command::new(program);
        command.args(args);
        // Only its number: a second handle would keep the gate shut for ever when the recorder gives up.
        let go_fd = go.as_raw_fd();
        let spawn = std::thread::Builder::new()
            .name("spawn".into())
            .spawn(move || {
                sys::gate(&mut command, pid_to.as_fd(), go_from.as_fd(), go_fd);
                command.spawn()
            })?;
        let mut pid = [0; 4];
        if let Err(e) = pid_from.read_exact(&mut pid) {
            // The fork itself failed: its own error says more.
            drop(go);
            return Err(join(spawn).err().unwrap_or(e));
        }
        Ok(Gated {
            pid: u32::from_ne_bytes(pid),
            go,
            spawn,
        })
    }

    /// The child's process id, also that of the command.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets the child exec; an error is that of the exec.
    pub(super) fn go(mut self) -> io::Result<Running> {
        let told = self.go.write_all(&[1]);
        drop(self.go);
        let child = join(self.spawn)?;
        told?;
        Ok(Running { child })
    }

    /// Ends the child without an exec.
    pub(super) fn cancel(self) {
        drop(self.go);
        let _ = join(self.spawn); // says only that it was cancelled
    }
}

fn join(thread: JoinHandle<io::Result<Child>>) -> io::Result<Child> {
    thread
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the spawning thread panicked")))
}

/// The command at work.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
}

impl Running {
    /// Its exit status, once it has ended.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) {
        sys::terminate(self.child.id());
    }
}
