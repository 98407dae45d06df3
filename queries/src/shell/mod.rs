//! The interactive shell.

mod command;
mod complete;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Instant;

use reedline::{
    ColumnarMenu, Emacs, FileBackedHistory, KeyCode, KeyModifiers, MenuBuilder, Prompt,
    PromptEditMode, PromptHistorySearch, Reedline, ReedlineEvent, ReedlineMenu, Signal,
    ValidationResult, Validator, default_emacs_keybindings,
};
use tokio::runtime::Handle;

use self::command::{Command, HELP};
use self::complete::{Relation, SqlCompleter};
use crate::output::Format;
use crate::session::Session;
use crate::{Error, describe, run, statements};

/// How the shell shows results.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Format of results.
    pub format: Format,
    /// Rows shown of one result; `None`: all.
    pub max_rows: Option<usize>,
}

/// Reads statements and commands from the terminal until Ctrl-D or `\q`. Errors of statements are printed and
/// do not end it.
///
/// # Errors
/// [`Error::Terminal`] when the terminal cannot be used, and a closed pipe on stdout.
pub fn interactive(session: &Session, settings: Settings, runtime: &Handle) -> Result<(), Error> {
    welcome(session);
    let mut editor = runtime.block_on(editor(session))?;
    let mut shell = Shell {
        session,
        settings,
        timing: false,
        runtime,
    };
    loop {
        let ended = match editor.read_line(&PgtracePrompt).map_err(Error::Terminal)? {
            Signal::Success(text) => shell.entered(&text)? == Next::Quit,
            Signal::CtrlD => true,
            _ => false, // Ctrl-C clears the line
        };
        if ended {
            return Ok(());
        }
    }
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

#[derive(PartialEq, Eq)]
enum Next {
    Line,
    Quit,
}

struct Shell<'a> {
    session: &'a Session,
    settings: Settings,
    timing: bool,
    runtime: &'a Handle,
}

impl Shell<'_> {
    fn entered(&mut self, text: &str) -> Result<Next, Error> {
        if text.trim_start().starts_with('\\') {
            return match Command::parse(text) {
                Ok(command) => self.command(command),
                Err(wrong) => {
                    eprintln!("error: {wrong}");
                    Ok(Next::Line)
                }
            };
        }
        let (statements, rest) = statements::split(text);
        for sql in statements
            .iter()
            .chain(Some(&rest).filter(|rest| !rest.is_empty()))
        {
            match self.statement(sql) {
                Err(e) if e.is_closed_pipe() => return Err(e),
                Err(e) => {
                    eprintln!("error: {e}");
                    break;
                }
                Ok(()) => {}
            }
        }
        Ok(Next::Line)
    }

    fn statement(&self, sql: &str) -> Result<(), Error> {
        let started = Instant::now();
        let Settings { format, max_rows } = self.settings;
        let mut out = std::io::stdout();
        let written = self.runtime.block_on(run::statement(
            self.session,
            sql,
            format,
            max_rows,
            &mut out,
        ))?;
        let rows = written.rows;
        if written.cut {
            eprintln!(
                "note: cut after {rows} rows; add a LIMIT, or start with --max-rows 0 to see all"
            );
        }
        if self.timing {
            eprintln!("{rows} rows in {:.3} s", started.elapsed().as_secs_f64());
        }
        Ok(())
    }

    fn command(&mut self, command: Command) -> Result<Next, Error> {
        match command {
            Command::Quit => return Ok(Next::Quit),
            Command::Help => print(HELP)?,
            Command::Timing => {
                self.timing = !self.timing;
                eprintln!("timing is {}", if self.timing { "on" } else { "off" });
            }
            Command::Format(format) => self.settings.format = format,
            Command::List => {
                let listed = describe::list(self.session);
                print(&aligned(
                    listed.iter().map(|l| [&l.name, &l.package, &l.summary]),
                ))?;
            }
            Command::Describe(name) => match self
                .runtime
                .block_on(describe::columns(self.session, &name))
            {
                Ok(columns) => print(&aligned(
                    columns.iter().map(|c| [&c.name, &c.type_name, &c.doc]),
                ))?,
                Err(error) => eprintln!("error: {error}"),
            },
        }
        Ok(Next::Line)
    }
}

fn print(text: &str) -> Result<(), Error> {
    writeln!(std::io::stdout(), "{text}").map_err(Error::Output)
}

/// Lines of three columns, the first two padded.
fn aligned<'a>(rows: impl Iterator<Item = [&'a String; 3]> + Clone) -> String {
    let width = |column: usize| {
        rows.clone()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let (first, second) = (width(0), width(1));
    let lines = rows.clone().map(|[a, b, c]| {
        format!("{a:first$}  {b:second$}  {c}")
            .trim_end()
            .to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

async fn editor(session: &Session) -> Result<Reedline, Error> {
    let mut keys = default_emacs_keybindings();
    let complete = vec![
        ReedlineEvent::Menu("completion".to_owned()),
        ReedlineEvent::MenuNext,
    ];
    keys.add_binding(
        KeyModifiers::NONE,
        KeyCode::Tab,
        ReedlineEvent::UntilFound(complete),
    );
    let menu = ColumnarMenu::default().with_name("completion");
    let mut editor = Reedline::create()
        .with_validator(Box::new(Finished))
        .with_completer(Box::new(completer(session).await?))
        .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
        .with_quick_completions(true)
        .with_partial_completions(true)
        .with_ansi_colors(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_edit_mode(Box::new(Emacs::new(keys)));
    if let Some(path) = history_path() {
        match FileBackedHistory::with_file(10_000, path.clone()) {
            Ok(history) => editor = editor.with_history(Box::new(history)),
            Err(e) => eprintln!("note: no history, {}: {e}", path.display()),
        }
    }
    Ok(editor)
}

async fn completer(session: &Session) -> Result<SqlCompleter, Error> {
    let mut relations = BTreeMap::new();
    for listed in describe::list(session) {
        let columns = describe::columns(session, &listed.name).await?;
        let columns = columns.into_iter().map(|c| (c.name, c.doc)).collect();
        relations.insert(
            listed.name,
            Relation {
                summary: listed.summary,
                columns,
            },
        );
    }
    let state = session.context().state();
    let functions = state
        .scalar_functions()
        .keys()
        .chain(state.aggregate_functions().keys());
    let mut functions: Vec<String> = functions.cloned().collect();
    functions.sort();
    Ok(SqlCompleter {
        relations,
        functions,
    })
}

/// `PGTRACE_HISTORY`, else `pgtrace/history` under the XDG state directory.
fn history_path() -> Option<PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("PGTRACE_HISTORY").or_else(|| {
        let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
        Some(state?.join("pgtrace/history"))
    })
}

/// Enter ends the input when a statement is whole; before that it begins a new line.
struct Finished;

impl Validator for Finished {
    fn validate(&self, text: &str) -> ValidationResult {
        let command = text.trim_start().starts_with('\\');
        if command || statements::split(text).1.is_empty() {
            ValidationResult::Complete
        } else {
            ValidationResult::Incomplete
        }
    }
}

struct PgtracePrompt;

impl Prompt for PgtracePrompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed("pgtrace")
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("> ")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("      -> ")
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        Cow::Owned(format!("(history: {}) ", search.term))
    }
}
