// SPDX-License-Identifier: GPL-2.0
/*
 * Relay channels: reserve, commit, and the count of what did not fit.
 *
 * Every record, lost or not, takes the next sequence number of its CPU and
 * channel, so a hole in the numbers is a loss of exactly that size. What was
 * lost is also told by a LOST record, written as soon as there is room again.
 *
 * relay_reserve() moves the offset before the bytes are there, and a reader on
 * another CPU may then read a half-written record. pgt_commit() moves it after.
 */
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/relay.h>
#include <linux/timekeeping.h>

#include "pgtrace.h"

static unsigned int subbuf_size = 1 << 20;
module_param(subbuf_size, uint, 0444);
MODULE_PARM_DESC(subbuf_size, "bytes of a sub-buffer of the reference channel (default 1 MiB)");
static unsigned int n_subbufs = 16;
module_param(n_subbufs, uint, 0444);
MODULE_PARM_DESC(n_subbufs, "sub-buffers a CPU of the reference channel (default 16)");
static unsigned int names_subbuf_size = 64 << 10;
module_param(names_subbuf_size, uint, 0444);
MODULE_PARM_DESC(names_subbuf_size, "bytes of a sub-buffer of the names channel (default 64 KiB)");
static unsigned int names_n_subbufs = 16;
module_param(names_n_subbufs, uint, 0444);
MODULE_PARM_DESC(names_n_subbufs, "sub-buffers a CPU of the names channel (default 16)");

struct pgt_count {
	u64 seq;		/* next sequence number */
	u64 emitted;		/* records written, LOST ones included */
	u64 lost;		/* records that did not fit */
	u64 pending;		/* lost, and not yet told by a LOST record */
	u64 first_seq;
	u64 first_ns;
	u64 last_ns;
};

static struct rchan *channels[PGT_NR_CHANNELS];
static DEFINE_PER_CPU(struct pgt_count[PGT_NR_CHANNELS], counts);

static int subbuf_start(struct rchan_buf *buf, void *subbuf, void *prev, size_t padding)
{
	return !relay_buf_full(buf);
}

static struct dentry *create_buf_file(const char *name, struct dentry *parent, umode_t mode,
				      struct rchan_buf *buf, int *is_global)
{
	return debugfs_create_file(name, 0400, parent, buf, &relay_file_operations);
}

static int remove_buf_file(struct dentry *dentry)
{
	debugfs_remove(dentry);
	return 0;
}

static const struct rchan_callbacks callbacks = {
	.subbuf_start = subbuf_start,
	.create_buf_file = create_buf_file,
	.remove_buf_file = remove_buf_file,
};

/* len bytes of this CPU's channel, or NULL. Interrupts are off. */
static void *room(int ch, u16 len)
{
	struct rchan_buf *buf = *this_cpu_ptr(channels[ch]->buf);

	if (unlikely(buf->offset + len > buf->chan->subbuf_size) &&
	    !relay_switch_subbuf(buf, len))
		return NULL;
	return buf->data + buf->offset;
}

static void fill_header(struct pgt_header *h, u8 kind, u8 flags, u16 len, u64 seq, u64 now)
{
	h->magic = PGT_MAGIC;
	h->version = PGT_VERSION;
	h->kind = kind;
	h->flags = flags;
	h->len = len;
	h->cpu = smp_processor_id();
	h->seq = seq;
	h->time_ns = now;
}

/* Tells the pending loss of channel `of` in channel `ch`. Interrupts are off. */
static bool emit_pending(int of, int ch, u64 now)
{
	struct pgt_count *c = this_cpu_ptr(&counts[of]);
	struct pgt_lost *rec = room(ch, sizeof(*rec));

	if (!rec)
		return false;
	fill_header(&rec->h, PGT_KIND_LOST, 0, sizeof(*rec),
		    this_cpu_ptr(&counts[ch])->seq++, now);
	rec->count = c->pending;
	rec->first_seq = c->first_seq;
	rec->first_ns = c->first_ns;
	rec->last_ns = c->last_ns;
	rec->channel = of == PGT_REFS ? PGT_CHANNEL_REFS : PGT_CHANNEL_NAMES;
	rec->cause = PGT_LOST_BUFFER_FULL;
	rec->reserved = 0;
	c->pending = 0;
	pgt_commit(ch, sizeof(*rec));
	return true;
}

/*
 * Room for a record, its header filled in; NULL when there is none. Interrupts
 * must be off until pgt_commit(). Unless `counted`, the caller will try again
 * and a failure is no loss.
 */
void *pgt_reserve(int ch, u8 kind, u8 flags, u16 len, bool counted)
{
	struct pgt_count *c = this_cpu_ptr(&counts[ch]);
	u64 now = ktime_get_mono_fast_ns();
	void *rec = NULL;

	if (likely(!c->pending) || emit_pending(ch, ch, now))
		rec = room(ch, len);
	if (likely(rec)) {
		fill_header(rec, kind, flags, len, c->seq++, now);
		return rec;
	}
	if (!counted)
		return NULL;
	if (!c->pending) {
		c->first_seq = c->seq;
		c->first_ns = now;
	}
	c->last_ns = now;
	c->pending++;
	c->lost++;
	c->seq++;
	return NULL;
}

void pgt_commit(int ch, u16 len)
{
	struct rchan_buf *buf = *this_cpu_ptr(channels[ch]->buf);

	/* The bytes first, then the offset that lets a reader see them. */
	smp_store_release(&buf->offset, buf->offset + len);
	this_cpu_ptr(&counts[ch])->emitted++;
}

/* Writes a record that was built elsewhere; its header is filled in here. */
bool pgt_emit(int ch, void *rec, u8 kind, u8 flags, u16 len, bool counted)
{
	unsigned long irq;
	void *to;

	local_irq_save(irq);
	to = pgt_reserve(ch, kind, flags, len, counted);
	if (to) {
		memcpy(to + sizeof(struct pgt_header), rec + sizeof(struct pgt_header),
		       len - sizeof(struct pgt_header));
		pgt_commit(ch, len);
	}
	local_irq_restore(irq);
	return to;
}

/* Losses that happened before a record had a number: told in the names channel. */
void pgt_lost_elsewhere(u16 cause, u64 count)
{
	struct pgt_lost rec = {
		.count = count,
		.channel = PGT_CHANNEL_REFS,
		.cause = cause,
		.first_ns = ktime_get_mono_fast_ns(),
		.last_ns = ktime_get_mono_fast_ns(),
	};

	if (count)
		pgt_emit(PGT_NAMES, &rec, PGT_KIND_LOST, 0, sizeof(rec), true);
}

static void settle_cpu(void *failed)
{
	struct pgt_count *c = this_cpu_ptr(counts);
	u64 now = ktime_get_mono_fast_ns();
	unsigned long irq;

	local_irq_save(irq);
	/* Reference losses: in place if there is room by now, else by name. */
	if (c[PGT_REFS].pending && !emit_pending(PGT_REFS, PGT_REFS, now) &&
	    !emit_pending(PGT_REFS, PGT_NAMES, now))
		atomic_inc(failed);
	if (c[PGT_NAMES].pending && !emit_pending(PGT_NAMES, PGT_NAMES, now))
		atomic_inc(failed);
	local_irq_restore(irq);
}

/* After the hooks are gone: tells every pending loss. False: no room yet. */
bool pgt_relay_settle(void)
{
	atomic_t failed = ATOMIC_INIT(0);

	on_each_cpu(settle_cpu, &failed, 1);
	return !atomic_read(&failed);
}

void pgt_relay_reset(void)
{
	int cpu, ch;

	for (ch = 0; ch < PGT_NR_CHANNELS; ch++)
		relay_reset(channels[ch]);
	for_each_possible_cpu(cpu)
		memset(per_cpu_ptr(&counts, cpu), 0, sizeof(counts));
}

int pgt_relay_status(char *buf, int size)
{
	int n, cpu;

	n = scnprintf(buf, size,
		      "subbuf_size %u\nn_subbufs %u\nnames_subbuf_size %u\nnames_n_subbufs %u\n",
		      subbuf_size, n_subbufs, names_subbuf_size, names_n_subbufs);
	for_each_possible_cpu(cpu) {
		struct pgt_count *c = *per_cpu_ptr(&counts, cpu);

		n += scnprintf(buf + n, size - n,
			       "cpu %d refs_emitted %llu refs_lost %llu names_emitted %llu names_lost %llu\n",
			       cpu, c[PGT_REFS].emitted, c[PGT_REFS].lost,
			       c[PGT_NAMES].emitted, c[PGT_NAMES].lost);
	}
	return n;
}

int pgt_relay_init(struct dentry *dir)
{
	/* A record must fit a sub-buffer: the longest is a PROCESS with three paths. */
	if (subbuf_size < 4096 || n_subbufs < 2 || names_subbuf_size < 16384 ||
	    names_n_subbufs < 2) {
		pr_err("buffers too small: subbuf_size >= 4096, names_subbuf_size >= 16384, 2 each\n");
		return -EINVAL;
	}
	channels[PGT_REFS] = relay_open("refs", dir, subbuf_size, n_subbufs, &callbacks, NULL);
	if (!channels[PGT_REFS])
		return -ENOMEM;
	channels[PGT_NAMES] = relay_open("names", dir, names_subbuf_size, names_n_subbufs,
					 &callbacks, NULL);
	if (!channels[PGT_NAMES]) {
		relay_close(channels[PGT_REFS]);
		return -ENOMEM;
	}
	return 0;
}

void pgt_relay_exit(void)
{
	relay_close(channels[PGT_REFS]);
	relay_close(channels[PGT_NAMES]);
}
