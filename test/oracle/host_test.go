// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/NVIDIA/nvidia-container-toolkit/pkg/nvcdi"

	"berth/gpu"
	"berth/gpu/nvml"
	"berth/test/fakedriver"
)

// helper has TestHost compare on this machine's own driver.
var helper = flag.String("helper", "", "compare on this machine's own driver, too; the path of berth-gpu")

// TestHost compares on the driver of this machine. It only reads.
func TestHost(t *testing.T) {
	if *helper == "" {
		t.Skip("-helper is not given: a machine with an NVIDIA GPU, see make test-gpu")
	}
	roots := gpu.DefaultRoots()
	roots.Run = t.TempDir()
	m := found(t, roots, func(ctx context.Context) (*nvml.List, error) {
		out, err := exec.CommandContext(ctx, *helper, "list").Output()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", *helper, err)
		}
		return nvml.Decode(out)
	})
	likeNVIDIA(t, m)
}

// TestHostIsFound has a machine's driver be found as on a host, and compared.
func TestHostIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		machine fakedriver.Config
		more    func(*testing.T, *machine)
	}{
		"Ubuntu":                {machine: fakedriver.Config{GPUs: 2, Persistenced: true}},
		"RHEL with 32 bits":     {machine: fakedriver.Config{Lib64: true, Compat32: true}},
		"Debian's alternatives": {machine: fakedriver.Config{}, more: debian},
	} {
		t.Run(name, func(t *testing.T) {
			m := build(t, c.machine)
			if c.more != nil {
				c.more(t, &m)
				m.nvml = filepath.Join(m.roots.Driver, m.libDir, filepath.Base(m.nvml))
			}
			got := found(t, m.roots, m.list)
			if got.version != m.version || got.libDir != m.libDir || got.nvml != m.nvml {
				t.Errorf("found %s, %s, %s; want %s, %s, %s", got.version, got.libDir, got.nvml, m.version, m.libDir, m.nvml)
			}
			got.fake = true
			likeNVIDIA(t, got)
		})
	}
}

// found is the machine whose driver lies below these roots.
func found(t *testing.T, roots gpu.Roots, list func(context.Context) (*nvml.List, error)) machine {
	t.Helper()
	inv, err := gpu.Discover(roots)
	if err != nil {
		t.Fatal(err)
	}
	files, err := gpu.LoadFiles(roots, inv)
	if err != nil {
		t.Fatal(err)
	}
	m := machine{roots: roots, version: inv.DriverVersion, list: list}
	for _, f := range files.Files {
		if f.Kind == gpu.Library && f.Soname == "libnvidia-ml.so.1" {
			m.nvml = filepath.Join(filepath.Dir(f.Host), f.Soname)
			m.libDir = "/" + strings.TrimPrefix(strings.TrimPrefix(filepath.Dir(f.Host), strings.TrimSuffix(roots.Driver, "/")), "/")
		}
	}
	if _, err := os.Stat(m.nvml); err != nil {
		t.Fatalf("no libnvidia-ml: %v", err)
	}
	return m
}

// likeNVIDIA wants each difference of a container with all GPUs to have a row,
// for whatever machine that is.
func likeNVIDIA(t *testing.T, m machine) {
	t.Helper()
	nvidia := theirsIn(t, m, theirs(t, m, nvcdi.ModeNvml, "all"))
	spec, plan := ours(t, m, "NVIDIA_VISIBLE_DEVICES=all")
	rows := readTable(t, "../../docs/gpu-parity.md")
	for _, r := range rows {
		r.where = "any"
	}
	differences := compare(nvidia, oursIn(t, m, spec, plan))
	for _, d := range rows.unexplained("any", differences) {
		t.Errorf("no row of docs/gpu-parity.md explains %s", d)
	}
	t.Logf("driver %s: %d items of nvcdi's, %d differences", m.version, len(nvidia), len(differences))
}
