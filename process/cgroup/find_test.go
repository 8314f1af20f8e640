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
		"relative/path":          "",
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

// The cgroup does not exist, then does, and is the one that Remove removes.
func TestFind(t *testing.T) {
	path := fmt.Sprintf("/berth-find-%d", os.Getpid())
	if _, err := Find(path); !errors.Is(err, errdefs.ErrNotFound) {
		t.Fatalf("before: %v", err)
	}
	mounts, err := view{}.mounts()
	if err != nil || len(mounts) == 0 {
		t.Skip("no cgroup mounts: ", err)
	}
	dir := mounts[len(mounts)-1].point + path
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cg, err := Find(path)
	if err != nil {
		os.Remove(dir)
		t.Fatal(err)
	}
	defer cg.Close()
	if err := cg.Kill(t.Context()); err != nil {
		t.Error(err)
	}
	if err := cg.Remove(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after: %v", err)
	}
}

// The root is found, but it is nobody's to kill.
func TestFindRoot(t *testing.T) {
	cg, err := Find("/")
	if err != nil {
		t.Fatal(err)
	}
	defer cg.Close()
	if err := cg.Kill(t.Context()); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("kill of the root: %v", err)
	}
}
