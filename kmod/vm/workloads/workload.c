// SPDX-License-Identifier: GPL-2.0
/*
 * Programs whose page reference string is known: each section touches pages in
 * an order that is written down (truth.h) and checks its memory at the end.
 *
 *   workload SECTION|all [-t TRUTH] [-d DIR] [-p CLEANER_MS] [-u UID] [-s]
 *
 * `all` runs every section as a process of its own, at the same time; -s: one
 * after the other. DIR is where files are made. Exit code 0: every byte was as it must be.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "truth.h"

static const char *dir = "/tmp", *truth = "/dev/null", *period = "50";
static char *self;

static const char *name(const char *what)
{
	char *path;

	if (asprintf(&path, "%s/%s-%d", dir, what, getpid()) < 0)
		die("memory");
	return path;
}

/* Passes over the first `n` pages; each but the first has a cleaning pass before it. */
static void passes(struct region *r, size_t n, bool writes)
{
	size_t i, round, at = 1;

	for (i = 0; i < n; i++)			/* sequential, first touches */
		writes ? touch_write(r, i) : touch_read(r, i);
	settle();
	for (i = 0; i < n; i++)			/* and again */
		touch_read(r, i);
	settle();
	for (i = 0; i < n; i += 7)		/* strided */
		touch_read(r, i);
	settle();
	for (round = 0; round < 4; round++)	/* looping */
		for (i = 0; i < n / 4; i++)
			writes ? touch_write(r, i) : touch_read(r, i);
	settle();
	for (i = n; i-- > 0;)			/* backwards */
		writes && i % 3 == 0 ? touch_write(r, i) : touch_read(r, i);
	settle();
	for (i = 0; i < n; i++) {		/* in no order, some often */
		at = (at * 1103515245 + 12345) % 2147483648UL;
		touch_read(r, at / 65536 % n);
	}
	settle();
	for (i = 0; i < 64; i++)		/* one page by the same instruction */
		touch_read(r, 3);
	expect_retouches(2 * n);
	verify(r);
}

/* Every region has a tail that nobody touches until verify(). */
#define TAIL 16

static void anon(void)
{
	passes(region_anon(160 + TAIL), 160, true);
}

static void file_shared(void)
{
	const char *path = name("shared");
	struct region *r;
	size_t i;

	file_make(path, 200);
	r = region_file(SHARED, path, 5, 96 + TAIL);
	passes(r, 96, false);
	settle();
	for (i = 0; i < 96; i += 2)	/* writes to pages that were read */
		touch_write(r, i);
	settle();
	for (i = 0; i < 96; i++)
		touch_write(r, i);
	verify(r);
}

static void file_private(void)
{
	const char *path = name("private");
	struct region *r;
	size_t i;

	file_make(path, 100);
	r = region_file(PRIVATE, path, 2, 64 + TAIL);
	passes(r, 64, false);
	settle();
	for (i = 0; i < 64; i += 3)	/* copies */
		touch_write(r, i);
	settle();
	for (i = 0; i < 64; i++)	/* still the file's pages, by name */
		touch_read(r, i);
	verify(r);
}

/* Reads of memory that nobody wrote: the zero page; then writes to it. */
static void zero(void)
{
	struct region *r = region_anon(64 + TAIL);
	size_t i;

	for (i = 0; i < 64; i++)
		touch_read(r, i);
	settle();
	for (i = 0; i < 64; i++)
		touch_read(r, i);
	for (i = 0; i < 32; i++)
		touch_write(r, i);
	settle();
	for (i = 0; i < 64; i++)
		touch_write(r, 63 - i);
	expect_retouches(64);
	verify(r);
}

static void heap(void)
{
	char *base = sbrk(0);
	size_t i;
	struct region *r;

	base = sbrk(48 * PAGE + (-(uintptr_t)base % PAGE)) + (-(uintptr_t)base % PAGE);
	r = region_at(HEAP, base, 48);
	settle();
	for (i = 0; i < 48; i += 5)
		touch_read(r, i);
	expect_retouches(5);
	verify(r);
}

static void stack(void)
{
	char room[49 * PAGE];
	struct region *r = region_at(STACK, room + (-(uintptr_t)room % PAGE), 48);
	size_t i;

	settle();
	for (i = 48; i-- > 0;)
		touch_write(r, i);
	expect_retouches(24);
	verify(r);
	_exit(truth_close() ? 1 : 0);	/* not back: later frames would use this memory */
}

static void exec_pages(void)
{
	struct region *r = region_code(48);
	size_t i;
	int round;

	for (round = 0; round < 3; round++) {
		settle();
		for (i = 0; i < 48; i++)
			touch_exec(r, i);
	}
	settle();
	for (i = 0; i < 48; i += 2)	/* code can be read, too */
		touch_read(r, i);
	expect_retouches(48);
	verify(r);
}

/* Faults that need I/O, where the file system is on a disk. */
static void cold(void)
{
	const char *path = name("cold");
	struct region *r;
	size_t i;
	int fd;

	file_make(path, 64);
	fd = open(path, O_RDONLY);
	if (fd < 0 || fsync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
		die(path);
	close(fd);
	r = region_file(SHARED, path, 0, 64);
	if (madvise(r->base, 64 * PAGE, MADV_RANDOM))
		die("madvise");
	for (i = 0; i < 64; i++)
		touch_cold(r, i * 29 % 64);
	settle();
	for (i = 0; i < 64; i++)	/* in memory now */
		touch_read(r, i);
	expect_retouches(32);
	verify(r);
}

/* --- threads --- */

#define THREADS 4
static struct region *common;

static void *thread(void *number)
{
	size_t i, me = (size_t)number;
	struct region *own;
	int round;

	truth_thread();
	own = region_anon(32 + TAIL);
	for (round = 0; round < 4; round++) {
		for (i = 0; i < 32; i++)
			touch_write(own, i);
		for (i = me; i < common->pages; i += THREADS)
			touch_write(common, i);		/* mine alone */
		for (i = 0; i < common->pages; i += 5)
			touch_read(common, i / THREADS * THREADS + me);
		settle();
	}
	verify(own);
	return NULL;
}

static void threads(void)
{
	pthread_t t[THREADS];
	const char *path = name("threads");
	size_t i;

	file_make(path, 64);
	common = region_file(SHARED, path, 0, 64);
	for (i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], NULL, thread, (void *)i))
			die("pthread_create");
	for (i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	expect_retouches(2 * (THREADS * 32 + 64));
	verify(common);
}

/* --- processes --- */

/* Three processes, a file and shared memory in common, each with memory of its own. */
static void procs(void)
{
	const char *path = name("procs");
	struct region *file, *shmem;
	int pids[3], p;
	size_t i, round;

	file_make(path, 60);
	file = region_file(SHARED, path, 0, 60);
	shmem = region_shmem(60);
	for (p = 0; p < 3; p++) {
		struct region *own;

		pids[p] = truth_fork();
		if (pids[p])
			continue;
		own = region_anon(40 + TAIL);
		for (round = 0; round < 3; round++) {
			for (i = p; i < 60; i += 3) {
				touch_write(file, i);
				touch_write(shmem, 59 - i);
				touch_read(own, i / 2);
			}
			settle();
		}
		expect_retouches(80);
		verify(own);
		_exit(truth_close() ? 1 : 40 + p);
	}
	for (p = 0; p < 3; p++)
		truth_wait(pids[p], 40 + p);
	verify(file);
	verify(shmem);
}

/* Copies on write, exact for both. */
static void fork_both(void)
{
	struct region *r = region_anon(96 + TAIL), *f;
	const char *path = name("fork");
	size_t i;
	int pid;

	file_make(path, 32);
	f = region_file(SHARED, path, 0, 32);
	for (i = 0; i < 64; i++)
		touch_write(r, i);
	for (i = 64; i < 80; i++)
		touch_read(r, i);
	for (i = 0; i < 16; i++)
		touch_write(f, i);
	settle();
	for (i = 0; i < 64; i += 2)	/* half is present, half is cleaned */
		touch_read(r, i);
	pid = truth_fork();
	if (!pid) {
		for (i = 0; i < 96; i++)
			touch_read(r, i);
		for (i = 0; i < 64; i += 3)
			touch_write(r, i);
		for (i = 0; i < 32; i++)
			touch_read(f, i);
		settle();
		for (i = 96; i-- > 0;)
			touch_write(r, i);
		expect_retouches(96);
		verify(r);
		_exit(truth_close() ? 1 : 7);
	}
	for (i = 0; i < 64; i += 3)
		touch_write(r, i);
	settle();
	for (i = 0; i < 80; i++)
		touch_read(r, i);
	for (i = 0; i < 80; i++)
		touch_write(r, i);
	truth_wait(pid, 7);
	expect_retouches(64);
	verify(r);
	verify(f);
}

/* A program that runs another one: its processes and the exit codes are the truth. */
static void execs(void)
{
	int pid = truth_fork();

	if (!pid) {
		execl(self, self, "zero", "-t", truth, "-d", dir, "-p", period, NULL);
		die(self);
	}
	truth_wait(pid, 0);
}

/* --- names --- */

static void names(void)
{
	const char *gone = name("gone"), *old = name("old"), *new = name("new");
	const char *early = name("early");
	struct region *unlinked, *renamed, *nameless;
	size_t i;
	int fd;

	file_make(gone, 48);
	file_make(old, 48);
	file_make(early, 48);
	unlinked = region_file(SHARED, gone, 0, 48);
	renamed = region_file(SHARED, old, 0, 48);
	nameless = region_file(SHARED, early, 0, 48);
	if (unlink(early))	/* before its first use: its last name */
		die(early);
	for (i = 0; i < 24; i++) {
		touch_read(unlinked, i);
		touch_write(renamed, i);
		touch_read(nameless, i);
	}
	settle();
	fd = open(gone, O_RDONLY);
	if (fd < 0 || unlink(gone) || rename(old, new))
		die("unlink and rename");
	for (i = 0; i < 48; i++) {
		i < 24 ? touch_read(unlinked, i) : touch_write(unlinked, i);
		touch_read(renamed, i);
	}
	lookup(fd, gone, 7 * PAGE, 9 * PAGE);
	object_deleted(gone, true);
	object_deleted(early, true);
	object_deleted(old, false);
	expect_retouches(24);
	verify(renamed);
	verify(nameless);
}

/* --- read() and the kernel's own touches --- */

static void lookups(void)
{
	const char *path = name("read");
	const size_t sizes[] = { 1, 100, 4096, 4097, 8192, 61440, 65536, 100000, 262144 };
	size_t i, at = 0;
	int fd;

	file_make(path, 150);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		die(path);
	for (i = 0; i < 150; i++)			/* page by page */
		lookup(fd, path, i * PAGE, PAGE);
	for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		lookup(fd, path, 0, sizes[i]);
		lookup(fd, path, 5000, sizes[i]);	/* beginning inside a page */
		lookup(fd, path, 149 * PAGE + 10, sizes[i]);	/* over the end */
	}
	lookup(fd, path, 150 * PAGE, PAGE);		/* behind the end: nothing */
	for (i = 0; i < 100; i++) {
		at = (at * 1103515245 + 12345) % 2147483648UL;
		lookup(fd, path, at % (150 * PAGE), 1 + at / 7 % 9000);
	}
	close(fd);
	object_deleted(path, false);
}

static void kernel(void)
{
	const char *from = name("from"), *to = name("to");
	struct region *r = region_anon(64 + TAIL);
	int in, out;
	size_t i;

	file_make(from, 64);
	in = open(from, O_RDONLY);
	out = open(to, O_RDWR | O_CREAT, 0644);
	if (in < 0 || out < 0)
		die("files");
	touch_by_read(r, 0, 32, in, 3);
	for (i = 32; i < 64; i++)
		touch_by_read(r, i, 1, in, i - 32);
	settle();
	touch_by_write(r, 0, 64, out);
	settle();
	touch_by_read(r, 8, 8, in, 40);
	expect_retouches(48);
	verify(r);
}

static const struct {
	const char *name;
	void (*run)(void);
} sections[] = {
	{ "anon", anon }, { "shared", file_shared }, { "private", file_private },
	{ "zero", zero }, { "heap", heap }, { "stack", stack }, { "exec", exec_pages },
	{ "threads", threads }, { "procs", procs }, { "fork", fork_both }, { "execs", execs },
	{ "names", names }, { "lookups", lookups }, { "cold", cold },
	{ "kernel", kernel },
};
#define N_SECTIONS (sizeof(sections) / sizeof(*sections))

static int all(bool one_by_one)
{
	int pids[N_SECTIONS];
	size_t i;

	for (i = 0; i < N_SECTIONS; i++) {
		pids[i] = truth_fork();
		if (!pids[i]) {
			sections[i].run();
			_exit(truth_close() ? 1 : 0);
		}
		if (one_by_one)
			truth_wait(pids[i], 0);
	}
	for (i = 0; i < N_SECTIONS && !one_by_one; i++)
		truth_wait(pids[i], 0);
	return truth_close() ? 1 : 0;
}

int main(int argc, char **argv)
{
	bool one_by_one = false;
	size_t i;
	int c;

	self = realpath("/proc/self/exe", NULL);
	while ((c = getopt(argc, argv, "t:d:p:u:s")) != -1)
		switch (c) {
		case 't':
			truth = optarg;
			break;
		case 'd':
			dir = optarg;
			break;
		case 'p':
			period = optarg;
			break;
		case 'u':
			if (setresgid(atoi(optarg), atoi(optarg), atoi(optarg)) ||
			    setresuid(atoi(optarg), atoi(optarg), atoi(optarg)))
				die("setresuid");
			break;
		case 's':
			one_by_one = true;
			break;
		default:
			return 2;
		}
	if (optind != argc - 1) {
		fprintf(stderr, "usage: workload SECTION|all [-t TRUTH] [-d DIR] [-p CLEANER_MS] [-u UID] [-s]\n");
		return 2;
	}
	truth_open(truth, atoi(period));
	if (!strcmp(argv[optind], "all"))
		return all(one_by_one);
	for (i = 0; i < N_SECTIONS; i++)
		if (!strcmp(argv[optind], sections[i].name)) {
			sections[i].run();
			return truth_close() ? 1 : 0;
		}
	fprintf(stderr, "workload: no section %s\n", argv[optind]);
	return 2;
}
