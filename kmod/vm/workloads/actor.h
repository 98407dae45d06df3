/* SPDX-License-Identifier: GPL-2.0 */
/* Processes that do what they are told, one thing at a time: for targets.c. */
#ifndef ACTOR_H
#define ACTOR_H

#include <sys/types.h>

#define ACTORS 320
#define PAGES 4		/* of one touch */

enum op {
	TOUCH,		/* writes to PAGES new pages at addr */
	THREAD_TOUCH,	/* the same by a thread that begins and ends with it */
	AGAIN,		/* reads them for `number` ms */
	FORK,		/* a child, as actor `number` */
	VFORK_EXEC,	/* a child by vfork() that runs the program `name`, as actor `number` */
	EXEC,		/* runs `name` */
	THREAD_EXEC,	/* the same, but by a thread that is not the leader */
	LEADER_ENDS,	/* another thread carries on */
	RENAME,		/* `name` */
	USER,		/* becomes user `number` */
	END,		/* with exit code `number` */
};

struct order {
	enum op op;
	int number;
	char *addr;
	char name[64];
};

struct reply {
	pid_t pid, tid;		/* of who did it; FORK, VFORK_EXEC: the child's */
};

/* Descriptors of an actor's pipes; they are the same in every process. */
void actors_open(void);
struct reply actor_call(int actor, struct order order);
_Noreturn void actor_play(int actor);
/* A program that EXEC and VFORK_EXEC run: its arguments say who it is. */
_Noreturn void actor_main(char **argv);

_Noreturn void die(const char *what);

#endif
