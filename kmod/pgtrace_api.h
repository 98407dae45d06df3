/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * pgtrace wire format, version 1: THE definition of what the module writes
 * into its relay channels. capture/src/wire/v1.rs mirrors it; a test compiles
 * this file and compares every sizeof and offsetof with the mirror, and
 * testdata/wire-v1.bin freezes the bytes.
 *
 * Rules: fixed-width types only; every record starts with struct pgt_header;
 * sizes are multiples of 8; reserved fields are written as 0; no field is ever
 * reused or moved. A reader skips (and counts) a kind it does not know and the
 * tail of a record longer than it knows. Integers are in the byte order of the
 * traced machine; the chunk header says which.
 *
 * Two relay channels a CPU, as files in debugfs/pgtrace/:
 *   refsN    what happens, in order: REF, and around it MAP, AROUND, ACTIVE and
 *            CLEAN; LOST where some of it was lost. May be overwritten.
 *   namesN   what things are, and the state of the recorder: PROCESS, MAPPING,
 *            OBJECT, EXIT, LEVEL, POLICY, CLOCK: few, and never overwritten
 * A reader takes every kind from either channel. Sequence numbers count per CPU and channel from 0 for one recording. A record
 * that did not fit consumes its number too, so gaps = losses, exactly.
 */
#ifndef PGTRACE_API_H
#define PGTRACE_API_H

#include <linux/types.h>

#define PGT_MAGIC	0xA7	/* first byte of every record */
#define PGT_VERSION	1	/* second byte: version of this file */

/* Record kinds (pgt_header.kind) */
#define PGT_KIND_REF		1	/* struct pgt_ref */
#define PGT_KIND_PROCESS	2	/* struct pgt_process */
#define PGT_KIND_MAPPING	3	/* struct pgt_mapping */
#define PGT_KIND_OBJECT		4	/* struct pgt_object */
#define PGT_KIND_EXIT		5	/* struct pgt_exit */
#define PGT_KIND_LOST		6	/* struct pgt_lost */
#define PGT_KIND_LEVEL		7	/* struct pgt_level */
#define PGT_KIND_CLEAN		8	/* struct pgt_clean */
#define PGT_KIND_CLOCK		9	/* struct pgt_clock */
#define PGT_KIND_POLICY		10	/* struct pgt_policy */
#define PGT_KIND_MAP		11	/* struct pgt_map */
#define PGT_KIND_AROUND		12	/* struct pgt_around */
#define PGT_KIND_ACTIVE		13	/* struct pgt_active */

struct pgt_header {
	__u8	magic;		/* PGT_MAGIC */
	__u8	version;	/* PGT_VERSION */
	__u8	kind;		/* PGT_KIND_* */
	__u8	flags;		/* by kind: PGT_REF_*, PGT_PROCESS_*, ... */
	__u16	len;		/* whole record in bytes, multiple of 8 */
	__u16	cpu;		/* CPU that wrote it */
	__u64	seq;		/* position in this CPU's channel, from 0 */
	__u64	time_ns;	/* CLOCK_MONOTONIC */
};

/* pgt_header.flags of a PGT_KIND_REF */
#define PGT_REF_MAJOR	0x01	/* page was not in the page cache, or swapped out: it had to be read */
#define PGT_REF_KERNEL	0x02	/* touched by the kernel for the process (copy_to_user, ...) */
#define PGT_REF_GUP	0x04	/* pinned by get_user_pages: no registers, ip is 0 */
#define PGT_REF_PRESENT	0x08	/* page was mapped and present: write to a read-only PTE */

/*
 * pgt_ref.page packs page identity and class:
 *   bits  0-51  page index in the object (file page offset; for anonymous
 *               memory the virtual page number)
 *   bits 52-56  page order: 0 = base page, 9 = 2 MiB
 *   bits 57-60  event, PGT_EVENT_*
 *   bits 61-62  access, PGT_ACCESS_*
 *   bit  63     reserved, 0
 */
#define PGT_PAGE_BITS		52
#define PGT_PAGE_MASK		0x000fffffffffffffULL
#define PGT_ORDER_SHIFT		52
#define PGT_ORDER_MASK		0x1f
#define PGT_EVENT_SHIFT		57
#define PGT_EVENT_MASK		0xf
#define PGT_ACCESS_SHIFT	61
#define PGT_ACCESS_MASK		0x3

#define PGT_EVENT_FAULT		1	/* not present before (or write-protected: PGT_REF_PRESENT) */
#define PGT_EVENT_RETOUCH	2	/* made to fault by the cleaner or the FIFO */
#define PGT_EVENT_LOOKUP	3	/* page-cache look-up by read() */
#define PGT_EVENT_INSERT	4	/* page entered the page cache */
#define PGT_EVENT_EVICT		5	/* page left the page cache */

#define PGT_ACCESS_UNKNOWN	0
#define PGT_ACCESS_READ		1
#define PGT_ACCESS_WRITE	2
#define PGT_ACCESS_EXEC		3

/*
 * One page reference. 64 bytes. A page may leave the page cache while a process
 * runs that is not traced (kswapd, say): tgid, tid and uid are 0 then.
 */
struct pgt_ref {
	struct pgt_header h;
	__u32	tgid;		/* process (thread-group id), initial pid namespace */
	__u32	tid;		/* thread */
	__u32	uid;		/* real uid of the thread, initial user namespace */
	__u32	object;		/* pgt_object.object of what backs the page */
	__u64	addr;		/* virtual address touched; 0 for page-cache events */
	__u64	ip;		/* instruction pointer; 0 where there is none */
	__u64	page;		/* packed, see above */
};

/* pgt_header.flags of a PGT_KIND_PROCESS */
#define PGT_PROCESS_ATTACHED	0x01	/* existed before it was traced */
#define PGT_PROCESS_FORKED	0x02	/* born of a traced process */
#define PGT_PROCESS_EXECED	0x04	/* called exec: comm, exe changed */
#define PGT_PROCESS_DETACHED	0x08	/* not traced any more from here on; it lives on */

/*
 * What a process is from time_ns on, until its next PROCESS or its EXIT.
 * Followed by exe, cwd and cgroup path, not NUL-terminated, then 0 to 7 bytes
 * of padding. (tgid, start_boot_ns) tells incarnations of a reused pid apart.
 */
struct pgt_process {
	struct pgt_header h;
	__u32	tgid;
	__u32	ppid;		/* thread-group id of the parent */
	__u32	uid;		/* real uid */
	__u32	gid;		/* real gid */
	__u64	start_ns;	/* start of the process, CLOCK_MONOTONIC */
	__u64	start_boot_ns;	/* the same, CLOCK_BOOTTIME */
	__u8	comm[16];	/* command name, NUL-padded */
	__u16	exe_len;	/* bytes of the executable's path; 0: unknown */
	__u16	cwd_len;	/* bytes of the working directory's path */
	__u16	cgroup_len;	/* bytes of the cgroup v2 path */
	__u16	reserved;
};

/* pgt_mapping.prot */
#define PGT_PROT_READ	0x1
#define PGT_PROT_WRITE	0x2
#define PGT_PROT_EXEC	0x4
#define PGT_PROT_SHARED	0x8	/* MAP_SHARED */

/* A stretch of address space backed by one object, as first seen. */
struct pgt_mapping {
	struct pgt_header h;
	__u32	tgid;
	__u32	object;
	__u64	start;		/* first address */
	__u64	end;		/* address behind the last */
	__u64	page;		/* page index in the object at start */
	__u32	prot;		/* PGT_PROT_* */
	__u32	reserved;
};

/* pgt_object.object_kind */
#define PGT_OBJECT_FILE		1
#define PGT_OBJECT_ANON		2	/* one process's anonymous memory */
#define PGT_OBJECT_HEAP		3	/* its brk area */
#define PGT_OBJECT_STACK	4	/* its main thread's stack */
#define PGT_OBJECT_SHMEM	5	/* shared anonymous memory, memfd, SysV */
#define PGT_OBJECT_HUGETLB	6
#define PGT_OBJECT_VDSO		7
#define PGT_OBJECT_OTHER	8

/* pgt_header.flags of a PGT_KIND_OBJECT */
#define PGT_OBJECT_DELETED	0x01	/* the file had no name left at time_ns; path is its last */
#define PGT_OBJECT_TRUNCATED	0x02	/* path was too long, its beginning is missing */

/*
 * What backs pages. Identity is (dev, ino, generation) for files and
 * (tgid, address space, kind) for anonymous memory; object is its short name
 * in this recording. Sent once before use; again, with PGT_OBJECT_DELETED, when
 * the file is seen without a name. Followed by the path, padded as above.
 */
struct pgt_object {
	struct pgt_header h;
	__u32	object;		/* from 1; 0 is never used */
	__u32	tgid;		/* owner of anonymous memory; first user of a file */
	__u32	dev_major;	/* of the file system (s_dev); 0 for anonymous memory */
	__u32	dev_minor;
	__u64	ino;
	__u32	generation;
	__u8	object_kind;	/* PGT_OBJECT_* */
	__u8	reserved;
	__u16	path_len;	/* bytes of path; 0: it has none */
};

/* A thread group ended. */
struct pgt_exit {
	struct pgt_header h;
	__u32	tgid;
	__u32	code;		/* as wait() gives it: status << 8, or the signal */
};

/* pgt_lost.channel */
#define PGT_CHANNEL_REFS	1
#define PGT_CHANNEL_NAMES	2

/* pgt_lost.cause */
#define PGT_LOST_BUFFER_FULL	1	/* the reader was too slow */
#define PGT_LOST_PROBE_MISSED	2	/* the hook itself could not run (count only, no seq) */
#define PGT_LOST_NO_MEMORY	3	/* no memory for the module's tables (count only, no seq) */

/*
 * count records of this CPU's channel were lost here, the last of them directly
 * before this record's seq (where cause is BUFFER_FULL). Stands in the channel
 * itself, or in the names channel when refs stayed full until the end.
 */
struct pgt_lost {
	struct pgt_header h;
	__u64	count;
	__u64	first_seq;	/* sequence number of the first lost record */
	__u64	first_ns;	/* when the first was lost */
	__u64	last_ns;	/* when the last was lost */
	__u16	channel;	/* PGT_CHANNEL_* */
	__u16	cause;		/* PGT_LOST_* */
	__u32	reserved;
};

#define PGT_LEVEL_OFF	0
#define PGT_LEVEL_LIGHT	1	/* first-touch faults */
#define PGT_LEVEL_RICH	2	/* and re-references, mapping life, fault-around */
#define PGT_LEVEL_FULL	3	/* and page-cache look-ups, inserts, evictions */

/* What is recorded changed: at start, at a switch, and (to OFF) at stop. */
struct pgt_level {
	struct pgt_header h;
	__u8	from;		/* PGT_LEVEL_* */
	__u8	to;
	__u16	reserved;
	__u32	clean_ms;	/* period of the cleaner; 0: off */
};

#define PGT_POLICY_NONE		0	/* present pages stay present: first touches only */
#define PGT_POLICY_TIMER	1	/* all of them are made to fault once a period */
#define PGT_POLICY_FIFO		2	/* all but the last N touched ones fault at their next touch */

/* How pages are made to fault again, and how references are kept. At start and at a switch. */
struct pgt_policy {
	struct pgt_header h;
	__u8	policy;		/* PGT_POLICY_* */
	__u8	grain;		/* page order of huge pages: 0 = split to base pages, 9 = left whole */
	__u8	overwrite;	/* 1: the refs channel keeps the newest records, 0: the oldest */
	__u8	reserved;
	__u32	clean_ms;	/* TIMER: period in ms */
	__u32	fifo;		/* FIFO: pages that may be active in one address space */
	__u32	reserved2;
};

#define PGT_MAP_MMAP		1	/* mapped: mmap, shmat, a program's segments at exec */
#define PGT_MAP_MUNMAP		2	/* unmapped: munmap, shmdt, what a new mapping replaced */
#define PGT_MAP_MREMAP		3	/* moved or resized, from old_start..old_end */
#define PGT_MAP_BRK		4	/* the heap after brk() */
#define PGT_MAP_STACK		5	/* a stack after it has grown */
#define PGT_MAP_MPROTECT	6	/* what may be done with it changed */

/*
 * An address space changed (levels rich and full). exec, fork and exit are
 * PROCESS and EXIT records: their mappings go or come as a whole.
 */
struct pgt_map {
	struct pgt_header h;
	__u32	tgid;
	__u32	tid;
	__u32	object;		/* what backs it, once a page of it was referenced; 0: not named so far */
	__u8	op;		/* PGT_MAP_* */
	__u8	prot;		/* PGT_PROT_*; 0 for MUNMAP */
	__u16	reserved;
	__u64	start;		/* first address */
	__u64	end;		/* address behind the last */
	__u64	page;		/* page index in the object at start */
	__u64	old_start;	/* MREMAP: where it was; otherwise 0 */
	__u64	old_end;
};

/*
 * A fault on a page of a file maps those of its neighbours that are in memory
 * (fault-around): their first touches do not fault. They lie in this range.
 */
struct pgt_around {
	struct pgt_header h;
	__u32	tgid;
	__u32	tid;
	__u32	object;
	__u32	pages;		/* length of the range */
	__u64	addr;		/* where its first page is mapped */
	__u64	page;		/* page index in the object at addr */
	__u64	touched;	/* the address that was touched */
};

/* pgt_header.flags of a PGT_KIND_ACTIVE */
#define PGT_ACTIVE_DIRTIED	0x01	/* written to while it was active */
#define PGT_ACTIVE_REREFERENCED	0x02	/* touched again after its first use */
#define PGT_ACTIVE_GONE		0x04	/* unmapped or reclaimed before its turn: nothing else is known */

/* A page's time in the active-PTE FIFO is over: its next touch faults. */
struct pgt_active {
	struct pgt_header h;
	__u32	tgid;
	__u32	object;
	__u64	addr;		/* of the page */
	__u64	page;		/* index in the object, and order, as in pgt_ref */
	__u64	since_ns;	/* when it became active, CLOCK_MONOTONIC */
	__u64	reserved;
};

/* One pass over one address space that made its pages fault, but for those active in a FIFO. */
struct pgt_clean {
	struct pgt_header h;
	__u32	tgid;
	__u32	pass;		/* number of the pass, from 1; 0: a FIFO began or overflowed */
	__u64	start_ns;	/* CLOCK_MONOTONIC */
	__u64	end_ns;
	__u64	scanned;	/* present PTEs seen */
	__u64	cleaned;	/* PTEs made to fault at their next touch */
};

/* The clocks, read together. At start, at stop and every second. */
struct pgt_clock {
	struct pgt_header h;
	__u64	monotonic_ns;
	__u64	realtime_ns;	/* UTC since 1970 */
	__u64	boottime_ns;
};

#endif /* PGTRACE_API_H */
