#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""flight.py FOLDER: recordings that keep the newest. FOLDER/1 and /2 are snapshots taken while it ran, /3 is what was
there at the end: relay files and the module's status. In each, numbers follow one another without a hole but those that
LOST records tell; from one to the next they grow, and what is between was overwritten, as the module counted; the last
number of the recording is there. Status `before` is of a snapshot's begin: what came since then had a free sub-buffer."""

import pathlib
import sys

import wire
from pipeline import module_count

SUBBUF_REFS = 4096 // 64  # step_flight's sub-buffers


def had_room(folder, part, lost):
    """Nothing is lost while a snapshot waits for its reader until a free sub-buffer was filled (records of 64 bytes, or 80)."""
    for cpu, count in module_count(folder / part / "before").items():
        given = count["refs_emitted"] + count["refs_lost"]
        for first in lost.get(cpu, []):
            if given <= first < given + SUBBUF_REFS * 64 // 80:
                yield f"part {part}, cpu {cpu}: {first} is lost, {given} were given out before the snapshot began"


def main():
    folder, faults, kept = pathlib.Path(sys.argv[1]), [], 0
    last, missing, counts, lost = {}, {}, {}, {}
    for part in "123":
        counts = module_count(folder / part / "status")
        for path in sorted((folder / part).glob("refs*")):
            records = list(wire.decode(path.read_bytes()))
            cpu, kept = int(path.name[4:]), kept + len(records)
            told = {r.first_seq: r.count for r in records if type(r) is wire.Lost}
            lost.setdefault(cpu, []).extend(told)
            for before, after in zip(records, records[1:]):
                if after.seq != before.seq + 1 and told.get(before.seq + 1) != after.seq - before.seq - 1:
                    faults.append(f"part {part}, cpu {cpu}: {before.seq} is followed by {after.seq}")
            if records:
                missing[cpu] = missing.get(cpu, 0) + records[0].seq - last.get(cpu, -1) - 1
                if records[0].seq <= last.get(cpu, -1):
                    faults.append(f"part {part}, cpu {cpu}: begins with {records[0].seq}, but {last[cpu]} was read before")
                last[cpu] = records[-1].seq
    for cpu, count in counts.items():
        if cpu in last and last[cpu] != count["refs_emitted"] + count["refs_lost"] - 1:
            faults.append(f"cpu {cpu}: ends with {last[cpu]}, the module gave out {count}")
        # A sub-buffer that a snapshot had read in part counts as a whole when it is overwritten.
        gone = count["refs_overwritten"] + count["refs_lost"]
        if missing.get(cpu, 0) > gone:
            faults.append(f"cpu {cpu}: {missing[cpu]} records are missing, {gone} were overwritten or lost")
    for part in "12":
        faults += had_room(folder, part, lost)
    if not sum(missing.values()):
        faults.append("the test proved too little: nothing was overwritten")
    print(f"kept {kept}, overwritten {sum(missing.values())}, lost {sum(c['refs_lost'] for c in counts.values())}")
    for fault in faults:
        print(f"  {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
