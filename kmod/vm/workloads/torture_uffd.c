// SPDX-License-Identifier: GPL-2.0
/*
 * Torture: memory whose faults a thread of the program answers (userfaultfd).
 * A missing page is filled out of the shadow, so throwing pages away changes no
 * byte; and no write may reach a write-protected page before the thread knows.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "torture.h"

struct uffd {
	struct area *area;
	int fd, stop;
	bool missing, protects;	/* what it was registered for */
	pthread_t thread;
	atomic_uchar protected[FILE_PAGES];
};

/* The kernel says EAGAIN while the address space is being changed by somebody else. */
static int request(struct uffd *u, unsigned long what, void *argument)
{
	int answer;

	do
		answer = ioctl(u->fd, what, argument);
	while (answer < 0 && errno == EAGAIN);
	return answer;
}

static void wake(struct uffd *u, unsigned long at)
{
	struct uffdio_range range = { at, PAGE };

	if (request(u, UFFDIO_WAKE, &range))
		fail("UFFDIO_WAKE");
}

static void fill_missing(struct uffd *u, size_t page)
{
	struct area *a = u->area;
	unsigned long at = (unsigned long)a->base + page * PAGE;
	const char *content = a->shadow + page * PAGE;
	struct uffdio_copy copy = { .dst = at, .src = (unsigned long)content, .len = PAGE };
	struct uffdio_zeropage zero = { .range = { at, PAGE } };
	bool empty = !content[0] && !memcmp(content, content + 1, PAGE - 1);

	/* Two threads may have waited for the same page. */
	if (request(u, empty ? UFFDIO_ZEROPAGE : UFFDIO_COPY, empty ? (void *)&zero : (void *)&copy)) {
		if (errno != EEXIST)
			fail(empty ? "UFFDIO_ZEROPAGE" : "UFFDIO_COPY");
		wake(u, at);
	}
}

static void allow_write(struct uffd *u, size_t page)
{
	struct area *a = u->area;
	struct uffdio_writeprotect change = { .range = { (unsigned long)a->base + page * PAGE, PAGE } };

	check(a, page, "it was write-protected, and before the write was allowed");
	atomic_store(&u->protected[page], 0);
	if (request(u, UFFDIO_WRITEPROTECT, &change))
		fail("UFFDIO_WRITEPROTECT");
}

static void *answer(void *argument)
{
	struct uffd *u = argument;
	struct pollfd wait[2] = { { .fd = u->fd, .events = POLLIN }, { .fd = u->stop, .events = POLLIN } };
	struct uffd_msg message;

	for (;;) {
		size_t page;

		if (poll(wait, 2, -1) < 0 && errno != EINTR)
			fail("poll");
		if (wait[1].revents)
			return NULL;
		if (read(u->fd, &message, sizeof(message)) != sizeof(message))
			continue;
		if (message.event != UFFD_EVENT_PAGEFAULT)
			fail("an event of userfaultfd that nobody asked for");
		page = (message.arg.pagefault.address - (unsigned long)u->area->base) / PAGE;
		if (message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP)
			allow_write(u, page);
		else
			fill_missing(u, page);
	}
}

bool uffd_begin(struct worker *w, struct area *a)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP };
	struct uffd *u = calloc(1, sizeof(*u));
	struct uffdio_register range = { .range = { (unsigned long)a->base, a->pages * PAGE } };

	if (!u)
		fail("memory");
	u->area = a;
	u->fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (u->fd < 0 || ioctl(u->fd, UFFDIO_API, &api)) {
		if (u->fd >= 0)
			close(u->fd);
		free(u);
		return false;
	}
	u->missing = dice(w) % 4;
	u->protects = !u->missing || dice(w) % 2;
	range.mode = (u->missing ? UFFDIO_REGISTER_MODE_MISSING : 0) | (u->protects ? UFFDIO_REGISTER_MODE_WP : 0);
	if (ioctl(u->fd, UFFDIO_REGISTER, &range))
		fail("UFFDIO_REGISTER");
	u->stop = eventfd(0, EFD_CLOEXEC);
	if (u->stop < 0 || pthread_create(&u->thread, NULL, answer, u))
		fail("a thread for userfaultfd");
	a->uffd = u;
	return true;
}

void uffd_end(struct area *a)
{
	uint64_t one = 1;

	if (write(a->uffd->stop, &one, sizeof(one)) != sizeof(one) || pthread_join(a->uffd->thread, NULL))
		fail("the end of a thread for userfaultfd");
	close(a->uffd->fd);
	close(a->uffd->stop);
	free(a->uffd);
	a->uffd = NULL;
}

/* Pages that are gone are not protected any more; with nobody to fill them again, they are empty. */
void uffd_forgotten(struct area *a, size_t from, size_t n)
{
	size_t i;

	for (i = from; i < from + n; i++)
		atomic_store(&a->uffd->protected[i], 0);
	if (!a->uffd->missing)
		revert(a, from, n);
}

bool uffd_is_protected(const struct area *a, size_t page)
{
	return a->uffd && atomic_load(&a->uffd->protected[page]);
}

/* Write-protects pages that are there, or takes it back. */
OPERATION(protect)
{
	struct uffdio_writeprotect change = { .mode = dice(w) % 4 ? UFFDIO_WRITEPROTECT_MODE_WP : 0 };
	size_t from = dice(w) % a->pages, n = 1 + dice(w) % (a->pages - from), i;

	if (!a->uffd || !a->uffd->protects)
		return false;
	for (i = from; i < from + n; i++)
		check(a, i, "reading it in");
	change.range.start = (unsigned long)a->base + from * PAGE;
	change.range.len = n * PAGE;
	/* Nobody writes meanwhile: whoever does, asks. */
	for (i = from; i < from + n; i++)
		atomic_store(&a->uffd->protected[i], change.mode != 0);
	if (!request(a->uffd, UFFDIO_WRITEPROTECT, &change))
		return true;
	if (errno != ENOENT)
		fail("UFFDIO_WRITEPROTECT");
	/* mlock() and munlock() may have cut the mapping in parts. */
	change.range.len = PAGE;
	for (i = from; i < from + n; i++) {
		change.range.start = (unsigned long)a->base + i * PAGE;
		if (request(a->uffd, UFFDIO_WRITEPROTECT, &change))
			fail("UFFDIO_WRITEPROTECT of a page");
	}
	return true;
}
