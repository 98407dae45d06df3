//! The words of SQL that people type: offered, coloured, and suggested where one is misspelt.

use datafusion::sql::sqlparser::keywords::ALL_KEYWORDS;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_known_in_any_case() {
        assert!(words().all(is_keyword));
        assert!(is_keyword("select") && !is_keyword("refs"));
    }
}
