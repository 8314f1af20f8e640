// SPDX-License-Identifier: Apache-2.0

package hooks

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// edit stands for hooks that change a spec: it adds what such hooks add.
type edit struct{}

func (edit) Name() string                         { return "edit" }
func (edit) Delete(context.Context, string) error { return nil }
func (edit) Create(_ context.Context, s *Spec) error {
	return s.Edit(func(o *specs.Spec) error {
		first := specs.Mount{Destination: "/first", Type: "bind", Source: "/src"}
		o.Mounts = append([]specs.Mount{first}, o.Mounts...)
		o.Process.Env = append(o.Process.Env, "ADDED=<1>")
		o.Process.Cwd = "/edited"
		delete(o.Annotations, "gone")
		return nil
	})
}

// TestGolden runs each hook on testdata/<hook>/<case>.in.json in an empty bundle. The outcome
// is <case>.out.json, or the text in <case>.err, which the error must end with; without
// either the spec must stay as it is.
func TestGolden(t *testing.T) {
	for _, h := range []Hook{Sanity{}, edit{}} {
		ins, err := filepath.Glob(filepath.Join("testdata", h.Name(), "*.in.json"))
		if err != nil || len(ins) == 0 {
			t.Fatalf("no cases for hook %s: %v", h.Name(), err)
		}
		for _, in := range ins {
			base := strings.TrimSuffix(in, ".in.json")
			t.Run(h.Name()+"/"+filepath.Base(base), func(t *testing.T) {
				config, err := os.ReadFile(in)
				if err != nil {
					t.Fatal(err)
				}
				bundle := bundleWith(t, string(config))
				spec, err := LoadSpec(bundle, "c1")
				if err == nil {
					err = Chain{h}.Create(t.Context(), spec)
				}
				if want, _ := os.ReadFile(base + ".err"); want != nil {
					if !errdefs.IsInvalidArgument(err) || !strings.HasSuffix(err.Error(), strings.TrimSpace(string(want))+": invalid argument") {
						t.Errorf("error %v, want %s", err, want)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				got := configOf(t, bundle)
				want, _ := os.ReadFile(base + ".out.json")
				if want == nil {
					if got != string(config) {
						t.Errorf("config.json was changed to %s", got)
					}
					return
				}
				if !bytes.Equal(compact(t, []byte(got)), compact(t, want)) {
					t.Errorf("got %s", got)
				}
			})
		}
	}
}

// compact is JSON without its layout, keys sorted.
func compact(t *testing.T, raw []byte) []byte {
	t.Helper()
	v, err := decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSanityRootfs(t *testing.T) {
	for name, tc := range map[string]struct {
		path string
		make func(dir string) error
		says string // "" to be accepted
	}{
		"missing":           {"rootfs", nil, ""},
		"directory":         {"rootfs", func(d string) error { return os.Mkdir(d+"/rootfs", 0o700) }, ""},
		"symlink":           {"rootfs", func(d string) error { return os.Symlink("/", d+"/rootfs") }, "must not be a symlink"},
		"symlink and slash": {"rootfs/", func(d string) error { return os.Symlink("/", d+"/rootfs") }, "must not be a symlink"},
		"dangling symlink":  {"rootfs", func(d string) error { return os.Symlink("nowhere", d+"/rootfs") }, "must not be a symlink"},
		"file":              {"rootfs", func(d string) error { return os.WriteFile(d+"/rootfs", nil, 0o600) }, "must be a directory"},
	} {
		for _, abs := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				if tc.make != nil {
					if err := tc.make(dir); err != nil {
						t.Fatal(err)
					}
				}
				path := tc.path
				if abs {
					path = dir + "/" + path
				}
				config, _ := json.Marshal(specs.Spec{Version: "1.0.2", Root: &specs.Root{Path: path}})
				if err := os.WriteFile(filepath.Join(dir, configFile), config, 0o600); err != nil {
					t.Fatal(err)
				}
				err := Sanity{}.Create(t.Context(), load(t, dir))
				if tc.says == "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "root.path") || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("error %v, want %q", err, tc.says)
				}
			})
		}
	}
}

func TestSanityAnnotationsSize(t *testing.T) {
	annotated := func(n int) *Spec {
		config, _ := json.Marshal(specs.Spec{
			Version: "1.0.2", Root: &specs.Root{Path: "rootfs"}, Annotations: map[string]string{"key": strings.Repeat("x", n)},
		})
		return load(t, bundleWith(t, string(config)))
	}
	if err := (Sanity{}).Create(t.Context(), annotated(maxAnnotations-len("key"))); err != nil {
		t.Error(err)
	}
	err := Sanity{}.Create(t.Context(), annotated(10<<20))
	if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "annotations have 10485763 bytes") || len(err.Error()) > 300 {
		t.Errorf("10 MiB of annotations: %v", err)
	}
	if err := (Sanity{}).Create(t.Context(), annotated(maxAnnotations-len("key")+1)); err == nil {
		t.Error("one byte too many is accepted")
	}
}
