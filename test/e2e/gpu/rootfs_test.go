// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"strings"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestCUDA has the container's own loader find libcuda, where there is a cache
// already, where there is none, and where none is read. The program is the
// container's only one: nothing else can have helped.
func TestCUDA(t *testing.T) {
	home.use(t)
	for name, image := range map[string]string{"glibc": glibc, "distroless": distroless, "musl": musl} {
		t.Run(name, func(t *testing.T) {
			if image == musl && !exists(muslLoader) {
				t.Skip("needs Debian's package musl")
			}
			out, code := run1(testContext(t), t, request{image: image, gpu: "1", args: []string{"/bin/cuda"}})
			if code != 0 || !strings.HasPrefix(out, "cuInit 0 /usr/local/nvidia/lib64/libcuda.so.1\n") {
				t.Errorf("status %d, %s", code, out)
			}
		})
	}
}

// TestLoaderKeepsTheImages wants what the image's cache had to be in the merged
// one, as the container's own ldconfig reads it.
func TestLoaderKeepsTheImages(t *testing.T) {
	home.use(t)
	ctx := testContext(t)
	c := start(ctx, t, request{gpu: "1"})
	before, after := ldconfig(t, tree(glibc)), ldconfig(t, "/proc/"+itoa(c.task.Pid())+"/root")
	for line := range strings.Lines(before) {
		if strings.Contains(line, "=>") && !strings.Contains(after, line) {
			t.Errorf("the cache has lost %s", line)
		}
	}
	if !strings.Contains(after, "libnvidia-ml.so.1 (libc6,x86-64) => /usr/local/nvidia/lib64/libnvidia-ml.so.1\n") {
		t.Errorf("the cache has no libnvidia-ml:\n%s", after)
	}
}

// TestNoShell runs nvidia-smi where nothing else is.
func TestNoShell(t *testing.T) {
	home.use(t)
	out, code := run1(testContext(t), t, request{image: distroless, gpu: "1", args: []string{"nvidia-smi"}})
	if code != 0 {
		t.Errorf("status %d, %s", code, out)
	}
	wantDevices(t, view{out, code}, append(home.control(), gpuNode(home.GPUs[0]))...)
}

// TestReadOnly gives GPUs to containers that cannot write their root file
// system, and in which nobody can.
func TestReadOnly(t *testing.T) {
	home.use(t)
	for name, want := range map[string]func(id string, img containerd.Image) request{
		"read-only root": func(string, containerd.Image) request {
			return request{spec: []oci.SpecOpts{oci.WithRootFSReadonly()}}
		},
		"view": func(id string, img containerd.Image) request {
			return request{root: containerd.WithNewSnapshotView(id, img), spec: []oci.SpecOpts{oci.WithRootFSReadonly()}}
		},
		"view of distroless": func(id string, img containerd.Image) request {
			return request{image: distroless, root: containerd.WithNewSnapshotView(id, img), args: []string{"/bin/cuda"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := testContext(t)
			image := glibc
			if name == "view of distroless" {
				image = distroless
			}
			r := want(identifier(t), must(shared.Client().GetImage(ctx, image))(t))
			r.gpu = "1"
			if r.args != nil {
				if out, code := run1(ctx, t, r); code != 0 {
					t.Errorf("status %d, %s", code, out)
				}
				return
			}
			c := start(ctx, t, r)
			wantDevices(t, look(t, c), append(home.control(), gpuNode(home.GPUs[0]))...)
			wantCUDA(t, c)
			if out, code := c.exec(ctx, t, "touch", "/file"); code == 0 || !strings.Contains(out, "Read-only file system") {
				t.Errorf("the root can be written: status %d, %s", code, out)
			}
		})
	}
}

// TestRootFSPath gives a GPU to a container whose root is a directory that is
// not containerd's, as `ctr run --rootfs` makes it.
func TestRootFSPath(t *testing.T) {
	home.use(t)
	c := start(testContext(t), t, request{gpu: "1", rootfs: copied(t, glibc)})
	wantDevices(t, look(t, c), append(home.control(), gpuNode(home.GPUs[0]))...)
	wantCUDA(t, c)
}

// TestUserNamespace gives a GPU to a container whose root is nobody on the
// host, with files that belong to that nobody, and with files that a mount maps.
func TestUserNamespace(t *testing.T) {
	home.use(t)
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	for name, root := range map[string]func(id string, img containerd.Image) containerd.NewContainerOpts{
		"remapped files": func(id string, img containerd.Image) containerd.NewContainerOpts {
			return containerd.WithUserNSRemappedSnapshot(id, img, ids, ids)
		},
		"mapped mount": func(id string, img containerd.Image) containerd.NewContainerOpts {
			return containerd.WithNewSnapshot(id, img, containerd.WithUserNSRemapperLabels(ids, ids))
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := testContext(t)
			if name == "mapped mount" && !mapsMounts(ctx, t) {
				t.Skip("needs a kernel and a snapshotter with idmapped mounts")
			}
			img := must(shared.Client().GetImage(ctx, glibc))(t)
			c := start(ctx, t, request{gpu: "1", root: root(identifier(t), img), spec: []oci.SpecOpts{oci.WithUserNamespace(ids, ids)}})
			if out, _ := c.exec(ctx, t, "cat", "/proc/self/uid_map"); len(strings.Fields(out)) != 3 || strings.Fields(out)[1] != "100000" {
				t.Fatalf("uid_map %s", out)
			}
			wantDevices(t, look(t, c), append(home.control(), gpuNode(home.GPUs[0]))...)
			wantCUDA(t, c)
			if out, code := c.exec(ctx, t, "sh", "-c", "echo x > /etc/ld.so.conf.d/new && : >> /etc/ld.so.cache"); code != 0 {
				t.Errorf("what was made for it is not its root's: %s", out)
			}
		})
	}
}
