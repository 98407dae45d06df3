// SPDX-License-Identifier: GPL-2.0
/*
 * Making present pages fault at their next touch.
 *
 * A cleaned PTE is PROT_NONE, as automatic NUMA balancing makes them; the
 * kernel's own fault path mends it at the next touch, so there is nothing to
 * undo at unload and no touch can go wrong. Callers hold the mmap lock, own the
 * space (pgt_space.own), keep tlb_flush_pending raised and flush at the end.
 */
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/page_table_check.h>
#include <linux/pagemap.h>

#include "pgtrace.h"

#ifdef _PAGE_SAVED_DIRTY
#define DIRTY_BITS (_PAGE_DIRTY | _PAGE_SAVED_DIRTY)
#else
#define DIRTY_BITS _PAGE_DIRTY
#endif

static u64 cleaned(u64 was, u64 val, u64 frame)
{
	val &= ~(u64)(_PAGE_PRESENT | _PAGE_USER | _PAGE_NX | _PAGE_GLOBAL);
	val |= _PAGE_PROTNONE | _PAGE_ACCESSED;
	/* The frame number is inverted in PROT_NONE entries (L1TF). */
	return flip_protnone_guard(was, val, frame);
}

static pte_t cleaned_pte(pte_t old)
{
	pteval_t was = pte_val(old);

#if PGT_NEW_MM
	/* Later kernels work the write bit out again; a bare RW would mean shadow stack. */
	old = pte_wrprotect(old);
#endif
	return __pte(cleaned(was, pte_val(old), PTE_PFN_MASK));
}

static pmd_t cleaned_pmd(pmd_t old)
{
	pmdval_t was = pmd_val(old);

#if PGT_NEW_MM
	old = pmd_wrprotect(old);
#endif
	return __pmd(cleaned(was, pmd_val(old), PHYSICAL_PMD_PAGE_MASK));
}

static void clean_ptes(struct vm_area_struct *vma, pmd_t *pmd, unsigned long addr,
		       unsigned long end, struct pgt_walk *walk)
{
	struct mm_struct *mm = vma->vm_mm;
	spinlock_t *ptl;
	pte_t *start, *pte;

	start = pte = pgt_pte_lock(mm, pmd, addr, &ptl);
	if (!pte)
		return;
	for (; addr < end; addr += PAGE_SIZE, pte++) {
		pte_t old = READ_ONCE(*pte);

		if (!pte_present(old) || pte_protnone(old))
			continue;
		/* Special entries belong to drivers, but for the zero page. */
		if (pte_special(old) && !is_zero_pfn(pte_pfn(old)))
			continue;
		walk->scanned++;
		if (walk->keep && pgt_fifo_holds(walk->keep, addr)) {
			walk->skipped++;
			continue;
		}
		old = ptep_get_and_clear(mm, addr, pte);
		walk->dirty = pte_dirty(old);
		walk->young = pte_young(old);
		set_pte_at(mm, addr, pte, cleaned_pte(old));
		walk->cleaned++;
	}
	pte_unmap_unlock(start, ptl);
}

/* A huge page that stays whole. Its entry must never look empty: madvise() would skip it. */
static void clean_huge(struct vm_area_struct *vma, pmd_t *pmd, unsigned long addr,
		       struct pgt_walk *walk)
{
	spinlock_t *ptl = pmd_lock(vma->vm_mm, pmd);
	pmd_t old = READ_ONCE(*pmd);

	if (pmd_trans_huge(old) && pmd_present(old) && !pmd_protnone(old)) {
		walk->scanned++;
		if (walk->keep && pgt_fifo_holds(walk->keep, addr & PMD_MASK)) {
			walk->skipped++;
		} else {
			/* The processor may set its bits until the exchange. */
			while (!try_cmpxchg((pmdval_t *)pmd, (pmdval_t *)&old,
					    pmd_val(cleaned_pmd(old))))
				;
#if PGT_NEW_MM
			page_table_check_pmd_clear(vma->vm_mm, old);
#else
			page_table_check_pmd_clear(vma->vm_mm, addr & PMD_MASK, old);
#endif
			walk->dirty = pmd_dirty(old);
			walk->young = pmd_young(old);
			walk->cleaned++;
		}
	}
	spin_unlock(ptl);
}

/*
 * Does it point to a page table? By one reading: an entry may turn from empty to a
 * huge page at any time, but what once was a table stays one under the mmap lock.
 */
static bool is_table(pmd_t *pmd)
{
	pmd_t e = READ_ONCE(*pmd);

	return !pmd_none(e) && pmd_present(e) && !pmd_leaf(e);
}

static void clean_pmds(struct vm_area_struct *vma, pud_t *pud, unsigned long addr,
		       unsigned long end, struct pgt_walk *walk)
{
	pmd_t *pmd = pmd_offset(pud, addr);
	unsigned long next;

	for (; addr < end; addr = next, pmd++) {
		next = pmd_addr_end(addr, end);
		if (pmd_trans_huge(READ_ONCE(*pmd))) {
			if (pgt_set.grain) {
				clean_huge(vma, pmd, addr, walk);
				continue;
			}
			pgt_split_huge_pmd(vma, pmd, addr);
		}
		if (!is_table(pmd))
			continue;
		clean_ptes(vma, pmd, addr, next, walk);
		cond_resched();
	}
}

/* NULL: there are no page tables so far down. */
static pud_t *pud_of(struct mm_struct *mm, unsigned long addr)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d;
	pud_t *pud, e;

	if (pgd_none(READ_ONCE(*pgd)))
		return NULL;
	p4d = p4d_offset(pgd, addr);
	if (p4d_none(READ_ONCE(*p4d)))
		return NULL;
	pud = pud_offset(p4d, addr);
	e = READ_ONCE(*pud);
	return pud_none(e) || !pud_present(e) || pud_leaf(e) ? NULL : pud;
}

/* Drivers' mappings, hugetlb and memory without access are left alone. */
bool pgt_vma_cleanable(const struct vm_area_struct *vma)
{
	return !(vma->vm_flags & (VM_PFNMAP | VM_MIXEDMAP | VM_IO | VM_HUGETLB)) &&
	       vma->vm_flags & (VM_READ | VM_WRITE | VM_EXEC);
}

/* [start, end) lies in vma. */
void pgt_clean_range(struct vm_area_struct *vma, unsigned long start, unsigned long end,
		     struct pgt_walk *walk)
{
	unsigned long addr, next;
	pud_t *pud;

	for (addr = start; addr < end; addr = next) {
		next = pud_addr_end(addr, end);
		pud = pud_of(vma->vm_mm, addr);
		if (pud)
			clean_pmds(vma, pud, addr, next, walk);
	}
}

void pgt_clean_space(struct mm_struct *mm, struct pgt_walk *walk)
{
	struct vm_area_struct *vma;
	VMA_ITERATOR(vmi, mm, 0);

	for_each_vma(vmi, vma)
		if (pgt_vma_cleanable(vma))
			pgt_clean_range(vma, vma->vm_start, vma->vm_end, walk);
}

/*
 * Moves the dirty bit of an anonymous page from its cleaned PTE to the page, where
 * reclaim looks too: the PTE then tells of writes from now on. Only after the TLBs
 * were flushed: until then a processor may write through an old entry, and whoever
 * unmaps the page must see by the bit that it has to flush before it reads the page.
 * Pages of files keep theirs: file systems want to hear of a page's first write.
 */
void pgt_move_dirty(struct vm_area_struct *vma, unsigned long addr)
{
	pud_t *pud = pud_of(vma->vm_mm, addr);
	spinlock_t *ptl;
	pmd_t *pmd;
	pte_t *pte, old;

	if (!pud)
		return;
	pmd = pmd_offset(pud, addr);
	if (!is_table(pmd))
		return;
	pte = pgt_pte_lock(vma->vm_mm, pmd, addr, &ptl);
	if (!pte)
		return;
	old = READ_ONCE(*pte);
	if (pte_protnone(old) && pte_dirty(old) && !pte_special(old) && PageAnon(pte_page(old))) {
		set_page_dirty(pte_page(old));
		old = ptep_get_and_clear(vma->vm_mm, addr, pte);
		set_pte_at(vma->vm_mm, addr, pte, __pte(pte_val(old) & ~(pteval_t)DIRTY_BITS));
	}
	pte_unmap_unlock(pte, ptl);
}

/* Forgets that the page was accessed, so that it shows whether it is again. */
bool pgt_age_page(struct vm_area_struct *vma, unsigned long addr)
{
	pud_t *pud = pud_of(vma->vm_mm, addr);
	bool young = false;
	spinlock_t *ptl;
	pmd_t *pmd;
	pte_t *pte;

	if (!pud)
		return false;
	pmd = pmd_offset(pud, addr);
	if (pmd_trans_huge(READ_ONCE(*pmd))) {
		ptl = pmd_lock(vma->vm_mm, pmd);
		if (pmd_trans_huge(*pmd) && pmd_present(*pmd) && !pmd_protnone(*pmd))
			young = test_and_clear_bit(_PAGE_BIT_ACCESSED, (unsigned long *)pmd);
		spin_unlock(ptl);
		return young;
	}
	if (!is_table(pmd))
		return false;
	pte = pgt_pte_lock(vma->vm_mm, pmd, addr, &ptl);
	if (!pte)
		return false;
	if (pte_present(*pte) && !pte_protnone(*pte))
		young = test_and_clear_bit(_PAGE_BIT_ACCESSED, (unsigned long *)pte);
	pte_unmap_unlock(pte, ptl);
	return young;
}
