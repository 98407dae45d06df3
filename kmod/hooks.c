// SPDX-License-Identifier: GPL-2.0
/*
 * Putting hooks on functions and tracepoints of the kernel, and taking them off.
 * After an _off() (and for probes, unregister_*()) no hook runs any more.
 */
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/string.h>
#include <linux/tracepoint.h>

#include "pgtrace.h"

/*
 * Unregistering leaves the filter's hashes behind, and freeing them leaves
 * pointers to them: the next time gets a fresh structure.
 */
static void fresh_ops(struct pgt_hook *hook)
{
	ftrace_free_filter(&hook->ops);
	memset(&hook->ops, 0, sizeof(hook->ops));
}

int pgt_hook_on(struct pgt_hook *hook)
{
	int err;

	hook->ops.func = hook->func;
	err = ftrace_set_filter(&hook->ops, (char *)hook->function, strlen(hook->function), 1);
	if (!err)
		err = register_ftrace_function(&hook->ops);
	if (err)
		fresh_ops(hook);
	hook->on = !err;
	return err;
}

void pgt_hook_off(struct pgt_hook *hook)
{
	if (!hook->on)
		return;
	unregister_ftrace_function(&hook->ops);
	fresh_ops(hook);
	hook->on = false;
}

/* Registering wants a structure without traces of the last time. */
void pgt_fresh_kprobe(struct kprobe *kp)
{
	kp->addr = NULL;
	kp->flags = 0;
	kp->nmissed = 0;
}

int pgt_fresh_kretprobe(struct kretprobe *rp)
{
	pgt_fresh_kprobe(&rp->kp);
	rp->nmissed = 0;
	return register_kretprobe(rp);
}

struct search {
	struct pgt_point *points;
	int n;
};

static void find_point(struct tracepoint *tp, void *data)
{
	struct search *s = data;
	int i;

	for (i = 0; i < s->n; i++)
		if (!strcmp(tp->name, s->points[i].name))
			s->points[i].tp = tp;
}

/* Tracepoints: all of them, or none and an error. */
int pgt_points_on(struct pgt_point *points, int n)
{
	struct search s = { points, n };
	int i, err;

	for_each_kernel_tracepoint(find_point, &s);
	for (i = 0; i < n; i++) {
		if (!points[i].tp) {
			pr_err("the kernel has no tracepoint %s\n", points[i].name);
			err = -ENOENT;
		} else {
			err = tracepoint_probe_register(points[i].tp, points[i].hook, NULL);
		}
		points[i].on = !err;
		if (err) {
			pgt_points_off(points, n);
			return err;
		}
	}
	return 0;
}

void pgt_points_off(struct pgt_point *points, int n)
{
	int i;

	for (i = 0; i < n; i++) {
		if (points[i].on)
			tracepoint_probe_unregister(points[i].tp, points[i].hook, NULL);
		points[i].on = false;
	}
	tracepoint_synchronize_unregister();
}
