// SPDX-License-Identifier: GPL-2.0
/*
 * Address spaces of traced processes: one entry for each, however many processes
 * share it (CLONE_VM), because page tables have one owner.
 *
 * First touches are wanted page by page, so huge pages are off (MMF_DISABLE_THP)
 * while a traced process uses the space. Children and later images inherit that
 * flag, traced or not; it is given back wherever it came from us.
 */
#include <linux/hash.h>
#include <linux/list.h>
#include <linux/llist.h>
#include <linux/sched/coredump.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "pgtrace.h"

#define SPACE_BITS 8
static struct hlist_head spaces[1 << SPACE_BITS];	/* those that a traced process uses */
/* All changes, and who is in which space. Taken with interrupts off, inside of other locks. */
static DEFINE_SPINLOCK(lock);
static u64 serials;

/*
 * A process that is not traced but runs in a traced space (vfork) takes the flag
 * along when it executes a program.
 */
struct owed {
	struct list_head list;
	const struct task_struct *task;		/* compared only; leaves at exec and exit */
	const struct pgt_space *space;
};
static LIST_HEAD(debts);

/* --- the end of a space. Dropping an mm is nothing for an RCU callback. --- */

static LLIST_HEAD(graves);

static void bury(struct work_struct *work)
{
	struct pgt_space *space, *next;

	llist_for_each_entry_safe(space, next, llist_del_all(&graves), grave) {
		pgt_fifo_free(space);
		mmdrop(space->mm);
		kfree(space);
	}
}

static DECLARE_WORK(burial, bury);

static void free_space_rcu(struct rcu_head *rcu)
{
	llist_add(&container_of(rcu, struct pgt_space, rcu)->grave, &graves);
	schedule_work(&burial);
}

void pgt_space_put(struct pgt_space *space)
{
	if (space && refcount_dec_and_test(&space->users))
		call_rcu(&space->rcu, free_space_rcu);
}

/* Nobody uses a space any more. */
void pgt_spaces_flush(void)
{
	rcu_barrier();
	cancel_work_sync(&burial);
	bury(NULL);
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

/* --- the lock is held where a name begins with __ --- */

static struct pgt_space *__find(const struct mm_struct *mm)
{
	struct pgt_space *space;

	hlist_for_each_entry(space, &spaces[hash_ptr(mm, SPACE_BITS)], node)
		if (space->mm == mm)
			return space;
	return NULL;
}

static void __open(struct pgt_space *space, struct mm_struct *mm, const struct pgt_proc *proc)
{
	mmgrab(mm);
	space->mm = mm;
	refcount_set(&space->users, 1);
	mutex_init(&space->own);
	if (!pgt_set.grain)
		space->thp_disabled = !test_and_set_bit(MMF_DISABLE_THP, &mm->flags) ||
				      proc->thp_ours;
	hlist_add_head(&space->node, &spaces[hash_ptr(mm, SPACE_BITS)]);
}

static void __leave(struct pgt_space *space)
{
	struct owed *debt, *next;

	WRITE_ONCE(space->procs, space->procs - 1);
	if (!space->procs) {
		hlist_del(&space->node);
		if (space->thp_disabled)
			clear_bit(MMF_DISABLE_THP, &space->mm->flags);
		list_for_each_entry_safe(debt, next, &debts, list)
			if (debt->space == space) {
				list_del(&debt->list);
				kfree(debt);
			}
	}
	pgt_space_put(space);
}

/*
 * The space of `proc`, which runs on `mm` now: another one when exec changed it.
 * The caller runs on that mm or otherwise keeps it. NULL: no memory, or it is
 * not traced any more.
 */
struct pgt_space *pgt_space_enter(struct pgt_proc *proc, struct mm_struct *mm)
{
	struct pgt_space *fresh = kzalloc(sizeof(*fresh), GFP_ATOMIC | __GFP_NOWARN);
	struct pgt_space *space, *old;
	unsigned long irq;

	spin_lock_irqsave(&lock, irq);
	old = rcu_dereference_protected(proc->space, lockdep_is_held(&lock));
	space = __find(mm);
	if (proc->left || (!space && !fresh)) {
		space = NULL;
	} else if (!space || space != old) {	/* or else another thread was first */
		if (!space) {
			space = fresh;
			fresh = NULL;
			space->serial = ++serials;
			__open(space, mm, proc);
		} else {
			refcount_inc(&space->users);
		}
		space->procs++;
		proc->thp_ours = space->thp_disabled;
		rcu_assign_pointer(proc->space, space);
		if (old)
			__leave(old);
	}
	spin_unlock_irqrestore(&lock, irq);
	kfree(fresh);
	return space;
}

/* `proc` is not traced any more. Who still looks at its space may do so under RCU. */
void pgt_space_leave(struct pgt_proc *proc)
{
	struct pgt_space *space;
	unsigned long irq;

	spin_lock_irqsave(&lock, irq);
	space = rcu_dereference_protected(proc->space, lockdep_is_held(&lock));
	if (space && !proc->left)
		__leave(space);
	proc->left = true;
	spin_unlock_irqrestore(&lock, irq);
}

/* --- the flag that processes inherit which are not traced --- */

/* A traced process bore `child`, which is not traced. It does not run yet. */
void pgt_space_born(struct pgt_proc *parent, struct task_struct *child)
{
	struct pgt_space *space = rcu_dereference_check(parent->space, true);
	struct owed *debt;
	unsigned long irq;

	if (!space || !space->thp_disabled || !child->mm)
		return;
	if (child->mm != space->mm) {
		clear_bit(MMF_DISABLE_THP, &child->mm->flags);
		return;
	}
	debt = kmalloc(sizeof(*debt), GFP_ATOMIC | __GFP_NOWARN);
	if (!debt)
		return;		/* its next image will be without huge pages */
	debt->task = child;
	debt->space = space;
	spin_lock_irqsave(&lock, irq);
	if (space->procs)
		list_add(&debt->list, &debts);
	else
		kfree(debt);
	spin_unlock_irqrestore(&lock, irq);
}

/* Is the flag of this process's next image our doing? It is asked once. */
bool pgt_space_owed(const struct task_struct *task)
{
	struct owed *debt, *next;
	unsigned long irq;
	bool yes = false;

	if (list_empty(&debts))
		return false;
	spin_lock_irqsave(&lock, irq);
	list_for_each_entry_safe(debt, next, &debts, list)
		if (debt->task == task) {
			list_del(&debt->list);
			kfree(debt);
			yes = true;
		}
	spin_unlock_irqrestore(&lock, irq);
	return yes;
}

/* `proc` has just executed a program on the current mm and is not traced any more. */
void pgt_space_execed(struct pgt_proc *proc)
{
	unsigned long irq;

	spin_lock_irqsave(&lock, irq);
	if (proc->thp_ours && !__find(current->mm))
		clear_bit(MMF_DISABLE_THP, &current->mm->flags);
	spin_unlock_irqrestore(&lock, irq);
}
