//! A record as a line of text, for people who debug.

use std::io::Write;

use pgtrace_capture::record::Record;

/// Protection as /proc/PID/maps shows it: read, write, exec, shared or private.
fn protection([read, write, exec, shared]: [bool; 4]) -> String {
    let bit = |on, c| if on { c } else { '-' };
    let last = if shared { 's' } else { 'p' };
    String::from_iter([bit(read, 'r'), bit(write, 'w'), bit(exec, 'x'), last])
}

/// One line: kind, place, and what is special to the kind; then who did it and the file, as far as they are asked for.
pub(super) fn line(
    record: &Record,
    comm: Option<&str>,
    path: Option<&str>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let stamp = record.stamp();
    write!(
        out,
        "{} cpu {} seq {} time_ns {} ",
        record.kind(),
        stamp.cpu,
        stamp.seq,
        stamp.time_ns
    )?;
    match record {
        Record::Ref(r) => write!(
            out,
            "pid {} tid {} uid {} {} {} object {} page {} order {} addr {:#x} ip {:#x}",
            r.tgid, r.tid, r.uid, r.event, r.access, r.object, r.page, r.page_order, r.addr, r.ip
        ),
        Record::Process(p) => write!(
            out,
            "pid {} ppid {} uid {} start_boot_ns {} comm {:?} exe {:?} cwd {:?} cgroup {:?}{}{}{}{}",
            p.tgid,
            p.ppid,
            p.uid,
            p.start_boot_ns,
            p.comm,
            p.exe,
            p.cwd,
            p.cgroup,
            if p.attached { " attached" } else { "" },
            if p.forked { " forked" } else { "" },
            if p.execed { " execed" } else { "" },
            if p.detached { " detached" } else { "" }
        ),
        Record::Mapping(m) => write!(
            out,
            "pid {} object {} {:#x}-{:#x} page {} {}",
            m.tgid,
            m.object,
            m.start,
            m.end,
            m.page,
            protection([m.read, m.write, m.exec, m.shared])
        ),
        Record::Object(o) => write!(
            out,
            "object {} {} pid {} dev {}:{} ino {} generation {} path {:?}{}{}",
            o.object,
            o.kind,
            o.tgid,
            o.dev_major,
            o.dev_minor,
            o.ino,
            o.generation,
            o.path,
            if o.deleted { " deleted" } else { "" },
            if o.truncated { " truncated" } else { "" }
        ),
        Record::Exit(e) => write!(out, "pid {} code {}", e.tgid, e.code),
        Record::Lost(l) => write!(
            out,
            "{} {} count {} first_seq {} from {} to {}",
            l.channel, l.cause, l.count, l.first_seq, l.first_ns, l.last_ns
        ),
        Record::Level(l) => write!(out, "{} -> {} clean_ms {}", l.from, l.to, l.clean_ms),
        Record::Clean(c) => write!(
            out,
            "pid {} pass {} scanned {} cleaned {} took_ns {}",
            c.tgid,
            c.pass,
            c.scanned,
            c.cleaned,
            c.end_ns.saturating_sub(c.start_ns)
        ),
        Record::Clock(c) => write!(
            out,
            "monotonic_ns {} utc_ns {} boottime_ns {}",
            c.monotonic_ns, c.realtime_ns, c.boottime_ns
        ),
        Record::Policy(p) => write!(
            out,
            "{} clean_ms {} fifo {} grain {}{}",
            p.policy,
            p.clean_ms,
            p.fifo,
            p.grain,
            if p.overwrite { " overwrite" } else { "" }
        ),
        Record::Map(m) => write!(
            out,
            "{} pid {} tid {} object {} {:#x}-{:#x} page {} {} from {:#x}-{:#x}",
            m.op,
            m.tgid,
            m.tid,
            m.object,
            m.start,
            m.end,
            m.page,
            protection([m.read, m.write, m.exec, m.shared]),
            m.old_start,
            m.old_end
        ),
        Record::Around(a) => write!(
            out,
            "pid {} tid {} object {} page {} pages {} addr {:#x} touched {:#x}",
            a.tgid, a.tid, a.object, a.page, a.pages, a.addr, a.touched
        ),
        Record::Active(a) => write!(
            out,
            "pid {} object {} page {} order {} addr {:#x} since {}{}{}{}",
            a.tgid,
            a.object,
            a.page,
            a.page_order,
            a.addr,
            a.since_ns,
            if a.dirtied { " dirtied" } else { "" },
            if a.rereferenced { " rereferenced" } else { "" },
            if a.gone { " gone" } else { "" }
        ),
    }?;
    if let Some(comm) = comm {
        write!(out, " comm {comm:?}")?;
    }
    if let Some(path) = path {
        write!(out, " path {path:?}")?;
    }
    writeln!(out)
}
