# SPDX-License-Identifier: GPL-2.0
"""Holds a recording against the truth that a workload wrote down (workloads/truth.h).

Every touch of a region is known with the time before and after it, and so is
every pass of the cleaner. From that follows for each touch whether it MUST have
been recorded (the page was never touched before; or a whole cleaning pass lies
between its last touch and this one; or it is the first write after a fork or to
the zero page), whether it MUST NOT (no pass came near since the last touch), or
whether it may (a pass ran just then). So no sleeping makes the test right or wrong.
Under the FIFO policy a page's eviction record takes the place of the pass, and the
records are held against what a FIFO of N pages is.
"""

import bisect
from collections import defaultdict, namedtuple

# One row of the recording, times in ns of CLOCK_MONOTONIC.
Row = namedtuple("Row", "seq time cpu pid tid event access major addr object page order kind path kernel", defaults=[False])
Obj = namedtuple("Obj", "object kind path deleted")
Proc = namedtuple("Proc", "pid ppid comm exe code")
Pass = namedtuple("Pass", "pid start end")
# A page that left the FIFO.
Left = namedtuple("Left", "seq time pid addr since dirtied rereferenced gone")
# What a recording says: rows in the order of the reference string.
# execs: (seq, pid), where the process began a new address space.
Recorded = namedtuple("Recorded", "rows objects processes passes left execs", defaults=[(), ()])

Touch = namedtuple("Touch", "index tid region page access t0 t1")
OBJECT_KIND = {"anon": "anon", "heap": "heap", "stack": "stack", "shmem": "shmem", "shared": "file", "private": "file"}
ACCESS = {"r": "read", "w": "write", "x": "exec", "m": "none"}
SLACK = 20_000  # ns: how far the recorder's clock and the program's may be apart
# ns: between a page's eviction and its record; the machine is emulated, its processors may be held up
LATE = 20_000_000
CACHE = ("lookup", "insert", "evict")  # of the page cache: no address
PAGE = 4096
MUST, MAY, NOT = "must", "may", "must not"


class Region:
    def __init__(self, pid, fields):
        number, kind, base, pages, file_page, inherited, path = fields
        self.pid, self.id, self.kind = pid, int(number), kind
        self.base, self.pages, self.file_page = int(base), int(pages), int(file_page)
        self.inherited, self.path = inherited == "1", None if path == "-" else path
        self.touches = defaultdict(list)  # page -> touches by anybody in this process, by t0

    def page_of(self, addr):
        n = (addr - self.base) // PAGE
        return n if 0 <= n < self.pages else None


class Process:
    def __init__(self):
        self.ppid = self.comm = self.exe = self.parent = self.fork = self.status = self.end = None
        self.regions, self.touches, self.retouches, self.wrong = {}, defaultdict(list), 0, 0
        self.passes, self.starts, self.major = [], [], {}


class Truth:
    def __init__(self, lines):
        self.processes = defaultdict(Process)
        self.lookups, self.deleted, self.files = defaultdict(list), {}, set()
        pid, pending = None, []
        for line in lines:
            word, *f = line.split()
            pending.append((word, f))
            if word == "end":  # a process wrote its lines at once; its pid is in here
                pid = int(f[0])
                for word, f in pending:
                    self._line(pid, word, f)
                pending = []
        if pending:
            raise ValueError("the truth is cut off: a process did not get to its end")

    def _line(self, pid, word, f):
        p = self.processes[pid]
        if word == "process":
            p.ppid, p.comm, p.exe = int(f[1]), f[2], f[3]
        elif word == "fork":
            child = self.processes[int(f[1])]
            child.parent, child.fork = pid, (int(f[2]), int(f[3]))
        elif word == "exit":
            self.processes[int(f[0])].status = int(f[1])
        elif word == "region":
            r = Region(pid, f[1:])
            p.regions[r.id] = r
            if r.kind in ("shared", "private"):
                self.files.add(r.path)
        elif word == "touch":
            tid, region, page, access, t0, t1 = f
            t = Touch(len(p.touches[int(tid)]), int(tid), int(region), int(page), ACCESS[access], int(t0), int(t1))
            p.touches[t.tid].append(t)
            p.regions[t.region].touches[t.page].append(t)
        elif word == "lookup":
            tid, page, t0, t1, path = f
            self.lookups[int(tid)].append((path, int(page), int(t0), int(t1)))
            self.files.add(path)
        elif word == "object":
            self.deleted[f[1]] = f[0] == "1"
        elif word == "major":
            p.major[int(f[1]), int(f[2])] = f[3] == "1"
        elif word == "retouches":
            p.retouches += int(f[1])
        elif word == "end":
            p.end, p.wrong = int(f[1]), int(f[2])
        else:
            raise ValueError(f"unknown line {word}")


class Check:
    """check() gives the list of what is wrong, at most `limit` a kind; .figures counts what was compared."""

    def __init__(self, truth, recorded, level="full", limit=8, fifo=0):
        self.truth, self.rec, self.level, self.limit, self.fifo = truth, recorded, level, limit, fifo
        self.page = None  # the one a verdict is on
        self.faults, self.figures = defaultdict(list), defaultdict(int)

    def wrong(self, what, detail):
        self.faults[what].append(detail)

    def check(self, allow_missing=0):
        """allow_missing: so many required records may be absent (the recording lost as many)."""
        self._passes()
        used = self._match()
        self._required(used, allow_missing)
        self._lookups(allow_missing)
        if self.level == "full" and not allow_missing:
            self._cache()
        if self.fifo and not allow_missing:
            self._fifo()
            self._flags()
        self._objects()
        self._processes()
        out = []
        for what, details in self.faults.items():
            out += [f"{what}: {d}" for d in details[: self.limit]]
            if len(details) > self.limit:
                out.append(f"{what}: and {len(details) - self.limit} more")
        return out

    def _passes(self):
        for pid, p in self.truth.processes.items():
            p.pid, p.passes, p.evictions = pid, [], defaultdict(list)
        for e in self.rec.left:
            if e.pid in self.truth.processes and not e.gone:
                self.truth.processes[e.pid].evictions[e.addr // PAGE].append(e.time)
        for c in self.rec.passes:
            if c.pid in self.truth.processes:
                self.truth.processes[c.pid].passes.append((c.start, c.end))
        for p in self.truth.processes.values():
            p.passes.sort()
            p.starts = [s for s, _ in p.passes]

    def _overlap(self, p, since, until):
        """A pass over process p ran at some time in [since, until]."""
        if self.fifo and any(since <= t <= until + LATE for t in p.evictions[self.page]):
            return True
        i = bisect.bisect_right(p.starts, until) - 1
        return i >= 0 and p.passes[i][1] >= since

    def _whole(self, p, since, until):
        """A pass began and ended in (since, until)."""
        if self.fifo:  # a sweep leaves active pages alone: it proves nothing
            return any(since < t < until for t in p.evictions[self.page])
        i = bisect.bisect_right(p.starts, since)
        return i < len(p.starts) and p.passes[i][1] < until

    def _history(self, p, region, t):
        """Touches that may have come before t, here or in an ancestor whose page tables were copied."""
        past = [(p, q) for q in region.touches[t.page] if q.t0 < t.t1 and q is not t]
        child, here = p, region
        while here.inherited and here.kind not in ("shared", "shmem") and child.parent in self.truth.processes:
            parent = self.truth.processes[child.parent]
            here = parent.regions.get(region.id)
            if here is None:
                break
            past += [(parent, q) for q in here.touches[t.page] if q.t1 <= child.fork[0]]
            child = parent
        return past

    def _cleaned(self, p, owner, since, until, test):
        """As `test`, along the chain of forks from the process that touched to the one that touches."""
        chain, child = [], p
        while child is not owner:
            chain.append(child)
            child = self.truth.processes[child.parent]
        for child in reversed(chain):
            parent = self.truth.processes[child.parent]
            # While the fork ran, a pass may or may not have come before the copy.
            if test(parent, since, child.fork[0] if test == self._whole else child.fork[1]):
                return True
            since = child.fork[0] if test == self._overlap else child.fork[1]
        return test(p, since, until)

    def _verdict(self, p, region, t):
        """(must, may or must not; event where it is certain)."""
        if t.access == "none":
            return NOT, None
        past = self._history(p, region, t)
        self.page = region.base // PAGE + t.page
        rich = self.level != "light"
        if not past:
            # Inherited private file pages: copied with the page tables or not, as the kernel likes.
            if region.kind == "stack" or (region.kind == "private" and region.inherited):
                return MAY, None
            return MUST, "fault"
        anon = region.kind in ("anon", "heap", "stack")
        last = max(q.t1 for _, q in past)
        owner = max(past, key=lambda x: x[1].t1)[0]
        forks = [c.fork for c in self.truth.processes.values() if c.fork and self.truth.processes.get(c.parent) is p]
        if p.fork:
            forks.append(p.fork)
        if rich and last < t.t0 and self._cleaned(p, owner, last, t.t0, self._whole):
            return MUST, "retouch"
        passed = rich and self._cleaned(p, owner, min(q.t0 for _, q in past if q.t1 >= last), t.t1, self._overlap)
        writes = [(o, q) for o, q in past if q.access == "write"]
        if t.access == "write":
            event = None if passed else "fault"
            if not writes:
                # The zero page, or a page of the file that is to be copied. Shared file pages may be writable already.
                return (MUST if anon and last <= t.t0 else MAY), event
            o, w = max(writes, key=lambda x: x[1].t1)
            forked = [f for f in forks if f[1] > w.t0 and f[0] < t.t1]
            if forked and region.kind not in ("shared", "shmem"):
                sure = anon and last <= t.t0 and any(f[0] >= w.t1 and (f[1] <= t.t0 or f is p.fork) for f in forked)
                return (MUST if sure else MAY), event
            passed = rich and self._cleaned(p, o, w.t0, t.t1, self._overlap)
            return (MAY, None) if passed or w.t1 > t.t0 else (NOT, None)
        if passed:
            return MAY, None
        done = any(q.t1 <= t.t0 for _, q in past)
        if region.inherited and region.kind == "private":
            return MAY, None
        return (NOT if done else MAY), None

    def _match(self):
        """Each row in a region belongs to one touch, in the order of its thread. -> {id of touch: rows}"""
        used, last = defaultdict(list), {}
        for row in self.rec.rows:
            p = self.truth.processes.get(row.pid)
            if p is None or row.event in CACHE or row.addr is None:
                continue
            for region in p.regions.values():
                n = region.page_of(row.addr)
                if n is not None:
                    break
            else:
                if row.path in self.truth.files and row.kind == "file":
                    self.wrong("a file's page outside of every mapping", row)
                continue
            if p.end is not None and row.time > p.end:
                continue  # its end: memory is torn down
            if region.kind == "stack" and row.time < min(t[0].t0 for t in region.touches.values()):
                continue  # earlier frames of the program used the same memory
            self.figures["references in regions"] += 1
            touch = self._touch_at(region.touches.get(n, ()), row)
            if touch is None:
                self.wrong("a reference that the program did not make", f"{row}, page {n} of region {region.id}")
                continue
            self._identity(region, n, touch, row)
            key = (row.pid, row.tid)
            before = last.get(key, touch)
            self.page = row.addr // PAGE
            # Pages of one system call share its time: a pass in the middle may make the kernel begin again.
            again = touch.t0 == before.t0 and self._overlap(p, touch.t0, touch.t1)
            if touch.index < before.index and not again:
                self.wrong("out of order", f"{row} is touch {touch.index} of its thread, after {before.index}")
            last[key] = max(touch, before)
            used[row.pid, touch.tid, touch.index].append(row)
        return used

    @staticmethod
    def _touch_at(touches, row):
        for slack in (0, SLACK):
            for t in touches:
                if t.tid == row.tid and t.access != "none" and t.t0 - slack <= row.time <= t.t1 + slack:
                    return t
        return None

    def _identity(self, region, n, touch, row):
        if region.kind in ("shared", "private"):
            page, path = region.file_page + n, region.path
        elif region.kind == "shmem":
            page, path = region.file_page + n, region.path
        else:
            page, path = region.base // PAGE + n, None
        want = (OBJECT_KIND[region.kind], path, page, touch.access, 0, row.addr // PAGE)
        got = (row.kind, row.path, row.page, row.access, row.order, region.base // PAGE + n)
        if want != got:
            self.wrong("kind, path, page, access, order, page address", f"expected {want}, found {got} in {row}")

    def _required(self, used, allow_missing):
        missing = []
        for pid, p in self.truth.processes.items():
            found = 0
            for touches in p.touches.values():
                for t in touches:
                    region = p.regions[t.region]
                    rows = used.get((pid, t.tid, t.index), [])
                    verdict, event = self._verdict(p, region, t)
                    self.figures["touches"] += 1
                    self.figures[verdict] += 1
                    if verdict == MUST:
                        self.figures["known to need I/O"] += event == "fault" and p.major.get((t.region, t.page), False)
                        found += event == "retouch"
                        if not rows:
                            missing.append(f"pid {pid} {region.kind} {t}")
                        elif allow_missing:
                            pass  # the first of several records of this touch may be among the lost
                        elif event == "fault" and rows[0].major != p.major.get((t.region, t.page), rows[0].major):
                            self.wrong("major", f"expected {not rows[0].major}, found {rows[0]}")
                        elif event and rows[0].event != event:
                            self.wrong("event", f"expected {event}, found {rows[0]} for {t}")
                    elif verdict == NOT and rows:
                        self.wrong("recorded, though the page was present", f"{rows[0]} for pid {pid} {region.kind} {t}")
                    # A pass in the middle of a touch makes it fault anew; a write then may need a fault to find the
                    # page cleaned and one to make it writable (with faults of the instruction's own page in between).
                    passes = sum(1 for s, e in p.passes if s <= t.t1 and e >= t.t0)
                    passes += sum(1 for e in p.evictions[region.base // PAGE + t.page] if t.t0 <= e <= t.t1 + LATE)
                    most = 1 + passes * (2 if t.access == "write" else 1)
                    if len(rows) > most:
                        self.wrong("one touch, several references", f"pid {pid} {region.kind} {t}: {rows}")
            self.figures["required re-references"] += found
            if self.level != "light" and not allow_missing and not self.fifo and found < p.retouches:
                self.wrong("the test proved too little", f"pid {pid}: {found} required re-references, wanted {p.retouches}")
        self.figures["missing"] = len(missing)
        if len(missing) > allow_missing:
            for m in missing:
                self.wrong("not recorded" if not allow_missing else f"not recorded (of {allow_missing} lost)", m)

    def _lookups(self, allow_missing):
        got = defaultdict(list)
        for row in self.rec.rows:
            if row.event == "lookup" and row.path in self.truth.files:
                got[row.tid].append(row)
        for tid in set(got) | set(self.truth.lookups):
            want = self.truth.lookups.get(tid, []) if self.level == "full" else []
            rows = got.get(tid, [])
            self.figures["look-ups"] += len(want)
            if allow_missing:
                continue
            if [(r.path, r.page) for r in rows] != [(path, page) for path, page, _, _ in want]:
                at = next((i for i, (a, b) in enumerate(zip(rows, want)) if (a.path, a.page) != b[:2]),
                          min(len(rows), len(want)))
                self.wrong("look-ups", f"thread {tid}: {len(rows)} found, {len(want)} expected, first difference at {at}: "
                           f"found {rows[at:at + 1]}, expected {want[at:at + 1]}")
                continue
            for row, (_, _, t0, t1) in zip(rows, want):
                if not t0 - SLACK <= row.time <= t1 + SLACK or row.access != "read" or row.addr is not None:
                    self.wrong("look-up", f"{row}, expected between {t0} and {t1}")

    def _cache(self):
        """A page enters and leaves the page cache in turns, and is looked up and mapped only while it is in there."""
        there = {}
        for row in self.rec.rows:
            if row.kind != "file" or row.path not in self.truth.files:
                continue
            key, known = (row.object, row.page), there.get((row.object, row.page))
            if row.event in ("insert", "evict"):
                self.figures[row.event + "s"] += 1
                if known is (row.event == "insert"):
                    self.wrong("page cache", f"{row}, though it was {'in' if known else 'out'} already")
                there[key] = row.event == "insert"
            elif row.event == "lookup" and known is not True:
                self.wrong("page cache", f"{row} was looked up, but never entered")

    def _fifo(self):
        """When a program goes on in user mode, at most N of its pages are active; and the first in are the first out."""
        active, last, out_of_turn = defaultdict(dict), {}, []
        events = [(r.seq, 0, r) for r in self.rec.rows if r.event in ("fault", "retouch")]
        events += [(e.seq, 1, e) for e in self.rec.left]
        events += [(seq, 2, pid) for seq, pid in self.rec.execs]
        for _, leaves, e in sorted(events, key=lambda x: x[:2]):
            if leaves == 2:
                active.pop(e, None)
                continue
            mine = active[e.pid]
            if not leaves:
                # Threads of the same process may be between their fault and their return; sections have up to 8.
                if not e.kernel and len(mine) > self.fifo + 8:
                    self.wrong("more pages active than the FIFO holds", f"{len(mine)} of {self.fifo} at {e}")
                mine[e.addr // PAGE] = e.time
                continue
            self.figures["left the FIFO"] += 1
            mine.pop(e.addr // PAGE, None)
            if e.gone:
                continue
            if e.since < last.get(e.pid, 0) - LATE:
                out_of_turn.append(f"{e}, after one that entered at {last[e.pid]}")
            last[e.pid] = e.since
        # The host may take a virtual CPU away between a reading of the clock and the place in the queue, for longer than
        # LATE if it is busy: that is one page. A queue that is none has hundreds.
        if len(out_of_turn) > self.figures["left the FIFO"] / 2000:
            for what in out_of_turn:
                self.wrong("out of turn", what)
        if not self.figures["left the FIFO"]:
            self.wrong("the test proved too little", "no page left the FIFO")

    def _flags(self):
        """What a page's record says of its active time against the touches in it (private anonymous memory)."""
        regions = {}
        for pid, p in self.truth.processes.items():
            for r in p.regions.values():
                if r.kind in ("anon", "heap"):
                    regions.update({(pid, r.base // PAGE + n): (p, r, n) for n in range(r.pages)})
        for e in self.rec.left:
            found = regions.get((e.pid, e.addr // PAGE))
            if e.gone or not found:
                continue
            p, r, n = found
            touches = [t for t in r.touches.get(n, ()) if t.access != "none"]
            inside = [t for t in touches if t.t1 >= e.since - SLACK and t.t0 <= e.time]
            sure = [t for t in inside if t.t0 >= e.since - SLACK * 50 and t.t1 <= e.time - LATE]
            if not inside or p.end is None or e.time > p.end or r.inherited:
                continue  # the program's own work (verifying it, filling it) is no touch of the truth
            self.figures["active times"] += 1
            self.figures["dirtied"] += e.dirtied
            self.figures["re-referenced"] += e.rereferenced
            if any(t.access == "write" for t in sure) and not e.dirtied:
                self.wrong("not dirtied", f"{e}: {sure}")
            if e.dirtied and not any(t.access == "write" for t in inside):
                self.wrong("dirtied, but nobody wrote", f"{e}: {inside}")
            # A thread that was held up in the middle of its touch touches again, in a way.
            held_up = len(p.touches) > 1 or any(t.t1 - t.t0 > LATE / 10 for t in inside)
            if e.rereferenced and len(inside) < 2 and not held_up:
                self.wrong("re-referenced, but touched once", f"{e}: {inside}")

    def _objects(self):
        by_path = defaultdict(list)
        for o in self.rec.objects:
            if o.kind == "file":
                by_path[o.path].append(o)
        mapped = {r.path for p in self.truth.processes.values() for r in p.regions.values()}
        for path, deleted in self.truth.deleted.items():
            if self.level != "full" and path not in mapped:
                continue  # only read(), and that is not recorded
            found = by_path.get(path, [])
            if [o.deleted for o in found] != [deleted]:
                self.wrong("object", f"{path}: expected once, deleted {deleted}, found {found}")
        # Anonymous memory of two processes is never one object.
        owners = defaultdict(set)
        for row in self.rec.rows:
            if row.kind in ("anon", "heap", "stack"):
                owners[row.object].add(row.pid)
        for number, pids in owners.items():
            if len(pids) > 1:
                self.wrong("anonymous memory of several processes in one object", f"{number}: {sorted(pids)}")

    def _processes(self):
        known = {p.pid: p for p in self.rec.processes}
        for pid, p in self.truth.processes.items():
            if p.comm is None:
                continue
            found = known.get(pid)
            if found is None:
                self.wrong("process", f"{pid} is missing")
                continue
            want = (p.ppid, p.comm, p.exe, found.code if p.status is None else p.status)
            if (found.ppid, found.comm, found.exe, found.code) != want:
                self.wrong("process", f"{pid}: expected ppid, comm, exe, exit code {want}, found {found}")
            self.figures["processes"] += 1
            if p.wrong:
                self.wrong("memory", f"pid {pid}: {p.wrong} words differ from what the program wrote")
