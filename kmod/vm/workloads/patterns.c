// SPDX-License-Identifier: GPL-2.0
/*
 * Labelled workloads: files that are each referenced in one known pattern, which
 * the file's name tells, so that verdicts on a recording can be held against it.
 *
 *   patterns make DIR SET..                 makes the files; not recorded, it leaves them in the page cache
 *   patterns run DIR REFS SEED TRUTH SET..  references each file REFS times
 *
 * Each file is DIR/SET/LABEL-WAY.dat. The ways: `read` is pread() of one page,
 * which is recorded whatever was before; `mmap` is a load from a mapping, which is
 * recorded when the page is not among the last N of the active-PTE FIFO. So of
 * `mmap` the shortest reuse distances are not seen. Labels are those of the whole
 * string, so working sets are large against N = 32. Hot pages are nearly always
 * active: of a Zipf string of exponent 1 they lose so much that what is recorded is
 * no longer one, hence the exponent of 2/3.
 *
 * SET is a way of taking turns, and for noise `-noise` after it: then one
 * reference in 50 goes to a page of the file at random.
 *   alone     one file after the other
 *   turns     all files at once, by one thread, one of them by chance each time
 *   threads   all files at once, by four threads, each with some of them
 *
 * TRUTH gets a line for each file: SET/LABEL-WAY.dat and the pages referenced, in order.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096UL
#define PAGES 1000UL		/* of a file */
#define LEAST_REFS 300UL	/* two rounds of the loop */
#define STRIDE 7
#define LOOP 150		/* pages of the loop */
#define WORKING_SET 80		/* of the clustered string; every .. */
#define STAY 3			/* .. references one of its pages is replaced by a new one */
#define NOISE 50		/* one reference in so many */
#define THREADS 4		/* each needs some pages in the FIFO for itself */
#define BURST 4			/* references of a thread before it lets others run */

static size_t refs;		/* to each file, at most PAGES */

struct string {
	char path[64];		/* below DIR */
	uint64_t state;
	uint32_t page[PAGES];
};

static void die(const char *what)
{
	fprintf(stderr, "patterns: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* --- chance: a string has its own, told by its path and the seed --- */

static uint64_t dice(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state * 0x2545f4914f6cdd1dULL;
}

static size_t below(uint64_t *state, size_t end) { return (dice(state) >> 32) * end >> 32; }

static uint64_t seeded(const char *name, uint64_t seed)
{
	uint64_t state = 14695981039346656037ULL ^ seed;

	while (*name)
		state = (state ^ (unsigned char)*name++) * 1099511628211ULL;
	state |= !state;
	for (seed = 0; seed < 16; seed++)
		dice(&state);
	return state;
}

/* All pages of a file in random order. */
static void shuffle(uint64_t *state, uint32_t *all)
{
	uint32_t at, with;
	size_t i;

	for (i = 0; i < PAGES; i++)
		all[i] = i;
	for (i = PAGES - 1; i > 0; i--) {
		with = below(state, i + 1);
		at = all[i];
		all[i] = all[with];
		all[with] = at;
	}
}

/* --- the patterns --- */

static void sequential(struct string *s)
{
	size_t i;

	for (i = 0; i < refs; i++)
		s->page[i] = i;
}

/* Sweeps, each from one page further on: every page once. */
static void strided(struct string *s)
{
	size_t i, first = 0, at = 0;

	for (i = 0; i < refs; i++, at += STRIDE) {
		if (at >= PAGES)
			at = ++first;
		s->page[i] = at;
	}
}

static void looping(struct string *s)
{
	size_t i, first = below(&s->state, PAGES - LOOP);

	for (i = 0; i < refs; i++)
		s->page[i] = first + i % LOOP;
}

/* A small working set that moves: its pages lie anywhere. */
static void clustered(struct string *s)
{
	uint32_t all[PAGES];
	size_t i, oldest = 0;

	shuffle(&s->state, all);
	for (i = 0; i < refs; i++) {
		if (i % STAY == STAY - 1)
			oldest++;
		s->page[i] = all[oldest + below(&s->state, WORKING_SET)];
	}
}

/* Zipf, exponent 2/3; popular pages lie anywhere. */
static void skewed(struct string *s)
{
	uint32_t all[PAGES];
	double u;
	size_t i;

	shuffle(&s->state, all);
	for (i = 0; i < refs; i++) {
		u = (dice(&s->state) >> 11) / 9007199254740992.0;
		s->page[i] = all[(size_t)(PAGES * u * u * u)];
	}
}

static void uniform(struct string *s)
{
	size_t i;

	for (i = 0; i < refs; i++)
		s->page[i] = below(&s->state, PAGES);
}

static void one_shot(struct string *s) { shuffle(&s->state, s->page); }

static const struct {
	const char *label;
	void (*make)(struct string *s);
} patterns[] = {
	{ "sequential", sequential }, { "strided", strided }, { "looping", looping },
	{ "clustered", clustered }, { "skewed", skewed }, { "random", uniform },
	{ "one-shot", one_shot },
};
static const char *const ways[] = { "read", "mmap" };

#define N_PATTERNS (sizeof(patterns) / sizeof(*patterns))
#define N_STRINGS (2 * N_PATTERNS)

static void name_it(char *path, size_t size, const char *set, size_t i)
{
	snprintf(path, size, "%s/%s-%s.dat", set, patterns[i % N_PATTERNS].label, ways[i / N_PATTERNS]);
}

/* --- make --- */

static void make_set(const char *set)
{
	static char bytes[PAGES * PAGE];
	char path[64];
	size_t i;
	int fd;

	memset(bytes, 'p', sizeof(bytes));
	if (mkdir(set, 0755) && errno != EEXIST)
		die(set);
	for (i = 0; i < N_STRINGS; i++) {
		name_it(path, sizeof(path), set, i);
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
		if (fd < 0)
			die(path);
		if (write(fd, bytes, sizeof(bytes)) != (ssize_t)sizeof(bytes))
			die(path);
		close(fd);
	}
}

/* --- run --- */

static struct string strings[N_STRINGS];
static struct file {
	int fd;			/* -1: by the mapping */
	const char *map;
} files[N_STRINGS];

static void open_string(const char *set, size_t i, uint64_t seed)
{
	struct string *s = &strings[i];
	struct file *f = &files[i];
	size_t k;

	name_it(s->path, sizeof(s->path), set, i);
	s->state = seeded(s->path, seed);
	patterns[i % N_PATTERNS].make(s);
	for (k = 0; k < refs && strstr(set, "-noise"); k++)
		if (!below(&s->state, NOISE))
			s->page[k] = below(&s->state, PAGES);

	f->fd = open(s->path, O_RDONLY);
	if (f->fd < 0)
		die(s->path);
	if (i < N_PATTERNS) {
		errno = posix_fadvise(f->fd, 0, 0, POSIX_FADV_RANDOM);	/* no read-ahead */
		if (errno)
			die(s->path);
		return;
	}
	f->map = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_SHARED, f->fd, 0);
	if (f->map == MAP_FAILED || madvise((void *)f->map, PAGES * PAGE, MADV_RANDOM))
		die(s->path);
	close(f->fd);
	f->fd = -1;
}

static void close_string(size_t i, FILE *truth)
{
	size_t k;

	fputs(strings[i].path, truth);
	for (k = 0; k < refs; k++)
		fprintf(truth, " %u", strings[i].page[k]);
	fputc('\n', truth);
	if (files[i].fd >= 0)
		close(files[i].fd);
	else
		munmap((void *)files[i].map, PAGES * PAGE);
}

static void reference(size_t i, size_t page)
{
	static __thread char buf[PAGE];
	const struct file *f = &files[i];

	if (f->fd < 0)
		*(volatile const char *)(f->map + page * PAGE + 64);
	else if (pread(f->fd, buf, PAGE, page * PAGE) != (ssize_t)PAGE)
		die(strings[i].path);
}

/*
 * What is done, in order. The program's own pages are recorded, too, and
 * take room in the FIFO, so what it needs here lies close together.
 */
static struct {
	uint16_t string, page;
} plan[N_STRINGS * PAGES];

static void alone(void)
{
	size_t i, k, n = 0;

	for (i = 0; i < N_STRINGS; i++)
		for (k = 0; k < refs; k++, n++)
			plan[n].string = i, plan[n].page = strings[i].page[k];
}

/* By chance in proportion to what is left of a string: all end at about the same time. */
static void turns(void)
{
	size_t done[N_STRINGS] = { 0 }, left, pick, i, n = 0;

	for (left = N_STRINGS * refs; left; left--, n++) {
		pick = below(&strings[0].state, left);
		for (i = 0; pick >= refs - done[i]; i++)
			pick -= refs - done[i];
		plan[n].string = i;
		plan[n].page = strings[i].page[done[i]++];
	}
}

/* All of it; or what is thread t's. */
static void go_by_plan(size_t threads, size_t t)
{
	size_t n, done = 0;

	for (n = 0; n < N_STRINGS * refs; n++) {
		if (plan[n].string % threads != t)
			continue;
		reference(plan[n].string, plan[n].page);
		if (threads > 1 && ++done % BURST == 0)
			sched_yield();
	}
}

static pthread_barrier_t together;

static void *thread(void *number)
{
	pthread_barrier_wait(&together);
	go_by_plan(THREADS, (size_t)number);
	return NULL;
}

static void threads(void)
{
	pthread_t id[THREADS];
	size_t t;

	pthread_barrier_init(&together, NULL, THREADS);
	for (t = 0; t < THREADS; t++)
		if (pthread_create(&id[t], NULL, thread, (void *)t))
			die("thread");
	for (t = 0; t < THREADS; t++)
		pthread_join(id[t], NULL);
	pthread_barrier_destroy(&together);
}

static void run_set(const char *set, uint64_t seed, FILE *truth)
{
	size_t i;

	for (i = 0; i < N_STRINGS; i++)
		open_string(set, i, seed);
	if (strncmp(set, "alone", 5))
		turns();
	else
		alone();
	if (strncmp(set, "threads", 7))
		go_by_plan(1, 0);
	else
		threads();
	for (i = 0; i < N_STRINGS; i++)
		close_string(i, truth);
}

int main(int argc, char **argv)
{
	int make = argc > 3 && !strcmp(argv[1], "make"), run = argc > 6 && !strcmp(argv[1], "run"), i;
	FILE *truth;

	if (run) {
		refs = strtoul(argv[3], NULL, 10);
		run = refs >= LEAST_REFS && refs <= PAGES;
	}
	if (!make && !run) {
		fprintf(stderr, "usage: patterns make DIR SET.. | run DIR REFS SEED TRUTH SET..; %lu to %lu references\n",
			LEAST_REFS, PAGES);
		return 2;
	}
	truth = run ? fopen(argv[5], "w") : NULL;
	if (run && !truth)
		die(argv[5]);
	if (chdir(argv[2]))
		die(argv[2]);
	if (make) {
		for (i = 3; i < argc; i++)
			make_set(argv[i]);
		return 0;
	}
	for (i = 6; i < argc; i++)
		run_set(argv[i], strtoull(argv[4], NULL, 10), truth);
	if (fclose(truth))
		die(argv[5]);
	return 0;
}
