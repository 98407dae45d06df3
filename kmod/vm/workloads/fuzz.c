// SPDX-License-Identifier: GPL-2.0
/*
 * Writes what nobody should write to the module's control file, and reads its
 * other files as nobody should read them, from several processes at once.
 *
 *   fuzz [-s SECONDS] [-w WORKERS] [-r SEED] [-p PID].. [-u] DIR
 *        DIR: debugfs/pgtrace; PID: a process that may be named; -u: the module
 *        comes and goes meanwhile
 *   fuzz as UID GID r|w FILE     may this user open it? Exit code 0: yes, 1: no
 *
 * Exit code 0: every answer was one the module may give; 1: another one, or
 * nonsense was accepted. Says how often each command was accepted and refused.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define HUGE_WRITE (1UL << 20)
#define MAX_PIDS 8

static const char *dir;
static bool unloads;
static int pids[MAX_PIDS], n_pids;
static uint64_t state;
static char *big;	/* HUGE_WRITE bytes, and behind them nothing is mapped */

/* Of all workers: shared memory. */
static struct counts {
	unsigned long accepted, refused, nonsense, reads, by_word[32][2];
	char target[64];	/* accepted last: what `remove` may take back. Many write it at once: it may be half another's */
} *counts;

static const char *const words[] = {
	"clear", "pid", "comm", "uid", "cgroup", "all", "remove", "follow", "recorder", "level", "clean",
	"fifo", "grain", "buffers", "overwrite", "snapshot", "start", "stop",
};
#define N_WORDS (sizeof(words) / sizeof(words[0]))

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

static void bad(const char *what, const char *text, size_t n, long answer)
{
	size_t i;

	fprintf(stderr, "fuzz: %s: answer %ld, errno %d (%s); written were %zu bytes: \"", what, answer, errno,
		strerror(errno), n);
	for (i = 0; i < n && i < 100; i++)
		fprintf(stderr, text[i] >= ' ' && text[i] <= '~' ? "%c" : "\\x%02x", (unsigned char)text[i]);
	fprintf(stderr, "\"\n");
	_exit(1);
}

static int open_file(const char *name, int flags)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, flags | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT && !strncmp(name, "refs", 4))
		return fd;	/* a `buffers` command makes these files anew */
	if (fd < 0 && !(unloads && (errno == ENOENT || errno == EIO || errno == ENODEV)))
		bad("open", path, strlen(path), fd);
	return fd;
}

static const char *one_of(const char *const *list)
{
	size_t n = 0;

	while (list[n])
		n++;
	return list[dice() % n];
}
#define ONE_OF(...) one_of((const char *const[]){ __VA_ARGS__, NULL })

static const char *a_number(void)
{
	static char text[32];

	snprintf(text, sizeof(text), "%lld", (long long)(dice() % 100 * (dice() % 100)));
	return ONE_OF(text, text, text, "0", "1", "-1", "16", "15", "64", "4294967295", "4294967296", "2147483648",
		      "99999999999999999999", "0x10", "1e3", "");
}

static const char *a_pid(void)
{
	static char text[32];

	snprintf(text, sizeof(text), "%d", n_pids ? pids[dice() % n_pids] : getpid());
	return dice() % 4 ? text : ONE_OF("1", "2", "0", "-1", "4000000", "4294967295", "self");
}

/* A command as the module documents it, most of the time with an argument it may take. */
static size_t a_command(char *to, size_t size, size_t *word)
{
	static char longest[300];
	const char *name = words[*word = dice() % N_WORDS], *argument = "";
	char more[128];

	if (!longest[0])
		memset(longest, 'x', sizeof(longest) - 1);
	if (!strcmp(name, "pid") || !strcmp(name, "recorder"))
		argument = dice() % 8 || name[0] == 'p' ? a_pid() : a_number();
	else if (!strcmp(name, "uid") || !strcmp(name, "clean"))
		argument = dice() % 2 ? ONE_OF("1", "2", "50", "0", "1000") : a_number();
	else if (!strcmp(name, "fifo"))
		argument = dice() % 2 ? ONE_OF("16", "64", "0", "1048576") : a_number();
	else if (!strcmp(name, "comm"))
		argument = ONE_OF("fuzz", "torture", "a b", "fifteen-letters", "sixteen-letters!", longest, "");
	else if (!strcmp(name, "cgroup"))
		argument = ONE_OF("/", "/fuzz", "/none", "fuzz", "/../..", "/./fuzz//", longest, "");
	else if (!strcmp(name, "remove")) {
		snprintf(more, sizeof(more), "%s %s", ONE_OF("pid", "comm", "uid", "cgroup", "recorder"),
			 ONE_OF("fuzz", "1000", "/fuzz", a_pid()));
		if (dice() % 2)
			snprintf(more, sizeof(more), "%.63s", counts->target);
		argument = dice() % 8 ? more : "all";
	} else if (!strcmp(name, "follow"))
		argument = ONE_OF("exec", "fork", "none", "nobody");
	else if (!strcmp(name, "level"))
		argument = ONE_OF("light", "rich", "full", "off", "fullest");
	else if (!strcmp(name, "grain"))
		argument = ONE_OF("4k", "2m", "1g");
	else if (!strcmp(name, "buffers")) {
		/* What fits is small: many start at once, each on every CPU. */
		argument = dice() % 4 ? ONE_OF("4096 2", "65536 4", "8192 8") : ONE_OF("4096 1", "4095 8", "0 0", "4096 4294967295",
				  "4294963200 4294967295", "2147483648 2", "4096", "1 x", "-4096 2", "1073741824 64");
	} else if (!strcmp(name, "overwrite"))
		argument = ONE_OF("on", "off", "1");
	else if (!strcmp(name, "snapshot"))
		argument = ONE_OF("begin", "end", "now");
	else if (dice() % 16 == 0)	/* clear, all, start, stop */
		argument = "again";
	return snprintf(to, size, *argument ? "%s %s%s" : "%s%s%s", name, argument, ONE_OF("", "", "\n", " ", "  \n"));
}

/* Text that is no command, whatever the module may learn. */
static size_t nonsense(char *to)
{
	size_t n = 1 + dice() % (dice() % 4 ? 80 : dice() % 4 ? 2 * PAGE : HUGE_WRITE), i, word;

	switch (dice() % 5) {
	case 0:	/* any bytes */
		for (i = 0; i < n; i++)
			to[i] = dice();
		to[0] = '!';
		return n;
	case 1:	/* a command, and after a NUL more */
		n = a_command(to, 200, &word);
		to[n] = 0;
		to[n + 1] = 'x';
		return n + 2;
	case 2:	/* a NUL in the middle of a word */
		memcpy(to, "st\0art", 6);
		return 6;
	case 3:	/* one letter, for ever */
		memset(to, "s \n0/"[dice() % 5], n);
		if (n >= 5)
			memcpy(to, "start", 5);
		return n < 6 || to[5] == ' ' || to[5] == '\n' ? (memcpy(to, "x", 1), n) : n;
	default:	/* a word that is almost one */
		n = a_command(to, 200, &word);
		to[dice() % strlen(words[word])] ^= 0x20;
		return n;
	}
}

static void judge(long answer, const char *text, size_t n, bool may_be_good)
{
	if (answer >= 0) {
		if (!may_be_good)
			bad("nonsense was accepted", text, n, answer);
		if ((size_t)answer != n)
			bad("half a command was accepted", text, n, answer);
		counts->accepted++;
		return;
	}
	counts->refused++;
	switch (errno) {
	case EINVAL: case EBUSY: case ESRCH: case ENOENT: case ENOSPC: case ENOMEM: case EFAULT:
		return;
	case EIO: case ENODEV:
		if (unloads)
			return;
	}
	bad("not an answer of the module", text, n, answer);
}

static bool is_target(const char *word)
{
	return !strcmp(word, "pid") || !strcmp(word, "comm") || !strcmp(word, "uid") || !strcmp(word, "cgroup") || !strcmp(word, "all");
}

static void write_control(void)
{
	int fd = open_file("control", O_WRONLY);
	char text[512];
	long answer;
	size_t n, word, i, cut;

	if (fd < 0)
		return;
	switch (dice() % 8) {
	default:
		n = a_command(text, sizeof(text), &word);
		if (n >= sizeof(text))
			n = sizeof(text) - 1;
		answer = dice() % 2 ? write(fd, text, n) : pwrite(fd, text, n, dice() % 4 ? 0 : dice() >> 2);
		judge(answer, text, n, true);
		counts->by_word[word][answer < 0]++;
		if (answer > 0 && is_target(words[word])) {
			snprintf(counts->target, sizeof(counts->target), "%.*s", (int)answer, text);
			counts->target[strcspn(counts->target, "\n")] = 0;
		}
		break;
	case 0:
	case 1:
		n = nonsense(big);
		counts->nonsense++;
		judge(write(fd, big, n), big, n, false);
		break;
	case 2:	/* text that is not there, or ends where nothing is mapped */
		n = a_command(text, sizeof(text), &word);
		i = dice() % 4;
		cut = 1 + dice() % 3;
		memcpy(big + HUGE_WRITE - cut, text, cut);
		judge(write(fd, i == 0 ? NULL : i == 1 ? (char *)0xffff888000000000 : i == 2 ? (char *)1 :
			    big + HUGE_WRITE - cut, n > cut ? n : cut + 1), "(bad address)", 13, false);
		break;
	case 3: {	/* each part is a write of its own */
		struct iovec parts[3] = { { "level ", 6 }, { "rich", 4 }, { "clear", dice() % 6 } };

		answer = writev(fd, parts, 3);
		if (answer < 0)
			judge(answer, "(writev)", 8, false);
		break;
	}
	}
	if (dice() % 8 == 0 && (read(fd, text, 1) >= 0 || ftruncate(fd, 0) == 0 || ioctl(fd, dice(), big) == 0))
		if (errno != EBADF && errno != EINVAL)
			bad("a control file that is more than written to", "", 0, 0);
	close(fd);
}

static void read_status(void)
{
	int fd = open_file("status", O_RDONLY), i;
	char text[8192];
	ssize_t got;

	if (fd < 0)
		return;
	for (i = 0; i < 8; i++) {
		size_t n = dice() % sizeof(text), at = dice() % 2 ? dice() % 3000 : dice() >> dice() % 64;

		switch (dice() % 4) {
		case 0:
			got = read(fd, text, n % 7 + 1);
			break;
		case 1:
			got = pread(fd, text, n, at);
			break;
		case 2:
			lseek(fd, at, (int)(dice() % 5));
			got = read(fd, text, n);
			break;
		default:
			got = pread(fd, big + HUGE_WRITE - dice() % 2, n, 0);
		}
		if (got < 0 && errno != EFAULT && errno != EINVAL && errno != EOVERFLOW && errno != ENOMEM && !unloads)
			bad("read of status", "", 0, got);
		counts->reads++;
	}
	got = pread(fd, text, sizeof(text) - 1, 0);
	text[got > 0 ? got : 0] = 0;
	if (!(unloads && got <= 0) && (got <= 0 || strncmp(text, "version ", 8) || !strstr(text, "\nstate ") || text[got - 1] != '\n'))
		bad("status is not what it should be", text, got > 0 ? got : 0, got);
	close(fd);
}

static void read_relay(void)
{
	char name[16], text[8192];
	struct pollfd wait = { .events = POLLIN };
	int fd, i, through[2];
	void *map;
	size_t n;

	snprintf(name, sizeof(name), "%s%d", ONE_OF("refs", "names"), 0);
	fd = open_file(name, dice() % 4 ? O_RDONLY : O_RDONLY | O_APPEND);
	if (fd < 0)
		return;
	for (i = 0; i < 4; i++) {
		ssize_t got = 0;

		switch (dice() % 8) {
		case 0:
			wait.fd = fd;
			poll(&wait, 1, 1);
			break;
		case 1:
			/* Only the whole buffer can be mapped, whatever its size is now. */
			n = 2 * PAGE << dice() % 13;
			map = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);
			if (map != MAP_FAILED) {
				*text = *(volatile char *)map + *((volatile char *)map + n - 1);
				munmap(map, PAGE);	/* the rest stays until this process ends */
			}
			break;
		case 2:
			if (!pipe2(through, O_CLOEXEC | O_NONBLOCK)) {
				/* Emptied before the file is closed: the kernel's relay wants that. */
				if (splice(fd, NULL, through[1], NULL, dice() % (16 * PAGE), SPLICE_F_NONBLOCK) > 0)
					while (read(through[0], text, sizeof(text)) > 0)
						;
				close(through[0]);
				close(through[1]);
			}
			break;
		case 3:
			got = pread(fd, text, 1 + dice() % 4096, dice() >> 1);
			break;
		case 4:
			got = read(fd, big + HUGE_WRITE - 1, 100);
			break;
		default:
			got = read(fd, text, dice() % sizeof(text));
		}
		(void)got;
		counts->reads++;
	}
	close(fd);
}

static void touch(void)
{
	size_t n = 1 + dice() % 32, i;
	char *map = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int pid;

	if (map == MAP_FAILED)
		return;
	for (i = 0; i < n; i++)
		map[i * PAGE] = i;
	if (dice() % 4 == 0) {
		pid = fork();
		if (!pid) {
			map[0]++;
			_exit(0);
		}
		waitpid(pid, NULL, 0);
	}
	munmap(map, n * PAGE);
}

static void one(void)
{
	switch (dice() % 8) {
	case 0:
		read_status();
		break;
	case 1:
		read_relay();
		break;
	case 2:
		touch();
		break;
	default:
		write_control();
	}
}

/* However slow the machine: every command was accepted once. */
static bool all_accepted(void)
{
	size_t i;

	for (i = 0; i < N_WORDS; i++)
		if (!counts->by_word[i][0])
			return false;
	return true;
}

static long command(const char *text)
{
	int fd = open_file("control", O_WRONLY);
	long answer = fd < 0 ? -1 : write(fd, text, strlen(text));

	if (fd >= 0)
		close(fd);
	return answer;
}

/* Chance may take long: what was not accepted yet is asked for in a set-up where it may be, while nobody else owns one. */
static void ask_for_the_rest(void)
{
	static const char *const plain[N_WORDS] = {
		"clear", "pid 1", "comm fuzz", "uid 1000", "cgroup /", "all", "remove comm fuzz", "follow fork", "recorder 0",
		"level rich", "clean 50", "fifo 64", "grain 4k", "buffers 8192 2", "overwrite on", "snapshot begin", "start", "stop",
	};
	size_t i;

	for (i = 0; i < N_WORDS; i++) {
		if (counts->by_word[i][0] || (command("stop"), command("clear")) < 0 || command("comm fuzz") < 0)
			continue;
		if (!strcmp(words[i], "snapshot") && (command("overwrite on") < 0 || command("start") < 0))
			continue;
		counts->by_word[i][0] += command(plain[i]) > 0;
		command("stop");
	}
}

/* A process that lives owns its set-up, and the others get EBUSY: so each lives for a few commands only. */
static int worker(double end, double latest)
{
	int i, pid, status = 0;

	big = mmap(NULL, HUGE_WRITE + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (big == MAP_FAILED || munmap(big + HUGE_WRITE, PAGE))
		return 1;
	while ((now() < end || (now() < latest && !all_accepted())) && !status) {
		dice();
		pid = fork();
		if (!pid) {
			if (now() >= end)
				ask_for_the_rest();
			for (i = 0; i < 12; i++)
				one();
			_exit(0);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			return 1;
	}
	if (status)
		fprintf(stderr, "fuzz: a process ended with status %#x\n", status);
	return status != 0;
}

static int may_open(char **argv)
{
	int uid = atoi(argv[0]), gid = atoi(argv[1]);

	if (setgroups(0, NULL) || setgid(gid) || setuid(uid)) {
		perror("fuzz: setuid");
		return 2;
	}
	if (open(argv[3], argv[2][0] == 'w' ? O_WRONLY : O_RDONLY) >= 0)
		return 0;
	if (errno == EACCES)
		return 1;
	perror(argv[3]);
	return 2;
}

int main(int argc, char **argv)
{
	int c, i, status, failed = 0, workers = 4;
	double seconds = 5, end;
	uint64_t seed = 1;

	if (argc == 6 && !strcmp(argv[1], "as"))
		return may_open(argv + 2);
	while ((c = getopt(argc, argv, "s:w:r:p:u")) != -1)
		switch (c) {
		case 's':
			seconds = atof(optarg);
			break;
		case 'w':
			workers = atoi(optarg);
			break;
		case 'r':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'p':
			if (n_pids < MAX_PIDS)
				pids[n_pids++] = atoi(optarg);
			break;
		case 'u':
			unloads = true;
			break;
		default:
			return 2;
		}
	if (optind != argc - 1) {
		fprintf(stderr, "usage: fuzz [-s SECONDS] [-w WORKERS] [-r SEED] [-p PID].. [-u] DIR | fuzz as UID GID r|w FILE\n");
		return 2;
	}
	dir = argv[optind];
	counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (counts == MAP_FAILED)
		return 2;
	end = now() + seconds;
	for (i = 0; i < workers; i++)
		if (!fork()) {
			state = seed * 7919 + i * 104729 + 1;
			_exit(worker(end, end + 20 * seconds));
		}
	while (wait(&status) > 0)
		if (status)
			failed = 1;
	printf("fuzz: %lu accepted, %lu refused, %lu nonsense, %lu reads\nfuzz: accepted", counts->accepted, counts->refused,
	       counts->nonsense, counts->reads);
	for (i = 0; i < (int)N_WORDS; i++)
		printf(" %s %lu", words[i], counts->by_word[i][0]);
	printf("\nfuzz: refused");
	for (i = 0; i < (int)N_WORDS; i++)
		printf(" %s %lu", words[i], counts->by_word[i][1]);
	printf("\n");
	return failed;
}
