// SPDX-License-Identifier: GPL-2.0
/* The log of touches and the shadowed regions; see truth.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "truth.h"

#define MAX_REGIONS 64
#define MAX_THREADS 64
#define MAX_TOUCHES (1 << 18)

struct touch {
	uint64_t t0, t1;
	uint32_t page;
	int16_t region;		/* -1: a look-up of path */
	char access;
	uint8_t path;
};

struct log {
	int tid;
	size_t n;
	struct touch *touches;
	volatile char *canary;	/* a page that nobody else touches */
};

static const char *const kinds[] = { "anon", "heap", "stack", "shmem", "shared", "private" };
static struct region regions[MAX_REGIONS];
static int n_regions;
static struct log logs[MAX_THREADS];
static int n_logs;
static __thread struct log *mine;
static const char *paths[256];		/* of look-ups */
static int n_paths;
static char facts[16384];		/* lines other than touches */
static size_t facts_len;
static const char *truth_file;
static unsigned int period;
static long wrong;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void die(const char *what)
{
	fprintf(stderr, "workload: %s: %s\n", what, strerror(errno));
	_exit(2);
}

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void fact(const char *format, ...)
{
	va_list args;

	pthread_mutex_lock(&lock);
	va_start(args, format);
	facts_len += vsnprintf(facts + facts_len, sizeof(facts) - facts_len, format, args);
	va_end(args);
	pthread_mutex_unlock(&lock);
	if (facts_len >= sizeof(facts))
		die("too many facts");
}

static void differs(const struct region *r, size_t page)
{
	__atomic_add_fetch(&wrong, 1, __ATOMIC_RELAXED);
	fprintf(stderr, "workload: WRONG BYTES in region %d, page %zu, pid %d\n", r->id, page,
		getpid());
}

static void *map(size_t bytes, int flags)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

void truth_thread(void)
{
	pthread_mutex_lock(&lock);
	if (n_logs == MAX_THREADS)
		die("too many threads");
	mine = &logs[n_logs++];
	pthread_mutex_unlock(&lock);
	mine->tid = gettid();
	mine->n = 0;
	mine->touches = map(MAX_TOUCHES * sizeof(struct touch), MAP_PRIVATE | MAP_NORESERVE);
	mine->canary = map(PAGE, MAP_PRIVATE);
	*mine->canary = 1;
}

static void process_fact(void)
{
	char exe[256] = "", comm[17] = "";

	if (readlink("/proc/self/exe", exe, sizeof(exe) - 1) < 0)
		die("/proc/self/exe");
	prctl(PR_GET_NAME, comm);
	fact("process %d %d %s %s\n", getpid(), getppid(), comm, exe);
}

void truth_open(const char *file, unsigned int period_ms)
{
	truth_file = file;
	period = period_ms;
	truth_thread();
	process_fact();
}

static void log_one(int region, uint8_t path, size_t page, char access, uint64_t t0, uint64_t t1)
{
	struct touch *t = &mine->touches[mine->n];

	if (++mine->n > MAX_TOUCHES)
		die("too many touches");
	*t = (struct touch){ t0, t1, page, region, access, path };
}

long truth_close(void)
{
	char *text;
	size_t len, i;
	int fd, l;
	FILE *f = open_memstream(&text, &len);

	fwrite(facts, 1, facts_len, f);
	for (i = 0; i < (size_t)n_regions; i++) {
		const struct region *r = &regions[i];

		fprintf(f, "region %d %d %s %lu %zu %zu %d %s\n", getpid(), r->id, kinds[r->kind],
			(unsigned long)r->base, r->pages, r->file_page, r->inherited,
			r->path[0] ? r->path : "-");
	}
	for (l = 0; l < n_logs; l++)
		for (i = 0; i < logs[l].n; i++) {
			const struct touch *t = &logs[l].touches[i];

			if (t->region < 0)
				fprintf(f, "lookup %d %u %lu %lu %s\n", logs[l].tid, t->page,
					(unsigned long)t->t0, (unsigned long)t->t1, paths[t->path]);
			else
				fprintf(f, "touch %d %d %u %c %lu %lu\n", logs[l].tid, t->region,
					t->page, t->access, (unsigned long)t->t0,
					(unsigned long)t->t1);
		}
	fprintf(f, "end %d %lu %ld\n", getpid(), (unsigned long)now_ns(), wrong);
	if (fclose(f))
		die("memory for the truth");
	fd = open(truth_file, O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (fd < 0 || write(fd, text, len) != (ssize_t)len || close(fd))
		die(truth_file);
	free(text);
	return wrong;
}

/* Minor faults of this thread so far. */
static long faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_minflt;
}

/*
 * A touch of the canary that faults tells that the cleaner took it. The first
 * time the pass may have begun before settle() did, the second pass is a whole
 * one, and it is over when the third has begun. Without a cleaner: some time.
 */
void settle(void)
{
	int seen = 0, tries;
	long before;

	for (tries = 0; tries < 60 && seen < 3; tries++) {
		usleep(period * 1000 / 2 + 500);
		faults();	/* its own pages are back now */
		before = faults();
		*mine->canary = 1;
		seen += faults() > before;
		if (tries == 6 && !seen)
			break;
	}
}

void expect_retouches(size_t n)
{
	fact("retouches %d %zu\n", getpid(), n);
}

/* --- regions --- */

static struct region *region_new(enum kind kind, void *base, size_t pages)
{
	struct region *r = &regions[n_regions];

	if (n_regions == MAX_REGIONS)
		die("too many regions");
	*r = (struct region){ .id = n_regions++, .kind = kind, .base = base, .pages = pages };
	/* Memory that processes share has a shadow that they share. */
	r->shadow = map(pages * PAGE, kind == SHARED || kind == SHMEM ? MAP_SHARED : MAP_PRIVATE);
	return r;
}

struct region *region_anon(size_t pages)
{
	return region_new(ANON, map(pages * PAGE, MAP_PRIVATE), pages);
}

struct region *region_shmem(size_t pages)
{
	struct region *r = region_new(SHMEM, map(pages * PAGE, MAP_SHARED), pages);

	strcpy(r->path, "/dev/zero");
	return r;
}

struct region *region_at(enum kind kind, void *base, size_t pages)
{
	struct region *r = region_new(kind, base, pages);
	uint64_t t0;
	size_t i;

	for (i = 0; i < pages; i++) {
		t0 = now_ns();
		memset(r->base + i * PAGE, 0, PAGE);
		log_one(r->id, 0, i, 'w', t0, now_ns());
	}
	return r;
}

uint64_t file_word(size_t page, size_t word)
{
	return (page * WORDS + word + 1) * 0x9e3779b97f4a7c15ULL;
}

void file_make(const char *path, size_t pages)
{
	uint64_t words[WORDS];
	size_t i, w;
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (fd < 0)
		die(path);
	for (i = 0; i < pages; i++) {
		for (w = 0; w < WORDS; w++)
			words[w] = file_word(i, w);
		if (write(fd, words, PAGE) != PAGE)
			die(path);
	}
	close(fd);
}

struct region *region_file(enum kind kind, const char *path, size_t file_page, size_t pages)
{
	int fd = open(path, O_RDWR);
	struct region *r;
	void *base;
	size_t i, w;

	if (fd < 0)
		die(path);
	base = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
		    kind == SHARED ? MAP_SHARED : MAP_PRIVATE, fd, file_page * PAGE);
	if (base == MAP_FAILED)
		die(path);
	close(fd);
	r = region_new(kind, base, pages);
	r->file_page = file_page;
	snprintf(r->path, sizeof(r->path), "%s", path);
	for (i = 0; i < pages; i++)
		for (w = 0; w < WORDS; w++)
			((uint64_t *)r->shadow)[i * WORDS + w] = file_word(file_page + i, w);
	return r;
}

struct region *region_code(size_t pages)
{
	struct region *r = region_anon(pages);
	uint64_t t0;
	size_t i;

	for (i = 0; i < pages; i++) {
		t0 = now_ns();
		*(volatile char *)(r->base + i * PAGE) = (char)0xc3;	/* ret */
		log_one(r->id, 0, i, 'w', t0, now_ns());
		r->shadow[i * PAGE] = (char)0xc3;
	}
	t0 = now_ns();
	if (mprotect(r->base, pages * PAGE, PROT_READ | PROT_EXEC))
		die("mprotect");
	for (i = 0; i < pages; i++)
		log_one(r->id, 0, i, 'm', t0, now_ns());
	return r;
}

/* --- touches: one instruction each, and the same one for all --- */

static size_t slot(const struct region *r, size_t page)
{
	return page * WORDS + (page * 37 + mine->n * 11 + r->id) % WORDS;
}

__attribute__((noinline)) void touch_read(struct region *r, size_t page)
{
	size_t at = slot(r, page);
	uint64_t t0 = now_ns(), got;

	got = ((volatile uint64_t *)r->base)[at];
	log_one(r->id, 0, page, 'r', t0, now_ns());
	if (got != ((volatile uint64_t *)r->shadow)[at])
		differs(r, page);
}

__attribute__((noinline)) void touch_write(struct region *r, size_t page)
{
	size_t at = slot(r, page);
	uint64_t value = (at + mine->n + mine->tid) * 0xd1342543de82ef95ULL;
	uint64_t t0 = now_ns();

	((volatile uint64_t *)r->base)[at] = value;
	log_one(r->id, 0, page, 'w', t0, now_ns());
	((volatile uint64_t *)r->shadow)[at] = value;
}

__attribute__((noinline)) void touch_exec(struct region *r, size_t page)
{
	void (*code)(void) = (void (*)(void))(r->base + page * PAGE);
	uint64_t t0 = now_ns();

	code();
	log_one(r->id, 0, page, 'x', t0, now_ns());
}

void touch_by_read(struct region *r, size_t page, size_t pages, int fd, size_t file_page)
{
	uint64_t t0 = now_ns(), t1;
	size_t i, w;

	if (pread(fd, r->base + page * PAGE, pages * PAGE, file_page * PAGE) !=
	    (ssize_t)(pages * PAGE))
		die("read into the region");
	t1 = now_ns();
	for (i = 0; i < pages; i++) {
		log_one(r->id, 0, page + i, 'w', t0, t1);
		for (w = 0; w < WORDS; w++)
			((uint64_t *)r->shadow)[(page + i) * WORDS + w] = file_word(file_page + i, w);
	}
}

void touch_by_write(struct region *r, size_t page, size_t pages, int fd)
{
	uint64_t t0 = now_ns(), t1;
	size_t i;

	if (pwrite(fd, r->base + page * PAGE, pages * PAGE, 0) != (ssize_t)(pages * PAGE))
		die("write from the region");
	t1 = now_ns();
	for (i = 0; i < pages; i++)
		log_one(r->id, 0, page + i, 'r', t0, t1);
}

void verify(struct region *r)
{
	uint64_t t0;
	size_t i;
	int bad;

	for (i = 0; i < r->pages; i++) {
		t0 = now_ns();
		bad = memcmp(r->base + i * PAGE, r->shadow + i * PAGE, PAGE);
		log_one(r->id, 0, i, 'r', t0, now_ns());
		if (bad)
			differs(r, i);
	}
}

/* --- files and processes --- */

void lookup(int fd, const char *path, size_t offset, size_t len)
{
	static uint64_t buf[64 * WORDS + 1];
	uint64_t t0, t1;
	ssize_t got, i;
	size_t page;
	int p;

	for (p = 0; p < n_paths && strcmp(paths[p], path); p++)
		;
	if (p == n_paths)
		paths[n_paths++] = path;
	if (len > 64 * PAGE)
		die("look-up too long");
	t0 = now_ns();
	got = pread(fd, buf, len, offset);
	t1 = now_ns();
	if (got < 0)
		die(path);
	if (!got)
		return;
	for (page = offset / PAGE; page <= (offset + got - 1) / PAGE; page++)
		log_one(-1, p, page, 'r', t0, t1);
	for (i = 0; i < got; i++) {
		size_t at = offset + i;
		uint64_t word = file_word(at / PAGE, at % PAGE / 8);

		if (((char *)buf)[i] != ((char *)&word)[at % 8]) {
			wrong++;
			fprintf(stderr, "workload: WRONG BYTES read from %s\n", path);
			break;
		}
	}
}

void touch_cold(struct region *r, size_t page)
{
	unsigned char there;

	if (mincore(r->base + page * PAGE, PAGE, &there))
		die("mincore");
	fact("major %d %d %zu %d\n", getpid(), r->id, page, !(there & 1));
	touch_read(r, page);
}

void object_deleted(const char *path, bool deleted)
{
	fact("object %d %s\n", deleted, path);
}

int truth_fork(void)
{
	uint64_t t0 = now_ns();
	int i, pid = fork();

	if (pid < 0)
		die("fork");
	if (pid) {
		fact("fork %d %d %lu %lu\n", getpid(), pid, (unsigned long)t0,
		     (unsigned long)now_ns());
		return pid;
	}
	/* A log of its own, which leaves the parent's pages alone. */
	facts_len = 0;
	n_logs = 0;
	truth_thread();
	for (i = 0; i < n_regions; i++)
		regions[i].inherited = true;
	process_fact();
	return 0;
}

void truth_wait(int pid, int code)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		die("wait");
	fact("exit %d %d\n", pid, status);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != code) {
		fprintf(stderr, "workload: child %d ended with status %#x\n", pid, status);
		_exit(2);
	}
}
