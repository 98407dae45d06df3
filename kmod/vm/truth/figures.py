#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""figures.py CHUNKS STATUS: what a recording holds, as a table; fails unless it agrees with the module's own count."""

import sys
import pathlib
from collections import Counter

import wire
from pipeline import module_count


def main():
    rec = wire.load_chunks(sys.argv[1], crc_limit=1 << 30)
    rec.check_numbers()
    counts = module_count(pathlib.Path(sys.argv[2]))
    lost = sum(r.count for r in rec.lost())
    for cpu, count in counts.items():
        if count["refs_emitted"] != len(rec.refs.get(cpu, [])):
            sys.exit(f"cpu {cpu}: the module emitted {count['refs_emitted']}, the chunks hold {len(rec.refs.get(cpu, []))}")
    refs = rec.merged()
    events = Counter(r.event for r in refs)
    objects = {o.object: o for o in rec.named(wire.Object)}
    kinds = Counter(o.kind for o in objects.values())
    deleted = sorted({o.path for o in objects.values() if o.flags & wire.DELETED})
    print("| what | count |\n|---|---|")
    print(f"| references | {len(refs)}: " + ", ".join(f"{n} {event}" for event, n in events.most_common()) + " |")
    print(f"| of them with I/O (major) | {sum(bool(r.flags & wire.MAJOR) for r in refs)} |")
    print(f"| lost | {lost} |")
    print(f"| processes | {len({p.tgid for p in rec.named(wire.Process)})} |")
    print("| objects | " + ", ".join(f"{n} {kind}" for kind, n in kinds.most_common()) + " |")
    print("| deleted while recorded | " + ", ".join(f"`{p}`" for p in deleted) + " |")
    print(f"| passes of the cleaner | {len({c.number for c in rec.named(wire.Clean)})} |")
    print(f"| seconds | {(refs[-1].time - refs[0].time) / 1e9:.1f} |")


if __name__ == "__main__":
    main()
