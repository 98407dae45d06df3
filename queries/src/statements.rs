//! Cuts SQL text into statements at the semicolons that end them.

/// Statements of `text` in order, without their semicolons, and what stands behind the last semicolon.
///
/// Semicolons inside quotes, quoted names and comments do not count. Statements that are only blanks or
/// comments are left out.
pub fn split(text: &str) -> (Vec<String>, String) {
    let mut statements = Vec::new();
    let mut start = 0;
    let mut in_force = Within::Code;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|&(_, n)| n);
        in_force = match (in_force, c, next) {
            (Within::Code, ';', _) => {
                push(&mut statements, &text[start..at]);
                start = at + 1;
                Within::Code
            }
            (Within::Code, '\'' | '"', _) => Within::Quote(c),
            (Within::Quote(q), c, _) if q == c => Within::Code, // '' closes and opens again: the same to us
            (Within::Code, '-', Some('-')) => Within::Line,
            (Within::Line, '\n', _) => Within::Code,
            (Within::Code, '/', Some('*')) => {
                chars.next();
                Within::Block
            }
            (Within::Block, '*', Some('/')) => {
                chars.next();
                Within::Code
            }
            (within, ..) => within,
        };
    }
    let rest = &text[start..];
    let open = matches!(in_force, Within::Quote(_) | Within::Block);
    let rest = if open || has_code(rest) {
        rest.trim().to_owned()
    } else {
        String::new()
    };
    (statements, rest)
}

#[derive(Clone, Copy)]
enum Within {
    Code,
    Quote(char),
    Line,
    Block,
}

fn push(statements: &mut Vec<String>, text: &str) {
    if has_code(text) {
        statements.push(text.trim().to_owned());
    }
}

/// Whether anything but blanks and comments stands in `text`.
fn has_code(text: &str) -> bool {
    let mut rest = text.trim_start();
    loop {
        rest = if let Some(comment) = rest.strip_prefix("--") {
            comment.split_once('\n').map_or("", |(_, after)| after)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.split_once("*/").map_or("", |(_, after)| after)
        } else {
            return !rest.is_empty();
        }
        .trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (Vec<String>, String) {
        split(text)
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
    }

    #[test]
    fn semicolons_in_quotes_and_comments_do_not() {
        let text = "SELECT ';', 'it''s;', \"a;b\" -- one;\n, 2 /* ; ' */;\nSELECT 3;";
        let (statements, rest) = parts(text);
        assert_eq!(statements.len(), 2);
        assert!(statements[0].ends_with("/* ; ' */"));
        assert_eq!((statements[1].as_str(), rest.as_str()), ("SELECT 3", ""));
    }

    #[test]
    fn an_open_quote_or_comment_is_unfinished() {
        assert_eq!(parts("SELECT ';").1, "SELECT ';");
        assert_eq!(parts("/* ;").1, "/* ;");
    }
}
