// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/types"
	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"google.golang.org/protobuf/proto"

	"berth/test/e2e/node"
)

// TestInfo asks the shim what it and each runtime can do, as containerd does for CRI.
func TestInfo(t *testing.T) {
	checkout, err := node.Checkout()
	if err != nil {
		t.Fatal(err)
	}
	shim := *shimFlag
	if shim == "" {
		shim = filepath.Join(checkout, "bin", "containerd-shim-pod-v2")
	}
	for _, runtime := range []string{filepath.Join(checkout, ".tools", "bin", "runc"), "crun"} {
		t.Run(filepath.Base(runtime), func(t *testing.T) {
			if _, err := exec.LookPath(runtime); err != nil {
				t.Skipf("needs the OCI runtime %s: %v", runtime, err)
			}
			options, err := typeurl.MarshalAnyToProto(&runcoptions.Options{BinaryName: runtime})
			if err != nil {
				t.Fatal(err)
			}
			input, err := proto.Marshal(options)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(shim, "-info")
			cmd.Stdin = bytes.NewReader(input)
			output, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			info := new(types.RuntimeInfo)
			if err := proto.Unmarshal(output, info); err != nil {
				t.Fatal(err)
			}
			var f features.Features
			if err := json.Unmarshal(info.GetFeatures().GetValue(), &f); err != nil {
				t.Fatal(err)
			}
			if info.GetName() != podRuntime || f.OCIVersionMax == "" || f.Linux == nil || len(f.Linux.Namespaces) == 0 || len(f.MountOptions) == 0 {
				t.Errorf("incomplete: %+v", f)
			}
			t.Logf("specification %s to %s, %d mount options, annotations %v", f.OCIVersionMin, f.OCIVersionMax, len(f.MountOptions), f.Annotations)
		})
	}
}

// refusals are what crun says where it cannot run a container: Debian 12's knows
// neither hybrid cgroups nor the versions of the specification that newer containerds
// write.
var refusals = regexp.MustCompile(`unknown version specified|cgroup`)

// TestCrun runs a container by another runtime, or wants crun's own words in the
// error, and nothing left.
func TestCrun(t *testing.T) {
	crun, err := exec.LookPath("crun")
	if err != nil {
		t.Skip("needs crun on PATH")
	}
	for _, v := range versions(t) {
		t.Run(v.name, func(t *testing.T) {
			if err := v.missing(); err != nil {
				t.Skip(err)
			}
			h := newHost(t)
			h.start(t, v)
			h.loadImages(t)
			file := filepath.Join(h.dir, "crun.toml")
			if err := os.WriteFile(file, fmt.Appendf(nil, "BinaryName = %q\nRoot = %q\n", crun, filepath.Join(h.dir, "crun")), 0o600); err != nil {
				t.Fatal(err)
			}
			args := h.runArgs("crun", "", []string{"--rm", "--runtime-config-path", file}, []string{"sh", "-c", "echo by crun; exit 4"})
			out, code, stderr := h.try(t, "ctr", args...)
			switch {
			case out == "by crun\n" && code == 4:
			case code != 0 && refusals.MatchString(stderr):
				t.Logf("crun refuses: %s", strings.TrimSpace(stderr))
				h.forget(t, "crun")
			default:
				t.Errorf("output %q, status %d, want \"by crun\" and 4 or crun's refusal: %s", out, code, stderr)
			}
		})
	}
}
