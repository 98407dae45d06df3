/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Writes the frozen bytes of what wire version 1 gained after its first frozen bytes (kinds 10 to 13, processes that
 * are traced no more), and what they say, from the header alone; see wire_v1.c.
 *
 *   cc -I kmod capture/tests/wire_v1_2.c -o wire_v1_2
 *   ./wire_v1_2 native > testdata/wire-v1-2.bin  (on a little-endian machine)
 *   ./wire_v1_2 swapped > testdata/wire-v1-2-be.bin
 *   ./wire_v1_2 text > testdata/wire-v1-2.txt
 */
#include "wire_frozen.h"

static void policy(__u8 kind, const char *name, __u8 grain, __u8 overwrite, const char *overwrite_text)
{
	struct pgt_policy r = { .h = head("policy", PGT_KIND_POLICY, 0, sizeof(r)) };

	r.policy = kind;
	r.grain = grain;
	r.overwrite = overwrite;
	r.clean_ms = w32(0x01020304);
	r.fifo = w32(0x11121314);
	put(&r, sizeof(r));
	SAY(" policy=%s grain=%u%s clean_ms=%u fifo=%u\n", name, grain, overwrite_text, 0x01020304, 0x11121314);
}

static void map(__u8 op, const char *name, __u8 prot, const char *prot_text, __u64 old_start, __u64 old_end)
{
	struct pgt_map r = { .h = head("map", PGT_KIND_MAP, 0, sizeof(r)) };

	r.tgid = w32(0x61626364);
	r.tid = w32(0x00313233);
	r.object = w32(0x0b0c0d0e);
	r.op = op;
	r.prot = prot;
	r.start = w64(0x00007f0102030000ULL);
	r.end = w64(0x00007f0112134000ULL);
	r.page = w64(0x0001020304050607ULL);
	r.old_start = w64(old_start);
	r.old_end = w64(old_end);
	put(&r, sizeof(r));
	SAY(" op=%s tgid=%u tid=%u object=%u start=0x%llx end=0x%llx page=%llu prot=%s old_start=0x%llx old_end=0x%llx\n",
	    name, 0x61626364, 0x00313233, 0x0b0c0d0e, 0x00007f0102030000ULL, 0x00007f0112134000ULL,
	    0x0001020304050607ULL, prot_text, (unsigned long long)old_start, (unsigned long long)old_end);
}

static void around(void)
{
	struct pgt_around r = { .h = head("around", PGT_KIND_AROUND, 0, sizeof(r)) };

	r.tgid = w32(0x61626364);
	r.tid = w32(0x00313233);
	r.object = w32(0x0b0c0d0e);
	r.pages = w32(0x1b1c1d1e);
	r.addr = w64(0x00007f0102030000ULL);
	r.page = w64(0x0001020304050607ULL);
	r.touched = w64(0x00007f0112131415ULL);
	put(&r, sizeof(r));
	SAY(" tgid=%u tid=%u object=%u pages=%u addr=0x%llx page=%llu touched=0x%llx\n", 0x61626364, 0x00313233,
	    0x0b0c0d0e, 0x1b1c1d1e, 0x00007f0102030000ULL, 0x0001020304050607ULL, 0x00007f0112131415ULL);
}

static void active(__u64 page, unsigned order, __u8 flags, const char *flag_text)
{
	struct pgt_active r = { .h = head("active", PGT_KIND_ACTIVE, flags, sizeof(r)) };

	r.tgid = w32(0x61626364);
	r.object = w32(0x0b0c0d0e);
	r.addr = w64(0x00007f0102030000ULL);
	r.page = w64(page | (__u64)order << PGT_ORDER_SHIFT);
	r.since_ns = w64(0x2122232425262728ULL);
	put(&r, sizeof(r));
	SAY(" tgid=%u object=%u addr=0x%llx page=%llu order=%u since_ns=%llu%s\n", 0x61626364, 0x0b0c0d0e,
	    0x00007f0102030000ULL, (unsigned long long)page, order, 0x2122232425262728ULL, flag_text);
}

static void detached(void)
{
	struct pgt_process r = { .h = head("process", PGT_KIND_PROCESS, PGT_PROCESS_DETACHED, sizeof(r)) };

	r.tgid = w32(0x61626364);
	r.ppid = w32(0x71727374);
	r.uid = w32(1000);
	r.gid = w32(0x81828384);
	r.start_ns = w64(0x9192939495969798ULL);
	r.start_boot_ns = w64(0xa1a2a3a4a5a6a7a8ULL);
	memcpy(r.comm, "left", 4);
	put(&r, sizeof(r));
	SAY(" tgid=%u ppid=%u uid=1000 gid=%u start_ns=%llu start_boot_ns=%llu detached comm=[left] exe=[] cwd=[] cgroup=[]\n",
	    0x61626364, 0x71727374, 0x81828384, 0x9192939495969798ULL, 0xa1a2a3a4a5a6a7a8ULL);
}

int main(int argc, char **argv)
{
	mode(argc, argv);
	policy(PGT_POLICY_NONE, "none", 0, 0, "");
	policy(PGT_POLICY_TIMER, "timer", 9, 1, " overwrite");
	policy(PGT_POLICY_FIFO, "fifo", 0, 0, "");
	map(PGT_MAP_MMAP, "mmap", PGT_PROT_READ | PGT_PROT_EXEC, "r-xp", 0, 0);
	map(PGT_MAP_MUNMAP, "munmap", 0, "---p", 0, 0);
	map(PGT_MAP_MREMAP, "mremap", PGT_PROT_WRITE | PGT_PROT_SHARED, "-w-s", 0x0000712223242000ULL,
	    0x0000713233343000ULL);
	map(PGT_MAP_BRK, "brk", PGT_PROT_READ | PGT_PROT_WRITE, "rw-p", 0, 0);
	map(PGT_MAP_STACK, "stack", PGT_PROT_READ | PGT_PROT_WRITE, "rw-p", 0, 0);
	map(PGT_MAP_MPROTECT, "mprotect", PGT_PROT_READ, "r--p", 0, 0);
	around();
	active(0x000123456789abcdULL, 0, 0, "");
	active(PGT_PAGE_MASK, 31, PGT_ACTIVE_DIRTIED | PGT_ACTIVE_REREFERENCED, " dirtied rereferenced");
	active(1, 9, PGT_ACTIVE_GONE, " gone");
	detached();
	return fflush(stdout) ? 1 : 0;
}
