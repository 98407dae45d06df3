// SPDX-License-Identifier: GPL-2.0
/*
 * Everything a program can do to its memory, at random, while the cleaner makes
 * its pages fault: a shadow copy tells whether a single byte ever changed.
 *
 *   torture [-s SECONDS] [-w WORKERS] [-t THREADS] [-d DIR] [-r SEED]
 *
 * Each worker is a process with THREADS threads, and each thread owns areas of
 * memory of its own (so that one thread knows what they must hold) and does
 * mmap, munmap, mremap, mprotect, madvise, fork (the child checks its copy and
 * writes to it), O_DIRECT or plain file I/O, process_vm_readv and _writev on
 * itself. SIGTERM to all of them ends it early, but in order. Exit code 0: every
 * byte was as it must be; 1: not.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define AREAS 6
#define MAX_PAGES 700	/* more than one page table */

struct area {
	char *base, *shadow;	/* shadow: MAX_PAGES pages, mapped once */
	size_t pages;
	bool shared, readonly;
};

struct worker {
	struct area areas[AREAS];
	uint64_t state;
	int file;
	bool direct;
	char *bounce;
	unsigned long operations;
};

static const char *dir = "/tmp";
static double seconds = 5;
static int n_threads = 2;
static uint64_t seed = 1;
static volatile sig_atomic_t enough;

static void on_term(int number)
{
	(void)number;
	enough = 1;
}

static uint64_t dice(struct worker *w)
{
	w->state ^= w->state << 13;
	w->state ^= w->state >> 7;
	w->state ^= w->state << 17;
	return w->state;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *what)
{
	fprintf(stderr, "torture: pid %d: %s (%s)\n", getpid(), what, strerror(errno));
	_exit(1);
}

static void check(struct area *a, size_t page, const char *when)
{
	size_t i;

	if (!memcmp(a->base + page * PAGE, a->shadow + page * PAGE, PAGE))
		return;
	for (i = 0; a->base[page * PAGE + i] == a->shadow[page * PAGE + i]; i++)
		;
	fprintf(stderr, "torture: WRONG BYTES after %s: page %zu of %zu, byte %zu: %#x instead of %#x\n",
		when, page, a->pages, i, (unsigned char)a->base[page * PAGE + i],
		(unsigned char)a->shadow[page * PAGE + i]);
	_exit(1);
}

static void check_all(struct area *a, const char *when)
{
	size_t i;

	for (i = 0; i < a->pages; i++)
		check(a, i, when);
}

static void writable(struct area *a)
{
	if (a->readonly && mprotect(a->base, a->pages * PAGE, PROT_READ | PROT_WRITE))
		fail("mprotect");
	a->readonly = false;
}

static void fill(struct worker *w, struct area *a, size_t page)
{
	uint64_t *to = (uint64_t *)(a->base + page * PAGE), *copy = (uint64_t *)(a->shadow + page * PAGE);
	size_t i;

	writable(a);
	for (i = dice(w) % 16; i < PAGE / 8; i += 1 + dice(w) % 128)
		copy[i] = to[i] = dice(w);
}

static void new_area(struct worker *w, struct area *a)
{
	a->pages = 1 + dice(w) % (dice(w) % 8 ? 64 : MAX_PAGES);
	a->shared = dice(w) % 4 == 0;
	a->readonly = false;
	a->base = mmap(NULL, a->pages * PAGE, PROT_READ | PROT_WRITE,
		       (a->shared ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS, -1, 0);
	if (a->base == MAP_FAILED)
		fail("mmap");
	memset(a->shadow, 0, a->pages * PAGE);
	if (dice(w) % 4 == 0)
		madvise(a->base, a->pages * PAGE, MADV_HUGEPAGE);
}

static void resize(struct worker *w, struct area *a)
{
	size_t pages = 1 + dice(w) % 128;
	char *base;

	if (a->shared)	/* its object has the size it was made with */
		return;
	base = mremap(a->base, a->pages * PAGE, pages * PAGE, MREMAP_MAYMOVE);
	if (base == MAP_FAILED)
		fail("mremap");
	a->base = base;
	if (pages > a->pages)
		memset(a->shadow + a->pages * PAGE, 0, (pages - a->pages) * PAGE);
	a->pages = pages;
}

static void move(struct area *a)
{
	char *to = mmap(NULL, a->pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (to == MAP_FAILED || mremap(a->base, a->pages * PAGE, a->pages * PAGE,
				       MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED)
		fail("mremap to a place");
	a->base = to;
}

static void forget(struct worker *w, struct area *a)
{
	size_t from = dice(w) % a->pages, n = 1 + dice(w) % (a->pages - from);

	if (a->shared)
		return;
	if (madvise(a->base + from * PAGE, n * PAGE, MADV_DONTNEED))
		fail("madvise");
	memset(a->shadow + from * PAGE, 0, n * PAGE);
}

/* The child sees the copy as it is, changes its own, and checks again. */
static void forked_copy(struct worker *w)
{
	int i, status, pid = fork();

	if (pid < 0)
		fail("fork");
	if (!pid) {
		for (i = 0; i < AREAS; i++) {
			struct area *a = &w->areas[i];

			/* Shared memory is the parent's too: it goes on changing it. */
			if (a->shared)
				continue;
			check_all(a, "fork, in the child");
			fill(w, a, dice(w) % a->pages);
			check_all(a, "a write in the child");
		}
		_exit(0);
	}
	for (i = 0; i < 20; i++) {
		struct area *a = &w->areas[dice(w) % AREAS];

		fill(w, a, dice(w) % a->pages);
		check(a, dice(w) % a->pages, "fork, in the parent");
	}
	if (waitpid(pid, &status, 0) != pid || status)
		fail("a child found a difference or died");
}

static void file_io(struct worker *w, struct area *a)
{
	size_t page = dice(w) % a->pages, n = 1 + dice(w) % (a->pages - page);
	off_t at = dice(w) % 16 * PAGE;

	if (n > 64)
		n = 64;
	if (pwrite(w->file, a->base + page * PAGE, n * PAGE, at) != (ssize_t)(n * PAGE))
		fail("write");
	fill(w, a, page);	/* what is in the file is older now */
	memcpy(w->bounce, a->shadow + page * PAGE, n * PAGE);
	if (pwrite(w->file, w->bounce, n * PAGE, at) != (ssize_t)(n * PAGE))
		fail("write");
	memset(a->base + page * PAGE, 0x55, n * PAGE);
	if (pread(w->file, a->base + page * PAGE, n * PAGE, at) != (ssize_t)(n * PAGE))
		fail("read");
	for (; n--; page++)
		check(a, page, w->direct ? "direct I/O" : "file I/O");
}

static void peek(struct worker *w, struct area *a)
{
	size_t page = dice(w) % a->pages;
	struct iovec mine = { w->bounce, PAGE }, theirs = { a->base + page * PAGE, PAGE };

	if (process_vm_readv(getpid(), &mine, 1, &theirs, 1, 0) != PAGE)
		fail("process_vm_readv");
	if (memcmp(w->bounce, a->shadow + page * PAGE, PAGE))
		fail("WRONG BYTES seen by process_vm_readv");
	writable(a);
	memset(w->bounce, dice(w), PAGE);
	if (process_vm_writev(getpid(), &mine, 1, &theirs, 1, 0) != PAGE)
		fail("process_vm_writev");
	memcpy(a->shadow + page * PAGE, w->bounce, PAGE);
	check(a, page, "process_vm_writev");
}

static void operate(struct worker *w)
{
	struct area *a = &w->areas[dice(w) % AREAS];
	size_t i;

	switch (dice(w) % 16) {
	case 0:
		check_all(a, "munmap");
		if (munmap(a->base, a->pages * PAGE))
			fail("munmap");
		new_area(w, a);
		break;
	case 1:
		writable(a);	/* a part that is read-only makes mremap fail on two VMAs */
		resize(w, a);
		break;
	case 2:
		move(a);
		break;
	case 3:
		if (mprotect(a->base, a->pages * PAGE, PROT_READ))
			fail("mprotect");
		a->readonly = true;
		break;
	case 4:
		if (mprotect(a->base, a->pages * PAGE, PROT_NONE) ||
		    mprotect(a->base, a->pages * PAGE, PROT_READ | PROT_WRITE))
			fail("mprotect");
		a->readonly = false;
		break;
	case 5:
		forget(w, a);
		break;
	case 6:
		if (dice(w) % 4 == 0)
			forked_copy(w);
		break;
	case 7:
		writable(a);
		file_io(w, a);
		break;
	case 8:
		peek(w, a);
		break;
	case 9:
		madvise(a->base, a->pages * PAGE,
			(int[]){ MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED, MADV_NOHUGEPAGE }[dice(w) % 4]);
		break;
	default:
		for (i = 0; i < 8; i++)
			fill(w, a, dice(w) % a->pages);
	}
	for (i = 0; i < 4; i++)
		check(a, dice(w) % a->pages, "something");
	w->operations++;
}

static void *run(void *number)
{
	struct worker *w = calloc(1, sizeof(*w));
	double end = now() + seconds;
	char path[256];
	int i;

	w->state = seed * 7919 + (size_t)number * 104729 + getpid() * 31 + 1;
	w->bounce = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	snprintf(path, sizeof(path), "%s/torture-%d-%zu", dir, getpid(), (size_t)number);
	w->file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600);
	w->direct = w->file >= 0;
	if (!w->direct)
		w->file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (w->file < 0)
		fail(path);
	unlink(path);
	for (i = 0; i < AREAS; i++) {
		w->areas[i].shadow = mmap(NULL, MAX_PAGES * PAGE, PROT_READ | PROT_WRITE,
					  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (w->areas[i].shadow == MAP_FAILED)
			fail("memory for the shadow");
		new_area(w, &w->areas[i]);
	}
	while (now() < end && !enough)
		operate(w);
	for (i = 0; i < AREAS; i++)
		check_all(&w->areas[i], "everything");
	return w;
}

static int worker(void)
{
	pthread_t threads[16];
	unsigned long operations = 0;
	size_t i;
	void *w;

	for (i = 0; i < (size_t)n_threads; i++)
		if (pthread_create(&threads[i], NULL, run, (void *)i))
			fail("pthread_create");
	for (i = 0; i < (size_t)n_threads; i++) {
		pthread_join(threads[i], &w);
		operations += ((struct worker *)w)->operations;
	}
	printf("torture: pid %d: %lu operations, every byte as it must be\n", getpid(), operations);
	fflush(stdout);
	return 0;
}

int main(int argc, char **argv)
{
	int c, i, status, bad = 0, workers = 2;

	while ((c = getopt(argc, argv, "s:w:t:d:r:")) != -1)
		switch (c) {
		case 's':
			seconds = atof(optarg);
			break;
		case 'w':
			workers = atoi(optarg);
			break;
		case 't':
			n_threads = atoi(optarg) > 16 ? 16 : atoi(optarg);
			break;
		case 'd':
			dir = optarg;
			break;
		case 'r':
			seed = strtoull(optarg, NULL, 0);
			break;
		default:
			fprintf(stderr, "usage: torture [-s SECONDS] [-w WORKERS] [-t THREADS] [-d DIR] [-r SEED]\n");
			return 2;
		}
	signal(SIGTERM, on_term);	/* restarts what it interrupts */
	for (i = 0; i < workers; i++)
		if (!fork())
			_exit(worker());
	while (wait(&status) > 0)
		if (status) {
			fprintf(stderr, "torture: a worker ended with status %#x\n", status);
			bad = 1;
		}
	return bad;
}
