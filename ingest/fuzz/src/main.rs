//! The fuzz program: libFuzzer around one target, which the variable FUZZ_TARGET names.
#![no_main]

mod heap;
mod targets;

use std::sync::LazyLock;

use targets::{TARGETS, Target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let names: Vec<_> = TARGETS.iter().map(|t| t.name).collect();
    match TARGETS.iter().find(|t| t.name == name) {
        Some(target) => target,
        None => panic!("FUZZ_TARGET is one of {names:?}, not {name:?}"),
    }
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let most = TARGET.heap.0 + TARGET.heap.1 * data.len();
    let peak = heap::peak_of(|| (TARGET.run)(data));
    assert!(
        peak <= most,
        "{peak} bytes of heap, expected at most {most}"
    );
});
