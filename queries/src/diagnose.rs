//! Where in a statement an error is, and what was probably meant.

use std::fmt;
use std::ops::Range;

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;

use crate::Error;
use crate::error::closest;
use crate::keywords;
use crate::lexer::{Kind, Piece, pieces};
use crate::session::Session;

/// The line of a statement that an error is about, with the word marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// Its number, from 1.
    pub line: usize,
    /// The line, or the part of it around the word.
    text: String,
    /// Characters before the word, and of it.
    before: usize,
    width: usize,
}

/// Characters of a line that are shown; of a longer one, those around the word.
const SHOWN: usize = 120;

impl Excerpt {
    /// The line of `text` that holds the bytes `at`.
    pub fn new(text: &str, at: &Range<usize>) -> Excerpt {
        let start = text[..at.start].rfind('\n').map_or(0, |n| n + 1);
        let end = text[at.start..]
            .find('\n')
            .map_or(text.len(), |n| at.start + n);
        // A tab or the like would move the mark away from its word.
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let line: Vec<char> = text[start..end].chars().map(plain).collect();
        let before = text[start..at.start].chars().count();
        let width = text[at.start..at.end.min(end)].chars().count().max(1);
        let (mut from, mut to) = (0, line.len());
        if line.len() > SHOWN {
            from = before.saturating_sub(SHOWN / 2);
            to = line.len().min(from + SHOWN);
        }
        let dots = |there: bool| if there { ".." } else { "" };
        let shown: String = line[from..to].iter().collect();
        Excerpt {
            line: text[..start].matches('\n').count() + 1,
            text: format!("{}{shown}{}", dots(from > 0), dots(to < line.len())),
            before: before - from + dots(from > 0).len(),
            width: width.min(SHOWN),
        }
    }

    /// The line, and the line below it with the mark.
    pub(crate) fn lines(&self) -> (String, String, String) {
        let number = self.line.to_string();
        let bar = " ".repeat(number.len());
        (
            format!("  {number} | {}", self.text),
            format!("  {bar} | {:1$}", "", self.before),
            "^".repeat(self.width),
        )
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, below, mark) = self.lines();
        write!(f, "{line}\n{below}{mark}")
    }
}

/// Adds to `error` of the statement `sql` where it is and what can be done, as far as that is known.
pub fn explain(session: &Session, sql: &str, error: Error) -> Error {
    let Error::Query(cause) = &error else {
        return session.hint(error);
    };
    let found = Found::of(session, sql, cause);
    let excerpt = found.at.map(|at| Excerpt::new(sql, &at));
    let error = match excerpt {
        Some(excerpt) => Error::At {
            error: Box::new(error),
            excerpt,
        },
        None if found.hint.is_none() => return session.hint(error),
        None => error,
    };
    match found.hint {
        Some(hint) => Error::Hinted {
            error: Box::new(error),
            hint,
        },
        None => error,
    }
}

/// What is known about an error.
#[derive(Default)]
struct Found {
    /// Bytes of the statement.
    at: Option<Range<usize>>,
    hint: Option<String>,
}

impl Found {
    fn of(session: &Session, sql: &str, error: &DataFusionError) -> Found {
        let root = error.find_root();
        let span = error.diagnostic().and_then(|d| d.span);
        let near = span.and_then(|s| byte_of(sql, s.start.line, s.start.column));
        let word = |name: &str| word(sql, name, near.unwrap_or(0));
        if let DataFusionError::SchemaError(schema, _) = root {
            return match schema.as_ref() {
                SchemaError::FieldNotFound {
                    field,
                    valid_fields,
                } => {
                    let at = word(&field.name);
                    let known = valid_fields.iter().map(|c| c.name.as_str());
                    let hint = suggestion(closest(&field.name, known));
                    Found {
                        hint: hint.or_else(|| string_meant(sql, at.as_ref()?, &field.name)),
                        at,
                    }
                }
                SchemaError::AmbiguousReference { field } => Found {
                    at: word(&field.name),
                    hint: Some("put the table's name or alias before it".to_owned()),
                },
                _ => Found::default(),
            };
        }
        let text = root.strip_backtrace();
        let names = session.names();
        let quoted = |before: &str| Some(text.split_once(before)?.1.split_once('\'')?.0);
        if let Some(name) = quoted("table function '") {
            return Found {
                at: word(name),
                hint: suggestion(closest(name, names.table_functions())),
            };
        }
        if let Some(name) = quoted("table '").filter(|_| text.contains("not found")) {
            let name = name.rsplit('.').next().unwrap_or(name);
            let hint = suggestion(closest(name, names.relations()));
            return Found {
                at: word(name),
                hint: hint.or(Some("SHOW TABLES lists what there is".to_owned())),
            };
        }
        if let Some(name) = quoted("Invalid function '") {
            let hint = suggestion(closest(name, names.functions()));
            return Found {
                at: word(name),
                hint: hint.or(Some("SHOW FUNCTIONS lists what there is".to_owned())),
            };
        }
        if matches!(root, DataFusionError::SQL(..)) {
            return syntax(sql, &text, &names);
        }
        Found {
            at: near.and_then(|at| piece_at(sql, at)).map(|p| p.range()),
            hint: None,
        }
    }
}

fn suggestion(name: Option<&str>) -> Option<String> {
    name.map(|name| format!("did you mean {name}?"))
}

/// Names of a session's things, to find the one that was meant.
pub(crate) struct Names {
    pub(crate) relations: Vec<String>,
    pub(crate) functions: Vec<String>,
    pub(crate) table_functions: Vec<String>,
}

impl Names {
    fn relations(&self) -> impl Iterator<Item = &str> + Clone {
        self.relations.iter().map(String::as_str)
    }

    fn functions(&self) -> impl Iterator<Item = &str> + Clone {
        self.functions.iter().map(String::as_str)
    }

    fn table_functions(&self) -> impl Iterator<Item = &str> + Clone {
        self.table_functions.iter().map(String::as_str)
    }

    fn has(&self, name: &str) -> bool {
        let mut all = self.relations().chain(self.functions());
        all.any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// The parser says where it stopped; what is misspelt may stand before it.
fn syntax(sql: &str, text: &str, names: &Names) -> Found {
    let place = text.rsplit_once(" at Line: ").and_then(|(_, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        let digits = column.find(|c: char| !c.is_ascii_digit());
        let column = &column[..digits.unwrap_or(column.len())];
        byte_of(sql, line.parse().ok()?, column.parse().ok()?)
    });
    let end = sql.trim_end().len();
    let at = place.filter(|&at| at < end);
    let Some(at) = at.filter(|_| !text.contains("found: EOF")) else {
        // The statement ends too early: the mark stands behind it.
        return Found {
            at: Some(end..end),
            hint: None,
        };
    };
    let code = || pieces(sql).filter(Piece::is_code);
    let stopped = code().find(|p| p.range().contains(&at));
    let misspelt = |piece: &Piece<'_>| {
        let unknown = piece.kind == Kind::Word
            && piece.text.len() > 2
            && !keywords::is_keyword(piece.text)
            && !names.has(piece.text);
        closest(piece.text, keywords::words()).filter(|_| unknown)
    };
    let before = code().take_while(|p| p.at < at).last();
    let found = before.iter().chain(&stopped);
    let found = found.filter_map(|piece| Some((piece.range(), misspelt(piece)?)));
    match found.clone().next() {
        Some((at, keyword)) => Found {
            at: Some(at),
            hint: suggestion(Some(keyword)),
        },
        None => Found {
            at: stopped.map(|p| p.range()).or(Some(at..at)),
            hint: None,
        },
    }
}

/// `"/a"` is a name, not a string: who compares a column with it meant a string.
fn string_meant(sql: &str, at: &Range<usize>, name: &str) -> Option<String> {
    sql[at.clone()]
        .starts_with('"')
        .then(|| format!("a string stands in single quotes: '{name}'"))
}

/// Where `name` stands in `sql` as a word or quoted name: the first place from `from` on, else the first.
fn word(sql: &str, name: &str, from: usize) -> Option<Range<usize>> {
    let is_it = |p: &Piece<'_>| match p.kind {
        Kind::Word => p.text.eq_ignore_ascii_case(name),
        Kind::Name => p.text.trim_matches(['"', '`']) == name,
        _ => false,
    };
    let places = || pieces(sql).filter(is_it);
    let found = places().find(|p| p.at >= from).or_else(|| places().next());
    found.map(|p| p.range())
}

fn piece_at(sql: &str, at: usize) -> Option<Piece<'_>> {
    pieces(sql).find(|p| p.range().contains(&at) && p.is_code())
}

/// The byte at a line and a column, both from 1.
fn byte_of(sql: &str, line: u64, column: u64) -> Option<usize> {
    let line = usize::try_from(line).ok()?.checked_sub(1)?;
    let column = usize::try_from(column).ok()?.checked_sub(1)?;
    let starts = std::iter::once(0).chain(sql.match_indices('\n').map(|(at, _)| at + 1));
    let start = starts.clone().nth(line)?;
    let skipped = sql[start..].chars().take(column).map(char::len_utf8);
    Some(start + skipped.sum::<usize>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stands_below_the_word() {
        let sql = "SELECT é,\n\tpge\nFROM refs";
        let at = word(sql, "pge", 0).unwrap_or_default();
        let excerpt = Excerpt::new(sql, &at);
        assert_eq!(excerpt.to_string(), "  2 |  pge\n    |  ^^^");
    }

    #[test]
    fn long_lines_are_cut_around_the_word() {
        let sql = format!("SELECT {} nope {}", "x, ".repeat(99), "y, ".repeat(99));
        let at = word(&sql, "nope", 0).unwrap_or_default();
        let shown = Excerpt::new(&sql, &at).to_string();
        let (line, mark) = shown.split_once('\n').unwrap_or_default();
        let column = line.find("nope");
        assert!(column.is_some() && mark.find('^') == column, "{shown}");
        assert!(line.len() < 140, "{line}");
    }

    #[test]
    fn places_are_bytes() {
        assert_eq!(byte_of("é1\nx", 1, 2), Some(2));
        assert_eq!(byte_of("é1\nx", 2, 1), Some(4));
        assert_eq!(byte_of("a", 0, 0), None);
        assert_eq!(byte_of("a", 7, 1), None);
    }
}
