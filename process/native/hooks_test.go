// SPDX-License-Identifier: Apache-2.0

package native

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/process/oci"
)

// hookKinds are those of the runtime-spec, by name, in the order in which runc
// runs them: a poststart hook as soon as the init has come up, in a create.
var hookKinds = []struct {
	name     string
	of       func(*specs.Hooks) *[]specs.Hook
	inRootfs bool   // its files are the container's
	slow     string // what fails if the hook takes too long
}{
	//lint:ignore SA1019 deprecated, and run all the same
	{name: "prestart", of: func(h *specs.Hooks) *[]specs.Hook { return &h.Prestart }, slow: "create"},
	{name: "createRuntime", of: func(h *specs.Hooks) *[]specs.Hook { return &h.CreateRuntime }, slow: "create"},
	{name: "createContainer", of: func(h *specs.Hooks) *[]specs.Hook { return &h.CreateContainer }, slow: "create"},
	{name: "poststart", of: func(h *specs.Hooks) *[]specs.Hook { return &h.Poststart }, slow: "create"},
	{name: "startContainer", of: func(h *specs.Hooks) *[]specs.Hook { return &h.StartContainer }, inRootfs: true, slow: "run"},
	{name: "poststop", of: func(h *specs.Hooks) *[]specs.Hook { return &h.Poststop }, slow: "delete"},
}

// account is a hook that writes down when it ran and what it was given.
const account = `{ echo "hook $0"; tr '\0' '\n' </proc/self/environ; pwd; cat; echo; } >>`

// A hook of each kind runs once, in its order, with the same environment,
// directory and state of the container by either driver.
func TestHooks(t *testing.T) {
	needRunc(t)
	for name, env := range map[string][]string{"environment of its own": {"A=b", "PATH=/bin"}, "none": nil} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			t.Setenv("SECRET", "leaked")
			b := newBox(t, "exit 0")
			b.must(os.Symlink("busybox", filepath.Join(b.rootfs, "bin", "tr")))
			b.spec.Hooks = &specs.Hooks{}
			for _, kind := range hookKinds {
				log := filepath.Join(b.rootfs, "tmp/log")
				if kind.inRootfs {
					log = "/tmp/log"
				}
				*kind.of(b.spec.Hooks) = []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", account + log, kind.name}, Env: env}}
			}
			native := b.hooked(b.driver)
			if command := b.hooked(b.cli()); command != native {
				t.Errorf("the command line's hooks said\n%s\nthe library's\n%s", command, native)
			}
			var order, want []string
			for _, line := range regexp.MustCompile(`(?m)^hook .*`).FindAllString(native, -1) {
				order = append(order, strings.TrimPrefix(line, "hook "))
			}
			for _, kind := range hookKinds {
				want = append(want, kind.name)
			}
			if !slices.Equal(order, want) {
				t.Errorf("the hooks ran in the order %v, want %v", order, want)
			}
			if strings.Contains(native, "SECRET") || env != nil && strings.Count(native, "\nA=b\n") != len(want) {
				t.Errorf("the hooks had the environments\n%s", native)
			}
		})
	}
}

// hooked is what the hooks of a container have written over its life.
func (b *box) hooked(d driver) string {
	b.Helper()
	b.write()
	p, err := d.Create(b.Context(), &oci.CreateRequest{ID: b.id, Bundle: b.bundle})
	b.must(err)
	b.must(d.Start(b.Context(), b.id))
	b.status(p)
	b.must(d.Delete(b.Context(), b.id, false))
	log := filepath.Join(b.rootfs, "tmp/log")
	data, err := os.ReadFile(log)
	b.must(err)
	b.must(os.Remove(log))
	return regexp.MustCompile(`"pid":\d+`).ReplaceAllString(string(data), `"pid":N`)
}

// A hook that takes longer than it may is killed, and fails what it is a part of in the same
// words by either driver.
func TestHookTimeout(t *testing.T) {
	needRunc(t)
	second := 1
	for _, kind := range hookKinds {
		t.Run(kind.name, func(t *testing.T) {
			b := newBox(t, "exit 7")
			b.spec.Hooks = &specs.Hooks{}
			*kind.of(b.spec.Hooks) = []specs.Hook{{Path: "/bin/sleep", Args: []string{"sleep", "1000"}, Timeout: &second}}
			command, native := b.timedOut(b.cli()), b.timedOut(b.driver)
			wantSame(t, "", command, native)
			if text, _ := native[kind.slow].(string); !strings.Contains(text, "hook ran past specified timeout of 1.0s") {
				t.Errorf("%s: %q", kind.slow, text)
			}
			b.nothingLeft()
		})
	}
}

// timedOut is how each step of a container's life ends.
func (b *box) timedOut(d driver) map[string]any {
	b.Helper()
	b.write()
	ends, said := map[string]any{}, newOutput(b.T)
	note := func(step string, err error) bool {
		if err != nil {
			ends[step] = err.Error()
		}
		return err == nil
	}
	p, err := d.Create(b.Context(), &oci.CreateRequest{ID: b.id, Bundle: b.bundle, Streams: said})
	if !note("create", err) {
		return ends
	}
	note("start", d.Start(b.Context(), b.id))
	ends["status"] = strconv.Itoa(b.status(p))
	ends["run"] = said.text()
	note("delete", d.Delete(b.Context(), b.id, false))
	note("force", d.Delete(b.Context(), b.id, true))
	return ends
}
