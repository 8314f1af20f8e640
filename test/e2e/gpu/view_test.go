// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"berth/test/fakedriver"
)

// view is what nvidia-smi sees in a container.
type view struct {
	text string
	code uint32
}

// look runs nvidia-smi in a container.
func look(t *testing.T, c *container) view {
	t.Helper()
	text, code := c.exec(testContext(t), t, "nvidia-smi")
	return view{text, code}
}

// devices are the numbers of the nodes that it can open.
func (v view) devices() []string {
	var found []string
	for line := range strings.Lines(v.text) {
		if fields := strings.Fields(line); len(fields) == 5 && fields[3] == "ENXIO" && strings.HasPrefix(fields[1], "/dev/") {
			found = append(found, strings.TrimPrefix(fields[1], "/dev/")+" "+fields[2])
		}
	}
	slices.Sort(found)
	return found
}

// gpuNode is a GPU's node as devices has it.
func gpuNode(g fakedriver.GPU) string { return fmt.Sprintf("nvidia%d 195:%d", g.Minor, g.Minor) }

// control are the nodes that come with any GPU for compute.
func (m *machine) control() []string {
	return []string{"nvidiactl 195:255", fmt.Sprintf("nvidia-uvm %d:0", m.Majors.UVM), fmt.Sprintf("nvidia-uvm-tools %d:1", m.Majors.UVM)}
}

// capNodes are those of a MIG device.
func (m *machine) capNodes(g fakedriver.GPU, in fakedriver.Instance) []string {
	var nodes []string
	for _, minor := range []int{g.AccessMinor(fakedriver.Instance{GI: in.GI, CI: fakedriver.NoCI}), g.AccessMinor(in)} {
		nodes = append(nodes, fmt.Sprintf("nvidia-caps/nvidia-cap%d %d:%d", minor, m.Majors.Caps, minor))
	}
	return nodes
}

// wantDevices wants these nodes, all of them and no other, to be there and to
// be allowed.
func wantDevices(t *testing.T, v view, want ...string) {
	t.Helper()
	want = slices.Clone(want)
	slices.Sort(want)
	if got := v.devices(); !slices.Equal(got, want) {
		t.Errorf("the container can use %q, want %q\n%s", got, want, v.text)
	}
	if strings.Contains(v.text, "EPERM") {
		t.Errorf("there are nodes that are denied:\n%s", v.text)
	}
}

// wantDenied wants that nodes of these GPUs, made by the container itself, do
// not open.
func wantDenied(t *testing.T, c *container, gpus ...fakedriver.GPU) {
	t.Helper()
	for _, g := range gpus {
		number := fmt.Sprintf("195:%d", g.Minor)
		if out, code := c.exec(testContext(t), t, "nvidia-smi", "--probe", number); code == 0 || !strings.Contains(out, "EPERM denied") {
			t.Errorf("GPU %d, %s, which was not given: status %d, %s", g.Index, number, code, out)
		}
	}
}

// wantAllowed wants that they do.
func wantAllowed(t *testing.T, c *container, gpus ...fakedriver.GPU) {
	t.Helper()
	for _, g := range gpus {
		number := fmt.Sprintf("195:%d", g.Minor)
		if out, code := c.exec(testContext(t), t, "nvidia-smi", "--probe", number); code != 0 {
			t.Errorf("GPU %d, %s, which was given: status %d, %s", g.Index, number, code, out)
		}
	}
}

// wantCUDA wants libcuda to be found and to work.
func wantCUDA(t *testing.T, c *container) {
	t.Helper()
	if out, code := c.exec(testContext(t), t, "/bin/cuda"); code != 0 || !strings.HasPrefix(out, "cuInit 0 ") {
		t.Errorf("libcuda: status %d, %s", code, out)
	}
}
