//! What can go wrong, worded for people.

use std::path::PathBuf;

use arrow::error::ArrowError;
use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;
use pgtrace_ingest::store;
use reedline::Color;

use crate::diagnose::Excerpt;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The dataset cannot be opened.
    #[error(transparent)]
    Dataset(#[from] pgtrace_ingest::dataset::DatasetError),
    /// No place for rows that do not fit in memory.
    #[error("spill directory {}: {cause} (choose another with --spill-dir)", path.display())]
    SpillDir {
        /// The directory asked for.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A view's file is not in the form the module [`views`](crate::views) describes.
    #[error("view file {file}, line {line}: {detail}")]
    ViewFile {
        /// PACKAGE/NAME.sql
        file: String,
        /// Line, from 1.
        line: usize,
        /// What was expected and found.
        detail: String,
    },
    /// A view cannot be created.
    #[error("view {name}: {cause}")]
    View {
        /// PACKAGE/NAME
        name: String,
        /// Why.
        cause: Box<DataFusionError>,
    },
    /// The engine cannot be set up.
    #[error("setting up the query engine: {0}")]
    Engine(Box<DataFusionError>),
    /// A statement is wrong, or failed while it ran.
    #[error("{}", message(.0))]
    Query(Box<DataFusionError>),
    /// A statement is wrong or failed; with a hint what to do.
    #[error("{error}\n  hint: {hint}")]
    Hinted {
        /// What went wrong.
        error: Box<Error>,
        /// What to do about it.
        hint: String,
    },
    /// A statement is wrong; with the line and the word.
    #[error("{error}\n{excerpt}")]
    At {
        /// What is wrong.
        error: Box<Error>,
        /// Where.
        excerpt: Excerpt,
    },
    /// A statement uses a variable without a value.
    #[error("no variable {0}")]
    Variable(String),
    /// A shell's command is wrong.
    #[error("{0}")]
    Command(String),
    /// What went wrong stands in a script.
    #[error("{place}: {error}")]
    Script {
        /// File, number of the statement, line.
        place: String,
        /// What.
        error: Box<Error>,
    },
    /// The result cannot be put into the output format.
    #[error("formatting the result: {0}")]
    Format(#[from] ArrowError),
    /// The output cannot be written; a closed pipe is here too, see [`Error::is_closed_pipe`].
    #[error("writing the result: {0}")]
    Output(std::io::Error),
    /// A file or program that takes results does not.
    #[error("{}: {cause}", path.display())]
    OutputFile {
        /// The file, or the command of the program.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A URL where results go to files only.
    #[error("{0}: expected a file; COPY (SELECT ..) TO '{0}' writes to an object store")]
    OutputUrl(String),
    /// A format that is nothing for people.
    #[error("{0} is nothing for a terminal: write it to a file (-o FILE, \\o FILE) or a pipe")]
    Binary(&'static str),
    /// A format that holds one result only.
    #[error("{} holds a result already, and {format} holds one: another result needs another file", path.display())]
    SecondResult {
        /// Its name.
        format: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A file with SQL cannot be read.
    #[error("{}: {cause}", path.display())]
    SqlFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The shell cannot use the terminal.
    #[error("terminal: {0}")]
    Terminal(std::io::Error),
    /// A Delta table cannot be written.
    #[error("{place}: {detail}")]
    Delta {
        /// Path of its log within the dataset, or of a file.
        place: String,
        /// What was found, and what to do.
        detail: String,
    },
    /// Ctrl-C while a statement ran.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Whether the reader of our output has simply gone (`| head`): no error to a user.
    pub fn is_closed_pipe(&self) -> bool {
        match self {
            Error::Output(e) => e.kind() == std::io::ErrorKind::BrokenPipe,
            Error::Script { error, .. } => error.is_closed_pipe(),
            _ => false,
        }
    }

    /// The same, said to be of a script, where its statement begins on `line`.
    #[must_use]
    pub fn in_script(mut self, script: &str, line: usize) -> Error {
        self.move_lines(line.saturating_sub(1));
        let line = self.line().unwrap_or(line);
        Error::Script {
            place: format!("{script}, line {line}"),
            error: Box::new(self),
        }
    }

    /// Line of the excerpt, if there is one.
    pub(crate) fn line(&self) -> Option<usize> {
        match self {
            Error::At { excerpt, .. } => Some(excerpt.line),
            Error::Hinted { error, .. } => error.line(),
            _ => None,
        }
    }

    fn move_lines(&mut self, by: usize) {
        match self {
            Error::At { excerpt, .. } => excerpt.line += by,
            Error::Hinted { error, .. } => error.move_lines(by),
            _ => {}
        }
    }

    /// As it is shown: on a terminal the mark is red and hints stand out.
    pub fn report(&self, colors: bool) -> String {
        let paint = |color: Color, text: &str| {
            let style = color.bold();
            if colors {
                style.paint(text).to_string()
            } else {
                text.to_owned()
            }
        };
        match self {
            Error::Hinted { error, hint } => {
                let word = paint(Color::Cyan, "hint:");
                format!("{}\n  {word} {hint}", error.report(colors))
            }
            Error::At { error, excerpt } => {
                let (line, below, mark) = excerpt.lines();
                let mark = paint(Color::Red, &mark);
                format!("{}\n{line}\n{below}{mark}", error.report(colors))
            }
            Error::Script { place, error } => format!("{place}: {}", error.report(colors)),
            other => other.to_string(),
        }
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        Error::Query(Box::new(error))
    }
}

/// The engine's message without its internal layers' names.
fn message(error: &DataFusionError) -> String {
    const LAYERS: [&str; 8] = [
        "Error during planning: ",
        "Schema error: ",
        "SQL error: ",
        "Execution error: ",
        "External error: ",
        "This feature is not implemented: ",
        "Resources exhausted: ",
        "Parquet error: ",
    ];
    // Above the root are notes of the optimizer and of operators on where they were.
    let root = error.find_root();
    if let DataFusionError::SchemaError(schema, _) = root
        && let SchemaError::FieldNotFound {
            field,
            valid_fields,
        } = schema.as_ref()
    {
        return no_column(&field.name, valid_fields);
    }
    let text = root.strip_backtrace();
    let mut rest = text.as_str();
    for layer in LAYERS {
        rest = rest.strip_prefix(layer).unwrap_or(rest);
    }
    for parser in ["ParserError(\"", "TokenizerError(\""] {
        if let Some(inside) = rest
            .strip_prefix(parser)
            .and_then(|r| r.strip_suffix("\")"))
        {
            // Where it is, the line below shows.
            let inside = inside.split(" at Line: ").next().unwrap_or(inside);
            return format!("syntax error: {}", inside.replace("\\\"", "\""));
        }
    }
    if let Some(function) = rest.strip_prefix("Invalid function '") {
        // What follows is a suggestion, however far it is from the name.
        return format!(
            "no function {}",
            function.split('\'').next().unwrap_or_default()
        );
    }
    store::plain(&rest.replace("'datafusion.public.", "'"))
}

/// Columns that are listed when none has the name.
const LISTED: usize = 24;

fn no_column(name: &str, known: &[Column]) -> String {
    let names: Vec<&str> = known.iter().map(|c| c.name.as_str()).collect();
    match names.len() {
        0 => format!("no column {name}: there is no table here to have columns"),
        n if n > LISTED => {
            let (some, more) = (names[..LISTED].join(", "), n - LISTED);
            format!("no column {name}; there are {some} and {more} more")
        }
        _ => format!("no column {name}; there are {}", names.join(", ")),
    }
}

/// The closest of `known` within a typing slip or two of `name`, but not `name` itself; else one that `name`
/// is the longer or shorter form of.
pub(crate) fn closest<'a>(
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Option<&'a str> {
    let name = name.to_lowercase();
    let length = name.chars().count();
    let slips = if length < 4 { 1 } else { length / 3 + 1 };
    let near = known
        .clone()
        .map(|k| (distance(&name, &k.to_lowercase()), k))
        .filter(|((distance, _), _)| (1..=slips).contains(distance))
        .min();
    let form = |k: &&str| {
        let k = k.to_lowercase();
        let (short, long) = if k.len() < length {
            (&k, &name)
        } else {
            (&name, &k)
        };
        short.len() >= 3 && short != long && long.starts_with(short.as_str())
    };
    near.map(|(_, k)| k).or_else(|| {
        known
            .filter(form)
            .min_by_key(|k| k.len().abs_diff(name.len()))
    })
}

/// Slips from one word to the other; letters in another order are one. Then the difference in length.
fn distance(a: &str, b: &str) -> (usize, usize) {
    use datafusion::common::utils::datafusion_strsim::levenshtein;
    let letters = |word: &str| {
        let mut letters: Vec<char> = word.chars().collect();
        letters.sort_unstable();
        letters
    };
    let slips = match levenshtein(a, b) {
        2 if letters(a) == letters(b) => 1,
        slips => slips,
    };
    (slips, a.len().abs_diff(b.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_name_and_nonsense_does_not() {
        let known = || ["refs", "page_irf", "hot_files"].into_iter();
        assert_eq!(closest("pageirf", known()), Some("page_irf"));
        assert_eq!(closest("Ref", known()), Some("refs"));
        assert_eq!(
            closest("cuont", ["cot", "count"].into_iter()),
            Some("count")
        );
        assert_eq!(closest("pid", ["AND"].into_iter()), None);
        assert_eq!(closest("refs", known()), None);
        assert_eq!(closest("zzzzzz", known()), None);
        assert_eq!(closest("references", known()), None);
        assert_eq!(closest("page_irf_histogram", known()), Some("page_irf"));
    }
}
