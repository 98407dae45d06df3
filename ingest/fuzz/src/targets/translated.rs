//! Files of other people, translated into a recording: what must hold of it whatever was in the file.

use std::collections::HashSet;
use std::path::Path;

use pgtrace_capture::chunk::{BlockKind, Totals};
use pgtrace_capture::record::{PageRef, Record};
use pgtrace_capture::wire::{ByteOrder, Item, decode};
use pgtrace_ingest::source::kind::{Kind, Settings, prepare};

use super::chunk;
use super::wire::round_trip;

/// Memory for names: fewer than an input can hold, so that no input is refused for them.
const MEMORY: u64 = 64 << 20;

/// A recording that a file was translated into. What becomes of recordings, `whole` looks at.
pub(super) struct Translated {
    /// Its references, in order.
    pub(super) refs: Vec<PageRef>,
    /// References that nobody could read.
    pub(super) unread: u64,
}

/// Translates a file with these bytes, of the source `from`, or of the one that it is taken for. `Ok(None)`: it is taken
/// for none and left as it is.
pub(super) fn translate(
    bytes: &[u8],
    from: Option<&'static Kind>,
    ignore_unknown_columns: bool,
) -> Result<Option<Translated>, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("given");
    std::fs::write(&path, bytes).expect("room for a temporary file");
    let settings = Settings {
        ignore_unknown_columns,
        memory: MEMORY,
    };
    let prepared = match prepare(std::slice::from_ref(&path), from, &settings) {
        Ok(prepared) => prepared,
        Err(e) => {
            let words = e.to_string();
            assert!(
                words.starts_with(path.to_str().expect("a path that is text")),
                "{words}"
            );
            return Err(words);
        }
    };
    let [made] = &prepared.raw[..] else {
        panic!("one recording: {:?}", prepared.raw);
    };
    if *made == path {
        assert!(from.is_none(), "a source that was named is translated");
        return Ok(None);
    }
    let (refs, unread) = read(made);
    Ok(Some(Translated { refs, unread }))
}

/// Reads a recording: its references and how many were not read. All is numbered, and named before it is used.
fn read(made: &Path) -> (Vec<PageRef>, u64) {
    let file = std::fs::read(made).expect("a recording that was made");
    let (mut refs, mut named) = (Vec::new(), HashSet::new());
    let (mut names, mut totals) = (0, None);
    for (kind, payload) in chunk::read(&file) {
        if kind == BlockKind::Totals {
            totals = serde_json::from_slice::<Totals>(&payload).ok();
            continue;
        }
        for item in decode(&payload, ByteOrder::NATIVE) {
            let Ok(Item::Record(record)) = item else {
                panic!("{kind:?}: {item:?}");
            };
            round_trip(&record);
            let used = match &record {
                Record::Ref(r) => {
                    refs.push(*r);
                    [("process", r.tgid), ("object", r.object)]
                }
                Record::Process(p) => [("process", p.tgid); 2],
                Record::Object(o) => [("object", o.object); 2],
                other => panic!("{other:?} in a translated file"),
            };
            if !matches!(record, Record::Ref(_)) {
                assert_eq!(record.stamp().seq, names, "names are dense");
                names += 1;
                named.extend(used);
            }
            assert!(used.iter().all(|u| named.contains(u)), "{used:?} is named");
        }
    }
    let totals = totals.expect("what the recording came to");
    let [cpu] = &totals.cpus[..] else {
        panic!("{totals:?}");
    };
    assert!(totals.complete);
    assert_eq!(
        (cpu.refs_emitted, cpu.names_emitted),
        (refs.len() as u64, names)
    );
    let rising = refs.windows(2).all(|w| w[0].stamp.seq < w[1].stamp.seq);
    let end = refs.len() as u64 + cpu.refs_lost;
    assert!(rising && refs.last().is_none_or(|r| r.stamp.seq < end));
    assert!(
        totals
            .unread
            .iter()
            .all(|u| u.first_seq < end && !u.detail.is_empty())
    );
    (refs, cpu.refs_lost)
}
