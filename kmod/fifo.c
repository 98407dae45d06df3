// SPDX-License-Identifier: GPL-2.0
/*
 * The FIFO policy (Kaplan's EVMS): of each address space the last N touched
 * pages are active, that is present; the touch of any other page faults. So the
 * trace holds every reference at an LRU depth beyond N, whatever time passes.
 *
 * The fault hook enters the page. When there are more than N, the oldest leave:
 * as task work of the thread that faulted, before it returns to user mode, in a
 * context that may sleep and take the mmap lock. A page that is active already is
 * not entered twice. A page leaves with a record of what happened to it: an
 * accessed bit, forgotten once the first use is over, tells of a second one.
 *
 * Between the hook and the trimming a system call may touch many pages: there is
 * room for them. Should it not suffice, pages stay present that are not active;
 * the next trimming then goes through the whole address space.
 */
#include <linux/hash.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/rcupdate.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/task_work.h>
#include <linux/timekeeping.h>
#include <linux/wait.h>

#include "pgtrace.h"

#define NO_SLOT U32_MAX
#define RANGES 16
#define FIRST_CAPACITY 1024U
#define FRESH 4			/* pages that the instruction at work may need */
#define BATCH 16

/* entry.flags besides PGT_ACTIVE_* */
#define WAS_DIRTY	0x10	/* when it was entered */
#define AGED		0x20	/* its accessed bit was cleared since */
#define AGAIN		0x40	/* entered a second time: it was not present at its turn */

struct entry {
	unsigned long addr;	/* of the page */
	u64 page;		/* as in pgt_active */
	u64 since_ns;
	u32 object;
	u32 chain;		/* next slot with this hash */
	u8 flags;
};

/* Positions count up for ever; position % capacity is the slot. */
struct pgt_fifo {
	spinlock_t lock;
	u32 n;			/* active pages wanted */
	u32 turn;		/* pgt_set.turn it was made for */
	u32 capacity;		/* of the ring; it grows to `full` as pages come */
	u32 full;		/* N, and what a system call may touch at once */
	u32 bits;		/* of the hash */
	u64 oldest, next;	/* the entries are [oldest, next) */
	u64 aged;		/* those before were aged */
	bool overflow;		/* a page found no room */
	u32 n_ranges;		/* of file pages that came along with a fault */
	struct {
		unsigned long start, end;
	} ranges[RANGES];
	u32 *buckets;
	struct entry *entries;
	struct rcu_head rcu;
};

/* Task work outstanding; the recording may end before it runs. */
struct trim {
	struct callback_head work;
	struct list_head list;
	struct task_struct *task;	/* reference */
	struct pgt_space *space;	/* reference */
};

static LIST_HEAD(trims);
static DEFINE_SPINLOCK(trims_lock);
static atomic_t n_trims = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(trimmed);
static bool used;		/* since the last pgt_fifo_stop() */

/* --- the queue and its hash; fifo->lock is held where a name begins with __ --- */

static u32 *__bucket(struct pgt_fifo *fifo, unsigned long addr)
{
	return &fifo->buckets[hash_long(addr >> PAGE_SHIFT, fifo->bits)];
}

static struct entry *__find(struct pgt_fifo *fifo, unsigned long addr)
{
	u32 slot;

	for (slot = *__bucket(fifo, addr); slot != NO_SLOT; slot = fifo->entries[slot].chain)
		if (fifo->entries[slot].addr == addr)
			return &fifo->entries[slot];
	return NULL;
}

static void __push(struct pgt_fifo *fifo, const struct entry *entry)
{
	u32 slot, *bucket = __bucket(fifo, entry->addr);

	if (fifo->next - fifo->oldest == fifo->capacity) {
		fifo->overflow = true;
		return;
	}
	slot = fifo->next++ % fifo->capacity;
	fifo->entries[slot] = *entry;
	fifo->entries[slot].chain = *bucket;
	*bucket = slot;
}

static void __pop(struct pgt_fifo *fifo, struct entry *entry)
{
	u32 slot = fifo->oldest++ % fifo->capacity, *link;

	*entry = fifo->entries[slot];
	for (link = __bucket(fifo, entry->addr); *link != slot; link = &fifo->entries[*link].chain)
		;
	*link = entry->chain;
}

/* Is this page active? A page of a huge page goes by the address of its first. */
bool pgt_fifo_holds(struct pgt_fifo *fifo, unsigned long addr)
{
	bool yes;

	spin_lock(&fifo->lock);
	yes = __find(fifo, addr & PAGE_MASK);
	spin_unlock(&fifo->lock);
	return yes;
}

static void free_fifo(struct pgt_fifo *fifo)
{
	kvfree(fifo->buckets);
	kvfree(fifo->entries);
	kfree(fifo);
}

/* A larger ring, with what is in the old one. False: no memory; the old one stays. */
static bool grow(struct pgt_fifo *fifo, u32 capacity)
{
	u32 bits = order_base_2(capacity), *buckets, *old_buckets = fifo->buckets, slot;
	struct entry *entries, *old_entries = fifo->entries;
	u64 at;

	buckets = kvmalloc_array(1UL << bits, sizeof(u32), GFP_KERNEL);
	entries = kvmalloc_array(capacity, sizeof(struct entry), GFP_KERNEL);
	if (!buckets || !entries) {
		kvfree(buckets);
		kvfree(entries);
		return false;
	}
	memset(buckets, 0xff, sizeof(u32) << bits);	/* NO_SLOT */
	spin_lock(&fifo->lock);
	for (at = fifo->oldest; at < fifo->next; at++)
		entries[at % capacity] = old_entries[at % fifo->capacity];
	fifo->buckets = buckets;
	fifo->entries = entries;
	fifo->capacity = capacity;
	fifo->bits = bits;
	for (at = fifo->oldest; at < fifo->next; at++) {
		slot = at % capacity;
		buckets = __bucket(fifo, entries[slot].addr);
		entries[slot].chain = *buckets;
		*buckets = slot;
	}
	spin_unlock(&fifo->lock);
	kvfree(old_buckets);
	kvfree(old_entries);
	return true;
}

static void free_fifo_rcu(struct rcu_head *rcu)
{
	free_fifo(container_of(rcu, struct pgt_fifo, rcu));
}

static struct pgt_fifo *new_fifo(u32 n, u32 turn)
{
	struct pgt_fifo *fifo = kzalloc(sizeof(*fifo), GFP_KERNEL);

	if (!fifo)
		return NULL;
	spin_lock_init(&fifo->lock);
	fifo->n = n;
	fifo->turn = turn;
	fifo->full = n + max(n / 2, 1024U);
	/* Most processes are small: their rings are, too. */
	if (!grow(fifo, min(fifo->full, FIRST_CAPACITY))) {
		free_fifo(fifo);
		return NULL;
	}
	return fifo;
}

/* Is it time for a larger ring? Half of it is left for what comes until then. */
static bool wants_room(const struct pgt_fifo *fifo)
{
	return fifo->capacity < fifo->full && fifo->next - fifo->oldest > fifo->capacity / 2;
}

/* The last user of the space is gone. */
void pgt_fifo_free(struct pgt_space *space)
{
	struct pgt_fifo *fifo = rcu_dereference_protected(space->fifo, true);

	if (fifo)
		free_fifo(fifo);
}

/* --- trimming, in task context --- */

#define MOST_DIRTY 32

struct flush {
	struct mm_struct *mm;
	unsigned long dirty[MOST_DIRTY];	/* evicted pages whose PTEs are dirty */
	unsigned int n_dirty;
	unsigned int n;
	unsigned long addr[4], size[4];
};

static void flush_later(struct flush *flush, unsigned long addr, unsigned long size)
{
	if (flush->n < ARRAY_SIZE(flush->addr)) {
		flush->addr[flush->n] = addr;
		flush->size[flush->n] = size;
	}
	flush->n++;
}

/* A few pages one by one; many at once are cheaper than each. */
static void flush_now(struct flush *flush)
{
	unsigned int i;

	if (flush->n > ARRAY_SIZE(flush->addr))
		pgt_flush_tlb_mm(flush->mm);
	else
		for (i = 0; i < flush->n; i++)
			pgt_flush_tlb_range(flush->mm, flush->addr[i],
					    flush->addr[i] + flush->size[i]);
	flush->n = 0;
}

static unsigned long size_of(const struct entry *entry)
{
	return PAGE_SIZE << ((entry->page >> PGT_ORDER_SHIFT) & PGT_ORDER_MASK);
}

static void emit_active(const struct entry *entry, u8 flags)
{
	struct pgt_active rec = {
		.tgid = current->tgid,
		.object = entry->object,
		.addr = entry->addr,
		.page = entry->page,
		.since_ns = entry->since_ns,
	};

	pgt_emit(PGT_REFS, &rec, PGT_KIND_ACTIVE, flags, sizeof(rec), true);
}

/* Makes the page fault at its next touch, and tells what happened to it. */
static void evict(struct pgt_fifo *fifo, struct entry *entry, struct flush *flush)
{
	struct vm_area_struct *vma = vma_lookup(flush->mm, entry->addr);
	struct pgt_walk walk = {};
	unsigned long end = entry->addr + size_of(entry);
	u8 flags = entry->flags & PGT_ACTIVE_DIRTIED;

	if (vma && pgt_vma_cleanable(vma))
		pgt_clean_range(vma, entry->addr, min(end, vma->vm_end), &walk);
	if (walk.cleaned) {
		flush_later(flush, entry->addr, end - entry->addr);
		/* Those beyond keep their bits, and count as dirty before when they come again. */
		if (walk.dirty && flush->n_dirty < MOST_DIRTY && end - entry->addr == PAGE_SIZE)
			flush->dirty[flush->n_dirty++] = entry->addr;
		if (walk.dirty && !(entry->flags & WAS_DIRTY))
			flags |= PGT_ACTIVE_DIRTIED;
		if (entry->flags & PGT_ACTIVE_REREFERENCED || (entry->flags & AGED && walk.young))
			flags |= PGT_ACTIVE_REREFERENCED;
	} else if (vma && !(entry->flags & AGAIN)) {
		/* Its fault may still wait for I/O: it gets another turn. */
		entry->flags |= AGAIN;
		spin_lock(&fifo->lock);
		if (!__find(fifo, entry->addr))
			__push(fifo, entry);
		spin_unlock(&fifo->lock);
		return;
	} else {
		flags = PGT_ACTIVE_GONE;
	}
	emit_active(entry, flags);
}

/* Entries beyond N leave, oldest first. */
static void evict_surplus(struct pgt_fifo *fifo, struct flush *flush)
{
	u64 end = READ_ONCE(fifo->next);	/* what is entered again has its turn next time */
	struct entry batch[BATCH];
	int i, n;

	do {
		spin_lock(&fifo->lock);
		for (n = 0; n < BATCH && fifo->next - fifo->oldest > fifo->n && fifo->oldest < end; n++)
			__pop(fifo, &batch[n]);
		spin_unlock(&fifo->lock);
		for (i = 0; i < n; i++)
			evict(fifo, &batch[i], flush);
	} while (n == BATCH);
}

/*
 * Entries whose first use is over forget that they were accessed. It is over when
 * a few pages have become active since: the instruction itself, its operands and
 * the stack may each have had to fault before it could go on.
 */
static void age(struct pgt_fifo *fifo, struct flush *flush)
{
	unsigned long addr[BATCH], size[BATCH];
	int i, n;

	do {
		spin_lock(&fifo->lock);
		fifo->aged = max(fifo->aged, fifo->oldest);
		for (n = 0; n < BATCH && fifo->aged + FRESH < fifo->next; n++) {
			struct entry *entry = &fifo->entries[fifo->aged++ % fifo->capacity];

			entry->flags |= AGED;
			addr[n] = entry->addr;
			size[n] = size_of(entry);
		}
		spin_unlock(&fifo->lock);
		for (i = 0; i < n; i++) {
			struct vm_area_struct *vma = vma_lookup(flush->mm, addr[i]);

			if (vma && pgt_vma_cleanable(vma) && pgt_age_page(vma, addr[i]))
				flush_later(flush, addr[i], size[i]);
		}
	} while (n == BATCH);
}

/* File pages that came along with a fault are present but not active. */
static void clean_ranges(struct pgt_fifo *fifo, struct mm_struct *mm, struct pgt_walk *walk)
{
	typeof(fifo->ranges[0]) ranges[RANGES];
	bool overflow;
	u32 i, n;

	spin_lock(&fifo->lock);
	n = fifo->n_ranges;
	memcpy(ranges, fifo->ranges, n * sizeof(ranges[0]));
	fifo->n_ranges = 0;
	overflow = fifo->overflow;
	fifo->overflow = false;
	spin_unlock(&fifo->lock);

	if (overflow) {
		struct pgt_clean pass = {
			.tgid = current->tgid,
			.start_ns = ktime_get_mono_fast_ns(),
		};

		pgt_clean_space(mm, walk);
		pass.end_ns = ktime_get_mono_fast_ns();
		pass.scanned = walk->scanned;
		pass.cleaned = walk->cleaned;
		pgt_emit(PGT_REFS, &pass, PGT_KIND_CLEAN, 0, sizeof(pass), true);
		return;
	}
	for (i = 0; i < n; i++) {
		struct vm_area_struct *vma = vma_lookup(mm, ranges[i].start);

		if (vma && pgt_vma_cleanable(vma))
			pgt_clean_range(vma, ranges[i].start, min(ranges[i].end, vma->vm_end), walk);
	}
}

static void move_dirty(const struct flush *flush)
{
	unsigned int i;

	for (i = 0; i < flush->n_dirty; i++) {
		struct vm_area_struct *vma = vma_lookup(flush->mm, flush->dirty[i]);

		if (vma && pgt_vma_cleanable(vma))
			pgt_move_dirty(vma, flush->dirty[i]);
	}
}

/* The current thread's own address space; it owns the space meanwhile. */
static void trim_space(struct pgt_space *space, struct mm_struct *mm)
{
	struct pgt_walk walk = {};
	struct flush flush = { .mm = mm };
	u32 n = READ_ONCE(pgt_set.fifo), turn = READ_ONCE(pgt_set.turn);
	struct pgt_fifo *fifo, *old;

	mutex_lock(&space->own);
	fifo = old = rcu_dereference_protected(space->fifo, lockdep_is_held(&space->own));
	if (!fifo || fifo->turn != turn) {
		fifo = new_fifo(n, turn);
		if (!fifo) {
			pgt_lost_elsewhere(PGT_LOST_NO_MEMORY, 1);
			goto out;
		}
		fifo->overflow = true;	/* whatever is present is not active */
		rcu_assign_pointer(space->fifo, fifo);
		if (old)
			call_rcu(&old->rcu, free_fifo_rcu);
	}
	if (wants_room(fifo))
		grow(fifo, min(fifo->full, fifo->capacity * 4));
	mmap_read_lock(mm);
	inc_tlb_flush_pending(mm);
	walk.keep = fifo;
	clean_ranges(fifo, mm, &walk);
	evict_surplus(fifo, &flush);
	age(fifo, &flush);
	if (walk.cleaned)
		pgt_flush_tlb_mm(mm);
	else
		flush_now(&flush);
	move_dirty(&flush);
	dec_tlb_flush_pending(mm);
	mmap_read_unlock(mm);
out:
	mutex_unlock(&space->own);
}

static void free_trim(struct trim *trim)
{
	pgt_space_put(trim->space);
	put_task_struct(trim->task);
	kfree(trim);
	if (atomic_dec_and_test(&n_trims))
		wake_up(&trimmed);
}

static void run_trim(struct callback_head *work)
{
	struct trim *trim = container_of(work, struct trim, work);
	struct pgt_thread *t;

	spin_lock(&trims_lock);
	list_del_init(&trim->list);
	spin_unlock(&trims_lock);
	rcu_read_lock();
	t = pgt_thread_find(current);
	if (t)
		t->work_queued = false;
	rcu_read_unlock();
	if (current->mm && current->mm == trim->space->mm && READ_ONCE(trim->space->procs) &&
	    pgt_set.policy == PGT_POLICY_FIFO)
		trim_space(trim->space, current->mm);
	free_trim(trim);
}

/* --- called by the hooks, preemption off --- */

static void trim_later(struct pgt_thread *t, struct pgt_space *space)
{
	struct trim *trim;

	if (t->work_queued || current->flags & (PF_KTHREAD | PF_EXITING))
		return;
	trim = kmalloc(sizeof(*trim), GFP_ATOMIC | __GFP_NOWARN);
	if (!trim)
		return;		/* the next fault tries again */
	init_task_work(&trim->work, run_trim);
	trim->task = get_task_struct(current);
	trim->space = space;
	if (!refcount_inc_not_zero(&space->users)) {	/* it is not traced any more */
		put_task_struct(trim->task);
		kfree(trim);
		return;
	}
	atomic_inc(&n_trims);
	WRITE_ONCE(used, true);
	spin_lock(&trims_lock);
	list_add(&trim->list, &trims);
	spin_unlock(&trims_lock);
	if (!task_work_add(current, &trim->work, TWA_RESUME)) {
		t->work_queued = true;
		return;
	}
	spin_lock(&trims_lock);
	list_del(&trim->list);
	spin_unlock(&trims_lock);
	free_trim(trim);
}

/* The current thread touched a page that was not present: it becomes active. */
void pgt_fifo_touch(struct pgt_thread *t, struct pgt_space *space, u32 object, unsigned long addr,
		    u64 page, u64 now, bool write, bool dirty)
{
	struct pgt_fifo *fifo = rcu_dereference_sched(space->fifo);
	struct entry *known, entry = {
		.page = page,
		.object = object,
		.flags = (write ? PGT_ACTIVE_DIRTIED : 0) | (dirty ? WAS_DIRTY : 0),
	};
	struct entry gone = {};
	bool more;

	entry.addr = addr & ~(size_of(&entry) - 1);
	if (!fifo || fifo->turn != READ_ONCE(pgt_set.turn)) {
		trim_later(t, space);
		return;
	}
	entry.since_ns = now;
	spin_lock(&fifo->lock);
	known = __find(fifo, entry.addr);
	if (!known) {
		__push(fifo, &entry);
	} else if (known->object == object && known->page == page) {
		/* Another thread's touch, or the first write after a read. */
		known->flags |= PGT_ACTIVE_REREFERENCED | (entry.flags & PGT_ACTIVE_DIRTIED);
	} else {
		/* What was mapped here is gone: its place in the queue goes to what is. */
		gone = *known;
		entry.chain = known->chain;
		*known = entry;
	}
	more = fifo->next - fifo->oldest > fifo->n || fifo->overflow ||
	       wants_room(fifo);
	spin_unlock(&fifo->lock);
	if (gone.object)
		emit_active(&gone, PGT_ACTIVE_GONE);
	if (more)
		trim_later(t, space);
}

/* A fault of the current thread maps the file pages of [start, end) along with its own. */
void pgt_fifo_around(struct pgt_thread *t, struct pgt_space *space, unsigned long start,
		     unsigned long end)
{
	struct pgt_fifo *fifo = rcu_dereference_sched(space->fifo);

	if (pgt_set.policy != PGT_POLICY_FIFO || !fifo)
		return;
	spin_lock(&fifo->lock);
	if (fifo->n_ranges < RANGES) {
		fifo->ranges[fifo->n_ranges].start = start;
		fifo->ranges[fifo->n_ranges++].end = end;
	} else {
		fifo->overflow = true;
	}
	spin_unlock(&fifo->lock);
	trim_later(t, space);
}

static bool is_trim(struct callback_head *work, void *trim)
{
	return work == &((struct trim *)trim)->work;
}

/*
 * No hook runs any more. A thread that sleeps in a system call would keep its
 * work for as long as it likes: it is taken back. What runs already, ends soon.
 */
void pgt_fifo_stop(void)
{
	struct task_struct *task;
	struct trim *trim;

	for (;;) {
		spin_lock(&trims_lock);
		trim = list_first_entry_or_null(&trims, struct trim, list);
		if (trim) {
			list_del_init(&trim->list);
			task = get_task_struct(trim->task);
		}
		spin_unlock(&trims_lock);
		if (!trim)
			break;
		if (pgt_cancel_task_work(task, is_trim, trim))
			free_trim(trim);
		put_task_struct(task);
	}
	wait_event(trimmed, !atomic_read(&n_trims));
	if (used)
		synchronize_rcu_tasks();	/* the last instructions of run_trim() */
	used = false;
}
