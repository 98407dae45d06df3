//! Completion of the shell's commands and of what stands behind them.

use std::path::Path;

use super::command::{COMMANDS, Takes};
use super::complete::{Candidate, Catalog, Offers};
use crate::output::Format;

/// What the last word of `before`, a command up to the cursor, may become, and where it begins.
pub(super) fn candidates(catalog: &Catalog, before: &str) -> (usize, Vec<Candidate>) {
    let indent = before.len() - before.trim_start().len();
    let typed = &before[indent..];
    let Some(end) = typed.find(char::is_whitespace) else {
        let mut offers = Offers::new(typed);
        for entry in &COMMANDS {
            let ends = entry.takes != Takes::Nothing;
            offers.add(entry.name, entry.about, ends);
        }
        return (indent, offers.found);
    };
    let (name, rest) = typed.split_at(end);
    let argument = rest.trim_start();
    let start = before.len() - argument.len();
    let takes = COMMANDS.iter().find(|e| e.name == name).map(|e| e.takes);
    if takes != Some(Takes::File) && argument.contains(char::is_whitespace) {
        return (before.len(), Vec::new()); // one argument each
    }
    let mut offers = Offers::new(argument);
    match takes.unwrap_or(Takes::Nothing) {
        Takes::Nothing | Takes::Text => {}
        Takes::Relation => offers.relations(catalog),
        Takes::View => {
            offers.relations(catalog);
            for (function, about) in &catalog.table_functions {
                offers.add(function, about, true);
            }
        }
        Takes::Format => {
            for (format, _) in Format::NAMES {
                offers.add(format, "", true);
            }
        }
        Takes::Switch => ["on", "off"].iter().for_each(|s| offers.add(s, "", true)),
        Takes::Variable => {
            for (name, value) in &catalog.variables {
                offers.add(name, value, true);
            }
        }
        Takes::File => files(&mut offers, argument),
    }
    (start, offers.found)
}

/// Names that the path `typed` may go on with; hidden ones only where that is asked for.
fn files(offers: &mut Offers<'_>, typed: &str) {
    let (folder, begun) = typed
        .rsplit_once('/')
        .map_or(("", typed), |(folder, begun)| {
            (&typed[..=folder.len()], begun)
        });
    let place = Path::new(if folder.is_empty() { "." } else { folder });
    let Ok(entries) = std::fs::read_dir(place) else {
        return;
    };
    let mut names: Vec<(String, bool)> = entries
        .flatten()
        .map(|e| {
            (
                e.file_name().to_string_lossy().into_owned(),
                e.path().is_dir(),
            )
        })
        .filter(|(name, _)| begun.starts_with('.') || !name.starts_with('.'))
        .collect();
    names.sort();
    for (name, is_folder) in names {
        let slash = if is_folder { "/" } else { "" };
        offers.add(&format!("{folder}{name}{slash}"), "", !is_folder);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::complete::tests::{catalog, names};

    #[test]
    fn commands_and_their_arguments() {
        for (line, expected) in [
            ("\\vi|", ["\\views"].as_slice()),
            ("\\d r|", &["refs"]),
            ("\\views pa|", &["page_irf", "parts"]),
            ("\\format p|", &["parquet"]),
            ("\\timing o|", &["on", "off"]),
            ("\\unset p|", &["path", "pid"]),
            ("\\q |", &[]),
            ("\\d refs p|", &[]),
        ] {
            assert_eq!(names(line), expected, "{line}");
        }
    }

    #[test]
    fn names_of_files() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("report.sql"), "").unwrap();
        std::fs::write(folder.path().join(".hidden"), "").unwrap();
        std::fs::create_dir(folder.path().join("reports")).unwrap();
        let line = format!("\\i {}/rep", folder.path().display());
        let (start, found) = catalog().candidates(&line, line.len());
        assert_eq!(start, 3);
        let found: Vec<_> = found.iter().map(|c| (c.text.as_str(), c.ends)).collect();
        let full = |name: &str| format!("{}/{name}", folder.path().display());
        let expected = [(full("report.sql"), true), (full("reports/"), false)];
        assert_eq!(found, expected.each_ref().map(|(n, e)| (n.as_str(), *e)));
        let line = format!("\\i {}/", folder.path().display());
        assert_eq!(catalog().candidates(&line, line.len()).1.len(), 2);
    }
}
