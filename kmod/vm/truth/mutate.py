#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""mutate.py TRUTH RAW: can the check fail? Falsifies a good recording in many ways; each must be noticed."""

import random
import sys

import check
import truth
import wire


def mutations(good, known, dice):
    """(what, falsified recording)"""
    rows = good.rows
    files = known.files
    # Pages of regions: rows that the truth explains.
    inside = [i for i, r in enumerate(rows) if r.addr is not None and r.pid in known.processes and any(
        g.page_of(r.addr) is not None for g in known.processes[r.pid].regions.values())]
    looks = [i for i, r in enumerate(rows) if r.event == "lookup" and r.path in files]

    def with_row(i, **changes):
        return good._replace(rows=rows[:i] + [rows[i]._replace(**changes)] + rows[i + 1 :])

    for i in dice.sample(looks, 3):
        yield "a look-up missing", good._replace(rows=rows[:i] + rows[i + 1 :])
        yield "a look-up twice", good._replace(rows=rows[:i] + [rows[i]] + rows[i:])
        yield "a look-up of another page", with_row(i, page=rows[i].page + 1)
    for i in dice.sample(inside, 5):
        r = rows[i]
        yield "page and address that differ", with_row(i, page=r.page + 1)
        yield "another access", with_row(i, access={"read": "write", "write": "exec", "exec": "read"}[r.access])
        yield "another thread", with_row(i, tid=r.tid + 1000)
        yield "another kind of object", with_row(i, kind="other")
        yield "another path", with_row(i, path="/somewhere/else")
        yield "a larger page", with_row(i, order=9)
    # Two references of one thread in the wrong order.
    for _ in range(4):
        i = dice.choice(inside[:-1])
        j = next((j for j in inside if j > i and rows[j].tid == rows[i].tid and rows[j].addr >> 12 != rows[i].addr >> 12), None)
        if j is not None:
            swapped = list(rows)
            swapped[i], swapped[j] = swapped[j], swapped[i]
            yield "two references swapped", good._replace(rows=swapped)
    # A required one is gone; an event is another; one is there although the page was present.
    test = truth.Check(known, good)
    test.check()
    used = test._match()
    must, never = [], []
    for pid, p in known.processes.items():
        for touches in p.touches.values():
            for t in touches:
                verdict, event = test._verdict(p, p.regions[t.region], t)
                at = used.get((pid, t.tid, t.index))
                if verdict == truth.MUST and event and at:
                    must.append(rows.index(at[0]))
                elif verdict == truth.NOT:
                    never.append((pid, p.regions[t.region], t))
    # Others may have been somewhere else, or later: on a slow machine touches take long.
    for i in dice.sample(must, 5):
        r = rows[i]
        yield "another page", with_row(i, addr=r.addr + 4096, page=r.page + 1)
        yield "another time", with_row(i, time=r.time + 30_000_000)
    for i in dice.sample(must, 10):
        yield "a required reference missing", good._replace(rows=rows[:i] + rows[i + 1 :])
        yield "another event", with_row(i, event={"fault": "retouch", "retouch": "fault"}[rows[i].event])
    for pid, region, t in dice.sample(never, 5):
        at = next(i for i, r in enumerate(rows) if r.time > t.t0)
        addr = region.base + t.page * 4096
        page = region.file_page + t.page if region.path else addr >> 12
        row = truth.Row(0, t.t0 + 1, 0, pid, t.tid, "retouch", t.access, False, addr, 1, page, 0,
                        truth.OBJECT_KIND[region.kind], region.path)
        yield "a reference to a page that was present", good._replace(rows=rows[:at] + [row] + rows[at:])
    for i in [i for i in inside if rows[i].event == "fault"]:
        p = known.processes[rows[i].pid]
        if any((g.id, g.page_of(rows[i].addr)) in p.major for g in p.regions.values()):
            yield "major or not", with_row(i, major=not rows[i].major)
            break
    for path in known.deleted:
        yield "deleted or not", good._replace(
            objects=[o._replace(deleted=not o.deleted) if o.path == path else o for o in good.objects])
        yield "an object missing", good._replace(objects=[o for o in good.objects if o.path != path])
        yield "a file in two objects", good._replace(
            objects=good.objects + [o._replace(object=9999) for o in good.objects if o.path == path])
    for pid, p in known.processes.items():
        if p.comm is None or p.status is None:
            continue
        for change in ({"comm": "other"}, {"exe": "/other"}, {"ppid": 1}, {"code": 99}):
            yield f"another {list(change)[0]}", good._replace(
                processes=[q._replace(**change) if q.pid == pid else q for q in good.processes])
        yield "a process missing", good._replace(processes=[q for q in good.processes if q.pid != pid])
    anon = next(r.object for r in rows if r.kind == "anon")
    yield "anonymous memory merged", good._replace(
        rows=[r._replace(object=anon) if r.kind == "anon" else r for r in rows])
    yield "no cleaning passes", good._replace(passes=[])
    yield "nothing at all", good._replace(rows=[])


def main():
    with open(sys.argv[1], encoding="utf-8") as lines:
        known = truth.Truth(lines)
    good = check.from_recording(wire.load(sys.argv[2]))
    if truth.Check(known, good).check():
        print("the recording is not good to begin with: see check.py")
        return 1
    tried, missed = 0, []
    for what, bad in mutations(good, known, random.Random(1)):
        tried += 1
        if not truth.Check(known, bad).check():
            missed.append(what)
    print(f"{tried} falsified recordings, {len(missed)} not noticed")
    for what in missed:
        print(f"  not noticed: {what}")
    return 1 if missed or not tried else 0


if __name__ == "__main__":
    sys.exit(main())
