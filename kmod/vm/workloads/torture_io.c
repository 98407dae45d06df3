// SPDX-License-Identifier: GPL-2.0
/* Torture: the kernel reads and writes the program's memory: files, pipes, process_vm_*, /proc/PID/mem; and the stack. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "torture.h"

OPERATION(file_io)
{
	size_t page = dice(w) % a->pages, n = 1 + dice(w) % (a->pages - page);
	off_t at = dice(w) % 16 * PAGE;

	if (n > BOUNCE_PAGES)
		n = BOUNCE_PAGES;
	writable(a);
	if (pwrite(w->file, a->base + page * PAGE, n * PAGE, at) != (ssize_t)(n * PAGE))
		fail("write");
	fill(w, a, page);	/* what is in the file is older now */
	memcpy(w->bounce, a->shadow + page * PAGE, n * PAGE);
	if (pwrite(w->file, w->bounce, n * PAGE, at) != (ssize_t)(n * PAGE))
		fail("write");
	memset(a->base + page * PAGE, 0x55, n * PAGE);
	if (pread(w->file, a->base + page * PAGE, n * PAGE, at) != (ssize_t)(n * PAGE))
		fail("read");
	for (; n--; page++)
		check(a, page, w->direct ? "direct I/O" : "file I/O");
	return true;
}

static void compare(struct worker *w, struct area *a, size_t page, const char *what)
{
	if (memcmp(w->bounce, a->shadow + page * PAGE, PAGE))
		wrong(what, a, page);
}

/* The bounce buffer was written to this page. */
static void written(struct worker *w, struct area *a, size_t page, bool watched, const char *how)
{
	memcpy(a->shadow + page * PAGE, w->bounce, PAGE);
	check(a, page, how);
	after_write(a, page, watched);
}

OPERATION(vm_readv)
{
	size_t page = dice(w) % a->pages;
	struct iovec mine = { w->bounce, PAGE }, theirs = { a->base + page * PAGE, PAGE };

	if (process_vm_readv(getpid(), &mine, 1, &theirs, 1, 0) != PAGE)
		fail("process_vm_readv");
	compare(w, a, page, "BYTES seen by process_vm_readv");
	return true;
}

OPERATION(vm_writev)
{
	size_t page = dice(w) % a->pages;
	struct iovec mine = { w->bounce, PAGE }, theirs = { a->base + page * PAGE, PAGE };
	bool watched = uffd_is_protected(a, page);

	writable(a);
	memset(w->bounce, dice(w), PAGE);
	if (process_vm_writev(getpid(), &mine, 1, &theirs, 1, 0) != PAGE)
		fail("process_vm_writev");
	written(w, a, page, watched, "process_vm_writev");
	return true;
}

/* As a debugger does it: private memory is written to also where the program may not. */
OPERATION(proc_mem)
{
	size_t page = dice(w) % a->pages;
	off_t at = (off_t)(uintptr_t)a->base + page * PAGE;
	int fd;

	if (a->uffd)	/* such an access cannot wait for the answer */
		return false;
	fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		fail("/proc/self/mem");
	if (pread(fd, w->bounce, PAGE, at) != PAGE)
		fail("read of /proc/self/mem");
	compare(w, a, page, "BYTES seen by /proc/self/mem");
	if (!a->readonly || a->kind == ANON || a->kind == PRIVATE_FILE) {
		memset(w->bounce, dice(w), PAGE);
		if (pwrite(fd, w->bounce, PAGE, at) != PAGE)
			fail("write to /proc/self/mem");
		written(w, a, page, false, "a write to /proc/self/mem");
	}
	close(fd);
	return true;
}

OPERATION(vmsplice)
{
	size_t page = dice(w) % a->pages;
	struct iovec mine = { a->base + page * PAGE, PAGE };

	if (vmsplice(w->pipe[1], &mine, 1, 0) != PAGE)
		fail("vmsplice");
	if (read(w->pipe[0], w->bounce, PAGE) != PAGE)
		fail("read of a pipe");
	compare(w, a, page, "BYTES in a pipe that holds the page itself");
	return true;
}

static bool deep(uint64_t seed, int depth)
{
	volatile uint64_t here[WORDS];
	size_t i;

	for (i = 0; i < WORDS; i += 32)
		here[i] = word_of(seed, depth, i);
	if (depth && !deep(seed, depth - 1))
		return false;
	for (i = 0; i < WORDS; i += 32)
		if (here[i] != word_of(seed, depth, i))
			return false;
	return true;
}

OPERATION(stack)
{
	if (!deep(dice(w), dice(w) % 100))
		wrong("BYTES on the stack (the area is innocent)", a, 0);
	return true;
}
