//! What the module does, in words.

use std::fmt::Write;

use crate::control::Status;
use crate::units::{show_bytes, show_count};

/// What the module does, in a few lines.
#[must_use]
pub fn describe(s: &Status) -> String {
    let mut text = format!(
        "module {} (wire version {}): {}\nlevel {}, {}",
        s.module,
        s.version,
        s.state,
        s.level,
        policy(s)
    );
    for (value, what) in [(&s.grain, "grain"), (&s.follow, "follow")] {
        if !value.is_empty() {
            let _ = write!(text, ", {what} {value}"); // a String takes everything
        }
    }
    let _ = writeln!(
        text,
        "\n{} targets, {} processes, {} objects",
        show_count(s.targets),
        show_count(s.processes),
        show_count(s.objects)
    );
    for (pid, what) in [(s.recorder, "recorded by"), (s.owner, "being set up by")] {
        if pid != 0 {
            let _ = writeln!(text, "{what} process {pid}");
        }
    }
    let _ = writeln!(
        text,
        "buffers a CPU: {} x {} refs{}, {} x {} names",
        s.n_subbufs,
        show_bytes(s.subbuf_size),
        if s.overwrite == 1 {
            " (the newest are kept)"
        } else {
            ""
        },
        s.names_n_subbufs,
        show_bytes(s.names_subbuf_size),
    );
    for c in &s.cpus {
        let overwritten = match c.refs_overwritten {
            0 => String::new(),
            n => format!(", {} overwritten", show_count(n)),
        };
        let _ = writeln!(
            text,
            "cpu {}: refs {} written, {} lost{overwritten}; names {} written, {} lost",
            c.cpu,
            show_count(c.refs_emitted),
            show_count(c.refs_lost),
            show_count(c.names_emitted),
            show_count(c.names_lost),
        );
    }
    text
}

fn policy(s: &Status) -> String {
    match (s.fifo, s.clean_ms) {
        (0, 0) => "cleaner off".into(),
        (0, ms) => format!("cleaner every {ms} ms"),
        (pages, _) => format!("FIFO of {} pages", show_count(pages.into())),
    }
}
