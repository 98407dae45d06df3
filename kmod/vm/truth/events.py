#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""events.py EXPECTED RAW [--fifo] [--order 0|9]: mapping life, fault-around and huge pages against what
workloads/events.c says it did. --fifo: neighbours of a fault are made to fault; --order: size of the pages expected.
Prints what was compared; exit code 1 where something is wrong."""

import argparse
import sys

import wire

PAGE = 4096


def prot(text):
    return None if text == "-" else (text[0] == "r") | (text[1] == "w") << 1 | (text[2] == "x") << 2 | (text[3] == "s") << 3


class Check:
    def __init__(self, rec, args):
        self.maps, self.arounds, self.refs = rec.named(wire.Map), rec.named(wire.Around), rec.merged()
        self.exits = {e.tgid: e.code for e in rec.named(wire.Exit)}
        self.paths, self.args, self.faults, self.used, self.figures = {}, args, [], set(), {}
        for o in rec.named(wire.Object):
            self.paths.setdefault(o.object, (o.path or "").replace(" (deleted)", ""))

    def wrong(self, what):
        self.faults.append(what)

    def count(self, what):
        self.figures[what] = self.figures.get(what, 0) + 1

    def map(self, pid, op, start, end, text, old_start, old_end, page, t0, t1, path):
        pid, start, end, old_start, old_end, page, t0, t1 = map(int, (pid, start, end, old_start, old_end, page, t0, t1))
        found = [m for m in self.maps if m.tgid == pid and t0 <= m.time <= t1 and m.op == op]
        if len(found) != 1:
            return self.wrong(f"{op} {start:#x}: {len(found)} records, expected 1: {found}")
        m = found[0]
        self.used.add((m.cpu, m.seq))
        self.count(op)
        want = (start, end, old_start, old_end)
        if (m.start, m.end, m.old_start, m.old_end) != want:
            self.wrong(f"{op}: expected {want}, found {m}")
        if op not in ("munmap", "mremap") and (m.prot, m.page) != (prot(text), page):
            self.wrong(f"{op}: expected protection {prot(text)} and page {page}, found {m}")
        if path != "-" and op != "mremap" and path not in self.paths.get(m.object, ""):
            self.wrong(f"{op}: expected object {path}, found {self.paths.get(m.object)}")

    def grown(self, pid, end, t0, t1):
        found = [m for m in self.maps if m.tgid == int(pid) and int(t0) <= m.time <= int(t1) and m.op == "stack"]
        self.used.update((m.cpu, m.seq) for m in found)
        self.count("stack")
        if not found or any(m.end != int(end) for m in found):
            return self.wrong(f"stack: expected growth of the one that ends at {int(end):#x}, found {found}")
        if found[-1].end - found[-1].start < 60 * PAGE:
            self.wrong(f"stack: expected 60 pages at least, found {found[-1]}")

    def span(self, pid, t0, t1):
        for m in self.maps:
            if m.tgid == int(pid) and int(t0) <= m.time <= int(t1) and (m.cpu, m.seq) not in self.used:
                self.wrong(f"nothing else happened, but {m}")

    def exit(self, pid, code):
        if self.exits.get(int(pid)) != int(code):
            self.wrong(f"exit of {pid}: expected {code}, found {self.exits.get(int(pid))}")

    def around(self, pid, base, pages, touched, t0, t1, path):
        pid, base, pages, touched, t0, t1 = map(int, (pid, base, pages, touched, t0, t1))
        found = [a for a in self.arounds if a.tgid == pid and t0 <= a.time <= t1]
        if len(found) != 1:
            return self.wrong(f"{len(found)} ranges around the fault, expected 1: {found}")
        a = found[0]
        self.range = (a.addr, a.addr + a.pages * PAGE)
        self.count("around")
        if a.touched != touched or not base <= a.addr <= touched < self.range[1] <= base + pages * PAGE:
            self.wrong(f"expected a range in the mapping around {touched:#x}, found {a}")
        if a.page != (a.addr - base) // PAGE or not 2 <= a.pages <= 16 or self.paths.get(a.object) != path:
            self.wrong(f"expected page {(a.addr - base) // PAGE} of {path}, up to 16 of them, found {a}")

    def neighbour(self, pid, addr, t0, t1):
        found = [r for r in self.refs if r.tgid == int(pid) and int(t0) <= r.time <= int(t1) and r.addr == int(addr)]
        if not self.range[0] <= int(addr) < self.range[1]:
            return  # where the kernel puts the range is its own affair; pages of up to 15 were touched
        self.count("neighbours")
        if [r.event for r in found] != (["retouch"] if self.args.fifo else []):
            self.wrong(f"neighbour {int(addr):#x}: found {found}")

    def huge(self, pid, addr, turn, t0, t1):
        pid, addr, turn, t0, t1 = map(int, (pid, addr, turn, t0, t1))
        found = [r for r in self.refs if r.tgid == pid and t0 <= r.time <= t1 and r.addr == addr]
        order = self.args.order
        want = [("retouch" if turn else "fault", order, addr // PAGE >> order << order)]
        self.count("touches")
        if [(r.event, r.order, r.page) for r in found] != want:
            self.wrong(f"touch of {addr:#x}, round {turn}: expected {want}, found {found}")

    def whole(self, pid, kb):
        want = 8 * 2048 if self.args.order else 0
        self.count("pages are whole as expected")
        if int(kb) != want:
            self.wrong(f"{kb} kB of huge pages in {pid}, expected {want}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("expected")
    parser.add_argument("raw")
    parser.add_argument("--fifo", action="store_true")
    parser.add_argument("--order", type=int, default=0)
    args = parser.parse_args()
    rec = wire.load(args.raw)
    rec.check_numbers()
    check = Check(rec, args)
    with open(args.expected, encoding="utf-8") as lines:
        for line in lines:
            word, *fields = line.split()
            getattr(check, word)(*fields)
    if not check.figures or check.arounds and check.figures.get("around") and not check.figures.get("neighbours"):
        check.wrong("nothing was compared")
    print(", ".join(f"{what} {n}" for what, n in check.figures.items()))
    for fault in check.faults:
        print(f"  {fault}")
    return 1 if check.faults else 0


if __name__ == "__main__":
    sys.exit(main())
