// SPDX-License-Identifier: Apache-2.0

package fakedriver

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// user writes the packages' files: libraries, programs, firmware, configuration, sockets.
func (d *Driver) user(t *tree) {
	v, lib := d.cfg.LibVersion, strings.TrimPrefix(d.LibDir, "/")
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} { // as distributions merge them
		t.dir("usr/" + dir)
		t.link(dir, "usr/"+dir)
	}
	libs := append(libraries(), bystanders()...)
	if !d.cfg.NVSwitch {
		libs = deleteSwitch(libs)
	}
	t.install(lib, v, d.CUDA, 64, libs)
	if d.cfg.NVML != "" {
		t.copy(lib+"/libnvidia-ml.so."+v, d.cfg.NVML, 0o755)
	}
	if d.cfg.Compat32 {
		t.install(d.lib32(), v, d.CUDA, 32, only32(libs))
	}
	d.programs(t)
	d.configuration(t)
	for _, name := range []string{"gsp_ga10x.bin", "gsp_tu10x.bin"} {
		t.file("lib/firmware/nvidia/"+v+"/"+name, strings.Repeat("\x00", 4096), 0o644)
	}
	t.dir("run")
	t.dir("tmp")
	t.link("var/run", "/run")
	for socket, asked := range map[string]bool{"run/nvidia-persistenced/socket": d.cfg.Persistenced, "run/nvidia-fabricmanager/socket": d.cfg.FabricManager} {
		if asked {
			d.sockets = append(d.sockets, t.socket(socket))
		}
	}
	d.loaderCache(t)
}

func (d *Driver) lib32() string {
	if d.cfg.Lib64 {
		return "usr/lib"
	}
	return "usr/lib/i386-linux-gnu"
}

func deleteSwitch(libs []library) (out []library) {
	for _, l := range libs {
		if !l.nvs {
			out = append(out, l)
		}
	}
	return out
}

func only32(libs []library) (out []library) {
	for _, l := range libs {
		if l.both {
			out = append(out, l)
		}
	}
	return out
}

// programs are static and say who they are.
func (d *Driver) programs(t *tree) {
	names := "nvidia-smi nvidia-debugdump nvidia-persistenced nvidia-cuda-mps-control nvidia-cuda-mps-server nvidia-modprobe " +
		"nvidia-imex nvidia-imex-ctl nvidia-settings nvidia-xconfig nvidia-ngx-updater"
	if d.cfg.NVSwitch {
		names += " nv-fabricmanager nvswitch-audit"
	}
	for name := range strings.FieldsSeq(names) {
		t.file("usr/bin/"+name, string(program(fmt.Sprintf("%s %s (fake)\n", name, d.cfg.LibVersion), 0)), 0o755)
	}
	if d.cfg.SMI != "" {
		t.copy("usr/bin/nvidia-smi", d.cfg.SMI, 0o755)
	}
	for _, name := range []string{"usr/bin/nvidia-cuda-mps-control", "usr/bin/nvidia-cuda-mps-server"} {
		switch {
		case d.cfg.NoMPS:
			t.make(name, os.Remove)
		case d.cfg.MPS != "":
			t.copy(name, d.cfg.MPS, 0o755)
		}
	}
	t.file("usr/bin/nvidia-bug-report.sh", "#!/bin/sh\necho fake\n", 0o755)
}

// configuration are the files by which loaders of graphics and OpenCL find the driver. RHEL
// has Vulkan's in /etc, Debian in /usr/share.
func (d *Driver) configuration(t *tree) {
	vulkan := "usr/share/vulkan"
	if d.cfg.Lib64 {
		vulkan = "etc/vulkan"
	}
	icd := func(path, format, key, library string) {
		t.file(path, fmt.Sprintf("{\n    \"file_format_version\": %q,\n    %q: {\"library_path\": %q}\n}\n", format, key, library), 0o644)
	}
	icd("usr/share/glvnd/egl_vendor.d/10_nvidia.json", "1.0.0", "ICD", "libEGL_nvidia.so.0")
	icd("usr/share/egl/egl_external_platform.d/10_nvidia_wayland.json", "1.0.0", "ICD", "libnvidia-egl-wayland.so.1")
	icd("usr/share/egl/egl_external_platform.d/15_nvidia_gbm.json", "1.0.0", "ICD", "libnvidia-egl-gbm.so.1")
	if majorOf(d.cfg.LibVersion) >= 560 {
		icd("usr/share/egl/egl_external_platform.d/20_nvidia_xcb.json", "1.0.0", "ICD", "libnvidia-egl-xcb.so.1")
		icd("usr/share/egl/egl_external_platform.d/20_nvidia_xlib.json", "1.0.0", "ICD", "libnvidia-egl-xlib.so.1")
	}
	icd(vulkan+"/icd.d/nvidia_icd.json", "1.0.1", "ICD", "libGLX_nvidia.so.0")
	icd(vulkan+"/implicit_layer.d/nvidia_layers.json", "1.0.0", "layer", "libGLX_nvidia.so.0")
	t.file("etc/OpenCL/vendors/nvidia.icd", "libnvidia-opencl.so.1\n", 0o644)
	t.file("usr/share/X11/xorg.conf.d/nvidia-drm-outputclass.conf",
		"Section \"OutputClass\"\n    Identifier \"nvidia\"\n    MatchDriver \"nvidia-drm\"\n    Driver \"nvidia\"\nEndSection\n", 0o644)
	share := "usr/share/nvidia/"
	t.file(share+"nvoptix.bin", "fake\n", 0o644)
	t.file(share+"nvidia-application-profiles-"+d.cfg.LibVersion+"-rc", "{}\n", 0o644)
	t.file(share+"nvidia-application-profiles-"+d.cfg.LibVersion+"-key-documentation", "fake\n", 0o644)
}

// loaderCache has the real ldconfig write etc/ld.so.cache.
func (d *Driver) loaderCache(t *tree) {
	t.file("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n", 0o644)
	if !d.cfg.Lib64 {
		t.file("etc/ld.so.conf.d/x86_64-linux-gnu.conf", "# Multiarch support\n/usr/local/lib/x86_64-linux-gnu\n/lib/x86_64-linux-gnu\n"+
			"/usr/lib/x86_64-linux-gnu\n", 0o644)
		if d.cfg.Compat32 {
			t.file("etc/ld.so.conf.d/i386-linux-gnu.conf", "# Multiarch support\n/usr/local/lib/i386-linux-gnu\n/lib/i386-linux-gnu\n/usr/lib/i386-linux-gnu\n", 0o644)
		}
	}
	t.dir("usr/local/lib")
	t.dir("etc/ld.so.conf.d")
	if t.err != nil {
		return
	}
	// -X: the links are those of the packages; ldconfig shall not add its own.
	if out, err := exec.Command("/sbin/ldconfig", "-X", "-r", d.Root).CombinedOutput(); err != nil {
		t.err = fmt.Errorf("ldconfig -X -r %s: %w: %s", d.Root, err, out)
	}
}
