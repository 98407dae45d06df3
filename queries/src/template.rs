//! Views with arguments: `FROM mrc('pid = 42')`.
//!
//! A view's file may list arguments (`-- Arguments:`) and use them as `$name`. The view is then a table function, too;
//! where every argument has a default, its bare name is the view with all of them.

use std::sync::Arc;

use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue, plan_datafusion_err, plan_err};
use datafusion::datasource::ViewTable;
use datafusion::logical_expr::Expr;
use datafusion::prelude::SessionContext;

use crate::operators::statement;
use crate::views::{Argument, View};

/// A view that is called with arguments.
#[derive(Debug)]
struct Template(View);

/// Makes the views with arguments known as table functions.
pub(crate) fn register(ctx: &SessionContext, views: &[View]) {
    for view in views.iter().filter(|v| !v.arguments.is_empty()) {
        ctx.register_udtf(&view.name, Arc::new(Template(view.clone())));
    }
}

impl TableFunctionImpl for Template {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let Template(view) = self;
        let given = args.exprs();
        if given.len() > view.arguments.len() {
            return plan_err!(
                "{} takes at most {} arguments: {}",
                view.name,
                view.arguments.len(),
                usage(view)
            );
        }
        let value = |(i, argument): (usize, &Argument)| match given.get(i) {
            Some(Expr::Literal(value, _)) => literal(value, argument)
                .map_err(|e| plan_datafusion_err!("{}: {e}: {}", view.name, usage(view))),
            Some(other) => plan_err!(
                "{}: {} has to be a constant, found {other}",
                view.name,
                argument.name
            ),
            None => match &argument.default {
                Some(default) => Ok(default.clone()),
                None => plan_err!("{} needs {}: {}", view.name, argument.name, usage(view)),
            },
        };
        let values = view
            .arguments
            .iter()
            .enumerate()
            .map(value)
            .collect::<Result<Vec<_>>>()?;
        let plan = statement(
            args.session(),
            &filled(view.select(), &view.arguments, &values),
        )?;
        Ok(Arc::new(ViewTable::new(plan, None)))
    }
}

/// How a view is called: `mrc_sampled(rate, [condition])`.
pub(crate) fn usage(view: &View) -> String {
    let one = |a: &Argument| match a.default {
        Some(_) => format!("[{}]", a.name),
        None => a.name.clone(),
    };
    let arguments: Vec<_> = view.arguments.iter().map(one).collect();
    format!("{}({})", view.name, arguments.join(", "))
}

/// The view's statement with its defaults; `None`: some argument has none.
pub(crate) fn with_defaults(view: &View) -> Option<String> {
    let defaults = view
        .arguments
        .iter()
        .map(|a| a.default.clone())
        .collect::<Option<Vec<_>>>()?;
    Some(filled(&view.sql, &view.arguments, &defaults))
}

/// `sql` with values, which are SQL, in place of `$name`. Each place is filled once: a value is not looked into.
fn filled(sql: &str, arguments: &[Argument], values: &[String]) -> String {
    let mut parts = sql.split('$');
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(part.len());
        match arguments.iter().position(|a| a.name == part[..end]) {
            Some(i) => filled.push_str(&values[i]),
            None => filled.extend(["$", &part[..end]]),
        }
        filled.push_str(&part[end..]);
    }
    filled
}

/// A value as SQL, if it is of the argument's type.
fn literal(value: &ScalarValue, argument: &Argument) -> std::result::Result<String, String> {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let text = value.try_as_str();
    let found = match argument.type_name.as_str() {
        _ if value.is_null() => Some("NULL".to_owned()),
        "text" => text.flatten().map(quoted),
        "any" => Some(text.flatten().map_or_else(|| value.to_string(), quoted)),
        // A number.
        _ => (text.is_none() && value.data_type().is_numeric()).then(|| value.to_string()),
    };
    found.ok_or_else(|| {
        format!(
            "{} is of type {}, found {value}",
            argument.name, argument.type_name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argument(name: &str, type_name: &str) -> Argument {
        Argument {
            name: name.into(),
            type_name: type_name.into(),
            default: None,
            doc: String::new(),
        }
    }

    #[test]
    fn places_are_filled_once() {
        let arguments = [argument("a", "text"), argument("ab", "text")];
        let filled = filled(
            "$a, $ab$a $c",
            &arguments,
            &["'$ab'".to_owned(), "2".to_owned()],
        );
        assert_eq!(filled, "'$ab', 2'$ab' $c");
    }

    #[test]
    fn values_are_sql_of_the_right_type() {
        let text = ScalarValue::from("it's");
        assert_eq!(
            literal(&text, &argument("a", "text")),
            Ok("'it''s'".to_owned())
        );
        assert_eq!(
            literal(&ScalarValue::from(7i64), &argument("a", "any")),
            Ok("7".to_owned())
        );
        assert_eq!(
            literal(&ScalarValue::from(0.5), &argument("a", "double")),
            Ok("0.5".to_owned())
        );
        assert!(literal(&text, &argument("a", "double")).is_err());
        assert!(literal(&ScalarValue::from(7i64), &argument("a", "text")).is_err());
    }
}
