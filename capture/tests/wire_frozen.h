/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * What the programs that write frozen bytes share. The mode, their argument: `native` bytes, bytes in the other
 * (`swapped`) order, or the `text` of what they say. Values are chosen so that no two bytes of a field are alike.
 */
#include <stdio.h>
#include <string.h>
#include "pgtrace_api.h"

static int text, swapped;

static inline __u16 w16(__u16 x) { return swapped ? __builtin_bswap16(x) : x; }
static inline __u32 w32(__u32 x) { return swapped ? __builtin_bswap32(x) : x; }
static inline __u64 w64(__u64 x) { return swapped ? __builtin_bswap64(x) : x; }

static unsigned long long seq = 0x0102030405060700ULL;

/* Begins a record: fills its header, or prints its stamp. */
static inline struct pgt_header head(const char *name, __u8 kind, __u8 flags, size_t len)
{
	struct pgt_header h = { 0 };
	__u16 cpu = 0x0203;
	__u64 now = 0x1112131415161700ULL + seq % 256;
	int kind_is_unknown = !strcmp(name, "unknown"); /* a reader tells no more of it */

	h.magic = PGT_MAGIC;
	h.version = PGT_VERSION;
	h.kind = kind;
	h.flags = flags;
	h.len = w16(len);
	h.cpu = w16(cpu);
	h.seq = w64(seq);
	h.time_ns = w64(now);
	if (text && kind_is_unknown)
		printf("unknown seq=%llu", seq);
	else if (text)
		printf("%s cpu=%u seq=%llu time_ns=%llu", name, cpu, seq, (unsigned long long)now);
	seq++;
	return h;
}

static inline void put(const void *bytes, size_t len)
{
	if (!text)
		fwrite(bytes, 1, len, stdout);
}

static inline void pad(size_t len)
{
	static const char zero[8];

	put(zero, (8 - len % 8) % 8);
}

#define SAY(...) do { if (text) printf(__VA_ARGS__); } while (0)

static inline void mode(int argc, char **argv)
{
	text = argc > 1 && !strcmp(argv[1], "text");
	swapped = argc > 1 && !strcmp(argv[1], "swapped");
}
