/*
 * Stands between a program and the C library (LD_PRELOAD) and counts the calls that change files: opening to create,
 * write, link, rename, unlink, mkdir, rmdir, ftruncate. At call number SHIM_AT it does what SHIM_DO says:
 *
 *   kill   SIGKILL before the call
 *   half   SIGKILL after half of it: of a write the first half reaches the file, another call is made whole
 *   full   this one and all later calls that need room fail, ENOSPC; half of the first write still fits
 *
 * SHIM_COUNT names a file that gets the number of calls when the program ends by itself.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum deed { NOTHING, KILL, HALF, FULL };

static atomic_long calls;
static long at;
static enum deed deed;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void)
{
	const char *what = getenv("SHIM_DO");
	const char *when = getenv("SHIM_AT");

	at = when ? atol(when) : 0;
	if (what)
		deed = !strcmp(what, "kill") ? KILL : !strcmp(what, "half") ? HALF : FULL;
}

__attribute__((destructor)) static void end(void)
{
	const char *path = getenv("SHIM_COUNT");
	char text[32];
	int fd = path ? REAL(open)(path, O_CREAT | O_TRUNC | O_WRONLY, 0600) : -1;

	if (fd >= 0) {
		int len = snprintf(text, sizeof(text), "%ld\n", calls);

		if (REAL(write)(fd, text, len) != len)
			abort();
		close(fd);
	}
}

static void die(void)
{
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

/* Counts a call; 1: the disk is full, 2: die behind it. */
static int step(int needs_room)
{
	long n = atomic_fetch_add(&calls, 1) + 1;

	if (at == 0 || n < at)
		return 0;
	if (deed == FULL && needs_room)
		return 1;
	if (n > at)
		return 0;
	if (deed == KILL)
		die();
	return deed == HALF ? 2 : 0;
}

#define CALL(room, failed, expr)                       \
	do {                                           \
		int now = step(room);                  \
		if (now == 1) {                        \
			errno = ENOSPC;                \
			return failed;                 \
		}                                      \
		__typeof__(expr) result = (expr);      \
		if (now == 2)                          \
			die();                         \
		return result;                         \
	} while (0)

static int opened(const char *name, int dir, const char *path, int flags, mode_t mode)
{
	int (*real)(int, const char *, int, ...) = dlsym(RTLD_NEXT, name);

	if (!(flags & (O_CREAT | O_TRUNC)))
		return real(dir, path, flags, mode);
	CALL(1, -1, real(dir, path, flags, mode));
}

#define MODE(flags)                                             \
	({                                                      \
		mode_t mode = 0;                                \
		if ((flags) & O_CREAT) {                        \
			va_list list;                           \
			va_start(list, flags);                  \
			mode = va_arg(list, mode_t);            \
			va_end(list);                           \
		}                                               \
		mode;                                           \
	})

int open(const char *path, int flags, ...) { return opened("openat", AT_FDCWD, path, flags, MODE(flags)); }
int open64(const char *path, int flags, ...) { return opened("openat64", AT_FDCWD, path, flags, MODE(flags)); }
int openat(int dir, const char *path, int flags, ...) { return opened("openat", dir, path, flags, MODE(flags)); }
int openat64(int dir, const char *path, int flags, ...) { return opened("openat64", dir, path, flags, MODE(flags)); }

ssize_t write(int fd, const void *bytes, size_t len)
{
	struct stat st;
	int now;

	/* Words on stderr and wake-ups of a runtime change no file. */
	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		return REAL(write)(fd, bytes, len);
	now = step(1);
	if (now == 1 && calls == at && len > 1)
		return REAL(write)(fd, bytes, len / 2);
	if (now == 1) {
		errno = ENOSPC;
		return -1;
	}
	if (now == 2) {
		if (REAL(write)(fd, bytes, len / 2) >= 0)
			die();
	}
	return REAL(write)(fd, bytes, len);
}

int link(const char *from, const char *to) { CALL(1, -1, REAL(link)(from, to)); }
int linkat(int a, const char *from, int b, const char *to, int flags) { CALL(1, -1, REAL(linkat)(a, from, b, to, flags)); }
int rename(const char *from, const char *to) { CALL(1, -1, REAL(rename)(from, to)); }
int renameat(int a, const char *from, int b, const char *to) { CALL(1, -1, REAL(renameat)(a, from, b, to)); }
int unlink(const char *path) { CALL(0, -1, REAL(unlink)(path)); }
int unlinkat(int dir, const char *path, int flags) { CALL(0, -1, REAL(unlinkat)(dir, path, flags)); }
int rmdir(const char *path) { CALL(0, -1, REAL(rmdir)(path)); }
int mkdir(const char *path, mode_t mode) { CALL(1, -1, REAL(mkdir)(path, mode)); }
int ftruncate(int fd, off_t len) { CALL(1, -1, REAL(ftruncate)(fd, len)); }
int ftruncate64(int fd, off_t len) { CALL(1, -1, REAL(ftruncate64)(fd, len)); }
