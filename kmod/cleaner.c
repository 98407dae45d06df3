// SPDX-License-Identifier: GPL-2.0
/*
 * The PTE cleaner: makes present pages fault again at their next touch.
 *
 * A cleaned PTE is PROT_NONE, as automatic NUMA balancing makes them; the
 * kernel's own fault path mends it at the next touch, so there is nothing to
 * undo at unload and no touch can go wrong. One thread, one pass a period over
 * every traced address space; page tables have one owner at a time.
 */
#include <linux/freezer.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/sched/mm.h>
#include <linux/timekeeping.h>

#include "pgtrace.h"

static struct task_struct *thread;
static DECLARE_WAIT_QUEUE_HEAD(kick);
static bool kicked;

static pte_t cleaned(pte_t old)
{
	pteval_t was = pte_val(old), val;

#if PGT_NEW_MM
	/* Later kernels work the write bit out again; a bare RW would mean shadow stack. */
	old = pte_wrprotect(old);
#endif
	val = pte_val(old);
	val &= ~(_PAGE_PRESENT | _PAGE_USER | _PAGE_NX | _PAGE_GLOBAL);
	val |= _PAGE_PROTNONE | _PAGE_ACCESSED;
	/* The frame number is inverted in PROT_NONE entries (L1TF). */
	return __pte(flip_protnone_guard(was, val, PTE_PFN_MASK));
}

static void clean_ptes(struct vm_area_struct *vma, pmd_t *pmd, unsigned long addr,
		       unsigned long end, struct pgt_clean *pass)
{
	struct mm_struct *mm = vma->vm_mm;
	spinlock_t *ptl;
	pte_t *start, *pte;

	start = pte = pgt_pte_lock(mm, pmd, addr, &ptl);
	if (!pte)
		return;
	for (; addr < end; addr += PAGE_SIZE, pte++) {
		pte_t old = *pte;

		if (!pte_present(old) || pte_protnone(old))
			continue;
		/* Special entries belong to drivers, but for the zero page. */
		if (pte_special(old) && !is_zero_pfn(pte_pfn(old)))
			continue;
		pass->scanned++;
		old = ptep_get_and_clear(mm, addr, pte);
		set_pte_at(mm, addr, pte, cleaned(old));
		pass->cleaned++;
	}
	pte_unmap_unlock(start, ptl);
}

static void clean_pmds(struct vm_area_struct *vma, pud_t *pud, unsigned long addr,
		       unsigned long end, struct pgt_clean *pass)
{
	pmd_t *pmd = pmd_offset(pud, addr);
	unsigned long next;

	for (; addr < end; addr = next, pmd++) {
		next = pmd_addr_end(addr, end);
		if (pmd_trans_huge(READ_ONCE(*pmd)))
			pgt_split_huge_pmd(vma, pmd, addr);
		if (pmd_none(READ_ONCE(*pmd)) || !pmd_present(READ_ONCE(*pmd)) ||
		    pmd_leaf(READ_ONCE(*pmd)))
			continue;
		clean_ptes(vma, pmd, addr, next, pass);
		cond_resched();
	}
}

static void clean_vma(struct vm_area_struct *vma, struct pgt_clean *pass)
{
	unsigned long addr = vma->vm_start, next;

	for (; addr < vma->vm_end; addr = next) {
		pgd_t *pgd = pgd_offset(vma->vm_mm, addr);
		p4d_t *p4d;
		pud_t *pud;

		next = pud_addr_end(addr, vma->vm_end);
		if (pgd_none(READ_ONCE(*pgd)))
			continue;
		p4d = p4d_offset(pgd, addr);
		if (p4d_none(READ_ONCE(*p4d)))
			continue;
		pud = pud_offset(p4d, addr);
		if (pud_none(READ_ONCE(*pud)) || !pud_present(READ_ONCE(*pud)) ||
		    pud_leaf(READ_ONCE(*pud)))
			continue;
		clean_pmds(vma, pud, addr, next, pass);
	}
}

static void clean_mm(struct mm_struct *mm, struct pgt_clean *pass)
{
	struct vm_area_struct *vma;
	VMA_ITERATOR(vmi, mm, 0);

	pass->start_ns = ktime_get_mono_fast_ns();
	mmap_read_lock(mm);
	/* Others must flush for our PROT_NONE entries until we have (pte_accessible()). */
	inc_tlb_flush_pending(mm);
	for_each_vma(vmi, vma) {
		if (vma->vm_flags & (VM_PFNMAP | VM_MIXEDMAP | VM_IO | VM_HUGETLB) ||
		    !(vma->vm_flags & (VM_READ | VM_WRITE | VM_EXEC)))
			continue;
		clean_vma(vma, pass);
	}
	if (pass->cleaned)
		pgt_flush_tlb_mm(mm);
	dec_tlb_flush_pending(mm);
	mmap_read_unlock(mm);
	pass->end_ns = ktime_get_mono_fast_ns();
}

static void clean_all(u32 number)
{
	struct pid *pid;

	/* The process may end meanwhile: its pid, not its entry, is held. */
	while (!kthread_should_stop() && pgt_next_proc(number, &pid)) {
		struct pgt_clean pass = { .tgid = pid_nr(pid), .pass = number };
		struct mm_struct *mm = pgt_pid_mm(pid);

		put_pid(pid);
		if (!mm)
			continue;
		clean_mm(mm, &pass);
		mmput_async(mm);
		pgt_emit(PGT_NAMES, &pass, PGT_KIND_CLEAN, 0, sizeof(pass), true);
	}
}

static int cleaner(void *unused)
{
	u64 second = ktime_get_mono_fast_ns(), due = second;
	u32 number = 0;

	while (!kthread_should_stop()) {
		u64 now = ktime_get_mono_fast_ns(), wake = second + NSEC_PER_SEC;
		u64 period = (u64)READ_ONCE(pgt_set.clean_ms) * NSEC_PER_MSEC;
		bool on = period && READ_ONCE(pgt_set.level) >= PGT_LEVEL_RICH;

		if (now >= second + NSEC_PER_SEC) {
			second = now;
			wake = second + NSEC_PER_SEC;
			pgt_emit_clock();
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
		WRITE_ONCE(kicked, false);
		wait_event_interruptible_hrtimeout(kick, kthread_should_stop() || READ_ONCE(kicked),
						   ns_to_ktime(wake > now ? wake - now : 1));
	}
	return 0;
}

/* The period or the level changed. */
void pgt_cleaner_kick(void)
{
	WRITE_ONCE(kicked, true);
	wake_up(&kick);
}

int pgt_cleaner_start(void)
{
	thread = kthread_run(cleaner, NULL, "pgtrace-cleaner");
	if (IS_ERR(thread)) {
		int err = PTR_ERR(thread);

		thread = NULL;
		return err;
	}
	return 0;
}

void pgt_cleaner_stop(void)
{
	if (thread)
		kthread_stop(thread);
	thread = NULL;
}
