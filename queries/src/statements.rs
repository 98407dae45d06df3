//! Cuts SQL text into statements at the semicolons that end them, and into the shell's commands between them.

use crate::lexer::{Piece, pieces};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its text, without a statement's semicolon and without blanks around it.
    pub text: String,
    /// Line of the whole text on which it begins, from 1.
    pub line: usize,
    /// Whether it is a command, which begins with a backslash and ends with its line.
    pub command: bool,
}

/// What [`split`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Split {
    /// Statements and commands in order. Statements that are only blanks or comments are left out.
    pub items: Vec<Item>,
    /// What stands behind the last semicolon, if it is more than blanks and whole comments.
    pub rest: Option<Item>,
}

impl Split {
    /// All items; a last statement needs no semicolon.
    pub fn all(self) -> impl Iterator<Item = Item> {
        self.items.into_iter().chain(self.rest)
    }
}

/// Cuts `text`. Semicolons inside quotes, quoted names and comments do not count.
pub fn split(text: &str) -> Split {
    let mut split = Split::default();
    let mut begun = None; // where the statement's first word is
    let mut pieces = pieces(text);
    while let Some(piece) = pieces.next() {
        match (piece.text, begun) {
            (";", from) => {
                let statement = from.map(|from| item(text, from, piece.at, false));
                split.items.extend(statement);
                begun = None;
            }
            ("\\", None) => {
                let line = text[piece.at..].find('\n');
                let end = line.map_or(text.len(), |length| piece.at + length);
                split.items.push(item(text, piece.at, end, true));
                pieces.skip_to(end); // a quote in a command is nobody else's
            }
            (_, None) if piece.is_code() || is_open(&piece) => begun = Some(piece.at),
            _ => {}
        }
    }
    split.rest = begun.map(|from| item(text, from, text.len(), false));
    split
}

/// Whether nobody has closed this quote or comment.
fn is_open(piece: &Piece<'_>) -> bool {
    !piece.closed && !piece.text.starts_with("--")
}

fn item(text: &str, from: usize, end: usize, command: bool) -> Item {
    Item {
        text: text[from..end].trim_end().to_owned(),
        line: text[..from].matches('\n').count() + 1,
        command,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (Vec<String>, String) {
        let split = split(text);
        let items = split.items.into_iter().map(|i| i.text).collect();
        (items, split.rest.map(|r| r.text).unwrap_or_default())
    }

    #[test]
    fn semicolons_end_statements() {
        assert_eq!(
            parts("SELECT 1; SELECT 2"),
            (vec!["SELECT 1".into()], "SELECT 2".into())
        );
        assert_eq!(
            parts(" ;; -- nothing\n ; /* ; */ "),
            (vec![], String::new())
        );
        assert_eq!(parts("-- nothing"), (vec![], String::new()));
    }

    #[test]
    fn semicolons_in_quotes_and_comments_do_not() {
        let text =
            "SELECT ';', 'it''s;', \"a;b\", $$;$$ -- one;\n, 2 /* ; ' /* */ ; */;\nSELECT 3;";
        let (statements, rest) = parts(text);
        assert_eq!(statements.len(), 2);
        assert!(statements[0].ends_with("*/ ; */"));
        assert_eq!((statements[1].as_str(), rest.as_str()), ("SELECT 3", ""));
    }

    #[test]
    fn an_open_quote_or_comment_is_unfinished() {
        assert_eq!(parts("SELECT ';").1, "SELECT ';");
        assert_eq!(parts("/* ;").1, "/* ;");
        assert_eq!(parts("SELECT 1; 'a").1, "'a");
    }

    #[test]
    fn commands_end_with_their_line() {
        let text = "\\echo it's; fine\n-- c\nSELECT 1\n+ 2; \\d refs\n\\x";
        let found = split(text).items.into_iter();
        let found: Vec<_> = found.map(|i| (i.line, i.command, i.text)).collect();
        let expected = [
            (1, true, "\\echo it's; fine"),
            (3, false, "SELECT 1\n+ 2"),
            (4, true, "\\d refs"),
            (5, true, "\\x"),
        ];
        assert_eq!(found, expected.map(|(l, c, t)| (l, c, t.to_owned())));
    }
}
