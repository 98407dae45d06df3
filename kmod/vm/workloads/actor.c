// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "actor.h"

#define PAGE 4096

enum end { ORDER_OUT, ORDER_IN, REPLY_OUT, REPLY_IN };

static int fd_of(int actor, enum end end)
{
	return 100 + 4 * actor + end;
}

void die(const char *what)
{
	perror(what);
	_exit(2);
}

void actors_open(void)
{
	struct rlimit limit = { 2000, 2000 };
	int actor, end, fds[4];

	if (setrlimit(RLIMIT_NOFILE, &limit))
		die("setrlimit");
	for (actor = 0; actor < ACTORS; actor++) {
		if (pipe(fds) || pipe(fds + 2))
			die("pipe");
		for (end = 0; end < 4; end++) {
			if (dup2(fds[end], fd_of(actor, end)) < 0)
				die("dup2");
			close(fds[end]);
		}
	}
}

struct reply actor_call(int actor, struct order order)
{
	struct reply reply = {};

	if (write(fd_of(actor, ORDER_IN), &order, sizeof(order)) != sizeof(order))
		die("order");
	if (order.op != END && read(fd_of(actor, REPLY_OUT), &reply, sizeof(reply)) != sizeof(reply))
		die("reply");
	return reply;
}

static void answer(int actor, pid_t pid, pid_t tid)
{
	struct reply reply = { pid, tid };

	if (write(fd_of(actor, REPLY_IN), &reply, sizeof(reply)) != sizeof(reply))
		die("answer");
}

/* --- what they do --- */

struct part {
	int actor;
	struct order order;
	pid_t tid;
};

static void *touch(void *arg)
{
	struct part *part = arg;
	char *base = mmap(part->order.addr, PAGES * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	int i;

	if (base != part->order.addr)
		die("mmap");
	for (i = 0; i < PAGES; i++)
		*(volatile char *)(base + i * PAGE) = i;
	part->tid = gettid();
	return NULL;
}

static void again(const struct order *order)
{
	int ms, i;

	for (ms = 0; ms < order->number; ms++) {
		for (i = 0; i < PAGES; i++)
			(void)*(volatile char *)(order->addr + i * PAGE);
		usleep(1000);
	}
}

/* The new image answers when `ack`; vfork()'s parent does otherwise. */
static void run(const char *name, int actor, bool ack)
{
	char number[16], path[80];

	snprintf(number, sizeof(number), "%d", actor);
	snprintf(path, sizeof(path), "/tmp/actors/%s", name);
	execl(path, path, "actor", number, ack ? "ack" : "quiet", NULL);
	die(path);
}

static __attribute__((noinline)) pid_t run_by_vfork(const struct order *order)
{
	pid_t child = vfork();

	if (child < 0)
		die("vfork");
	if (!child)
		run(order->name, order->number, false);
	return child;
}

void actor_main(char **argv)
{
	int actor = atoi(argv[2]);

	if (!strcmp(argv[3], "ack"))
		answer(actor, getpid(), gettid());
	actor_play(actor);
}

static void *thread_run(void *arg)
{
	struct part *part = arg;

	run(part->order.name, part->actor, true);
	return NULL;
}

static void *carry_on(void *arg)
{
	int actor = (long)arg;

	/* The leader is a zombie now, or will be any moment. */
	usleep(50000);
	answer(actor, getpid(), gettid());
	actor_play(actor);
}

static pthread_t start(void *(*work)(void *), void *arg)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, work, arg))
		die("pthread_create");
	return thread;
}

void actor_play(int actor)
{
	for (;;) {
		struct part part = { .actor = actor };
		struct order *order = &part.order;
		pid_t child;

		if (read(fd_of(actor, ORDER_OUT), order, sizeof(*order)) != sizeof(*order))
			die("read");
		part.tid = gettid();
		switch (order->op) {
		case TOUCH:
			touch(&part);
			break;
		case THREAD_TOUCH:
			pthread_join(start(touch, &part), NULL);
			break;
		case AGAIN:
			again(order);
			break;
		case FORK:
			child = fork();
			if (child < 0)
				die("fork");
			if (child)
				answer(actor, child, child);
			else
				actor = order->number;
			continue;
		case VFORK_EXEC:
			child = run_by_vfork(order);
			answer(actor, child, child);
			continue;
		case EXEC:
			run(order->name, actor, true);
			break;
		case THREAD_EXEC:
			pthread_join(start(thread_run, &part), NULL);
			die("the thread came back");
		case LEADER_ENDS:
			start(carry_on, (void *)(long)actor);
			syscall(SYS_exit, 0);
			break;
		case RENAME:
			/* A thread has a name of its own; this is the process's. */
			if (prctl(PR_SET_NAME, order->name))
				die("prctl");
			break;
		case USER:
			if (setresuid(order->number, order->number, order->number))
				die("setresuid");
			break;
		case END:
			_exit(order->number);
		}
		answer(actor, getpid(), part.tid);
	}
}
