// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/test/fakedriver"
)

func inUserNamespace(s *specs.Spec) {
	s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.UserNamespace}}
}

// TestApplyInUserNamespace has nodes bound, which must be there: a runtime can
// make none.
func TestApplyInUserNamespace(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 1})
	spec := changed(container("1"), inUserNamespace)
	plan, err := (&Planner{Roots: r}).Plan(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	plan.Apply(spec)
	node := d.GPUs[0].Node()
	if !slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool {
		return m.Source == filepath.Join(r.Dev, filepath.Base(node)) && m.Destination == "/"+node && !slices.Contains(m.Options, "nodev")
	}) || len(spec.Linux.Devices) > 0 || len(spec.Linux.Resources.Devices) != 5 {
		t.Errorf("mounts %+v, nodes %+v, rules %+v", spec.Mounts, spec.Linux.Devices, spec.Linux.Resources.Devices)
	}
	if err := os.Remove(filepath.Join(r.Dev, filepath.Base(node))); err != nil {
		t.Fatal(err)
	}
	if _, err := (&Planner{Roots: r}).Plan(t.Context(), changed(container("1"), inUserNamespace)); !errdefs.IsFailedPrecondition(err) ||
		!strings.Contains(err.Error(), "nvidia-modprobe") {
		t.Errorf("without a node: %v", err)
	}
	if _, err := (&Planner{Roots: r}).Plan(t.Context(), container("1")); err != nil {
		t.Errorf("without a node, and a user namespace: %v", err)
	}
}

// TestApplyGroups has the container's user be in the group that may open a node,
// where not everybody may.
func TestApplyGroups(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 2})
	node := func(i int) string { return filepath.Join(r.Dev, filepath.Base(d.GPUs[i].Node())) }
	for i, mode := range []os.FileMode{0o660, 0o666} {
		if err := os.Chown(node(i), 0, 44+i); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(node(i), mode); err != nil {
			t.Fatal(err)
		}
	}
	spec := container("all")
	plan, err := (&Planner{Roots: r}).Plan(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		plan.Apply(spec)
	}
	if got := spec.Process.User.AdditionalGids; !slices.Equal(got, []uint32{44}) {
		t.Errorf("groups %v, want that of the first GPU", got)
	}
}

// TestApplyRequests has the mounts that ask taken away, and no other.
func TestApplyRequests(t *testing.T) {
	_, r := machine(t, fakedriver.Config{GPUs: 2})
	spec := container("1")
	spec.Annotations = nil
	for _, parts := range []part{mount("/first"), ask("0"), mount("/second"), ask("1"), mount("/third")} {
		parts(spec)
	}
	plan, err := (&Planner{Roots: r, Policy: plain}).Plan(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	plan.Apply(spec)
	var asked []string
	for _, m := range spec.Mounts {
		if m.Source == "/dev/null" {
			asked = append(asked, m.Destination)
		}
	}
	if !slices.Equal(asked, []string{"/first", "/second", "/third"}) {
		t.Errorf("left are %q", asked)
	}
}
