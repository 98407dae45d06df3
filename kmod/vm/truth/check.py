#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""check.py TRUTH RAW [--level full|rich|light] [--fifo N] [--uid N] [--lossy]: raw records against the truth of a workload.

RAW is a folder of relay files (refsN, namesN) or of chunks. Prints what was compared; exit code 1 where something is wrong.
"""

import argparse
import bisect
import math
import sys

import truth
import wire

UNTOLD = 100  # passes that nothing counts: more than happen during one touch


def passes(rec):
    """The cleaner's passes. Where records were lost, those of passes may be among them: a gap in a process's numbers is
    so many passes, somewhere between the two that are told; before the first and behind the last there may be some."""
    told = {}
    for c in rec.named(wire.Clean):
        told.setdefault(c.tgid, []).append(c)
    found = [truth.Pass(c.tgid, c.start, c.end) for cs in told.values() for c in cs]
    if any(r.channel == "refs" for r in rec.lost()):
        for p in {p.tgid for p in rec.named(wire.Process)}:
            cs = told.get(p, [])
            for a, b in zip(cs, cs[1:]):
                found += [truth.Pass(p, a.end, b.start)] * (b.number - a.number - 1)
            found += [truth.Pass(p, 0, cs[0].start if cs else math.inf)] * UNTOLD
            found += [truth.Pass(p, cs[-1].end, math.inf)] * UNTOLD if cs else []
    return found


def from_recording(rec):
    """A decoded recording as truth.Recorded."""
    objects, deleted, truncated = {}, set(), 0
    for o in rec.named(wire.Object):
        objects.setdefault(o.object, o)  # the first name is the one it keeps
        if o.flags & wire.DELETED:
            deleted.add(o.object)
    rows = []
    for seq, r in enumerate(rec.merged()):
        o = objects.get(r.object)
        rows.append(truth.Row(seq, r.time, r.cpu, r.tgid, r.tid, r.event, r.access, bool(r.flags & wire.MAJOR),
                              None if r.event in truth.CACHE else r.addr, r.object, r.page, r.order,
                              o.kind if o else None, (o.path or None) if o else None,
                              bool(r.flags & (wire.KERNEL | wire.GUP))))
    order = sorted([(r.time, r.cpu, r.seq) for r in rec.merged()])
    left = [truth.Left(bisect.bisect(order, (a.time, a.cpu, a.seq)) - 0.5, a.time, a.tgid, a.addr, a.since,
                       bool(a.flags & 1), bool(a.flags & 2), bool(a.flags & 4)) for a in rec.named(wire.Active)]
    execs, processes = [], {}
    for p in rec.named(wire.Process):
        if p.flags & wire.EXECED:
            execs.append((bisect.bisect(order, (p.time, p.cpu, p.seq)) - 0.5, p.tgid))
        processes[p.tgid] = truth.Proc(p.tgid, p.ppid, p.comm, p.exe or None, None)
    for e in rec.named(wire.Exit):
        if e.tgid in processes:
            processes[e.tgid] = processes[e.tgid]._replace(code=e.code)
    return truth.Recorded(
        rows, [truth.Obj(o.object, o.kind, o.path or None, o.object in deleted) for o in objects.values()],
        list(processes.values()), passes(rec), left, execs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("truth")
    parser.add_argument("raw")
    parser.add_argument("--level", default="full", choices=["full", "rich", "light"])
    parser.add_argument("--fifo", type=int, default=0, help="N of the FIFO policy (default: timer)")
    parser.add_argument("--uid", type=int, default=0, help="user of every recorded process (default 0)")
    parser.add_argument("--lossy", action="store_true", help="losses are expected, and must be there")
    args = parser.parse_args()
    rec = wire.load(args.raw)
    rec.check_numbers()
    lost = sum(r.count for r in rec.lost())
    with open(args.truth, encoding="utf-8") as lines:
        check = truth.Check(truth.Truth(lines), from_recording(rec), args.level, fifo=args.fifo)
    faults = check.check(allow_missing=lost)
    others = {(r.tgid, r.uid) for r in rec.merged() if r.uid != args.uid}
    if others:
        faults.append(f"processes of other users than {args.uid}: {sorted(others)}")
    if bool(lost) != args.lossy:
        faults.append(f"{lost} records were lost")
    print(", ".join(f"{what} {n}" for what, n in check.figures.items()) + f", lost {lost}")
    for fault in faults:
        print(f"  {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
