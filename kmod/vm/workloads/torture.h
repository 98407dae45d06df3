/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of torture share: areas of memory with a shadow that says what they must hold. */
#ifndef TORTURE_H
#define TORTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE 4096UL
#define WORDS (PAGE / sizeof(uint64_t))
#define HUGE_PAGES 512UL	/* base pages of a huge page */
#define MAX_PAGES 1100	/* more than one page table, and room for a whole huge page */
#define FILE_PAGES 96	/* of an area that a file backs */
#define BOUNCE_PAGES 64
#define MANY 100
#define AREAS 8

enum kind { ANON, SHMEM, PRIVATE_FILE, SHARED_FILE, UFFD };

struct uffd;

/* Memory that one thread owns: only it writes here, so it knows what must be in it. */
struct area {
	enum kind kind;
	unsigned int slot;	/* tells what it shall be again after munmap */
	char *base, *shadow;	/* shadow: MAX_PAGES pages, mapped once */
	size_t pages;
	bool readonly;
	bool mergeable;		/* it was, since it was made */
	int fd;			/* of the files, else -1 */
	uint64_t below;		/* what a private file's first below_pages hold: see word_of() */
	size_t below_pages;
	struct uffd *uffd;
	char path[200];		/* of a file that still has its name, else empty */
};

struct worker {
	struct area areas[AREAS];
	uint64_t state;
	int file;		/* for read() and write() */
	bool direct;		/* it was opened with O_DIRECT */
	bool child;		/* a copy made by fork: what is shared belongs to the parent */
	int pipe[2];
	char *bounce;
	unsigned long *done;	/* by operation, see torture.c */
	unsigned char deck[200];	/* operations to come */
	size_t cards;
	unsigned long decks;	/* begun */
};

/* torture.c */
extern const char *dir;
extern const char *self;	/* path of this program */
uint64_t dice(struct worker *w);
double now(void);
/* Says what went wrong, with errno, and ends the process with code 1. */
void fail(const char *what);
void wrong(const char *what, const struct area *a, size_t page);
/* A thread's worker with its areas; ends the process when there is no memory. */
struct worker *new_worker(uint64_t seed);
void own_pipe(struct worker *w);

/* torture_area.c */
/* The word at place i of page `page` of what `seed` stands for. */
uint64_t word_of(uint64_t seed, size_t page, size_t i);
/* Each slot of a worker has its kind; slot 0 is big enough for a huge page. */
void make_area(struct worker *w, struct area *a, unsigned int slot);
/* A child that must not outlive its parent. */
void die_with_parent(void);
void end_area(struct area *a);
void check(const struct area *a, size_t page, const char *when);
void check_all(const struct area *a, const char *when);
void check_many(struct worker *w, const struct area *a, const char *when);	/* of a big one, MANY pages */
void writable(struct area *a);
/* Writes some words of a page, here and in the shadow. */
void fill(struct worker *w, struct area *a, size_t page);
/* After a write to a page: did userfaultfd see it, if the page was protected before? */
void after_write(const struct area *a, size_t page, bool watched);
/* The shadow of pages that nobody wrote to: the file's content, or nothing. */
void revert(struct area *a, size_t from, size_t n);
/* Is it another process's memory, too, or is it handled by a thread of the parent? */
bool is_shared(const struct area *a);

/* torture_uffd.c: faults answered by a thread of ours, out of the shadow */
bool uffd_begin(struct worker *w, struct area *a);	/* false: the kernel has none of it */
void uffd_end(struct area *a);
void uffd_forgotten(struct area *a, size_t from, size_t n);
bool uffd_is_protected(const struct area *a, size_t page);

/*
 * The operations: true if the kernel did it; false if it does not apply to this
 * area, or may be refused. What must not fail ends the process.
 */
#define OPERATION(name) bool op_##name(struct worker *w, struct area *a)
/* torture_area.c */
OPERATION(remap);	/* munmap, and another area in its place */
OPERATION(resize);
OPERATION(move);
OPERATION(leave);	/* MREMAP_DONTUNMAP */
OPERATION(dev_zero);	/* anonymous memory that has a file */
OPERATION(alias);	/* a second mapping of shared memory */
OPERATION(readonly);
OPERATION(noaccess);
OPERATION(truncate);
OPERATION(unlink);
OPERATION(sync);
OPERATION(mlock);
/* torture_advice.c */
OPERATION(dontneed);
OPERATION(free);
OPERATION(remove);
OPERATION(cold);
OPERATION(pageout);
OPERATION(willneed);
OPERATION(populate);
OPERATION(mergeable);
OPERATION(hugepage);
OPERATION(collapse);
OPERATION(nohugepage);
/* torture_io.c */
OPERATION(file_io);
OPERATION(vm_readv);
OPERATION(vm_writev);
OPERATION(proc_mem);
OPERATION(vmsplice);
OPERATION(stack);
/* torture_proc.c */
OPERATION(fork);
OPERATION(remote);	/* another process's memory by process_vm_readv and _writev */
OPERATION(spawn);	/* exec out of vfork */
OPERATION(thread_exec);	/* exec by a thread that is not the first */
OPERATION(kill);
OPERATION(exit);	/* of a process whose threads are busy */
OPERATION(thread);	/* a thread that comes and goes */
/* torture_uffd.c */
OPERATION(protect);	/* UFFDIO_WRITEPROTECT */

/* torture_proc.c: what this program does after exec; its exit code */
int after_exec(int argc, char **argv);
/* torture.c: random operations that are safe in a child, until it is killed. */
void operate_for_ever(struct worker *w);

#endif /* TORTURE_H */
