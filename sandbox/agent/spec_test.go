// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/containerd/errdefs"
)

// Namespaces are joined by path; all else of the spec stays, also what this
// program does not know.
func TestJoinNamespaces(t *testing.T) {
	const spec = `{"future":{"a":[1]},"linux":{"unknown":7,"namespaces":[{"type":"pid"},{"type":"ipc"},{"type":"mount"}]}}`
	const want = `{"future":{"a":[1]},"linux":{"unknown":7,"namespaces":[{"type":"pid","path":"/proc/5/ns/pid"},{"type":"ipc"},{"type":"mount"}]}}`
	got, err := joinNamespaces([]byte(spec), map[string]string{"pid": "/proc/5/ns/pid", "uts": "/proc/5/ns/uts"})
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	if json.Unmarshal(got, &a) != nil || json.Unmarshal([]byte(want), &b) != nil || !reflect.DeepEqual(a, b) {
		t.Errorf("got %s", got)
	}
	for _, bad := range []string{``, `[]`, `{}`, `{"linux":[]}`, `{"linux":{"namespaces":{}}}`} {
		if got, err := joinNamespaces([]byte(bad), nil); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q became %q, %v", bad, got, err)
		}
	}
}

// No sysctl but those of a network namespace is set, and no path is left.
func TestSetSysctlRefuses(t *testing.T) {
	for _, name := range []string{"kernel.core_pattern", "net", "net.../.../kernel.core_pattern", "net/../kernel/core_pattern", ""} {
		if err := setSysctl(name, "x"); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// An id that is more than one component of a path names no directory.
func TestValidID(t *testing.T) {
	for id, want := range map[string]bool{"a": true, "a.b_c-1": true, "": false, ".": false, "..": false, "a/b": false, "/a": false, "a\x00": false} {
		if validID(id) != want {
			t.Errorf("%q: %v", id, !want)
		}
	}
}

// Sources of mounts are replaced where they are meant, and nothing else is.
func TestReplaceSources(t *testing.T) {
	const spec = `{"future":1,"mounts":[{"source":"/s/c/1","destination":"/a","options":["ro"],"x":2},{"source":"/s/c/10"},{"type":"proc"}]}`
	const want = `{"future":1,"mounts":[{"source":"/copy","destination":"/a","options":["ro"],"x":2},{"source":"/s/c/10"},{"type":"proc"}]}`
	got, err := replaceSources([]byte(spec), map[string]string{"/s/c/1": "/copy"})
	var a, b any
	if err != nil || json.Unmarshal(got, &a) != nil || json.Unmarshal([]byte(want), &b) != nil || !reflect.DeepEqual(a, b) {
		t.Errorf("got %s, %v", got, err)
	}
	if got, err := replaceSources([]byte(spec), nil); string(got) != spec || err != nil {
		t.Errorf("with nothing to replace: %s, %v", got, err)
	}
	if got, err := replaceSources([]byte(`[]`), map[string]string{"a": "b"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no spec: %s, %v", got, err)
	}
}
