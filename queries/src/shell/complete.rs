//! Completion of statements: relations, columns, functions, keywords, variables. That of commands is in
//! [`complete_command`](super::complete_command).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use reedline::{Completer, CompletionResult, Span, Suggestion};

use super::complete_command;
use crate::keywords::{PHRASES, is_common, is_no_alias};
use crate::lexer::{Kind, Piece, pieces};

/// A table or view: its line of documentation, and its columns with theirs.
#[derive(Debug, Default)]
pub(crate) struct Relation {
    pub(crate) summary: String,
    pub(crate) columns: Vec<(String, String)>,
}

/// All that has a name.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    /// Tables and views by name.
    pub(crate) relations: BTreeMap<String, Relation>,
    /// Functions by name, with their line of documentation.
    pub(crate) functions: BTreeMap<String, String>,
    /// Those that stand behind FROM.
    pub(crate) table_functions: BTreeMap<String, String>,
    /// Variables with their values.
    pub(crate) variables: BTreeMap<String, String>,
}

/// The catalog of a shell, whose statements change it.
pub(crate) type Shared = Arc<Mutex<Catalog>>;

/// Completes the word before the cursor.
pub(crate) struct SqlCompleter {
    pub(crate) catalog: Shared,
}

/// What a word may become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) text: String,
    pub(crate) about: String,
    /// Whether a blank follows it.
    pub(crate) ends: bool,
}

impl Completer for SqlCompleter {
    fn complete(&mut self, line: &str, pos: usize) -> CompletionResult {
        let catalog = self.catalog.lock().unwrap_or_else(|e| e.into_inner());
        let (start, found) = catalog.candidates(line, pos);
        let suggestion = |c: Candidate| Suggestion {
            value: c.text,
            description: Some(c.about).filter(|a| !a.is_empty()),
            span: Span { start, end: pos },
            append_whitespace: c.ends,
            ..Suggestion::default()
        };
        CompletionResult::fresh(found.into_iter().map(suggestion).collect::<Vec<_>>())
    }
}

impl Catalog {
    /// What the word that ends at `pos` may become, and where that word begins.
    pub(crate) fn candidates(&self, line: &str, pos: usize) -> (usize, Vec<Candidate>) {
        let before = line.get(..pos).unwrap_or(line);
        if before.trim_start().starts_with('\\') {
            return complete_command::candidates(self, before);
        }
        let ends_at = |p: &Piece<'_>| p.range().end == before.len();
        let last = pieces(before).last();
        let (start, word) = match last {
            Some(p) if matches!(p.kind, Kind::Text | Kind::Comment) && !p.closed => {
                return (pos, Vec::new()); // nothing has a name in there
            }
            Some(p) if p.kind == Kind::Word && ends_at(&p) => (p.at, p.text),
            _ => (before.len(), ""),
        };
        let statement = Statement::around(line, start);
        let mut offers = Offers::new(word);
        let head: Vec<Piece<'_>> = pieces(&before[..start]).filter(Piece::is_code).collect();
        let touching = head.last().filter(|p| p.range().end == start);
        match (touching.map(|p| p.text), head.last().map(|p| p.text)) {
            (Some("."), _) => {
                let qualifier = head.iter().rev().nth(1).map_or("", |p| p.text);
                if let Some(relation) = statement.relation(self, qualifier) {
                    offers.columns(relation);
                }
            }
            (Some(":"), _) => {
                for (name, value) in &self.variables {
                    offers.add(name, value, true);
                }
            }
            (_, previous) if statement.wants_relation(&head, previous) => {
                offers.relations(self);
                for (name, about) in &self.table_functions {
                    offers.add(&format!("{name}("), about, false);
                }
            }
            _ => {
                // Columns of the relations the statement names; of all when it names none yet.
                let all = self.relations.keys().map(String::as_str);
                let named = statement.relations.iter().map(|(_, name)| *name);
                let used: Vec<&str> = if statement.relations.is_empty() {
                    all.collect()
                } else {
                    named.collect()
                };
                for relation in used.iter().filter_map(|name| self.relations.get(*name)) {
                    offers.columns(relation);
                }
                for (alias, name) in statement.relations.iter().filter(|(a, n)| a != n) {
                    offers.add(&format!("{alias}."), name, false);
                }
                offers.relations(self);
                if !word.is_empty() {
                    offers.keywords();
                    for (name, about) in &self.functions {
                        offers.add(&format!("{name}("), about, false);
                    }
                }
            }
        }
        (start, offers.found)
    }
}

/// What the statement around the cursor names.
struct Statement<'a> {
    /// Its relations, by alias.
    relations: Vec<(&'a str, &'a str)>,
}

impl<'a> Statement<'a> {
    fn around(line: &'a str, at: usize) -> Self {
        let code: Vec<Piece<'a>> = pieces(line).filter(Piece::is_code).collect();
        let begin = code.iter().rposition(|p| p.text == ";" && p.at < at);
        let code = &code[begin.map_or(0, |i| i + 1)..];
        let end = code.iter().position(|p| p.text == ";");
        let code = &code[..end.unwrap_or(code.len())];
        let mut relations = Vec::new();
        let mut in_from = false;
        for (i, piece) in code.iter().enumerate() {
            let text = |i: usize| code.get(i).map_or("", |p: &Piece<'a>| p.text);
            let is = |word: &str| piece.text.eq_ignore_ascii_case(word);
            if is("from") || is("join") {
                in_from = true;
            } else if !(in_from && piece.text == ",") {
                // Behind the first name of a list comes an alias or a comma; a keyword ends it.
                in_from &= !is_no_alias(piece.text);
                continue;
            }
            let name = text(i + 1);
            let next = i + if text(i + 2).eq_ignore_ascii_case("as") {
                3
            } else {
                2
            };
            let alias = code
                .get(next)
                .filter(|p| p.kind == Kind::Word && !is_no_alias(p.text));
            relations.push((alias.map_or(name, |p| p.text), name));
        }
        Statement { relations }
    }

    /// The relation that `qualifier` stands for.
    fn relation<'c>(&self, catalog: &'c Catalog, qualifier: &str) -> Option<&'c Relation> {
        let named = self.relations.iter().find(|(alias, _)| *alias == qualifier);
        catalog
            .relations
            .get(named.map_or(qualifier, |(_, name)| *name))
    }

    /// Whether a relation comes next behind `head`, whose last word is `previous`.
    fn wants_relation(&self, head: &[Piece<'_>], previous: Option<&str>) -> bool {
        let previous = previous.unwrap_or_default().to_lowercase();
        if ["from", "join", "describe", "desc", "view", "table"].contains(&previous.as_str()) {
            return previous != "desc" || head.len() == 1;
        }
        // FROM a, |
        let keyword = head
            .iter()
            .rev()
            .find(|p| is_common(p.text) && !p.text.eq_ignore_ascii_case("as"));
        previous == "," && keyword.is_some_and(|p| p.text.eq_ignore_ascii_case("from"))
    }
}

/// Candidates for one word.
pub(super) struct Offers<'a> {
    word: &'a str,
    pub(super) found: Vec<Candidate>,
}

impl<'a> Offers<'a> {
    pub(super) fn new(word: &'a str) -> Self {
        Offers {
            word,
            found: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, text: &str, about: &str, ends: bool) {
        let begins = text.to_lowercase().starts_with(&self.word.to_lowercase());
        if begins && !self.found.iter().any(|c| c.text == text) {
            self.found.push(Candidate {
                text: text.to_owned(),
                about: about.to_owned(),
                ends,
            });
        }
    }

    fn columns(&mut self, relation: &Relation) {
        for (column, about) in &relation.columns {
            self.add(column, about, true);
        }
    }

    pub(super) fn relations(&mut self, catalog: &Catalog) {
        for (name, relation) in &catalog.relations {
            self.add(name, &relation.summary, true);
        }
    }

    /// In the case that is being typed.
    fn keywords(&mut self) {
        let small = self.word.starts_with(char::is_lowercase);
        for phrase in PHRASES {
            if small {
                self.add(&phrase.to_lowercase(), "", true);
            } else {
                self.add(phrase, "", true);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::shell) fn catalog() -> Catalog {
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
        let names = |names: &[&str]| {
            let names = names.iter().map(|n| ((*n).to_owned(), String::new()));
            names.collect::<BTreeMap<_, _>>()
        };
        Catalog {
            relations: relations
                .into_iter()
                .map(|(name, r)| (name.to_owned(), r))
                .collect(),
            functions: names(&["log2"]),
            table_functions: names(&["parts"]),
            variables: names(&["pid", "path"]),
        }
    }

    /// Candidates at the `|` of a line.
    pub(in crate::shell) fn names(line: &str) -> Vec<String> {
        let pos = line.find('|').unwrap_or(line.len());
        let found = catalog().candidates(&line.replace('|', ""), pos).1;
        found.into_iter().map(|c| c.text).collect()
    }

    #[test]
    fn relations_follow_from() {
        for (line, expected) in [
            ("SELECT * FROM pa|", ["page_irf", "parts("].as_slice()),
            ("SELECT * FROM refs, r|", &["refs"]),
            ("SELECT * FROM refs r JOIN pag|", &["page_irf"]),
            ("describe r|", &["refs"]),
        ] {
            assert_eq!(names(line), expected, "{line}");
        }
    }

    #[test]
    fn columns_are_those_of_the_named_relations() {
        let none = [""; 0];
        for (line, expected) in [
            ("SELECT irf| FROM refs", none.as_slice()),
            ("SELECT irf| FROM page_irf", &["irf_rate"]),
            ("SELECT r.| FROM refs AS r, page_irf i", &["seq", "page"]),
            ("SELECT m.p| FROM refs r, page_irf m WHERE 1", &["page"]),
            ("SELECT page_irf.i|", &["irf_rate"]),
            ("SELECT * FROM refs r WHERE re|", &["refs"]),
            (
                "SELECT * FROM refs r WHERE |",
                &["seq", "page", "r.", "page_irf", "refs"],
            ),
            (
                "SELECT 1 FROM page_irf; SELECT se| FROM refs",
                &["seq", "select", "set"],
            ),
            ("SELECT irf| FROM refs; SELECT 1 FROM page_irf", &none),
        ] {
            assert_eq!(names(line), expected, "{line}");
        }
    }

    #[test]
    fn functions_keywords_and_variables() {
        assert_eq!(names("SELECT lo|"), ["log2("]);
        assert_eq!(names("sele|"), ["select"]);
        assert_eq!(names("SELECT 1 FROM refs WHERE pid = :p|"), ["path", "pid"]);
    }

    #[test]
    fn nothing_is_offered_in_strings_and_comments() {
        assert_eq!(names("SELECT 'se|"), [""; 0]);
        assert_eq!(names("SELECT 1 -- se|"), [""; 0]);
    }

    #[test]
    fn the_cursor_may_stand_behind_any_character() {
        assert_eq!(catalog().candidates("SELECT 'é' FROM ", 17).0, 17);
        assert_eq!(catalog().candidates("é", 2).0, 0);
        assert_eq!(catalog().candidates("", 0).0, 0);
    }
}
