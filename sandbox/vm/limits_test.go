// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"berth/process/cgroup"
)

// A machine's cgroup has room for its memory and what runs it, and follows the
// limits of the pod; so does what the guest has.
func TestLimits(t *testing.T) {
	r := newRig(t)
	c := r.config()
	c.MemoryMiB, c.Cgroup, c.Share = 256, testGroup(t), shared(t)
	g := r.up(c)
	whole := (256 + overheadMiB(TCG, 256)) << 20
	g.knob("memory", "memory.limit_in_bytes", "memory.max", strconv.Itoa(whole))
	g.knob("pids", "pids.max", "pids.max", strconv.Itoa(vmmTasks))
	// What the guest has can be used: nobody is killed for it.
	g.do("eat", "100")

	adj := 500
	if err := g.Limit(r.ctx, Limits{MemoryMiB: 200, CPUMilli: 750, CPUShares: 512, CPUSet: "0", OOMScoreAdj: &adj}); err != nil {
		t.Fatal(err)
	}
	has, err := g.MemoryMiB(r.ctx)
	if err != nil || has >= 256 {
		t.Errorf("the guest has %d MiB, %v", has, err)
	}
	g.knob("memory", "memory.limit_in_bytes", "memory.max", strconv.Itoa((has+overheadMiB(TCG, 256))<<20))
	g.knob("cpu", "cpu.cfs_quota_us", "cpu.max", "100000")
	g.knob("cpu", "cpu.shares", "cpu.weight", "512")
	g.knob("cpuset", "cpuset.cpus", "cpuset.cpus", "0")
	if got, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(g.Pid()), "oom_score_adj")); strings.TrimSpace(string(got)) != "500" {
		t.Errorf("oom_score_adj: %s, %v", got, err)
	}

	if err := g.Limit(r.ctx, Limits{MemoryMiB: 4096}); err != nil { // as much as there is
		t.Fatal(err)
	}
	g.knob("memory", "memory.limit_in_bytes", "memory.max", strconv.Itoa(whole))
	g.knob("cpu", "cpu.cfs_quota_us", "cpu.max", "-1")
}

// knob checks what a file of the cgroup says.
func (g *guestOf) knob(controller, v1, v2, want string) {
	g.Helper()
	loc, _ := g.Cgroup()
	path := filepath.Join(loc.Dirs[controller].Path, v1)
	if loc.Dirs[controller].Path == "" {
		path = filepath.Join(loc.Dirs[cgroup.Unified].Path, v2)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		g.Error(err)
	}
	if value := strings.Fields(string(got)); len(value) == 0 || value[0] != want && !(v1 == "cpu.shares" && filepath.Base(path) == v2) &&
		!(want == "-1" && value[0] == "max") {
		g.Errorf("%s is %q, want %s", path, got, want)
	}
}

// A machine that the host kills for want of memory says so, and so does a guest
// whose kernel gives up.
func TestOutOfMemory(t *testing.T) {
	for name, c := range map[string]struct {
		host   bool
		reason Reason
	}{"host": {true, HostOOM}, "guest": {false, GuestOOM}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			conf := r.config()
			conf.Cgroup = testGroup(t)
			g := r.up(conf)
			if c.host {
				limit := strconv.Itoa(used(t, g.Machine) + 8<<20)
				if err := g.set(knob{"memory", "memory.limit_in_bytes", limit}, knob{"memory", "memory.max", limit}); err != nil {
					t.Fatal(err)
				}
				g.tell("eat", "80")
			} else {
				g.tell("eat", "500")
			}
			if exit := r.ended(g.Machine); exit.Reason != c.reason {
				t.Errorf("it ended because: %v", exit)
			} else {
				t.Log(exit)
			}
		})
	}
}

// used is the memory of a machine's cgroup, in bytes.
func used(t *testing.T, m *Machine) int {
	t.Helper()
	loc, _ := m.Cgroup()
	path := filepath.Join(loc.Dirs["memory"].Path, "memory.usage_in_bytes")
	if loc.Dirs["memory"].Path == "" {
		path = filepath.Join(loc.Dirs[cgroup.Unified].Path, "memory.current")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The weight of v2 that stands for shares of v1, at both ends and at the default.
func TestWeight(t *testing.T) {
	for shares, want := range map[uint64]uint64{0: 1, 2: 1, 1024: 39, 262144: 10000, 1 << 40: 10000} {
		if got := weight(shares); got != want {
			t.Errorf("%d shares are a weight of %d, want %d", shares, got, want)
		}
	}
}
