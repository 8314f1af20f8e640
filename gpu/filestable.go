// SPDX-License-Identifier: Apache-2.0

package gpu

// libraryUse says what a library is for, by its name up to ".so", and whether
// it has a version of its own instead of the driver's. The split is that of
// libnvidia-container (src/nvc_info.c), save for libraries that more than one
// use opens: OptiX and Vulkan compile shaders with CUDA's compilers, and GBM's
// back end is the allocator.
//
// A library that is not in the table is for every use. It comes from a driver
// newer than the table, and others of the same driver may not load without it
// (so it was with libnvidia-gpucomp); one too many only takes a mount.
func libraryUse(stem string) (c Capability, own bool) {
	const (
		gl    = Graphics | Display
		every = AllCapabilities &^ Compat32
	)
	switch stem {
	case "libcuda", "libcudadebugger", "libnvidia-opencl", "libnvidia-fatbinaryloader", "libnvidia-compiler",
		"libnvidia-pkcs11", "libnvidia-pkcs11-openssl3", "libnvidia-tileiras":
		return Compute, false
	case "libnvidia-ptxjitcompiler", "libnvidia-nvvm", "libnvidia-gpucomp", "libnvidia-allocator":
		return Compute | gl, false
	case "libnvidia-nvvm70":
		return Compute | gl, true
	case "libnvidia-ml", "libnvidia-cfg", "libnvidia-nscq", "libnvsdm":
		return Utility, false
	case "libvdpau_nvidia", "libnvidia-encode", "libnvidia-opticalflow", "libnvcuvid":
		return Video, false
	case "libnvidia-ngx":
		return NGX, false
	case "libnvidia-eglcore", "libnvidia-glcore", "libnvidia-tls", "libnvidia-glsi", "libnvidia-fbc", "libnvidia-ifr",
		"libnvidia-rtcore", "libnvoptix", "libGLX_nvidia", "libEGL_nvidia", "libGLESv2_nvidia", "libGLESv1_CM_nvidia",
		"libnvidia-glvkspirv", "libnvidia-cbl", "libnvidia-vulkan-producer", "libnvidia-vksc-core", "libnvidia-present":
		return gl, false
	case "libnvidia-egl-gbm", "libnvidia-egl-wayland", "libnvidia-egl-wayland2", "libnvidia-egl-xcb", "libnvidia-egl-xlib":
		return gl, true
	case "libnvidia-api":
		return gl, true
	case "libglxserver_nvidia", "libnvidia-gtk2", "libnvidia-gtk3", "libnvidia-wayland-client":
		return Display, false
	}
	return every, false
}

// linkedAlways tells whether programs open the library by its name without a
// version, even where no package for developers has made that link.
func linkedAlways(stem string) bool {
	return stem == "libcuda" || stem == "libnvidia-opticalflow" || stem == "libnvidia-vulkan-producer"
}

// program is one of the driver's.
type program struct {
	name       string
	capability Capability
}

func programs() []program {
	return []program{
		{"nvidia-smi", Utility}, {"nvidia-debugdump", Utility}, {"nvidia-persistenced", Utility}, {"nv-fabricmanager", Utility},
		{"nvidia-cuda-mps-control", Compute}, {"nvidia-cuda-mps-server", Compute},
		{"nvidia-imex", Compute}, {"nvidia-imex-ctl", Compute}, {"nvidia-xconfig", Graphics | Display},
	}
}

func programDirs() []string {
	return []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
}

// configFile is a pattern below /etc and the directories for shared data.
type configFile struct {
	dir, name  string
	capability Capability
}

func configFiles() []configFile {
	return []configFile{
		{"OpenCL/vendors", "nvidia.icd", Compute},
		{"glvnd/egl_vendor.d", "10_nvidia.json", Graphics | Display},
		{"egl/egl_external_platform.d", "*_nvidia_*.json", Graphics | Display},
		{"vulkan/icd.d", "nvidia_*.json", Graphics | Display},
		{"vulkan/implicit_layer.d", "nvidia_layers.json", Graphics | Display},
		{"nvidia", "nvoptix.bin", Graphics | Display},
		{"X11/xorg.conf.d", "*nvidia*.conf", Display},
	}
}

// libraryDirs are where distributions and installers put libraries. What has
// another machine's is sorted out by what the files say of themselves.
func libraryDirs() []string {
	return []string{
		"/usr/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu/nvidia/current",
		"/usr/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu/nvidia/current",
		"/usr/lib64", "/usr/lib64/nvidia", "/lib64", "/usr/lib", "/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu",
		"/usr/local/nvidia/lib64", "/usr/local/nvidia/lib",
		"/usr/lib/i386-linux-gnu", "/usr/lib/i386-linux-gnu/nvidia/current", "/lib/i386-linux-gnu", "/usr/lib32", "/usr/lib32/nvidia",
	}
}

// xorgDirs are where the X server's modules lie in a library directory.
func xorgDirs() []string {
	return []string{"nvidia/xorg", "xorg/modules/drivers", "xorg/modules/extensions", "xorg/modules/updates/drivers",
		"xorg/modules/updates/extensions"}
}
