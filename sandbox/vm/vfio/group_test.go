// SPDX-License-Identifier: Apache-2.0

package vfio

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// machine is a sysfs as hosts with an Intel CPU and a GPU have it: files with
// what is in them, and links with what they lead to, after "->".
var machine = map[string]string{
	"kernel/iommu_groups/7/devices/0000:00:1f.2":  "->../../../../devices/pci0000:00/0000:00:1f.2",
	"kernel/iommu_groups/12/devices/0000:00:01.0": "->../../../../devices/pci0000:00/0000:00:01.0",
	"kernel/iommu_groups/12/devices/0000:01:00.0": "->../../../../devices/pci0000:00/0000:00:01.0/0000:01:00.0",
	"kernel/iommu_groups/12/devices/0000:01:00.1": "->../../../../devices/pci0000:00/0000:00:01.0/0000:01:00.1",
	"kernel/iommu_groups/20/devices/0000:02:00.0": "->../../../../devices/pci0000:00/0000:02:00.0",
	"kernel/iommu_groups/21/type":                 "DMA\n",
	"kernel/iommu_groups/22/devices/serial8250":   "->../../../../devices/platform/serial8250",
	"kernel/iommu_groups/23/devices/0000:03:00.0": "->../../../../devices/pci0000:00/0000:03:00.0",

	"devices/pci0000:00/0000:00:01.0/class":               "0x060400\n",
	"devices/pci0000:00/0000:00:01.0/driver":              "->../../../bus/pci/drivers/pcieport",
	"devices/pci0000:00/0000:00:01.0/0000:01:00.0/class":  "0x030200\n",
	"devices/pci0000:00/0000:00:01.0/0000:01:00.0/driver": "->../../../../bus/pci/drivers/vfio-pci",
	"devices/pci0000:00/0000:00:01.0/0000:01:00.1/class":  "0x040300\n",
	"devices/pci0000:00/0000:00:01.0/0000:01:00.1/driver": "->../../../../bus/pci/drivers/vfio-pci",
	"devices/pci0000:00/0000:00:1f.2/class":               "0x010601\n",
	"devices/pci0000:00/0000:00:1f.2/driver":              "->../../../bus/pci/drivers/ahci",
	"devices/pci0000:00/0000:02:00.0/class":               "0x020000\n",
	"devices/pci0000:00/0000:02:00.0/driver":              "->../../../bus/pci/drivers/mlx5_vfio_pci",
	"devices/pci0000:00/0000:03:00.0/class":               "0x020000\n",
	"devices/platform/serial8250/uevent":                  "",

	"dev/char/10:196":      "->../../devices/virtual/misc/vfio",
	"dev/char/1:3":         "->../../devices/virtual/mem/null",
	"dev/char/511:0":       "->../../devices/virtual/vfio/12",
	"dev/char/511:1":       "->../../devices/virtual/vfio/7",
	"dev/char/511:2":       "->../../devices/virtual/vfio/20",
	"dev/char/511:3":       "->../../devices/virtual/vfio/noiommu-0",
	"dev/char/511:4":       "->../../devices/virtual/vfio/22",
	"dev/char/511:5":       "->../../devices/virtual/vfio/23",
	"class/vfio/keep":      "",
	"class/mem/keep":       "",
	"bus/pci/drivers/keep": "",

	"devices/virtual/vfio/12/subsystem":        "->../../../../class/vfio",
	"devices/virtual/vfio/7/subsystem":         "->../../../../class/vfio",
	"devices/virtual/vfio/20/subsystem":        "->../../../../class/vfio",
	"devices/virtual/vfio/22/subsystem":        "->../../../../class/vfio",
	"devices/virtual/vfio/23/subsystem":        "->../../../../class/vfio",
	"devices/virtual/vfio/noiommu-0/subsystem": "->../../../../class/vfio",
	"devices/virtual/mem/null/subsystem":       "->../../../../class/mem",
}

// sysfs writes one, without what begins with a prefix.
func sysfs(t *testing.T, without string) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range machine {
		if without != "" && strings.HasPrefix(name, without) {
			continue
		}
		path := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if target, link := strings.CutPrefix(content, "->"); link {
			err = errors.Join(err, os.Symlink(target, path))
		} else {
			err = errors.Join(err, os.WriteFile(path, []byte(content), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func device(path string, major, minor int64) specs.LinuxDevice {
	return specs.LinuxDevice{Path: path, Type: "c", Major: major, Minor: minor}
}

func TestFind(t *testing.T) {
	sys := sysfs(t, "")
	at := func(path string) string { return filepath.Join(sys, "devices/pci0000:00", path) }
	gpu := Group{Number: 12, Major: 511, Minor: 0, Devices: []Device{
		{"0000:01:00.0", at("0000:00:01.0/0000:01:00.0")}, {"0000:01:00.1", at("0000:00:01.0/0000:01:00.1")},
	}}
	nic := Group{Number: 20, Major: 511, Minor: 2, Devices: []Device{{"0000:02:00.0", at("0000:02:00.0")}}}
	for name, c := range map[string]struct {
		devices []specs.LinuxDevice
		want    []Group
	}{
		"none":               {[]specs.LinuxDevice{device("/dev/null", 1, 3), {Path: "/dev/vfio/9", Type: "b", Major: 511}}, nil},
		"the container only": {[]specs.LinuxDevice{device("/dev/vfio/vfio", 10, 196)}, nil},
		"a GPU of two functions behind a bridge": {
			[]specs.LinuxDevice{device("/dev/vfio/vfio", 10, 196), device("/dev/vfio/12", 511, 0)}, []Group{gpu},
		},
		"two groups, one of them twice, under other names": {
			[]specs.LinuxDevice{device("/dev/vfio/a", 511, 2), device("/dev/vfio/b", 511, 0), device("/dev/vfio/c", 511, 2)}, []Group{nic, gpu},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Find(sys, c.devices)
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

func TestFindRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		device  specs.LinuxDevice
		without string
		says    string
	}{
		"no IOMMU":              {device("/dev/vfio/12", 511, 0), "kernel/iommu_groups", "this host has no IOMMU"},
		"the host's own driver": {device("/dev/vfio/7", 511, 1), "", "0000:00:1f.2 of its group is bound to ahci"},
		"half a group":          {device("/dev/vfio/12", 511, 0), "devices/pci0000:00/0000:00:01.0/0000:01:00.1/driver", "0000:01:00.1 of its group is bound to no driver"},
		"no driver":             {device("/dev/vfio/23", 511, 5), "", "bound to no driver"},
		"no isolation":          {device("/dev/vfio/noiommu-0", 511, 3), "", "noiommu-0 is no group"},
		"no PCI device":         {device("/dev/vfio/22", 511, 4), "", "serial8250 in its group is no PCI device"},
		"another device":        {device("/dev/vfio/12", 1, 3), "", `it is null of the subsystem "mem"`},
		"no such device":        {device("/dev/vfio/99", 511, 9), "", "the host has no such device"},
		"a group without any":   {device("/dev/vfio/20", 511, 2), "kernel/iommu_groups/20", "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Find(sysfs(t, c.without), []specs.LinuxDevice{c.device})
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.device.Path) {
				t.Errorf("%+v, %v; want %q", got, err, c.says)
			}
		})
	}
}

func TestIsAddress(t *testing.T) {
	for s, want := range map[string]bool{
		"0000:01:00.0": true, "10000:e1:00.0": true, "0000:01:00": false, "0000:01:00.g": false, "serial8250": false,
		"": false, "0000-01:00.0": false, "../../../etc": false,
	} {
		if isAddress(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}
