// SPDX-License-Identifier: Apache-2.0

package hooks

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestValidID(t *testing.T) {
	for _, id := range []string{
		"a", "7", "default-1.web_2", "A--b", "a..b", "a-", strings.Repeat("a", 76),
		"f0e1d2c3b4a5968778695a4b3c2d1e0ff0e1d2c3b4a5968778695a4b3c2d1e0f",
	} {
		if err := ValidID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	for _, id := range []string{
		"", ".", "..", "-a", "_a", ".a", "a/b", "/a", "../a", "a b", "a\x00", "a\n", "ä", "a+b", "a:b", "a\xff", strings.Repeat("a", 77),
	} {
		if err := ValidID(id); !errdefs.IsInvalidArgument(err) || !strings.HasPrefix(err.Error(), "id ") {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestSanityChecksID(t *testing.T) {
	s, err := LoadSpec(bundleWith(t, plain), "../c1")
	if err != nil {
		t.Fatal(err)
	}
	if err := (Chain{Sanity{}}).Create(t.Context(), s); !errdefs.IsInvalidArgument(err) {
		t.Errorf("error %v", err)
	}
}

func FuzzValidID(f *testing.F) {
	f.Add("a..b")
	f.Add("-x")
	f.Fuzz(func(t *testing.T, id string) {
		if ValidID(id) == nil && (filepath.Base(id) != id || !filepath.IsLocal(id) || id[0] == '-' || id == "." || len(id) > maxIDLen) {
			t.Errorf("%q passes and is not a safe file name", id)
		}
	})
}

func FuzzCgroupsPath(f *testing.F) {
	f.Add("/a/../..")
	f.Add("a.slice:b:c")
	f.Fuzz(func(t *testing.T, p string) {
		if checkCgroupsPath(p) != nil || p == "" {
			return
		}
		if got := filepath.Join("/sys/fs/cgroup", p); !strings.HasPrefix(got, "/sys/fs/cgroup/") || strings.ContainsAny(p, "\x00\n") {
			t.Errorf("%q passes and leads to %q", p, got)
		}
	})
}

// FuzzSpec loads whatever a bundle may hold, and checks that an edit leaves the rest alone.
func FuzzSpec(f *testing.F) {
	f.Add([]byte(plain))
	f.Add([]byte(`{"Hostname":"x","root":{"path":"r"},"mounts":[{"destination":"/a","x":1}],"annotations":{"a":"\ud800"}}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"hostname":{}}`))
	f.Fuzz(func(t *testing.T, config []byte) {
		s, err := LoadSpec(bundleWith(t, string(config)), "c1")
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("class of %v", err)
			}
			return
		}
		if err := (Sanity{}).Create(t.Context(), s); err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("class of %v", err)
		}
		if _, err := s.OCI(); err != nil { // what Create does not ask for may be anything
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("class of %v", err)
			}
			return
		}
		if raw, err := s.patched(); err != nil || raw != nil {
			t.Errorf("a spec without edits became %s, %v", raw, err)
		}
		if err := s.Edit(func(o *specs.Spec) error { o.Domainname = "edited.example"; return nil }); err != nil {
			t.Fatal(err)
		}
		if err := s.write(); err != nil {
			t.Fatal(err)
		}
		if got, err := load(t, s.Bundle()).OCI(); err != nil || got.Domainname != "edited.example" {
			t.Errorf("the edit was lost: %+v", got)
		}
	})
}
