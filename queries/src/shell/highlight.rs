//! Colours of the line being typed.

use reedline::{Color, Highlighter, StyledText};

use super::complete::Shared;
use crate::keywords::is_common;
use crate::lexer::{Kind, pieces};

/// Colours SQL by what it is made of.
pub(super) struct SqlHighlighter {
    pub(super) catalog: Shared,
}

impl Highlighter for SqlHighlighter {
    fn highlight(&self, line: &str, _cursor: usize) -> StyledText {
        let mut styled = StyledText::new();
        if line.trim_start().starts_with('\\') {
            let end = line.trim_end().find(char::is_whitespace);
            let (name, rest) = line.split_at(end.unwrap_or(line.len()));
            styled.push((Color::Purple.bold(), name.to_owned()));
            styled.push((Color::Default.normal(), rest.to_owned()));
            return styled;
        }
        let catalog = self.catalog.lock().unwrap_or_else(|e| e.into_inner());
        for piece in pieces(line) {
            let style = match piece.kind {
                Kind::Word if catalog.relations.contains_key(piece.text) => Color::Cyan.bold(),
                Kind::Word if is_common(piece.text) => Color::Blue.bold(),
                Kind::Text if piece.closed => Color::Green.normal(),
                Kind::Number => Color::Yellow.normal(),
                Kind::Comment => Color::DarkGray.normal(),
                _ if !piece.closed => Color::Red.normal(),
                _ => Color::Default.normal(),
            };
            styled.push((style, piece.text.to_owned()));
        }
        styled
    }
}
