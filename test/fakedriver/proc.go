// SPDX-License-Identifier: Apache-2.0

package fakedriver

import (
	"crypto/rand"
	"fmt"
	"strings"
)

// kernelRelease is what uname -r would say: firmware may lie below a directory of that name.
const kernelRelease = "6.8.0-55-generic"

// The majors that do not change. A kernel gives the dynamic ones out from 254 down to 234
// and from 511 down to 384.
const (
	majorNVIDIA  = 195
	majorDRM     = 226
	minorControl = 255
	minorModeset = 254
)

// proc writes what the modules add to /proc; text and spacing are those of nv-procfs.c in
// NVIDIA's open kernel modules.
func (d *Driver) proc(t *tree) {
	const dir = "proc/driver/nvidia/"
	t.text(dir+"version", "%s", d.versionFile())
	t.text(dir+"params", "%s", paramsFile())
	t.text(dir+"registry", "Binary: \"\"\n")
	t.text(dir+"suspend", "suspend hibernate resume\n")
	t.text(dir+"suspend_depth", "default modeset uvm\n")
	t.text(dir+"warnings/README", "Warnings of the driver are copied to files in this directory.\n")
	t.text(dir+"patches/README", "Each patch applied to the driver has a file in this directory.\n")
	for _, g := range d.GPUs {
		d.information(t, g)
		gpu := dir + "gpus/" + g.BusID
		t.text(gpu+"/registry", "Binary: \"\"\n")
		t.text(gpu+"/power", "Runtime D3 status:          ?\nVideo Memory:               ?\n\nGPU Hardware Support:\n"+
			" Video Memory Self Refresh: ?\n Video Memory Off:          ?\n")
	}
	d.capabilities(t)
	if d.cfg.NVSwitch {
		t.text("proc/driver/nvidia-nvswitch/permissions", "DeviceFileMode: 438\n")
		for i := range d.hw.switches {
			t.text("proc/driver/nvidia-nvswitch/devices/"+d.switchBusID(i)+"/information", "BIOS Version: 96.10.55.00.01\n")
		}
	}
	t.text("proc/devices", "%s", d.devicesFile())
	t.text("proc/modules", "%s", d.modulesFile())
	t.text("proc/version", "Linux version %s (buildd@lcy02) (x86_64-linux-gnu-gcc-13) #57-Ubuntu SMP PREEMPT_DYNAMIC\n", kernelRelease)
	t.text("proc/sys/kernel/osrelease", "%s\n", kernelRelease)
	t.text("proc/sys/kernel/ostype", "Linux\n")
	// Another machine has another one: a cache keyed by it must not outlive a reboot.
	id := make([]byte, 16)
	rand.Read(id)
	t.text("proc/sys/kernel/random/boot_id", "%x-%x-%x-%x-%x\n", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

func (d *Driver) versionFile() string {
	module := "x86_64 Kernel Module"
	tail := "Tue Feb 25 03:39:50 UTC 2025"
	if d.cfg.OpenModule {
		module = "Open Kernel Module for x86_64"
		tail = "Release Build  (dvs-builder@U16-I3-B15-1-3)  " + tail
	}
	return fmt.Sprintf("NVRM version: NVIDIA UNIX %s  %s  %s\nGCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04) \n",
		module, d.Version, tail)
}

// information writes a GPU's file. Nothing is known of a GPU that was never opened.
func (d *Driver) information(t *tree, g GPU) {
	id, vbios, firmware, excluded := g.UUID, d.hw.vbios, d.Version, "No"
	if !g.Known {
		id, vbios, firmware = "GPU-????????-????-????-????-????????????", "??.??.??.??.??", "N/A"
	}
	if g.Excluded {
		excluded = "Yes"
	}
	t.text("proc/driver/nvidia/gpus/"+g.BusID+"/information", "Model: \t\t %s\nIRQ:   \t\t %d\nGPU UUID: \t %s\nVideo BIOS: \t %s\n"+
		"Bus Type: \t PCIe\nDMA Size: \t %d bits\nDMA Mask: \t 0x%x\nBus Location: \t %s\nDevice Minor: \t %d\n"+
		"GPU Firmware: \t %s\nGPU Excluded:\t %s\n",
		g.Name, g.irq(), id, vbios, d.hw.dmaBits, uint64(1)<<d.hw.dmaBits-1, g.BusID, g.Minor, firmware, excluded)
}

func (g GPU) irq() int { return 16 + g.Card }

// Open does to a GPU what the first open(2) of its node does: its UUID becomes known.
func (d *Driver) Open(i int) error {
	d.GPUs[i].Known = true
	t := &tree{root: d.Root}
	d.information(t, d.GPUs[i])
	return t.err
}

// paramsFile is what nvidia-modprobe and libcuda read to learn whether they may make nodes.
func paramsFile() string {
	var b strings.Builder
	for _, p := range strings.Fields(`ResmanDebugLevel=4294967295 RmLogonRC=1 ModifyDeviceFiles=1 DeviceFileUID=0 DeviceFileGID=0
		DeviceFileMode=438 InitializeSystemMemoryAllocations=1 UsePageAttributeTable=4294967295 EnableMSI=1 EnablePCIeGen3=0
		MemoryPoolSize=0 KMallocHeapMaxSize=0 VMallocHeapMaxSize=0 IgnoreMMIOCheck=0 EnableStreamMemOPs=0
		EnableUserNUMAManagement=1 NvLinkDisable=0 RmProfilingAdminOnly=1 PreserveVideoMemoryAllocations=0
		EnableS0ixPowerManagement=0 S0ixPowerManagementVideoMemoryThreshold=256 DynamicPowerManagement=3
		DynamicPowerManagementVideoMemoryThreshold=200 RegisterPCIDriver=1 EnablePCIERelaxedOrderingMode=0
		EnableResizableBar=0 EnableGpuFirmware=18 EnableGpuFirmwareLogs=2 EnableDbgBreakpoint=0
		OpenRmEnableUnsupportedGpus=1 DmaRemapPeerMmio=1 ImexChannelCount=2048 CreateImexChannel0=0
		GrdmaPciTopoCheckOverride=0`) {
		name, value, _ := strings.Cut(p, "=")
		fmt.Fprintf(&b, "%s: %s\n", name, value)
	}
	for _, name := range []string{"CoherentGPUMemoryMode", "RegistryDwords", "RegistryDwordsPerDevice", "RmMsg", "GpuBlacklist",
		"TemporaryFilePath", "ExcludedGpus"} {
		fmt.Fprintf(&b, "%s: \"\"\n", name)
	}
	return b.String()
}

// devicesFile is /proc/devices. Names that begin alike are the rule: nvidia-caps is not
// nvidia-caps-imex-channels.
func (d *Driver) devicesFile() string {
	var b strings.Builder
	row := func(major int, name string) { fmt.Fprintf(&b, "%3d %s\n", major, name) }
	b.WriteString("Character devices:\n")
	for _, line := range strings.Split("1 mem,4 /dev/vc/0,4 tty,4 ttyS,5 /dev/tty,5 /dev/console,5 /dev/ptmx,7 vcs,10 misc,13 input,"+
		"29 fb,89 i2c,108 ppp,128 ptm,136 pts,180 usb,189 usb_device", ",") {
		major, name, _ := strings.Cut(line, " ")
		fmt.Fprintf(&b, "%3s %s\n", major, name)
	}
	if majorOf(d.Version) < 545 {
		row(majorNVIDIA, "nvidia-frontend") // one region for all nodes, until 545
	} else {
		row(majorNVIDIA, "nvidia")
		if !d.cfg.NoModeset {
			row(majorNVIDIA, "nvidia-modeset")
		}
		row(majorNVIDIA, "nvidiactl")
	}
	row(majorDRM, "drm")
	row(d.Majors.IMEX, "nvidia-caps-imex-channels")
	row(244, "hidraw")
	row(249, "bsg")
	row(253, "tpm")
	row(d.Majors.Caps, "nvidia-caps")
	if d.cfg.NVSwitch {
		row(d.Majors.NVSwitch, "nvidia-nvswitch")
	}
	row(d.Majors.NVLink, "nvidia-nvlink")
	if !d.cfg.UnloadedUVM {
		row(d.Majors.UVM, "nvidia-uvm")
	}
	b.WriteString("\nBlock devices:\n  7 loop\n  8 sd\n  9 md\n 65 sd\n253 device-mapper\n254 mdp\n259 blkext\n")
	return b.String()
}

// modules lists the driver's that are loaded, with what uses each.
func (d *Driver) modules() (names, users []string) {
	names, users = []string{"nvidia"}, []string{"-"}
	add := func(name, user string) { names, users = append(names, name), append(users, user) }
	if !d.cfg.UnloadedUVM {
		add("nvidia_uvm", "-")
		users[0] = "nvidia_uvm,"
	}
	if !d.cfg.NoModeset {
		add("nvidia_modeset", "nvidia_drm,")
		add("nvidia_drm", "-")
		users[0] = strings.TrimPrefix(users[0], "-") + "nvidia_modeset,"
	}
	return names, users
}

func (d *Driver) modulesFile() string {
	var b strings.Builder
	names, users := d.modules()
	for i, name := range names {
		fmt.Fprintf(&b, "%s 14381056 %d %s Live 0x0000000000000000 (%s)\n", name, strings.Count(users[i], ",")+1, users[i], d.taint())
	}
	return b.String() + "drm 622592 5 drm_kms_helper,ast,nvidia_drm, Live 0x0000000000000000\noverlay 212992 0 - Live 0x0000000000000000\n"
}

func (d *Driver) taint() string {
	if d.cfg.OpenModule {
		return "OE"
	}
	return "POE"
}

func (d *Driver) switchBusID(i int) string {
	return fmt.Sprintf("%04x:%02x:00.0", d.cfg.Domain, 0xe4+i)
}
