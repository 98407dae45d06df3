// SPDX-License-Identifier: GPL-2.0
/*
 * The timer policy: all present pages of every traced address space are made to
 * fault again, once a period. A coordinator keeps time; as many workers as there
 * are CPUs and address spaces share a pass. Each takes the next space that the
 * pass has not seen, so a page table has one owner and nobody waits for another.
 * A pass ends before the next one begins.
 */
#include <linux/cpumask.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/sched/mm.h>
#include <linux/timekeeping.h>
#include <linux/workqueue.h>

#include "pgtrace.h"

#define MAX_WORKERS 64

static struct task_struct *thread;
static DECLARE_WAIT_QUEUE_HEAD(kick);
static bool kicked;

static struct workqueue_struct *workers;
static struct work_struct shares[MAX_WORKERS];
static u32 pass_number;
static bool stopping;

static void clean_mm(struct pgt_space *space, struct mm_struct *mm, struct pgt_clean *pass)
{
	struct pgt_walk walk = {};

	mutex_lock(&space->own);
	pass->start_ns = ktime_get_mono_fast_ns();
	mmap_read_lock(mm);
	/* Others must flush for our PROT_NONE entries until we have (pte_accessible()). */
	inc_tlb_flush_pending(mm);
	pgt_clean_space(mm, &walk);
	if (walk.cleaned)
		pgt_flush_tlb_mm(mm);
	dec_tlb_flush_pending(mm);
	mmap_read_unlock(mm);
	pass->end_ns = ktime_get_mono_fast_ns();
	mutex_unlock(&space->own);
	pass->scanned = walk.scanned;
	pass->cleaned = walk.cleaned;
}

/* One worker's share of a pass: spaces until none is left. */
static void clean_share(struct work_struct *work)
{
	u32 number = READ_ONCE(pass_number);
	struct pgt_space *space;
	struct pid *pid;

	/* The process may end meanwhile: its pid, not its entry, is held. */
	while (!READ_ONCE(stopping) && pgt_next_proc(number, &pid, &space)) {
		struct pgt_clean pass = { .tgid = pid_nr(pid), .pass = number };
		struct mm_struct *mm = space ? pgt_pid_mm(pid) : NULL;

		put_pid(pid);
		/* Or else it is at exec, and there is nothing yet; or it is not traced any more. */
		if (mm && space->mm == mm && READ_ONCE(space->procs)) {
			clean_mm(space, mm, &pass);
			pgt_emit(PGT_REFS, &pass, PGT_KIND_CLEAN, 0, sizeof(pass), true);
		}
		if (mm)
			mmput_async(mm);
		pgt_space_put(space);
	}
}

static void clean_all(u32 number)
{
	int i, n = min3(pgt_targets_count(), (int)num_online_cpus(), MAX_WORKERS);

	WRITE_ONCE(pass_number, number);
	for (i = 1; i < n; i++)
		queue_work(workers, &shares[i]);
	clean_share(NULL);
	for (i = 1; i < n; i++)
		flush_work(&shares[i]);
}

static int cleaner(void *unused)
{
	u64 second = ktime_get_mono_fast_ns(), due = second;
	u32 number = 0, turn = 0;

	while (!kthread_should_stop()) {
		u64 now = ktime_get_mono_fast_ns(), wake = second + NSEC_PER_SEC;
		u64 period = (u64)READ_ONCE(pgt_set.clean_ms) * NSEC_PER_MSEC;
		u8 policy = READ_ONCE(pgt_set.level) >= PGT_LEVEL_RICH ?
			    READ_ONCE(pgt_set.policy) : PGT_POLICY_NONE;
		bool on = policy == PGT_POLICY_TIMER && period;

		if (now >= second + NSEC_PER_SEC) {
			second = now;
			wake = second + NSEC_PER_SEC;
			pgt_emit_clock();
		}
		/* A FIFO begins with nothing active: one pass, and the faults do the rest. */
		if (policy == PGT_POLICY_FIFO && turn != READ_ONCE(pgt_set.turn)) {
			turn = READ_ONCE(pgt_set.turn);
			clean_all(++number);
			continue;
		}
		if (on && now >= due + period) {
			clean_all(++number);
			due = max(due + period, now);	/* a slow pass delays, it does not pile up */
			continue;
		}
		if (on)
			wake = min(wake, due + period);
		else
			due = now;
		wait_event_interruptible_hrtimeout(kick, kthread_should_stop() || READ_ONCE(kicked),
						   ns_to_ktime(wake > now ? wake - now : 1));
		WRITE_ONCE(kicked, false);
	}
	return 0;
}

/* The period, the policy or the level changed. */
void pgt_cleaner_kick(void)
{
	WRITE_ONCE(kicked, true);
	wake_up(&kick);
}

int pgt_cleaner_start(void)
{
	int i, err = -ENOMEM;

	for (i = 0; i < MAX_WORKERS; i++)
		INIT_WORK(&shares[i], clean_share);
	workers = alloc_workqueue("pgtrace", WQ_UNBOUND, MAX_WORKERS);
	if (!workers)
		return err;
	stopping = false;
	thread = kthread_run(cleaner, NULL, "pgtrace-cleaner");
	if (!IS_ERR(thread))
		return 0;
	err = PTR_ERR(thread);
	thread = NULL;
	destroy_workqueue(workers);
	return err;
}

void pgt_cleaner_stop(void)
{
	if (!thread)
		return;
	WRITE_ONCE(stopping, true);
	kthread_stop(thread);
	thread = NULL;
	destroy_workqueue(workers);
}
