// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"berth/gpu/loader"
	"berth/test/fakedriver"
)

func load(t testing.TB, r Roots, inv *Inventory) *Files {
	t.Helper()
	f, err := LoadFiles(r, inv)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// names are the base names of what a container of these capabilities gets.
func (f *Files) names(c Capability, kinds ...Kind) (names []string) {
	for _, l := range f.Files {
		if l.For(c) && slices.Contains(kinds, l.Kind) {
			names = append(names, strings.TrimSuffix(filepath.Base(l.Path), "."+f.Version))
		}
	}
	slices.Sort(names)
	return names
}

func (f *Files) file(kind Kind, path string) File {
	for _, l := range f.Files {
		if l.Kind == kind && l.Path == path {
			return l
		}
	}
	return File{}
}

func TestFilesOfEachCapability(t *testing.T) {
	_, r := machine(t, fakedriver.Config{NVSwitch: true, Compat32: true})
	f := load(t, r, discover(t, r))
	every := []string{"libnvidia-sandboxutils.so"} // a library that the table does not know
	for _, tt := range []struct {
		name  string
		c     Capability
		kinds []Kind
		want  []string
	}{
		{"compute", Compute, []Kind{Library, Module}, []string{"libcuda.so", "libcudadebugger.so", "libnvidia-allocator.so",
			"libnvidia-gpucomp.so", "libnvidia-nvvm.so", "libnvidia-opencl.so", "libnvidia-pkcs11-openssl3.so",
			"libnvidia-pkcs11.so", "libnvidia-ptxjitcompiler.so"}},
		{"utility", Utility, []Kind{Library, Module}, []string{"libnvidia-cfg.so", "libnvidia-ml.so", "libnvidia-nscq.so"}},
		{"video", Video, []Kind{Library, Module}, []string{"libnvcuvid.so", "libnvidia-encode.so", "libnvidia-opticalflow.so", "libvdpau_nvidia.so"}},
		{"ngx", NGX, []Kind{Library, Module}, []string{"libnvidia-ngx.so"}},
		{"compat32 alone", Compat32, []Kind{Library, Library32, Module, Binary, Firmware, Config}, nil},
		{"32-bit video", Video | Compat32, []Kind{Library32}, []string{"libnvcuvid.so", "libnvidia-encode.so", "libnvidia-opticalflow.so"}},
		{"no 32-bit without compat32", AllCapabilities &^ Compat32, []Kind{Library32}, nil},
		{"programs of utility", Utility, []Kind{Binary}, []string{"nv-fabricmanager", "nvidia-debugdump", "nvidia-persistenced", "nvidia-smi"}},
		{"programs of compute", Compute, []Kind{Binary}, []string{"nvidia-cuda-mps-control", "nvidia-cuda-mps-server", "nvidia-imex", "nvidia-imex-ctl"}},
		{"configuration of compute", Compute, []Kind{Config}, []string{"nvidia.icd"}},
		{"configuration of graphics", Graphics, []Kind{Config}, []string{"10_nvidia.json", "10_nvidia_wayland.json", "15_nvidia_gbm.json",
			"20_nvidia_xcb.json", "20_nvidia_xlib.json", "nvidia_icd.json", "nvidia_layers.json", "nvoptix.bin"}},
		{"X modules", Display, []Kind{Module}, []string{"libglxserver_nvidia.so", "nvidia_drv.so"}},
		{"firmware for all", NGX, []Kind{Firmware}, []string{"gsp_ga10x.bin", "gsp_tu10x.bin"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := slices.Clone(tt.want)
			if slices.Contains(tt.kinds, Library) && tt.c != Compat32 {
				want = append(want, every...)
			}
			slices.Sort(want)
			if got := f.names(tt.c, tt.kinds...); !slices.Equal(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
		})
	}
	for _, g := range []string{"libEGL_nvidia.so", "libGLX_nvidia.so", "libnvidia-egl-wayland.so.1.1.18", "libnvidia-gpucomp.so", "libnvoptix.so"} {
		if !slices.Contains(f.names(Graphics, Library), g) {
			t.Errorf("graphics lacks %s: %v", g, f.names(Graphics, Library))
		}
	}
	for _, l := range f.Files {
		if strings.Contains(l.Path, "OpenCL.so") || strings.Contains(l.Path, "GLdispatch") || strings.HasPrefix(l.Path, "libGL.so") {
			t.Errorf("%s is not the driver's", l.Path)
		}
	}
}

func TestFileDetails(t *testing.T) {
	for _, tt := range []struct {
		name         string
		cfg          fakedriver.Config
		lib, vulkan  string
		lib32        string
		vulkanSource string
	}{
		{"Debian", fakedriver.Config{Compat32: true}, "/usr/lib/x86_64-linux-gnu", "/etc/vulkan/icd.d/nvidia_icd.json",
			"/usr/lib/i386-linux-gnu", "/usr/share/vulkan/icd.d/nvidia_icd.json"},
		{"RHEL", fakedriver.Config{Compat32: true, Lib64: true, Version: "535.104.05"}, "/usr/lib64", "/etc/vulkan/icd.d/nvidia_icd.json",
			"/usr/lib", "/etc/vulkan/icd.d/nvidia_icd.json"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, r := machine(t, tt.cfg)
			f := load(t, r, discover(t, r))
			v := d.Version
			for _, want := range []File{
				{d.Root + tt.lib + "/libcuda.so." + v, "libcuda.so." + v, Library, Compute, "libcuda.so.1", loader.X8664},
				{d.Root + tt.lib32 + "/libcuda.so." + v, "libcuda.so." + v, Library32, Compute, "libcuda.so.1", loader.I386},
				{d.Root + tt.lib + "/vdpau/libvdpau_nvidia.so." + v, "vdpau/libvdpau_nvidia.so." + v, Module, Video, "libvdpau_nvidia.so.1", loader.X8664},
				{d.Root + tt.lib + "/nvidia/xorg/nvidia_drv.so", tt.lib + "/nvidia/xorg/nvidia_drv.so", Module, Display, "", 0},
				{d.Root + "/usr/bin/nvidia-smi", "/usr/bin/nvidia-smi", Binary, Utility, "", 0},
				{d.Root + tt.vulkanSource, tt.vulkan, Config, Graphics | Display, "", 0},
				{d.Root + "/usr/lib/firmware/nvidia/" + v + "/gsp_ga10x.bin", "/lib/firmware/nvidia/" + v + "/gsp_ga10x.bin", Firmware, AllCapabilities &^ Compat32, "", 0},
			} {
				if got := f.file(want.Kind, want.Path); got != want {
					t.Errorf("got  %+v\nwant %+v", got, want)
				}
			}
			for _, want := range []Link{
				{"libcuda.so.1", "libcuda.so." + v, Library, Compute},
				{"libcuda.so", "libcuda.so.1", Library, Compute},
				{"libcuda.so.1", "libcuda.so." + v, Library32, Compute},
				{"libnvidia-egl-gbm.so.1", "libnvidia-egl-gbm.so.1.1.2", Library, Graphics | Display},
				{"libnvidia-opticalflow.so", "libnvidia-opticalflow.so.1", Library, Video},
				{"libGLX_indirect.so.0", "libGLX_nvidia.so." + v, Library, Graphics | Display},
				{"gbm/nvidia-drm_gbm.so", "../libnvidia-allocator.so.1", Module, Graphics | Display},
				{"vdpau/libvdpau_nvidia.so.1", "libvdpau_nvidia.so." + v, Module, Video},
				{tt.lib + "/nvidia/xorg/libglxserver_nvidia.so", "libglxserver_nvidia.so." + v, Module, Display},
			} {
				if !slices.Contains(f.Links, want) {
					t.Errorf("no link %+v in %+v", want, f.Links)
				}
			}
		})
	}
}

// TestLibrariesElsewhere is Debian's layout: alternatives that end in a
// directory which only the loader's cache leads to, by absolute symlinks that
// mean the driver root.
func TestLibrariesElsewhere(t *testing.T) {
	d, r := machine(t, fakedriver.Config{})
	old, deep := d.Root+d.LibDir, "/opt/vendor/deep"
	if err := os.MkdirAll(d.Root+deep, 0o755); err != nil {
		t.Fatal(err)
	}
	name := "libcuda.so." + d.Version
	for _, step := range []error{
		os.Rename(filepath.Join(old, name), d.Root+deep+"/"+name),
		os.Symlink(deep+"/"+name, d.Root+deep+"/libcuda.so.1"),
		os.Remove(old + "/libcuda.so.1"),
		os.Symlink("/etc/alternatives/libcuda.so.1", old+"/libcuda.so.1"),
		os.MkdirAll(d.Root+"/etc/alternatives", 0o755),
		os.Symlink(deep+"/libcuda.so.1", d.Root+"/etc/alternatives/libcuda.so.1"),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	f := load(t, r, discover(t, r))
	if got := f.file(Library, name).Host; got != d.Root+deep+"/"+name {
		t.Errorf("libcuda is %q, below %s", got, d.Root)
	}
	// Without a loader's cache, the directory is not known, but the usual ones are.
	if err := os.Remove(d.Root + "/etc/ld.so.cache"); err != nil {
		t.Fatal(err)
	}
	f = load(t, r, discover(t, r))
	if f.file(Library, name).Host != "" || f.file(Library, "libnvidia-ml.so."+d.Version).Host == "" {
		t.Errorf("without a cache: %v", f.names(AllCapabilities, Library))
	}
}

func TestNamesOfLibraries(t *testing.T) {
	d, r := machine(t, fakedriver.Config{})
	lib := d.Root + d.LibDir
	if err := errors.Join(os.Remove(lib+"/libcuda.so"), os.Remove(lib+"/libnvidia-ml.so"),
		os.Rename(lib+"/libnvidia-api.so.1", lib+"/libnvidia-api.so.bak")); err != nil {
		t.Fatal(err)
	}
	f := load(t, r, discover(t, r))
	if !slices.Contains(f.Links, Link{"libcuda.so", "libcuda.so.1", Library, Compute}) {
		t.Error("libcuda.so is missing: programs open it by that name, also where the host has no link")
	}
	if slices.Contains(f.Links, Link{"libnvidia-ml.so", "libnvidia-ml.so.1", Library, Utility}) {
		t.Error("libnvidia-ml.so is linked, though the host does not have it")
	}
	if names := f.names(AllCapabilities, Library); slices.Contains(names, "libnvidia-api.so.bak") {
		t.Errorf("a copy that somebody kept is taken: %v", names)
	}
}

// TestSymlinkStaysBelowRoot has a library whose symlink means the driver
// root's own file, while the host has one of the same path.
func TestSymlinkStaysBelowRoot(t *testing.T) {
	d, r := machine(t, fakedriver.Config{})
	outside := t.TempDir()
	write(t, outside+"/nvidia-smi", "the host's")
	smi := d.Root + "/usr/bin/nvidia-smi"
	dump := d.Root + "/usr/bin/nvidia-debugdump"
	if err := errors.Join(os.Remove(smi), os.Symlink(outside+"/nvidia-smi", smi), os.Remove(dump), os.Mkdir(dump, 0o755)); err != nil {
		t.Fatal(err)
	}
	f := load(t, r, discover(t, r))
	if got := f.file(Binary, "/usr/bin/nvidia-debugdump"); got.Host != "" {
		t.Errorf("a directory is taken for a program: %+v", got)
	}
	if got := f.file(Binary, "/usr/bin/nvidia-smi"); got.Host != "" {
		t.Errorf("a symlink led out of the driver root: %+v", got)
	}
}

func TestNoLibrariesThatFit(t *testing.T) {
	t.Run("another version", func(t *testing.T) {
		_, r := machine(t, fakedriver.Config{Version: "570.124.06", LibVersion: "565.57.01"})
		_, err := LoadFiles(r, discover(t, r))
		if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "570.124.06") ||
			!strings.Contains(err.Error(), "565.57.01") || !strings.Contains(err.Error(), "reboot") {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("none", func(t *testing.T) {
		d, r := machine(t, fakedriver.Config{})
		if err := os.RemoveAll(d.Root + d.LibDir); err != nil {
			t.Fatal(err)
		}
		_, err := LoadFiles(r, discover(t, r))
		if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "driver_root") {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("another machine's", func(t *testing.T) {
		d, r := machine(t, fakedriver.Config{})
		for _, name := range []string{"libcuda.so.", "libnvidia-ml.so."} {
			file, err := os.OpenFile(d.Root+d.LibDir+"/"+name+d.Version, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, err = file.WriteAt([]byte{183, 0}, 18) // e_machine is now AArch64
			if err := errors.Join(err, file.Close()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := LoadFiles(r, discover(t, r)); !errdefs.IsNotFound(err) {
			t.Errorf("error is %v", err)
		}
	})
}

func TestSockets(t *testing.T) {
	d, r := machine(t, fakedriver.Config{Persistenced: true, FabricManager: true})
	if err := os.MkdirAll(d.Root+"/tmp/nvidia-mps", 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, d.Root+"/run/nvidia-mps", "not what is looked for")
	want := []Socket{
		{"persistenced", d.Root + "/run/nvidia-persistenced/socket", "/run/nvidia-persistenced/socket"},
		{"fabricmanager", d.Root + "/run/nvidia-fabricmanager/socket", "/run/nvidia-fabricmanager/socket"},
		{"mps", d.Root + "/tmp/nvidia-mps", "/tmp/nvidia-mps"},
	}
	if got := Sockets(r); !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	write(t, d.Root+"/run/nvidia-persistenced/socket", "a file")
	if got := Sockets(r); !slices.Equal(got, want[1:]) {
		t.Errorf("with a file instead of a socket: %+v", got)
	}
	if err := os.RemoveAll(d.Root + "/run/nvidia-fabricmanager"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if got := Sockets(r); !slices.Equal(got, want[2:]) {
		t.Errorf("with mps alone: %+v", got)
	}
}
