// SPDX-License-Identifier: Apache-2.0

package fakedriver

import "fmt"

// dev makes the nodes. No driver stands behind the numbers, so that open(2) of one ends with
// ENXIO where it is allowed and with EPERM where a device cgroup forbids it.
func (d *Driver) dev(t *tree) {
	const all = 0o666
	t.dir("dev/shm")
	t.node("dev/null", 1, 3, all)
	t.node("dev/nvidiactl", majorNVIDIA, minorControl, all)
	for _, g := range d.GPUs {
		// An excluded GPU has a node too: udev rules make it from the information file.
		t.node(g.Node(), majorNVIDIA, g.Minor, all)
	}
	if !d.cfg.UnloadedUVM {
		t.node("dev/nvidia-uvm", d.Majors.UVM, 0, all)
		t.node("dev/nvidia-uvm-tools", d.Majors.UVM, 1, all)
	}
	if d.hw.switches > 0 {
		t.node("dev/nvidia-nvlink", d.Majors.NVLink, 0, all)
	}
	if d.cfg.NVSwitch {
		t.node("dev/nvidia-nvswitchctl", d.Majors.NVSwitch, minorControl, all)
		for i := range d.hw.switches {
			t.node(fmt.Sprintf("dev/nvidia-nvswitch%d", i), d.Majors.NVSwitch, i, all)
		}
	}
	for i := range d.cfg.IMEXChannels {
		t.node(fmt.Sprintf("dev/nvidia-caps-imex-channels/channel%d", i), d.Majors.IMEX, i, all)
	}
	d.drm(t)
}

// Node is the path of the GPU's node below a root.
func (g GPU) Node() string { return fmt.Sprintf("dev/nvidia%d", g.Minor) }

// drm makes the nodes of graphics. Card 0 is the BMC's, which has no render node, as on most
// servers: the number of a card is not that of a GPU.
func (d *Driver) drm(t *tree) {
	const card, render = 0o660, 0o666
	t.node("dev/dri/card0", majorDRM, 0, card)
	t.link("dev/dri/by-path/pci-"+bmcBusID+"-card", "../card0")
	if d.cfg.NoModeset {
		return
	}
	t.node("dev/nvidia-modeset", majorNVIDIA, minorModeset, 0o666)
	for _, g := range d.GPUs {
		t.node(fmt.Sprintf("dev/dri/card%d", g.Card), majorDRM, g.Card, card)
		t.node(fmt.Sprintf("dev/dri/renderD%d", g.Render), majorDRM, g.Render, render)
		t.link("dev/dri/by-path/pci-"+g.BusID+"-card", fmt.Sprintf("../card%d", g.Card))
		t.link("dev/dri/by-path/pci-"+g.BusID+"-render", fmt.Sprintf("../renderD%d", g.Render))
	}
}
