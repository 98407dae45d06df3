// SPDX-License-Identifier: GPL-2.0
/*
 * Faults and the life of processes: the hooks of every level, on handle_mm_fault
 * (ftrace) and on fork, exec and exit (tracepoints). Those of rich and full are
 * in maps.c and cache.c. Hooks run in process context, never sleep, and are
 * registered only while recording.
 */
#include <linux/fs.h>
#include <linux/ftrace.h>
#include <linux/hugetlb.h>
#include <linux/magic.h>
#include <linux/pagemap.h>
#include <linux/swap.h>
#include <linux/swapops.h>
#include <linux/tracepoint.h>

#include "pgtrace.h"

/* What the page tables say about an address before the kernel mends the fault. */
enum pte_state { PTE_EMPTY, PTE_SWAPPED, PTE_CLEANED, PTE_THERE };

struct found {
	enum pte_state state;
	u8 order;		/* of the page that is there; 0 where there is none */
	bool dirty;
	bool whole;		/* not even a page table: a huge page could be put here */
};

/*
 * Lockless, as get_user_pages_fast() does it: page tables are freed only after
 * every CPU has had its interrupts on. Those of `mm` are not empty: a fault on
 * them is being handled. Interrupts are off.
 */
static void look(struct mm_struct *mm, unsigned long addr, struct found *f)
{
	pgd_t pgd = READ_ONCE(*pgd_offset(mm, addr));
	p4d_t p4d;
	pud_t pud;
	pmd_t pmd;
	pte_t pte;

	f->order = 0;
	f->dirty = false;
	f->whole = true;
	f->state = PTE_EMPTY;
	if (pgd_none(pgd))
		return;
	p4d = READ_ONCE(*p4d_offset(&pgd, addr));
	if (p4d_none(p4d))
		return;
	pud = READ_ONCE(*pud_offset(&p4d, addr));
	if (pud_none(pud))
		return;
	if (!pud_present(pud) || pud_leaf(pud)) {
		f->order = PUD_SHIFT - PAGE_SHIFT;
		f->state = PTE_THERE;
		return;
	}
	pmd = READ_ONCE(*pmd_offset(&pud, addr));
	if (pmd_none(pmd))
		return;
	f->whole = false;
	if (!pmd_present(pmd)) {
		f->state = PTE_SWAPPED;
		return;
	}
	if (pmd_leaf(pmd)) {
		f->order = PMD_SHIFT - PAGE_SHIFT;
		f->dirty = pmd_dirty(pmd);
		f->state = pmd_protnone(pmd) ? PTE_CLEANED : PTE_THERE;
		return;
	}
	pte = READ_ONCE(*pte_offset_kernel(&pmd, addr));
	if (pte_none(pte))
		return;
	if (pte_present(pte)) {
		f->dirty = pte_dirty(pte);
		f->state = pte_protnone(pte) ? PTE_CLEANED : PTE_THERE;
	} else {
		f->state = non_swap_entry(pte_to_swp_entry(pte)) ? PTE_THERE : PTE_SWAPPED;
	}
}

/*
 * Order of the page that this fault will map, where huge pages are left whole.
 * The kernel may yet fall back to a base page when it finds no huge one; the
 * next reference then tells.
 */
static u8 order_wanted(struct vm_area_struct *vma, unsigned long addr, const struct found *f)
{
	unsigned long start = addr & PMD_MASK;

	if (vma->vm_flags & VM_HUGETLB)
		return ilog2(vma_kernel_pagesize(vma)) - PAGE_SHIFT;
	if (f->order || !f->whole || !pgt_set.grain || !vma_is_anonymous(vma))
		return f->order;
	if (start < vma->vm_start || start + PMD_SIZE > vma->vm_end ||
	    !pgt_huge_pages_wanted(vma))
		return 0;
	return PMD_SHIFT - PAGE_SHIFT;
}

/* Is this page of the file in memory? Otherwise the fault needs I/O. */
static bool in_page_cache(struct address_space *mapping, u64 page)
{
	struct folio *folio;
	bool there;

	rcu_read_lock();
	folio = xa_load(&mapping->i_pages, page);
	/* Value entries stand for evicted pages; a page under read is waited for. */
	there = folio && !xa_is_value(folio) && folio_test_uptodate(folio);
	rcu_read_unlock();
	return there;
}

static bool is_major(struct vm_area_struct *vma, enum pte_state state, u64 page)
{
	struct address_space *mapping;

	if (state == PTE_SWAPPED)
		return true;
	if (state != PTE_EMPTY || !vma->vm_file || vma_is_anonymous(vma))
		return false;
	mapping = vma->vm_file->f_mapping;
	switch (mapping->host->i_sb->s_magic) {
	case TMPFS_MAGIC:
	case RAMFS_MAGIC:
	case HUGETLBFS_MAGIC:
		/* A hole in memory is filled with zeroes, unless it was swapped out. */
		return xa_is_value(xa_load(&mapping->i_pages, page));
	}
	return !in_page_cache(mapping, page);
}

/* Preemption is off, or the event comes with interrupts off. */
void pgt_emit_ref(bool by_current, u8 flags, u32 object, u64 addr, u64 ip, u64 page)
{
	struct pgt_ref *rec;
	unsigned long irq;

	local_irq_save(irq);
	rec = pgt_reserve(PGT_REFS, PGT_KIND_REF, flags, sizeof(*rec), true);
	if (likely(rec)) {
		rec->tgid = by_current ? current->tgid : 0;
		rec->tid = by_current ? current->pid : 0;
		rec->uid = by_current ? from_kuid(&init_user_ns, current_uid()) : 0;
		rec->object = object;
		rec->addr = addr;
		rec->ip = ip;
		rec->page = page;
		pgt_commit(PGT_REFS, sizeof(*rec));
	}
	local_irq_restore(irq);
}

/*
 * One use is one reference, but may fault more than once: the kernel drops its
 * lock, waits and retries (TRIED), or retries from the VMA lock with the mmap
 * lock; or it repairs a cleaned PTE read-only, and the write faults again - with
 * faults of the instruction's own page or its other operand in between. All come
 * from the same instruction on the same page; attempts that did not complete
 * leave the thread's fault counts alone.
 */
static bool same_use(struct pgt_thread *t, unsigned long page, unsigned long ip,
		     unsigned long faults, enum pte_state state, bool write)
{
	int i;

	for (i = 0; i < PGT_RECENT; i++) {
		if (t->recent[i].page != page || t->recent[i].ip != ip)
			continue;
		if (faults == t->recent[i].faults ||
		    (state == PTE_THERE && write && t->recent[i].cleaned_write &&
		     faults - t->recent[i].faults <= 3))
			return true;
	}
	return false;
}

static void remember(struct pgt_thread *t, unsigned long page, unsigned long ip,
		     unsigned long faults, bool cleaned_write)
{
	unsigned int i = t->next_recent++ % PGT_RECENT;

	t->recent[i].page = page;
	t->recent[i].ip = ip;
	t->recent[i].faults = faults;
	t->recent[i].cleaned_write = cleaned_write;
}

static void on_fault(struct pgt_thread *t, struct vm_area_struct *vma, unsigned long addr,
		     unsigned int fault, struct pt_regs *regs)
{
	unsigned long ip = regs ? regs->ip : 0;
	unsigned long faults = current->maj_flt + current->min_flt;
	bool write = fault & FAULT_FLAG_WRITE;
	struct pgt_space *space;
	struct found found;
	struct pgt_obj *obj;
	unsigned long irq;
	u8 access, event, order, flags = 0;
	u64 page;

	local_irq_save(irq);
	look(vma->vm_mm, addr, &found);
	local_irq_restore(irq);
	if (same_use(t, addr >> PAGE_SHIFT, ip, faults, found.state, write))
		return;

	space = pgt_space_of(t->proc, vma->vm_mm);
	obj = space ? pgt_object_of(vma, space, t->proc->tgid, addr, &page) : NULL;
	if (unlikely(!obj)) {
		if (!READ_ONCE(t->proc->gone))
			pgt_lost_elsewhere(PGT_LOST_NO_MEMORY, 1);
		return;
	}
	if (unlikely(!t->proc->named))
		pgt_announce_process(t->proc, current, t->proc->how);
	pgt_announce_mapping(space, vma, obj, t->proc->tgid);

	access = fault & FAULT_FLAG_INSTRUCTION ? PGT_ACCESS_EXEC :
		 write ? PGT_ACCESS_WRITE : PGT_ACCESS_READ;
	event = found.state == PTE_CLEANED ? PGT_EVENT_RETOUCH : PGT_EVENT_FAULT;
	if (!(fault & FAULT_FLAG_USER))
		flags |= PGT_REF_KERNEL;
	if (!regs)
		flags |= PGT_REF_GUP;
	if (found.state == PTE_THERE)
		flags |= PGT_REF_PRESENT;
	if (is_major(vma, found.state, page))
		flags |= PGT_REF_MAJOR;
	order = order_wanted(vma, addr, &found);
	page &= ~((1ULL << order) - 1);
	pgt_emit_ref(true, flags, obj->id, addr, ip, pgt_pack_page(page, order, event, access));
	if (pgt_set.policy == PGT_POLICY_FIFO && pgt_set.level >= PGT_LEVEL_RICH)
		pgt_fifo_touch(t, space, obj->id, addr, pgt_pack_page(page, order, 0, 0),
			       write, found.dirty);
	remember(t, addr >> PAGE_SHIFT, ip, faults, write && found.state == PTE_CLEANED);
}

/* handle_mm_fault(vma, address, flags, regs) */
static void notrace fault_hook(unsigned long ip, unsigned long parent_ip,
			       struct ftrace_ops *op, struct ftrace_regs *fregs)
{
	struct pt_regs *args = pgt_args(fregs);
	struct vm_area_struct *vma = (void *)args->di;
	unsigned int fault = args->dx;
	struct pgt_thread *t;
	int bit;

	/* A retry was counted at its first attempt; another's memory is not our use. */
	if (fault & (FAULT_FLAG_TRIED | FAULT_FLAG_REMOTE) || vma->vm_mm != current->mm)
		return;
	bit = ftrace_test_recursion_trylock(ip, parent_ip);	/* preemption is off then */
	if (bit < 0)
		return;
	t = pgt_thread_current();
	if (t)
		on_fault(t, vma, args->si, fault, (void *)args->cx);
	ftrace_test_recursion_unlock(bit);
}

static struct pgt_hook faults = { .function = "handle_mm_fault", .func = fault_hook };

static void fork_hook(void *data, struct task_struct *parent, struct task_struct *child)
{
	pgt_on_fork(parent, child);
}

static void exec_hook(void *data, struct task_struct *task, pid_t old, struct linux_binprm *bprm)
{
	pgt_on_exec(task);
}

static void rename_hook(void *data, struct task_struct *task, const char *comm)
{
	pgt_on_rename(task, comm);
}

#ifdef CONFIG_CGROUPS
static void move_hook(void *data, struct cgroup *to, const char *path, struct task_struct *task,
		      bool threadgroup)
{
	pgt_on_move(task);
}
#endif

static void exit_hook(void *data, struct task_struct *task)
{
	if (task->tgid == pgt_set.recorder && !atomic_read(&task->signal->live))
		pgt_recorder_died();
	pgt_on_exit(task);
}

static struct pgt_point points[] = {
	{ "sched_process_fork", fork_hook },
	{ "sched_process_exec", exec_hook },
	{ "sched_process_exit", exit_hook },
	{ "task_rename", rename_hook },
#ifdef CONFIG_CGROUPS
	{ "cgroup_attach_task", move_hook },
	{ "cgroup_transfer_tasks", move_hook },
#endif
};

/* The hooks of a level: light has those of faults and processes only. */
int pgt_probes_level(u8 level)
{
	int err = pgt_maps_switch(level >= PGT_LEVEL_RICH);

	return err ?: pgt_cache_switch(level >= PGT_LEVEL_FULL);
}

/* Process hooks first, then who is there already, then the references. */
int pgt_probes_start(void)
{
	int err = pgt_points_on(points, ARRAY_SIZE(points));

	if (err)
		return err;
	err = pgt_targets_attach();
	if (!err)
		err = pgt_probes_level(pgt_set.level);
	if (!err) {
		err = pgt_hook_on(&faults);
		if (err)
			pr_err("cannot hook handle_mm_fault: %d\n", err);
	}
	if (err)
		pgt_probes_stop();
	return err;
}

/* When this returns, no hook runs any more on any CPU. */
void pgt_probes_stop(void)
{
	pgt_hook_off(&faults);
	pgt_maps_switch(false);
	pgt_cache_switch(false);
	pgt_points_off(points, ARRAY_SIZE(points));
}
