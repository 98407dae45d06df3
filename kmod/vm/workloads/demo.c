// SPDX-License-Identifier: GPL-2.0
/*
 * A toy database for the recording in testdata/demo: several programs that share
 * files and each touch them in a way of their own.
 *
 *   db-make DIR 0             makes the files in DIR
 *   database DIR SECONDS      starts the others, ends with them
 *
 * It is one program with many names (links beside each other): the name says what it does.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define TABLE_PAGES 640
#define INDEX_PAGES 256
#define SORT_PAGES 160
#define SEGMENT_PAGES 96

static const char *dir;
static double seconds, began;
static uint64_t state = 88172645463325252ULL;

static void die(const char *what)
{
	fprintf(stderr, "demo: %s: %s\n", what, strerror(errno));
	exit(2);
}

static uint64_t dice(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* Is this moment between two shares of the run, 0 to 1? */
static int during(double from, double to)
{
	double part = (now() - began) / seconds;

	return part >= from && part < to;
}

static void pause_ms(unsigned int ms)
{
	usleep(ms * 1000);
}

static const char *file(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void make(const char *name, size_t pages)
{
	uint64_t words[PAGE / 8];
	size_t i, w;
	int fd = open(file(name), O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (fd < 0)
		die(file(name));
	for (i = 0; i < pages; i++) {
		for (w = 0; w < PAGE / 8; w++)
			words[w] = i * 512 + w;
		if (write(fd, words, PAGE) != PAGE)
			die(file(name));
	}
	close(fd);
}

static char *map(const char *name, size_t pages, int writes)
{
	int fd = open(file(name), writes ? O_RDWR : O_RDONLY);
	char *at;

	if (fd < 0)
		die(file(name));
	at = mmap(NULL, pages * PAGE, PROT_READ | (writes ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		die(file(name));
	close(fd);
	return at;
}

static char *memory(size_t pages)
{
	char *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		die("mmap");
	return at;
}

static volatile uint64_t sum;
static void see(const char *base, size_t page) { sum += *(volatile uint64_t *)(base + page * PAGE + 64); }
static void change(char *base, size_t page) { (*(volatile uint64_t *)(base + page * PAGE + 72))++; }

/* A rank from 0 to n - 1, small ones much more often (Zipf, exponent about 1). */
static size_t zipf(size_t n)
{
	double u = (dice() >> 11) / 9007199254740992.0;

	return (size_t)exp(u * log((double)n + 1)) - 1;
}

/* Reads the whole table from its beginning to its end, in the first and the last third. */
static void scan(void)
{
	const char *table = map("table.dat", TABLE_PAGES, 0);
	size_t i;

	while (during(0, 1)) {
		for (i = 0; i < TABLE_PAGES && during(0, 1); i++) {
			see(table, i);
			if (i % 16 == 15)
				pause_ms(10);
		}
		while (during(0.35, 0.65))
			pause_ms(20);
		pause_ms(200);
	}
}

/* Reads one column: every eighth page. */
static void column(void)
{
	const char *table = map("table.dat", TABLE_PAGES, 0);
	size_t i, first;

	while (during(0, 1))
		for (first = 0; first < 8 && during(0, 1); first++) {
			for (i = first; i < TABLE_PAGES; i += 8) {
				see(table, i);
				if (i / 8 % 8 == 7)
					pause_ms(15);
			}
			pause_ms(250);
		}
}

/* Joins: goes over its hash table of middling size again and again, twice as large in the second half. */
static void join(void)
{
	char *hash = memory(128);
	size_t i, n;

	while (during(0, 1)) {
		n = during(0, 0.5) ? 48 : 112;
		for (i = 0; i < n; i++) {
			change(hash, i);
			if (i % 8 == 7)
				pause_ms(10);
		}
	}
}

/* Finds rows by the index: few index pages are hot, and so are the rows behind them. */
static void lookup(void)
{
	const char *index = map("index.dat", INDEX_PAGES, 0);
	const char *table = map("table.dat", TABLE_PAGES, 0);
	int i;

	state ^= getpid() * 2654435761U;
	while (during(0, 1)) {
		for (i = 0; i < 12; i++) {
			size_t rank = zipf(INDEX_PAGES);
			size_t leaf = rank * 37 % INDEX_PAGES;

			see(index, 0);
			see(index, 1 + leaf / 32);
			see(index, leaf);
			see(table, (leaf * 193 + rank) % TABLE_PAGES);
		}
		pause_ms(40);
	}
}

/* Appends to the log by write(), and now and then reads its end again. */
static void writer(void)
{
	static char record[900], buf[4 * PAGE];
	int fd = open(file("wal.log"), O_RDWR | O_CREAT | O_APPEND, 0644);
	char *table = map("table.dat", TABLE_PAGES, 1);
	off_t at = 0;
	int n = 0;

	if (fd < 0)
		die(file("wal.log"));
	while (during(0, 1)) {
		memset(record, 'a' + n % 26, sizeof(record));
		if (write(fd, record, sizeof(record)) < 0)
			die("write");
		at += sizeof(record);
		change(table, dice() % TABLE_PAGES);
		if (++n % 10 == 0) {
			off_t from = at > (off_t)sizeof(buf) ? at - (off_t)sizeof(buf) : 0;

			if (pread(fd, buf, sizeof(buf), from) < 0)
				die("read");
			fdatasync(fd);
		}
		pause_ms(15);
	}
}

/* Sorts in a file that it deletes while it goes on using it. */
static void sort(void)
{
	char *run;
	size_t i;

	while (during(0, 0.1))
		pause_ms(10);
	make("sort.tmp", SORT_PAGES);
	run = map("sort.tmp", SORT_PAGES, 1);
	for (i = 0; i < SORT_PAGES; i++)
		change(run, i);
	pause_ms(150);
	if (unlink(file("sort.tmp")))
		die("unlink");
	while (during(0, 0.9)) {
		for (i = 0; i < SORT_PAGES / 2; i++) {	/* merges two halves */
			see(run, i);
			see(run, SORT_PAGES / 2 + i);
			if (i % 8 == 7)
				pause_ms(10);
		}
		pause_ms(400);
	}
}

/* Fills a segment, renames it, and goes on reading it. */
static void archive(void)
{
	char *segment, *was;
	size_t i;

	make("segment.current", SEGMENT_PAGES);
	segment = map("segment.current", SEGMENT_PAGES, 1);
	for (i = 0; i < SEGMENT_PAGES; i++) {
		change(segment, i);
		pause_ms(10);
	}
	was = strdup(file("segment.current"));
	if (rename(was, file("segment.archived")))
		die("rename");
	while (during(0, 0.8)) {
		for (i = 0; i < 24; i++)
			see(segment, dice() % SEGMENT_PAGES);
		pause_ms(100);
	}
}

static const struct {
	const char *name;
	void (*run)(void);
	int copies;
} programs[] = {
	{ "db-scan", scan, 1 }, { "db-column", column, 1 }, { "db-join", join, 1 },
	{ "db-lookup", lookup, 2 }, { "db-writer", writer, 1 }, { "db-sort", sort, 1 },
	{ "db-archive", archive, 1 },
};
#define N_PROGRAMS (sizeof(programs) / sizeof(*programs))

/* Starts a program beside this one, or one of the system by its path. */
static int start(const char *self, const char *name, char *const *args)
{
	char path[512];
	int pid = fork();

	if (pid)
		return pid;
	if (name[0] == '/')
		snprintf(path, sizeof(path), "%s", name);
	else
		snprintf(path, sizeof(path), "%.*s/%s", (int)(strrchr(self, '/') - self), self, name);
	execv(path, args);
	die(path);
	return -1;
}

static int make_all(void)
{
	FILE *f = fopen(file("export.csv"), "w");
	int line;

	for (line = 0; f && line < 12000; line++)
		fprintf(f, "%llu,customer %d\n", (unsigned long long)dice() % 1000000, line);
	if (!f || fclose(f))
		die(file("export.csv"));
	make("table.dat", TABLE_PAGES);
	make("index.dat", INDEX_PAGES);
	return 0;
}

static int database(const char *self, char **argv)
{
	int status, bad = 0, line;
	size_t i;

	for (i = 0; i < N_PROGRAMS; i++)
		for (line = 0; line < programs[i].copies; line++)
			start(self, programs[i].name, (char *[]){ (char *)programs[i].name, argv[1], argv[2], NULL });
	/* Reports, by other people's programs. */
	while (during(0, 0.4))
		pause_ms(50);
	start(self, "/bin/busybox", (char *[]){ "sort", "-n", "-o", strdup(file("sorted.csv")), strdup(file("export.csv")), NULL });
	while (during(0, 0.6))
		pause_ms(50);
	start(self, "/bin/busybox", (char *[]){ "grep", "-c", "77", strdup(file("export.csv")), NULL });
	while (wait(&status) > 0)
		bad |= status;
	return bad ? 1 : 0;
}

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
	size_t i;

	if (argc != 3) {
		fprintf(stderr, "usage: database DIR SECONDS\n");
		return 2;
	}
	dir = argv[1];
	seconds = atof(argv[2]);
	began = now();
	for (i = 0; i < N_PROGRAMS; i++)
		if (!strcmp(name, programs[i].name)) {
			programs[i].run();
			return 0;
		}
	return strcmp(name, "db-make") ? database(argv[0], argv) : make_all();
}
