//! What a dataset is split by: expressions, their values, and the names of the folders they give.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{Expr, col};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use pgtrace_ingest::manifest::FileEntry;
use pgtrace_ingest::schema::Table;

use super::super::DeriveError;
use super::super::columns::Columns;
use super::super::recordings::Recording;
use crate::session::Session;

/// The longest name of a folder; file systems take 255 bytes.
const LONGEST: usize = 160;

/// What a dataset is split by.
pub(super) struct Keys {
    keys: Vec<One>,
    schema: SchemaRef,
    slice_rows: u64,
    by: String,
}

struct One {
    /// As folders are called.
    name: String,
    /// As the column is called while rows are sorted.
    column: String,
    expr: Expr,
    physical: Arc<dyn PhysicalExpr>,
    /// The number of the slice.
    is_slice: bool,
}

/// The values of the keys of a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(pub(super) Vec<ScalarValue>);

impl Key {
    /// That of a row.
    pub(super) fn of(columns: &[ArrayRef], row: usize) -> Result<Self> {
        let value = |column: &ArrayRef| {
            let value = ScalarValue::try_from_array(column, row)?;
            Ok(match value {
                // The same text, however it is stored.
                ScalarValue::Dictionary(_, text) => *text,
                value => value,
            })
        };
        Ok(Key(columns.iter().map(value).collect::<Result<_>>()?))
    }
}

impl Keys {
    pub(super) fn new(
        session: &Session,
        columns: &Columns,
        by: &[String],
    ) -> Result<Self, DeriveError> {
        let manifest = session.dataset().manifest();
        let mut keys = Vec::new();
        for text in by {
            // An object's number is its recording's own.
            if text == "object" {
                if manifest.captures.len() > 1 {
                    keys.push(("capture".to_owned(), col("capture_id")));
                }
                keys.push(("object".to_owned(), col("object_id")));
                continue;
            }
            let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            let name = if plain { text.as_str() } else { "key" };
            keys.push((name.to_owned(), columns.expression(text)?));
        }
        let refs = columns.refs();
        let one = |(i, (name, expr)): (usize, (String, Expr))| {
            let physical = session.context().create_physical_expr(expr.clone(), refs)?;
            if physical.data_type(refs.as_arrow())?.is_nested() {
                return Err(DeriveError::Expression {
                    sql: by.join(", "),
                    cause: "expected a number, a text or a time, found several values in one"
                        .into(),
                });
            }
            Ok(One {
                is_slice: name == "slice",
                name,
                column: format!("__key{i}"),
                expr,
                physical,
            })
        };
        Ok(Self {
            keys: keys
                .into_iter()
                .enumerate()
                .map(one)
                .collect::<Result<_, DeriveError>>()?,
            schema: Table::Refs.arrow_schema(),
            slice_rows: manifest.slice_rows.max(1),
            by: by.join(", "),
        })
    }

    /// What the dataset is split by, as it was given.
    pub(super) fn by(&self) -> &str {
        &self.by
    }

    /// The expressions, as columns called [`Keys::names`].
    pub(super) fn expressions(&self) -> impl Iterator<Item = Expr> {
        self.keys
            .iter()
            .map(|key| key.expr.clone().alias(&key.column))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.column.as_str())
    }

    /// Names as folders and lists have them.
    pub(super) fn titles(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.name.as_str())
    }

    /// The columns of `refs` that the keys are made of.
    pub(super) fn columns(&self) -> Vec<&'static str> {
        let needed = |name: &&str| {
            let mut keys = self.keys.iter();
            keys.any(|key| {
                collect_columns(&key.physical)
                    .iter()
                    .any(|c| c.name() == *name)
            })
        };
        let names = Table::Refs.columns().iter().map(|c| c.name);
        names.filter(needed).collect()
    }

    /// The values of the keys of rows with these columns.
    pub(super) fn evaluate(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let value = |key: &One| {
            let expr = reassign_expr_columns(Arc::clone(&key.physical), &batch.schema())?;
            expr.evaluate(batch)?.into_array(batch.num_rows())
        };
        self.keys.iter().map(value).collect()
    }

    /// The one key that all rows of a file have, if the manifest tells it.
    pub(super) fn by_manifest(
        &self,
        file: &FileEntry,
        recording: &Recording,
    ) -> Result<Option<Key>> {
        let one_slice = |s: pgtrace_ingest::manifest::Span<u64>| {
            s.min / self.slice_rows == s.max / self.slice_rows
        };
        let slice = file.seq.filter(|s| one_slice(*s)).map(|s| s.min);
        let same = |column: &str, seq: bool| {
            let pid = file.pid.filter(|s| s.min == s.max).map(|s| s.min);
            let value = match column {
                "capture_id" if !file.capture_id.is_empty() => {
                    let text = ScalarValue::from(file.capture_id.as_str());
                    ScalarValue::Dictionary(Box::new(DataType::Int32), Box::new(text))
                }
                "uid" => file.uid.filter(|s| s.min == s.max)?.min.into(),
                "pid" => pid?.into(),
                "upid" => recording.kin.only(pid?)?.into(),
                "object_id" => match file.objects.as_slice() {
                    [one] => one.object_id.into(),
                    _ => return None,
                },
                "seq" if seq => slice?.into(),
                _ => return None,
            };
            Some(value)
        };
        let mut values = Vec::new();
        for key in &self.keys {
            let mut fields = Vec::new();
            let mut columns = Vec::new();
            for column in collect_columns(&key.physical) {
                let Some(value) = same(column.name(), key.is_slice) else {
                    return Ok(None);
                };
                fields.push(self.schema.field_with_name(column.name())?.clone());
                columns.push(value.to_array()?);
            }
            if columns.is_empty() {
                return Ok(None);
            }
            let row =
                RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), columns)?;
            let expr = reassign_expr_columns(Arc::clone(&key.physical), &row.schema())?;
            values.push(expr.evaluate(&row)?.into_array(1)?);
        }
        Key::of(&values, 0).map(Some)
    }

    /// The name of the folder of a key: readable, safe in any file system and URL, and no other key's.
    pub(super) fn folder(&self, key: &Key) -> String {
        let parts = self
            .keys
            .iter()
            .zip(&key.0)
            .map(|(one, value)| match value.is_null() {
                true => format!("{}-null", one.name),
                false => format!("{}={}", one.name, safe(&value.to_string())),
            });
        let name = parts.collect::<Vec<_>>().join(",");
        match name.len() > LONGEST {
            true => {
                let hash = hash(&name);
                let short: String = name.chars().take(LONGEST - hash.len() - 1).collect();
                format!("{short}-{hash}")
            }
            false => name,
        }
    }
}

/// A text with plain letters only. Where that changes it, its hash tells it from others.
fn safe(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    if !text.is_empty() && text.len() <= LONGEST / 2 && text.chars().all(plain) {
        return text.to_owned();
    }
    let letters = text
        .chars()
        .take(LONGEST / 2)
        .map(|c| if plain(c) { c } else { '_' });
    format!("{}-{}", letters.collect::<String>(), hash(text))
}

/// 64 bits of FNV-1a: to tell names apart, not to keep anything safe.
fn hash(text: &str) -> String {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_safe_and_no_two_are_the_same() {
        for text in ["4242", "sort", "a.b-c_d+e"] {
            assert_eq!(safe(text), text);
        }
        assert_eq!(
            safe("/data/x y"),
            format!("_data_x_y-{}", hash("/data/x y"))
        );
        let odd = [
            "", "/", ".", "..", "a/b", "a_b", "a b", "\u{e9}", "null", "x=y", "%2F",
        ];
        let long = "x".repeat(5000);
        let longer = "x".repeat(5001);
        let names: Vec<String> = odd
            .iter()
            .copied()
            .chain([&*long, &*longer])
            .map(safe)
            .collect();
        for (i, name) in names.iter().enumerate() {
            assert!(
                !name.is_empty() && name.len() < LONGEST && name.is_ascii(),
                "{name}"
            );
            assert!(!name.contains(['/', '%', '=', ' ', '\0']), "{name}");
            assert!(!names[..i].contains(name), "{name}");
        }
    }
}
