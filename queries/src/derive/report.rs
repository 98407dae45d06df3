//! What a command came to, for people and for tests.

use std::fmt;

use pgtrace_capture::units::{show_bytes, show_count};

/// What a command came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Datasets that a split made.
    pub datasets: u64,
    /// Rows of `refs` in them.
    pub rows: u64,
    /// Rows of `refs` in the dataset they were made of.
    pub of_rows: u64,
    /// References that were lost in the time they cover.
    pub lost: u64,
    /// Files shared with the other dataset.
    pub linked: u64,
    /// Their bytes.
    pub linked_bytes: u64,
    /// Files copied.
    pub copied: u64,
    /// Their bytes.
    pub copied_bytes: u64,
    /// Files written anew.
    pub written: u64,
    /// Their bytes.
    pub written_bytes: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, of) = (show_count(self.rows), show_count(self.of_rows));
        write!(f, "{rows} of {of} references")?;
        match self.datasets {
            0 => writeln!(f)?,
            1 => writeln!(f, " in 1 dataset")?,
            n => writeln!(f, " in {} datasets", show_count(n))?,
        }
        let mut first = true;
        for (what, files, bytes) in [
            ("shared", self.linked, self.linked_bytes),
            ("copied", self.copied, self.copied_bytes),
            ("written", self.written, self.written_bytes),
        ] {
            if files > 0 {
                let s = if files == 1 { "" } else { "s" };
                let comma = if first { "" } else { ", " };
                write!(
                    f,
                    "{comma}{what}: {} file{s} ({})",
                    show_count(files),
                    show_bytes(bytes)
                )?;
                first = false;
            }
        }
        if !first {
            writeln!(f)?;
        }
        if self.lost > 0 {
            let lost = show_count(self.lost);
            writeln!(
                f,
                "note: {lost} references were lost in that time (SELECT * FROM losses)"
            )?;
        }
        writeln!(f, "took {:.1} s", self.seconds)
    }
}
