// SPDX-License-Identifier: Apache-2.0

package fakedriver

import (
	"encoding/binary"
	"path"
	"strings"
)

// library is one shared object of the driver's packages. V in a name stands for the version.
type library struct {
	file   string // below the library directory
	soname string // "" is the file's own name
	dev    bool   // has a link for the link editor: libfoo.so to the soname
	both   bool   // has a 32-bit copy
	since  int    // first major version that has it, 0: all
	until  int    // first major version without it, 0: none
	needed string // other libraries of the driver, separated by spaces
	nvs    bool   // comes with the NVSwitch packages
}

// libraries is what the packages of a driver contain, from the manifest of 570 and what later
// and earlier ones add. Vendor-neutral libraries (libglvnd, the OpenCL loader) are in
// [bystanders].
func libraries() []library {
	return []library{
		{file: "libcuda.so.V", soname: "libcuda.so.1", dev: true, both: true},
		{file: "libcudadebugger.so.V", soname: "libcudadebugger.so.1"},
		{file: "libnvidia-ml.so.V", soname: "libnvidia-ml.so.1", dev: true, both: true},
		{file: "libnvidia-cfg.so.V", soname: "libnvidia-cfg.so.1", dev: true},
		{file: "libnvidia-api.so.1", since: 535},
		{file: "libnvidia-sandboxutils.so.V", soname: "libnvidia-sandboxutils.so.1", since: 570},
		{file: "libnvidia-nscq.so.V", soname: "libnvidia-nscq.so.2", dev: true, nvs: true},

		{file: "libnvidia-opencl.so.V", soname: "libnvidia-opencl.so.1", both: true},
		{file: "libnvidia-gpucomp.so.V", both: true, since: 550},
		{file: "libnvidia-ptxjitcompiler.so.V", soname: "libnvidia-ptxjitcompiler.so.1", dev: true, both: true},
		{file: "libnvidia-nvvm.so.V", soname: "libnvidia-nvvm.so.4", dev: true, both: true},
		{file: "libnvidia-nvvm70.so.4", both: true, since: 575},
		{file: "libnvidia-allocator.so.V", soname: "libnvidia-allocator.so.1", dev: true, both: true},
		{file: "libnvidia-pkcs11.so.V"},
		{file: "libnvidia-pkcs11-openssl3.so.V"},

		{file: "libnvcuvid.so.V", soname: "libnvcuvid.so.1", dev: true, both: true},
		{file: "libnvidia-encode.so.V", soname: "libnvidia-encode.so.1", dev: true, both: true, needed: "libnvcuvid.so.1"},
		{file: "libnvidia-opticalflow.so.V", soname: "libnvidia-opticalflow.so.1", dev: true, both: true},
		{file: "vdpau/libvdpau_nvidia.so.V", soname: "libvdpau_nvidia.so.1", dev: true, both: true},

		{file: "libnvidia-tls.so.V", both: true},
		{file: "libnvidia-glsi.so.V", both: true},
		{file: "libnvidia-glcore.so.V", both: true, needed: "libnvidia-tls.so.V"},
		{file: "libnvidia-eglcore.so.V", both: true, needed: "libnvidia-tls.so.V"},
		{file: "libnvidia-rtcore.so.V"},
		{file: "libnvidia-glvkspirv.so.V", both: true},
		{file: "libnvidia-fbc.so.V", soname: "libnvidia-fbc.so.1", dev: true, both: true},
		{file: "libnvoptix.so.V", soname: "libnvoptix.so.1"},
		{file: "libGLX_nvidia.so.V", soname: "libGLX_nvidia.so.0", both: true, needed: "libnvidia-tls.so.V libnvidia-glcore.so.V"},
		{file: "libEGL_nvidia.so.V", soname: "libEGL_nvidia.so.0", both: true, needed: "libnvidia-glsi.so.V"},
		{file: "libGLESv1_CM_nvidia.so.V", soname: "libGLESv1_CM_nvidia.so.1", both: true, needed: "libnvidia-eglcore.so.V"},
		{file: "libGLESv2_nvidia.so.V", soname: "libGLESv2_nvidia.so.2", both: true, needed: "libnvidia-eglcore.so.V"},
		{file: "libnvidia-ngx.so.V", soname: "libnvidia-ngx.so.1"},
		{file: "libnvidia-vksc-core.so.V", soname: "libnvidia-vksc-core.so.1", since: 550},
		{file: "libnvidia-vulkan-producer.so.V", dev: true, until: 550},
		{file: "libnvidia-wayland-client.so.V", since: 535},
		{file: "libnvidia-gtk2.so.V"},
		{file: "libnvidia-gtk3.so.V"},
		{file: "libnvidia-egl-gbm.so.1.1.2", soname: "libnvidia-egl-gbm.so.1"},
		{file: "libnvidia-egl-wayland.so.1.1.18", soname: "libnvidia-egl-wayland.so.1"},
		{file: "libnvidia-egl-xcb.so.1.0.1", soname: "libnvidia-egl-xcb.so.1", since: 560},
		{file: "libnvidia-egl-xlib.so.1.0.1", soname: "libnvidia-egl-xlib.so.1", since: 560},
		{file: "nvidia/xorg/nvidia_drv.so"},
		{file: "nvidia/xorg/libglxserver_nvidia.so.V", soname: "libglxserver_nvidia.so"},
	}
}

// bystanders lie beside the driver on a real host, and belong to others.
func bystanders() []library {
	return []library{
		{file: "libOpenCL.so.1.0.0", soname: "libOpenCL.so.1"},
		{file: "libGLdispatch.so.0.0.0", soname: "libGLdispatch.so.0"},
		{file: "libGL.so.1.7.0", soname: "libGL.so.1", needed: "libGLdispatch.so.0"},
		{file: "libEGL.so.1.1.0", soname: "libEGL.so.1", needed: "libGLdispatch.so.0"},
	}
}

// install writes the libraries of one class and their links.
func (t *tree) install(dir, version, cuda string, bits int, libs []library) {
	major := majorOf(version)
	named := func(s string) string { return strings.ReplaceAll(s, ".so.V", ".so."+version) }
	for _, l := range libs {
		if major < l.since || l.until != 0 && major >= l.until {
			continue
		}
		file := named(l.file)
		soname := l.soname
		if soname == "" {
			soname = path.Base(file)
		}
		o := object{bits: bits, soname: soname, needed: append(strings.Fields(named(l.needed)), "libc.so.6")}
		o.symbols = symbols(soname, cuda, bits)
		t.file(path.Join(dir, file), string(o.bytes()), 0o644)
		sub, base := path.Join(dir, path.Dir(file)), path.Base(file)
		if soname != base {
			t.link(path.Join(sub, soname), base)
		}
		if editor, _, _ := strings.Cut(base, ".so."); l.dev && editor+".so" != soname {
			t.link(path.Join(sub, editor+".so"), soname)
		}
	}
	t.link(path.Join(dir, "gbm/nvidia-drm_gbm.so"), "../libnvidia-allocator.so.1")
}

// symbols are the functions that a test can call after dlsym(3). cuInit succeeds. The libraries
// of NVML and of the sandbox utilities say that they do not work, which is better than a
// missing symbol: that ends a process that binds lazily.
func symbols(soname, cuda string, bits int) []symbol {
	value := func(name string, v int) symbol { // mov eax, v; ret
		return symbol{name, append(le32([]byte{0xb8}, v), 0xc3)}
	}
	switch soname {
	case "libcuda.so.1":
		return []symbol{value("cuInit", 0), {"cuDriverGetVersion", store(cudaNumber(cuda), bits)}}
	case "libnvidia-ml.so.1":
		const driverNotLoaded = 9 // NVML_ERROR_DRIVER_NOT_LOADED
		return []symbol{value("nvmlInit_v2", driverNotLoaded), value("nvmlInitWithFlags", driverNotLoaded),
			value("nvmlShutdown", 1), {"nvmlErrorString", constant("Driver Not Loaded", bits)}}
	case "libnvidia-sandboxutils.so.1":
		const libraryLoad = 6 // NVSANDBOXUTILS_ERROR_LIBRARY_LOAD: who asks goes on without it
		return []symbol{value("nvSandboxUtilsInit", libraryLoad)}
	}
	return nil
}

// store is int f(int *p) { *p = v; return 0; }
func store(v, bits int) []byte {
	code := []byte{0xc7, 0x07} // mov dword [rdi], v
	if bits == 32 {
		code = []byte{0x8b, 0x44, 0x24, 0x04, 0xc7, 0x00} // mov eax, [esp+4]; mov dword [eax], v
	}
	code = binary.LittleEndian.AppendUint32(code, uint32(v))
	return append(code, 0x31, 0xc0, 0xc3) // xor eax, eax; ret
}

// constant is const char *f() { return text; }
func constant(text string, bits int) []byte {
	code := []byte{0x48, 0x8d, 0x05, 1, 0, 0, 0, 0xc3} // lea rax, [rip+1]; ret
	if bits == 32 {
		code = []byte{0xe8, 0, 0, 0, 0, 0x58, 0x83, 0xc0, 0x05, 0xc3} // call next; next: pop eax; add eax, 5; ret
	}
	return append(code, text+"\x00"...)
}
