// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"berth/test/e2e/node"
)

// version is one containerd.
type version struct {
	name  string // as "2.0.7"
	dir   string // of its containerd and ctr
	major string // "1" or "2"
	// protocol is the version that shim and containerd agree on. Up to 2.2 a
	// containerd does not say which versions it takes, so it is told 2, which all do.
	protocol int
}

// versions are the lines, oldest first.
func versions(t *testing.T) []version {
	t.Helper()
	checkout, err := node.Checkout()
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile(filepath.Join(checkout, "scripts", "compat", "versions"))
	if err != nil {
		t.Fatal(err)
	}
	var all []version
	for line := range strings.Lines(string(list)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] != "#" {
			all = append(all, newVersion(fields[0], filepath.Join(checkout, ".tools", "compat", fields[0])))
		}
	}
	// The newest is the one of all other tests, which scripts/setup builds.
	module, err := os.ReadFile(filepath.Join(checkout, "scripts", "tools", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	newest := toolVersion.FindSubmatch(module)
	if newest == nil {
		t.Fatal("scripts/tools/go.mod names no containerd")
	}
	return append(all, newVersion(string(newest[1]), filepath.Join(checkout, ".tools", "bin")))
}

var toolVersion = regexp.MustCompile(`github\.com/containerd/containerd/v2 v(\S+)`)

func newVersion(name, dir string) version {
	v := version{name: name, dir: dir, major: name[:1], protocol: 3}
	for _, old := range []string{"1.7.", "2.0.", "2.1.", "2.2."} {
		if strings.HasPrefix(name, old) {
			v.protocol = 2
		}
	}
	return v
}

// missing says what a version lacks, if it is not built.
func (v version) missing() error {
	for _, program := range []string{"containerd", "ctr"} {
		if _, err := os.Stat(filepath.Join(v.dir, program)); err != nil {
			return fmt.Errorf("containerd %s is not built (scripts/compat/build): %w", v.name, err)
		}
	}
	return nil
}
