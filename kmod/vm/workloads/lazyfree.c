// SPDX-License-Identifier: GPL-2.0
/*
 * Two ways in which Linux 6.1 and 6.12 lose memory by MADV_FREE, without any
 * module: the reason why torture keeps MADV_FREE away from KSM and from children
 * of fork. Prints how many pages of memory that nobody gave up are empty.
 *
 *   lazyfree ksm     a KSM page with one mapping left is made clean and discardable
 *                    by MADV_FREE, and is merged with all the same: who comes
 *                    later loses it. Wants ksm/run = 1.
 *   lazyfree fork    a page that was read back from swap is clean. A child's
 *                    MADV_FREE makes it discardable although the parent has it,
 *                    too, and nothing but its entry could tell. Wants swap in zram.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
#define N 256

static unsigned char byte_of(int page) { return 1 + page % 255; }

/* Pages that all differ. */
static unsigned char *memory(void)
{
	unsigned char *at = mmap(NULL, N * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int i;

	if (at == MAP_FAILED)
		return NULL;
	madvise(at, N * PAGE, MADV_NOHUGEPAGE);
	for (i = 0; i < N; i++) {
		memset(at + i * PAGE, byte_of(i), PAGE);
		memcpy(at + i * PAGE, &i, sizeof(i));
	}
	return at;
}

static int lost(const unsigned char *at)
{
	int i, n = 0;

	madvise((void *)at, N * PAGE, MADV_PAGEOUT);
	for (i = 0; i < N; i++)
		n += at[i * PAGE + PAGE - 1] != byte_of(i);
	return n;
}

static void wait_for_scans(int more)
{
	unsigned long scans = 0, until = 0;
	int tries;

	for (tries = 0; tries < 300 && (!until || scans < until); tries++) {
		FILE *file = fopen("/sys/kernel/mm/ksm/full_scans", "r");

		if (!file || fscanf(file, "%lu", &scans) != 1)
			scans = 0;
		if (file)
			fclose(file);
		if (!until)
			until = scans + more;
		usleep(100000);
	}
}

static int by_ksm(void)
{
	unsigned char *first = memory(), *second = memory(), *innocent;

	madvise(first, N * PAGE, MADV_MERGEABLE);
	madvise(second, N * PAGE, MADV_MERGEABLE);
	wait_for_scans(4);
	munmap(second, N * PAGE);
	madvise(first, N * PAGE, MADV_FREE);
	innocent = memory();
	madvise(innocent, N * PAGE, MADV_MERGEABLE);
	wait_for_scans(4);
	munmap(first, N * PAGE);
	return lost(innocent);
}

static int by_fork(void)
{
	unsigned char *innocent = memory();
	int i;

	madvise(innocent, N * PAGE, MADV_PAGEOUT);
	for (i = 0; i < N; i++)
		(void)*(volatile unsigned char *)(innocent + i * PAGE);
	if (!fork()) {
		madvise(innocent, N * PAGE, MADV_FREE);
		_exit(0);
	}
	wait(NULL);
	return lost(innocent);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	printf("%d of %d\n", strcmp(argv[1], "ksm") ? by_fork() : by_ksm(), N);
	return 0;
}
