// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"berth/test/e2e/node"
)

// TestGuestSize has pods say how large their machines are to be: by what kubelet
// tells of the limits of their containers together, and by annotation. What they say
// otherwise has no power.
func TestGuestSize(t *testing.T) {
	kubelet := map[string]any{"memory_limit_in_bytes": 300 << 20, "cpu_period": 100_000, "cpu_quota": 150_000}
	for name, c := range map[string]struct {
		pod          node.PodOptions
		memory, cpus int // of the machine; MiB
	}{
		"default": {node.PodOptions{}, 256, 1},
		"limits":  {node.PodOptions{Resources: kubelet}, 300 + 96, 2},
		"annotations": {node.PodOptions{Resources: kubelet, Annotations: map[string]string{
			"berth.dev/vm-memory": "320", "berth.dev/vm-cpus": "3",
		}}, 320, 3},
		"no power": {node.PodOptions{Annotations: powerless}, 256, 1},
	} {
		t.Run(name, func(t *testing.T) {
			eachGuest(t, func(t *testing.T, r runtimeCase) {
				ctx := testContext(t, shared)
				pod := must(shared.RunPodWith(ctx, identifier(t), r.handler, c.pod))(t)
				t.Cleanup(func() {
					if err := pod.Remove(testContext(t, shared)); err != nil {
						t.Error(err)
					}
				})
				id := must(pod.Run(ctx, "c", idle...))(t)
				out := must(shared.Crictl(ctx, "exec", "--sync", id, "sh", "-c", "nproc; grep MemTotal /proc/meminfo; cat /proc/cmdline"))(t)
				var cpus, kib int
				if _, err := fmt.Sscanf(out, "%d\nMemTotal: %d kB\n", &cpus, &kib); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				// The guest's kernel keeps some 40 MiB for itself.
				if got := kib >> 10; cpus != c.cpus || got > c.memory || got < c.memory-48 {
					t.Errorf("the guest has %d MiB and %d CPUs, want a machine of %d and %d", got, cpus, c.memory, c.cpus)
				}
				spec := must(shared.Ctr(ctx, "-n", "k8s.io", "container", "info", "--spec", pod.ID))(t)
				for name := range c.pod.Annotations {
					if !strings.Contains(spec, name) {
						t.Errorf("the shim does not get to see the annotation %s", name)
					}
				}
				vmm := must(os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", inspect(ctx, t, shared, id).Info.Pid)))(t)
				if strings.Contains(out, "annotated") || strings.Contains(string(vmm), "annotated") {
					t.Errorf("an annotation has come through: the guest's kernel was told %q, QEMU %q", out, vmm)
				}
			})
		})
	}
}

// powerless are annotations of other runtimes, and of this one if it had them, that
// reach the shim: each asks for something that only who configures the host may say.
var powerless = map[string]string{
	"berth.dev/kernel":                                         "/annotated",
	"berth.dev/vm-kernel":                                      "/annotated",
	"berth.dev/vm-image":                                       "/annotated",
	"berth.dev/vm-qemu":                                        "/annotated",
	"berth.dev/vm-max-memory":                                  "100000",
	"berth.dev/VM-memory":                                      "512",
	"io.katacontainers.config.hypervisor.kernel":               "/annotated",
	"io.katacontainers.config.hypervisor.path":                 "/annotated",
	"io.katacontainers.config.hypervisor.virtio_fs_daemon":     "/annotated",
	"io.katacontainers.config.hypervisor.kernel_params":        "annotated=1",
	"io.katacontainers.config.hypervisor.default_memory":       "512",
	"io.katacontainers.config.hypervisor.default_vcpus":        "4",
	"io.katacontainers.config.hypervisor.virtio_fs_extra_args": `["--annotated"]`,
}

// TestGuestSizeRefused has pods ask for machines beyond the bounds.
func TestGuestSizeRefused(t *testing.T) {
	for name, c := range map[string]struct{ annotation, value, says string }{
		"too much memory":   {"berth.dev/vm-memory", "100000", "it must be a number from 96 to 65536"},
		"too little memory": {"berth.dev/vm-memory", "64", "it must be a number from 96 to 65536"},
		"too many CPUs":     {"berth.dev/vm-cpus", "33", "it must be a number from 1 to 32"},
		"no CPU":            {"berth.dev/vm-cpus", "0", "it must be a number from 1 to 32"},
		"no number":         {"berth.dev/vm-memory", "1Gi", "it must be a number"},
	} {
		t.Run(name, func(t *testing.T) {
			eachGuest(t, func(t *testing.T, r runtimeCase) {
				ctx := testContext(t, shared)
				pod, err := shared.RunAnnotatedPod(ctx, identifier(t), r.handler, map[string]string{c.annotation: c.value})
				if err == nil {
					t.Error("it runs")
					if err := pod.Remove(ctx); err != nil {
						t.Error(err)
					}
					return
				}
				for _, says := range []string{c.annotation, fmt.Sprintf("%q", c.value), c.says} {
					if !strings.Contains(strings.ReplaceAll(err.Error(), `\"`, `"`), says) {
						t.Errorf("%v: no word of %q", err, says)
					}
				}
			})
		})
	}
}
