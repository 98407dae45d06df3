/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Writes the frozen bytes of wire version 1 and what they say, from the header alone: our decoder is checked against
 * this program, never against our encoder. Records added since then are in wire_v1_2.c.
 *
 *   cc -I kmod capture/tests/wire_v1.c -o wire_v1
 *   ./wire_v1 native > testdata/wire-v1.bin  (on a little-endian machine)
 *   ./wire_v1 swapped > testdata/wire-v1-be.bin
 *   ./wire_v1 text > testdata/wire-v1.txt
 */
#include "wire_frozen.h"

static void ref(__u64 page, unsigned order, unsigned event, const char *event_name, unsigned access,
		const char *access_name, __u8 flags, const char *flag_text, __u64 addr, __u64 ip)
{
	struct pgt_ref r = { .h = head("ref", PGT_KIND_REF, flags, sizeof(r)) };

	r.tgid = w32(0x00212223);
	r.tid = w32(0x00313233);
	r.uid = w32(0x41424344);
	r.object = w32(0x51525354);
	r.addr = w64(addr);
	r.ip = w64(ip);
	r.page = w64(page | (__u64)order << PGT_ORDER_SHIFT | (__u64)event << PGT_EVENT_SHIFT |
		     (__u64)access << PGT_ACCESS_SHIFT);
	put(&r, sizeof(r));
	SAY(" tgid=%u tid=%u uid=%u object=%u addr=0x%llx ip=0x%llx page=%llu order=%u event=%s access=%s %s\n",
	    0x00212223, 0x00313233, 0x41424344, 0x51525354, (unsigned long long)addr, (unsigned long long)ip,
	    (unsigned long long)page, order, event_name, access_name, flag_text);
}

static void process(__u8 flags, const char *flag_text, const char *comm, const char *exe, const char *cwd,
		    const char *cgroup)
{
	size_t el = strlen(exe), wl = strlen(cwd), gl = strlen(cgroup);
	size_t len = sizeof(struct pgt_process) + (el + wl + gl + 7) / 8 * 8;
	struct pgt_process r = { .h = head("process", PGT_KIND_PROCESS, flags, len) };

	r.tgid = w32(0x61626364);
	r.ppid = w32(0x71727374);
	r.uid = w32(1000);
	r.gid = w32(0x81828384);
	r.start_ns = w64(0x9192939495969798ULL);
	r.start_boot_ns = w64(0xa1a2a3a4a5a6a7a8ULL);
	memcpy(r.comm, comm, strlen(comm));
	r.exe_len = w16(el);
	r.cwd_len = w16(wl);
	r.cgroup_len = w16(gl);
	put(&r, sizeof(r));
	put(exe, el);
	put(cwd, wl);
	put(cgroup, gl);
	pad(el + wl + gl);
	SAY(" tgid=%u ppid=%u uid=1000 gid=%u start_ns=%llu start_boot_ns=%llu%s comm=[%s] exe=[%s] cwd=[%s] cgroup=[%s]\n",
	    0x61626364, 0x71727374, 0x81828384, 0x9192939495969798ULL, 0xa1a2a3a4a5a6a7a8ULL, flag_text, comm, exe,
	    cwd, cgroup);
}

static void object(__u8 kind, const char *name, __u8 flags, const char *flag_text, const char *path)
{
	size_t pl = strlen(path), len = sizeof(struct pgt_object) + (pl + 7) / 8 * 8;
	struct pgt_object r = { .h = head("object", PGT_KIND_OBJECT, flags, len) };

	r.object = w32(0x0b0c0d0e);
	r.tgid = w32(0x1b1c1d1e);
	r.dev_major = w32(0x2b2c2d2e);
	r.dev_minor = w32(0x3b3c3d3e);
	r.ino = w64(0x4b4c4d4e4f505152ULL);
	r.generation = w32(0x5b5c5d5e);
	r.object_kind = kind;
	r.path_len = w16(pl);
	put(&r, sizeof(r));
	put(path, pl);
	pad(pl);
	SAY(" object=%u tgid=%u dev=%u:%u ino=%llu generation=%u kind=%s%s", 0x0b0c0d0e, 0x1b1c1d1e,
	    0x2b2c2d2e, 0x3b3c3d3e, 0x4b4c4d4e4f505152ULL, 0x5b5c5d5e, name, flag_text);
	if (pl > 100)
		SAY(" path=[%zu times %c]\n", pl, *path);
	else
		SAY(" path=[%s]\n", path);
}

static void lost(__u16 channel, const char *channel_name, __u16 cause, const char *cause_name)
{
	struct pgt_lost r = { .h = head("lost", PGT_KIND_LOST, 0, sizeof(r)) };

	r.count = w64(0x0706050403020100ULL);
	r.first_seq = w64(0x1716151413121110ULL);
	r.first_ns = w64(0x2726252423222120ULL);
	r.last_ns = w64(0x3736353433323130ULL);
	r.channel = w16(channel);
	r.cause = w16(cause);
	put(&r, sizeof(r));
	SAY(" count=%llu first_seq=%llu first_ns=%llu last_ns=%llu channel=%s cause=%s\n", 0x0706050403020100ULL,
	    0x1716151413121110ULL, 0x2726252423222120ULL, 0x3736353433323130ULL, channel_name, cause_name);
}

static void level(__u8 from, const char *from_name, __u8 to, const char *to_name)
{
	struct pgt_level r = { .h = head("level", PGT_KIND_LEVEL, 0, sizeof(r)) };

	r.from = from;
	r.to = to;
	r.clean_ms = w32(0x01020304);
	put(&r, sizeof(r));
	SAY(" from=%s to=%s clean_ms=%u\n", from_name, to_name, 0x01020304);
}

static void others(void)
{
	struct pgt_mapping m = { .h = head("mapping", PGT_KIND_MAPPING, 0, sizeof(m)) };

	m.tgid = w32(0x61626364);
	m.object = w32(0x0b0c0d0e);
	m.start = w64(0x00007f0102030000ULL);
	m.end = w64(0x00007f0102034000ULL);
	m.page = w64(0x0001020304050607ULL);
	m.prot = w32(PGT_PROT_READ | PGT_PROT_EXEC);
	put(&m, sizeof(m));
	SAY(" tgid=%u object=%u start=0x%llx end=0x%llx page=%llu prot=r-xp\n", 0x61626364, 0x0b0c0d0e,
	    0x00007f0102030000ULL, 0x00007f0102034000ULL, 0x0001020304050607ULL);
	m.h = head("mapping", PGT_KIND_MAPPING, 0, sizeof(m));
	m.prot = w32(PGT_PROT_WRITE | PGT_PROT_SHARED);
	put(&m, sizeof(m));
	SAY(" tgid=%u object=%u start=0x%llx end=0x%llx page=%llu prot=-w-s\n", 0x61626364, 0x0b0c0d0e,
	    0x00007f0102030000ULL, 0x00007f0102034000ULL, 0x0001020304050607ULL);

	struct pgt_exit e = { .h = head("exit", PGT_KIND_EXIT, 0, sizeof(e)) };

	e.tgid = w32(0x61626364);
	e.code = w32(0x00002a00);
	put(&e, sizeof(e));
	SAY(" tgid=%u code=%u\n", 0x61626364, 0x00002a00);

	struct pgt_clean c = { .h = head("clean", PGT_KIND_CLEAN, 0, sizeof(c)) };

	c.tgid = w32(0x61626364);
	c.pass = w32(0x0a0b0c0d);
	c.start_ns = w64(0x0102030405060708ULL);
	c.end_ns = w64(0x1112131415161718ULL);
	c.scanned = w64(0x2122232425262728ULL);
	c.cleaned = w64(0x3132333435363738ULL);
	put(&c, sizeof(c));
	SAY(" tgid=%u pass=%u start_ns=%llu end_ns=%llu scanned=%llu cleaned=%llu\n", 0x61626364, 0x0a0b0c0d,
	    0x0102030405060708ULL, 0x1112131415161718ULL, 0x2122232425262728ULL, 0x3132333435363738ULL);

	struct pgt_clock k = { .h = head("clock", PGT_KIND_CLOCK, 0, sizeof(k)) };

	k.monotonic_ns = w64(0x4142434445464748ULL);
	k.realtime_ns = w64(0x5152535455565758ULL);
	k.boottime_ns = w64(0x6162636465666768ULL);
	put(&k, sizeof(k));
	SAY(" monotonic_ns=%llu realtime_ns=%llu boottime_ns=%llu\n", 0x4142434445464748ULL, 0x5152535455565758ULL,
	    0x6162636465666768ULL);
}

/* What a reader of version 1 must skip: a kind it does not know, a newer version; and a record grown longer. */
static void future(void)
{
	struct pgt_header h = head("unknown", 200, 0xff, 40);
	char tail[32];

	memset(tail, 0xee, sizeof(tail));
	put(&h, sizeof(h));
	put(tail, 16);
	SAY(" kind=200 version=1 len=40\n");
	h = head("unknown", PGT_KIND_REF, 0xff, 56);
	h.version = 99;
	put(&h, sizeof(h));
	put(tail, 32);
	SAY(" kind=1 version=99 len=56\n");

	struct pgt_exit e = { .h = head("exit", PGT_KIND_EXIT, 0, sizeof(e) + 16) };

	e.tgid = w32(7);
	e.code = w32(9);
	put(&e, sizeof(e));
	put(tail, 16);
	SAY(" tgid=7 code=9\n");
}

int main(int argc, char **argv)
{
	static char longest[65528];
	size_t room = sizeof(longest) - sizeof(struct pgt_object);

	mode(argc, argv);

	ref(0x000123456789abcdULL, 0, PGT_EVENT_FAULT, "fault", PGT_ACCESS_READ, "read", 0, "major=no",
	    0x00007fffdeadb000ULL, 0x0000555512345678ULL);
	ref(PGT_PAGE_MASK, 31, PGT_EVENT_RETOUCH, "retouch", PGT_ACCESS_WRITE, "write",
	    PGT_REF_MAJOR | PGT_REF_KERNEL | PGT_REF_PRESENT, "major=yes kernel present", ~0ULL, 1);
	ref(0, 9, PGT_EVENT_FAULT, "fault", PGT_ACCESS_EXEC, "exec", PGT_REF_GUP, "major=no gup", 0x1000, 0);
	ref(1, 0, PGT_EVENT_LOOKUP, "lookup", PGT_ACCESS_UNKNOWN, "unknown", 0, "major=?", 0, 0);
	ref(2, 1, PGT_EVENT_INSERT, "insert", PGT_ACCESS_UNKNOWN, "unknown", 0, "major=?", 0, 0);
	ref(3, 2, PGT_EVENT_EVICT, "evict", PGT_ACCESS_UNKNOWN, "unknown", 0, "major=?", 0, 0);
	process(0, "", "", "", "", "");
	process(PGT_PROCESS_ATTACHED, " attached", "sixteen-letters!", "/usr/bin/sort", "/", "/user.slice");
	process(PGT_PROCESS_FORKED | PGT_PROCESS_EXECED, " forked execed", "a b", "", "/home/J\303\266rg", "");
	object(PGT_OBJECT_FILE, "file", PGT_OBJECT_DELETED, " deleted", "/tmp/x");
	object(PGT_OBJECT_ANON, "anon", 0, "", "");
	object(PGT_OBJECT_HEAP, "heap", 0, "", "");
	object(PGT_OBJECT_STACK, "stack", 0, "", "");
	object(PGT_OBJECT_SHMEM, "shmem", 0, "", "/memfd:n");
	object(PGT_OBJECT_HUGETLB, "hugetlb", 0, "", "12345678");
	object(PGT_OBJECT_VDSO, "vdso", 0, "", "");
	memset(longest, 'p', room);
	object(PGT_OBJECT_OTHER, "other", PGT_OBJECT_TRUNCATED, " truncated", longest);
	lost(PGT_CHANNEL_REFS, "refs", PGT_LOST_BUFFER_FULL, "buffer_full");
	lost(PGT_CHANNEL_NAMES, "names", PGT_LOST_PROBE_MISSED, "probe_missed");
	lost(PGT_CHANNEL_NAMES, "names", PGT_LOST_NO_MEMORY, "no_memory");
	level(PGT_LEVEL_OFF, "off", PGT_LEVEL_LIGHT, "light");
	level(PGT_LEVEL_RICH, "rich", PGT_LEVEL_FULL, "full");
	others();
	future();
	return fflush(stdout) ? 1 : 0;
}
