// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/pkg/oci"
	"golang.org/x/sys/unix"

	"berth/test/e2e/node"
)

// kubeletDir is where kubelet would have a pod: what is mounted there later comes to a
// shim that runs, as on a host whose mounts are shared.
func kubeletDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	mountFor(t, dir, dir, "", unix.MS_BIND, "")
	if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	return dir
}

// memoryVolume mounts what kubelet does for an emptyDir of the medium Memory, with a
// group of its own (fsGroup), and returns its path.
func memoryVolume(t *testing.T, dir, name, size string) string {
	t.Helper()
	volume := filepath.Join(dir, "volumes", "kubernetes.io~empty-dir", name)
	if err := os.MkdirAll(volume, 0o755); err != nil {
		t.Fatal(err)
	}
	mountFor(t, "tmpfs", volume, "tmpfs", 0, "mode=2777,gid=2000,size="+size)
	return volume
}

// mountFor mounts something until the test ends.
func mountFor(t *testing.T, source, target, kind string, flags uintptr, data string) {
	t.Helper()
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// subPath binds a directory of a volume where kubelet does, and returns its path.
func subPath(t *testing.T, dir, volume, name string) string {
	t.Helper()
	source, target := filepath.Join(volume, name), filepath.Join(dir, "volume-subpaths", filepath.Base(volume), "c", strings.ReplaceAll(name, "/", "-"))
	for _, dir := range []string{source, target} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	mountFor(t, source, target, "", unix.MS_BIND, "")
	return target
}

// TestGuestShm wants /dev/shm to have the size that was asked for, by whoever asks.
func TestGuestShm(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		const size = "df -k /dev/shm | tail -1"
		alone := create(ctx, t, shared, r, request{args: []string{"sh", "-c", size}, spec: []oci.SpecOpts{oci.WithDevShmSize(8 << 10)}})
		if code := alone.run(ctx, t); code != 0 || !strings.Contains(alone.stdout.String(), " 8192 ") {
			t.Errorf("8 MiB in the spec: status %d, %s%s", code, alone.stdout, alone.stderr)
		}

		dir := kubeletDir(t)
		pod := runPod(ctx, t, shared, identifier(t), r)
		first := must(pod.Run(ctx, "first", idle...))(t)
		second := must(pod.Run(ctx, "second", idle...))(t)
		own := must(pod.RunWith(ctx, "own", node.ContainerOptions{
			Mounts: []node.Mount{{HostPath: memoryVolume(t, dir, "dshm", "16m"), ContainerPath: "/dev/shm"}},
		}, idle...))(t)
		if got := inPod(t, first, size+"; echo here > /dev/shm/file"); !strings.Contains(got, " 65536 ") {
			t.Errorf("the CRI's: %s", got)
		}
		if got := inPod(t, second, "cat /dev/shm/file"); got != "here\n" {
			t.Errorf("the other container of the pod has %q in it", got)
		}
		if got := inPod(t, own, size+"; ls /dev/shm"); !strings.Contains(got, " 16384 ") || strings.Contains(got, "file") {
			t.Errorf("an emptyDir of 16 MiB in its place: %s", got)
		}
	})
}

// inPod runs a script in a container of a pod on the shared node.
func inPod(t *testing.T, id, script string) string {
	t.Helper()
	out := must(shared.Crictl(testContext(t, shared), "exec", "--sync", id, "sh", "-c", script))(t)
	return strings.TrimRight(out, "\n") + "\n" // crictl adds some
}

// TestGuestMemoryVolume has the containers of a pod share an emptyDir in memory: it is
// the guest's, with the size, the mode and the group that kubelet gave the host's, and
// outlives its containers.
func TestGuestMemoryVolume(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		dir := kubeletDir(t)
		pod := runPod(ctx, t, shared, identifier(t), r)
		cache, other := memoryVolume(t, dir, "cache", "4m"), memoryVolume(t, dir, "other", "8m")
		at := func(source, to string, readOnly bool) node.Mount {
			return node.Mount{HostPath: source, ContainerPath: to, ReadOnly: readOnly}
		}
		writer := must(pod.RunWith(ctx, "writer", node.ContainerOptions{Mounts: []node.Mount{at(cache, "/cache", false), at(other, "/other", false)}}, idle...))(t)
		const script = `grep ' /cache ' /proc/mounts; df -k /cache | tail -1; stat -c 'mode %a %u:%g' /cache
echo kept > /cache/file; mkdir /cache/sub; echo below > /cache/sub/file
head -c 5000000 /dev/zero > /cache/large || echo full; rm /cache/large; ls /other`
		got := inPod(t, writer, script)
		for _, want := range []string{"tmpfs /cache tmpfs", " 4096 ", "mode 2777 0:2000\n", "full\n"} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in %s", want, got)
			}
		}

		reader := must(pod.RunWith(ctx, "reader", node.ContainerOptions{Mounts: []node.Mount{
			at(cache, "/ro", true), at(subPath(t, dir, cache, "sub"), "/sub", false), at(subPath(t, dir, cache, "new/deep"), "/new", false),
		}}, idle...))(t)
		got = inPod(t, reader, "cat /ro/file /sub/file; (echo x > /ro/x) 2>/dev/null || echo read-only; echo more > /sub/more; echo deep > /new/file; stat -c %a:%g /ro/new")
		if got != "kept\nbelow\nread-only\n2750:2000\n" {
			t.Errorf("the other container: %q", got)
		}
		must(shared.Crictl(ctx, "rm", "-f", writer))(t)
		again := must(pod.RunWith(ctx, "again", node.ContainerOptions{Mounts: []node.Mount{at(cache, "/cache", false)}}, idle...))(t)
		if got := inPod(t, again, "cat /cache/file /cache/sub/more /cache/new/deep/file"); got != "kept\nmore\ndeep\n" {
			t.Errorf("the container that came later: %q", got)
		}

		// What a container of the pod plants leads the next one nowhere.
		inPod(t, again, "ln -s /proc /cache/link; ln -s ../../.. /cache/up")
		for _, name := range []string{"link", "up"} {
			_, err := pod.RunWith(ctx, name, node.ContainerOptions{Mounts: []node.Mount{at(subPath(t, dir, cache, name), "/planted", false)}}, idle...)
			if err == nil || !strings.Contains(err.Error(), "leads out of it") {
				t.Errorf("by way of the link %s: %v", name, err)
			}
		}
		for _, volume := range []string{cache, other} {
			var found []string
			for _, e := range must(os.ReadDir(volume))(t) {
				found = append(found, e.Name())
			}
			if fmt.Sprint(found) != "[]" && fmt.Sprint(found) != "[link new sub up]" { // for subPaths
				t.Errorf("on the host %s has %v", filepath.Base(volume), found)
			}
		}
	})
}
