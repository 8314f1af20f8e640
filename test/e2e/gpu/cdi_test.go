// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"berth/test/e2e/node"
)

// cdiEdits are what containerd makes of a CDI spec for one GPU: nodes, a
// library, and hooks that are to finish the work by a program of the host.
func cdiEdits(program string) oci.SpecOpts {
	const lib = "/usr/lib/x86_64-linux-gnu"
	return func(_ context.Context, _ oci.Client, _ *containers.Container, s *specs.Spec) error {
		for path, number := range map[string][2]int64{"/dev/nvidiactl": {195, 255}, "/dev/nvidia1": {195, 1}, "/dev/nvidia-uvm": {511, 0}} {
			mode := os.FileMode(0o666)
			s.Linux.Devices = append(s.Linux.Devices, specs.LinuxDevice{Path: path, Type: "c", Major: number[0], Minor: number[1], FileMode: &mode})
			s.Linux.Resources.Devices = append(s.Linux.Resources.Devices,
				specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &number[0], Minor: &number[1], Access: "rwm"})
		}
		for dest, source := range map[string]string{
			lib + "/libcuda.so." + home.Version: home.Root + home.LibDir + "/libcuda.so." + home.Version,
			"/usr/bin/nvidia-smi":               home.Root + "/usr/bin/nvidia-smi",
		} {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: dest, Source: source, Type: "bind", Options: []string{"ro", "nosuid", "nodev", "rbind", "rprivate"}})
		}
		s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{
			{Path: program, Args: []string{"nvidia-cdi-hook", "create-symlinks", "--link", "libcuda.so.1::" + lib + "/libcuda.so"}},
			{Path: program, Args: []string{"nvidia-cdi-hook", "update-ldcache", "--folder", lib}},
		}}
		return nil
	}
}

// TestCDI gives a spec that CDI has edited: the edits stay, the hooks are
// carried out without their program. Under the other shim that does run.
func TestCDI(t *testing.T) {
	home.use(t)
	dir := t.TempDir()
	canary, program := filepath.Join(dir, "ran"), filepath.Join(dir, "nvidia-cdi-hook")
	if err := compile("-DCANARY=\""+canary+"\"", "-DPROGRAM", "-o", program, "testdata/evil.c"); err != nil {
		t.Fatal(err)
	}
	run := func(id, runtime string, root string) *container {
		return start(testContext(t), t, request{id: id, runtime: runtime, rootfs: root, spec: []oci.SpecOpts{cdiEdits(program)}})
	}
	root := copied(t, distroless)
	if err := shell(root); err != nil {
		t.Fatal(err)
	}
	c := run("cdi", node.GPURuntime, root)
	if exists(canary) {
		t.Error("the program was run")
	}
	wantDevices(t, look(t, c), "nvidiactl 195:255", "nvidia1 195:1", "nvidia-uvm 511:0")
	wantCUDA(t, c)
	if target, err := os.Readlink(root + "/usr/lib/x86_64-linux-gnu/libcuda.so"); target != "libcuda.so.1" {
		t.Errorf("libcuda.so leads to %q: %v", target, err)
	}
	bundle := filepath.Join(shared.Dir(), "state/io.containerd.runtime.v2.task", shared.ID(), c.ID(), "config.json")
	if config := string(must(os.ReadFile(bundle))(t)); strings.Contains(config, "nvidia-cdi-hook") {
		t.Error("the hooks are still in the spec")
	}
	if !exists(home.claim(c.ID())) {
		t.Error("it has no claim")
	}
	run("cdi-control", node.RuncRuntime, root)
	if !exists(canary) {
		t.Error("the program was not run by runc either: this test shows nothing")
	}
}

// TestPodCDI has containerd itself resolve a CDI device of a pod's container, as
// it does for device plugins and DRA.
func TestPodCDI(t *testing.T) {
	home.use(t)
	ctx := testContext(t)
	dir := t.TempDir()
	canary, program := filepath.Join(dir, "ran"), filepath.Join(dir, "nvidia-cdi-hook")
	if err := compile("-DCANARY=\""+canary+"\"", "-DPROGRAM", "-o", program, "testdata/evil.c"); err != nil {
		t.Fatal(err)
	}
	edited := &specs.Spec{Linux: &specs.Linux{Resources: &specs.LinuxResources{}}}
	if err := cdiEdits(program)(ctx, nil, nil, edited); err != nil {
		t.Fatal(err)
	}
	cdi := map[string]any{"cdiVersion": "0.6.0", "kind": "nvidia.com/gpu", "devices": []any{map[string]any{"name": "1", "containerEdits": cdiSpec(edited)}}}
	if err := os.MkdirAll(shared.CDIDir(), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(shared.CDIDir(), "nvidia.json")
	if err := os.WriteFile(file, must(json.Marshal(cdi))(t), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(file) })
	pod := must(shared.RunAnnotatedPod(ctx, "gpu-cdi", node.GPUHandler, nil))(t)
	t.Cleanup(func() {
		if err := pod.Remove(testContext(t)); err != nil {
			t.Error(err)
		}
	})
	id := must(pod.RunCDI(ctx, "trainer", []string{"nvidia.com/gpu=1"}, "sleep", "1000"))(t)
	out, err := shared.Crictl(ctx, "exec", "--sync", id, "/usr/bin/nvidia-smi")
	if err != nil {
		t.Error(err)
	}
	wantDevices(t, view{text: out}, "nvidiactl 195:255", "nvidia1 195:1", "nvidia-uvm 511:0")
	if exists(canary) {
		t.Error("the program was run")
	}
	if claims := must(filepath.Glob(home.run + "/claims/*"))(t); len(claims) != 1 || filepath.Base(claims[0]) != "k8s.io:"+id+".json" {
		t.Errorf("claims %q, want the trainer's", claims)
	}
}

// cdiSpec is what a CDI spec has of these edits.
func cdiSpec(s *specs.Spec) map[string]any {
	var nodes, mounts, hooks []any
	for _, d := range s.Linux.Devices {
		nodes = append(nodes, map[string]any{"path": d.Path, "type": d.Type, "major": d.Major, "minor": d.Minor, "permissions": "rwm"})
	}
	for _, m := range s.Mounts {
		mounts = append(mounts, map[string]any{"hostPath": m.Source, "containerPath": m.Destination, "options": m.Options})
	}
	for _, h := range s.Hooks.CreateContainer {
		hooks = append(hooks, map[string]any{"hookName": "createContainer", "path": h.Path, "args": h.Args})
	}
	return map[string]any{"deviceNodes": nodes, "mounts": mounts, "hooks": hooks}
}
