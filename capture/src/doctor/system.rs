//! The machine as its files tell of it; a test gives another root.

use std::io;
use std::path::{Path, PathBuf};

/// Environment variable that names another root than `/`, for tests.
pub const SYSROOT_VAR: &str = "PGTRACE_SYSROOT";

/// The files that tell of a machine.
#[derive(Debug, Clone)]
pub struct System {
    root: PathBuf,
}

impl System {
    /// This machine, or what `PGTRACE_SYSROOT` names.
    #[must_use]
    pub fn from_env() -> System {
        System {
            root: std::env::var_os(SYSROOT_VAR).map_or_else(|| "/".into(), PathBuf::from),
        }
    }

    /// Whether it is this machine, whose system calls may be tried.
    pub(super) fn is_real(&self) -> bool {
        self.root == Path::new("/")
    }

    pub(super) fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// A file's text, without white space around it.
    pub(super) fn read(&self, absolute: &str) -> io::Result<String> {
        let bytes = std::fs::read(self.path(absolute))?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_string())
    }

    /// A file's text where it can be read.
    pub(super) fn text(&self, absolute: &str) -> Option<String> {
        self.read(absolute).ok()
    }

    /// `uname -r`.
    pub(super) fn release(&self) -> String {
        self.text("/proc/sys/kernel/osrelease").unwrap_or_default()
    }
}
