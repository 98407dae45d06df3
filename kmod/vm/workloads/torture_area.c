// SPDX-License-Identifier: GPL-2.0
/* Torture: areas of memory, and what mmap, munmap, mremap, mprotect and a file's end do to them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "torture.h"

uint64_t word_of(uint64_t seed, size_t page, size_t i)
{
	uint64_t x = seed + (page * WORDS + i) * 0x9e3779b97f4a7c15u;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	return x ^ x >> 27;
}

void check(const struct area *a, size_t page, const char *when)
{
	char what[160];
	size_t i;

	if (!memcmp(a->base + page * PAGE, a->shadow + page * PAGE, PAGE))
		return;
	for (i = 0; i < PAGE && a->base[page * PAGE + i] == a->shadow[page * PAGE + i]; i++)
		;
	if (i == PAGE)
		snprintf(what, sizeof(what), "BYTES differ after %s, and then they do not", when);
	else
		snprintf(what, sizeof(what), "BYTES after %s: byte %zu is %#x instead of %#x", when, i,
			 (unsigned char)a->base[page * PAGE + i], (unsigned char)a->shadow[page * PAGE + i]);
	wrong(what, a, page);
}

void check_all(const struct area *a, const char *when)
{
	size_t i;

	for (i = 0; i < a->pages; i++)
		check(a, i, when);
}

void check_many(struct worker *w, const struct area *a, const char *when)
{
	size_t i;

	if (a->pages <= MANY)
		check_all(a, when);
	else
		for (i = 0; i < MANY; i++)
			check(a, dice(w) % a->pages, when);
}

void writable(struct area *a)
{
	if (a->readonly && mprotect(a->base, a->pages * PAGE, PROT_READ | PROT_WRITE))
		fail("mprotect");
	a->readonly = false;
}

void fill(struct worker *w, struct area *a, size_t page)
{
	volatile uint64_t *to = (uint64_t *)(a->base + page * PAGE);
	uint64_t *copy = (uint64_t *)(a->shadow + page * PAGE);
	bool watched = uffd_is_protected(a, page);
	size_t i;

	writable(a);
	/* The memory first: who answers its fault compares it with the shadow. */
	for (i = dice(w) % 16; i < WORDS; i += 1 + dice(w) % 128) {
		uint64_t value = dice(w) % 8 ? dice(w) : 0;

		to[i] = value;
		copy[i] = value;
	}
	after_write(a, page, watched);
}

void after_write(const struct area *a, size_t page, bool watched)
{
	if (watched && uffd_is_protected(a, page))
		wrong("a write went through although the page was write-protected by userfaultfd", a, page);
}

bool is_shared(const struct area *a)
{
	return a->kind == SHMEM || a->kind == SHARED_FILE || a->kind == UFFD;
}

static void open_file(struct worker *w, struct area *a)
{
	static unsigned long number;
	size_t page, i;

	snprintf(a->path, sizeof(a->path), "%s/area-%d-%lu", dir, getpid(), __atomic_fetch_add(&number, 1, __ATOMIC_RELAXED));
	a->fd = open(a->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (a->fd < 0)
		fail(a->path);
	a->below = dice(w) | 1;
	a->below_pages = a->kind == PRIVATE_FILE ? a->pages : 0;
	for (page = 0; page < a->below_pages; page++) {
		uint64_t *words = (uint64_t *)w->bounce;

		for (i = 0; i < WORDS; i++)
			words[i] = word_of(a->below, page, i);
		if (pwrite(a->fd, words, PAGE, page * PAGE) != PAGE)
			fail("write of a file to map");
	}
	if (ftruncate(a->fd, a->pages * PAGE))
		fail("ftruncate");
}

static void close_file(struct area *a)
{
	if (a->fd >= 0)
		close(a->fd);
	if (a->path[0])
		unlink(a->path);
	a->fd = -1;
	a->path[0] = 0;
}

void revert(struct area *a, size_t from, size_t n)
{
	size_t i;

	for (; n--; from++) {
		uint64_t *words = (uint64_t *)(a->shadow + from * PAGE);

		if (from >= a->below_pages) {
			memset(words, 0, PAGE);
			continue;
		}
		for (i = 0; i < WORDS; i++)
			words[i] = word_of(a->below, from, i);
	}
}

/* Addresses for `pages`, so that the first is at a huge page's beginning. */
static char *aligned(size_t pages)
{
	size_t huge = HUGE_PAGES * PAGE, head;
	char *base = mmap(NULL, pages * PAGE + huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (base == MAP_FAILED)
		fail("mmap");
	head = -(uintptr_t)base & (huge - 1);
	if (head)
		munmap(base, head);
	munmap(base + head + pages * PAGE, huge - head);
	return base + head;
}

static bool map(struct worker *w, struct area *a, bool big)
{
	int flags = a->kind == SHMEM || a->kind == SHARED_FILE ? MAP_SHARED : MAP_PRIVATE;
	void *at = NULL;

	if (a->fd < 0)
		flags |= MAP_ANONYMOUS;
	if (big) {
		at = aligned(a->pages);
		flags |= MAP_FIXED;
	}
	if (dice(w) % 8 == 0)
		flags |= MAP_POPULATE;
	a->base = mmap(at, a->pages * PAGE, PROT_READ | PROT_WRITE, flags, a->fd, 0);
	return a->base != MAP_FAILED;
}

void make_area(struct worker *w, struct area *a, unsigned int slot)
{
	static bool no_files;	/* the file system has no shared mappings (9p without a cache) */
	static const enum kind kinds[AREAS] = { ANON, ANON, ANON, SHMEM, PRIVATE_FILE, SHARED_FILE, UFFD, UFFD };
	bool big = slot == 0 || (slot == 3 && dice(w) % 8 == 0);

	a->slot = slot;
	a->kind = kinds[slot];
	/* A child may be killed any moment: it would leave files behind. */
	if (a->kind >= PRIVATE_FILE && (w->child || (no_files && a->kind != UFFD)))
		a->kind = ANON;
	a->readonly = false;
	a->mergeable = false;
	a->fd = -1;
	a->path[0] = 0;
	a->below_pages = 0;
	a->uffd = NULL;
	a->pages = big ? HUGE_PAGES + dice(w) % (MAX_PAGES - HUGE_PAGES) :
		   a->kind == ANON || a->kind == SHMEM ? 1 + dice(w) % 64 : 1 + dice(w) % FILE_PAGES;
	if (a->kind == PRIVATE_FILE || a->kind == SHARED_FILE)
		open_file(w, a);
	if (!map(w, a, big)) {
		if (a->fd < 0 || (errno != ENODEV && errno != EINVAL))
			fail("mmap");
		no_files = true;
		close_file(a);
		make_area(w, a, slot);
		return;
	}
	revert(a, 0, a->pages);
	if (big && dice(w) % 4)
		madvise(a->base, a->pages * PAGE, MADV_HUGEPAGE);
	if (a->kind == UFFD && !uffd_begin(w, a))
		a->kind = ANON;
}

void end_area(struct area *a)
{
	if (a->uffd)
		uffd_end(a);
	if (munmap(a->base, a->pages * PAGE))
		fail("munmap");
	close_file(a);
}

OPERATION(remap)
{
	check_many(w, a, "a while");
	end_area(a);
	make_area(w, a, a->slot);
	return true;
}

/* mremap() moves one mapping: what madvise() or mlock() has cut stays where it is. */
static char *try_mremap(struct area *a, size_t pages, int flags, void *to)
{
	char *base = mremap(a->base, a->pages * PAGE, pages * PAGE, flags, to);

	if (base == MAP_FAILED && errno != EFAULT && errno != EINVAL)
		fail("mremap");
	return base == MAP_FAILED ? NULL : base;
}

OPERATION(resize)
{
	size_t pages = 1 + dice(w) % 128;
	char *base;

	if (a->kind != ANON || a->slot == 0)	/* the others' objects have the size they were made with */
		return false;
	writable(a);
	base = try_mremap(a, pages, MREMAP_MAYMOVE, NULL);
	if (!base)
		return false;
	a->base = base;
	if (pages > a->pages)
		revert(a, a->pages, pages - a->pages);
	a->pages = pages;
	return true;
}

OPERATION(move)
{
	char *to, *base;

	if (a->kind == UFFD)	/* it would lose its handler */
		return false;
	to = dice(w) % 2 ? aligned(a->pages) :
	     mmap(NULL, a->pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (to == MAP_FAILED)
		fail("mmap");
	base = try_mremap(a, a->pages, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	if (!base)	/* `to` may be unmapped by now, and be another thread's: it stays as it is */
		return false;
	a->base = base;
	return true;
}

OPERATION(leave)
{
	char *old = a->base, *base;
	size_t i;

	if (a->kind != ANON || a->readonly)
		return false;
	base = try_mremap(a, a->pages, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	if (!base)
		return false;
	a->base = base;
	for (i = 0; i < a->pages; i++)
		if (old[i * PAGE + dice(w) % PAGE])
			wrong("what mremap() left behind is not empty", a, i);
	if (munmap(old, a->pages * PAGE))
		fail("munmap of what mremap() left behind");
	return true;
}

OPERATION(alias)
{
	struct area other = *a;
	size_t page = dice(w) % a->pages;

	if (a->kind != SHMEM && a->kind != SHARED_FILE)
		return false;
	other.base = mremap(a->base, 0, a->pages * PAGE, MREMAP_MAYMOVE);
	if (other.base == MAP_FAILED)
		return false;
	check_all(&other, "mapping it twice");
	fill(w, &other, page);
	check(a, page, "a write to its other mapping");
	munmap(other.base, a->pages * PAGE);
	return true;
}

/* Through the kernel, which gives an error where the program would die. */
static bool may_read(struct worker *w, const char *at)
{
	char byte;

	if (write(w->pipe[1], at, 1) != 1)
		return false;
	if (read(w->pipe[0], &byte, 1) != 1)
		fail("read of a pipe");
	return true;
}

static bool may_write(struct worker *w, char *at)
{
	char byte = *at;
	bool may;

	if (write(w->pipe[1], &byte, 1) != 1)
		fail("write to a pipe");
	may = read(w->pipe[0], at, 1) == 1;
	if (!may && read(w->pipe[0], &byte, 1) != 1)
		fail("read of a pipe");
	return may;
}

OPERATION(readonly)
{
	size_t page = dice(w) % a->pages;

	if (mprotect(a->base, a->pages * PAGE, PROT_READ))
		fail("mprotect");
	a->readonly = true;
	if (may_write(w, a->base + page * PAGE))
		wrong("read-only memory was written to", a, page);
	return true;
}

OPERATION(noaccess)
{
	size_t page = dice(w) % a->pages;

	if (mprotect(a->base, a->pages * PAGE, PROT_NONE))
		fail("mprotect");
	if (may_read(w, a->base + page * PAGE))
		wrong("memory without access was read", a, page);
	if (mprotect(a->base, a->pages * PAGE, PROT_READ | PROT_WRITE))
		fail("mprotect");
	a->readonly = false;
	return true;
}

/* What a file's end cuts off is empty when the file has its old size again. */
OPERATION(truncate)
{
	size_t pages = dice(w) % (a->pages + 1);

	if (a->kind != PRIVATE_FILE && a->kind != SHARED_FILE)
		return false;
	if (ftruncate(a->fd, pages * PAGE)) {
		if (errno == ENOENT)	/* 9p cannot, once the file has no name any more */
			return false;
		fail("ftruncate");
	}
	if (pages < a->pages && may_read(w, a->base + pages * PAGE))
		wrong("memory behind the end of its file was read", a, pages);
	if (ftruncate(a->fd, a->pages * PAGE))
		fail("ftruncate");
	if (a->below_pages > pages)
		a->below_pages = pages;
	revert(a, pages, a->pages - pages);
	return true;
}

OPERATION(unlink)
{
	(void)w;
	if (!a->path[0] || unlink(a->path))
		return false;
	a->path[0] = 0;
	return true;
}

/* What was written to the mapping is what read() gives. */
OPERATION(sync)
{
	size_t page = dice(w) % a->pages;

	if (a->kind != SHARED_FILE)
		return false;
	if (msync(a->base, a->pages * PAGE, dice(w) % 2 ? MS_SYNC : MS_ASYNC))
		fail("msync");
	if (pread(a->fd, w->bounce, PAGE, page * PAGE) != PAGE)
		fail("read of a mapped file");
	if (memcmp(w->bounce, a->shadow + page * PAGE, PAGE))
		wrong("read() of a mapped file gives something else", a, page);
	return true;
}

/* Private memory of /dev/zero is anonymous, though it has a file; then memory without one takes its place. */
OPERATION(dev_zero)
{
	size_t i, k;
	int fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	/* Its neighbours are of another kind: it stays a mapping of its own. */
	char *all = mmap(NULL, 6 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *at = all + PAGE;

	if (fd < 0 || all == MAP_FAILED)
		fail("/dev/zero");
	for (k = 0; k < 2; k++) {
		if (mmap(at, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | (k ? MAP_ANONYMOUS : 0),
			 k ? -1 : fd, 0) != at)
			fail("mmap");
		for (i = 0; i < 4; i++) {
			volatile char *byte = at + i * PAGE + dice(w) % PAGE;

			if (*byte)
				wrong("new memory is not empty (the area is innocent)", a, 0);
			*byte = 1;
			if (*byte != 1)
				wrong("new memory forgets (the area is innocent)", a, 0);
		}
	}
	munmap(all, 6 * PAGE);
	close(fd);
	return true;
}

OPERATION(mlock)
{
	size_t from = dice(w) % a->pages, n = 1 + dice(w) % (a->pages - from);

	/* A debug kernel warns of mprotect() of what is locked and watched: it cannot ask for each page then. */
	if (a->uffd)
		return false;
	if (n > 128)
		n = 128;
	if (mlock2(a->base + from * PAGE, n * PAGE, dice(w) % 2 ? MLOCK_ONFAULT : 0)) {
		munlock(a->base + from * PAGE, n * PAGE);	/* no memory: some may be locked */
		return false;
	}
	fill(w, a, from + dice(w) % n);
	check(a, from + dice(w) % n, "mlock");
	if (munlock(a->base + from * PAGE, n * PAGE))
		fail("munlock");
	return true;
}
