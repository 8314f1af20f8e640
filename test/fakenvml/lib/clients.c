/* SPDX-License-Identifier: Apache-2.0
 *
 * Who is a client of the driver. As the driver has it, that is a process that has a node open: a
 * GPU's, or that of a GPU instance's or a compute instance's capability. There is no driver here
 * that would let a node be opened, so O_PATH counts too. A container's node is another inode with
 * the same number, so that what is compared is the number. Beside them are those that the state
 * lists by pid, which need no node.
 */
#define _GNU_SOURCE
#include "fake.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* A zombie has no open files any more, and so no device: its state follows the last bracket of
 * its name (proc_pid_stat(5)). */
static bool alive(int pid)
{
	char path[32], text[512] = "";
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	FILE *f = fopen(path, "r");
	NEED(f, errno != ENOENT);
	size_t n = fread(text, 1, sizeof text - 1, f);
	fclose(f);
	const char *name = strrchr(text, ')');
	return n > 0 && (!name || (name[2] != 'Z' && name[2] != 'X'));
}

/* The next living client that is listed for what the call's handle stands for, from *from on. */
const struct proc *gpu_process(const struct call *c, unsigned *from)
{
	while (*from < c->s.procs) {
		const struct proc *p = &c->s.proc[(*from)++];
		if ((int)p->gpu == c->index && (!c->gi || p->gi == (int)c->gi->id) &&
		    (!c->ci || p->ci == (int)c->ci->id) && alive(p->pid))
			return p;
	}
	return NULL;
}

/* A node of a major, with a minor from first on. */
struct nodes {
	unsigned major, first, count;
};

static bool among(const struct nodes *n, const struct stat *st)
{
	return S_ISCHR(st->st_mode) && major(st->st_rdev) == n->major &&
	       minor(st->st_rdev) - n->first < n->count;
}

/* What cannot be read belongs to a process that has ended, which has nothing open. */
static bool has_open(const char *pid, const struct nodes *n)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%.16s/fd", pid);
	DIR *fds = opendir(path);
	NEED(fds, false);
	bool found = false;
	struct stat st;
	for (const struct dirent *e; !found && (e = readdir(fds));)
		found = fstatat(dirfd(fds), e->d_name, &st, 0) == 0 && among(n, &st);
	closedir(fds);
	return found;
}

/* The caller does not count: its library has the GPU's node open itself. */
static bool held(const struct nodes *n)
{
	NEED(n->major, false);
	DIR *proc = opendir("/proc");
	NEED(proc, false);
	bool found = false;
	for (const struct dirent *e; !found && (e = readdir(proc));)
		found = atoi(e->d_name) > 0 && atoi(e->d_name) != getpid() && has_open(e->d_name, n);
	closedir(proc);
	return found;
}

/* Is what the call's handle stands for in use? A compute instance is by who has its capability, a
 * GPU instance by who has its own or one of those in it, a GPU by who has its node. Who has the
 * node of the GPU alone, as a monitor has, is in no instance's way; nor is who has another's. */
bool busy(const struct call *c)
{
	unsigned at = 0, all = 1 + CI_IDS;
	NEED(!gpu_process(c, &at), true);
	if (c->ci)
		return held(&(struct nodes){c->s.caps_major, cap_minor(c->gpu, c->gi->id) + 1 + c->ci->id, 1});
	if (c->gi)
		return held(&(struct nodes){c->s.caps_major, cap_minor(c->gpu, c->gi->id), all});
	return held(&(struct nodes){c->s.gpu_major, c->gpu->minor, 1}) ||
	       held(&(struct nodes){c->s.caps_major, cap_minor(c->gpu, 0), GI_IDS * all});
}
