// SPDX-License-Identifier: Apache-2.0

package hooks

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// needsRoot is a hook with work to do in the root file system.
type needsRoot struct {
	name string
	seen *[]string
	err  error
}

func (h needsRoot) Name() string                         { return h.name }
func (h needsRoot) Delete(context.Context, string) error { return nil }
func (h needsRoot) Create(_ context.Context, s *Spec) error {
	s.AfterMount(h, func(_ context.Context, rootfs string) error {
		*h.seen = append(*h.seen, h.name+" "+rootfs)
		if h.err != nil {
			return h.err
		}
		return s.Edit(func(o *specs.Spec) error { o.Hostname += h.name; return nil })
	})
	return nil
}

func TestMounted(t *testing.T) {
	var seen []string
	bundle := bundleWith(t, plain)
	chain := Chain{needsRoot{"a", &seen, nil}, needsRoot{"b", &seen, nil}}
	spec := load(t, bundle)
	if err := chain.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if len(seen) > 0 || configOf(t, bundle) != plain {
		t.Error("the work was done before the root file system was mounted")
	}
	if err := chain.Mounted(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	rootfs := filepath.Join(bundle, "rootfs")
	if want := []string{"a " + rootfs, "b " + rootfs}; !slices.Equal(seen, want) {
		t.Errorf("done %q, want %q", seen, want)
	}
	if got := configOf(t, bundle); !strings.Contains(got, `"hostname":"ab"`) {
		t.Errorf("the edits are not in %s", got)
	}
}

func TestMountedFailure(t *testing.T) {
	var seen []string
	bundle := bundleWith(t, plain)
	full := errors.New("no space")
	chain := Chain{needsRoot{"a", &seen, nil}, needsRoot{"b", &seen, full}, needsRoot{"c", &seen, nil}}
	spec := load(t, bundle)
	if err := chain.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	err := chain.Mounted(t.Context(), spec)
	if !errors.Is(err, full) || !strings.Contains(err.Error(), "hook b") {
		t.Errorf("error %v, want that of hook b", err)
	}
	if len(seen) != 2 || configOf(t, bundle) != plain {
		t.Errorf("after the failure of b: %q, config.json %s", seen, configOf(t, bundle))
	}
}

func TestRootfsPath(t *testing.T) {
	bundle := bundleWith(t, `{"ociVersion":"1.0.2","root":{"path":"/srv/../root/"}}`)
	if got := load(t, bundle).rootfs(); got != "/root" {
		t.Errorf("rootfs %q, want /root", got)
	}
}

// limits is a hook with a say in updates.
type limits struct{ needsRoot }

func (h limits) Update(_ context.Context, bundle string, resources []byte) ([]byte, error) {
	return append(resources, (bundle + h.name)...), h.err
}

func TestUpdate(t *testing.T) {
	none := needsRoot{name: "n"}
	chain := Chain{limits{needsRoot{name: "1"}}, none, limits{needsRoot{name: "2"}}}
	got, err := chain.Update(t.Context(), "/b", []byte("r"))
	if err != nil || string(got) != "r/b1/b2" {
		t.Errorf("got %q, %v", got, err)
	}
	chain[0] = limits{needsRoot{name: "1", err: errors.New("no")}}
	if _, err := chain.Update(t.Context(), "/b", []byte("r")); err == nil || !strings.Contains(err.Error(), "hook 1") {
		t.Errorf("error %v, want that of hook 1", err)
	}
}
