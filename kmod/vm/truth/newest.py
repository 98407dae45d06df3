#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""newest.py FOLDER [--snapshots] [--last SECONDS]: recordings that gave up their oldest part.

FOLDER/chunks is what was kept, FOLDER/status the module's own count. What was kept is whole: every CPU's numbers follow
one another to the last one the module gave out, and SQL gives each of these references, with all names. What was given
up is a loss of cause `overwritten`, and there is no other. --snapshots: numbers may also be missing between snapshots,
and while one was read the buffers may have been full: at most as many as the module counted, told as what they are.
FOLDER/first and /third, where they are, list chunks of one snapshot: it reads alone. --last: nothing is much older.
"""

import argparse
import pathlib
import sys
import tempfile

import wire
from pipeline import INGEST, Failed, compare, expected_refs, module_count, run, sql

COLUMNS = ("seq, CAST(ts AS BIGINT) AS ts, cpu, uid, pid, tid, upid, comm, path, object_kind, event, access, major, addr, ip, "
           "object_id, page, page_order")


def named(dataset):
    """References whose process or object nobody named."""
    (row,) = sql(dataset, "SELECT count(*) AS n, count(comm) AS comms, count(object_kind) AS kinds FROM refs WHERE pid <> 0")
    if not row["n"] == row["comms"] == row["kinds"]:
        yield f"of {row['n']} references {row['comms']} have a command name and {row['kinds']} a kind of object"
    (row,) = sql(dataset, "SELECT count(*) AS n, count(path) AS paths FROM refs WHERE object_kind = 'file'")
    if row["n"] != row["paths"]:
        yield f"of {row['n']} references to files {row['paths']} have a path"
    (row,) = sql(dataset, "SELECT count(*) AS n FROM processes WHERE exe IS NULL OR comm IS NULL")
    if row["n"] != "0":
        yield f"{row['n']} processes have no name"


def numbers(rec, counts, snapshots):
    """What is missing at the beginning of each CPU (and between snapshots); the rest must follow one another."""
    missing, faults = {}, []
    for cpu, recs in sorted(rec.refs.items()):
        last = -1
        for r in recs:
            # A LOST record stands where what it tells of would be.
            gap = r.seq - last - 1 - (r.count if type(r) is wire.Lost else 0)
            if gap:
                missing.setdefault(cpu, []).append((last + 1, gap))
                if last >= 0 and not snapshots:
                    faults.append(f"cpu {cpu}: {last} is followed by {r.seq}")
            last = r.seq
        given = counts[cpu]["refs_emitted"] + counts[cpu]["refs_lost"]
        if last != given - 1:
            faults.append(f"cpu {cpu}: ends with {last}, the module gave out {given}")
    return missing, faults


def alone(folder, listed):
    """A snapshot by itself."""
    names = [pathlib.Path(line).name for line in listed.read_text().split()]
    with tempfile.TemporaryDirectory() as work:
        dataset = pathlib.Path(work) / "dataset"
        # Its end is not the recording's: nobody knows whether something is missing behind it.
        run([INGEST, *(folder / "chunks" / name for name in names), "--to", dataset], [0, 1])
        (row,) = sql(dataset, "SELECT count(*) AS n FROM refs")
        if row["n"] == "0":
            yield f"{listed.name}: no references"
        for fault in named(dataset):
            yield f"{listed.name}: {fault}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--snapshots", action="store_true")
    parser.add_argument("--last", type=float)
    args = parser.parse_args()
    counts = module_count(args.folder / "status")
    try:
        dataset = args.folder / "dataset"
        run([INGEST, args.folder / "chunks", "--to", dataset], [0, 1] if args.snapshots else [0])
        rec = wire.load_chunks(args.folder / "chunks")
        refs = sql(dataset, f"SELECT {COLUMNS} FROM refs ORDER BY seq")
        faults = list(compare("refs", refs, expected_refs(rec)))
        missing, more = numbers(rec, counts, args.snapshots)
        faults += more
        faults += named(dataset)
        losses = sql(dataset, "SELECT cpu, cause, channel, count FROM losses")
        causes = {loss["cause"] for loss in losses}
        lost = sum(int(loss["count"]) for loss in losses if loss["cause"] == "buffer_full")
        counted = sum(count["refs_lost"] + count["names_lost"] for count in counts.values()) if args.snapshots else 0
        if causes - {"overwritten", "buffer_full"} or lost > counted:
            faults.append(f"losses of cause {causes}, {lost} for full buffers, expected what was overwritten and at most {counted}")
        for cpu, gaps in missing.items():
            gone = sum(n for _, n in gaps)
            told = sum(int(r["count"]) for r in losses if (r["cpu"], r["channel"], r["cause"]) == (str(cpu), "refs", "overwritten"))
            if told != gone:
                faults.append(f"cpu {cpu}: {gone} are missing, SQL says {told}")
        if not any(missing.values()):
            faults.append("the test proved too little: nothing was given up")
        (capture,) = sql(dataset, "SELECT refs, lost, emitted FROM captures")
        if (capture["refs"], capture["lost"]) != (str(len(refs)), str(lost)):
            faults.append(f"captures says {capture}")
        if args.last and refs:
            span = (int(refs[-1]["ts"]) - int(refs[0]["ts"])) / 1e9
            if span > args.last:
                faults.append(f"{span} s were kept, expected at most {args.last}")
        for name in ("first", "third"):
            if (args.folder / name).exists():
                faults += alone(args.folder, args.folder / name)
    except (Failed, wire.Broken, ValueError) as error:
        print(f"  {error}")
        return 1
    gone = sum(n for gaps in missing.values() for _, n in gaps)
    print(f"kept {len(refs)} references in {len(rec.headers)} chunks, {gone} records given up, {lost} lost")
    for fault in faults:
        print(f"  {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
