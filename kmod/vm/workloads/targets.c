// SPDX-License-Identifier: GPL-2.0
/*
 * Who is recorded: gives targets to the module, before and while it records, and
 * has processes (actor.c) touch new pages, each at an address of its own. What
 * must and what must not be in the recording is written down (truth).
 *
 *   targets SCENARIO TRUTH
 *
 *   touch TGID TID ADDRESS PAGES yes|no    these pages, by this thread; or none of them
 *   process TGID FLAG COMM                 the PROCESS records of a process, in this order; FLAG:
 *                                          attached forked execed detached left(= execed, detached) -
 *   ended TGID                             it has an EXIT record
 *   starts TGID N                          so many processes had this number
 *   quiet TGID FROM_NS TO_NS               nothing of it in between
 *   anyone                                 other processes may be recorded, too
 *   never TGID                             not even then
 *
 * "ok NAME" and "FAIL NAME: why" on stdout are what can be seen here already. Exit code 0: it got to its end.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "actor.h"

#define CONTROL "/sys/kernel/debug/pgtrace/control"
#define STATUS "/sys/kernel/debug/pgtrace/status"
#define GROUPS "/sys/fs/cgroup/pgt"

static FILE *truth;
static pid_t pids[ACTORS];
static char *next_addr = (char *)0x100000000000;

static void report(bool good, const char *format, ...)
{
	va_list args;

	printf(good ? "ok " : "FAIL ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
}

/* --- the module --- */

static int put(const char *path, const char *text, size_t len)
{
	int fd = open(path, O_WRONLY), err = 0;

	if (fd < 0)
		return errno;
	if (write(fd, text, len) != (ssize_t)len)
		err = errno;
	close(fd);
	return err;
}

/* A command that must give this error; 0: it must work. */
static void expect(int error, const char *format, ...)
{
	char text[5000];
	va_list args;
	int err;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	err = put(CONTROL, text, strlen(text));
	if (err != error)
		report(false, "%.60s: error %d, expected %d", text, err, error);
}

static long status(const char *name)
{
	FILE *file = fopen(STATUS, "r");
	char word[64], line[256];
	long value = -1;

	if (!file)
		die(STATUS);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "%63s %ld", word, &value) == 2 && !strcmp(word, name))
			break;
		else
			value = -1;
	fclose(file);
	return value;
}

/* Renames and moves are settled soon after, not at once. */
static void wait_processes(long n)
{
	int i;

	for (i = 0; i < 1000 && status("processes") != n; i++)
		usleep(10000);
	if (status("processes") != n)
		report(false, "%ld processes are traced, expected %ld", status("processes"), n);
}

static void setup(void)
{
	expect(0, "clear");
	expect(0, "recorder %d", getpid());
	expect(0, "clean 0");
}

/* --- the actors --- */

static struct reply tell(int actor, enum op op, int number, const char *name)
{
	struct order order = { .op = op, .number = number };

	if (name)
		strncpy(order.name, name, sizeof(order.name) - 1);
	return actor_call(actor, order);
}

static pid_t born(int actor)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (!pid)
		actor_play(actor);
	pids[actor] = pid;
	return pid;
}

static pid_t bear(int parent, int actor)
{
	pids[actor] = tell(parent, FORK, actor, NULL).pid;
	return pids[actor];
}

static char *touch_by(int actor, enum op op, bool recorded)
{
	struct order order = { .op = op, .addr = next_addr };
	struct reply who;

	next_addr += 1 << 20;
	who = actor_call(actor, order);
	fprintf(truth, "touch %d %d %lx %d %s\n", who.pid, who.tid, (long)order.addr, PAGES,
		recorded ? "yes" : "no");
	return order.addr;
}

static char *touch(int actor, bool recorded)
{
	return touch_by(actor, TOUCH, recorded);
}

static pid_t end(int actor)
{
	pid_t gone;

	tell(actor, END, 0, NULL);
	while (waitpid(pids[actor], NULL, 0) < 0 && errno == EINTR)
		;
	gone = pids[actor];
	pids[actor] = 0;
	return gone;
}

static void process(int actor, const char *flag, const char *comm)
{
	fprintf(truth, "process %d %s %s\n", pids[actor], flag, comm);
}

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static bool huge_pages(pid_t pid)
{
	char path[64], line[256];
	int on = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "r");
	if (!file)
		die(path);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "THP_enabled: %d", &on) == 1)
			break;
	fclose(file);
	return on == 1;
}

static void thp(int actor, bool on, const char *when)
{
	report(huge_pages(pids[actor]) == on, "huge pages are %s %s", on ? "on" : "off", when);
}

/* --- scenarios --- */

/* Before, while recording, taken back, given again. */
static void by_pid(void)
{
	char *old;
	pid_t ended;
	long long from;

	born(0), born(1), born(2);
	setup();
	expect(ESRCH, "start");			/* nobody */
	expect(0, "pid %d", pids[0]);
	expect(0, "pid %d", pids[0]);		/* twice is once */
	report(status("targets") == 1, "a target given twice is one");
	expect(ESRCH, "pid 4000000");
	expect(ESRCH, "pid 2");			/* a kernel thread */
	expect(EINVAL, "pid");
	expect(EINVAL, "pid x");
	expect(EINVAL, "comm a\tb");
	expect(EINVAL, "remove");
	expect(EINVAL, "remove start");
	report(put(CONTROL, "pid 1\0", 6) == EINVAL, "a command with a NUL in it is refused");
	expect(ESRCH, "remove pid %d", pids[1]);
	expect(0, "clean 5");
	expect(0, "start");
	process(0, "attached", "targets");
	touch(0, true);
	touch(1, false);
	expect(0, "pid %d", pids[1]);
	process(1, "attached", "targets");
	old = touch(1, true);
	thp(1, false, "while recorded");
	expect(0, "remove pid %d", pids[1]);
	process(1, "detached", "targets");
	thp(1, true, "after remove");
	touch(1, false);
	usleep(100000);				/* a pass of the cleaner that was under way */
	from = now();
	actor_call(1, (struct order){ .op = AGAIN, .number = 200, .addr = old });
	fprintf(truth, "quiet %d %lld %lld\n", pids[1], from, now());
	touch(0, true);
	expect(0, "pid %d", pids[1]);
	process(1, "attached", "targets");
	touch(1, true);
	ended = end(1);
	fprintf(truth, "ended %d\n", ended);
	expect(0, "remove pid %d", ended);	/* its target is there still */
	touch(0, true);
	touch(2, false);
}

/* More than any table had room for. */
static void many(void)
{
	int i;

	for (i = 0; i < ACTORS; i++)
		born(i);
	setup();
	for (i = 0; i < ACTORS; i += 2) {
		expect(0, "pid %d", pids[i]);
		process(i, "attached", "targets");
	}
	expect(0, "start");
	for (i = 0; i < ACTORS; i++)
		touch(i, i % 2 == 0);
	for (i = 1; i < ACTORS; i += 2) {
		expect(0, "remove pid %d", pids[i - 1]);
		process(i - 1, "detached", "targets");
		expect(0, "pid %d", pids[i]);
		process(i, "attached", "targets");
	}
	for (i = 0; i < ACTORS; i++)
		touch(i, i % 2 == 1);
	report(status("processes") == ACTORS / 2 && status("targets") == ACTORS / 2,
	       "%d targets", ACTORS / 2);
}

static void by_uid(void)
{
	born(0), born(1), born(2);
	tell(0, USER, 1000, NULL);
	tell(2, USER, 1001, NULL);
	setup();
	expect(EINVAL, "uid root");
	expect(0, "uid 1000");
	expect(0, "start");
	process(0, "attached", "targets");
	touch(0, true);
	touch(1, false);
	touch(2, false);
	bear(0, 3);
	process(3, "forked", "targets");
	bear(1, 4);
	touch(3, true);
	touch(4, false);
	tell(1, USER, 1000, NULL);		/* found at its next fault */
	process(1, "attached", "targets");
	touch(1, true);
	expect(0, "uid 1001");
	process(2, "attached", "targets");
	touch(2, true);
	expect(0, "remove uid 1000");
	process(0, "detached", "targets");
	process(1, "detached", "targets");
	process(3, "detached", "targets");
	touch(0, false);
	touch(1, false);
	touch(3, false);
	touch(2, true);
}

static void by_comm(void)
{
	born(0), born(1), born(2), born(3);
	tell(0, RENAME, 0, "alpha");
	setup();
	expect(EINVAL, "comm");
	expect(0, "comm alpha");
	expect(0, "comm a name that is cut off");
	expect(0, "start");
	process(0, "attached", "alpha");
	touch(0, true);
	touch(1, false);
	tell(1, RENAME, 0, "alpha");
	process(1, "attached", "alpha");
	touch(1, true);
	tell(1, RENAME, 0, "beta");		/* the same process: it stays */
	process(1, "-", "beta");
	touch(1, true);
	tell(2, EXEC, 0, "alpha");
	process(2, "attached", "alpha");
	process(2, "execed", "alpha");
	touch(2, true);
	tell(2, EXEC, 0, "gamma");
	process(2, "execed", "gamma");
	touch(2, true);
	bear(2, 4);
	process(4, "forked", "gamma");
	touch(4, true);
	tell(3, RENAME, 0, "a name that is cut off");
	process(3, "attached", "a name that is ");
	touch(3, true);
	expect(ENOENT, "remove comm gamma");
	expect(0, "remove comm alpha");
	process(0, "detached", "alpha");
	process(1, "detached", "beta");
	process(2, "detached", "gamma");
	process(4, "detached", "gamma");
	touch(0, false);
	touch(1, false);
	touch(2, false);
	touch(4, false);
	touch(3, true);
}

/* follow none: a name, and nothing but the name. */
static void comm_only(void)
{
	born(0), born(1);
	setup();
	expect(0, "comm alpha");
	expect(0, "follow none");
	expect(0, "start");
	tell(0, RENAME, 0, "alpha");
	process(0, "attached", "alpha");
	touch(0, true);
	bear(0, 2);				/* has the name, too */
	process(2, "forked", "alpha");
	touch(2, true);
	tell(0, RENAME, 0, "beta");
	wait_processes(1);
	touch(0, false);
	tell(2, EXEC, 0, "beta");
	process(2, "left", "beta");
	touch(2, false);
	thp(0, true, "for who has lost its name");
	thp(2, true, "for who has executed another program");
	bear(0, 3);
	touch(3, false);
	tell(3, EXEC, 0, "alpha");
	process(3, "attached", "alpha");
	process(3, "execed", "alpha");
	touch(3, true);
	/* The record may have come before the name, or after it. */
	fprintf(truth, "process %d detached *\n", pids[0]);
}

static void join(int actor, const char *group)
{
	char path[5000], number[16];
	int err;

	snprintf(path, sizeof(path), GROUPS "%s/cgroup.procs", group);
	snprintf(number, sizeof(number), "%d", pids[actor]);
	err = put(path, number, strlen(number));
	if (err)
		report(false, "%s: error %d", path, err);
}

static char *long_group(void)
{
	static char path[2000];
	char name[201];
	int i;

	memset(name, 'x', 200);
	name[200] = 0;
	strcpy(path, "/long");
	for (i = 0; i < 6; i++) {
		char folder[2100];

		strcat(strcat(path, "/"), name);
		snprintf(folder, sizeof(folder), "mkdir -p " GROUPS "%s", path);
		if (system(folder))
			die("mkdir");
	}
	return path;
}

static void by_cgroup(void)
{
	char *deep = long_group();
	int i;

	if (system("mkdir -p " GROUPS "/in/deep " GROUPS "/out"))
		die("mkdir");
	for (i = 0; i < 5; i++)
		born(i);
	join(0, "/in");
	join(1, "/out");
	join(2, "/in/deep");
	join(4, deep);
	setup();
	expect(ENOENT, "cgroup /pgt/nowhere");
	expect(EINVAL, "cgroup pgt/in");
	expect(0, "cgroup /pgt/in/");
	expect(0, "cgroup /pgt%s", deep);
	expect(0, "start");
	process(0, "attached", "targets");
	process(2, "attached", "targets");
	process(4, "attached", "targets");
	touch(0, true);
	touch(1, false);
	touch(2, true);
	touch(3, false);
	touch(4, true);
	join(3, "/in/deep");
	process(3, "attached", "targets");
	touch(3, true);
	join(3, "/out");			/* the same process: it stays */
	touch(3, true);
	bear(2, 5);
	process(5, "forked", "targets");
	touch(5, true);
	expect(0, "follow none");		/* and now it would not */
	join(5, "/out");
	wait_processes(4);
	process(5, "detached", "targets");
	touch(5, false);
	expect(0, "remove cgroup /pgt/in");
	process(0, "detached", "targets");
	process(2, "detached", "targets");
	process(3, "detached", "targets");
	touch(0, false);
	touch(2, false);
	touch(3, false);
	touch(4, true);
}

static void everyone(void)
{
	fprintf(truth, "anyone\nnever %d\n", getpid());
	born(0), born(1);
	tell(0, USER, 1000, NULL);
	setup();
	expect(EINVAL, "all processes");
	expect(0, "all");
	expect(0, "start");
	process(0, "attached", "targets");
	process(1, "attached", "targets");
	touch(0, true);
	touch(1, true);
	born(2);				/* of the recorder, which is not traced */
	process(2, "attached", "targets");
	touch(2, true);
	expect(0, "pid %d", pids[1]);
	expect(0, "remove all");
	process(0, "detached", "targets");
	process(2, "detached", "targets");
	touch(0, false);
	touch(1, true);
	touch(2, false);
	wait_processes(1);
}

static void follow_exec(void)
{
	born(0);
	setup();
	expect(0, "pid %d", pids[0]);
	expect(0, "start");
	process(0, "attached", "targets");
	bear(0, 1);
	process(1, "forked", "targets");
	bear(1, 2);
	process(2, "forked", "targets");
	touch(0, true);
	touch(1, true);
	touch(2, true);
	tell(1, EXEC, 0, "alpha");
	process(1, "execed", "alpha");
	touch(1, true);
	pids[3] = tell(0, VFORK_EXEC, 3, "beta").pid;
	process(3, "forked", "targets");
	process(3, "execed", "beta");
	touch(3, true);
	tell(0, THREAD_EXEC, 0, "gamma");	/* not the leader: it becomes the leader */
	process(0, "execed", "gamma");
	touch(0, true);
	expect(0, "pid %d", pids[1]);
	bear(1, 4);
	process(4, "forked", "alpha");
	expect(0, "remove pid %d", pids[0]);
	process(0, "detached", "gamma");
	process(2, "detached", "targets");	/* born before its parent was a target */
	process(3, "detached", "beta");
	touch(0, false);
	touch(1, true);
	touch(2, false);
	touch(3, false);
	touch(4, true);
	thp(0, true, "after remove and exec");
	thp(2, true, "after remove, for a child");
	thp(3, true, "after remove, for a child by vfork");
}

static void follow_fork(void)
{
	born(0);
	setup();
	expect(EINVAL, "follow everything");
	expect(0, "pid %d", pids[0]);
	expect(0, "follow fork");
	expect(0, "start");
	process(0, "attached", "targets");
	tell(0, EXEC, 0, "alpha");		/* it is named itself */
	process(0, "execed", "alpha");
	touch(0, true);
	bear(0, 1);
	process(1, "forked", "alpha");
	touch(1, true);
	tell(1, EXEC, 0, "beta");
	process(1, "left", "beta");
	touch(1, false);
	bear(1, 2);
	touch(2, false);
	pids[3] = tell(0, VFORK_EXEC, 3, "gamma").pid;
	process(3, "forked", "alpha");
	process(3, "left", "gamma");
	touch(3, false);
	bear(0, 4);
	process(4, "forked", "alpha");
	tell(4, THREAD_EXEC, 0, "delta");
	process(4, "left", "delta");
	touch(4, false);
	touch(0, true);
	thp(1, true, "for a child after exec");
	thp(3, true, "for a child by vfork after exec");
	thp(0, false, "while recorded");
}

static void follow_none(void)
{
	born(0);
	setup();
	expect(0, "pid %d", pids[0]);
	expect(0, "follow none");
	expect(0, "start");
	process(0, "attached", "targets");
	touch(0, true);
	bear(0, 1);
	touch(1, false);
	thp(1, true, "for a child that is not traced");
	pids[2] = tell(0, VFORK_EXEC, 2, "alpha").pid;
	touch(2, false);
	thp(2, true, "for a child by vfork that is not traced");
	thp(0, false, "while recorded");
	expect(0, "pid %d", pids[2]);
	process(2, "attached", "alpha");
	touch(2, true);
	tell(0, EXEC, 0, "beta");
	process(0, "execed", "beta");
	touch(0, true);
	touch_by(0, THREAD_TOUCH, true);
}

/* One pid, two processes. */
static void reuse(void)
{
	char number[16];
	pid_t first;
	int i;

	born(0), born(1);
	setup();
	expect(0, "pid %d", pids[0]);
	expect(0, "pid %d", pids[1]);
	expect(0, "start");
	process(0, "attached", "targets");
	process(1, "attached", "targets");
	touch(0, true);
	touch(1, true);
	first = end(0);
	fprintf(truth, "ended %d\n", first);
	for (i = 2; i < 20; i++) {		/* somebody else may take the number */
		snprintf(number, sizeof(number), "%d", first - 1);
		put("/proc/sys/kernel/ns_last_pid", number, strlen(number));
		if (born(i) == first)
			break;
	}
	report(i < 20, "the pid comes again (needs CONFIG_CHECKPOINT_RESTORE)");
	if (i == 20)
		return;
	touch(i, false);			/* the target was the other process */
	expect(0, "pid %d", first);
	process(i, "attached", "targets");
	touch(i, true);
	expect(0, "remove pid %d", first);
	process(i, "detached", "targets");
	touch(i, false);
	fprintf(truth, "starts %d 2\n", first);
}

static void threads(void)
{
	int i;

	born(0), born(1), born(2);
	tell(1, LEADER_ENDS, 0, NULL);
	setup();
	expect(0, "pid %d", pids[0]);
	expect(0, "start");
	process(0, "attached", "targets");
	for (i = 0; i < 5; i++)
		touch_by(0, THREAD_TOUCH, true);
	touch(0, true);
	touch_by(2, THREAD_TOUCH, false);
	tell(0, LEADER_ENDS, 0, NULL);
	touch(0, true);
	touch(1, false);
	expect(0, "pid %d", pids[1]);		/* its leader has ended, it has not */
	process(1, "attached", "targets");
	touch(1, true);
	touch_by(1, THREAD_TOUCH, true);
	expect(0, "remove pid %d", pids[0]);
	process(0, "detached", "targets");
	touch(0, false);
	touch_by(0, THREAD_TOUCH, false);
	tell(1, EXEC, 0, "alpha");
	process(1, "execed", "alpha");
	touch(1, true);
}

/* Two set-ups do not mix. */
static void owners(void)
{
	static const char *const commands[] = {
		"clear", "pid 1", "comm x", "uid 5", "all", "follow fork", "clean 7", "level full",
		"recorder 1", "start", "stop", "remove uid 0",
	};
	int i, code;
	pid_t other;

	born(0), born(1);
	setup();
	report(status("owner") == getpid(), "the set-up is of who said clear");
	expect(0, "pid %d", pids[0]);
	other = fork();
	if (!other) {
		for (i = 0; i < (int)(sizeof(commands) / sizeof(*commands)); i++)
			expect(EBUSY, "%s", commands[i]);
		_exit(0);
	}
	waitpid(other, &code, 0);
	report(status("targets") == 1, "others are refused");
	expect(0, "start");
	report(status("owner") == 0, "a recording belongs to nobody");
	process(0, "attached", "targets");
	other = fork();
	if (!other) {
		expect(EBUSY, "clear");
		expect(0, "pid %d", pids[1]);
		_exit(0);
	}
	waitpid(other, &code, 0);
	process(1, "attached", "targets");
	touch(0, true);
	touch(1, true);
	expect(0, "stop");
	other = fork();
	if (!other) {
		expect(0, "clear");
		expect(0, "uid 7");
		_exit(0);
	}
	waitpid(other, &code, 0);
	report(status("owner") == 0, "who has ended owns nothing");
	expect(0, "clear");
	report(status("targets") == 0, "clear forgets the targets");
}

/* Whatever comes and goes while targets do: nothing is left behind. */
static void churn(void)
{
	static const char *const commands[] = {
		"all", "remove all", "uid 0", "comm alpha", "follow fork", "remove uid 0", "remove comm alpha",
		"follow none", "comm targets", "uid 0", "remove comm targets", "follow exec", "remove uid 0",
		"cgroup /pgt/churn", "remove cgroup /pgt/churn",
	};
	const int n = sizeof(commands) / sizeof(*commands);
	long long until;
	int i, round = 0;
	pid_t crowd;

	fprintf(truth, "anyone\nnever %d\n", getpid());
	if (system("mkdir -p " GROUPS "/churn " GROUPS "/other"))
		die("mkdir");
	born(0);
	crowd = fork();
	if (!crowd) {
		setpgid(0, 0);
		for (i = 0; i < 3; i++)
			if (!fork())
				break;
		for (unsigned int seed = i;; seed = seed * 1103515245 + 12345) {
			pid_t child = seed >> 16 & 1 ? fork() : vfork();

			if (!child && seed >> 17 & 1)
				execl("/tmp/actors/alpha", "alpha", "leave", seed >> 18 & 1 ? "thread" : "", NULL);
			if (!child)
				_exit(0);
			if (seed >> 19 & 1) {
				join(0, seed >> 20 & 1 ? "/churn" : "/other");
				put("/proc/self/comm", seed >> 21 & 1 ? "alpha" : "omega", 5);
			}
			waitpid(child, NULL, 0);
		}
	}
	setup();
	expect(0, "clean 1");
	expect(0, "pid %d", pids[0]);
	expect(0, "start");
	process(0, "attached", "targets");
	for (until = now() + 4000000000LL; now() < until; round++)
		for (i = 0; i < n; i++) {
			put(CONTROL, commands[i], strlen(commands[i]));
			usleep(rand() % 3000);
		}
	kill(-crowd, SIGKILL);
	while (waitpid(crowd, NULL, 0) < 0 && errno == EINTR)
		;
	touch(0, true);
	expect(0, "remove pid %d", pids[0]);
	process(0, "detached", "targets");
	wait_processes(0);
	report(true, "%d rounds of targets that come and go", round * n);
}

static const struct {
	const char *name;
	void (*play)(void);
} scenarios[] = {
	{ "by_pid", by_pid }, { "many", many }, { "by_uid", by_uid }, { "by_comm", by_comm },
	{ "comm_only", comm_only }, { "by_cgroup", by_cgroup }, { "everyone", everyone },
	{ "follow_exec", follow_exec }, { "follow_fork", follow_fork }, { "follow_none", follow_none },
	{ "reuse", reuse }, { "threads", threads }, { "owners", owners }, { "churn", churn },
};

static void *leave(void *unused)
{
	exit(0);
	return unused;
}

int main(int argc, char **argv)
{
	size_t i;

	if (argc == 4 && !strcmp(argv[1], "actor"))
		actor_main(argv);
	if (argc == 3 && !strcmp(argv[1], "leave")) {
		pthread_t thread;

		if (*argv[2] && !pthread_create(&thread, NULL, leave, NULL))
			pause();
		return 0;
	}
	if (argc != 3)
		return 2;
	truth = fopen(argv[2], "w");
	if (!truth)
		die(argv[2]);
	setvbuf(truth, NULL, _IONBF, 0);	/* children must not write it a second time */
	actors_open();
	for (i = 0; i < sizeof(scenarios) / sizeof(*scenarios); i++)
		if (!strcmp(argv[1], scenarios[i].name)) {
			scenarios[i].play();
			if (status("owner") != getpid())
				expect(0, "stop");
			for (i = 0; i < ACTORS; i++)
				if (pids[i] > 0)
					kill(pids[i], SIGKILL);
			return 0;
		}
	return 2;
}
