//! The module's `control` and `status` files in debugfs.

mod status;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub use status::{CpuCounts, Status};

/// Where the module's files are, unless the environment says otherwise.
const ROOT: &str = "/sys/kernel/debug/pgtrace";
/// Environment variable that names another folder, for tests.
pub const ROOT_VAR: &str = "PGTRACE_DEBUGFS";

/// Why the module cannot be talked to, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is no debugfs.
    #[error("{} does not exist and {} is empty: debugfs is not mounted; try: mount -t debugfs none {}", path.display(), parent.display(), parent.display())]
    NotMounted {
        /// The module's folder.
        path: PathBuf,
        /// Where debugfs should be.
        parent: PathBuf,
    },
    /// There is a debugfs, but no module in it.
    #[error("{} does not exist: the pgtrace module is not loaded; try: modprobe pgtrace, or insmod pgtrace.ko", path.display())]
    NotLoaded {
        /// The module's folder.
        path: PathBuf,
    },
    /// Only root may.
    #[error("{}: permission denied: recording needs root, or the group that the module was given (modprobe pgtrace gid=N); try again with sudo", path.display())]
    Permission {
        /// The file.
        path: PathBuf,
    },
    /// There is one recording at a time.
    #[error("another recording is running; wait for its end, or end it with: pgtrace-capture stop")]
    Busy,
    /// Nothing is being recorded.
    #[error("no recording is running: begin one with pgtrace-capture record")]
    NotRecording,
    /// The setting holds for a whole recording, or somebody else is setting one up.
    #[error(
        "the module refused \"{command}\" for now: another process is setting a recording up, or it cannot be changed while one runs"
    )]
    NotNow {
        /// The command.
        command: String,
    },
    /// A target does not exist.
    #[error("no such process: {pid}")]
    NoProcess {
        /// Its pid.
        pid: u32,
    },
    /// A target does not exist.
    #[error(
        "no such cgroup: {path} (expected a path below the root of cgroup v2, as /proc/PID/cgroup gives it behind \"0::\")"
    )]
    NoCgroup {
        /// Its path.
        path: String,
    },
    /// The buffers asked for do not fit.
    #[error(
        "no memory for buffers of {bytes} bytes a CPU (the module takes at most half of the memory for all CPUs): give a smaller --buffer or --keep-last"
    )]
    NoMemory {
        /// Bytes a CPU.
        bytes: u64,
    },
    /// The module refused a command.
    #[error("the module refused \"{command}\": {cause}")]
    Refused {
        /// The command.
        command: String,
        /// Its reason.
        cause: io::Error,
    },
    /// `status` is not what this program reads.
    #[error("{}: expected {expected}, found \"{found}\"", path.display())]
    BadStatus {
        /// The file.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// The module writes records this program does not know.
    #[error(
        "the module writes wire version {found}, this program knows up to {}: use a newer pgtrace-capture",
        crate::wire::VERSION
    )]
    TooNew {
        /// Wire version of the module.
        found: u32,
    },
    /// Anything else.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

impl ControlError {
    /// Whether the module has gone away.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(
            self,
            ControlError::NotLoaded { .. } | ControlError::NotMounted { .. }
        ) || matches!(self, ControlError::Io { cause, .. } if is_gone(cause))
    }
}

/// Whether a file of the module says that the module has gone away.
pub(crate) fn is_gone(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(libc::EIO | libc::ENODEV | libc::ENOENT | libc::ENXIO)
    )
}

/// The module's folder.
#[derive(Debug, Clone)]
pub struct Module {
    root: PathBuf,
}

impl Module {
    /// The module of this machine, or the folder that `PGTRACE_DEBUGFS` names.
    #[must_use]
    pub fn from_env() -> Module {
        Module {
            root: std::env::var_os(ROOT_VAR).map_or_else(|| ROOT.into(), PathBuf::from),
        }
    }

    /// Writes one command.
    ///
    /// # Errors
    /// The module is missing, busy, or refuses.
    pub fn command(&self, command: &str) -> Result<(), ControlError> {
        let path = self.root.join("control");
        let mut file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(|e| self.explain(&path, e))?;
        // One write(2), one command.
        let line = format!("{command}\n");
        let written = loop {
            match file.write(line.as_bytes()) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        match written {
            Ok(n) if n == line.len() => Ok(()),
            Ok(_) => Err(ControlError::Refused {
                command: command.into(),
                cause: io::ErrorKind::WriteZero.into(),
            }),
            Err(e) => Err(self.refusal(command, &path, e)),
        }
    }

    /// What it means that the module refused a command.
    fn refusal(&self, command: &str, path: &Path, cause: io::Error) -> ControlError {
        let verb = command.strip_prefix("remove ").unwrap_or(command);
        let (verb, value) = verb.split_once(' ').unwrap_or((verb, ""));
        match (cause.raw_os_error(), verb) {
            (Some(libc::EBUSY), "clear" | "start") => ControlError::Busy,
            (Some(libc::EBUSY), _) => ControlError::NotNow {
                command: command.into(),
            },
            (Some(libc::ESRCH), "pid") => ControlError::NoProcess {
                pid: value.parse().unwrap_or_default(),
            },
            (Some(libc::ENOENT), "cgroup") => ControlError::NoCgroup { path: value.into() },
            (Some(libc::ENOMEM), "buffers") => ControlError::NoMemory {
                bytes: value
                    .split(' ')
                    .map(|n| n.parse::<u64>().unwrap_or_default())
                    .fold(1, u64::saturating_mul),
            },
            (Some(libc::EIO | libc::ENODEV), _) => self.explain(path, cause),
            _ => ControlError::Refused {
                command: command.into(),
                cause,
            },
        }
    }

    /// Writes one command to a recording that runs.
    ///
    /// # Errors
    /// As for [`Module::command`]; also when nothing is being recorded.
    pub fn while_recording(&self, command: &str) -> Result<(), ControlError> {
        if !self.status()?.is_recording() {
            return Err(ControlError::NotRecording);
        }
        self.command(command)
    }

    /// Reads and understands `status`.
    ///
    /// # Errors
    /// The module is missing or too new, or its `status` cannot be understood.
    pub fn status(&self) -> Result<Status, ControlError> {
        let path = self.root.join("status");
        let text = std::fs::read_to_string(&path).map_err(|e| self.explain(&path, e))?;
        Status::parse(&text, &path)
    }

    /// CPUs that have channels, in order.
    ///
    /// # Errors
    /// The module is missing, or has no channels.
    pub fn cpus(&self) -> Result<Vec<u16>, ControlError> {
        let entries = std::fs::read_dir(&self.root).map_err(|e| self.explain(&self.root, e))?;
        let mut cpus: Vec<u16> = entries
            .filter_map(|entry| {
                entry
                    .ok()?
                    .file_name()
                    .to_str()?
                    .strip_prefix("refs")?
                    .parse()
                    .ok()
            })
            .collect();
        cpus.sort_unstable();
        if cpus.is_empty() {
            return Err(ControlError::BadStatus {
                path: self.root.clone(),
                expected: "files refs0, names0, ...",
                found: "none".into(),
            });
        }
        Ok(cpus)
    }

    /// Path of one of a CPU's channels: `refs` or `names`.
    pub(crate) fn channel(&self, name: &str, cpu: u16) -> PathBuf {
        self.root.join(format!("{name}{cpu}"))
    }

    /// Turns what the system said about a file into what a person can act on.
    pub(crate) fn explain(&self, path: &Path, cause: io::Error) -> ControlError {
        let path = path.to_path_buf();
        match cause.kind() {
            io::ErrorKind::PermissionDenied => ControlError::Permission { path },
            io::ErrorKind::NotFound if !self.root.exists() => {
                let parent = self.root.parent().unwrap_or(&self.root).to_path_buf();
                let empty = std::fs::read_dir(&parent).map_or(true, |mut d| d.next().is_none());
                let path = self.root.clone();
                if empty {
                    ControlError::NotMounted { path, parent }
                } else {
                    ControlError::NotLoaded { path }
                }
            }
            _ => ControlError::Io { path, cause },
        }
    }
}
