//! `export duckdb`: a script that makes the dataset's tables and views known to DuckDB.
//!
//! Tables are views over the very files that the manifest names. Views are table macros, so that they can be called with
//! arguments, as here; where every argument has a default the bare name is a view, too.

use std::fmt::Write;

use pgtrace_ingest::dataset::Dataset;
use pgtrace_ingest::schema::{Column, Fill, Kind, Table, fill};

use super::duckdb_views::{Text, in_order};
use crate::{Error, views};

/// Views that DuckDB's SQL does not reach, and why.
pub const NOT_REACHED: [(&str, &str); 5] = [
    ("patterns", WINDOW_PASS),
    ("object_patterns", WINDOW_PASS),
    (
        "phases",
        "compares the page sets of neighbouring windows and their patterns, run by run, in one pass",
    ),
    ("mrc_sampled", HASH),
    ("mrc_fixed", HASH),
];
const WINDOW_PASS: &str =
    "a classifier that keeps state from reference to reference is no relational query";
const HASH: &str = "samples pages by pgtrace's own hash; with another one the estimate is another, so mrc (exact) or mrc_aet";

const HEAD: &str = "\
-- A pgtrace dataset in DuckDB (2.0 or newer): tables, and pgtrace's views as macros. Nothing is copied: the tables are views over
-- the dataset's files as of version {version}. After further commits make this script anew.
--
--   pgtrace-sql export duckdb {location} > views.sql
--   duckdb -init views.sql
--   FROM hot_files LIMIT 10;                       -- a view
--   FROM page_irf('pid = 42');                     -- with a condition on page_references, a text
--   FROM working_set(\"window\" := '100ms');         -- arguments by name; window is a word of SQL
--
-- All views start from page_references. Redefined, it changes them all:
--   CREATE OR REPLACE VIEW page_references AS SELECT * FROM refs WHERE event = 'fault' AND uid = 1000;
";

/// The script for `dataset` at the version that is open.
///
/// # Errors
/// [`Error::ViewFile`] when a text of ours is wrong.
pub fn script(dataset: &Dataset) -> Result<String, Error> {
    let mut out = HEAD
        .replace("{version}", &dataset.manifest().version.to_string())
        .replace("{location}", &one_line(dataset.location()));
    if !NOT_REACHED.is_empty() {
        out.push_str("--\n-- Not reached by SQL, ask pgtrace-sql:\n");
        for (name, why) in NOT_REACHED {
            let _ = writeln!(out, "--   {name}: {why}");
        }
    }
    out.push_str("\nSET TimeZone = 'UTC';\n");
    for table in Table::ALL {
        let _ = write!(
            out,
            "\n-- {}\n{}\n",
            one_line(table.doc()),
            base(dataset, table)
        );
    }
    for Text { summary, sql, .. } in in_order(&views::all()?)? {
        let _ = write!(out, "\n-- {}\n{sql}\n", one_line(&summary));
    }
    Ok(out)
}

/// A comment must not end before its line does.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// DuckDB's type of a column.
fn type_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Boolean => "BOOLEAN",
        Kind::UInt8 => "UTINYINT",
        Kind::UInt16 => "USMALLINT",
        Kind::UInt32 => "UINTEGER",
        Kind::UInt64 => "UBIGINT",
        Kind::Timestamp => "TIMESTAMPTZ_NS",
        Kind::Text | Kind::Dictionary => "VARCHAR",
    }
}

/// The view that is a table of the dataset.
fn base(dataset: &Dataset, table: Table) -> String {
    let create = format!("CREATE OR REPLACE VIEW {table} AS\n");
    let columns = table.columns();
    let typed = columns
        .iter()
        .map(|c| format!("CAST(NULL AS {}) AS {}", type_of(c.kind), quoted(c.name)));
    let none = format!(
        "SELECT {} WHERE false",
        typed.collect::<Vec<_>>().join(", ")
    );
    let files = dataset.manifest().files(table);
    if files.is_empty() {
        return format!("{create}{none};");
    }
    let root = root(dataset);
    let files = files.iter().map(|f| literal(&format!("{root}/{}", f.path)));
    let files = files.collect::<Vec<_>>().join(",\n    ");
    let read = |options: &str| {
        format!("read_parquet([\n    {files}\n], hive_partitioning = false{options})")
    };
    // The columns of refs have always been these. Of other tables, small ones, older files may lack some: then all files
    // have to be looked at beforehand.
    if table == Table::Refs {
        let names = columns.iter().map(|c| quoted(c.name));
        let names = names.collect::<Vec<_>>().join(", ");
        return format!("{create}SELECT {names} FROM {};", read(""));
    }
    let filled = |c: &Column| match fill(table, c.name) {
        Some(value) => {
            let (name, value) = (quoted(c.name), constant(value, c.kind));
            format!("coalesce({name}, {value}) AS {name}")
        }
        None => quoted(c.name),
    };
    let names = columns.iter().map(filled).collect::<Vec<_>>().join(", ");
    format!(
        "{create}SELECT {names} FROM (\n{none}\nUNION ALL BY NAME\nSELECT * FROM {}\n);",
        read(", union_by_name = true")
    )
}

fn constant(value: Fill, kind: Kind) -> String {
    let text = match value {
        Fill::Number(n) => n.to_string(),
        Fill::Flag(flag) => flag.to_string(),
        Fill::Text(text) => format!("'{}'", text.replace('\'', "''")),
    };
    format!("CAST({text} AS {})", type_of(kind))
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A file's name as a text in which DuckDB sees no pattern: `[x]` is the x itself.
fn literal(path: &str) -> String {
    let mut text = String::from("'");
    for c in path.chars() {
        match c {
            '*' | '?' | '[' => text.extend(['[', c, ']']),
            '\'' => text.push_str("''"),
            _ => text.push(c),
        }
    }
    text.push('\'');
    text
}

/// Where the dataset is, in DuckDB's words: an absolute path or a URL.
fn root(dataset: &Dataset) -> String {
    if let Some(folder) = dataset.folder() {
        return folder.display().to_string();
    }
    let location = dataset.location();
    let place = match location.split_once("://") {
        // DuckDB takes keys as they are, so nothing may be escaped in them.
        Some((scheme @ ("s3" | "gs" | "az"), rest)) => {
            let bucket = rest.split('/').next().unwrap_or_default();
            format!("{scheme}://{bucket}/{}", dataset.prefix())
        }
        _ => location.to_owned(),
    };
    place.trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_no_patterns() {
        assert_eq!(literal("/a/it's [1]*?"), "'/a/it''s [[]1][*][?]'");
    }
}
