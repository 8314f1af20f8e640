// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/gpu/nvml"
	"berth/test/fakedriver"
)

// TestMIGModeIsNotWhole has GPUs in MIG mode, with nothing in them, given to nobody whole who asks
// by an annotation; NVML is asked once for all.
func TestMIGModeIsNotWhole(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 3, MIG: [][]fakedriver.Instance{2: {{GI: 1}}}})
	calls := 0
	list := &nvml.List{}
	for i, g := range d.GPUs {
		list.Devices = append(list.Devices, nvml.Device{Index: i, BusID: g.BusID, UUID: g.UUID, MIGMode: []string{nvml.MIGEnabled, nvml.MIGDisabled, nvml.MIGEnabled}[i]})
	}
	p := Planner{Roots: r, Policy: Policy{EnvPlain: []string{"NVIDIA_VISIBLE_DEVICES"}}, NVML: func(context.Context) (*nvml.List, error) { calls++; return list, nil }}
	visible := func(value string) *specs.Spec {
		return changed(container("x"), func(s *specs.Spec) {
			delete(s.Annotations, AnnotationPrefix+"gpu")
			s.Process.Env = append(s.Process.Env, "NVIDIA_VISIBLE_DEVICES="+value)
		})
	}
	for name, c := range map[string]struct {
		spec *specs.Spec
		want []int  // indexes of whole GPUs
		says string // of the error
	}{
		"one":                     {container("1"), []int{1}, ""},
		"two":                     {container("2"), nil, "in MIG mode and empty"},
		"by index":                {container("index:0"), nil, "nvidia-smi -i 0 -mig 0"},
		"by UUID":                 {container(d.GPUs[0].UUID), nil, "berth.dev/mig"},
		"the other by index":      {container("index:1"), []int{1}, ""},
		"all":                     {container("all"), []int{1}, ""},
		"partitioned, as NVIDIA":  {container("index:2"), []int{2}, ""},
		"as NVIDIA, by its words": {visible("0"), []int{0}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			plan, err := p.Plan(t.Context(), c.spec)
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("the error is %v, want %q", err, c.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []int
			for _, s := range plan.Devices {
				if s.Instance == nil {
					got = append(got, s.Device.Index)
				}
			}
			if len(got) != len(c.want) || got[0] != c.want[0] {
				t.Errorf("given %v, want %v", got, c.want)
			}
		})
	}
	if calls != 1 {
		t.Errorf("NVML was asked %d times", calls)
	}
}

// TestMIGModeIsAskedAgain has what NVML said believed for a while, in this boot and of this driver;
// for good only of GPUs that cannot do MIG.
func TestMIGModeIsAskedAgain(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 1})
	calls, mode := 0, nvml.MIGDisabled
	p := Planner{Roots: r, NVML: func(context.Context) (*nvml.List, error) {
		calls++
		return &nvml.List{Devices: []nvml.Device{{BusID: d.GPUs[0].BusID, MIGMode: mode}}}, nil
	}}
	asks := func(want int, when string) {
		t.Helper()
		if _, err := p.Plan(t.Context(), container("1")); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		if calls != want {
			t.Errorf("%s: NVML was asked %d times, want %d", when, calls, want)
		}
	}
	change := func(f func(*modes)) {
		t.Helper()
		var m modes
		if err := json.Unmarshal(readOwn(r.run("mig-modes.json")), &m); err != nil {
			t.Fatal(err)
		}
		f(&m)
		raw, err := json.Marshal(m)
		if err = errors.Join(err, writeOwn(r.run("mig-modes.json"), raw)); err != nil {
			t.Fatal(err)
		}
	}
	asks(1, "first")
	asks(1, "again")
	change(func(m *modes) { m.At = m.At.Add(-modeAge) })
	asks(2, "a minute later")
	change(func(m *modes) { m.At = m.At.Add(time.Hour) })
	asks(3, "a clock that was put back")
	change(func(m *modes) { m.Boot = "another" })
	asks(4, "another boot")
	change(func(m *modes) { m.Mode = map[string]string{} })
	asks(5, "a GPU that is new")
	r.forgetModes()
	mode = ""
	asks(6, "forgotten")
	change(func(m *modes) { m.At = m.At.Add(-time.Hour) })
	asks(6, "a GPU without MIG, an hour later")
	if err := os.WriteFile(r.run("mig-modes.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.NVML = func(context.Context) (*nvml.List, error) { calls++; return nil, errdefs.ErrUnavailable }
	asks(7, "NVML gives no answer")
}
