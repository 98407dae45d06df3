#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""who.py TRUTH RAW: is recorded who should be, and nobody else? Against the truth of workloads/targets.c."""

import sys
from collections import defaultdict

import wire

FLAGS = {0: "-", 1: "attached", 2: "forked", 4: "execed", 8: "detached", 12: "left"}


def histories(rec):
    """PROCESS records of each process as (flag, comm), the same one twice in a row once."""
    told, last = defaultdict(list), {}
    for p in rec.named(wire.Process):
        entry = (FLAGS.get(p.flags, str(p.flags)), p.comm)
        if last.get(p.tgid) != (p.start_boot, *entry):
            told[p.tgid].append(entry)
        last[p.tgid] = (p.start_boot, *entry)
    return told


def matches(told, wanted):
    """A bare record just before one that says more may be there or not: a rename and what followed from it."""
    at = 0
    for entry in told:
        if at < len(wanted) and all(w in ("*", t) for w, t in zip(wanted[at], entry)):
            at += 1
        elif entry[0] != "-":
            return False
    return at == len(wanted)


def check(lines, rec):
    """Yields what is wrong, last the figures."""
    refs, pages, all_pages = rec.merged(), set(), set()
    seen = {r.tgid for r in refs}
    for r in refs:
        pages.add((r.tgid, r.tid, r.addr & ~4095))
        all_pages.add(r.addr & ~4095)
    told, wanted, never, anyone = histories(rec), defaultdict(list), set(), False
    ends = {e.tgid for e in rec.named(wire.Exit)}
    yes = no = 0
    for line in lines:
        word, *rest = line.rstrip("\n").split(" ", 3)
        if word == "touch":
            tid, addr, last = int(rest[1]), *rest[2].split(" ", 1)
            count, expected = last.split()
            for page in range(int(addr, 16), int(addr, 16) + 4096 * int(count), 4096):
                if expected == "yes":
                    yes += 1
                    if (int(rest[0]), tid, page) not in pages:
                        yield f"page {page:#x} of process {rest[0]}, thread {tid}, is missing"
                else:
                    no += 1
                    if page in all_pages:
                        yield f"page {page:#x} of process {rest[0]} is recorded, and was not to be"
        elif word == "process":
            wanted[int(rest[0])].append((rest[1], rest[2]))
        elif word == "ended" and int(rest[0]) not in ends:
            yield f"process {rest[0]} has no EXIT record"
        elif word == "starts":
            starts = {p.start_boot for p in rec.named(wire.Process) if p.tgid == int(rest[0])}
            if len(starts) != int(rest[1]):
                yield f"pid {rest[0]} was {len(starts)} processes, expected {rest[1]}"
        elif word == "quiet":
            pid, start, end = map(int, rest)
            loud = sum(r.tgid == pid and start <= r.time <= end for r in refs)
            cleaned = sum(c.tgid == pid and c.end >= start and c.start <= end for c in rec.named(wire.Clean))
            if loud or cleaned:
                yield f"process {pid} was to be left alone: {loud} references, {cleaned} passes of the cleaner"
        elif word == "never":
            never.add(int(rest[0]))
        elif word == "anyone":
            anyone = True
    if not yes:
        yield "the truth says next to nothing"
    for pid, entries in wanted.items():
        if not matches(told[pid], entries):
            yield f"process {pid} is told as {told[pid]}, expected {entries}"
    strangers = (never if anyone else seen | set(told)) - set(wanted)
    for pid in sorted(strangers & (seen | set(told))):
        yield f"process {pid} {told[pid]} is recorded, and was not to be"
    yield f"pages recorded as they must be {yes}, not recorded as they must not be {no}, processes {len(wanted)}"


def main():
    rec = wire.load(sys.argv[2])
    rec.check_numbers()
    with open(sys.argv[1], encoding="utf-8") as file:
        *faults, figures = check(file.readlines(), rec)
    lost = sum(r.count for r in rec.lost())
    if lost:
        faults.append(f"{lost} records were lost")
    print(figures)
    for fault in faults[:20]:
        print(f"  {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
