//! What `\d` and `\views` say.

use crate::describe;
use crate::session::Session;
use crate::views::{ColumnDoc, View};

/// Tables and views with a line each.
pub(super) fn list(session: &Session) -> String {
    let listed = describe::list(session);
    let rows = listed.iter().map(|l| [&*l.name, &*l.package, &*l.summary]);
    aligned(rows)
}

/// Columns with their types and meanings.
pub(super) fn columns(columns: &[ColumnDoc]) -> String {
    aligned(columns.iter().map(|c| [&*c.name, &*c.type_name, &*c.doc]))
}

/// Views by package, each with its line; `sources` of the engine besides.
pub(super) fn views(session: &Session) -> String {
    let listed = describe::list(session);
    let width = listed.iter().map(|l| l.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    let mut package = "";
    for view in listed.iter().filter(|l| l.package != "table") {
        if package != view.package {
            let blank = if package.is_empty() { "" } else { "\n" };
            text += &format!("{blank}{}\n", view.package);
            package = &view.package;
        }
        text += &format!("  {:width$}  {}\n", view.name, view.summary);
    }
    text + "\n\\views NAME tells all about one: its columns, what they mean, an example"
}

/// All that is written about a view.
pub(super) fn view(view: &View) -> String {
    let mut text = format!("{} ({}): {}\n", view.name, view.package, view.summary);
    let (about, arguments) = comment(view);
    if !about.is_empty() {
        text += &format!("\n{about}\n");
    }
    if !arguments.is_empty() {
        text += &format!("\nArguments:\n{}\n", indented(&arguments));
    }
    text += &format!("\nColumns:\n{}\n", indented(&columns(&view.columns)));
    text += "\nExamples:\n";
    let plain = format!("SELECT * FROM {} LIMIT 10", view.name);
    let examples = std::iter::once(plain).chain(view.examples());
    let examples = examples.map(|sql| indented(&format!("{};", sql.trim_end_matches(';'))));
    text + &examples.collect::<Vec<_>>().join("\n")
}

/// The text between the summary and the columns: what there is to say, and the lines of the arguments.
fn comment(view: &View) -> (String, String) {
    let lines = view.sql.lines().map_while(|l| l.strip_prefix("--"));
    let lines = lines
        .skip(1)
        .take_while(|l| l.trim() != "Columns:")
        .map(|l| l.strip_prefix(' ').unwrap_or(l).trim_end());
    let lines: Vec<&str> = lines.collect();
    let arguments = lines.iter().position(|l| *l == "Arguments:");
    let (about, arguments) = lines.split_at(arguments.unwrap_or(lines.len()));
    let arguments = arguments.iter().skip(1).map(|l| l.trim());
    (
        about.join("\n").trim().to_owned(),
        arguments.collect::<Vec<_>>().join("\n").trim().to_owned(),
    )
}

fn indented(text: &str) -> String {
    let lines = text.lines().map(|line| format!("  {line}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Lines of three columns, the first two padded.
fn aligned<'a>(rows: impl Iterator<Item = [&'a str; 3]> + Clone) -> String {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn all_that_is_written_about_a_view_is_shown() {
        let sql = "-- One thing.\n--\n-- More of it,\n-- on two lines.\n--\n-- Arguments:\n--   filter text ['true']: which\n--\n-- Columns:\n--   a uint64: the a\nCREATE VIEW v AS\nSELECT 1 AS a;\n";
        let shown = view(&View::parse("p", "v", sql).unwrap());
        let expected = "v (p): One thing.\n\nMore of it,\non two lines.\n\nArguments:\n  filter text ['true']: which\n\nColumns:\n  a  uint64  the a\n\nExamples:\n  SELECT * FROM v LIMIT 10;";
        assert_eq!(shown, expected);
    }
}
