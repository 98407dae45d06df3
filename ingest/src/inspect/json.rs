//! A record as one JSON object, its fields called as the columns of a dataset.

use std::io::{self, Write};

use pgtrace_capture::record::{Access, Record};

/// An object being written. By hand, because there are millions: the general way takes several times as long.
struct Object {
    line: Vec<u8>,
}

/// What a field may hold.
trait Value {
    fn write(&self, line: &mut Vec<u8>) -> io::Result<()>;
}

macro_rules! plain_value {
    ($($kind:ty),+) => {$(
        impl Value for $kind {
            fn write(&self, line: &mut Vec<u8>) -> io::Result<()> {
                write!(line, "{self}")
            }
        }
    )+};
}

plain_value!(u8, u16, u32, u64, bool);

impl Value for str {
    fn write(&self, line: &mut Vec<u8>) -> io::Result<()> {
        let plain = |b: u8| b >= b' ' && b != b'"' && b != b'\\';
        if self.bytes().all(plain) {
            line.push(b'"');
            line.extend_from_slice(self.as_bytes());
            line.push(b'"');
            return Ok(());
        }
        Ok(serde_json::to_writer(line, self)?)
    }
}

impl Value for String {
    fn write(&self, line: &mut Vec<u8>) -> io::Result<()> {
        self.as_str().write(line)
    }
}

impl<T: Value + ?Sized> Value for &T {
    fn write(&self, line: &mut Vec<u8>) -> io::Result<()> {
        (**self).write(line)
    }
}

impl<T: Value> Value for Option<T> {
    fn write(&self, line: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Some(value) => value.write(line),
            None => {
                line.extend_from_slice(b"null");
                Ok(())
            }
        }
    }
}

/// Writes a record and a newline.
pub(super) fn line(
    record: &Record,
    comm: Option<&str>,
    path: Option<&str>,
    out: &mut dyn Write,
) -> io::Result<()> {
    object(out, |to| {
        let stamp = record.stamp();
        put(to, "kind", record.kind())?;
        put(to, "cpu", stamp.cpu)?;
        put(to, "seq", stamp.seq)?;
        put(to, "time_ns", stamp.time_ns)?;
        fields(record, to)?;
        maybe(to, "comm", comm)?;
        maybe(to, "path", path)
    })
}

/// Writes what is damaged, and where.
pub(super) fn damage(
    file: &str,
    at: u64,
    bytes: u64,
    cause: &str,
    detail: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    object(out, |to| {
        put(to, "kind", "damage")?;
        put(to, "file", file)?;
        put(to, "offset", at)?;
        put(to, "bytes", bytes)?;
        put(to, "cause", cause)?;
        put(to, "detail", detail)
    })
}

/// Writes damage whose place is in the text.
pub(super) fn damage_text(detail: &str, out: &mut dyn Write) -> io::Result<()> {
    object(out, |to| {
        put(to, "kind", "damage")?;
        put(to, "detail", detail)
    })
}

fn object(out: &mut dyn Write, fill: impl FnOnce(&mut Object) -> io::Result<()>) -> io::Result<()> {
    let mut to = Object {
        line: Vec::with_capacity(512),
    };
    to.line.push(b'{');
    fill(&mut to)?;
    to.line.extend_from_slice(b"}\n");
    out.write_all(&to.line)
}

/// Adds a field; names need no escapes.
fn put<T: Value>(to: &mut Object, name: &str, value: T) -> io::Result<()> {
    if to.line.len() > 1 {
        to.line.push(b',');
    }
    to.line.push(b'"');
    to.line.extend_from_slice(name.as_bytes());
    to.line.extend_from_slice(b"\":");
    value.write(&mut to.line)
}

fn maybe<T: Value>(to: &mut Object, name: &str, value: Option<T>) -> io::Result<()> {
    value.map_or(Ok(()), |value| put(to, name, value))
}

fn fields(record: &Record, to: &mut Object) -> io::Result<()> {
    match record {
        Record::Ref(r) => {
            put(to, "pid", r.tgid)?;
            put(to, "tid", r.tid)?;
            put(to, "uid", r.uid)?;
            put(to, "event", r.event.as_str())?;
            let access = (r.access != Access::Unknown).then(|| r.access.as_str());
            put(to, "access", access)?;
            put(to, "major", r.major)?;
            put(to, "object_id", r.object)?;
            put(to, "page", r.page)?;
            put(to, "page_order", r.page_order)?;
            put(to, "addr", (r.addr != 0).then_some(r.addr))?;
            put(to, "ip", (r.ip != 0).then_some(r.ip))?;
            put(to, "kernel", r.kernel)?;
            put(to, "gup", r.gup)?;
            put(to, "present", r.present)
        }
        Record::Process(p) => {
            put(to, "pid", p.tgid)?;
            put(to, "ppid", p.ppid)?;
            put(to, "uid", p.uid)?;
            put(to, "gid", p.gid)?;
            put(to, "start_ns", p.start_ns)?;
            put(to, "start_boot_ns", p.start_boot_ns)?;
            put(to, "comm", &p.comm)?;
            put(to, "exe", &p.exe)?;
            put(to, "cwd", &p.cwd)?;
            put(to, "cgroup", &p.cgroup)?;
            put(to, "attached", p.attached)?;
            put(to, "forked", p.forked)?;
            put(to, "execed", p.execed)?;
            put(to, "detached", p.detached)
        }
        Record::Mapping(m) => {
            put(to, "pid", m.tgid)?;
            put(to, "object_id", m.object)?;
            area(
                to,
                (m.start, m.end, m.page),
                [m.read, m.write, m.exec, m.shared],
            )
        }
        Record::Object(o) => {
            put(to, "object_id", o.object)?;
            put(to, "object_kind", o.kind.as_str())?;
            put(to, "pid", o.tgid)?;
            put(to, "dev", format!("{}:{}", o.dev_major, o.dev_minor))?;
            put(to, "ino", o.ino)?;
            put(to, "generation", o.generation)?;
            put(to, "path", &o.path)?;
            put(to, "deleted", o.deleted)?;
            put(to, "path_truncated", o.truncated)
        }
        Record::Exit(e) => {
            put(to, "pid", e.tgid)?;
            put(to, "exit_code", e.code)
        }
        Record::Lost(l) => {
            put(to, "channel", l.channel.as_str())?;
            put(to, "cause", l.cause.as_str())?;
            put(to, "count", l.count)?;
            put(to, "first_seq", l.first_seq)?;
            put(to, "first_ns", l.first_ns)?;
            put(to, "last_ns", l.last_ns)
        }
        Record::Level(l) => {
            put(to, "from", l.from.as_str())?;
            put(to, "level", l.to.as_str())?;
            put(to, "clean_ms", l.clean_ms)
        }
        Record::Clean(c) => {
            put(to, "pid", c.tgid)?;
            put(to, "pass", c.pass)?;
            put(to, "scanned", c.scanned)?;
            put(to, "cleaned", c.cleaned)?;
            put(to, "duration_ns", c.end_ns.saturating_sub(c.start_ns))
        }
        Record::Clock(c) => {
            put(to, "monotonic_ns", c.monotonic_ns)?;
            put(to, "utc_ns", c.realtime_ns)?;
            put(to, "boottime_ns", c.boottime_ns)
        }
        Record::Policy(p) => {
            put(to, "policy", p.policy.as_str())?;
            put(to, "clean_ms", p.clean_ms)?;
            put(to, "fifo", p.fifo)?;
            put(to, "grain", p.grain)?;
            put(to, "overwrite", p.overwrite)
        }
        Record::Map(m) => {
            put(to, "op", m.op.as_str())?;
            put(to, "pid", m.tgid)?;
            put(to, "tid", m.tid)?;
            put(to, "object_id", (m.object != 0).then_some(m.object))?;
            area(
                to,
                (m.start, m.end, m.page),
                [m.read, m.write, m.exec, m.shared],
            )?;
            put(to, "old_start_addr", m.old_start)?;
            put(to, "old_end_addr", m.old_end)
        }
        Record::Around(a) => {
            put(to, "pid", a.tgid)?;
            put(to, "tid", a.tid)?;
            put(to, "object_id", a.object)?;
            put(to, "start_addr", a.addr)?;
            put(to, "page", a.page)?;
            put(to, "pages", a.pages)?;
            put(to, "addr", a.touched)
        }
        Record::Active(a) => {
            put(to, "pid", a.tgid)?;
            put(to, "object_id", a.object)?;
            put(to, "addr", a.addr)?;
            put(to, "page", a.page)?;
            put(to, "page_order", a.page_order)?;
            put(to, "since_ns", a.since_ns)?;
            put(to, "dirtied", a.dirtied)?;
            put(to, "rereferenced", a.rereferenced)?;
            put(to, "gone", a.gone)
        }
    }
}

fn area(
    to: &mut Object,
    (start, end, page): (u64, u64, u64),
    [read, write, exec, shared]: [bool; 4],
) -> io::Result<()> {
    put(to, "start_addr", start)?;
    put(to, "end_addr", end)?;
    put(to, "page", page)?;
    put(to, "read", read)?;
    put(to, "write", write)?;
    put(to, "exec", exec)?;
    put(to, "shared", shared)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn any_text_is_json_and_reads_back() {
        for text in [
            "",
            "plain",
            "a \"b\" \\ c",
            "line\nfeed\u{1}",
            "\u{e9}\u{1f600}\u{7f}",
        ] {
            let mut out = Vec::new();
            damage_text(text, &mut out).unwrap();
            let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(json["detail"], text);
            assert!(out.ends_with(b"}\n") && !out[..out.len() - 1].contains(&b'\n'));
        }
    }
}
