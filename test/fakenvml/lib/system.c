/* SPDX-License-Identifier: Apache-2.0
 *
 * The library and the system: initialisation, versions, error texts; and what this fake has not.
 */
#include "fake.h"
#include <stdio.h>

nvmlReturn_t nvmlInit_v2(void)
{
	CALL_SYSTEM();
	library_used(+1);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlInit(void)
{
	CALL_SYSTEM();
	library_used(+1);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlInitWithFlags(unsigned flags)
{
	CALL_SYSTEM();
	(void)flags;
	library_used(+1);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlShutdown(void)
{
	CALL_SYSTEM();
	library_used(-1);
	return NVML_SUCCESS;
}

const char *nvmlErrorString(nvmlReturn_t result)
{
	switch (result) {
	case NVML_SUCCESS: return "Success";
	case NVML_ERROR_UNINITIALIZED: return "Uninitialized";
	case NVML_ERROR_INVALID_ARGUMENT: return "Invalid Argument";
	case NVML_ERROR_NOT_SUPPORTED: return "Not Supported";
	case NVML_ERROR_NO_PERMISSION: return "Insufficient Permissions";
	case NVML_ERROR_NOT_FOUND: return "Not Found";
	case NVML_ERROR_INSUFFICIENT_SIZE: return "Insufficient Size";
	case NVML_ERROR_DRIVER_NOT_LOADED: return "Driver Not Loaded";
	case NVML_ERROR_TIMEOUT: return "Timeout";
	case NVML_ERROR_FUNCTION_NOT_FOUND: return "Function Not Found";
	case NVML_ERROR_GPU_IS_LOST: return "GPU is lost";
	case NVML_ERROR_RESET_REQUIRED: return "GPU requires reset";
	case NVML_ERROR_LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
	case NVML_ERROR_IN_USE: return "In use by another client";
	case NVML_ERROR_INSUFFICIENT_RESOURCES: return "Insufficient Resources";
	default: return "Unknown Error";
	}
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned length)
{
	CALL_SYSTEM();
	return copy_text(version, length, c.s.driver);
}

nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned length)
{
	CALL_SYSTEM();
	return copy_text(version, length, c.s.nvml);
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version)
{
	CALL_SYSTEM();
	*version = c.s.cuda;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version)
{
	CALL_SYSTEM();
	*version = c.s.cuda;
	return NVML_SUCCESS;
}

/* Not modelled, but there: a caller sees NOT_SUPPORTED as on a GPU that has it not. */
#define ABSENT(name, ...)                                                                          \
	nvmlReturn_t name(__VA_ARGS__)                                                             \
	{                                                                                          \
		CALL_SYSTEM();                                                                     \
		return NVML_ERROR_NOT_SUPPORTED;                                                   \
	}
#pragma GCC diagnostic ignored "-Wunused-parameter"
ABSENT(nvmlEventSetCreate, nvmlEventSet_t *set)
ABSENT(nvmlEventSetWait_v2, nvmlEventSet_t set, nvmlEventData_t *data, unsigned ms)
ABSENT(nvmlEventSetFree, nvmlEventSet_t set)
ABSENT(nvmlDeviceRegisterEvents, nvmlDevice_t d, unsigned long long types, nvmlEventSet_t set)
ABSENT(nvmlDeviceGetSupportedEventTypes, nvmlDevice_t d, unsigned long long *types)
ABSENT(nvmlDeviceGetEccMode, nvmlDevice_t d, nvmlEnableState_t *now, nvmlEnableState_t *pending)
ABSENT(nvmlDeviceGetTotalEccErrors, nvmlDevice_t d, nvmlMemoryErrorType_t type,
       nvmlEccCounterType_t counter, unsigned long long *count)
ABSENT(nvmlDeviceGetRemappedRows, nvmlDevice_t d, unsigned *corrected, unsigned *uncorrected,
       unsigned *pending, unsigned *failed)
ABSENT(nvmlDeviceGetFieldValues, nvmlDevice_t d, int count, nvmlFieldValue_t *values)
