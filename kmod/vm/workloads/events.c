// SPDX-License-Identifier: GPL-2.0
/*
 * Does what changes an address space, one thing after the other, and writes down
 * what must have been recorded of it:
 *
 *   events maps|around|huge EXPECTED DIR [ROUNDS_MS]
 *
 * Lines, times in ns of CLOCK_MONOTONIC:
 *   map PID OP START END PROT OLD_START OLD_END PAGE T0 T1 PATH   PROT: as in pgtrace_api.h; - where not known
 *   span PID T0 T1             between these nothing else happened to the process's mappings
 *   exit PID CODE
 *   around PID BASE PAGES TOUCHED T0 T1 PATH     one touch of a mapped file that is in memory; then
 *   neighbour PID ADDR T0 T1                     a touch of a page that came along with it
 *   huge PID ADDR ROUND T0 T1                    a touch in the next 2 MiB of a region
 *   whole PID KB                               so much of it is huge pages, as the kernel says
 */
#define _GNU_SOURCE
#include <alloca.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define HUGE (2UL << 20)

static char text[65536];	/* written at the end: writing maps nothing */
static size_t len;
static const char *dir;

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void *must(void *p, const char *what)
{
	if (p == MAP_FAILED || !p) {
		perror(what);
		_exit(2);
	}
	return p;
}

#define say(...) (len += snprintf(text + len, sizeof(text) - len, __VA_ARGS__))

static void map(const char *op, void *start, size_t bytes, const char *prot, void *old,
		size_t old_bytes, unsigned long page, uint64_t t0, const char *path)
{
	say("map %d %s %lu %lu %s %lu %lu %lu %lu %lu %s\n", getpid(), op, (unsigned long)start,
	    (unsigned long)start + bytes, prot, (unsigned long)old,
	    old ? (unsigned long)old + old_bytes : 0, page, t0, now(), path ?: "-");
}

static char *file_of(size_t pages)
{
	static char path[256];
	char block[PAGE];
	size_t i;
	int fd;

	snprintf(path, sizeof(path), "%s/events-%d", dir, getpid());
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
	for (i = 0; i < pages; i++) {
		memset(block, i + 1, PAGE);
		if (write(fd, block, PAGE) != PAGE)
			_exit(2);
	}
	close(fd);
	return path;
}

/* One range of /proc/self/maps, without the C library's own memory. */
static unsigned long bound(const char *name, bool end)
{
	static char maps[16384];
	unsigned long from = 0, to = 0;
	int fd = open("/proc/self/maps", O_RDONLY);
	ssize_t n, all = 0;
	char *at;

	while ((n = read(fd, maps + all, sizeof(maps) - 1 - all)) > 0)
		all += n;
	close(fd);
	maps[all] = 0;
	at = strstr(maps, name);
	if (!at)
		return 0;
	while (at > maps && at[-1] != '\n')
		at--;
	sscanf(at, "%lx-%lx", &from, &to);
	return end ? to : from;
}

static __attribute__((noinline)) void deep(size_t pages)
{
	volatile char *frame = alloca(pages * PAGE);

	for (size_t i = pages; i-- > 0;)
		frame[i * PAGE] = 1;
}

static void maps(void)
{
	char *path = file_of(16), *p, *q, *heap;
	unsigned long stack;
	uint64_t t0, begin;
	int fd = open(path, O_RDONLY), id = shmget(IPC_PRIVATE, 5 * PAGE, IPC_CREAT | 0600), status;
	void *area;

	sbrk(PAGE);
	heap = (char *)bound("[heap]", false);
	stack = bound("[stack]", true);
	bound("[stack]", false);	/* whatever it touches, it has touched now */
	/* The machine places mappings side by side and would merge them. */
	area = must(mmap(NULL, 400 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), "mmap");
	begin = now();

	t0 = now();
	munmap((char *)area + 100 * PAGE, 100 * PAGE);
	map("munmap", (char *)area + 100 * PAGE, 100 * PAGE, "-", NULL, 0, 0, t0, NULL);
	t0 = now();
	p = must(mmap((char *)area + 110 * PAGE, 10 * PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), "mmap");
	map("mmap", p, 10 * PAGE, "rw-p", NULL, 0, (unsigned long)p / PAGE, t0, NULL);
	memset(p, 1, 10 * PAGE);
	t0 = now();
	mprotect(p + 2 * PAGE, 3 * PAGE, PROT_READ);
	map("mprotect", p + 2 * PAGE, 3 * PAGE, "r--p", NULL, 0, (unsigned long)p / PAGE + 2, t0, NULL);
	t0 = now();
	munmap(p + 7 * PAGE, PAGE);
	map("munmap", p + 7 * PAGE, PAGE, "-", NULL, 0, (unsigned long)p / PAGE + 7, t0, NULL);
	t0 = now();
	q = must(mremap(p + 8 * PAGE, 2 * PAGE, 120 * PAGE, MREMAP_MAYMOVE), "mremap");
	map("mremap", q, 120 * PAGE, "-", p + 8 * PAGE, 2 * PAGE, 0, t0, NULL);
	if (q[0] != 1 || q[PAGE] != 1)
		_exit(3);
	t0 = now();	/* replaces two pages of what is there */
	must(mmap(p, 2 * PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0), "mmap");
	map("munmap", p, 2 * PAGE, "-", NULL, 0, (unsigned long)p / PAGE, t0, NULL);
	map("mmap", p, 2 * PAGE, "r--s", NULL, 0, 0, t0, "/dev/zero");
	t0 = now();
	p = must(mmap((char *)area + 150 * PAGE, 5 * PAGE, PROT_READ | PROT_EXEC,
		      MAP_PRIVATE | MAP_FIXED, fd, 3 * PAGE), "mmap");
	map("mmap", p, 5 * PAGE, "r-xp", NULL, 0, 3, t0, path);
	t0 = now();
	p = must(mmap((char *)area + 170 * PAGE, 5 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
		      10 * PAGE), "mmap");
	map("mmap", p, 5 * PAGE, "r--s", NULL, 0, 10, t0, path);
	t0 = now();
	p = sbrk(64 * PAGE);
	map("brk", heap, p + 64 * PAGE - heap, "rw-p", NULL, 0, (unsigned long)heap / PAGE, t0, NULL);
	t0 = now();
	p = must(shmat(id, NULL, 0), "shmat");
	map("mmap", p, 5 * PAGE, "rw-s", NULL, 0, 0, t0, "/SYSV00000000");
	t0 = now();
	shmdt(p);
	map("munmap", p, 5 * PAGE, "-", NULL, 0, 0, t0, "/SYSV00000000");
	t0 = now();
	deep(60);
	say("grown %d %lu %lu %lu\n", getpid(), stack, t0, now());
	if (mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
		_exit(3);
	say("span %d %lu %lu\n", getpid(), begin, now());
	shmctl(id, IPC_RMID, NULL);
	if (!fork())
		_exit(5);
	wait(&status);
	say("exit %d %d\n", getpid(), 0);
}

static volatile char sink;

static void around(void)
{
	char *path = file_of(64), *p;
	int fd = open(path, O_RDONLY);
	uint64_t t0;
	size_t i;

	p = must(mmap(NULL, 64 * PAGE, PROT_READ, MAP_SHARED, fd, 0), "mmap");
	t0 = now();
	sink = p[20 * PAGE + 7];
	say("around %d %lu 64 %lu %lu %lu %s\n", getpid(), (unsigned long)p,
	    (unsigned long)p + 20 * PAGE + 7, t0, now(), path);
	for (i = 16; i < 26; i++) {
		if (i == 20)
			continue;
		t0 = now();
		sink = p[i * PAGE];
		say("neighbour %d %lu %lu %lu\n", getpid(), (unsigned long)p + i * PAGE, t0, now());
	}
}

static unsigned long huge_kb(void)
{
	static char smaps[65536];
	unsigned long kb = 0;
	int fd = open("/proc/self/smaps", O_RDONLY);
	ssize_t n, all = 0;
	char *at = smaps;

	while ((n = read(fd, smaps + all, sizeof(smaps) - 1 - all)) > 0)
		all += n;
	smaps[all] = 0;
	close(fd);
	while ((at = strstr(at, "AnonHugePages:"))) {
		at += strlen("AnonHugePages:");
		kb += strtoul(at, &at, 10);
	}
	return kb;
}

static void huge(int pause_ms)
{
	char *p = must(mmap(NULL, 9 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
		       "mmap");
	uint64_t t0;
	int i, round;

	p = (char *)(((unsigned long)p + HUGE - 1) & ~(HUGE - 1));
	madvise(p, 8 * HUGE, MADV_HUGEPAGE);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < 8; i++) {
			t0 = now();
			/* A store, not an addition: the emulated processor would read first. */
			((volatile char *)p)[i * HUGE + 5 * PAGE + 11] = i + 1 + round;
			say("huge %d %lu %d %lu %lu\n", getpid(),
			    (unsigned long)p + i * HUGE + 5 * PAGE + 11, round, t0, now());
		}
		if (!round)
			say("whole %d %lu\n", getpid(), huge_kb());
		usleep(pause_ms * 1000);
	}
	for (i = 0; i < 8; i++)
		if (p[i * HUGE + 5 * PAGE + 11] != (char)(i + 1 + 2))
			_exit(3);
}

int main(int argc, char **argv)
{
	int fd;

	if (argc < 4) {
		fprintf(stderr, "usage: events maps|around|huge EXPECTED DIR [PAUSE_MS]\n");
		return 2;
	}
	memset(text, 1, sizeof(text));	/* present from now on */
	dir = argv[3];
	if (!strcmp(argv[1], "maps"))
		maps();
	else if (!strcmp(argv[1], "around"))
		around();
	else
		huge(argc > 4 ? atoi(argv[4]) : 200);
	fd = open(argv[2], O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (fd < 0 || write(fd, text, len) != (ssize_t)len) {
		perror(argv[2]);
		return 2;
	}
	return 0;
}
