/* SPDX-License-Identifier: Apache-2.0
 *
 * Changes MIG on GPU 0, as the words of its command line say, linked with the library as any
 * program is. It prints what each call returned and gave, one line a word:
 *
 *   mode=1  gi=PROFILE  gi=PROFILE@START  ci=GI/PROFILE  rmgi=GI  rmci=GI/CI
 *   free=PROFILE (how many more fit)  places=PROFILE  user (become nobody)
 */
#define NVML_NO_UNVERSIONED_FUNC_DEFS 1
#include <nvml.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static nvmlDevice_t gpu;

static unsigned size(unsigned profile)
{
	nvmlGpuInstancePlacement_t p[8];
	unsigned n = 0;
	return nvmlDeviceGetGpuInstancePossiblePlacements_v2(gpu, profile, p, &n) == NVML_SUCCESS ? p[0].size : 0;
}

static int gi_create(unsigned profile, int start)
{
	nvmlGpuInstance_t gi;
	nvmlGpuInstanceInfo_t info = {.id = 99};
	nvmlGpuInstancePlacement_t place = {(unsigned)start, size(profile)};
	int r = start < 0 ? nvmlDeviceCreateGpuInstance(gpu, profile, &gi)
			  : nvmlDeviceCreateGpuInstanceWithPlacement(gpu, profile, &place, &gi);
	if (r == NVML_SUCCESS) {
		r = nvmlGpuInstanceGetInfo(gi, &info);
		printf("%d gi %u at %u:%u\n", r, info.id, info.placement.start, info.placement.size);
	} else {
		printf("%d\n", r);
	}
	return 0;
}

static int ci_create(unsigned id, unsigned profile)
{
	nvmlGpuInstance_t gi;
	nvmlComputeInstance_t ci;
	nvmlComputeInstanceInfo_t info = {.id = 99};
	char uuid[96] = "", again[96] = "-";
	nvmlDevice_t by_uuid;
	int r = nvmlDeviceGetGpuInstanceById(gpu, id, &gi);
	r = r ? r : (int)nvmlGpuInstanceCreateComputeInstance(gi, profile, &ci);
	r = r ? r : (int)nvmlComputeInstanceGetInfo_v2(ci, &info);
	r = r ? r : (int)nvmlDeviceGetUUID(info.device, uuid, sizeof uuid);
	r = r ? r : (int)nvmlDeviceGetHandleByUUID(uuid, &by_uuid);
	r = r ? r : (int)nvmlDeviceGetUUID(by_uuid, again, sizeof again);
	if (r == NVML_SUCCESS)
		printf("%d ci %u at %u:%u %s\n", r, info.id, info.placement.start, info.placement.size,
		       strcmp(uuid, again) == 0 ? "found" : "lost");
	else
		printf("%d\n", r);
	return 0;
}

static int destroy(unsigned gi_id, int ci_id)
{
	nvmlGpuInstance_t gi;
	nvmlComputeInstance_t ci;
	int r = nvmlDeviceGetGpuInstanceById(gpu, gi_id, &gi);
	if (ci_id >= 0) {
		r = r ? r : (int)nvmlGpuInstanceGetComputeInstanceById(gi, (unsigned)ci_id, &ci);
		r = r ? r : (int)nvmlComputeInstanceDestroy(ci);
	} else {
		r = r ? r : (int)nvmlGpuInstanceDestroy(gi);
	}
	return printf("%d\n", r);
}

static void word(const char *w)
{
	unsigned a, b, n = 0;
	int r;
	nvmlReturn_t status = NVML_SUCCESS;
	nvmlGpuInstancePlacement_t p[8];
	if (sscanf(w, "mode=%u", &a) == 1) {
		r = nvmlDeviceSetMigMode(gpu, a, &status);
		printf("%d status %d\n", r, status);
	} else if (sscanf(w, "gi=%u@%u", &a, &b) == 2) {
		gi_create(a, (int)b);
	} else if (sscanf(w, "gi=%u", &a) == 1) {
		gi_create(a, -1);
	} else if (sscanf(w, "ci=%u/%u", &a, &b) == 2) {
		ci_create(a, b);
	} else if (sscanf(w, "rmci=%u/%u", &a, &b) == 2) {
		destroy(a, (int)b);
	} else if (sscanf(w, "rmgi=%u", &a) == 1) {
		destroy(a, -1);
	} else if (sscanf(w, "free=%u", &a) == 1) {
		r = nvmlDeviceGetGpuInstanceRemainingCapacity(gpu, a, &n);
		printf("%d free %u\n", r, n);
	} else if (sscanf(w, "places=%u", &a) == 1) {
		r = nvmlDeviceGetGpuInstancePossiblePlacements_v2(gpu, a, p, &n);
		printf("%d", r);
		for (unsigned i = 0; r == NVML_SUCCESS && i < n; i++)
			printf(" %u:%u", p[i].start, p[i].size);
		printf("\n");
	} else if (strcmp(w, "user") == 0) {
		printf("%d\n", setuid(65534));
	}
	fflush(stdout); /* the next call may end the process */
}

int main(int argc, char **argv)
{
	if (nvmlInit_v2() != NVML_SUCCESS || nvmlDeviceGetHandleByIndex_v2(0, &gpu) != NVML_SUCCESS)
		return 1;
	for (int i = 1; i < argc; i++)
		word(argv[i]);
	return nvmlShutdown();
}
