/* SPDX-License-Identifier: Apache-2.0
 *
 * GPU models and their MIG profiles. Geometry is the same on A100, H100 and H200: seven compute
 * slices, eight memory slices, and both are budgets of their own (MIG user guide; nvidia-smi mig
 * -lgip and -lgipp). The ids of GPU instances come from the driver's own numbering: whole 0,
 * halves 1-2, quarters 3-6, eighths 7-14 (open-gpu-kernel-modules, kmigmgr_ga100.c); which of
 * them lies where differs between GPUs, so nobody may conclude a placement from an id.
 */
#include "fake.h"
#include <string.h>

const struct profile profiles[MAX_PROFILES] = {
	{NVML_GPU_INSTANCE_PROFILE_1_SLICE, 19, 1, 1, 0x7f, 7, 1, 1, 1, 0, 7, 14},
	{NVML_GPU_INSTANCE_PROFILE_1_SLICE_REV1, 20, 1, 1, 0x7f, 1, 1, 1, 1, 1, 7, 14},
	{NVML_GPU_INSTANCE_PROFILE_1_SLICE_REV2, 15, 1, 2, 0x55, 4, 1, 1, 1, 0, 3, 6},
	{NVML_GPU_INSTANCE_PROFILE_2_SLICE, 14, 2, 2, 0x15, 3, 2, 2, 2, 0, 3, 6},
	{NVML_GPU_INSTANCE_PROFILE_3_SLICE, 9, 3, 4, 0x11, 2, 3, 3, 3, 0, 1, 2},
	{NVML_GPU_INSTANCE_PROFILE_4_SLICE, 5, 4, 4, 0x01, 1, 4, 4, 4, 0, 1, 2},
	{NVML_GPU_INSTANCE_PROFILE_7_SLICE, 0, 7, 8, 0x01, 1, 8, 7, 7, 1, 0, 0},
};

static const struct ci_profile ci_profiles[] = {{0, 1}, {1, 2}, {2, 3}, {3, 4}, {4, 7}};

#define AMPERE_SM {14, 14, 14, 28, 42, 56, 98}
#define HOPPER_SM {16, 16, 26, 32, 60, 64, 132}
#define NAMES_80GB \
	{"1g.10gb", "1g.10gb+me", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"}

static const struct model models[] = {
	{.key = "t4", .name = "Tesla T4", .brand = NVML_BRAND_TESLA, .arch = NVML_DEVICE_ARCH_TURING,
	 .major = 7, .minor = 5, .pci = 0x1eb810de, .mb = 15360},
	{.key = "a100-40", .name = "NVIDIA A100-SXM4-40GB", .brand = NVML_BRAND_NVIDIA,
	 .arch = NVML_DEVICE_ARCH_AMPERE, .major = 8, .minor = 0, .pci = 0x20b010de, .mb = 40960,
	 .mig = true, .sm = AMPERE_SM,
	 .gi_mb = {4864, 4864, 9856, 9856, 19968, 19968, 40192},
	 .gi_name = {"1g.5gb", "1g.5gb+me", "1g.10gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb"}},
	{.key = "a100", .name = "NVIDIA A100-SXM4-80GB", .brand = NVML_BRAND_NVIDIA,
	 .arch = NVML_DEVICE_ARCH_AMPERE, .major = 8, .minor = 0, .pci = 0x20b210de, .mb = 81920,
	 .mig = true, .sm = AMPERE_SM,
	 .gi_mb = {9728, 9728, 19968, 19968, 40192, 40192, 81152}, .gi_name = NAMES_80GB},
	{.key = "h100", .name = "NVIDIA H100 80GB HBM3", .brand = NVML_BRAND_NVIDIA,
	 .arch = NVML_DEVICE_ARCH_HOPPER, .major = 9, .minor = 0, .pci = 0x233010de, .mb = 81559,
	 .mig = true, .sm = HOPPER_SM,
	 .gi_mb = {9984, 9984, 20096, 20096, 40448, 40448, 81152}, .gi_name = NAMES_80GB},
	{.key = "h200", .name = "NVIDIA H200", .brand = NVML_BRAND_NVIDIA,
	 .arch = NVML_DEVICE_ARCH_HOPPER, .major = 9, .minor = 0, .pci = 0x233510de, .mb = 143771,
	 .mig = true, .sm = HOPPER_SM,
	 .gi_mb = {16384, 16384, 33280, 33280, 71168, 71168, 143360},
	 .gi_name = {"1g.18gb", "1g.18gb+me", "1g.35gb", "2g.35gb", "3g.71gb", "4g.71gb", "7g.141gb"}},
};

const struct model *model_find(const char *key)
{
	for (size_t i = 0; i < sizeof models / sizeof *models; i++)
		if (strcmp(models[i].key, key) == 0)
			return &models[i];
	return NULL;
}

const struct profile *profile_by_id(unsigned id)
{
	for (int i = 0; i < MAX_PROFILES; i++)
		if (profiles[i].id == id)
			return &profiles[i];
	return NULL;
}

const struct profile *profile_by_enum(unsigned enumerator)
{
	for (int i = 0; i < MAX_PROFILES; i++)
		if (profiles[i].enumerator == enumerator)
			return &profiles[i];
	return NULL;
}

/* Three slices of a 4g instance are no profile, nor are five or six of a 7g (mig -lcip). */
const struct ci_profile *ci_profile_by_id(const struct profile *gi, unsigned id)
{
	for (size_t i = 0; i < sizeof ci_profiles / sizeof *ci_profiles; i++) {
		const struct ci_profile *p = &ci_profiles[i];
		if (p->id == id && p->slices <= gi->slices && !(gi->slices == 4 && p->slices == 3))
			return p;
	}
	return NULL;
}
