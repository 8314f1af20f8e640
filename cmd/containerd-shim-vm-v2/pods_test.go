// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"berth/configs"
	"berth/sandbox/agentapi"
	"berth/sandbox/vm"
)

// The host offers the share under the name by which the agent asks for it.
func TestShareTag(t *testing.T) {
	if vm.ShareTag != agentapi.ShareTag {
		t.Errorf("the machine has the share %q, the agent mounts %q", vm.ShareTag, agentapi.ShareTag)
	}
}

func TestPodOf(t *testing.T) {
	for name, c := range map[string]struct {
		config string
		want   string // "" to be refused
	}{
		"alone":         {`{"ociVersion":"1.0.2"}`, "bundle"},
		"of a pod":      {`{"annotations":{"io.kubernetes.cri.sandbox-id":"p1"}}`, "p1"},
		"of a path":     {`{"annotations":{"io.kubernetes.cri.sandbox-id":"../../etc"}}`, ""},
		"not a spec":    {`[]`, ""},
		"gone already":  {"", "bundle"},
		"cut off":       {`{"annotations":{`, ""},
		"of many words": {`{"annotations":{"io.kubernetes.cri.sandbox-id":7}}`, ""},
	} {
		bundle := filepath.Join(t.TempDir(), "bundle")
		if err := os.Mkdir(bundle, 0o700); err != nil {
			t.Fatal(err)
		}
		if c.config != "" {
			if err := os.WriteFile(filepath.Join(bundle, "config.json"), []byte(c.config), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := podOf(bundle); errdefs.IsInvalidArgument(err) != (c.want == "") || got != c.want && err == nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// Options that mean a runtime of the host's are refused by name, and the one
// that clusters set for all runtimes is not.
func TestOptions(t *testing.T) {
	for name, o := range map[string]configs.Runtime{
		"BinaryName": {BinaryName: "crun"}, "Root": {Root: "/run/runc"},
		"CriuImagePath": {CriuImagePath: "/images"}, "CriuWorkPath": {CriuWorkPath: "/work"},
	} {
		if err := refuse(o); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := refuse(configs.Runtime{SystemdCgroup: true}); err != nil {
		t.Error(err)
	}
}
