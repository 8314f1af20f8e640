// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"slices"
	"strings"
	"testing"
)

// nodesOfMIG are the capabilities' nodes that a container has.
func nodesOfMIG(t *testing.T, c *container) (out []string) {
	t.Helper()
	listed, _ := c.exec(testContext(t), t, "ls", "/dev/nvidia-caps")
	for _, name := range strings.Fields(listed) {
		out = append(out, "nvidia-caps/"+name)
	}
	slices.Sort(out)
	return out
}

// TestStrangerGetsNoSlice has containers ask, in all ways, for a MIG device that was made for
// another one: by its name they are refused, and without one given what an administrator has made.
// So they cannot reach the next one's either, which gets the same nodes.
func TestStrangerGetsNoSlice(t *testing.T) {
	m, state := sliced(t, 2)
	first := foreign(t, m, state) // on the last GPU, which Berth then leaves alone
	ctx := testContext(t)
	start(ctx, t, slice("owner", "1g.18gb"))
	in := instances(t, state)[0][0]
	for name, want := range map[string]request{
		"UUID by environment":  {env: []string{"NVIDIA_VISIBLE_DEVICES=" + in.Compute[0].UUID}},
		"index by environment": {env: []string{"NVIDIA_VISIBLE_DEVICES=0:0"}},
		"UUID":                 {gpu: in.Compute[0].UUID},
		"index":                {gpu: "0:0"},
	} {
		want.id = "named"
		_, err := tryStart(ctx, t, want)
		if err == nil || !strings.Contains(err.Error(), "was made for "+shared.ID()+"/owner") || hasClaim(m, "named") {
			t.Errorf("%s: has a claim: %t; the error is %v", name, hasClaim(m, "named"), err)
		}
		if err := removeContainer(ctx, "named"); err != nil {
			t.Fatal(err)
		}
	}
	administrators := accessNodes(m.GPUs[1], first.GPUs[1].Instances[0])
	slices.Sort(administrators)
	var strangers []*container
	for id, want := range map[string]request{
		"image": {env: []string{"NVIDIA_VISIBLE_DEVICES=all"}}, "all": {gpu: "all"}, "mig": {gpu: "mig:all"},
	} {
		want.id = id
		c := start(ctx, t, want)
		if nodes := nodesOfMIG(t, c); !slices.Equal(nodes, administrators) {
			t.Errorf("%s: it has %q, want %q", id, nodes, administrators)
		}
		strangers = append(strangers, c)
	}
	if err := removeContainer(ctx, "owner"); err != nil {
		t.Fatal(err)
	}
	awaitHelpers(ctx, t, m.Root)
	start(ctx, t, slice("next", "1g.18gb"))
	for _, node := range accessNodes(m.GPUs[0], instances(t, state)[0][0]) {
		for _, c := range strangers {
			if out, code := c.exec(ctx, t, "sh", "-c", "exec 3</dev/"+node); code == 0 {
				t.Errorf("%s opens %s, which is next's: %s", c.ID(), node, out)
			}
		}
	}
}
