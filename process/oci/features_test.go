// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"berth/test/fakeoci"

	"github.com/opencontainers/runtime-spec/specs-go/features"
)

func featuresOf(t *testing.T, c *CLI) *features.Features {
	t.Helper()
	data, err := c.Features(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var f features.Features
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	return &f
}

func TestFeatures(t *testing.T) {
	t.Run("given", func(t *testing.T) {
		f := featuresOf(t, &CLI{Binary: fake, Root: t.TempDir(), Supervisor: sup})
		if f.Annotations[FeaturesSource] != "" || !slices.Contains(f.MountOptions, "rro") {
			t.Errorf("%+v is not what the runtime gave", f)
		}
	})
	t.Run("no command", func(t *testing.T) {
		c := &CLI{Binary: fake, Root: t.TempDir(), Supervisor: sup}
		fail := &fakeoci.Fail{Message: "unknown command features"}
		fakeoci.Plan{Verbs: map[string]fakeoci.Verb{"features": {Fail: fail}}}.Write(t, c.Root)
		f := featuresOf(t, c)
		if got, want := f.Annotations[FeaturesSource], "built-in table for fakeoci 1.0.0"; got != want {
			t.Errorf("source %q, want %q", got, want)
		}
		if slices.Contains(f.MountOptions, "rro") || f.OCIVersionMax != "1.0.2" {
			t.Errorf("%+v claims what is not known", f)
		}
	})
	t.Run("broken runtime", func(t *testing.T) {
		c := &CLI{Binary: "/bin/false", Supervisor: sup}
		if _, err := c.Features(t.Context()); err == nil {
			t.Error("no error")
		}
	})
	t.Run("crun", func(t *testing.T) {
		f := featuresOf(t, &CLI{Binary: inPath(t, "crun"), Supervisor: sup})
		if f.Linux == nil || !slices.Contains(f.Linux.Namespaces, "user") || !slices.Contains(f.MountOptions, "rro") {
			t.Errorf("%+v lacks what every crun since 1.4 has", f)
		}
	})
}

func TestBuiltIn(t *testing.T) {
	const crun = "crun version 1.8.1\ncommit: f8a0\nrundir: /run/crun\nspec: 1.0.0\n+SYSTEMD +APPARMOR +CAP +SECCOMP +EBPF +YAJL\n"
	f := builtIn(crun, true)
	if !*f.Linux.Seccomp.Enabled || !*f.Linux.Cgroup.Systemd || *f.Linux.Selinux.Enabled || f.OCIVersionMax != "1.0.0" {
		t.Errorf("flags or version misread: %+v", f)
	}
	for name, tc := range map[string]struct {
		version string
		kernel  bool
		rro     bool
	}{
		"crun 1.8":            {crun, true, true},
		"crun 1.8, old Linux": {crun, false, false},
		"crun 1.4":            {"crun version 1.4\n", true, true},
		"crun 1.3":            {"crun version 1.3\n", true, false},
		"crun 1.10":           {"crun version 1.10.2\n", true, true},
		"crun 0.20":           {"crun version 0.20.1\n", true, false},
		"crun unknown":        {"crun version UNKNOWN\n", true, false},
		"another":             {"other 3.0\n", true, false},
		"nothing":             {"", true, false},
	} {
		if got := slices.Contains(builtIn(tc.version, tc.kernel).MountOptions, "rro"); got != tc.rro {
			t.Errorf("%s: rro is %v", name, got)
		}
	}
	if !strings.Contains(f.Annotations[FeaturesSource], "crun 1.8.1") {
		t.Errorf("source %q", f.Annotations[FeaturesSource])
	}
}

func FuzzBuiltIn(f *testing.F) {
	f.Add("crun version 1.8.1\nspec: 1.0.0\n+SYSTEMD")
	f.Fuzz(func(t *testing.T, version string) {
		if _, err := json.Marshal(builtIn(version, true)); err != nil {
			t.Error(err)
		}
	})
}
