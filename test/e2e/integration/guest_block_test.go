// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"

	"berth/test/e2e/node"
)

// blockDevice is a disk of the host's: a file behind a loop device. Its path is the
// device's.
func blockDevice(t *testing.T, size int64) (device, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	device = strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("losetup: %v: %s", err, out)
		}
	})
	return device, file
}

// TestGuestBlockVolume gives a container of a pod a raw block volume, as kubelet does
// for a PVC of the mode Block: it is the container's under its own path, and what is
// written there the host has.
func TestGuestBlockVolume(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		device, file := blockDevice(t, 8<<20)
		other, _ := blockDevice(t, 4<<20)
		if err := os.WriteFile(device, []byte("from the host"), 0); err != nil {
			t.Fatal(err)
		}
		pod := runPod(ctx, t, shared, identifier(t), r)
		run := func(name string, devices ...node.Device) (string, error) {
			return pod.RunWith(ctx, name, node.ContainerOptions{Devices: devices}, idle...)
		}
		at := func(device, path, permissions string) node.Device {
			return node.Device{HostPath: device, ContainerPath: path, Permissions: permissions}
		}
		id := must(run("writer", at(device, "/dev/xvda", "rwm"), at(other, "/dev/xvdb", "r")))(t)
		const script = `test -b /dev/xvda && head -c 13 /dev/xvda; echo; wc -c < /dev/xvda
printf 'from the guest' | dd of=/dev/xvda bs=512 seek=2 conv=notrunc,fsync 2>/dev/null && echo written
(echo x > /dev/xvdb) 2>/dev/null || echo refused; head -c 0 /dev/xvdb && echo readable`
		got := inPod(t, id, script)
		for _, want := range []string{"from the host\n", "\n8388608\n", "written\n", "refused\n", "readable\n"} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in %s", want, got)
			}
		}
		onDisk(t, file, 1024, "from the guest")

		// It is the container's, not the pod's.
		beside := must(run("beside"))(t)
		if got := inPod(t, beside, "ls /dev"); strings.Contains(got, "xvd") || strings.Contains(got, "sd") {
			t.Errorf("another container has %s", got)
		}
		// The machine has let go of it with the container, and another may have it.
		must(shared.Crictl(ctx, "rm", "-f", id))(t)
		again := must(run("again", at(device, "/data", "rwm")))(t)
		if got := inPod(t, again, "dd if=/data bs=512 skip=2 count=1 2>/dev/null | head -c 14"); got != "from the guest\n" {
			t.Errorf("the container that came later reads %q", got)
		}
	})
}

// TestGuestRootOnDevice has a root file system that is on a block device, as the
// snapshotter devmapper has: the guest mounts it, with its options, and the host does not.
func TestGuestRootOnDevice(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		tree := t.TempDir()
		busybox := must(exec.LookPath("busybox"))(t)
		for _, dir := range []string{"bin", "proc", "sys", "dev", "tmp"} {
			if err := os.Mkdir(filepath.Join(tree, dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(
			os.WriteFile(filepath.Join(tree, "bin/sh"), must(os.ReadFile(busybox))(t), 0o755),
			os.Symlink("sh", filepath.Join(tree, "bin/cat")), os.Symlink("sh", filepath.Join(tree, "bin/grep")),
			os.WriteFile(filepath.Join(tree, "was"), []byte("there\n"), 0o644),
		); err != nil {
			t.Fatal(err)
		}
		device, file := blockDevice(t, 32<<20)
		if out, err := exec.Command("mkfs.ext4", "-q", "-d", tree, device).CombinedOutput(); err != nil {
			t.Fatalf("mkfs.ext4: %v: %s", err, out)
		}
		c := create(ctx, t, shared, r, request{
			args:   []string{"/bin/sh", "-c", "cat /was; echo new > /file; grep ' / ' /proc/mounts"},
			rootfs: []mount.Mount{{Type: "ext4", Source: device, Options: []string{"discard", "noatime"}}},
		})
		shim, _ := parentAndName(int(c.task.Pid()))
		notMounted(t, shared, fmt.Sprint(shim))
		if code := c.run(ctx, t); code != 0 {
			t.Errorf("status %d, %s", code, c.stderr)
		}
		for _, want := range []string{"there\n", " / ext4 ", "noatime", "discard"} {
			if !strings.Contains(c.stdout.String(), want) {
				t.Errorf("no %q in the output %q", want, c.stdout)
			}
		}
		if out, err := exec.Command("debugfs", "-R", "cat /file", file).Output(); string(out) != "new\n" || err != nil {
			t.Errorf("on the device there is %q, %v", out, err)
		}
	})
}

// onDisk wants bytes at a place of a disk: the guest has been told that they are there.
func onDisk(t *testing.T, file string, offset int64, want string) {
	t.Helper()
	f := must(os.Open(file))(t)
	defer func() { _ = f.Close() }()
	got := make([]byte, len(want))
	if _, err := f.ReadAt(got, offset); err != nil || !bytes.Equal(got, []byte(want)) {
		t.Errorf("the host has %q at %d, %v", got, offset, err)
	}
}
