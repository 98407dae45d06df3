// SPDX-License-Identifier: GPL-2.0
/*
 * Names: which object backs a page, and the records that introduce objects,
 * mappings and processes.
 *
 * A path is resolved in the hook itself, at the object's first use, while the
 * mapping holds the file: no later unlink or rename can take the name away.
 * d_path() does not sleep, unless the file system brings its own d_dname();
 * those (memfd, SysV, shared anonymous memory) are named by their dentry
 * instead, which gives the same text. So nothing is deferred, and there is
 * nothing to wait for at unload.
 */
#include <linux/cgroup.h>
#include <linux/dcache.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/hash.h>
#include <linux/magic.h>
#include <linux/percpu.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "pgtrace.h"

#define OBJ_BITS 12
static struct hlist_head objects[1 << OBJ_BITS];
static DEFINE_SPINLOCK(objects_lock);	/* insertion, and the fields that follow a path */
static u32 next_object = 1;

/* Room to build the longest record: three paths behind a struct pgt_process. */
#define SCRATCH_SIZE (sizeof(struct pgt_process) + 3 * PATH_MAX)
static char __percpu *scratch;
static char __percpu *path_scratch;	/* d_path() works from the end of its buffer */

/*
 * Path of a file into `to`, at most PATH_MAX - 1 bytes. Never sleeps. Returns its length;
 * sets PGT_OBJECT_DELETED and PGT_OBJECT_TRUNCATED. Preemption is off.
 */
static u16 path_of(const struct path *path, char *to, u8 *flags)
{
	static const char deleted[] = " (deleted)";
	const size_t tail = sizeof(deleted) - 1;
	struct dentry *dentry = path->dentry;
	char *buf = this_cpu_ptr(path_scratch);
	size_t len;
	char *p;

	if (dentry->d_op && dentry->d_op->d_dname)
		return snprintf(to, PATH_MAX, "/%pd", dentry);

	p = d_path(path, buf, PATH_MAX);
	if (IS_ERR(p)) {
		*flags |= PGT_OBJECT_TRUNCATED;
		return snprintf(to, PATH_MAX, "%pd", dentry);
	}
	len = strlen(p);
	if (d_unlinked(dentry)) {
		*flags |= PGT_OBJECT_DELETED;
		if (len > tail && !strcmp(p + len - tail, deleted))
			len -= tail;
	}
	memcpy(to, p, len);
	return len;
}

static const struct path *user_path(struct file *file)
{
#if PGT_NEW_MM
	return file_user_path(file);	/* overlayfs: the path the program opened */
#else
	return &file->f_path;
#endif
}

static bool emit_object(struct pgt_obj *obj)
{
	struct pgt_object *rec = (void *)this_cpu_ptr(scratch);
	u16 len = ALIGN(sizeof(*rec) + obj->path_len, 8);

	memset(rec, 0, sizeof(*rec));
	rec->object = obj->id;
	rec->tgid = obj->tgid;
	rec->dev_major = MAJOR(obj->dev);
	rec->dev_minor = MINOR(obj->dev);
	rec->ino = obj->ino;
	rec->generation = obj->generation;
	rec->object_kind = obj->kind;
	rec->path_len = obj->path_len;
	if (obj->path_len)
		memcpy(rec + 1, obj->path, obj->path_len);
	memset((char *)(rec + 1) + obj->path_len, 0, len - sizeof(*rec) - obj->path_len);
	return pgt_emit(PGT_NAMES, rec, PGT_KIND_OBJECT, obj->flags, len, false);
}

static struct pgt_obj *new_object(u8 kind, u32 tgid)
{
	struct pgt_obj *obj = kzalloc(sizeof(*obj), GFP_ATOMIC | __GFP_NOWARN);

	if (obj) {
		obj->kind = kind;
		obj->tgid = tgid;
	}
	return obj;
}

static u8 file_kind(struct inode *inode, struct dentry *dentry)
{
	if (inode->i_sb->s_magic == HUGETLBFS_MAGIC)
		return PGT_OBJECT_HUGETLB;
	if (!S_ISREG(inode->i_mode))
		return PGT_OBJECT_OTHER;
	/* The kernel's own mounts of tmpfs hold memfd, SysV and shared anonymous memory. */
	if (dentry->d_op && dentry->d_op->d_dname)
		return PGT_OBJECT_SHMEM;
	return PGT_OBJECT_FILE;
}

static u32 hash_of(const struct inode *inode)
{
	return hash_64(inode->i_ino ^ (u64)inode->i_sb->s_dev << 32 ^ inode->i_generation, OBJ_BITS);
}

/* The object of a file if it has one already. Takes no lock. */
struct pgt_obj *pgt_object_find(struct inode *inode)
{
	struct pgt_obj *obj;

	hlist_for_each_entry_rcu(obj, &objects[hash_of(inode)], node, true)
		if (obj->ino == inode->i_ino && obj->dev == inode->i_sb->s_dev &&
		    obj->generation == inode->i_generation)
			return obj;
	return NULL;
}

/* The object of a file, new or known, its OBJECT record out. NULL: no memory. */
struct pgt_obj *pgt_object_file(struct file *file, u32 tgid)
{
	struct inode *inode = file_inode(file);
	u32 dev = inode->i_sb->s_dev, hash;
	struct pgt_obj *obj, *other;
	const struct path *path;
	char *text;

	obj = pgt_object_find(inode);
	if (likely(obj))
		goto found;

	hash = hash_of(inode);
	path = user_path(file);
	obj = new_object(file_kind(inode, path->dentry), tgid);
	if (!obj)
		return NULL;
	obj->ino = inode->i_ino;
	obj->dev = dev;
	obj->generation = inode->i_generation;
	text = this_cpu_ptr(scratch);
	obj->path_len = path_of(path, text, &obj->flags);
	obj->path = kmemdup(text, obj->path_len, GFP_ATOMIC | __GFP_NOWARN);
	if (!obj->path)
		obj->path_len = 0;

	spin_lock(&objects_lock);
	hlist_for_each_entry(other, &objects[hash], node)
		if (other->ino == obj->ino && other->dev == dev &&
		    other->generation == obj->generation) {
			spin_unlock(&objects_lock);
			kfree(obj->path);
			kfree(obj);
			obj = other;
			goto found;
		}
	obj->id = next_object++;
	hlist_add_head_rcu(&obj->node, &objects[hash]);
	spin_unlock(&objects_lock);
found:
	if (unlikely(!obj->named))
		obj->named = emit_object(obj);
	else if (unlikely(!inode->i_nlink))
		pgt_object_gone(obj);
	return obj;
}

/* Unlinked since: says so, and keeps the name it had. */
void pgt_object_gone(struct pgt_obj *obj)
{
	if (obj->kind != PGT_OBJECT_FILE || obj->flags & PGT_OBJECT_DELETED)
		return;
	obj->flags |= PGT_OBJECT_DELETED;
	obj->named = emit_object(obj);
}

/* The object of anonymous memory of one kind in one address space. */
static struct pgt_obj *object_anon(struct pgt_space *space, u8 kind, u32 tgid)
{
	struct pgt_obj *obj = READ_ONCE(space->anon[kind]);

	if (likely(obj)) {
		if (unlikely(!obj->named))
			obj->named = emit_object(obj);
		return obj;
	}
	obj = new_object(kind, tgid);
	if (!obj)
		return NULL;
	spin_lock(&objects_lock);
	if (space->anon[kind]) {
		kfree(obj);
		obj = space->anon[kind];
	} else {
		obj->id = next_object++;
		hlist_add_head_rcu(&obj->node, &objects[hash_32(obj->id, OBJ_BITS)]);
		WRITE_ONCE(space->anon[kind], obj);
	}
	spin_unlock(&objects_lock);
	if (!obj->named)
		obj->named = emit_object(obj);
	return obj;
}

/*
 * What backs `addr` in `vma`, and the page's index in it. A private mapping of a
 * file keeps the file's identity after copy-on-write: the mapping is what the
 * program asked for, and the write is in the trace.
 */
struct pgt_obj *pgt_object_of(struct vm_area_struct *vma, struct pgt_space *space,
			      u32 tgid, unsigned long addr, u64 *page)
{
	struct mm_struct *mm = vma->vm_mm;
	u8 kind = PGT_OBJECT_ANON;

	if (vma->vm_file && !vma_is_anonymous(vma)) {
		*page = vma->vm_pgoff + ((addr - vma->vm_start) >> PAGE_SHIFT);
		return pgt_object_file(vma->vm_file, tgid);
	}
	*page = addr >> PAGE_SHIFT;
	if (!vma_is_anonymous(vma))
		kind = vma->vm_start == (unsigned long)mm->context.vdso ?
			PGT_OBJECT_VDSO : PGT_OBJECT_OTHER;
	else if (vma->vm_start <= mm->brk && vma->vm_end >= mm->start_brk)
		kind = PGT_OBJECT_HEAP;
	else if (vma->vm_start <= mm->start_stack && vma->vm_end >= mm->start_stack)
		kind = PGT_OBJECT_STACK;
	return object_anon(space, kind, tgid);
}

/* PGT_PROT_*. A shared mapping of a file opened for reading is shared, too (as in /proc/PID/maps). */
u8 pgt_prot_of(const struct vm_area_struct *vma)
{
	return (vma->vm_flags & VM_READ ? PGT_PROT_READ : 0) |
	       (vma->vm_flags & VM_WRITE ? PGT_PROT_WRITE : 0) |
	       (vma->vm_flags & VM_EXEC ? PGT_PROT_EXEC : 0) |
	       (vma->vm_flags & VM_MAYSHARE ? PGT_PROT_SHARED : 0);
}

static noinline bool emit_mapping(struct vm_area_struct *vma, struct pgt_obj *obj, u32 tgid)
{
	struct pgt_mapping rec = {
		.tgid = tgid,
		.object = obj->id,
		.start = vma->vm_start,
		.end = vma->vm_end,
		.page = vma->vm_file && !vma_is_anonymous(vma) ?
			vma->vm_pgoff : vma->vm_start >> PAGE_SHIFT,
		.prot = pgt_prot_of(vma),
	};

	return pgt_emit(PGT_NAMES, &rec, PGT_KIND_MAPPING, 0, sizeof(rec), false);
}

/* A MAPPING record, unless this one was announced before (as far as remembered). False: no room. */
bool pgt_announce_mapping(struct pgt_space *space, struct vm_area_struct *vma,
			  struct pgt_obj *obj, u32 tgid)
{
	/* Stacks grow down: their end stays, the start of the others does. */
	u64 key = vma->vm_flags & VM_GROWSDOWN ? vma->vm_end : vma->vm_start;
	typeof(&space->seen[0]) seen = &space->seen[hash_64(key, 6)];

	/* Threads may race here: at worst a mapping is announced twice. */
	if (likely(seen->object == obj->id && seen->start == vma->vm_start &&
		   seen->end == vma->vm_end))
		return true;
	if (!emit_mapping(vma, obj, tgid))
		return false;
	seen->start = vma->vm_start;
	seen->end = vma->vm_end;
	seen->object = obj->id;
	return true;
}

static u16 exe_of(struct mm_struct *mm, char *to)
{
	struct file *exe;
	u8 flags = 0;
	u16 len;

	rcu_read_lock();
#if PGT_NEW_MM
	exe = get_file_rcu(&mm->exe_file);
#else
	exe = rcu_dereference(mm->exe_file);
	if (exe && !get_file_rcu(exe))
		exe = NULL;
#endif
	rcu_read_unlock();
	if (!exe)
		return 0;
	len = path_of(user_path(exe), to, &flags);
	fput(exe);
	return len;
}

/*
 * The PROCESS record of `task`'s thread group: at attach, after fork, after exec.
 * False: no room yet; named stays false and the next reference tries again.
 */
bool pgt_announce_process(struct pgt_proc *proc, struct task_struct *task, u8 how)
{
	struct task_struct *leader = task->group_leader;
	u32 news = READ_ONCE(proc->news);
	struct pgt_process *rec;
	unsigned int used = 0;
	char *text;
	u8 flags = 0;
	u16 len;

	if (READ_ONCE(proc->how) & PGT_PROCESS_DETACHED && !(how & PGT_PROCESS_DETACHED))
		return true;	/* a hook that was under way: what it is does not matter any more */
	preempt_disable();
	rec = (void *)this_cpu_ptr(scratch);
	text = (char *)(rec + 1);
	memset(rec, 0, sizeof(*rec));
	rec->tgid = task->tgid;
	rcu_read_lock();
	rec->ppid = rcu_dereference(task->real_parent)->tgid;
	rec->uid = from_kuid(&init_user_ns, task_uid(task));
	rec->gid = from_kgid(&init_user_ns, task_cred_xxx(task, gid));
	rcu_read_unlock();
	rec->start_ns = leader->start_time;
	rec->start_boot_ns = leader->start_boottime;
	task_lock(leader);
	strscpy_pad((char *)rec->comm, leader->comm, sizeof(rec->comm));
	task_unlock(leader);

	task_lock(task);	/* keeps mm and fs */
	if (task->mm)
		rec->exe_len = exe_of(task->mm, text);
	used = rec->exe_len;
	if (task->fs) {
		spin_lock(&task->fs->lock);
		rec->cwd_len = path_of(&task->fs->pwd, text + used, &flags);
		spin_unlock(&task->fs->lock);
		used += rec->cwd_len;
	}
	task_unlock(task);
#ifdef CONFIG_CGROUPS
	{
		int n;

		rcu_read_lock();
		n = cgroup_path(task_dfl_cgroup(task), text + used, PATH_MAX);
		rcu_read_unlock();
		if (n > 0 && n < PATH_MAX) {
			rec->cgroup_len = n;
			used += n;
		}
	}
#endif
	len = ALIGN(sizeof(*rec) + used, 8);
	memset(text + used, 0, len - sizeof(*rec) - used);
	if (!pgt_emit(PGT_NAMES, rec, PGT_KIND_PROCESS, how, len, false)) {
		preempt_enable();
		return false;
	}
	preempt_enable();
	WRITE_ONCE(proc->named, true);
	smp_mb();	/* pgt_announce_again() */
	if (READ_ONCE(proc->news) != news)
		WRITE_ONCE(proc->named, false);
	return READ_ONCE(proc->named);
}

/* Something about it has changed, or is about to. Never sleeps, takes no lock. */
void pgt_announce_again(struct pgt_proc *proc)
{
	WRITE_ONCE(proc->news, proc->news + 1);
	smp_mb();	/* who has read what was before finds the new number, or is overruled */
	WRITE_ONCE(proc->named, false);
}

/* Every OBJECT record that found no room so far. False: there still is none. */
bool pgt_objects_announce(void)
{
	struct pgt_obj *obj;
	bool all = true;
	int i;

	for (i = 0; i < ARRAY_SIZE(objects); i++) {
		preempt_disable();
		hlist_for_each_entry_rcu(obj, &objects[i], node, true)
			if (!obj->named) {
				obj->named = emit_object(obj);
				all = all && obj->named;
			}
		preempt_enable();
	}
	return all;
}

int pgt_objects_count(void)
{
	return READ_ONCE(next_object) - 1;
}

/* No hook runs any more. */
void pgt_objects_free(void)
{
	struct hlist_node *next;
	struct pgt_obj *obj;
	int i;

	for (i = 0; i < ARRAY_SIZE(objects); i++)
		hlist_for_each_entry_safe(obj, next, &objects[i], node) {
			hlist_del(&obj->node);
			kfree(obj->path);
			kfree(obj);
		}
	next_object = 1;
}

int pgt_paths_init(void)
{
	scratch = __alloc_percpu(SCRATCH_SIZE, 8);
	path_scratch = __alloc_percpu(PATH_MAX, 8);
	if (scratch && path_scratch)
		return 0;
	pgt_paths_exit();
	return -ENOMEM;
}

void pgt_paths_exit(void)
{
	free_percpu(scratch);
	free_percpu(path_scratch);
}
