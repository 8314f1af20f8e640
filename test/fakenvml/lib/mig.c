/* SPDX-License-Identifier: Apache-2.0
 *
 * MIG as it can be asked: mode, devices, profiles, placements, instances.
 */
#include "fake.h"
#include "mig.h"
#include <stdio.h>
#include <unistd.h>

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *current, unsigned *pending)
{
	CALL(device, GPU);
	NEED(c.gpu->model->mig, NVML_ERROR_NOT_SUPPORTED);
	*current = c.gpu->mig;
	*pending = c.gpu->pending;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned *count)
{
	CALL(device, GPU);
	*count = c.gpu->model->mig && c.gpu->mig ? 7 : 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned index,
						 nvmlDevice_t *mig)
{
	CALL(device, GPU);
	NEED(c.gpu->model->mig && c.gpu->mig, NVML_ERROR_NOT_SUPPORTED);
	NEED(index < 7, NVML_ERROR_INVALID_ARGUMENT);
	for (const struct gi *gi = c.gpu->gi; gi < c.gpu->gi + c.gpu->gis; gi++) {
		if (index < gi->cis) {
			mig->handle = handle(MIG, c.index, gi->id, gi->ci[index].id);
			return NVML_SUCCESS;
		}
		index -= gi->cis;
	}
	return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned *is)
{
	CALL(device, GPU | MIG);
	*is = c.ci != NULL;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t mig, nvmlDevice_t *device)
{
	CALL(mig, MIG);
	device->handle = handle(GPU, c.index, 0, 0);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t mig, unsigned *id)
{
	CALL(mig, MIG);
	*id = c.gi->id;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t mig, unsigned *id)
{
	CALL(mig, MIG);
	*id = c.ci->id;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t mig, nvmlDeviceAttributes_t *a)
{
	CALL(mig, GPU | MIG);
	NEED(c.ci, NVML_ERROR_NOT_SUPPORTED);
	const struct profile *p = profile_by_id(c.gi->profile);
	unsigned slices = ci_profile_by_id(p, c.ci->profile)->slices;
	*a = (nvmlDeviceAttributes_t){
		.multiprocessorCount = c.gpu->model->sm[p - profiles] * slices / p->slices,
		.sharedCopyEngineCount = p->ce, .sharedDecoderCount = p->dec,
		.sharedJpegCount = p->jpeg, .sharedOfaCount = p->ofa,
		.gpuInstanceSliceCount = p->slices, .computeInstanceSliceCount = slices,
		.memorySizeMB = c.gpu->model->gi_mb[p - profiles]};
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, unsigned profile,
						 nvmlGpuInstanceProfileInfo_t *info)
{
	CALL(device, GPU);
	const struct profile *p = profile_by_enum(profile);
	NEED(profile < NVML_GPU_INSTANCE_PROFILE_COUNT, NVML_ERROR_INVALID_ARGUMENT);
	NEED(p && c.gpu->model->mig, NVML_ERROR_NOT_SUPPORTED);
	*info = (nvmlGpuInstanceProfileInfo_t){
		.id = p->id, .sliceCount = p->slices, .instanceCount = p->max,
		.multiprocessorCount = c.gpu->model->sm[p - profiles], .copyEngineCount = p->ce,
		.decoderCount = p->dec, .jpegCount = p->jpeg, .ofaCount = p->ofa,
		.memorySizeMB = c.gpu->model->gi_mb[p - profiles]};
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoV(nvmlDevice_t device, unsigned profile,
						  nvmlGpuInstanceProfileInfo_v2_t *info)
{
	CALL(device, GPU);
	const struct profile *p = profile_by_enum(profile);
	NEED(info->version == nvmlGpuInstanceProfileInfo_v2 && profile < NVML_GPU_INSTANCE_PROFILE_COUNT,
	     NVML_ERROR_INVALID_ARGUMENT);
	NEED(p && c.gpu->model->mig, NVML_ERROR_NOT_SUPPORTED);
	*info = (nvmlGpuInstanceProfileInfo_v2_t){
		.version = info->version, .id = p->id, .sliceCount = p->slices,
		.instanceCount = p->max, .multiprocessorCount = c.gpu->model->sm[p - profiles],
		.copyEngineCount = p->ce, .decoderCount = p->dec, .jpegCount = p->jpeg,
		.ofaCount = p->ofa, .memorySizeMB = c.gpu->model->gi_mb[p - profiles]};
	snprintf(info->name, sizeof info->name, "MIG %s", c.gpu->model->gi_name[p - profiles]);
	return NVML_SUCCESS;
}

/* All legal placements, whatever is taken, and with MIG off too (nvml.h). */
static nvmlReturn_t placements(const struct call *c, unsigned id, nvmlGpuInstancePlacement_t *out,
			       unsigned *count)
{
	const struct profile *p = profile_by_id(id);
	NEED(c->gpu->model->mig && p, NVML_ERROR_NOT_SUPPORTED);
	NEED(geteuid() == 0, NVML_ERROR_NO_PERMISSION);
	unsigned n = 0;
	for (unsigned start = 0; start < 8; start++)
		if (p->starts >> start & 1) {
			if (out)
				out[n] = (nvmlGpuInstancePlacement_t){start, p->memory};
			n++;
		}
	*count = n;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements_v2(nvmlDevice_t device, unsigned id,
							   nvmlGpuInstancePlacement_t *out,
							   unsigned *count)
{
	CALL(device, GPU);
	return placements(&c, id, out, count);
}

nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements(nvmlDevice_t device, unsigned id,
							nvmlGpuInstancePlacement_t *out,
							unsigned *count)
{
	CALL(device, GPU);
	return placements(&c, id, out, count);
}

nvmlReturn_t nvmlDeviceGetGpuInstanceRemainingCapacity(nvmlDevice_t device, unsigned id,
						       unsigned *count)
{
	CALL(device, GPU);
	const struct profile *p = profile_by_id(id);
	NEED(c.gpu->mig && p, NVML_ERROR_NOT_SUPPORTED);
	NEED(geteuid() == 0, NVML_ERROR_NO_PERMISSION);
	struct gpu copy = *c.gpu;
	*count = 0;
	for (unsigned start = 0; start < 8; start++)
		if (gi_fits(&copy, p, start)) {
			copy.gi[copy.gis++] = (struct gi){.profile = id, .start = start};
			(*count)++;
		}
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstances(nvmlDevice_t device, unsigned id, nvmlGpuInstance_t *out,
				       unsigned *count)
{
	CALL(device, GPU);
	NEED(c.gpu->mig && profile_by_id(id), NVML_ERROR_NOT_SUPPORTED);
	NEED(geteuid() == 0, NVML_ERROR_NO_PERMISSION);
	*count = 0;
	for (const struct gi *gi = c.gpu->gi; gi < c.gpu->gi + c.gpu->gis; gi++)
		if (gi->profile == id)
			out[(*count)++].handle = handle(GI, c.index, gi->id, 0);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceById(nvmlDevice_t device, unsigned id, nvmlGpuInstance_t *out)
{
	CALL(device, GPU);
	NEED(c.gpu->mig, NVML_ERROR_NOT_SUPPORTED);
	NEED(geteuid() == 0, NVML_ERROR_NO_PERMISSION);
	for (const struct gi *gi = c.gpu->gi; gi < c.gpu->gi + c.gpu->gis; gi++)
		if (gi->id == id) {
			out->handle = handle(GI, c.index, id, 0);
			return NVML_SUCCESS;
		}
	return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlGpuInstanceGetInfo(nvmlGpuInstance_t instance, nvmlGpuInstanceInfo_t *info)
{
	CALL(instance, GI);
	*info = (nvmlGpuInstanceInfo_t){
		.device.handle = handle(GPU, c.index, 0, 0), .id = c.gi->id, .profileId = c.gi->profile,
		.placement = {c.gi->start, profile_by_id(c.gi->profile)->memory}};
	return NVML_SUCCESS;
}
