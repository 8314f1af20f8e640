// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"testing"

	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"berth/test/fakedriver"
)

// TestSources asks in each way for the second GPU, and wants that GPU alone.
func TestSources(t *testing.T) {
	home.use(t)
	second := home.GPUs[1]
	for name, want := range map[string]request{
		"annotation":     {gpu: "index:1"},
		"annotated UUID": {gpu: second.UUID},
		"environment":    {env: []string{"NVIDIA_VISIBLE_DEVICES=1"}},
		"CDI annotation": {annotations: map[string]string{"cdi.k8s.io/test": "nvidia.com/gpu=1"}},
		"mount": {spec: []oci.SpecOpts{oci.WithMounts([]specs.Mount{
			{Type: "bind", Source: "/dev/null", Destination: "/var/run/nvidia-container-devices/" + second.UUID, Options: []string{"bind", "ro"}},
		})}},
		"CDI mount": {spec: []oci.SpecOpts{oci.WithMounts([]specs.Mount{
			{Type: "bind", Source: "/dev/null", Destination: "/var/run/nvidia-container-devices/cdi/nvidia.com/gpu/1", Options: []string{"bind", "ro"}},
		})}},
		"annotation before environment": {gpu: "index:1", env: []string{"NVIDIA_VISIBLE_DEVICES=all"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(testContext(t), t, want)
			wantDevices(t, look(t, c), append(home.control(), gpuNode(second))...)
			wantAllowed(t, c, second)
			wantDenied(t, c, home.GPUs[0], home.GPUs[2], home.GPUs[3])
			wantCUDA(t, c)
			if out, _ := c.exec(testContext(t), t, "ls", "/var/run"); want.spec != nil && out != "ls: /var/run: No such file or directory\n" {
				t.Errorf("the mount that asked is there: %s", out)
			}
		})
	}
}

// TestNothing asks for no GPU, and wants no trace of one.
func TestNothing(t *testing.T) {
	home.use(t)
	for name, want := range map[string]request{
		"nothing":    {},
		"annotation": {gpu: "none", env: []string{"NVIDIA_VISIBLE_DEVICES=all"}},
		"void":       {env: []string{"NVIDIA_VISIBLE_DEVICES=void"}},
		"pod's environment": {env: []string{"NVIDIA_VISIBLE_DEVICES=all"}, annotations: map[string]string{
			"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "none",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := testContext(t)
			c := start(ctx, t, want)
			if out, code := c.exec(ctx, t, "sh", "-c", "ls /dev/nvidia* /usr/local/nvidia /bin/nvidia-smi /usr/bin/nvidia-smi 2>/dev/null"); out != "" || code == 0 {
				t.Errorf("there are %s", out)
			}
			if exists(home.claim(c.ID())) {
				t.Error("it has a claim")
			}
		})
	}
}

// TestSelection asks for GPUs by each kind of name.
func TestSelection(t *testing.T) {
	home.use(t)
	g, one, two := home.GPUs, fakedriver.Instance{GI: 1}, fakedriver.Instance{GI: 2}
	mig := func(in ...fakedriver.Instance) (nodes []string) {
		nodes = append(nodes, gpuNode(g[3]))
		for _, i := range in {
			nodes = append(nodes, home.capNodes(g[3], i)...)
		}
		return nodes
	}
	for name, c := range map[string]struct {
		gpu    string
		nodes  []string
		denied []fakedriver.GPU
	}{
		"all":       {"all", append(mig(one, two), gpuNode(g[0]), gpuNode(g[1])), g[2:3]},
		"index":     {"index:0", []string{gpuNode(g[0])}, g[1:]},
		"indexes":   {"index:0,1", []string{gpuNode(g[0]), gpuNode(g[1])}, g[2:]},
		"count":     {"2", []string{gpuNode(g[0]), gpuNode(g[1])}, g[2:]},
		"UUID":      {g[1].UUID, []string{gpuNode(g[1])}, g[2:]},
		"MIG UUID":  {migUUID(two), mig(two), g[:3]},
		"MIG index": {"2:0", mig(one), g[:3]},
		"all MIG":   {"mig:all", mig(one, two), g[:3]},
	} {
		t.Run(name, func(t *testing.T) {
			ctr := start(testContext(t), t, request{gpu: c.gpu})
			wantDevices(t, look(t, ctr), append(home.control(), c.nodes...)...)
			wantDenied(t, ctr, c.denied...)
		})
	}
}
