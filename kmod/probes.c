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

static u64 frame_mask;		/* PTE_PFN_MASK, which is worked out where it stands */

/* Entry of `addr` in the table that `entry` of the level above points to. */
static __always_inline u64 next_entry(u64 entry, unsigned long addr, int shift)
{
	const u64 *table = __va(entry & frame_mask);

	return READ_ONCE(table[addr >> shift & (PTRS_PER_PTE - 1)]);
}

/*
 * Lockless: whoever frees page tables under the lock that this fault holds (of
 * the mm or of the VMA) waits for RCU readers, and preemption is off. By plain
 * numbers, because it is done for every fault: tables of every level look alike.
 */
static __always_inline struct found look(struct mm_struct *mm, unsigned long addr)
{
	struct found f = { .state = PTE_EMPTY, .whole = true };
	u64 e = pgd_val(READ_ONCE(*pgd_offset(mm, addr)));

	if (!(e & _PAGE_PRESENT))
		return f;
	if (pgtable_l5_enabled()) {
		e = next_entry(e, addr, P4D_SHIFT);
		if (!(e & _PAGE_PRESENT))
			return f;
	}
	e = next_entry(e, addr, PUD_SHIFT);
	if (!(e & _PAGE_PRESENT))
		return f;
	if (unlikely(e & _PAGE_PSE)) {
		f.order = PUD_SHIFT - PAGE_SHIFT;
		f.state = PTE_THERE;
		return f;
	}
	e = next_entry(e, addr, PMD_SHIFT);
	if (unlikely((e & (_PAGE_PRESENT | _PAGE_PSE)) != _PAGE_PRESENT)) {
		pmd_t pmd = __pmd(e);

		if (pmd_none(pmd))
			return f;
		f.whole = false;
		f.order = PMD_SHIFT - PAGE_SHIFT;
		if (!pmd_present(pmd)) {
			f.state = PTE_SWAPPED;
			return f;
		}
		f.dirty = pmd_dirty(pmd);
		f.state = pmd_protnone(pmd) ? PTE_CLEANED : PTE_THERE;
		return f;
	}
	f.whole = false;
	e = next_entry(e, addr, PAGE_SHIFT);
	if (likely(!e))
		return f;
	{
		pte_t pte = __pte(e);

		if (pte_none(pte))
			return f;
		if (pte_present(pte)) {
			f.dirty = pte_dirty(pte);
			f.state = pte_protnone(pte) ? PTE_CLEANED : PTE_THERE;
		} else {
			f.state = non_swap_entry(pte_to_swp_entry(pte)) ? PTE_THERE : PTE_SWAPPED;
		}
	}
	return f;
}

/*
 * Order of the page that this fault will map, where huge pages are left whole.
 * The kernel may yet fall back to a base page when it finds no huge one; the
 * next reference then tells.
 */
static __always_inline u8 order_wanted(struct vm_area_struct *vma, unsigned long addr, struct found f)
{
	unsigned long start = addr & PMD_MASK;

	if (vma->vm_flags & VM_HUGETLB)
		return ilog2(vma_kernel_pagesize(vma)) - PAGE_SHIFT;
	if (f.order || !f.whole || !pgt_set.grain || !vma_is_anonymous(vma))
		return f.order;
	if (start < vma->vm_start || start + PMD_SIZE > vma->vm_end ||
	    !pgt_huge_pages_wanted(vma))
		return 0;
	return PMD_SHIFT - PAGE_SHIFT;
}

/*
 * The entry of a page in a file's page cache. xa_load() for readers who are in a
 * hurry, written out: most faults on files come this way, and the calls it takes
 * would cost as much as the rest of the hook. A tree that changes meanwhile may give
 * an answer of just before or just after, as it does to xa_load(). Preemption is off.
 */
static __always_inline void *cache_entry(struct address_space *mapping, unsigned long index)
{
	void *entry = rcu_dereference_raw(mapping->i_pages.xa_head);
	struct xa_node *node;

	if (!xa_is_node(entry))
		return index ? NULL : entry;
	node = xa_to_node(entry);
	if (unlikely(index >> node->shift > XA_CHUNK_MASK))
		return NULL;
	for (;;) {
		entry = rcu_dereference_raw(node->slots[index >> node->shift & XA_CHUNK_MASK]);
		/* A large folio has one entry, and pointers to it for its other pages. */
		if (unlikely(xa_is_sibling(entry))) {
			entry = rcu_dereference_raw(node->slots[xa_to_sibling(entry)]);
			/* It is just being split. */
			if (xa_is_sibling(entry) || xa_is_node(entry))
				return xa_load(&mapping->i_pages, index);
		}
		if (unlikely(xa_is_retry(entry)))	/* the node is on its way out */
			return xa_load(&mapping->i_pages, index);
		if (!node->shift || !xa_is_node(entry))
			return entry;
		node = xa_to_node(entry);
	}
}

/* Where pages of a mapping come from that are not in memory; `file`: what backs it, or NULL. */
static u8 source_of(const struct vm_area_struct *vma, const struct file *file)
{
	struct inode *inode;

	if (!file || vma->vm_flags & (VM_PFNMAP | VM_MIXEDMAP | VM_IO) || vma_is_dax(vma))
		return PGT_FROM_MEMORY;	/* what is mapped there is memory, or a device's */
	inode = file->f_mapping->host;
	if (!S_ISREG(inode->i_mode) && !S_ISBLK(inode->i_mode))
		return PGT_FROM_MEMORY;
	switch (inode->i_sb->s_magic) {
	case RAMFS_MAGIC:
	case HUGETLBFS_MAGIC:
		return PGT_FROM_MEMORY;	/* a hole is filled with zeroes */
	case TMPFS_MAGIC:
		return PGT_FROM_SWAP;	/* likewise, unless it was swapped out */
	}
	/* Both may have pages in the cache that lie behind the file's end. */
	if (mapping_large_folio_support(inode->i_mapping) || IS_VERITY(inode))
		return PGT_FROM_FILE;
	return PGT_FROM_COUNTED_FILE;
}

/* Are all pages of this file in memory? As many as it has are, and none stands for another. */
static __always_inline bool is_all_there(const struct address_space *mapping)
{
	return READ_ONCE(mapping->nrpages) << PAGE_SHIFT >= i_size_read(mapping->host);
}

/*
 * Has the page to be read for this fault? It is not in the page cache, or it was
 * swapped out (it may be in the swap cache yet). A page whose read is under way
 * already does not count. Preemption is off, which keeps the tree's nodes.
 */
static __always_inline bool is_major(const struct pgt_thread *t, struct vm_area_struct *vma,
				     enum pte_state state, u64 page)
{
	struct address_space *mapping;
	void *entry;

	if (likely(state != PTE_EMPTY || t->last_source == PGT_FROM_MEMORY))
		return unlikely(state == PTE_SWAPPED);
	mapping = vma->vm_file->f_mapping;
	if (likely(t->last_source == PGT_FROM_COUNTED_FILE && is_all_there(mapping)))
		return false;
	entry = cache_entry(mapping, page);
	/* Value entries stand for evicted pages. */
	return xa_is_value(entry) || (!entry && t->last_source != PGT_FROM_SWAP);
}

/*
 * One use is one reference, but may fault more than once: the kernel drops its
 * lock, waits and retries (TRIED, not asked here), retries from the VMA lock with the
 * mmap lock, or goes back to the instruction because of a signal; or it repairs a
 * cleaned PTE read-only, and the write faults again - with faults of the instruction's
 * own page or its other operand in between. All come from the same instruction on the
 * same page; attempts that did not complete leave the thread's fault counts alone.
 */
static __always_inline unsigned long faults_so_far(void)
{
	return current->maj_flt + current->min_flt;
}

static __always_inline bool same_use(const struct pgt_thread *t, unsigned long page,
				     unsigned long ip, unsigned int fault, enum pte_state state)
{
	int i;

	if (unlikely(t->last_page == page) && t->last_ip == ip && t->last_faults == faults_so_far())
		return true;
	if (likely(state != PTE_THERE || !(fault & FAULT_FLAG_WRITE)))
		return false;
	for (i = 0; i < PGT_RECENT; i++)
		if (t->cleaned[i].page == page && t->cleaned[i].ip == ip &&
		    faults_so_far() - t->cleaned[i].faults <= 3)
			return true;
	return false;
}

static __always_inline void remember(struct pgt_thread *t, unsigned long page, unsigned long ip,
				     unsigned int fault, enum pte_state state)
{
	unsigned int i;

	t->last_page = page;
	t->last_ip = ip;
	t->last_faults = faults_so_far();
	if (unlikely(state == PTE_CLEANED && fault & FAULT_FLAG_WRITE)) {
		i = t->next_cleaned++ % PGT_RECENT;
		t->cleaned[i].page = page;
		t->cleaned[i].ip = ip;
		t->cleaned[i].faults = t->last_faults;
	}
}

/* Is this the mapping that the thread used last? Its object and its record are known then. */
static __always_inline bool same_mapping(struct pgt_thread *t, struct pgt_space *space,
					 struct vm_area_struct *vma)
{
	struct pgt_obj *obj = t->last_obj;
	struct inode *inode;

	if (t->last_start != vma->vm_start || t->last_end != vma->vm_end ||
	    t->last_space != space->serial || !obj)
		return false;
	if (vma_is_anonymous(vma))	/* private memory of /dev/zero is, though it has a file */
		return !t->last_inode;
	if (!vma->vm_file)
		return false;
	/* Another file may have taken its place, even the same struct file. */
	inode = file_inode(vma->vm_file);
	return t->last_inode == inode && obj->ino == inode->i_ino &&
	       obj->generation == inode->i_generation && inode->i_nlink;
}

/* Finds what backs the page, and names whatever has no name yet. NULL: no memory. */
static noinline struct pgt_obj *name_object(struct pgt_thread *t, struct pgt_space *space,
					    struct vm_area_struct *vma, unsigned long addr)
{
	u64 page;
	struct pgt_obj *obj = pgt_object_of(vma, space, t->proc->tgid, addr, &page);
	struct file *file = vma_is_anonymous(vma) ? NULL : vma->vm_file;
	bool all;

	if (!obj)
		return NULL;
	if (unlikely(!t->proc->named))
		pgt_announce_process(t->proc, current, t->proc->how);
	all = pgt_announce_mapping(space, vma, obj, t->proc->tgid);
	t->last_start = vma->vm_start;
	t->last_end = vma->vm_end;
	t->last_space = space->serial;
	t->last_source = source_of(vma, file);
	t->last_inode = file ? file_inode(file) : NULL;
	t->last_obj = all && obj->named && t->proc->named ? obj : NULL;
	return obj;
}

static __always_inline void on_fault(struct pgt_thread *t, struct vm_area_struct *vma,
				     unsigned long addr, unsigned int fault, struct pt_regs *regs)
{
	unsigned long ip = 0;
	u64 page, now = ktime_get_mono_fast_ns();
	bool write = fault & FAULT_FLAG_WRITE;
	struct pgt_space *space;
	struct found found = look(vma->vm_mm, addr);
	struct pgt_obj *obj;
	u8 access, event = PGT_EVENT_FAULT, order = 0, flags = 0;

	if (likely(regs))
		ip = regs->ip;
	else
		flags |= PGT_REF_GUP;
	if (same_use(t, addr >> PAGE_SHIFT, ip, fault, found.state))
		return;

	space = rcu_dereference_sched(t->proc->space);
	if (unlikely(!space || space->mm != vma->vm_mm))
		space = pgt_space_of(t->proc, vma->vm_mm);
	if (likely(space && same_mapping(t, space, vma)))
		obj = t->last_obj;
	else
		obj = space ? name_object(t, space, vma, addr) : NULL;
	if (unlikely(!obj)) {
		if (!READ_ONCE(t->proc->gone))
			pgt_lost_elsewhere(PGT_LOST_NO_MEMORY, 1);
		return;
	}
	page = addr >> PAGE_SHIFT;
	if (!vma_is_anonymous(vma) && vma->vm_file)
		page += vma->vm_pgoff - (vma->vm_start >> PAGE_SHIFT);
	if (is_major(t, vma, found.state, page))
		flags |= PGT_REF_MAJOR;

	access = fault & FAULT_FLAG_INSTRUCTION ? PGT_ACCESS_EXEC :
		 write ? PGT_ACCESS_WRITE : PGT_ACCESS_READ;
	if (!(fault & FAULT_FLAG_USER))
		flags |= PGT_REF_KERNEL;
	if (found.state == PTE_CLEANED)
		event = PGT_EVENT_RETOUCH;
	else if (unlikely(found.state == PTE_THERE))
		flags |= PGT_REF_PRESENT;
	if (unlikely(found.order | found.whole)) {	/* of hugetlb always one of them */
		order = order_wanted(vma, addr, found);
		page &= ~((1ULL << order) - 1);
	}
	pgt_emit_ref(true, now, flags, obj->id, addr, ip, pgt_pack_page(page, order, event, access));
	if (unlikely(pgt_set.policy == PGT_POLICY_FIFO && pgt_set.level >= PGT_LEVEL_RICH))
		pgt_fifo_touch(t, space, obj->id, addr, pgt_pack_page(page, order, 0, 0),
			       now, write, found.dirty);
	remember(t, addr >> PAGE_SHIFT, ip, fault, found.state);
}

static noinline notrace void maybe_traced_fault(struct pt_regs *args, struct hlist_head *bucket)
{
	struct vm_area_struct *vma = (void *)args->di;
	unsigned int fault = args->dx;
	struct pgt_thread *t;

	/* A retry was counted at its first attempt; another's memory is not our use. */
	if (fault & (FAULT_FLAG_TRIED | FAULT_FLAG_REMOTE) || vma->vm_mm != current->mm)
		return;
	preempt_disable_notrace();
	t = pgt_thread_in(bucket, current);
	if (unlikely(!t))
		t = pgt_thread_current();
	if (t)
		on_fault(t, vma, args->si, fault, (void *)args->cx);
	preempt_enable_notrace();
}

/*
 * handle_mm_fault(vma, address, flags, regs). Nothing in here faults, so the hook
 * is never entered from itself. Every fault of the system comes this way.
 */
static void notrace fault_hook(unsigned long ip, unsigned long parent_ip,
			       struct ftrace_ops *op, struct ftrace_regs *fregs)
{
	struct hlist_head *bucket = pgt_bucket_of(current);

	if (unlikely(pgt_maybe_traced(current, bucket)))
		maybe_traced_fault(pgt_args(fregs), bucket);
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

/* exit first: whoever is taken in from now on leaves again. */
static struct pgt_point points[] = {
	{ "sched_process_exit", exit_hook },
	{ "sched_process_fork", fork_hook },
	{ "sched_process_exec", exec_hook },
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
	frame_mask = PTE_PFN_MASK;
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
