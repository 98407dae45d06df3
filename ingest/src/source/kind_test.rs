#![allow(clippy::unwrap_used, clippy::panic)]
//! Every source knows its own files, and no other does.

use std::path::PathBuf;

use super::*;

/// A file of each kind.
fn fixture(kind: &str) -> PathBuf {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata");
    testdata.join(match kind {
        "chunk" => "demo/cpu000-000000.pgt".into(),
        "v0" => "v0/v0-x86-64.bin".into(),
        v0 if v0.starts_with("v0-") => format!("v0/{v0}.bin"),
        table => format!("tables/refs.{table}"),
    })
}

#[test]
fn sniffing_one_source_rejects_the_fixtures_of_all_others() {
    for owner in KINDS {
        let sample = Sample::of(&mut File::open(fixture(owner.name)).unwrap()).unwrap();
        for kind in KINDS {
            // "v0" is whatever of the four it is.
            let same = kind.name == owner.name
                || kind.name == "v0" && owner.name.starts_with("v0-")
                || owner.name == "v0" && kind.name == "v0-x86-64";
            let found = (kind.sniff)(&sample);
            assert_eq!(found, same, "{} sniffs {}", kind.name, owner.name);
        }
    }
}

#[test]
fn nothing_is_taken_for_a_table_that_is_none() {
    let kind = |head: &[u8]| {
        let sample = Sample {
            head: head.into(),
            tail: head[head.len().saturating_sub(8)..].into(),
        };
        let found = KINDS.iter().find(|k| k.unasked && (k.sniff)(&sample));
        found.map(|k| k.name)
    };
    assert_eq!(kind(b""), None);
    assert_eq!(kind(b"PAR1 this is no chunk at all"), None);
    assert_eq!(kind(b"a letter, and the page has more than one line"), None);
    assert_eq!(kind(b"page,path\n\0\0"), None);
    assert_eq!(kind(b"page,path\n1,a\n"), Some("csv"));
    assert_eq!(kind("\u{feff}addr\n1\n".as_bytes()), Some("csv"));
    assert_eq!(kind(b"\"path\"\t\"page\"\n"), Some("csv"));
    assert_eq!(kind(b" {\"addr\": 1}"), Some("ndjson"));
    assert_eq!(kind(&[b"addr\n".as_slice(), &[0xff; 9]].concat()), None);
}

#[test]
fn names_are_said_once() {
    for (i, kind) in KINDS.iter().enumerate() {
        assert!(KINDS[..i].iter().all(|k| k.name != kind.name));
        assert!(!kind.doc.is_empty());
        assert_eq!(by_name(kind.name).unwrap().name, kind.name);
    }
    assert!(by_name("nonsense").is_none());
}
