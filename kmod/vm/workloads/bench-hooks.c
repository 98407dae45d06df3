// SPDX-License-Identifier: GPL-2.0
/*
 * What each hook costs: the same work of one process, again and again in the
 * same memory, while nothing, something else, or this process is traced.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define TRACEFS "/sys/kernel/tracing/"
#define FILE_PATH "/tmp/ram/bench"	/* in ramfs: the ordinary page cache, and no disk */
#define DISK_PATH "/tmp/ext4/bench"	/* as most files are; its pages are in memory, too */
#define N 4096				/* pages: about 250 a timer tick, so that ticks cost less than one instruction each */

/* --- the work: each gives the instructions of one event --- */

static char *anon_pages, *file_pages, *disk_pages;
static int file;

/* Instructions a page of one walk over N of them. */
static double walk(char *at, int writes)
{
	uint64_t begin = instructions();
	int i;

	if (writes)
		for (i = 0; i < N; i++)
			write_page(at + i * PAGE);
	else
		for (i = 0; i < N; i++)
			read_page(at + i * PAGE);
	return (double)(instructions() - begin) / N;
}

/* Not present before; what the loop itself costs is what a second walk costs. */
static double faults(char *at, int writes)
{
	double first, again;

	if (madvise(at, N * PAGE, MADV_DONTNEED))
		die("madvise: %s", strerror(errno));
	first = walk(at, writes);
	again = walk(at, writes);
	return first - again;
}

static double fault_anon(void) { return faults(anon_pages, 1); }
static double fault_file(void) { return faults(file_pages, 0); }
static double fault_disk(void) { return faults(disk_pages, 0); }

static double reads(size_t pages, int times)
{
	static char buf[32 * PAGE];
	uint64_t begin;
	int i;

	begin = instructions();
	for (i = 0; i < times; i++)
		if (pread(file, buf, pages * PAGE, (i * pages % N) * PAGE) != (ssize_t)(pages * PAGE))
			die("pread: %s", strerror(errno));
	return (double)(instructions() - begin) / times / pages;
}

static double read_one(void) { return reads(1, 1024); }
static double read_many(void) { return reads(32, 64); }

static double map_unmap(void)
{
	uint64_t begin = instructions();
	int i;

	for (i = 0; i < 512; i++) {
		char *at = mmap(NULL, 16 * PAGE, PROT_READ, MAP_SHARED, file, 0);

		if (at == MAP_FAILED || munmap(at, 16 * PAGE))
			die("mmap, munmap: %s", strerror(errno));
	}
	return (double)(instructions() - begin) / 512;
}

/* Pages enter the page cache and leave it. */
static double append_truncate(void)
{
	static char buf[PAGE];
	int i, fd = open("/tmp/ram/new", O_RDWR | O_CREAT | O_TRUNC, 0600);
	uint64_t begin;

	if (fd < 0)
		die("/tmp/ram/new: %s", strerror(errno));
	begin = instructions();
	for (i = 0; i < 512; i++)
		if (pwrite(fd, buf, PAGE, i * PAGE) != (ssize_t)PAGE)
			die("pwrite: %s", strerror(errno));
	if (ftruncate(fd, 0))
		die("ftruncate: %s", strerror(errno));
	begin = instructions() - begin;
	close(fd);
	return (double)begin / 512;
}

static double children(int times, int exec)
{
	uint64_t begin;
	int i, code, pid;

	/* Copying page tables is not what is measured. */
	if (madvise(anon_pages, N * PAGE, MADV_DONTNEED) || madvise(file_pages, N * PAGE, MADV_DONTNEED) ||
	    madvise(disk_pages, N * PAGE, MADV_DONTNEED))
		die("madvise: %s", strerror(errno));
	begin = instructions();
	for (i = 0; i < times; i++) {
		pid = fork();
		if (!pid) {
			if (exec)
				execl("/proc/self/exe", "bench", "nothing", NULL);
			_exit(exec ? 2 : 0);
		}
		if (pid < 0 || waitpid(pid, &code, 0) != pid || code)
			die("a child did not come or go");
	}
	return (double)(instructions() - begin) / times;
}

static double fork_exit(void) { return children(16, 0); }
static double fork_exec(void) { return children(8, 1); }

static const struct {
	const char *name;
	double (*run)(void);
	int events;		/* of one run, for the records an event */
} works[] = {
	{ "fault, anonymous page", fault_anon, N },
	{ "fault, page of a file", fault_file, N },
	{ "fault, page of a file on ext4", fault_disk, N },
	{ "read(), 1 page a call", read_one, 1024 },
	{ "read(), a page of 32", read_many, 64 * 32 },
	{ "mmap + munmap", map_unmap, 512 },
	{ "file page written + truncated", append_truncate, 512 },
	{ "fork + exit", fork_exit, 16 },
	{ "fork + exec + exit", fork_exec, 8 },
};
#define WORKS (sizeof(works) / sizeof(*works))

static void measure(const char *how, int records)
{
	char what[64];
	size_t i;
	int turn;

	for (i = 0; i < WORKS; i++) {
		uint64_t before = 0;

		works[i].run();		/* what happens only once: names, mappings, caches */
		if (records)
			before = status("refs_emitted");
		for (turn = 0; turn < REPEAT; turn++)
			figure(works[i].name, how, works[i].run());
		if (!records)
			continue;
		/* What was lost would have been cheaper. */
		if (status("refs_lost") || status("names_lost"))
			die("%s, %s: records were lost", works[i].name, how);
		snprintf(what, sizeof(what), "%s: records", works[i].name);
		figure(what, how, (double)(status("refs_emitted") - before) / REPEAT / works[i].events);
	}
}

/* --- who is traced, and by what --- */

static int sleeper(void)
{
	int pid = fork();

	if (!pid)
		for (;;)
			pause();
	return pid;
}

static void module_records(const char *how, int pid, const char *level)
{
	char name[64];

	snprintf(name, sizeof(name), "%s, %s", how, level);
	control("clear");
	control("pid %d", pid);
	control("level %s", level);
	control("clean 0");
	control("start");
	measure(name, 1);
	control("stop");
}

/* Events in the ring buffer, those it has overwritten included. */
static uint64_t ftrace_events(void)
{
	char text[1024], *at;
	int fd = open(TRACEFS "per_cpu/cpu0/stats", O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	uint64_t sum = 0;

	if (n < 0)
		die("%s: %s", TRACEFS "per_cpu/cpu0/stats", strerror(errno));
	close(fd);
	text[n] = 0;
	at = strstr(text, "entries: ");
	sum += at ? strtoull(at + 9, NULL, 10) : 0;
	at = strstr(text, "\noverrun: ");
	return sum + (at ? strtoull(at + 10, NULL, 10) : 0);
}

static void ftrace_records(const char *how, int pid)
{
	const uint64_t least = 2 * (REPEAT + 1) * N;	/* faults of the first two works */
	char text[16];
	int fd;

	fd = open(TRACEFS "trace", O_WRONLY | O_TRUNC);
	close(fd);
	fd = open(TRACEFS "set_event_pid", O_WRONLY | O_TRUNC);
	snprintf(text, sizeof(text), "%d", pid);
	if (fd < 0 || (pid && write(fd, text, strlen(text)) < 0))
		die("%s: %s", TRACEFS "set_event_pid", strerror(errno));
	close(fd);
	write_file(TRACEFS "events/exceptions/page_fault_user/enable", "1");
	measure(how, 0);
	write_file(TRACEFS "events/exceptions/page_fault_user/enable", "0");
	if (pid && pid != getpid() ? ftrace_events() > 0 : ftrace_events() < least)
		die("%s: the ring buffer saw %llu events", how, (unsigned long long)ftrace_events());
	close(open(TRACEFS "set_event_pid", O_WRONLY | O_TRUNC));
}

/* Every page fault a sample with what a reference needs; a ring large enough, and nobody woken for it. */
static void perf_records(const char *how)
{
	const size_t ring = 4096 * PAGE;
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_PAGE_FAULTS,
		.sample_period = 1,
		.sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ADDR,
		.watermark = 1,
		.wakeup_watermark = ring,
	};
	int fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
	struct perf_event_mmap_page *page;

	if (fd < 0)
		die("perf_event_open: %s", strerror(errno));
	page = mmap(NULL, ring + PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		die("mmap of perf's ring: %s", strerror(errno));
	measure(how, 0);
	/* At least the faults of two works must be in there; a full ring would have been cheaper. */
	if (page->data_head < 2 * (REPEAT + 1) * N * 40UL || page->data_head > ring - PAGE)
		die("perf's ring holds %llu bytes", (unsigned long long)page->data_head);
	munmap(page, ring + PAGE);
	close(fd);
}

/* N pages of a new file, mapped; its pages are in memory and clean. */
static char *mapped_file(const char *path, int *fd)
{
	static char zero[PAGE];
	char *at;
	int i;

	*fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	for (i = 0; i < N; i++)
		if (write(*fd, zero, PAGE) != (ssize_t)PAGE)
			die("%s: %s", path, strerror(errno));
	fsync(*fd);
	at = mmap(NULL, N * PAGE, PROT_READ, MAP_SHARED, *fd, 0);
	if (at == MAP_FAILED)
		die("mmap of %s: %s", path, strerror(errno));
	return at;
}

int run_matrix(void)
{
	static const char *const levels[] = { "light", "rich", "full" };
	int other, disk_file, i;

	anon_pages = memory(N);
	file_pages = mapped_file(FILE_PATH, &file);
	disk_pages = mapped_file(DISK_PATH, &disk_file);
	other = sleeper();
	/* What the kernel puts off at boot is done then. The idle machine's clock jumps, so this takes no time. */
	pause_ms(10000);

	measure("nothing", 0);
	ftrace_records("ftrace event", getpid());
	ftrace_records("ftrace event, no pid filter", 0);
	ftrace_records("ftrace event, another process", other);
	perf_records("perf event");
	measure("nothing, again", 0);
	load_module("");
	measure("module loaded", 0);
	for (i = 0; i < 3; i++)
		module_records("another process", other, levels[i]);
	for (i = 0; i < 3; i++)
		module_records("traced", getpid(), levels[i]);
	measure("module stopped", 0);
	unload_module();
	kill(other, SIGKILL);
	waitpid(other, NULL, 0);
	return 0;
}

/* For bench-profile.sh: 4 times N faults of one kind ("anon", "file", "disk"), and nothing else. */
int run_faults(const char *kind)
{
	double (*fault)(void) = fault_anon;
	int turn, fd;

	if (!strcmp(kind, "file")) {
		file_pages = mapped_file(FILE_PATH, &fd);
		fault = fault_file;
	} else if (!strcmp(kind, "disk")) {
		disk_pages = mapped_file(DISK_PATH, &fd);
		fault = fault_disk;
	} else {
		anon_pages = memory(N);
	}
	for (turn = 0; turn < 4; turn++)
		printf("%.1f\n", fault());
	return 0;
}
