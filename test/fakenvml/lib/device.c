/* SPDX-License-Identifier: Apache-2.0
 *
 * GPUs: their handles and what is asked of them. A handle of a MIG device is good for those
 * questions that the real library answers for one (nvml.h).
 */
#include "fake.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count)
{
	CALL_SYSTEM();
	*count = c.s.gpus;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount(unsigned *count)
{
	CALL_SYSTEM();
	*count = c.s.gpus;
	return NVML_SUCCESS;
}

static nvmlReturn_t give(const struct call *c, unsigned index, nvmlDevice_t *device)
{
	NEED(index < c->s.gpus, NVML_ERROR_INVALID_ARGUMENT);
	NEED(!c->s.gpu[index].lost, NVML_ERROR_GPU_IS_LOST);
	device->handle = handle(GPU, index, 0, 0);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device)
{
	CALL_(NULL, NOTHING, (int)index);
	return give(&c, index, device);
}

nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned index, nvmlDevice_t *device)
{
	CALL_(NULL, NOTHING, (int)index);
	return give(&c, index, device);
}

/* "0000:3b:00.0" is the same bus id as "00000000:3B:00.0". */
nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus, nvmlDevice_t *device)
{
	CALL_SYSTEM();
	unsigned a[4], b[4];
	NEED(sscanf(bus, "%x:%x:%x.%x", &a[0], &a[1], &a[2], &a[3]) == 4, NVML_ERROR_INVALID_ARGUMENT);
	for (unsigned i = 0; i < c.s.gpus; i++)
		if (sscanf(c.s.gpu[i].bus, "%x:%x:%x.%x", &b[0], &b[1], &b[2], &b[3]) == 4 &&
		    memcmp(a, b, sizeof a) == 0)
			return give(&c, i, device);
	return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
	CALL_SYSTEM();
	for (unsigned i = 0; i < c.s.gpus; i++) {
		const struct gpu *g = &c.s.gpu[i];
		if (strcasecmp(g->uuid, uuid) == 0)
			return give(&c, i, device);
		for (const struct gi *gi = g->gi; gi < g->gi + g->gis; gi++)
			for (const struct ci *ci = gi->ci; ci < gi->ci + gi->cis; ci++)
				if (strcasecmp(ci->uuid, uuid) == 0) {
					device->handle = handle(MIG, i, gi->id, ci->id);
					return NVML_SUCCESS;
				}
	}
	return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned length)
{
	CALL(device, GPU | MIG);
	return copy_text(uuid, length, c.ci ? c.ci->uuid : c.gpu->uuid);
}

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned *index)
{
	CALL(device, GPU | MIG);
	*index = c.index;
	if (c.ci) { /* its place among the GPU's MIG devices */
		*index = c.ci - c.gi->ci;
		for (const struct gi *gi = c.gpu->gi; gi < c.gi; gi++)
			*index += gi->cis;
	}
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned *minor)
{
	CALL(device, GPU);
	*minor = c.gpu->minor;
	return NVML_SUCCESS;
}

/* "NVIDIA H200 MIG 1g.18gb"; a compute instance that is not all of its GPU instance is "1c.3g". */
nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned length)
{
	CALL(device, GPU | MIG);
	const struct model *m = c.gpu->model;
	char text[128];
	snprintf(text, sizeof text, "%s", m->name);
	if (c.ci) {
		const struct profile *p = profile_by_id(c.gi->profile);
		const char *gi = m->gi_name[p - profiles];
		unsigned slices = ci_profile_by_id(p, c.ci->profile)->slices;
		if (slices == p->slices)
			snprintf(text, sizeof text, "%s MIG %s", m->name, gi);
		else
			snprintf(text, sizeof text, "%s MIG %uc.%s", m->name, slices, gi);
	}
	return copy_text(name, length, text);
}

nvmlReturn_t nvmlDeviceGetBrand(nvmlDevice_t device, nvmlBrandType_t *brand)
{
	CALL(device, GPU);
	*brand = c.gpu->model->brand;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t device, nvmlDeviceArchitecture_t *arch)
{
	CALL(device, GPU | MIG);
	*arch = c.gpu->model->arch;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
	CALL(device, GPU | MIG);
	*major = c.gpu->model->major;
	*minor = c.gpu->model->minor;
	return NVML_SUCCESS;
}

static nvmlReturn_t pci_info(const struct call *c, nvmlPciInfo_t *pci)
{
	unsigned function;
	memset(pci, 0, sizeof *pci);
	NEED(sscanf(c->gpu->bus, "%x:%x:%x.%x", &pci->domain, &pci->bus, &pci->device, &function) == 4,
	     NVML_ERROR_UNKNOWN);
	pci->pciDeviceId = c->gpu->model->pci;
	snprintf(pci->busId, sizeof pci->busId, "%08X:%02X:%02X.%X", pci->domain, pci->bus & 0xff,
		 pci->device & 0x1f, function & 7);
	snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "%04X:%02X:%02X.%X", pci->domain & 0xffff,
		 pci->bus & 0xff, pci->device & 0x1f, function & 7);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
	CALL(device, GPU);
	return pci_info(&c, pci);
}

/* The structure had no busId yet. */
nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
	CALL(device, GPU);
	nvmlPciInfo_t all;
	nvmlReturn_t r = pci_info(&c, &all);
	memcpy(pci, &all, offsetof(nvmlPciInfo_t, busId));
	return r;
}

static unsigned long long memory(const struct call *c, unsigned long long *used)
{
	*used = 0;
	unsigned at = 0;
	for (const struct proc *p; (p = gpu_process(c, &at));)
		*used += p->bytes;
	const struct model *m = c->gpu->model;
	unsigned mb = c->gi ? m->gi_mb[profile_by_id(c->gi->profile) - profiles] : m->mb;
	return (unsigned long long)mb << 20;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *info)
{
	CALL(device, GPU | MIG);
	info->total = memory(&c, &info->used);
	info->free = info->total - info->used;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *info)
{
	CALL(device, GPU | MIG);
	NEED(info->version == nvmlMemory_v2, NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
	info->total = memory(&c, &info->used);
	info->reserved = 0;
	info->free = info->total - info->used;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t device, nvmlEnableState_t *mode)
{
	CALL(device, GPU);
	*mode = NVML_FEATURE_DISABLED;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t device, nvmlComputeMode_t *mode)
{
	CALL(device, GPU);
	*mode = c.gpu->compute;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned *count,
						     nvmlProcessInfo_t *infos)
{
	CALL(device, GPU | MIG);
	unsigned n = 0, at = 0;
	for (const struct proc *p; (p = gpu_process(&c, &at)); n++)
		if (n < *count)
			infos[n] = (nvmlProcessInfo_t){.pid = p->pid, .usedGpuMemory = p->bytes,
						       .gpuInstanceId = p->gi, .computeInstanceId = p->ci};
	nvmlReturn_t r = n <= *count ? NVML_SUCCESS : NVML_ERROR_INSUFFICIENT_SIZE;
	*count = n;
	return r;
}
