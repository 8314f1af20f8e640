/* SPDX-License-Identifier: Apache-2.0
 *
 * Compute instances: their profiles, and those that there are.
 */
#include "fake.h"

static const struct profile *of(const struct call *c)
{
	return profile_by_id(c->gi->profile);
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfo(nvmlGpuInstance_t instance,
							  unsigned profile, unsigned engines,
							  nvmlComputeInstanceProfileInfo_t *info)
{
	CALL(instance, GI);
	NEED(engines == NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED &&
	     profile < NVML_COMPUTE_INSTANCE_PROFILE_COUNT, NVML_ERROR_INVALID_ARGUMENT);
	const struct ci_profile *p = ci_profile_by_id(of(&c), profile);
	NEED(p, NVML_ERROR_NOT_SUPPORTED);
	*info = (nvmlComputeInstanceProfileInfo_t){
		.id = p->id, .sliceCount = p->slices, .instanceCount = of(&c)->slices / p->slices,
		.multiprocessorCount =
			c.gpu->model->sm[of(&c) - profiles] * p->slices / of(&c)->slices,
		.sharedCopyEngineCount = of(&c)->ce, .sharedDecoderCount = of(&c)->dec,
		.sharedJpegCount = of(&c)->jpeg, .sharedOfaCount = of(&c)->ofa};
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstances(nvmlGpuInstance_t instance, unsigned profile,
						nvmlComputeInstance_t *out, unsigned *count)
{
	CALL(instance, GI);
	*count = 0;
	for (const struct ci *ci = c.gi->ci; ci < c.gi->ci + c.gi->cis; ci++)
		if (ci->profile == profile)
			out[(*count)++].handle = handle(CI, c.index, c.gi->id, ci->id);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstanceById(nvmlGpuInstance_t instance, unsigned id,
						   nvmlComputeInstance_t *out)
{
	CALL(instance, GI);
	for (const struct ci *ci = c.gi->ci; ci < c.gi->ci + c.gi->cis; ci++)
		if (ci->id == id) {
			out->handle = handle(CI, c.index, c.gi->id, id);
			return NVML_SUCCESS;
		}
	return NVML_ERROR_NOT_FOUND;
}

/* The device is that of the instance itself, so its UUID needs no walk (v2; v1 gave the GPU). */
nvmlReturn_t nvmlComputeInstanceGetInfo_v2(nvmlComputeInstance_t instance,
					   nvmlComputeInstanceInfo_t *info)
{
	CALL(instance, CI);
	*info = (nvmlComputeInstanceInfo_t){
		.device.handle = handle(MIG, c.index, c.gi->id, c.ci->id),
		.gpuInstance.handle = handle(GI, c.index, c.gi->id, 0),
		.id = c.ci->id, .profileId = c.ci->profile,
		.placement = {c.ci->start, ci_profile_by_id(of(&c), c.ci->profile)->slices}};
	return NVML_SUCCESS;
}
