//! What can go wrong, worded for people.

use std::path::PathBuf;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;

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
    /// The result cannot be put into the output format.
    #[error("formatting the result: {0}")]
    Format(#[from] ArrowError),
    /// The output cannot be written; a closed pipe is here too, see [`Error::is_closed_pipe`].
    #[error("writing the result: {0}")]
    Output(std::io::Error),
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
        matches!(self, Error::Output(e) if e.kind() == std::io::ErrorKind::BrokenPipe)
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
    let text = error.find_root().strip_backtrace();
    let mut rest = text.as_str();
    for layer in LAYERS {
        rest = rest.strip_prefix(layer).unwrap_or(rest);
    }
    for parser in ["ParserError(\"", "TokenizerError(\""] {
        if let Some(inside) = rest
            .strip_prefix(parser)
            .and_then(|r| r.strip_suffix("\")"))
        {
            return format!("syntax error: {}", inside.replace("\\\"", "\""));
        }
    }
    rest.replace("'datafusion.public.", "'")
}

/// The closest of `known` within a typing slip or two of `name`, but not `name` itself.
pub(crate) fn closest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    use datafusion::common::utils::datafusion_strsim::levenshtein;
    let slips = name.chars().count() / 3 + 1;
    known
        .map(|k| (levenshtein(&name.to_lowercase(), &k.to_lowercase()), k))
        .filter(|(distance, _)| (1..=slips).contains(distance))
        .min()
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_name_and_nonsense_does_not() {
        let known = || ["refs", "page_irf", "hot_files"].into_iter();
        assert_eq!(closest("pageirf", known()), Some("page_irf"));
        assert_eq!(closest("Ref", known()), Some("refs"));
        assert_eq!(closest("refs", known()), None);
        assert_eq!(closest("zzzzzz", known()), None);
    }
}
