// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"berth/sandbox/vm/jail"
	"berth/sandbox/vm/vfio"
)

// passed are two groups, with three devices.
func passed(at string) []vfio.Group {
	return []vfio.Group{
		{Number: 12, Major: 511, Minor: 0, Devices: []vfio.Device{{Path: at + "/0000:01:00.0"}, {Path: at + "/0000:01:00.1"}}},
		{Number: 20, Major: 511, Minor: 2, Devices: []vfio.Device{{Path: at + "/0000:02:00.0"}}},
	}
}

// What QEMU is told, and all that it is let have for it: a bus, both nodes of
// each group, the devices' directories, and memory that it may pin.
func TestPassthrough(t *testing.T) {
	c := Config{ID: "test", MemoryMiB: 256, CPUs: 1, UID: 7, GID: 7, VFIO: passed("/sys/devices/a,b")}
	args, err := c.arguments(KVM, ends{}, &descriptors{})
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Join(args, " ")
	for _, want := range []string{
		",pcie=on,",
		"-device pcie-root-port,id=slot1,bus=pcie.0,chassis=1,slot=1,io-reserve=0 " +
			"-device vfio-pci,id=vfio1,bus=slot1,sysfsdev=/sys/devices/a,,b/0000:01:00.0",
		"-device vfio-pci,id=vfio2,bus=slot2,sysfsdev=/sys/devices/a,,b/0000:01:00.1",
		"-device vfio-pci,id=vfio3,bus=slot3,sysfsdev=/sys/devices/a,,b/0000:02:00.0",
	} {
		if !strings.Contains(line, want) {
			t.Errorf("no %q in %s", want, line)
		}
	}
	spec, err := c.vmmJail(args, TCG, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	nodes := []jail.Device{
		{Path: "/dev/vfio/vfio", Major: 10, Minor: 196}, {Path: "/dev/vfio/12", Major: 511}, {Path: "/dev/vfio/20", Major: 511, Minor: 2},
	}
	if got := spec.Devices[len(spec.Devices)-3:]; !slices.Equal(got, nodes) {
		t.Errorf("devices %v, want %v", got, nodes)
	}
	for _, g := range c.VFIO {
		for _, d := range g.Devices {
			if !slices.Contains(spec.Shown, d.Path) {
				t.Errorf("%s is not shown", d.Path)
			}
		}
	}
	if want := uint64(2*(256+64)) << 20; spec.Locked != want {
		t.Errorf("%d bytes may be locked, want %d", spec.Locked, want)
	}
	c.VFIO = nil
	args, err = c.arguments(KVM, ends{}, &descriptors{})
	if line := strings.Join(args, " "); err != nil || !strings.Contains(line, ",pcie=off,") || strings.Contains(line, "vfio") {
		t.Errorf("without devices: %v, %s", err, line)
	}
	if spec, err = c.vmmJail(args, TCG, 2, nil); err != nil || spec.Locked != 0 || len(spec.Devices) != 2 {
		t.Errorf("without devices: %v, %+v", err, spec)
	}
}

// QEMU finds in its jail what it is told of: it comes as far as the group, which
// this host does not have.
func TestPassthroughInTheJail(t *testing.T) {
	r := newRig(t)
	if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_SYS_RESOURCE, 0, 0, 0); err != nil || has == 0 {
		t.Skip("no CAP_SYS_RESOURCE, by which QEMU is let pin a guest's memory")
	}
	c := r.config()
	dir := t.TempDir()
	c.VFIO = passed(dir)[1:]
	path := c.VFIO[0].Devices[0].Path
	if err := errors.Join(os.Mkdir(path, 0o755), os.Symlink("../../../kernel/iommu_groups/20", filepath.Join(path, "iommu_group"))); err != nil {
		t.Fatal(err)
	}
	m, err := Boot(r.ctx, c)
	if err == nil {
		_ = m.Close(r.ctx)
		t.Fatal("a machine has a device that is not there")
	}
	if !strings.Contains(err.Error(), "/dev/vfio/20") {
		t.Errorf("%v; want that the group cannot be opened", err)
	}
	t.Log(err)
}
