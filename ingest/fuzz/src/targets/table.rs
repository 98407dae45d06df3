//! Tables of other people, as text: between commas, and a JSON object a line.

use pgtrace_ingest::source::kind::{Kind, by_name};

use super::translated::translate;

/// First byte: what the file is said to be, and whether unknown columns are left out.
pub(super) fn text(data: &[u8]) {
    let Some((&first, bytes)) = data.split_first() else {
        return;
    };
    let from = match first % 3 {
        0 => by_name("csv"),
        1 => by_name("ndjson"),
        _ => None,
    };
    let ignore = first & 0x40 != 0;
    let made = match translate(bytes, from, ignore) {
        Ok(made) => made,
        Err(words) => return assert!(!words.ends_with(": "), "{words}"),
    };
    let Some(made) = made else { return };
    assert_eq!(made.unread, 0, "a table is read whole or not at all");
    if let Some(rows) = rows(bytes, from) {
        assert_eq!(made.refs.len(), rows);
    }
    if !ignore {
        let lenient = translate(bytes, from, true).expect("no stricter than before");
        let lenient = lenient.expect("of the same kind");
        assert_eq!(lenient.refs, made.refs);
    }
}

/// Rows of a file, where lines tell; `None`: a quote may have a line's end in it.
fn rows(bytes: &[u8], from: Option<&'static Kind>) -> Option<usize> {
    match from?.name {
        "ndjson" => {
            let lines = bytes.split(|b| *b == b'\n');
            Some(lines.filter(|line| !line.trim_ascii().is_empty()).count())
        }
        _ if bytes.contains(&b'"') => None,
        _ => {
            let lines = bytes.split(|b| b"\r\n".contains(b));
            let lines = lines.filter(|line| !line.is_empty()).count();
            Some(lines.saturating_sub(1))
        }
    }
}
