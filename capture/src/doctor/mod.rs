//! Says whether recording would work on this machine, what is missing, and how to mend it.

mod kernel;
mod memory;
mod module;
mod system;

use std::fmt;
use std::path::Path;

use crate::cli::Source;

pub use system::{SYSROOT_VAR, System};

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing to do.
    Ok,
    /// Recording works, but a person should know this.
    Warning,
    /// Recording does not work.
    Problem,
}

impl Verdict {
    /// The word shown to people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Problem => "problem",
        }
    }
}

/// One check; its text is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What it came to.
    pub verdict: Verdict,
    /// What was looked at.
    pub what: &'static str,
    /// What was found.
    pub found: String,
    /// Why it matters; may be empty.
    pub why: &'static str,
    /// The command that mends it; may be empty.
    pub mend: String,
}

impl Check {
    fn ok(what: &'static str, found: impl Into<String>) -> Check {
        Check {
            verdict: Verdict::Ok,
            what,
            found: found.into(),
            why: "",
            mend: String::new(),
        }
    }

    fn warning(
        what: &'static str,
        found: impl Into<String>,
        why: &'static str,
        mend: impl Into<String>,
    ) -> Check {
        Check {
            verdict: Verdict::Warning,
            why,
            mend: mend.into(),
            ..Check::ok(what, found)
        }
    }

    fn problem(
        what: &'static str,
        found: impl Into<String>,
        why: &'static str,
        mend: impl Into<String>,
    ) -> Check {
        Check {
            verdict: Verdict::Problem,
            ..Check::warning(what, found, why, mend)
        }
    }

    /// Adds why what was found matters although it is well, and what would change it.
    fn with(self, why: &'static str, mend: impl Into<String>) -> Check {
        Check {
            why,
            mend: mend.into(),
            ..self
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<8} {}: {}",
            self.verdict.as_str(),
            self.what,
            self.found
        )?;
        if !self.why.is_empty() {
            write!(f, ": {}", self.why)?;
        }
        if !self.mend.is_empty() {
            let mend = match self.verdict {
                Verdict::Ok => "to change it",
                Verdict::Warning | Verdict::Problem => "to mend it",
            };
            write!(f, "; {mend}: {}", self.mend)?;
        }
        Ok(())
    }
}

/// Looks at everything that recording from `source` (into `output`) needs.
#[must_use]
pub fn examine(system: &System, source: Source, output: Option<&Path>) -> Vec<Check> {
    let mut checks = match source {
        Source::Kmod => {
            let loaded = module::is_loaded(system);
            let mut checks = vec![
                kernel::architecture(system),
                kernel::release(system, loaded),
            ];
            checks.push(kernel::config(system, loaded));
            checks.extend(module::checks(system, loaded));
            checks.extend(memory::checks(system));
            checks
        }
        Source::Perf => vec![kernel::perf(system)],
    };
    checks.extend(output.map(memory::disk));
    checks
}
