//! Variables of scripts and of the shell: `:name`, `:'name'`, `:"name"` in a statement, as psql has them.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::lexer::{Kind, Piece, is_word, pieces};

/// Variables with their values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, String>);

/// A statement uses a variable that has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownVariable {
    /// Its name.
    pub name: String,
    /// Where it stands in the statement, colon and quotes included.
    pub range: Range<usize>,
}

impl Variables {
    /// Reads `name=value`, as `--set` has it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<(String, String), String> {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| format!("expected NAME=VALUE, found {text:?}"))?;
        check(name)?;
        Ok((name.to_owned(), value.to_owned()))
    }

    /// Gives a variable a value.
    ///
    /// # Errors
    /// When `name` is none that a statement could use.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        check(name)?;
        self.0.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// Takes a variable away; whether there was one.
    pub fn unset(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    /// Names and values by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// `text` with every `:name` replaced by the value as it is, `:'name'` by a string literal of it, and
    /// `:"name"` by a quoted name. Text in quotes and comments stays as it is, and so do casts (`::`).
    ///
    /// # Errors
    /// The first variable without a value.
    pub fn expand(&self, text: &str) -> Result<String, UnknownVariable> {
        let mut expanded = String::with_capacity(text.len());
        let mut pieces = pieces(text).peekable();
        while let Some(piece) = pieces.next() {
            let variable = pieces.peek().filter(|_| piece.text == ":").copied();
            let Some((name, variable)) = variable.and_then(|v| Some((name(&v)?, v))) else {
                expanded.push_str(piece.text);
                continue;
            };
            pieces.next();
            let value = self.0.get(name).ok_or_else(|| UnknownVariable {
                name: name.to_owned(),
                range: piece.at..variable.range().end,
            })?;
            match variable.kind {
                Kind::Text => {
                    expanded.push_str(&format!("'{}'", value.replace('\'', "''")));
                }
                Kind::Name => {
                    expanded.push_str(&format!("\"{}\"", value.replace('"', "\"\"")));
                }
                _ => expanded.push_str(value),
            }
        }
        Ok(expanded)
    }
}

/// The name in what stands behind a colon, if it is one.
fn name<'a>(piece: &Piece<'a>) -> Option<&'a str> {
    let name = match piece.kind {
        Kind::Word => piece.text,
        Kind::Text => piece.text.strip_prefix('\'')?.strip_suffix('\'')?,
        Kind::Name => piece.text.strip_prefix('"')?.strip_suffix('"')?,
        _ => return None,
    };
    check(name).is_ok().then_some(name)
}

fn check(name: &str) -> Result<(), String> {
    let begins = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
    if begins && name.chars().all(is_word) {
        return Ok(());
    }
    Err(format!(
        "{name:?} cannot name a variable: letters, digits and _, not a digit first"
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn variables(all: &[(&str, &str)]) -> Variables {
        let mut variables = Variables::default();
        for (name, value) in all {
            variables.set(name, value).unwrap();
        }
        variables
    }

    #[test]
    fn three_ways_to_use_one() {
        let v = variables(&[("p", "it's"), ("n", "4"), ("c", "a\"b")]);
        assert_eq!(
            v.expand("SELECT :\"c\" FROM t WHERE x = :'p' LIMIT :n")
                .unwrap(),
            "SELECT \"a\"\"b\" FROM t WHERE x = 'it''s' LIMIT 4"
        );
        assert_eq!(v.expand("(:n)::int, :n::int").unwrap(), "(4)::int, 4::int");
    }

    #[test]
    fn what_only_looks_like_one_stays() {
        let v = variables(&[("n", "4")]);
        for text in [
            "a::n",
            "':n'",
            "\":n\"",
            "-- :n",
            "/* :n */",
            "$$:n$$",
            "x[1:2]",
            ": n",
            ":'no n'",
            "TIME '10:n'",
        ] {
            assert_eq!(v.expand(text).unwrap(), text);
        }
        // A value is put in once, whatever it looks like.
        assert_eq!(variables(&[("a", ":a")]).expand(":a").unwrap(), ":a");
    }

    #[test]
    fn an_unknown_one_is_pointed_at() {
        let unknown = variables(&[]).expand("LIMIT :'nö'").unwrap_err();
        assert_eq!(unknown.name, "nö");
        assert_eq!(&"LIMIT :'nö'"[unknown.range], ":'nö'");
    }

    #[test]
    fn assignments_are_read() {
        assert_eq!(
            Variables::parse("a=b=c").unwrap(),
            ("a".to_owned(), "b=c".to_owned())
        );
        assert_eq!(Variables::parse("a=").unwrap().1, "");
        for wrong in ["a", "=b", "1a=b", "a b=c"] {
            assert!(Variables::parse(wrong).is_err(), "{wrong}");
        }
    }

    /// A part of a statement: text to leave alone, or a use of a variable with what comes of it.
    fn part() -> impl Strategy<Value = (String, String)> {
        let same = |s: String| (s.clone(), s);
        prop_oneof![
            "[ :nv']{0,6}".prop_map(move |s| same(format!("'{}'", s.replace('\'', "''")))),
            "[ :nv']{0,6}".prop_map(move |s| same(format!("\"{s}\""))),
            "[ :nv'\"]{0,6}".prop_map(move |s| same(format!("--{s}\n"))),
            "[ :nv'\"]{0,6}".prop_map(move |s| same(format!("/*{s}*/"))),
            "[ :nv'\"]{0,6}".prop_map(move |s| same(format!("$${s}$$"))),
            Just(same("x::nv ".to_owned())),
            Just(same(" a + 1, ".to_owned())),
            Just((" :nv ".to_owned(), " v'w ".to_owned())),
            Just((" :'nv' ".to_owned(), " 'v''w' ".to_owned())),
            Just((" :\"nv\" ".to_owned(), " \"v'w\" ".to_owned())),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn quotes_and_comments_never_change(parts in prop::collection::vec(part(), 0..12)) {
            // A blank between parts: '' '' would be one string otherwise.
            let text = |which: fn(&(String, String)) -> &str| {
                parts.iter().map(which).collect::<Vec<_>>().join(" ")
            };
            let expanded = variables(&[("nv", "v'w")]).expand(&text(|p| &p.0));
            prop_assert_eq!(expanded, Ok(text(|p| &p.1)));
        }

        #[test]
        fn without_colons_nothing_changes(text in "[^:]*") {
            prop_assert_eq!(Variables::default().expand(&text), Ok(text));
        }
    }
}
