// SPDX-License-Identifier: GPL-2.0
/*
 * Functions of the kernel that modules may not link to. They are looked up by
 * name once and reached through static calls: a plain indirect call would trip
 * over indirect branch tracking, which seals functions nobody takes the address of.
 */
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/huge_mm.h>
#include <linux/sched/coredump.h>
#include <linux/static_call.h>
#include <asm/tlbflush.h>

#include "pgtrace.h"

static unsigned long no_lookup(const char *name)
{
	return 0;
}

static void no_flush(struct mm_struct *mm, unsigned long start, unsigned long end,
		     unsigned int stride_shift, bool freed_tables)
{
}

static void no_split(struct vm_area_struct *vma, pmd_t *pmd, unsigned long addr,
		     bool freeze, struct folio *folio)
{
}

static struct callback_head *no_cancel(struct task_struct *task,
				       bool (*match)(struct callback_head *, void *), void *data)
{
	return NULL;
}

static unsigned long *huge_page_flags;

DEFINE_STATIC_CALL(pgt_lookup_name, no_lookup);
DEFINE_STATIC_CALL(pgt_cancel_work, no_cancel);
DEFINE_STATIC_CALL(pgt_flush_range, no_flush);
DEFINE_STATIC_CALL(pgt_split, no_split);

#if PGT_NEW_MM
static pte_t *no_pte_lock(struct mm_struct *mm, pmd_t *pmd, unsigned long addr,
			  spinlock_t **ptl)
{
	return NULL;
}

DEFINE_STATIC_CALL(pgt_pte_offset_lock, no_pte_lock);
#endif

void pgt_flush_tlb_mm(struct mm_struct *mm)
{
	static_call(pgt_flush_range)(mm, 0, TLB_FLUSH_ALL, 0, true);
}

void pgt_flush_tlb_range(struct mm_struct *mm, unsigned long start, unsigned long end)
{
	static_call(pgt_flush_range)(mm, start, end, PAGE_SHIFT, false);
}

struct callback_head *pgt_cancel_task_work(struct task_struct *task,
					   bool (*match)(struct callback_head *, void *),
					   void *data)
{
	return static_call(pgt_cancel_work)(task, match, data);
}

/* Would the kernel try a huge page for anonymous memory here? */
bool pgt_huge_pages_wanted(struct vm_area_struct *vma)
{
	unsigned long flags = READ_ONCE(*huge_page_flags);

	if (vma->vm_flags & VM_NOHUGEPAGE || test_bit(MMF_DISABLE_THP, &vma->vm_mm->flags))
		return false;
	return flags & BIT(TRANSPARENT_HUGEPAGE_FLAG) ||
	       (flags & BIT(TRANSPARENT_HUGEPAGE_REQ_MADV_FLAG) && vma->vm_flags & VM_HUGEPAGE);
}

void pgt_split_huge_pmd(struct vm_area_struct *vma, pmd_t *pmd, unsigned long addr)
{
	static_call(pgt_split)(vma, pmd, addr, false, NULL);
}

/* NULL: the page table went away meanwhile, skip it. */
pte_t *pgt_pte_lock(struct mm_struct *mm, pmd_t *pmd, unsigned long addr, spinlock_t **ptl)
{
#if PGT_NEW_MM
	return static_call(pgt_pte_offset_lock)(mm, pmd, addr, ptl);
#else
	return pte_offset_map_lock(mm, pmd, addr, ptl);
#endif
}

static unsigned long lookup(const char *name)
{
	unsigned long addr = static_call(pgt_lookup_name)(name);

	if (!addr)
		pr_err("the kernel has no symbol %s\n", name);
	return addr;
}

int pgt_symbols_init(void)
{
	struct kprobe kp = { .symbol_name = "kallsyms_lookup_name" };
	unsigned long flush, split, cancel;
	int err;

	/* kallsyms_lookup_name itself is not exported; a kprobe knows where it is. */
	err = register_kprobe(&kp);
	if (err)
		return err;
	/*
	 * On IBT kernels the probe's address is behind the function's ENDBR. A
	 * static call is direct and needs none, so it may enter there.
	 */
	static_call_update(pgt_lookup_name, (void *)kp.addr);
	unregister_kprobe(&kp);

	flush = lookup("flush_tlb_mm_range");
	split = lookup("__split_huge_pmd");
	cancel = lookup("task_work_cancel_match");
	huge_page_flags = (void *)lookup("transparent_hugepage_flags");
	if (!flush || !split || !cancel || !huge_page_flags)
		return -ENOENT;
	static_call_update(pgt_cancel_work, (void *)cancel);
	static_call_update(pgt_flush_range, (void *)flush);
	static_call_update(pgt_split, (void *)split);
#if PGT_NEW_MM
	{
		unsigned long lock = lookup("__pte_offset_map_lock");

		if (!lock)
			return -ENOENT;
		static_call_update(pgt_pte_offset_lock, (void *)lock);
	}
#endif
	return 0;
}
