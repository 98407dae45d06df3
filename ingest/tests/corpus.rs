//! The fuzzer's kept inputs, through the fuzzer's own targets, without the fuzzer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../fuzz/src/targets/mod.rs"]
mod targets;

use std::collections::BTreeSet;
use std::path::Path;

use targets::TARGETS;

/// Every target has a corpus and every corpus a target; none of the inputs breaks what must hold.
#[test]
fn kept_inputs_break_nothing() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let names = |folder: &Path| -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let name = |e: std::io::Result<std::fs::DirEntry>| e.unwrap().file_name();
        entries.map(|e| name(e).into_string().unwrap()).collect()
    };
    let known: BTreeSet<String> = TARGETS.iter().map(|t| t.name.to_string()).collect();
    assert_eq!(names(&corpus), known);
    for target in TARGETS {
        let folder = corpus.join(target.name);
        let inputs = names(&folder);
        assert!(!inputs.is_empty(), "{}", target.name);
        for input in &inputs {
            println!("{} {input}", target.name); // the last line is the one that failed
            (target.run)(&std::fs::read(folder.join(input)).unwrap());
        }
        (target.run)(b"");
    }
}
