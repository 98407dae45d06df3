#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""patterns.py [--table] STEP..: verdicts on recordings of labelled strings (workloads/patterns.c), held against the labels.

STEP is a folder that guest.sh left (chunks/, truth), or one with the chunks beside the truth. First the strings: of a file
that was read every reference must be there, of one that was mapped each page's first, and nothing out of order. Then the views:
object_patterns, and patterns in windows where a file has enough references for its pattern to show. --table prints what was
said of which label; so does a failure. PGTRACE_INGEST and PGTRACE_SQL name the programs.
"""

import argparse
import collections
import itertools
import pathlib
import sys
import tempfile

from pipeline import INGEST, Failed, run, sql

WINDOW = 10000
ENOUGH = 300  # references to a file in a window: two rounds of the loop
LEAST = 0.95  # share of verdicts that are right
PATTERNS = ["sequential", "strided", "looping", "clustered", "skewed", "random", "one-shot", "unknown"]
OURS = "path LIKE '%-read.dat' OR path LIKE '%-mmap.dat'"


def name(path):
    """SET/LABEL-WAY.dat, as in the truth."""
    return "/".join(path.split("/")[-2:])


def label(path):
    return name(path).split("/")[1].rsplit("-", 1)[0]


def part_of(part, whole):
    rest = iter(whole)
    return all(page in rest for page in part)


def strings(dataset, truth):
    """Yields what is wrong with the recorded strings."""
    found = collections.defaultdict(list)
    for r in sql(dataset, f"SELECT path, page FROM page_references WHERE {OURS} ORDER BY seq"):
        found[name(r["path"])].append(r["page"])
    for file, pages in truth.items():
        got = found.pop(file, [])
        if file.endswith("-read.dat"):
            if got != pages:
                yield f"{file}: recorded {len(got)} references, read {len(pages)}: {' '.join(got[:20])} .."
        # A page may leave the FIFO before its thread, which lost the CPU in between, has used it; then it faults again.
        elif not part_of([p for p, _ in itertools.groupby(got)], pages):
            yield f"{file}: recorded what was not referenced: {' '.join(got[:20])} .."
        elif set(got) != set(pages):
            yield f"{file}: {len(set(pages) - set(got))} pages were never recorded"
    for file in found:
        yield f"{file}: recorded, but not in the truth"


def check(step, tallies):
    chunks = step / "chunks" if (step / "chunks").is_dir() else step
    truth = {}
    for line in (step / "truth").read_text().splitlines():
        file, *pages = line.split()
        truth[file] = pages
    with tempfile.TemporaryDirectory() as work:
        dataset = pathlib.Path(work) / "dataset"
        run([INGEST, chunks, "--to", dataset], [0])
        faults = list(strings(dataset, truth))
        columns = "path, refs, pages, pattern, round(confidence, 2) AS confidence, mean_rank, shuffled_rank, popularity_ratio"
        for view, enough in (("object_patterns", 0), (f"patterns({WINDOW})", ENOUGH)):
            for v in sql(dataset, f"SELECT {columns} FROM {view} WHERE ({OURS}) AND refs >= {enough}"):
                tallies[view][label(v["path"]), v["pattern"]] += 1
                if v["pattern"] != label(v["path"]):
                    figures = ", ".join(f"{k} {x}" for k, x in v.items() if k != "path" and x is not None)
                    print(f"{name(v['path'])}, {view}: {figures}")
        said = sql(dataset, f"SELECT DISTINCT path FROM object_patterns WHERE {OURS}")
        faults += [f"{file}: no verdict" for file in truth.keys() - {name(v["path"]) for v in said}]
    return faults


def judge(view, tally):
    """Says how many are right; yields why they are too few."""
    right, all_of = sum(n for (is_, said), n in tally.items() if is_ == said), sum(tally.values())
    print(f"{view}: {right} of {all_of} right")
    if right < LEAST * all_of:
        yield f"{view}: fewer than {LEAST:.0%} right"
    for is_ in PATTERNS[:-1]:
        of_label = sum(tally[is_, said] for said in PATTERNS)
        if 2 * tally[is_, is_] <= of_label:
            yield f"{view}: {is_} is missed, {tally[is_, is_]} of {of_label}"


def table(view, tally):
    columns = [said for said in PATTERNS if any(tally[is_, said] for is_ in PATTERNS)]
    print(f"| {view}: label | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for is_ in PATTERNS[:-1]:
        print(f"| {is_} | " + " | ".join(str(tally[is_, said] or "") for said in columns) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", type=pathlib.Path, nargs="+")
    parser.add_argument("--table", action="store_true", help="print what was said of which label")
    args = parser.parse_args()
    tallies, faults = {"object_patterns": collections.Counter(), f"patterns({WINDOW})": collections.Counter()}, []
    try:
        for step in args.step:
            faults += check(step, tallies)
    except (Failed, OSError) as error:
        print(f"  {error}")
        return 1
    for view, tally in tallies.items():
        faults += judge(view, tally)
    if args.table or faults:
        for view, tally in tallies.items():
            table(view, tally)
    for fault in faults:
        print(f"  {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
