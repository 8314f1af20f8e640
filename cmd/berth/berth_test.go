// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/gpu"
	"berth/hooks"
	"berth/test/fakedriver"
)

// host is a fake machine, its configuration in the environment.
func host(t *testing.T, cfg fakedriver.Config) (*fakedriver.Driver, gpu.Roots) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("missing capability: root, to make device nodes")
	}
	d, err := fakedriver.Build(filepath.Join(t.TempDir(), "driver"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	r := gpu.Roots{Driver: d.Root, Dev: d.Dev, Proc: d.Proc, Sys: d.Sys, Run: t.TempDir()}
	file := filepath.Join(t.TempDir(), "gpu.toml")
	text := fmt.Sprintf("driver_root = %q\ndev_root = %q\nproc_root = %q\nsys_root = %q\nrun_dir = %q\n", r.Driver, r.Dev, r.Proc, r.Sys, r.Run)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("BERTH_GPU_CONFIG", file)
	return d, r
}

func berth(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	err = run(t.Context(), args, &out, &errs)
	return out.String(), errs.String(), err
}

func says(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q is not in:\n%s", p, text)
		}
	}
}

// container makes a bundle that asks for a GPU, and with inject has the hook
// inject it.
func container(t *testing.T, r gpu.Roots, namespace, id string, inject bool) string {
	t.Helper()
	dir := t.TempDir()
	raw, err := json.Marshal(specs.Spec{
		Version: "1.2.0", Root: &specs.Root{Path: "rootfs"}, Process: &specs.Process{},
		Annotations: map[string]string{"berth.dev/gpu": "1"}, Linux: &specs.Linux{},
	})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o600)
	}
	if err == nil {
		err = os.Mkdir(filepath.Join(dir, "rootfs"), 0o755)
	}
	if err == nil && inject {
		var spec *hooks.Spec
		if spec, err = hooks.LoadSpec(dir, id); err == nil {
			chain := hooks.Chain{&gpu.Hook{Planner: gpu.Planner{Roots: r}, Namespace: namespace}}
			if err = chain.Create(t.Context(), spec); err == nil {
				err = chain.Mounted(t.Context(), spec)
			}
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestList(t *testing.T) {
	d, r := host(t, fakedriver.Config{GPUs: 3, Excluded: []int{1}, MIG: [][]fakedriver.Instance{nil, nil, {{GI: 9, CI: 0}}}})
	container(t, r, "ns", "holder", true)
	if err := gpu.SetBar(r, gpu.NewBar(gpu.Xid{BusID: d.GPUs[2].BusID, Number: 79})); err != nil {
		t.Fatal(err)
	}
	out, _, err := berth(t, "gpu", "ls")
	if err != nil {
		t.Fatal(err)
	}
	says(t, out, "driver "+d.Version, d.GPUs[0].UUID, "ns/holder", "excluded", "barred (Xid 79)", "gi9 ci0", "warning: ")
	out, _, err = berth(t, "gpu", "ls", "--json")
	var s gpu.Status
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	if err != nil || len(s.Devices) != 3 || s.Devices[0].HeldBy[0] != "ns/holder" || s.Devices[1].Bar.Xid != 79 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestListWithoutDriver(t *testing.T) {
	t.Setenv("BERTH_GPU_CONFIG", "/nonexistent")
	if _, err := os.Stat("/proc/driver/nvidia"); err == nil {
		t.Skip("missing capability: a host without an NVIDIA driver")
	}
	_, _, err := berth(t, "gpu", "ls")
	if err == nil || !strings.Contains(err.Error(), "driver is not loaded") {
		t.Errorf("error %v", err)
	}
}

func TestExplain(t *testing.T) {
	d, r := host(t, fakedriver.Config{GPUs: 1})
	node := "/" + d.GPUs[0].Node()
	injected := container(t, r, "ns", "holder", true)
	waiting := container(t, r, "ns", "waiting", false)
	linked := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Dir(injected), linked); err != nil {
		t.Fatal(err)
	}
	linked = filepath.Join(linked, filepath.Base(injected))
	for _, c := range []struct{ arg, verb string }{
		{"holder", "ns/holder got"}, {injected, "ns/holder got"}, {linked, "ns/holder got"}, {waiting, "would get"},
	} {
		out, _, err := berth(t, "gpu", "explain", c.arg)
		if err != nil {
			t.Fatal(err)
		}
		says(t, out, c.verb, node, "annotation berth.dev/gpu", "libcuda.so.1", "capability ")
		out, _, err = berth(t, "gpu", "explain", c.arg, "--diff")
		if err != nil {
			t.Fatal(err)
		}
		says(t, out, `+         "path": "`+node+`"`, "@@ line ")
		if strings.Contains(out, "\n- ") && !strings.Contains(out, "\n+ ") {
			t.Errorf("the diff takes away:\n%s", out)
		}
		out, _, err = berth(t, "gpu", "explain", "--json", c.arg)
		var e explanation
		if err == nil {
			err = json.Unmarshal([]byte(out), &e)
		}
		if err != nil || len(e.Entries) < 10 || len(e.Devices) != 1 || e.Injected != (c.verb != "would get") {
			t.Errorf("%+v, %v", e, err)
		}
	}
	if raw, err := os.ReadFile(filepath.Join(waiting, "config.json")); err != nil || bytes.Contains(raw, []byte("nvidia")) {
		t.Errorf("explaining has changed the bundle: %s, %v", raw, err)
	}
	container(t, r, "other", "holder", true)
	if _, _, err := berth(t, "gpu", "explain", "holder"); err == nil || !strings.Contains(err.Error(), "--namespace") {
		t.Errorf("two of a name: %v", err)
	}
	if out, _, err := berth(t, "gpu", "explain", "holder", "--namespace", "other"); err != nil || !strings.Contains(out, "other/holder") {
		t.Errorf("%s, %v", out, err)
	}
	if _, _, err := berth(t, "gpu", "explain", "nobody"); err == nil || !strings.Contains(err.Error(), "berth gpu ls") {
		t.Errorf("unknown: %v", err)
	}
}

func TestClear(t *testing.T) {
	d, r := host(t, fakedriver.Config{GPUs: 1})
	for _, name := range []string{d.GPUs[0].BusID, d.GPUs[0].UUID, "0"} {
		if err := gpu.SetBar(r, gpu.NewBar(gpu.Xid{BusID: d.GPUs[0].BusID, Number: 79})); err != nil {
			t.Fatal(err)
		}
		out, _, err := berth(t, "gpu", "clear", name)
		if err != nil {
			t.Fatal(err)
		}
		says(t, out, "no longer barred", "Xid 79")
		if bar, err := gpu.Barred(r, d.GPUs[0].BusID); bar != nil || err != nil {
			t.Errorf("barred: %+v, %v", bar, err)
		}
	}
	if out, _, err := berth(t, "gpu", "clear", "0"); err != nil || !strings.Contains(out, "not barred") {
		t.Errorf("%s, %v", out, err)
	}
	if _, _, err := berth(t, "gpu", "clear", "7"); err == nil {
		t.Error("an unknown GPU is cleared")
	}
}

func TestCommandLine(t *testing.T) {
	for _, args := range [][]string{nil, {"gpus"}, {"gpu"}, {"gpu", "lsx"}, {"gpu", "ls", "x"}, {"gpu", "explain"}, {"gpu", "ls", "--nope"},
		{"guest"}, {"guest", "build"}, {"guest", "build", "--nope"}} {
		if _, errs, err := berth(t, args...); !errors.Is(err, errUsage) || !strings.Contains(errs, "usage:") && !strings.Contains(errs, "Usage") {
			t.Errorf("%q: %v, %s", args, err, errs)
		}
	}
	for _, args := range [][]string{{"help"}, {"--help"}, {"gpu", "--help"}, {"version"}} {
		if out, _, err := berth(t, args...); err != nil || !strings.Contains(out, "berth") {
			t.Errorf("%q: %v", args, err)
		}
	}
	if _, errs, err := berth(t, "gpu", "ls", "--help"); !errors.Is(err, flag.ErrHelp) || !strings.Contains(errs, "--json") {
		t.Errorf("%v, %s", err, errs)
	}
}

func TestDiffLines(t *testing.T) {
	lines := func(s string) []string { return strings.Split(s, "") }
	for name, c := range map[string]struct{ a, b, want string }{
		"same":       {"abc", "abc", ""},
		"added":      {"ab", "axb", "  a,+ x,  b"},
		"taken":      {"axb", "ab", "  a,- x,  b"},
		"changed":    {"axb", "ayb", "  a,- x,+ y,  b"},
		"at the end": {"a", "ab", "  a,+ b"},
		"far apart":  {"x1234567890y", "1234567890", "- x,  1,  2,  3,@@ line 9 @@,  8,  9,  0,- y"},
		"near":       {"x123456y", "123456", "- x,  1,  2,  3,  4,  5,  6,- y"},
	} {
		if got := strings.Join(diffLines(lines(c.a), lines(c.b)), ","); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
