# SPDX-License-Identifier: GPL-2.0
"""Recordings, read from their bytes: the raw relay files or the chunks of pgtrace-capture.

Written from kmod/pgtrace_api.h alone and in plain Python, so that it can stand
against the Rust decoder as an independent opinion. Slow and strict: whatever is
not as the header says is an error.
"""

import heapq
import json
import pathlib
import re
import struct
from collections import namedtuple

REF, PROCESS, MAPPING, OBJECT, EXIT, LOST, LEVEL, CLEAN, CLOCK, POLICY, MAP, AROUND, ACTIVE = range(1, 14)
EVENTS = {1: "fault", 2: "retouch", 3: "lookup", 4: "insert", 5: "evict"}
ACCESS = {0: "", 1: "read", 2: "write", 3: "exec"}
KINDS = {1: "file", 2: "anon", 3: "heap", 4: "stack", 5: "shmem", 6: "hugetlb", 7: "vdso", 8: "other"}
CAUSES = {1: "buffer_full", 2: "probe_missed", 3: "no_memory"}
LEVELS = {0: "off", 1: "light", 2: "rich", 3: "full"}
POLICIES = {0: "none", 1: "timer", 2: "fifo"}
MAP_OPS = {1: "mmap", 2: "munmap", 3: "mremap", 4: "brk", 5: "stack", 6: "mprotect"}
MAJOR, KERNEL, GUP, PRESENT = 1, 2, 4, 8  # flags of a reference
ATTACHED, FORKED, EXECED, DETACHED = 1, 2, 4, 8  # flags of a process
DELETED, TRUNCATED = 1, 2  # flags of an object
DIRTIED, REREFERENCED, GONE = 1, 2, 4  # flags of an active page

Head = namedtuple("Head", "flags cpu seq time")
Ref = namedtuple("Ref", "cpu seq time flags tgid tid uid object addr ip page order event access")
Process = namedtuple("Process", "cpu seq time flags tgid ppid uid gid start start_boot comm exe cwd cgroup")
Mapping = namedtuple("Mapping", "cpu seq time tgid object start end page prot")
Object = namedtuple("Object", "cpu seq time flags object tgid major minor ino generation kind path")
Exit = namedtuple("Exit", "cpu seq time tgid code")
Lost = namedtuple("Lost", "cpu seq time count first_seq first_ns last_ns channel cause")
Level = namedtuple("Level", "cpu seq time from_ to clean_ms")
Clean = namedtuple("Clean", "cpu seq time tgid number start end scanned cleaned")
Clock = namedtuple("Clock", "cpu seq time monotonic realtime boottime")
Policy = namedtuple("Policy", "cpu seq time policy grain overwrite clean_ms fifo")
Map = namedtuple("Map", "cpu seq time tgid tid object op prot start end page old_start old_end")
Around = namedtuple("Around", "cpu seq time tgid tid object pages addr page touched")
Active = namedtuple("Active", "cpu seq time flags tgid object addr page order since")


class Broken(Exception):
    """The bytes are not what the format says."""


def _texts(data, at, lengths):
    out = []
    for n in lengths:
        if at + n > len(data):
            raise Broken(f"a text of {n} bytes at {at} of {len(data)}")
        out.append(data[at : at + n].decode(errors="replace"))
        at += n
    if any(data[at:]) or len(data) - at > 7:
        raise Broken("padding that is not 0 to 7 zeroes")
    return out


def _record(kind, flags, cpu, seq, time, r):
    def fields(fmt):
        return struct.unpack_from("<" + fmt, r, 24)

    if kind == REF:
        tgid, tid, uid, obj, addr, ip, page = fields("IIIIQQQ")
        if page >> 63:
            raise Broken("reserved bit 63 of page")
        return Ref(cpu, seq, time, flags, tgid, tid, uid, obj, addr, ip, page & (1 << 52) - 1, page >> 52 & 0x1F,
                   EVENTS[page >> 57 & 0xF], ACCESS[page >> 61 & 3])
    if kind == PROCESS:
        tgid, ppid, uid, gid, start, boot, comm, exe, cwd, cgroup, zero = fields("IIIIQQ16sHHHH")
        texts = _texts(r, 24 + 56, (exe, cwd, cgroup))
        if zero:
            raise Broken("reserved field of a process")
        return Process(cpu, seq, time, flags, tgid, ppid, uid, gid, start, boot,
                       comm.split(b"\0")[0].decode(errors="replace"), *texts)
    if kind == MAPPING:
        tgid, obj, start, end, page, prot, zero = fields("IIQQQII")
        if zero:
            raise Broken("reserved field of a mapping")
        return Mapping(cpu, seq, time, tgid, obj, start, end, page, prot)
    if kind == OBJECT:
        obj, tgid, major, minor, ino, generation, okind, zero, path = fields("IIIIQIBBH")
        if zero:
            raise Broken("reserved field of an object")
        return Object(cpu, seq, time, flags, obj, tgid, major, minor, ino, generation, KINDS[okind],
                      *_texts(r, 24 + 32, (path,)))
    if kind == EXIT:
        return Exit(cpu, seq, time, *fields("II"))
    if kind == LOST:
        count, first_seq, first, last, channel, cause, zero = fields("QQQQHHI")
        if zero:
            raise Broken("reserved field of a loss")
        return Lost(cpu, seq, time, count, first_seq, first, last, {1: "refs", 2: "names"}[channel], CAUSES[cause])
    if kind == LEVEL:
        from_, to, zero, ms = fields("BBHI")
        return Level(cpu, seq, time, LEVELS[from_], LEVELS[to], ms)
    if kind == CLEAN:
        return Clean(cpu, seq, time, *fields("IIQQQQ"))
    if kind == CLOCK:
        return Clock(cpu, seq, time, *fields("QQQ"))
    if kind == POLICY:
        policy, grain, overwrite, zero, ms, fifo, zero2 = fields("BBBBIII")
        if zero or zero2 or overwrite > 1 or grain not in (0, 9):
            raise Broken("reserved field, overwrite or grain of a policy")
        return Policy(cpu, seq, time, POLICIES[policy], grain, overwrite, ms, fifo)
    if kind == MAP:
        tgid, tid, obj, op, prot, zero, *places = fields("IIIBBHQQQQQ")
        if zero or prot >> 4:
            raise Broken("reserved field or protection of a mapping's change")
        return Map(cpu, seq, time, tgid, tid, obj, MAP_OPS[op], prot, *places)
    if kind == AROUND:
        return Around(cpu, seq, time, *fields("IIIIQQQ"))
    if kind == ACTIVE:
        tgid, obj, addr, page, since, zero = fields("IIQQQQ")
        if zero or page >> 57 or flags >> 3:
            raise Broken("reserved field or bits of an active page")
        return Active(cpu, seq, time, flags, tgid, obj, addr, page & (1 << 52) - 1, page >> 52, since)
    raise Broken(f"unknown kind {kind}")


def decode(data):
    """The records in `data`, in order."""
    at = 0
    while at < len(data):
        if at + 24 > len(data):
            raise Broken(f"{len(data) - at} bytes left at {at}: less than a header")
        magic, version, kind, flags, size, cpu, seq, time = struct.unpack_from("<BBBBHHQQ", data, at)
        if magic != 0xA7 or version != 1 or size < 24 or size % 8 or at + size > len(data):
            raise Broken(f"no record at {at}: magic {magic:#x}, version {version}, length {size}")
        yield _record(kind, flags, cpu, seq, time, data[at : at + size])
        at += size


_CRC = []
for _n in range(256):
    for _ in range(8):
        _n = _n >> 1 ^ (0x82F63B78 if _n & 1 else 0)
    _CRC.append(_n)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _blocks(path, crc_limit):
    """(header, [(kind, payload)]) of a chunk that is whole. Only blocks up to crc_limit bytes have their CRC checked."""
    data = path.read_bytes()
    if data[:8] != b"PGTRACE\n":
        raise Broken(f"{path}: not a chunk")
    version, size = struct.unpack_from("<II", data, 8)
    if version != 1 or crc32c(data[: size - 4]) != struct.unpack_from("<I", data, size - 4)[0]:
        raise Broken(f"{path}: header")
    cpu, index = struct.unpack_from("<HI", data, 54)
    mono, real, boot = struct.unpack_from("<QQQ", data, 64)
    kernel_len, settings_len = struct.unpack_from("<H2xI", data, 88)
    header = {"cpu": cpu, "index": index, "monotonic": mono, "realtime": real, "boottime": boot,
              "capture_id": data[16:32].hex(), "kernel": data[128 : 128 + kernel_len].decode(),
              "settings": json.loads(data[128 + kernel_len : 128 + kernel_len + settings_len])}
    at, blocks, end = size, [], False
    while at < len(data):
        if end:
            raise Broken(f"{path}: bytes behind the end block")
        magic, kind, flags, size, index, crc, zero = struct.unpack_from("<4sHHIIII", data, at)
        payload = data[at + 24 : at + 24 + size]
        if magic != b"PGB\x01" or index != len(blocks) or len(payload) != size:
            raise Broken(f"{path}: no block at {at}")
        if size <= crc_limit and crc32c(data[at : at + 16] + data[at + 20 : at + 24] + payload) != crc:
            raise Broken(f"{path}: CRC of the block at {at}")
        end = kind == 5
        if end and struct.unpack("<QQ", payload)[0] != len(blocks):
            raise Broken(f"{path}: the end block counts other blocks")
        blocks.append((kind, payload))
        at += 24 + (size + 7) // 8 * 8
    if not end:
        raise Broken(f"{path}: no end block")
    return header, blocks


class Recording:
    """refs: {cpu: [record]} as they stand in the refs channel, whatever their kind. names: {(cpu, seq): record} of the
    names channel, copies of the same record once."""

    def __init__(self):
        self.refs, self.names, self.headers, self.totals, self.bytes = {}, {}, [], None, 0

    def add_refs(self, data):
        self.bytes += len(data)
        for rec in decode(data):
            self.refs.setdefault(rec.cpu, []).append(rec)

    def add_names(self, data):
        for rec in decode(data):
            if isinstance(rec, Ref):
                raise Broken("a reference in a names channel")
            known = self.names.setdefault((rec.cpu, rec.seq), rec)
            if known != rec:
                raise Broken(f"two records with one number: {known} and {rec}")

    def named(self, kind):
        """Records of one kind, from either channel, by time."""
        refs = (r for recs in self.refs.values() for r in recs)
        return sorted((r for r in [*self.names.values(), *refs] if type(r) is kind), key=lambda r: (r.time, r.cpu, r.seq))

    def merged(self):
        """References of all CPUs as one string: at each step the smallest (time, cpu, seq) of what comes next."""
        streams = ([r for r in recs if type(r) is Ref] for recs in self.refs.values())
        return list(heapq.merge(*streams, key=lambda r: (r.time, r.cpu, r.seq)))

    def lost(self):
        """Every LOST record, of either channel."""
        return self.named(Lost)

    def keeps_newest(self):
        """Whether the oldest references were given up on purpose, so that numbers may be missing."""
        settings = [h["settings"] for h in self.headers]
        return any(s.get("overwrite") or s.get("in_memory") or s.get("keep_last") for s in settings)

    def check_numbers(self, newest=None):
        """Sequence numbers count from 0, and each hole is told by a LOST record of just that size; where only the newest
        are kept (default: as the chunks say) they grow, and holes are told by nothing."""
        newest = self.keeps_newest() if newest is None else newest
        told = {(r.cpu, r.first_seq): r.count for r in self.lost() if r.channel == "refs" and r.cause == "buffer_full"}
        for cpu, recs in self.refs.items():
            want = 0
            for rec in recs:
                if rec.seq < want or rec.seq > want and told.get((cpu, want)) != rec.seq - want and not newest:
                    raise Broken(f"cpu {cpu}: numbers {want} to {rec.seq - 1} are missing, told: {told.get((cpu, want))}")
                want = rec.seq + 1


def load_raw(folder):
    """Relay files as `cat` copied them: refsN, namesN."""
    rec = Recording()
    for path in sorted(pathlib.Path(folder).iterdir()):
        if re.fullmatch(r"refs\d+", path.name):
            rec.add_refs(path.read_bytes())
        elif re.fullmatch(r"names\d+", path.name):
            rec.add_names(path.read_bytes())
    return rec


def load_chunks(folder, crc_limit=16384):
    """Chunks of pgtrace-capture, all of them whole."""
    rec = Recording()
    for path in sorted(pathlib.Path(folder).glob("*.pgt")):
        header, blocks = _blocks(path, crc_limit)
        rec.headers.append(header)
        for kind, payload in blocks:
            if kind == 1:
                rec.add_refs(payload)
            elif kind in (2, 3):
                rec.add_names(payload)
            elif kind == 4:
                rec.totals = json.loads(payload)
    return rec


def load(folder):
    """Whichever of the two is there."""
    return load_chunks(folder) if any(pathlib.Path(folder).glob("*.pgt")) else load_raw(folder)
