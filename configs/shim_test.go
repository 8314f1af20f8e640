// SPDX-License-Identifier: Apache-2.0

package configs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestLoadShim(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want Driver
		err  string
	}{
		"empty":   {"", Native, ""},
		"native":  {"[runtime]\ndriver = 'native'", Native, ""},
		"command": {"[runtime]\ndriver = 'command'", Command, ""},
		"unknown": {"[runtime]\ndriver = 'docker'", "", `runtime.driver is "docker"; known are native and command`},
		"typo":    {"[runtime]\ndrivr = 'native'", "", "line 2"},
		"node":    {"group = 'node'\ncgroup = '/shims'", Native, ""},
		"group":   {"group = 'rack'", "", `group is "rack"; known are pod and node`},
		"number":  {"[runtime]\ndriver = 3", "", "line 2"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "shim.toml")
			if err := os.WriteFile(path, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := LoadShim(path)
			if tc.err != "" {
				if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.err) || !strings.Contains(err.Error(), path) {
					t.Errorf("error %v, want one of %s with %q", err, path, tc.err)
				}
				return
			}
			if err != nil || got.Runtime.Driver != tc.want {
				t.Errorf("%+v, %v; want %s", got, err, tc.want)
			}
		})
	}
	if c, err := LoadShim(filepath.Join(t.TempDir(), "none")); err != nil || c != DefaultShim() {
		t.Errorf("no file: %+v, %v", c, err)
	}
	if c, err := LoadShim("shim.toml"); err != nil || c != DefaultShim() {
		t.Errorf("the shipped file: %+v, %v; want the defaults", c, err)
	}
}
