//! The views in DuckDB's words.
//!
//! A view's .sql is used as it is where DuckDB has its operators: as macros in `sql/operators`, one a file
//! (`_NAME.duckdb.sql`). What differs between the two dialects is little, and [`translated`] changes just that. A view that
//! needs more has a text of its own beside it, `sql/PACKAGE/NAME.duckdb.sql`. That the answers are the same is tested in
//! DuckDB itself, for every view.

use super::duckdb::{NOT_REACHED, quoted};
use crate::Error;
use crate::views::{self, View};

/// What creates one thing in DuckDB.
#[derive(Debug, Clone)]
pub(super) struct Text {
    /// Name of the view or macro.
    pub(super) name: String,
    /// First line of its comment.
    pub(super) summary: String,
    /// Statements.
    pub(super) sql: String,
}

/// All views and what they use, each behind what it uses itself.
///
/// # Errors
/// [`Error::ViewFile`] when a view uses what DuckDB does not have.
pub(super) fn in_order(views: &[View]) -> Result<Vec<Text>, Error> {
    let mut waiting: Vec<Text> = Vec::new();
    for (package, name, text) in views::files(".duckdb.sql") {
        waiting.push(own(&package, &name, text)?);
    }
    for view in views {
        let known = waiting.iter().any(|text| text.name == view.name);
        if !known && !NOT_REACHED.iter().any(|(name, _)| *name == view.name) {
            waiting.push(translated(view));
        }
    }
    let mut done: Vec<Text> = Vec::new();
    while !waiting.is_empty() {
        let names: Vec<String> = waiting.iter().map(|text| text.name.clone()).collect();
        let needs = |text: &Text| {
            let other = |name: &&str| *name != text.name && names.iter().any(|known| known == name);
            uses(&text.sql).iter().any(other)
        };
        let (later, ready): (Vec<Text>, Vec<Text>) = waiting.into_iter().partition(needs);
        if ready.is_empty() {
            return Err(wrong(
                &names.join(", "),
                "in DuckDB they use one another".into(),
            ));
        }
        for text in &ready {
            let known =
                |name: &str| name == text.name || done.iter().any(|known| known.name == name);
            let used = uses(&text.sql);
            if let Some(operator) = used.iter().find(|u| u.starts_with('_') && !known(u)) {
                return Err(wrong(
                    &text.name,
                    format!(
                        "uses {operator}, which DuckDB does not have: it needs sql/operators/{operator}.duckdb.sql, or a line in NOT_REACHED"
                    ),
                ));
            }
        }
        done.extend(ready);
        waiting = later;
    }
    Ok(done)
}

fn wrong(file: &str, detail: String) -> Error {
    Error::ViewFile {
        file: file.to_owned(),
        line: 1,
        detail,
    }
}

/// Names that a statement reads from or calls: what stands behind FROM and JOIN, and before a parenthesis.
fn uses(sql: &str) -> Vec<&str> {
    let code = sql
        .lines()
        .map(|line| line.split("--").next().unwrap_or_default());
    let mut used = Vec::new();
    for line in code {
        let (mut rest, mut before) = (line, "");
        while let Some(start) = rest.find(is_word) {
            let word = &rest[start..];
            let (word, behind) = word.split_at(word.find(|c| !is_word(c)).unwrap_or(word.len()));
            if ["FROM", "JOIN"].contains(&before) || behind.starts_with('(') {
                used.push(word);
            }
            (rest, before) = (behind, word);
        }
    }
    used
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// A text that was written for DuckDB.
fn own(package: &str, name: &str, text: &str) -> Result<Text, Error> {
    let comment = text.lines().map_while(|line| line.strip_prefix("--"));
    let comment: Vec<&str> = comment.map(str::trim).collect();
    let sql = text.splitn(comment.len() + 1, '\n').last();
    let sql = sql.unwrap_or_default().trim_end().to_owned();
    let creates = ["MACRO", "VIEW"].map(|kind| format!("CREATE OR REPLACE {kind} {name}"));
    if comment.is_empty() || !creates.iter().any(|head| sql.starts_with(head)) {
        return Err(wrong(
            &format!("{package}/{name}.duckdb.sql"),
            format!("expected a comment, and then `{}`", creates[0]),
        ));
    }
    Ok(Text {
        name: name.to_owned(),
        summary: comment.join(" "),
        sql,
    })
}

/// A view's own SQL for DuckDB. Each column is cast to its documented type: DuckDB's sums are wider than ours.
fn translated(view: &View) -> Text {
    let select = dialect(view.select());
    let columns = view.columns.iter().map(|c| {
        let name = quoted(&c.name);
        format!("CAST(v.{name} AS {}) AS {name}", type_of(&c.type_name))
    });
    let columns = columns.collect::<Vec<_>>().join(", ");
    let select = format!("SELECT {columns} FROM (\n{select}\n) v");
    let name = &view.name;
    let sql = if view.arguments.is_empty() {
        format!("CREATE OR REPLACE VIEW {name} AS\n{select};")
    } else {
        let argument = |a: &views::Argument| match &a.default {
            Some(default) => format!("{} := {default}", quoted(&a.name)),
            None => quoted(&a.name),
        };
        let arguments = view.arguments.iter().map(argument);
        let arguments = arguments.collect::<Vec<_>>().join(", ");
        let mut sql = format!("CREATE OR REPLACE MACRO {name}({arguments}) AS TABLE\n{select};");
        if view.arguments.iter().all(|a| a.default.is_some()) {
            sql.push_str(&format!(
                "\nCREATE OR REPLACE VIEW {name} AS FROM {name}();"
            ));
        }
        sql
    };
    Text {
        name: name.clone(),
        summary: view.summary.clone(),
        sql,
    }
}

/// What the dialects write differently: arguments, the unsigned type, and times as numbers of ns.
fn dialect(select: &str) -> String {
    let mut out = String::new();
    let mut rest = select;
    while let Some(at) = rest.find('$') {
        let after = &rest[at + 1..];
        let end = after.find(|c: char| !(c.is_alphanumeric() || c == '_'));
        let (name, tail) = after.split_at(end.unwrap_or(after.len()));
        out.push_str(&rest[..at]);
        out.push_str(&quoted(name));
        rest = tail;
    }
    out.push_str(rest);
    epochs(&out.replace("BIGINT UNSIGNED", "UBIGINT"))
}

/// `CAST(c.end_ts AS BIGINT)` is `epoch_ns(c.end_ts)`. Columns whose names end so are times, and no others.
fn epochs(sql: &str) -> String {
    const END: &str = "_ts AS BIGINT)";
    let mut out = String::new();
    let mut rest = sql;
    while let Some(end) = rest.find(END) {
        let Some(start) = rest[..end].rfind("CAST(") else {
            break;
        };
        out.push_str(&rest[..start]);
        out.push_str(&format!("epoch_ns({}_ts)", &rest[start + 5..end]));
        rest = &rest[end + END.len()..];
    }
    out + rest
}

/// DuckDB's name of a type in the words of [`type_name`](crate::describe::type_name).
fn type_of(type_name: &str) -> &str {
    match type_name {
        "text" => "VARCHAR",
        "timestamp" => "TIMESTAMPTZ_NS",
        "int64" => "BIGINT",
        "uint64" => "UBIGINT",
        "uint32" => "UINTEGER",
        "uint16" => "USMALLINT",
        "uint8" => "UTINYINT",
        other => other, // double, boolean
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn view(name: &str, arguments: &str, body: &str) -> View {
        let text = format!(
            "-- S.\n--\n{arguments}-- Columns:\n--   n int64: a number\nCREATE VIEW {name} AS\n{body};\n"
        );
        View::parse("p", name, &text).unwrap()
    }

    #[test]
    fn dialects() {
        assert_eq!(
            dialect("f($window, $condition) CAST(0 AS BIGINT UNSIGNED)"),
            "f(\"window\", \"condition\") CAST(0 AS UBIGINT)"
        );
        assert_eq!(
            dialect(
                "(CAST(a.x_ts AS BIGINT) - CAST(CAST(b_ts AS BIGINT) AS DOUBLE)) CAST(n AS BIGINT)"
            ),
            "(epoch_ns(a.x_ts) - CAST(epoch_ns(b_ts) AS DOUBLE)) CAST(n AS BIGINT)"
        );
    }

    #[test]
    fn arguments_and_defaults() {
        let given = "-- Arguments:\n--   top uint64 [16]: how many\n--\n";
        let text = translated(&view("v", given, "SELECT 1 AS n LIMIT $top"));
        assert_eq!(
            text.sql,
            "CREATE OR REPLACE MACRO v(\"top\" := 16) AS TABLE\nSELECT CAST(v.\"n\" AS BIGINT) AS \"n\" FROM (\nSELECT 1 AS n LIMIT \"top\"\n) v;\nCREATE OR REPLACE VIEW v AS FROM v();"
        );
        let needed = "-- Arguments:\n--   top uint64: how many\n--\n";
        let text = translated(&view("v", needed, "SELECT 1 AS n LIMIT $top"));
        assert!(!text.sql.contains("VIEW"), "{}", text.sql);
    }

    #[test]
    fn what_is_used_comes_first_and_what_is_missing_is_told() {
        let all = [
            view("a", "", "SELECT n FROM b -- not _c\n WHERE '_d' <> 'a'"),
            view("b", "", "SELECT 1 AS n"),
        ];
        let order = in_order(&all).unwrap();
        let place = |name: &str| order.iter().position(|t| t.name == name).unwrap();
        assert!(place("b") < place("a"));
        let error = in_order(&[view("a", "", "SELECT n FROM _nowhere()")]).unwrap_err();
        assert!(error.to_string().contains("_nowhere"), "{error}");
    }
}
