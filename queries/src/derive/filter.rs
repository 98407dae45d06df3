//! Which rows of `refs` are asked for.

use datafusion::logical_expr::{Expr, Like, col, lit};

use super::DeriveError;
use super::columns::Columns;
use crate::error::closest;
use crate::range::{SeqRange, TimeRange};

/// Events by name.
pub const EVENTS: [&str; 5] = ["fault", "retouch", "lookup", "insert", "evict"];
/// Kinds of objects by name.
pub const KINDS: [&str; 8] = [
    "file", "anon", "heap", "stack", "shmem", "hugetlb", "vdso", "other",
];
/// Accesses by name.
pub const ACCESSES: [&str; 3] = ["read", "write", "exec"];

/// What is asked for. All of it must be true of a row; of each list one entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// When.
    pub time: TimeRange,
    /// Which numbers.
    pub seq: SeqRange,
    /// Events, see [`EVENTS`].
    pub events: Vec<String>,
    /// Paths: `*` is any text, also with `/` in it, `?` any character.
    pub paths: Vec<String>,
    /// Kinds of objects, see [`KINDS`].
    pub kinds: Vec<String>,
    /// Objects, by number.
    pub objects: Vec<u64>,
    /// Processes.
    pub pids: Vec<u32>,
    /// Threads.
    pub tids: Vec<u32>,
    /// Users.
    pub uids: Vec<u32>,
    /// Commands, as paths.
    pub comms: Vec<String>,
    /// Accesses, see [`ACCESSES`].
    pub accesses: Vec<String>,
    /// Addresses: the first, and the one behind the last.
    pub addr: Option<(u64, u64)>,
    /// Conditions in SQL, of the columns of `refs` and those of [`Columns`].
    pub conditions: Vec<String>,
}

impl Filter {
    /// Whether nothing is asked for but time and numbers.
    pub(super) fn is_a_cut(&self) -> bool {
        let ranges = Filter {
            time: self.time,
            seq: self.seq,
            ..Filter::default()
        };
        *self == ranges
    }

    /// What is asked for, as people type it.
    pub fn words(&self) -> String {
        let mut words = Vec::new();
        let range = |from: Option<String>, to: Option<String>| {
            format!("{}..{}", from.unwrap_or_default(), to.unwrap_or_default())
        };
        if !self.time.is_open() {
            let end = |end: crate::range::Moment| match end {
                crate::range::Moment::After(ns) => format!("{}s", ns as f64 / 1e9),
                crate::range::Moment::At(ns) => format!("{ns} ns"),
            };
            words.push(format!(
                "time {}",
                range(self.time.from.map(end), self.time.to.map(end))
            ));
        }
        if !self.seq.is_open() {
            let end = |n: u64| n.to_string();
            words.push(format!(
                "seq {}",
                range(self.seq.from.map(end), self.seq.to.map(end))
            ));
        }
        let numbers = |list: &[u32]| list.iter().map(u32::to_string).collect::<Vec<_>>();
        let objects: Vec<String> = self.objects.iter().map(u64::to_string).collect();
        for (name, list) in [
            ("event", &self.events),
            ("path", &self.paths),
            ("kind", &self.kinds),
            ("object", &objects),
            ("pid", &numbers(&self.pids)),
            ("tid", &numbers(&self.tids)),
            ("uid", &numbers(&self.uids)),
            ("comm", &self.comms),
            ("access", &self.accesses),
        ] {
            if !list.is_empty() {
                words.push(format!("{name} {}", list.join(",")));
            }
        }
        if let Some((low, high)) = self.addr {
            words.push(format!("addr {low:#x}-{high:#x}"));
        }
        words.extend(self.conditions.iter().map(|c| format!("where {c}")));
        match words.is_empty() {
            true => "all rows".into(),
            false => words.join(", "),
        }
    }

    /// The same as an expression over the columns of `refs`; `None`: every row.
    pub(super) fn expr(
        &self,
        columns: &Columns,
        starts: &[(String, i64)],
    ) -> Result<Option<Expr>, DeriveError> {
        let texts =
            |list: &[String]| -> Vec<Expr> { list.iter().map(|t| lit(t.as_str())).collect() };
        let numbers = |list: &[u32]| -> Vec<Expr> { list.iter().map(|n| lit(*n)).collect() };
        let objects: Vec<Expr> = self.objects.iter().map(|n| lit(*n)).collect();
        let mut all: Vec<Expr> = Vec::new();
        all.extend(self.time.expr(starts));
        all.extend(self.seq.expr());
        for (name, list) in [
            ("event", texts(&self.events)),
            ("object_kind", texts(&self.kinds)),
            ("object_id", objects),
            ("pid", numbers(&self.pids)),
            ("tid", numbers(&self.tids)),
            ("uid", numbers(&self.uids)),
            ("access", texts(&self.accesses)),
        ] {
            if !list.is_empty() {
                all.push(col(name).in_list(list, false));
            }
        }
        for (name, list) in [("path", &self.paths), ("comm", &self.comms)] {
            all.extend(list.iter().map(|glob| like(name, glob)).reduce(Expr::or));
        }
        if let Some((low, high)) = self.addr {
            all.push(col("addr").gt_eq(lit(low)).and(col("addr").lt(lit(high))));
        }
        for sql in &self.conditions {
            all.push(columns.condition(sql)?);
        }
        Ok(all.into_iter().reduce(Expr::and))
    }
}

/// A text like a pattern.
fn like(column: &str, glob: &str) -> Expr {
    if !glob.contains(['*', '?']) {
        return col(column).eq(lit(glob));
    }
    let mut pattern = String::new();
    for c in glob.chars() {
        match c {
            '*' => pattern.push('%'),
            '?' => pattern.push('_'),
            '%' | '_' | '\\' => pattern.extend(['\\', c]),
            c => pattern.push(c),
        }
    }
    let (column, pattern) = (Box::new(col(column)), Box::new(lit(pattern)));
    Expr::Like(Like::new(false, column, pattern, None, false))
}

/// One of `known` names.
///
/// # Errors
/// It is none: what there is, and the near one.
pub fn known(text: &str, known: &[&str]) -> Result<String, String> {
    match known.contains(&text) {
        true => Ok(text.into()),
        false => {
            let near = closest(text, known.iter().copied());
            let near = near.map_or(String::new(), |n| format!("; did you mean {n}?"));
            Err(format!(
                "expected one of {}, found {text:?}{near}",
                known.join(", ")
            ))
        }
    }
}

/// Two addresses, `LOW-HIGH`.
///
/// # Errors
/// The text is none, in words.
pub fn addresses(text: &str) -> Result<(u64, u64), String> {
    let bad = |what: &str| Err(format!("expected {what}, found {text:?}"));
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    let pair = text.split_once('-');
    match pair.and_then(|(low, high)| number(low).zip(number(high))) {
        None => bad("two addresses like 0x7f0000000000-0x7f0000010000"),
        Some((low, high)) if low >= high => bad("a first address below the second"),
        Some(pair) => Ok(pair),
    }
}
