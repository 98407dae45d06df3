//! The references that an operator reads, as a plan.

use datafusion::catalog::Session;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result, ScalarValue, plan_datafusion_err, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use futures::FutureExt;

/// `page_references` for which `condition` (SQL; empty: all) is true: `capture_id`, `seq`, and what else is in `columns`.
///
/// # Errors
/// When the condition is none.
pub(crate) fn references(
    session: &dyn Session,
    condition: &str,
    columns: &[&str],
) -> Result<LogicalPlan> {
    let order = ["capture_id", "seq"];
    let rest = columns.iter().copied().filter(|name| !order.contains(name));
    let columns: Vec<&str> = order.into_iter().chain(rest).collect();
    references_where(session, &columns.join(", "), condition)
}

/// `columns` of `page_references` for which `condition` (SQL; empty: all) is true.
///
/// # Errors
/// When the condition is none.
pub(crate) fn references_where(
    session: &dyn Session,
    columns: &str,
    condition: &str,
) -> Result<LogicalPlan> {
    let mut sql = format!("SELECT {columns} FROM page_references");
    if !condition.trim().is_empty() {
        sql.push_str(&format!(" WHERE {}", one_expression(condition)?));
    }
    statement(session, &sql)
}

/// Plans a statement.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn statement(session: &dyn Session, sql: &str) -> Result<LogicalPlan> {
    let Some(state) = session.as_any().downcast_ref::<SessionState>() else {
        return plan_err!("this function works in a pgtrace session only");
    };
    // Our tables are all in memory: nothing is waited for.
    let planned = state.create_logical_plan(sql).now_or_never();
    planned.unwrap_or_else(|| plan_err!("a table of another catalog cannot be used here"))
}

/// `text` as SQL, if it is one expression and no more.
fn one_expression(text: &str) -> Result<String> {
    let wrong = |e: &dyn std::fmt::Display| plan_datafusion_err!("condition {text:?}: {e}");
    let mut parser = Parser::new(&GenericDialect {})
        .try_with_sql(text)
        .map_err(|e| wrong(&e))?;
    let expression = parser.parse_expr().map_err(|e| wrong(&e))?;
    match parser.peek_token().token {
        Token::EOF => Ok(format!("({expression})")),
        other => Err(wrong(&format!(
            "expected one condition, found {other:?} behind it"
        ))),
    }
}

/// The same expression over columns without the name of their table, its texts as the columns of `refs` have them: what
/// an operator gives are views of texts, and the engine does not compare those with dictionaries.
pub(crate) fn over_references(filter: Expr) -> Result<Expr> {
    let transformed = filter.transform(|e| {
        Ok(match e {
            Expr::Column(c) => Transformed::yes(Expr::Column(Column::new_unqualified(c.name))),
            Expr::Literal(ScalarValue::Utf8View(text), meta) => {
                Transformed::yes(Expr::Literal(ScalarValue::Utf8(text), meta))
            }
            other => Transformed::no(other),
        })
    });
    Ok(transformed?.data)
}
