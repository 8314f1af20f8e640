// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"

	"berth/test/fakenvml"
)

// TestMIGCommands has an operator see, and take back, all that can be in a GPU:
// slices of a container, one that is kept idle, one that is in use, and an
// administrator's.
func TestMIGCommands(t *testing.T) {
	m, state := sliced(t, 2)
	before := foreign(t, m, state)
	m.use(t, "[mig]", "keep_idle = 300")
	ctx := testContext(t)
	used := start(ctx, t, slice("used", "3g.71gb"))
	c, idle := start(ctx, t, slice("infer", "1g.18gb:2")), start(ctx, t, slice("gone", "1g.35gb"))
	s := must(fakenvml.Read(state))(t)
	for _, in := range s.GPUs[0].Instances {
		if in.Profile == 9 {
			s.Processes = []fakenvml.Process{{PID: int(c.task.Pid()), GI: in.ID, CI: in.Compute[0].ID}}
		}
	}
	if err := s.Write(state); err != nil {
		t.Fatal(err)
	}
	for _, deleted := range []*container{idle, used} {
		if _, err := deleted.task.Delete(ctx, containerd.WithProcessKill); err != nil {
			t.Fatal(err)
		}
	}
	says := func(want []string, args ...string) {
		t.Helper()
		out, err := berth(ctx, args...)
		if err != nil && !strings.Contains(err.Error(), "in use") {
			t.Fatal(err)
		}
		for _, pattern := range want {
			if !regexp.MustCompile(pattern).MatchString(out) {
				t.Errorf("%q says not %s:\n%s", args, pattern, out)
			}
		}
	}
	id := shared.ID()
	says([]string{`MIG of GPU 0  \[[A-D.]{8}\]`, `MIG of GPU 1  \[AAAA\.\.\.\.\]`, `1g\.18gb at \d:1  for ` + id + `/infer\n`,
		`1g\.35gb at \d:2  idle, kept until [0-9:]{8}; was for ` + id + `/gone\n`, `3g\.71gb at \d:4  for ` + id + `/used, Zombie\n`,
		`  full\n`, `3g\.71gb at 0:4  not made by berth\n`, `left alone: somebody else made GPU instance \d+ at 0:4`}, "gpu", "ls")
	says([]string{`infer +Ready +kept +its shim lives`, `gone +Idle +kept +it is kept idle until`, `used +Zombie +would be destroyed`}, "gpu", "reclaim", "--dry-run")
	says([]string{`gone +Idle +would be destroyed +it was kept idle, and is given up`}, "gpu", "reclaim", "--dry-run", "--idle")
	says([]string{`infer +Ready +kept`, `gone +Idle +kept`, `used +Zombie +left, in use`}, "gpu", "reclaim")
	var status struct {
		MIG struct {
			GPUs []struct {
				Slots     int
				Instances []struct {
					Profile, State, Life string
					Place                struct{ Start, Size int }
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(must(berth(ctx, "gpu", "ls", "--json"))(t)), &status); err != nil {
		t.Fatal(err)
	}
	if g := status.MIG.GPUs; len(g) != 2 || g[0].Slots != 8 || len(g[0].Instances) != 4 || len(g[1].Instances) != 1 || g[1].Instances[0].State != "" {
		t.Errorf("%+v", status)
	}
	for i, in := range status.MIG.GPUs[0].Instances[1:] {
		if before := status.MIG.GPUs[0].Instances[i]; in.Place.Start <= before.Place.Start {
			t.Errorf("not from left to right: %+v", status.MIG.GPUs[0].Instances)
		}
	}
	s = must(fakenvml.Read(state))(t)
	s.Processes = nil
	if err := s.Write(state); err != nil {
		t.Fatal(err)
	}
	if _, err := c.task.Delete(ctx, containerd.WithProcessKill); err != nil {
		t.Fatal(err)
	}
	says(nil, "gpu", "reclaim", "--idle")
	awaitHelpers(ctx, t, m.Root) // they see that nothing is left to keep
	if after := instances(t, state); count(after) != 1 || count(after) != count([][]fakenvml.Instance{before.GPUs[1].Instances}) {
		t.Errorf("left: %+v", after)
	}
}
