// SPDX-License-Identifier: Apache-2.0

package fakedriver

import (
	"fmt"
	"strings"
)

// bmcBusID is the board's own graphics, a function that is not NVIDIA's.
const bmcBusID = "0000:02:00.0"

// function is one PCI function with what sysfs shows of it.
type function struct {
	bus                       string // address
	bridge                    string // path of what it is behind, below sys/devices
	vendor, device, subsystem int
	class                     int
	driver                    string
	numa, irq                 int
	card, render              int // -1: none
}

// sys writes the functions, their DRM devices, and the modules.
func (d *Driver) sys(t *tree) {
	d.function(t, function{bus: bmcBusID, bridge: "pci0000:00/0000:00:1c.0", vendor: 0x1a03, device: 0x2000, subsystem: 0x2000,
		class: 0x030000, driver: "ast", irq: 16, card: 0, render: -1})
	for _, g := range d.GPUs {
		f := function{bus: g.BusID, bridge: d.bridge(g.bus), vendor: 0x10de, device: d.hw.device, subsystem: d.hw.subsystem,
			class: 0x030200, driver: "nvidia", numa: g.NUMA, irq: g.irq(), card: g.Card, render: g.Render}
		if d.cfg.NoModeset {
			f.card, f.render = -1, -1
		}
		d.function(t, f)
	}
	if d.cfg.NVSwitch {
		for i := range d.hw.switches {
			d.function(t, function{bus: d.switchBusID(i), bridge: d.bridge(0xe4 + i), vendor: 0x10de, device: d.hw.switchID,
				subsystem: d.hw.switchID, class: 0x068000, driver: "nvidia-nvswitch", numa: 1, irq: 40 + i, card: -1, render: -1})
		}
	}
	t.text("sys/class/drm/version", "drm 1.1.0 20060810\n")
	t.text("sys/module/firmware_class/parameters/path", "\n")
	names, users := d.modules()
	for i, name := range names {
		dir := "sys/module/" + name
		t.text(dir+"/version", "%s\n", d.Version)
		t.text(dir+"/initstate", "live\n")
		t.text(dir+"/refcnt", "%d\n", strings.Count(users[i], ",")+1)
		t.text(dir+"/taint", "%s\n", d.taint())
		t.text(dir+"/srcversion", "6AB346C68F15FDDC88B47F1\n")
		for user := range strings.SplitSeq(strings.TrimSuffix(users[i], ","), ",") {
			if user != "-" {
				t.linkTo(dir+"/holders/"+user, "sys/module/"+user)
			}
		}
	}
	t.linkTo("sys/module/nvidia/drivers/pci:nvidia", "sys/bus/pci/drivers/nvidia")
	t.text("sys/module/nvidia/parameters/NvSwitchRegDwords", "(null)\n")
	t.text("sys/module/nvidia/parameters/NvSwitchBlacklist", "(null)\n")
	if !d.cfg.NoModeset {
		t.text("sys/module/nvidia_drm/parameters/modeset", "Y\n")
	}
}

func (d *Driver) bridge(bus int) string {
	return fmt.Sprintf("pci%04x:%02x/%04x:%02x:01.0", d.cfg.Domain, bus-1, d.cfg.Domain, bus-1)
}

// function writes a directory below sys/devices and the links to it.
func (d *Driver) function(t *tree, f function) {
	dir := "sys/devices/" + f.bridge + "/" + f.bus
	hex := func(name string, width, value int) { t.text(dir+"/"+name, "0x%0*x\n", width, value) }
	hex("vendor", 4, f.vendor)
	hex("device", 4, f.device)
	hex("subsystem_vendor", 4, f.vendor)
	hex("subsystem_device", 4, f.subsystem)
	hex("class", 6, f.class)
	hex("revision", 2, 0xa1)
	t.text(dir+"/numa_node", "%d\n", f.numa)
	t.text(dir+"/irq", "%d\n", f.irq)
	t.text(dir+"/enable", "1\n")
	t.text(dir+"/local_cpulist", "%d-%d\n", 48*f.numa, 48*f.numa+47)
	t.text(dir+"/resource", "%s", strings.Repeat("0x0000000000000000 0x0000000000000000 0x0000000000000000\n", 13))
	t.text(dir+"/modalias", "pci:v%08Xd%08Xsv%08Xsd%08Xbc%02Xsc%02Xi00\n", f.vendor, f.device, f.vendor, f.subsystem, f.class>>16, f.class>>8&0xff)
	t.text(dir+"/uevent", "DRIVER=%s\nPCI_CLASS=%X\nPCI_ID=%04X:%04X\nPCI_SUBSYS_ID=%04X:%04X\nPCI_SLOT_NAME=%s\n",
		f.driver, f.class, f.vendor, f.device, f.vendor, f.subsystem, f.bus)
	config := make([]byte, 256)
	copy(config, []byte{byte(f.vendor), byte(f.vendor >> 8), byte(f.device), byte(f.device >> 8), 0x47, 0x05, 0x10, 0x00,
		0xa1, 0x00, byte(f.class >> 8), byte(f.class >> 16)})
	t.text(dir+"/config", "%s", config)
	t.linkTo(dir+"/subsystem", "sys/bus/pci")
	t.linkTo(dir+"/driver", "sys/bus/pci/drivers/"+f.driver)
	t.linkTo("sys/bus/pci/drivers/"+f.driver+"/"+f.bus, dir)
	t.linkTo("sys/bus/pci/devices/"+f.bus, dir)
	f.drm(t, dir, "card", f.card)
	f.drm(t, dir, "renderD", f.render)
}

// drm writes one DRM device of the function.
func (f function) drm(t *tree, dir, kind string, minor int) {
	if minor < 0 {
		return
	}
	name := fmt.Sprintf("%s%d", kind, minor)
	at := dir + "/drm/" + name
	t.text(at+"/dev", "%d:%d\n", majorDRM, minor)
	t.text(at+"/uevent", "MAJOR=%d\nMINOR=%d\nDEVNAME=dri/%s\nDEVTYPE=drm_minor\n", majorDRM, minor, name)
	t.linkTo(at+"/device", dir)
	t.linkTo(at+"/subsystem", "sys/class/drm")
	t.linkTo("sys/class/drm/"+name, at)
	t.linkTo(fmt.Sprintf("sys/dev/char/%d:%d", majorDRM, minor), at)
}
