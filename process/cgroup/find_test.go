// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/containerd/errdefs"
)

func TestResolve(t *testing.T) {
	for in, want := range map[string]string{
		"/default/a": "/default/a",
		"/a//b/":     "/a/b",
		"kubepods-burstable.slice:cri-containerd:abc": "/kubepods.slice/kubepods-burstable.slice/cri-containerd-abc.scope",
		":docker:abc":            "/system.slice/docker-abc.scope",
		"-:x:abc":                "/x-abc.scope",
		"user.slice::abc":        "/user.slice/abc.scope",
		"user.slice:x:abc.slice": "/user.slice/abc.slice",
		"":                       "",
		"relative/path":          "relative/path",
		"../up":                  "",
		"/a/../../b":             "",
		"a:b":                    "",
		"a/b:c:d":                "",
	} {
		got, err := resolve(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", in, got, err, want)
		}
	}
}

// The cgroup does not exist, then does, and is what Load finds and removes.
func TestExpect(t *testing.T) {
	for _, path := range []string{fmt.Sprintf("/berth-expect-%d", os.Getpid()), fmt.Sprintf("berth-expect-own-%d", os.Getpid())} {
		loc, err := Expect(path)
		if err != nil || len(loc.Dirs) == 0 {
			t.Fatalf("%s, before: %v, %v", path, loc, err)
		}
		var dir string
		for _, d := range loc.Dirs {
			dir = d.Path
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := Expect(path); !errors.Is(err, errdefs.ErrAlreadyExists) {
			t.Errorf("%s, while it is there: %v", path, err)
		}
		cg, err := Load(loc)
		if err != nil {
			os.Remove(dir)
			t.Fatal(err)
		}
		if err := errors.Join(cg.Kill(t.Context()), cg.Remove(t.Context()), cg.Close()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s, after: %v", path, err)
		}
	}
}

// The root is there, and it is nobody's to expect.
func TestExpectRoot(t *testing.T) {
	if _, err := Expect("/"); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("root: %v", err)
	}
}
