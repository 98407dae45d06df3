//! The tables as they were published: whoever changes a column sees it here.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fmt::Write;

use pgtrace_ingest::schema::Table;

#[test]
fn tables_are_what_was_published() {
    let mut found = String::new();
    for table in Table::ALL {
        writeln!(found, "{table}: {}", table.doc()).unwrap();
        for c in table.columns() {
            let null = if c.nullable { ", may be null" } else { "" };
            writeln!(found, "  {} {:?}{null}: {}", c.name, c.kind, c.doc).unwrap();
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/schema.txt");
    if std::env::var_os("PGTRACE_ACCEPT").is_some() {
        std::fs::write(path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == expected,
        "the tables changed; if that is meant: PGTRACE_ACCEPT=1 cargo test -p pgtrace-ingest --test schema"
    );
}
