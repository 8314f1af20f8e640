// SPDX-License-Identifier: Apache-2.0

package process

import (
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestParseTarget(t *testing.T) {
	for _, c := range []struct {
		name string
		want target
	}{
		{"", target{}},
		{"/run/a b%zz?#c", target{kind: targetPath, path: "/run/a b%zz?#c"}},
		{"fifo:///run/out", target{kind: targetPath, path: "/run/out"}},
		{"file:///var/log/a%20b", target{kind: targetFile, path: "/var/log/a b"}},
		{"binary:///bin/log", target{kind: targetLogger, path: "/bin/log"}},
		{"binary:///bin/log?z=1&a=2&flag&e=x%26y+z", target{kind: targetLogger, path: "/bin/log",
			args: []string{"z", "1", "a", "2", "flag", "", "e", "x&y z"}}},
		{"binary-v2:///bin/log?id=1", target{kind: targetLoggerV2, path: "/bin/log", args: []string{"id", "1"}}},
	} {
		got, err := parseTarget("stdout", c.name)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %+v, %v; want %+v", c.name, got, err, c.want)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, seed := range []string{"", "/a", "fifo:///a", "file://a", "binary:///a?b=c&d", "binary-v2:///%00", "x://", "file:a", "file:///a%"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got, err := parseTarget("stdout", name)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) || !reflect.DeepEqual(got, target{}) {
				t.Fatalf("%q: %+v, %v", name, got, err)
			}
			return
		}
		if (got.kind == targetNull) != (name == "") {
			t.Fatalf("%q is null or not: %+v", name, got)
		}
		if got.kind != targetNull && !strings.HasPrefix(got.path, "/") {
			t.Fatalf("%q: path %q is not absolute", name, got.path)
		}
		if !got.isLogger() && got.args != nil || len(got.args)%2 != 0 {
			t.Fatalf("%q: arguments %q", name, got.args)
		}
		for _, s := range append(got.args, got.path) {
			if strings.ContainsRune(s, 0) {
				t.Fatalf("%q: NUL in %q", name, s)
			}
		}
	})
}
