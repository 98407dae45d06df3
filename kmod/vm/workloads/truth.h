/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the programs of the truth test share: memory regions whose every touch is
 * logged with the time before and after it, and whose contents are compared with
 * a shadow copy at the end.
 *
 * The log is the truth that ../truth/check.py holds a recording against. One
 * line a fact, times in ns of CLOCK_MONOTONIC:
 *
 *   process PID PPID COMM EXE           what this process is
 *   fork PARENT CHILD T0 T1             around the fork, seen by the parent
 *   exit PID STATUS                     as wait() gave it
 *   region PID ID KIND BASE PAGES FILEPAGE INHERITED PATH
 *                                       KIND: anon heap stack shmem shared private (the last two: of a file)
 *                                       FILEPAGE: page of the file at BASE; INHERITED: 1 by fork; PATH: - for none
 *   touch TID ID PAGE ACCESS T0 T1      PAGE counts from the region's beginning; ACCESS: r w x, or
 *                                       m: no touch, but mprotect() made the page present again
 *   lookup TID PAGE T0 T1 PATH          a page of a file that one read() asked for
 *   object DELETED PATH                 how the file must end up in the table of objects
 *   major PID ID PAGE YES               the page's first touch needed I/O, or not
 *   retouches PID N                     so many required re-references are the least, or the test proved nothing
 *   end PID TIME WRONG                  the process got here; WRONG: bytes that differed
 *
 * A process writes its lines with one write() at its end. Names hold no blanks.
 */
#ifndef TRUTH_H
#define TRUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE 4096UL
#define WORDS (PAGE / sizeof(uint64_t))

enum kind { ANON, HEAP, STACK, SHMEM, SHARED, PRIVATE };

struct region {
	int id;
	enum kind kind;
	bool inherited;
	char *base;
	char *shadow;		/* what every byte must be */
	size_t pages;
	size_t file_page;
	char path[128];
};

/* Opens the truth: `file` gets the lines; `period_ms` is the cleaner's. */
void truth_open(const char *file, unsigned int period_ms);
/* Every thread but the main one, before its first touch. */
void truth_thread(void);
/* Writes the lines of this process; returns how many bytes or words were wrong. */
long truth_close(void);
void die(const char *what);
uint64_t now_ns(void);

/* Sleeps until a whole pass of the cleaner came by, as far as one can see from here. */
void settle(void);
/* The test expects at least n re-references in all that must have been recorded. */
void expect_retouches(size_t n);

struct region *region_anon(size_t pages);
/* MAP_SHARED | MAP_ANONYMOUS */
struct region *region_shmem(size_t pages);
/* Memory that the caller owns (heap, stack): its contents are the shadow from now on. */
struct region *region_at(enum kind kind, void *base, size_t pages);
/* Pages of a file made by file_make(), from file_page on. */
struct region *region_file(enum kind kind, const char *path, size_t file_page, size_t pages);
/* Fills the pages with one `ret` each and makes them executable. */
struct region *region_code(size_t pages);

void touch_read(struct region *r, size_t page);
void touch_write(struct region *r, size_t page);
void touch_exec(struct region *r, size_t page);
/* The kernel touches them: read() into the region, write() from it. */
void touch_by_read(struct region *r, size_t page, size_t pages, int fd, size_t file_page);
void touch_by_write(struct region *r, size_t page, size_t pages, int fd);
/* Reads every page and compares all of it. */
void verify(struct region *r);

/* A file of `pages` pages of known contents, under its name and as a path relative to `dir`. */
void file_make(const char *path, size_t pages);
uint64_t file_word(size_t page, size_t word);
/* pread() through the page cache, its pages logged and its contents checked. */
void lookup(int fd, const char *path, size_t offset, size_t len);
/* Reads a page for the first time, and notes whether it was in memory. No read-ahead. */
void touch_cold(struct region *r, size_t page);
void object_deleted(const char *path, bool deleted);

/* fork() that keeps the truth of both. In the child the log starts empty. */
int truth_fork(void);
/* Waits; logs the exit; dies unless `code` was the exit code. */
void truth_wait(int pid, int code);

#endif
