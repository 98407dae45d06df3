#!/usr/bin/env python3
"""Writes the frozen v0 entries: python3 make.py, in this folder. Independent of our decoder: struct.pack from the
field list of DESIGN.md, nothing else. Fields: inode, bdev, offset, len, prot, pid, tstamp."""
import struct

DISK = 8 << 20 | 1  # 8:1, as the kernel holds a dev_t
ENTRIES = [
    (4711, DISK, 0, 16, 5, 100, 0xFFFFFFF0),  # text of a program: read and exec
    (4711, DISK, 3, 16, 5, 100, 0xFFFFFFF8),
    (0, 0, 0x8048, 1, 3, 100, 0xFFFFFFFF),  # anonymous memory of 100
    (0, 0, 0x8048, 1, 3, 101, 0x100000004),  # the same address in 101: another object; 32-bit ticks have wrapped
    (4712, DISK, 1048575, 1048576, 1, 101, 0x100000004),  # the end of a file of 4 GiB
    (4711, DISK + 1, 0, 1, 2, 4194303, 0x100000010),  # the same inode of another disk; the largest pid
    (4711, DISK, 0, 16, 0, 101, 0x100000010),  # nothing known of the access
]

for word, fields, mask in (("i386", "7I", 0xFFFFFFFF), ("x86-64", "7Q", 0xFFFFFFFFFFFFFFFF)):
    for end, mark in (("", "<"), ("-be", ">")):
        with open(f"v0-{word}{end}.bin", "wb") as out:
            for entry in ENTRIES:
                out.write(struct.pack(mark + fields, *(value & mask for value in entry)))
