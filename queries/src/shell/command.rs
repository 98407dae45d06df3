//! The shell's own commands, which begin with a backslash.

use crate::error::closest;
use crate::output::Format;

/// One backslash command.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Command {
    /// `\d`: tables and views.
    List,
    /// `\d NAME`: columns of one.
    Describe(String),
    /// `\views`: views and functions by package.
    Views,
    /// `\views NAME`: all that is written about one.
    View(String),
    /// `\format [F]`
    Format(Option<Format>),
    /// `\x`: expanded display on, off, or the other way.
    Expanded(Option<bool>),
    /// `\timing`: likewise the duration of statements.
    Timing(Option<bool>),
    /// `\o`: results go to the screen again.
    OutputEnd,
    /// `\o FILE`
    OutputFile(String),
    /// `\o |COMMAND`
    OutputProgram(String),
    /// `\i FILE`
    Include(String),
    /// `\watch [SECONDS]`
    Watch(f64),
    /// `\set`: all variables.
    Variables,
    /// `\set NAME VALUE`
    Set(String, String),
    /// `\unset NAME`
    Unset(String),
    /// `\echo TEXT`
    Echo(String),
    /// `\! COMMAND`
    System(String),
    /// `\?`
    Help,
    /// `\q`
    Quit,
}

/// What may stand behind a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    Nothing,
    Relation,
    View,
    Format,
    Switch,
    File,
    Variable,
    Text,
}

/// A command as it is listed and completed.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) arguments: &'static str,
    pub(crate) takes: Takes,
    pub(crate) about: &'static str,
}

const fn entry(
    name: &'static str,
    arguments: &'static str,
    takes: Takes,
    about: &'static str,
) -> Entry {
    Entry {
        name,
        arguments,
        takes,
        about,
    }
}

/// All commands, in the order they are listed.
pub(crate) const COMMANDS: [Entry; 15] = [
    entry(
        "\\d",
        "[NAME]",
        Takes::Relation,
        "tables and views; the columns of one",
    ),
    entry(
        "\\views",
        "[NAME]",
        Takes::View,
        "views and functions by package; all that is written about one",
    ),
    entry(
        "\\format",
        "[FORMAT]",
        Takes::Format,
        "how results are written: table, expanded, md, csv, json, ndjson, parquet, arrow",
    ),
    entry(
        "\\x",
        "[on|off]",
        Takes::Switch,
        "a line for each column instead of a table: for wide rows",
    ),
    entry(
        "\\timing",
        "[on|off]",
        Takes::Switch,
        "how long each statement took",
    ),
    entry(
        "\\o",
        "[FILE or |COMMAND]",
        Takes::File,
        "results go to a file (.csv, .parquet, ..) or a program; without one, here again",
    ),
    entry("\\i", "FILE", Takes::File, "run the statements of a file"),
    entry(
        "\\watch",
        "[SECONDS]",
        Takes::Text,
        "run the last statement every 2 seconds, or so many, until Ctrl-C",
    ),
    entry(
        "\\set",
        "[NAME [VALUE]]",
        Takes::Variable,
        "give a variable a value, used as :name, :'name' (a string) or :\"name\" (a name); list them",
    ),
    entry("\\unset", "NAME", Takes::Variable, "take a variable away"),
    entry("\\echo", "[TEXT]", Takes::Text, "print a line"),
    entry("\\!", "COMMAND", Takes::Text, "run a command of the system"),
    entry("\\?", "", Takes::Nothing, "this list"),
    entry("\\h", "", Takes::Nothing, "this list"),
    entry("\\q", "", Takes::Nothing, "quit (or Ctrl-D)"),
];

/// What `\?` prints behind the commands.
const KEYS: &str = "
Statements end with a semicolon and may take several lines. EXPLAIN SELECT .. shows the plan of one, EXPLAIN ANALYZE runs
it and shows where the time goes. SET datafusion.execution.batch_size = 4096 and the like tune the engine, SHOW ALL lists.
Tab completes, Ctrl-R searches the history, Ctrl-O opens $EDITOR, Ctrl-C stops a statement or clears the line.";

/// What `\?` prints.
pub(crate) fn help() -> String {
    let usage = |e: &Entry| format!("{} {}", e.name, e.arguments);
    let shown = || COMMANDS.iter().filter(|e| e.name != "\\h");
    let width = shown().map(|e| usage(e).len()).max().unwrap_or(0);
    let lines = shown().map(|e| format!("{:width$}  {}", usage(e), e.about));
    lines.collect::<Vec<_>>().join("\n") + "\n" + KEYS
}

impl Command {
    /// Reads a line that begins with a backslash.
    ///
    /// # Errors
    /// What is wrong with it, for the user.
    pub(crate) fn parse(line: &str) -> Result<Command, String> {
        let line = line.trim();
        let end = line.find(|c: char| c.is_whitespace() || c == ';');
        let (mut name, mut rest) = line.split_at(end.unwrap_or(line.len()));
        for glued in ["\\!", "\\o|"] {
            if line.starts_with(glued) {
                (name, rest) = line.split_at(2); // \!ls, \o|less
            }
        }
        // Free text may hold what ends a statement; all else is often closed like one.
        let text = rest.trim();
        let word = text.trim_end_matches(';').trim();
        let argument = Some(word).filter(|w| !w.is_empty());
        let one = |what: &str| match argument {
            Some(word) => single(name, word),
            None => Err(format!("{name} needs {what}")),
        };
        Ok(match name {
            "\\d" | "\\dt" | "\\dv" => match argument {
                None => Command::List,
                Some(word) => Command::Describe(single(name, word)?),
            },
            "\\views" | "\\view" => match argument {
                None => Command::Views,
                Some(word) => Command::View(single(name, word)?),
            },
            "\\format" => match argument {
                None => Command::Format(None),
                Some(word) => Command::Format(Some(single(name, word)?.parse()?)),
            },
            "\\x" => Command::Expanded(switch(name, argument)?),
            "\\timing" => Command::Timing(switch(name, argument)?),
            "\\o" | "\\out" => match (text.strip_prefix('|'), argument) {
                (Some(command), _) if command.trim().is_empty() => {
                    return Err("\\o | needs a command".to_owned());
                }
                (Some(command), _) => Command::OutputProgram(command.trim().to_owned()),
                (None, None) => Command::OutputEnd,
                (None, Some(file)) => Command::OutputFile(unquoted(file)),
            },
            "\\i" | "\\include" => match argument {
                Some(file) => Command::Include(unquoted(file)),
                None => return Err("\\i needs a file".to_owned()),
            },
            "\\watch" => Command::Watch(seconds(argument)?),
            "\\set" => match argument {
                None => Command::Variables,
                Some(_) => {
                    let (name, value) = text.split_once(char::is_whitespace).unwrap_or((word, ""));
                    Command::Set(name.to_owned(), unquoted(value.trim()))
                }
            },
            "\\unset" => Command::Unset(one("the name of a variable")?),
            "\\echo" => Command::Echo(unquoted(text)),
            "\\!" if text.is_empty() => return Err("\\! needs a command".to_owned()),
            "\\!" => Command::System(text.to_owned()),
            "\\?" | "\\h" | "\\help" => nothing(name, argument, Command::Help)?,
            "\\q" | "\\quit" | "\\exit" => nothing(name, argument, Command::Quit)?,
            other => return Err(unknown(other)),
        })
    }
}

fn unknown(name: &str) -> String {
    let known = COMMANDS.iter().map(|e| e.name).filter(|n| n.len() > 2);
    match closest(name, known).filter(|_| name.len() > 2) {
        Some(found) => format!("unknown command {name}, did you mean {found}? \\? lists them"),
        None => format!("unknown command {name}, \\? lists them"),
    }
}

fn single(name: &str, argument: &str) -> Result<String, String> {
    match argument.split_once(char::is_whitespace) {
        None => Ok(argument.to_owned()),
        Some((_, extra)) => Err(format!(
            "unexpected {:?} behind {name}, \\? lists the commands",
            extra.trim()
        )),
    }
}

fn nothing(name: &str, argument: Option<&str>, command: Command) -> Result<Command, String> {
    match argument {
        None => Ok(command),
        Some(extra) => Err(format!(
            "unexpected {extra:?} behind {name}, \\? lists the commands"
        )),
    }
}

fn switch(name: &str, argument: Option<&str>) -> Result<Option<bool>, String> {
    match argument {
        None => Ok(None),
        Some("on") => Ok(Some(true)),
        Some("off") => Ok(Some(false)),
        Some(other) => Err(format!("{name} is on or off, not {other:?}")),
    }
}

/// A day, so that nobody waits for a typing slip.
const LONGEST_WATCH: f64 = 86_400.0;

fn seconds(argument: Option<&str>) -> Result<f64, String> {
    let Some(text) = argument else {
        return Ok(2.0);
    };
    match text.strip_suffix('s').unwrap_or(text).parse::<f64>() {
        Ok(seconds) if (0.1..=LONGEST_WATCH).contains(&seconds) => Ok(seconds),
        _ => Err(format!(
            "\\watch takes seconds from 0.1 to {LONGEST_WATCH}, not {text:?}"
        )),
    }
}

/// The text of `'it''s'`; anything else is as it stands.
fn unquoted(text: &str) -> String {
    let inside = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\''));
    match inside.map(|inside| inside.replace("''", "\0")) {
        Some(inside) if !inside.contains('\'') => inside.replace('\0', "'"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        let text = |s: &str| s.to_owned();
        for (line, expected) in [
            ("\\d", Command::List),
            ("\\d page_irf;", Command::Describe(text("page_irf"))),
            ("\\views mrc", Command::View(text("mrc"))),
            ("\\format csv", Command::Format(Some(Format::Csv))),
            ("\\x", Command::Expanded(None)),
            ("\\timing off", Command::Timing(Some(false))),
            ("\\o", Command::OutputEnd),
            ("\\o a b.csv", Command::OutputFile(text("a b.csv"))),
            (
                "\\o |head -1; cat",
                Command::OutputProgram(text("head -1; cat")),
            ),
            ("\\o|cat", Command::OutputProgram(text("cat"))),
            ("\\watch 0.5;", Command::Watch(0.5)),
            ("\\watch", Command::Watch(2.0)),
            ("\\set", Command::Variables),
            ("\\set a", Command::Set(text("a"), text(""))),
            ("\\set a  b c", Command::Set(text("a"), text("b c"))),
            (
                "\\set a 'it''s; so'",
                Command::Set(text("a"), text("it's; so")),
            ),
            ("\\echo a; b", Command::Echo(text("a; b"))),
            ("\\!ls", Command::System(text("ls"))),
            ("\\q", Command::Quit),
        ] {
            assert_eq!(Command::parse(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn wrong_commands_say_what_is_wrong() {
        for (line, word) in [
            ("\\y", "\\y"),
            ("\\view_s", "did you mean \\views"),
            ("\\tming", "did you mean \\timing"),
            ("\\format xml", "xml"),
            ("\\d a b", "\"b\""),
            ("\\i", "needs a file"),
            ("\\unset", "needs the name"),
            ("\\watch soon", "soon"),
            ("\\watch -1", "0.1"),
            ("\\watch 1e99", "1e99"),
            ("\\watch NaN", "NaN"),
            ("\\timing perhaps", "perhaps"),
            ("\\o |", "needs a command"),
            ("\\!", "needs a command"),
            ("\\q now", "now"),
        ] {
            let error = Command::parse(line).err().unwrap_or_default();
            assert!(error.contains(word), "{line}: {error}");
        }
    }

    #[test]
    fn every_listed_command_is_one() {
        for entry in &COMMANDS {
            let parsed = Command::parse(entry.name);
            let unknown = parsed.is_err_and(|e| e.contains("unknown"));
            assert!(!unknown, "{}", entry.name);
        }
    }
}
