//! The words of SQL that people type: offered, coloured, and suggested where one is misspelt.

use datafusion::sql::sqlparser::keywords::{
    ALL_KEYWORDS, ALL_KEYWORDS_INDEX, RESERVED_FOR_TABLE_ALIAS,
};

/// What completion offers.
pub(crate) const PHRASES: [&str; 58] = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP BY",
    "ORDER BY",
    "HAVING",
    "QUALIFY",
    "LIMIT",
    "OFFSET",
    "JOIN",
    "LEFT JOIN",
    "CROSS JOIN",
    "ON",
    "USING",
    "AS",
    "AND",
    "OR",
    "NOT",
    "IN",
    "EXISTS",
    "BETWEEN",
    "LIKE",
    "ILIKE",
    "IS NULL",
    "IS NOT NULL",
    "NULLS LAST",
    "DISTINCT",
    "UNION ALL",
    "EXCEPT",
    "INTERSECT",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "CAST",
    "INTERVAL",
    "TIMESTAMP",
    "WITH",
    "OVER",
    "PARTITION BY",
    "ROWS BETWEEN",
    "DESC",
    "ASC",
    "EXPLAIN",
    "EXPLAIN ANALYZE",
    "SHOW TABLES",
    "SHOW FUNCTIONS",
    "SHOW ALL",
    "DESCRIBE",
    "CREATE VIEW",
    "CREATE TABLE",
    "DROP VIEW",
    "DROP TABLE",
    "COPY",
    "SET",
    "FILTER",
    "VALUES",
];

/// The single words of [`PHRASES`].
pub(crate) fn words() -> impl Iterator<Item = &'static str> + Clone {
    PHRASES.iter().flat_map(|phrase| phrase.split(' '))
}

/// Whether the engine's parser has such a word.
pub(crate) fn is_keyword(word: &str) -> bool {
    ALL_KEYWORDS
        .binary_search(&word.to_uppercase().as_str())
        .is_ok()
}

/// Whether it is one of [`words`]: the parser's keywords are many, `M` and `PATH` among them.
pub(crate) fn is_common(word: &str) -> bool {
    words().any(|w| w.eq_ignore_ascii_case(word))
}

/// Whether it goes on with the statement behind the name of a table, and is no alias of it.
pub(crate) fn is_no_alias(word: &str) -> bool {
    let found = ALL_KEYWORDS.binary_search(&word.to_uppercase().as_str());
    let keyword = found.ok().and_then(|at| ALL_KEYWORDS_INDEX.get(at));
    keyword.is_some_and(|k| RESERVED_FOR_TABLE_ALIAS.contains(k))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_known_in_any_case() {
        assert!(words().all(is_keyword));
        assert!(is_keyword("select") && !is_keyword("refs"));
        assert!(is_no_alias("where") && !is_no_alias("m"));
        assert!(is_common("by") && !is_common("m"));
    }
}
