// SPDX-License-Identifier: Apache-2.0

package runtimetest

import (
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/sandbox"
)

// RunConfined runs the tests of what a container with capabilities can do in its
// guest, on hosts of their own. runDir is where the shim keeps its pods.
func RunConfined(t *testing.T, newHost func(*testing.T) Host, runDir string) {
	for _, test := range []struct {
		name string
		run  func(*Pod, string)
	}{
		{"Devices", testGuestDevices},
		{"Privileged", testPrivileged},
		{"Share", testShareAttacked},
		{"Annotations", testAnnotations},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(NewPod(t, newHost(t)), runDir) })
	}
}

// can gives a container capabilities, and no system call is filtered.
func (b *Box) can(capabilities ...string) {
	b.spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: capabilities, Effective: capabilities, Permitted: capabilities}
}

// notPermitted is what a shell says of a device that is not on its cgroup's list.
const notPermitted = "Operation not permitted"

// openEach makes a node for each device that this kernel has, and opens it. It says
// of each what came of it.
const openEach = `B=/bin/busybox
try() { # TYPE MAJOR:MINOR NAME
	$B mknod /tmp/d $1 ${2%:*} ${2#*:} || echo "no node: $3"
	if says=$( (exec 3</tmp/d) 2>&1 ) || says=$( (exec 3>/tmp/d) 2>&1 ); then echo "opened $3"; else echo "$3: $says"; fi
	$B rm -f /tmp/d
}
each() { for f in /sys/dev/$1/*; do try $2 ${f##*/} $($B basename $($B readlink $f)); done; }
`

// sysfs is for a container that looks for devices.
var sysfs = specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs"}

// A container that can make nodes, and mount the file system that has them all, can
// open none of its guest's but those that every container has: not the port to the
// host, nor the console, memory, or another container's disk (CVE-2020-2023,
// CVE-2020-2025, CVE-2026-24834).
func testGuestDevices(r *Pod, _ string) {
	image := r.ext4("root", r.rootfs)
	other := r.Box("other", "sleep 1000") // has a disk
	other.spec.Root, other.mounts = &specs.Root{Path: "rootfs"}, []sandbox.Mount{{Type: "ext4", Source: image, Options: []string{"loop"}}}
	other.Run()
	b := r.Box("a", openEach+`each char c; each block b
$B mount -t devtmpfs dev /tmp && for d in /tmp/vport* /tmp/ttyS0 /tmp/kmsg /tmp/sda /tmp/null; do
	if says=$( (exec 3<$d) 2>&1 ); then echo "opened $d"; else echo "$d: $says"; fi
done
$B umount /tmp
$B mknod /tmp/sda b 8 0; $B mkdir /tmp/disk; $B mount -t ext4 /tmp/sda /tmp/disk 2>&1 && echo "opened a disk by mount"; exit 0`)
	b.spec.Mounts = append(b.spec.Mounts, sysfs)
	b.can("CAP_MKNOD", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE")
	out := b.output()
	every := []string{"null", "zero", "full", "random", "urandom", "/tmp/null"} // and those of terminals, which here have none
	said := make(map[string]string)
	for line := range strings.Lines(out) {
		name, says, found := strings.Cut(strings.TrimSpace(line), ": ")
		said[name] = says
		switch {
		case found && (strings.HasSuffix(says, notPermitted) || name == "tty" || name == "ptmx" || name == "mount"):
		case !found && slices.Contains(every, strings.TrimPrefix(name, "opened ")):
		default: // an error of the device's own is as bad: it was asked
			r.Errorf("the guest's device: %s", line)
		}
	}
	for _, name := range every {
		if _, ok := said["opened "+name]; !ok {
			r.Errorf("%s could not be opened, so that nothing is shown", name)
		}
	}
	for _, name := range []string{"vport0p1", "ttyS0", "console", "mem", "kmsg", "sda", "/tmp/vport0p1", "/tmp/ttyS0", "/tmp/kmsg", "/tmp/sda", "mount"} {
		if said[name] == "" {
			r.Errorf("%s is not among what was refused", name)
		}
	}
	if r.Failed() {
		r.Log(out)
	}
	r.must(other.C.Kill(r.ctx(), "", unix.SIGKILL, false))
	other.Wait("")
	other.Delete("")
}

// A privileged container owns its guest, other containers' disks and all: it is
// this that shows that nothing but the list of devices stands before them above.
// The port to the host is the agent's, and no second can have it.
func testPrivileged(r *Pod, _ string) {
	image := r.ext4("root", r.rootfs)
	b := r.Box("a", openEach+`each block b; try c 1:11 kmsg
for f in /sys/class/virtio-ports/*; do try c $($B cat $f/dev) port; done`)
	b.spec.Root, b.mounts = &specs.Root{Path: "rootfs"}, []sandbox.Mount{{Type: "ext4", Source: image, Options: []string{"loop"}}}
	b.spec.Mounts = append(b.spec.Mounts, sysfs)
	b.spec.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}}
	b.can("CAP_MKNOD", "CAP_SYS_ADMIN", "CAP_SYSLOG")
	out := b.output()
	for _, want := range []string{"opened sda\n", "opened kmsg\n", "Device or resource busy\n"} {
		if !strings.Contains(out, want) {
			r.Errorf("no %q in %q", want, out)
		}
	}
	if strings.Contains(out, "opened port") {
		r.Errorf("somebody else than the agent has the port to the host: %q", out)
	}
}
