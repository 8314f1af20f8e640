// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/NVIDIA/nvidia-container-toolkit/pkg/nvcdi"
	"golang.org/x/sys/unix"

	"berth/test/fakedriver"
	"berth/test/fakenvml"
)

func TestMain(m *testing.M) {
	if os.Getenv(answering) != "" {
		if err := answer(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	dir, err := os.MkdirTemp("", "oracle-")
	if err == nil {
		fakeNVML, err = fakenvml.Build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// extra is what some machines have and the fake builds for none.
var extra = map[string]string{
	"lib/firmware/nvidia/570.124.06/ucodes_ga10x.bin":               "", // since driver 615
	"usr/share/egl/egl_external_platform.d/09_nvidia_wayland2.json": "",
	"usr/share/vulkan/icd.d/nvidia_icd.x86_64.json":                 "", // RPM Fusion
	"usr/share/X11/xorg.conf.d/10-nvidia.conf":                      "",
	"usr/lib/xorg/modules/drivers/nvidia_drv.so":                    "", // a second one: nvidia/xorg comes first
	"run/udev/data/c195:0":                                          "",
	"etc/cufile.json":                                               "{}",
	"tmp/nvidia-mps/control":                                        "",
}

// Nodes of drivers beside the GPU's. No module needs to be loaded: a name and a number.
var extraNodes = map[string]int{
	"nvidia-fs0": 0, "nvidia-fs1": 1, "gdrdrv": 2, "infiniband/uverbs0": 3, "infiniband/rdma_cm": 4,
}

func TestParity(t *testing.T) {
	mig := [][]fakedriver.Instance{{{GI: 7, CI: 0}, {GI: 9, CI: 0}}, {{GI: 1, CI: 0}}}
	everything := func(t *testing.T, m *machine) {
		for name, text := range extra {
			write(t, filepath.Join(m.roots.Driver, name), text)
		}
		for name, minor := range extraNodes {
			mknod(t, filepath.Join(m.roots.Dev, name), minor)
		}
		const video = 44 // the group of cards, which not all may open
		if err := os.Chown(filepath.Join(m.roots.Dev, "dri/card2"), 0, video); err != nil {
			t.Fatal(err)
		}
	}
	cases := []struct {
		name    string
		machine fakedriver.Config
		more    func(*testing.T, *machine)
		ids     string   // as both know them
		env     []string // what Berth is asked beside the devices
		modes   []nvcdi.Mode
	}{
		{name: "one A100", machine: fakedriver.Config{Model: fakedriver.A100, GPUs: 1}, ids: "all"},
		{name: "eight A100", machine: fakedriver.Config{Model: fakedriver.A100, GPUs: 8, NVSwitch: true, FabricManager: true}, ids: "all"},
		{name: "three of eight A100", machine: fakedriver.Config{Model: fakedriver.A100, GPUs: 8}, ids: "0,2,7"},
		{name: "one H100", machine: fakedriver.Config{Model: fakedriver.H100, OpenModule: true}, ids: "0"},
		{name: "eight H100", machine: fakedriver.Config{Model: fakedriver.H100, GPUs: 8, Version: "580.65.06", OpenModule: true}, ids: "all"},
		{name: "one H200", machine: fakedriver.Config{Model: fakedriver.H200, Version: "580.65.06"}, ids: "all"},
		{name: "eight H200", machine: fakedriver.Config{Model: fakedriver.H200, GPUs: 8}, ids: "all"},
		{name: "one T4", machine: fakedriver.Config{Model: fakedriver.T4, Version: "535.183.06"}, ids: "all"},
		{name: "eight T4", machine: fakedriver.Config{Model: fakedriver.T4, GPUs: 8, Version: "535.183.06"}, ids: "all"},
		{name: "the driver without a GPU", machine: fakedriver.Config{}, ids: "none"},
		{name: "a PCI domain", machine: fakedriver.Config{Model: fakedriver.H100, GPUs: 2, Domain: 0x1a}, ids: "1"},
		{name: "an excluded GPU", machine: fakedriver.Config{GPUs: 4, Excluded: []int{1}}, ids: "all"},
		{name: "without DRM", machine: fakedriver.Config{GPUs: 2, NoModeset: true}, ids: "all"},
		{name: "RHEL", machine: fakedriver.Config{Lib64: true, Version: "580.65.06"}, ids: "all"},
		{name: "RHEL with 32 bits", machine: fakedriver.Config{Lib64: true, Compat32: true}, ids: "all"},
		{name: "32 bits", machine: fakedriver.Config{Compat32: true, Version: "580.65.06"}, ids: "all"},
		{name: "daemons", machine: fakedriver.Config{Persistenced: true, FabricManager: true}, ids: "all"},
		{name: "MIG A100", machine: fakedriver.Config{Model: fakedriver.A100, GPUs: 3, MIG: mig}, ids: "all"},
		{name: "MIG H200", machine: fakedriver.Config{GPUs: 8, MIG: mig, Version: "580.65.06"}, ids: "all"},
		{name: "one MIG device", machine: fakedriver.Config{Model: fakedriver.H100, GPUs: 2, MIG: mig}, ids: "MIG-00000000-0000-5000-8000-000000000001"},
		{name: "libraries as Debian packages them", machine: fakedriver.Config{}, more: debian, ids: "all"},
		{name: "rarer files", machine: fakedriver.Config{GPUs: 2}, more: everything, ids: "1"},
		{
			name: "GPUDirect and fabric", machine: fakedriver.Config{GPUs: 8, NVSwitch: true, IMEXChannels: 3}, more: everything, ids: "0",
			env:   []string{"NVIDIA_GDS=enabled", "NVIDIA_MOFED=enabled", "NVIDIA_GDRCOPY=enabled", "NVIDIA_NVSWITCH=enabled", "NVIDIA_IMEX_CHANNELS=all"},
			modes: []nvcdi.Mode{nvcdi.ModeGds, nvcdi.ModeMofed, nvcdi.ModeGdrcopy, nvcdi.ModeNvswitch, nvcdi.ModeImex},
		},
	}
	rows := readTable(t, "../../docs/gpu-parity.md")
	ran := 0
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ran++
			m := build(t, c.machine)
			if c.more != nil {
				c.more(t, &m)
			}
			nvidia := theirsIn(t, m, theirs(t, m, nvcdi.ModeNvml, strings.Split(c.ids, ",")...))
			for _, mode := range c.modes {
				maps.Copy(nvidia, theirsIn(t, m, theirs(t, m, mode, "all")))
			}
			spec, plan := ours(t, m, append(c.env, "NVIDIA_VISIBLE_DEVICES="+c.ids)...)
			for _, d := range rows.unexplained(c.name, compare(nvidia, oursIn(t, m, spec, plan))) {
				t.Errorf("no row of docs/gpu-parity.md explains %s", d)
			}
		})
	}
	if ran < len(cases) {
		return // by -run
	}
	for _, r := range rows {
		if !r.used {
			t.Errorf("docs/gpu-parity.md:%d: nothing differs so any longer: %s (%s)", r.line, r.difference, r.where)
		}
	}
}

// debian moves the driver to where Debian's packages have it: out of the way, with links at the
// usual place for the libraries that others link with.
func debian(t *testing.T, m *machine) {
	t.Helper()
	usual := filepath.Join(m.roots.Driver, m.libDir)
	m.libDir += "/nvidia/current"
	current := filepath.Join(m.roots.Driver, m.libDir)
	move := func(pattern, to string) {
		files, err := filepath.Glob(filepath.Join(usual, pattern))
		if err == nil {
			err = os.MkdirAll(to, 0o755)
		}
		for _, file := range files {
			err = errors.Join(err, os.Rename(file, filepath.Join(to, filepath.Base(file))))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	move("nvidia/xorg/*", filepath.Join(m.roots.Driver, "usr/lib/nvidia/current"))
	move("lib*.so.*", current)
	move("vdpau/*", current)
	move(fakenvml.StateFile, current) // the fake looks for it beside what the links lead to
	for _, name := range []string{"libcuda.so.1", "libnvidia-ml.so.1", "libnvcuvid.so.1"} {
		if err := os.Symlink("nvidia/current/"+name, filepath.Join(usual, name)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(m.roots.Driver, "etc/ld.so.conf.d/nvidia.conf"), m.libDir+"\n")
	if out, err := exec.Command("/sbin/ldconfig", "-X", "-r", m.roots.Driver).CombinedOutput(); err != nil {
		t.Fatalf("ldconfig: %v: %s", err, out)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func mknod(t *testing.T, path string, minor int) {
	t.Helper()
	const major = 120 // for local use (devices.txt)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(major, uint32(minor))))
	}
	if err == nil {
		err = os.Chmod(path, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
}
