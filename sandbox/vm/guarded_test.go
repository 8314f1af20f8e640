// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// needed are what no command line of QEMU's may be without, and why.
var needed = []struct{ option, value, reason string }{
	{"-nodefaults", ``, "the floppy disk controller (CVE-2015-3456) and other devices come unasked"},
	{"-no-user-config", ``, "files below /etc/qemu add devices"},
	{"-display", `^none$`, "a display has a server, or draws what a guest says"},
	{"-no-reboot", ``, "a guest that reboots is one that nobody has set up"},
	{"-sandbox", `^on,`, "no system call is refused otherwise (in Kata it is off by default)"},
	{"-sandbox", `,obsolete=deny(,|$)`, "system calls that nothing needs"},
	{"-sandbox", `,elevateprivileges=deny(,|$)`, "setuid and the like"},
	{"-sandbox", `,spawn=deny(,|$)`, "who breaks out runs a program: also migrate to exec:, scripts of taps"},
	{"-sandbox", `,resourcecontrol=deny(,|$)`, "a pod raises its priority over others"},
	{"-machine", `^microvm,`, "a PC has devices that are emulated since 1996, with a record of escapes"},
	{"-machine", `,usb=off(,|$)`, "CVE-2020-14364, an escape by USB"},
	{"-machine", `,dump-guest-core=off(,|$)`, "a pod's memory in a file of the host's"},
	{"-machine", `,mem-merge=off(,|$)`, "what another pod has in memory is found out by pages that are shared (CVE-2015-2877)"},
	{"-machine", `,auto-kernel-cmdline=off(,|$)`, "the kernel's command line is this program's, and no guest's (GHSA-rr59-xxvx-96qr)"},
	{"-mon", `^chardev=monitor,mode=control$`, "the monitor is a socket that the shim holds, and speaks QMP alone"},
	{"-serial", `^chardev:console$`, "the console goes to the shim, which bounds it"},
}

// allowed is all that a command line may have. What is not here has been looked at by
// nobody.
var allowed = map[string]string{
	"-name": `^guest=[\w.-]+,debug-threads=on$`, "-machine": `^microvm,[\w,=-]+$`, "-accel": `^(kvm|tcg,tb-size=\d+)$`, "-cpu": `^(host|max,erms=off)$`,
	"-m": `^\d+M$`, "-smp": `^cpus=\d+$`,
	// Memory is the machine's own, or a file by its descriptor; no nvdimm and no pmem, by
	// which a guest writes to an image that others boot (CVE-2020-2023, CVE-2026-24834).
	"-object": `^memory-backend-(memfd,id=memory,size=\d+M,share=on|file,id=memory,size=\d+M,share=(on|off),mem-path=/proc/self/fd/\d+)$`,
	"-global": `^virtio-mmio\.force-legacy=false$`, "-nodefaults": `^$`, "-no-user-config": `^$`, "-display": `^none$`, "-no-reboot": `^$`,
	"-sandbox": `^[\w,=]+$`, "-mon": `^chardev=monitor,mode=control$`, "-serial": `^chardev:console$`,
	// No socket has a name, or an address, that somebody else could connect to.
	"-chardev": `^socket,id=(agent|monitor|console|share),fd=\d+$`,
	// A tap is opened by the shim: QEMU runs no script for it, and has no vhost.
	"-netdev": `^tap,id=nic\d+,fd=\d+,vhost=off$`,
	// virtio alone, and what is passed through. No 9p (CVE-2016-9602), no emulated NIC
	// (CVE-2015-5165, CVE-2015-7504), graphics (CVE-2017-2615), disk of a name.
	"-device": `^(virtio-(serial|scsi|balloon|rng|net)-device|virtserialport|vhost-user-fs-device|pcie-root-port|vfio-pci)(,[\w:=.,/-]+)?$`,
	"-kernel": `^/[\w/.-]+$`, "-initrd": `^/[\w/.-]+$`, "-append": `^[\w =.-]+$`,
	"-incoming": `^defer$`, // what is restored is a descriptor that the monitor hands over
}

// guarded checks what of QEMU's command line keeps a guest in. It is not for what
// the line is, which the golden files have and which changes: whoever changes one of
// these gives up what is said of it.
func guarded(t *testing.T, args []string) {
	t.Helper()
	all := optionsOf(args)
	for _, n := range needed {
		if !slices.ContainsFunc(all, func(o option) bool { return o.name == n.option && regexp.MustCompile(n.value).MatchString(o.value) }) {
			t.Errorf("no %s %s: %s", n.option, n.value, n.reason)
		}
	}
	for _, o := range all {
		if pattern, ok := allowed[o.name]; !ok || !regexp.MustCompile(pattern).MatchString(o.value) {
			t.Errorf("%s %s is not what was looked at: %s", o.name, o.value, pattern)
		}
		path := o.name == "-kernel" || o.name == "-initrd" || strings.Contains(o.value, "mem-path=/proc/self/fd/") || strings.HasPrefix(o.value, "vfio-pci,")
		if strings.Contains(o.value, "/") && !path {
			t.Errorf("%s %s names a file: all but the kernel and the initramfs are descriptors", o.name, o.value)
		}
	}
	singular := []string{"-sandbox", "-machine", "-mon", "-serial", "-accel", "-cpu", "-display"} // of two the last would hold
	for _, name := range singular {
		n := 0
		for _, o := range all {
			if o.name == name {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s is there %d times", name, n)
		}
	}
}
