//! Text from the module, from /proc and from people, and the records of perf.

use std::path::Path;

use pgtrace_capture::control::Status;
use pgtrace_capture::perf::fuzzing;
use pgtrace_capture::{status_text, units};

/// What the module's `status` says.
pub(super) fn status(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Status::parse(&text, Path::new("status")) {
        Ok(status) => {
            assert_eq!(status.version, 1, "the only one there is");
            assert!(!status_text::describe(&status).is_empty());
            assert!(status.cpus.iter().all(|c| c.refs_lost <= status.lost()));
            let _ = status.refs_bytes();
        }
        Err(e) => assert!(!e.to_string().is_empty()),
    }
}

/// Sizes, times and periods as people type them: what is written out reads back the same.
pub(super) fn units(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(bytes) = units::size(&text) {
        assert!(bytes <= 1 << 53);
        assert_eq!(units::size(&units::bytes_text(bytes)), Ok(bytes));
        assert!(!units::show_bytes(bytes).is_empty() && !units::show_binary(bytes).is_empty());
        let digits: String = units::show_count(bytes).split(',').collect();
        assert_eq!(digits, bytes.to_string());
    }
    if let Ok(time) = units::time(&text) {
        let written = units::time(&units::time_text(time)).expect("a time again");
        // Written to the ms, and read as a float.
        let off = written.abs_diff(time);
        assert!(
            off.as_secs_f64() <= 0.001 + time.as_secs_f64() * 1e-12,
            "{time:?}"
        );
    }
    if let Ok(ms) = units::period_ms(&text) {
        assert_eq!(units::period_ms(&format!("{ms}ms")), Ok(ms));
    }
}

/// The records of a perf ring, and lines of /proc.
pub(super) fn perf(data: &[u8]) {
    let (events, damage) = fuzzing::events(data);
    assert!(events <= data.len() / 8, "a record has a header");
    assert!(damage.is_none_or(|at| at < data.len()));
    let _ = fuzzing::proc_lines(&String::from_utf8_lossy(data));
}
