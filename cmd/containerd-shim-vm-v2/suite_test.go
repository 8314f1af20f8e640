// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"berth/configs"
	"berth/process"
	"berth/sandbox"
	"berth/sandbox/runtimetest"
	"berth/sandbox/vm/image/build"
	"berth/shim"
	"berth/test/leak"
	"berth/test/shelter"
)

// conf is that of the machines that the tests boot; missing says why there are
// none.
var (
	conf    configs.VM
	missing string
)

func TestMain(m *testing.M) {
	if code, ok := other(os.Args); ok {
		os.Exit(code)
	}
	os.Exit(shelter.Main(func() int { return run(m) }))
}

// run is in a mount namespace of its own: what it mounts goes with it, however it ends.
func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "berth-vm-*")
	if err == nil && os.Getenv("BERTH_GUEST") != "" {
		err = buildGuest(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := leak.Main(m)
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// buildGuest makes an image with this checkout's agent.
func buildGuest(dir string) error {
	conf = configs.DefaultVM()
	conf.Accel, conf.MemoryMiB = []string{"kvm", "tcg"}, 256
	conf.Image, conf.RunDir = filepath.Join(dir, "guest"), filepath.Join(dir, "run")
	for _, path := range []string{conf.QEMU, conf.Virtiofsd} {
		if _, err := os.Stat(path); err != nil {
			missing = fmt.Sprintf("no %s: make setup", filepath.Base(path))
			return nil
		}
	}
	kernels, err := filepath.Glob("../../.tools/kernel/linux-image-*")
	if err != nil || len(kernels) == 0 {
		missing = "no guest kernel: make guest"
		return err
	}
	agent := filepath.Join(dir, "berth-agent")
	cmd := exec.Command("go", "build", "-tags", "no_grpc,seccomp,runc_nocriu,netgo,osusergo", "-ldflags", "-s -w -extldflags -static",
		"-o", agent, "../berth-agent") // as make build does
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the agent: %w: %s", err, out)
	}
	_, err = build.Build(conf.Image, build.Source{Root: kernels[len(kernels)-1], Agent: agent})
	return err
}

// What runs in a virtual machine passes the test of all runtimes.
func TestMachine(t *testing.T) {
	needGuest(t)
	runtimetest.Run(t, newHost(conf))
}

// It has root file systems, volumes and devices on disks.
func TestMachineDisks(t *testing.T) {
	needGuest(t)
	runtimetest.RunDisks(t, newHost(conf))
}

// What a container with capabilities does there stays there.
func TestMachineConfines(t *testing.T) {
	needGuest(t)
	runtimetest.RunConfined(t, newHost(conf), conf.RunDir)
}

// newHost makes machines of a configuration.
func newHost(conf configs.VM) func(*testing.T) runtimetest.Host {
	return func(t *testing.T) runtimetest.Host {
		sup := process.NewSupervisor()
		t.Cleanup(sup.Close)
		if err := sup.ReapOrphans(); err != nil {
			t.Fatal(err)
		}
		p := &pods{load: func() (configs.VM, error) { return conf, nil }}
		t.Cleanup(func() { nothingLeft(t) })
		return runtimetest.Host{
			Supervisor: sup, Program: "/bin/busybox",
			Runtime: func(o configs.Runtime, _ string) (sandbox.Runtime, error) {
				// One pod for all, whatever their bundles are called.
				return p.runtime(shim.RuntimeConfig{Supervisor: sup, Options: o, Namespace: "test", Bundle: "/nonexistent/pod"})
			},
		}
	}
}

// needGuest skips where no machines are asked for.
func needGuest(t *testing.T) {
	t.Helper()
	if os.Getenv("BERTH_GUEST") == "" {
		t.Skip("guests are booted by make test-vm (BERTH_GUEST)")
	}
	if missing != "" {
		t.Fatal(missing)
	}
}

// nothingLeft checks that the share and the note of a machine have gone.
func nothingLeft(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(conf.RunDir, "test"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for _, e := range entries {
		t.Errorf("%s is left", e.Name())
	}
}
