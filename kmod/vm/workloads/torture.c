// SPDX-License-Identifier: GPL-2.0
/*
 * Everything a program can do to its memory, at random, while the cleaner makes
 * its pages fault: a shadow copy tells whether a single byte ever changed.
 *
 *   torture [-s SECONDS] [-w WORKERS] [-t THREADS] [-d DIR] [-r SEED] [-o OPERATION,..] [-x OPERATION,..]
 *
 * Each worker is a process with THREADS threads, and each thread owns areas of
 * memory of its own (so that one thread knows what they must hold): anonymous,
 * shared, of files private and shared, and watched by userfaultfd. torture.h
 * lists the operations; -o names the only ones to do, -x those that the kernel
 * may refuse for good. SIGTERM to all of them ends it early, but in order. It takes
 * longer than SECONDS, up to 20 times, until each thread has tried each operation
 * and each was done. Exit code 0: every byte was as it must be; 1: not.
 *
 * A worker ends with two lines: how many operations were done, and how often
 * each was ("torture: done NAME COUNT ..."): what is 0 was not tested.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "torture.h"

const char *dir = "/tmp";
const char *self = "/proc/self/exe";
static double seconds = 5;
static int n_threads = 2;
static uint64_t seed = 1;
static const char *only, *refusable = "";
static volatile sig_atomic_t enough;

static const struct operation {
	const char *name;
	bool (*run)(struct worker *w, struct area *a);
	int weight;		/* cards in the deck */
	bool in_child;		/* does nothing to what a child of fork shares with its parent */
} operations[] = {
	{ "remap", op_remap, 1, true },
	{ "resize", op_resize, 2, true },
	{ "move", op_move, 2, true },
	{ "leave", op_leave, 2, true },
	{ "alias", op_alias, 2, false },
	{ "dev_zero", op_dev_zero, 1, true },
	{ "readonly", op_readonly, 2, true },
	{ "noaccess", op_noaccess, 2, true },
	{ "truncate", op_truncate, 2, false },
	{ "unlink", op_unlink, 1, false },
	{ "sync", op_sync, 2, false },
	{ "mlock", op_mlock, 2, true },
	{ "dontneed", op_dontneed, 3, true },
	{ "free", op_free, 2, false },
	{ "remove", op_remove, 2, false },
	{ "cold", op_cold, 1, true },
	{ "pageout", op_pageout, 3, true },
	{ "willneed", op_willneed, 1, true },
	{ "populate", op_populate, 2, true },
	{ "mergeable", op_mergeable, 1, true },
	{ "hugepage", op_hugepage, 2, true },
	{ "collapse", op_collapse, 1, true },
	{ "nohugepage", op_nohugepage, 1, true },
	{ "file_io", op_file_io, 2, false },
	{ "vm_readv", op_vm_readv, 2, true },
	{ "vm_writev", op_vm_writev, 2, true },
	{ "proc_mem", op_proc_mem, 2, true },
	{ "vmsplice", op_vmsplice, 2, true },
	{ "stack", op_stack, 1, true },
	{ "fork", op_fork, 1, false },
	{ "remote", op_remote, 1, false },
	{ "spawn", op_spawn, 1, false },
	{ "thread_exec", op_thread_exec, 1, false },
	{ "kill", op_kill, 1, false },
	{ "exit", op_exit, 1, false },
	{ "thread", op_thread, 2, false },
	{ "protect", op_protect, 3, false },
};

#define N_OPERATIONS (sizeof(operations) / sizeof(operations[0]))

static void on_term(int number)
{
	(void)number;
	enough = 1;
}

uint64_t dice(struct worker *w)
{
	w->state ^= w->state << 13;
	w->state ^= w->state >> 7;
	w->state ^= w->state << 17;
	return w->state;
}

double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

void fail(const char *what)
{
	fprintf(stderr, "torture: pid %d: %s (%s)\n", getpid(), what, strerror(errno));
	_exit(1);
}

void wrong(const char *what, const struct area *a, size_t page)
{
	static const char *const kinds[] = { "anonymous", "shared", "private file", "shared file", "userfaultfd" };

	fprintf(stderr, "torture: pid %d: WRONG: %s: %s memory at %p, page %zu of %zu\n", getpid(), what,
		kinds[a->kind], (void *)a->base, page, a->pages);
	_exit(1);
}

static bool among(const char *list, const char *name)
{
	const char *at;
	size_t n = strlen(name);

	for (at = list; (at = strstr(at, name)); at += n)
		if ((at == list || at[-1] == ',') && (at[n] == ',' || !at[n]))
			return true;
	return false;
}

static bool wanted(const struct operation *o)
{
	return !only || among(only, o->name);
}

/* Of all workers: shared memory. Which operations were done. */
static unsigned char *seen;

static bool all_seen(void)
{
	size_t i;

	for (i = 0; i < N_OPERATIONS; i++)
		if (!seen[i] && wanted(&operations[i]) && !among(refusable, operations[i].name))
			return false;
	return true;
}

/* Every operation is a card or more of a deck: each has its turn before one comes again. */
static void shuffle(struct worker *w)
{
	size_t i, k;

	w->cards = 0;
	w->decks++;
	for (i = 0; i < N_OPERATIONS; i++)
		for (k = 0; k < (size_t)operations[i].weight; k++)
			if (wanted(&operations[i]) && (!w->child || operations[i].in_child))
				w->deck[w->cards++] = i;
	for (i = w->cards; i > 1; i--) {
		unsigned char card = w->deck[i - 1];

		k = dice(w) % i;
		w->deck[i - 1] = w->deck[k];
		w->deck[k] = card;
	}
}

static void operate(struct worker *w)
{
	size_t i, first = dice(w);
	struct area *a;
	int card;

	if (dice(w) % 2) {
		a = &w->areas[first % AREAS];
		for (i = 0; i < 8 && !(w->child && is_shared(a)); i++)
			fill(w, a, dice(w) % a->pages);
		return;
	}
	if (!w->cards)
		shuffle(w);
	card = w->deck[--w->cards];
	/* The first area that it applies to. */
	for (i = 0; i < AREAS; i++) {
		a = &w->areas[(first + i) % AREAS];
		if ((w->child && is_shared(a)) || !operations[card].run(w, a))
			continue;
		w->done[card]++;
		if (!w->child)
			seen[card] = 1;
		for (i = 0; i < 4; i++)
			check(a, dice(w) % a->pages, operations[card].name);
		return;
	}
}

void operate_for_ever(struct worker *w)
{
	w->child = true;
	w->cards = 0;
	own_pipe(w);
	for (;;)
		operate(w);
}

void own_pipe(struct worker *w)
{
	if (pipe2(w->pipe, O_CLOEXEC))
		fail("pipe");
}

struct worker *new_worker(uint64_t number)
{
	struct worker *w = calloc(1, sizeof(*w));
	char path[256];
	int i;

	if (!w || !(w->done = calloc(N_OPERATIONS, sizeof(*w->done))))
		fail("memory");
	w->state = seed * 7919 + number * 104729 + getpid() * 31 + 1;
	own_pipe(w);
	w->bounce = mmap(NULL, BOUNCE_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	snprintf(path, sizeof(path), "%s/torture-%d-%zu", dir, getpid(), (size_t)number);
	w->file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_DIRECT, 0600);
	w->direct = w->file >= 0;
	if (!w->direct)
		w->file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (w->bounce == MAP_FAILED || w->file < 0)
		fail(path);
	unlink(path);
	for (i = 0; i < AREAS; i++) {
		w->areas[i].shadow = mmap(NULL, MAX_PAGES * PAGE, PROT_READ | PROT_WRITE,
					  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (w->areas[i].shadow == MAP_FAILED)
			fail("memory for the shadow");
		make_area(w, &w->areas[i], i);
	}
	return w;
}

static void *run(void *number)
{
	struct worker *w = new_worker((size_t)number);
	double end = now() + seconds, latest = end + 19 * seconds;
	int i;

	/* However slow the machine, and however often the kernel says no. */
	while ((now() < end || w->decks < 2 || (now() < latest && !all_seen())) && !enough)
		operate(w);
	for (i = 0; i < AREAS; i++) {
		check_all(&w->areas[i], "everything");
		end_area(&w->areas[i]);
	}
	return w;
}

static int worker(void)
{
	unsigned long done[N_OPERATIONS] = { 0 }, total = 0;
	pthread_t threads[16];
	size_t i, k;
	void *w;

	for (i = 0; i < (size_t)n_threads; i++)
		if (pthread_create(&threads[i], NULL, run, (void *)i))
			fail("pthread_create");
	for (i = 0; i < (size_t)n_threads; i++) {
		pthread_join(threads[i], &w);
		for (k = 0; k < N_OPERATIONS; k++) {
			done[k] += ((struct worker *)w)->done[k];
			total += ((struct worker *)w)->done[k];
		}
	}
	printf("torture: done");
	for (k = 0; k < N_OPERATIONS; k++)
		if (wanted(&operations[k]))
			printf(" %s %lu", operations[k].name, done[k]);
	printf("\ntorture: pid %d: %lu operations, every byte as it must be\n", getpid(), total);
	fflush(stdout);
	return 0;
}

int main(int argc, char **argv)
{
	int c, i, status, bad = 0, workers = 2;

	if (argc > 1 && !strcmp(argv[1], "--exec"))
		return after_exec(argc, argv);
	while ((c = getopt(argc, argv, "s:w:t:d:r:o:x:")) != -1)
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
		case 'o':
			only = optarg;
			break;
		case 'x':
			refusable = optarg;
			break;
		default:
			fprintf(stderr, "usage: torture [-s SECONDS] [-w WORKERS] [-t THREADS] [-d DIR] [-r SEED] [-o OPERATION,..] [-x OPERATION,..]\n");
			return 2;
		}
	seen = mmap(NULL, N_OPERATIONS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (seen == MAP_FAILED)
		fail("memory");
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
