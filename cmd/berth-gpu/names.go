// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"github.com/NVIDIA/go-nvml/pkg/nvml"

	wire "berth/gpu/nvml"
)

// brands are spelt as in the NVIDIA_REQUIRE_CUDA of NVIDIA's images.
var brands = map[nvml.BrandType]string{
	nvml.BRAND_UNKNOWN: "unknown", nvml.BRAND_QUADRO: "quadro", nvml.BRAND_TESLA: "tesla",
	nvml.BRAND_NVS: "nvs", nvml.BRAND_GRID: "grid", nvml.BRAND_GEFORCE: "geforce",
	nvml.BRAND_TITAN: "titan", nvml.BRAND_NVIDIA_VAPPS: "nvidiavapps", nvml.BRAND_NVIDIA_VPC: "nvidiavpc",
	nvml.BRAND_NVIDIA_VCS: "nvidiavcs", nvml.BRAND_NVIDIA_VWS: "nvidiavws",
	nvml.BRAND_NVIDIA_CLOUD_GAMING: "nvidiacloudgaming", nvml.BRAND_QUADRO_RTX: "quadrortx",
	nvml.BRAND_NVIDIA_RTX: "nvidiartx", nvml.BRAND_NVIDIA: "nvidia",
	nvml.BRAND_GEFORCE_RTX: "geforcertx", nvml.BRAND_TITAN_RTX: "titanrtx",
}

// computeModes leaves out the default.
var computeModes = map[nvml.ComputeMode]string{
	nvml.COMPUTEMODE_PROHIBITED:        wire.ComputeProhibited,
	nvml.COMPUTEMODE_EXCLUSIVE_THREAD:  wire.ComputeExclusive, // which no driver since CUDA 8 has
	nvml.COMPUTEMODE_EXCLUSIVE_PROCESS: wire.ComputeExclusive,
}

// architectures leaves out what is newer than go-nvml; the compute capability says it too.
var architectures = map[nvml.DeviceArchitecture]string{
	nvml.DEVICE_ARCH_KEPLER: "kepler", nvml.DEVICE_ARCH_MAXWELL: "maxwell",
	nvml.DEVICE_ARCH_PASCAL: "pascal", nvml.DEVICE_ARCH_VOLTA: "volta",
	nvml.DEVICE_ARCH_TURING: "turing", nvml.DEVICE_ARCH_AMPERE: "ampere",
	nvml.DEVICE_ARCH_ADA: "ada", nvml.DEVICE_ARCH_HOPPER: "hopper",
	nvml.DEVICE_ARCH_BLACKWELL: "blackwell",
}
