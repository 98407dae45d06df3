#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""pipeline.py STEP [--level full|rich|light] [--lossy] [--no-truth]: chunks -> Parquet -> SQL against the truth.

STEP is a folder that guest.sh left: chunks/, status (the module's own count), truth. Three things are held together:
the rows that SQL gives, the raw bytes as wire.py decodes them, and the module's counters; then the rows are held
against the truth of the workload. PGTRACE_INGEST and PGTRACE_SQL name the programs.
"""

import argparse
import bisect
import csv
import io
import os
import pathlib
import subprocess
import sys

import truth
import wire
from check import from_recording

REPO = pathlib.Path(__file__).resolve().parents[3]
INGEST = os.environ.get("PGTRACE_INGEST", REPO / "target/debug/pgtrace-ingest")
SQL = os.environ.get("PGTRACE_SQL", REPO / "target/debug/pgtrace-sql")


class Failed(Exception):
    pass


def run(command, codes):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode not in codes:
        raise Failed(f"{pathlib.Path(command[0]).name} ended with {done.returncode}, expected {codes}: {done.stderr.strip()}")
    return done.stdout


def sql(dataset, query):
    """Rows as dicts of text; None for null, which CSV shows as nothing."""
    out = run([SQL, dataset, "-c", query, "--format", "csv"], [0])
    return [{k: v if v != "" else None for k, v in row.items()} for row in csv.DictReader(io.StringIO(out))]


class Clocks:
    """UTC by the latest reading of both clocks at or before a time."""

    def __init__(self, rec):
        anchors = [(h["monotonic"], h["realtime"]) for h in rec.headers]
        anchors += [(c.monotonic, c.realtime) for c in rec.named(wire.Clock)]
        self.anchors = sorted(set(anchors))
        self.times = [m for m, _ in self.anchors]

    def utc(self, time):
        mono, real = self.anchors[max(bisect.bisect_right(self.times, time) - 1, 0)]
        return real + time - mono


class Names:
    """Who a process was at a time: its PROCESS records, each true until the next, the first one from the start on."""

    def __init__(self, rec):
        self.by_pid = {}
        for p in rec.named(wire.Process):
            self.by_pid.setdefault(p.tgid, []).append(p)

    def at(self, tgid, time):
        known = self.by_pid.get(tgid)
        if not known:
            return None
        return known[max(bisect.bisect_right([p.time for p in known], time) - 1, 0)]

    @staticmethod
    def upid(p):
        return p.start_boot // 1_000_000 << 22 | p.tgid


def expected_refs(rec):
    """The table refs as it must be, as text."""
    clocks, names, objects = Clocks(rec), Names(rec), {}
    for o in rec.named(wire.Object):
        objects.setdefault(o.object, o)
    for seq, r in enumerate(rec.merged()):
        p, o = names.at(r.tgid, r.time), objects.get(r.object)
        yield {
            "seq": seq, "ts": clocks.utc(r.time), "cpu": r.cpu, "uid": r.uid, "pid": r.tgid, "tid": r.tid,
            "upid": names.upid(p) if p else r.tgid, "comm": p.comm if p else None,
            "path": (o.path or None) if o else None, "object_kind": o.kind if o else None, "event": r.event,
            "access": r.access or None, "major": major(r),
            "addr": r.addr or None, "ip": r.ip or None, "object_id": r.object, "page": r.page, "page_order": r.order,
        }


def major(r):
    """Only a fault can say that no I/O was needed."""
    return "true" if r.flags & wire.MAJOR else "false" if r.event in ("fault", "retouch") else None


def compare(what, found, expected):
    """Two tables, row by row and field by field; yields at most some differences."""
    found, expected, faults = list(found), list(expected), 0
    if len(found) != len(expected):
        yield f"{what}: {len(found)} rows, expected {len(expected)}"
    for i, (f, e) in enumerate(zip(found, expected)):
        for column, want in e.items():
            want = None if want is None else str(want)
            if f[column] != want:
                yield f"{what}, row {i}, {column}: found {f[column]}, expected {want}"
                faults += 1
                if faults == 8:
                    return


def module_count(path):
    """The counters of the module: {cpu: {name: n}}."""
    counts = {}
    for line in path.read_text().splitlines():
        word, *rest = line.split()
        if word == "cpu":
            counts[int(rest[0])] = dict(zip(rest[1::2], map(int, rest[2::2])))
    return counts


def sums(losses):
    """Records that were lost, and those that were given up on purpose."""
    losses = list(losses)
    gone = sum(int(r["count"]) for r in losses if r["cause"] == "overwritten")
    return sum(int(r["count"]) for r in losses) - gone, gone


def accounts(rec, counts, refs, losses):
    """Every record that the module emitted or lost is a row or a counted loss, to the last one."""
    for cpu, c in sorted(counts.items()):
        recs = rec.refs.get(cpu, [])
        rows = sum(1 for r in refs if int(r["cpu"]) == cpu)
        others = sum(1 for r in recs if not isinstance(r, wire.Ref))
        of_cpu = [r for r in losses if int(r["cpu"]) == cpu and r["channel"] == "refs"]
        gone = sum(int(r["count"]) for r in of_cpu if r["cause"] == "overwritten")
        if c["refs_emitted"] != rows + others + gone:
            yield (f"cpu {cpu}: the module emitted {c['refs_emitted']} records, SQL has {rows} rows, {others} were no "
                   f"references, {gone} were overwritten")
        lost = sum(int(r["count"]) for r in of_cpu if r["cause"] == "buffer_full")
        if c["refs_lost"] != lost:
            yield f"cpu {cpu}: the module lost {c['refs_lost']} references, SQL counts {lost}"
        names = sum(1 for number, _ in rec.names if number == cpu)
        if c["names_emitted"] != names and not rec.keeps_newest():
            yield f"cpu {cpu}: the module emitted {c['names_emitted']} names, the chunks hold {names}"


def marks(rec):
    """The table marks as it must be, in no order; columns that are left out are null."""
    clocks, names = Clocks(rec), Names(rec)

    def mark(r, kind, **columns):
        return {"ts": clocks.utc(r.time), "cpu": r.cpu, "kind": kind, **columns}

    def of(r, kind, **columns):
        p = names.at(r.tgid, r.time)
        return mark(r, kind, pid=r.tgid, upid=names.upid(p) if p else r.tgid, **columns)

    for r in rec.named(wire.Level):
        yield mark(r, "level", level=r.to, clean_ms=r.clean_ms)
    for r in rec.named(wire.Policy):
        yield mark(r, "policy", policy=r.policy, clean_ms=r.clean_ms, fifo=r.fifo, grain=r.grain, overwrite=bool(r.overwrite))
    for r in rec.named(wire.Clock):
        yield mark(r, "clock", monotonic_ns=r.monotonic, utc_ns=r.realtime)
    for r in rec.named(wire.Clean):
        yield of(r, "clean", **{"pass": r.number}, scanned=r.scanned, cleaned=r.cleaned, duration_ns=r.end - r.start)
    for r in rec.named(wire.Process):
        for flag, kind in ((wire.DETACHED, "detach"), (wire.EXECED, "exec"), (wire.FORKED, "fork"), (wire.ATTACHED, "attach")):
            if r.flags & flag:
                yield mark(r, kind, pid=r.tgid, upid=names.upid(r), comm=r.comm)
                break
    for r in rec.named(wire.Exit):
        yield of(r, "exit", exit_code=r.code)
    for r in rec.named(wire.Map):
        moved, gone = r.op == "mremap", r.op == "munmap"
        may = {name: None if gone else bool(r.prot & bit) for name, bit in
               (("read", 1), ("write", 2), ("exec", 4), ("shared", 8))}
        yield of(r, r.op, tid=r.tid, object_id=r.object or None, start_addr=r.start, end_addr=r.end, page=r.page,
                 old_start_addr=r.old_start if moved else None, old_end_addr=r.old_end if moved else None, **may)
    for r in rec.named(wire.Around):
        yield of(r, "around", tid=r.tid, object_id=r.object, start_addr=r.addr, page=r.page, pages=r.pages, addr=r.touched)
    for r in rec.named(wire.Active):
        yield of(r, "active", object_id=r.object, addr=r.addr, page=r.page, page_order=r.order,
                 since_ts=clocks.utc(r.since), gone=bool(r.flags & wire.GONE),
                 **{name: None if r.flags & wire.GONE else bool(r.flags & bit) for name, bit in
                    (("dirtied", wire.DIRTIED), ("rereferenced", wire.REREFERENCED))})


def as_text(row):
    return {k: v if v is None else str(v).lower() if isinstance(v, bool) else str(v) for k, v in row.items()}


def sortable(row):
    return sorted((k, v or "") for k, v in row.items())


def tables(dataset, rec, refs, losses):
    """The small tables, and the totals."""
    clocks, names = Clocks(rec), Names(rec)
    objects = {}
    for o in rec.named(wire.Object):
        first = objects.setdefault(o.object, [o, False])
        first[1] |= bool(o.flags & wire.DELETED)
    yield from compare("objects", sql(dataset, "SELECT * FROM objects ORDER BY object_id"), (
        {"object_id": n, "object_kind": o.kind, "path": o.path or None, "deleted": "true" if deleted else "false",
         "dev": f"{o.major}:{o.minor}" if o.ino else None, "ino": o.ino or None, "pid": o.tgid}
        for n, (o, deleted) in sorted(objects.items())))

    processes = {}
    for p in rec.named(wire.Process):
        processes[names.upid(p)] = p
    codes = {names.upid(names.at(e.tgid, e.time)): e.code for e in rec.named(wire.Exit) if names.at(e.tgid, e.time)}
    yield from compare("processes", sql(dataset, "SELECT * FROM processes ORDER BY upid"), (
        {"upid": u, "pid": p.tgid, "ppid": p.ppid, "uid": p.uid, "comm": p.comm, "exe": p.exe or None,
         "cwd": p.cwd or None, "cgroup": p.cgroup or None, "exit_code": codes.get(u)} for u, p in sorted(processes.items())))

    order = ["start_addr", "end_addr", "page", "pid", "object_id"]
    yield from compare("mappings", sql(dataset, f"SELECT * FROM mappings ORDER BY {', '.join(order)}, ts"), (
        {"pid": m.tgid, "object_id": m.object, "start_addr": m.start, "end_addr": m.end, "page": m.page,
         "shared": "true" if m.prot & 8 else "false", "exec": "true" if m.prot & 4 else "false"}
        for m in sorted(rec.named(wire.Mapping), key=lambda m: (m.start, m.end, m.page, m.tgid, m.object, m.time))))

    expected = [as_text(m) for m in marks(rec)]
    columns = sorted({c for m in expected for c in m} - {"ts", "since_ts"})
    found = sql(dataset, "SELECT CAST(ts AS BIGINT) AS ts, CAST(since_ts AS BIGINT) AS since_ts, "
                + ", ".join(f'"{c}"' for c in columns) + " FROM marks")
    yield from compare("marks", sorted(found, key=sortable), sorted(
        ({c: m.get(c) for c in ["ts", "since_ts", *columns]} for m in expected), key=sortable))

    (capture,) = sql(dataset, "SELECT * FROM captures")
    lost, gone = sums(r for r in losses if r["channel"] == "refs")
    yield from compare("captures", [capture], [{"refs": len(refs), "lost": lost, "emitted": len(refs) + lost + gone,
                                                "chunks": len(rec.headers), "kernel": rec.headers[0]["kernel"]}])


def recorded(dataset, rec, refs):
    """What SQL says, for truth.Check. Raw are what was compared already or is not in a table: monotonic times, flags, and
    what stands in marks."""
    raw = from_recording(rec)

    def number(text):
        return None if text is None else int(text)

    rows = [truth.Row(int(r["seq"]), row.time, int(r["cpu"]), int(r["pid"]), int(r["tid"]), r["event"],
                      r["access"], r["major"] == "true", number(r["addr"]), int(r["object_id"]), int(r["page"]),
                      int(r["page_order"]), r["object_kind"], r["path"], row.kernel) for r, row in zip(refs, raw.rows)]
    objects = [truth.Obj(int(o["object_id"]), o["object_kind"], o["path"], o["deleted"] == "true")
               for o in sql(dataset, "SELECT object_id, object_kind, path, deleted FROM objects")]
    processes = [truth.Proc(int(p["pid"]), int(p["ppid"]), p["comm"], p["exe"], number(p["exit_code"]))
                 for p in sql(dataset, "SELECT pid, ppid, comm, exe, exit_code FROM processes ORDER BY start_ts")]
    return truth.Recorded(rows, objects, processes, raw.passes, raw.left, raw.execs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", type=pathlib.Path)
    parser.add_argument("--level", default="full", choices=["full", "rich", "light"])
    parser.add_argument("--lossy", action="store_true", help="losses are expected, and must be there")
    parser.add_argument("--any-loss", action="store_true", help="losses may be or not")
    parser.add_argument("--no-truth", action="store_true", help="the workload wrote none: compare bytes, rows and counters only")
    args = parser.parse_args()
    dataset = args.step / "dataset"
    try:
        run([INGEST, args.step / "chunks", "--to", dataset], [0, 1] if args.any_loss else [1 if args.lossy else 0])
        rec = wire.load_chunks(args.step / "chunks")
        rec.check_numbers()
        refs = sql(dataset, "SELECT seq, CAST(ts AS BIGINT) AS ts, cpu, uid, pid, tid, upid, comm, path, object_kind, event, access, "
                   "major, addr, ip, object_id, page, page_order FROM refs ORDER BY seq")
        losses = sql(dataset, "SELECT * FROM losses")
        faults = list(compare("refs", refs, expected_refs(rec)))
        if faults:
            raise Failed("\n  ".join(faults))
        faults += accounts(rec, module_count(args.step / "status"), refs, losses)
        faults += tables(dataset, rec, refs, losses)
        lost, _ = sums(losses)
        figures = {}
        if not args.no_truth:
            with open(args.step / "truth", encoding="utf-8") as lines:
                check = truth.Check(truth.Truth(lines), recorded(dataset, rec, refs), args.level)
            faults += check.check(allow_missing=lost)
            figures = check.figures
    except (Failed, wire.Broken, ValueError) as error:
        print(f"  {error}")
        return 1
    if bool(lost) != args.lossy and not args.any_loss:
        faults.append(f"{lost} records were lost")
    emitted = sum(c["refs_emitted"] + c["refs_lost"] for c in module_count(args.step / "status").values())
    others = sum(not isinstance(r, wire.Ref) for recs in rec.refs.values() for r in recs)
    refs_lost, gone = sums(r for r in losses if r["channel"] == "refs")
    print(f"emitted {emitted - others} = rows {len(refs)} + lost {refs_lost}{f' + overwritten {gone}' if gone else ''}"
          f", raw bytes a record {rec.bytes / max(len(refs), 1):.1f}")
    print(", ".join(f"{what} {n}" for what, n in figures.items()))
    for fault in faults:
        print(f"  {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
