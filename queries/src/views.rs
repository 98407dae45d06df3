//! The SQL views: `sql/PACKAGE/NAME.sql`, embedded in the binary and found by walking.
//!
//! A file is a comment block (first line: a summary; then text; then, if it has any, `-- Arguments:` with one
//! `--   name type [default]: meaning` an argument; then `-- Columns:` with one `--   name type: meaning` a
//! column) followed by one `CREATE VIEW NAME AS SELECT ..`. The file name is
//! the view's name, the folder its package. A name that begins with `_` is private to its package.
//! `NAME.duckdb.sql` is for [`export`](crate::export), and `operators` a folder with nothing else.

use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use include_dir::{Dir, include_dir};

use crate::{Error, template};

static SQL: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/sql");

/// A column as the view's comment describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDoc {
    /// Name of the column.
    pub name: String,
    /// Its type in the words of [`type_name`](crate::describe::type_name).
    pub type_name: String,
    /// What it means, with its unit.
    pub doc: String,
}

/// An argument of a view that can be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// Its name; `$name` in the SQL.
    pub name: String,
    /// `text`, `double`, `uint64`, or `any`.
    pub type_name: String,
    /// What it is when it is left out, as SQL; `None`: it has to be given.
    pub default: Option<String>,
    /// What it means, with its unit.
    pub doc: String,
}

/// One view, as its file tells.
#[derive(Debug, Clone)]
pub struct View {
    /// The folder: `base`, `irf`, ..
    pub package: String,
    /// Name of the view.
    pub name: String,
    /// First comment line.
    pub summary: String,
    /// Arguments in order; none: it cannot be called.
    pub arguments: Vec<Argument>,
    /// Columns in order.
    pub columns: Vec<ColumnDoc>,
    /// The whole file.
    pub sql: String,
}

impl View {
    /// Whether only views of its own package may use it; listings leave it out.
    pub fn is_private(&self) -> bool {
        self.name.starts_with('_')
    }

    /// Statements that show it at work: those of its worked example that name it.
    pub fn examples(&self) -> Vec<String> {
        let file = SQL.get_file(format!("{}/{}.slt", self.package, self.name));
        let text = file.and_then(|f| f.contents_utf8()).unwrap_or_default();
        let records = text.split("\n\n").filter_map(|record| {
            let query = record.trim_start().strip_prefix("query ")?;
            let (_, statement) = query.split_once('\n')?;
            let end = statement.find("\n----").unwrap_or(statement.len());
            Some(statement[..end].trim().to_owned())
        });
        records.filter(|sql| sql.contains(&self.name)).collect()
    }

    /// Reads the text of `sql/PACKAGE/NAME.sql`.
    ///
    /// # Errors
    /// [`Error::ViewFile`] when the comment block is not in the form the module describes.
    pub fn parse(package: &str, name: &str, sql: &str) -> Result<View, Error> {
        let wrong = |line: usize, detail: String| Error::ViewFile {
            file: format!("{package}/{name}.sql"),
            line,
            detail,
        };
        let comment: Vec<&str> = sql.lines().map_while(|l| l.strip_prefix("--")).collect();
        let summary = comment.first().map_or("", |l| l.trim()).to_owned();
        if summary.is_empty() {
            return Err(wrong(
                1,
                "expected a comment that says what the view is".into(),
            ));
        }
        let Some(start) = comment.iter().position(|l| l.trim() == "Columns:") else {
            return Err(wrong(
                1,
                "expected `-- Columns:` in the leading comment".into(),
            ));
        };
        let about = comment.iter().position(|l| l.trim() == "Arguments:");
        let mut arguments = Vec::new();
        for (i, line) in comment[..start]
            .iter()
            .enumerate()
            .skip(about.map_or(start, |at| at + 1))
        {
            if line.trim().is_empty() {
                continue;
            }
            arguments.push(Argument::parse(line).ok_or_else(|| {
                wrong(
                    i + 1,
                    format!("expected `--   name type [default]: meaning`, found `--{line}`"),
                )
            })?);
        }
        let mut columns = Vec::new();
        for (i, line) in comment.iter().enumerate().skip(start + 1) {
            let column = line.split_once(": ").and_then(|(head, doc)| {
                let (name, type_name) = head.trim().split_once(' ')?;
                Some(ColumnDoc {
                    name: name.to_owned(),
                    type_name: type_name.trim().to_owned(),
                    doc: doc.trim().to_owned(),
                })
            });
            columns.push(column.ok_or_else(|| {
                wrong(
                    i + 1,
                    format!("expected `--   name type: meaning`, found `--{line}`"),
                )
            })?);
        }
        Ok(View {
            package: package.to_owned(),
            name: name.to_owned(),
            summary,
            arguments,
            columns,
            sql: sql.to_owned(),
        })
    }

    /// The view's SELECT.
    pub fn select(&self) -> &str {
        let head = format!("CREATE VIEW {} AS", self.name);
        let select = self.sql.split_once(&head).map_or("", |(_, rest)| rest);
        select.trim().trim_end_matches(';')
    }
}

impl Argument {
    fn parse(line: &str) -> Option<Argument> {
        let (head, doc) = line.split_once(": ")?;
        let (head, default) = match head.split_once('[') {
            Some((head, default)) => (head, Some(default.trim().strip_suffix(']')?.to_owned())),
            None => (head, None),
        };
        let (name, type_name) = head.trim().split_once(' ')?;
        Some(Argument {
            name: name.to_owned(),
            type_name: type_name.trim().to_owned(),
            default,
            doc: doc.trim().to_owned(),
        })
    }
}

/// All views, ordered by package and name.
///
/// # Errors
/// [`Error::ViewFile`] when one is malformed.
pub fn all() -> Result<Vec<View>, Error> {
    let mut views = Vec::new();
    for (package, name, sql) in files(".sql").filter(|(_, name, _)| !name.contains('.')) {
        views.push(View::parse(&package, &name, sql)?);
    }
    views.sort_by(|a, b| (&a.package, &a.name).cmp(&(&b.package, &b.name)));
    Ok(views)
}

/// Files of `sql/` whose names end so: package, name without the ending, text.
pub(crate) fn files(ending: &str) -> impl Iterator<Item = (String, String, &'static str)> {
    let files = SQL.dirs().flat_map(|package| package.files());
    files.filter_map(move |file| {
        let package = file.path().parent()?.to_string_lossy().into_owned();
        let name = file.path().file_name()?.to_string_lossy();
        let name = name.strip_suffix(ending)?.to_owned();
        Some((package, name, file.contents_utf8().unwrap_or_default()))
    })
}

/// Creates `views` in `ctx`. A view may use any other: each round creates those whose sources exist.
///
/// # Errors
/// [`Error::View`] with the first view that cannot be created, when a whole round creates none.
pub async fn create(ctx: &SessionContext, views: &[View]) -> Result<(), Error> {
    let mut waiting: Vec<&View> = views.iter().collect();
    while !waiting.is_empty() {
        let mut failed: Vec<(&View, DataFusionError)> = Vec::new();
        for view in &waiting {
            // One that has to be called is no view.
            let Some(sql) = template::with_defaults(view) else {
                continue;
            };
            if let Err(cause) = ctx.sql(&sql).await {
                failed.push((view, cause));
            }
        }
        if failed.len() == waiting.len() {
            let (view, cause) = failed.swap_remove(0);
            return Err(Error::View {
                name: format!("{}/{}", view.package, view.name),
                cause: Box::new(cause),
            });
        }
        waiting = failed.into_iter().map(|(view, _)| view).collect();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_view_file_is_read() {
        let text = "-- One thing.\n--\n-- More.\n--\n-- Columns:\n--   a uint64: the a: in ns\nCREATE VIEW v AS SELECT 1 AS a;\n";
        let view = View::parse("p", "v", text).unwrap();
        assert_eq!(view.summary, "One thing.");
        assert_eq!(
            view.columns,
            [ColumnDoc {
                name: "a".into(),
                type_name: "uint64".into(),
                doc: "the a: in ns".into()
            }]
        );
        assert!(!view.is_private());
    }

    #[test]
    fn a_malformed_view_file_says_where() {
        let none = View::parse("p", "v", "CREATE VIEW v AS SELECT 1").unwrap_err();
        assert!(none.to_string().contains("p/v.sql, line 1"), "{none}");
        let bad = View::parse("p", "v", "-- S\n-- Columns:\n--   a\nSELECT 1").unwrap_err();
        assert!(bad.to_string().contains("p/v.sql, line 3"), "{bad}");
    }

    #[tokio::test]
    async fn views_are_created_in_the_order_they_need() {
        let view = |name: &str, body: &str| {
            View::parse(
                "p",
                name,
                &format!("-- s\n-- Columns:\nCREATE VIEW {name} AS {body}"),
            )
            .unwrap()
        };
        let ctx = SessionContext::new();
        create(
            &ctx,
            &[view("a", "SELECT * FROM b"), view("b", "SELECT 1 AS x")],
        )
        .await
        .unwrap();
        assert!(ctx.sql("SELECT x FROM a").await.is_ok());
        let error = create(&ctx, &[view("c", "SELECT * FROM missing")])
            .await
            .unwrap_err();
        assert!(error.to_string().contains("view p/c"), "{error}");
    }
}
