// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"berth/test/fakedriver"
	"berth/test/fakenvml"
)

// machine is a fake host: the driver's root, and what Berth keeps of it.
type machine struct {
	*fakedriver.Driver
	run string // Berth's directory below /run
}

func newMachine(name string, cfg fakedriver.Config) (*machine, error) {
	dir := filepath.Join(built, name)
	cfg.SMI = filepath.Join(built, "nvidia-smi")
	cfg.MPS = filepath.Join(built, "nvidia-cuda-mps-control")
	cfg.NVML = filepath.Join(built, fakenvml.SONAME)
	d, err := fakedriver.Build(filepath.Join(dir, "root"), cfg)
	if err != nil {
		return nil, err
	}
	m := &machine{Driver: d, run: filepath.Join(dir, "run", "gpu")}
	return m, m.state(cfg).Write(filepath.Join(d.Root, d.LibDir, fakenvml.StateFile))
}

// state is the machine as NVML knows it.
func (m *machine) state(cfg fakedriver.Config) fakenvml.State {
	s := fakenvml.State{Driver: m.Version, NVML: "12." + m.Version, CUDA: 12080}
	for i, g := range m.GPUs {
		if g.Excluded {
			continue
		}
		known := fakenvml.GPU{Model: fakenvml.Model(g.Model), UUID: g.UUID, BusID: g.BusID, Minor: g.Minor}
		if i < len(cfg.MIG) {
			for _, in := range cfg.MIG[i] {
				known.MIG, known.Pending = true, true
				known.Instances = append(known.Instances, fakenvml.Instance{ID: in.GI, Profile: 19, Start: in.GI,
					Compute: []fakenvml.Compute{{ID: in.CI, UUID: migUUID(in)}}})
			}
		}
		s.GPUs = append(s.GPUs, known)
	}
	return s
}

func migUUID(in fakedriver.Instance) string {
	return fmt.Sprintf("MIG-%08x-0000-4000-8000-%012x", in.GI, in.CI)
}

// close removes the machine, and says which claims were left on it.
func (m *machine) close() error {
	left, err := filepath.Glob(filepath.Join(m.run, "claims", "*"))
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("left behind: claims %q", left)
	}
	if closed := m.Driver.Close(); closed != nil {
		return closed
	}
	if removed := os.RemoveAll(filepath.Dir(filepath.Dir(m.run))); removed != nil {
		return removed
	}
	return err
}

// another is a machine for one test.
func another(t *testing.T, cfg fakedriver.Config) *machine {
	t.Helper()
	m := must(newMachine(identifier(t), cfg))(t)
	t.Cleanup(func() {
		if err := m.close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// use has the shims that start from now on see this machine, with these lines
// of policy. It returns the kernel's log, a FIFO, where records are written.
func (m *machine) use(t *testing.T, policy ...string) *os.File {
	t.Helper()
	kmsg := filepath.Join(t.TempDir(), "kmsg")
	if err := unix.Mkfifo(kmsg, 0o600); err != nil {
		t.Fatal(err)
	}
	// Opened for both ends: a record waits for a shim that reads it, and a shim
	// that reads finds no end.
	log := must(os.OpenFile(kmsg, os.O_RDWR, 0))(t)
	t.Cleanup(func() { _ = log.Close() })
	var text strings.Builder
	for _, entry := range [][2]string{
		{"driver_root", m.Root}, {"dev_root", m.Dev}, {"proc_root", m.Proc}, {"sys_root", m.Sys}, {"run_dir", filepath.Dir(m.run)}, {"kmsg", kmsg},
	} {
		fmt.Fprintf(&text, "%s = %q\n", entry[0], entry[1])
	}
	for _, line := range policy {
		fmt.Fprintln(&text, line)
	}
	if err := os.WriteFile(config, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return log
}

// claim is the path of a container's claim.
func (m *machine) claim(id string) string {
	return filepath.Join(m.run, "claims", shared.ID()+":"+id+".json")
}
