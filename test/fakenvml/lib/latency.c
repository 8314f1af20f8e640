/* SPDX-License-Identifier: Apache-2.0
 *
 * How long calls take on hardware. Measured on H100 (dra-driver-nvidia-gpu, pull request 1018):
 * initialisation 10 ms; a walk over the GPUs 29 ms, here by eight handles; a GPU's profiles 24 ms,
 * here by fourteen questions, two a profile; a change of mode 1 ms. That to destroy a GPU instance
 * takes in the order of 1 s is a comment of that driver (nvlib.go). Of creation there is no figure
 * in public, nor of compute instances: they are taken for as long, and for a tenth of it.
 */
#include "fake.h"
#include <string.h>

static const struct {
	const char *symbol;
	unsigned us;
} hardware[] = {
	{"nvmlInit_v2", 10000},
	{"nvmlDeviceGetHandleByIndex_v2", 3600},
	{"nvmlDeviceGetHandleByPciBusId_v2", 3600},
	{"nvmlDeviceGetGpuInstanceProfileInfo", 1700},
	{"nvmlDeviceGetGpuInstanceProfileInfoV", 1700},
	{"nvmlDeviceGetGpuInstancePossiblePlacements_v2", 1700},
	{"nvmlDeviceSetMigMode", 1000},
	{"nvmlDeviceCreateGpuInstance", 1000000},
	{"nvmlDeviceCreateGpuInstanceWithPlacement", 1000000},
	{"nvmlGpuInstanceDestroy", 1000000},
	{"nvmlGpuInstanceCreateComputeInstance", 100000},
	{"nvmlComputeInstanceDestroy", 100000},
};

/* Microseconds. What a rule says of a symbol goes before the preset. */
unsigned latency(const struct call *c)
{
	const struct rule *r = find_rule(c, "delay");
	if (r)
		return (unsigned)r->value;
	for (size_t i = 0; c->s.latency && i < sizeof hardware / sizeof *hardware; i++)
		if (strcmp(hardware[i].symbol, c->symbol) == 0)
			return hardware[i].us / 100 * c->s.latency;
	return 0;
}
