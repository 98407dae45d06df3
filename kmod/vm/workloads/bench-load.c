// SPDX-License-Identifier: GPL-2.0
/*
 * Whole workloads under each policy: they never wait, so all the time from their
 * start to their end is instructions, the kernel's and the cleaner's among them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

/* --- a database: rows found by an index, changed, logged, and now and then all of them summed up --- */

#define TABLE_PAGES 4096
#define INDEX_PAGES 512
#define ROWS_A_PAGE 16

static uint64_t state = 88172645463325252ULL;

static uint64_t dice(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static char *map_file(const char *path, size_t pages)
{
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	char *at;

	if (fd < 0 || ftruncate(fd, pages * PAGE))
		die("%s: %s", path, strerror(errno));
	at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		die("mmap of %s: %s", path, strerror(errno));
	close(fd);
	return at;
}

/* Small ranks much more often: the lowest of three throws, of three again. */
static uint64_t skewed(uint64_t n)
{
	uint64_t a = dice() % n, b = dice() % (a + 1);

	return dice() % (b + 1);
}

static void database(long queries)
{
	uint64_t *table = (void *)map_file("/tmp/ram/table", TABLE_PAGES);
	uint64_t *index = (void *)map_file("/tmp/ram/index", INDEX_PAGES);
	const uint64_t keys = INDEX_PAGES * PAGE / 8, rows = TABLE_PAGES * ROWS_A_PAGE, row = PAGE / ROWS_A_PAGE / 8;
	int log = open("/tmp/ram/log", O_WRONLY | O_CREAT | O_APPEND, 0600);
	volatile uint64_t sum = 0;
	uint64_t i, q, low, high, *at;

	if (log < 0)
		die("/tmp/ram/log: %s", strerror(errno));
	for (i = 0; i < keys; i++)
		index[i] = i * 7;
	for (q = 0; q < (uint64_t)queries; q++) {
		uint64_t key = skewed(keys) * 7;

		for (low = 0, high = keys; high - low > 1;) {
			uint64_t middle = (low + high) / 2;

			if (index[middle] <= key)
				low = middle;
			else
				high = middle;
		}
		at = table + low * 2654435761U % rows * row;
		for (i = 0; i < row; i++)
			sum += at[i] * 31 + (at[i] >> 7);
		if (q % 8 == 0) {
			at[0]++;
			if (write(log, at, row * 8) < 0)
				die("/tmp/ram/log: %s", strerror(errno));
		}
		if (q % 20000 == 19999)
			for (i = 0; i < rows * row; i += 4)
				sum += table[i];
	}
	ftruncate(log, 0);
}

/* bench program database QUERIES */
int run_program(int argc, char **argv)
{
	if (argc != 2 || strcmp(argv[0], "database"))
		die("usage: bench program database QUERIES");
	database(atol(argv[1]));
	return 0;
}

/* --- settings --- */

/* "loaded", "first touches", "timer MS" or "fifo N": sets the module up for `pid`. 0: this module cannot. */
static int set_up(const char *setting, int pid)
{
	int ms;

	if (!strcmp(setting, "loaded"))
		return 1;
	control("clear");
	control("pid %d", pid);
	control("level rich");
	control("clean 0");
	if (sscanf(setting, "timer %d", &ms) == 1)
		control("clean %d", ms);
	else if (!strncmp(setting, "fifo ", 5)) {
		if (try_control(setting))
			return 0;
	} else if (strcmp(setting, "first touches"))
		die("no setting '%s'", setting);
	control("start");
	return 1;
}

/* COMMAND's instructions under a setting; 0: the module has no such setting. */
static uint64_t run(const char *setting, char **command)
{
	int code, pid, gate[2];
	uint64_t took;
	char go;

	if (pipe(gate))
		die("pipe: %s", strerror(errno));
	pid = fork();
	if (!pid) {
		close(gate[1]);
		if (read(gate[0], &go, 1) != 1)
			_exit(2);
		execvp(command[0], command);
		die("%s: %s", command[0], strerror(errno));
	}
	close(gate[0]);
	if (!set_up(setting, pid)) {
		close(gate[1]);
		waitpid(pid, NULL, 0);
		return 0;
	}
	took = instructions();
	if (write(gate[1], "", 1) != 1 || waitpid(pid, &code, 0) != pid || code)
		die("%s did not end well", command[0]);
	took = instructions() - took;
	close(gate[1]);
	return took;
}

/*
 * bench slowdown NAME SETTING,SETTING.. COMMAND..: COMMAND's instructions under
 * each. Nobody drains: what that costs is a figure of its own.
 */
int run_slowdown(int argc, char **argv)
{
	char what[64], count[80], *setting, *settings;
	uint64_t took;

	if (argc < 3)
		die("usage: bench slowdown NAME SETTING,SETTING.. COMMAND..");
	settings = argv[1];
	snprintf(what, sizeof(what), "slow-down, %s", argv[0]);
	load_module("n_subbufs=160 names_n_subbufs=256");
	run("loaded", argv + 2);	/* files come into memory */
	while ((setting = strsep(&settings, ","))) {
		took = run(setting, argv + 2);
		if (!took) {
			printf("%s\t%s\tnot in this module\n", what, setting);
			continue;
		}
		figure(what, setting, took);
		if (!strcmp(setting, "loaded"))
			continue;
		control("stop");
		snprintf(count, sizeof(count), "%s: records", what);
		figure(count, setting, status("refs_emitted"));
		snprintf(count, sizeof(count), "%s: lost", what);
		figure(count, setting, status("refs_lost") + status("names_lost"));
	}
	unload_module();
	return 0;
}
