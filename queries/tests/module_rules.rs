//! The rules of `sql/`: what a view's file looks like and what it may use.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use pgtrace_ingest::schema::Table;
use pgtrace_sql::describe::type_name;
use pgtrace_sql::views::{self, Argument, View};

/// Packages from the bottom up: a view uses views of its own package and of those before it.
const LAYERS: [&str; 7] = [
    "base",
    "cut",
    "irf",
    "relation",
    "reuse",
    "working_set",
    "phase",
];

/// Views that may use a private or higher view all the same: (user, used, why).
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

fn words(view: &View) -> BTreeSet<String> {
    let code = view
        .sql
        .lines()
        .map(|l| l.split("--").next().unwrap_or_default());
    let code = code.collect::<Vec<_>>().join("\n");
    let words = code.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    words.filter(|w| !w.is_empty()).map(str::to_owned).collect()
}

#[test]
fn every_view_has_a_worked_example() {
    for view in views::all().unwrap() {
        let sql = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
        let example = sql.join(&view.package).join(format!("{}.slt", view.name));
        let text = std::fs::read_to_string(&example)
            .unwrap_or_else(|e| panic!("{}: {e}", example.display()));
        assert!(
            text.contains(&view.name),
            "{} does not ask {}",
            example.display(),
            view.name
        );
        assert!(
            text.contains("query "),
            "{} asks nothing",
            example.display()
        );
    }
}

#[test]
fn the_file_name_is_the_view_name_and_unique() {
    let mut seen: BTreeSet<String> = Table::ALL.iter().map(|t| t.name().to_owned()).collect();
    for view in views::all().unwrap() {
        let creates = view.sql.lines().filter(|l| l.starts_with("CREATE "));
        let creates: Vec<_> = creates.collect();
        assert_eq!(
            creates,
            [format!("CREATE VIEW {} AS", view.name)],
            "{}/{}",
            view.package,
            view.name
        );
        assert!(seen.insert(view.name.clone()), "{} exists twice", view.name);
        assert!(
            view.summary.ends_with('.'),
            "{}: the summary is a sentence",
            view.name
        );
    }
}

/// The view's name, with values where it cannot do without.
fn called(view: &View) -> String {
    let needed = view.arguments.iter().filter(|a| a.default.is_none());
    let value = |(i, a): (usize, &Argument)| match a.type_name.as_str() {
        "text" => "'true'".to_owned(),
        "any" => (i + 1).to_string(), // no two the same
        "double" => "0.5".to_owned(),
        other => panic!("{}: {} is of type {other}", view.name, a.name),
    };
    let values: Vec<_> = needed.enumerate().map(value).collect();
    match values.is_empty() {
        true => view.name.clone(),
        false => format!("{}({})", view.name, values.join(", ")),
    }
}

#[tokio::test]
async fn the_comment_lists_exactly_the_columns() {
    let folder = tempfile::tempdir().unwrap();
    common::dataset(
        folder.path(),
        &[common::reference(&serde_json::json!({}))],
        0,
    );
    let session = common::open(folder.path()).await;
    let mut wrong = Vec::new();
    for view in session.views() {
        let sql = format!("SELECT * FROM {}", called(view));
        let frame = session.context().sql(&sql);
        let frame = frame.await.unwrap_or_else(|e| panic!("{}: {e}", view.name));
        let real = frame
            .schema()
            .fields()
            .iter()
            .map(|f| format!("{} {}", f.name(), type_name(f.data_type())));
        let documented = view
            .columns
            .iter()
            .map(|c| format!("{} {}", c.name, c.type_name));
        let (real, documented): (Vec<_>, Vec<_>) = (real.collect(), documented.collect());
        if documented != real {
            wrong.push(format!(
                "{}/{}.sql says\n  {documented:?}\nbut it has\n  {real:?}",
                view.package, view.name
            ));
        }
        assert!(
            view.columns.iter().all(|c| !c.doc.is_empty()),
            "{}: a column says nothing",
            view.name
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn views_keep_to_their_layer() {
    let all = views::all().unwrap();
    let layer = |package: &str| {
        LAYERS
            .iter()
            .position(|l| *l == package)
            .unwrap_or_else(|| panic!("{package} is not in LAYERS"))
    };
    for user in &all {
        let words = words(user);
        for used in all
            .iter()
            .filter(|used| used.name != user.name && words.contains(&used.name))
        {
            let allowed = if used.is_private() {
                used.package == user.package
            } else {
                layer(&used.package) <= layer(&user.package)
            };
            let excepted = EXCEPTIONS
                .iter()
                .any(|(a, b, _)| *a == user.name && *b == used.name);
            assert!(
                allowed || excepted,
                "{} may not use {}",
                user.name,
                used.name
            );
        }
    }
}

#[test]
fn only_base_names_refs_and_none_names_files() {
    for view in views::all().unwrap() {
        let words = words(&view);
        let low = view.sql.to_lowercase();
        for file in [
            "parquet",
            "read_csv",
            "read_json",
            "external table",
            "'file:",
            "location",
        ] {
            assert!(!low.contains(file), "{} names a file ({file})", view.name);
        }
        let from_refs = view.sql.contains("FROM refs") || view.sql.contains("JOIN refs");
        assert!(
            !from_refs || view.package == "base",
            "{} reads refs; page_references is for that",
            view.name
        );
        assert!(
            !words.contains("SELECT") || words.contains("FROM"),
            "{} reads nothing",
            view.name
        );
    }
}
