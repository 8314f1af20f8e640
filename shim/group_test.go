// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestDecodeGroup(t *testing.T) {
	for name, c := range map[string]struct{ spec, want string }{
		"containerd":        {`{"annotations":{"io.containerd.runc.v2.group":"g"}}`, "g"},
		"CRI":               {`{"annotations":{"io.kubernetes.cri.sandbox-id":"s"}}`, "s"},
		"CRI-O":             {`{"annotations":{"io.kubernetes.cri-o.SandboxID":"o"}}`, "o"},
		"first of several":  {`{"annotations":{"io.kubernetes.cri-o.SandboxID":"o","io.kubernetes.cri.sandbox-id":"s","io.containerd.runc.v2.group":"g"}}`, "g"},
		"empty is not set":  {`{"annotations":{"io.containerd.runc.v2.group":"","io.kubernetes.cri.sandbox-id":"s"}}`, "s"},
		"none":              {`{"annotations":{"a":"b"}}`, ""},
		"no annotations":    {`{"linux":{"x":[1,{"annotations":{"io.containerd.runc.v2.group":"no"}}]}}`, ""},
		"null":              {`{"annotations":null}`, ""},
		"after other parts": {`{"process":{"args":["}",{"a":[]}]},"mounts":[],"annotations":{"io.kubernetes.cri.sandbox-id":"s"},"linux":`, "s"},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := decodeGroup(strings.NewReader(c.spec)); got != c.want || err != nil {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestDecodeGroupOfBrokenSpec(t *testing.T) {
	for _, spec := range []string{
		``, `null`, `[]`, `{`, `{"a"`, `{"a":[`, `{"annotations":1}`, `{"annotations":{"a":1}}`, `{"annotations":{"a":{}}}`,
		`{"annotations":{"io.containerd.runc.v2.group":"g"`, `{"a":1`,
	} {
		if got, err := decodeGroup(strings.NewReader(spec)); err == nil {
			t.Errorf("%s: no error but %q", spec, got)
		}
	}
}

func TestReadGroupOfLargeSpec(t *testing.T) {
	n := &node{t: t, bundles: t.TempDir()}
	large := fmt.Sprintf(`{"annotations":{"a":%q,"io.kubernetes.cri.sandbox-id":"s"}}`, strings.Repeat("x", 2<<20))
	if got, err := readGroup(n.bundle(large), "id"); got != "s" || err != nil {
		t.Errorf("2 MiB of annotations: %q, %v", got, err)
	}
}

// TestSocketPath has the name that `ctr shim` computes for a plain group: the
// sum of /run/containerd/containerd.sock/default/x.
func TestSocketPath(t *testing.T) {
	got, err := socketPath("", "/run/containerd/containerd.sock", "default", "x")
	if err != nil || filepath.Dir(got) != defaultSocketDir || filepath.Base(got) != "5e250b13f984a15f73216d143af1bf3c64171aa56c781ba9d4040c75b2c1eee2" {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := socketPath("rel", "a", "b", "c"); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("relative directory: %s, %v", got, err)
	}
}

func FuzzDecodeGroup(f *testing.F) {
	f.Add([]byte(`{"ociVersion":"1","annotations":{"io.containerd.runc.v2.group":"g"},"linux":{}}`))
	f.Add([]byte(`{"a":[1,{"b":null}],"annotations":{}}`))
	f.Fuzz(func(t *testing.T, spec []byte) {
		got, err := decodeGroup(strings.NewReader(string(spec)))
		var whole struct{ Annotations map[string]string }
		if err != nil || got == "" || json.Unmarshal(spec, &whole) != nil {
			return
		}
		for _, name := range groupAnnotations {
			if whole.Annotations[name] == got {
				return
			}
		}
		// encoding/json also takes keys in another case, and joins objects
		// that come twice; then the two may differ.
		if strings.Count(strings.ToLower(string(spec)), "annotations") < 2 {
			t.Errorf("group %q, annotations %v", got, whole.Annotations)
		}
	})
}
