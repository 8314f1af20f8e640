/* SPDX-License-Identifier: Apache-2.0
 *
 * How every call begins and ends: lock and read the state, wait and fail as the test asked,
 * resolve the handle; at the end write the state back, unlock, and die if the test asked for it.
 * The state is read anew by every call, since other processes change it.
 */
#define _GNU_SOURCE
#include "fake.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static atomic_int users;

bool library_used(int by)
{
	return atomic_fetch_add(&users, by) + by > 0;
}

/* $BERTH_FAKE_NVML, or fakenvml.state beside the library: who loads it may have no environment. */
static const char *state_path(char *buffer, size_t size)
{
	const char *path = getenv("BERTH_FAKE_NVML");
	if (path && *path)
		return path;
	Dl_info info;
	NEED(dladdr((void *)(uintptr_t)library_used, &info) && info.dli_fname, "fakenvml.state");
	char *real = realpath(info.dli_fname, NULL);
	const char *file = real ? real : info.dli_fname, *slash = strrchr(file, '/');
	snprintf(buffer, size, "%.*sfakenvml.state", slash ? (int)(slash - file) + 1 : 0, file);
	free(real);
	return buffer;
}

static bool load(struct call *c, bool writes)
{
	char buffer[4096];
	const char *path = state_path(buffer, sizeof buffer);
	c->fd = open(path, (writes ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (c->fd < 0) {
		fprintf(stderr, "fakenvml: open %s: %s\n", path, strerror(errno));
		return false;
	}
	while (flock(c->fd, writes ? LOCK_EX : LOCK_SH) != 0)
		NEED(errno == EINTR, false);
	return state_read(&c->s, c->fd);
}

static void unload(struct call *c)
{
	if (c->fd >= 0)
		close(c->fd); /* and unlock: nobody else has this description */
	c->fd = -1;
}

const struct rule *find_rule(const struct call *c, const char *verb)
{
	for (const struct rule *r = c->s.rule; r < c->s.rule + c->s.rules; r++)
		if (strcmp(r->verb, verb) == 0 &&
		    (strcmp(r->symbol, c->symbol) == 0 || strcmp(r->symbol, "*") == 0) &&
		    (r->gpu < 0 || r->gpu == c->index))
			return r;
	return NULL;
}

/* A handle is a number: a mark, the kind, and the indices and ids that it stands for. */
#define MARK 0x4e000000u

void *handle(unsigned kind, unsigned gpu, unsigned gi, unsigned ci)
{
	return (void *)(uintptr_t)(MARK | kind << 16 | gpu << 12 | gi << 4 | ci);
}

static nvmlReturn_t resolve(struct call *c, const void *h, unsigned kinds)
{
	unsigned v = (unsigned)(uintptr_t)h, kind = v >> 16 & 0xff;
	NEED((v & 0xff000000u) == MARK && (kind & kinds) && (v >> 12 & 15) < c->s.gpus,
	     NVML_ERROR_INVALID_ARGUMENT);
	c->gi = NULL;
	c->ci = NULL;
	c->index = v >> 12 & 15;
	c->gpu = &c->s.gpu[c->index];
	NEED(!c->gpu->lost, NVML_ERROR_GPU_IS_LOST);
	if (kind == GPU)
		return NVML_SUCCESS;
	for (unsigned i = 0; i < c->gpu->gis; i++)
		if (c->gpu->gi[i].id == (v >> 4 & 0xff))
			c->gi = &c->gpu->gi[i];
	NEED(c->gi, NVML_ERROR_INVALID_ARGUMENT); /* it was destroyed */
	if (kind == GI)
		return NVML_SUCCESS;
	for (unsigned i = 0; i < c->gi->cis; i++)
		if (c->gi->ci[i].id == (v & 15))
			c->ci = &c->gi->ci[i];
	return c->ci ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

/* h is the handle, of one of the kinds; gpu is the index where there is no handle yet. */
nvmlReturn_t call_begin(struct call *c, const void *h, unsigned kinds, int gpu)
{
	bool init = strncmp(c->symbol, "nvmlInit", 8) == 0, writes = kinds & CREATES;
	NEED(init || library_used(0), NVML_ERROR_UNINITIALIZED);
	NEED(!writes || geteuid() == 0, NVML_ERROR_NO_PERMISSION);
	c->index = gpu;
	NEED(load(c, writes), NVML_ERROR_UNKNOWN);
	nvmlReturn_t resolved = kinds & ~CREATES ? resolve(c, h, kinds) : NVML_SUCCESS;
	unsigned us = latency(c);
	const struct rule *stop = find_rule(c, "stop");
	if (us || stop) { /* without the lock: a slow call holds no other up */
		unload(c);
		if (us)
			usleep(us);
		if (stop)
			raise(SIGSTOP);
		NEED(load(c, writes), NVML_ERROR_UNKNOWN);
		resolved = kinds & ~CREATES ? resolve(c, h, kinds) : NVML_SUCCESS;
	}
	const struct rule *r = find_rule(c, "fault");
	return r ? (nvmlReturn_t)r->value : resolved;
}

nvmlReturn_t answer(const struct call *c, nvmlReturn_t of_work)
{
	const struct rule *r = find_rule(c, "lie");
	return r && of_work == NVML_SUCCESS ? (nvmlReturn_t)r->value : of_work;
}

static atomic_int calls; /* of this process */

void call_end(struct call *c)
{
	const struct rule *r = find_rule(c, "exit"), *crash = find_rule(c, "crash");
	if (c->changed && !state_write(&c->s, c->fd))
		fprintf(stderr, "fakenvml: write the state: %s\n", strerror(errno));
	if (c->changed && c->gpu)
		caps_show(&c->s, c->gpu);
	unload(c);
	if (atomic_fetch_add(&calls, 1) + 1 == (crash ? crash->value : -1))
		raise(SIGKILL);
	if (r)
		_exit(r->value);
}

nvmlReturn_t copy_text(char *out, unsigned length, const char *text)
{
	NEED(out, NVML_ERROR_INVALID_ARGUMENT);
	NEED(strlen(text) < length, NVML_ERROR_INSUFFICIENT_SIZE);
	strcpy(out, text);
	return NVML_SUCCESS;
}
