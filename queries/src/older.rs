//! Files of an older schema: what they lack reads as null, or as the default that the schema gives.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_adapter::{
    DefaultPhysicalExprAdapterFactory, PhysicalExprAdapter, PhysicalExprAdapterFactory,
    replace_columns_with_literals,
};
use pgtrace_ingest::older;
use pgtrace_ingest::schema::{Table, fill};

/// Fits expressions over a table to each of its files. The engine does most of it: it casts types
/// and puts null for a column that is missing, but it refuses if that column may not be null.
#[derive(Debug)]
pub(crate) struct OlderFiles(pub(crate) Table);

impl PhysicalExprAdapterFactory for OlderFiles {
    fn create(&self, table: SchemaRef, file: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let defaults = self.defaults(&file)?;
        let rest = DefaultPhysicalExprAdapterFactory.create(table, file)?;
        if defaults.is_empty() {
            return Ok(rest);
        }
        Ok(Arc::new(WithDefaults { defaults, rest }))
    }
}

impl OlderFiles {
    /// Values of the columns that `file` lacks and that have a default.
    fn defaults(&self, file: &Schema) -> Result<HashMap<&'static str, ScalarValue>> {
        let columns = self.0.columns().iter();
        let lacks = columns.filter(|c| file.column_with_name(c.name).is_none());
        let with_default = lacks.filter(|c| fill(self.0, c.name).is_some());
        let value = |c: &pgtrace_ingest::schema::Column| {
            let one = older::missing(self.0, c, 1)?;
            Ok((c.name, ScalarValue::try_from_array(&one, 0)?))
        };
        with_default.map(value).collect()
    }
}

#[derive(Debug)]
struct WithDefaults {
    defaults: HashMap<&'static str, ScalarValue>,
    rest: Arc<dyn PhysicalExprAdapter>,
}

impl PhysicalExprAdapter for WithDefaults {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        self.rest
            .rewrite(replace_columns_with_literals(expr, &self.defaults)?)
    }
}
