// SPDX-License-Identifier: GPL-2.0
/*
 * Mapping life, levels rich and full: what traced processes do to their address
 * spaces, and which neighbours a file fault maps along with its page.
 *
 *   MMAP      do_mmap() returned an address (mmap, shmat, exec's segments)
 *   MUNMAP    unmap_vmas() of a part of the current address space
 *   MREMAP    the system call returned an address
 *   BRK, STACK, MPROTECT   perf_event_mmap(), which the kernel calls for each
 *
 * The kernel tells tools of its own by perf_event_mmap() alone, but that says
 * neither what was asked for (it gets the VMA after merging) nor what goes.
 */
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/syscalls.h>
#include <asm/syscall.h>
#include <asm/unistd.h>

#include "pgtrace.h"

/* A MAP record; object and page are those of `vma` at start. Preemption is off. */
static void emit_map(struct pgt_thread *t, u8 op, struct vm_area_struct *vma, u64 start, u64 end,
		     u64 old_start, u64 old_end)
{
	struct pgt_space *space = pgt_space_of(t->proc, current->mm);
	struct pgt_map rec = {
		.tgid = current->tgid,
		.tid = current->pid,
		.op = op,
		.prot = op != PGT_MAP_MUNMAP && vma ? pgt_prot_of(vma) : 0,
		.start = start,
		.end = end,
		.old_start = old_start,
		.old_end = old_end,
	};
	struct pgt_obj *obj = NULL;
	u64 page;

	if (space && vma)
		obj = pgt_object_of(vma, space, t->proc->tgid, max_t(u64, start, vma->vm_start),
				    &page);
	if (obj) {
		rec.object = obj->id;
		rec.page = page;
	}
	if (unlikely(!t->proc->named))
		pgt_announce_process(t->proc, current, t->proc->how);
	pgt_emit(PGT_REFS, &rec, PGT_KIND_MAP, 0, sizeof(rec), true);
}

/* Number of the system call the current thread is in, as x86-64 counts them; -1: none. */
static int system_call(void)
{
	int nr = syscall_get_nr(current, task_pt_regs(current));

#ifdef CONFIG_IA32_EMULATION
	if (in_ia32_syscall()) {
		switch (nr) {
		case 45: return __NR_brk;
		case 90:
		case 192: return __NR_mmap;
		case 125: return __NR_mprotect;
		case 380: return __NR_pkey_mprotect;
		default: return -1;
		}
	}
#endif
	return nr;
}

/* perf_event_mmap(vma): the mmap lock is held for writing. */
static int vma_entry(struct kprobe *kp, struct pt_regs *regs)
{
	struct vm_area_struct *vma = (void *)regs->di;
	struct pgt_thread *t;
	u8 op;

	if (vma->vm_mm != current->mm)
		return 0;
	t = pgt_thread_current();
	if (!t)
		return 0;
	switch (system_call()) {
	case __NR_brk:
		op = PGT_MAP_BRK;
		break;
	case __NR_mprotect:
	case __NR_pkey_mprotect:
		op = PGT_MAP_MPROTECT;
		break;
	default:
		if (!(vma->vm_flags & VM_GROWSDOWN))
			return 0;	/* mmap: told by do_mmap() */
		op = PGT_MAP_STACK;
	}
	emit_map(t, op, vma, vma->vm_start, vma->vm_end, 0, 0);
	return 0;
}

struct mapping_call {
	u64 old_start, old_end, len;
};

static bool traced(void)
{
	bool yes;

	preempt_disable();
	yes = current->mm && pgt_thread_current();
	preempt_enable();
	return yes;
}

/* do_mmap(file, addr, len, ...) */
static int mmap_entry(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct mapping_call *call = (void *)ri->data;

	if (!traced())
		return 1;
	call->len = PAGE_ALIGN(regs->dx);
	return 0;
}

static void emit_mapped(u8 op, u64 start, const struct mapping_call *call)
{
	struct vm_area_struct *vma;
	struct pgt_thread *t;

	preempt_disable();
	t = pgt_thread_current();
	if (t) {
		/* Only do_mmap() still holds the lock here. */
		vma = op == PGT_MAP_MMAP ? find_vma(current->mm, start) : NULL;
		if (vma && vma->vm_start > start)
			vma = NULL;
		emit_map(t, op, vma, start, start + call->len, call->old_start, call->old_end);
	}
	preempt_enable();
}

static int mmap_return(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	if (!IS_ERR_VALUE(regs_return_value(regs)))
		emit_mapped(PGT_MAP_MMAP, regs_return_value(regs), (void *)ri->data);
	return 0;
}

/* mremap(addr, old_len, new_len, flags, new_addr): the wrapper gets the user's registers. */
static int mremap_entry(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct mapping_call *call = (void *)ri->data;
	const struct pt_regs *user = (void *)regs->di;

	if (!traced())
		return 1;
	call->old_start = user->di;
	call->old_end = user->di + PAGE_ALIGN(user->si);
	call->len = PAGE_ALIGN(user->dx);
	return 0;
}

static int mremap_return(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	if (!IS_ERR_VALUE(regs_return_value(regs)))
		emit_mapped(PGT_MAP_MREMAP, regs_return_value(regs), (void *)ri->data);
	return 0;
}

static struct kprobe vma_probe = {
	.symbol_name = "perf_event_mmap",
	.pre_handler = vma_entry,
};

static struct kretprobe mmap_probe = {
	.kp.symbol_name = "do_mmap",
	.entry_handler = mmap_entry,
	.handler = mmap_return,
	.data_size = sizeof(struct mapping_call),
	.maxactive = 256,
};

static struct kretprobe mremap_probe = {
	.kp.symbol_name = "__x64_sys_mremap",
	.entry_handler = mremap_entry,
	.handler = mremap_return,
	.data_size = sizeof(struct mapping_call),
	.maxactive = 256,
};

/* unmap_vmas(tlb, tree, vma, start, end): [start, end) goes; vma is the first in it. */
static void notrace unmap_hook(unsigned long ip, unsigned long parent_ip,
			       struct ftrace_ops *op, struct ftrace_regs *fregs)
{
	struct pt_regs *args = pgt_args(fregs);
	struct vm_area_struct *vma = (void *)args->dx;
	struct pgt_thread *t;
	int bit;

	/* At exec and exit the address space is not current any more; a move is told as such (but for 32-bit programs). */
	if (vma->vm_mm != current->mm || system_call() == __NR_mremap)
		return;
	bit = ftrace_test_recursion_trylock(ip, parent_ip);
	if (bit < 0)
		return;
	t = pgt_thread_current();
	if (t)
		emit_map(t, PGT_MAP_MUNMAP, vma, args->cx, args->r8, 0, 0);
	ftrace_test_recursion_unlock(bit);
}

/* filemap_map_pages(vmf, first, last) */
static void notrace around_hook(unsigned long ip, unsigned long parent_ip,
				struct ftrace_ops *op, struct ftrace_regs *fregs)
{
	struct pt_regs *args = pgt_args(fregs);
	struct vm_fault *vmf = (void *)args->di;
	struct vm_area_struct *vma = vmf->vma;
	u64 first = args->si, last = args->dx;
	struct pgt_space *space;
	struct pgt_thread *t;
	struct pgt_obj *obj;
	int bit;

	if (last <= first || vma->vm_mm != current->mm || vmf->flags & FAULT_FLAG_REMOTE)
		return;
	bit = ftrace_test_recursion_trylock(ip, parent_ip);
	if (bit < 0)
		return;
	t = pgt_thread_current();
	space = t ? pgt_space_of(t->proc, vma->vm_mm) : NULL;
	obj = space ? pgt_object_file(vma->vm_file, t->proc->tgid) : NULL;
	if (obj) {
		struct pgt_around rec = {
			.tgid = current->tgid,
			.tid = current->pid,
			.object = obj->id,
			.pages = last - first + 1,
			.addr = (vmf->address & PAGE_MASK) - ((vmf->pgoff - first) << PAGE_SHIFT),
			.page = first,
			.touched = vmf->real_address,
		};

		pgt_emit(PGT_REFS, &rec, PGT_KIND_AROUND, 0, sizeof(rec), true);
		pgt_fifo_around(t, space, rec.addr, rec.addr + rec.pages * PAGE_SIZE);
	}
	ftrace_test_recursion_unlock(bit);
}

static struct pgt_hook unmap = { .function = "unmap_vmas", .func = unmap_hook };
static struct pgt_hook around = { .function = "filemap_map_pages", .func = around_hook };
static bool on, vma_on, mmap_on, mremap_on;

/* All or nothing: a kernel without one of these functions is told, and not half recorded. */
int pgt_maps_switch(bool want)
{
	int err = 0;

	if (want == on)
		return 0;
	if (!want)
		goto off;
	pgt_fresh_kprobe(&vma_probe);
	err = register_kprobe(&vma_probe);
	vma_on = !err;
	if (!err)
		err = pgt_fresh_kretprobe(&mmap_probe);
	mmap_on = vma_on && !err;
	if (!err)
		err = pgt_fresh_kretprobe(&mremap_probe);
	mremap_on = mmap_on && !err;
	if (!err)
		err = pgt_hook_on(&unmap);
	if (!err)
		err = pgt_hook_on(&around);
	on = !err;
	if (!err)
		return 0;
	pr_err("cannot watch mappings: %d\n", err);
off:
	pgt_hook_off(&around);
	pgt_hook_off(&unmap);
	if (mremap_on)
		unregister_kretprobe(&mremap_probe);
	if (mmap_on)
		unregister_kretprobe(&mmap_probe);
	if (vma_on)
		unregister_kprobe(&vma_probe);
	if (mmap_on && mremap_on)
		pgt_lost_elsewhere(PGT_LOST_PROBE_MISSED,
				   mmap_probe.nmissed + mremap_probe.nmissed + vma_probe.nmissed);
	mmap_probe.nmissed = mremap_probe.nmissed = 0;
	on = vma_on = mmap_on = mremap_on = false;
	return err;
}
