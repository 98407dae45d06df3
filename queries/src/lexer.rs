//! Cuts SQL text, finished or not, into pieces: what is code, what is quoted, what is a comment.
//!
//! The engine's own tokenizer refuses an open quote, and half of what is typed is unfinished: statements are
//! split, variables put in, words completed and coloured by these pieces. A property test holds them to the
//! engine's tokens where the text is whole.

use std::ops::Range;

/// What a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// White space.
    Blank,
    /// A keyword, or a name without quotes.
    Word,
    /// A number.
    Number,
    /// A string: `'..'`, `$$..$$`, `$tag$..$tag$`.
    Text,
    /// A quoted name: `".."` or with backticks.
    Name,
    /// `-- ..` to the end of the line, or `/* .. */`.
    Comment,
    /// One other character, `::` or `//`.
    Symbol,
}

/// A part of the text; the pieces of a text are the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) kind: Kind,
    /// Byte where it begins.
    pub(crate) at: usize,
    pub(crate) text: &'a str,
    /// Whether a quote or comment was closed; true for all others.
    pub(crate) closed: bool,
}

impl Piece<'_> {
    pub(crate) fn range(&self) -> Range<usize> {
        self.at..self.at + self.text.len()
    }

    /// Whether it means something to the engine.
    pub(crate) fn is_code(&self) -> bool {
        !matches!(self.kind, Kind::Blank | Kind::Comment)
    }
}

/// All pieces of `text` in order.
pub(crate) fn pieces(text: &str) -> Pieces<'_> {
    Pieces {
        text,
        at: 0,
        escapes: false,
    }
}

/// Goes through the pieces of a text.
pub(crate) struct Pieces<'a> {
    text: &'a str,
    at: usize,
    /// Whether a backslash is special in a string that begins here: E'it\'s'.
    escapes: bool,
}

impl Pieces<'_> {
    /// Goes on at byte `at`, which must be the beginning of a character.
    pub(crate) fn skip_to(&mut self, at: usize) {
        (self.at, self.escapes) = (at, false);
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let rest = self.text.get(self.at..)?;
        let (kind, len, closed) = next(rest, rest.chars().next()?, self.escapes);
        let (at, text) = (self.at, &rest[..len]);
        self.at += len;
        self.escapes = kind == Kind::Word && text.eq_ignore_ascii_case("e");
        Some(Piece {
            kind,
            at,
            text,
            closed,
        })
    }
}

/// Kind and length of the piece that `rest` begins with, and whether it is closed.
fn next(rest: &str, first: char, escapes: bool) -> (Kind, usize, bool) {
    let while_ = |is: fn(char) -> bool| rest.find(|c| !is(c)).unwrap_or(rest.len());
    match first {
        '\'' => quoted(rest, '\'', escapes).kind(Kind::Text),
        '"' | '`' => quoted(rest, first, false).kind(Kind::Name),
        '-' if rest.starts_with("--") => {
            let len = rest.find('\n').map_or(rest.len(), |at| at + 1);
            (Kind::Comment, len, rest[..len].ends_with('\n'))
        }
        '/' if rest.starts_with("/*") => block(rest).kind(Kind::Comment),
        '$' => match dollar(rest) {
            Some(found) => found.kind(Kind::Text),
            None => (Kind::Symbol, 1, true),
        },
        ':' if rest.starts_with("::") => (Kind::Symbol, 2, true),
        '/' if rest.starts_with("//") => (Kind::Symbol, 2, true), // a division: `//*` begins no comment
        c if c.is_whitespace() => (Kind::Blank, while_(char::is_whitespace), true),
        // The engine takes `.5` for a number wherever it stands.
        '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
            (Kind::Number, number(rest), true)
        }
        c if c.is_ascii_digit() => (Kind::Number, number(rest), true),
        c if is_word(c) || matches!(c, '@' | '#') => {
            let len = while_(|c| is_word(c) || matches!(c, '@' | '#' | '$'));
            (Kind::Word, len, true)
        }
        c => (Kind::Symbol, c.len_utf8(), true),
    }
}

/// Length of a number as the engine reads it: what follows at once is a word, and may hold a `$` (`1c$$` is two pieces).
fn number(rest: &str) -> usize {
    let run = |from: usize, is: fn(&u8) -> bool| {
        from + rest.as_bytes()[from..].iter().take_while(|b| is(b)).count()
    };
    if rest.starts_with("0x") {
        return run(2, u8::is_ascii_hexdigit);
    }
    let is = |at: usize, bytes: &[u8]| rest.as_bytes().get(at).is_some_and(|b| bytes.contains(b));
    let mut at = run(0, u8::is_ascii_digit);
    if is(at, b".") {
        at = run(at + 1, u8::is_ascii_digit);
    }
    if is(at, b"eE") {
        let digits = at + 1 + usize::from(is(at + 1, b"+-"));
        let end = run(digits.min(rest.len()), u8::is_ascii_digit);
        at = if end > digits { end } else { at };
    }
    at + usize::from(is(at, b"L"))
}

/// Whether `c` may stand in a name without quotes.
pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// How long something delimited is: with its end, or to the end of the text.
enum Delimited {
    Closed(usize),
    Open(usize),
}

impl Delimited {
    fn kind(self, kind: Kind) -> (Kind, usize, bool) {
        match self {
            Delimited::Closed(len) => (kind, len, true),
            Delimited::Open(len) => (kind, len, false),
        }
    }
}

/// A doubled quote is one inside.
fn quoted(rest: &str, quote: char, escapes: bool) -> Delimited {
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if escapes && c == '\\' {
            chars.next();
        } else if c == quote && chars.next_if(|&(_, next)| next == quote).is_none() {
            return Delimited::Closed(at + quote.len_utf8());
        }
    }
    Delimited::Open(rest.len())
}

/// Comments nest.
fn block(rest: &str) -> Delimited {
    let mut depth = 0usize;
    let mut at = 0;
    while at < rest.len() {
        match rest.as_bytes().get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return Delimited::Closed(at);
                }
            }
            _ => at += 1,
        }
    }
    Delimited::Open(rest.len())
}

/// `$tag$..$tag$`; `None`: a placeholder such as `$1`.
fn dollar(rest: &str) -> Option<Delimited> {
    let tag = rest[1..].find(|c| !is_word(c))? + 1;
    if !rest[tag..].starts_with('$') {
        return None;
    }
    let tag = &rest[..=tag];
    Some(match rest[tag.len()..].find(tag) {
        Some(at) => Delimited::Closed(tag.len() + at + tag.len()),
        None => Delimited::Open(rest.len()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Whitespace};
    use proptest::prelude::*;

    use super::*;

    fn kinds(text: &str) -> Vec<(Kind, &str)> {
        pieces(text).map(|p| (p.kind, p.text)).collect()
    }

    #[test]
    fn pieces_are_told_apart() {
        use Kind::{Blank, Comment, Name, Number, Symbol, Text, Word};
        assert_eq!(
            kinds("a1::b:'it''s' 0x1F\"q\"\"\"--c\n/*/*;*/*/$$;$$ $t$'$$'$t$"),
            [
                (Word, "a1"),
                (Symbol, "::"),
                (Word, "b"),
                (Symbol, ":"),
                (Text, "'it''s'"),
                (Blank, " "),
                (Number, "0x1F"),
                (Name, "\"q\"\"\""),
                (Comment, "--c\n"),
                (Comment, "/*/*;*/*/"),
                (Text, "$$;$$"),
                (Blank, " "),
                (Text, "$t$'$$'$t$"),
            ]
        );
        assert_eq!(
            kinds("1e5$$a$$ 2c$$ 3.e-1L"),
            [
                (Number, "1e5"),
                (Text, "$$a$$"),
                (Blank, " "),
                (Number, "2"),
                (Word, "c$$"),
                (Blank, " "),
                (Number, "3.e-1L"),
            ]
        );
        assert_eq!(kinds(r"E'it\'s'"), [(Word, "E"), (Text, r"'it\'s'")]);
    }

    #[test]
    fn what_is_open_says_so() {
        for open in ["'a", "\"a", "/* /* */", "$$ ; $", "'a''", "E'\\'"] {
            assert!(!pieces(open).last().unwrap().closed, "{open}");
        }
        assert!(pieces("'a'").last().unwrap().closed);
    }

    /// Quoted text, quoted names and comments of the engine's tokenizer, by where they begin.
    fn of_the_engine(text: &str) -> Option<Vec<usize>> {
        let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location();
        let lines: Vec<usize> = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        let at = |line: u64, column: u64| {
            let from = lines[line as usize - 1];
            let skipped = text[from..].chars().take(column as usize - 1);
            from + skipped.map(char::len_utf8).sum::<usize>()
        };
        let kept = tokens.ok()?.into_iter().filter(|t| match &t.token {
            Token::SingleQuotedString(_) | Token::DollarQuotedString(_) => true,
            Token::Word(w) => w.quote_style.is_some(),
            Token::Whitespace(w) => {
                !matches!(w, Whitespace::Space | Whitespace::Tab | Whitespace::Newline)
            }
            _ => false,
        });
        Some(
            kept.map(|t| at(t.span.start.line, t.span.start.column))
                .collect(),
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn pieces_are_the_whole_text(text in "\\PC*") {
            let whole: String = pieces(&text).map(|p| p.text).collect();
            prop_assert_eq!(whole, text);
        }

        /// Letters before a quote that change its meaning (`x''`) are left out: there the engine's token begins.
        #[test]
        fn quotes_and_comments_are_the_engines(
            text in "([cdfgyzL;:,.é+] ?|1e5|3e-|0x1|'|''|\"|--|\n|/\\*|\\*/|\\$\\$|`| |[0-9]){0,24}"
        ) {
            if let Some(expected) = of_the_engine(&text) {
                let ours: Vec<usize> = pieces(&text)
                    .filter(|p| matches!(p.kind, Kind::Text | Kind::Name | Kind::Comment))
                    .map(|p| p.at)
                    .collect();
                prop_assert_eq!(ours, expected, "{:?}", text);
            }
        }
    }
}
