"""bench-profile.py TRACE KALLSYMS EVENTS: instructions an event, by function and one by one.

TRACE is QEMU's `-d in_asm,exec,nochain`: each block's instructions when it is translated, then a line each time it runs.
"""
import bisect
import collections
import pathlib
import re
import sys

INSTRUCTION = re.compile(r"0x([0-9a-f]+):\s+(?:[0-9a-f]{2} )+\s*(\S.*)")
RUN = re.compile(r"Trace \d+: \S+ \[[0-9a-f]+/([0-9a-f]+)/")


def main():
    trace, kallsyms, events = sys.argv[1], sys.argv[2], int(sys.argv[3])
    symbols = sorted((int(line.split()[0], 16), line.split()[2])
                     for line in pathlib.Path(kallsyms).read_text(encoding="utf-8").splitlines())
    starts = [address for address, _ in symbols]
    blocks, block, runs = {}, None, collections.Counter()
    with open(trace, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("IN:"):
                block = []
            elif block is not None and (found := INSTRUCTION.match(line)):
                block.append((int(found[1], 16), found[2].strip()))
                blocks[block[0][0]] = block
            elif found := RUN.match(line):
                runs[int(found[1], 16)] += 1
                block = None

    def name(address):
        at = bisect.bisect_right(starts, address) - 1
        return symbols[at][1], address - starts[at]

    functions, single = collections.Counter(), collections.Counter()
    for start, times in runs.items():
        for address, text in blocks.get(start, []):
            functions[name(address)[0]] += times
            single[address, text] += times
    # What runs less than once in two events is not the path of an event, 9p's work among it.
    common = {what: times for what, times in single.items() if times > events / 2}
    path = {name(address)[0] for address, _ in common}
    for function, times in functions.most_common():
        if function in path:
            print(f"{times / events:8.1f} {function}")
    print()
    for (address, text), times in sorted(common.items()):
        function, offset = name(address)
        print(f"{times / events:8.2f} {function}+{offset:#x} {text}")


if __name__ == "__main__":
    main()
