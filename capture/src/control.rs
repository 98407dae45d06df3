//! The module's `control` and `status` files in debugfs.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

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
    #[error("{}: permission denied: recording needs root; try again with sudo", path.display())]
    Permission {
        /// The file.
        path: PathBuf,
    },
    /// There is one recording at a time.
    #[error("another recording is running; wait for its end, or end it with: pgtrace-capture stop")]
    Busy,
    /// A target does not exist.
    #[error("no such process: {pid}")]
    NoProcess {
        /// Its pid.
        pid: u32,
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
            Err(e) => Err(match (e.raw_os_error(), command.split_once(' ')) {
                (Some(libc::EBUSY), _) => ControlError::Busy,
                (Some(libc::ESRCH), Some(("pid", pid))) => ControlError::NoProcess {
                    pid: pid.parse().unwrap_or_default(),
                },
                (Some(libc::EIO | libc::ENODEV), _) => self.explain(&path, e),
                _ => ControlError::Refused {
                    command: command.into(),
                    cause: e,
                },
            }),
        }
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

/// What the module says about itself. Counters are those since the last start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Wire version it writes.
    pub version: u32,
    /// Version of the module.
    pub module: String,
    /// `idle`, `recording` or `stopped`.
    pub state: String,
    /// `light`, `rich` or `full`.
    pub level: String,
    /// Period of the cleaner in ms; 0: off.
    pub clean_ms: u32,
    /// Bytes of a sub-buffer of the refs channel.
    pub subbuf_size: u64,
    /// Sub-buffers of the refs channel, per CPU.
    pub n_subbufs: u64,
    /// Bytes of a sub-buffer of the names channel.
    pub names_subbuf_size: u64,
    /// Sub-buffers of the names channel, per CPU.
    pub names_n_subbufs: u64,
    /// Processes traced now.
    pub processes: u64,
    /// Objects known.
    pub objects: u64,
    /// Counters of each CPU.
    pub cpus: Vec<CpuCounts>,
}

/// What the module counted on one CPU since the last start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuCounts {
    /// The CPU.
    pub cpu: u16,
    /// Records written to refs, LOST ones included.
    pub refs_emitted: u64,
    /// Records refs had no room for.
    pub refs_lost: u64,
    /// Records written to names, LOST ones included.
    pub names_emitted: u64,
    /// Records names had no room for.
    pub names_lost: u64,
}

impl Status {
    fn parse(text: &str, path: &Path) -> Result<Status, ControlError> {
        let mut status = Status::default();
        for line in text.lines() {
            let bad = || ControlError::BadStatus {
                path: path.to_path_buf(),
                expected: "`key value` with a number where one belongs",
                found: line.into(),
            };
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            let number = || value.trim().parse::<u64>().map_err(|_| bad());
            let small = || value.trim().parse::<u32>().map_err(|_| bad());
            match key {
                "version" => status.version = small()?,
                "module" => status.module = value.trim().into(),
                "state" => status.state = value.trim().into(),
                "level" => status.level = value.trim().into(),
                "clean_ms" => status.clean_ms = small()?,
                "subbuf_size" => status.subbuf_size = number()?,
                "n_subbufs" => status.n_subbufs = number()?,
                "names_subbuf_size" => status.names_subbuf_size = number()?,
                "names_n_subbufs" => status.names_n_subbufs = number()?,
                "processes" => status.processes = number()?,
                "objects" => status.objects = number()?,
                "cpu" => status.cpus.push(CpuCounts::parse(value).ok_or_else(bad)?),
                // A newer module may say more.
                _ => {}
            }
        }
        match status.version {
            0 => Err(ControlError::BadStatus {
                path: path.to_path_buf(),
                expected: "a line `version N`",
                found: text.lines().next().unwrap_or_default().into(),
            }),
            found if found > u32::from(crate::wire::VERSION) => Err(ControlError::TooNew { found }),
            _ => Ok(status),
        }
    }

    /// Records lost so far, on all CPUs and channels.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.cpus.iter().map(|c| c.refs_lost + c.names_lost).sum()
    }
}

impl CpuCounts {
    /// `0 refs_emitted 12 refs_lost 0 ...`
    fn parse(text: &str) -> Option<CpuCounts> {
        let mut words = text.split_whitespace();
        let mut counts = CpuCounts {
            cpu: words.next()?.parse().ok()?,
            ..CpuCounts::default()
        };
        while let Some(key) = words.next() {
            let value = words.next()?.parse().ok()?;
            match key {
                "refs_emitted" => counts.refs_emitted = value,
                "refs_lost" => counts.refs_lost = value,
                "names_emitted" => counts.names_emitted = value,
                "names_lost" => counts.names_lost = value,
                _ => {}
            }
        }
        Some(counts)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn status_is_understood_whatever_else_it_says() {
        let text = "version 1\nmodule 0.1.0\nkernel 6.1.0\nstate recording\nlevel rich\nclean_ms 500\nprocesses 2\n\
                    objects 7\nfuture 1 2 3\nsubbuf_size 1048576\n\
                    cpu 0 refs_emitted 10 refs_lost 1 names_emitted 5 names_lost 0\n\
                    cpu 1 refs_emitted 3 refs_lost 0 names_emitted 2 names_lost 2 more 9\n";
        let status = Status::parse(text, Path::new("status")).unwrap();
        assert_eq!(
            (status.state.as_str(), status.processes, status.subbuf_size),
            ("recording", 2, 1 << 20)
        );
        assert_eq!(
            (status.cpus.len(), status.cpus[1].names_lost, status.lost()),
            (2, 2, 3)
        );
    }

    #[test]
    fn bad_status_says_what_was_found() {
        let said = |text: &str| Status::parse(text, Path::new("s")).unwrap_err().to_string();
        assert_eq!(
            said("nonsense\n"),
            "s: expected a line `version N`, found \"nonsense\""
        );
        assert!(said("version 1\nprocesses many\n").ends_with("found \"processes many\""));
        assert!(said("version 1\ncpu 0 refs_emitted\n").contains("cpu 0 refs_emitted"));
        assert!(said("version 9\n").contains("wire version 9, this program knows up to 1"));
    }
}
