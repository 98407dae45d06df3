//! Where results go: standard output, a file, a program.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use pgtrace_ingest::store;
use tempfile::NamedTempFile;

use super::Format;
use crate::Error;

/// Where results go.
#[derive(Debug)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file.
    File {
        /// Its name.
        path: PathBuf,
        /// Results that are in it.
        results: usize,
    },
    /// A device or a named pipe.
    Device {
        /// Its name.
        path: PathBuf,
        /// It is open.
        to: File,
    },
    /// The standard input of a program that `sh` runs.
    Program {
        /// What was typed.
        command: String,
        /// It runs until the target is closed.
        child: Child,
    },
}

impl Target {
    /// Results go to this file, the first one replacing it.
    ///
    /// # Errors
    /// When no file can be made there.
    pub fn file(path: &Path) -> Result<Target, Error> {
        if path.to_str().is_some_and(store::is_url) {
            return Err(Error::OutputUrl(path.display().to_string()));
        }
        let Ok(there) = std::fs::metadata(path) else {
            drop(temporary(path)?); // said at once and not after the query: no folder, or none to write in
            return Ok(Target::File {
                path: path.to_owned(),
                results: 0,
            });
        };
        if there.is_dir() {
            return Err(failed(path, io::ErrorKind::IsADirectory.into()));
        }
        let to = OpenOptions::new().append(true).open(path);
        let to = to.map_err(|cause| failed(path, cause))?;
        if !there.is_file() {
            // A device or a named pipe is written into, never replaced.
            let path = path.to_owned();
            return Ok(Target::Device { path, to });
        }
        // The file that a link stands for, not the link.
        let path = path.canonicalize().map_err(|cause| failed(path, cause))?;
        drop(temporary(&path)?);
        Ok(Target::File { path, results: 0 })
    }

    /// Results go to this program.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn program(command: &str) -> Result<Target, Error> {
        let child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .spawn();
        Ok(Target::Program {
            command: command.to_owned(),
            child: child.map_err(|cause| failed(Path::new(command), cause))?,
        })
    }

    /// Whether results are seen on a terminal.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Target::Stdout) && io::stdout().is_terminal()
    }

    /// Whether results go to standard output.
    pub fn is_stdout(&self) -> bool {
        matches!(self, Target::Stdout)
    }

    /// Makes ready for one result.
    ///
    /// # Errors
    /// When the format is nothing for this target, or it cannot be opened.
    pub fn open(&mut self, format: Format) -> Result<Open<'_>, Error> {
        match self {
            Target::Stdout if format.is_binary() && io::stdout().is_terminal() => {
                Err(Error::Binary(format.name()))
            }
            Target::Stdout => Ok(Open::Stdout(io::stdout())),
            Target::File { path, results } if format.is_binary() && *results > 0 => {
                Err(Error::SecondResult {
                    format: format.name(),
                    path: path.clone(),
                })
            }
            Target::File { path, results } => Ok(Open::File {
                temporary: temporary(path)?,
                path,
                results,
            }),
            Target::Device { to, .. } if format.is_binary() && to.is_terminal() => {
                Err(Error::Binary(format.name()))
            }
            Target::Device { to, .. } => Ok(Open::Device(to)),
            Target::Program { command, child } => {
                // A program that has ended took all it wanted; the pipe says so, too.
                let stdin = child.stdin.as_mut();
                let gone = || failed(Path::new(command), io::ErrorKind::BrokenPipe.into());
                Ok(Open::Program(stdin.ok_or_else(gone)?))
            }
        }
    }

    /// Ends it: a program's input is closed, and its end awaited.
    ///
    /// # Errors
    /// When a program ends badly.
    pub fn close(self) -> Result<(), Error> {
        let Target::Program { command, mut child } = self else {
            return Ok(());
        };
        drop(child.stdin.take());
        let ended = child.wait();
        match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(failed(
                Path::new(&command),
                io::Error::other(format!("ended with {status}")),
            )),
            Err(cause) => Err(failed(Path::new(&command), cause)),
        }
    }
}

/// Takes one result.
#[derive(Debug)]
pub enum Open<'a> {
    /// See [`Target::Stdout`].
    Stdout(io::Stdout),
    /// The result stands in a file of its own until it is whole.
    File {
        /// That file, beside the one to be.
        temporary: NamedTempFile,
        /// The name to be.
        path: &'a Path,
        /// Results in it.
        results: &'a mut usize,
    },
    /// See [`Target::Device`].
    Device(&'a mut File),
    /// See [`Target::Program`].
    Program(&'a mut ChildStdin),
}

impl Open<'_> {
    /// To be called when the result is whole: only now a file holds it.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn commit(self) -> Result<(), Error> {
        let Open::File {
            mut temporary,
            path,
            results,
        } = self
        else {
            return Ok(());
        };
        if *results == 0 {
            let published = temporary.persist(path);
            published.map_err(|e| failed(path, e.error))?;
        } else {
            append(temporary.as_file_mut(), path).map_err(|cause| failed(path, cause))?;
        }
        *results += 1;
        Ok(())
    }
}

/// A further result goes behind those that are there; all of it, or nothing.
fn append(from: &mut File, path: &Path) -> io::Result<()> {
    from.rewind()?;
    let mut to = OpenOptions::new().append(true).create(true).open(path)?;
    let before = to.metadata()?.len();
    let copied = io::copy(from, &mut to);
    if copied.is_err() {
        to.set_len(before)?;
    }
    copied.map(drop)
}

impl Write for Open<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Open::Stdout(out) => out.write(bytes),
            Open::File { temporary, .. } => temporary.write(bytes),
            Open::Device(to) => to.write(bytes),
            Open::Program(stdin) => stdin.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Open::Stdout(out) => out.flush(),
            Open::File { temporary, .. } => temporary.flush(),
            Open::Device(to) => to.flush(),
            Open::Program(stdin) => stdin.flush(),
        }
    }
}

/// An unpublished file in the folder of `path`, with the permissions a new file gets.
fn temporary(path: &Path) -> Result<NamedTempFile, Error> {
    use std::os::unix::fs::PermissionsExt;
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty());
    let made = tempfile::Builder::new()
        .prefix(".pgtrace-sql-")
        .permissions(std::fs::Permissions::from_mode(0o666)) // less the umask
        .tempfile_in(folder.unwrap_or(Path::new(".")));
    made.map_err(|cause| {
        // tempfile adds the name it tried to the message; the reason alone is what a user needs.
        let cause = cause
            .raw_os_error()
            .map_or(cause, io::Error::from_raw_os_error);
        failed(path, cause)
    })
}

fn failed(path: &Path, cause: io::Error) -> Error {
    Error::OutputFile {
        path: path.to_owned(),
        cause,
    }
}
