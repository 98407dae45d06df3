//! Statements and commands, one after the other: of the interactive shell and of scripts.

mod act;
mod catalog;
mod command;
mod complete;
mod complete_command;
mod editor;
mod highlight;
mod pager;
mod rc;
mod show;
mod watch;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use reedline::Signal;
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use self::command::Command;
use self::complete::Shared;
use self::editor::{PgtracePrompt, colors};
use self::pager::Paged;
use crate::Error;
use crate::diagnose::Excerpt;
use crate::error::closest;
use crate::output::{Format, Target, Written};
use crate::run::{self, How};
use crate::session::Session;
use crate::statements::{self, Item};
use crate::variables::Variables;

/// Rows that a screen without a pager gets of one result, if nobody says otherwise.
const SCREEN_ROWS: usize = 1000;

/// What is said of a result whose reader left.
const ENOUGH: Written = Written {
    rows: 0,
    cut: false,
    result: true,
};

/// How a shell begins.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Format of results; `None`: what the output's name says, else a table.
    pub format: Option<Format>,
    /// File that takes the results.
    pub output: Option<PathBuf>,
    /// Rows of one result that the screen shows, 0: all; `None`: all with a pager, else a thousand.
    pub max_rows: Option<usize>,
    /// Variables of statements.
    pub variables: Variables,
    /// Whether an interactive shell reads `.pgtracerc`.
    pub rc: bool,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Whatever is typed, or stands behind.
    Line,
    /// Nothing: `\q`.
    Quit,
}

/// Runs statements and commands.
pub struct Shell<'a> {
    session: &'a Session,
    /// Works on queries.
    runtime: &'a Handle,
    /// Waits for them, for signals and for time: never busy.
    waiting: Runtime,
    format: Format,
    /// That of the file results go to, by its name; `format` asked for later wins.
    file_format: Option<Format>,
    target: Target,
    max_rows: Option<usize>,
    variables: Variables,
    timing: bool,
    /// The last statement, for `\watch`.
    last: Option<String>,
    /// Whether results may be paged and cut: somebody sits there.
    interactive: bool,
    /// Scripts within scripts.
    depth: usize,
    catalog: Shared,
}

impl<'a> Shell<'a> {
    /// A shell for scripts.
    ///
    /// # Errors
    /// When the file for results cannot be made.
    pub fn new(
        session: &'a Session,
        settings: &Settings,
        runtime: &'a Handle,
    ) -> Result<Self, Error> {
        let output = settings.output.as_deref();
        let of_file = output.and_then(Format::of_file);
        Ok(Shell {
            session,
            runtime,
            waiting: waiting()?,
            format: settings.format.unwrap_or(Format::Table),
            file_format: of_file.filter(|_| settings.format.is_none()),
            target: output.map_or(Ok(Target::Stdout), Target::file)?,
            max_rows: settings.max_rows,
            variables: settings.variables.clone(),
            timing: false,
            last: None,
            interactive: false,
            depth: 0,
            catalog: Shared::default(),
        })
    }

    /// Runs all of `text`, which is called `name`, up to its first error or `\q`.
    ///
    /// # Errors
    /// The first error, with its place in the script if that has several statements or is a file.
    pub fn script(&mut self, name: &str, text: &str) -> Result<Next, Error> {
        let items: Vec<Item> = statements::split(text).all().collect();
        for (i, item) in items.iter().enumerate() {
            match self.item(item) {
                Ok(Next::Line) => {}
                Ok(Next::Quit) => return Ok(Next::Quit),
                Err(e) if e.is_closed_pipe() || (items.len() == 1 && name == "-c") => {
                    return Err(e);
                }
                Err(e) => {
                    let place = format!("{name}, statement {}", i + 1);
                    return Err(e.in_script(&place, item.line));
                }
            }
        }
        Ok(Next::Line)
    }

    /// Ends it: what takes the results gets its end.
    ///
    /// # Errors
    /// When a program that took them ended badly.
    pub fn close(self) -> Result<(), Error> {
        self.target.close()
    }

    fn item(&mut self, item: &Item) -> Result<Next, Error> {
        if item.command {
            return self.command(&item.text);
        }
        self.last = Some(item.text.clone());
        self.statement(&item.text, true).map(|()| Next::Line)
    }

    /// `text` with its variables put in.
    fn expand(&self, text: &str) -> Result<String, Error> {
        self.variables.expand(text).map_err(|unknown| {
            let known = self.variables.iter().map(|(name, _)| name);
            let hint = match closest(&unknown.name, known.collect::<Vec<_>>().into_iter()) {
                Some(found) => format!("did you mean :{found}?"),
                None => format!(
                    "--set {0}=VALUE or \\set {0} VALUE gives it one; a colon that means no variable takes a blank",
                    unknown.name
                ),
            };
            let excerpt = Excerpt::new(text, &unknown.range);
            let error = Box::new(Error::Variable(unknown.name));
            Error::Hinted {
                error: Box::new(Error::At { error, excerpt }),
                hint,
            }
        })
    }

    fn format(&self) -> Format {
        self.file_format.unwrap_or(self.format)
    }

    /// Runs one statement; `page`: its result may go through the pager.
    fn statement(&mut self, text: &str, page: bool) -> Result<(), Error> {
        let sql = self.expand(text)?;
        let started = Instant::now();
        let on_screen = self.interactive && self.target.is_terminal();
        let binary = self.format().is_binary();
        let pager = pager::pager().filter(|_| on_screen && page && !binary);
        let max_rows = match self.max_rows {
            _ if !on_screen => None,
            Some(rows) => Some(rows).filter(|&rows| rows > 0),
            None => Some(SCREEN_ROWS).filter(|_| pager.is_none()),
        };
        let how = How {
            format: self.format(),
            max_rows,
            progress: true,
        };
        let written = match pager {
            Some(pager) => self.paged(&sql, how, pager)?,
            None => self.plain(&sql, how)?,
        };
        if written.cut {
            eprintln!(
                "note: cut after {} rows; add a LIMIT, or start with --max-rows 0 to see all",
                written.rows
            );
        }
        if self.timing {
            let seconds = started.elapsed().as_secs_f64();
            eprintln!("{} rows in {seconds:.3} s", written.rows);
        }
        if self.interactive && !written.result {
            self.refresh(); // it made or dropped something
        }
        Ok(())
    }

    fn plain(&mut self, sql: &str, how: How) -> Result<Written, Error> {
        let on_stdout = self.target.is_stdout();
        let mut out = self.target.open(how.format)?;
        let run = run::statement(self.session, sql, how, self.runtime, &mut out);
        let written = match self.waiting.block_on(run) {
            // A program that reads no more has what it wanted, as a pager has.
            Err(e) if e.is_closed_pipe() && !on_stdout => return Ok(ENOUGH),
            done => done?,
        };
        if written.result {
            out.commit()?;
        }
        Ok(written)
    }

    fn paged(&self, sql: &str, how: How, pager: String) -> Result<Written, Error> {
        let mut out = Paged::new(pager);
        let run = run::statement(self.session, sql, how, self.runtime, &mut out);
        let written = self.waiting.block_on(run);
        out.end().map_err(Error::Output)?;
        match written {
            // Who leaves the pager has seen enough.
            Err(e) if e.is_closed_pipe() => Ok(ENOUGH),
            other => other,
        }
    }

    /// Prints what a command says, through the pager if it is long.
    fn print(&self, text: &str) -> Result<(), Error> {
        let screen = Target::Stdout.is_terminal() && self.interactive;
        let done = match pager::pager().filter(|_| screen) {
            Some(pager) => {
                let mut out = Paged::new(pager);
                let written = writeln!(out, "{text}");
                // Who leaves the pager early closes its pipe.
                let written = written.or_else(|e| match e.kind() {
                    std::io::ErrorKind::BrokenPipe => Ok(()),
                    _ => Err(e),
                });
                written.and(out.end())
            }
            None => writeln!(std::io::stdout(), "{text}"),
        };
        done.map_err(Error::Output)
    }
}

/// Reads statements and commands from the terminal until Ctrl-D or `\q`. Errors of statements are printed and
/// do not end it.
///
/// # Errors
/// [`Error::Terminal`] when the terminal cannot be used, and a closed pipe on stdout.
pub fn interactive(session: &Session, settings: &Settings, runtime: &Handle) -> Result<(), Error> {
    let stop = Arc::new(AtomicBool::new(false));
    // From here on neither signal ends the process: a statement is stopped by them, the prompt by one.
    listen(&stop)?;
    welcome(session);
    let mut shell = Shell::new(session, settings, runtime)?;
    shell.interactive = true;
    shell.refresh();
    if settings.rc && shell.rc()? == Next::Quit {
        return shell.close();
    }
    let folder = tempfile::tempdir().map_err(Error::Terminal)?;
    let mut editor = editor::editor(&shell.catalog, &stop, folder.path());
    while !stop.load(Ordering::Relaxed) {
        let next = match editor.read_line(&PgtracePrompt) {
            Ok(Signal::Success(text)) => shell.entered(&text)?,
            Ok(Signal::CtrlD | Signal::ExternalBreak(_)) => Next::Quit,
            Ok(_) => Next::Line, // Ctrl-C clears the line
            Err(e) => return Err(Error::Terminal(std::io::Error::other(e))),
        };
        if next == Next::Quit {
            break;
        }
    }
    shell.close()
}

fn waiting() -> Result<Runtime, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(Error::Terminal)
}

/// Sets `stop` at SIGTERM, from a thread of its own.
fn listen(stop: &Arc<AtomicBool>) -> Result<(), Error> {
    let runtime = waiting()?;
    let (mut interrupt, mut terminate) = {
        let _context = runtime.enter();
        let open = |kind| signal(kind).map_err(Error::Terminal);
        (
            open(SignalKind::interrupt())?,
            open(SignalKind::terminate())?,
        )
    };
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => stop.store(true, Ordering::Relaxed),
                }
            }
        });
    });
    Ok(())
}

fn welcome(session: &Session) {
    let manifest = session.dataset().manifest();
    let refs: u64 = manifest.captures.iter().map(|c| c.refs).sum();
    let (captures, lost) = (manifest.captures.len(), session.lost());
    let s = if captures == 1 { "" } else { "s" };
    eprintln!(
        "pgtrace-sql {}: {}",
        env!("CARGO_PKG_VERSION"),
        session.dataset().location()
    );
    eprintln!("{captures} capture{s}, {refs} rows in refs, {lost} lost");
    eprintln!("\\d lists tables and views, \\? helps, Ctrl-D ends");
}

impl Shell<'_> {
    /// Runs what was typed; an error is printed.
    fn entered(&mut self, text: &str) -> Result<Next, Error> {
        for item in statements::split(text).all() {
            match self.item(&item) {
                Ok(Next::Line) => {}
                Ok(Next::Quit) => return Ok(Next::Quit),
                Err(e) if e.is_closed_pipe() => return Err(e),
                Err(e) => {
                    complain(&e);
                    break;
                }
            }
        }
        Ok(Next::Line)
    }

    /// Runs `.pgtracerc`; an error names its line, and the rest is run all the same.
    fn rc(&mut self) -> Result<Next, Error> {
        let Some(path) = rc::path() else {
            return Ok(Next::Line);
        };
        let name = path.display().to_string();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(cause) => {
                complain(&Error::SqlFile { path, cause });
                return Ok(Next::Line);
            }
        };
        for item in statements::split(&text).all() {
            match self.item(&item) {
                Ok(Next::Line) => {}
                Ok(Next::Quit) => return Ok(Next::Quit),
                Err(e) if e.is_closed_pipe() => return Err(e),
                Err(e) => complain(&e.in_script(&name, item.line)),
            }
        }
        Ok(Next::Line)
    }
}

/// Shows an error and goes on.
fn complain(error: &Error) {
    let colors = colors(&std::io::stderr());
    let word = if colors {
        reedline::Color::Red.bold().paint("error:").to_string()
    } else {
        "error:".to_owned()
    };
    eprintln!("{word} {}", error.report(colors));
}

/// An error as the command says it before it ends, without its name.
pub fn report(error: &Error) -> String {
    error.report(colors(&std::io::stderr()))
}
