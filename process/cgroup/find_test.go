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
		"user.slice::abc":        "/user.slice/-abc.scope",
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

// Of several that claim one path at once one succeeds; what it claimed is what
// Load finds and removes, and then it can be claimed again.
func TestClaim(t *testing.T) {
	for _, path := range []string{fmt.Sprintf("/berth-claim-%d", os.Getpid()), fmt.Sprintf("berth-claim-own-%d", os.Getpid())} {
		for range 2 {
			claims := make(chan *Location, 8)
			for range cap(claims) {
				go func() {
					loc, err := Claim(path)
					switch {
					case err == nil:
						claims <- &loc
					default:
						if !errors.Is(err, errdefs.ErrAlreadyExists) {
							t.Errorf("%s: %v", path, err)
						}
						claims <- nil
					}
				}()
			}
			var won *Location
			for range cap(claims) {
				if loc := <-claims; loc != nil {
					if won != nil {
						t.Errorf("%s was claimed twice", path)
					}
					won = loc
				}
			}
			if won == nil {
				t.Fatalf("%s: nobody claimed it", path)
			}
			cg, err := Load(*won)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(cg.Kill(t.Context()), cg.Remove(t.Context()), cg.Close()); err != nil {
				t.Error(err)
			}
			if _, err := Load(*won); !errors.Is(err, errdefs.ErrNotFound) {
				t.Errorf("%s, after: %v", path, err)
			}
		}
	}
}

// The root is there, and it is nobody's to claim.
func TestClaimRoot(t *testing.T) {
	if _, err := Claim("/"); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("root: %v", err)
	}
}
