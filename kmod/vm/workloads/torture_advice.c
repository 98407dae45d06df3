// SPDX-License-Identifier: GPL-2.0
/* Torture: madvise(). What it throws away, the shadow throws away; all other advice changes no byte. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>

#include "torture.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* Some of an area's pages. */
static size_t part(struct worker *w, const struct area *a, size_t *n)
{
	size_t from = dice(w) % a->pages;

	*n = 1 + dice(w) % (a->pages - from);
	return from;
}

static bool advise(struct worker *w, struct area *a, int advice)
{
	size_t n, from = part(w, a, &n);

	return !madvise(a->base + from * PAGE, n * PAGE, advice);
}

OPERATION(dontneed)
{
	size_t n, from = part(w, a, &n);

	if (madvise(a->base + from * PAGE, n * PAGE, MADV_DONTNEED))
		fail("MADV_DONTNEED");
	if (a->kind == ANON || a->kind == PRIVATE_FILE)
		revert(a, from, n);
	if (a->uffd)
		uffd_forgotten(a, from, n);
	return true;
}

/*
 * Until the next write a page may be its old self or empty; after it, what it was then plus the write.
 *
 * Not where KSM may have been, and not by a child of fork: Linux loses the memory of others then, see lazyfree.c.
 */
OPERATION(free)
{
	size_t n, from = part(w, a, &n), i;

	if (a->kind != ANON || a->mergeable)
		return false;
	writable(a);
	if (madvise(a->base + from * PAGE, n * PAGE, MADV_FREE))
		fail("MADV_FREE");
	if (dice(w) % 2)
		madvise(a->base + from * PAGE, n * PAGE, MADV_PAGEOUT);
	for (; n--; from++) {
		volatile uint64_t *words = (uint64_t *)(a->base + from * PAGE);
		uint64_t *copy = (uint64_t *)(a->shadow + from * PAGE), value = dice(w);
		size_t at = dice(w) % WORDS;
		bool empty = true;

		words[at] = value;
		for (i = 0; i < WORDS; i++)
			empty = empty && (i == at || !words[i]);
		if (empty)
			memset(copy, 0, PAGE);
		copy[at] = value;
		check(a, from, "MADV_FREE");
	}
	return true;
}

OPERATION(remove)
{
	size_t n, from = part(w, a, &n);

	if ((a->kind != SHMEM && a->kind != SHARED_FILE) || a->readonly ||
	    madvise(a->base + from * PAGE, n * PAGE, MADV_REMOVE))
		return false;	/* a file system that cannot make holes */
	memset(a->shadow + from * PAGE, 0, n * PAGE);
	return true;
}

OPERATION(cold) { return advise(w, a, MADV_COLD); }
OPERATION(pageout) { return advise(w, a, MADV_PAGEOUT); }
OPERATION(willneed) { return advise(w, a, MADV_WILLNEED); }
OPERATION(nohugepage) { return advise(w, a, MADV_NOHUGEPAGE); }

OPERATION(populate)
{
	return advise(w, a, a->readonly || dice(w) % 2 ? MADV_POPULATE_READ : MADV_POPULATE_WRITE);
}

OPERATION(mergeable)
{
	/* Merging write-protects pages behind userfaultfd's back. */
	if (a->uffd)
		return false;
	a->mergeable = true;
	return advise(w, a, dice(w) % 4 ? MADV_MERGEABLE : MADV_UNMERGEABLE);
}

OPERATION(hugepage)
{
	(void)w;
	return !madvise(a->base, a->pages * PAGE, MADV_HUGEPAGE);
}

OPERATION(collapse)
{
	size_t head = (-(uintptr_t)a->base & (HUGE_PAGES * PAGE - 1)) / PAGE;

	if (head + HUGE_PAGES > a->pages)
		return false;
	/* It must lie in one mapping: what split that is taken back, as far as it goes. */
	if (a->kind == ANON) {
		writable(a);
		munlock(a->base, a->pages * PAGE);
		madvise(a->base, a->pages * PAGE, MADV_UNMERGEABLE);
		madvise(a->base, a->pages * PAGE, MADV_HUGEPAGE);
		fill(w, a, head);
	}
	return !madvise(a->base + head * PAGE, HUGE_PAGES * PAGE, MADV_COLLAPSE);
}
