//! What completion and colours know, read from the session.

use std::collections::BTreeMap;

use datafusion::logical_expr::Documentation;

use super::Shell;
use super::complete::{Catalog, Relation};
use crate::describe;

impl Shell<'_> {
    /// Reads all names anew, as a statement or command may have changed them.
    pub(super) fn refresh(&self) {
        let listed = describe::list(self.session).into_iter();
        let summaries: BTreeMap<String, String> = listed.map(|l| (l.name, l.summary)).collect();
        let names = self.session.names();
        let mut relations = BTreeMap::new();
        for name in names.relations {
            // What cannot be read now has no columns to offer.
            let columns = describe::columns(self.session, &name);
            let columns = self.runtime.block_on(columns).unwrap_or_default();
            let columns = columns.into_iter().map(|c| (c.name, c.doc)).collect();
            let summary = summaries.get(&name).cloned().unwrap_or_default();
            relations.insert(name, Relation { summary, columns });
        }
        let table_functions = names.table_functions.into_iter().map(|name| {
            let summary = summaries.get(&name).cloned();
            (name, summary.unwrap_or_else(|| "table function".to_owned()))
        });
        let catalog = Catalog {
            relations,
            functions: self.functions(),
            table_functions: table_functions.collect(),
            variables: self.values(),
        };
        *self.catalog.lock().unwrap_or_else(|e| e.into_inner()) = catalog;
    }

    /// The same for the variables alone.
    pub(super) fn refresh_variables(&self) {
        let mut catalog = self.catalog.lock().unwrap_or_else(|e| e.into_inner());
        catalog.variables = self.values();
    }

    fn values(&self) -> BTreeMap<String, String> {
        let all = self.variables.iter();
        all.map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
    }

    fn functions(&self) -> BTreeMap<String, String> {
        let state = self.session.context().state();
        let about = |kind: &str, text: Option<&Documentation>| match text {
            // The first sentence; the rest is for a page.
            Some(text) => {
                let first = text.description.split(". ").next().unwrap_or_default();
                first.split_whitespace().collect::<Vec<_>>().join(" ")
            }
            None => kind.to_owned(),
        };
        let scalar = state.scalar_functions().iter();
        let scalar = scalar.map(|(name, f)| (name, about("function", f.documentation())));
        let aggregate = state.aggregate_functions().iter();
        let aggregate = aggregate.map(|(n, f)| (n, about("aggregate function", f.documentation())));
        let window = state.window_functions().iter();
        let window = window.map(|(n, f)| (n, about("window function", f.documentation())));
        let all = scalar.chain(aggregate).chain(window);
        all.map(|(name, about)| (name.clone(), about)).collect()
    }
}
