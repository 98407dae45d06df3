//! Every SQL function has a worked example, as every view has: `sql/PACKAGE/NAME.slt`.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

#[test]
fn every_function_has_a_worked_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = std::fs::read_to_string(root.join("src/functions/mod.rs")).unwrap();
    let names = list
        .lines()
        .filter_map(|l| l.trim().strip_suffix("::register,"));
    let names: Vec<&str> = names.collect();
    assert!(names.contains(&"cut") && names.contains(&"cut_seq"));
    for name in names {
        let packages = std::fs::read_dir(root.join("sql")).unwrap();
        let mut files = packages.map(|p| p.unwrap().path().join(format!("{name}.slt")));
        let example = files.find(|f| f.exists());
        let example = example.unwrap_or_else(|| panic!("no sql/PACKAGE/{name}.slt"));
        let text = std::fs::read_to_string(&example).unwrap();
        assert!(
            text.contains(&format!("{name}(")) && text.contains("query "),
            "{}",
            example.display()
        );
    }
}
