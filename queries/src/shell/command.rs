//! The shell's own commands, which begin with a backslash.

use crate::output::Format;

/// One backslash command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// `\d`: tables and views.
    List,
    /// `\d NAME`: columns of one.
    Describe(String),
    /// `\format F`
    Format(Format),
    /// `\timing`: turn the duration of statements on or off.
    Timing,
    /// `\?`
    Help,
    /// `\q`
    Quit,
}

/// What `\?` prints.
pub(crate) const HELP: &str = "\
\\d            tables and views
\\d NAME       columns of a table or view
\\format NAME  how results are shown: table, csv, json, ndjson
\\timing       show how long a statement took, or stop showing it
\\q            quit (or Ctrl-D)
Statements end with a semicolon. Tab completes, Ctrl-R searches the history, Ctrl-C stops a running statement.
EXPLAIN SELECT .. shows a plan; SET datafusion.execution.batch_size = 4096 and the like tune it.";

impl Command {
    /// Reads a line that begins with a backslash.
    ///
    /// # Errors
    /// What is wrong with it, for the user.
    pub(crate) fn parse(line: &str) -> Result<Command, String> {
        let mut words = line.trim().trim_end_matches(';').split_whitespace();
        let command = match (words.next().unwrap_or_default(), words.next()) {
            ("\\d", None) => Command::List,
            ("\\d", Some(name)) => Command::Describe(name.to_owned()),
            ("\\format", Some(name)) => Command::Format(name.parse()?),
            ("\\format", None) => {
                return Err("\\format needs a name: table, csv, json or ndjson".to_owned());
            }
            ("\\timing", None) => Command::Timing,
            ("\\?" | "\\h" | "\\help", None) => Command::Help,
            ("\\q" | "\\quit", None) => Command::Quit,
            (other, _) => return Err(format!("unknown command {other}, \\? lists them")),
        };
        match words.next() {
            Some(extra) => Err(format!(
                "unexpected {extra:?} behind the command, \\? lists them"
            )),
            None => Ok(command),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        assert_eq!(Command::parse("\\d"), Ok(Command::List));
        assert_eq!(
            Command::parse("\\d page_irf;"),
            Ok(Command::Describe("page_irf".into()))
        );
        assert_eq!(
            Command::parse("\\format csv"),
            Ok(Command::Format(Format::Csv))
        );
        assert_eq!(Command::parse("\\q"), Ok(Command::Quit));
    }

    #[test]
    fn wrong_commands_say_what_is_wrong() {
        for (line, word) in [
            ("\\x", "\\x"),
            ("\\format", "needs"),
            ("\\format xml", "xml"),
            ("\\d a b", "\"b\""),
        ] {
            let error = Command::parse(line).err().unwrap_or_default();
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
