// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// What containers may have together: their sum, if every one has a limit.
func TestTogether(t *testing.T) {
	const mib = 1 << 20
	limited := demand{memory: 64 * mib, milli: 500, shares: 512, cpus: "0-1", oomScore: 100}
	sandbox := demand{isSandbox: true, shares: 2, oomScore: -998}
	for name, c := range map[string]struct {
		all  []demand
		want Limits // OOMScoreAdj apart
		oom  int
	}{
		"a sandbox alone":  {[]demand{sandbox}, Limits{}, 0},
		"one":              {[]demand{sandbox, limited}, Limits{MemoryMiB: 64 + GuestMiB, CPUMilli: 500, CPUShares: 512, CPUSet: "0-1"}, 100},
		"two":              {[]demand{limited, sandbox, {memory: mib + 1, milli: 250, cpus: "3", oomScore: 7}}, Limits{MemoryMiB: 66 + GuestMiB, CPUMilli: 750, CPUShares: 512, CPUSet: "0-1,3"}, 100},
		"one has no limit": {[]demand{limited, {shares: 2, oomScore: 1000}}, Limits{CPUShares: 514}, 1000},
	} {
		all := make(map[string]demand)
		for i, d := range c.all {
			all[string(rune('a'+i))] = d
		}
		got := together(all)
		if got.OOMScoreAdj == nil && c.oom != 0 || got.OOMScoreAdj != nil && *got.OOMScoreAdj != c.oom {
			t.Errorf("%s: oom_score_adj %v", name, got.OOMScoreAdj)
		}
		got.OOMScoreAdj = nil
		sets := strings.Split(got.CPUSet, ",") // in any order
		slices.Sort(sets)
		got.CPUSet = strings.Join(sets, ",")
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// limited is a machine of 512 MiB and 2 CPUs that notes its limits.
type limited struct {
	*fakeMachine
	got []int // memory
	err error
}

func (m *limited) Size() (memoryMiB, cpus int) { return 512, 2 }

func (m *limited) Limit(ctx context.Context, l Limits) error {
	if _, bounded := ctx.Deadline(); !bounded {
		return errors.New("a monitor that does not answer would be waited for without end")
	}
	m.got = append(m.got, l.MemoryMiB)
	return m.err
}

// The machine follows updates, never beyond its size, before the guest where it
// grows and after it where it shrinks.
func TestUpdateLimits(t *testing.T) {
	const mib = 1 << 20
	m := &limited{}
	r := &guest{machine: m, dead: make(chan struct{}), limiting: make(chan struct{}, 1), demands: make(map[string]demand)}
	memory := int64(64 * mib)
	d := demandOf(&specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{Resources: &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: &memory},
	}}})
	r.demand("a", &d)
	r.settleOrSay(t.Context())
	failure := errors.New("the guest's runtime refuses")
	for _, c := range []struct {
		name, update string
		guest        error
		want         []int // the machine is told, with -1 for the call in the guest
		err          func(error) bool
	}{
		{"smaller", `{"memory":{"limit":33554432}}`, nil, []int{512, -1, 128}, nil},
		{"larger", `{"memory":{"limit":134217728}}`, nil, []int{224, -1, 224}, nil},
		{"refused", `{"memory":{"limit":268435456}}`, failure, []int{352, -1, 352}, func(err error) bool { return errors.Is(err, failure) }},
		{"too large", `{"memory":{"limit":1073741824}}`, nil, nil, errdefs.IsInvalidArgument},
		{"too many CPUs", `{"cpu":{"quota":300000,"period":100000}}`, nil, nil, errdefs.IsInvalidArgument},
		{"nothing of it", `{"cpu":{"shares":10}}`, nil, []int{352, -1, 352}, nil},
		{"no limit any more", `{"memory":{"limit":-1}}`, nil, []int{512, -1, 512}, nil},
		{"not JSON", `{`, nil, nil, errdefs.IsInvalidArgument},
	} {
		m.got = nil
		err := r.update(t.Context(), "a", []byte(c.update), func() error {
			m.got = append(m.got, -1)
			return c.guest
		})
		if c.err == nil && err != nil || c.err != nil && !c.err(err) {
			t.Errorf("%s: %v", c.name, err)
		}
		if !slices.Equal(m.got, c.want) {
			t.Errorf("%s: limits %v, want %v", c.name, m.got, c.want)
		}
	}
}
