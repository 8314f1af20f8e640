// SPDX-License-Identifier: Apache-2.0

package runtimetest

import (
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/sandbox"
)

// loop is a block device of this host's, of 16 MiB in a file.
func (r *Pod) loop(file string) *os.File {
	r.Helper()
	f, err := os.Create(file)
	r.must(err)
	defer f.Close()
	r.must(f.Truncate(16 << 20))
	return r.attach(file)
}

// attach makes a file a block device, which goes when what it returns is closed, as it
// is at the latest by the end of this program.
func (r *Pod) attach(file string) *os.File {
	r.Helper()
	node := strings.TrimSpace(r.command("losetup", "-f", "--show", file))
	f, err := os.Open(node)
	if err != nil {
		r.command("losetup", "-d", node)
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = f.Close() })
	r.command("losetup", "-d", node) // as soon as nobody has it open
	return f
}

// AddDevice asks for one more device.
func (b *Box) AddDevice(d specs.LinuxDevice) { b.spec.Linux.Devices = append(b.spec.Linux.Devices, d) }

// device gives a container a block device as the CRI does: by its numbers here.
func (b *Box) device(node, path, access string) {
	b.Helper()
	var st unix.Stat_t
	b.must(unix.Stat(node, &st))
	major, minor := int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	mode, owner := os.FileMode(0o640), uint32(7)
	b.AddDevice(specs.LinuxDevice{Path: path, Type: "b", Major: major, Minor: minor, FileMode: &mode, UID: &owner, GID: &owner})
	if b.spec.Linux.Resources == nil {
		b.spec.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}}}
	}
	r := b.spec.Linux.Resources
	r.Devices = append(r.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "b", Major: &major, Minor: &minor, Access: access})
}

// A block device of the host's is one of the container's, with the owner and
// the rights that were asked for; no other disk can be opened.
func testBlockDevice(r *Pod) {
	r.exist("ls", "dd", "stat", "mknod", "grep")
	file := filepath.Join(r.dir, "disk")
	disk := r.loop(file)
	node := disk.Name()
	image := r.ext4("root", r.rootfs)
	other := r.Box("other", "sleep 1000") // has a disk of its own
	other.spec.Root, other.mounts = &specs.Root{Path: "rootfs"}, []sandbox.Mount{{Type: "ext4", Source: image, Options: []string{"loop"}}}
	other.Run()
	b := r.Box("a", `echo written > /dev/xvda; stat -c '%F %a %u %g' /dev/xvda
for d in /sys/block/*; do
	mm=$(cat $d/dev); mknod /tmp/d b ${mm%:*} ${mm#*:} 2>/dev/null && head -c 1 /tmp/d >/dev/null 2>&1 && echo opened; rm -f /tmp/d
done`)
	b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs"})
	b.spec.Process.Capabilities = &specs.LinuxCapabilities{
		Bounding: []string{"CAP_MKNOD"}, Effective: []string{"CAP_MKNOD"}, Permitted: []string{"CAP_MKNOD"},
	}
	b.device(node, "/dev/xvda", "rw")
	b.spec.Process.User = specs.User{UID: 7, GID: 7}
	if out := b.output(); out != "block special file 640 7 7\n" {
		r.Errorf("output %q", out)
	}
	r.must(disk.Sync()) // as the last one does who closes it
	if got, _ := os.ReadFile(file); !strings.HasPrefix(string(got), "written\n") {
		r.Errorf("the device has %q", got[:16])
	}
	b = r.Box("b", "head -c 7 /dev/xvda; echo x > /dev/xvda || echo refused")
	b.device(node, "/dev/xvda", "r")
	if out := b.output(); out != "writtenrefused\n" {
		r.Errorf("output %q", out)
	}
	r.must(other.C.Kill(r.ctx(), "", unix.SIGKILL, false))
	other.Wait("")
	other.Delete("")
	r.exclusive(node)
}

// exist links more of busybox's programs.
func (r *Pod) exist(names ...string) {
	for _, name := range names {
		r.must(os.Symlink("busybox", filepath.Join(r.rootfs, "bin", name)))
	}
}

// exclusive checks that nobody has a block device any more.
func (r *Pod) exclusive(node string) {
	r.Helper()
	f, err := os.OpenFile(node, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		r.Errorf("%s is still in use: %v", node, err)
		return
	}
	_ = f.Close()
}

// The host's disk being full is an error for who writes, and for nobody else.
func testDiskFull(r *Pod) {
	small := filepath.Join(r.dir, "small")
	r.must(os.Mkdir(small, 0o700))
	r.must(unix.Mount("small", small, "tmpfs", 0, "size=4m"))
	r.Cleanup(func() { r.must(unix.Unmount(small, 0)) })
	image := r.ext4("small/image", "") // of 16 MiB, most of it a hole
	r.exist("dd")
	b := r.Box("a", "sleep 1000")
	b.spec.Mounts = append(b.spec.Mounts[:3:3], specs.Mount{Destination: "/tmp", Type: "ext4", Source: image})
	b.Run()
	if status := b.exec("full", "dd if=/dev/zero of=/tmp/file bs=1M count=8 conv=fsync"); status != 1 {
		r.Errorf("status %d of writing 8 MiB to a file system of 4", status)
	}
	if status := b.exec("after", "exit 3"); status != 3 {
		r.Errorf("status %d of what was run after that", status)
	}
	r.must(b.C.Kill(r.ctx(), "", unix.SIGKILL, false))
	b.Wait("")
	b.Delete("")
	r.free(image)
}

// What the host or another pod uses is not attached.
func testDiskInUse(r *Pod) {
	image := r.ext4("image", "")
	try := func(id, source, says string) {
		r.Helper()
		b := r.Box(id, "exit 0")
		b.spec.Mounts = append(b.spec.Mounts[:3:3], specs.Mount{Destination: "/tmp", Type: "ext4", Source: source})
		if err := b.TryCreate(); err == nil || !strings.Contains(err.Error(), says) {
			r.Errorf("%s: %v, want %q", id, err, says)
		}
	}
	point := filepath.Join(r.dir, "point")
	r.must(os.Mkdir(point, 0o700))
	loop := r.attach(image)
	node := loop.Name()
	r.must(unix.Mount(node, point, "ext4", 0, ""))
	r.Cleanup(func() { _ = unix.Unmount(point, unix.MNT_DETACH) })
	try("mounted", node, "in use on the host")
	try("backed", image, "the host has it at "+node)
	r.must(unix.Unmount(point, 0))
	r.must(loop.Close())

	f, err := os.OpenFile(image, os.O_RDWR, 0)
	r.must(err)
	defer f.Close()
	r.must(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB))
	try("locked", image, "another VM has it")
	try("directory", r.dir, "neither a file nor")
	try("missing", filepath.Join(r.dir, "none"), "no such file")
	r.must(unix.Flock(int(f.Fd()), unix.LOCK_UN))

	b := r.Box("a", "exit 0")
	b.spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/xvda", Type: "b", Major: 4000, Minor: 1}}
	if err := b.TryCreate(); err == nil || !strings.Contains(err.Error(), "the host has no such device") {
		r.Errorf("a device that is not there: %v", err)
	}
}
