/* SPDX-License-Identifier: Apache-2.0
 *
 * MIG as it changes: mode, GPU instances, compute instances.
 */
#include "fake.h"
#include "mig.h"
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/* Memory slices are taken by place, media engines (REV1) once. Compute slices need no count: no
 * profile has more of them than of memory slices, and the eighth memory slice is never one's only. */
bool gi_fits(const struct gpu *g, const struct profile *p, unsigned start)
{
	unsigned same = 0;
	for (const struct gi *gi = g->gi; gi < g->gi + g->gis; gi++) {
		const struct profile *q = profile_by_id(gi->profile);
		same += q == p;
		NEED(start >= gi->start + q->memory || gi->start >= start + p->memory, false);
	}
	return start < 8 && p->starts >> start & 1 && same < p->max && g->gis < MAX_GIS;
}

static bool gi_id_taken(const struct gpu *g, unsigned id)
{
	for (const struct gi *gi = g->gi; gi < g->gi + g->gis; gi++)
		NEED(gi->id != id, true);
	return false;
}

static nvmlReturn_t create_gi(struct call *c, unsigned profile, int start, nvmlGpuInstance_t *out)
{
	NEED(c->gpu->mig, NVML_ERROR_NOT_SUPPORTED);
	const struct profile *p = profile_by_id(profile);
	NEED(p, NVML_ERROR_NOT_SUPPORTED);
	/* Which place the driver chooses is its own affair: here the last. */
	for (int s = 7; start < 0 && s >= 0; s--)
		if (gi_fits(c->gpu, p, s))
			start = s;
	NEED(start >= 0 && gi_fits(c->gpu, p, start), NVML_ERROR_INSUFFICIENT_RESOURCES);
	/* Which id is next differs between GPUs. */
	unsigned ids = p->gi_high - p->gi_low + 1, n = 0, id;
	while (gi_id_taken(c->gpu, id = p->gi_low + (n + c->index) % ids))
		NEED(++n < ids, NVML_ERROR_INSUFFICIENT_RESOURCES);
	c->gpu->gi[c->gpu->gis++] = (struct gi){.id = id, .profile = profile, .start = start};
	c->changed = true;
	out->handle = handle(GI, c->index, id, 0);
	return NVML_SUCCESS;
}

/* Each creation has a UUID of its own, random as RFC 9562 has it. */
static void new_uuid(char *out, size_t size)
{
	unsigned char b[16] = {0};
	if (getrandom(b, sizeof b, 0) != sizeof b)
		perror("fakenvml: getrandom");
	b[6] = (b[6] & 0x0f) | 0x40;
	b[8] = (b[8] & 0x3f) | 0x80;
	int n = snprintf(out, size, "MIG-");
	for (int i = 0; i < 16; i++)
		n += snprintf(out + n, size - n, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x",
			      b[i]);
}

/* A thief is a foreigner who takes the very place just before the call, TIMES times. */
static void steal(struct call *c, const struct profile *p, unsigned start)
{
	struct rule *r = (struct rule *)find_rule(c, "thief");
	nvmlGpuInstance_t gi;
	if (!r || r->value <= 0 || create_gi(c, p->id, (int)start, &gi) != NVML_SUCCESS)
		return;
	r->value--;
	struct gi *in = &c->gpu->gi[c->gpu->gis - 1];
	for (unsigned id = 0; in->cis == 0 && id < 8; id++) {
		const struct ci_profile *q = ci_profile_by_id(p, id);
		if (q && q->slices == p->slices)
			in->ci[in->cis++] = (struct ci){.profile = id};
	}
	new_uuid(in->ci[0].uuid, sizeof in->ci[0].uuid);
}

nvmlReturn_t nvmlDeviceCreateGpuInstance(nvmlDevice_t device, unsigned profile,
					 nvmlGpuInstance_t *out)
{
	CALL(device, GPU | CREATES);
	return answer(&c, create_gi(&c, profile, -1, out));
}

nvmlReturn_t nvmlDeviceCreateGpuInstanceWithPlacement(nvmlDevice_t device, unsigned profile,
						      const nvmlGpuInstancePlacement_t *placement,
						      nvmlGpuInstance_t *out)
{
	CALL(device, GPU | CREATES);
	const struct profile *p = profile_by_id(profile);
	NEED(p && placement->size == p->memory && placement->start < 8 &&
	     p->starts >> placement->start & 1, NVML_ERROR_INVALID_ARGUMENT);
	steal(&c, p, placement->start);
	return answer(&c, create_gi(&c, profile, (int)placement->start, out));
}

nvmlReturn_t nvmlGpuInstanceDestroy(nvmlGpuInstance_t instance)
{
	CALL(instance, GI | CREATES);
	NEED(c.gi->cis == 0 && !busy(&c), NVML_ERROR_IN_USE);
	*c.gi = c.gpu->gi[--c.gpu->gis];
	c.changed = true;
	return answer(&c, NVML_SUCCESS);
}

/* Which compute slices of the GPU instance are taken, and which ids. */
static unsigned ci_taken(const struct gi *gi, unsigned *ids)
{
	unsigned slices = 0;
	*ids = 0;
	for (const struct ci *ci = gi->ci; ci < gi->ci + gi->cis; ci++) {
		unsigned n = ci_profile_by_id(profile_by_id(gi->profile), ci->profile)->slices;
		slices |= ((1u << n) - 1) << ci->start;
		*ids |= 1u << ci->id;
	}
	return slices;
}

nvmlReturn_t nvmlGpuInstanceCreateComputeInstance(nvmlGpuInstance_t instance, unsigned profile,
						  nvmlComputeInstance_t *out)
{
	CALL(instance, GI | CREATES);
	const struct profile *gi = profile_by_id(c.gi->profile);
	const struct ci_profile *p = ci_profile_by_id(gi, profile);
	NEED(p, NVML_ERROR_NOT_SUPPORTED);
	unsigned ids, taken = ci_taken(c.gi, &ids), wanted = (1u << p->slices) - 1, start = 0, id = 0;
	while (taken & wanted << start)
		start++;
	while (ids >> id & 1)
		id++;
	NEED(start + p->slices <= gi->slices, NVML_ERROR_INSUFFICIENT_RESOURCES);
	struct ci *ci = &c.gi->ci[c.gi->cis++];
	*ci = (struct ci){.id = id, .profile = profile, .start = start};
	new_uuid(ci->uuid, sizeof ci->uuid);
	c.changed = true;
	out->handle = handle(CI, c.index, c.gi->id, id);
	return answer(&c, NVML_SUCCESS);
}

nvmlReturn_t nvmlComputeInstanceDestroy(nvmlComputeInstance_t instance)
{
	CALL(instance, CI | CREATES);
	NEED(!busy(&c), NVML_ERROR_IN_USE);
	*c.ci = c.gi->ci[--c.gi->cis];
	c.changed = true;
	return answer(&c, NVML_SUCCESS);
}

/* Ampere needs a reset for it, later GPUs do not; no client and no instance may be there. */
nvmlReturn_t nvmlDeviceSetMigMode(nvmlDevice_t device, unsigned mode, nvmlReturn_t *status)
{
	CALL(device, GPU | CREATES);
	NEED(c.gpu->model->mig, NVML_ERROR_NOT_SUPPORTED);
	NEED(mode <= NVML_DEVICE_MIG_ENABLE, NVML_ERROR_INVALID_ARGUMENT);
	*status = NVML_SUCCESS;
	c.gpu->pending = mode;
	c.changed = true;
	if (mode == c.gpu->mig)
		return answer(&c, NVML_SUCCESS);
	if (c.gpu->gis > 0 || busy(&c))
		*status = NVML_ERROR_IN_USE;
	else if (c.gpu->model->arch < NVML_DEVICE_ARCH_HOPPER)
		*status = NVML_ERROR_RESET_REQUIRED;
	else
		c.gpu->mig = mode;
	return answer(&c, NVML_SUCCESS);
}
