// SPDX-License-Identifier: GPL-2.0
/*
 * Who is traced: processes by pid, and every process of a uid, with all that
 * they fork. The hook finds a thread by its task in one hash look-up; threads
 * enter the table when their process is attached or forks, and leave it when
 * they exit. One lock for all changes; readers use RCU.
 */
#include <linux/cred.h>
#include <linux/hash.h>
#include <linux/rculist.h>
#include <linux/sched/coredump.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "pgtrace.h"

#define THREAD_BITS 10
#define MAX_PIDS 256
#define MAX_UIDS 64

static struct hlist_head threads[1 << THREAD_BITS];
static LIST_HEAD(procs);
static int n_procs;
static DEFINE_SPINLOCK(lock);

/* What was asked for; changed only while nothing is recorded. */
static struct pid *pids[MAX_PIDS];
static int n_pids;
static u32 uids[MAX_UIDS];
static int n_uids;

int pgt_target_pid(pid_t nr)
{
	struct task_struct *task;
	struct pid *pid;

	if (n_pids == MAX_PIDS)
		return -ENOSPC;
	pid = find_get_pid(nr);
	task = pid ? get_pid_task(pid, PIDTYPE_TGID) : NULL;
	if (!task) {
		put_pid(pid);
		return -ESRCH;
	}
	put_task_struct(task);
	pids[n_pids++] = pid;
	return 0;
}

int pgt_target_uid(u32 uid)
{
	if (n_uids == MAX_UIDS)
		return -ENOSPC;
	uids[n_uids++] = uid;
	return 0;
}

void pgt_targets_clear(void)
{
	while (n_pids)
		put_pid(pids[--n_pids]);
	n_uids = 0;
}

static bool uid_wanted(const struct task_struct *task)
{
	u32 uid = from_kuid(&init_user_ns, task_uid(task));
	int i;

	for (i = 0; i < n_uids; i++)
		if (uids[i] == uid)
			return true;
	return false;
}

static struct pgt_thread *find_thread(const struct task_struct *task)
{
	struct pgt_thread *t;

	hlist_for_each_entry_rcu(t, &threads[hash_ptr(task, THREAD_BITS)], node, true)
		if (t->task == task)
			return t;
	return NULL;
}

struct pgt_thread *pgt_thread_find(const struct task_struct *task)
{
	return find_thread(task);
}

/* --- address spaces --- */

static struct pgt_space *new_space(struct pgt_proc *proc, struct mm_struct *mm)
{
	struct pgt_space *space = kzalloc(sizeof(*space), GFP_ATOMIC | __GFP_NOWARN);

	if (!space)
		return NULL;
	space->mm = mm;
	refcount_set(&space->users, 1);
	mutex_init(&space->own);
	/*
	 * First touches are wanted page by page. Children and later images of
	 * the process inherit the flag; pgt_targets_release() takes it back.
	 */
	if (!pgt_set.grain && !test_and_set_bit(MMF_DISABLE_THP, &mm->flags))
		proc->thp_disabled = true;
	return space;
}

static void free_space_rcu(struct rcu_head *rcu)
{
	struct pgt_space *space = container_of(rcu, struct pgt_space, rcu);

	pgt_fifo_free(space);
	kfree(space);
}

void pgt_space_put(struct pgt_space *space)
{
	if (space && refcount_dec_and_test(&space->users))
		call_rcu(&space->rcu, free_space_rcu);
}

/*
 * The space of `proc`, which runs on `mm` now: a new one when exec changed it.
 * The caller runs on that mm or otherwise keeps it. NULL: no memory.
 */
struct pgt_space *pgt_space_of(struct pgt_proc *proc, struct mm_struct *mm)
{
	struct pgt_space *space = rcu_dereference_check(proc->space, true);
	struct pgt_space *fresh;

	if (likely(space && space->mm == mm))
		return space;
	fresh = new_space(proc, mm);
	if (!fresh)
		return NULL;
	spin_lock(&lock);
	space = rcu_dereference_protected(proc->space, lockdep_is_held(&lock));
	if (!space || space->mm != mm) {	/* unless another thread was first */
		rcu_assign_pointer(proc->space, fresh);
		swap(space, fresh);
	}
	spin_unlock(&lock);
	pgt_space_put(fresh);
	return space;
}

/* --- processes and threads; the lock is held where a name begins with __ --- */

static struct pgt_proc *new_proc(struct task_struct *task)
{
	struct pgt_proc *proc = kzalloc(sizeof(*proc), GFP_ATOMIC | __GFP_NOWARN);

	if (!proc)
		return NULL;
	proc->tgid = task->tgid;
	proc->pid = get_pid(task_tgid(task));
	return proc;
}

static void free_proc_rcu(struct rcu_head *rcu)
{
	struct pgt_proc *proc = container_of(rcu, struct pgt_proc, rcu);

	put_pid(proc->pid);
	kfree(proc);
}

static void __drop_proc(struct pgt_proc *proc)
{
	struct pgt_space *space = rcu_dereference_protected(proc->space, true);

	list_del(&proc->list);
	proc->gone = true;
	n_procs--;
	pgt_space_put(space);
	call_rcu(&proc->rcu, free_proc_rcu);
}

static struct pgt_thread *__add_thread(struct pgt_proc *proc, struct task_struct *task)
{
	struct pgt_thread *t = find_thread(task);

	if (t)
		return t;
	if (task->flags & PF_EXITING)
		return NULL;	/* its exit may have passed already: nobody would remove it */
	t = kzalloc(sizeof(*t), GFP_ATOMIC | __GFP_NOWARN);
	if (!t)
		return NULL;
	t->task = task;
	t->proc = proc;
	proc->threads++;
	hlist_add_head_rcu(&t->node, &threads[hash_ptr(task, THREAD_BITS)]);
	return t;
}

/*
 * Takes a thread group in: a child of `parent` (NULL: it existed before), on
 * `share`, the parent's space, if they run on the same one (CLONE_VM). Returns
 * the entry of `task`; NULL: no memory, or it ends.
 */
static struct pgt_thread *attach(struct task_struct *task, struct pgt_proc *parent,
				 struct pgt_space *share)
{
	struct pgt_proc *proc, *fresh = new_proc(task);
	struct pgt_thread *t, *mine;
	struct task_struct *other;

	if (!fresh)
		return NULL;
	/* The copied mm carries the parent's flag: it is ours to take back there too. */
	fresh->thp_disabled = parent && parent->thp_disabled;
	spin_lock(&lock);
	/* Somebody may have been first: a thread of the group that is known tells. */
	proc = fresh;
	rcu_read_lock();
	for_each_thread(task, other) {
		t = find_thread(other);
		if (t) {
			proc = t->proc;
			break;
		}
	}
	if (proc == fresh) {
		if (share) {
			refcount_inc(&share->users);
			rcu_assign_pointer(proc->space, share);
		}
		list_add_tail(&proc->list, &procs);
		n_procs++;
		for_each_thread(task, other)
			__add_thread(proc, other);
	}
	mine = __add_thread(proc, task);
	rcu_read_unlock();
	if (proc == fresh && !proc->threads) {
		__drop_proc(proc);
		fresh = NULL;
	}
	spin_unlock(&lock);
	if (proc != fresh && fresh) {
		put_pid(fresh->pid);
		kfree(fresh);
	} else if (mine) {
		pgt_announce_process(proc, task, parent ? PGT_PROCESS_FORKED :
				     PGT_PROCESS_ATTACHED);
	}
	return mine;
}

/*
 * The entry of the current thread, NULL if it is not traced. Called for every
 * fault in the system: the way to "no" is short.
 */
struct pgt_thread *pgt_thread_current(void)
{
	struct task_struct *task = current;
	struct pgt_thread *t = find_thread(task);

	if (t)
		return t;
	if (task->group_leader != task) {
		/* A thread that came another way than fork (io_uring workers). */
		t = find_thread(task->group_leader);
		if (t) {
			spin_lock(&lock);
			t = t->proc->gone ? NULL : __add_thread(t->proc, task);
			spin_unlock(&lock);
			return t;
		}
	}
	if (unlikely(n_uids) && task->mm && !(task->flags & (PF_EXITING | PF_KTHREAD)) &&
	    task->tgid != pgt_set.recorder && uid_wanted(task))
		return attach(task, NULL, NULL);
	return NULL;
}

/* --- life of processes, from the scheduler's tracepoints --- */

void pgt_on_fork(struct task_struct *parent, struct task_struct *child)
{
	struct pgt_thread *t = find_thread(parent);
	struct pgt_space *space = NULL;

	if (!t)
		return;
	if (child->tgid == parent->tgid) {
		spin_lock(&lock);
		if (!t->proc->gone)
			__add_thread(t->proc, child);
		spin_unlock(&lock);
		return;
	}
	if (child->mm && child->mm == parent->mm)
		space = pgt_space_of(t->proc, parent->mm);
	if (!attach(child, t->proc, space))
		pgt_lost_elsewhere(PGT_LOST_NO_MEMORY, 1);
}

void pgt_on_exec(struct task_struct *task)
{
	struct pgt_thread *t = find_thread(task);

	if (!t)
		return;
	pgt_space_of(t->proc, task->mm);
	pgt_announce_process(t->proc, task, PGT_PROCESS_EXECED);
}

void pgt_on_exit(struct task_struct *task)
{
	struct pgt_thread *t;
	struct pgt_proc *proc;
	bool last;

	spin_lock(&lock);
	t = find_thread(task);
	if (!t) {
		spin_unlock(&lock);
		return;
	}
	proc = t->proc;
	hlist_del_rcu(&t->node);
	kfree_rcu(t, rcu);
	last = --proc->threads == 0;
	if (last) {
		if (!proc->named) {
			spin_unlock(&lock);
			pgt_announce_process(proc, task, proc->how);
			spin_lock(&lock);
		}
		__drop_proc(proc);
	}
	spin_unlock(&lock);
	if (last) {
		struct pgt_exit rec = {
			.tgid = task->tgid,
			.code = task->signal->flags & SIGNAL_GROUP_EXIT ?
				task->signal->group_exit_code : task->exit_code,
		};

		pgt_emit(PGT_NAMES, &rec, PGT_KIND_EXIT, 0, sizeof(rec), true);
	}
}

/* --- start, stop, and the cleaner's view --- */

/* Takes in everyone who was asked for. The fork hook is on already. */
int pgt_targets_attach(void)
{
	struct task_struct *task;
	int i;

	for (i = 0; i < n_pids; i++) {
		task = get_pid_task(pids[i], PIDTYPE_TGID);
		if (!task)
			continue;
		if (task->tgid != pgt_set.recorder)
			attach(task, NULL, NULL);
		put_task_struct(task);
	}
	if (n_uids) {
		rcu_read_lock();
		for_each_process(task)
			if (!(task->flags & PF_KTHREAD) && task->tgid != pgt_set.recorder &&
			    uid_wanted(task))
				attach(task, NULL, NULL);
		rcu_read_unlock();
	}
	/* Spaces now, so that THP is off before the first reference. */
	for (;;) {
		struct pid *pid = NULL;
		struct pgt_proc *proc;
		struct mm_struct *mm;

		rcu_read_lock();
		proc = pgt_next_proc(U32_MAX, &pid, NULL);
		if (proc) {
			mm = pgt_pid_mm(pid);
			if (mm) {
				pgt_space_of(proc, mm);
				mmput_async(mm);
			}
			put_pid(pid);
		}
		rcu_read_unlock();
		if (!proc)
			break;
	}
	return n_procs || n_uids ? 0 : -ESRCH;
}

/* mm of a process, whichever of its threads still has one. Caller: mmput. */
struct mm_struct *pgt_pid_mm(struct pid *pid)
{
	struct task_struct *leader, *t;
	struct mm_struct *mm = NULL;

	rcu_read_lock();
	leader = pid_task(pid, PIDTYPE_TGID);
	if (leader)
		for_each_thread(leader, t) {
			mm = get_task_mm(t);
			if (mm)
				break;
		}
	rcu_read_unlock();
	return mm;
}

/*
 * The next process that pass number `pass` has not visited, with a reference to
 * its pid and, if asked for, to its space; NULL: all were. Under RCU if the
 * result itself is used.
 */
struct pgt_proc *pgt_next_proc(u32 pass, struct pid **pid, struct pgt_space **space)
{
	struct pgt_proc *proc;

	spin_lock(&lock);
	proc = list_first_entry_or_null(&procs, struct pgt_proc, list);
	if (proc && proc->pass == pass)
		proc = NULL;
	if (proc) {
		proc->pass = pass;
		*pid = get_pid(proc->pid);
		if (space) {
			*space = rcu_dereference_protected(proc->space, lockdep_is_held(&lock));
			if (*space)
				refcount_inc(&(*space)->users);
		}
		list_move_tail(&proc->list, &procs);
	}
	spin_unlock(&lock);
	return proc;
}

int pgt_targets_count(void)
{
	return READ_ONCE(n_procs);
}

/* PROCESS records that found no room so far. */
void pgt_targets_announce(void)
{
	struct pgt_proc *proc;

	rcu_read_lock();
	spin_lock(&lock);
	list_for_each_entry(proc, &procs, list) {
		struct task_struct *task = pid_task(proc->pid, PIDTYPE_TGID);

		if (!proc->named && task)
			pgt_announce_process(proc, task, proc->how);
	}
	spin_unlock(&lock);
	rcu_read_unlock();
}

/* No hook runs any more: gives THP back and forgets everyone. */
void pgt_targets_release(void)
{
	struct hlist_node *next;
	struct pgt_proc *proc;
	struct pgt_thread *t;
	int i;

	while ((proc = list_first_entry_or_null(&procs, struct pgt_proc, list))) {
		struct mm_struct *mm = pgt_pid_mm(proc->pid);

		if (mm) {
			if (proc->thp_disabled)
				clear_bit(MMF_DISABLE_THP, &mm->flags);
			mmput_async(mm);
		}
		__drop_proc(proc);
	}
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		hlist_for_each_entry_safe(t, next, &threads[i], node) {
			hlist_del(&t->node);
			kfree(t);
		}
	rcu_barrier();	/* free_proc_rcu() is code of this module */
}
