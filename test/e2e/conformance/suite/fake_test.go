// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"berth/test/e2e/conformance/daemon"
	"berth/test/fakeoci"
)

// newFakeHost makes a daemon whose runtime is the fake one.
func newFakeHost(t *testing.T) *host {
	t.Helper()
	if *shimFlag != "" && *fakeFlag == "" {
		t.Skip("no -fakeoci given")
	}
	if *guestFlag != "" {
		t.Skip("the runtime is the guest's own")
	}
	return newHostWith(t, *fakeFlag)
}

// fake prepares a container that runs a script of the fake runtime under a plan.
func (h *host) fake(id, group string, plan fakeoci.Plan, script string) *container {
	h.t.Helper()
	c := h.prepare(id, group, func(spec *specs.Spec) {
		spec.Process.Args = append([]string{"fake"}, strings.Fields(script)...)
	})
	c.plan(plan)
	return c
}

// plan replaces the plan of a container of the fake runtime.
func (c *container) plan(plan fakeoci.Plan) {
	c.t.Helper()
	data, err := json.Marshal(plan)
	if err != nil {
		c.t.Fatal(err)
	}
	path := filepath.Join(c.bundle.Dir, fakeoci.PlanFile)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		c.t.Fatal(err)
	}
}

// up creates and starts a prepared container.
func (c *container) up() {
	c.t.Helper()
	if err := c.create(daemon.Streams{}); err != nil {
		c.t.Fatalf("create %s: %v", c.bundle.ID, err)
	}
	if err := c.start(); err != nil {
		c.t.Fatalf("start %s: %v", c.bundle.ID, err)
	}
}

// hostGate makes a gate and returns its path on the host, where the fake
// runtime and its containers live.
func (h *host) hostGate(name string) string {
	h.t.Helper()
	h.gate(name)
	return filepath.Join(h.Dir, "share", name)
}

func verbs(name string, verb fakeoci.Verb) fakeoci.Plan {
	return fakeoci.Plan{Verbs: map[string]fakeoci.Verb{name: verb}}
}
