// SPDX-License-Identifier: GPL-2.0
/*
 * Life of processes, from the scheduler's tracepoints: when a process is looked at,
 * because its reasons to be traced may have changed.
 *
 *   start, or a new target   everyone there is; a target taken back: everyone traced
 *   fork     the child has its parent's reasons (if forks are followed) and its own
 *   exec     it may have another name and user; unless execs are followed, its
 *            parent's reasons do not count any more
 *   rename, move to a cgroup   it may get a reason; it may lose it only where nothing
 *            is followed, that is where targets tell exactly who is traced
 *   fault    its user, for which there is no event
 *
 * The hooks of rename and of moves run under locks of the kernel and with
 * interrupts off.
 */
#include <linux/sched/coredump.h>
#include <linux/sched/signal.h>

#include "pgtrace.h"

/*
 * A thread that is not in the table: of a traced process, but it came another
 * way than fork (io_uring workers); or of a process that is found at its fault.
 */
static noinline struct pgt_thread *late(struct task_struct *task)
{
	struct pgt_thread *t = pgt_thread_find(task->group_leader);

	if (t)
		return pgt_thread_add(t->proc, task);
	if (!READ_ONCE(pgt_seek) || !task->mm || task->flags & (PF_EXITING | PF_KTHREAD) ||
	    !pgt_wanted_user(task))
		return NULL;
	rcu_read_lock();
	t = pgt_take_in(task, &(struct pgt_entry){});
	rcu_read_unlock();
	return t;
}

/*
 * The entry of the current thread, NULL if it is not traced. Called for every
 * fault in the system: the way to "no" is short.
 */
struct pgt_thread *pgt_thread_current(void)
{
	struct task_struct *task = current;
	struct pgt_thread *t = pgt_thread_find(task);

	if (t || (task->group_leader == task && !READ_ONCE(pgt_seek)))
		return t;
	return late(task);
}

/* --- life of processes: from tracepoints, preemption is off --- */

void pgt_on_fork(struct task_struct *parent, struct task_struct *child)
{
	struct pgt_thread *t = pgt_thread_find(parent);
	struct pgt_entry entry = {};

	if (child->tgid == parent->tgid) {
		if (t)
			pgt_thread_add(t->proc, child);
		return;
	}
	rcu_read_lock();
	if (t) {
		entry.parent = t->proc;
		entry.follow = READ_ONCE(pgt_follow) != PGT_FOLLOW_NONE;
	}
	if (!pgt_take_in(child, &entry) && t)
		pgt_space_born(t->proc, child);
	rcu_read_unlock();
}

/* A non-leader that executes has become the leader by now; its task stays the same. */
void pgt_on_exec(struct task_struct *task)
{
	struct pgt_thread *t = pgt_thread_find(task);
	struct pgt_proc *proc;

	rcu_read_lock();
	if (!t) {
		if (!pgt_take_in(task, &(struct pgt_entry){}) && pgt_space_owed(task))
			clear_bit(MMF_DISABLE_THP, &task->mm->flags);
		goto out;
	}
	proc = t->proc;
	if (pgt_reconsider(proc, READ_ONCE(pgt_follow) != PGT_FOLLOW_EXEC, PGT_PROCESS_EXECED)) {
		pgt_space_of(proc, task->mm);
		if (pgt_has_news(proc, PGT_PROCESS_EXECED))
			pgt_announce_process(proc, task, PGT_PROCESS_EXECED);
	} else {
		pgt_space_execed(proc);
	}
out:
	rcu_read_unlock();
}

/*
 * Before the name changes, and under the lock of the task. During exec the exec
 * hook will do the rest, but its faults until then are the new program's.
 */
void pgt_on_rename(struct task_struct *task, const char *comm)
{
	struct pgt_thread *t = pgt_thread_find(task);

	if (task != task->group_leader)
		return;		/* the name of a thread */
	rcu_read_lock();
	if (!t) {
		pgt_take_in(task, &(struct pgt_entry){ .comm = comm, .quiet = true });
	} else if (!task->in_execve) {
		pgt_add_reasons(t->proc, task, comm);
		pgt_has_news(t->proc, READ_ONCE(t->proc->named) ? 0 : t->proc->how);
		WRITE_ONCE(t->proc->moved, true);
		pgt_settle_soon();
	}
	rcu_read_unlock();
}

/* It is in another cgroup by now. Interrupts are off. */
void pgt_on_move(struct task_struct *task)
{
	struct pgt_thread *t = pgt_thread_find(task);

	rcu_read_lock();
	if (!t) {
		pgt_take_in(task, &(struct pgt_entry){ .quiet = true });
	} else {
		pgt_add_reasons(t->proc, task, NULL);
		WRITE_ONCE(t->proc->moved, true);
		pgt_settle_soon();
	}
	rcu_read_unlock();
}

void pgt_on_exit(struct task_struct *task)
{
	struct pgt_proc *proc;

	pgt_space_owed(task);
	rcu_read_lock();
	proc = pgt_thread_remove(task);
	if (proc) {
		struct pgt_exit rec = {
			.tgid = task->tgid,
			.code = task->signal->flags & SIGNAL_GROUP_EXIT ?
				task->signal->group_exit_code : task->exit_code,
		};

		/* It does not come again: if there is no room for its name now, it is lost. */
		if (!proc->named && !pgt_announce_process(proc, task, proc->how))
			pgt_count_lost(PGT_NAMES);
		pgt_emit(PGT_NAMES, &rec, PGT_KIND_EXIT, 0, sizeof(rec), true);
		pgt_proc_forget(proc);
	}
	rcu_read_unlock();
}
