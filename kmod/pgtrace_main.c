// SPDX-License-Identifier: GPL-2.0
/*
 * pgtrace: records which pages chosen processes reference, in order.
 *
 * debugfs/pgtrace/ holds the relay files (relay.c), `status`, and `control`,
 * which takes one command a write:
 *   clear | pid N | comm NAME | uid N | cgroup PATH | all | remove TARGET | follow exec|fork|none |
 *   recorder N | level light|rich|full | clean MS | fifo N |
 *   grain 4k|2m | buffers BYTES COUNT | overwrite on|off | snapshot begin|end | start | stop
 * Some work while recording: targets, level, clean, fifo, snapshot; the others say EBUSY then.
 * From `clear` to `start` the set-up belongs to the process that said clear: as long as it lives, others get EBUSY.
 */
#include <linux/cred.h>
#include <linux/ctype.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pid.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <linux/utsname.h>
#include <linux/workqueue.h>

#include "pgtrace.h"

#define PGT_MODULE_VERSION "0.1.0"

static unsigned int clean_ms = 500;	/* HZ/2, as in 2005 */
module_param(clean_ms, uint, 0644);
MODULE_PARM_DESC(clean_ms, "period of the PTE cleaner in ms until set otherwise, 0: off (default 500)");

enum { IDLE, RECORDING, STOPPED };
static const char *const state_names[] = { "idle", "recording", "stopped" };
static const char *const level_names[] = { "off", "light", "rich", "full" };
static const char *const policy_names[] = { "none", "timer", "fifo" };

#define FIFO_MIN 16
#define FIFO_MAX (1 << 20)
#define COMMAND_MAX (PATH_MAX + 64)

struct pgt_settings pgt_set = { .level = PGT_LEVEL_RICH };

static DEFINE_MUTEX(command);	/* one command at a time; guards state */
static int state = IDLE;
static u32 recordings;		/* begun so far: the number of this one */
static u32 orphan;		/* the recording whose recorder has died */
static struct pid *owner;	/* whose set-up it is; NULL: anybody's */
static struct dentry *dir, *control_file, *status_file;

bool pgt_recording(void)
{
	return READ_ONCE(state) == RECORDING;
}

void pgt_emit_clock(void)
{
	ktime_t now = ktime_get();
	/* One reading, converted: a virtual CPU may be held up between three of them. */
	struct pgt_clock rec = {
		.monotonic_ns = now,
		.realtime_ns = ktime_mono_to_any(now, TK_OFFS_REAL),
		.boottime_ns = ktime_mono_to_any(now, TK_OFFS_BOOT),
	};

	pgt_emit(PGT_NAMES, &rec, PGT_KIND_CLOCK, 0, sizeof(rec), true);
}

static void emit_level(u8 from, u8 to)
{
	struct pgt_level rec = { .from = from, .to = to, .clean_ms = pgt_set.clean_ms };

	pgt_emit(PGT_NAMES, &rec, PGT_KIND_LEVEL, 0, sizeof(rec), true);
}

static void emit_policy(void)
{
	struct pgt_policy rec = {
		.policy = pgt_set.policy,
		.grain = pgt_set.grain,
		.overwrite = pgt_relay_overwrites(),
		.clean_ms = pgt_set.clean_ms,
		.fifo = pgt_set.fifo,
	};

	pgt_emit(PGT_NAMES, &rec, PGT_KIND_POLICY, 0, sizeof(rec), true);
}

static void set_owner(struct pid *pid)
{
	put_pid(owner);
	owner = get_pid(pid);
}

/* The process whose set-up it is, NULL if there is none or it has ended. */
static struct pid *owner_alive(void)
{
	struct task_struct *task;
	bool alive;

	rcu_read_lock();
	task = owner ? pid_task(owner, PIDTYPE_TGID) : NULL;
	alive = task && atomic_read(&task->signal->live);
	rcu_read_unlock();
	if (!alive)
		set_owner(NULL);
	return owner;
}

static int start(void)
{
	int err;

	if (state == RECORDING)
		return -EBUSY;
	if (!pgt_relay_ready())
		return -ENOMEM;
	pgt_relay_reset();
	pgt_emit_clock();
	emit_level(PGT_LEVEL_OFF, pgt_set.level);
	emit_policy();
	pgt_set.turn++;
	WRITE_ONCE(recordings, recordings + 1);
	err = pgt_probes_start();
	if (err)
		goto failed;
	err = pgt_cleaner_start();
	if (err) {
		pgt_probes_stop();
		goto failed;
	}
	WRITE_ONCE(state, RECORDING);
	set_owner(NULL);
	return 0;
failed:
	pgt_fifo_stop();
	pgt_targets_release();
	pgt_objects_free();
	return err;
}

static void stop(bool unloading)
{
	int tries;

	if (state != RECORDING)
		return;
	pgt_cleaner_stop();
	pgt_probes_stop();
	pgt_fifo_stop();
	/* Nothing writes any more but us. What is owed gets time to find room. */
	for (tries = 0; tries < (unloading ? 1 : 500); tries++) {
		bool named = pgt_targets_announce();

		if (pgt_objects_announce() && pgt_relay_settle() && named)
			break;
		msleep(20);
	}
	emit_level(pgt_set.level, PGT_LEVEL_OFF);
	pgt_emit_clock();
	pgt_relay_settle();
	pgt_targets_release();
	pgt_objects_free();
	pgt_set.recorder = 0;
	WRITE_ONCE(state, STOPPED);
}

/* The recorder was killed: nobody would ever say stop. Another recording may run by now. */
static void stop_orphan(struct work_struct *work)
{
	mutex_lock(&command);
	if (READ_ONCE(orphan) == recordings)
		stop(true);
	mutex_unlock(&command);
}

static DECLARE_WORK(orphan_work, stop_orphan);

void pgt_recorder_died(void)
{
	WRITE_ONCE(orphan, READ_ONCE(recordings));
	schedule_work(&orphan_work);
}

static int set_level(const char *name)
{
	u8 to, from = pgt_set.level;

	for (to = PGT_LEVEL_LIGHT; to <= PGT_LEVEL_FULL; to++)
		if (!strcmp(name, level_names[to]))
			break;
	if (to > PGT_LEVEL_FULL)
		return -EINVAL;
	if (state == RECORDING && to != from) {
		int err = pgt_probes_level(to);

		if (err) {
			pgt_probes_level(from);
			return err;
		}
		pgt_set.turn++;		/* a FIFO begins anew: light did not keep it */
	}
	WRITE_ONCE(pgt_set.level, to);
	if (state == RECORDING && to != from) {
		emit_level(from, to);
		pgt_cleaner_kick();
	}
	return 0;
}

/* clean_ms and fifo: 0 but for the one that counts. */
static int set_policy(u8 policy, u32 ms, u32 fifo)
{
	if (fifo && (fifo < FIFO_MIN || fifo > FIFO_MAX))
		return -EINVAL;
	if (policy == pgt_set.policy && ms == pgt_set.clean_ms && fifo == pgt_set.fifo)
		return 0;
	WRITE_ONCE(pgt_set.clean_ms, ms);
	WRITE_ONCE(pgt_set.fifo, fifo);
	WRITE_ONCE(pgt_set.turn, pgt_set.turn + 1);
	WRITE_ONCE(pgt_set.policy, policy);
	if (state == RECORDING) {
		emit_policy();
		pgt_cleaner_kick();
	}
	return 0;
}

static int set_clean(u32 ms)
{
	return set_policy(ms ? PGT_POLICY_TIMER : PGT_POLICY_NONE, ms, 0);
}

static int set_fifo(u32 n)
{
	return set_policy(n ? PGT_POLICY_FIFO : PGT_POLICY_NONE, 0, n);
}

/* buffers BYTES COUNT */
static int set_buffers(char *line)
{
	char *bytes = strsep(&line, " ");
	unsigned long size, n;

	if (!line || kstrtoul(bytes, 10, &size) || kstrtoul(line, 10, &n))
		return -EINVAL;
	return pgt_relay_buffers(size, n);
}

static int snapshot(const char *word)
{
	int err;

	if (state != RECORDING)
		return -EBUSY;
	if (!strcmp(word, "end"))
		return pgt_relay_snapshot(false);
	if (strcmp(word, "begin"))
		return -EINVAL;
	err = pgt_relay_snapshot(true);
	if (!err)
		pgt_emit_clock();
	return err;
}

/* By the number that the writer knows it by. */
static int set_recorder(pid_t nr)
{
	struct pid *pid = nr ? find_get_pid(nr) : NULL;

	if (nr && !pid)
		return -ESRCH;
	pgt_set.recorder = pid_nr(pid);	/* 0 for none */
	put_pid(pid);
	return 0;
}

/* One of two words; -1: another. */
static int either(const char *word, const char *zero, const char *one)
{
	return !strcmp(word, zero) ? 0 : !strcmp(word, one) ? 1 : -1;
}

/* Settings that hold for a whole recording. */
static int set_fixed(const char *verb, char *value)
{
	int choice;

	if (!strcmp(verb, "buffers"))
		return state == RECORDING ? -EBUSY : set_buffers(value);
	if (!strcmp(verb, "grain"))
		choice = either(value, "4k", "2m");
	else if (!strcmp(verb, "overwrite"))
		choice = either(value, "off", "on");
	else
		return -ENOENT;
	if (choice < 0)
		return -EINVAL;
	if (state == RECORDING)
		return -EBUSY;
	if (!strcmp(verb, "grain"))
		pgt_set.grain = choice ? PMD_SHIFT - PAGE_SHIFT : 0;
	else
		pgt_relay_overwrite(choice);
	return 0;
}

static int execute(char *line)
{
	char *word = strsep(&line, " ");
	u32 number;
	int err;

	if (owner_alive() && owner != task_tgid(current))
		return -EBUSY;
	if (!strcmp(word, "start"))
		return start();
	if (!strcmp(word, "stop")) {
		stop(false);
		return 0;
	}
	if (!strcmp(word, "clear")) {
		if (state == RECORDING)
			return -EBUSY;
		set_owner(task_tgid(current));
		pgt_targets_clear();
		pgt_set.recorder = 0;
		set_clean(clean_ms);
		pgt_set.level = PGT_LEVEL_RICH;
		pgt_set.grain = 0;
		pgt_relay_overwrite(false);
		return 0;
	}
	if (!strcmp(word, "all"))
		return pgt_target_command(word, line, false);
	if (!line)
		return -EINVAL;
	if (!strcmp(word, "remove")) {
		word = strsep(&line, " ");
		return pgt_target_command(word, line, true);
	}
	if (!strcmp(word, "level"))
		return set_level(line);
	if (!strcmp(word, "snapshot"))
		return snapshot(line);
	err = set_fixed(word, line);
	if (err != -ENOENT)
		return err;
	if (strcmp(word, "clean") && strcmp(word, "fifo") && strcmp(word, "recorder"))
		return pgt_target_command(word, line, false);
	if (kstrtou32(line, 10, &number))
		return -EINVAL;
	if (!strcmp(word, "clean"))
		return set_clean(number);
	if (!strcmp(word, "fifo"))
		return set_fifo(number);
	return state == RECORDING ? -EBUSY : set_recorder(number);
}

static ssize_t control_write(struct file *file, const char __user *from, size_t n, loff_t *pos)
{
	char *text, *line, *c;
	int err = 0;

	if (n > COMMAND_MAX)
		return -EINVAL;
	text = memdup_user_nul(from, n);
	if (IS_ERR(text))
		return PTR_ERR(text);
	if (strlen(text) != n)
		err = -EINVAL;
	line = strim(text);
	for (c = line; *c; c++)
		if (iscntrl(*c))
			err = -EINVAL;
	if (!err) {
		mutex_lock(&command);
		err = execute(line);
		mutex_unlock(&command);
	}
	kfree(text);
	return err ?: n;
}

/* The owner keeps the module while a file is open; commands are short. */
static const struct file_operations control_fops = {
	.owner = THIS_MODULE,
	.write = control_write,
};

/* All of it at the first read: whoever reads to the end sees one state, not a longer one's tail behind a shorter one. */
static int status_show(struct seq_file *to, void *unused)
{
	mutex_lock(&command);
	seq_printf(to, "version %d\nmodule %s\nkernel %s\nstate %s\nlevel %s\nclean_ms %u\nfifo %u\npolicy %s\ngrain %s\noverwrite %d\nprocesses %d\nobjects %d\nowner %d\nrecorder %u\n",
		   PGT_VERSION, PGT_MODULE_VERSION, utsname()->release, state_names[state],
		   level_names[pgt_set.level], pgt_set.clean_ms, pgt_set.fifo,
		   policy_names[pgt_set.policy], pgt_set.grain ? "2m" : "4k",
		   pgt_relay_overwrites(), pgt_targets_count(), pgt_objects_count(),
		   pid_vnr(owner_alive()), pgt_set.recorder);
	pgt_targets_status(to);
	pgt_relay_status(to);
	mutex_unlock(&command);
	return 0;
}

static int status_open(struct inode *inode, struct file *file)
{
	return single_open(file, status_show, NULL);
}

static const struct file_operations status_fops = {
	.owner = THIS_MODULE,
	.open = status_open,
	.read = seq_read,
	.llseek = seq_lseek,
	.release = single_release,
};

static int __init pgtrace_init(void)
{
	int err;

	err = pgt_symbols_init();
	if (err)
		return err;
	err = pgt_paths_init();
	if (err)
		return err;
	set_clean(clean_ms);
	dir = debugfs_create_dir("pgtrace", NULL);
	if (IS_ERR(dir)) {
		err = PTR_ERR(dir);
		goto no_dir;
	}
	err = pgt_relay_init(dir);
	if (err)
		goto no_relay;
	control_file = pgt_create_file("control", 0200, dir, NULL, &control_fops);
	status_file = pgt_create_file("status", 0400, dir, NULL, &status_fops);
	return 0;
no_relay:
	debugfs_remove(dir);
no_dir:
	pgt_paths_exit();
	return err;
}

static void __exit pgtrace_exit(void)
{
	/* No new command, then no recording, then nobody who could ask for a stop. */
	debugfs_remove(control_file);
	debugfs_remove(status_file);
	mutex_lock(&command);
	stop(true);
	mutex_unlock(&command);
	cancel_work_sync(&orphan_work);
	pgt_targets_clear();
	set_owner(NULL);
	pgt_relay_exit();
	debugfs_remove(dir);
	pgt_paths_exit();
	rcu_barrier();
}

module_init(pgtrace_init);
module_exit(pgtrace_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Records which pages chosen processes reference");
MODULE_AUTHOR("The pgtrace authors");
MODULE_VERSION(PGT_MODULE_VERSION);
