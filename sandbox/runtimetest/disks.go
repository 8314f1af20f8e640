// SPDX-License-Identifier: Apache-2.0

package runtimetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/process"
	"berth/sandbox"
)

// RunDisks runs the tests of what a guest's kernel has on disks, on hosts of
// their own.
func RunDisks(t *testing.T, newHost func(*testing.T) Host) {
	for _, test := range []struct {
		name string
		run  func(*Pod)
	}{
		{"Root", testDiskRoot},
		{"Layers", testLayers},
		{"UpperOfTheHost", testUpperOfTheHost},
		{"Volume", testDiskVolume},
		{"BlockDevice", testBlockDevice},
		{"Full", testDiskFull},
		{"InUse", testDiskInUse},
		{"Broken", testBrokenDisk},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(NewPod(t, newHost(t))) })
	}
}

// command runs a program that makes or reads file systems.
func (r *Pod) command(name string, args ...string) string {
	r.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path = "/sbin/" + name // which is not in everybody's PATH
	}
	defer r.host.Supervisor.Spare().Release() // its exit is this caller's to wait for
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		r.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return string(out)
}

// ext4 is an image with what is in dir, if that is not empty.
func (r *Pod) ext4(name, dir string) string {
	r.Helper()
	image := filepath.Join(r.dir, name)
	args := []string{"-q", "-O", "^has_journal"}
	if dir != "" {
		args = append(args, "-d", dir)
	}
	r.command("mkfs.ext4", append(args, image, "16M")...)
	return image
}

// erofs is an image with what is in dir.
func (r *Pod) erofs(name, dir string) string {
	r.Helper()
	if _, err := exec.LookPath("mkfs.erofs"); err != nil {
		r.Skip("no mkfs.erofs: apt-get install erofs-utils")
	}
	image := filepath.Join(r.dir, name)
	r.command("mkfs.erofs", image, dir)
	return image
}

// on ends with what an ext4 image has at a path, read without a mount.
func (r *Pod) on(image, path string) string {
	r.Helper()
	return r.command("debugfs", "-R", "cat "+path, image)
}

// free checks that nobody has an image any more.
func (r *Pod) free(image string) {
	r.Helper()
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	r.must(err)
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		r.Errorf("%s is still in use: %v", image, err)
	}
}

// output runs a container to its end and returns what it wrote.
func (b *Box) output() string {
	b.Helper()
	c := b.client(b.ID, false)
	b.stdio = c.Stdio
	b.Run()
	exit := b.Wait("")
	b.Delete("")
	c.finish()
	if exit.Status != 0 {
		b.Errorf("%s: exit %+v: %s%s", b.ID, exit, c.out.String(), c.err.String())
	}
	return c.out.String()
}

// A root file system is an ext4 image, as the snapshotters blockfile and
// devmapper have it. What the container writes is on it afterwards.
func testDiskRoot(r *Pod) {
	image := r.ext4("root", r.rootfs)
	b := r.Box("a", "echo kept > /file; cat /file; grep ' / ' /proc/mounts")
	b.spec.Root = &specs.Root{Path: "rootfs"}
	b.mounts = []sandbox.Mount{{Type: "ext4", Source: image, Options: []string{"loop"}}}
	if out := b.output(); !strings.HasPrefix(out, "kept\n") || !strings.Contains(out, " ext4 rw") {
		r.Errorf("output %q", out)
	}
	if got := r.on(image, "/file"); !strings.HasSuffix(got, "kept\n") {
		r.Errorf("the image has %q", got)
	}
	r.free(image)
	// Once more, read-only.
	b = r.Box("b", "cat /file; echo x > /other || echo refused")
	b.spec.Root = &specs.Root{Path: "rootfs"}
	b.mounts = []sandbox.Mount{{Type: "ext4", Source: image, Options: []string{"ro", "loop"}}}
	if out := b.output(); out != "kept\nrefused\n" {
		r.Errorf("output %q", out)
	}
	r.free(image)
}

// layered is a root file system as containerd's erofs snapshotter gives it: the
// system below, a layer above that hides one of its files and has another.
func (r *Pod) layered() (lower []sandbox.Mount, images []string) {
	r.Helper()
	r.must(os.WriteFile(filepath.Join(r.rootfs, "hidden"), nil, 0o644))
	top := filepath.Join(r.dir, "top")
	r.must(os.MkdirAll(top, 0o755))
	r.must(os.WriteFile(filepath.Join(top, "above"), []byte("above\n"), 0o644))
	r.must(unix.Mknod(filepath.Join(top, "hidden"), unix.S_IFCHR, 0)) // a whiteout
	images = []string{r.erofs("top.erofs", top), r.erofs("system.erofs", r.rootfs)}
	for _, image := range images {
		lower = append(lower, sandbox.Mount{Type: "erofs", Source: image, Options: []string{"ro", "loop"}})
	}
	return lower, images
}

// Layers that two containers have are there once, and go with the second.
func testLayers(r *Pod) {
	lower, images := r.layered()
	boxes := make([]*Box, 2)
	var writable []string
	for i := range boxes {
		image := r.ext4(fmt.Sprint("rw", i), "")
		writable = append(writable, image)
		b := r.Box(fmt.Sprint(i), "read x; echo $x > /above; cat /above; ls /hidden 2>/dev/null; exit 0")
		b.spec.Root = &specs.Root{Path: "rootfs"}
		b.mounts = append([]sandbox.Mount{{Type: "ext4", Source: image, Options: []string{"rw", "loop"}}}, lower...)
		b.mounts = append(b.mounts, sandbox.Mount{Type: "format/mkdir/overlay", Source: "overlay", Options: []string{
			"X-containerd.mkdir.path={{ mount 0 }}/upper:0755", "X-containerd.mkdir.path={{ mount 0 }}/work:0755",
			"workdir={{ mount 0 }}/work", "upperdir={{ mount 0 }}/upper", "lowerdir={{ overlay 1 2 }}",
		}})
		boxes[i] = b
	}
	clients := []*client{r.client("0", false), r.client("1", false)}
	for i, b := range boxes {
		b.stdio = clients[i].Stdio
		b.Run()
	}
	for i, b := range boxes {
		if _, err := fmt.Fprintln(clients[i].stdin, "mine", i); err != nil {
			r.Fatal(err)
		}
		b.Wait("")
		b.Delete("")
		clients[i].finish()
		if out := clients[i].out.String(); out != fmt.Sprintln("mine", i) {
			r.Errorf("output %q, %q", out, clients[i].err.String())
		}
		if got := r.on(writable[i], "/upper/above"); !strings.HasSuffix(got, fmt.Sprintln("mine", i)) {
			r.Errorf("the writable layer has %q", got)
		}
		r.free(writable[i])
	}
	for _, image := range images {
		r.free(image)
	}
}

// An overlay whose upper directory is the host's is written to in the guest's
// memory; one that has something in it already is refused.
func testUpperOfTheHost(r *Pod) {
	lower, images := r.layered()
	upper, work := filepath.Join(r.dir, "upper"), filepath.Join(r.dir, "work")
	r.must(os.Mkdir(upper, 0o755))
	r.must(os.Mkdir(work, 0o755))
	overlay := sandbox.Mount{Type: "format/mkdir/overlay", Source: "overlay", Options: []string{
		"workdir=" + work, "upperdir=" + upper, "lowerdir={{ overlay 0 1 }}",
	}}
	b := r.Box("a", "echo mine > /above; cat /above")
	b.spec.Root = &specs.Root{Path: "rootfs"}
	b.mounts = append(lower, overlay)
	if out := b.output(); out != "mine\n" {
		r.Errorf("output %q", out)
	}
	r.must(os.WriteFile(filepath.Join(upper, "there"), nil, 0o644))
	b = r.Box("b", "exit 0")
	b.spec.Root, b.mounts = &specs.Root{Path: "rootfs"}, append(lower, overlay)
	if err := b.TryCreate(); err == nil || !strings.Contains(err.Error(), "default_size") {
		r.Errorf("an upper directory with something in it: %v", err)
	}
	for _, image := range images {
		r.free(image)
	}
}

// A volume is an ext4 image, which two containers have, one of them read-only.
func testDiskVolume(r *Pod) {
	image := r.ext4("volume", "")
	mount := func(options ...string) []specs.Mount {
		return []specs.Mount{{Destination: "/tmp", Type: "ext4", Source: image, Options: append(options, "nosuid", "nodev")}}
	}
	writer := r.Box("a", "echo one > /tmp/file; grep ' /tmp ' /proc/mounts; read x")
	writer.spec.Mounts = append(writer.spec.Mounts[:3:3], mount()...)
	c := r.client("a", false)
	writer.stdio = c.Stdio
	writer.Run()
	r.line(c)
	reader := r.Box("b", "cat /tmp/file; echo x > /tmp/file || echo refused")
	reader.spec.Mounts = append(reader.spec.Mounts[:3:3], mount("ro")...)
	if out := reader.output(); out != "one\nrefused\n" {
		r.Errorf("the reader has %q", out)
	}
	c.stdin.Close()
	r.must(writer.C.CloseStdin(""))
	writer.Wait("")
	writer.Delete("")
	c.finish()
	if out := c.out.String(); !strings.Contains(out, " /tmp ext4 rw,nosuid,nodev") {
		r.Errorf("the writer has %q, %q", out, c.err.String())
	}
	if got := r.on(image, "/file"); !strings.HasSuffix(got, "one\n") {
		r.Errorf("the image has %q", got)
	}
	r.free(image)
}

// A container that cannot be mounted a disk fails, and leaves nothing.
func testBrokenDisk(r *Pod) {
	image := filepath.Join(r.dir, "broken")
	r.must(os.WriteFile(image, make([]byte, 1<<20), 0o600))
	b := r.Box("a", "exit 0")
	b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: "/tmp", Type: "ext4", Source: image})
	if err := b.TryCreate(); err == nil || !strings.Contains(err.Error(), "mount ext4 at") {
		r.Errorf("a disk without a file system: %v", err)
	}
	b.Expect()
	r.free(image)
	b.spec.Mounts = b.spec.Mounts[:len(b.spec.Mounts)-1]
	b.Run().Wait("")
	b.Delete("")
}

// exec runs a script in a running container and returns its status.
func (b *Box) exec(id, script string) int {
	b.Helper()
	b.Exec(id, script, process.Stdio{})
	exit := b.Wait(id)
	b.Delete(id)
	return exit.Status
}
