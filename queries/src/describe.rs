//! What tables and views there are, and what their columns mean: `\d` of the shell, completion.

use arrow::datatypes::{DataType, TimeUnit};
use pgtrace_ingest::schema::Table;

use crate::Error;
use crate::error::closest;
use crate::session::Session;
use crate::views::ColumnDoc;

/// A table or view as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name in SQL.
    pub name: String,
    /// Package of a view; `table` for a base table.
    pub package: String,
    /// What it is, in one line.
    pub summary: String,
}

/// The one word we use for a type, in listings and in the views' comments.
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_owned(),
        DataType::Dictionary(_, value) => type_name(value),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => "timestamp".to_owned(),
        DataType::Float64 => "double".to_owned(),
        other => other.to_string().to_lowercase(),
    }
}

/// Base tables, then public views by package.
pub fn list(session: &Session) -> Vec<Listed> {
    let tables = Table::ALL.iter().map(|t| Listed {
        name: t.name().to_owned(),
        package: "table".to_owned(),
        summary: t.doc().to_owned(),
    });
    let views = session
        .views()
        .iter()
        .filter(|v| !v.is_private())
        .map(|v| Listed {
            name: v.name.clone(),
            package: v.package.clone(),
            summary: v.summary.clone(),
        });
    tables.chain(views).collect()
}

/// Columns of the table or view `name`, with what they mean where that is written down.
///
/// # Errors
/// [`Error::Query`] or [`Error::Hinted`] when there is no such table or view.
pub async fn columns(session: &Session, name: &str) -> Result<Vec<ColumnDoc>, Error> {
    if let Some(view) = session.views().iter().find(|v| v.name == name) {
        return Ok(view.columns.clone());
    }
    if let Some(table) = Table::ALL.iter().find(|t| t.name() == name) {
        let documented = table.columns().iter().map(|c| ColumnDoc {
            name: c.name.to_owned(),
            type_name: type_name(&c.data_type()),
            doc: c.doc.to_owned(),
        });
        return Ok(documented.collect());
    }
    let provider = session
        .context()
        .table(name)
        .await
        .map_err(|e| unknown(session, name, e.into()))?;
    let fields = provider.schema().fields().iter().map(|f| ColumnDoc {
        name: f.name().clone(),
        type_name: type_name(f.data_type()),
        doc: String::new(),
    });
    Ok(fields.collect())
}

/// `error` of a relation that is not there, with the name that was probably meant.
fn unknown(session: &Session, name: &str, error: Error) -> Error {
    let names = session.names().relations;
    let hint = match closest(name, names.iter().map(String::as_str)) {
        Some(found) => format!("did you mean {found}?"),
        None => "\\d lists what there is".to_owned(),
    };
    Error::Hinted {
        error: Box::new(error),
        hint,
    }
}
