/* SPDX-License-Identifier: Apache-2.0
 *
 * The state file: one machine for all processes that load the fake. Lines of words:
 *
 *   driver VERSION | nvml VERSION | cuda 12080
 *   caps DIR                                      where instances are shown, as in /proc
 *   nodes GPUS CAPS                               majors: who has such a node open is a client
 *   latency PERCENT                               100: calls take as long as on hardware
 *   gpu MODEL UUID BUS MINOR MIG PENDING LOST COMPUTE  in the order of NVML's index
 *   gi GPU ID PROFILE START                       below its gpu; start is a memory slice
 *   ci GPU GI ID PROFILE START UUID               below its gi
 *   proc GPU PID BYTES GI CI                      a client; one that is not alive does not count
 *   fault SYMBOL RETURN GPU | lie SYMBOL RETURN GPU
 *   delay SYMBOL MICROSECONDS GPU | exit SYMBOL STATUS GPU
 *   crash * CALL -1 | thief nvmlDeviceCreateGpuInstanceWithPlacement TIMES GPU
 */
#include "fake.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct gi *find_gi(struct state *s, unsigned gpu, unsigned id)
{
	if (gpu >= s->gpus)
		return NULL;
	for (unsigned i = 0; i < s->gpu[gpu].gis; i++)
		if (s->gpu[gpu].gi[i].id == id)
			return &s->gpu[gpu].gi[i];
	return NULL;
}

static bool read_gpu(struct state *s, const char *line)
{
	NEED(s->gpus < MAX_GPUS, false);
	struct gpu *g = &s->gpu[s->gpus++];
	char model[32];
	NEED(sscanf(line, "gpu %31s %63s %31s %u %u %u %u %u", model, g->uuid, g->bus, &g->minor,
		    &g->mig, &g->pending, &g->lost, &g->compute) == 8, false);
	g->model = model_find(model);
	return g->model != NULL;
}

static bool read_gi(struct state *s, const char *line)
{
	unsigned gpu;
	struct gi gi = {0};
	NEED(sscanf(line, "gi %u %u %u %u", &gpu, &gi.id, &gi.profile, &gi.start) == 4, false);
	NEED(gpu < s->gpus && s->gpu[gpu].gis < MAX_GIS && profile_by_id(gi.profile), false);
	s->gpu[gpu].gi[s->gpu[gpu].gis++] = gi;
	return true;
}

static bool read_ci(struct state *s, const char *line)
{
	unsigned gpu, id;
	struct ci ci = {0};
	NEED(sscanf(line, "ci %u %u %u %u %u %63s", &gpu, &id, &ci.id, &ci.profile, &ci.start,
		    ci.uuid) == 6, false);
	struct gi *gi = find_gi(s, gpu, id);
	NEED(gi && gi->cis < MAX_CIS, false);
	NEED(ci_profile_by_id(profile_by_id(gi->profile), ci.profile), false);
	gi->ci[gi->cis++] = ci;
	return true;
}

static bool read_proc(struct state *s, const char *line)
{
	NEED(s->procs < MAX_PROCS, false);
	struct proc *p = &s->proc[s->procs++];
	return sscanf(line, "proc %u %d %llu %d %d", &p->gpu, &p->pid, &p->bytes, &p->gi, &p->ci) == 5;
}

static bool read_rule(struct state *s, const char *line)
{
	NEED(s->rules < MAX_RULES, false);
	struct rule *r = &s->rule[s->rules++];
	return sscanf(line, "%7s %63s %d %d", r->verb, r->symbol, &r->value, &r->gpu) == 4;
}

static bool read_line(struct state *s, const char *line)
{
	char verb[16] = "";
	sscanf(line, "%15s", verb);
	if (strcmp(verb, "driver") == 0)
		return sscanf(line, "driver %79s", s->driver) == 1;
	if (strcmp(verb, "nvml") == 0)
		return sscanf(line, "nvml %79s", s->nvml) == 1;
	if (strcmp(verb, "cuda") == 0)
		return sscanf(line, "cuda %d", &s->cuda) == 1;
	if (strcmp(verb, "caps") == 0)
		return sscanf(line, "caps %255s", s->caps) == 1;
	if (strcmp(verb, "nodes") == 0)
		return sscanf(line, "nodes %u %u", &s->gpu_major, &s->caps_major) == 2;
	if (strcmp(verb, "latency") == 0)
		return sscanf(line, "latency %u", &s->latency) == 1;
	if (strcmp(verb, "gpu") == 0)
		return read_gpu(s, line);
	if (strcmp(verb, "gi") == 0)
		return read_gi(s, line);
	if (strcmp(verb, "ci") == 0)
		return read_ci(s, line);
	if (strcmp(verb, "proc") == 0)
		return read_proc(s, line);
	static const char *const verbs[] = {"fault", "lie", "delay", "exit", "crash", "thief", "stop"};
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
		if (strcmp(verb, verbs[i]) == 0)
			return read_rule(s, line);
	return verb[0] == 0;
}

/* A line that cannot be read is told, since it is a mistake of the test. */
bool state_read(struct state *s, int fd)
{
	int copy = dup(fd);
	FILE *f = copy < 0 ? NULL : fdopen(copy, "r");
	NEED(f, false);
	rewind(f); /* the offset is shared by the copies */
	memset(s, 0, sizeof *s);
	char line[512];
	bool ok = true;
	while (ok && fgets(line, sizeof line, f)) {
		ok = read_line(s, line);
		if (!ok)
			fprintf(stderr, "fakenvml: cannot read the line %s", line);
	}
	fclose(f);
	return ok;
}

static void print_gpu(FILE *f, const struct state *s, unsigned n)
{
	const struct gpu *g = &s->gpu[n];
	fprintf(f, "gpu %s %s %s %u %u %u %u %u\n", g->model->key, g->uuid, g->bus, g->minor, g->mig,
		g->pending, g->lost, g->compute);
	for (const struct gi *gi = g->gi; gi < g->gi + g->gis; gi++) {
		fprintf(f, "gi %u %u %u %u\n", n, gi->id, gi->profile, gi->start);
		for (const struct ci *ci = gi->ci; ci < gi->ci + gi->cis; ci++)
			fprintf(f, "ci %u %u %u %u %u %s\n", n, gi->id, ci->id, ci->profile,
				ci->start, ci->uuid);
	}
}

/* In place, for the lock is the inode's; in one write, so that a kill leaves no half. */
bool state_write(const struct state *s, int fd)
{
	static char text[64 * 1024];
	FILE *f = fmemopen(text, sizeof text, "w");
	NEED(f, false);
	fprintf(f, "driver %s\nnvml %s\ncuda %d\n", s->driver, s->nvml, s->cuda);
	if (s->caps[0])
		fprintf(f, "caps %s\n", s->caps);
	if (s->gpu_major || s->caps_major)
		fprintf(f, "nodes %u %u\n", s->gpu_major, s->caps_major);
	if (s->latency)
		fprintf(f, "latency %u\n", s->latency);
	for (unsigned i = 0; i < s->gpus; i++)
		print_gpu(f, s, i);
	for (const struct proc *p = s->proc; p < s->proc + s->procs; p++)
		fprintf(f, "proc %u %d %llu %d %d\n", p->gpu, p->pid, p->bytes, p->gi, p->ci);
	for (const struct rule *r = s->rule; r < s->rule + s->rules; r++)
		fprintf(f, "%s %s %d %d\n", r->verb, r->symbol, r->value, r->gpu);
	long length = ftell(f);
	fclose(f);
	return pwrite(fd, text, length, 0) == length && ftruncate(fd, length) == 0;
}
