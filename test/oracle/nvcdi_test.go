// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/nvidia-container-toolkit/pkg/nvcdi"
	rspec "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"tags.cncf.io/container-device-interface/pkg/cdi"
)

// question is what the process that runs nvcdi is asked.
type question struct {
	Root, DevRoot, NVML string
	Mode                nvcdi.Mode
	IDs                 []string
	Over                map[string]string // what to bind over what
}

// theirs is the spec of a container to which nvcdi's edits were applied.
func theirs(t *testing.T, m machine, mode nvcdi.Mode, ids ...string) *rspec.Spec {
	t.Helper()
	q := question{Root: m.roots.Driver, DevRoot: filepath.Dir(m.roots.Dev), NVML: m.nvml, Mode: mode, IDs: ids}
	if m.fake {
		q.Over = map[string]string{
			"/sys": m.roots.Sys, "/proc/driver": filepath.Join(m.roots.Proc, "driver"), "/proc/devices": filepath.Join(m.roots.Proc, "devices"),
		}
	}
	in, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = []string{answering + "=1"} // no PATH or XDG_DATA_DIRS: nvcdi searches them too
	cmd.Stdin = bytes.NewReader(in)
	// The standard library makes all mounts of the new namespace private.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("nvcdi: %v\n%s", err, stderr.Bytes())
	}
	var spec rspec.Spec
	if err := json.Unmarshal(out, &spec); err != nil {
		t.Fatalf("nvcdi: %v\n%s", err, stderr.Bytes())
	}
	return &spec
}

// answering is set in the environment of the process that runs nvcdi.
const answering = "BERTH_ORACLE"

func answer() error {
	var q question
	if err := json.NewDecoder(os.Stdin).Decode(&q); err != nil {
		return err
	}
	for over, from := range q.Over {
		if err := unix.Mount(from, over, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("bind %s over %s: %w", from, over, err)
		}
	}
	lib, err := nvcdi.New(
		nvcdi.WithMode(q.Mode), nvcdi.WithDriverRoot(q.Root), nvcdi.WithDevRoot(q.DevRoot),
		nvcdi.WithNvmlLib(nvml.New(nvml.WithLibraryPath(q.NVML))),
		nvcdi.WithFeatureFlags(nvcdi.FeatureDisableNvsandboxUtils),
	)
	if err != nil {
		return err
	}
	got, err := lib.GetSpec(q.IDs...)
	if err != nil {
		return err
	}
	raw := got.Raw()
	edits := &cdi.ContainerEdits{ContainerEdits: &raw.ContainerEdits}
	for i := range raw.Devices {
		edits = edits.Append(&cdi.ContainerEdits{ContainerEdits: &raw.Devices[i].ContainerEdits})
	}
	spec := container()
	if err := edits.Apply(spec); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(spec)
}

// container is one to which nothing was done.
func container(env ...string) *rspec.Spec {
	return &rspec.Spec{Process: &rspec.Process{Env: env}, Linux: &rspec.Linux{Resources: &rspec.LinuxResources{}}}
}
