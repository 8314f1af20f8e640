// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"berth/gpu/nvml"
	"berth/process"
	"berth/test/fakenvml"
)

// migHelper is the real helper over the fake library, below a driver root: its
// environment is empty, so the state lies beside the library.
func migHelper(t *testing.T, s fakenvml.State) (Helper, nvml.MIGRequest, string) {
	t.Helper()
	dir := t.TempDir()
	lib := filepath.Join(dir, "usr/lib64")
	if err := os.MkdirAll(lib, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "berth-gpu")
	build := exec.Command("go", "build", "-ldflags", `-extldflags "-Wl,-z,lazy"`, "-o", path, "berth/cmd/berth-gpu")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	out, err := build.CombinedOutput()
	if err == nil {
		_, err = fakenvml.Build(lib)
	}
	state := filepath.Join(lib, fakenvml.StateFile)
	if err = errors.Join(err, s.Write(state)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	sup := process.NewSupervisor()
	t.Cleanup(sup.Close)
	q, err := Roots{Run: t.TempDir(), Proc: "/proc", Sys: "/sys"}.MIGRequest(5 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	q.Owner = &nvml.Owner{Namespace: "ns", Container: "a", Group: "g", PID: os.Getpid(), StartTime: 1} // dead, for the ledger
	return Helper{Path: path, DriverRoot: dir, Supervisor: sup}, q, state
}

func TestMIGThroughTheHelper(t *testing.T) {
	s := fakenvml.Machine(fakenvml.H200, 1)
	s.GPUs[0].MIG, s.GPUs[0].Pending = true, true
	h, q, state := migHelper(t, s)
	q.Asks = []nvml.MIGAsk{{Profile: "1g.18gb", Count: 2}}
	made, err := h.AcquireMIG(t.Context(), q)
	if err != nil || len(made) != 2 {
		t.Fatalf("%+v, %v", made, err)
	}
	l, err := h.ListMIG(t.Context(), q)
	if err != nil || len(l.GPUs) != 1 || len(l.GPUs[0].Instances) != 2 || l.GPUs[0].Instances[0].Owner == nil {
		t.Errorf("%+v, %v", l, err)
	}
	q.DryRun = true
	if did, err := h.SweepMIG(t.Context(), q); err != nil || len(did) != 2 || did[0].Did != nvml.Destroyed {
		t.Errorf("%+v, %v", did, err)
	}
	q.DryRun = false
	if did, err := h.ReleaseMIG(t.Context(), q); err != nil || len(did) != 2 {
		t.Errorf("%+v, %v", did, err)
	}
	q.Asks = []nvml.MIGAsk{{Profile: "7g.141gb", Count: 2}}
	if made, err := h.AcquireMIG(t.Context(), q); !errdefs.IsResourceExhausted(err) {
		t.Errorf("%+v, %v", made, err)
	}

	// A helper that is killed while it works has its work taken back.
	s.Rules = []fakenvml.Rule{{Verb: fakenvml.Exit, Symbol: "nvmlGpuInstanceCreateComputeInstance", Value: 9, GPU: -1}}
	if err := s.Write(state); err != nil {
		t.Fatal(err)
	}
	q.Asks = []nvml.MIGAsk{{Profile: "1g.18gb", Count: 2}}
	if _, err := h.AcquireMIG(t.Context(), q); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v", err)
	}
	if did, err := h.ReleaseMIG(t.Context(), q); err != nil || len(did) != 1 {
		t.Errorf("%+v, %v", did, err)
	}
	after, err := fakenvml.Read(state)
	if err != nil || len(after.GPUs[0].Instances) != 0 {
		t.Errorf("left %+v, %v", after.GPUs[0].Instances, err)
	}
}
