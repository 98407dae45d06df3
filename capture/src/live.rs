//! The line that shows how a recording goes, on a terminal only.

use std::io::{IsTerminal, Write, stderr};
use std::os::fd::AsFd;

use crate::recorder::Progress;
use crate::sys;
use crate::units::{show_bytes, show_count};

/// Columns of a terminal that does not say.
const COLUMNS: usize = 80;

/// The line, and what it said before.
#[derive(Debug)]
pub struct Live {
    terminal: bool,
    before: Progress,
}

impl Default for Live {
    fn default() -> Live {
        Live::new()
    }
}

impl Live {
    /// Nothing is ever shown where stderr is no terminal.
    #[must_use]
    pub fn new() -> Live {
        Live {
            terminal: stderr().is_terminal(),
            before: Progress::default(),
        }
    }

    /// Shows how it goes now.
    pub fn show(&mut self, now: Progress) {
        if self.terminal {
            let columns = sys::columns(stderr().as_fd()).map_or(COLUMNS, usize::from);
            // The last column stays free: a terminal may wrap when it is written.
            let line = line(&self.before, &now, columns.saturating_sub(1));
            let _ = write!(stderr(), "\r\x1b[K{line}"); // words; the chunks are what was asked for
        }
        self.before = now;
    }

    /// Says something that stays, above the line. It goes to stderr whatever that is.
    pub fn say(&self, words: &str) {
        let _ = if self.terminal {
            writeln!(stderr(), "\r\x1b[K{words}")
        } else {
            writeln!(stderr(), "{words}")
        };
    }

    /// Takes the line away.
    pub fn clear(&self) {
        if self.terminal {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

/// What there is to say, in at most `columns` columns: what does not fit is left out, the least important first.
fn line(before: &Progress, now: &Progress, columns: usize) -> String {
    let seconds = now.elapsed.saturating_sub(before.elapsed).as_secs_f64();
    let rate =
        |now: u64, before: u64| (now.saturating_sub(before) as f64 / seconds.max(1e-3)) as u64;
    let parts = [
        Some(format!("{} s", now.elapsed.as_secs())),
        Some(format!(
            "{} records/s",
            show_count(rate(now.records, before.records))
        )),
        Some(format!("{}/s", show_bytes(rate(now.bytes, before.bytes)))),
        Some(format!("{} lost", show_count(now.lost))),
        now.memory.map(|percent| format!("memory {percent} %")),
        now.disk_left
            .map(|bytes| format!("{} left", show_bytes(bytes))),
        Some(format!("{} so far", show_bytes(now.bytes))),
    ];
    let mut line = String::new();
    for part in parts.into_iter().flatten() {
        let gap = if line.is_empty() { "" } else { "  " };
        if line.len() + gap.len() + part.len() > columns {
            break;
        }
        line += gap;
        line += &part;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn progress(seconds: u64, records: u64, bytes: u64) -> Progress {
        Progress {
            elapsed: Duration::from_secs(seconds),
            records,
            bytes,
            lost: 7,
            disk_left: Some(123_400_000_000),
            memory: None,
        }
    }

    #[test]
    fn it_says_what_happened_since() {
        let line = line(
            &progress(10, 1000, 64_000),
            &progress(12, 3000, 192_000),
            79,
        );
        assert_eq!(
            line,
            "12 s  1,000 records/s  64.0 kB/s  7 lost  123.4 GB left  192.0 kB so far"
        );
    }

    #[test]
    fn it_fits_whatever_the_numbers_and_the_width() {
        let most = Progress {
            elapsed: Duration::from_secs(9_999_999),
            records: u64::MAX,
            bytes: u64::MAX,
            lost: u64::MAX,
            disk_left: Some(u64::MAX),
            memory: Some(100),
        };
        for columns in 0..200 {
            for now in [progress(1, 2, 3), most] {
                let line = line(&Progress::default(), &now, columns);
                assert!(line.len() <= columns && !line.ends_with(' '), "{line:?}");
            }
        }
        // The time alone is worth it.
        assert_eq!(line(&most, &progress(1, 2, 3), 5), "1 s");
        let busy = Progress {
            memory: Some(37),
            lost: 0,
            ..progress(3600, 5_000_000, 320_000_000)
        };
        let text = line(&progress(3599, 0, 0), &busy, 79);
        assert!(text.contains("memory 37 %  123.4 GB left"), "{text}");
    }
}
