// SPDX-License-Identifier: GPL-2.0
/*
 * The page cache, level full: look-ups by read(), pages that enter, pages that leave.
 *
 * A page that enters or leaves is recorded where its file is an object of the
 * recording. Both tracepoints may come with interrupts off and the mapping's
 * lock held, where no path can be built; so the file is named before, by the
 * hook that is first to see it used: a fault, a read or a write.
 */
#include <linux/fs.h>
#include <linux/kprobes.h>
#include <linux/pagemap.h>
#include <linux/pagevec.h>
#include <linux/tracepoint.h>
#include <linux/uio.h>

#include "pgtrace.h"

/*
 * read() through the page cache: filemap_get_pages() returns the folios of the
 * next stretch of the request; each page of it is looked up once.
 */
struct lookup {
	struct pgt_obj *obj;
	struct folio_batch *batch;
	u64 first, last;	/* pages asked for, inclusive */
};

/* The object of a file that the current thread uses; NULL: not traced, or no memory. */
static struct pgt_obj *used_file(struct file *file)
{
	struct pgt_thread *t = pgt_thread_current();
	struct pgt_obj *obj;

	if (!t)
		return NULL;
	if (unlikely(!t->proc->named))
		pgt_announce_process(t->proc, current, t->proc->how);
	obj = pgt_object_file(file, t->proc->tgid);
	if (!obj)
		pgt_lost_elsewhere(PGT_LOST_NO_MEMORY, 1);
	return obj;
}

static int lookup_entry(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct lookup *l = (void *)ri->data;
	struct kiocb *iocb = (void *)regs->di;
	size_t count;

	preempt_disable();
	l->obj = used_file(iocb->ki_filp);
	preempt_enable();
	if (!l->obj)
		return 1;	/* no return probe for this call */
	l->batch = (void *)regs->dx;
#if PGT_NEW_MM
	count = regs->si;
#else
	count = iov_iter_count((struct iov_iter *)regs->si);
#endif
	if (!count)
		return 1;
	l->first = iocb->ki_pos >> PAGE_SHIFT;
	l->last = (iocb->ki_pos + count - 1) >> PAGE_SHIFT;
	return 0;
}

static int lookup_return(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct lookup *l = (void *)ri->data;
	u64 page, end, now = ktime_get_mono_fast_ns();
	int i;

	if (regs_return_value(regs))
		return 0;
	preempt_disable();
	for (i = 0; i < l->batch->nr; i++) {
		struct folio *folio = l->batch->folios[i];

		page = max_t(u64, folio->index, l->first);
		end = min_t(u64, folio->index + folio_nr_pages(folio) - 1, l->last);
		for (; page <= end; page++)
			pgt_emit_ref(true, now, PGT_REF_KERNEL, l->obj->id, 0, 0,
				     pgt_pack_page(page, 0, PGT_EVENT_LOOKUP, PGT_ACCESS_READ));
	}
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

/* generic_perform_write(iocb, iter), iomap_file_buffered_write(iocb, iter, ..): names the file. */
static void notrace write_hook(unsigned long ip, unsigned long parent_ip,
			       struct ftrace_ops *op, struct ftrace_regs *fregs)
{
	struct kiocb *iocb = (void *)pgt_args(fregs)->di;
	int bit = ftrace_test_recursion_trylock(ip, parent_ip);

	if (bit < 0)
		return;
	used_file(iocb->ki_filp);
	ftrace_test_recursion_unlock(bit);
}

static struct pgt_hook writes = { .function = "generic_perform_write", .func = write_hook };
/* Not in every kernel. */
static struct pgt_hook iomap_writes = { .function = "iomap_file_buffered_write", .func = write_hook };

static void emit_cached(struct folio *folio, u8 event)
{
	struct address_space *mapping = folio->mapping;
	struct pgt_obj *obj = mapping && mapping->host ? pgt_object_find(mapping->host) : NULL;

	if (obj)
		pgt_emit_ref(pgt_thread_find(current), ktime_get_mono_fast_ns(), 0, obj->id, 0, 0,
			     pgt_pack_page(folio->index, folio_order(folio), event,
					   PGT_ACCESS_UNKNOWN));
}

static void insert_hook(void *data, struct folio *folio)
{
	/* Those who are not traced read the same files: that is no event of ours. */
	if (pgt_thread_find(current))
		emit_cached(folio, PGT_EVENT_INSERT);
}

static void evict_hook(void *data, struct folio *folio)
{
	emit_cached(folio, PGT_EVENT_EVICT);
}

static struct pgt_point points[] = {
	{ "mm_filemap_add_to_page_cache", insert_hook },
	{ "mm_filemap_delete_from_page_cache", evict_hook },
};

static bool on, lookups_on;

int pgt_cache_switch(bool want)
{
	int err = 0;

	if (want == on)
		return 0;
	if (!want)
		goto off;
	err = pgt_fresh_kretprobe(&lookup_probe);
	lookups_on = !err;
	if (!err)
		err = pgt_hook_on(&writes);
	if (!err) {
		pgt_hook_on(&iomap_writes);	/* where there is none, nobody writes by it */
		err = pgt_points_on(points, ARRAY_SIZE(points));
	}
	on = !err;
	if (!err)
		return 0;
	pr_err("cannot watch the page cache: %d\n", err);
off:
	pgt_points_off(points, ARRAY_SIZE(points));
	pgt_hook_off(&iomap_writes);
	pgt_hook_off(&writes);
	if (lookups_on) {
		unregister_kretprobe(&lookup_probe);
		pgt_lost_elsewhere(PGT_LOST_PROBE_MISSED, lookup_probe.nmissed);
	}
	on = lookups_on = false;
	return err;
}
