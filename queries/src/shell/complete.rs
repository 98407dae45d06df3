//! Completion: tables and views after FROM and JOIN, elsewhere columns, functions and keywords too.

use std::collections::BTreeMap;

use reedline::{Completer, CompletionResult, Span, Suggestion};

const KEYWORDS: [&str; 44] = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP BY",
    "ORDER BY",
    "HAVING",
    "LIMIT",
    "OFFSET",
    "JOIN",
    "LEFT JOIN",
    "ON",
    "USING",
    "AS",
    "AND",
    "OR",
    "NOT",
    "IN",
    "BETWEEN",
    "LIKE",
    "ILIKE",
    "IS NULL",
    "IS NOT NULL",
    "DISTINCT",
    "UNION ALL",
    "EXCEPT",
    "INTERSECT",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "WITH",
    "OVER",
    "PARTITION BY",
    "DESC",
    "ASC",
    "EXPLAIN",
    "EXPLAIN ANALYZE",
    "SHOW TABLES",
    "DESCRIBE",
    "COPY",
    "SET",
    "FILTER",
    "VALUES",
];

/// A table or view: its line of documentation, and its columns with theirs.
pub(crate) struct Relation {
    pub(crate) summary: String,
    pub(crate) columns: Vec<(String, String)>,
}

/// Completes the word before the cursor.
pub(crate) struct SqlCompleter {
    /// By name.
    pub(crate) relations: BTreeMap<String, Relation>,
    /// Names of functions.
    pub(crate) functions: Vec<String>,
}

impl SqlCompleter {
    /// What the word that ends at `pos` may become, with a description, and where that word begins.
    fn candidates(&self, line: &str, pos: usize) -> (usize, Vec<(String, String)>) {
        let before = line.get(..pos).unwrap_or(line);
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '\\';
        let start = before.rfind(|c| !is_word(c)).map_or(0, |at| {
            at + before[at..].chars().next().map_or(1, char::len_utf8)
        });
        let word = before[start..].to_lowercase();
        let previous = before[..start]
            .split_whitespace()
            .next_back()
            .unwrap_or_default()
            .to_lowercase();

        let mut found: Vec<(String, String)> = Vec::new();
        let mut offer = |name: &str, about: &str| {
            if name.to_lowercase().starts_with(&word) && !found.iter().any(|(n, _)| n == name) {
                found.push((name.to_owned(), about.to_owned()));
            }
        };
        let wants_relation = ["from", "join", "\\d", "describe"].contains(&previous.as_str());
        if !wants_relation {
            // Columns of the relations the statement names; of all when it names none yet.
            let mentions = |name: &str| {
                line.split(|c| !is_word(c))
                    .any(|w| w.eq_ignore_ascii_case(name))
            };
            let named = self.relations.keys().any(|name| mentions(name));
            let in_use = self
                .relations
                .iter()
                .filter(|(name, _)| !named || mentions(name));
            for (column, about) in in_use.flat_map(|(_, r)| &r.columns) {
                offer(column, about);
            }
        }
        for (name, relation) in &self.relations {
            offer(name, &relation.summary);
        }
        if !wants_relation && !word.is_empty() {
            KEYWORDS.iter().for_each(|k| offer(k, ""));
            self.functions.iter().for_each(|f| offer(f, "function"));
        }
        (start, found)
    }
}

impl Completer for SqlCompleter {
    fn complete(&mut self, line: &str, pos: usize) -> CompletionResult {
        let (start, found) = self.candidates(line, pos);
        let suggestion = |(value, about): (String, String)| Suggestion {
            value,
            description: Some(about).filter(|a| !a.is_empty()),
            span: Span { start, end: pos },
            append_whitespace: true,
            ..Suggestion::default()
        };
        CompletionResult::fresh(found.into_iter().map(suggestion).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completer() -> SqlCompleter {
        let relation = |columns: &[&str]| Relation {
            summary: String::new(),
            columns: columns
                .iter()
                .map(|c| ((*c).to_owned(), String::new()))
                .collect(),
        };
        let relations = [
            ("refs", relation(&["seq", "page"])),
            ("page_irf", relation(&["page", "irf_rate"])),
        ];
        SqlCompleter {
            relations: relations
                .into_iter()
                .map(|(name, r)| (name.to_owned(), r))
                .collect(),
            functions: vec!["log2".to_owned()],
        }
    }

    fn names(line: &str, pos: usize) -> Vec<String> {
        completer()
            .candidates(line, pos)
            .1
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    }

    #[test]
    fn relations_follow_from() {
        assert_eq!(names("SELECT * FROM pa", 16), ["page_irf"]);
        assert_eq!(names("\\d r", 4), ["refs"]);
    }

    #[test]
    fn columns_are_those_of_the_named_relation() {
        assert_eq!(names("SELECT irf FROM refs", 10), Vec::<String>::new());
        assert_eq!(names("SELECT irf FROM page_irf", 10), ["irf_rate"]);
        assert_eq!(names("SELECT lo", 9), ["log2"]);
    }

    #[test]
    fn the_cursor_may_stand_behind_any_character() {
        assert_eq!(completer().candidates("SELECT 'é' FROM ", 17).0, 17);
        assert_eq!(completer().candidates("é", 2).0, 0);
    }
}
