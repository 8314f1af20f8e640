// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"berth/configs"
	"berth/gpu/ledger"
	"berth/gpu/mig"
	"berth/gpu/nvml"
	"berth/test/fakedriver"
	"berth/test/fakenvml"
)

// capturing is a MIG whose helper keeps what it is asked, and gives no answer.
func capturing(t *testing.T, policy configs.MIGPolicy) (m MIG, asked func() *nvml.MIGRequest) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "asked")
	m = MIG{Helper: script(t, "/bin/cat >"+file+"\nexit 3\n"), Roots: Roots{Run: t.TempDir(), Proc: "/proc", Sys: "/sys"}, Policy: policy}
	return m, func() *nvml.MIGRequest {
		t.Helper()
		raw, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		q := new(nvml.MIGRequest)
		if err := errors.Join(err, json.Unmarshal(raw, q), os.Remove(file)); err != nil {
			t.Fatal(err)
		}
		return q
	}
}

var (
	anOwner = SliceOwner{Namespace: "ns", ID: "c", Group: "g"}
	anAsk   = []mig.Ask{{Profile: "1g.18gb", Count: 1}}
)

// berth-gpu is told of the GPUs that the configuration lets it use, and what it may do with each.
func TestAcquireByPolicy(t *testing.T) {
	a, b := Device{BusID: "0000:3b:00.0", UUID: uuidA}, Device{BusID: "0000:5d:00.0", UUID: uuidB}
	rule := func(d Device, mode bool) nvml.GPURule { return nvml.GPURule{BusID: d.BusID, AllowMode: mode} }
	for name, c := range map[string]struct {
		policy configs.MIGPolicy
		want   []nvml.GPURule
	}{
		"none said":    {configs.MIGPolicy{}, []nvml.GPURule{rule(a, false), rule(b, false)}},
		"one by UUID":  {configs.MIGPolicy{GPUs: []string{uuidB}}, []nvml.GPURule{rule(b, false)}},
		"one by place": {configs.MIGPolicy{GPUs: []string{a.BusID}}, []nvml.GPURule{rule(a, false)}},
		"modes":        {configs.MIGPolicy{AllowMode: []string{uuidA}}, []nvml.GPURule{rule(a, true), rule(b, false)}},
		"foreign":      {configs.MIGPolicy{ShareForeign: true}, []nvml.GPURule{rule(a, false), rule(b, false)}},
	} {
		t.Run(name, func(t *testing.T) {
			c.policy.Timeout = 60
			m, asked := capturing(t, c.policy)
			if _, err := m.Acquire(t.Context(), anOwner, "c", anAsk, []Device{a, b}); err == nil {
				t.Error("no answer is an answer")
			}
			q := asked()
			if q == nil || !reflect.DeepEqual(q.GPUs, c.want) || q.ShareForeign != c.policy.ShareForeign || q.TimeoutMS != 60_000 {
				t.Errorf("asked %+v, want %+v", q, c.want)
			}
		})
	}
}

// An empty list is all GPUs to berth-gpu: where none may be used, it is not asked.
func TestAcquireOfNoGPU(t *testing.T) {
	for name, c := range map[string]struct {
		policy configs.MIGPolicy
		usable []Device
	}{
		"none":       {configs.MIGPolicy{}, nil},
		"none named": {configs.MIGPolicy{GPUs: []string{uuidA}}, []Device{{BusID: "0000:5d:00.0", UUID: uuidB}}},
	} {
		m, asked := capturing(t, c.policy)
		if _, err := m.Acquire(t.Context(), anOwner, "c", anAsk, c.usable); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "mig.gpus") {
			t.Errorf("%s: the error is %v", name, err)
		}
		if q := asked(); q != nil {
			t.Errorf("%s: berth-gpu was asked for slices of %+v", name, q.GPUs)
		}
		if counted, err := m.Refusals(); err != nil || len(counted) != 1 || counted[0] != (ledger.Refusal{Profile: "other", Reason: "held", Count: 1}) {
			t.Errorf("%s: counted %+v, %v", name, counted, err)
		}
	}
}

// What berth-gpu has of its caller's time leaves it some to undo.
func TestAcquireLeavesGrace(t *testing.T) {
	m, asked := capturing(t, configs.MIGPolicy{Timeout: 60})
	const whole = 20 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), whole)
	defer cancel()
	if _, err := m.Acquire(ctx, anOwner, "c", anAsk, []Device{{BusID: "0000:3b:00.0"}}); err == nil {
		t.Error("no answer is an answer")
	}
	if q := asked(); q == nil || q.TimeoutMS > (whole-grace).Milliseconds() {
		t.Errorf("asked %+v", q)
	}
}

// A sweep does no more than it is told to.
func TestSweepAsked(t *testing.T) {
	for _, dry := range []bool{false, true} {
		for _, idle := range []bool{false, true} {
			m, asked := capturing(t, configs.MIGPolicy{Timeout: 60})
			if _, err := m.Sweep(t.Context(), dry, idle); err == nil {
				t.Error("no answer is an answer")
			}
			if q := asked(); q == nil || q.DryRun != dry || q.GiveUpIdle != idle {
				t.Errorf("dry %t, idle %t: asked %+v", dry, idle, q)
			}
		}
	}
}

// Containers of a pod that share are asked to want the same, and get no share of what no new
// container may have: through the hook, and the real helper.
func TestShareRefused(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 2})
	s := fakenvml.Machine(fakenvml.H200, 2)
	for i, g := range d.GPUs {
		s.GPUs[i].BusID, s.GPUs[i].UUID, s.GPUs[i].Minor, s.GPUs[i].MIG, s.GPUs[i].Pending = g.BusID, g.UUID, g.Minor, true, true
	}
	s.Caps = r.proc("driver/nvidia/capabilities")
	helper, _, _ := migHelper(t, s)
	m := MIG{Helper: helper, Roots: r}
	m.Policy.Timeout = 20
	h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns", Slices: m}
	shares := func(id, asks string) error {
		return create(t, h, bundle(t, slicing(asks, AnnotationPrefix+"mig-share", "pod", criContainerType, "container", criSandboxID, "p1")), id)
	}
	refused := func(id, asks, says string) {
		t.Helper()
		if err := shares(id, asks); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: the error is %v, want %q", asks, err, says)
		}
		if _, err := r.Claim("ns", id); !errdefs.IsNotFound(err) {
			t.Errorf("%s: a claim is left: %v", asks, err)
		}
	}
	for _, id := range []string{"a", "b"} {
		if err := shares(id, "1g.18gb"); err != nil {
			t.Fatal(err)
		}
	}
	a, _ := r.Claim("ns", "a")
	if b, err := r.Claim("ns", "b"); err != nil || !reflect.DeepEqual(a.Slices.Made, b.Slices.Made) {
		t.Errorf("a has %+v, b %+v, %v", a.Slices.Made, b.Slices.Made, err)
	}
	refused("c", "7g.141gb", "the pod ns/p1 shares 1g.18gb, and this container asks for 7g.141gb:1")
	refused("c", "1g.18gb:2", "containers that share ask for the same")
	setBar(t, r, Bar{BusID: a.Slices.Made[0].BusID, Xid: 79})
	refused("c", "1g.18gb", "which no new container may have")
	for _, id := range []string{"a", "b"} {
		if err := h.Delete(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}
