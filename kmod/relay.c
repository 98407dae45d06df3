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
 *
 * With `overwrite` the refs channel is a flight recorder: a full ring drops its
 * oldest sub-buffer. A snapshot freezes it: the oldest is kept until it was read
 * and the writer goes on in one free sub-buffer and in what the reader frees, so
 * that nothing is torn and nothing is lost unless the reader is slower than the
 * writer.
 */
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/relay.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
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
static unsigned int gid;
module_param(gid, uint, 0444);
MODULE_PARM_DESC(gid, "group that may control and read recordings besides root (default 0: root only)");

static struct rchan *channels[PGT_NR_CHANNELS];
DEFINE_PER_CPU(struct pgt_count[PGT_NR_CHANNELS], pgt_counts);
static struct dentry *folder;
static bool overwrite;		/* set only while nothing is recorded */
/* Of each sub-buffer of a CPU's refs channel: number of its first record. */
static DEFINE_PER_CPU(u64 *, first_seqs);

static int names_subbuf_start(struct rchan_buf *buf, void *subbuf, void *prev, size_t padding)
{
	/* Also for a CPU that comes when a recording runs: relay makes its buffer then. */
	(*per_cpu_ptr(&pgt_counts, buf->cpu))[PGT_NAMES].buf = buf;
	return !relay_buf_full(buf);
}

/* This CPU's sub-buffer `at` is given up, whose records nobody has read. */
static void count_overwritten(struct rchan_buf *buf, struct pgt_count *c, size_t at)
{
	u64 *first = *per_cpu_ptr(&first_seqs, buf->cpu);

	c->overwritten += first[(at + 1) % buf->chan->n_subbufs] - first[at];
}

static int refs_subbuf_start(struct rchan_buf *buf, void *subbuf, void *prev, size_t padding)
{
	struct pgt_count *c = &(*per_cpu_ptr(&pgt_counts, buf->cpu))[PGT_REFS];
	size_t at = (subbuf - buf->start) / buf->chan->subbuf_size;

	c->buf = buf;
	if (relay_buf_full(buf)) {
		if (!overwrite || c->frozen)
			return 0;
		count_overwritten(buf, c, at);
	}
	(*per_cpu_ptr(&first_seqs, buf->cpu))[at] = c->seq;
	return 1;
}

struct dentry *pgt_create_file(const char *name, umode_t mode, struct dentry *parent, void *data,
			       const struct file_operations *fops)
{
	struct dentry *file;

	if (gid)
		mode |= mode >> 3;	/* what the owner may, the group may */
	file = debugfs_create_file(name, mode, parent, data, fops);
	if (!IS_ERR_OR_NULL(file) && gid)
		d_inode(file)->i_gid = KGIDT_INIT(gid);
	return file;
}

static struct dentry *create_buf_file(const char *name, struct dentry *parent, umode_t mode,
				      struct rchan_buf *buf, int *is_global)
{
	return pgt_create_file(name, 0400, parent, buf, &relay_file_operations);
}

static int remove_buf_file(struct dentry *dentry)
{
	debugfs_remove(dentry);
	return 0;
}

static const struct rchan_callbacks refs_callbacks = {
	.subbuf_start = refs_subbuf_start,
	.create_buf_file = create_buf_file,
	.remove_buf_file = remove_buf_file,
};

static const struct rchan_callbacks names_callbacks = {
	.subbuf_start = names_subbuf_start,
	.create_buf_file = create_buf_file,
	.remove_buf_file = remove_buf_file,
};

/*
 * The next sub-buffer of a channel. Relay must not find itself full: its reader, on
 * another CPU, would take that for overwriting and skip what it has not read. So
 * the last free sub-buffer is asked for only when there is one.
 */
static bool next_subbuf(struct rchan_buf *buf, int ch, u16 len)
{
	unsigned long irqs;
	bool full, ok = false;

	/* Not amid a snapshot's freeze_cpu(), which gives up a sub-buffer, too. */
	local_irq_save(irqs);
	full = buf->subbufs_produced + 1 - READ_ONCE(buf->subbufs_consumed) >=
	       buf->chan->n_subbufs;
	if (!full || (ch == PGT_REFS && overwrite && !pgt_count_of(PGT_REFS)->frozen))
		ok = relay_switch_subbuf(buf, len);
	local_irq_restore(irqs);
	return ok;
}

/* len bytes of this CPU's channel, or NULL. */
static __always_inline void *room(int ch, u16 len)
{
	struct rchan_buf *buf = pgt_count_of(ch)->buf;

	if (unlikely(buf->offset + len > buf->chan->subbuf_size) && !next_subbuf(buf, ch, len))
		return NULL;
	return buf->data + buf->offset;
}

/* A record of the names channel that nobody will try to write again. */
void pgt_count_lost(int ch)
{
	preempt_disable_notrace();
	/* More than ever fits: it is counted as any other. */
	pgt_reserve(ch, PGT_KIND_LOST, 0, U16_MAX, true, ktime_get_mono_fast_ns());
	preempt_enable_notrace();
}

/* Tells the pending loss of channel `of` in channel `ch`. */
static noinline bool emit_pending(int of, int ch, u64 now)
{
	struct pgt_count *c = pgt_count_of(of), *to = pgt_count_of(ch);
	struct pgt_lost *rec = room(ch, sizeof(*rec));

	if (!rec)
		return false;
	pgt_fill_header(&rec->h, PGT_KIND_LOST, 0, sizeof(*rec), to->seq++, now);
	rec->count = c->pending;
	rec->first_seq = c->first_seq;
	rec->first_ns = c->first_ns;
	rec->last_ns = c->last_ns;
	rec->channel = of == PGT_REFS ? PGT_CHANNEL_REFS : PGT_CHANNEL_NAMES;
	rec->cause = PGT_LOST_BUFFER_FULL;
	rec->reserved = 0;
	c->pending = 0;
	pgt_commit(to->buf, sizeof(*rec));
	return true;
}

/*
 * Room for a record, its header filled in; NULL when there is none. Preemption
 * must be off until pgt_commit(). Unless `counted`, the caller will try again and a
 * failure is no loss.
 */
void *pgt_reserve(int ch, u8 kind, u8 flags, u16 len, bool counted, u64 now)
{
	struct pgt_count *c = pgt_count_of(ch);
	void *rec = NULL;

	if (likely(!c->pending) || emit_pending(ch, ch, now))
		rec = room(ch, len);
	if (likely(rec)) {
		pgt_fill_header(rec, kind, flags, len, c->seq++, now);
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

/* Writes a record that was built elsewhere; its header is filled in here. */
bool pgt_emit(int ch, void *rec, u8 kind, u8 flags, u16 len, bool counted)
{
	void *to;

	preempt_disable_notrace();
	to = pgt_reserve(ch, kind, flags, len, counted, ktime_get_mono_fast_ns());
	if (to) {
		memcpy(to + sizeof(struct pgt_header), rec + sizeof(struct pgt_header),
		       len - sizeof(struct pgt_header));
		pgt_commit(pgt_count_of(ch)->buf, len);
	}
	preempt_enable_notrace();
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
	struct pgt_count *c = this_cpu_ptr(pgt_counts);
	u64 now = ktime_get_mono_fast_ns();

	/* Reference losses: in place if there is room by now, else by name. */
	if (c[PGT_REFS].pending && !emit_pending(PGT_REFS, PGT_REFS, now) &&
	    !emit_pending(PGT_REFS, PGT_NAMES, now))
		atomic_inc(failed);
	if (c[PGT_NAMES].pending && !emit_pending(PGT_NAMES, PGT_NAMES, now))
		atomic_inc(failed);
}

/* After the hooks are gone, hence by interrupt: tells every pending loss. False: no room yet. */
bool pgt_relay_settle(void)
{
	atomic_t failed = ATOMIC_INIT(0);

	on_each_cpu(settle_cpu, &failed, 1);
	return !atomic_read(&failed);
}

/* Before a recording: empty channels, numbers from 0. */
void pgt_relay_reset(void)
{
	int cpu, ch;

	for_each_possible_cpu(cpu) {
		struct pgt_count *c = *per_cpu_ptr(&pgt_counts, cpu);

		memset(c, 0, sizeof(pgt_counts));
		c[PGT_REFS].ref_start = pgt_header_start(PGT_KIND_REF, 0, sizeof(struct pgt_ref), cpu);
	}
	for (ch = 0; ch < PGT_NR_CHANNELS; ch++) {
		relay_reset(channels[ch]);
		for_each_possible_cpu(cpu)
			(*per_cpu_ptr(&pgt_counts, cpu))[ch].buf =
				*per_cpu_ptr(channels[ch]->buf, cpu);
	}
}

static void freeze_cpu(void *unused)
{
	struct rchan_buf *buf = *this_cpu_ptr(channels[PGT_REFS]->buf);
	struct pgt_count *c = pgt_count_of(PGT_REFS);
	size_t n = buf->chan->n_subbufs;

	/* An interrupt on the writer's CPU: it stands still meanwhile. */
	if (buf->subbufs_produced - buf->subbufs_consumed >= n) {
		/* As relay's read() does: what was overwritten counts as read. */
		buf->subbufs_consumed = buf->subbufs_produced - n + 1;
		buf->bytes_consumed = 0;
	}
	if (n > 2 && buf->subbufs_produced - buf->subbufs_consumed == n - 1) {
		/* The oldest makes room for what comes until the reader frees some. */
		count_overwritten(buf, c, (buf->subbufs_produced + 1) % n);
		buf->subbufs_consumed++;
		buf->bytes_consumed = 0;
	}
	c->frozen = true;
}

/* begin: the oldest records are kept until they are read; end: newer ones may replace them again. */
int pgt_relay_snapshot(bool begin)
{
	int cpu;

	if (!overwrite)
		return -EINVAL;
	if (begin)
		on_each_cpu(freeze_cpu, NULL, 1);
	else
		for_each_possible_cpu(cpu)
			WRITE_ONCE((*per_cpu_ptr(&pgt_counts, cpu))[PGT_REFS].frozen, false);
	return 0;
}

/* Not while recording. */
void pgt_relay_overwrite(bool on)
{
	overwrite = on;
}

bool pgt_relay_overwrites(void)
{
	return overwrite;
}

void pgt_relay_status(struct seq_file *to)
{
	int cpu;

	seq_printf(to, "subbuf_size %u\nn_subbufs %u\nnames_subbuf_size %u\nnames_n_subbufs %u\n",
		   subbuf_size, n_subbufs, names_subbuf_size, names_n_subbufs);
	for_each_possible_cpu(cpu) {
		struct pgt_count *c = *per_cpu_ptr(&pgt_counts, cpu);

		seq_printf(to, "cpu %d refs_emitted %llu refs_lost %llu names_emitted %llu names_lost %llu refs_overwritten %llu\n",
			   cpu, c[PGT_REFS].seq - c[PGT_REFS].lost, c[PGT_REFS].lost,
			   c[PGT_NAMES].seq - c[PGT_NAMES].lost, c[PGT_NAMES].lost,
			   c[PGT_REFS].overwritten);
	}
}

static void close_refs(void)
{
	int cpu;

	if (channels[PGT_REFS])
		relay_close(channels[PGT_REFS]);
	channels[PGT_REFS] = NULL;
	for_each_possible_cpu(cpu) {
		kvfree(*per_cpu_ptr(&first_seqs, cpu));
		*per_cpu_ptr(&first_seqs, cpu) = NULL;
	}
}

static int open_refs(unsigned int size, unsigned int n)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		u64 *first = kvcalloc(n, sizeof(*first), GFP_KERNEL);

		if (!first)
			goto failed;
		*per_cpu_ptr(&first_seqs, cpu) = first;
	}
	channels[PGT_REFS] = relay_open("refs", folder, size, n, &refs_callbacks, NULL);
	if (channels[PGT_REFS])
		return 0;
failed:
	close_refs();
	return -ENOMEM;
}

/* May a channel have n sub-buffers of `size` a CPU? */
static int check_buffers(unsigned long size, unsigned long n, unsigned long least)
{
	/* Half of the memory at most: relay would take all there is. */
	u64 most = (u64)totalram_pages() * PAGE_SIZE / 2 / num_possible_cpus();

	if (size < least || size % PAGE_SIZE || size > SZ_1G || n < 2 || n > SZ_1M)
		return -EINVAL;
	return (u64)size * n > most ? -ENOMEM : 0;
}

/* Other buffers for references. Not while recording; what they held is gone. */
int pgt_relay_buffers(unsigned long size, unsigned long n)
{
	int err = check_buffers(size, n, PAGE_SIZE);

	if (err)
		return err;
	if (size == subbuf_size && n == n_subbufs)
		return 0;
	close_refs();
	err = open_refs(size, n);
	if (err) {
		/* The old ones fitted before. If not even they do, start says so. */
		open_refs(subbuf_size, n_subbufs);
		return err;
	}
	subbuf_size = size;
	n_subbufs = n;
	return 0;
}

bool pgt_relay_ready(void)
{
	return channels[PGT_REFS];
}

int pgt_relay_init(struct dentry *dir)
{
	/* A record must fit a sub-buffer: the longest is a PROCESS with three paths. */
	int err = check_buffers(subbuf_size, n_subbufs, PAGE_SIZE) ?:
		  check_buffers(names_subbuf_size, names_n_subbufs, 16384);

	if (err) {
		pr_err("buffers: subbuf_size >= 4096, names_subbuf_size >= 16384, multiples of 4096, 2 each and no more than half of the memory\n");
		return err;
	}
	if (!gid_valid(KGIDT_INIT(gid))) {
		pr_err("gid: no such group\n");
		return -EINVAL;
	}
	folder = dir;
	if (open_refs(subbuf_size, n_subbufs))
		return -ENOMEM;
	channels[PGT_NAMES] = relay_open("names", dir, names_subbuf_size, names_n_subbufs,
					 &names_callbacks, NULL);
	if (!channels[PGT_NAMES]) {
		close_refs();
		return -ENOMEM;
	}
	return 0;
}

void pgt_relay_exit(void)
{
	close_refs();
	relay_close(channels[PGT_NAMES]);
}
