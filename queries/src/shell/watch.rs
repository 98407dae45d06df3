//! `\watch`: the last statement again and again.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossterm::cursor::MoveTo;
use crossterm::queue;
use crossterm::terminal::{Clear, ClearType};
use tokio::signal::unix::{SignalKind, signal};

use super::Shell;
use crate::Error;

/// Runs the last statement every `seconds` until Ctrl-C, which is no error, or until it fails.
pub(super) fn watch(shell: &mut Shell<'_>, seconds: f64) -> Result<(), Error> {
    let Some(statement) = shell.last.clone() else {
        let error = "nothing to watch yet: run a statement, then \\watch";
        return Err(Error::Command(error.to_owned()));
    };
    let mut stop = {
        let _context = shell.waiting.enter();
        signal(SignalKind::interrupt()).map_err(Error::Terminal)?
    };
    let screen = shell.target.is_terminal();
    for run in 1u64.. {
        let mut out = std::io::stdout();
        if screen {
            queue!(out, Clear(ClearType::All), MoveTo(0, 0)).map_err(Error::Output)?;
        }
        let head = format!(
            "run {run}, every {seconds} s, {} UTC; Ctrl-C ends it",
            time()
        );
        if shell.target.is_stdout() {
            writeln!(out, "{head}").map_err(Error::Output)?;
        } else {
            eprintln!("{head}");
        }
        match shell.statement(&statement, false) {
            Err(Error::Interrupted) => return Ok(()),
            done => done?,
        }
        // A Ctrl-C between the statement and here is not lost: `stop` was there before.
        let stopped = shell.waiting.block_on(async {
            tokio::select! {
                biased;
                _ = stop.recv() => true,
                () = tokio::time::sleep(Duration::from_secs_f64(seconds)) => false,
            }
        });
        if stopped {
            return Ok(());
        }
    }
    Ok(())
}

/// The time of day, to the second.
fn time() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let second = now.map(|d| d.as_secs()).unwrap_or(0) % 86_400;
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{hour:02}:{minute:02}:{:02}", second % 60)
}
