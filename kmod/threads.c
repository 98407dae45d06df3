// SPDX-License-Identifier: GPL-2.0
/*
 * Who is traced: processes and their threads. The hook finds a thread by its task
 * in one hash look-up. Threads enter the table when their process is taken in or
 * forks, and leave it when they exit or their process has no reason left; when
 * that is asked is in life.c.
 *
 * One lock for all changes; readers use RCU. Who comes while the kernel holds
 * locks of its own comes quietly, and settle() does what takes such locks.
 */
#include <linux/hash.h>
#include <linux/rculist.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "pgtrace.h"

struct hlist_head pgt_threads[1 << PGT_THREAD_BITS];
static LIST_HEAD(procs);	/* whose spaces are cleaned; order = the cleaner's turn */
static LIST_HEAD(all);		/* these, and those who owe a record; under RCU */
static int n_procs;
static DEFINE_SPINLOCK(lock);	/* taken with interrupts off */

static void settle(struct work_struct *work);
static DECLARE_DELAYED_WORK(settling, settle);
#define SETTLE_AGAIN msecs_to_jiffies(20)

/* The process of `task` if any thread of it is known. Under RCU. */
static struct pgt_proc *find_proc(struct task_struct *task)
{
	struct task_struct *other;
	struct pgt_thread *t;

	for_each_thread(task, other) {
		t = pgt_thread_find(other);
		if (t)
			return t->proc;
	}
	return NULL;
}

/* --- the lock is held where a name begins with __ --- */

static struct pgt_proc *new_proc(struct task_struct *task)
{
	struct pgt_proc *proc = kzalloc(sizeof(*proc), GFP_ATOMIC | __GFP_NOWARN);

	if (!proc)
		return NULL;
	INIT_LIST_HEAD(&proc->members);
	proc->tgid = task->tgid;
	proc->pid = get_pid(task_tgid(task));
	return proc;
}

static void free_proc(struct pgt_proc *proc)
{
	put_pid(proc->pid);
	pgt_reasons_put(rcu_dereference_protected(proc->reasons, true));
	kfree(proc);
}

static void free_proc_rcu(struct rcu_head *rcu)
{
	free_proc(container_of(rcu, struct pgt_proc, rcu));
}

static struct pgt_thread *__add_thread(struct pgt_proc *proc, struct task_struct *task)
{
	struct pgt_thread *t = pgt_thread_find(task);

	if (t)
		return t;
	/*
	 * Its exit hook may have passed already, and nobody would remove it. If it
	 * has not, it will find the entry: it looks under the lock, after the flag.
	 */
	if (task->flags & PF_EXITING)
		return NULL;
	t = kzalloc(sizeof(*t), GFP_ATOMIC | __GFP_NOWARN);
	if (!t)
		return NULL;
	t->task = task;
	t->proc = proc;
	list_add_tail(&t->member, &proc->members);
	hlist_add_head_rcu(&t->node, &pgt_threads[hash_ptr(task, PGT_THREAD_BITS)]);
	return t;
}

static void __remove_thread(struct pgt_thread *t)
{
	hlist_del_rcu(&t->node);
	list_del(&t->member);
	kfree_rcu(t, rcu);
}

static void __add_proc(struct pgt_proc *proc)
{
	list_add_tail(&proc->list, &procs);
	list_add_tail_rcu(&proc->all, &all);
	n_procs++;
}

/* It is not traced any more. It stays in `all` until __forget(), for a record that is owed. */
static void __retire(struct pgt_proc *proc)
{
	list_del(&proc->list);
	WRITE_ONCE(proc->gone, true);
	n_procs--;
	pgt_space_leave(proc);
}

static void __forget(struct pgt_proc *proc)
{
	if (proc->forgotten)
		return;
	proc->forgotten = true;
	list_del_rcu(&proc->all);
	call_rcu(&proc->rcu, free_proc_rcu);
}

static void __set_reasons(struct pgt_proc *proc, struct pgt_reasons *reasons)
{
	struct pgt_reasons *old = rcu_dereference_protected(proc->reasons, true);

	rcu_assign_pointer(proc->reasons, reasons);
	pgt_reasons_put(old);
}

/* From any context. */
void pgt_settle_soon(void)
{
	schedule_delayed_work(&settling, 0);
}

/* --- what is owed to the reader, and to the space; under RCU, in a context like a hook's --- */

static void make_space(struct pgt_proc *proc)
{
	struct mm_struct *mm = pgt_pid_mm(proc->pid);

	if (!mm)
		return;
	pgt_space_of(proc, mm);
	mmput_async(mm);
}

/* Gives what was owed; false: there is no room for the record yet. */
static bool settle_proc(struct pgt_proc *proc)
{
	struct task_struct *task = pid_task(proc->pid, PIDTYPE_TGID);

	if (task && !READ_ONCE(proc->gone) && !rcu_access_pointer(proc->space))
		make_space(proc);
	if (task && !READ_ONCE(proc->named) && !pgt_announce_process(proc, task, proc->how))
		return false;
	if (READ_ONCE(proc->gone))
		pgt_proc_forget(proc);
	return true;
}

/* --- coming and going --- */

/* A thread of a traced process that was born, or turned up. NULL: the process left, or no memory. */
struct pgt_thread *pgt_thread_add(struct pgt_proc *proc, struct task_struct *task)
{
	struct pgt_thread *t = NULL;
	unsigned long irq;

	spin_lock_irqsave(&lock, irq);
	if (!proc->gone)
		t = __add_thread(proc, task);
	spin_unlock_irqrestore(&lock, irq);
	return t;
}

/* A thread exits. Returns its process if it was the last one; pgt_proc_forget() then. Under RCU. */
struct pgt_proc *pgt_thread_remove(const struct task_struct *task)
{
	struct pgt_proc *proc = NULL;
	struct pgt_thread *t;
	unsigned long irq;

	spin_lock_irqsave(&lock, irq);
	t = pgt_thread_find(task);
	if (t) {
		proc = t->proc;
		__remove_thread(t);
		if (list_empty(&proc->members))
			__retire(proc);
		else
			proc = NULL;
	}
	spin_unlock_irqrestore(&lock, irq);
	return proc;
}

void pgt_proc_forget(struct pgt_proc *proc)
{
	unsigned long irq;

	spin_lock_irqsave(&lock, irq);
	__forget(proc);
	spin_unlock_irqrestore(&lock, irq);
}

/* There is a new PROCESS record to write, unless it has left. */
bool pgt_has_news(struct pgt_proc *proc, u8 how)
{
	unsigned long irq;
	bool yes;

	spin_lock_irqsave(&lock, irq);
	yes = !proc->gone;
	if (yes) {
		proc->how = how;
		pgt_announce_again(proc);
	}
	spin_unlock_irqrestore(&lock, irq);
	return yes;
}

/* It leaves, though it lives on. `how` besides PGT_PROCESS_DETACHED. */
static void detach(struct pgt_proc *proc, u8 how)
{
	struct pgt_thread *t, *next;
	unsigned long irq;

	spin_lock_irqsave(&lock, irq);
	if (proc->gone) {
		spin_unlock_irqrestore(&lock, irq);
		return;
	}
	list_for_each_entry_safe(t, next, &proc->members, member)
		__remove_thread(t);
	__retire(proc);
	proc->how = how | PGT_PROCESS_DETACHED;
	pgt_announce_again(proc);
	spin_unlock_irqrestore(&lock, irq);
	if (!settle_proc(proc))
		schedule_delayed_work(&settling, SETTLE_AGAIN);
}

/*
 * What are its reasons now? Without any it leaves. `strict`: only targets that
 * describe it as it is. False: it left.
 */
bool pgt_reconsider(struct pgt_proc *proc, bool strict, u8 how)
{
	struct pgt_reasons *reasons;
	struct task_struct *task;
	unsigned long irq;
	bool stays = true;

	rcu_read_lock();
	task = pid_task(proc->pid, PIDTYPE_TGID);
	reasons = !task ? ERR_PTR(-ESRCH) :	/* its end is told by its exit */
		  pgt_reasons_of(task, NULL, strict ? NULL : rcu_dereference(proc->reasons));
	if (!reasons) {
		detach(proc, how);
		stays = false;
	} else if (!IS_ERR(reasons)) {
		spin_lock_irqsave(&lock, irq);
		__set_reasons(proc, reasons);
		spin_unlock_irqrestore(&lock, irq);
	}
	rcu_read_unlock();
	return stays;
}

/* It is known; it may have one reason more. */
void pgt_add_reasons(struct pgt_proc *proc, struct task_struct *task, const char *comm)
{
	struct pgt_reasons *reasons = pgt_reasons_of(task, comm, rcu_dereference(proc->reasons));
	unsigned long irq;

	if (IS_ERR_OR_NULL(reasons))
		return;
	spin_lock_irqsave(&lock, irq);
	__set_reasons(proc, reasons);
	spin_unlock_irqrestore(&lock, irq);
}

/*
 * Takes the thread group of `task` in, if there is a reason. Returns the entry of
 * `task`; NULL: there is none, or no memory, or it ends. Under RCU.
 */
struct pgt_thread *pgt_take_in(struct task_struct *task, const struct pgt_entry *entry)
{
	struct pgt_proc *proc, *fresh;
	struct pgt_reasons *reasons;
	struct task_struct *other;
	struct pgt_thread *mine;
	unsigned long irq;

	proc = find_proc(task);
	if (proc) {
		pgt_add_reasons(proc, task, entry->comm);
		return pgt_thread_find(task);
	}
	reasons = pgt_reasons_of(task, entry->comm, entry->follow ?
				 rcu_dereference(entry->parent->reasons) : NULL);
	if (!reasons)
		return NULL;
	fresh = IS_ERR(reasons) ? NULL : new_proc(task);
	if (!fresh) {
		if (!IS_ERR(reasons))
			pgt_reasons_put(reasons);
		pgt_lost_elsewhere(PGT_LOST_NO_MEMORY, 1);
		return NULL;
	}
	RCU_INIT_POINTER(fresh->reasons, reasons);
	fresh->how = entry->parent ? PGT_PROCESS_FORKED : PGT_PROCESS_ATTACHED;
	/* A copied mm carries the parent's flag: it is ours to take back there too. */
	fresh->thp_ours = pgt_space_owed(task) || (entry->parent && entry->parent->thp_ours);

	spin_lock_irqsave(&lock, irq);
	proc = find_proc(task);		/* somebody may have been first */
	if (!proc) {
		/*
		 * A thread that is born behind our back is in the list before its
		 * fork hook looks for its parent's entry; should both miss, it
		 * comes at its first fault (late()).
		 */
		for_each_thread(task, other)
			__add_thread(fresh, other);
		if (!list_empty(&fresh->members)) {
			proc = fresh;
			__add_proc(proc);
		}
	}
	mine = pgt_thread_find(task);
	spin_unlock_irqrestore(&lock, irq);
	if (proc != fresh) {
		free_proc(fresh);	/* nobody has seen it */
		return mine;
	}
	if (entry->quiet)
		pgt_settle_soon();
	else
		settle_proc(proc);
	/* The target may have been taken back before we were to be found. */
	smp_mb();
	if (likely(pgt_reasons_stand(reasons)))
		return mine;
	if (entry->quiet) {	/* leaving takes locks that the caller may hold */
		WRITE_ONCE(proc->doubtful, true);
		pgt_settle_soon();
		return mine;
	}
	return pgt_reconsider(proc, false, 0) ? mine : NULL;
}

/* --- all of them --- */

/* Everyone who is there, or one process. Of those born meanwhile their fork hook knows. */
void pgt_targets_scan(struct pid *pid)
{
	struct task_struct *task;

	rcu_read_lock();
	if (pid) {
		task = pid_task(pid, PIDTYPE_TGID);
		if (task)
			pgt_take_in(task, &(struct pgt_entry){});
	} else {
		for_each_process(task)
			pgt_take_in(task, &(struct pgt_entry){});
	}
	rcu_read_unlock();
}

/* A target was taken back. */
void pgt_targets_reconsider(void)
{
	struct pgt_proc *proc;

	rcu_read_lock();
	list_for_each_entry_rcu(proc, &all, all)
		if (!READ_ONCE(proc->gone))
			pgt_reconsider(proc, false, 0);
	rcu_read_unlock();
}

/* It has another name, or is in another cgroup: where that is all that counts, it may leave. */
static void settle_move(struct pgt_proc *proc)
{
	struct task_struct *task = pid_task(proc->pid, PIDTYPE_TGID);

	if (!task || READ_ONCE(proc->gone) || READ_ONCE(pgt_follow) != PGT_FOLLOW_NONE)
		return;
	task_lock(task);	/* the hook came before the new name, but under this lock */
	task_unlock(task);
	pgt_reconsider(proc, true, 0);
}

static void settle(struct work_struct *work)
{
	struct pgt_proc *proc;
	bool done = true;

	rcu_read_lock();
	list_for_each_entry_rcu(proc, &all, all) {
		if (xchg(&proc->moved, false))
			settle_move(proc);
		if (xchg(&proc->doubtful, false))
			pgt_reconsider(proc, false, 0);
		done &= settle_proc(proc);
	}
	rcu_read_unlock();
	if (!done)
		schedule_delayed_work(&settling, SETTLE_AGAIN);
}

/* No hook runs any more: the PROCESS records that found no room. False: there still is none. */
bool pgt_targets_announce(void)
{
	struct pgt_proc *proc;
	bool done = true;

	cancel_delayed_work_sync(&settling);
	rcu_read_lock();
	list_for_each_entry_rcu(proc, &all, all)
		done &= settle_proc(proc);
	rcu_read_unlock();
	return done;
}

/* Takes in everyone who was asked for. The hooks of processes are on already. */
int pgt_targets_attach(void)
{
	pgt_targets_scan(NULL);
	return pgt_targets_count() || pgt_targets_open() ? 0 : -ESRCH;
}

int pgt_targets_count(void)
{
	return READ_ONCE(n_procs);
}

/* No hook runs any more: gives THP back and forgets everyone. */
void pgt_targets_release(void)
{
	struct pgt_proc *proc, *next;
	struct pgt_thread *t, *other;

	cancel_delayed_work_sync(&settling);
	spin_lock_irq(&lock);
	list_for_each_entry_safe(proc, next, &all, all) {
		list_for_each_entry_safe(t, other, &proc->members, member)
			__remove_thread(t);
		if (!proc->gone)
			__retire(proc);
		__forget(proc);
	}
	spin_unlock_irq(&lock);
	pgt_spaces_flush();	/* its callbacks, as ours, are code of this module */
}

/*
 * The next process that pass number `pass` has not visited, with references to
 * its pid and its space (NULL: it has none so far). False: all were.
 */
bool pgt_next_proc(u32 pass, struct pid **pid, struct pgt_space **space)
{
	struct pgt_proc *proc;
	unsigned long irq;

	spin_lock_irqsave(&lock, irq);
	proc = list_first_entry_or_null(&procs, struct pgt_proc, list);
	if (proc && proc->pass == pass)
		proc = NULL;
	if (proc) {
		proc->pass = pass;
		*pid = get_pid(proc->pid);
		rcu_read_lock();	/* exec may just put another one in its place */
		*space = rcu_dereference(proc->space);
		if (*space && !refcount_inc_not_zero(&(*space)->users))
			*space = NULL;
		rcu_read_unlock();
		list_move_tail(&proc->list, &procs);
	}
	spin_unlock_irqrestore(&lock, irq);
	return proc;
}
