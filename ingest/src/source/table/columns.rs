//! The columns that a table may have, what may stand in them, and what holds where they are missing.

use std::path::Path;

use super::super::error::SourceError;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// A whole number between two.
    Number(u64, u64),
    /// A moment from 1970 on.
    Time,
    /// A text of so many bytes at most.
    Text(usize),
    /// True or false.
    Flag,
}

/// Largest page index there is.
const MAX_PAGE: u64 = (1 << 52) - 1;
/// Largest pid: Linux gives no larger one, and `upid` has no room for it.
const MAX_PID: u64 = (1 << 22) - 1;
const MAX_U32: u64 = u32::MAX as u64;

/// Every column of `refs`: its name, what it holds, and what holds where the column is missing or a cell is empty.
#[rustfmt::skip]
pub(super) const COLUMNS: [(&str, Type, &str); 19] = [
    ("capture_id", Type::Text(256), "not kept: the recording is named by the table's content; must be the same in all rows"),
    ("seq", Type::Number(0, u64::MAX), "not kept: rows are numbered from 0 in their order; must rise, in all rows or in none"),
    ("ts", Type::Time, "one microsecond a row from 1970 on; in all rows or in none"),
    ("cpu", Type::Number(0, u16::MAX as u64), "0"),
    ("uid", Type::Number(0, MAX_U32), "0"),
    ("pid", Type::Number(0, MAX_PID), "that of upid; without it a number for each command, from 1; else 1; in all rows or in none"),
    ("tid", Type::Number(0, MAX_U32), "pid"),
    ("upid", Type::Number(0, u64::MAX), "pid; in all rows or in none"),
    ("comm", Type::Text(16), "as in the row of the process before, null if there is none"),
    ("path", Type::Text(65_000), "null"),
    ("object_kind", Type::Text(16), "file with a path, else anon"),
    ("event", Type::Text(16), "fault"),
    ("access", Type::Text(16), "null"),
    ("major", Type::Flag, "false for fault and retouch, else null"),
    ("addr", Type::Number(0, u64::MAX), "null"),
    ("ip", Type::Number(0, u64::MAX), "null"),
    ("object_id", Type::Number(1, MAX_U32), "a number for each path and kind, or for each process and kind; in all rows or in none"),
    ("page", Type::Number(0, MAX_PAGE), "addr / 4096 where there is no path"),
    ("page_order", Type::Number(0, 31), "0"),
];

/// Position in [`COLUMNS`].
pub(super) fn index(name: &str) -> Option<usize> {
    COLUMNS.iter().position(|c| c.0 == name)
}

/// Which columns of a table are read: for each of `names` its place in [`COLUMNS`], `None`: it is left out.
///
/// # Errors
/// A column that `refs` does not have (unless they are to be ignored), one that stands twice, or too few.
pub(super) fn choose(
    path: &Path,
    names: &[&str],
    ignore_unknown: bool,
) -> Result<Vec<Option<usize>>, SourceError> {
    let mut chosen = Vec::with_capacity(names.len());
    for name in names {
        let found = index(name);
        if found.is_none() && !ignore_unknown {
            return Err(unknown(path, name));
        }
        if found.is_some() && chosen.contains(&found) {
            return Err(SourceError::format(
                path,
                "each column once",
                format!("column {name} twice"),
            ));
        }
        chosen.push(found);
    }
    let has = |name| chosen.contains(&index(name));
    if has("addr") || has("page") && (has("path") || has("object_id")) {
        return Ok(chosen);
    }
    let found = match names {
        [] => "no columns".into(),
        names => format!("only {}", shown(&names.join(", "))),
    };
    Err(SourceError::format(path, LEAST, found))
}

/// What every row needs.
pub(super) const LEAST: &str = "page and path (or object_id), or addr";

/// The error that a column is none of `refs`.
pub(super) fn unknown(path: &Path, name: &str) -> SourceError {
    SourceError::UnknownColumn {
        path: path.into(),
        column: shown(name),
        near: near(name),
    }
}

/// A text of the input in a message: not all of it, if it is long.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("{}..", text.get(..at).unwrap_or_default()),
        None => text.into(),
    }
}

/// Columns that `name` may be meant for: other words for them, and spelling mistakes.
fn near(name: &str) -> Vec<&'static str> {
    let name = name.trim().to_lowercase();
    let meant = match name.as_str() {
        "time" | "timestamp" | "t" => "ts",
        "address" | "vaddr" | "va" => "addr",
        "file" | "filename" | "file_name" => "path",
        "offset" | "page_offset" | "pgoff" | "block" | "lba" => "page",
        "command" | "process" | "cmd" => "comm",
        "rw" | "op" | "type" => "access",
        "pc" | "rip" | "eip" => "ip",
        "thread" => "tid",
        "user" => "uid",
        "inode" | "object" => "object_id",
        _ => "",
    };
    let columns = || COLUMNS.iter().map(|c| c.0);
    // A third of the letters may be wrong; only the nearest is told.
    let far = |c: &str| Some(distance(c, &name)).filter(|d| *d <= c.len().max(3) / 3);
    let nearest = columns().filter_map(far).min();
    columns()
        .filter(|c| *c == meant || nearest.is_some() && far(c) == nearest)
        .collect()
}

/// Letters to change, add or leave out.
fn distance(a: &str, b: &str) -> usize {
    if b.len() > 32 {
        return b.len();
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut next = vec![i + 1];
        for ((j, y), pair) in b.bytes().enumerate().zip(row.windows(2)) {
            let [above_left, above] = pair else { continue };
            let left = next.get(j).copied().unwrap_or(0);
            next.push(
                (above_left + usize::from(x != y))
                    .min(above + 1)
                    .min(left + 1),
            );
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Table;

    #[test]
    fn the_columns_are_those_of_refs() {
        let refs = Table::Refs.columns().iter().map(|c| c.name);
        assert!(refs.eq(COLUMNS.iter().map(|c| c.0)));
    }

    #[test]
    fn near_names_are_found() {
        assert_eq!(distance("path", "path"), 0);
        assert_eq!(distance("path", "paht"), 2);
        assert_eq!(distance("page", "pag"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(near("pge"), ["page"]);
        assert_eq!(near("Page"), ["page"]);
        assert_eq!(near("timestamp"), ["ts"]);
        assert_eq!(near("object-id"), ["object_id"]);
        assert!(near("weather").is_empty());
    }
}
