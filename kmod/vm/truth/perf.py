#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""perf.py STEP [--uid N]: a recording by `--source perf` against the truth of its workload, through ingest and SQL.

STEP is a folder that guest.sh left: chunks/ and truth. What perf does not tell is not asked for: how most pages were used,
that a file was unlinked after it was mapped, how a process ended that is not the recorder's own child.
"""

import argparse
import collections
import pathlib
import sys

import pipeline
import truth
import wire

UNKNOWN_CODE = 2**32 - 1


class Check(truth.Check):
    """As for the module at level light."""

    def __init__(self, *args):
        super().__init__(*args, "light")

    def verdict(self, p, t):
        p.passes, p.starts = [], []
        return self._verdict(p, p.regions[t.region], t)[0]

    def _identity(self, region, n, touch, row):
        if row.access is None:
            self.figures["access unknown"] += 1
            row = row._replace(access=touch.access)
        super()._identity(region, n, touch, row)

    def _objects(self):
        # Unlinked since it was mapped: not told. What was unlinked before that is.
        known = {o.path: o.deleted for o in self.rec.objects}
        self.truth.deleted = {path: known.get(path, False) for path in self.truth.deleted}
        super()._objects()

    def _processes(self):
        self.rec = self.rec._replace(processes=[p._replace(code=self._code(p)) for p in self.rec.processes])
        super()._processes()

    def _code(self, p):
        status = self.truth.processes[p.pid].status if p.pid in self.truth.processes else None
        return status if p.code in (None, UNKNOWN_CODE) else p.code


def accounts(rec, refs, losses):
    """Every reference that was translated is a row, every loss is counted, and the chunk's own sums say so."""
    for c in rec.totals["cpus"]:
        rows = sum(1 for r in refs if int(r["cpu"]) == c["cpu"])
        told = sum(isinstance(r, wire.Lost) for r in rec.refs.get(c["cpu"], []))
        if c["refs_emitted"] != rows + told:
            yield f"cpu {c['cpu']}: {c['refs_emitted']} records emitted, SQL has {rows} rows and {told} were LOST records"
        lost = sum(int(r["count"]) for r in losses if int(r["cpu"]) == c["cpu"])
        if c["refs_lost"] != lost:
            yield f"cpu {c['cpu']}: {c['refs_lost']} lost, SQL counts {lost}"


def covered(check, rows, lost):
    """Every touch that must have been recorded was, or was counted as lost."""
    required = sum(check.verdict(p, t) == truth.MUST for p in check.truth.processes.values()
                   for touches in p.touches.values() for t in touches)
    check.figures.update(must=required, lost=lost)
    if not lost or rows + lost < required:
        yield f"{rows} rows and {lost} lost, of {required} touches that had to be recorded"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", type=pathlib.Path)
    parser.add_argument("--uid", type=int, default=0)
    parser.add_argument("--lossy", action="store_true", help="much was lost, names too: count only")
    args = parser.parse_args()
    dataset = args.step / "dataset"
    try:
        pipeline.run([pipeline.INGEST, args.step / "chunks", "--to", dataset], [1 if args.lossy else 0])
        rec = wire.load_chunks(args.step / "chunks")
        rec.check_numbers()
        refs = pipeline.sql(dataset, "SELECT seq, CAST(ts AS BIGINT) AS ts, cpu, uid, pid, tid, upid, comm, path, object_kind, "
                            "event, access, major, addr, ip, object_id, page, page_order FROM refs ORDER BY seq")
        losses = pipeline.sql(dataset, "SELECT * FROM losses")
        faults = list(pipeline.compare("refs", refs, pipeline.expected_refs(rec)))
        faults += accounts(rec, refs, losses)
        recorded = pipeline.recorded(dataset, rec, refs)
        with open(args.step / "truth", encoding="utf-8") as lines:
            check = Check(truth.Truth(lines), recorded)
        if args.lossy:
            faults += covered(check, len(refs), sum(int(r["count"]) for r in losses))
            print(f"{len(refs)} references, {check.figures['must']} required, lost {check.figures['lost']}")
            for fault in faults:
                print(f"  {fault}")
            return 1 if faults else 0
        faults += check.check()
        users = {(r["pid"], r["uid"]) for r in refs if int(r["uid"]) != args.uid}
        if users:
            faults.append(f"processes of other users than {args.uid}: {sorted(users)}")
        hot = pipeline.sql(dataset, "SELECT object_id, path, refs FROM hot_files")
        sums = collections.Counter((r["object_id"], r["path"]) for r in refs)
        faults += [f"hot_files: {h}, counted {sums[h['object_id'], h['path']]}" for h in hot
                   if int(h["refs"]) != sums[h["object_id"], h["path"]]]
        # [vvar] is the only mapping here of kind other; whatever was not told is, too, and has no MAPPING record.
        mapped = {m.object for m in rec.named(wire.Mapping)}
        faults += [f"of a mapping that nobody told: {r}" for r in refs if int(r["object_id"]) not in mapped]
    except (pipeline.Failed, wire.Broken, ValueError) as error:
        print(f"  {error}")
        return 1
    print(f"{len(refs)} references, {len(hot)} files; "
          + ", ".join(f"{what} {n}" for what, n in check.figures.items()))
    for fault in faults:
        print(f"  {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
