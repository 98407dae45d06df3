#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""switch.py FOLDER: a recording whose level and policy were switched while it ran (guest-recorder.sh, step switch). Each
switch is a record, in order, with what was switched from and to; and what was recorded between two of them fits."""

import pathlib
import sys

import wire

LEVELS = ["off rich", "rich light", "light full", "full off"]
# clean_ms and fifo, as they were set one after the other.
POLICIES = [(20, 0), (10, 0), (0, 64), (0, 0), (0, 32), (0, 0), (30, 0)]


def main():
    folder, faults = pathlib.Path(sys.argv[1]), []
    rec = wire.load_chunks(folder / "chunks")
    levels = rec.named(wire.Level)
    if (found := [f"{r.from_} {r.to}" for r in levels]) != LEVELS:
        faults.append(f"levels {found}, expected {LEVELS}")
    policies = [(r.clean_ms, r.fifo) for r in rec.named(wire.Policy)]
    if policies != POLICIES:
        faults.append(f"policies {policies}, expected {POLICIES}")
    if not faults:
        # A hook that ran while a level was switched may go by the old one for a moment.
        slack, spans = 20_000_000, zip(levels, levels[1:])
        for before, after in spans:
            refs = [r for r in rec.merged() if before.time + slack < r.time < after.time - slack]
            seen = {r.event for r in refs}
            if before.to == "light":
                # Pages that were cleaned before the switch fault once more, each.
                late = [(r.tgid, r.object, r.page) for r in refs if r.event == "retouch"]
                if seen - {"fault", "retouch"} or len(late) != len(set(late)):
                    faults.append(f"at level light: {seen}, {len(late)} retouches of {len(set(late))} pages")
            if before.to != "full" and seen & {"lookup", "insert", "evict"}:
                faults.append(f"at level {before.to}: {seen}")
            if before.to == "full" and not {"retouch", "lookup"} <= seen:
                faults.append(f"at level full: only {seen}")
    print(f"{len(levels)} levels, {len(policies)} policies, {len(rec.merged())} references")
    for fault in faults:
        print(f"  {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
