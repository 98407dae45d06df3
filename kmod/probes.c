// SPDX-License-Identifier: GPL-2.0
/*
 * The hooks, one function each: handle_mm_fault (ftrace), filemap_get_pages
 * (kretprobe, level full only), and fork, exec, exit (tracepoints). They run in
 * process context, never sleep, and are registered only while recording.
 */
#include <linux/fs.h>
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/magic.h>
#include <linux/pagemap.h>
#include <linux/pagevec.h>
#include <linux/swap.h>
#include <linux/swapops.h>
#include <linux/tracepoint.h>
#include <linux/uio.h>

#include "pgtrace.h"

/* What the page tables say about an address before the kernel mends the fault. */
enum pte_state { PTE_EMPTY, PTE_SWAPPED, PTE_CLEANED, PTE_THERE };

/*
 * Lockless, as get_user_pages_fast() does it: page tables are freed only after
 * every CPU has had its interrupts on. Those of `mm` are not empty: a fault on
 * them is being handled. Interrupts are off.
 */
static enum pte_state pte_state(struct mm_struct *mm, unsigned long addr)
{
	pgd_t pgd = READ_ONCE(*pgd_offset(mm, addr));
	p4d_t p4d;
	pud_t pud;
	pmd_t pmd;
	pte_t pte;

	if (pgd_none(pgd))
		return PTE_EMPTY;
	p4d = READ_ONCE(*p4d_offset(&pgd, addr));
	if (p4d_none(p4d))
		return PTE_EMPTY;
	pud = READ_ONCE(*pud_offset(&p4d, addr));
	if (pud_none(pud))
		return PTE_EMPTY;
	if (!pud_present(pud) || pud_leaf(pud))
		return PTE_THERE;
	pmd = READ_ONCE(*pmd_offset(&pud, addr));
	if (pmd_none(pmd))
		return PTE_EMPTY;
	if (!pmd_present(pmd))
		return PTE_SWAPPED;
	if (pmd_leaf(pmd))
		return pmd_protnone(pmd) ? PTE_CLEANED : PTE_THERE;
	pte = READ_ONCE(*pte_offset_kernel(&pmd, addr));
	if (pte_none(pte))
		return PTE_EMPTY;
	if (pte_protnone(pte))
		return PTE_CLEANED;
	if (pte_present(pte))
		return PTE_THERE;
	return non_swap_entry(pte_to_swp_entry(pte)) ? PTE_THERE : PTE_SWAPPED;
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

static __always_inline u64 pack_page(u64 page, u64 order, u64 event, u64 access)
{
	return (page & PGT_PAGE_MASK) | order << PGT_ORDER_SHIFT |
	       event << PGT_EVENT_SHIFT | access << PGT_ACCESS_SHIFT;
}

static void emit_ref(u8 flags, u32 object, u64 addr, u64 ip, u64 page)
{
	struct pgt_ref *rec;
	unsigned long irq;

	local_irq_save(irq);
	rec = pgt_reserve(PGT_REFS, PGT_KIND_REF, flags, sizeof(*rec), true);
	if (likely(rec)) {
		rec->tgid = current->tgid;
		rec->tid = current->pid;
		rec->uid = from_kuid(&init_user_ns, current_uid());
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
 * lock; or it repairs a cleaned PTE read-only, and the write faults again. All
 * come from the same instruction on the same page; attempts that did not
 * complete leave the thread's fault counts alone.
 */
static bool same_use(struct pgt_thread *t, unsigned long page, unsigned long ip,
		     unsigned long faults, enum pte_state state, bool write)
{
	if (t->last_page != page || t->last_ip != ip)
		return false;
	return faults == t->last_faults ||
	       (state == PTE_THERE && write && t->last_cleaned &&
		faults == t->last_faults + 1);
}

static void on_fault(struct pgt_thread *t, struct vm_area_struct *vma, unsigned long addr,
		     unsigned int fault, struct pt_regs *regs)
{
	unsigned long ip = regs ? regs->ip : 0;
	unsigned long faults = current->maj_flt + current->min_flt;
	bool write = fault & FAULT_FLAG_WRITE;
	enum pte_state state;
	struct pgt_space *space;
	struct pgt_obj *obj;
	unsigned long irq;
	u8 access, event, flags = 0;
	u64 page;

	local_irq_save(irq);
	state = pte_state(vma->vm_mm, addr);
	local_irq_restore(irq);
	if (same_use(t, addr >> PAGE_SHIFT, ip, faults, state, write))
		return;

	space = pgt_space_of(t->proc, vma->vm_mm);
	obj = space ? pgt_object_of(vma, space, t->proc->tgid, addr, &page) : NULL;
	if (unlikely(!obj)) {
		pgt_lost_elsewhere(PGT_LOST_NO_MEMORY, 1);
		return;
	}
	if (unlikely(!t->proc->named))
		pgt_announce_process(t->proc, current, t->proc->how);
	pgt_announce_mapping(space, vma, obj, t->proc->tgid);

	access = fault & FAULT_FLAG_INSTRUCTION ? PGT_ACCESS_EXEC :
		 write ? PGT_ACCESS_WRITE : PGT_ACCESS_READ;
	event = state == PTE_CLEANED ? PGT_EVENT_RETOUCH : PGT_EVENT_FAULT;
	if (!(fault & FAULT_FLAG_USER))
		flags |= PGT_REF_KERNEL;
	if (!regs)
		flags |= PGT_REF_GUP;
	if (state == PTE_THERE)
		flags |= PGT_REF_PRESENT;
	if (is_major(vma, state, page))
		flags |= PGT_REF_MAJOR;
	emit_ref(flags, obj->id, addr, ip, pack_page(page, 0, event, access));
	t->last_page = addr >> PAGE_SHIFT;
	t->last_ip = ip;
	t->last_faults = faults;
	t->last_cleaned = state == PTE_CLEANED;
}

/* handle_mm_fault(vma, address, flags, regs) */
static void notrace fault_hook(unsigned long ip, unsigned long parent_ip,
			       struct ftrace_ops *op, struct ftrace_regs *fregs)
{
#if PGT_NEW_MM
	struct pt_regs *args = &arch_ftrace_regs(fregs)->regs;
#else
	struct pt_regs *args = &fregs->regs;
#endif
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

static struct ftrace_ops fault_ops;

/*
 * Unregistering leaves the filter's hashes behind, and freeing them leaves
 * pointers to them: the next start gets a fresh structure.
 */
static void free_fault_ops(void)
{
	ftrace_free_filter(&fault_ops);
	memset(&fault_ops, 0, sizeof(fault_ops));
}

/*
 * read() through the page cache: filemap_get_pages() returns the folios of the
 * next stretch of the request; each page of it is looked up once.
 */
struct lookup {
	struct kiocb *iocb;
	struct folio_batch *batch;
	u64 first, last;	/* pages asked for, inclusive */
};

static int lookup_entry(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct lookup *l = (void *)ri->data;
	size_t count;
	bool traced;

	preempt_disable();
	traced = pgt_thread_current();
	preempt_enable();
	if (!traced)
		return 1;	/* no return probe for this call */
	l->iocb = (void *)regs->di;
	l->batch = (void *)regs->dx;
#if PGT_NEW_MM
	count = regs->si;
#else
	count = iov_iter_count((struct iov_iter *)regs->si);
#endif
	if (!count)
		return 1;
	l->first = l->iocb->ki_pos >> PAGE_SHIFT;
	l->last = (l->iocb->ki_pos + count - 1) >> PAGE_SHIFT;
	return 0;
}

static int lookup_return(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct lookup *l = (void *)ri->data;
	struct pgt_thread *t;
	struct pgt_obj *obj;
	u64 page, end;
	int i;

	if (regs_return_value(regs))
		return 0;
	preempt_disable();
	t = pgt_thread_current();
	if (!t)
		goto out;
	obj = pgt_object_file(l->iocb->ki_filp, t->proc->tgid);
	if (!obj) {
		pgt_lost_elsewhere(PGT_LOST_NO_MEMORY, 1);
		goto out;
	}
	if (unlikely(!t->proc->named))
		pgt_announce_process(t->proc, current, t->proc->how);
	for (i = 0; i < l->batch->nr; i++) {
		struct folio *folio = l->batch->folios[i];

		page = max_t(u64, folio->index, l->first);
		end = min_t(u64, folio->index + folio_nr_pages(folio) - 1, l->last);
		for (; page <= end; page++)
			emit_ref(PGT_REF_KERNEL, obj->id, 0, 0,
				 pack_page(page, 0, PGT_EVENT_LOOKUP, PGT_ACCESS_READ));
	}
out:
	preempt_enable();
	return 0;
}

static struct kretprobe lookup_probe = {
	.kp.symbol_name = "filemap_get_pages",
	.entry_handler = lookup_entry,
	.handler = lookup_return,
	.data_size = sizeof(struct lookup),
	.maxactive = 1024,	/* readers that may wait for I/O at the same time */
};
static bool lookups_on;

static void fork_hook(void *data, struct task_struct *parent, struct task_struct *child)
{
	pgt_on_fork(parent, child);
}

static void exec_hook(void *data, struct task_struct *task, pid_t old, struct linux_binprm *bprm)
{
	pgt_on_exec(task);
}

static void exit_hook(void *data, struct task_struct *task)
{
	if (task->tgid == pgt_set.recorder && !atomic_read(&task->signal->live))
		pgt_recorder_died();
	pgt_on_exit(task);
}

static struct {
	const char *name;
	void *hook;
	struct tracepoint *tp;
	bool on;
} points[] = {
	{ "sched_process_fork", fork_hook },
	{ "sched_process_exec", exec_hook },
	{ "sched_process_exit", exit_hook },
};

static void find_point(struct tracepoint *tp, void *unused)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(points); i++)
		if (!strcmp(tp->name, points[i].name))
			points[i].tp = tp;
}

/* Page-cache look-ups are recorded at level full; their probe costs every reader. */
void pgt_probes_level(u8 level)
{
	bool on = level >= PGT_LEVEL_FULL;

	if (on == lookups_on)
		return;
	if (on)
		enable_kretprobe(&lookup_probe);
	else
		disable_kretprobe(&lookup_probe);
	lookups_on = on;
}

/* Process hooks first, then who is there already, then the references. */
int pgt_probes_start(void)
{
	int i, err = 0;

	for_each_kernel_tracepoint(find_point, NULL);
	for (i = 0; i < ARRAY_SIZE(points) && !err; i++) {
		if (!points[i].tp) {
			pr_err("the kernel has no tracepoint %s\n", points[i].name);
			err = -ENOENT;
			break;
		}
		err = tracepoint_probe_register(points[i].tp, points[i].hook, NULL);
		points[i].on = !err;
	}
	if (!err)
		err = pgt_targets_attach();
	if (err)
		goto no_points;

	/* register_kretprobe() wants a fresh structure each time. */
	lookup_probe.kp.addr = NULL;
	lookup_probe.kp.flags = KPROBE_FLAG_DISABLED;
	lookup_probe.nmissed = 0;
	lookup_probe.kp.nmissed = 0;
	lookups_on = false;
	err = register_kretprobe(&lookup_probe);
	if (err) {
		pr_err("cannot probe filemap_get_pages: %d\n", err);
		goto no_points;
	}
	pgt_probes_level(pgt_set.level);

	fault_ops.func = fault_hook;
	err = ftrace_set_filter(&fault_ops, "handle_mm_fault", strlen("handle_mm_fault"), 1);
	if (!err)
		err = register_ftrace_function(&fault_ops);
	if (!err)
		return 0;
	pr_err("cannot hook handle_mm_fault: %d\n", err);
	free_fault_ops();
	unregister_kretprobe(&lookup_probe);
no_points:
	while (--i >= 0)
		if (points[i].on)
			tracepoint_probe_unregister(points[i].tp, points[i].hook, NULL);
	tracepoint_synchronize_unregister();
	return err;
}

/* When this returns, no hook runs any more on any CPU. */
void pgt_probes_stop(void)
{
	int i;

	unregister_ftrace_function(&fault_ops);
	free_fault_ops();
	unregister_kretprobe(&lookup_probe);
	for (i = 0; i < ARRAY_SIZE(points); i++)
		tracepoint_probe_unregister(points[i].tp, points[i].hook, NULL);
	tracepoint_synchronize_unregister();
	pgt_lost_elsewhere(PGT_LOST_PROBE_MISSED, lookup_probe.nmissed);
}
