// SPDX-License-Identifier: GPL-2.0
/*
 * bench matrix | cleaner | fifo | slowdown ..   in a machine that counts instructions: what tracing costs
 * bench cost COMMAND..                          instructions of a command alone (its own, and the kernel's for it)
 * bench lookups FILE N | flat FILE FAULTS CPUS      reference strings for the recorder
 *
 * Figures go to stdout, one a line and repetition: what, how, value, parted by tabs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("bench: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(2);
}

void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		die("%s <- %s: %s", path, text, strerror(errno));
	close(fd);
}

int try_control(const char *command)
{
	int fd = open(DEBUGFS "/control", O_WRONLY), err = 0;

	if (fd < 0)
		die("%s: %s", DEBUGFS "/control", strerror(errno));
	if (write(fd, command, strlen(command)) < 0)
		err = errno;
	close(fd);
	return err;
}

void control(const char *format, ...)
{
	char command[128];
	va_list args;
	int err;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	err = try_control(command);
	if (err)
		die("control <- %s: %s", command, strerror(err));
}

uint64_t status(const char *key)
{
	char text[8192], *word, *line, *rest = text;
	int fd = open(DEBUGFS "/status", O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	uint64_t sum = 0;
	int found = 0;

	if (n < 0)
		die("%s: %s", DEBUGFS "/status", strerror(errno));
	close(fd);
	text[n] = 0;
	while ((line = strsep(&rest, "\n")))
		while ((word = strsep(&line, " ")))
			if (!strcmp(word, key) && line) {
				sum += strtoull(line, NULL, 10);
				found = 1;
			}
	if (!found)
		die("the status has no %s", key);
	return sum;
}

char *memory(size_t pages)
{
	char *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		die("mmap of %zu pages: %s", pages, strerror(errno));
	return at;
}

void pause_ms(unsigned int ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

void load_module(const char *options)
{
	int fd = open("/lib/pgtrace/pgtrace.ko", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || syscall(SYS_finit_module, fd, options, 0))
		die("loading the module: %s", strerror(errno));
	close(fd);
}

void unload_module(void)
{
	if (syscall(SYS_delete_module, "pgtrace", O_NONBLOCK))
		die("unloading the module: %s", strerror(errno));
}

void figure(const char *what, const char *how, double value)
{
	printf("%s\t%s\t%.3f\n", what, how, value);
	fflush(stdout);
}

/*
 * The processor time of a command as the scheduler has it: from the time-stamp
 * counter, to the nanosecond, which is an instruction here; wait4() rounds the
 * sum of user and system time down to a microsecond. Without the idle machine
 * and without other programs. Printed to file 3, in instructions.
 */
static int cost(char **argv)
{
	struct rusage use;
	int code, pid = fork();

	if (!pid) {
		execvp(argv[0], argv);
		die("%s: %s", argv[0], strerror(errno));
	}
	if (pid < 0 || wait4(pid, &code, 0, &use) != pid)
		die("%s: %s", argv[0], strerror(errno));
	dprintf(3, "%lld\n", ((use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000000LL +
			   use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1000);
	return WIFEXITED(code) ? WEXITSTATUS(code) : 128 + WTERMSIG(code);
}

/*
 * N page-cache look-ups, 32 a read(), once something comes from stdin: the
 * cheapest records there are. Lives until stdin ends.
 */
static int lookups(const char *path, long n)
{
	static char buf[32 * PAGE];
	int fd = open(path, O_RDONLY);
	char go;

	if (fd < 0 || read(0, &go, 1) != 1)
		die("%s: %s", path, strerror(errno));
	for (; n > 0; n -= 32)
		if (pread(fd, buf, sizeof(buf), 0) != sizeof(buf))
			die("%s is shorter than %zu bytes", path, sizeof(buf));
	while (read(0, &go, 1) > 0)
		;
	return 0;
}

/* `faults` page faults on each CPU, as fast as it can: the cheapest there are, on pages of a file in memory. Prints how many. */
static int flat(const char *path, long faults, int cpus)
{
	const int pages = 2048;
	int i, code, page, bad = 0, fd = open(path, O_RDONLY);
	cpu_set_t set;
	char *at;
	long n;

	at = mmap(NULL, pages * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	if (fd < 0 || at == MAP_FAILED)
		die("%s: %s", path, strerror(errno));
	for (i = 0; i < cpus; i++) {
		if (fork())
			continue;
		CPU_ZERO(&set);
		CPU_SET(i, &set);
		if (sched_setaffinity(0, sizeof(set), &set))
			die("cpu %d: %s", i, strerror(errno));
		for (n = 0; n < faults; n += pages) {
			for (page = 0; page < pages; page++)
				read_page(at + page * PAGE);
			if (madvise(at, pages * PAGE, MADV_DONTNEED))
				die("madvise: %s", strerror(errno));
		}
		_exit(0);
	}
	while (wait(&code) > 0)
		bad |= code;
	printf("%ld\n", (faults + pages - 1) / pages * pages * cpus);
	return bad ? 2 : 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	/* The same addresses in every run: the same number of page tables, and so of instructions. */
	if (personality(0xffffffff) != ADDR_NO_RANDOMIZE && !personality(ADDR_NO_RANDOMIZE))
		execv("/proc/self/exe", argv);
	if (!strcmp(what, "matrix"))
		return run_matrix();
	if (!strcmp(what, "faults"))
		return run_faults(argc > 2 ? argv[2] : "anon");
	if (!strcmp(what, "cleaner"))
		return run_cleaner();
	if (!strcmp(what, "fifo"))
		return run_fifo();
	if (!strcmp(what, "slowdown"))
		return run_slowdown(argc - 2, argv + 2);
	if (!strcmp(what, "program"))
		return run_program(argc - 2, argv + 2);
	if (!strcmp(what, "nothing"))
		return 0;
	if (!strcmp(what, "cost") && argc > 2)
		return cost(argv + 2);
	if (!strcmp(what, "lookups") && argc == 4)
		return lookups(argv[2], atol(argv[3]));
	if (!strcmp(what, "flat") && argc == 5)
		return flat(argv[2], atol(argv[3]), atoi(argv[4]));
	fprintf(stderr, "usage: bench matrix | cleaner | fifo | slowdown .. | cost COMMAND.. | lookups FILE N | flat FILE FAULTS CPUS\n");
	return 2;
}
