// SPDX-License-Identifier: GPL-2.0
/* Torture: processes and threads that come and go, and what each must find in its memory. */
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "torture.h"

void die_with_parent(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static void must_end_well(int pid, const char *what)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		fail("waitpid");
	if (status) {
		fprintf(stderr, "torture: %s: status %#x\n", what, status);
		fail("a child found a difference or died");
	}
}

/* The child sees the copy as it is, changes its own, and checks again. */
OPERATION(fork)
{
	int i, pid = fork();

	(void)a;
	if (pid < 0)
		fail("fork");
	if (!pid) {
		for (i = 0; i < AREAS; i++) {
			struct area *mine = &w->areas[i];

			/* Shared memory is the parent's too: it goes on changing it. */
			if (is_shared(mine))
				continue;
			check_many(w, mine, "fork, in the child");
			fill(w, mine, dice(w) % mine->pages);
			check_many(w, mine, "a write in the child");
		}
		_exit(0);
	}
	for (i = 0; i < 20; i++) {
		struct area *mine = &w->areas[dice(w) % AREAS];

		fill(w, mine, dice(w) % mine->pages);
		check(mine, dice(w) % mine->pages, "fork, in the parent");
	}
	must_end_well(pid, "fork");
	return true;
}

OPERATION(remote)
{
	size_t page = dice(w) % a->pages, i;
	unsigned char byte = dice(w);
	struct iovec mine = { w->bounce, PAGE }, theirs = { a->base + page * PAGE, PAGE };
	int go[2], pid;

	if (is_shared(a))
		return false;
	writable(a);
	if (pipe2(go, O_CLOEXEC))
		fail("pipe");
	pid = fork();
	if (pid < 0)
		fail("fork");
	if (!pid) {
		unsigned char wanted;

		close(go[1]);
		if (read(go[0], &wanted, 1) != 1)
			_exit(2);
		for (i = 0; i < PAGE; i++)
			if ((unsigned char)a->base[page * PAGE + i] != wanted)
				wrong("BYTES that another process wrote", a, page);
		_exit(0);
	}
	close(go[0]);
	if (process_vm_readv(pid, &mine, 1, &theirs, 1, 0) != PAGE)
		fail("process_vm_readv of a child");
	if (memcmp(w->bounce, a->shadow + page * PAGE, PAGE))
		wrong("BYTES seen in a child by process_vm_readv", a, page);
	memset(w->bounce, byte, PAGE);
	if (process_vm_writev(pid, &mine, 1, &theirs, 1, 0) != PAGE)
		fail("process_vm_writev to a child");
	if (write(go[1], &byte, 1) != 1)
		fail("write to a pipe");
	close(go[1]);
	must_end_well(pid, "process_vm_writev");
	check(a, page, "a write to a child's copy");
	return true;
}

/* Memory of a new image: what it writes itself, its arguments, and its own code against its file. */
int after_exec(int argc, char **argv)
{
	uint64_t seed = argc == 4 ? strtoull(argv[2], NULL, 16) : 0;
	size_t pages = argc == 4 ? strtoul(argv[3], NULL, 10) : 0, i, k;
	const Elf64_Phdr *part = (const void *)getauxval(AT_PHDR);
	int n = getauxval(AT_PHNUM), fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	static char text[16 * PAGE];
	uint64_t *words;

	if (!pages || fd < 0)
		fail("arguments after exec");
	words = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (words == MAP_FAILED)
		fail("mmap");
	for (i = 0; i < pages; i++)
		for (k = 0; k < WORDS; k += 16)
			words[i * WORDS + k] = word_of(seed, i, k);
	for (; n--; part++) {
		if (part->p_type != PT_LOAD || !(part->p_flags & PF_X))
			continue;
		for (i = 0; i < part->p_filesz; i += k) {
			k = part->p_filesz - i < sizeof(text) ? part->p_filesz - i : sizeof(text);
			if (pread(fd, text, k, part->p_offset + i) != (ssize_t)k)
				fail("read of the program's file");
			if (memcmp(text, (const char *)part->p_vaddr + i, k)) {
				fprintf(stderr, "torture: pid %d: WRONG CODE after exec\n", getpid());
				return 1;
			}
		}
	}
	for (i = 0; i < pages; i++)
		for (k = 0; k < WORDS; k += 16)
			if (words[i * WORDS + k] != word_of(seed, i, k)) {
				fprintf(stderr, "torture: pid %d: WRONG BYTES after exec\n", getpid());
				return 1;
			}
	return 0;
}

struct arguments {
	char seed[20], pages[8];
	char *list[5];
};

static void arguments(struct worker *w, struct arguments *to)
{
	snprintf(to->seed, sizeof(to->seed), "%llx", (unsigned long long)dice(w));
	snprintf(to->pages, sizeof(to->pages), "%d", (int)(1 + dice(w) % 40));
	to->list[0] = "torture";
	to->list[1] = "--exec";
	to->list[2] = to->seed;
	to->list[3] = to->pages;
	to->list[4] = NULL;
}

OPERATION(spawn)
{
	struct arguments args;
	char *environment[] = { NULL };
	pid_t pid;

	(void)a;
	arguments(w, &args);
	if (posix_spawn(&pid, self, NULL, NULL, args.list, environment))
		fail("posix_spawn");
	must_end_well(pid, "exec out of vfork");
	return true;
}

static void *exec_thread(void *list)
{
	execv(self, list);
	fail("execv");
	return NULL;
}

OPERATION(thread_exec)
{
	struct arguments args;
	pthread_t thread;
	int pid;

	(void)a;
	arguments(w, &args);
	pid = fork();
	if (pid < 0)
		fail("fork");
	if (!pid) {
		die_with_parent();
		if (pthread_create(&thread, NULL, exec_thread, args.list))
			fail("pthread_create");
		for (;;)
			pause();
	}
	must_end_well(pid, "exec by a thread");
	return true;
}

OPERATION(kill)
{
	int status, pid = fork();

	(void)a;
	if (pid < 0)
		fail("fork");
	if (!pid) {
		die_with_parent();
		operate_for_ever(w);
	}
	usleep(dice(w) % 20000);
	kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) != pid)
		fail("waitpid");
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
		fprintf(stderr, "torture: a child to be killed: status %#x\n", status);
		fail("a child to be killed found a difference or died");
	}
	return true;
}

/* Memory that a thread maps, fills, reads and unmaps: `rounds` times, 0: for ever. */
static void *toil(void *rounds)
{
	size_t left = (size_t)rounds, i, k;

	do {
		uint64_t *words = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (words == MAP_FAILED)
			fail("mmap");
		for (k = 0; k < 2; k++)
			for (i = 0; i < 16 * WORDS; i += 64) {
				if (k && words[i] != word_of(left, 0, i)) {
					fprintf(stderr, "torture: pid %d: WRONG BYTES in a thread\n", getpid());
					_exit(1);
				}
				words[i] = word_of(left, 0, i);
			}
		munmap(words, 16 * PAGE);
	} while (!left || --left);
	return NULL;
}

OPERATION(thread)
{
	pthread_t thread;

	(void)a;
	if (pthread_create(&thread, NULL, toil, (void *)(1 + dice(w) % 4)) || pthread_join(thread, NULL))
		fail("pthread_create");
	return true;
}

OPERATION(exit)
{
	int i, pid = fork();
	pthread_t thread;

	(void)a;
	if (pid < 0)
		fail("fork");
	if (!pid) {
		die_with_parent();
		for (i = 0; i < 3; i++)
			if (pthread_create(&thread, NULL, toil, NULL))
				fail("pthread_create");
		usleep(dice(w) % 5000);
		_exit(0);
	}
	must_end_well(pid, "exit with busy threads");
	return true;
}
