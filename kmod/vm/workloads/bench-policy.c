// SPDX-License-Identifier: GPL-2.0
/*
 * What making pages fault again costs: the cleaner's own time a pass, as its
 * records tell it (nanoseconds are instructions here), the touch that mends a
 * page, and the active-PTE FIFO.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../pgtrace_api.h"
#include "bench.h"

#define FEW 1024
#define MANY 8192

static double touch(char *at, int pages, int writes)
{
	uint64_t begin = instructions();
	int i;

	if (writes)
		for (i = 0; i < pages; i++)
			write_page(at + i * PAGE);
	else
		for (i = 0; i < pages; i++)
			read_page(at + i * PAGE);
	return (double)(instructions() - begin) / pages;
}

struct pass {
	double instructions, cleaned;
};

/* This process's first passes of the cleaner, out of a channel; how many there were. */
static int read_passes(const char *path, struct pass *passes, int most)
{
	const size_t size = 64 << 20;
	char *bytes = malloc(size);
	size_t have = 0, at;
	int fd = open(path, O_RDONLY), n = 0;
	ssize_t got;

	if (fd < 0 || !bytes)
		die("%s: %s", path, strerror(errno));
	while ((got = read(fd, bytes + have, size - have)) > 0)
		have += got;
	close(fd);
	for (at = 0; at + sizeof(struct pgt_header) <= have;) {
		struct pgt_clean *rec = (void *)(bytes + at);

		if (rec->h.magic != PGT_MAGIC || !rec->h.len || at + rec->h.len > have)
			die("%s: no record at byte %zu", path, at);
		if (rec->h.kind == PGT_KIND_CLEAN && rec->tgid == (uint32_t)getpid() && n < most)
			passes[n++] = (struct pass){ rec->end_ns - rec->start_ns, rec->cleaned };
		at += rec->h.len;
	}
	free(bytes);
	return n;
}

/*
 * Two passes over `pages` present pages: the first cleans them all, the second
 * finds next to nothing to do. Then they are touched: while that is recorded,
 * or after the stop, when the kernel only mends them.
 */
static void clean(int pages, int recorded, struct pass *passes, double *write, double *read)
{
	char *at = memory(pages);
	double loop_write, loop_read;
	int n;

	touch(at, pages, 1);
	loop_write = touch(at, pages / 2, 1);
	loop_read = touch(at, pages / 2, 0);
	control("clear");
	control("pid %d", getpid());
	control("level rich");
	control("clean 20");
	control("start");
	pause_ms(50);
	control(recorded ? "clean 0" : "stop");
	*write = touch(at, pages / 2, 1) - loop_write;
	*read = touch(at + pages / 2 * PAGE, pages / 2, 0) - loop_read;
	if (recorded)
		control("stop");
	/* The wire format does not say which channel they are in. */
	n = read_passes(DEBUGFS "/refs0", passes, 2);
	n += read_passes(DEBUGFS "/names0", passes + n, 2 - n);
	if (n < 2 || passes[0].cleaned < pages)
		die("%d passes of the cleaner, the first over %.0f of %d pages", n, passes[0].cleaned, pages);
	munmap(at, pages * PAGE);
}

int run_cleaner(void)
{
	struct pass few[2], many[2];
	double write, read;
	int turn;

	figure("wire: a page reference", "bytes", sizeof(struct pgt_ref));
	load_module("");
	for (turn = 0; turn < REPEAT; turn++) {
		clean(FEW, 1, few, &write, &read);
		clean(MANY, 1, many, &write, &read);
		figure("cleaner, a PTE cleaned", "traced, rich", (many[0].instructions - few[0].instructions) /
		       (many[0].cleaned - few[0].cleaned));
		figure("cleaner, a PTE found cleaned", "traced, rich",
		       (many[1].instructions - few[1].instructions) / (MANY - FEW));
		figure("cleaner, a pass over 8192 pages", "traced, rich", many[0].instructions);
		figure("retouch, written", "traced, rich", write);
		figure("retouch, read", "traced, rich", read);
		clean(MANY, 0, many, &write, &read);
		figure("retouch, written", "not recorded", write);
		figure("retouch, read", "not recorded", read);
	}
	unload_module();
	return 0;
}

/* A loop over four times as many pages as may be active: each touch faults, and each makes another page fault again. */
int run_fifo(void)
{
	static const int sizes[] = { 64, 256, 1024 };
	char what[64];
	size_t i;
	int turn;

	load_module("");
	for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		for (turn = 0; turn < REPEAT; turn++) {
			int pages = 4 * sizes[i];
			char *at = memory(pages);
			double loop;

			touch(at, pages, 1);
			loop = touch(at, pages, 1);
			snprintf(what, sizeof(what), "fifo %d", sizes[i]);
			control("clear");
			if (try_control(what)) {
				printf("fifo\tnot in this module\t0\n");
				unload_module();
				return 0;
			}
			control("pid %d", getpid());
			control("level rich");
			control("start");
			pause_ms(20);
			touch(at, pages, 1);
			figure("FIFO, a touch that evicts", what, touch(at, pages, 1) - loop);
			control("stop");
			munmap(at, pages * PAGE);
		}
	unload_module();
	return 0;
}
