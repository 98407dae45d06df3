//! Results too big for the screen go through a pager.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What shows text page by page: `PGTRACE_PAGER`, `PAGER`, else `less` if there is one. An empty variable
/// means none.
pub(crate) fn pager() -> Option<String> {
    let set = |name| std::env::var(name).ok();
    match set("PGTRACE_PAGER").or_else(|| set("PAGER")) {
        Some(command) => Some(command).filter(|c| !c.trim().is_empty()),
        None => in_path("less").then(|| "less -SRFX".to_owned()),
    }
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| Path::new(&folder).join(program).is_file())
}

/// Holds back one screen of text; more than that begins the pager, which gets all.
pub(crate) struct Paged {
    pager: String,
    /// Columns and lines of the screen.
    screen: (usize, usize),
    held: Vec<u8>,
    /// Where the held text is, in lines and in characters of the last line.
    lines: usize,
    column: usize,
    child: Option<Child>,
}

impl Paged {
    /// A writer for the terminal with this pager.
    pub(crate) fn new(pager: String) -> Paged {
        let size = crossterm::terminal::size().ok();
        let screen = size.filter(|&(w, h)| w > 0 && h > 0).unwrap_or((80, 24));
        Paged {
            pager,
            screen: (screen.0.into(), screen.1.into()),
            held: Vec::new(),
            lines: 0,
            column: 0,
            child: None,
        }
    }

    /// Whether `bytes` behind the held ones still fit on the screen, with a line left for the prompt.
    fn fits(&mut self, bytes: &[u8]) -> bool {
        for &byte in bytes {
            if byte == b'\n' {
                (self.lines, self.column) = (self.lines + 1, 0);
            } else if byte & 0xC0 != 0x80 {
                self.column += 1; // the first byte of a character
            }
            if self.column > self.screen.0 || self.lines + 1 >= self.screen.1 {
                return false;
            }
        }
        true
    }

    /// Shows what was held back, or waits for the reader to leave the pager.
    pub(crate) fn end(mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else {
            let mut out = io::stdout().lock();
            out.write_all(&self.held)?;
            return out.flush();
        };
        drop(child.stdin.take());
        let status = child.wait()?;
        if status.code() == Some(127) {
            let pager = &self.pager;
            let hint = "PGTRACE_PAGER names another, empty means none";
            eprintln!("error: the pager {pager:?} cannot be run; {hint}");
        }
        Ok(())
    }
}

impl Write for Paged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.child.is_none() {
            if self.fits(bytes) {
                self.held.extend_from_slice(bytes);
                return Ok(bytes.len());
            }
            let mut command = Command::new("sh");
            command.args(["-c", &self.pager]).stdin(Stdio::piped());
            if std::env::var_os("LESS").is_none() {
                command.env("LESS", "SRFX"); // as git does: wide lines are not folded
            }
            let child = self.child.insert(command.spawn()?);
            if let Some(stdin) = &mut child.stdin {
                stdin.write_all(&self.held)?;
            }
            self.held = Vec::new();
        }
        match self.child.as_mut().and_then(|c| c.stdin.as_mut()) {
            Some(stdin) => stdin.write(bytes),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_screen(columns: usize, lines: usize) -> Paged {
        Paged {
            screen: (columns, lines),
            ..Paged::new("cat >/dev/null".to_owned())
        }
    }

    #[test]
    fn a_screen_is_held_back_and_no_more() {
        assert!(on_screen(4, 3).fits("äbcd\nx".as_bytes()));
        assert!(!on_screen(4, 3).fits(b"abcde"));
        assert!(!on_screen(4, 3).fits(b"a\nb\nc"));
        let mut paged = on_screen(4, 3);
        assert!(paged.write_all(b"a\nb\nc\n").is_ok() && paged.child.is_some());
        assert!(paged.held.is_empty() && paged.end().is_ok());
    }

    #[test]
    fn a_pager_that_is_left_closes_its_pipe() {
        let mut paged = on_screen(4, 3);
        paged.pager = "exit 0".to_owned();
        let written = (0..1000).try_for_each(|_| paged.write_all(&[b'x'; 1000]));
        assert!(written.is_err_and(|e| e.kind() == io::ErrorKind::BrokenPipe));
        assert!(paged.end().is_ok());
    }
}
