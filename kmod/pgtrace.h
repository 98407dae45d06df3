/* SPDX-License-Identifier: GPL-2.0 */
/* What the module's files share. The format of the records is pgtrace_api.h. */
#ifndef PGTRACE_H
#define PGTRACE_H

#include <linux/cred.h>
#include <linux/ftrace.h>
#include <linux/hash.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/pid.h>
#include <linux/rculist.h>
#include <linux/rcupdate.h>
#include <linux/relay.h>
#include <linux/sched.h>
#include <linux/timekeeping.h>
#include <linux/version.h>

#include "pgtrace_api.h"

#if !defined(CONFIG_X86_64) || !defined(CONFIG_NUMA_BALANCING)
#error "pgtrace needs x86-64 and CONFIG_NUMA_BALANCING (its fault path repairs cleaned PTEs)"
#endif

/* 6.4 to 6.12: page tables got __pte_offset_map_lock, saved-write went away. */
#define PGT_NEW_MM (LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0))

/* Channels: index into the relay channels and their counters. */
enum { PGT_REFS, PGT_NAMES, PGT_NR_CHANNELS };

/* One address space of traced processes. */
struct pgt_space {
	u64 serial;			/* never used again, unlike its address */
	struct hlist_node node;
	struct mm_struct *mm;		/* its struct is held (mm_count), not what is mapped */
	refcount_t users;		/* processes, and whoever works on it */
	int procs;			/* traced processes in it (CLONE_VM); 0: leave it alone */
	bool thp_disabled;		/* MMF_DISABLE_THP of the mm was set by us */
	struct pgt_obj *anon[PGT_OBJECT_OTHER + 1];	/* by PGT_OBJECT_* kind */
	struct {			/* mappings already announced */
		u64 start, end;
		u32 object;
	} seen[64];
	struct mutex own;		/* whoever makes its pages fault: page tables have one owner */
	struct pgt_fifo __rcu *fifo;	/* its active pages, under PGT_POLICY_FIFO */
	struct rcu_head rcu;
	struct llist_node grave;
};

/* One traced process (thread group). */
struct pgt_proc {
	struct list_head list;		/* the cleaner's turn */
	struct list_head all;		/* under RCU */
	struct list_head members;	/* its threads' entries */
	struct pid *pid;		/* reference */
	struct pgt_reasons __rcu *reasons;
	u32 tgid;
	u32 pass;			/* last pass of the cleaner */
	u32 news;			/* counts what its PROCESS records have to tell */
	u8 how;				/* PGT_PROCESS_* of the next or last one */
	bool named;			/* its PROCESS record is out */
	bool doubtful;			/* its target was taken back while it came in */
	bool moved;			/* it was renamed, or put into another cgroup */
	bool gone;			/* not traced any more */
	bool forgotten;			/* and nothing is owed */
	bool left;			/* its space has been given up for good */
	bool thp_ours;			/* if its mm is without huge pages, that is our doing */
	struct pgt_space __rcu *space;
	struct rcu_head rcu;
};

/* Writes to cleaned pages that a thread remembers, to know one that faults a second time. */
#define PGT_RECENT 4

/*
 * Where pages come from that are not in memory: from nowhere, swap (shmem), a file;
 * or a file whose pages in memory, once they are as many as it has, are all of them.
 */
enum { PGT_FROM_MEMORY, PGT_FROM_SWAP, PGT_FROM_FILE, PGT_FROM_COUNTED_FILE };

/* One traced thread, found by its task. What it remembers belongs to the thread itself. */
struct pgt_thread {
	struct hlist_node node;
	struct list_head member;	/* of its process */
	struct task_struct *task;	/* key; valid until sched_process_exit */
	struct pgt_proc *proc;
	struct {
		unsigned long page;
		unsigned long ip;
		unsigned long faults;	/* maj_flt + min_flt before it */
	} cleaned[PGT_RECENT];
	unsigned int next_cleaned;
	unsigned long last_page, last_ip, last_faults;	/* its last reference, which may fault again */
	/* The mapping it used last, whose object is named and which is announced. */
	unsigned long last_start, last_end;
	u64 last_space;			/* its serial number */
	/* NULL: anonymous. Compared only, and its number and generation with it. */
	const struct inode *last_inode;
	u8 last_source;			/* PGT_FROM_*: where its pages come from */
	struct pgt_obj *last_obj;
	bool work_queued;		/* it trims the FIFO before it returns to user mode */
	struct rcu_head rcu;
};

/* One object: what backs pages. Lives as long as the recording. */
struct pgt_obj {
	struct hlist_node node;
	u64 ino;
	u32 dev;
	u32 generation;
	u32 id;
	u32 tgid;
	u8 kind;			/* PGT_OBJECT_* */
	u8 flags;			/* PGT_OBJECT_DELETED, _TRUNCATED */
	bool named;			/* its OBJECT record is out */
	u16 path_len;
	char *path;
};

/* pgtrace_main.c */
struct pgt_settings {
	u8 level;
	u8 policy;			/* PGT_POLICY_* */
	u8 grain;			/* 0, or 9: huge pages are left whole */
	u32 clean_ms;			/* TIMER: its period */
	u32 fifo;			/* FIFO: active pages an address space */
	u32 turn;			/* counts changes of the policy */
	pid_t recorder;			/* never traced; its exit ends the recording */
};
extern struct pgt_settings pgt_set;
bool pgt_recording(void);
void pgt_recorder_died(void);
void pgt_emit_clock(void);

/* relay.c */
int pgt_relay_init(struct dentry *dir);
void pgt_relay_exit(void);
void pgt_relay_reset(void);
bool pgt_emit(int ch, void *rec, u8 kind, u8 flags, u16 len, bool counted);
void pgt_lost_elsewhere(u16 cause, u64 count);
bool pgt_relay_settle(void);
void pgt_relay_status(struct seq_file *to);
int pgt_relay_snapshot(bool begin);
void pgt_relay_overwrite(bool on);
bool pgt_relay_overwrites(void);
int pgt_relay_buffers(unsigned long size, unsigned long n);
bool pgt_relay_ready(void);
struct dentry *pgt_create_file(const char *name, umode_t mode, struct dentry *parent, void *data,
			       const struct file_operations *fops);

void pgt_count_lost(int ch);
void *pgt_reserve(int ch, u8 kind, u8 flags, u16 len, bool counted, u64 now);

/*
 * Writers: hooks, the cleaner, and commands. All run in process context with
 * preemption off, none in an interrupt: so a CPU's channels have one writer at a time.
 */
struct pgt_count {
	u64 seq;		/* next sequence number */
	struct rchan_buf *buf;	/* of this CPU */
	u64 ref_start;		/* the first eight bytes of a page reference without flags */
	u64 lost;		/* records that did not fit; the others were written */
	u64 pending;		/* lost, and not yet told by a LOST record */
	u64 first_seq;
	u64 first_ns;
	u64 last_ns;
	u64 overwritten;	/* records dropped to make room for newer ones */
	bool frozen;		/* a snapshot is being read */
};
DECLARE_PER_CPU(struct pgt_count[PGT_NR_CHANNELS], pgt_counts);

static __always_inline struct pgt_count *pgt_count_of(int ch)
{
	return this_cpu_ptr(&pgt_counts[ch]);
}

static __always_inline void pgt_commit(struct rchan_buf *buf, u16 len)
{
	/* The bytes first, then the offset that lets a reader see them. */
	smp_store_release(&buf->offset, buf->offset + len);
}

/* The first eight bytes of a header at once: this is a little-endian machine. */
static __always_inline u64 pgt_header_start(u8 kind, u8 flags, u16 len, u64 cpu)
{
	return PGT_MAGIC | PGT_VERSION << 8 | kind << 16 | (u64)flags << 24 | (u64)len << 32 |
	       cpu << 48;
}

static __always_inline void pgt_fill_header(struct pgt_header *h, u8 kind, u8 flags, u16 len,
					    u64 seq, u64 now)
{
	*(u64 *)h = pgt_header_start(kind, flags, len, smp_processor_id());
	h->seq = seq;
	h->time_ns = now;
}

/*
 * A page reference by the current thread, or by nobody that is traced. Preemption
 * is off. The last and longest step of a hook: the usual case in a straight line.
 */
static __always_inline void pgt_emit_ref(bool by_current, u64 now, u8 flags, u32 object, u64 addr,
					 u64 ip, u64 page)
{
	struct pgt_count *c = pgt_count_of(PGT_REFS);
	struct rchan_buf *buf = c->buf;
	struct pgt_ref *rec;

	if (likely(!c->pending && buf->offset + sizeof(*rec) <= buf->chan->subbuf_size)) {
		rec = buf->data + buf->offset;
		*(u64 *)&rec->h = c->ref_start | (u64)flags << 24;
		rec->h.seq = c->seq++;
		rec->h.time_ns = now;
	} else {
		rec = pgt_reserve(PGT_REFS, PGT_KIND_REF, flags, sizeof(*rec), true, now);
		if (!rec)
			return;
	}
	rec->tgid = by_current ? current->tgid : 0;
	rec->tid = by_current ? current->pid : 0;
	/* The number it has in the initial user namespace. */
	rec->uid = by_current ? __kuid_val(current_uid()) : 0;
	rec->object = object;
	rec->addr = addr;
	rec->ip = ip;
	rec->page = page;
	pgt_commit(buf, sizeof(*rec));
}

/* hooks.c */
struct pgt_hook {
	const char *function;
	ftrace_func_t func;
	struct ftrace_ops ops;
	bool on;
};

struct pgt_point {
	const char *name;
	void *hook;
	struct tracepoint *tp;
	bool on;
};

struct kprobe;
struct kretprobe;
int pgt_hook_on(struct pgt_hook *hook);
void pgt_hook_off(struct pgt_hook *hook);
void pgt_fresh_kprobe(struct kprobe *kp);
int pgt_fresh_kretprobe(struct kretprobe *rp);
int pgt_points_on(struct pgt_point *points, int n);
void pgt_points_off(struct pgt_point *points, int n);

/* The hooked function's arguments, in registers. */
static __always_inline struct pt_regs *pgt_args(struct ftrace_regs *fregs)
{
#if PGT_NEW_MM
	return &arch_ftrace_regs(fregs)->regs;
#else
	return &fregs->regs;
#endif
}

/* probes.c */
int pgt_probes_start(void);
void pgt_probes_stop(void);
int pgt_probes_level(u8 level);

/* pgt_ref.page and pgt_active.page */
static __always_inline u64 pgt_pack_page(u64 page, u64 order, u64 event, u64 access)
{
	return (page & PGT_PAGE_MASK) | order << PGT_ORDER_SHIFT |
	       event << PGT_EVENT_SHIFT | access << PGT_ACCESS_SHIFT;
}

/* maps.c, cache.c: the hooks of levels rich and full */
int pgt_maps_switch(bool want);
int pgt_cache_switch(bool want);

/* targets.c: what was asked for */
enum { PGT_FOLLOW_NONE, PGT_FOLLOW_FORK, PGT_FOLLOW_EXEC };
extern u8 pgt_follow;		/* PGT_FOLLOW_* */
extern bool pgt_seek;		/* there are targets that only a fault shows a process to fit */
int pgt_target_command(const char *verb, const char *argument, bool remove);
void pgt_targets_clear(void);
bool pgt_targets_open(void);
void pgt_targets_status(struct seq_file *to);
bool pgt_wanted_user(struct task_struct *task);
struct pgt_reasons *pgt_reasons_of(struct task_struct *task, const char *comm,
				   struct pgt_reasons *base);
bool pgt_reasons_stand(struct pgt_reasons *reasons);
void pgt_reasons_put(struct pgt_reasons *reasons);

/* threads.c: who is traced */
#define PGT_THREAD_BITS 12
extern struct hlist_head pgt_threads[1 << PGT_THREAD_BITS];

static __always_inline struct hlist_head *pgt_bucket_of(const struct task_struct *task)
{
	return &pgt_threads[hash_ptr(task, PGT_THREAD_BITS)];
}

/*
 * Could this task, of that bucket, be traced? The hook on every fault of the system
 * asks: "no" takes a few instructions. A thread that did not come by fork (io_uring's)
 * goes by its leader; pgt_seek: there are targets that processes turn out to be at a fault.
 */
static __always_inline bool pgt_maybe_traced(const struct task_struct *task,
					     const struct hlist_head *bucket)
{
	if (READ_ONCE(bucket->first) || READ_ONCE(pgt_seek))
		return true;
	return task->group_leader != task &&
	       READ_ONCE(pgt_bucket_of(task->group_leader)->first);
}

/* The entry of a thread that is traced. Under RCU or with preemption off; takes no lock. */
static __always_inline struct pgt_thread *pgt_thread_in(struct hlist_head *bucket,
							const struct task_struct *task)
{
	struct pgt_thread *t;

	hlist_for_each_entry_rcu(t, bucket, node, true)
		if (t->task == task)
			return t;
	return NULL;
}

static __always_inline struct pgt_thread *pgt_thread_find(const struct task_struct *task)
{
	return pgt_thread_in(pgt_bucket_of(task), task);
}

struct pgt_entry {
	const char *comm;		/* the name it is about to get, or NULL */
	struct pgt_proc *parent;	/* traced, and bore it; or NULL */
	bool follow;			/* its parent's reasons count */
	bool quiet;			/* take no lock of the kernel: settle() will */
};
struct pgt_thread *pgt_thread_add(struct pgt_proc *proc, struct task_struct *task);
struct pgt_proc *pgt_thread_remove(const struct task_struct *task);
struct pgt_thread *pgt_take_in(struct task_struct *task, const struct pgt_entry *entry);
bool pgt_reconsider(struct pgt_proc *proc, bool strict, u8 how);
void pgt_add_reasons(struct pgt_proc *proc, struct task_struct *task, const char *comm);
bool pgt_has_news(struct pgt_proc *proc, u8 how);
void pgt_settle_soon(void);
void pgt_proc_forget(struct pgt_proc *proc);
int pgt_targets_attach(void);
void pgt_targets_scan(struct pid *pid);
void pgt_targets_reconsider(void);
bool pgt_targets_announce(void);
void pgt_targets_release(void);
int pgt_targets_count(void);
bool pgt_next_proc(u32 pass, struct pid **pid, struct pgt_space **space);

/* life.c */
struct pgt_thread *pgt_thread_current(void);
void pgt_on_fork(struct task_struct *parent, struct task_struct *child);
void pgt_on_exec(struct task_struct *task);
void pgt_on_rename(struct task_struct *task, const char *comm);
void pgt_on_move(struct task_struct *task);
void pgt_on_exit(struct task_struct *task);

/* spaces.c */
struct pgt_space *pgt_space_enter(struct pgt_proc *proc, struct mm_struct *mm);
void pgt_space_leave(struct pgt_proc *proc);
void pgt_space_put(struct pgt_space *space);
void pgt_space_born(struct pgt_proc *parent, struct task_struct *child);
bool pgt_space_owed(const struct task_struct *task);
void pgt_space_execed(struct pgt_proc *proc);
void pgt_spaces_flush(void);
struct mm_struct *pgt_pid_mm(struct pid *pid);

/*
 * The space of `proc`, which runs on `mm` now. The caller runs on that mm or
 * otherwise keeps it. NULL: no memory, or it is not traced any more.
 */
static __always_inline struct pgt_space *pgt_space_of(struct pgt_proc *proc, struct mm_struct *mm)
{
	struct pgt_space *space = rcu_dereference_check(proc->space, true);

	return likely(space && space->mm == mm) ? space : pgt_space_enter(proc, mm);
}

/* paths.c */
int pgt_paths_init(void);
void pgt_paths_exit(void);
u8 pgt_prot_of(const struct vm_area_struct *vma);
void pgt_object_gone(struct pgt_obj *obj);
struct pgt_obj *pgt_object_of(struct vm_area_struct *vma, struct pgt_space *space,
			      u32 tgid, unsigned long addr, u64 *page);
struct pgt_obj *pgt_object_file(struct file *file, u32 tgid);
struct pgt_obj *pgt_object_find(struct inode *inode);
bool pgt_announce_mapping(struct pgt_space *space, struct vm_area_struct *vma,
			  struct pgt_obj *obj, u32 tgid);
bool pgt_announce_process(struct pgt_proc *proc, struct task_struct *task, u8 how);
void pgt_announce_again(struct pgt_proc *proc);
bool pgt_objects_announce(void);
void pgt_objects_free(void);
int pgt_objects_count(void);

/* ptes.c: making present pages fault at their next touch */
struct pgt_walk {
	u64 scanned;			/* present pages seen */
	u64 cleaned;			/* pages made to fault */
	u64 skipped;			/* pages left present: they are active */
	struct pgt_fifo *keep;		/* NULL, or the FIFO whose pages stay */
	bool dirty, young;		/* of the last page cleaned, before */
};

bool pgt_vma_cleanable(const struct vm_area_struct *vma);
void pgt_clean_range(struct vm_area_struct *vma, unsigned long start, unsigned long end,
		     struct pgt_walk *walk);
void pgt_clean_space(struct mm_struct *mm, struct pgt_walk *walk);
void pgt_move_dirty(struct vm_area_struct *vma, unsigned long addr);
bool pgt_age_page(struct vm_area_struct *vma, unsigned long addr);

/* fifo.c */
void pgt_fifo_touch(struct pgt_thread *t, struct pgt_space *space, u32 object, unsigned long addr,
		    u64 page, u64 now, bool write, bool dirty);
void pgt_fifo_around(struct pgt_thread *t, struct pgt_space *space, unsigned long start,
		     unsigned long end);
bool pgt_fifo_holds(struct pgt_fifo *fifo, unsigned long addr);
void pgt_fifo_free(struct pgt_space *space);
void pgt_fifo_stop(void);

/* cleaner.c */
int pgt_cleaner_start(void);
void pgt_cleaner_stop(void);
void pgt_cleaner_kick(void);

/* symbols.c: functions of the kernel that are not exported */
int pgt_symbols_init(void);
void pgt_flush_tlb_mm(struct mm_struct *mm);
void pgt_flush_tlb_range(struct mm_struct *mm, unsigned long start, unsigned long end);
bool pgt_huge_pages_wanted(struct vm_area_struct *vma);
void pgt_split_huge_pmd(struct vm_area_struct *vma, pmd_t *pmd, unsigned long addr);
struct callback_head *pgt_cancel_task_work(struct task_struct *task,
					   bool (*match)(struct callback_head *, void *),
					   void *data);
pte_t *pgt_pte_lock(struct mm_struct *mm, pmd_t *pmd, unsigned long addr, spinlock_t **ptl);

#endif /* PGTRACE_H */
