// SPDX-License-Identifier: GPL-2.0
/*
 * Who shall be traced: the targets, as they were asked for. Who is, is in threads.c.
 *
 * A target describes processes: one by its pid, or all of a name, of a user, of
 * a cgroup and those below it, or simply all. A process has reasons to be traced:
 * the targets that described it, and the reasons of the traced process that bore
 * it. When a target is taken back, whoever has no other reason leaves.
 *
 * Commands change the lists, one at a time; hooks read them under RCU. A target
 * that was taken back lives on, marked, in the reasons that name it.
 */
#include <linux/cgroup.h>
#include <linux/cred.h>
#include <linux/rculist.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "pgtrace.h"

enum { PID, COMM, UID, CGROUP, ALL };
static const char *const kind_names[] = { "pid", "comm", "uid", "cgroup", "all" };
static const char *const follow_names[] = { "none", "fork", "exec" };

struct pgt_target {
	struct hlist_node node;
	refcount_t users;	/* the list, and reasons */
	bool removed;
	u8 kind;
	u32 number;		/* pid as its owner knows it, or uid */
	struct pid *pid;	/* a reference */
	struct cgroup *cgroup;	/* a reference */
	char *name;		/* comm, or path of the cgroup */
	struct rcu_head rcu;
};

struct pgt_reasons {
	refcount_t users;
	struct rcu_head rcu;
	unsigned int n;
	struct pgt_target *of[];	/* references */
};

#define PID_BITS 8
static struct hlist_head by_pid[1 << PID_BITS];	/* there may be very many of these */
static struct hlist_head others;
static int n_targets, n_uids;

bool pgt_seek;
u8 pgt_follow = PGT_FOLLOW_EXEC;

/* --- the targets and what they describe; under RCU --- */

static struct hlist_head *list_of(u8 kind, const struct pid *pid)
{
	return kind == PID ? &by_pid[hash_ptr(pid, PID_BITS)] : &others;
}

static void free_target(struct pgt_target *target)
{
	if (!target)
		return;
	put_pid(target->pid);
#ifdef CONFIG_CGROUPS
	if (target->cgroup)
		cgroup_put(target->cgroup);
#endif
	kfree(target->name);
	kfree(target);
}

static void free_target_rcu(struct rcu_head *rcu)
{
	free_target(container_of(rcu, struct pgt_target, rcu));
}

static void put_target(struct pgt_target *target)
{
	if (refcount_dec_and_test(&target->users))
		call_rcu(&target->rcu, free_target_rcu);
}

/* `comm`: the process's name. Its leader's cgroup counts, and the thread's own user. */
static bool describes(const struct pgt_target *target, struct task_struct *task, const char *comm)
{
	switch (target->kind) {
	case PID:
		return target->pid == task_tgid(task);
	case COMM:
		return !strncmp(comm, target->name, TASK_COMM_LEN - 1);
	case UID:
		return target->number == from_kuid(&init_user_ns, task_uid(task));
#ifdef CONFIG_CGROUPS
	case CGROUP:
		return cgroup_is_descendant(task_dfl_cgroup(task->group_leader), target->cgroup);
#endif
	case ALL:
		return true;
	}
	return false;
}

/*
 * The targets that describe `task`, at most `room` of them into `found`. Returns
 * how many there are. `comm`: the name it is about to get, or NULL.
 */
static int matches(struct task_struct *task, const char *comm, struct pgt_target **found, int room)
{
	struct pid *pid = task_tgid(task);
	struct pgt_target *target;
	int n = 0;

	if (task->flags & PF_KTHREAD || task->tgid == READ_ONCE(pgt_set.recorder))
		return 0;
	if (!comm)
		comm = task->group_leader->comm;
	hlist_for_each_entry_rcu(target, list_of(PID, pid), node)
		if (describes(target, task, comm) && n++ < room)
			found[n - 1] = target;
	hlist_for_each_entry_rcu(target, &others, node)
		if (describes(target, task, comm) && n++ < room)
			found[n - 1] = target;
	return n;
}

/* Is it a process of a wanted user? The rest is known from other events. */
bool pgt_wanted_user(struct task_struct *task)
{
	struct pgt_target *target;
	bool yes = false;

	rcu_read_lock();
	hlist_for_each_entry_rcu(target, &others, node)
		yes = yes || (target->kind == UID && describes(target, task, NULL));
	rcu_read_unlock();
	return yes;
}

/* --- reasons --- */

static bool among(const struct pgt_reasons *reasons, const struct pgt_target *target)
{
	unsigned int i;

	for (i = 0; i < reasons->n; i++)
		if (reasons->of[i] == target)
			return true;
	return false;
}

static bool any_stands(const struct pgt_reasons *reasons)
{
	unsigned int i;

	for (i = 0; i < reasons->n; i++)
		if (!READ_ONCE(reasons->of[i]->removed))
			return true;
	return false;
}

void pgt_reasons_put(struct pgt_reasons *reasons)
{
	unsigned int i;

	if (!reasons || !refcount_dec_and_test(&reasons->users))
		return;
	for (i = 0; i < reasons->n; i++)
		put_target(reasons->of[i]);
	kfree_rcu(reasons, rcu);
}

static void add_reason(struct pgt_reasons *reasons, struct pgt_target *target)
{
	if (!READ_ONCE(target->removed) && !among(reasons, target) &&
	    refcount_inc_not_zero(&target->users))
		reasons->of[reasons->n++] = target;
}

/*
 * Why `task` is to be traced: the targets that describe it, and what still stands
 * of `base` (may be NULL). The caller puts it. NULL: there is no reason;
 * ERR_PTR(-ENOMEM). Often it is `base` itself. Under RCU.
 */
struct pgt_reasons *pgt_reasons_of(struct task_struct *task, const char *comm,
				   struct pgt_reasons *base)
{
	struct pgt_target *found[8];
	struct pgt_reasons *reasons;
	int i, new = 0, n = matches(task, comm, found, ARRAY_SIZE(found));

	if (base && any_stands(base)) {
		for (i = 0; i < min_t(int, n, ARRAY_SIZE(found)); i++)
			new += !among(base, found[i]);
		if (!new && n <= ARRAY_SIZE(found) && refcount_inc_not_zero(&base->users))
			return base;
	} else {
		base = NULL;
	}
	if (!n && !base)
		return NULL;
	reasons = kzalloc(struct_size(reasons, of, n + (base ? base->n : 0)),
			  GFP_ATOMIC | __GFP_NOWARN);
	if (!reasons)
		return ERR_PTR(-ENOMEM);
	refcount_set(&reasons->users, 1);
	if (n > ARRAY_SIZE(found)) {
		/* Cgroups within cgroups: what does not find room on the stack is looked up again. */
		struct pgt_target **more = kmalloc_array(n, sizeof(*more), GFP_ATOMIC | __GFP_NOWARN);

		if (!more) {
			pgt_reasons_put(reasons);
			return ERR_PTR(-ENOMEM);
		}
		n = min(matches(task, comm, more, n), n);
		for (i = 0; i < n; i++)
			add_reason(reasons, more[i]);
		kfree(more);
	} else {
		for (i = 0; i < n; i++)
			add_reason(reasons, found[i]);
	}
	for (i = 0; base && i < base->n; i++)
		add_reason(reasons, base->of[i]);
	if (reasons->n)
		return reasons;
	pgt_reasons_put(reasons);	/* all were taken back just now */
	return NULL;
}

/* Does any of them stand? Under RCU. */
bool pgt_reasons_stand(struct pgt_reasons *reasons)
{
	return any_stands(reasons);
}

/* --- commands --- */

static int parse_pid(struct pgt_target *target, const char *argument, bool remove)
{
	struct task_struct *task;
	int err = 0;

	if (kstrtou32(argument, 10, &target->number))
		return -EINVAL;
	if (remove)
		return 0;	/* it may have ended: its number is enough */
	target->pid = find_get_pid(target->number);
	rcu_read_lock();
	task = target->pid ? pid_task(target->pid, PIDTYPE_TGID) : NULL;
	if (!task || task->flags & PF_KTHREAD)
		err = -ESRCH;
	rcu_read_unlock();
	return err;
}

static int parse_cgroup(struct pgt_target *target, const char *path, bool remove)
{
	size_t len = strlen(path);

#ifndef CONFIG_CGROUPS
	return -ENOENT;
#endif
	if (*path != '/')
		return -EINVAL;
	while (len > 1 && path[len - 1] == '/')
		len--;
	target->name = kstrndup(path, len, GFP_KERNEL);
	if (!target->name)
		return -ENOMEM;
#ifdef CONFIG_CGROUPS
	if (!remove) {
		struct cgroup *cgroup = cgroup_get_from_path(target->name);

		if (IS_ERR(cgroup))
			return PTR_ERR(cgroup);
		target->cgroup = cgroup;
	}
#endif
	return 0;
}

/* A target in words; ERR_PTR() of what is wrong with them. */
static struct pgt_target *parse(const char *verb, const char *argument, bool remove)
{
	int kind = match_string(kind_names, ARRAY_SIZE(kind_names), verb);
	struct pgt_target *target;
	int err = 0;

	if (kind < 0 || (kind == ALL) != !argument || (argument && !*argument))
		return ERR_PTR(-EINVAL);
	target = kzalloc(sizeof(*target), GFP_KERNEL);
	if (!target)
		return ERR_PTR(-ENOMEM);
	target->kind = kind;
	refcount_set(&target->users, 1);
	switch (kind) {
	case PID:
		err = parse_pid(target, argument, remove);
		break;
	case COMM:
		/* The kernel cuts names off as well. */
		target->name = kstrndup(argument, TASK_COMM_LEN - 1, GFP_KERNEL);
		err = target->name ? 0 : -ENOMEM;
		break;
	case UID:
		err = kstrtou32(argument, 10, &target->number) ? -EINVAL : 0;
		break;
	case CGROUP:
		err = parse_cgroup(target, argument, remove);
		break;
	}
	if (!err)
		return target;
	free_target(target);
	return ERR_PTR(err);
}

/* The same words; of pids, whose numbers come again, also the same process. */
static bool same(const struct pgt_target *a, const struct pgt_target *b)
{
	return a->kind == b->kind && a->number == b->number &&
	       (!a->pid || !b->pid || a->pid == b->pid) &&
	       (!a->cgroup || !b->cgroup || a->cgroup == b->cgroup) &&
	       (!a->name || !strcmp(a->name, b->name));
}

static void take_out(struct pgt_target *target)
{
	hlist_del_rcu(&target->node);
	WRITE_ONCE(target->removed, true);
	n_targets--;
	n_uids -= target->kind == UID;
	WRITE_ONCE(pgt_seek, n_uids);
	put_target(target);
}

/* Takes out those that are the same as `like`, or all (NULL); returns how many. */
static int take_out_all(const struct pgt_target *like)
{
	struct pgt_target *target;
	struct hlist_node *next;
	int i, n = 0;

	for (i = 0; i <= ARRAY_SIZE(by_pid); i++)
		hlist_for_each_entry_safe(target, next, i ? &by_pid[i - 1] : &others, node)
			if (!like || same(like, target)) {
				take_out(target);
				n++;
			}
	return n;
}

static int add(struct pgt_target *target)
{
	struct hlist_head *list = list_of(target->kind, target->pid);
	struct pgt_target *known;

	hlist_for_each_entry(known, list, node)
		if (same(known, target)) {
			free_target(target);
			return 0;
		}
	hlist_add_head_rcu(&target->node, list);
	n_targets++;
	n_uids += target->kind == UID;
	WRITE_ONCE(pgt_seek, n_uids);
	/*
	 * Who is there already. A process that is born meanwhile either is found,
	 * or its fork hook, which comes after it can be found, sees the target.
	 */
	smp_mb();
	if (pgt_recording())
		pgt_targets_scan(target->pid);
	return 0;
}

static int remove(struct pgt_target *target)
{
	u8 kind = target->kind;
	int n = take_out_all(target);

	free_target(target);
	if (!n)
		return kind == PID ? -ESRCH : -ENOENT;
	/* As above: who was taken in for it meanwhile either is found, or finds it removed. */
	smp_mb();
	if (pgt_recording())
		pgt_targets_reconsider();
	return 0;
}

/*
 * pid N, comm NAME, uid N, cgroup PATH, all; with `remove`, takes it back.
 * follow exec|fork|none. -EINVAL: none of these.
 */
int pgt_target_command(const char *verb, const char *argument, bool remove_it)
{
	struct pgt_target *target;

	if (!strcmp(verb, "follow") && !remove_it && argument) {
		int follow = match_string(follow_names, ARRAY_SIZE(follow_names), argument);

		if (follow < 0)
			return -EINVAL;
		WRITE_ONCE(pgt_follow, follow);
		return 0;
	}
	target = parse(verb, argument, remove_it);
	if (IS_ERR(target))
		return PTR_ERR(target);
	return remove_it ? remove(target) : add(target);
}

/* Nothing is recorded. */
void pgt_targets_clear(void)
{
	take_out_all(NULL);
	pgt_follow = PGT_FOLLOW_EXEC;
}

/* Is there a target that processes to come may fit? */
bool pgt_targets_open(void)
{
	return !hlist_empty(&others);
}

void pgt_targets_status(struct seq_file *to)
{
	seq_printf(to, "follow %s\ntargets %d\n", follow_names[pgt_follow], n_targets);
}
