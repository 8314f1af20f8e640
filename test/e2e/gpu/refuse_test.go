// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"berth/test/fakedriver"
)

// refusal is a request that cannot be met.
type refusal struct {
	want  request
	class func(error) bool
	says  []string
}

func (r refusal) check(t *testing.T) {
	t.Helper()
	ctx := testContext(t)
	before := strings.Join(append(must(filepath.Glob(home.run+"/claims/*"))(t), tasks(t)...), "\n")
	c, err := tryStart(ctx, t, r.want)
	if err == nil {
		t.Fatal("it runs")
	}
	t.Log(err)
	if !r.class(err) {
		t.Errorf("%v is of another class", err)
	}
	for _, text := range r.says {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%v does not say %q", err, text)
		}
	}
	if found := left(t, c.ID()); found != nil {
		t.Errorf("left behind: %q", found)
	}
	if after := strings.Join(append(must(filepath.Glob(home.run+"/claims/*"))(t), tasks(t)...), "\n"); after != before {
		t.Errorf("there were %q, there are %q", before, after)
	}
}

// tasks are the bundles of the node.
func tasks(t *testing.T) []string {
	t.Helper()
	return must(filepath.Glob(filepath.Join(shared.Dir(), "state/*.runtime.v2.task/*/*")))(t)
}

// TestRefusals wants the class of each error, what was asked, found, and to be
// done, and nothing left behind.
func TestRefusals(t *testing.T) {
	home.use(t)
	const unknown = "GPU-00000000-0000-0000-0000-000000000000"
	for name, r := range map[string]refusal{
		"unknown UUID":  {request{gpu: unknown}, errdefs.IsNotFound, []string{unknown, "annotation berth.dev/gpu", "present:", home.GPUs[0].UUID, "berth gpu ls"}},
		"unknown index": {request{gpu: "index:7"}, errdefs.IsNotFound, []string{"index:7", "present:", home.GPUs[0].UUID}},
		"unknown MIG":   {request{gpu: "MIG-00000000-0000-0000-0000-000000000000"}, errdefs.IsNotFound, []string{"MIG-00000000", "present:", "MIG-00000001"}},
		"too many":      {request{gpu: "3"}, errdefs.IsNotFound, []string{"3 whole GPUs are asked for, 2 can be had"}},
		"excluded":      {request{gpu: home.GPUs[2].UUID}, errdefs.IsFailedPrecondition, []string{"is excluded by the driver"}},
		"path":          {request{env: []string{"NVIDIA_VISIBLE_DEVICES=../../dev/sda"}}, errdefs.IsInvalidArgument, []string{"does not name a GPU", "environment NVIDIA_VISIBLE_DEVICES"}},
		"newline":       {request{gpu: "0\n1"}, errdefs.IsInvalidArgument, []string{"does not name a GPU"}},
		"megabyte":      {request{gpu: strings.Repeat("0,", 1<<17)}, errdefs.IsInvalidArgument, []string{"262144 bytes"}},
		"capability":    {request{gpu: "1", annotations: map[string]string{"berth.dev/gpu-capabilities": "magic"}}, errdefs.IsInvalidArgument, []string{"magic", "compute"}},
		"requirement": {request{gpu: "1", env: []string{"NVIDIA_REQUIRE_CUDA=cuda>=99.0"}}, errdefs.IsFailedPrecondition,
			[]string{"cuda>=99.0", "12.8"}},
	} {
		t.Run(name, r.check)
	}
	t.Run("mount fails", func(t *testing.T) {
		// runc refuses after the injection: what was claimed is given back.
		r := request{gpu: "1", args: []string{"no-such-program"}, id: identifier(t)}
		c, err := tryStart(testContext(t), t, r)
		if err == nil || !strings.Contains(err.Error(), "no-such-program") {
			t.Errorf("run of a missing program: %v", err)
		}
		if found := left(t, c.ID()); found != nil {
			t.Errorf("left behind: %q", found)
		}
	})
}

// TestMachineRefusals has hosts on which no GPU can be given.
func TestMachineRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  fakedriver.Config
		says []string
	}{
		"no uvm":            {fakedriver.Config{UnloadedUVM: true}, []string{"nvidia_uvm", "modprobe nvidia_uvm"}},
		"other libraries":   {fakedriver.Config{LibVersion: "550.54.14"}, []string{"570.124.06", "550.54.14"}},
		"no fabric manager": {fakedriver.Config{GPUs: 8, NVSwitch: true}, []string{"NVSwitch", "systemctl start nvidia-fabricmanager"}},
	} {
		t.Run(name, func(t *testing.T) {
			another(t, c.cfg).use(t)
			refusal{request{gpu: "1"}, errdefs.IsFailedPrecondition, c.says}.check(t)
		})
	}
	t.Run("no helper", func(t *testing.T) {
		home.use(t, `helper = "/no/such/berth-gpu"`)
		refusal{request{gpu: migUUID(fakedriver.Instance{GI: 1})}, errdefs.IsFailedPrecondition, []string{"/no/such/berth-gpu", "install berth-gpu beside the shim"}}.check(t)
	})
	t.Run("broken configuration", func(t *testing.T) {
		home.use(t, "nonsense = 1")
		refusal{request{gpu: "1"}, errdefs.IsInvalidArgument, []string{"gpu.toml", "line 7", "nonsense"}}.check(t)
		c := start(testContext(t), t, request{id: identifier(t) + "-none"})
		if out, code := c.exec(testContext(t), t, "sh", "-c", "exit 3"); code != 3 {
			t.Errorf("a container without a GPU: status %d, %s", code, out)
		}
	})
}

// TestUnknownUUID has a driver that nobody has opened yet: NVML knows the UUID.
func TestUnknownUUID(t *testing.T) {
	m := another(t, fakedriver.Config{GPUs: 2, UUIDUnknown: []int{0, 1}})
	m.use(t)
	c := start(testContext(t), t, request{gpu: m.GPUs[1].UUID})
	wantDevices(t, look(t, c), append(m.control(), gpuNode(m.GPUs[1]))...)
}

// TestReload loads the driver again between two containers: the kernel gives
// nvidia-uvm another number, which the second one has, and which a node of
// before is refused for.
func TestReload(t *testing.T) {
	m := another(t, fakedriver.Config{})
	m.use(t)
	wantDevices(t, look(t, start(testContext(t), t, request{gpu: "1", id: "reload-before"})), append(m.control(), gpuNode(m.GPUs[0]))...)
	old := m.Majors.UVM
	m.Majors.UVM = 499
	devices := filepath.Join(m.Proc, "devices")
	text := strings.ReplaceAll(string(must(os.ReadFile(devices))(t)), itoa(uint32(old))+" nvidia-uvm", itoa(uint32(m.Majors.UVM))+" nvidia-uvm")
	rewrite(t, devices, text)
	refusal{request{gpu: "1", id: "reload-stale"}, errdefs.IsFailedPrecondition, []string{"the node is stale", "511:0", "499:0"}}.check(t)
	remake(t, filepath.Join(m.Dev, "nvidia-uvm"), m.Majors.UVM, 0)
	remake(t, filepath.Join(m.Dev, "nvidia-uvm-tools"), m.Majors.UVM, 1)
	wantDevices(t, look(t, start(testContext(t), t, request{gpu: "1", id: "reload-after"})), append(m.control(), gpuNode(m.GPUs[0]))...)
}
